"""The registry of published dictionaries as sae-lens ships it: what its releases hold, and which of them is meant."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from knowscope_tui.core.dictionaries import CANONICAL_L0, Choice, Entry, Release, choose, parse_width
from knowscope_tui.core.units import Site, SiteKind
from knowscope_tui.engine.shelf import registry
from knowscope_tui.engine.shelf.registry import all_releases, find_release, fits_model, plain_name, search
from knowscope_tui.errors import DictionaryError

RESID, MLP, ATTN = SiteKind.RESID_POST, SiteKind.MLP_OUT, SiteKind.ATTN_Z


def widths(*labels: str) -> tuple[int, ...]:
    return tuple(map(parse_width, labels))


def sites(release: Release) -> set[Site]:
    return {entry.site for entry in release.entries if entry.site}


def paths(entries: tuple[Entry, ...]) -> dict[Site, str]:
    """What is chosen, one a site: site → repository and path."""
    found = {entry.site: f"{entry.repo} {entry.path}" for entry in entries if entry.site}
    assert len(found) == len(entries)
    return found


# --- what releases hold ---------------------------------------------------------------------------------------------


def test_looking_releases_up_imports_neither_torch_nor_sae_lens() -> None:
    code = """
import sys
from knowscope_tui.core.dictionaries import Choice, choose
from knowscope_tui.engine.shelf import registry
release = registry.find_release("gemma-scope-2b-pt-res-canonical")
assert len(choose(release, Choice())) == 26
assert registry.search("res", "gemma-2-2b")
heavy = ("torch", "sae_lens", "transformers", "transformer_lens", "numpy", "safetensors", "huggingface_hub")
print([name for name in heavy if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("part", "kind", "labels"),
    [
        ("res", RESID, ("16k", "32k", "65k", "262k", "524k", "1m")),
        ("mlp", MLP, ("16k", "65k")),
        ("att", ATTN, ("16k", "65k")),
    ],
)
def test_the_canonical_releases_of_the_2b_have_every_layer(part: str, kind: SiteKind, labels: tuple[str, ...]) -> None:
    release = find_release(f"gemma-scope-2b-pt-{part}-canonical")
    assert release.repo == f"google/gemma-scope-2b-pt-{part}"
    assert (release.model, release.why_not, release.kinds) == ("gemma-2-2b", "", (kind,))
    assert release.layers == tuple(range(26))
    assert release.widths == widths(*labels)
    assert all(entry.canonical and entry.l0 for entry in release.entries)
    chosen = choose(release, Choice())
    assert [entry.site for entry in chosen] == [Site(layer, kind) for layer in range(26)]
    assert {entry.width for entry in chosen} == {16_384}


def test_an_entry_says_where_it_lies_and_what_it_is() -> None:
    (entry,) = choose(find_release("gemma-scope-2b-pt-res-canonical"), Choice(layers=(20, 20)))
    assert entry == Entry(
        release="gemma-scope-2b-pt-res-canonical",
        id="layer_20/width_16k/canonical",
        repo="google/gemma-scope-2b-pt-res",
        path="layer_20/width_16k/average_l0_71",
        site=Site(20, RESID),
        width=16_384,
        l0=71.0,
        canonical=True,
        loader="gemma_2",
    )


def test_dictionaries_of_the_embeddings_read_no_site_of_ours_and_are_never_chosen() -> None:
    release = find_release("gemma-scope-2b-pt-res")
    embeddings = [entry for entry in release.entries if entry.site is None]
    assert embeddings
    assert all("embedding" in entry.path for entry in embeddings)
    assert {entry.width for entry in embeddings} == {4_096}
    with pytest.raises(DictionaryError, match="no dictionary of 4k features there"):
        choose(release, Choice(width=4_096))


def test_the_registrys_slip_about_the_instruction_tuned_9b_is_corrected() -> None:
    assert registry._registry()["gemma-scope-9b-it-res"]["model"] == "gemma-2-9b", "corrected there: drop it here"
    for name in ("gemma-scope-9b-it-res", "gemma-scope-9b-it-res-canonical"):
        release = find_release(name)
        assert release.model == "gemma-2-9b-it"
        assert release.layers == (9, 20, 31)
    assert find_release("gemma-scope-9b-pt-res").model == "gemma-2-9b"


def test_the_l0_in_a_path_counts_more_than_the_registrys() -> None:
    """An entry of the canonical 9B release gives another figure than the file that it names."""
    for release in all_releases():
        for entry in release.entries:
            named = registry.l0_in(entry.path)
            assert named is None or entry.l0 == named, entry


@pytest.mark.parametrize(("factor", "width"), [("8x", 32_768), ("32x", 131_072)])
def test_llama_scope_names_its_sites_by_a_letter(factor: str, width: int) -> None:
    for letter, kind in (("r", RESID), ("m", MLP)):
        release = find_release(f"llama_scope_lx{letter}_{factor}")
        assert sites(release) == {Site(layer, kind) for layer in range(32)}
        assert release.widths == (width,)
        assert release.why_not == ""
    attention = find_release(f"llama_scope_lxa_{factor}")
    assert sites(attention) == set(), "what attention writes into the stream is none of our sites"
    assert attention.why_not == "its dictionaries read no site that is known here"


def test_what_enters_a_layer_of_gpt2_is_what_left_the_one_below() -> None:
    release = find_release("gpt2-small-res-jb")
    by_id = {entry.id: entry.site for entry in release.entries}
    assert len(by_id) == 13
    assert by_id["blocks.0.hook_resid_pre"] is None
    for layer in range(1, 12):
        assert by_id[f"blocks.{layer}.hook_resid_pre"] == Site(layer - 1, RESID)
    assert by_id["blocks.11.hook_resid_post"] == Site(11, RESID)
    assert [entry.site for entry in choose(release, Choice())] == [Site(layer, RESID) for layer in range(12)]


@pytest.mark.parametrize(
    ("name", "expected", "labels"),
    [
        ("gpt2-small-hook-z-kk", {Site(layer, ATTN) for layer in range(12)}, ()),
        ("gpt2-small-mlp-tm", {Site(layer, MLP) for layer in range(12)}, ()),
        ("gpt2-small-resid-mid-v5-32k", {Site(layer, SiteKind.RESID_MID) for layer in range(12)}, ()),
        ("gemma-scope-2-1b-pt-res-all", {Site(layer, RESID) for layer in range(26)}, ("16k", "262k")),
        ("gemma-scope-2-1b-pt-att", {Site(layer, ATTN) for layer in (7, 13, 17, 22)}, ("16k", "65k", "262k")),
        ("gemma-scope-2-270m-it-mlp", {Site(layer, MLP) for layer in (5, 9, 12, 15)}, ("16k", "65k", "262k")),
        ("gemma-2-2b-res-matryoshka-dc", {Site(layer, RESID) for layer in range(25)}, ("32k",)),
        ("sae_bench_gemma-2-2b_topk_width-2pow14_date-1109", {Site(layer, RESID) for layer in (5, 12, 19)}, ("16k",)),
        ("qwen-scope-3-8b-base-w64k-l50", {Site(layer, RESID) for layer in range(36)}, ("65k",)),
        ("goodfire-llama-3.1-8b-instruct", {Site(19, RESID)}, ()),
        ("deepseek-r1-distill-llama-8b-qresearch", {Site(19, RESID)}, ()),
        ("llama_scope_r1_distill", {Site(layer, RESID) for layer in range(32)}, ()),
        ("mistral-7b-res-wg", {Site(layer, RESID) for layer in (7, 15, 23)}, ()),
    ],
)
def test_every_layout_is_understood(name: str, expected: set[Site], labels: tuple[str, ...]) -> None:
    release = find_release(name)
    assert sites(release) == expected
    assert release.widths == widths(*labels)
    assert release.why_not == ""


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("gemma-scope-2b-pt-transcoders", "transcoders, which read one site and write another"),
        ("gemma-scope-2-1b-pt-transcoders", "transcoders, which read one site and write another"),
        ("gemma-scope-2-4b-it-transcoders-all", "transcoders, which read one site and write another"),
        ("mwhanna-qwen3-4b-transcoders", "transcoders, which read one site and write another"),
        ("mntss-gemma-2-2b-2.5m-clt-as-per-layer", "transcoders, which read one site and write another"),
        ("temporal-sae-gemma-2-2b", "the features of its dictionaries depend on earlier tokens too"),
        ("pythia-70m-deduped-res-sm", "no site table covers the model pythia-70m-deduped"),
        ("gpt-oss-20b-andyrdt", "no site table covers the model openai/gpt-oss-20b"),
        ("qwen-scope-3-30b-a3b-base-w32k-l50", "no site table covers the model Qwen/Qwen3-30B-A3B-Base"),
        ("gpt2-small-attn-out-v5-32k", "its dictionaries read no site that is known here"),
    ],
)
def test_what_cannot_be_used_says_why(name: str, reason: str) -> None:
    release = find_release(name)
    assert release.why_not.endswith(reason)
    with pytest.raises(DictionaryError) as refused:
        choose(release, Choice())
    assert refused.value.what == f"{name} cannot be used here: {release.why_not}."
    assert refused.value.hint


