"""What a response to a task consists of: attempts, checks of them, verdicts. No judgement, but where each stands.

    Answer: 3*7-5 Check: 3*7=21, 21-5=16. Wrong. Answer: 3*7+5 Check: 3*7=21, 21+5=26. Right.

An attempt stands behind "Answer:", whole: the beginning of a longer expression is none. A verdict is one of the words
right, correct, wrong, incorrect; it and the equations before it, back to the attempt or the last verdict, are a review
of the attempt before. Equations that no verdict follows are working. Other words have no meaning here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from dpr_mini.tasks.base import Task
from dpr_mini.tasks.equations import canonical

# What makes an answer that stands before it the beginning of another: 3*7+5 is no answer in 3*7+5*2, nor 1 in 1.5.
_MORE = r"[.,]?\d|\s*[-+*/^]\s*(?:[\d(]|$)"
_VERDICT = r"(?P<negated>\bnot\s+)?\b(?P<verdict>right|correct|wrong|incorrect)\b"


@dataclass(frozen=True, slots=True)
class Attempt:
    """An answer that the text offers, "" where what stands there is none, with the characters that offer it.

    `begin` is where the working before it begins: `start` where there is none.
    """

    answer: str
    start: int
    end: int
    begin: int


@dataclass(frozen=True, slots=True)
class Review:
    """A verdict on attempt number `attempt`, and the check before it: `lines` in the characters `start` to `end`.

    `accepts` is the verdict, which stands in the characters `end` to `over`.
    """

    attempt: int
    lines: tuple[str, ...]
    accepts: bool
    start: int
    end: int
    over: int


@dataclass(frozen=True, slots=True)
class Trace:
    attempts: tuple[Attempt, ...] = ()
    reviews: tuple[Review, ...] = ()

    @property
    def answer(self) -> str:
        """The last attempt: the one that counts."""
        return self.attempts[-1].answer if self.attempts else ""

    @property
    def accepted(self) -> bool:
        """Whether the text's own last verdict stands: it is on the last attempt and accepts it."""
        return bool(self.reviews) and self.reviews[-1].accepts and self.reviews[-1].attempt == len(self.attempts) - 1


def read(task: Task, text: str) -> Trace:
    """The trace of a response."""
    attempts: list[Attempt] = []
    reviews: list[Review] = []
    lines: list[str] = []
    start = 0  # of the equations that were collected
    for m in _events(task.pattern, task.line).finditer(text):
        if m["mark"]:
            begin = start if lines else m.start()
            attempts.append(Attempt((m["answer"] or "").strip(), m.start(), m.end(), begin))
            lines = []
        elif m["line"]:
            if not lines:
                start = m.start()
            lines.append("".join(m["line"].lower().split()))
        elif attempts:
            accepts = (m["verdict"].lower() in ("right", "correct")) != bool(m["negated"])
            begin = start if lines else m.start()
            reviews.append(Review(len(attempts) - 1, tuple(lines), accepts, begin, m.start(), m.end()))
            lines = []
    return Trace(tuple(attempts), tuple(reviews))


@lru_cache
def _events(pattern: str, line: str) -> re.Pattern[str]:
    line = re.sub(r"\((?!\?)", "(?:", line)
    attempt = rf"(?P<mark>\bAnswer:\s*)(?:(?P<answer>{pattern})(?!{_MORE}))?"
    return re.compile(rf"{attempt}|(?P<line>{line})|{_VERDICT}", re.I)


def right_verdict(task: Task, statement: str, trace: Trace, review: Review) -> bool:
    """Whether the verdict is the verifier's."""
    return review.accepts == task.right(statement, trace.attempts[review.attempt].answer)


def true_check(task: Task, statement: str, trace: Trace, review: Review) -> bool:
    """Whether every line of the check holds, and the lines work out this attempt and no other."""
    answer = trace.attempts[review.attempt].answer
    steps = task.steps(statement, answer)
    if not steps or not all(task.holds(statement, answer, line) for line in review.lines):
        return False
    return {canonical(s) for s in steps} <= {canonical(line) for line in review.lines}
