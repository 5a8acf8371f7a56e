"""Answers to graded answers: every verdict on them, and the answer that each votes for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from dpr_mini import tasks
from dpr_mini.chat.template import first_attempt, join_text
from dpr_mini.grading.grader import Grader
from dpr_mini.grading.reading import first_result, last_number
from dpr_mini.recipe import GraderConfig
from dpr_mini.scoring.anatomy import dissect, first_right
from dpr_mini.scoring.stats import subset
from dpr_mini.selection import behaviours
from dpr_mini.types import GREEDY, Dialogue, Executed, Graded, Problem


def grade(
    answers: Sequence[Dialogue],
    problems: Sequence[Problem],
    bridges: Mapping[str, str],
    limits: GraderConfig = GraderConfig(),  # noqa: B008  frozen
) -> list[Graded]:
    """Every answer with the verdicts on it, sorted by id.

    Of a dialogue (`evaluate.turns`) the last turn's answer counts. A sampled answer's `vote` is the first of its
    problem's answers that the grader takes for the same.
    """
    by_id = {p.id: p for p in problems}
    cases = []
    for d in answers:
        gold, text = by_id[d.problem_id].gold, d.turns[-1].text
        if isinstance(gold, Executed):
            continue
        cases += [
            ((d.id, "final"), gold, text),
            ((d.id, "first"), gold, first_result(text)),
            ((d.id, "last"), gold, last_number(text)),
        ]
        if (before := d.turns[0].text if len(d.turns) > 1 else first_attempt(text, bridges)) is not None:
            cases.append(((d.id, "attempt"), gold, before))
        if len(d.turns) > 1:
            cases.append(((d.id, "joined"), gold, join_text(d, bridges)))
    with Grader(**dict(limits)) as grader:
        verdicts = dict(grader.grade_many(cases))
        graded = []
        for d in sorted(answers, key=lambda d: d.id):
            problem = by_id[d.problem_id]
            if isinstance(problem.gold, Executed):
                graded.append(executed(d, problem, problem.gold, bridges))
                continue
            attempt, joined = verdicts.get((d.id, "attempt")), verdicts.get((d.id, "joined"))
            graded.append(
                _row(
                    d,
                    problem,
                    verdict=verdicts[d.id, "final"],
                    first=verdicts[d.id, "first"].ok,
                    last=verdicts[d.id, "last"].ok,
                    attempt=attempt.ok if attempt else None,
                    joined=joined.ok if joined else None,
                    behaviours=behaviours.count("\n\n".join(t.text for t in d.turns)),
                )
            )
        cast = votes(graded, grader)
    return [replace(answer, vote=cast.get(answer.id)) for answer in graded]


EXECUTED = "/executed"  # how a verdict of a task's verifier ends


def executed(d: Dialogue, problem: Problem, gold: Executed, bridges: Mapping[str, str]) -> Graded:
    """A response to a task's problem, read once: its last attempt counts, each attempt and check is judged.

    Words are not counted in it (`behaviours` is None): what they would announce is in the trace, executed.
    """
    task, text = tasks.named(gold.verifier), join_text(d, bridges)
    trace = tasks.read(task, text)
    judged = dissect(task, gold.statement, trace, [i for t in d.turns for i in t.ids], text)
    verdict = tasks.verdict(task, gold.statement, trace)
    before = d.turns[0].text if len(d.turns) > 1 else first_attempt(text, bridges)
    return _row(
        d,
        problem,
        verdict=verdict,
        first=first_right(judged),
        last=verdict.ok,
        attempt=None if before is None else tasks.grade(gold, before).ok,
        joined=verdict.ok if len(d.turns) > 1 else None,
        behaviours=None,
        trace=judged,
    )


def _row(d: Dialogue, problem: Problem, **judged: Any) -> Graded:
    return Graded(
        id=d.id,
        problem_id=d.problem_id,
        benchmark=problem.split,
        source=problem.source,
        level=problem.level,
        subject=problem.subject,
        sample=None if d.sample == GREEDY else d.sample,
        tokens=d.tokens,
        finish=d.finish,
        **judged,
    )


def votes(answers: Sequence[Graded], grader: Grader) -> dict[str, str]:
    """Answer's id -> the answer it votes for, of the sampled answers in which one was found.

    All right answers are one vote, by the verdict they have. A wrong one joins the first wrong answer of its problem
    that the grader takes for the same. A task's problem may have several right answers: each is a vote of its own. What
    the grader gave up on is compared as a string: asking again would cost the same seconds again.
    """
    by: dict[str, list[Graded]] = {}
    cast: dict[str, str] = {}
    for answer in sorted(subset(answers), key=lambda a: a.sample):
        if answer.verdict.how.endswith(EXECUTED):  # no two of its answers are the same unless they are spelled so
            if answer.verdict.status != "unparsed":
                cast[answer.id] = answer.verdict.extracted
        elif answer.verdict.status != "unparsed":
            by.setdefault(answer.problem_id, []).append(answer)
    wrong = {
        i: list(dict.fromkeys(a.verdict.extracted for a in of if a.verdict.status == "wrong")) for i, of in by.items()
    }
    same = dict(
        grader.grade_many(
            ((i, a, b), a, rf"\boxed{{{b}}}")
            for i, texts in wrong.items()
            for n, a in enumerate(texts)
            for b in texts[n + 1 :]
        )
    )
    for i, of in by.items():
        heads: dict[str, str] = {}  # wrong answer -> the one it counts as
        for b in wrong[i]:
            heads[b] = next((a for a in dict.fromkeys(heads.values()) if same[i, a, b].ok), b)
        right = next((a.verdict.extracted for a in of if a.right), "")
        for answer in of:
            text = answer.verdict.extracted
            cast[answer.id] = right if answer.right else heads.get(text, text)
    return cast
