"""Intervals over problems and seeds: what a method would give on new problems, trained with new seeds.

A value d[problem, seed] (a rate, or a difference of rates) has a problem's part, a seed's part and what is left. All
seeds answer the same problems, so the two are crossed random factors (Searle, Casella, McCulloch, Variance Components,
1992, section 4.7). An interval over problems alone is about these very trainings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dpr_mini.scoring.flips import flip_test
from dpr_mini.types import UserError, wilson

Z = 1.959964  # of wilson
LEAST = 0.5  # of what problems alone would give: the least that the variance is said to be (see `spread`)


@dataclass(frozen=True, slots=True)
class Crossed:
    """The mean over `n` problems and `seeds`, with its 95 % interval [low, high] over both and one over problems alone.

    `p` is two-sided, of the t behind the interval. `p_problems` and `p_seeds` are those of flipping the signs of whole
    problems (about these seeds) and of whole seeds (about these problems; never under 2 / 2^seeds). With one seed
    everything is over problems alone, and `p_seeds` is None. For one problem, of which nothing can be said, `se`, `df`
    and `p` are None and the intervals empty.
    """

    n: int
    seeds: int
    mean: float
    low: float
    high: float
    se: float | None
    df: float | None
    p: float | None
    problems_low: float
    problems_high: float
    p_problems: float
    p_seeds: float | None

    @property
    def over(self) -> str:
        """What the interval is over, in words."""
        return "problems and seeds" if self.seeds > 1 else "problems only (one seed)"


def mean_squares(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean squares of problems, seeds and interaction of (..., problem, seed) values, at least two of each."""
    n, seeds = values.shape[-2:]
    mean = values.mean(axis=(-2, -1), keepdims=True)
    by_problem, by_seed = values.mean(axis=-1, keepdims=True), values.mean(axis=-2, keepdims=True)
    rest = ((values - by_problem - by_seed + mean) ** 2).sum(axis=(-2, -1)) / ((n - 1) * (seeds - 1))
    of_problems = seeds * ((by_problem - mean) ** 2).sum(axis=(-2, -1)) / (n - 1)
    return of_problems, n * ((by_seed - mean) ** 2).sum(axis=(-2, -1)) / (seeds - 1), rest


