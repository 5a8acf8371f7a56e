"""What comparison.json holds: all numbers of an experiment's arms, with their conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from dpr_mini import store
from dpr_mini.machine.facts import facts
from dpr_mini.recipe import Hypothesis
from dpr_mini.reporting.arms import Comparison
from dpr_mini.reporting.costs import costs
from dpr_mini.reporting.hypotheses import examine, to_row
from dpr_mini.reporting.inside import inside
from dpr_mini.reporting.measured import measured
from dpr_mini.runs import openings
from dpr_mini.types import EASY, HARD


def summary(comparison: Comparison, hypotheses: Sequence[Hypothesis] = ()) -> dict[str, Any]:
    """All numbers with their conditions, as comparison.json holds them.

    An arm's `differs` is what its recipe says otherwise than the one in `conditions`, the first arm's. Of all this only
    `hypotheses` were registered; the rest explores.
    """
    names = comparison.slices
    first = next(iter(comparison.arms.values()))
    plain = {name: _settings(next(iter(arm.runs.values())).recipe) for name, arm in comparison.arms.items()}
    return {
        "baseline": comparison.baseline,
        "hypotheses": [to_row(tested) for tested in examine(comparison, hypotheses)],
        "measured": [asdict(one) for one in measured(comparison, hypotheses)],
        "inside": inside(comparison),
        "bins": {
            HARD: f"greedy answer of {comparison.base} wrong",
            EASY: f"greedy answer of {comparison.base} right",
        },
        "arms": {
            name: {
                "seeds": list(arm.runs),
                "evaluations": {seed: run.stages[arm.stage].name for seed, run in arm.runs.items()},
                "costs": costs(arm),
                "scores": {s: asdict(comparison.scores(name, s)) for s in names},
                "differs": {
                    k: v
                    for k in plain[name] | plain[first.name]
                    if (v := plain[name].get(k)) != plain[first.name].get(k) and k not in ("seed", "hypotheses")
                },
            }
            for name, arm in comparison.arms.items()
        },
        "differences": [
            {"arm": name, "baseline": other, "on": s, "measure": measure, **asdict(difference)}
            for name, other in comparison.pairs
            for s in names
            for measure in ("pass@1", *(["greedy"] if s in comparison.benchmarks else []))
            if (difference := comparison.difference(name, other, s, measure == "greedy"))
        ],
        "pooled": comparison.pooled,
        "left_out": list(comparison.left_out),
        "closed": list(comparison.closed),
        "openings": opened_by(comparison),
        "conditions": conditions(comparison) | {"recipe": {**next(iter(first.runs.values())).recipe, "like": None}},
        "written_by": facts(),
    }


def opened_by(comparison: Comparison) -> list[dict[str, Any]]:
    """When these runs first asked about test sets, and at which commit, by the stores' test-opened.jsonl."""
    runs = [run for arm in comparison.arms.values() for run in arm.runs.values()]
    stores = dict.fromkeys(folder.parent.resolve() for run in runs for folder in run.stages.values())
    names = {(run.name, run.seed) for run in runs}
    lines = [line for store_ in stores for line in openings(store_) if (line["recipe"], line["seed"]) in names]
    return sorted(lines, key=lambda line: line["opened"])


def _settings(recipe: Mapping[str, Any], at: str = "") -> dict[str, Any]:
    """A recipe as {"section.key": value}; of the recipe that it is measured by, the name."""
    settings: dict[str, Any] = {}
    for key, value in recipe.items():
        if key == "like":
            settings[key] = value["name"] if value else None
        elif isinstance(value, Mapping) and value:
            settings |= _settings(value, f"{at}{key}.")
        else:
            settings[f"{at}{key}"] = value
    return settings


def conditions(comparison: Comparison) -> dict[str, Any]:
    """What the stages say of how they were made; a list where they differ."""
    runs = [run for arm in comparison.arms.values() for run in arm.runs.values()]
    folders = {run.stages[n]: run.manifest(n) for run in runs for n in run.stages if run.complete(n) and n != "report"}

    def of(values: list[Any]) -> list[Any]:
        return list({store.canonical(v): v for v in values}.values())

    config = runs[0].recipe["evaluate"]
    return {
        "model": of([run.recipe["model"] for run in runs]),
        "engine": of([m["metrics"]["engine"] for m in folders.values() if "engine" in m["metrics"]]),
        "scale": of([run.recipe["scale"] for run in runs]),
        "evaluation": {k: config[k] for k in ("samples", "greedy", "temperature", "top_p", "max_new_tokens")},
        **{name: of([m[name] for m in folders.values()]) for name in ("machine", "versions", "commit")},
    }
