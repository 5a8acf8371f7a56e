"""Dialogues to graded cases, and the order in which rules see them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from dpr_mini import tasks
from dpr_mini.chat.template import first_attempt, join_text, standing_text
from dpr_mini.files.rows import StoreError
from dpr_mini.grading.grader import Grader
from dpr_mini.machine import progress
from dpr_mini.recipe import GraderConfig
from dpr_mini.selection import behaviours
from dpr_mini.selection.asked import Asked
from dpr_mini.selection.case import Case, kind_of, task_kind
from dpr_mini.selection.masking import wrong_first
from dpr_mini.types import Dialogue, Executed, Problem, digest

JOINED, ATTEMPT = -1, -2  # where a turn's number would stand: the whole chain, what is before the first bridge
PORTION, TOKENS = 1024, 500_000  # dialogues, and tokens of them, that are in memory at a time
CHARACTERS = 4_000_000  # of their texts: a user's file may say that a long text has no tokens
PREFIX = "/first"  # behind a dialogue's id: its first turn alone


def place_in_order(name: str) -> str:
    """Where the case of a dialogue's id stands in the order of judging: a hash of the id."""
    return digest(name)


def judged(
    talks: Iterable[Dialogue],
    problems: Asked | Mapping[str, Problem],
    bridges: Mapping[str, str],
    masking: bool = True,
    limits: GraderConfig = GraderConfig(),  # noqa: B008  frozen
    total: int | None = None,
) -> Iterator[Case]:
    """Grade every turn, every joined chain and every first attempt of a turn that goes on behind a bridge.

    The verdict on a turn about a task's problem is on the answer that stands after it, and such a chain's kind goes by
    its trace: from its first attempt to its last, whatever turns they stand in.

    `masking`: wrong first attempts are kept out of the loss, and so from rules that read text.
    Cases come in the order of the dialogues, of which only some are in memory at a time; `total` is their number, for
    the bar. Raises StoreError for a dialogue whose problem is not there.
    """
    with Grader(**dict(limits)) as grader, progress.bar(total=total, desc="filter", unit="dialogue") as bar:
        for some in _portions(talks):
            if lost := next((d for d in some if d.problem_id not in problems), None):
                raise StoreError(f"dialogue {lost.id}: its problem {lost.problem_id} is not among the problems")
            yield from _cases(some, {d.problem_id: problems[d.problem_id] for d in some}, bridges, masking, grader)
            bar.update(len(some))


def _portions(talks: Iterable[Dialogue]) -> Iterator[list[Dialogue]]:
    """Dialogues that are graded together: at most PORTION of them, or TOKENS or CHARACTERS where they are long."""
    some: list[Dialogue] = []
    tokens = characters = 0
    for dialogue in talks:
        some.append(dialogue)
        tokens += dialogue.tokens
        characters += sum(len(turn.text) for turn in dialogue.turns)
        if len(some) == PORTION or tokens > TOKENS or characters > CHARACTERS:
            yield some
            some, tokens, characters = [], 0, 0
    if some:
        yield some


def _cases(
    talks: Sequence[Dialogue],
    problems: Mapping[str, Problem],
    bridges: Mapping[str, str],
    masking: bool,
    grader: Grader,
) -> Iterator[Case]:
    """Cases of dialogues that are graded together; a text that stands for several things is graded once."""
    gold = {d.id: problems[d.problem_id].gold for d in talks}
    executed = {i for i, g in gold.items() if isinstance(g, Executed)}
    texts = {
        (d.id, i): standing_text(d, bridges, i) if d.id in executed else turn.text
        for d in talks
        for i, turn in enumerate(d.turns)
    }
    texts |= {(d.id, JOINED): join_text(d, bridges) for d in talks}
    texts |= {(d.id, ATTEMPT): text for d in talks if (text := first_attempt(d.turns[0].text, bridges)) is not None}
    said = {key: (gold[key[0]], text) for key, text in texts.items()}
    verdicts = dict(grader.grade_many((case, *case) for case in dict.fromkeys(said.values())))
    for d in talks:
        own = tuple(verdicts[said[d.id, i]] for i in range(len(d.turns)))
        attempt = verdicts[said[d.id, ATTEMPT]] if (d.id, ATTEMPT) in said else None
        case = Case(
            dialogue=d,
            problem=problems[d.problem_id],
            text=texts[d.id, JOINED],
            verdicts=own,
            joined=verdicts[said[d.id, JOINED]],
            behaviours=behaviours.count("\n\n".join(t.text for t in d.turns)),
            kind=kind_of(own),
            attempt=attempt,
            masked=wrong_first(d, own, attempt, bridges) if masking else None,
            bridges=bridges,
        )
        yield _traced(case)


def _traced(case: Case) -> Case:
    """The case with its trace, and the kind that the trace says, where answers are executed."""
    problem = case.problem
    if not problem.verifier:
        return case
    task = tasks.named(problem.verifier)
    trace = tasks.read(task, case.text)
    return replace(case, trace=trace, kind=task_kind(task, problem.statement, trace))


def begins_right(case: Case) -> bool:
    """Whether the first turn of several is right and ended by itself: `prefix` makes a case of it."""
    first, *later = case.dialogue.turns
    return bool(later) and case.verdicts[0].ok and first.finish == "stop"


def prefix(case: Case) -> Case:
    """The first turn of a dialogue that `begins_right` as a case of its own; its id ends in PREFIX."""
    first = case.dialogue.turns[0]
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
