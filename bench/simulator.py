"""The simulator of phase 2's sampling against what really came: expected from each probe alone, then counted.

    python bench/simulator.py runs/smollm2-cpu [--out bench/results/simulator.json]

For every finished sample-2 in the folder: the forecast from its probe's pass rates, and draws, right and usable
answers and problems never solved as its manifest has them; `z` is their distance in the forecast's standard deviations.
Runs of one probe (arms that share it) are not independent of each other.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from dpr_mini import budgets, simulate, store
from dpr_mini.facts import facts
from dpr_mini.recipe import Sampling


def compared(stage: Path) -> list[dict[str, Any]]:
    """One row a number: expected, its 95 % interval, and what came."""
    manifest = store.read_json(stage / store.MANIFEST)
    asked, found = manifest["config"], manifest["metrics"]
    config = Sampling(**{k: v for k, v in asked.items() if k in Sampling.model_fields})
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    stages = sorted(p.parent for p in chosen.runs.glob(f"sample-2-*/{store.MANIFEST}"))
    # where the probe met every quota or spent every draw there is nothing to foretell
    stages = [s for s in stages if store.read_json(s / store.MANIFEST)["metrics"]["dialogues"]]
    rows = [row for stage in stages for row in compared(stage)]
    for r in rows:
        print(
            f"{r['target']:10} seed {r['seed']}  {r['number']:13}{r['expected']:8} [{r['low']}, {r['high']}]"
            f"{r['came']:8}  {'' if r['inside'] else 'OUTSIDE'}"
        )
    print(f"{sum(r['inside'] for r in rows)} of {len(rows)} inside the simulator's 95 % interval")
    if chosen.out:
        store.write_json(chosen.out, {"how": __doc__, "conditions": facts(), "rows": rows})


if __name__ == "__main__":
    main()
