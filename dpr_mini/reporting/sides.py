"""The sides of hypotheses: which answers they are of, and the majority vote that costs what the other side's costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from dpr_mini.recipe import Side
from dpr_mini.reporting.arms import Comparison
from dpr_mini.scoring.measures import REDRAWN, Values, majority_of, mean_tokens, votes_for
from dpr_mini.types import Graded, UserError


@dataclass(frozen=True, slots=True)
class Vote:
    """A majority vote of `n` answers: its share of right ones by seed and problem, the `tokens` of all n together."""

    n: int
    tokens: float
    values: Mapping[int, Values]


def answers(comparison: Comparison, side: Side, seeds: Sequence[int], on: str) -> dict[int, list[Graded]]:
    """By seed. Raises UserError for redraws of an arm that made none."""
    arm = comparison.arms[side.arm]
    of = arm.redrawn if side.measure == REDRAWN else arm.graded
    return {seed: comparison.within(of[seed], on) for seed in seeds}


def tokens(of: Mapping[int, Sequence[Graded]]) -> float:
    """Generated tokens of an answer, mean over problems and seeds."""
    return fmean(mean_tokens(some) for some in of.values())


def vote(comparison: Comparison, side: Side, other: Side, on: str) -> Vote:
    """Of `side`'s answers as many as cost one of `other`'s, with the seeds that both have; computed once.

    Raises UserError where there are no such seeds, or too few answers.
    """
    key = side.arm, str(other), on
    if key not in comparison.votes:
        seeds = sorted(set(comparison.arms[side.arm].runs) & set(comparison.arms[other.arm].runs))
        if not seeds:
            raise UserError(f"no seed that {side.arm} and {other.arm} both have")
        mine, theirs = (answers(comparison, s, seeds, on) for s in (side, other))
        each = tokens(mine)
        n = votes_for(each, tokens(theirs))
        comparison.votes[key] = Vote(n, n * each, {seed: majority_of(of, n) for seed, of in mine.items()})
    return comparison.votes[key]
