"""Bad input: one sentence that says what to do, the right exit code, nothing on stdout, nothing half-written."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from knowscope_tui.core.facts import Fact
from knowscope_tui.core.units import SiteKind
from tests.cli.conftest import Run, strict_json
from tests.cli.stand_in import StandInScope

Process = Callable[..., subprocess.CompletedProcess[str]]
PROMPT = "The capital of France is"
FACT = ["--prompt", PROMPT, "--answer", "Paris"]
UNIT = ["--unit", "0.resid_post.f1"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["prob", "x"], "There is no verb 'prob'; did you mean 'probe'?"),
        (["nowhere"], "There is no verb 'nowhere', and no model folder of that name."),
        (["probe"], "Missing argument 'PROMPT'."),
        (["probe", PROMPT, "--kinds", "atoms"], "There are no units called 'atoms'."),
        (["probe", PROMPT, "--kinds", ","], "--kinds names no units."),
        (["probe", PROMPT, "--beside", "x"], "'x' is not a unit."),
        (["probe", PROMPT, "--neuron-seconds", "-1"], "'-1' is no number of 0 or more."),
        (["greedy", PROMPT, "--below", "1"], "'1' is no probability between 0 and 1"),
        (["greedy", PROMPT, "--below", "0%"], "'0%' is no probability between 0 and 1"),
        (["greedy", PROMPT, "--most", "0"], "0 is not in the range"),
        (["probe", PROMPT, "--tau1", "nan"], "'nan' is no number of 0 or more."),
        (["probe", PROMPT, "--sae", ""], "'' names no dictionaries."),
        (["probe", PROMPT, "--sae", "owner/name"], "'owner/name' names no dictionaries."),
        (["probe", PROMPT, "--sae", "resid_post="], "'resid_post=' names no folder."),
        (["probe", PROMPT, "--sae", "none", "--sae", "x"], "No dictionaries and some were asked for at once."),
        (["probe", PROMPT, "--width", "x"], "'x' is no width."),
        (["probe", PROMPT, "--l0", "0"], "'0' is no L0."),
        (["probe", PROMPT, "--layers", "20-10"], "'20-10' is no range of layers."),
        (["probe", PROMPT, "--sae-memory", "lots"], "'lots' is no amount of memory."),
        (["probe", PROMPT, "--sae-dtype", "float16"], "'float16' is not one of"),
        (["saes", "search"], "Missing argument 'WORDS…'."),
        (["saes", "pull", "x", "--id", "a", "--width", "16k"], "--id names dictionaries exactly."),
        (["saes", "pull", "x", "--layers", "b"], "'b' is no range of layers."),
        (["cache", "prune"], "What is to go was not said."),
        (["cache", "prune", "--older-than", "-1"], "'-1' is no number of 0 or more."),
        (["probe", PROMPT, "--sae", "resid=x"], "There is no site called 'resid'."),
        (["probe", PROMPT, "--dtype", "int8"], "'int8' is not one of"),
        (["probe", "\udcff"], "it is not valid UTF-8."),
        (["ablate", PROMPT, "--answer", "Paris"], "Missing option '--unit'."),
        (["ablate", PROMPT, "--answer", "Paris", "--unit", "4.foo"], "'4.foo' is not a unit."),
        (["ablate", PROMPT, "--answer", "Paris", "--unit", "4.mlp_act.f3"], "mixes two kinds of unit."),
        (["ablate", PROMPT, "--answer", "Paris", *UNIT, "--mode", "scale=inf"], "is none of zero, mean and scale=X"),
        (["edit"], "No fact was named."),
        (["edit", "--prompt", PROMPT], "--prompt and --answer belong together."),
        (["edit", *FACT, "--out", "x", "--dry-run"], "--dry-run saves nothing."),
        (["edit", *FACT, "--site", "nowhere"], "There is no site called 'nowhere'."),
        (["edit", *FACT, "--max-ppl", "inf"], "'inf' is no number of 0 or more."),
        (["edit", *FACT, "--min-rel", "nan"], "'nan' is no number of 0 or more."),
        (["edit", *FACT, "--min-loc", "most"], "'most' is no number of 0 or more."),
        (["edit", *FACT, "--budget", "0"], "'0' is no share above 0 and up to 1"),
        (["edit", *FACT, "--budget", "200%"], "'200%' is no share above 0 and up to 1"),
        (["edit", *FACT, "--set", " "], "it is empty."),
        (["edit", *FACT, "--top", "0"], "0 is not in the range"),
        (["edit", *FACT, "--out", "weights.safetensors"], "neither a folder nor an edit by itself."),
        (["push", "x"], "Missing argument 'REPO'."),
        (["open", "a", "--model", "b"], "The model is named twice."),
        (["demo", "facts", "--relation", "none"], "There is no relation 'none' among these facts."),
    ],
)
def test_wrong_usage(run: Run, stand_in: StandInScope, words: list[str], says: str) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert says in result.stderr
    assert len(result.stderr.splitlines()) == 2


def test_an_error_as_json(run: Run, stand_in: StandInScope) -> None:
    result = run("ablate", PROMPT, "--answer", "Paris", "--unit", "4.foo", "--json")
    assert (result.exit_code, result.stdout) == (2, "")
    error = strict_json(result.stderr)["error"]
    assert error["kind"] == "UsageError"
    assert error["what"] == "'4.foo' is not a unit."
    assert error["hint"].startswith("Write a feature as")
    assert error["exit_code"] == 2


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"prompt": "a", "answer": "b"}\n\n{"prompt": "a"}\n', "Line 3 of "),
        ('{"prompt": "a", "answer": "b"}\n{"prompt"\n', "Line 2 of "),
        ("\n", "There is no fact in "),
    ],
)
def test_a_broken_fact_file_names_its_line(
    run: Run, stand_in: StandInScope, tmp_path: Path, content: str, says: str
) -> None:
    file = tmp_path / "facts.jsonl"
    file.write_text(content)
    for words in (
        ["edit", str(file)],
        ["edit", *FACT, "--neighbors", str(file)],
        ["verify", "x", "--facts", str(file)],
    ):
        result = run(*words)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith(says)


def test_a_missing_fact_file(run: Run, stand_in: StandInScope) -> None:
    result = run("edit", "[red]nowhere\x1b[31m.jsonl")
    assert result.exit_code == 1
    assert "Cannot read the fact file '[red]nowhere" in result.stderr
    assert "\x1b" not in result.stderr


def test_a_target_that_exists_is_said_before_anything_is_loaded(
    run: Run, stand_in: StandInScope, tmp_path: Path
) -> None:
    (tmp_path / "edited").mkdir()
    result = run("edit", *FACT, "--out", str(tmp_path / "edited"))
    assert result.exit_code == 1
    assert "already exists" in result.stderr
    assert stand_in.asked == {}
    assert run("demo", "build", "--quick", "--out", str(tmp_path / "edited")).exit_code == 1


def test_foreign_text_is_shown_literally(run: Run, stand_in: StandInScope) -> None:
    stand_in.next_token = " [bold]\x1b[31m"
    result = run("probe", "[red]x[/red] \x1b[2J [/oops] \u202e", "--answer", "[b]\x07")
    assert result.exit_code == 0, result.stderr
    assert "[red]x[/red] ␛[2J [/oops] ‹202E› → [b]␇" in result.stdout
    assert "[bold]␛[31m" in result.stdout
    assert not {"\x1b", "\x07", "\u202e"} & set(result.stdout)


def test_a_fault_of_the_program_is_a_sentence(
    run: Run, stand_in: StandInScope, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stand_in, "probe", None)
    result = run("probe", PROMPT)
    assert result.exit_code == 1
    assert result.stderr.startswith("Unexpected: 'NoneType' object is not callable")
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("kind", "says", "hint"),
    [
        (type("OutOfMemoryError", (RuntimeError,), {}), "The device ran out of memory.", "--sae-memory"),
        (MemoryError, "This machine ran out of memory.", "--dtype bfloat16"),
    ],
)
def test_no_memory_left_is_a_sentence(
    run: Run, stand_in: StandInScope, monkeypatch: pytest.MonkeyPatch, kind: type[Exception], says: str, hint: str
) -> None:
    def full(*_words: object, **_options: object) -> None:
        raise kind("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr(stand_in, "probe", full)
    result = run("probe", PROMPT)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines()[0] == says
    assert hint in result.stderr
    error = strict_json(run("probe", PROMPT, "--json").stderr)["error"]
    assert (error["kind"], error["exit_code"]) == ("DeviceError", 1)


def test_ctrl_c_is_a_sentence(run: Run, stand_in: StandInScope, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_words: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stand_in, "probe", interrupted)
    result = run("probe", PROMPT)
    assert result.exit_code == 130
    assert "Stopped" in result.stderr


def test_a_reader_that_goes_away_is_silent(process: Process) -> None:
    command = ["-c", "set -o pipefail; python -m knowscope_tui demo facts | head -1 > /dev/null"]
    path = f"{Path(os.sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # type: ignore[attr-defined]
    done = subprocess.run(
        ["bash", *command], capture_output=True, text=True, env=os.environ | {"PATH": path}, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


# --- with a model ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["probe", "  "], 1, "The prompt is empty."),
        (["probe", "many words " * 100], 1, "the model's context holds"),
        (["probe", PROMPT, "--answer", "word " * 100], 1, "the model's context holds"),
        (["probe", PROMPT, "--position", "0"], 2, "There is no reading position 0 in this prompt."),
        (["ablate", PROMPT, "--answer", "Paris", "--unit", "99.resid_post.f1"], 2, "There is no layer 99."),
        (["ablate", PROMPT, "--answer", "Paris", "--unit", "0.mlp_act.n99999"], 2, "There is no neuron 99999"),
        (["ablate", PROMPT, "--answer", "Paris", "--unit", "0.resid_post.f9999"], 2, "9999"),
        (["edit", *FACT, "--tau2", "1.5"], 1, "τ2 is 1.5."),
        (["edit", *FACT, "--site", "attn_z"], 1, "No down_proj writes into attn_z features."),
        (["edit", *FACT, "--method", "neurons", *UNIT], 1, "edits neurons, and 0.resid_post.f1 is none."),
    ],
)
def test_what_the_model_cannot_take(run: Run, tiny_words: list[str], words: list[str], code: int, says: str) -> None:
    result = run(*words, *tiny_words)
    assert says in result.stderr
    assert (result.exit_code, result.stdout) == (code, "")


def test_no_gpu(run: Run, tiny_folder: Path) -> None:
    result = run("probe", PROMPT, "--model", str(tiny_folder), "--device", "cuda:99")
    assert result.exit_code == 1
    assert "CUDA" in result.stderr
    assert "--device cpu" in result.stderr


def test_a_folder_without_a_model(run: Run, tmp_path: Path) -> None:
    result = run("probe", PROMPT, "--model", str(tmp_path))
    assert result.exit_code == 1
    assert "holds no model" in result.stderr


def test_dictionaries_of_another_site(run: Run, tiny_folder: Path, sources: dict[SiteKind, Path]) -> None:
    words = ["--model", str(tiny_folder), "--sae", f"mlp_out={sources[SiteKind.RESID_POST]}"]
    result = run("probe", PROMPT, *words)
    assert result.exit_code == 1
    assert "--sae resid_post=FOLDER" in result.stderr


def test_a_target_that_cannot_be_made_leaves_nothing(
    run: Run, tiny_words: list[str], facts: list[Fact], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    before = sorted(path.name for path in tmp_path.rglob("*"))
    words = ["--prompt", facts[0].prompt, "--answer", facts[0].answer, "--out", str(tmp_path / "file" / "edited")]
    result = run("edit", *words, *tiny_words)
    assert result.exit_code == 1
    assert "Cannot write" in result.stderr
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("out", "code", "says"),
    [
        ("nowhere/x.delta.safetensors", 1, "There is no folder"),
        ("x" * 300, 2, "is too long for a name"),
        ("x" * 300 + ".delta.safetensors", 2, "is too long for a name"),
    ],
    ids=["no folder", "long folder", "long file"],
)
def test_a_place_that_cannot_be_is_said_before_anything_is_loaded(
    run: Run, stand_in: StandInScope, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str, code: int, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("edit", *FACT, "--out", out)
    assert result.exit_code == code
    assert says in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("repo", "says"), [("no name", "is no name"), ("alice/x", "no token"), ("alone", "is no name")]
)
def test_an_upload_that_cannot_be_is_said_before_anything_is_loaded(
    run: Run, stand_in: StandInScope, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repo: str, says: str
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr("knowscope_tui.engine.upload.is_offline", lambda: False)
    result = run("edit", *FACT, "--out", str(tmp_path / "edited"), "--push-to-hub", repo)
    assert result.exit_code == 1
    assert says in result.stderr
    assert list(tmp_path.iterdir()) == []