def test_every_release_can_be_chosen_from_or_says_why_not() -> None:
    for release in all_releases():
        if not release.why_not:
            chosen = choose(release, Choice())
            assert chosen
            assert len({entry.site for entry in chosen}) == len(chosen), release.name
        assert all(entry.release == release.name and entry.path and entry.repo for entry in release.entries)


# --- which of them is meant -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["res", "mlp", "att"])
@pytest.mark.parametrize("width", [None, 16_384, 65_536])
def test_with_nothing_named_a_whole_release_gives_what_the_canonical_one_does(part: str, width: int | None) -> None:
    whole, canonical = (find_release(f"gemma-scope-2b-pt-{part}{end}") for end in ("", "-canonical"))
    assert paths(choose(whole, Choice(width))) == paths(choose(canonical, Choice(width)))


@pytest.mark.parametrize("name", ["2b-pt-res", "2b-pt-mlp", "2b-pt-att", "9b-pt-res", "9b-pt-att", "27b-pt-res"])
def test_the_canonical_l0_is_the_one_closest_to_100(name: str) -> None:
    """In every width and layer. Where two are as close as each other the canonical release may name either."""
    whole, canonical = (find_release(f"gemma-scope-{name}{end}") for end in ("", "-canonical"))
    for width in canonical.widths:
        chosen = {entry.site: entry for entry in choose(whole, Choice(width))}
        for entry in choose(canonical, Choice(width)):
            ours = chosen[entry.site].l0
            assert ours is not None
            assert entry.l0 is not None
            assert abs(ours - CANONICAL_L0) == abs(entry.l0 - CANONICAL_L0), entry


