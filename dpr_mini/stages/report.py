"""The report: what improved, what did not, under which conditions. Every claim has an interval, every number a file.

Writes `report.html` (one page, nothing loaded from anywhere), `report.md` (the same blocks) and `scorecards.json`.
The first screen (`front.py`) says what happened, then come dialogues and figures; all tables fold away below.
`results.py` has the numbers, `figures.py` the drawings, `samples.py` the dialogues behind them, `document.py` the page.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpr_mini.files.rows import write_json, write_text
from dpr_mini.reporting import anatomy, answers, data, dialogues, samples
from dpr_mini.reporting.accuracy import format_or_arithmetic, headline, verdicts
from dpr_mini.reporting.conditions import conditions, scorecards, summary
from dpr_mini.reporting.document import Section, render
from dpr_mini.reporting.front import front, lead
from dpr_mini.reporting.results import Results
from dpr_mini.reporting.summaries import fold
from dpr_mini.store import Kind, Settings, Work
from dpr_mini.types import redacted


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
    results, recipe = Results(at), redacted(recipe)
    groups = samples.groups(results)
    to = samples.linker({key: group.anchor for key, group in groups.items()})
    folded = [
        anatomy.test(results),
        verdicts(results),
        headline(results, recipe, to),
        format_or_arithmetic(results, to),
        anatomy.section(results),
        answers.length_table(results, recipe, to),
        answers.behaviour_table(results, to),
        data.funnel(results, to),
        data.difficulty(results, to),
        dialogues.dropped(results),
        conditions(results, recipe),
    ]
    sections = [
        front(results, recipe, to),
        dialogues.kept(results),
        answers.gallery(results, to),
        *(fold(results, section) for section in folded),
        Section("", list(groups.values())),
    ]
    title, first = f"dpr-mini: {recipe['name']}", lead(results, recipe)
    for name in ("report.html", "report.md"):
        write_text(folder / name, render(name, title, first, sections))
    write_json(folder / "scorecards.json", scorecards(results, recipe))
    return {"headline": summary(results)}


REPORT = Kind(version=6, run=run)
