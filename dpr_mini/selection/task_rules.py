"""Rules on chains about a task's problems: their verdicts and checks are executed (evidence from `tasks`).

They need a `Case.trace`; `rules.refuse` turns problems without a verifier away before any is judged.
"""

from __future__ import annotations

from collections.abc import Callable

from dpr_mini import tasks
from dpr_mini.selection.case import Case, Rule
from dpr_mini.tasks import Review, Task, Trace
from dpr_mini.tasks.trace import right_verdict, true_check


def verdict_true(at_least: int = 0) -> Rule:
    """Every verdict in the chain is the verifier's, and there are `at_least` (a prefix needs none)."""
    _count(at_least)

    def rule(c: Case) -> str | None:
        task, trace = _read(c)
        for number, review in enumerate(trace.reviews, 1):
            if not right_verdict(task, c.problem.statement, trace, review):
                said, really = ("right", "wrong") if review.accepts else ("wrong", "right")
                return f"review {number} calls {_answer(trace, review)} {said}, it is {really}"
        return _too_few(c, trace, at_least, "verdicts")

    return rule


def check_true(at_least: int = 0) -> Rule:
    """Every review has a check that holds and works out the attempt it is on; `at_least` of them (a prefix: none)."""
    _count(at_least)

    def rule(c: Case) -> str | None:
        task, trace = _read(c)
        for number, review in enumerate(trace.reviews, 1):
            if not true_check(task, c.problem.statement, trace, review):
                return (
                    f"review {number} of {_answer(trace, review)}: {_fault(task, c.problem.statement, trace, review)}"
                )
        return _too_few(c, trace, at_least, "checks")

    return rule


def changed_answer() -> Rule:
    """After a verdict that rejects an attempt another answer is offered: none that was rejected before."""

    def rule(c: Case) -> str | None:
        task, trace = _read(c)
        rejected: set[str] = set()
        for number, review in enumerate(trace.reviews, 1):
            if review.accepts:
                continue
            says = f"review {number} rejects {_answer(trace, review)}"
            rejected.add(_normal(task, trace.attempts[review.attempt].answer))
            if review.attempt + 1 == len(trace.attempts):
                return f"{says}, and no other answer follows"
            after = trace.attempts[review.attempt + 1].answer
            if not after:
                return f"{says}, and what follows is no answer"
            if _normal(task, after) in rejected:
                return f"{says}, and {after!r} follows, which was rejected before"
        return None

    return rule


RULES: dict[str, Callable[..., Rule]] = {
    "verdict_true": verdict_true,
    "check_true": check_true,
    "changed_answer": changed_answer,
}


def _count(at_least: int) -> None:
    if at_least < 0:
        raise ValueError("at_least must be 0 or more")


def _read(c: Case) -> tuple[Task, Trace]:
    task = tasks.named(c.problem.verifier)
    return task, tasks.read(task, c.text) if c.trace is None else c.trace


def _too_few(c: Case, trace: Trace, at_least: int, what: str) -> str | None:
    few = not c.prefix and len(trace.reviews) < at_least
    return f"{len(trace.reviews)} {what}, at least {at_least} wanted" if few else None


def _answer(trace: Trace, review: Review) -> str:
    return repr(trace.attempts[review.attempt].answer)


def _normal(task: Task, answer: str) -> str:
    return task.normal(answer) if answer else ""


def _fault(task: Task, statement: str, trace: Trace, review: Review) -> str:
    """What is wrong with a check that is not true."""
    answer = trace.attempts[review.attempt].answer
    if not review.lines:
        return "no check"
    if false := [line for line in review.lines if not task.holds(statement, answer, line)]:
        return f"{false[0]} does not hold"
    return f"{', '.join(review.lines)} does not work it out"
