"""The dictionaries in use, and how they get there from what a person named."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from knowscope_tui.core.dictionaries import Choice, DictionarySource, Entry, span
from knowscope_tui.core.progress import OnProgress
from knowscope_tui.core.units import Family, Site, SiteKind, Unit
from knowscope_tui.engine.dictionary import Dictionary, Spec, make_dictionary
from knowscope_tui.engine.model import LanguageModel
from knowscope_tui.engine.residency import EncoderPool
from knowscope_tui.engine.shelf import converted, folders, published, registry
from knowscope_tui.engine.shelf.availability import is_here, name_of
from knowscope_tui.engine.shelf.interpret import Parts, interpret
from knowscope_tui.engine.sites import n_layers, width
from knowscope_tui.errors import DictionaryError, UsageError
from knowscope_tui.paths import typed_path


class Library:
    """The dictionaries in use, one a site, and the pool that holds their encoders."""

    def __init__(self, dictionaries: Iterable[Dictionary] = (), pool: EncoderPool | None = None) -> None:
        self._by_site = {dictionary.site: dictionary for dictionary in dictionaries}
        self.pool = pool or EncoderPool()

    @property
    def sites(self) -> list[Site]:
        """In reading order: by layer, then by kind."""
        return sorted(self._by_site)

    @property
    def kinds(self) -> list[SiteKind]:
        return [kind for kind in SiteKind if any(site.kind is kind for site in self._by_site)]

    def __len__(self) -> int:
        return len(self._by_site)

    def at(self, site: Site) -> Dictionary:
        """The dictionary at `site`. Raises `UsageError` that says where there are some."""
        if site not in self._by_site:
            where = ", ".join(kind.value for kind in self.kinds) or "none: pass --sae"
            raise UsageError(f"No dictionary is loaded at {site}.", f"Sites with dictionaries: {where}.")
        return self._by_site[site]


def check_unit(lm: LanguageModel, library: Library, unit: Unit) -> None:
    """Raises `UsageError` for a unit whose layer, dictionary or index does not exist."""
    if not 0 <= unit.site.layer < lm.n_layers:
        raise UsageError(f"There is no layer {unit.site.layer}.", f"This model has layers 0 to {lm.n_layers - 1}.")
    if unit.family is Family.FEATURE:
        library.at(unit.site).check_index(unit.index)
        return
    n_neurons = width(lm.model, SiteKind.MLP_ACT)
    if unit.index >= n_neurons:
        raise UsageError(
            f"There is no neuron {unit.index} in layer {unit.site.layer}.", f"It has neurons 0 to {n_neurons - 1}."
        )


# --- what was named -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wanted:
    """Dictionaries to be opened: those in folders, and entries of releases."""

    folders: tuple[tuple[SiteKind, Path], ...] = ()
    entries: tuple[Entry, ...] = ()
    remarks: tuple[str, ...] = ()
    """What a person should know of how these were chosen, each in a sentence."""


def wanted(sources: Sequence[DictionarySource], choice: Choice) -> Wanted:
    """What `sources` and `choice` name. Raises `DictionaryError` or `UsageError`."""
    chosen = [entry for source in sources if source.release for entry in registry.entries_of(source.release, choice)]
    check_choice(choice, named=bool(chosen))
    named = [(source.kind, typed_path(source.folder)) for source in sources if source.folder and source.kind]
    return Wanted(tuple(named), tuple(chosen))


def check_choice(choice: Choice, *, named: bool) -> None:
    """Raises `UsageError` for a choice where no release was named to choose from."""
    if not named and choice != Choice():
        raise UsageError(
            "--width, --l0 and --layers choose among the dictionaries of a release, and none was named.",
            "Name one with --sae RELEASE, or leave them out.",
        )


def usual(model: str | None, layers: int, choice: Choice, *, sae_dtype: str, offline: bool) -> Wanted:
    """The usual set beside the published model `model`: every site that its releases and its layers have.

    Where nothing may be fetched it is what is here, with a remark on what is not.
    """
    entries = [entry for name in registry.usual_releases(model) for entry in registry.entries_of(name, choice)]
    within = tuple(entry for entry in entries if entry.site and entry.site.layer < layers)
    if entries and not within:
        raise DictionaryError(
            f"The model has no layer among {span(e.site.layer for e in entries if e.site)}.",
            f"It has layers 0 to {layers - 1}.",
        )
    remarks = tuple(_remarks(model, within))
    if not offline:
        return Wanted(entries=within, remarks=remarks)
    here = tuple(entry for entry in within if is_here(entry, sae_dtype))
    if len(here) == len(within):
        return Wanted(entries=within, remarks=remarks)
    lacking = sorted({entry.release for entry in within} - {entry.release for entry in here}) or [within[0].release]
    missing = len(within) - len(here)
    remark = (
        f"{missing} of the {len(within)} usual dictionaries {'is' if missing == 1 else 'are'} not here, and nothing "
        f"may be fetched (offline): `knowscope-tui saes pull {lacking[0]}` brings those of {lacking[0]}."
    )
    return Wanted(entries=here, remarks=(*remarks, remark))


def _remarks(model: str | None, entries: Sequence[Entry]) -> list[str]:
    if not entries:
        named = f" --model {model}" if model else ""
        return [f"No dictionaries are opened with this model by itself: `knowscope-tui saes list{named}` shows them."]
    trained_on = registry.find_release(entries[0].release).model
    if registry.plain_name(trained_on) != model:
        return [f"These dictionaries were trained on {trained_on}, which {model} was tuned from."]
    return []


# --- opening them ---------------------------------------------------------------------------------------------------


def load_library(
    lm: LanguageModel,
    in_folders: Iterable[tuple[SiteKind, Path]] = (),
    entries: Sequence[Entry] = (),
    *,
    sae_dtype: str = "bfloat16",
    offline: bool = False,
    pool: EncoderPool | None = None,
    on_progress: OnProgress = lambda doing, fraction: None,
) -> Library:
    """Opens every dictionary found in `in_folders` (site kind, folder) and of `entries`.

    Nothing is read before it is used. Raises `DictionaryError` or `HubError`: nothing found, broken file, two for one
    site, or a width or layer that the model does not have.
    """
    kept = pool or EncoderPool()
    opened: dict[Site, Dictionary] = {}
    for kind, folder in in_folders:
        for path in folders.find(folder):
            _put(opened, _fitting(lm, _parts_of_folder(path, kind, sae_dtype)), kept)
    for number, entry in enumerate(entries):
        file = published.obtain(
            entry, sae_dtype, offline=offline, on_progress=numbered(on_progress, number, len(entries))
        )
        parts = converted.open_(file)
        # One copy serves every release that lists it.
        named = replace(parts.spec, source=name_of(entry), expected_l0=entry.l0 or parts.spec.expected_l0)
        _put(opened, _fitting(lm, replace(parts, spec=named)), kept)
    return Library(opened.values(), kept)


def numbered(on_progress: OnProgress, number: int, total: int) -> OnProgress:
    """Progress of one dictionary as progress through all."""

    def tell(doing: str, fraction: float | None) -> None:
        share = (number + (fraction or 0.0)) / total
        on_progress(f"Dictionary {number + 1} of {total}: {doing}", share)

    return tell


def _parts_of_folder(path: Path, kind: SiteKind, sae_dtype: str) -> Parts:
    """The dictionary in a folder: mapped as it lies, or, as an npz, from its converted copy."""
    npz = path / folders.NPZ
    if not npz.is_file():
        return interpret(folders.read(path, kind), kind)
    file = published.obtain_folder(path, npz, kind, lambda: interpret(folders.read(path, kind), kind), sae_dtype)
    return converted.open_(file)


def _fitting(lm: LanguageModel, parts: Parts) -> Parts:
    spec = parts.spec
    if not 0 <= spec.site.layer < n_layers(lm.model):
        raise DictionaryError(
            f"The dictionary {spec.source!r} is for layer {spec.site.layer} and the model has "
            f"{n_layers(lm.model)} layers.",
            "Pick the dictionaries of this model.",
        )
    expected = width(lm.model, spec.site.kind)
    if spec.d_in != expected:
        raise DictionaryError(
            f"The dictionary {spec.source!r} reads {spec.d_in} numbers, and {spec.site.kind} of this model has "
            f"{expected}.",
            "Pick the dictionaries of this model and site.",
        )
    return parts


def _put(opened: dict[Site, Dictionary], parts: Parts, pool: EncoderPool) -> None:
    spec: Spec = parts.spec
    if spec.site in opened:
        raise DictionaryError(
            f"Two dictionaries for {spec.site} were named: {opened[spec.site].source!r} and {spec.source!r}.",
            "Name the folder of one width and one L0.",
        )
    opened[spec.site] = make_dictionary(spec, parts.tensors, pool)
