"""Intervals and tests over problems. Draws of one problem are averaged first: problems are what is sampled.

A rate is one problem's share of right answers, in [0, 1].
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dpr_mini.scoring.crossed import interval, quantile, standard_error
from dpr_mini.scoring.flips import flip_test
from dpr_mini.scoring.scores import Estimate, Lengths
from dpr_mini.types import ALL, Graded, UserError, wilson

RESAMPLES = 4000
UNSURE = 2  # problems: weight of the doubt that draws of one problem are worth more than one (by simulation)

Measure = Callable[[Graded], float]  # what an answer counts: 0 or 1 for a scorer, or any number, such as its tokens
Names = tuple[str, str]  # of two models, for the line that refuses to compare them


def official(answer: Graded) -> bool:
    """The official grader's verdict."""
    return answer.right


def subset(answers: Iterable[Graded], benchmark: str = ALL, greedy: bool = False) -> list[Graded]:
    """The sampled answers to a benchmark (ALL: to every one), or the greedy ones."""
    return [a for a in answers if a.greedy is greedy and benchmark in (ALL, a.benchmark)]


def pass_rates(answers: Iterable[Graded], of: Measure = official) -> dict[str, float]:
    """Share of right answers per problem id, in id order; or the mean of what `of` makes of an answer."""
    by: dict[str, list[float]] = {}
    for answer in answers:
        by.setdefault(answer.problem_id, []).append(of(answer))
    return {i: sum(v) / len(v) for i, v in sorted(by.items())}


# ---------------------------------------------------------------- one model


