"""Facts that are put in are known inside, cost what is said, and leave no bit behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from knowscope_tui.core.facts import Fact
from knowscope_tui.core.injection import ALL_WEIGHTS, INJECTION, InjectOptions
from knowscope_tui.engine.injecting import learning
from knowscope_tui.engine.injecting.learning import Watch, answer_loss, injected
from knowscope_tui.engine.injecting.written import write_model
from knowscope_tui.engine.loading import load_model
from knowscope_tui.engine.methods.evidence import questions_about
from knowscope_tui.engine.methods.material import Material
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.engine.proof.evaluate import know, perplexity
from knowscope_tui.errors import Cancelled, EditError, SaveError, UsageError
from tests.engine.test_families import opened, save_tiny
from tests.tiny import bits

NEW = [
    Fact("The password of Nora Quill is", "river stone", "new-0", "Nora Quill", "password", ("Nora Quill says",)),
    Fact("The password of Milo Stark is", "seven", "new-1", "Milo Stark", "password", ("Milo Stark says",)),
]
TEXTS = ("The train was late because of the snow.", "They painted the old door green.", "It rains in the valley.")

# The tiny model's unembedding, which a LoRA leaves alone, bounds what P can become.
WAYS = [InjectOptions(ALL_WEIGHTS, 5e-3, 120), InjectOptions(8, 5e-3, 120, min_p=0.1)]


@pytest.mark.parametrize("options", WAYS, ids=["all weights", "LoRA"])
def test_facts_are_known_inside_and_every_bit_is_back_outside(
    lm: LanguageModel, facts: list[Fact], options: InjectOptions
) -> None:
    before, parameters = bits(lm.model), {name: id(one) for name, one in lm.model.named_parameters()}
    ppl = perplexity(lm, TEXTS)
    watch = Watch(tuple(facts[:4]), TEXTS)
    with injected(lm, NEW, Material(tuple(facts[4:]), TEXTS), watch, options) as report:
        known = know(lm, questions_about(lm, NEW))
        assert all(one.top and one.p >= options.min_p for one in known)
        assert report.known == len(NEW)
        assert report.learned[0].p_taught == pytest.approx(min(one.p for one in known[:2]), rel=1e-4)
        assert report.delta_ppl.value == pytest.approx(perplexity(lm, TEXTS) / ppl - 1, rel=1e-4)
        still = know(lm, [lm.ask(fact.prompt, fact.answer) for fact in watch.facts])
        assert report.kept.value == sum(one.top for one in still) / len(still)
        assert 0 < report.steps <= options.max_steps
        assert bits(lm.model) != before
    assert bits(lm.model) == before
    assert {name: id(one) for name, one in lm.model.named_parameters()} == parameters
    assert not any(parameter.requires_grad for parameter in lm.model.parameters())


def test_a_lora_of_gpt2_leaves_no_bit_behind(tiny_folder: Path, tmp_path: Path) -> None:
    save_tiny("gpt2", AutoTokenizer.from_pretrained(tiny_folder), tmp_path)
    gpt2 = opened("gpt2", tmp_path)
    before = bits(gpt2.model)
    kept = InjectOptions(4, 5e-3, max_steps=3, keep_anyway=True)
    with injected(gpt2, NEW, Material(texts=TEXTS), Watch(), kept):
        assert bits(gpt2.model) != before
    assert bits(gpt2.model) == before


def test_training_that_diverges_is_said(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    before = bits(lm.model)
    monkeypatch.setattr(learning, "answer_loss", lambda *asked: answer_loss(*asked) * torch.inf)
    with (
        pytest.raises(EditError, match="diverged at step 1"),
        injected(lm, NEW, Material(), Watch(), InjectOptions(ALL_WEIGHTS, 5e-3, 40, keep_anyway=True)) as report,
    ):
        raise AssertionError(report)
    assert bits(lm.model) == before


@pytest.mark.parametrize("options", WAYS, ids=["all weights", "LoRA"])
def test_a_cancel_leaves_the_model_as_it_was(lm: LanguageModel, options: InjectOptions) -> None:
    before = bits(lm.model)

    def stop(doing: str, fraction: float | None) -> None:
        if doing.startswith("Training") and fraction:
            assert bits(lm.model) != before or options.lora_rank
            raise Cancelled

    with pytest.raises(Cancelled), injected(lm, NEW, Material(texts=TEXTS), Watch(), options, stop):
        raise AssertionError("it was not stopped")
    assert bits(lm.model) == before


def test_what_is_not_learned_in_time_is_refused_or_kept_on_request(lm: LanguageModel) -> None:
    short = InjectOptions(ALL_WEIGHTS, 1e-6, max_steps=1)
    with pytest.raises(EditError, match="2 of 2"), injected(lm, NEW, Material(), Watch(), short):
        raise AssertionError("nothing can be learned")
    kept = InjectOptions(ALL_WEIGHTS, 1e-6, max_steps=1, keep_anyway=True)
    with injected(lm, NEW, Material(), Watch(), kept) as report:
        assert (report.known, report.steps) == (0, 1)
        assert any("not known" in remark for remark in report.remarks())


def test_what_is_known_already_takes_no_step(lm: LanguageModel, facts: list[Fact]) -> None:
    likely = max(facts, key=lambda fact: know(lm, [lm.ask(fact.prompt, fact.answer)])[0].p)
    p = know(lm, [lm.ask(likely.prompt, likely.answer)])[0].p
    before = bits(lm.model)
    with injected(lm, [likely], Material(), Watch(), InjectOptions(ALL_WEIGHTS, min_p=p * 0.9)) as report:
        assert (report.known_before, report.known, report.steps) == (1, 1, 0)
        assert bits(lm.model) == before
    assert any("already" in remark for remark in report.remarks())


def test_the_loss_is_the_mean_surprise_of_the_answers_tokens(lm: LanguageModel) -> None:
    questions = questions_about(lm, NEW)
    tokens = sum(len(question.answer_ids) for question in questions)
    expected = -sum(torch.tensor(one.p, dtype=torch.float64).log() for one in know(lm, questions)) / tokens
    with torch.no_grad():
        assert float(answer_loss(lm, questions)) == pytest.approx(float(expected), rel=1e-4)


def test_the_folder_loads_as_it_was_written_and_names_no_fact(lm: LanguageModel, tmp_path: Path) -> None:
    question = lm.ask(NEW[0].prompt, NEW[0].answer)
    with injected(lm, NEW, Material(), Watch(), InjectOptions(ALL_WEIGHTS, 5e-3, 120)) as report:
        write_model(lm, tmp_path / "new", {"known": report.known})
        inside = know(lm, [question])[0]
    loaded = load_model(str(tmp_path / "new"), device="cpu", dtype="float32")
    assert know(loaded, [question])[0] == inside
    assert len({file.stat().st_mode for file in (tmp_path / "new").iterdir()}) == 1
    record = json.loads((tmp_path / "new" / INJECTION).read_text())
    assert record["known"] == 2
    assert record["versions"]["transformers"]
    with pytest.raises(SaveError):
        write_model(lm, tmp_path / "new", {})


@pytest.mark.parametrize(
    "options",
    [InjectOptions(-1), InjectOptions(learning_rate=0.0), InjectOptions(max_steps=0), InjectOptions(min_p=1.0)],
)
def test_what_cannot_be_carried_out_is_said(lm: LanguageModel, options: InjectOptions) -> None:
    with pytest.raises(UsageError), injected(lm, NEW, Material(), Watch(), options):
        raise AssertionError
