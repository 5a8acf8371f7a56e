"""Registered hypotheses put to the test on an experiment's arms: one line each, whatever came of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from dpr_mini.recipe import Hypothesis, Side
from dpr_mini.reporting.arms import Comparison
from dpr_mini.reporting.sides import answers, vote
from dpr_mini.scoring.crossed import Crossed, crossed, equivalence, holm, matrix, unbalanced
from dpr_mini.scoring.measures import MEASURES, SPARSE, VOTED, Values
from dpr_mini.scoring.stats import refuse_other_problems
from dpr_mini.types import ALL, UserError

LEVEL = 0.05  # two-sided, of a whole family


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """A hypothesis with what was found; `result` is None, and `missing` says why, where it could not be tested.

    `p` is two-sided, or for an equivalence that of two one-sided tests, by the crossed interval's t; `p_holm` is it
    within its family, of which a hypothesis that could not be tested is a part with p = 1. `left_out` counts problems
    without a value, `votes` the answers of a majority vote.
    """

    name: str
    claim: str
    family: str
    on: str
    side: str
    than: str
    margin: float | None
    equivalent: float | None
    seeds: tuple[int, ...] = ()
    result: Crossed | None = None
    p: float | None = None
    p_holm: float | None = None
    left_out: int = 0
    votes: int | None = None
    verdict: str = ""
    missing: str = ""


def examine(comparison: Comparison, hypotheses: Iterable[Hypothesis]) -> list[Tested]:
    """Every hypothesis in its order, with Holm's p within its family."""
    found = [_tested(comparison, h) for h in hypotheses]
    for family in dict.fromkeys(t.family for t in found):
        at = [i for i, t in enumerate(found) if t.family == family]
        for i, p in zip(at, holm([1.0 if found[i].p is None else found[i].p for i in at]), strict=True):
            if found[i].result:
                found[i] = replace(found[i], p_holm=p, verdict=verdict(found[i].result, p, found[i].equivalent))
    return found


def to_row(tested: Tested) -> dict[str, Any]:
    """As comparison.json holds it."""
    return asdict(tested)


def verdict(result: Crossed, p_holm: float, equivalent: float | None) -> str:
    """What may be said, in words; `p_holm` is of the difference, or of the equivalence within `equivalent`."""
    shown = p_holm < LEVEL
    if equivalent is None:
        return ("holds" if result.mean > 0 else "the opposite holds") if shown else "not shown"
    if shown:
        return f"equivalent within {equivalent:g}"
    if result.low > equivalent or result.high < -equivalent:
        return f"not equivalent: more than {equivalent:g} apart"
    return "different" if result.low > 0 or result.high < 0 else "not shown"


def _tested(comparison: Comparison, h: Hypothesis) -> Tested:
    blank = Tested(
        name=h.name,
        claim=h.words,
        family=h.family,
        on=h.benchmark,
        side=str(h.side),
        than=str(h.than),
        margin=h.margin,
        equivalent=h.equivalent,
        verdict="missing",
    )
    sides = [h.side, *([h.than] if h.than else [])]
    if lack := [s.arm for s in sides if s.arm not in comparison.arms]:
        return replace(blank, missing=f"no complete run of {', '.join(dict.fromkeys(lack))}")
    if h.benchmark not in (ALL, *comparison.slices):
        why = f"; test sets count once all runs have them, and {'; '.join(comparison.closed)} lacks them"
        there = f"no problems {h.benchmark!r}; there are: {', '.join(comparison.slices)}"
        return replace(blank, missing=there + (why if comparison.closed else ""))
    seeds = sorted(set.intersection(*(set(comparison.arms[s.arm].runs) for s in sides)))
    if not seeds:
        return replace(blank, missing=f"no seed that {' and '.join(s.arm for s in sides)} both have")
    blank = replace(blank, seeds=tuple(seeds))
    try:
        result, left_out, votes = _measured(comparison, h, sides, seeds)
    except UserError as error:
        return replace(blank, missing=str(error))
    if result.p is None:
        return replace(blank, missing="one problem alone")
    p = result.p if h.equivalent is None else equivalence(result, h.equivalent)
    return replace(blank, result=result, p=p, left_out=left_out, votes=votes)


def _measured(
    comparison: Comparison, h: Hypothesis, sides: Sequence[Side], seeds: Sequence[int]
) -> tuple[Crossed, int, int | None]:
    """(what the difference is, problems left out, answers of a majority vote)."""
    votes, values = None, []
    for side, other in zip(sides, reversed(sides), strict=True):
        if side.measure == VOTED:
            voted = vote(comparison, side, other, h.benchmark)
            votes = voted.n
            values.append(voted.values)
        else:
            mine = answers(comparison, side, seeds, h.benchmark)
            values.append({seed: MEASURES[side.measure](of) for seed, of in mine.items()})
    if any(side.measure in SPARSE for side in sides):
        found = _differences(values, shared=True)
        every = {a.problem_id for of in answers(comparison, sides[0], seeds, h.benchmark).values() for a in of}
        had = {i for of in found.values() for i in of}
        if not had:
            raise UserError(f"no problem has a right answer of {' and of '.join(s.arm for s in sides)} in one seed")
        return unbalanced(found), len(every - had), votes
    for side, of in zip(sides, values, strict=True):
        if not all(of.values()):
            raise UserError(f"{side.arm} has no answers for {side.measure} on {h.benchmark}")
    if len(values) > 1:
        for seed in seeds:
            refuse_other_problems(values[1][seed], values[0][seed], (sides[1].arm, sides[0].arm))
    return crossed(matrix(_differences(values), sides[0].arm)), 0, votes


def _differences(values: Sequence[Mapping[int, Values]], shared: bool = False) -> dict[int, Values]:
    """First less second by seed and problem, or the first alone; `shared`: of the problems that both have."""
    if len(values) == 1:
        return dict(values[0])
    first, second = values
    return {
        seed: {i: value - second[seed][i] for i, value in of.items() if not shared or i in second[seed]}
        for seed, of in first.items()
    }