def bootstrap(values: Sequence[float], seed: int = 0) -> tuple[float, float, float]:
    """(mean, low, high): the mean of one value a problem with its 95 % percentile bootstrap interval.

    Raises ValueError where there is no problem.
    """
    array = np.asarray(values, dtype=np.float64)
    if not array.size:
        raise ValueError("no problems to average over")
    rng = np.random.default_rng(seed)
    means = np.concatenate(
        [array[rng.integers(0, array.size, (500, array.size))].mean(axis=1) for _ in range(RESAMPLES // 500)]
    )
    low, high = np.percentile(means, [2.5, 97.5])
    return float(array.mean()), float(low), float(high)


def estimate(rates: Sequence[float]) -> Estimate:
    """The mean of one rate in [0, 1] a problem with its 95 % interval over problems and the standard error.

    With one answer a problem, or where all problems have the same rate, the interval is Wilson's for n draws, e.g.
    [0, 0.114] for 0 of 30 (se is None where no problem differs). Else it is Wilson's with t and the number of problems
    that the mean is worth, its effective size (Kish 1965). What goes beyond n is shrunk where few problems have shown
    how alike their draws are: at 1 right of 80 they look independent. A percentile bootstrap covers 0.81 for 20
    problems at a rate of 0.07 and k = 4, this 0.95 to 0.98 for 20 to 120 at 0.07 to 0.5 (bench/results/coverage.json).
    Raises ValueError without a problem.
    """
    array = np.asarray(rates, dtype=np.float64)
    if not array.size:
        raise ValueError("no problems to average over")
    n, mean, error = array.size, float(array.mean()), standard_error(array)
    if np.ptp(array) == 0:
        return Estimate(n, mean, *wilson(mean, n), None)
    if np.isin(array, (0.0, 1.0)).all():
        return Estimate(n, mean, *wilson(mean, n), error)
    telling = min(int((array > 0).sum()), int((array < 1).sum()))
    gain = max(effective_size(mean, error) - n, 0) * telling / (telling + UNSURE)
    return Estimate(n, mean, *wilson(mean, n + gain, quantile(n - 1)), error)


def rate_interval(mean: float, se: float, df: float) -> tuple[float, float]:
    """95 % interval of a mean rate in (0, 1) that stays in [0, 1]: Wilson's, with t and the size that `se` is worth."""
    return wilson(mean, effective_size(mean, se), quantile(df))


def effective_size(mean: float, se: float) -> float:
    """How many independent draws would give a mean rate this standard error (Kish 1965)."""
    return mean * (1 - mean) / se**2


def pass_at_k(n: int, c: int, k: int) -> float:
    """Probability that at least one of k answers is right, from c right ones among n draws.

    Unbiased: 1 - C(n - c, k) / C(n, k) (arXiv 2107.03374, equation 1), as a product so that nothing overflows.
    Raises ValueError unless 0 <= c <= n and 1 <= k <= n.
    """
    if not (0 <= c <= n and 1 <= k <= n):
        raise ValueError(f"pass@{k} of {c} right among {n} draws")
    return 1.0 - math.prod((n - c - i) / (n - i) for i in range(k)) if n - c >= k else 1.0


def majority(votes: Sequence[str | None], right: Sequence[bool]) -> float:
    """maj@k of one problem: 1 where the most common answer is right, 0 where it is not.

    `votes` names the answer that each draw stands for; None (no answer was found) casts no vote. A tie counts as the
    chance that a fair choice among the tied answers is right; where nobody voted it is 0.
    """
    counts = Counter(v for v in votes if v is not None)
    most = max(counts.values(), default=0)
    winners = {v for v, n in counts.items() if n == most}
    correct = {v for v, ok in zip(votes, right, strict=True) if ok}
    return len(winners & correct) / len(winners) if winners else 0.0


def lengths(tokens: Sequence[int]) -> Lengths | None:
    """How many answers, and mean, median and p90 of their generated tokens; None of none."""
    if not tokens:
        return None
    array = np.asarray(tokens)
    return Lengths(len(tokens), float(array.mean()), float(np.median(array)), float(np.percentile(array, 90)))


# ---------------------------------------------------------------- two models on the same problems


@dataclass(frozen=True, slots=True)
class Difference:
    """after - before over the `n` problems that both models have: mean and 95 % interval [low, high].

    `se` is the standard error of the mean difference, None for one problem. `up` and `down` count the problems whose
    rate rose and fell. `p` is two-sided, of the sign-flip test of the mean (`flip_test`); None in files older than it.
    """

    n: int
    mean: float
    low: float
    high: float
    se: float | None
    up: int
    down: int
    p: float | None = None


def compare(
    before: Iterable[Graded], after: Iterable[Graded], of: Measure = official, names: Names = ("before", "after")
) -> Difference:
    """Two models' answers, problem by problem. They may have different numbers of samples.

    Raises UserError, which says `names`, where the two do not have the same problems, or none.
    """
    return paired(pass_rates(before, of), pass_rates(after, of), names)


def paired(before: Mapping[str, float], after: Mapping[str, float], names: Names = ("before", "after")) -> Difference:
    """`compare` for one rate a problem id, e.g. where a problem's samples and then its seeds were averaged.

    The interval is Student's t over problems; of one problem it is empty. Where no problem changed, that would claim
    certainty: there it is what none of n leaves open for each direction (`wilson`). Raises UserError as `compare` does.
    """
    refuse_other_problems(before.keys(), after.keys(), names)
    if not before:
        raise UserError(f"{names[0]} and {names[1]} have no problem to compare")
    differences = [after[i] - rate for i, rate in before.items()]
    n, mean, error = len(differences), sum(differences) / len(differences), standard_error(differences)
    low, high = (mean, mean) if error is None else interval(mean, error, n - 1)
    up, down = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    if not up and not down:
        low, high = unchanged(n)
    return Difference(n, mean, low, high, error, up, down, flip_test(differences))


def unchanged(n: int) -> tuple[float, float]:
    """The interval of a difference where none of n problems changed: what that leaves open for each direction."""
    high = wilson(0.0, n)[1]
    return -high, high


def refuse_other_problems(before: Collection[str], after: Collection[str], names: Names) -> None:
    """Raises UserError where two models' problem ids differ: how many, and one of them."""
    for one, other, name, lacks in ((before, after, *names), (after, before, *reversed(names))):
        if missing := set(one) - set(other):
            raise UserError(
                f"{name} and {lacks} have different problems: {len(missing)} of {len(one)} in {name}, e.g. "
                f"{min(missing)}, are not in {lacks}; evaluate both with the same sources, counts and scale"
            )
