"""The problems that dialogues are about: found by id, however many there are."""

from __future__ import annotations

import json
from collections.abc import Iterable

from dpr_mini.files.aside import Table
from dpr_mini.files.rows import dumps
from dpr_mini.types import Problem, from_row, to_row


class Asked:
    """Problems by id, on disk."""

    def __init__(self, problems: Iterable[Problem] = ()) -> None:
        self._rows = Table()
        for problem in problems:
            self.add(problem)

    def add(self, problem: Problem) -> None:
        """One more; it replaces one of the same id."""
        self._rows[problem.id] = dumps(to_row(problem))

    def __getitem__(self, name: str) -> Problem:
        """Raises KeyError for an id that no problem has."""
        return from_row(Problem, json.loads(self._rows[name]))

    def __contains__(self, name: str) -> bool:
        return name in self._rows
