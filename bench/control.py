"""Two runs' phase-1 models on the same held-out problems, graded anew by this tree, and the share of commuted twins.

    python bench/control.py runs/smollm2-cpu runs/smollm2-format-only

Prints and writes bench/results/control.json: paired differences (control - base, phase 1 - control), both samplings;
and, for the first run, how problems with and without a commuted twin (3 * 4, 4 * 3) in training fare.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from dpr_mini import store
from dpr_mini.facts import facts
from dpr_mini.runner import read_latest
from dpr_mini.stages import evaluate
from dpr_mini.stats import GREEDY, official, paired, pass_rates
from dpr_mini.types import Dialogue, Problem, from_row

OUT = Path(__file__).parent / "results" / "control.json"


def graded(run: Path, stage: str) -> list[dict[str, Any]]:
    latest = read_latest(run)
    problems = [from_row(Problem, r) for r in store.read_rows(run / latest["stages"]["problems"] / "rows.jsonl")]
    answers = [from_row(Dialogue, r) for r in store.read_rows(run / latest["stages"][stage] / "rows.jsonl")]
    return evaluate.grade(answers, problems, latest["recipe"]["dialogue"]["bridges"])


def differences(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> dict[str, Any]:
    found = {}
    for benchmark in ("all", *dict.fromkeys(r["benchmark"] for r in before)):
        for name, greedy in (("sampled", False), ("greedy", True)):
            rates = [
                pass_rates(
                    [r for r in rows if (r["sample"] == GREEDY) is greedy and benchmark in ("all", r["benchmark"])],
                    official,
                )
                for rows in (before, after)
            ]
            found[f"{benchmark}, {name}"] = paired(*(list(r.values()) for r in rates))
    return found


def twins(run: Path, models: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Sampled accuracy of held-out problems by whether training has one with the same numbers in another order."""

    def key(text: str) -> tuple[str, ...]:
        parts = re.findall(r"\d+|[*+-]", text)
        return tuple(parts) if "-" in parts else tuple(sorted(parts))

    rows = list(store.read_rows(run / read_latest(run)["stages"]["problems"] / "rows.jsonl"))
    trained = {key(r["text"]) for r in rows if r["split"] == "train"}
    table: dict[str, Any] = {}
    for row in rows:
        if row["split"] != "train":
            label = f"{row['split']}, {'twin' if key(row['text']) in trained else 'no twin'}"
            table.setdefault(label, []).append(row["id"])
    rates = {
        m: pass_rates([r for r in graded_rows if r["sample"] != GREEDY], official) for m, graded_rows in models.items()
    }
    return {
        label: {"n": len(ids), **{m: round(sum(r[i] for i in ids) / len(ids), 4) for m, r in rates.items()}}
        for label, ids in sorted(table.items())
    }


if __name__ == "__main__":
    main, control = map(Path, sys.argv[1:])
    base, phase_1, phase_2 = (graded(main, f"eval-{i}") for i in range(3))
    instead = graded(control, "eval-1")
    found = {
        "runs": [main.name, control.name],
        "control - base": differences(base, instead),
        "phase 1 - control": differences(instead, phase_1),
        "commuted twins": twins(main, {"base": base, "phase 2": phase_2}),
        "conditions": facts(),
    }
    store.write_json(OUT, found)
    for name, numbers in list(found.items())[1:-1]:
        print(name)
        for label, values in numbers.items():
            print(f"  {label:22} " + "  ".join(f"{k} {v:.3f}" for k, v in values.items()))
