"""Sections of the report on how a run was made, and its machine-readable form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import yaml

from dpr_mini.reporting.document import Fold, Section, Table
from dpr_mini.reporting.results import Results
from dpr_mini.reporting.words import flat


def conditions(results: Results, recipe: Mapping[str, Any]) -> Section:
    facts = _facts(results, recipe)
    rows = [(name, value if isinstance(value, str) else ", ".join(value)) for name, value in facts.items()]
    stages = [
        (m["stage"], results.at[role].name, f"{m['seconds']:,.1f}", f"{m['peak_rss_gib']:.2f}", m["finished"])
        for role, m in results.manifests.items()
    ]
    note = "Peak memory is that of the process up to then (GiB): over stages of one process it never falls."
    head = ("stage", "folder", "seconds", "peak GiB", "finished (UTC)")
    dumped = yaml.safe_dump(dict(recipe), sort_keys=False, allow_unicode=True, width=110)
    source = "stage.json of every stage and the recipe"
    return Section(
        "Conditions",
        [
            Table(("what", "value"), rows, source, prose=True),
            Table(head, stages, "stage.json of the stages named", "Stages", note),
            Fold("The recipe, resolved", dumped),
        ],
    )


def _facts(results: Results, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Conditions by name; a list where stages were made under different ones."""

    def of(name: str) -> list[str]:
        return list(dict.fromkeys(flat(m[name]) for m in results.manifests.values()))

    def draw(section: str) -> str:
        config = recipe[section]
        return f"{config['samples']} samples, " + ", ".join(
            f"{k} {config[k]:g}" for k in ("temperature", "top_p", "max_new_tokens")
        )

    engines = list(dict.fromkeys(results.metrics(r)["engine"] for r in results.generating))
    model = recipe["model"]["name"] + (f" @ {recipe['model']['revision']}" if recipe["model"]["revision"] else "")
    sampling = {"evaluate": "evaluation", "dialogue": "dialogue, each turn", "probe": "probe and phase-2 sampling"}
    return {
        "model": model,
        "engine": engines,
        "seed": str(recipe["seed"]),
        "scale": f"{recipe['scale']:g}",
        **{f"sampling: {label}": draw(section) for section, label in sampling.items()},
        "machine": of("machine"),
        "versions": of("versions"),
        "commit": [c or "none (not a checkout)" for c in of("commit")],
    }


def scorecards(results: Results, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The machine-readable report: cards per model and benchmark, paired differences, conditions."""
    return {
        "name": recipe["name"],
        "models": {
            m.label: {"from": m.folder.name, "cards": {name: card.to_row() for name, card in m.cards.items()}}
            for m in results.models
        },
        "differences": [change.to_row() for change in results.changes],
        "conditions": {**_facts(results, recipe), "recipe": recipe},
        "stages": {role: folder.name for role, folder in results.at.items()},
    }


def summary(results: Results) -> dict[str, Any]:
    """What `show` prints: pass@1 of every model on every benchmark, and the verdicts."""
    return {
        "pass@1": {b: {m.label: round(m.cards[b].mean, 4) for m in results.models} for b in results.benchmarks},
        "verdicts": dict(Counter(change.verdict for change in results.by_measure("official")).most_common()),
    }
