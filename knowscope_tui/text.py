"""How numbers and foreign text become cells: bars, figures, and text that cannot harm a terminal.

Text from a user, a model or a file goes through `visible` before it is drawn, and never through a markup parser.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

from rich.cells import cell_len, set_cell_size

_EIGHTHS = " ▏▎▍▌▋▊▉"
_SHADES = "·░▒▓█"
_UNSAFE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def visible(text: str) -> str:
    """`text` with every character that a terminal might obey or hide replaced by a sign that stands for it."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_visible_character(character) for character in text)


def _visible_character(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    if unicodedata.category(character) in _UNSAFE:
        return f"‹{code:04X}›"
    return character


def typed(text: str) -> str:
    """What an input keeps of `text`: one line of printable characters."""
    if text.isprintable():
        return text
    spaced = "".join(" " if character in "\t\n\r\v\f" else character for character in text)
    return "".join(character for character in spaced if unicodedata.category(character) not in _UNSAFE)


def token_text(token: str) -> str:
    """A token as a reader knows it: no space in front, and a sign where there would be nothing to see."""
    body = token.replace("▁", " ").lstrip(" ")
    return visible(body) if body else "␣"


def fit(text: str, width: int) -> str:
    """`text` in exactly `width` cells: padded, or cut with an ellipsis."""
    if width <= 0:
        return ""
    if cell_len(text) > width:
        return set_cell_size(text, width - 1) + "…"
    return set_cell_size(text, width)


def cut(text: str, width: int) -> str:
    """`text` in at most `width` cells, cut with an ellipsis."""
    return text if cell_len(text) <= width else fit(text, width)


def cut_middle(text: str, width: int) -> str:
    """`text` in at most `width` cells, cut in its middle: for names that differ at their ends."""
    if cell_len(text) <= width or width < 3:
        return cut(text, width)
    tail = ""
    for character in reversed(text):
        if cell_len(character + tail) > (width - 1) // 2:
            break
        tail = character + tail
    return cut(text, width - cell_len(tail)) + tail


def bar(share: float, width: int) -> str:
    """A bar of `width` cells, filled to `share` (0 to 1) in eighths of a cell."""
    if width <= 0:
        return ""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    if share > 0 and not eighths:
        eighths = 1
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(width)


def shade(share: float) -> str:
    """One cell of the heat map for `share` (0 to 1) of the strongest cell."""
    if share <= 0:
        return _SHADES[0]
    return _SHADES[min(1 + int(share * 4), 4)]


def probability(value: float | None) -> str:
    """A probability in five cells; what rounds to nothing says so."""
    if value is None:
        return "–"
    return "<.001" if 0 < value < 0.0005 else f"{value:.3f}"


def share(value: float | None) -> str:
    """A share or a ΔProb with two decimals; `-0.00` is never shown."""
    if value is None:
        return "–"
    text = f"{value:.2f}"
    return "0.00" if text == "-0.00" else text


def figure(value: float) -> str:
    """A number of any size in at most six cells."""
    size = abs(value)
    if size >= 99_999.5:
        return f"{value:.0e}".replace("e+0", "e").replace("e+", "e")
    if size >= 99.95:
        return f"{value:.0f}"
    if size >= 9.995:
        return f"{value:.1f}"
    text = f"{value:.3f}" if size < 0.0995 else f"{value:.2f}"
    return text.removeprefix("-") if float(text) == 0 else text


def signed_percent(value: float | None) -> str:
    """A change as a percentage with its sign."""
    return "–" if value is None else f"{value * 100:+.2f} %"


def percent(part: int, whole: int) -> str:
    """What share `part` is of `whole`, as a percentage."""
    if not whole or not part:
        return "0 %"
    value = part / whole * 100
    return "<0.01 %" if value < 0.01 else f"{value:.2f} %" if value < 10 else f"{value:.0f} %"


def count(number: int, one: str, many: str = "") -> str:
    """`number` with the word that agrees with it."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def file_size(size: int) -> str:
    """A size in bytes as a reader says it."""
    amount = float(size)
    for name in ("bytes", "kB", "MB", "GB"):
        if amount < 1000 or name == "GB":
            break
        amount /= 1000
    return f"{amount:.0f} {name}" if name == "bytes" or amount >= 100 else f"{amount:.1f} {name}"


def duration(seconds: float) -> str:
    """A stretch of time as a reader says it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def plain_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; signs that would end a cell are escaped."""
    lines = [_table_line(head), "|" + "---|" * len(head), *(_table_line(row) for row in rows)]
    return "\n".join(lines)


def _table_line(cells: Sequence[str]) -> str:
    clean = (" ".join(cell.split()).replace("\\", "\\\\").replace("|", "\\|") for cell in cells)
    return "| " + " | ".join(clean) + " |"
