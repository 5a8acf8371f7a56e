"""`dpr-mini grade`: read cases, write verdicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dpr_mini.grading.grader import Grader
from dpr_mini.store import foreign_rows, write_rows
from dpr_mini.types import UserError


def read_cases(path: Path) -> list[tuple[Any, str, str]]:
    """(id, gold, pred) of every line of a JSONL file. Raises UserError with file and line for a malformed one."""
    cases = []
    for where, row in foreign_rows(path):
        if missing := [k for k in ("id", "gold", "pred") if k not in row]:
            raise UserError(f"{where}: {', '.join(missing)} missing; a case is {{id, gold, pred}}")
        for key in ("gold", "pred"):
            if isinstance(row[key], bool) or not isinstance(row[key], str | int | float):
                raise UserError(f"{where}: {key} must be a string, got {type(row[key]).__name__}")
        cases.append((row["id"], str(row["gold"]), str(row["pred"])))
    return cases


def grade_file(cases: Path, out: Path, **options: Any) -> dict[str, int]:
    """Grade {id, gold, pred} lines into {id, status, extracted, how, ms} lines, in the same order.

    ms is the time of the decision; a pair that was decided before repeats its first time. Returns counts by status.
    Raises UserError for a malformed line (before anything is written). `options` are Grader's.
    """
    from dpr_mini.machine import progress

    triples = read_cases(cases)
    rows: list[dict[str, Any]] = [{} for _ in triples]
    counts: dict[str, int] = {}
    with Grader(**options) as grader:
        numbered = ((i, gold, pred) for i, (_, gold, pred) in enumerate(triples))
        bar = progress.bar(iterable=grader._many(numbered), total=len(triples), desc="grade", unit="answer")
        for i, verdict, ms in bar:
            rows[i] = {"id": triples[i][0], "status": verdict.status, "extracted": verdict.extracted}
            rows[i] |= {"how": verdict.how, "ms": round(ms, 3)}
            counts[verdict.status] = counts.get(verdict.status, 0) + 1
    write_rows(out, rows)
    return counts