@pytest.mark.parametrize(("l0", "taken"), [(1, 22), (38, 38), (40, 38), (71, 71), (90, 71), (130, 139), (9999, 294)])
def test_an_l0_takes_the_closest_one(l0: float, taken: float) -> None:
    release = find_release("gemma-scope-2b-pt-res")
    offered = sorted(e.l0 or 0 for e in release.entries if e.site == Site(20, RESID) and e.width == 16_384)
    assert offered == [22, 38, 71, 139, 294]
    (entry,) = choose(release, Choice(16_384, l0, (20, 20)))
    assert entry.l0 == taken


def test_an_l0_is_looked_up_even_where_a_canonical_one_is_named() -> None:
    release = find_release("gemma-scope-2b-pt-res")
    canonical, other = (choose(release, Choice(l0=l0, layers=(20, 20)))[0].path for l0 in (None, 400))
    assert canonical.endswith("average_l0_71")
    assert other.endswith("average_l0_294")


def test_layers_choose_among_layers_and_both_ends_count() -> None:
    release = find_release("gemma-scope-2b-pt-res")
    chosen = choose(release, Choice(layers=(24, 40)))
    assert [entry.site for entry in chosen] == [Site(24, RESID), Site(25, RESID)]


def test_the_common_width_is_taken_where_there_is_one_and_the_smallest_where_not() -> None:
    assert {entry.width for entry in choose(find_release("gemma-scope-2-1b-pt-res"), Choice())} == {16_384}
    assert {entry.width for entry in choose(find_release("gemma-scope-27b-pt-res"), Choice())} == {131_072}
    assert choose(find_release("gpt2-small-res-jb-feature-splitting"), Choice())[0].width == min(
        find_release("gpt2-small-res-jb-feature-splitting").widths
    )


