"""Countdown with three numbers, worked out from left to right: "3 5 7 = 26" is solved by 3*7+5.

Each number is used once. The answer is an expression, so a problem has several right ones: 2.5 on average. A search
over 54 expressions solves it, two equations check an answer. With numbers from 1 to 12 and targets from 10 to 99 there
are 3,076 problems on 357 sets of numbers; problems on one set of numbers are one group.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from dpr_mini.tasks.base import Item, Task
from dpr_mini.tasks.equations import NUMBER, equation

_EXPRESSION = re.compile(rf"({NUMBER})\s*([-+*])\s*({NUMBER})\s*([-+*])\s*({NUMBER})")


@dataclass(frozen=True)
class Countdown(Task):
    """Options: the largest number, and the lowest and highest target."""

    largest: int = 12
    lowest: int = 10
    highest: int = 99

    name = "countdown"
    pattern = rf"{NUMBER}\s*[-+*]\s*{NUMBER}\s*[-+*]\s*{NUMBER}"

    def all(self, rng: random.Random) -> Iterator[Item]:
        found = _solved(self.largest, self.lowest, self.highest)
        for numbers, target in rng.sample(sorted(found), len(found)):
            solutions = found[numbers, target]
            group = " ".join(map(str, numbers))
            level = "1 solution" if len(solutions) == 1 else "2 solutions" if len(solutions) == 2 else "3 or more"
            shown = " ".join(map(str, rng.sample(numbers, 3)))
            yield Item(f"{shown} = {target}", rng.choice(solutions), f"{group} = {target}", group, level)

    def right(self, statement: str, answer: str) -> bool:
        numbers, _, target = statement.partition(" = ")
        parsed = _parse(answer)
        if not parsed or sorted(parsed[0]) != sorted(map(int, numbers.split())):
            return False
        value, _ = _worked(*parsed)
        return value == int(target)

    def steps(self, statement: str, answer: str) -> list[str] | None:
        parsed = _parse(answer)
        return _worked(*parsed)[1] if parsed else None

    def solutions(self, statement: str) -> list[str]:
        """All expressions that solve a problem within the options' limits."""
        numbers, _, target = statement.partition(" = ")
        key = (tuple(sorted(map(int, numbers.split()))), int(target))
        return _solved(self.largest, self.lowest, self.highest)[key]


def _parse(answer: str) -> tuple[list[int], list[str]] | None:
    m = _EXPRESSION.fullmatch(answer.strip())
    return ([int(m[1]), int(m[3]), int(m[5])], [m[2], m[4]]) if m else None


def _worked(numbers: list[int], ops: list[str]) -> tuple[int, list[str]]:
    """Value and steps, from left to right: 3+5*7 is 56."""
    value, lines = numbers[0], []
    for op, n in zip(ops, numbers[1:], strict=True):
        line, value = equation(value, op, n)
        lines.append(line)
    return value, lines


@lru_cache(maxsize=4)
def _solved(largest: int, lowest: int, highest: int) -> dict[tuple[tuple[int, ...], int], list[str]]:
    """(numbers, target) -> its expressions; none has a step below zero."""
    found: dict[tuple[tuple[int, ...], int], set[str]] = {}
    for numbers in itertools.combinations_with_replacement(range(1, largest + 1), 3):
        for order in set(itertools.permutations(numbers)):
            for ops in itertools.product("+-*", repeat=2):
                half, _ = _worked(list(order[:2]), [ops[0]])
                value, _ = _worked(list(order), list(ops))
                if half >= 0 and lowest <= value <= highest:
                    text = f"{order[0]}{ops[0]}{order[1]}{ops[1]}{order[2]}"
                    found.setdefault((numbers, value), set()).add(text)
    return {key: sorted(texts) for key, texts in found.items()}
