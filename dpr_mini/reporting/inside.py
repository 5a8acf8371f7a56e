"""What the responses of an experiment's arms are made of, all seeds together: attempts, checks, verdicts, planted ones.

`inside` counts, for comparison.json; `tables` shows what it says. Everything here is exploratory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from dpr_mini.reporting.anatomy import ends, planted_table, share, verdicts
from dpr_mini.reporting.arms import Arm, Comparison
from dpr_mini.reporting.document import Table
from dpr_mini.scoring.anatomy import Anatomy, Part, anatomies, part, rejected
from dpr_mini.scoring.stats import subset
from dpr_mini.types import ALL, Graded

Inside = Mapping[str, Any]
SOURCE = "graded.jsonl of the evaluations in comparison.json"


def inside(comparison: Comparison) -> dict[str, Any]:
    """{"anatomy", "repeats", "planted"}: each {arm: {benchmark: counts}}, of arms that have such answers."""
    found: dict[str, Any] = {"anatomy": {}, "repeats": {}, "planted": {}}
    for name, arm in comparison.arms.items():
        answers = [a for of in arm.graded.values() for a in of]
        benchmarks = [b for b in comparison.benchmarks if b != ALL]
        if made := anatomies(answers, benchmarks):
            found["anatomy"][name] = {b: of.to_row() for b, of in made.items()}
            found["repeats"][name] = {b: repeats(subset(answers, b)).to_row() for b in made}
        if planted := _planted(arm):
            found["planted"][name] = planted
    return found


def repeats(answers: Iterable[Graded]) -> Part:
    """Of attempts that follow a rejected one, those that were rejected before, by their text without spaces."""
    again = []
    for trace in (a.trace for a in answers if a.trace):
        texts, refused = ["".join(text.split()) for text, _ in trace.attempts], set[str]()
        for at, text in enumerate(texts[1:]):
            if rejected(trace, at):
                refused.add(texts[at])
                again.append(text in refused)
    return part(again)


def _planted(arm: Arm) -> dict[str, Any]:
    """Counts of the seeds added up, where every seed has planted attempts."""
    total: dict[tuple[str, str, str], Counter[str]] = {}
    for run in arm.runs.values():
        for name in (f"{evaluation}-planted" for evaluation in arm.evaluations):
            if not run.complete(name):
                return {}
            for benchmark, by in run.manifest(name)["metrics"]["planted"].items():
                for prefix, of in by.items():
                    for key in ("ends_right", "goes_on"):
                        counts = {"n": of[key]["n"], "of": of[key]["of"]}
                        total.setdefault((benchmark, prefix, key), Counter()).update(counts)
                    counts = {"n": of["without"], "of": of["problems"]}
                    total.setdefault((benchmark, prefix, "without"), Counter()).update(counts)
    made: dict[str, Any] = {}
    for (benchmark, prefix, key), of in total.items():
        made.setdefault(benchmark, {}).setdefault(prefix, {})[key] = Part(of["n"], of["of"]).to_row()
    return made


# ---------------------------------------------------------------- shown


def tables(found: Inside, on: str | None = None) -> list[Table]:
    """First and final answers, verdicts, retries, planted attempts; of all benchmarks, or of one. [] of none."""
    anatomy = [
        (b, arm, "", Anatomy.from_row(row))
        for arm, by in found.get("anatomy", {}).items()
        for b, row in by.items()
        if on in (None, b)
    ]
    order = list(dict.fromkeys(b for b, *_ in anatomy))
    anatomy.sort(key=lambda row: order.index(row[0]))
    made = [ends(anatomy, SOURCE), verdicts(anatomy, SOURCE), _retries(anatomy, found)] if anatomy else []
    planted = [
        (b, arm, prefix, *(share(Part(of[key]["n"], of[key]["of"])) for key in ("ends_right", "goes_on", "without")))
        for arm, by in found.get("planted", {}).items()
        for b, prefixes in by.items()
        if on in (None, b)
        for prefix, of in prefixes.items()
    ]
    return [*made, *([planted_table(planted, "eval-N-planted of every seed")] if planted else [])]


def _retries(anatomy: list[tuple[str, str, str, Anatomy]], found: Inside) -> Table:
    rows = []
    for benchmark, arm, _, a in anatomy:
        if a.retry_any.of:
            again = found["repeats"][arm][benchmark]
            fresh = "-" if a.fresh is None else f"{a.fresh:.3f}"
            rows.append((benchmark, arm, share(a.retry_any), fresh, share(Part(again["n"], again["of"]))))
    head = ("benchmark", "arm", "right after a rejection", "drawn afresh", "rejected before")
    note = (
        "Of attempts that follow a rejected one: those that are right, and those that were rejected before in the same "
        "response. Drawn afresh: first attempts of the other responses, of all seeds, to these problems."
    )
    return Table(head, rows, SOURCE, "Second attempts", note)