@pytest.mark.parametrize(
    ("name", "choice", "message"),
    [
        (
            "gemma-scope-2b-pt-mlp",
            Choice(width=1_048_576),
            "gemma-scope-2b-pt-mlp has no dictionary of 1m features there. It has 16k, 65k.",
        ),
        (
            "gemma-scope-2b-pt-res",
            Choice(width=1_048_576, layers=(0, 1)),
            "gemma-scope-2b-pt-res has no dictionary of 1m features there. "
            "It has 4k, 16k, 32k, 65k, 131k, 262k, 524k, 1m.",
        ),
        (
            "gemma-scope-2b-pt-res",
            Choice(layers=(26, 30)),
            "gemma-scope-2b-pt-res has no dictionary in layers 26 to 30. It has layers 0 to 25.",
        ),
        (
            "gemma-scope-9b-it-res",
            Choice(layers=(0, 8)),
            "gemma-scope-9b-it-res has no dictionary in layers 0 to 8. It has layers 9, 20, 31.",
        ),
    ],
)
def test_a_width_or_layer_that_is_not_there_is_refused_with_what_is(name: str, choice: Choice, message: str) -> None:
    with pytest.raises(DictionaryError) as refused:
        choose(find_release(name), choice)
    assert str(refused.value) == message


# --- finding them ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "suggested"),
    [
        ("gemma-scope-2b-pt-res-canonnical", "gemma-scope-2b-pt-res-canonical"),
        ("gemma-scope-2b-res", "gemma-scope-2b-pt-res"),
        ("gpt2-small-resjb", "gpt2-small-res-jb"),
        ("llama-scope-lxr-8x", "llama_scope_lxr_8x"),
    ],
)
def test_an_unknown_name_suggests_close_ones(typed: str, suggested: str) -> None:
    with pytest.raises(DictionaryError) as refused:
        find_release(typed)
    assert refused.value.what == f"There is no release called {typed!r}."
    assert refused.value.hint.startswith("Did you mean ")
    assert suggested in refused.value.hint


def test_a_name_like_no_other_is_answered_with_where_to_look() -> None:
    with pytest.raises(DictionaryError) as refused:
        find_release("zzzzzz")
    assert refused.value.hint == "See `knowscope-tui saes list`."


def test_a_search_wants_every_word_somewhere() -> None:
    found = search("scope 2b res canonical")
    assert [release.name for release in found] == ["gemma-scope-2b-pt-res-canonical"]
    assert search("  ATTN_Z gemma-2-2b ")
    assert all(ATTN in release.kinds for release in search("attn_z", "google/gemma-2-2b"))
    assert search("no such word") == ()
    assert len(search()) == len(all_releases()) > 150


@pytest.mark.parametrize(
    ("model", "trained_on", "fits"),
    [
        ("gemma-2-2b", "gemma-2-2b", True),
        ("google/gemma-2-2b@main", "gemma-2-2b", True),
        ("google/gemma-2-2b-it", "gemma-2-2b", True),
        ("gemma-2-9b", "gemma-2-9b-it", False),
        ("google/gemma-2-9b-it", "gemma-2-9b-it", True),
        ("google/gemma-3-1b-it", "google/gemma-3-1b-pt", True),
        ("google/gemma-3-1b-pt", "google/gemma-3-1b-it", False),
        ("openai-community/gpt2", "gpt2-small", True),
        ("gpt2-xl", "gpt2-small", False),
        ("gemma-2-27b", "gemma-2-2b", False),
    ],
)
def test_a_release_fits_the_model_it_was_trained_on_and_what_was_tuned_from_it(
    model: str, trained_on: str, fits: bool
) -> None:
    assert fits_model(Release("r", "owner/r", trained_on, ()), model) == fits


def test_one_model_has_one_plain_name() -> None:
    assert plain_name("google/Gemma-2-2B-pt@abc/") == plain_name("gemma-2-2b") == "gemma-2-2b"
    assert plain_name("/some/folder/gpt2/") == "gpt2-small"


def test_every_usual_release_is_there_and_can_be_used() -> None:
    for model, names in registry.USUAL_RELEASES.items():
        for name in names:
            assert find_release(name).why_not == ""
            assert fits_model(find_release(name), model)


# --- the copy in the cache ------------------------------------------------------------------------------------------


