"""Coverage of the intervals by simulation: how often a 95 % interval holds the true value.

    python bench/interval_coverage.py [--runs 2000] [--out FILE]     # prints tables, writes bench/results/coverage.json

Two questions. *crossed*: a difference of two arms on n problems, S seeds of training and k draws each; the truth is the
method's difference on new problems with a new seed. A problem's chance is drawn from a Beta distribution; each arm and
seed moves it on the logit scale, by a part that the problem has in every seed and one that it has in this seed alone,
and a seed moves all problems of an arm so that the mean rate changes by a normal amount of known sd. *single*: one
arm's rate from k draws of n problems. Beside ours stand others: over problems alone, crossed with the seeds' variance
cut off at zero, and the percentile bootstrap.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit, logit, stdtrit

from dpr_mini.files.rows import write_json
from dpr_mini.machine.facts import facts
from dpr_mini.scoring.crossed import mean_squares, spread
from dpr_mini.scoring.stats import estimate

RESULTS = Path(__file__).parent / "results" / "coverage.json"
PROBLEMS, SEEDS, SEED_SDS = (50, 120, 300, 600), (3, 5, 8, 10), (0.0, 0.01, 0.02, 0.03, 0.05)
BAR = (0.93, 0.97)
AT_ONCE = 1_500_000  # values of d[run, problem, seed] in memory
POOL = 100_000  # problems that the true means are taken over


@dataclass(frozen=True)
class World:
    """How problems and trainings differ: Beta(a, b) chances, and sds on the logit scale."""

    name: str
    a: float
    b: float
    problem_sd: float  # what training does to one problem in every seed
    rest_sd: float  # to one problem in one seed
    gain: float  # true difference of the mean rates


# E[p (1 - p)] 0.07 and 0.11 per arm; the demo has 0.04 to 0.09 (shared/reference/evidence.md, 5.7)
WORLDS = (World("skewed", 0.4, 0.5, 0.5, 0.5, 0.05), World("even", 0.6, 1.2, 0.3, 0.3, 0.05))


class Truth:
    """Mean rate of a world's trained arm by how far a seed moves it, and of the arm that it is compared with."""

    def __init__(self, world: World, rng: np.random.Generator) -> None:
        start = chances(world, rng, (POOL,))
        moved = start + rng.normal(0, world.problem_sd, POOL) + rng.normal(0, world.rest_sd, POOL)
        self.shifts = np.linspace(-2.0, 3.0, 151)
        self.means = np.array([expit(moved + x).mean() for x in self.shifts])
        self.before = float(expit(start + rng.normal(0, world.rest_sd, POOL)).mean())

    def shift(self, means: np.ndarray) -> np.ndarray:
        return np.interp(means, self.means, self.shifts)


