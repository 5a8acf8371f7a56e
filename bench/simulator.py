"""The simulator of phase 2's sampling against what really came: expected from each probe alone, then counted.

    python bench/simulator.py runs/smollm2-cpu [--out bench/results/simulator.json]
    python bench/simulator.py --made 120 [--out bench/results/simulator-made.json]

For every finished sample-2 in the folder: the forecast from its probe's pass rates, and draws, right and usable
answers and problems never solved as its manifest has them; `z` is their distance in the forecast's standard deviations.
Runs of one probe (arms that share it) are not independent of each other.

--made N: how often the interval holds on N sets of problems with pass rates that the forecast never sees, as many as
the demo has at half its scale, one run each; quota, tries and probe are the demo's.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from dpr_mini import store
from dpr_mini.files.rows import write_json
from dpr_mini.machine.facts import facts
from dpr_mini.recipe import SamplingConfig
from dpr_mini.sampling import budgets, simulate
from dpr_mini.types import Difficulty

NUMBERS = {"draws": "asked", "right": "right", "usable": "usable", "never_solved": "never"}  # forecast -> one run
SHAPES = {  # name -> pass rates of so many problems
    "beta(0.3, 1)": lambda rng, n: rng.beta(0.3, 1, n),
    "beta(0.5, 0.5)": lambda rng, n: rng.beta(0.5, 0.5, n),
    "0.3 never, else even": lambda rng, n: np.where(rng.random(n) < 0.3, 0, rng.random(n)),
    "0.3 never, else beta(1, 1.5)": lambda rng, n: np.where(rng.random(n) < 0.3, 0, rng.beta(1, 1.5, n)),
    "beta(2, 2)": lambda rng, n: rng.beta(2, 2, n),
    "beta(0.2, 0.6)": lambda rng, n: rng.beta(0.2, 0.6, n),
}


def compared(stage: Path) -> list[dict[str, Any]]:
    """One row a number: expected, its 95 % interval, and what came."""
    manifest = store.read_manifest(stage)
    asked, found = manifest["config"], manifest["metrics"]
    config = SamplingConfig(**{k: v for k, v in asked.items() if k in SamplingConfig.model_fields})
    probe, bins = stage.parent / manifest["inputs"]["probed"], found["bins"].values()
    expected = simulate.forecast(simulate.read(probe / budgets.RATES, asked["draw"]["samples"]), config)
    came = {
        name: sum(b[key] for b in bins) for name, key in (("draws", "asked"), ("right", "right"), ("usable", "usable"))
    }
    came["never_solved"] = found["never_solved"]
    rows = []
    for name, value in came.items():
        estimate: simulate.Estimate = getattr(expected, name)
        low, high = estimate.interval
        row = {"stage": stage.name, "probe": probe.name, "seed": asked["seed"], "target": config.target, "number": name}
        row |= {"expected": round(estimate.mean, 1), "low": round(low, 1), "high": round(high, 1), "came": value}
        rows.append(row | {"inside": low <= value <= high, "z": round((value - estimate.mean) / (estimate.sd or 1), 2)})
    return rows


def made(sets: int, problems: int = 145, samples: int = 4) -> list[dict[str, Any]]:
    """One row a set, strategy and number: whether one run ended inside the forecast's interval, and its distance."""
    rows = []
    for i in range(sets):
        rng, shape = np.random.default_rng((1000, i)), list(SHAPES)[i % len(SHAPES)]
        p = SHAPES[shape](rng, problems)
        right = rng.binomial(samples, p)
        start = simulate.probed([Difficulty(str(n), samples, int(c)) for n, c in enumerate(right)], samples)
        counts = budgets.Counts.of(*([samples] * problems for _ in range(2)), right)
        for target in ("prop2diff", "uniform"):
            config = SamplingConfig(target=target, quota=4, max_tries=12)
            expected = simulate.forecast(start, config, replicas=100)
            came = simulate.played(lambda _, p=p, c=counts: (p, c), config, rng)["all"]
            for name, key in NUMBERS.items():
                estimate: simulate.Estimate = getattr(expected, name)
                low, high = estimate.interval
                z = (came[key] - estimate.mean) / (estimate.sd or 1)
                rows.append({"shape": shape, "target": target, "number": name, "z": round(z, 2)})
                rows[-1]["inside"] = bool(low <= came[key] <= high)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("runs", type=Path, nargs="?")
    what.add_argument("--made", type=int, metavar="N")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    rows = of_runs(chosen.runs) if chosen.runs else made(chosen.made)
    if chosen.made:
        for target in ("prop2diff", "uniform"):
            for name in NUMBERS:
                held = [r["inside"] for r in rows if (r["target"], r["number"]) == (target, name)]
                print(f"{target:10} {name:13} {np.mean(held):.3f} of {len(held)}")
    print(f"{sum(r['inside'] for r in rows)} of {len(rows)} inside the simulator's 95 % interval")
    if chosen.out:
        write_json(chosen.out, {"how": __doc__, "conditions": facts(), "rows": rows})


def of_runs(runs: Path) -> list[dict[str, Any]]:
    """Rows of `compared` for every sampling that is finished, printed."""
    stages = sorted(p.parent for p in runs.glob(f"sample-2-*/{store.MANIFEST}"))
    # where the probe met every quota or spent every draw there is nothing to foretell
    stages = [s for s in stages if store.read_manifest(s)["metrics"]["dialogues"]]
    rows = [row for stage in stages for row in compared(stage)]
    for r in rows:
        print(
            f"{r['target']:10} seed {r['seed']}  {r['number']:13}{r['expected']:8} [{r['low']}, {r['high']}]"
            f"{r['came']:8}  {'' if r['inside'] else 'OUTSIDE'}"
        )
    return rows


if __name__ == "__main__":
    main()
