"""What is open, what it takes, what the self-test made of it and what was measured, each in a line. Plain functions on
plain values."""

from __future__ import annotations

from knowscope_tui.core.checks import SelfTest
from knowscope_tui.core.dictionaries import width_label
from knowscope_tui.core.memory import MemoryPlan, Need, Place
from knowscope_tui.core.readings import UnitSet
from knowscope_tui.session.protocol import ModelInfo
from knowscope_tui.text import count, cut, figure, file_size, probability, token_text, visible
from knowscope_tui.tui.effects import Exact


def model_parts(info: ModelInfo) -> list[tuple[str, int]]:
    """What is open, in pieces; the number says in what order pieces give way, the largest first."""
    kinds = " ".join(kind.value for kind in info.dictionary_kinds) or "no dictionaries"
    dtype = info.dtype.replace("bfloat", "bf").replace("float", "f")
    parts = [
        (visible(info.name) + (" chat" if info.chat else ""), 0),
        (f"{info.device} {dtype}", 1),
        (count(info.n_layers, "layer"), 3),
        (kinds, 2),
    ]
    if info.features_per_site:
        parts.append((f"{'/'.join(width_label(width) for width in info.features_per_site)} features/site", 4))
    return parts


def plan_line(plan: MemoryPlan) -> str:
    """What goes where, in one line: cuda:0: model 5.2 GB, encoders 5.8 GB, 78 dictionaries mapped (11.6 GB)."""
    needs = ", ".join(_need(need) for need in plan.needs if need.bytes)
    return visible(f"{plan.device}: {needs}" if needs else plan.device)


def _need(need: Need) -> str:
    if need.place is Place.MAPPED:
        return f"{need.what} mapped ({file_size(need.bytes)})"
    return f"{need.what} {file_size(need.bytes)}"


def named_as_found(test: SelfTest) -> str:
    """How many dictionaries do what their names say: 76/78."""
    whole = len(test.dictionaries)
    return f"{whole - len(test.wrong)}/{whole}"


def verdicts(test: SelfTest) -> tuple[str, ...]:
    """What a self-test found, ever shorter."""
    if test.passed:
        if not test.dictionaries:
            return ("✓ exact",)
        found = named_as_found(test)
        return f"✓ exact · {found} dictionaries as named", f"✓ exact · {found}"
    long, short = [], []
    if test.parity != 0:
        long.append(f"parity {figure(test.parity)}")
        short.append(long[-1])
    if test.wrong:
        whole = count(len(test.dictionaries), "dictionary", "dictionaries")
        long.append(f"{len(test.wrong)} of {whole} {'is' if len(test.wrong) == 1 else 'are'} wrong")
        short.append(f"{len(test.wrong)}/{len(test.dictionaries)} wrong")
    if test.problems:
        long.append(count(len(test.problems), "problem"))
        short.append(long[-1])
    return "! " + " · ".join(long), "! " + " · ".join(short)


def problems(test: SelfTest) -> list[str]:
    """What a self-test found wrong, each in a sentence; of several dictionaries the first speaks for all."""
    said = model_problems(test)
    if test.wrong:
        first, more = test.wrong[0], len(test.wrong) - 1
        others = f" So {'is' if more == 1 else 'are'} {more} more." if more else ""
        said.append(visible(f"The dictionary at {first.site} is wrong: {first.problem.rstrip('.')}.{others}"))
    return said


def model_problems(test: SelfTest) -> list[str]:
    """What is wrong with the model itself, each in a sentence."""
    differs = f"Looking changes the model: logits differ by up to {figure(test.parity)} from a plain forward."
    return [visible(sentence) for sentence in ((differs,) if test.parity != 0 else ()) + test.problems]


def exactly(exact: Exact, *, stopped: bool) -> tuple[str, ...]:
    """How many units have an exact ΔProb, ever shorter."""
    beside = f" beside {len(exact.given.units)} off" if exact.given.units else ""
    if exact.whole:
        return f"all {exact.measured:,} exact{beside}", f"all exact{beside}", "all exact"
    some = f"{exact.measured:,} of {exact.active:,} exact"
    if stopped:
        return f"stopped: {some}{beside}, r goes on", f"stopped: {some}", some
    (features, all_features), (neurons, all_neurons) = exact.features, exact.neurons
    if not all_features:
        of = f"{neurons:,} of {all_neurons:,} neurons exact"
    elif neurons or exact.ended:
        of = f"exact: {features:,} features, {neurons:,} of {all_neurons:,} neurons"
    else:
        of = f"{features:,} of {all_features:,} features exact"
    return f"{of}{beside}", of, f"{some}{beside}", some


def set_found(found: UnitSet) -> str:
    """What a search for the smallest set came to, in a sentence."""
    answer = f"P({cut(token_text(found.answer), 20)})"
    before, after = probability(found.p_before), probability(found.p_after)
    if not found.units:
        if found.reached:
            return f"Nothing needs to be switched off: {answer} is {before} already."
        return f"No feature here lowers {answer}: it stays at {before}."
    how_many = count(len(found.units), "feature")
    brings = "brings" if len(found.units) == 1 else "bring"
    if found.reached:
        return f"{how_many} {brings} {answer} from {before} to {after}."
    return f"Even {how_many} only {brings} {answer} from {before} to {after}."


def done(fraction: float | None) -> str:
    """How far something is, behind the words that say what it does."""
    return "…" if fraction is None else f" {fraction * 100:.0f} %"
