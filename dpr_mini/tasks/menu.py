"""The tasks by name, and the verdict on a response to one."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from dpr_mini.tasks.base import Task
from dpr_mini.tasks.countdown import Countdown
from dpr_mini.tasks.numbers import Factorisation, Linear, MissingFactor, ProductAndSum, Sums
from dpr_mini.tasks.sudoku import Sudoku
from dpr_mini.tasks.trace import Trace, read
from dpr_mini.types import Executed, UserError, Verdict, nearest

TASKS: dict[str, type[Task]] = {
    t.name: t for t in (Countdown, ProductAndSum, MissingFactor, Linear, Factorisation, Sudoku, Sums)
}


def make(name: str, options: Mapping[str, Any]) -> Task:
    """The task of this name with these options. Raises UserError for an unknown name or option."""
    if name not in TASKS:
        raise UserError(f"task: no task {name!r}; {nearest(name, TASKS)}")
    kind = TASKS[name]
    if unknown := options.keys() - kind.__dataclass_fields__.keys():
        fix = nearest(min(unknown), kind.__dataclass_fields__)
        raise UserError(f"task: {name} has no option {min(unknown)!r}; {fix}")
    try:
        task = TypeAdapter(kind).validate_python(dict(options))
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"task: {name}: {first['loc'][0]}: {first['msg']}") from None
    for option, given in options.items():
        value = getattr(task, option)
        if isinstance(value, int) and (isinstance(given, bool | str) or value < 1):
            raise UserError(f"task: {name}: {option}: must be a number, at least 1, not {given!r}")
    if isinstance(task, Countdown) and task.lowest > task.highest:
        raise UserError(f"task: {name}: lowest {task.lowest} is above highest {task.highest}")
    return task


@lru_cache
def named(name: str) -> Task:
    """The task's verifier: its options do not matter. Raises UserError for an unknown name."""
    return make(name, {})


def grade(gold: Executed, text: str) -> Verdict:
    """The verdict on the last attempt in a response: it is executed, not compared with one right answer."""
    task = named(gold.verifier)
    return verdict(task, gold.statement, read(task, text))


def verdict(task: Task, statement: str, trace: Trace) -> Verdict:
    """The same for a response that was read."""
    if not trace.answer:
        return Verdict("unparsed", "", f"{'answer' if trace.attempts else 'none'}/executed")
    right = task.right(statement, trace.answer)
    return Verdict("correct" if right else "wrong", task.normal(trace.answer), "answer/executed")
