"""Score a model on the held-out problems: k sampled answers and a greedy one each, graded and counted.

`rows.jsonl` holds the answers as they were given, `graded.jsonl` what the grader said of each, so that every number
can be traced and graded again without generating. Besides the official verdict each answer is scored by its first
and by its last number: the gap between them separates a better format from better arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dpr_mini import behaviours
from dpr_mini.chat import Template, join_text
from dpr_mini.conversation import Conversation, hold, script, usage
from dpr_mini.engines.base import Engine, Sampling
from dpr_mini.grade import Grader, first_result, last_number
from dpr_mini.recipe import Evaluate
from dpr_mini.stats import GREEDY, bootstrap, pass_rates
from dpr_mini.store import write_rows
from dpr_mini.types import Dialogue, Problem, ScoreCard, seed_for, to_row

VERSION = 3


def run(
    folder: Path,
    problems: Sequence[Problem],
    engine: Engine,
    template: Template,
    config: Evaluate,
    templates: Mapping[str, str],
    bridges: Mapping[str, str],
    seed: int,
    title: str = "eval",
) -> dict[str, Any]:
    """Answer and grade every held-out problem. Metrics hold one score card per benchmark and one for all."""
    drawn = Sampling(config.max_new_tokens, config.temperature, config.top_p)
    greedy = Sampling(config.max_new_tokens, temperature=0.0)
    samples = [*range(config.samples), *([GREEDY] if config.greedy else [])]
    wanted = [
        Conversation(
            p.id,
            i,
            script(config.turns or ((config.template,),), templates, p.text, number + i),
            greedy if i == GREEDY else drawn,
            seed_for(seed, "eval", p.id, i),
        )
        for number, p in enumerate(problems)
        for i in samples
    ]
    answers = hold(folder / "rows.jsonl", engine, template, wanted, title, whole=True)
    rows = grade(list(answers.values()), problems, bridges)
    write_rows(folder / "graded.jsonl", rows)
    benchmarks = list(dict.fromkeys(p.split for p in problems))  # in the recipe's order
    cards = {b: score(b, [r for r in rows if r["benchmark"] == b]) for b in benchmarks}
    if len(benchmarks) > 1:
        cards["all"] = score("all", rows)
    return {**usage(answers.values(), len(wanted)), "cards": cards}


def grade(answers: Sequence[Dialogue], problems: Sequence[Problem], bridges: Mapping[str, str]) -> list[dict[str, Any]]:
    """One row an answer, sorted by id. `attempt_ok` is the verdict on what stands before the first bridge, or None.

    Of a dialogue (`evaluate.turns`) the last turn's answer counts; `attempt_ok` is that of its first turn, `joined_ok`
    that of the whole chain.
    """
    by_id = {p.id: p for p in problems}
    cases = []
    for d in answers:
        gold, text = by_id[d.problem_id].answer, d.turns[-1].text
        cases += [
            (f"{d.id}|final", gold, text),
            (f"{d.id}|first", gold, first_result(text)),
            (f"{d.id}|last", gold, last_number(text)),
        ]
        if (before := d.turns[0].text if len(d.turns) > 1 else first_attempt(text, bridges)) is not None:
            cases.append((f"{d.id}|attempt", gold, before))
        if len(d.turns) > 1:
            cases.append((f"{d.id}|joined", gold, join_text(d, bridges)))
    with Grader() as grader:
        verdicts = dict(grader.grade_many(cases))
    rows = []
    for d in sorted(answers, key=lambda d: d.id):
        problem, final = by_id[d.problem_id], verdicts[f"{d.id}|final"]
        attempt, joined = verdicts.get(f"{d.id}|attempt"), verdicts.get(f"{d.id}|joined")
        rows.append(
            {
                "id": d.id,
                "problem_id": d.problem_id,
                "benchmark": problem.split,
                "source": problem.source,
                "sample": d.sample,
                "tokens": d.tokens,
                "finish": d.finish,
                **to_row(final),
                "first_ok": verdicts[f"{d.id}|first"].ok,
                "last_ok": verdicts[f"{d.id}|last"].ok,
                "attempt_ok": attempt.ok if attempt else None,
                "joined_ok": joined.ok if joined else None,
                "behaviours": behaviours.count("\n\n".join(t.text for t in d.turns)),
            }
        )
    return rows


def first_attempt(text: str, bridges: Mapping[str, str]) -> str | None:
    """The text before the first bridge sentence in it; None where there is none."""
    found = [at for bridge in bridges.values() if bridge.strip() and (at := text.find(bridge.strip())) > 0]
    return text[: min(found)] if found else None


def score(benchmark: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A ScoreCard of graded rows and what stands beside it: other scorers, behaviours, changes of mind."""
    sampled = [r for r in rows if r["sample"] != GREEDY]
    greedy = [r for r in rows if r["sample"] == GREEDY]
    mean, low, high = bootstrap(list(pass_rates(sampled).values()))
    tokens = np.array([r["tokens"] for r in sampled])
    revised = [r for r in sampled if r["attempt_ok"] is not None]
    talked = [r for r in sampled if r.get("joined_ok") is not None]
    card = ScoreCard(
        benchmark=benchmark,
        n=len(pass_rates(sampled)),
        k=len(sampled) // max(len(pass_rates(sampled)), 1),
        mean=mean,
        low=low,
        high=high,
        greedy=share(r["status"] == "correct" for r in greedy),
        truncated=share(r["finish"] == "length" for r in sampled),
        tokens_mean=float(tokens.mean()),
        tokens_median=float(np.median(tokens)),
        tokens_p90=float(np.percentile(tokens, 90)),
    )
    return {
        **to_row(card),
        "first_result": share(r["first_ok"] for r in sampled),
        "last_number": share(r["last_ok"] for r in sampled),
        "unparsed": share(r["status"] == "unparsed" for r in sampled),
        "timeouts": sum(r["status"] == "timeout" for r in rows),
        "behaviours": {
            name: share(r["behaviours"][name] > 0 for r in sampled) for name in behaviours.NAMES
        },
        **({"joined": share(r["joined_ok"] for r in talked)} if talked else {}),
        "revised": len(revised),
        "wrong_to_right": share(not r["attempt_ok"] and r["status"] == "correct" for r in revised),
        "right_to_wrong": share(r["attempt_ok"] and r["status"] != "correct" for r in revised),
    }  # fmt: skip


def share(flags: Any) -> float:
    """Share of true flags; 0 of none is 0."""
    flags = list(flags)
    return round(sum(flags) / len(flags), 4) if flags else 0.0
