"""Rerun one arm of the published countdown experiment with a new seed, and say whether it comes out the same.

    make replicate ARM=countdown-dialogue SEED=8
    python tools/replicate.py countdown-dialogue --seed 8 [--published bench/results/DATE-countdown] [KEY=VALUE ...]

Runs the arm's recipe with --test in runs/replicate (the run that it is measured against as far as it is needed; the
same command goes on after a crash) and puts its pass@1 on countdown beside the published arm's 95 % prediction interval
for one new seed: mean +/- t(S-1) x sd x sqrt(1 + 1/S), sd that of the S published seeds (Hahn and Meeker, Statistical
Intervals, 1991, section 4.8). The problems are the published ones, asked again: what they vary by is no part of it;
answers drawn anew are, within sd. Ends with 0 inside, 1 outside, 2 where it could not be said.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from dpr_mini.files.foreign import foreign_rows
from dpr_mini.files.rows import read_json
from dpr_mini.reporting import published
from dpr_mini.reporting.arms import Arm, Comparison, collect
from dpr_mini.runs import TEST
from dpr_mini.scoring.crossed import quantile
from dpr_mini.types import UserError

ROOT = Path(__file__).resolve().parent.parent
BENCHMARK = "countdown"
STORE = "countdown"  # the recipes' folder in a runs folder
RUNS = Path("runs/replicate")


def recipe_of(arm: str, root: Path = ROOT) -> Path:
    """The recipe that is called so. Raises UserError where there is none."""
    places = [root / "recipes" / "countdown" / f"{arm}.yaml"]
    if found := next((p for p in places if p.is_file()), None):
        return found
    names = sorted(p.stem for p in places[0].parent.glob("*.yaml"))
    raise UserError(f"no arm {arm!r}; there are: {', '.join(names)}")


def newest(root: Path = ROOT) -> Path:
    """The published experiment's folder. Raises UserError before one is published."""
    folders = sorted(p.parent for p in (root / "bench" / "results").glob("*-countdown/comparison.json"))
    if not folders:
        raise UserError("no bench/results/*-countdown/comparison.json: nothing is published to hold it against")
    return folders[-1]


def prediction(per_seed: Sequence[float]) -> tuple[float, float]:
    """95 % prediction interval of one new seed's mean on the same problems, from those of at least two seeds."""
    count, mean = len(per_seed), fmean(per_seed)
    half = quantile(count - 1) * stdev(per_seed) * math.sqrt(1 + 1 / count)
    return mean - half, mean + half


def expected(folder: Path, arm: str, seed: int) -> dict[str, Any]:
    """An arm's published score. Raises UserError where nothing can be held against it with this seed."""
    numbers = read_json(folder / "comparison.json")
    if arm not in numbers["arms"]:
        raise UserError(f"{folder} has no arm {arm}; there are: {', '.join(numbers['arms'])}")
    score = numbers["arms"][arm]["scores"].get(BENCHMARK)
    if score is None:
        raise UserError(f"{folder}: {arm} has no score on {BENCHMARK}")
    if str(seed) in score["per_seed"]:
        raise UserError(f"seed {seed} of {arm} is a published one: give another, e.g. SEED={_unused(score)}")
    if len(score["per_seed"]) < 2:
        raise UserError(f"{arm} was published with one seed: what another may give is not known")
    return score


def _unused(score: Mapping[str, Any]) -> int:
    return max(map(int, score["per_seed"])) + 1


def verdict(folder: Path, score: Mapping[str, Any], store_folder: Path, arm: str, seed: int) -> tuple[str, bool]:
    """(one line, whether the run lies inside). Raises UserError where it is not complete, or asked otherwise."""
    again = rerun(store_folder, arm, seed)
    same_problems(folder, again, arm)
    found = again.scores(arm, BENCHMARK)
    low, high = prediction(list(score["per_seed"].values()))
    inside = low <= found.mean <= high
    said, where = ("REPLICATED", "inside") if inside else ("NOT REPLICATED", "outside")
    low, high = max(low, 0.0), min(high, 1.0)  # as said: a rate is not beyond
    return (
        f"{said}: {arm}, seed {seed}: pass@1 {found.mean:.3f} on {found.n} {BENCHMARK} problems, {where} [{low:.3f}, "
        f"{high:.3f}]: 95 % for one new seed on the same problems, published {score['mean']:.3f} over "
        f"{len(score['per_seed'])} seeds"
    ), inside


def rerun(store_folder: Path, arm: str, seed: int) -> Comparison:
    """The rerun as a comparison of one arm. Raises UserError where its evaluations are not complete."""
    run = next((r for r in collect([store_folder]) if (r.name, r.seed) == (arm, seed)), None)
    if run is None or not all(map(run.complete, (run.last, f"{run.last}{TEST}"))):
        raise UserError(f"{store_folder}: {arm} with seed {seed} is not complete; the same command goes on")
    return Comparison({arm: Arm(arm, {seed: run}, run.last, tested=True)}, arm, arm)


def same_problems(folder: Path, again: Comparison, arm: str) -> None:
    """Raises UserError unless the rerun was asked what the published arm was asked."""
    rows = foreign_rows(folder / published.ROWS / published.PROBLEMS)
    theirs = {row["problem"] for _, row in rows if row["benchmark"] == BENCHMARK}
    mine = {a.problem_id for of in again.arms[arm].graded.values() for a in of if a.benchmark == BENCHMARK}
    if mine != theirs:
        raise UserError(
            f"{len(mine - theirs)} problems of this run are not published, {len(theirs - mine)} published ones are not "
            "in it: the interval is about the same problems"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("arm", help="a recipe's name, e.g. countdown-dialogue")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="for the recipe, e.g. engine.kind=sglang")
    parser.add_argument("--seed", type=int, required=True, help="one that is not published")
    parser.add_argument("--published", type=Path, help="the newest bench/results/*-countdown by default")
    parser.add_argument("--runs", type=Path, default=RUNS, help="where the run goes and goes on")
    asked = parser.parse_args()
    try:
        folder, recipe = asked.published or newest(), recipe_of(asked.arm)
        score = expected(folder, asked.arm, asked.seed)  # before hours are spent
        words = [str(recipe), *asked.overrides, "--seeds", str(asked.seed), "--runs", str(asked.runs), "--test"]
        print(f"dpr-mini run {' '.join(words)}", flush=True)
        if code := subprocess.run([sys.executable, "-m", "dpr_mini", "run", *words]).returncode:
            raise UserError(f"the run ended with {code}; the same command goes on where it stopped")
        line, inside = verdict(folder, score, asked.runs / STORE, asked.arm, asked.seed)
    except UserError as error:
        print(f"replicate: {error}", file=sys.stderr)
        sys.exit(2)
    print(line)
    sys.exit(0 if inside else 1)


if __name__ == "__main__":
    main()
