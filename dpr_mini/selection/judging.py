"""Dialogues to graded cases, and the order in which rules see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from dpr_mini import tasks
from dpr_mini.chat.template import first_attempt, join_text, standing_text
from dpr_mini.files.rows import StoreError
from dpr_mini.grading.grader import Grader
from dpr_mini.machine import progress
from dpr_mini.recipe import GraderConfig
from dpr_mini.selection import behaviours
from dpr_mini.selection.case import Case, kind_of, task_kind
from dpr_mini.selection.masking import wrong_first
from dpr_mini.types import Dialogue, Executed, Problem, Verdict, digest

JOINED, ATTEMPT = -1, -2  # where a turn's number would stand: the whole chain, what is before the first bridge
PREFIX = "/first"  # behind a dialogue's id: its first turn alone


def in_order(cases: Sequence[Case]) -> list[Case]:
    """The order in which cases are judged: by a hash of their id."""
    return sorted(cases, key=lambda c: digest(c.dialogue.id))


def judge(
    talks: Sequence[Dialogue],
    problems: Mapping[str, Problem],
    bridges: Mapping[str, str],
    masking: bool = True,
    limits: GraderConfig = GraderConfig(),  # noqa: B008  frozen
) -> list[Case]:
    """Grade every turn, every joined chain and every first attempt of a turn that goes on behind a bridge.

    The verdict on a turn about a task's problem is on the answer that stands after it, and such a chain's kind goes by
    its trace: from its first attempt to its last, whatever turns they stand in.

    `masking`: wrong first attempts are kept out of the loss, and so from rules that read text.
    Raises StoreError for a dialogue whose problem is not there.
    """
    if lost := next((d for d in talks if d.problem_id not in problems), None):
        raise StoreError(f"dialogue {lost.id}: its problem {lost.problem_id} is not among the problems")
    gold = {d.id: problems[d.problem_id].gold for d in talks}
    executed = {i for i, g in gold.items() if isinstance(g, Executed)}
    texts = {
        (d.id, i): standing_text(d, bridges, i) if d.id in executed else turn.text
        for d in talks
        for i, turn in enumerate(d.turns)
    }
    texts |= {(d.id, JOINED): join_text(d, bridges) for d in talks}
    texts |= {(d.id, ATTEMPT): text for d in talks if (text := first_attempt(d.turns[0].text, bridges)) is not None}
    verdicts: dict[tuple[str, int], Verdict] = {}
    answers = ((key, gold[key[0]], text) for key, text in texts.items())
    with Grader(**dict(limits)) as grader:
        graded = progress.bar(iterable=grader.grade_many(answers), total=len(texts), desc="filter", unit="text")
        verdicts.update(graded)
    cases = []
    for d in talks:
        own, attempt = tuple(verdicts[d.id, i] for i in range(len(d.turns))), verdicts.get((d.id, ATTEMPT))
        case = Case(
            dialogue=d,
            problem=problems[d.problem_id],
            text=texts[d.id, JOINED],
            verdicts=own,
            joined=verdicts[d.id, JOINED],
            behaviours=behaviours.count("\n\n".join(t.text for t in d.turns)),
            kind=kind_of(own),
            attempt=attempt,
            masked=wrong_first(d, own, attempt, bridges) if masking else None,
            bridges=bridges,
        )
        cases.append(_traced(case))
    return cases


def _traced(case: Case) -> Case:
    """The case with its trace, and the kind that the trace says, where answers are executed."""
    problem = case.problem
    if not problem.verifier:
        return case
    task = tasks.named(problem.verifier)
    trace = tasks.read(task, case.text)
    return replace(case, trace=trace, kind=task_kind(task, problem.statement, trace))


def prefix(case: Case) -> Case | None:
    """The first turn of a dialogue of several as a case of its own; None where it is not right or did not end itself.

    Its id is the dialogue's with PREFIX behind it.
    """
    first, *later = case.dialogue.turns
    if not later or not case.verdicts[0].ok or first.finish != "stop":
        return None
    alone = replace(case.dialogue, id=case.dialogue.id + PREFIX, turns=(first,))
    own = case.verdicts[:1]
    return _traced(
        replace(
            case,
            dialogue=alone,
            text=first.text,
            verdicts=own,
            joined=own[0],
            behaviours=behaviours.count(first.text),
            kind=kind_of(own),
            prefix=True,
        )
    )
