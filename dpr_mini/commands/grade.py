"""`dpr-mini grade`: read cases, write verdicts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from dpr_mini.files.aside import Sorted, Table, Texts
from dpr_mini.files.foreign import foreign_rows
from dpr_mini.files.rows import dumps, write_lines
from dpr_mini.grading.golds import FieldError, gold_text, mended, plain, row_id
from dpr_mini.grading.grader import Grader, given_up
from dpr_mini.machine.target import writable
from dpr_mini.types import Status, UserError


def read_cases(path: Path) -> Iterator[tuple[Any, str, str]]:
    """(id, gold, pred) of every line of a JSONL file. Raises UserError with file and line for a malformed one."""
    for where, row in foreign_rows(path):
        if missing := [k for k in ("id", "gold", "pred") if k not in row]:
            raise FieldError(f"{where}: {', '.join(missing)} missing; a case is {{id, gold, pred}}")
        pred = row["pred"]
        said = mended(pred) if isinstance(pred, str) else plain(pred, where, "pred")
        yield row_id(row["id"], where), gold_text(row["gold"], where), said


def grade_file(cases: Path, out: Path, **options: Any) -> dict[str, int]:
    """Grade {id, gold, pred} lines into {id, status, extracted, how, ms} lines, in the same order; print the counts.

    ms is the time of the decision; a pair that was decided before repeats its first time. Returns counts by status.
    An id may repeat, as that of a problem with several answers does; that is said.
    Raises UserError for a malformed line, and where `out` cannot be written or is `cases`, before any work.
    `options` are Grader's.
    """
    from dpr_mini.machine import progress

    writable(out, cases)
    counts, lost, ids = Counter[str](), Counter[str](), Table()
    with Texts(out.parent) as aside, Sorted(out.parent) as lines, Grader(**options) as grader:
        for case in read_cases(cases):  # all of them are read before the work
            aside.add(json.dumps(case))
            ids.add(json.dumps(case[0]))
        if not (count := len(aside)):
            raise UserError(f"{cases}: no rows")
        answers = (((i, name), gold, pred) for i, (name, gold, pred) in enumerate(map(json.loads, aside)))
        for (i, name), verdict, ms in progress.bar(
            iterable=grader._many(answers), total=count, desc="grade", unit="answer"
        ):
            row = {"id": name, "status": verdict.status, "extracted": verdict.extracted, "how": verdict.how}
            lines.add(f"{i:012d}", dumps(row | {"ms": round(ms, 3)}))
            counts[verdict.status] += 1
            lost.update(given_up([verdict]))
        write_lines(out, lines)
    counts = Counter({status: counts[status] for status in get_args(Status)})
    shown = ", ".join(f"{status} {n}" for status, n in counts.items())
    if again := count - len(ids):
        print(f"{again} of the {count} rows have an id that an earlier row has; each row has its own verdict")
    print(f"graded {count}: {shown}; of the unparsed, crashed {lost['crashed']} -> {out}")
    return {status: n for status, n in counts.items() if n}
