"""What is measured on an arm's answers of one seed: {problem id: value}, for hypotheses over problems and seeds."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from statistics import fmean

from dpr_mini.scoring.stats import majority, official, pass_rates, subset
from dpr_mini.types import Graded, UserError, seed_for

SUBSETS = 200  # of a problem's draws that a majority vote is averaged over, where there are more
VOTED = "maj@tokens"  # needs the tokens of the arm that it is compared with
REDRAWN = "redraw"  # reads redrawn.jsonl, not graded.jsonl
SPARSE = ("log_tokens",)  # a problem may have no value

Values = dict[str, float]


def first(answer: Graded) -> float:
    """Whether the first answer of a response is right: of a task's its first attempt, which is executed.

    Else what stands before the first bridge, or the whole. A chain of a task may go on without our bridge, or offer
    two attempts before it.
    """
    if answer.trace:
        return answer.first
    return answer.right if answer.attempt is None else answer.attempt


def mended(answer: Graded) -> float:
    """Right at the end less right at first, of the same response."""
    return answer.right - first(answer)


def log_tokens(answers: Sequence[Graded]) -> Values:
    """Mean log of the tokens of a problem's right answers; a problem without one is left out."""
    return pass_rates([a for a in answers if a.right], lambda a: math.log(max(a.tokens, 1)))


MEASURES: Mapping[str, Callable[[Sequence[Graded]], Values]] = {
    "pass@1": lambda answers: pass_rates(subset(answers), official),
    "greedy": lambda answers: pass_rates(subset(answers, greedy=True), official),
    "first": lambda answers: pass_rates(subset(answers), first),
    "mended": lambda answers: pass_rates(subset(answers), mended),
    "tokens": lambda answers: pass_rates(subset(answers), lambda a: a.tokens),
    "log_tokens": lambda answers: log_tokens(subset(answers)),
    REDRAWN: lambda answers: pass_rates(subset(answers), official),
}


def mean_tokens(answers: Sequence[Graded]) -> float:
    """Generated tokens of a sampled answer, mean over problems."""
    return fmean(pass_rates(subset(answers), lambda a: a.tokens).values())


def votes_for(mine: float, theirs: float) -> int:
    """How many answers of `mine` tokens come nearest to one of `theirs`; at least 1, of two as near the fewer."""
    below = max(1, math.floor(theirs / mine)) if mine else 1
    return min((below, below + 1), key=lambda n: (abs(n * mine - theirs), n))


def majority_of(answers: Sequence[Graded], n: int) -> Values:
    """maj@n of each problem's k draws, expected over the choices of n among them.

    All choices where there are at most SUBSETS, else SUBSETS of them by a fixed seed. Raises UserError where k < n.
    """
    by: dict[str, list[Graded]] = {}
    for answer in subset(answers):
        by.setdefault(answer.problem_id, []).append(answer)
    return {i: _majority_of(i, sorted(of, key=lambda a: a.sample), n) for i, of in sorted(by.items())}


def _majority_of(problem: str, draws: Sequence[Graded], n: int) -> float:
    if len(draws) < n:
        raise UserError(f"{VOTED} takes {n} answers a problem for equal tokens, there are {len(draws)}: raise samples")
    if math.comb(len(draws), n) <= SUBSETS:
        chosen = list(combinations(draws, n))
    else:
        rng = random.Random(seed_for(VOTED, problem, n))
        chosen = [rng.sample(draws, n) for _ in range(SUBSETS)]
    return fmean(majority([a.vote for a in some], [a.right for a in some]) for some in chosen)
