"""Equations between whole numbers: found, executed, compared. No other text has a meaning here."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable

# A number of at most six digits: what a model writes must not cost time.
# ASCII digits alone: one answer has one spelling.
NUMBER = r"[0-9]{1,6}"
LINE = re.compile(rf"(?<!\d)(?<!\d\.)(-?{NUMBER})\s*([-+*])\s*(-?{NUMBER})\s*=\s*(-?{NUMBER})(?![\d.]*\d)")

OPERATIONS: dict[str, Callable[[int, int], int]] = {"+": operator.add, "-": operator.sub, "*": operator.mul}


def true(line: str) -> bool:
    """Whether an equation of two numbers holds; False for anything else."""
    m = LINE.fullmatch(line)
    return bool(m) and OPERATIONS[m[2]](int(m[1]), int(m[3])) == int(m[4])


def canonical(line: str) -> str:
    """The equation without white space, the operands of a sum or product in order: 7*3=21 is 3*7=21."""
    m = LINE.fullmatch(line)
    if not m:
        return line
    a, op, b = int(m[1]), m[2], int(m[3])
    if op != "-" and b < a:
        a, b = b, a
    return f"{a}{op}{b}={int(m[4])}"


def equation(a: int, op: str, b: int) -> tuple[str, int]:
    """The true equation of an operation, and its value."""
    value = OPERATIONS[op](a, b)
    return f"{a}{op}{b}={value}", value
