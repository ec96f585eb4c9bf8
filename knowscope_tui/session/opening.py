"""From what a person named to what is to be loaded, with a plan of what goes where, before a weight is read."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from knowscope_tui.core.dictionaries import Entry
from knowscope_tui.core.memory import MemoryPlan
from knowscope_tui.core.progress import OnProgress
from knowscope_tui.demo import bundle
from knowscope_tui.engine import host, hub, library, loading, memory
from knowscope_tui.engine.shelf import availability, folders
from knowscope_tui.engine.shelf.registry import is_tuned, known_model
from knowscope_tui.errors import DoesNotFit
from knowscope_tui.paths import cache_folder
from knowscope_tui.session.protocol import SourceSpec

DEMO = "demo"
"""The name of the embedded model, wherever a model is named."""

_PUBLISHED_SHAPES = {
    ("gemma2", 26, 2304): "gemma-2-2b",
    ("gemma2", 42, 3584): "gemma-2-9b",
    ("gemma2", 46, 4608): "gemma-2-27b",
    ("gemma3_text", 18, 640): "gemma-3-270m",
    ("gemma3_text", 26, 1152): "gemma-3-1b",
    ("gemma3", 34, 2560): "gemma-3-4b",
    ("gemma3", 48, 3840): "gemma-3-12b",
    ("gemma3", 62, 5376): "gemma-3-27b",
    ("gpt2", 12, 768): "gpt2-small",
}
"""Model type, layers and d_model → the published model of that shape, for folders and tuned models."""


@dataclass(frozen=True)
class Prepared:
    """What is to be loaded, where to, and what that takes."""

    source: SourceSpec
    is_demo: bool
    files: loading.ModelFiles
    trained_on: str | None
    """The published model that this one is or was tuned from, as the registry's releases name it."""
    wanted: library.Wanted
    weights: loading.WeightSizes
    dtype: torch.dtype
    device: torch.device
    spread: bool
    plan: MemoryPlan

    def check(self) -> None:
        """Raises `DoesNotFit` for a plan that cannot be carried out."""
        if self.plan.problem:
            raise DoesNotFit(self.plan.problem, self.plan.hint)


def prepare(source: SourceSpec, on_progress: OnProgress) -> Prepared:
    """Finds what `source` names and plans where it goes. Raises what finding it raises; a bad plan is only said."""
    is_demo = source.model is None or source.model == DEMO
    if source.offline:
        hub.stay_offline()
    on_progress("Finding the model", None)
    name = str(bundle.model_folder()) if is_demo else str(source.model)
    offline = source.offline or hub.is_offline()
    files = loading.find_model(name, offline=offline, on_progress=on_progress)
    trained_on = None if is_demo else published_model(files)
    wanted = _wanted(source, files, trained_on, is_demo, offline)
    device = loading.pick_device(source.device)
    dtype = loading.pick_dtype(source.dtype, device, loading.stored_dtype(files))
    weights = loading.weight_sizes(files, dtype, offline=offline)
    spread = False
    if source.device == "auto":
        device, spread = memory.choose_gpu(weights.loaded + memory.working_bytes(weights.loaded))
    on_progress("Planning", None)
    plan = _plan(source, weights, wanted, device, spread, _room(device, spread), dtype)
    return Prepared(source, is_demo, files, trained_on, wanted, weights, dtype, device, spread, plan)


def encoder_budget_each(prepared: Prepared) -> int | None:
    """What encoders may take on each device; None on the CPU, where they are read from the map."""
    if prepared.device.type != "cuda":
        return None
    return prepared.plan.encoder_budget // (torch.cuda.device_count() if prepared.spread else 1)


def with_dictionaries(prepared: Prepared, wanted: library.Wanted, resident: int) -> Prepared:
    """`prepared`, whose model is loaded, with other dictionaries in place of its own.

    `resident` is what their encoders take on the device, which becomes free again.
    """
    room = _room(prepared.device, prepared.spread)
    taken = prepared.weights.loaded
    if room.device is None:
        room = replace(room, host=room.host + taken)  # its pages are there already
    else:
        room = replace(room, device=room.device + taken + resident)
    weights = replace(prepared.weights, missing=0)
    plan = _plan(prepared.source, weights, wanted, prepared.device, prepared.spread, room, prepared.dtype)
    return replace(prepared, wanted=wanted, plan=plan)


