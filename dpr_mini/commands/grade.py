"""`dpr-mini grade`: read cases, write verdicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from dpr_mini.files.foreign import foreign_rows
from dpr_mini.files.rows import write_rows
from dpr_mini.grading.golds import FieldError, gold_text, mended, plain, row_id
from dpr_mini.grading.grader import Grader, given_up
from dpr_mini.machine.target import writable
from dpr_mini.types import Status, Verdict


def read_cases(path: Path) -> list[tuple[Any, str, str]]:
    """(id, gold, pred) of every line of a JSONL file. Raises UserError with file and line for a malformed one."""
    cases = []
    for where, row in foreign_rows(path):
        if missing := [k for k in ("id", "gold", "pred") if k not in row]:
            raise FieldError(f"{where}: {', '.join(missing)} missing; a case is {{id, gold, pred}}")
        pred = row["pred"]
        said = mended(pred) if isinstance(pred, str) else plain(pred, where, "pred")
        cases.append((row_id(row["id"], where), gold_text(row["gold"], where), said))
    return cases


def grade_file(cases: Path, out: Path, **options: Any) -> dict[str, int]:
    """Grade {id, gold, pred} lines into {id, status, extracted, how, ms} lines, in the same order; print the counts.

    ms is the time of the decision; a pair that was decided before repeats its first time. Returns counts by status.
    Raises UserError for a malformed line, and where `out` cannot be written or is `cases`, before any work.
    `options` are Grader's.
    """
    from dpr_mini.machine import progress

    writable(out, cases)
    triples = read_cases(cases)
    rows: list[dict[str, Any]] = [{} for _ in triples]
    verdicts: list[Verdict] = []
    with Grader(**options) as grader:
        numbered = ((i, gold, pred) for i, (_, gold, pred) in enumerate(triples))
        bar = progress.bar(iterable=grader._many(numbered), total=len(triples), desc="grade", unit="answer")
        for i, verdict, ms in bar:
            rows[i] = {"id": triples[i][0], "status": verdict.status, "extracted": verdict.extracted}
            rows[i] |= {"how": verdict.how, "ms": round(ms, 3)}
            verdicts.append(verdict)
    write_rows(out, rows)
    statuses = [v.status for v in verdicts]
    counts = {status: statuses.count(status) for status in get_args(Status)}
    shown = ", ".join(f"{status} {n}" for status, n in counts.items())
    print(f"graded {len(rows)}: {shown}; of the unparsed, crashed {given_up(verdicts)['crashed']} -> {out}")
    return {status: n for status, n in counts.items() if n}