def spread(problems: Any, seeds_square: Any, rest: Any, n: int, seeds: int) -> tuple[Any, Any]:
    """(standard error of the mean, degrees of freedom) from the three mean squares; arrays or numbers.

    The variance is (MSp + MSs - MSe) / (n S), which is unbiased, but at least LEAST * MSp / (n S); the degrees of
    freedom are Satterthwaite's (1946), at least S - 1. Cutting the seeds' part off at zero instead, as
    MSp + max(MSs - MSe, 0), is biased upwards and covers up to 0.986 where seeds do not differ. This one covers 0.93 to
    0.97 in 155 of 160 simulated cells of 50 to 600 problems and 3 to 10 seeds, and 0.923 to 0.974 in the other five,
    four of them with 3 seeds (standard error of each 0.005; bench/results/coverage.json).
    """
    total = np.maximum(problems + seeds_square - rest, LEAST * problems)
    parts = problems**2 / (n - 1) + seeds_square**2 / (seeds - 1) + rest**2 / ((n - 1) * (seeds - 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        df = np.where(parts > 0, total**2 / parts, seeds - 1)
    return np.sqrt(total / (n * seeds)), np.maximum(df, seeds - 1)


def crossed(values: np.ndarray | Sequence[Sequence[float]]) -> Crossed:
    """The mean of values[problem][seed] with its intervals and tests.

    Raises ValueError without a value, or where one is not a number.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or not array.size or not np.isfinite(array).all():
        raise ValueError(f"a mean needs finite values by problem and seed, not those of shape {array.shape}")
    n, seeds = array.shape
    rows = array.mean(axis=1)
    squares = mean_squares(array) if n > 1 and seeds > 1 else None
    scale = spread(*squares, n, seeds) if squares else None
    return _finished(float(array.mean()), rows, array.mean(axis=0), scale and tuple(map(float, scale)))


def unbalanced(by_seed: Mapping[int, Mapping[str, float]]) -> Crossed:
    """`crossed` where a seed may lack problems: from the spread over problems and that over seeds.

    A problem's mean is over the seeds that have it, a seed's over its problems, the mean over problems. See `joined`.
    """
    problems = sorted({i for of in by_seed.values() for i in of})
    rows = [np.mean([of[i] for of in by_seed.values() if i in of]) for i in problems]
    each = [np.mean(list(of.values())) for of in by_seed.values() if of]
    scale = None
    if len(rows) > 1 and len(each) > 1:
        scale = joined(np.std(rows, ddof=1) / math.sqrt(len(rows)), len(rows), np.std(each, ddof=1), len(each))
    return _finished(float(np.mean(rows)), np.array(rows), np.array(each), scale)


def joined(se_problems: float, n: int, sd_seeds: float, seeds: int) -> tuple[float, float]:
    """(standard error, degrees of freedom) of a mean, from its standard error over problems and the sd of its seeds.

    se^2 = se_problems^2 + sd_seeds^2 / S, Satterthwaite's df (1946): where only summaries are left. Wider than
    `spread`: the sd of the seeds has the interaction and the drawing in it, which se_problems has too.
    """
    a, b = se_problems**2, sd_seeds**2 / seeds
    parts = a**2 / (n - 1) + b**2 / (seeds - 1)
    return math.sqrt(a + b), max(float((a + b) ** 2 / parts) if parts else 0.0, seeds - 1.0)


def _finished(mean: float, rows: np.ndarray, each: np.ndarray, scale: tuple[float, float] | None) -> Crossed:
    """The intervals and tests of a mean, its problems' and its seeds' means, and its (standard error, df)."""
    n, seeds = len(rows), len(each)
    flips = flip_test(rows), flip_test(each) if seeds > 1 else None
    if n == 1:
        return Crossed(n, seeds, mean, mean, mean, None, None, None, mean, mean, *flips)
    alone = standard_error(rows)
    if not rows.any() and not each.any():  # no spread would claim certainty: what none of n leaves open instead
        alone = wilson(0.0, n)[1] / Z
        scale = alone, n - 1.0
    se, df = scale or (alone, n - 1.0)
    p = two_sided(mean, se, df)
    return Crossed(n, seeds, mean, *interval(mean, se, df), se, df, p, *interval(mean, alone, n - 1.0), *flips)


def standard_error(values: Sequence[float] | np.ndarray) -> float | None:
    """Standard error of the mean of one value a problem: s / sqrt(n), s with n - 1 (arXiv 2411.00640, section 2).

    Draws of one problem belong together, so they enter as their mean. None for one problem, which says nothing.
    """
    array = np.asarray(values, dtype=np.float64)
    return float(array.std(ddof=1) / math.sqrt(array.size)) if array.size > 1 else None


def interval(mean: float, se: float, df: float) -> tuple[float, float]:
    """The 95 % t interval."""
    half = quantile(df) * se
    return mean - half, mean + half


def quantile(df: float) -> float:
    """97.5 % point of the t distribution."""
    from scipy.special import stdtrit  # slow to import: only where it is used

    return float(stdtrit(df, 0.975))


def two_sided(mean: float, se: float, df: float) -> float:
    """p of a mean that is zero; without any spread 1 or 0."""
    from scipy.special import stdtr

    return float(2 * stdtr(df, -abs(mean) / se)) if se > 0 else float(mean == 0)


def one_sided(of: Crossed, at: float) -> tuple[float, float]:
    """(p that the mean is not above `at`, p that it is not below it), by the t of the crossed interval."""
    from scipy.special import stdtr

    if not of.se:
        return (1.0, 1.0) if of.se is None else (float(of.mean <= at), float(of.mean >= at))
    t = (of.mean - at) / of.se
    return float(stdtr(of.df, -t)), float(stdtr(of.df, t))


def equivalence(of: Crossed, margin: float) -> float:
    """p of two one-sided tests that the mean lies inside (-margin, margin): the larger (Schuirmann 1987)."""
    if margin <= 0:
        raise ValueError(f"a margin is above 0, not {margin}")
    return max(one_sided(of, -margin)[0], one_sided(of, margin)[1])


def holm(p_values: Sequence[float]) -> list[float]:
    """p values for several hypotheses at once, in the same order: Holm's step-down (1979), at most 1."""
    adjusted, least = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = least
    return adjusted


def matrix(by_seed: Mapping[int, Mapping[str, float]], what: str = "these answers") -> np.ndarray:
    """{seed: {problem id: value}} as values[problem, seed], both in order.

    Raises UserError where seeds do not have the same problems, or there are none.
    """
    seeds = sorted(by_seed)
    problems = sorted({i for of in by_seed.values() for i in of})
    if not problems:
        raise UserError(f"{what}: no problem to average over")
    for seed in seeds:
        if lack := [i for i in problems if i not in by_seed[seed]]:
            raise UserError(
                f"{what}: seed {seed} lacks {len(lack)} of {len(problems)} problems that other seeds have, e.g. "
                f"{lack[0]}; evaluate all seeds on the same held-out problems"
            )
    return np.array([[by_seed[seed][i] for seed in seeds] for i in problems])
