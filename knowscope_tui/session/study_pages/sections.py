"""Findings and configurations as the sections of a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from knowscope_tui.core.studies import PaperClaim, StudyName, StudyResult, Verdict
from knowscope_tui.session.pages.blocks import Block, Code, Page, Paragraph, Picture, Section, Table, Terms
from knowscope_tui.session.study_pages.cells import number
from knowscope_tui.session.study_pages.tables import CLAIM_HEAD, CLAIM_NUMBERS, claim_cells, claims_block, table_block
from knowscope_tui.text import count, duration

MAKER_ONE, MAKER_ALL = "study", "studies"

Drawn = Mapping[str, Picture]
"""Name of a plot → its picture."""

GLOSSARY = {
    "ΔProb": "(P before − P after) / P before of the answer when units are switched off; an answer of several tokens "
    "has the product of their probabilities.",
    "IS": "the interpretability score: Pearson's correlation between a unit's activations and those that are "
    "predicted from an explanation of it.",
    "Rel, Gen, Loc, ΔPPL": "of an edit: the share of facts whose answer is gone, the same over phrasings that it never "
    "saw, the share of other facts that are unchanged, and the relative change of perplexity on other text.",
    "95 % interval": "the middle 95 % of the figure over bootstrap samples of its items (BCa); of a share Wilson's. It "
    "says how far the figure would move on other items of the same kind.",
    "Holds": "the whole interval of what decides lies above the threshold.",
    "Does not hold": "none of the interval lies above the threshold.",
    "Undecided": "the threshold lies inside the interval, or there are too few items for one.",
}


def study_page(result: StudyResult, drawn: Drawn) -> Page:
    """The page of one run."""
    sections = (
        Section("What the paper says, and what was measured", tuple(_claims(result.findings.claims))),
        *_findings_sections(result, drawn),
        *_remarks(result),
        again_section([result]),
        configuration_section(result, "Configuration and hashes"),
        words_section(),
    )
    verdict, sound = verdict_of(result.findings.claims)
    return Page(MAKER_ONE, f"{result.name.value}: {result.title}", verdict, result.question, sound, sections)


def all_page(
    results: Sequence[StudyResult], drawn: Mapping[str, Drawn], left_out: Sequence[tuple[StudyName, str]] = ()
) -> Page:
    """One page over several runs: every claim first, then each study. `drawn` is by study; `left_out` are studies that
    could not be carried out, and why."""
    claims = [claim for result in results for claim in result.findings.claims]
    rows = tuple((result.name.value, *claim_cells(claim)) for result in results for claim in result.findings.claims)
    numbers = tuple(column + 1 for column in CLAIM_NUMBERS)
    listed = Table("Every claim, and what decides it", ("Study", *CLAIM_HEAD), rows, numbers)
    verdict, sound = verdict_of(claims)
    sound = sound and not left_out
    return Page(
        MAKER_ALL,
        "The paper, measured again",
        verdict,
        f"{count(len(results), 'study', 'studies')} on {_model(results[0])}.",
        sound,
        (
            Section("The claims", (listed,) if rows else (Paragraph("None of these studies tests a claim."),)),
            *(_left_out(left_out)),
            *(_chapter(result, drawn[result.name.value]) for result in results),
            again_section(results),
            *(configuration_section(result, f"Configuration of {result.name.value}") for result in results),
            words_section(),
        ),
    )


def verdict_of(claims: Sequence[PaperClaim]) -> tuple[str, bool]:
    """How many claims hold, do not and are undecided, in words, and whether all of them hold."""
    if not claims:
        return "No claim is tested", True
    verdicts = Counter(claim.verdict for claim in claims)
    yes = verdicts[Verdict.HOLDS]
    told = f"{yes} of {count(len(claims), 'claim')} of the paper {'holds' if yes == 1 else 'hold'}"
    if no := verdicts[Verdict.DOES_NOT]:
        told += f", {no} {'does' if no == 1 else 'do'} not"
    if open_ := verdicts[Verdict.UNDECIDED]:
        told += f", {open_} {'is' if open_ == 1 else 'are'} undecided"
    return told, yes == len(claims)


def _left_out(left_out: Sequence[tuple[StudyName, str]]) -> Iterator[Section]:
    if left_out:
        rows = tuple((name.value, why) for name, why in left_out)
        listed = Table("Studies that could not be carried out", ("Study", "Why"), rows)
        yield Section("Left out", (listed,))


def _claims(claims: Sequence[PaperClaim]) -> Iterator[Block]:
    yield claims_block(claims) if claims else Paragraph("This study tests no claim.")


def _findings_sections(result: StudyResult, drawn: Drawn) -> Iterator[Section]:
    if result.findings.plots:
        yield Section("Plots", tuple(drawn[plot.name] for plot in result.findings.plots))
    if result.findings.tables:
        yield Section("Tables", tuple(_tables(result)))


def _tables(result: StudyResult) -> Iterator[Block]:
    for table in result.findings.tables:
        yield table_block(table)
        if table.note:
            yield Paragraph(table.note)


def _chapter(result: StudyResult, drawn: Drawn) -> Section:
    """A study on the page over all."""
    blocks: list[Block] = [Paragraph(result.question), *_claims(result.findings.claims)]
    blocks += [drawn[plot.name] for plot in result.findings.plots]
    blocks += _tables(result)
    for section in _remarks(result):
        blocks += section.blocks
    return Section(f"{result.name.value}: {result.title}", tuple(blocks))


def _remarks(result: StudyResult) -> Iterator[Section]:
    if remarks := (*result.findings.remarks, *result.remarks):
        yield Section("What to know beside the figures", tuple(Paragraph(remark) for remark in remarks))


def again_section(results: Sequence[StudyResult]) -> Section:
    """The commands that make all of it again."""
    commands = [str(result.made_with.get("command") or "") for result in results]
    return Section(
        "How to make it again",
        (
            Paragraph("Each goes on where it was if it is stopped, and shows a finished run without measuring again."),
            Code("\n".join(command for command in commands if command)),
        ),
    )


def configuration_section(result: StudyResult, title: str) -> Section:
    """What the rows depend on, with hashes, and the versions that measured them."""
    asked = dict(result.asked)
    dictionaries = asked.pop("dictionaries", ())
    rows = tuple((key, _told(value)) for key, value in asked.items() if value is not None)
    blocks: list[Block] = [Table("What was asked", ("Entry", "Value"), rows, (), (1,))]
    if dictionaries:
        head = ("Site", "Features", "Dtype", "Fingerprint", "Source")
        listed = tuple(
            tuple(_told(one.get(key)) for key in ("site", "features", "dtype", "fingerprint", "source"))
            for one in dictionaries
        )
        blocks.append(Table("Dictionaries", head, listed, (1,), (3, 4)))
    measured = result.made_with.get("measured") or {}
    if measured.get("items"):
        seconds = float(measured["seconds"])
        each = f"{number(seconds / measured['items'])} s each"
        blocks.append(Paragraph(f"{count(measured['items'], 'item')} were measured in {duration(seconds)}, {each}."))
    versions = result.made_with.get("versions") or {}
    if versions:
        listed = tuple((str(name), str(version)) for name, version in versions.items())
        blocks.append(Table("Versions it was measured with", ("Package", "Version"), listed, (), (1,)))
    return Section(title, tuple(blocks))


def words_section() -> Section:
    """The words of the page."""
    return Section("The words", (Terms(GLOSSARY),))


def _told(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_told(own)}" for key, own in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_told, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _model(result: StudyResult) -> str:
    return f"{result.asked.get('model', 'an unnamed model')} in {result.asked.get('dtype', 'an unnamed dtype')}"