SMALL = """
gpt2-small-res-jb:
  repo_id: jbloom/GPT2-Small-SAEs-Reformatted
  model: gpt2-small
  conversion_func: null
  saes:
  - {id: blocks.1.hook_resid_pre, path: blocks.1.hook_resid_pre, l0: 12.0}
  - {id: blocks.11.hook_resid_post, path: blocks.11.hook_resid_post, l0: 60.0}
"""


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A small registry, a cache of its own and nothing remembered; the file that the registry's copy is kept in."""
    (tmp_path / "registry.yaml").write_text(SMALL, encoding="utf-8")
    monkeypatch.setattr(registry, "_yaml_file", lambda: tmp_path / "registry.yaml")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    forget()
    yield tmp_path / "cache" / "knowscope-tui" / f"registry-{metadata.version('sae-lens')}.json"
    forget()


def forget() -> None:
    """As at a new start."""
    registry._registry.cache_clear()
    registry._release.cache_clear()


def test_what_was_read_is_kept_and_read_from_there_the_next_time(copy: Path) -> None:
    whole = registry._registry()
    assert list(whole) == ["gpt2-small-res-jb"]
    assert json.loads(copy.read_text(encoding="utf-8")) == whole
    assert [path.name for path in copy.parent.iterdir()] == [copy.name], "nothing half-written stays"
    copy.write_text(json.dumps({"marked": whole["gpt2-small-res-jb"]}), encoding="utf-8")
    forget()
    assert [release.name for release in all_releases()] == ["marked"]


def test_a_copy_of_another_version_is_not_used(copy: Path) -> None:
    copy.parent.mkdir(parents=True)
    old = {"old": {"repo_id": "a/b", "model": "x", "saes": []}}
    copy.with_name("registry-6.0.0.json").write_text(json.dumps(old), encoding="utf-8")
    assert list(registry._registry()) == ["gpt2-small-res-jb"]


@pytest.mark.parametrize("content", [b"", b'{"gpt2-small-res-jb": {"repo', b"[1, 2]", b"{}", b'{"a": 1}', b"\xff\xfe"])
def test_a_broken_copy_is_survived_and_made_again(copy: Path, content: bytes) -> None:
    copy.parent.mkdir(parents=True)
    copy.write_bytes(content)
    assert find_release("gpt2-small-res-jb").layers == (0, 11)
    assert list(json.loads(copy.read_text(encoding="utf-8"))) == ["gpt2-small-res-jb"]


def test_a_folder_in_the_copys_place_is_survived(copy: Path) -> None:
    copy.mkdir(parents=True)
    assert find_release("gpt2-small-res-jb").layers == (0, 11)
    assert list(copy.parent.iterdir()) == [copy]


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "registry.yaml"))
    assert find_release("gpt2-small-res-jb").layers == (0, 11)


def test_without_sae_lens_the_registry_is_told_to_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DictionaryError, match="sae-lens is not installed"):
        registry._yaml_file()


@pytest.mark.parametrize(
    ("model", "release"),
    [
        ("google/gemma-2-2b-it", "gemma-scope-2b-pt-res-canonical"),
        ("google/gemma-2-9b-it", "gemma-scope-9b-it-res-canonical"),
        ("mistralai/Mistral-7B-v0.1", "mistral-7b-res-wg"),
        ("Qwen/Qwen3-8B", "qwen-scope-3-8b-base-w64k-l50"),
        ("unsloth/Meta-Llama-3.1-8B-Instruct", "llama_scope_lxr_8x"),
        ("openai-community/gpt2", "gpt2-small-res-jb"),
    ],
)
def test_a_tuned_model_or_another_spelling_finds_the_releases_of_its_base(model: str, release: str) -> None:
    assert release in {found.name for found in registry.search("", model)}
    assert registry.known_model(model) is not None


def test_a_base_model_is_not_offered_what_was_trained_on_its_tuned_form() -> None:
    names = {release.name for release in registry.search("", "google/gemma-2-9b")}
    assert "gemma-scope-9b-pt-res" in names
    assert "gemma-scope-9b-it-res" not in names


@pytest.mark.parametrize("model", ["UCLA-AGI/Gemma-2-9B-It-SPPO-Iter3", "google/gemma-1.1-2b-it", "me/my-tune"])
def test_a_model_that_no_release_is_for_is_not_guessed_from_its_name(model: str) -> None:
    assert registry.known_model(model) is None
