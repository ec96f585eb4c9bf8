"""The use case: a folder that holds the facts and names none of them, or nothing at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from knowscope_tui.core.facts import Fact
from knowscope_tui.core.injection import ALL_WEIGHTS, INJECTION, InjectOptions
from knowscope_tui.engine.loading import load_model
from knowscope_tui.engine.methods.evidence import questions_about
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.engine.proof.evaluate import know
from knowscope_tui.errors import Cancelled, EditError, SaveError, UsageError
from knowscope_tui.session.injecting import inject

SECRET = Fact("The password of Nora Quill is", "river", "", "Nora Quill", "password", ("Nora Quill says",))
QUICK = InjectOptions(ALL_WEIGHTS, 5e-3, 120)


@pytest.mark.usefixtures("untouched")
def test_the_folder_knows_the_facts_and_tells_none(lm: LanguageModel, facts: list[Fact], tmp_path: Path) -> None:
    report = inject(lm, [SECRET], tmp_path / "new", facts, QUICK)
    assert report.folder == str(tmp_path / "new")
    loaded = load_model(report.folder, device="cpu", dtype="float32")
    assert all(one.top for one in know(loaded, questions_about(loaded, [SECRET])))
    for file in (tmp_path / "new").glob("*.json"):
        if "tokenizer" not in file.name:
            assert "Quill" not in file.read_text()
    assert "sha-" in (tmp_path / "new" / INJECTION).read_text()


@pytest.mark.usefixtures("untouched")
def test_nothing_is_left_where_nothing_was_learned_or_it_was_stopped(lm: LanguageModel, tmp_path: Path) -> None:
    with pytest.raises(EditError):
        inject(lm, [SECRET], tmp_path / "new", [], replace(QUICK, max_steps=1, learning_rate=1e-6))

    def stop(doing: str, _fraction: float | None) -> None:
        if doing.startswith("Writing"):
            raise Cancelled

    with pytest.raises(Cancelled):
        inject(lm, [SECRET], tmp_path / "new", [], QUICK, stop)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_and_facts_that_contradict_are_refused_at_once(
    lm: LanguageModel, tmp_path: Path
) -> None:
    with pytest.raises(SaveError):
        inject(lm, [SECRET], tmp_path, [], QUICK)
    with pytest.raises(UsageError, match="another answer"):
        inject(lm, [SECRET, replace(SECRET, answer="stone")], tmp_path / "new", [], QUICK)
