"""The methods of an edit in plain words, a sentence each."""

from __future__ import annotations

from knowscope_tui.core.edits import Method

METHODS: dict[Method, str] = {
    Method.POSITIONS: "zeroes the weights that write most into the units on this fact",
    Method.ROWS: "zeroes whole rows of weights, where the units point most",
    Method.NEURONS: "zeroes the columns of the strongest neurons: the older way",
    Method.PROJECTION: "takes the units' directions out of the weights altogether",
    Method.RANDOM: "zeroes as many weights, drawn at random: the control of positions",
    Method.PRECISE: "takes what the units write on the facts out, holding others still",
    Method.REFINED: "the units choose a few weights; only their values are optimised",
    Method.REFINED_RANDOM: "optimises as many weights, drawn at random: the control of refined",
    Method.GRADIENT: "optimises every weight that it can: the baseline to compare with",
}
HAS_BUDGET = (Method.REFINED, Method.REFINED_RANDOM)
"""Methods that are told how much of the model they may change."""
