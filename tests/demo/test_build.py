"""The recipe, on the tiny quick build: it runs through, it is reproducible, and a failure leaves nothing."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from knowscope_tui.core.units import Site
from knowscope_tui.demo import bundle
from knowscope_tui.demo.recipe import build as build_module
from knowscope_tui.demo.recipe.build import build
from knowscope_tui.engine.library import load_library
from knowscope_tui.engine.loading import load_model
from knowscope_tui.errors import Cancelled, SaveError


def digests(folder: Path) -> dict[str, str]:
    """Every file's digest, without the card, which says how long building took."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != bundle.CARD]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], list[tuple[str, float | None]]]:
    told: list[tuple[str, float | None]] = []
    folder = tmp_path_factory.mktemp("build") / "quick"
    card = build(folder, quick=True, on_progress=lambda doing, fraction: told.append((doing, fraction)))
    return folder, card, told


def test_the_same_recipe_gives_the_same_bytes_and_figures(
    built: tuple[Path, dict[str, Any], Any], tmp_path: Path
) -> None:
    folder, card, _told = built
    again = build(tmp_path / "again", quick=True, on_progress=lambda doing, fraction: None)
    assert digests(tmp_path / "again") == digests(folder)
    assert {**again, "built": None} == {**card, "built": None}


def test_what_is_built_loads_with_a_dictionary_at_every_site(built: tuple[Path, dict[str, Any], Any]) -> None:
    folder, card, _told = built
    lm = load_model(str(folder / bundle.MODEL), device="cpu")
    library = load_library(lm, bundle.dictionary_folders(folder).items())
    assert library.sites == sorted(Site(layer, kind) for kind in bundle.KINDS for layer in range(lm.n_layers))
    assert [row["site"] for row in card["dictionaries"]] == [str(site) for site in library.sites]
    assert lm.ask("The capital of France is", "Paris").prompt_ids[0] == lm.tokenizer.bos_token_id


def test_the_card_states_every_figure_as_strict_json(built: tuple[Path, dict[str, Any], Any]) -> None:
    folder, card, _told = built
    text = (folder / bundle.CARD).read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=pytest.fail) == json.loads(json.dumps(card))
    assert card.keys() >= {"model", "accuracy", "dictionaries", "delta_prob", "erasing", "sample", "recipe", "built"}
    assert {row["method"] for row in card["erasing"].values()} == {"positions", "rows", "neurons", "random"}
    for group in ("public", "private"):
        assert set(card["accuracy"][group]) == {"seen", "unseen"}
    for table in (*card["delta_prob"]["features"].values(), card["delta_prob"]["neurons"]):
        assert set(table) == {"1", "5", "10"}


def test_progress_only_moves_forward(built: tuple[Path, dict[str, Any], list[tuple[str, float | None]]]) -> None:
    fractions = [fraction for _doing, fraction in built[2] if fraction is not None]
    assert fractions == sorted(fractions)
    assert 0 <= fractions[0] <= fractions[-1] <= 1


def test_a_folder_that_exists_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SaveError, match="already exists"):
        build(tmp_path, quick=True, on_progress=lambda doing, fraction: None)


def test_a_build_that_is_stopped_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(folder: Path, *_arguments: Any) -> None:
        (folder / "half").write_text("written")
        raise Cancelled

    monkeypatch.setattr(build_module, "_build", stop)
    with pytest.raises(Cancelled):
        build(tmp_path / "quick", quick=True, on_progress=lambda doing, fraction: None)
    assert list(tmp_path.iterdir()) == []