def chances(world: World, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return logit(np.clip(rng.beta(world.a, world.b, shape), 1e-6, 1 - 1e-6))


def differences(
    world: World, truth: Truth, n: int, seeds: int, sd: float, k: int, runs: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """d[run, problem, seed] of two arms' rates, in parts."""
    part = max(1, AT_ONCE // (n * seeds))
    for at in range(0, runs, part):
        size = min(part, runs - at)
        start = chances(world, rng, (size, n, 1))
        wanted = truth.before + world.gain + sd * rng.standard_normal((size, 1, seeds))
        moved = start + rng.normal(0, world.problem_sd, (size, n, 1)) + truth.shift(wanted)
        after, before = (expit(x + rng.normal(0, world.rest_sd, (size, n, seeds))) for x in (moved, start))
        yield (rng.binomial(k, after) - rng.binomial(k, before)) / k


def crossed_coverage(
    world: World, truth: Truth, n: int, seeds: int, sd: float, k: int, runs: int, rng: np.random.Generator
) -> dict[str, float]:
    """Shares of runs in which an interval holds the method's true difference, and ours' mean half width."""
    hits = {"crossed": 0, "cut_off": 0, "problems": 0}
    width = 0.0
    for d in differences(world, truth, n, seeds, sd, k, runs, rng):
        off = np.abs(d.mean(axis=(1, 2)) - world.gain)
        p, s, e = mean_squares(d)
        halves = {"crossed": half(*spread(p, s, e, n, seeds)), "problems": half(np.sqrt(p / (n * seeds)), n - 1)}
        cut = p + np.maximum(s - e, 0)
        df = cut**2 / (p**2 / (n - 1) + s**2 / (seeds - 1) + e**2 / ((n - 1) * (seeds - 1)))
        halves["cut_off"] = half(np.sqrt(cut / (n * seeds)), np.maximum(df, seeds - 1))
        for name, reach in halves.items():
            hits[name] += int((off <= reach).sum())
        width += float(halves["crossed"].sum())
    return {name: round(count / runs, 4) for name, count in hits.items()} | {"half_width": round(width / runs, 4)}


def half(se: Any, df: Any) -> Any:
    return stdtrit(df, 0.975) * se


def single_coverage(rate: float, n: int, k: int, runs: int, rng: np.random.Generator, spread_of: float) -> dict:
    """The same for one arm's rate; problems are Beta with mean `rate` and a + b = `spread_of`."""
    by_problem = rng.binomial(k, rng.beta(rate * spread_of, (1 - rate) * spread_of, (runs, n))) / k
    ours = old = 0
    for rates in by_problem:
        found = estimate(rates)
        ours += found.low <= rate <= found.high
        means = rates[rng.integers(0, n, (400, n))].mean(axis=1)
        low, high = np.percentile(means, [2.5, 97.5])
        old += low <= rate <= high
    return {"estimate": round(ours / runs, 4), "bootstrap": round(old / runs, 4)}


def measure(
    runs: int, problems: Sequence[int] = PROBLEMS, seeds: Sequence[int] = SEEDS, sds: Sequence[float] = SEED_SDS
) -> dict[str, Any]:
    """All cells. The standard error of a share is about 0.22 / sqrt(runs)."""
    rng, begun, k = np.random.default_rng(0), time.monotonic(), 4
    crossed = []
    for world in WORLDS:
        truth = Truth(world, rng)
        for s in seeds:
            for n in problems:
                for sd in sds:
                    cell = {"world": world.name, "seeds": s, "n": n, "seed_sd": sd}
                    crossed.append(cell | crossed_coverage(world, truth, n, s, sd, k, runs, rng))
    single = [
        {"n": n, "rate": rate, "k": draws} | single_coverage(rate, n, draws, min(runs, 1000), rng, 1.0)
        for draws in (1, 4)
        for n in (20, 30, 50, 120)
        for rate in (0.07, 0.3, 0.5)
    ]
    outside = [c for c in crossed if not BAR[0] <= c["crossed"] <= BAR[1]]
    return {
        "what": "share of simulated experiments whose 95 % interval holds the true value",
        "runs": {"crossed": runs, "single": min(runs, 1000)},
        "k": k,
        "worlds": [asdict(world) for world in WORLDS],
        "bar": BAR,
        "cells": len(crossed),
        "outside_bar": outside,
        "lowest": min(c["crossed"] for c in crossed),
        "highest": max(c["crossed"] for c in crossed),
        "crossed": crossed,
        "single": single,
        "seconds": round(time.monotonic() - begun, 1),
        "written_by": facts(),
    }


def show(found: dict[str, Any]) -> None:
    print("world   seeds    n  " + "  ".join(f"sd {sd:<5g}" for sd in SEED_SDS) + "  (crossed; problems only)")
    rows: dict[tuple, list[dict]] = {}
    for c in found["crossed"]:
        rows.setdefault((c["world"], c["seeds"], c["n"]), []).append(c)
    for (world, seeds, n), cells in rows.items():
        print(f"{world:7} {seeds:5} {n:4}  " + "  ".join(f"{c['crossed']:.3f} {c['problems']:.2f}" for c in cells))
    print(f"outside {BAR}: {len(found['outside_bar'])} of {found['cells']} cells")
    for c in found["single"]:
        print(f"one arm, n={c['n']}, k={c['k']}, rate {c['rate']}: {c['estimate']:.3f}; bootstrap {c['bootstrap']:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    found = measure(args.runs)
    write_json(args.out, found)
    show(found)
    print(args.out)


if __name__ == "__main__":
    main()
