"""What a dialogue is asked next: a pure function of its problem and its turns so far, so that it can be resumed.

A fixed list of turns is the plain case. With conditions (recipe/turns.py) a `Judge` reads the turns so far. Where the
problem is a task's, that is the chain up to here in the tasks' grammar (tasks/trace.py): the last verdict counts if it
is on the last attempt. Other text has no such grammar: there `says` reads the last turn alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from dpr_mini import tasks
from dpr_mini.chat.template import join_text
from dpr_mini.grading.grader import Grader
from dpr_mini.recipe import AskedTurn, TurnSpec, prompts
from dpr_mini.recipe.turns import chosen, times
from dpr_mini.types import Dialogue, Executed, Problem, Turn, Verdict


class Ask(NamedTuple):
    """The next turn: the template's name and the text that is sent."""

    instruction: str
    prompt: str
    optional: bool = False  # the dialogue may end before it where the model has no room for it


class Script(Protocol):
    def __call__(self, turns: Sequence[Turn]) -> Ask | None:
        """What follows these turns; None where the dialogue is over."""


# A verdict ends a clause: "the correct answer is 5" is none, nor is the question "Is that right?".
_SAID = re.compile(
    r"(?P<negated>(?:\bnot|n't)\s+(?:(?:quite|entirely|fully|all)\s+)?)?\b(?P<word>right|correct|wrong|incorrect)\b"
    r"(?=[*_)\"']*\s*(?:[.,;:!]|$))",
    re.IGNORECASE | re.MULTILINE,
)


def says(text: str) -> bool | None:
    """Whether the last verdict in free text accepts; None where it has none.

    A verdict is "right", "correct", "wrong" or "incorrect" at the end of a clause or a line, "not" before it turns it
    round. On which answer it is, free text does not say: what is stated after it is taken for a repetition.
    """
    said = list(_SAID.finditer(text))
    return (said[-1]["word"].lower() in ("right", "correct")) != bool(said[-1]["negated"]) if said else None


@dataclass(frozen=True)
class Judge:
    """What a condition asks of the turns so far. `bridges` join them; `grader` is for conditions that know the answer.

    `verdicts` are the grader's, by problem and text: what was graded once is not graded again.
    """

    bridges: Mapping[str, str]
    grader: Grader | None = None
    verdicts: dict[tuple[str, str], Verdict] = field(default_factory=dict, compare=False)

    def accepted(self, problem: Problem, turns: Sequence[Turn]) -> bool:
        """Whether the model's own last verdict accepts its last attempt; False where it gave none."""
        if isinstance(gold := problem.gold, Executed):
            return tasks.read(tasks.named(gold.verifier), self._chain(problem, turns)).accepted
        return says(turns[-1].text) is True

    def wrong(self, problem: Problem, turns: Sequence[Turn]) -> bool:
        """Whether the grader has another verdict than "correct" on the answer that stands: none counts, too.

        Raises ValueError without a grader.
        """
        if self.grader is None:
            raise ValueError("when: wrong needs a grader")
        text = self._chain(problem, turns) if problem.verifier else turns[-1].text
        if (problem.id, text) not in self.verdicts:
            self.verdicts[problem.id, text] = self.grader.grade(problem.gold, text)
        return not self.verdicts[problem.id, text].ok

    def _chain(self, problem: Problem, turns: Sequence[Turn]) -> str:
        return join_text(Dialogue("", problem.id, 0, tuple(turns), "", 0), self.bridges)


@dataclass(frozen=True)
class Adaptive:
    """The script of turns with conditions. `turn_of` chooses among candidates (recipe.turns.chosen)."""

    turns: tuple[TurnSpec, ...]
    templates: Mapping[str, str]
    problem: Problem
    turn_of: int
    judge: Judge

    def __call__(self, turns: Sequence[Turn]) -> Ask | None:
        at = 0  # turns that are accounted for
        for spec in self.turns:
            if not self._holds(spec, turns[:at]):
                continue
            for time in range(times(spec)):
                if at == len(turns):
                    return self._ask(spec, time)
                at += 1
                if self._verified(spec, turns[:at]):
                    break
        return None

    def _ask(self, spec: TurnSpec, time: int) -> Ask:
        name = chosen(spec, self.turn_of, time)
        until = isinstance(spec, AskedTurn) and spec.until is not None
        return Ask(name, prompts.fill(self.templates[name], self.problem.text), until)

    def _holds(self, spec: TurnSpec, turns: Sequence[Turn]) -> bool:
        when = spec.when if isinstance(spec, AskedTurn) else None
        if when == "wrong":
            return self.judge.wrong(self.problem, turns)
        return when is None or not self.judge.accepted(self.problem, turns)

    def _verified(self, spec: TurnSpec, turns: Sequence[Turn]) -> bool:
        until = isinstance(spec, AskedTurn) and spec.until is not None
        return until and self.judge.accepted(self.problem, turns)