def _plan(
    source: SourceSpec,
    weights: loading.WeightSizes,
    wanted: library.Wanted,
    device: torch.device,
    spread: bool,
    room: memory.Room,
    dtype: torch.dtype,
) -> MemoryPlan:
    return memory.plan(
        "all GPUs" if spread else str(device),
        _sizes(weights, wanted, source.sae_dtype, offline=source.offline or hub.is_offline()),
        room,
        sae_memory=source.sae_memory,
        dtype=str(dtype).removeprefix("torch."),
    )


def published_model(files: loading.ModelFiles) -> str | None:
    """The published model that `files` is or was tuned from: by its name, else by its shape, else None."""
    config = files.config.get_text_config()
    shape = (files.config.model_type, config.num_hidden_layers, config.hidden_size)
    if files.folder is None and (name := known_model(files.source)) is not None:
        return name
    base = _PUBLISHED_SHAPES.get(shape)
    return f"{base}-it" if base and base.startswith("gemma") and is_tuned(files.source) else base


def _wanted(
    source: SourceSpec, files: loading.ModelFiles, trained_on: str | None, is_demo: bool, offline: bool
) -> library.Wanted:
    if source.dictionaries is not None:
        return library.wanted(source.dictionaries, source.choice)
    if is_demo:
        library.check_choice(source.choice, named=False)
        return library.Wanted(folders=tuple(bundle.dictionary_folders().items()))
    layers = files.config.get_text_config().num_hidden_layers
    return library.usual(trained_on, layers, source.choice, sae_dtype=source.sae_dtype, offline=offline)


# --- sizes ----------------------------------------------------------------------------------------------------------


def _sizes(weights: loading.WeightSizes, wanted: library.Wanted, sae_dtype: str, *, offline: bool) -> memory.Sizes:
    mapped, convert = _folder_sizes(wanted, sae_dtype)
    here = [availability.file_of(entry, sae_dtype) for entry in wanted.entries]
    mapped += [file.stat().st_size for file in here if file.is_file()]
    missing = [entry for entry, file in zip(wanted.entries, here, strict=True) if not file.is_file()]
    publish = _published_sizes(missing, sae_dtype, offline=offline)
    # What is published may be compressed; what is converted never is.
    convert += [availability.estimated_bytes(entry) or size for entry, (size, _) in zip(missing, publish, strict=True)]
    converted = [size * loading.DTYPES[sae_dtype].itemsize // 4 for size in convert]
    whole = sum(mapped) + sum(converted)
    return memory.Sizes(
        model=weights.loaded,
        encoders=whole // 2,
        mapped=whole,
        download=weights.missing + sum(size for size, is_here in publish if not is_here),
        convert=sum(converted),
        largest_published=max(convert, default=0),
        dictionaries=len(mapped) + len(convert),
    )


def _folder_sizes(wanted: library.Wanted, sae_dtype: str) -> tuple[list[int], list[int]]:
    """Bytes of each dictionary in a person's folders: those that can be mapped, and those to be converted first.

    What cannot be found there is said when it is opened.
    """
    mapped: list[int] = []
    convert: list[int] = []
    for kind, folder in wanted.folders:
        for name in (folders.WEIGHTS, folders.SAFETENSORS):
            mapped += [path.stat().st_size for path in folder.rglob(name)]
        for npz in folder.rglob(folders.NPZ):
            copy = availability.copy_of_folder(npz.parent, npz, kind, sae_dtype)
            (mapped if copy.is_file() else convert).append((copy if copy.is_file() else npz).stat().st_size)
    return mapped, convert


def _published_sizes(missing: list[Entry], sae_dtype: str, *, offline: bool) -> list[tuple[int, bool]]:
    """Published bytes of each entry without a converted copy, and whether these are on this machine."""
    sizes: dict[str, dict[str, int] | None] = {}
    if not offline:
        for repo in dict.fromkeys(entry.repo for entry in missing):
            sizes[repo] = availability.sizes_from_hub(repo, [entry for entry in missing if entry.repo == repo])
    states = [availability.state_of(entry, sae_dtype, sizes.get(entry.repo)) for entry in missing]
    return [(state.download_bytes or 0, state.downloaded) for state in states]


def _room(device: torch.device, spread: bool) -> memory.Room:
    free = memory.device_memory(device)
    if spread:
        gpus = range(torch.cuda.device_count())
        free = sum(memory.device_memory(torch.device("cuda", index)) or 0 for index in gpus)
    disks = [memory.disk_free(place) for place in (hub.cache_place(), cache_folder())]
    return memory.Room(host.host_memory()[1], free, min((size for size in disks if size is not None), default=None))
