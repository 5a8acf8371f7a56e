"""The report: what improved, what did not, under which conditions. Every claim has an interval, every number a file.

Writes `report.html` (one page, nothing loaded from anywhere), `report.md` (the same blocks) and `scorecards.json`.
`results.py` has the numbers, `figures.py` the drawings, `samples.py` the dialogues behind them, `document.py` the page.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpr_mini.reporting import answers, data, samples
from dpr_mini.reporting.accuracy import format_or_arithmetic, headline, verdicts
from dpr_mini.reporting.conditions import conditions, scorecards, summary
from dpr_mini.reporting.document import Section, render
from dpr_mini.reporting.results import GENERATING, Results
from dpr_mini.store import Kind, Settings, Work, write_json, write_text


@dataclass(frozen=True)
class ReportSettings(Settings):
    """What the stages were made with is in their keys, so the recipe's name is all that is hashed of it."""

    recipe: Mapping[str, Any]

    def key(self) -> dict[str, Any]:
        return {"name": self.recipe["name"]}


def run(work: Work) -> dict[str, Any]:
    """Report on all stages of the run; see `write`."""
    return write(work.folder, work.inputs, work.settings.recipe)


def write(folder: Path, at: Mapping[str, Path], recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Report on the complete stage folders in `at` (stage name -> folder); `recipe` is the resolved recipe.

    Stages that are not there (phases: 1, a run under way, no held-out problems) are left out and named.
    Raises StoreError for a stage whose files do not fit together.
    """
    results = Results(at)
    groups = samples.groups(results)
    to = samples.linker({key: group.anchor for key, group in groups.items()})
    sections = [
        headline(results, recipe, to),
        verdicts(results),
        format_or_arithmetic(results, to),
        answers.gallery(results, to),
        answers.length_table(results, recipe, to),
        answers.behaviour_table(results, to),
        data.funnel(results, to),
        data.difficulty(results, to),
        data.excerpts(results),
        conditions(results, recipe),
        Section("", list(groups.values())),
    ]
    title, lead = f"dpr-mini: {recipe['name']}", _lead(results, recipe)
    for name in ("report.html", "report.md"):
        write_text(folder / name, render(name, title, lead, sections))
    write_json(folder / "scorecards.json", scorecards(results, recipe))
    return {"headline": summary(results)}


def _lead(results: Results, recipe: Mapping[str, Any]) -> str:
    phases = recipe["phases"]
    done = f"{sum(f'train-{i}' in results.at for i in phases)} of {len(phases)} phases"
    done += " (phase 2 alone)" if list(phases) == [2] else ""
    engines = sorted({results.metrics(r)["engine"] for r in GENERATING if r in results.at})
    text = (
        f"{recipe['model']['name']} "
        + (f"taught itself in {done}" if phases else "as it is, untrained")
        + " (arXiv 2601.05616, with our own prompts, rules and settings), "
        f"seed {recipe['seed']}, scale {recipe['scale']:g}, engine {', '.join(engines)}."
    )
    if not results.models:
        return text + " Nothing was evaluated: the recipe has no held-out problems, or the run has not come that far."
    wanted = ["base", *(f"phase {i}" for i in phases)]
    missing = [label for label in wanted if label not in {m.label for m in results.models}]
    text += " Underlined numbers and most bars can be clicked: they show dialogues behind them."
    return text + (f" Not evaluated: {', '.join(missing)}." if missing else "")


REPORT = Kind(version=3, run=run)
