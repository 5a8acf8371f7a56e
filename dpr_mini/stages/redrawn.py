"""Plain answers drawn until a check accepts one: what choosing among parallel answers gives, at what cost in tokens.

Response j of a problem has the sampled answers j * at_most to (j + 1) * at_most - 1, in order. The first that the check
accepts stands, else the last, which needs no check. Its tokens are those of all answers drawn and checks asked.
Nothing is asked here: the answers are graded, the checks read. `redrawn.jsonl` has the rows of `graded.jsonl`, with
the `at_most` that they were drawn by.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import Any

from dpr_mini.files.rows import read_as, write_rows
from dpr_mini.recipe import RedrawConfig
from dpr_mini.scoring.card import score_all
from dpr_mini.scoring.redraw import Check, redraw
from dpr_mini.scoring.stats import estimate, pass_rates, subset
from dpr_mini.store import Kind, Settings, Work
from dpr_mini.types import Graded, to_row


@dataclass(frozen=True)
class RedrawnSettings(Settings):
    redraw: RedrawConfig

    def key(self) -> dict[str, Any]:
        return {"redraw": self.redraw.model_dump(mode="json")}


def run(work: Work) -> dict[str, Any]:
    """Metrics: score cards of the responses, and by number of draws from 1 on their pass@1 and mean tokens."""
    config: RedrawConfig = work.settings.redraw
    answers = list(read_as(Graded, work.inputs["graded"] / "graded.jsonl"))
    checks = {check.id: check for check in read_as(Check, work.inputs["checks"] / "verdicts.jsonl")}
    drawn = {n: redraw(answers, checks, config, n) for n in range(1, config.at_most + 1)}
    rows = ({**a.to_row(), "at_most": config.at_most} for a in drawn[config.at_most])
    write_rows(work.folder / "redrawn.jsonl", rows)
    benchmarks = list(dict.fromkeys(a.benchmark for a in drawn[config.at_most]))
    cards = {name: card.to_row() for name, card in score_all(drawn[config.at_most], benchmarks).items()}
    by = {name: {str(n): _point(subset(of, name)) for n, of in drawn.items()} for name in benchmarks}
    return {"cards": cards, "redrawn": by}


def _point(answers: list[Graded]) -> dict[str, Any]:
    """pass@1 over problems, with its interval, and mean tokens of these responses."""
    return to_row(estimate(list(pass_rates(answers).values()))) | {"tokens_mean": fmean(a.tokens for a in answers)}


REDRAWN = Kind(version=1, run=run)
