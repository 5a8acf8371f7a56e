"""What a task is: problems without end or all there are, a verifier for answers, the working that proves one.

Text of a model is parsed by regular expressions and small parsers of our own, never evaluated.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from dpr_mini.tasks import equations
from dpr_mini.types import digest

# Shares of a task's groups. A problem's part is a function of its group alone, so that no seed and no count moves a
# problem from one to another. `base` is for training a base model, the others are for the experiment on it.
PARTS = {"base": 0.35, "train": 0.35, "dev": 0.10, "test": 0.20}


@dataclass(frozen=True, slots=True)
class Item:
    """A problem of a task. `statement` is what the verifier reads, `answer` one right answer.

    `key` is the same for problems that differ in the order of their parts alone; `group` decides the part (PARTS):
    problems that could be known from one another have the same group.
    """

    statement: str
    answer: str
    key: str
    group: str
    level: str = ""


class Task(ABC):
    """A kind of problem. Its fields are options of the generator; the verifier needs the statement alone."""

    name: ClassVar[str]
    pattern: ClassVar[str]  # regular expression of an answer, as it stands behind "Answer: "
    line: ClassVar[str] = equations.LINE.pattern  # and of one line of a check

    @abstractmethod
    def all(self, rng: random.Random) -> Iterator[Item]:
        """Problems in an order of `rng`'s: every one once, or without end where there are too many to list."""

    @abstractmethod
    def right(self, statement: str, answer: str) -> bool:
        """Whether the answer is right; False for one that cannot be read."""

    @abstractmethod
    def steps(self, statement: str, answer: str) -> list[str] | None:
        """The lines that work the answer out, e.g. ["3*7=21", "21+5=26"]; None where it cannot be read.

        They are true whether the answer is right or wrong: what they arrive at decides that.
        """

    def holds(self, statement: str, answer: str, line: str) -> bool:
        """Whether a line of a check, without white space, is true."""
        return equations.true(line)

    def normal(self, answer: str) -> str:
        """The answer in one spelling, for majority votes: without white space."""
        return "".join(answer.split())

    def items(self, seed: int, part: str | None = None) -> Iterator[Item]:
        """The problems of a part (None: of all), in the seed's order. Raises ValueError for an unknown part."""
        if part is not None and part not in PARTS:
            raise ValueError(f"no part {part!r}; there are: {', '.join(PARTS)}")
        rng = random.Random(seed)
        return (item for item in self.all(rng) if part is None or part_of(self.name, item.group) == part)


def part_of(task: str, group: str) -> str:
    """The part (PARTS) that a group belongs to, by a hash of its name."""
    at, total = int(digest(task, group)[:8], 16) / 2**32, 0.0
    for name, share in PARTS.items():
        total += share
        if at < total:
            return name
    return name
