"""What a filter saw and kept, counted as the cases pass by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from dpr_mini.files.aside import Table
from dpr_mini.grading.grader import GIVEN_UP, given_up
from dpr_mini.selection import behaviours
from dpr_mini.selection.case import KINDS, Case


class Counts:
    """Every case is added, prefixes too; what is kept is told by what `seen` said of it.

    Prefixes count among what is kept and dropped, not among the dialogues.
    """

    def __init__(self) -> None:
        self.dialogues = self.kept = self.prefixes = self.kept_prefixes = 0
        self._statuses: list[Counter[str]] = []
        self._kinds, self._kept_kinds = Counter[str](), Counter[str]()
        self._shown, self._kept_shown = Counter[str](), Counter[str]()
        self._lost, self._right = Counter[str](), 0
        self._problems, self._covered = Table(), Table()

    def add(self, case: Case) -> None:
        """Count a case."""
        if case.prefix:
            self.prefixes += 1
            return
        self.dialogues += 1
        self._statuses += [Counter() for _ in case.verdicts[len(self._statuses) :]]
        for statuses, verdict in zip(self._statuses, case.verdicts, strict=False):
            statuses[verdict.status] += 1
        self._kinds[case.kind] += 1
        self._lost.update(given_up((*case.verdicts, case.joined)))
        self._right += case.verdicts[-1].ok
        self._shown.update(name for name in behaviours.NAMES if case.behaviours[name])
        self._problems.add(case.problem.id)

    @staticmethod
    def seen(case: Case) -> dict[str, Any]:
        """What `keep` is to be told of a case: it may be long gone when it is decided that it is kept."""
        shown = [name for name in behaviours.NAMES if case.behaviours[name]]
        told = {"id": case.dialogue.id, "kind": case.kind, "problem": case.problem.id}
        return told | {"prefix": case.prefix, "shown": shown}

    def keep(self, seen: Mapping[str, Any]) -> None:
        """Count a case among those that are kept."""
        self.kept += 1
        self.kept_prefixes += seen["prefix"]
        self._kept_kinds[seen["kind"]] += 1
        self._kept_shown.update(seen["shown"])
        self._covered.add(seen["problem"])

    def metrics(self, by_rule: Mapping[str, int]) -> dict[str, Any]:
        """Counts and shares; shares are of all dialogues unless the name says `kept`, and those of what is kept."""

        def share(count: int, of: int) -> float:
            return round(count / of, 4) if of else 0.0

        return {
            "dialogues": self.dialogues,
            "kept": self.kept,
            "drops": dict(sorted(by_rule.items(), key=lambda x: (-x[1], x[0]))),
            "kinds": {k: self._kinds[k] for k in KINDS},
            "kept_kinds": {k: self._kept_kinds[k] for k in KINDS},
            "statuses_by_turn": [dict(sorted(s.items())) for s in self._statuses],
            "grader": {name: self._lost[name] for name in GIVEN_UP.values()},
            "acc@t1": share(self._statuses[0]["correct"], self.dialogues),
            "acc@last": share(self._right, self.dialogues),
            "wrong_to_right": self._kinds["corrected"],
            "right_to_wrong": self._kinds["spoiled"],
            "behaviours": {n: share(self._shown[n], self.dialogues) for n in behaviours.NAMES},
            "kept_behaviours": {n: share(self._kept_shown[n], self.kept) for n in behaviours.NAMES},
            "problems": len(self._problems),
            "problems_covered": len(self._covered),
        }
