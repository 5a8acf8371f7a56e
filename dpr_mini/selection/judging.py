"""Dialogues to graded cases, and the order in which rules see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dpr_mini.chat.template import join_text
from dpr_mini.grading.grader import Grader
from dpr_mini.machine import progress
from dpr_mini.recipe import GraderConfig
from dpr_mini.selection import behaviours
from dpr_mini.selection.rules import Case, kind_of
from dpr_mini.store import StoreError
from dpr_mini.types import Dialogue, Problem, Verdict, digest

JOINED = -1  # stands for the whole chain where a turn's number would


def in_order(cases: Sequence[Case]) -> list[Case]:
    """The order in which cases are judged: by a hash of their id."""
    return sorted(cases, key=lambda c: digest(c.dialogue.id))


def judge(
    talks: Sequence[Dialogue],
    problems: Mapping[str, Problem],
    bridges: Mapping[str, str],
    limits: GraderConfig = GraderConfig(),  # noqa: B008  frozen
) -> list[Case]:
    """Grade every turn and every joined chain. Raises StoreError for a dialogue whose problem is not there."""
    if lost := next((d for d in talks if d.problem_id not in problems), None):
        raise StoreError(f"dialogue {lost.id}: its problem {lost.problem_id} is not among the problems")
    texts = {(d.id, i): turn.text for d in talks for i, turn in enumerate(d.turns)}
    texts |= {(d.id, JOINED): join_text(d, bridges) for d in talks}
    gold = {d.id: problems[d.problem_id].answer for d in talks}
    verdicts: dict[tuple[str, int], Verdict] = {}
    answers = ((key, gold[key[0]], text) for key, text in texts.items())
    with Grader(**dict(limits)) as grader:
        graded = progress.bar(iterable=grader.grade_many(answers), total=len(texts), desc="filter", unit="text")
        verdicts.update(graded)
    cases = []
    for d in talks:
        own = tuple(verdicts[d.id, i] for i in range(len(d.turns)))
        counts = behaviours.count("\n\n".join(t.text for t in d.turns))
        joined = verdicts[d.id, JOINED]
        cases.append(Case(d, problems[d.problem_id], texts[d.id, JOINED], own, joined, counts, kind_of(own)))
    return cases
