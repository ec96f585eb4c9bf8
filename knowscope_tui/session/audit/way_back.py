"""How to check, undo and make the edit again, what all this does not prove, and what the words mean."""

from __future__ import annotations

from knowscope_tui.core.record import Row
from knowscope_tui.session.audit import commands
from knowscope_tui.session.audit.proof_sections import measured_with
from knowscope_tui.session.pages.blocks import Block, Code, Paragraph, Section, Table, Terms
from knowscope_tui.session.pages.numbers import NONE

LIMITS = (
    "The figures hold for the questions that were asked. That an answer does not come out in any of them does not show "
    "that nothing in the weights is correlated with it, nor that it cannot be taught again.",
    "Locality and ΔPPL are measured on a sample of what the model knows; the intervals say how far they would move on "
    "another sample of the same kind, not on another kind.",
    "The record is written by the program that made the edit. `verify` measures it again from the files; whoever has "
    "to rely on it should run that with facts of their own.",
)

GLOSSARY = {
    "Fact": "a prompt and the answer that the model gives to it, with other phrasings of the prompt.",
    "Name of a fact": "its id, or the beginning of a salted scrypt hash of prompt and answer.",
    "Dictionary": "a sparse autoencoder: it takes a layer's activation apart into features.",
    "Unit": "one feature of a dictionary (20.resid_post.f17) or one neuron of an MLP (20.mlp_act.n345).",
    "Position": "one entry of a weight matrix; here of down_proj, the MLP's second matrix.",
    "τ2": "the threshold, as a share of the largest value, above which an entry is changed.",
    "Reliability": "the share of edited facts, known before, whose answer greedy decoding no longer gives; of an "
    "update, that gives the new one.",
    "Generalization": "the same over phrasings that the edit never saw.",
    "Locality": "the share of other facts, known before, whose answer is unchanged; by ring: of the same subject, of "
    "the same relation, unrelated.",
    "Retained facts": "facts that the edit was told to keep; they are no part of locality.",
    "ΔPPL": "the perplexity afterwards over that before, less one, on held text about other things.",
    "95 % interval": "the middle 95 % of the figure over 1,000 bootstrap samples of its items.",
    "Random control": "as many positions in each matrix, drawn at random and treated the same way.",
    "Leak test": "a way to ask that the edit was not made for; it leaks when the answer comes out.",
    "Delta file": "the exact change, with what it overwrites: applied and reverted, every bit is the base's again.",
}


def check_section(record: Row, folder: str) -> Section:
    """The commands, for the checkpoint in `folder`."""
    blocks: tuple[Block, ...] = (
        Paragraph("Measure every figure of this page again, in a new process, from the files:"),
        Code(commands.verify(record, folder)),
        Paragraph("Take the edit back; the result has the base's bits:"),
        Code(commands.revert(folder)),
        Paragraph(
            "Make it again from the base, with the facts (whose text is in no file of the folder unless asked for):"
        ),
        Code(commands.reproduce(record)),
    )
    return Section("How to check it, undo it, make it again", blocks)


def versions_section(record: Row) -> Section:
    """What it was made and measured with."""
    versions: Row = record.get("versions") or {}
    settings: Row = record.get("settings") or {}
    prints = [
        (f"{key} (salted hash)", str(settings[key])) for key in ("facts", "neighbors", "retain") if settings.get(key)
    ]
    rows = tuple((name, str(version)) for name, version in versions.items())
    blocks: list[Block] = [
        Paragraph(measured_with(record)),
        Table("Versions it was made with", ("Package", "Version"), rows, (), (1,)),
    ]
    if prints:
        blocks.append(Table("The sets of facts", ("Set", "Hash"), tuple(prints), (), (1,)))
    blocks.append(Table("The record", ("Entry", "Value"), (
        ("Format", str(record.get("format", NONE))),
        ("Salt of the names", str(record.get("salt", NONE))),
        ("Chat template", "used" if record.get("chat") else "not used"),
    ), (), (1,)))  # fmt: skip
    return Section("Versions and settings", tuple(blocks))


def limits_section() -> Section:
    """What the figures do not say."""
    return Section("What this does not prove", tuple(Paragraph(text.replace("`", "")) for text in LIMITS))


def glossary_section() -> Section:
    """The words of the page."""
    return Section("The words", (Terms(GLOSSARY),))
