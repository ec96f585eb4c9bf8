"""What a run is asked: everything that its rows depend on."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path

from knowscope_tui.core.configuration import WORDS, Json, differences, read_configuration
from knowscope_tui.core.studies import StudyName, StudyOptions
from knowscope_tui.engine.identity import identity, identity_of_facts, sha256
from knowscope_tui.errors import SaveError
from knowscope_tui.studies.study import Subject

CONFIG, FORMAT = "config.json", 2

_WORDS = {
    **WORDS,
    "study": "the study",
    "texts": "the texts about other things",
    **{field.name: f"--{field.name.replace('_', '-')}" for field in fields(StudyOptions)},
}


def configuration_of(name: StudyName, subject: Subject) -> Json:
    """What the rows of study `name` on `subject` depend on."""
    options = asdict(subject.options)
    # The same model at another address gives the same answers, and other studies ask none.
    del options["llm_url"]
    if name is not StudyName.INTERPRETABILITY:
        options["llm_model"] = None
    return {
        "format": FORMAT,
        "study": name.value,
        **{key: list(value) if isinstance(value, tuple) else value for key, value in options.items()},
        **identity(subject.lm, subject.library),
        "facts": identity_of_facts(subject.facts),
        "texts": sha256(subject.texts),
    }


def noted_in(folder: Path) -> Json | None:
    """What the run in `folder` was `asked` and `made_with`; None where there is none. Raises `SaveError` where it
    cannot be told."""
    config = folder / CONFIG
    if not config.exists():
        return None
    content = read_configuration(config) or {}
    asked, made_with = content.get("asked"), content.get("made_with")
    if (
        not isinstance(asked, dict)
        or not isinstance(made_with, dict)
        or asked.get("study") not in [name.value for name in StudyName]
        or not isinstance(made_with.get("remarks", []), list)
    ):
        raise SaveError(
            f"{str(config)!r} cannot be read as the configuration of a study's run.",
            "Choose another folder, or remove this one if it may be thrown away.",
        )
    return {"asked": asked, "made_with": made_with}


def check_same(folder: Path, before: Json, asked: Json) -> None:
    """Raises `SaveError` that names what differs where the run in `folder` was asked something else."""
    if differing := differences(before, asked, _WORDS):
        raise SaveError(
            f"{str(folder)!r} holds a run of another configuration, which differs in {', '.join(differing)}.",
            "Give the command that began it, choose another folder, or --restart to throw that run away.",
        )
