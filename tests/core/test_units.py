"""Sites and units: their two spellings, and what is refused."""

from __future__ import annotations

from itertools import product

import pytest

from knowscope_tui.core.units import Family, Site, SiteKind, Unit
from knowscope_tui.errors import UsageError

SITES = [Site(layer, kind) for layer, kind in product((0, 3, 41), SiteKind)]


def families(kind: SiteKind) -> Family:
    return Family.NEURON if kind is SiteKind.MLP_ACT else Family.FEATURE


@pytest.mark.parametrize("site", SITES, ids=str)
def test_a_unit_is_parsed_back_from_its_spelling(site: Site) -> None:
    unit = Unit(site, families(site.kind), 12345)
    assert Unit.parse(str(unit)) == unit
    assert Unit.parse(f"  {unit}\n") == unit


def test_units_are_spelled_as_the_documentation_says() -> None:
    assert str(Unit.feature(20, SiteKind.RESID_POST, 12345)) == "20.resid_post.f12345"
    assert str(Unit.neuron(20, 345)) == "20.mlp_act.n345"


@pytest.mark.parametrize("site", SITES, ids=str)
def test_a_site_is_found_again_by_its_transformer_lens_name(site: Site) -> None:
    assert Site.from_transformer_lens(site.transformer_lens_name) == site


def test_transformer_lens_names_are_those_of_transformer_lens() -> None:
    assert Site(12, SiteKind.RESID_POST).transformer_lens_name == "blocks.12.hook_resid_post"
    assert Site(0, SiteKind.RESID_MID).transformer_lens_name == "blocks.0.hook_resid_mid"
    assert Site(3, SiteKind.MLP_OUT).transformer_lens_name == "blocks.3.hook_mlp_out"
    assert Site(3, SiteKind.ATTN_Z).transformer_lens_name == "blocks.3.attn.hook_z"
    assert Site(3, SiteKind.MLP_ACT).transformer_lens_name == "blocks.3.mlp.hook_post"


@pytest.mark.parametrize("layer", [1, 12])
def test_what_enters_a_layer_is_what_left_the_one_below(layer: int) -> None:
    assert Site.from_transformer_lens(f"blocks.{layer}.hook_resid_pre") == Site(layer - 1, SiteKind.RESID_POST)


@pytest.mark.parametrize(
    "name",
    [
        "blocks.0.hook_resid_pre",  # the embeddings
        "blocks.1.hook_attn_out",
        "blocks.-1.hook_resid_pre",
        "hook_embed",
        "blocks.x.hook_mlp_out",
        "",
        "blocks.1.",
    ],
)
def test_a_hook_that_is_no_site_of_ours_is_none(name: str) -> None:
    assert Site.from_transformer_lens(name) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "f17",
        "4.resid_post",
        "4.resid_post.17",
        "4.resid_post.f",
        "x.resid_post.f1",
        "-1.resid_post.f1",
        "4.resid_post.f-1",
        "4.resid_post.f1 2",
        "4.[bold].f1",
        "4.resid_post.f1\x1b[31m",
        "4.resid_post.f" + "9" * 40,
    ],
)
def test_what_is_no_unit_is_refused_with_both_spellings(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        Unit.parse(text)
    assert "4.resid_post.f17" in str(refused.value)
    assert "4.mlp_act.n345" in str(refused.value)


def test_a_site_that_does_not_exist_is_refused_with_the_list() -> None:
    with pytest.raises(UsageError, match=r"attn_z, mlp_act, mlp_out, resid_mid, resid_post"):
        Unit.parse("4.resid_pre.f17")


@pytest.mark.parametrize("text", ["4.mlp_act.f17", "4.resid_post.n17"])
def test_neurons_and_features_keep_to_their_own_sites(text: str) -> None:
    with pytest.raises(UsageError, match="mixes two kinds"):
        Unit.parse(text)


def test_sites_sort_by_layer_and_units_by_site_then_index() -> None:
    units = [Unit.neuron(2, 0), Unit.feature(1, SiteKind.RESID_POST, 9), Unit.feature(1, SiteKind.RESID_POST, 10)]
    assert sorted(units) == [units[1], units[2], units[0]]
