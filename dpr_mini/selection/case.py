"""What a rule sees: one graded dialogue, and which way its answers went."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from dpr_mini.chat.template import attempts
from dpr_mini.tasks import Task, Trace
from dpr_mini.types import Dialogue, Problem, Verdict

KINDS = ("single_right", "confirmed", "corrected", "spoiled", "never_right")


Turns = Literal["trained", "last", "all"]
"""What a rule reads: what is trained on, the last turn or attempt, or everything, a masked first attempt included."""


@dataclass(frozen=True)
class Case:
    """One graded dialogue. `text` is the joined chain and `joined` its verdict, read as one response.

    `verdicts` has one per turn; the last is the final answer's. `attempt` is the verdict on what stands before the
    first of our `bridges` in the first turn, None where there is no bridge.

    `trace` is what the chain consists of, for a task's problem; None where answers are not executed. `prefix`: this is
    the right first turn of a dialogue that was dropped, and rules on several turns do not apply.

    `behaviours` counts markers in what the model wrote, not in the bridge sentences that join its turns.
    `masked` is the wrong first attempt, with which the first turn begins, that is kept out of the loss, or None.
    """

    dialogue: Dialogue
    problem: Problem
    text: str
    verdicts: tuple[Verdict, ...]
    joined: Verdict
    behaviours: Mapping[str, int]
    kind: str
    attempt: Verdict | None = None
    masked: str | None = None
    bridges: Mapping[str, str] = field(default_factory=dict)
    trace: Trace | None = None
    prefix: bool = False

    def attempts(self, turns: Turns = "trained") -> list[str]:
        """What the model wrote, a text for each attempt: turns, split at the bridge sentences that stand in them."""
        first, *later = (attempts(t.text, self.bridges) for t in self.dialogue.turns)
        if turns == "trained" and self.masked is not None:
            first = [] if self.masked == self.dialogue.turns[0].text else first[1:]
        parts = [*first, *(part for turn in later for part in turn)]
        return parts[-1:] if turns == "last" else parts

    def turns(self, turns: Turns = "trained") -> list[str]:
        """The same, but a turn of several attempts is one text, bridges included: a loop may run over them."""
        if turns == "last":
            return self.attempts(turns)
        skipped = len(self.masked or "") if turns == "trained" else 0
        return [t.text[0 if i else skipped :] for i, t in enumerate(self.dialogue.turns)]


Rule = Callable[[Case], str | None]


def kind_of(verdicts: Sequence[Verdict]) -> str:
    """Trajectory from the first turn's verdict to the last one's (KINDS)."""
    if not verdicts[-1].ok:
        return "spoiled" if verdicts[0].ok and len(verdicts) > 1 else "never_right"
    if len(verdicts) == 1:
        return "single_right"
    return "confirmed" if verdicts[0].ok else "corrected"


def task_kind(task: Task, statement: str, trace: Trace) -> str:
    """Trajectory (KINDS) from the chain's first attempt to its last; an answer that is reviewed is no single one."""
    right = [bool(a.answer) and task.right(statement, a.answer) for a in trace.attempts]
    if not right or not right[-1]:
        return "spoiled" if any(right[:1]) else "never_right"
    if len(right) == 1 and not trace.reviews:
        return "single_right"
    return "confirmed" if right[0] else "corrected"
