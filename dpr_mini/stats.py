"""Intervals and tests over problems. Draws of one problem are averaged first: problems are what is sampled."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

RESAMPLES = 4000
GREEDY = -1  # the sample number of a greedy answer among graded rows


def official(row: Mapping[str, Any]) -> bool:
    """A graded row's verdict by the official grader."""
    return row["status"] == "correct"


def pass_rates(
    rows: Sequence[Mapping[str, Any]], right: Callable[[Mapping[str, Any]], float] = official
) -> dict[str, float]:
    """Share of right answers per problem id, in id order; or the mean of what `right` makes of a graded row."""
    by: dict[str, list[float]] = {}
    for row in rows:
        by.setdefault(row["problem_id"], []).append(right(row))
    return {i: sum(v) / len(v) for i, v in sorted(by.items())}


def bootstrap(values: Sequence[float], seed: int = 0) -> tuple[float, float, float]:
    """(mean, low, high): the mean of one value a problem with its 95 % percentile bootstrap interval."""
    array = np.asarray(values, dtype=np.float64)
    if not array.size:
        raise ValueError("no problems to average over")
    rng = np.random.default_rng(seed)
    means = np.concatenate(
        [array[rng.integers(0, array.size, (500, array.size))].mean(axis=1) for _ in range(RESAMPLES // 500)]
    )
    low, high = np.percentile(means, [2.5, 97.5])
    return float(array.mean()), float(low), float(high)


def paired(before: Sequence[float], after: Sequence[float], seed: int = 0) -> dict[str, float]:
    """Difference after - before on the same problems: mean, interval, and how many problems rose and fell.

    `p_sign` is the two-sided exact sign test over the problems that changed (1.0 where none did).
    Raises ValueError for sequences of different length.
    """
    if len(before) != len(after):
        raise ValueError(f"paired comparison of {len(before)} with {len(after)} problems")
    differences = [b - a for a, b in zip(before, after, strict=True)]
    mean, low, high = bootstrap(differences, seed)
    up, down = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    return {"n": len(differences), "mean": mean, "low": low, "high": high, "up": up, "down": down,
            "p_sign": sign_test(up, down)}  # fmt: skip


def sign_test(up: int, down: int) -> float:
    """Two-sided exact binomial test that ups and downs are equally likely."""
    n = up + down
    if not n:
        return 1.0
    tail = sum(math.comb(n, i) for i in range(min(up, down) + 1)) / 2**n
    return min(1.0, 2 * tail)
