"""Checks that the texts carried out, for the report: counted in the stored dialogues, apart from word patterns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from dpr_mini.files.aside import Table
from dpr_mini.grading.reading import extract
from dpr_mini.reporting.results import ANSWERS, Results
from dpr_mini.selection import checks
from dpr_mini.types import hashed

DRAWN = {"filter-1": ("dialogue-1",), "filter-2": ("probe-2", "sample-2")}


def shares(results: Results) -> dict[tuple[str, str], dict[str, float]]:
    """Share of responses with at least one such line, by field of checks.FIELDS; n is under "responses".

    Keys are (model's label, "answers") for sampled answers, (filter's role, "drawn" or "kept") for dialogues. What has
    no stored dialogues has no entry. A response that was drawn and kept is read once.
    """
    count = _Counted(results)
    found = {}
    for model, role in zip(results.models, results.evaluations, strict=True):
        if role + ANSWERS in results.at:
            answers = {a.id: a.verdict.extracted for a in model.answers()}
            asked = (row for row in results.rows(role + ANSWERS) if row["id"] in answers)
            found[model.label, "answers"] = count.shares((row, answers[row["id"]]) for row in asked)
    for role in results.drops:
        if all(stage in results.at for stage in DRAWN[role]):
            rows = (row for stage in DRAWN[role] for row in results.rows(stage))
            drawn = ((row, extract(row["turns"][-1]["text"])[0]) for row in rows)
            found[role, "drawn"] = count.shares(drawn)
        kept = ((row["dialogue"], row["verdicts"][-1]["extracted"]) for row in results.rows(role))
        found[role, "kept"] = count.shares(kept)
    return {key: value for key, value in found.items() if value}


class _Counted:
    """Which of checks.FIELDS a response has, remembered by its text."""

    def __init__(self, results: Results) -> None:
        self._problems, self._known = results.problems, Table()

    def shares(self, said: Iterable[tuple[Mapping[str, Any], str]]) -> dict[str, float]:
        """Of rows of dialogues and the answers read from them; {} where there are none."""
        counts: Counter[str] = Counter()
        total = 0
        for row, answer in said:
            counts.update(self._fields("\n\n".join(t["text"] for t in row["turns"]), answer, row["problem_id"]))
            total += 1
        return {"responses": total} | {name: counts[name] / total for name in checks.FIELDS} if total else {}

    def _fields(self, text: str, answer: str, problem: str) -> list[str]:
        if "=" not in text:
            return []
        key = hashed(text, answer, problem)
        if (known := self._known.get(key)) is None:
            question = self._problems[problem].text if problem in self._problems else ""
            lines = checks.count(text, answer, question)
            known = self._known[key] = ",".join(name for name, n in lines.items() if n)
        return known.split(",") if known else []
