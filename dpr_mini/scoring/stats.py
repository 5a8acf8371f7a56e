"""Intervals and tests over problems. Draws of one problem are averaged first: problems are what is sampled.

A rate is one problem's share of right answers, in [0, 1]; a graded row is a line of an evaluation's graded.jsonl.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from dpr_mini.types import UserError, wilson

RESAMPLES = 4000
GREEDY = -1  # the sample number of a greedy answer among graded rows

Row = Mapping[str, Any]


class PairError(UserError, ValueError):
    """Two evaluations that cannot be compared: one line that says why."""


def official(row: Row) -> bool:
    """A graded row's verdict by the official grader."""
    return row["status"] == "correct"


def pass_rates(rows: Sequence[Row], right: Callable[[Row], float] = official) -> dict[str, float]:
    """Share of right answers per problem id, in id order; or the mean of what `right` makes of a graded row."""
    by: dict[str, list[float]] = {}
    for row in rows:
        by.setdefault(row["problem_id"], []).append(right(row))
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


def standard_error(values: Sequence[float]) -> float | None:
    """Standard error of the mean of one value a problem: s / sqrt(n), s with n - 1 (arXiv 2411.00640, section 2).

    Draws of one problem belong together, so they enter as their mean. None for one problem, which says nothing.
    """
    array = np.asarray(values, dtype=np.float64)
    return float(array.std(ddof=1) / math.sqrt(array.size)) if array.size > 1 else None


def estimate(rates: Sequence[float]) -> dict[str, Any]:
    """n, mean, low, high, se of one rate a problem: the bootstrap's interval and the standard error.

    Where all problems have the same rate, as when none was solved, all resamples are equal and the bootstrap would
    claim certainty: there the interval is Wilson's for n draws, e.g. [0, 0.114] for 0 of 30, and se is None.
    Raises ValueError without a problem.
    """
    mean, low, high = bootstrap(rates)
    error = standard_error(rates)
    if len(set(rates)) == 1:
        (low, high), error = wilson(rates[0], len(rates)), None
    return {"n": len(rates), "mean": mean, "low": low, "high": high, "se": error}


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


def lengths(tokens: Sequence[int]) -> dict[str, float] | None:
    """n answers, and mean, median and p90 of their generated tokens; None of none."""
    if not tokens:
        return None
    array = np.asarray(tokens)
    mean, median, p90 = array.mean(), np.median(array), np.percentile(array, 90)
    return {"n": len(tokens), "mean": float(mean), "median": float(median), "p90": float(p90)}


# ---------------------------------------------------------------- two models on the same problems


def paired(before: Sequence[float], after: Sequence[float], seed: int = 0) -> dict[str, Any]:
    """Difference after - before on the same problems: mean, interval, and how many problems rose and fell.

    `se` is the standard error of the mean difference. `p_sign` is the two-sided exact sign test over the problems that
    changed (1.0 where none did); with one answer a problem that is McNemar's exact test. Where no problem changed the
    bootstrap would claim certainty: there the interval is what none of n leaves open for each direction (`wilson`).
    Raises ValueError for sequences of different length.
    """
    if len(before) != len(after):
        raise ValueError(f"paired comparison of {len(before)} with {len(after)} problems")
    differences = [b - a for a, b in zip(before, after, strict=True)]
    mean, low, high = bootstrap(differences, seed)
    up, down = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    if not up and not down:
        high = wilson(0.0, len(differences))[1]
        low = -high
    return {"n": len(differences), "mean": mean, "low": low, "high": high, "se": standard_error(differences),
            "up": up, "down": down, "p_sign": sign_test(up, down)}  # fmt: skip


def crossed(before: Sequence[float], after: Sequence[float]) -> dict[str, float]:
    """McNemar's four counts (McNemar 1947) of problems: both, gained, lost, neither; they add up to n.

    From rates they are expected counts for one answer of each model; gained - lost = n times the mean difference.
    """
    pairs = list(zip(before, after, strict=True))
    return {
        "both": sum(a * b for a, b in pairs),
        "gained": sum((1 - a) * b for a, b in pairs),
        "lost": sum(a * (1 - b) for a, b in pairs),
        "neither": sum((1 - a) * (1 - b) for a, b in pairs),
    }


def compare(
    before: Mapping[str, float], after: Mapping[str, float], names: tuple[str, str] = ("before", "after")
) -> dict[str, Any]:
    """`paired` and `crossed` of two models' rates by problem id (`pass_rates`); `names` are for the refusal.

    Raises PairError where the two do not have the same problems, or none.
    """
    for one, other, name, lacks in ((before, after, *names), (after, before, *reversed(names))):
        if missing := one.keys() - other.keys():
            raise PairError(
                f"{name} and {lacks} have different problems: {len(missing)} of {len(one)} in {name}, e.g. "
                f"{min(missing)}, are not in {lacks}; evaluate both with the same sources, counts and scale"
            )
    if not before:
        raise PairError(f"{names[0]} and {names[1]} have no problem to compare")
    a, b = list(before.values()), [after[i] for i in before]
    return {**paired(a, b), **crossed(a, b)}


def compare_graded(
    before: Sequence[Row],
    after: Sequence[Row],
    names: tuple[str, str] = ("before", "after"),
    right: Callable[[Row], float] = official,
) -> dict[str, dict[str, Any]]:
    """Two evaluations' graded rows compared: {benchmark: {"sampled": compare(...), "greedy": compare(...) or None}}.

    "all" comes last where there are several benchmarks; greedy is None where neither has greedy answers. The two may
    have different k. Raises PairError as `compare` does.
    """
    benchmarks = list(dict.fromkeys(r["benchmark"] for r in (*before, *after)))
    found: dict[str, dict[str, Any]] = {}
    for benchmark in [*benchmarks, *(["all"] if len(benchmarks) > 1 else [])]:
        for kind, greedy in (("sampled", False), ("greedy", True)):
            rates = [
                pass_rates(
                    [r for r in rows if (r["sample"] == GREEDY) is greedy and benchmark in ("all", r["benchmark"])],
                    right,
                )
                for rows in (before, after)
            ]
            found.setdefault(benchmark, {})[kind] = compare(*rates, names) if any(rates) or not greedy else None
    return found


def sign_test(up: int, down: int) -> float:
    """Two-sided exact binomial test that ups and downs are equally likely."""
    n = up + down
    if not n:
        return 1.0
    tail = sum(math.comb(n, i) for i in range(min(up, down) + 1)) / 2**n
    return min(1.0, 2 * tail)
