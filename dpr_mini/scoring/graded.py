"""Answers to graded answers: every verdict on them, and the answer that each votes for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dpr_mini.chat.template import join_text
from dpr_mini.grading.grader import Grader, first_result, last_number
from dpr_mini.recipe import Grading
from dpr_mini.scoring.stats import GREEDY, Row, official
from dpr_mini.selection import behaviours
from dpr_mini.types import Dialogue, Problem, to_row


def grade(
    answers: Sequence[Dialogue],
    problems: Sequence[Problem],
    bridges: Mapping[str, str],
    limits: Grading = Grading(),  # noqa: B008  frozen
) -> list[dict[str, Any]]:
    """One row an answer, sorted by id. `attempt_ok` is the verdict on what stands before the first bridge, or None.

    Of a dialogue (`evaluate.turns`) the last turn's answer counts; `attempt_ok` is that of its first turn, `joined_ok`
    that of the whole chain. `vote` is the answer that a sample stands for in a majority vote: the first of its
    problem's answers that the grader takes for the same, None where nothing was found.
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
    with Grader(timeout_s=limits.timeout_s, memory_mib=limits.memory_mib) as grader:
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
                    "level": problem.level,
                    "subject": problem.subject,
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
        cast = votes(rows, grader)
    return [{**row, "vote": cast.get(row["id"])} for row in rows]


def votes(rows: Sequence[Row], grader: Grader) -> dict[str, str]:
    """Row id -> the answer it votes for, of the sampled rows in which one was found.

    All right answers are one vote, by the verdict they have. A wrong one joins the first wrong answer of its problem
    that the grader takes for the same. What the grader gave up on is compared as a string: asking again would cost the
    same seconds again.
    """
    by: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda r: r["sample"]):
        if row["sample"] != GREEDY and row["status"] != "unparsed":
            by.setdefault(row["problem_id"], []).append(row)
    wrong = {i: list(dict.fromkeys(r["extracted"] for r in of if r["status"] == "wrong")) for i, of in by.items()}
    same = dict(
        grader.grade_many(
            ((i, a, b), a, rf"\boxed{{{b}}}")
            for i, found in wrong.items()
            for n, a in enumerate(found)
            for b in found[n + 1 :]
        )
    )
    cast: dict[str, str] = {}
    for i, of in by.items():
        heads: dict[str, str] = {}  # wrong answer -> the one it counts as
        for b in wrong[i]:
            heads[b] = next((a for a in dict.fromkeys(heads.values()) if same[i, a, b].ok), b)
        right = next((r["extracted"] for r in of if official(r)), "")
        for r in of:
            cast[r["id"]] = right if official(r) else heads.get(r["extracted"], r["extracted"])
    return cast


def first_attempt(text: str, bridges: Mapping[str, str]) -> str | None:
    """The text before the first bridge sentence in it; None where there is none."""
    found = [at for bridge in bridges.values() if bridge.strip() and (at := text.find(bridge.strip())) > 0]
    return text[: min(found)] if found else None
