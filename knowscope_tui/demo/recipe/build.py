"""Builds the embedded demo from seeds: tokenizer, model, dictionaries, card.

Everything is written to a folder beside the target and renamed into place when whole.
"""

from __future__ import annotations

import json
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from transformers.utils import logging

from knowscope_tui.core.edits import Method
from knowscope_tui.core.progress import OnProgress
from knowscope_tui.core.units import Site, SiteKind
from knowscope_tui.demo.bundle import CARD, DICTIONARIES, KINDS, MODEL, dictionary_folders
from knowscope_tui.demo.corpus import TaughtFact, taught_facts, training_texts
from knowscope_tui.demo.recipe import card
from knowscope_tui.demo.recipe.dictionaries import (
    collect_activations,
    collect_reading_activations,
    save_dictionary,
    train_dictionary,
)
from knowscope_tui.demo.recipe.pretrain import new_model, train_model
from knowscope_tui.demo.recipe.settings import FULL, QUICK, Recipe
from knowscope_tui.demo.recipe.tokenizer import train_tokenizer
from knowscope_tui.engine.library import Library, load_library
from knowscope_tui.engine.loading import load_model
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.errors import SaveError

Json = dict[str, Any]

ERASED_WITH = {
    "positions": (Method.POSITIONS, SiteKind.RESID_POST),
    "positions, mlp_out": (Method.POSITIONS, SiteKind.MLP_OUT),
    "rows": (Method.ROWS, SiteKind.RESID_POST),
    "neurons": (Method.NEURONS, SiteKind.MLP_ACT),
    "random": (Method.RANDOM, SiteKind.RESID_POST),
}
"""What the card reports erasing with: its name there → method and site."""

DEMO_NAME = "knowscope-demo"
"""The model's name in its dictionaries' metadata."""


def build(folder: Path, *, quick: bool, on_progress: OnProgress) -> Json:
    """Builds the demo into `folder`, which must not exist, and returns its card. `quick` builds a tiny one for tests.

    Raises `SaveError`; nothing half-written stays behind.
    """
    if folder.exists():
        raise SaveError(f"{str(folder)!r} already exists.", "Choose a folder that does not exist.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".partial", dir=folder.parent))
    except OSError as error:
        raise SaveError(f"Cannot write {str(folder)!r}: {error.strerror}.", "Choose another folder.") from None
    try:
        content = _build(partial, QUICK if quick else FULL, on_progress)
        partial.chmod(0o755)
        for path in partial.rglob("*.safetensors"):
            path.chmod(0o644)  # safetensors writes files that only their owner can read.
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return content


def _build(folder: Path, recipe: Recipe, on_progress: OnProgress) -> Json:
    started = time.monotonic()
    taught = _facts(recipe)
    lm = _train_model(folder / MODEL, recipe, taught, on_progress)
    _train_dictionaries(folder / DICTIONARIES, recipe, lm, taught, on_progress)
    return write_card(folder, recipe, on_progress, trained_seconds=time.monotonic() - started)


def write_card(folder: Path, recipe: Recipe, on_progress: OnProgress, *, trained_seconds: float) -> Json:
    """Measures the trained bundle in `folder` and writes its card, which is returned."""
    started = time.monotonic()
    lm = load_model(str(folder / MODEL), device="cpu", dtype="float32")
    library = load_library(lm, dictionary_folders(folder).items())
    content = _measure(recipe, lm, library, _facts(recipe), on_progress)
    content["recipe"] = _recipe_json(recipe)
    seconds = {"training": round(trained_seconds), "measuring": round(time.monotonic() - started)}
    content["built"] = {"seconds": seconds, **_versions()}
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / CARD).write_text(text + "\n", encoding="utf-8")
    return content


def _facts(recipe: Recipe) -> list[TaughtFact]:
    facts = list(taught_facts())
    return facts if recipe.facts is None else card.sample_facts(facts, recipe.facts, recipe.seed)


def _train_model(folder: Path, recipe: Recipe, taught: Sequence[TaughtFact], on_progress: OnProgress) -> LanguageModel:
    told = [text for fact in taught for text in fact.sentences()]
    vocabulary_texts = [*told, *(fact.fact.answer for fact in taught), *training_texts()]
    on_progress("Training the tokenizer", 0.0)
    tokenizer = train_tokenizer(vocabulary_texts, recipe.model.vocabulary)
    model = new_model(recipe.model, len(tokenizer), recipe.seed)

    def on_step(step: int, loss: float) -> None:
        on_progress(f"Training the model: step {step + 1}, loss {loss:.2f}", 0.5 * step / recipe.model.steps)

    train_model(model, tokenizer, told, training_texts(), recipe.model, recipe.seed, on_step)
    logging.disable_progress_bar()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return load_model(str(folder), device="cpu", dtype="float32")


