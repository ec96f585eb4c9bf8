"""The model card of a saved edit: `README.md`, with the hub's front matter and the licence of the base."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from knowscope_tui.core.record import CARD, Row, public_name
from knowscope_tui.session.audit.commands import reproduce
from knowscope_tui.session.audit.way_back import LIMITS
from knowscope_tui.session.pages.markdown import escaped
from knowscope_tui.text import count, signed_percent

CARRIED = (
    "license",
    "license_name",
    "license_link",
    "language",
    "pipeline_tag",
    "extra_gated_heading",
    "extra_gated_prompt",
    "extra_gated_button_content",
)
"""Keys of the base's front matter that hold for what is made from it."""


def model_card(record: Row, base_card: str | None) -> str:
    """The card of a checkpoint with `record`; `base_card` is the base's own, if it has one."""
    edits: Sequence[Row] = record.get("edits") or ()
    proof: Row = record.get("proof") or {}
    parts = [
        _front_matter(record, base_card),
        _opening(record, edits),
        _figures(proof),
        _leaks(proof),
        _use(record),
        _limits(),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def card_in(folder: Path) -> str | None:
    """The model card in a model folder, if there is one."""
    card = folder / CARD
    return card.read_text(encoding="utf-8", errors="replace") if card.is_file() else None


def licence_of(base_card: str | None) -> dict[str, Any]:
    """What a base's card says of its licence."""
    return {key: value for key, value in _carried(base_card).items() if key.startswith("license")}


def _carried(base_card: str | None) -> dict[str, Any]:
    from huggingface_hub import ModelCard

    if not base_card:
        return {}
    try:
        data: Mapping[str, Any] = vars(ModelCard(base_card).data)
    except (ValueError, TypeError):  # A card whose front matter is no YAML carries nothing over.
        return {}
    return {key: data[key] for key in CARRIED if data.get(key)}


def _front_matter(record: Row, base_card: str | None) -> str:
    """YAML that the hub reads, between its two lines."""
    from huggingface_hub import ModelCardData

    from_delta = (record.get("delta") or {}).get("license")
    carried = {**(from_delta if isinstance(from_delta, dict) else {}), **_carried(base_card)}
    name = str(record["base_name"])
    if re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name):
        carried |= {"base_model": name, "base_model_relation": "finetune"}
    card = ModelCardData(library_name="transformers", tags=["knowscope-tui", "model-editing"], **carried)
    return f"---\n{card.to_yaml()}\n---"


def _opening(record: Row, edits: Sequence[Row]) -> str:
    base = escaped(public_name(record))
    facts = list(dict.fromkeys(str(name) for edit in edits for name in edit.get("edited", ())))
    lines = [
        f"# {base}, edited",
        "",
        f"{base} with {count(len(facts), 'fact')} edited in its weights by knowscope-tui. "
        "Every other tensor has the base's bits; the folder loads as any model of its kind does.",
        "",
        "| edit | method | facts | positions changed | share of the weights |",
        "|---|---|---|---|---|",
    ]
    for number, edit in enumerate(edits, start=1):
        share = edit.get("share")
        lines.append(
            f"| {number} | {_method(edit)} | {len(edit.get('edited', ()))} | {edit.get('positions', 0):,} "
            f"| {'–' if share is None else f'{share:.3%}'} |"
        )
    named = ", ".join(map(escaped, facts))
    lines += ["", f"Facts, by id or salted hash: {named or 'none named'}."]
    used = {str(one["source"]): None for edit in edits for one in edit.get("dictionaries", ())}
    if used:
        lines += ["", f"The units are features of {', '.join(map(escaped, used))}."]
    return "\n".join(lines)


def _method(edit: Row) -> str:
    tau2 = edit.get("tau2")
    return escaped(str(edit.get("method", "unknown"))) + (f", τ2 {tau2:.4g}" if tau2 is not None else "")


def _figures(proof: Row) -> str:
    if not proof:
        return "## What it does\n\nIt was not measured."
    after, control = proof["after"], proof.get("control")
    rows = [
        ("Reliability (answer gone)", after["reliability"], "reliability"),
        ("Generalization (gone in other words)", after["generalization"], "generalization"),
        ("Locality (other facts kept)", after["locality"], "locality"),
        *((f"Locality, {escaped(ring)}", figure, None) for ring, figure in after.get("rings", {}).items()),
        ("Retained facts kept", after["retained"], "retained"),
    ]
    table = [
        [title, shown(figure), str(figure["items"]), shown(control["scores"][key]) if control and key else "–"]
        for title, figure, key in rows
    ]
    ppl = after["delta_ppl"]
    control_ppl = signed_percent(control["scores"]["delta_ppl"]["value"]) if control else "–"
    table.append(["ΔPPL on other text", signed_percent(ppl["value"]), str(ppl["items"]), control_ppl])
    head = ["", "value (95 % interval)", "items", "random control"]
    return "## What it does\n\n" + _table(head, table)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table of cells that are escaped already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def shown(figure: Row) -> str:
    """A figure with its interval."""
    if figure.get("value") is None:
        return "–"
    return f"{figure['value']:.3f} ({figure['low']:.3f} – {figure['high']:.3f})"


def _leaks(proof: Row) -> str:
    leaks: Sequence[Row] = proof.get("leaks") or ()
    if not leaks:
        return "## Leak tests\n\nThey were not run."
    table = [
        [escaped(row["test"]), str(row["tested"]), str(len(row["leaking"])), ", ".join(map(escaped, row["leaking"]))]
        for row in leaks
    ]
    return "## Leak tests\n\n" + _table(["test", "facts tested", "leak", "which"], table)


def _use(record: Row) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in (record.get("versions") or {}).items())
    return f"""## How to use and check it

```python
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained("path/to/this/folder")
tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")
```

```sh
knowscope-tui verify path/to/this/folder --facts facts.jsonl   # measures all of the above again
knowscope-tui report path/to/this/folder                       # a page for an auditor
knowscope-tui revert path/to/this/folder --out base            # the base's weights, bit for bit
```

How it was made, with the facts in a file:

```sh
{reproduce(record)}
```

`knowscope_edit.json` holds every figure and setting, `knowscope_delta.safetensors` the exact change. Made with
{versions}."""


def _limits() -> str:
    return f"## What this does not prove\n\n{LIMITS[0]}"
