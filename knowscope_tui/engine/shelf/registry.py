"""The registry of published dictionaries that ships inside sae-lens, read without importing sae-lens.

Parsing its YAML takes a second, so that what was read is kept as JSON in the cache for as long as sae-lens's version
stays the same.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from difflib import get_close_matches
from functools import cache
from importlib import metadata, util
from pathlib import Path
from typing import Any

from knowscope_tui.core.dictionaries import Choice, Entry, Release, choose, parse_width
from knowscope_tui.core.units import Site, SiteKind
from knowscope_tui.errors import DictionaryError
from knowscope_tui.paths import cache_folder

TRANSCODER = "its dictionaries are transcoders, which read one site and write another"
_REFUSED_LOADERS = {
    "gemma_2_transcoder": TRANSCODER,
    "mwhanna_transcoder": TRANSCODER,
    "mntss_clt_layer_transcoder": TRANSCODER,
    "temporal": "the features of its dictionaries depend on earlier tokens too",
}

_KIND_OF_REPO = ((r"-res\b", SiteKind.RESID_POST), (r"-mlp\b", SiteKind.MLP_OUT), (r"-att\b", SiteKind.ATTN_Z))
_KIND_OF_PATH = {"resid_post": SiteKind.RESID_POST, "mlp_out": SiteKind.MLP_OUT, "attn_out": SiteKind.ATTN_Z}
_KIND_OF_LETTER = {"r": SiteKind.RESID_POST, "m": SiteKind.MLP_OUT}

USUAL_RELEASES: dict[str, tuple[str, ...]] = {
    "gemma-2-2b": tuple(f"gemma-scope-2b-pt-{part}-canonical" for part in ("res", "mlp", "att")),
    "gemma-2-9b": tuple(f"gemma-scope-9b-pt-{part}-canonical" for part in ("res", "mlp", "att")),
    "gemma-2-27b": ("gemma-scope-27b-pt-res-canonical",),
    "gemma-2-9b-it": ("gemma-scope-9b-it-res-canonical",),
}
"""The releases that are opened beside a model when none is named. An -it model without its own uses its base's."""


def usual_releases(model: str | None) -> tuple[str, ...]:
    """The releases that are opened beside the published model `model` when none is named."""
    if model is None:
        return ()
    return USUAL_RELEASES.get(model) or USUAL_RELEASES.get(model.removesuffix("-it"), ())


def all_releases() -> tuple[Release, ...]:
    """Every release of the registry, in its order. Raises `DictionaryError` when sae-lens is not installed."""
    return tuple(map(_release, _registry()))


def find_release(name: str) -> Release:
    """The release called `name`. Raises `DictionaryError` with the closest names."""
    if name not in _registry():
        close = get_close_matches(name, _registry(), n=3, cutoff=0.5)
        hint = f"Did you mean {', '.join(close)}?" if close else "See `knowscope-tui saes list`."
        raise DictionaryError(f"There is no release called {name!r}.", hint)
    return _release(name)


def entries_of(name: str, choice: Choice) -> tuple[Entry, ...]:
    """The entries of a release that `choice` names; an L0 is looked up in the set that has several.

    Raises `DictionaryError`.
    """
    full = name.removesuffix("-canonical")
    return choose(find_release(full if choice.l0 is not None else name), choice)


def search(words: str = "", model: str | None = None) -> tuple[Release, ...]:
    """Releases for `model` whose name, repository, model or sites hold every one of `words`."""
    wanted = words.lower().split()
    return tuple(
        release
        for release in all_releases()
        if (model is None or fits_model(release, model)) and all(word in _searched(release) for word in wanted)
    )


def fits_model(release: Release, model: str) -> bool:
    """Whether `release` was trained on `model`, or on the model that `model` was tuned from."""
    same = root_name(release.model) == root_name(model)
    return same and (is_tuned(model) or not is_tuned(release.model))


def known_model(name: str) -> str | None:
    """The published model that `name` is called, with or without its owner; None for one that no release is for."""
    plain = plain_name(name)
    return plain if root_name(name) in _known_roots() else None


@cache
def _known_roots() -> frozenset[str]:
    return frozenset(root_name(str(content["model"])) for content in _registry().values())


_TUNED = r"-(it|instruct|chat)"
_VARIANT = re.compile(rf"({_TUNED}|-pt|-base|-v\d+(\.\d+)?)+$")


def is_tuned(model: str) -> bool:
    """Whether a name says that its model was tuned to follow instructions."""
    return re.search(rf"{_TUNED}(-|$)", plain_name(model)) is not None


def root_name(model: str) -> str:
    """What the pretrained and the tuned forms of a model have in common: gemma-2-2b-it → gemma-2-2b."""
    return _VARIANT.sub("", plain_name(model).removeprefix("meta-"))


def plain_name(model: str) -> str:
    """A model's name without owner and revision, in lower case; other spellings of one model made one."""
    tail = model.partition("@")[0].rstrip("/").rpartition("/")[2].lower()
    return {"gpt2": "gpt2-small", "gemma-2-2b-pt": "gemma-2-2b"}.get(tail, tail)


def _searched(release: Release) -> str:
    kinds = " ".join(kind.value for kind in release.kinds)
    return f"{release.name} {release.repo} {release.model} {kinds}".lower()


# --- reading it -----------------------------------------------------------------------------------------------------


@cache
def _registry() -> dict[str, Any]:
    """Release → what the YAML says of it."""
    source = _yaml_file()
    copy = cache_folder() / f"registry-{metadata.version('sae-lens')}.json"
    kept = _kept(copy)
    if kept is not None:
        return kept
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    with source.open("rb") as file:
        content: dict[str, Any] = yaml.load(file, Loader=loader)
    _keep(copy, content)
    return content