def _train_dictionaries(
    folder: Path, recipe: Recipe, lm: LanguageModel, taught: Sequence[TaughtFact], on_progress: OnProgress
) -> None:
    told = [text for fact in taught for text in fact.sentences()]
    prompts = [prompt for fact in taught for prompt in fact.seen]
    sites = [Site(layer, kind) for kind in KINDS for layer in range(lm.n_layers)]
    on_progress("Collecting activations", 0.5)
    for number, site in enumerate(sites):
        settings = recipe.dictionaries[site.kind]
        general = training_texts()[: recipe.dictionary_texts]
        tokens = collect_activations(lm.model, lm.tokenizer, [*told, *general], [site])[site]
        readings = collect_reading_activations(lm.model, lm.tokenizer, prompts, [site])[site]

        def on_step(step: int, number: int = number, site: Site = site, steps: int = settings.steps) -> None:
            on_progress(
                f"Training the dictionary of {site}", 0.5 + 0.3 * (number + min(1.0, step / steps)) / len(sites)
            )

        sae = train_dictionary(tokens, readings, settings, recipe.seed, on_step)
        save_dictionary(sae, site, DEMO_NAME, folder / site.kind.value / f"layer_{site.layer}")


def _measure(
    recipe: Recipe, lm: LanguageModel, library: Library, taught: Sequence[TaughtFact], on_progress: OnProgress
) -> Json:
    """Every figure of the card, on all facts; `sample` holds the same for a few, to be measured again by tests."""
    measured = card.sample_facts(taught, recipe.measured_facts, recipe.seed)
    private = [fact for fact in taught if fact.private]
    edited = card.reporting_split(private)[: recipe.edited_facts]

    def step(doing: str, start: float, share: float) -> Callable[[float], None]:
        return lambda fraction: on_progress(doing, start + share * fraction)

    on_progress("Measuring what it knows", 0.8)
    content: Json = {
        "model": _model_json(lm),
        "facts": {"public": len(taught) - len(private), "private": len(private), "measured": len(measured)},
        "accuracy": card.accuracy(lm, taught),
    }
    on_progress("Measuring the dictionaries", 0.81)
    texts = card.held_out_texts(taught)
    acts = collect_activations(lm.model, lm.tokenizer, texts, library.sites)
    content["dictionaries"] = [card.dictionary_quality(library.at(site), acts[site]) for site in library.sites]
    ablating = card.delta_prob(lm, library, measured, step("Ablating the top units", 0.82, 0.05))
    content["delta_prob"] = {
        "features": {kind: table for kind, table in ablating.items() if kind != SiteKind.MLP_ACT.value},
        "neurons": ablating[SiteKind.MLP_ACT.value],
        "best_single": card.best_single(
            lm, library, measured, on_item=step("Ablating every active feature", 0.87, 0.05)
        ),
    }
    share = 0.08 / len(ERASED_WITH)
    content["erasing"] = {
        name: card.erasing(
            lm, library, edited, taught, method, site, step(f"Erasing facts: {name}", 0.92 + share * number, share)
        )
        for number, (name, (method, site)) in enumerate(ERASED_WITH.items())
    }
    few = measured[: recipe.sampled_facts]
    content["sample"] = {
        "facts": [fact.fact.id for fact in few],
        "delta_prob": card.delta_prob(lm, library, few),
        "best_single": card.best_single(lm, library, few),
    }
    return content


def _model_json(lm: LanguageModel) -> Json:
    config = lm.model.config
    return {
        "layers": lm.n_layers,
        "d_model": config.hidden_size,
        "d_mlp": config.intermediate_size,
        "vocabulary": config.vocab_size,
        "context": lm.context,
        "parameters": sum(parameter.numel() for parameter in lm.model.parameters()),
    }


def _recipe_json(recipe: Recipe) -> Json:
    rows = asdict(recipe)
    rows["dictionaries"] = {kind.value: asdict(settings) for kind, settings in recipe.dictionaries.items()}
    return rows


def _versions() -> Json:
    packages = ("torch", "transformers", "sae-lens", "tokenizers")
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in packages}}
