"""Phase 2: how hard is each problem for the phase-1 model, and how many correct samples should it give?

Difficulty is the fail rate 1 - correct/tried over the probe's samples (DART-Math, arXiv 2407.13690, section 2).
Sampling then goes on, in rounds, per problem, until its quota of correct samples is met or its draws are spent.
The probe's samples are candidates too: nothing that was drawn is thrown away.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dpr_mini import prompts
from dpr_mini.chat import Template
from dpr_mini.conversation import Conversation, hold, usage
from dpr_mini.engines.base import Engine
from dpr_mini.engines.base import Sampling as Draw
from dpr_mini.grade import Grader
from dpr_mini.recipe import Probe, Sampling
from dpr_mini.store import read_rows, write_rows
from dpr_mini.types import Budget, Dialogue, Difficulty, Problem, from_row, seed_for, to_row

VERSION = 1
BINS = (0.0, 0.25, 0.5, 0.75, 1.0)  # pass-rate bins of the report; 0 and 1 themselves are bins of their own


def probe(
    folder: Path,
    problems: Sequence[Problem],
    engine: Engine,
    template: Template,
    config: Probe,
    question: str,
    seed: int,
) -> dict[str, Any]:
    """Draw `config.samples` answers a problem from the phase-1 model; `rows.jsonl` gets Dialogue rows."""
    wanted = [_single(p, i, config, question, seed) for p in problems for i in range(config.samples)]
    held = hold(folder / "rows.jsonl", engine, template, wanted, "probe-2")
    return usage(held.values(), len(wanted))


def sample(
    folder: Path,
    problems: Sequence[Problem],
    probed: Path,
    engine: Engine,
    template: Template,
    config: Sampling,
    draw: Probe,
    question: str,
    seed: int,
) -> dict[str, Any]:
    """Draw on until every quota is met or spent. Writes `rows.jsonl` (Dialogue) and `budgets.jsonl`.

    Rounds are a function of what was drawn before, so a resumed run draws the same samples as an unbroken one.
    """
    with Grader() as grader:
        first = [from_row(Dialogue, row) for row in read_rows(probed / "rows.jsonl")]
        right = _correct(grader, problems, first)
        tried = Counter(d.problem_id for d in first)
        difficulties = [Difficulty(p.id, tried[p.id], right[p.id]) for p in problems]
        budgets = {b.problem_id: b for b in allocate(difficulties, config)}
        drawn: dict[str, Dialogue] = {}
        # what was asked counts, not what came: a draw that the engine failed keeps its number and its place
        asked = Counter({p.id: draw.samples for p in problems})
        while plan := _round(problems, budgets, asked, right):
            wanted = [_single(p, i, draw, question, seed) for p, n in plan for i in range(asked[p.id], asked[p.id] + n)]
            new = hold(folder / "rows.jsonl", engine, template, wanted, "sample-2")
            drawn |= new
            asked.update({p.id: n for p, n in plan})
            right.update(_correct(grader, problems, new.values()))
    (folder / "rows.jsonl").touch()  # every quota met by the probe alone: no rows, but a file
    rows = [
        {
            **to_row(d),
            "rate": d.rate,
            "interval": d.interval,
            "wanted": budgets[d.problem_id].wanted,
            "drawn": asked[d.problem_id],
            "right": right[d.problem_id],
        }
        for d in difficulties
    ]
    write_rows(folder / "budgets.jsonl", rows)
    return {
        **usage(drawn.values(), asked.total() - draw.samples * len(problems)),
        "target": config.target,
        "met": sum(r["right"] >= r["wanted"] > 0 for r in rows),
        "spent": sum(0 < r["right"] < r["wanted"] for r in rows),
        "never_solved": sum(r["right"] == 0 for r in rows),
        "bins": bins(rows),
    }


def allocate(difficulties: Sequence[Difficulty], config: Sampling) -> list[Budget]:
    """Correct samples wanted per problem.

    prop2diff: max(1, ceil(quota * d_i / max_j d_j)), d = fail rate: in proportion to difficulty, at least one
    (DARS-Prop2Diff, arXiv 2407.13690, section 2.2; the normalisation by the maximum is our reading).
    uniform: `quota` for every problem (DARS-Uniform, same source).
    """
    hardest = max((1 - d.rate for d in difficulties), default=0.0)
    wanted = {
        "uniform": lambda d: config.quota,
        "prop2diff": lambda d: max(1, math.ceil(config.quota * (1 - d.rate) / hardest - 1e-9)) if hardest else 1,
    }[config.target]
    return [Budget(d.problem_id, wanted(d), config.max_tries) for d in difficulties]


def bins(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """Per bin of the probe's pass rate: problems, samples wanted, drawn, right."""
    table: dict[str, dict[str, int]] = {}
    for row in sorted(rows, key=lambda r: r["rate"]):
        into = table.setdefault(bin_of(row["rate"]), {"problems": 0, "wanted": 0, "drawn": 0, "right": 0})
        into["problems"] += 1
        for name in ("wanted", "drawn", "right"):
            into[name] += row[name]
    return table


def bin_of(rate: float) -> str:
    if rate in (0.0, 1.0):
        return f"{rate:.0f}"
    low = max(b for b in BINS if b < rate)
    return f"{low:g}-{low + 0.25:g}"


def _round(
    problems: Sequence[Problem], budgets: Mapping[str, Budget], asked: Mapping[str, int], right: Mapping[str, int]
) -> list[tuple[Problem, int]]:
    """Draws of the next round: what each open problem lacks over its pass rate so far, within its budget."""
    plan = []
    for problem in problems:
        budget, t, c = budgets[problem.id], asked[problem.id], right[problem.id]
        if (lacking := budget.wanted - c) > 0 and t < budget.max_tries:
            expected = math.ceil(lacking * (t + 2) / (c + 1))  # Laplace's estimate of the pass rate
            plan.append((problem, min(expected, budget.max_tries - t)))
    return plan


def _single(problem: Problem, number: int, config: Probe, question: str, seed: int) -> Conversation:
    return Conversation(
        problem.id,
        number,
        (("solve", prompts.fill(question, problem.text)),),
        Draw(config.max_new_tokens, config.temperature, config.top_p),
        seed_for(seed, "phase-2", problem.id, number),
    )


def _correct(grader: Grader, problems: Sequence[Problem], dialogues: Iterable[Dialogue]) -> Counter[str]:
    """Right and complete answers per problem."""
    gold = {p.id: p.answer for p in problems}
    complete = {d.id: d for d in dialogues if d.finish == "stop"}
    cases = ((d.id, gold[d.problem_id], d.turns[-1].text) for d in complete.values())
    return Counter(complete[i].problem_id for i, verdict in grader.grade_many(cases) if verdict.ok)
