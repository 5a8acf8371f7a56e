"""A sudoku of 4 x 4: "1_3_ / 34__ / ..." is filled by "1234 / 3412 / ...". A search; reading columns and boxes checks.

There are 288 filled grids. Grids are one group where they are the same up to renaming the four digits (12 groups), so
that the parts hold different patterns.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Annotated

from pydantic import Field

from dpr_mini.tasks.base import Item, Task

Grid = tuple[str, ...]


@dataclass(frozen=True)
class Sudoku(Task):
    """Options: how many cells are empty. Every filling that agrees with what is given is right.

    A check reads the units off: "column 1: 1324, ..., box 4: 1342". Each line holds if the grid has it.
    """

    empty: Annotated[int, Field(ge=1, le=12)] = 8

    name = "sudoku"
    line = r"(?:column|box)\s*[1-4]\s*:\s*[1-4]{4}"
    pattern = r"[1-4]{4}(?:\s*/\s*[1-4]{4}){3}"

    def all(self, rng: random.Random) -> Iterator[Item]:
        grids, seen = _grids(), set()
        while True:
            grid = rng.choice(grids)
            hidden = set(rng.sample(range(16), self.empty))
            cells = "".join("_" if i in hidden else c for i, c in enumerate("".join(grid)))
            if cells in seen:
                continue
            seen.add(cells)
            text = " / ".join(cells[i : i + 4] for i in range(0, 16, 4))
            yield Item(text, " / ".join(grid), text, _renamed(grid))

    def right(self, statement: str, answer: str) -> bool:
        given, grid = "".join(re.findall(r"[1-4_]", statement)), self._grid(answer)
        if grid is None:
            return False
        agrees = all(g in ("_", c) for g, c in zip(given, "".join(grid), strict=True))
        return agrees and all(sorted(unit) == list("1234") for unit in (*grid, *_columns(grid), *_boxes(grid)))

    def steps(self, statement: str, answer: str) -> list[str] | None:
        grid = self._grid(answer)
        if grid is None:
            return None
        units = {"column": _columns(grid), "box": _boxes(grid)}
        return [f"{kind}{i}:{unit}" for kind, of in units.items() for i, unit in enumerate(of, 1)]

    def holds(self, statement: str, answer: str, line: str) -> bool:
        return line in (self.steps(statement, answer) or ())

    @staticmethod
    def _grid(answer: str) -> Grid | None:
        rows = tuple(re.findall(r"[1-4]{4}", answer))
        return rows if len(rows) == 4 else None


def _columns(grid: Grid) -> list[str]:
    return ["".join(row[i] for row in grid) for i in range(4)]


def _boxes(grid: Grid) -> list[str]:
    return [grid[r][c : c + 2] + grid[r + 1][c : c + 2] for r in (0, 2) for c in (0, 2)]


def _renamed(grid: Grid) -> str:
    """The grid with its digits renamed so that its first row is 1234."""
    return "".join(grid).translate(str.maketrans(grid[0], "1234"))


@cache
def _grids() -> list[Grid]:
    rows = ["".join(p) for p in itertools.permutations("1234")]
    return [
        grid
        for grid in itertools.product(rows, repeat=4)
        if all(len(set(unit)) == 4 for unit in (*_columns(grid), *_boxes(grid)))
    ]
