"""How people name widths, layers, L0s and amounts of memory, and how layers are told back to them."""

from __future__ import annotations

import pytest

from knowscope_tui.core.dictionaries import (
    DictionarySource,
    parse_bytes,
    parse_l0,
    parse_layers,
    parse_width,
    span,
    width_label,
)
from knowscope_tui.core.units import SiteKind
from knowscope_tui.errors import KnowscopeError, UsageError

NO_NUMBER = ["", " ", "k", "x", "-1", "-1k", "1.5.2", "1e3", "nan", "inf", "16 k x", "[bold]", "16\x1b[31m"]
"""What is none of these, wherever it is typed."""


def refused(error: KnowscopeError, text: str) -> None:
    """What every refusal has: the text as it was typed, and an example of how to write it."""
    assert error.what.startswith(repr(text))
    assert error.hint.startswith("Write ")


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("16k", 16_384),
        ("16K", 16_384),
        ("  16k ", 16_384),
        ("32k", 32_768),
        ("65k", 65_536),
        ("131k", 131_072),
        ("262k", 262_144),
        ("524k", 524_288),
        ("1m", 1_048_576),
        ("1M", 1_048_576),
        ("1k", 1_024),
        ("24k", 24_576),  # no power of two: 24 × 1,024
        ("20k", 20_480),
        ("3m", 3_145_728),
        ("16384", 16_384),
        ("512", 512),
        ("1", 1),
    ],
)
def test_a_width_is_read_as_published_labels_mean_it(text: str, width: int) -> None:
    assert parse_width(text) == width


@pytest.mark.parametrize("text", [*NO_NUMBER, "0", "0k", "16g", "16kk", "16.5k", "1 6k", "1.5"])
def test_what_is_no_width_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_width(text)
    refused(error.value, text)


@pytest.mark.parametrize(
    ("width", "label"),
    [(1, "1"), (512, "512"), (1_024, "1k"), (16_384, "16k"), (65_536, "65k"), (131_072, "131k"), (1_048_576, "1m")],
)
def test_a_width_is_told_as_it_is_published(width: int, label: str) -> None:
    assert width_label(width) == label


@pytest.mark.parametrize("power", range(21))
def test_a_label_of_a_published_width_is_read_back_as_that_width(power: int) -> None:
    assert parse_width(width_label(2**power)) == 2**power


@pytest.mark.parametrize(
    ("text", "layers"),
    [
        ("10-20", (10, 20)),
        (" 10 - 20 ", (10, 20)),
        ("12", (12, 12)),
        ("0", (0, 0)),
        ("0-0", (0, 0)),
        ("3-3", (3, 3)),
        ("0-9999", (0, 9999)),
    ],
)
def test_layers_are_a_first_and_a_last(text: str, layers: tuple[int, int]) -> None:
    assert parse_layers(text) == layers


@pytest.mark.parametrize("text", [*NO_NUMBER, "20-10", "1-", "-", "1-2-3", "1,2", "10..20", "12345", "1.5", "a-b"])
def test_what_is_no_range_of_layers_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_layers(text)
    refused(error.value, text)


@pytest.mark.parametrize(
    ("text", "l0"),
    [("canonical", None), (" Canonical ", None), ("71", 71.0), (" 40 ", 40.0), ("0.5", 0.5), ("123456", 123456.0)],
)
def test_an_l0_is_a_number_or_the_canonical_one(text: str, l0: float | None) -> None:
    assert parse_l0(text) == l0


@pytest.mark.parametrize("text", [*NO_NUMBER, "0", "0.0", "1234567", "canon", "71 72", "1."])
def test_what_is_no_l0_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_l0(text)
    refused(error.value, text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("123", 123),
        ("123b", 123),
        ("1k", 1_024),
        ("1KiB", 1_024),
        ("1ki", 1_024),
        ("1kB", 1_000),
        ("500MB", 500_000_000),
        ("500MiB", 500 * 1_024**2),
        ("8GiB", 8 * 1_024**3),
        ("8 GiB", 8 * 1_024**3),
        (" 2g ", 2 * 1_024**3),
        ("1.5g", 3 * 1_024**3 // 2),
        ("0.5TB", 500_000_000_000),
        ("1T", 1_024**4),
    ],
)
def test_an_amount_of_memory_is_binary_unless_it_says_bytes_in_thousands(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", [*NO_NUMBER, "8x", "8GG", "GiB", "8 Gi B x", "1,5g", "1p", "8ib8"])
def test_what_is_no_amount_of_memory_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_bytes(text)
    refused(error.value, text)


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ([], "no layers"),
        ([7], "layer 7"),
        ([0, 1], "layers 0 to 1"),
        ([0, 1, 2, 3, 7], "layers 0 to 3, 7"),
        ([7, 3, 1, 2, 0, 7], "layers 0 to 3, 7"),
        ([5, 12, 19], "layers 5, 12, 19"),
        (range(26), "layers 0 to 25"),
    ],
)
def test_layers_are_told_with_their_runs_drawn_together(numbers: list[int], words: str) -> None:
    assert span(numbers) == words


# --- what was named -------------------------------------------------------------------------------------------------


def test_dictionaries_are_named_as_a_release_or_as_a_kind_with_its_folder() -> None:
    assert DictionarySource.parse(" gemma-scope-2b-pt-res ") == DictionarySource(release="gemma-scope-2b-pt-res")
    named = DictionarySource.parse("mlp_out=/a/folder=with equals")
    assert named == DictionarySource("/a/folder=with equals", SiteKind.MLP_OUT)


@pytest.mark.parametrize("text", ["gemma-scope-2b-pt-res", "resid_post=saes/res", "attn_z=~/a b"])
def test_what_was_named_is_told_as_it_was_typed(text: str) -> None:
    assert str(DictionarySource.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "'' names no dictionaries."),
        ("  ", "'  ' names no dictionaries."),
        ("google/gemma-scope-2b-pt-res", "'google/gemma-scope-2b-pt-res' names no dictionaries."),
        ("./saes", "'./saes' names no dictionaries."),
        ("resid_post=", "'resid_post=' names no folder."),
        ("resid_pre=saes", "There is no site called 'resid_pre'."),
        ("=saes", "There is no site called ''."),
    ],
)
def test_what_names_no_dictionaries_is_refused_with_how_to_name_them(text: str, what: str) -> None:
    with pytest.raises(UsageError) as error:
        DictionarySource.parse(text)
    assert error.value.what == what
    assert error.value.hint
