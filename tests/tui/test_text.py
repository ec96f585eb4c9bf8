"""Numbers and foreign text as cells."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from knowscope_tui import text


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("Paris", "Paris"),
        ("[bold]x[/]", "[bold]x[/]"),
        ("\x1b[31mred", "␛[31mred"),
        ("a\nb\tc", "a␊b␉c"),
        ("\x7f", "␡"),
        ("left\u202eright", "left‹202E›right"),
        ("\x9bA", "‹009B›A"),
        ("zero\u200bwidth", "zero‹200B›width"),
        ("Übergrößenträger 東京", "Übergrößenträger 東京"),
    ],
)
def test_visible_shows_what_a_terminal_would_obey(raw: str, shown: str) -> None:
    assert text.visible(raw) == shown


def test_typed_keeps_one_printable_line() -> None:
    assert text.typed("The\tcapital\r\nof \x1b[31mFrance\x07") == "The capital  of [31mFrance"


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.99, 1.0, 7.0, -1.0])
@pytest.mark.parametrize("width", [0, 1, 4, 14])
def test_a_bar_has_its_width(share: float, width: int) -> None:
    assert cell_len(text.bar(share, width)) == width


def test_a_bar_is_full_at_one_and_visible_above_zero() -> None:
    assert text.bar(1.0, 4) == "████"
    assert text.bar(0.5, 4) == "██  "
    assert text.bar(1e-9, 4) == "▏   "
    assert text.bar(0.0, 4) == "    "


def test_shades_rise() -> None:
    assert "".join(text.shade(value) for value in (0.0, 0.1, 0.3, 0.6, 0.9, 1.0)) == "·░▒▓██"


@pytest.mark.parametrize("value", [0.0, -0.004, 3.14159, -42.5, 99.96, 12345.6, 1e9, -1e9])
def test_a_figure_is_short(value: float) -> None:
    assert len(text.figure(value)) <= 6
    assert float(text.figure(value)) == pytest.approx(value, rel=0.05)
    assert text.figure(-0.0001) == "0.000"


def test_probabilities_never_round_to_nothing() -> None:
    assert text.probability(0.0) == "0.000"
    assert text.probability(1e-9) == "<.001"
    assert text.probability(0.98123) == "0.981"
    assert text.probability(None) == "–"


def test_tokens_lose_their_space_but_not_themselves() -> None:
    assert text.token_text(" France") == "France"
    assert text.token_text("▁France") == "France"
    assert text.token_text("  ") == "␣"
    assert text.token_text("\n") == "␊"


def test_fit_fills_exactly_with_wide_characters() -> None:
    for width in range(1, 12):
        assert cell_len(text.fit("東京タワー", width)) == width


def test_names_are_cut_in_their_middle() -> None:
    assert text.cut_middle("sae_bench_topk_date-1109", 24) == "sae_bench_topk_date-1109"
    assert text.cut_middle("sae_bench_topk_date-1109", 13) == "sae_be…e-1109"
    for width in range(12):
        assert cell_len(text.cut_middle("東京タワー東京", width)) <= width


def test_sizes_and_counts_read_well() -> None:
    assert text.file_size(8_912_345) == "8.9 MB"
    assert text.file_size(999) == "999 bytes"
    assert text.count(1, "matrix", "matrices") == "1 matrix"
    assert text.count(2, "matrix", "matrices") == "2 matrices"
    assert text.percent(0, 10) == "0 %"
    assert text.percent(1, 1_000_000) == "<0.01 %"
