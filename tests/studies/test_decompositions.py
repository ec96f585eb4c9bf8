"""Directions that take activations apart, and the study that compares them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from threadpoolctl import threadpool_limits

from knowscope_tui.core.facts import Fact
from knowscope_tui.core.studies import StudyOptions
from knowscope_tui.core.units import Site, SiteKind
from knowscope_tui.engine.ablate import measure_ablation
from knowscope_tui.engine.library import Library
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.studies import decompositions, widths
from knowscope_tui.studies.decompositions.directions import Decomposition, Directions, fit, fitted
from knowscope_tui.studies.selection import watch_fact
from knowscope_tui.studies.study import Subject

SITE = Site(1, SiteKind.RESID_POST)


def quiet(_doing: str, _fraction: float | None) -> None:
    """Nobody watches."""


@pytest.fixture
def activations() -> torch.Tensor:
    """Three sources that are far from normal, mixed, with noise of every direction beside."""
    generator = torch.Generator().manual_seed(0)
    sources = torch.rand(4000, 3, generator=generator).pow(4) * 10
    mixing = torch.randn(3, 8, generator=generator)
    return sources @ mixing + 0.1 * torch.randn(4000, 8, generator=generator) + 2.0


@pytest.mark.parametrize("how", Decomposition)
def test_a_whole_basis_rebuilds_everything(how: Decomposition, activations: torch.Tensor) -> None:
    directions = fit(how, activations, 0)
    c = directions.coefficients(activations)
    assert torch.allclose(directions.rebuilt(c), activations, atol=1e-2)
    rows = activations[None, :5]
    for substitute in (False, True):
        assert torch.allclose(
            directions.off(torch.tensor([], dtype=torch.long), substitute=substitute)(rows), rows, atol=1e-2
        )
        changed = directions.off(torch.tensor([2]), substitute=substitute)(rows)
        left = directions.coefficients(changed)[..., 2]
        if how is not Decomposition.ICA:
            assert left.abs().max() < 1e-2
        assert torch.allclose(changed, rows - c[None, :5, 2:3] * directions.write[2], atol=1e-2)


def test_pca_finds_what_varies_and_ica_what_was_mixed(activations: torch.Tensor) -> None:
    pca = fit(Decomposition.PCA, activations, 0).coefficients(activations).var(dim=0)
    assert (pca[:-1] >= pca[1:]).all()
    generator = torch.Generator().manual_seed(0)
    sources = torch.rand(4000, 3, generator=generator).pow(4) * 10
    ica = fit(Decomposition.ICA, activations, 0).coefficients(activations)
    both = torch.corrcoef(torch.cat([sources, ica], dim=1).T)[:3, 3:].abs()
    assert (both.max(dim=1).values > 0.95).all()


@pytest.mark.parametrize(("how", "tokens"), [(Decomposition.PCA, 4000), (Decomposition.ICA, 1500)])
def test_a_fit_is_the_same_however_many_threads_there_are(how: Decomposition, tokens: int) -> None:
    import sklearn.decomposition  # noqa: F401  The limits of a test reach what is loaded.

    activations = torch.randn(tokens, 128, generator=torch.Generator().manual_seed(0))
    made = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            made.append(vars(fit(how, activations, 0)))
    assert all(torch.equal(made[0][name], made[1][name]) for name in made[0])


def test_what_was_fitted_is_read_again_and_what_is_broken_fitted_anew(
    activations: torch.Tensor, tmp_path: Path
) -> None:
    first = fitted(Decomposition.PCA, {SITE: activations}, 0, tmp_path)[SITE]
    again = fitted(Decomposition.PCA, {SITE: torch.zeros(1, 8)}, 0, tmp_path)[SITE]
    assert torch.equal(first.write, again.write)
    next(tmp_path.glob("*.safetensors")).write_bytes(b"cut")
    assert torch.allclose(fitted(Decomposition.PCA, {SITE: activations}, 0, tmp_path)[SITE].write, first.write)


def test_a_dictionarys_own_direction_taken_out_this_way_is_the_ablation(
    lm: LanguageModel, library: Library, facts: list[Fact], tmp_path: Path
) -> None:
    """With coefficients that are the feature's own, both ways of switching it off are one."""
    from knowscope_tui.core.readings import Ablation
    from knowscope_tui.engine.ablate import at_tokens
    from knowscope_tui.engine.answers import forward, probability
    from knowscope_tui.engine.hooks import intervene

    subject = Subject(lm, library, tuple(facts[:1]), (), StudyOptions(), tmp_path)
    watched = watch_fact(subject, facts[0], (SiteKind.RESID_POST,))
    (unit,) = watched.top(SiteKind.RESID_POST, 1)
    question = lm.ask(facts[0].prompt, facts[0].answer)
    row = library.at(unit.site).rows(torch.tensor([unit.index]))
    z = watched.activation[unit.site][unit.index]
    h = watched.trace.activations[unit.site][0]
    read = z * h / h.square().sum()  # reads z on this very activation
    directions = Directions(torch.zeros(len(h)), read[None], row)
    change = directions.off(torch.tensor([0]), substitute=False)
    with intervene(lm.model, {unit.site: at_tokens(slice(question.last, question.last + 1), change)}):
        own = probability(forward(lm, question), question)
    plain = measure_ablation(lm, library, question, Ablation((unit,)))
    assert own == pytest.approx(plain.p_after, abs=1e-5)


def test_rows_depend_on_their_key_alone(
    lm: LanguageModel, library: Library, facts: list[Fact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from knowscope_tui.demo import corpus

    subject = Subject(lm, library, tuple(facts[:3]), corpus.reference_texts()[:60], StudyOptions(), tmp_path)
    monkeypatch.setattr(widths, "TIMES", (1, 2))
    monkeypatch.setattr(widths, "STEPS", 20)
    for study in (decompositions.STUDY, widths.STUDY):
        keys = study.keys(subject)
        forth = study.prepare(subject, quiet)
        rows = [forth(key, quiet) for key in keys]
        back = study.prepare(subject, quiet)
        assert rows == [back(key, quiet) for key in reversed(keys)][::-1], "from the cache, in another order"
        flat = [row for own in rows for row in own]
        assert len({tuple(row) for row in flat}) == 1
        found = study.findings(flat)
        assert found.tables
        assert found.claims
        assert study.findings([]).claims == ()
