"""Held-out problems whose commuted twin (3 * 4 for 4 * 3) is in training, and those without one: do both get better?

    python bench/twins.py runs/smollm2-cpu

Prints and writes bench/results/twins.json: sampled accuracy of every evaluated model on either kind, by benchmark. What
arms differ in is `dpr-mini compare`'s business.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from dpr_mini import store
from dpr_mini.facts import facts
from dpr_mini.reporting.results import Results
from dpr_mini.runner import read_latest
from dpr_mini.stats import pass_rates

OUT = Path(__file__).parent / "results" / "twins.json"


def key(text: str) -> tuple[str, ...]:
    """A problem's numbers and signs, in any order where the order changes nothing."""
    parts = re.findall(r"\d+|[*+-]", text)
    return tuple(parts) if "-" in parts else tuple(sorted(parts))


def twins(results: Results) -> dict[str, dict[str, Any]]:
    rows = list(results.rows("problems"))
    trained = {key(r["text"]) for r in rows if r["split"] == "train"}
    table: dict[str, list[str]] = {}
    for row in rows:
        if row["split"] != "train":
            label = f"{row['split']}, {'twin' if key(row['text']) in trained else 'no twin'}"
            table.setdefault(label, []).append(row["id"])
    rates = {m.label: pass_rates(m.answers()) for m in results.models}
    return {
        label: {"n": len(ids), **{m: round(sum(r[i] for i in ids) / len(ids), 4) for m, r in rates.items()}}
        for label, ids in sorted(table.items())
    }


if __name__ == "__main__":
    run = Path(sys.argv[1])
    folders = {role.replace("-", "_"): run / f for role, f in read_latest(run)["stages"].items() if role != "report"}
    results = Results({role: f for role, f in folders.items() if (f / store.MANIFEST).exists()})
    found = twins(results)
    store.write_json(OUT, {"run": run.name, "commuted twins": found, "conditions": facts()})
    for label, numbers in found.items():
        print(f"{label:22} " + "  ".join(f"{name} {value}" for name, value in numbers.items()))
