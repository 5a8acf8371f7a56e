"""What the sides of the registered hypotheses are worth on their own: first answers, votes at equal tokens, redraws.

comparison.json has pass@1 of every arm; a hypothesis holds another measure against it, of which its row has only the
difference. These are the rates themselves, for a figure that shows all of them on one axis.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from dpr_mini.recipe import Hypothesis, Side
from dpr_mini.reporting.arms import Comparison, rate_over_both
from dpr_mini.reporting.sides import answers, tokens, vote
from dpr_mini.scoring.crossed import matrix
from dpr_mini.scoring.measures import MEASURES, REDRAWN, VOTED, Values
from dpr_mini.scoring.stats import estimate
from dpr_mini.types import ALL, UserError

FIRST, MENDED = "first", "mended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A rate in [0, 1] of an arm on one slice: its mean over n problems and seeds with the 95 % interval over both.

    With one seed the interval is over problems alone. `tokens_mean` are generated tokens for one such answer, all votes
    or draws and checks of it together; None of a first answer, whose tokens nobody counts apart. `votes` are those of
    a majority vote.
    """

    arm: str
    measure: str
    on: str
    n: int
    mean: float
    low: float
    high: float
    per_seed: Mapping[int, float]
    tokens_mean: float | None = None
    votes: int | None = None


def measured(comparison: Comparison, hypotheses: Iterable[Hypothesis]) -> list[Measured]:
    """Every such side once, in the order of the hypotheses; of a side that says what was mended, its first answers.

    A side that cannot be measured is left out: its hypothesis says why.
    """
    found: dict[tuple[str, str, str], Measured] = {}
    for h in hypotheses:
        if h.benchmark not in (ALL, *comparison.slices):
            continue
        for side, other in _sides(h):
            measure = FIRST if side.measure == MENDED else side.measure
            key = side.arm, measure, h.benchmark
            if key in found or any(s.arm not in comparison.arms for s in (side, other)):
                continue
            try:
                if one := _measured(comparison, side, other, measure, h.benchmark):
                    found[key] = one
            except UserError:  # too few draws to vote, or none redrawn: `examine` has the line
                continue
    return list(found.values())


def _sides(h: Hypothesis) -> Iterator[tuple[Side, Side]]:
    """(a side that is a rate other than pass@1, the other one)"""
    than = h.than or h.side
    for side, other in ((h.side, than), (than, h.side)):
        if side.measure in (FIRST, MENDED, REDRAWN, VOTED):
            yield side, other


def _measured(comparison: Comparison, side: Side, other: Side, measure: str, on: str) -> Measured | None:
    where = {"arm": side.arm, "measure": measure, "on": on}
    if measure == VOTED:
        voted = vote(comparison, side, other, on)
        return _rate(voted.values, **where, tokens_mean=voted.tokens, votes=voted.n)
    of = answers(comparison, side, sorted(comparison.arms[side.arm].runs), on)
    if not any(of.values()):
        return None
    values = {s: MEASURES[measure](some) for s, some in of.items()}
    return _rate(values, **where, tokens_mean=None if measure == FIRST else tokens(of))


def _rate(values: Mapping[int, Values], **fields: object) -> Measured:
    rates = matrix(values)
    alone = estimate(rates.mean(axis=1))
    low, high = rate_over_both(rates) or (alone.low, alone.high)
    per_seed = dict(zip(sorted(values), rates.mean(axis=0).tolist(), strict=True))
    return Measured(n=len(rates), mean=alone.mean, low=low, high=high, per_seed=per_seed, **fields)
