"""`--help`: an example for every verb, no torch, and at once."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from knowscope_tui import __version__
from knowscope_tui.cli import ablate, edit, options, probe
from knowscope_tui.cli.main import VERBS, main
from knowscope_tui.core.edits import Method
from knowscope_tui.core.readings import NeuronAttribution, Positions, Rank
from tests.cli.conftest import Run


def _verbs(group: click.Group, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        yield (*words, name)
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from _verbs(command, (*words, name))


EVERY_VERB = list(_verbs(main))
GROUPS = ("demo", "saes", "cache", "facts")
WITHOUT_MODEL = ("bench", "report", "apply", "revert", "diff", "merge", "push")
"""Verbs that open no model of a person's."""


def test_every_verb_is_there() -> None:
    assert {words[0] for words in EVERY_VERB} == set(VERBS)
    below = {verb: {words[1] for words in EVERY_VERB if words[0] == verb and len(words) > 1} for verb in GROUPS}
    assert below == {
        "demo": {"build", "card", "facts"},
        "saes": {"list", "search", "info", "pull"},
        "cache": {"list", "verify", "prune", "path"},
        "facts": {"known", "convert", "make-private"},
    }


@pytest.mark.parametrize("words", [(), *EVERY_VERB], ids=" ".join)
def test_help_shows_an_example_that_names_the_verb(run: Run, words: tuple[str, ...]) -> None:
    result = run(*words, "--help")
    assert result.exit_code == 0
    _before, found, examples = result.stdout.partition("Example")
    assert found
    assert " ".join(("knowscope-tui", *words)) in examples
    assert max(map(len, result.stdout.splitlines())) <= 80


@pytest.mark.parametrize(
    "words", [words for words in EVERY_VERB if words[0] not in (*GROUPS, *WITHOUT_MODEL)], ids=" ".join
)
def test_every_verb_that_opens_a_model_has_the_shared_options(run: Run, words: tuple[str, ...]) -> None:
    own, _model, rest = run(*words, "--help").stdout.partition("\nModel:\n")
    model, _dictionaries, dictionaries = rest.partition("\nDictionaries:\n")
    assert "--json" in own
    for option in ("--model", "--device", "--dtype", "--chat", "--offline"):
        assert option in model
    for option in ("--sae", "--width", "--l0", "--layers", "--sae-dtype", "--sae-memory"):
        assert f"{option} " in dictionaries


@pytest.mark.parametrize("words", EVERY_VERB, ids=" ".join)
def test_every_verb_writes_json(run: Run, words: tuple[str, ...]) -> None:
    assert words in [(group,) for group in GROUPS] or "--json" in run(*words, "--help").stdout


def test_help_of_no_verb_loads_anything_heavy() -> None:
    code = (
        "import sys\n"
        "from knowscope_tui.cli.main import main\n"
        f"for words in {[list(words) for words in EVERY_VERB]!r}:\n"
        "    main.main([*words, '--help'], standalone_mode=False)\n"
        "heavy = ('torch', 'transformers', 'numpy', 'textual', 'sae_lens', 'huggingface_hub')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def _seconds(command: list[str]) -> float:
    """Processor time of a run: what else the machine does counts little."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_help_takes_at_most_twice_an_interpreter_that_imports_click_and_rich() -> None:
    bare = [sys.executable, "-c", "import click, rich"]
    ours = [sys.executable, "-m", "knowscope_tui", "probe", "--help"]
    pairs = [(_seconds(bare), _seconds(ours)) for _ in range(8)]
    assert min(ours for _bare, ours in pairs) <= 2 * min(bare for bare, _ours in pairs)


def test_the_choices_are_those_of_the_core() -> None:
    assert list(probe.RANKS) == [rank.value for rank in Rank]
    assert list(probe.NEURON_ATTRIBUTIONS) == [way.value for way in NeuronAttribution]
    assert list(ablate.POSITIONS) == [positions.value for positions in Positions]
    assert list(edit.METHODS) == [method.value for method in Method]


def test_every_option_that_is_grouped_is_a_shared_one() -> None:
    grouped = [name for names in options.GROUPS.values() for name in names]
    assert {*grouped, "json"} == set(options.Shared._fields)
    assert len(grouped) == len(set(grouped))


def test_version(run: Run) -> None:
    assert run("--version").stdout.strip() == f"knowscope-tui, version {__version__}"