def _yaml_file() -> Path:
    spec = util.find_spec("sae_lens")  # finds the package without importing it
    for folder in (spec.submodule_search_locations or []) if spec else []:
        file = Path(folder) / "pretrained_saes.yaml"
        if file.is_file():
            return file
    raise DictionaryError("sae-lens is not installed, and with it the registry.", "Install it: pip install sae-lens.")


def _kept(copy: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(copy.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = isinstance(content, dict) and content and all(isinstance(said, dict) for said in content.values())
    return content if whole else None


def _keep(copy: Path, content: Mapping[str, Any]) -> None:
    """Leaves a copy for the next start; a cache that cannot be written costs a second, no more."""
    partial = copy.with_name(f".{copy.name}.{os.getpid()}.partial")
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(content), encoding="utf-8")
        partial.replace(copy)
    except OSError:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


# --- what it means --------------------------------------------------------------------------------------------------


@cache
def _release(name: str) -> Release:
    content = _registry()[name]
    loader = content.get("conversion_func") or "sae_lens"
    repo, model = str(content["repo_id"]), _corrected_model(name, str(content["model"]))
    entries = tuple(_entry(name, repo, loader, listed) for listed in content["saes"])
    return Release(name, repo, model, entries, _why_not(loader, model, entries))


def _corrected_model(release: str, model: str) -> str:
    """The registry gives Gemma Scope's dictionaries of the instruction-tuned 9B the pretrained model's name."""
    return f"{model}-it" if "9b-it" in release and not model.endswith("-it") else model


def _why_not(loader: str, model: str, entries: Iterable[Entry]) -> str:
    if loader in _REFUSED_LOADERS:
        return _REFUSED_LOADERS[loader]
    if not _COVERED.search(plain_name(model)):
        return f"no site table covers the model {model}"
    kept = list(entries)
    if all("transcoder" in entry.path or entry.path.startswith("clt") for entry in kept):
        return TRANSCODER
    return "" if any(entry.site for entry in kept) else "its dictionaries read no site that is known here"


_COVERED = re.compile(
    r"^(gemma-2-|gemma-3-|gemma-2b|gpt2|(meta-)?llama-3|mistral-7b|qwen2\.5-|qwen3-\d|deepseek-r1-distill-llama)"
    r"(?!.*-a\d+b)"
)
"""Published models of the families in `engine.families`; mixtures of experts (…-A3B) have no single down_proj."""


def _entry(release: str, repo: str, loader: str, listed: Mapping[str, Any]) -> Entry:
    id, path = str(listed["id"]), str(listed.get("path", listed["id"]))
    l0 = l0_in(path) or listed.get("l0") or _l0_of_label(path)  # The registry's own figure is wrong for one entry.
    return Entry(
        release=release,
        id=id,
        repo=repo,
        path=path,
        site=None if "transcoder" in path or path.startswith("clt") else _site(repo, loader, id, path),
        width=_width(repo, loader, id, path),
        l0=float(l0) if l0 else None,
        canonical=id.endswith("/canonical"),
        loader=loader,
    )


def layer_in(path: str) -> int | None:
    """The layer that a published path names, as `layer_12`, `layer12` or `L12`; the last of them."""
    found = re.findall(r"(?:layer_?|[-_/]L)(\d+)", path)
    return int(found[-1]) if found else None


def l0_in(path: str) -> float | None:
    """The L0 that a Gemma Scope path names: `average_l0_105` → 105."""
    match = re.search(r"average_l0_(\d+)", path)
    return float(match[1]) if match else None


def _site(repo: str, loader: str, id: str, path: str) -> Site | None:
    """The site that an entry reads, as far as its names tell."""
    hook = re.search(r"blocks\.\d+\.(?:attn\.|mlp\.)?hook_[a-z]+(?:_[a-z]+)?", id)
    if hook is not None:
        name = hook[0].replace(".hook_z", ".attn.hook_z") if ".attn." not in hook[0] else hook[0]
        return Site.from_transformer_lens(name)
    letter = re.match(r"l(\d+)([rma])_", id)
    if letter is not None:  # Llama Scope
        kind = _KIND_OF_LETTER.get(letter[2])
        return Site(int(letter[1]), kind) if kind else None
    layer = layer_in(id) if layer_in(id) is not None else layer_in(path)
    if layer is None:
        return None
    kind = _kind(repo, loader, id, path)
    return Site(layer, kind) if kind else None


def _kind(repo: str, loader: str, id: str, path: str) -> SiteKind | None:
    if loader == "gemma_2":
        return next((kind for pattern, kind in _KIND_OF_REPO if re.search(pattern, repo)), None)
    for word, kind in _KIND_OF_PATH.items():
        if word in path or word in id:
            return kind
    return SiteKind.RESID_POST if loader in ("qwen_scope", "goodfire", "deepseek_r1") else None


def _width(repo: str, loader: str, id: str, path: str) -> int | None:
    for text in (path, id, repo):
        power = re.search(r"width-2pow(\d+)", text)
        if power:
            return int(2 ** int(power[1]))
        label = re.search(r"(?:width_|[-_][wWv](?:\d+_)?|w-)(\d+[kKmM])", text)
        if label:
            return parse_width(label[1])
        if loader == "llama_scope" and (times := re.search(r"-(\d+)x$", text)):
            return int(times[1]) * 4096  # the d_model of the 8B models it was trained on
        plain = re.search(r"(?:_|x)(\d{4,7})(?:\D|$)", id)
        if plain:
            return int(plain[1])
    return None


def _l0_of_label(path: str) -> float | None:
    """An L0 that a repository's or folder's name gives, as `l0_40` or `L0_50`."""
    match = re.search(r"[lL]0[-_](\d+)", path)
    return float(match[1]) if match else None
