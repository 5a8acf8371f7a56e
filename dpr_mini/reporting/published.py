"""An experiment's graded answers in two megabytes: what every number of comparison.json can be computed from again.

    rows/index.json          arms with their seeds, which is the baseline and the base, benchmarks, what was left out
    rows/problems.jsonl.gz   a line a problem: its id, its benchmark, `votes`: the answers given to it, the common first
    rows/ARM.jsonl.gz        `shapes`, then a line for each seed, benchmark and kind of answers, in columns

A column has one value an answer, by problem in the order of problems.jsonl.gz, and by sample within it. Ids, sets of
attempts and answers stand once and are numbered: as lines of their own they would be forty times as long.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from dpr_mini import store
from dpr_mini.files.foreign import foreign_rows
from dpr_mini.files.rows import read_json
from dpr_mini.reporting.arms import Comparison
from dpr_mini.scoring.measures import first
from dpr_mini.types import ALL, Graded, Traced, UserError, Verdict

ROWS, INDEX, PROBLEMS = "rows", "index.json", "problems.jsonl.gz"
GREEDY_KIND, SAMPLED, REDRAWN_KIND = "greedy", "sampled", "redrawn"
COLUMNS = ("shape", "tokens", "vote")
NO_VOTE = -1

Row = dict[str, Any]


def gzipped(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """JSON lines, compressed: the same bytes for the same rows, as no time is in them."""
    text = "".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows)
    return gzip.compress(text.encode(), 9, mtime=0)


# ---------------------------------------------------------------- written


def files(comparison: Comparison, without: Sequence[str] = ()) -> dict[str, bytes]:
    """Content by name of all files under rows/. `without` are benchmarks that are left out.

    Raises UserError where an evaluation lacks an answer that others of its arm have.
    """
    benchmarks = [b for b in comparison.benchmarks if b != ALL and b not in without]
    kinds = {name: dict(_kinds(comparison, name)) for name in comparison.arms}
    votes: dict[tuple[str, str], Counter[str]] = {}  # (benchmark, problem) -> answers, how often each
    for by_seed in (of for arm in kinds.values() for of in arm.values()):
        for answer in (a for of in by_seed.values() for a in of):
            cast = votes.setdefault((answer.benchmark, answer.problem_id), Counter())
            if answer.vote is not None:
                cast[answer.vote] += 1
    listed = {
        of: sorted(cast, key=lambda v: (-cast[v], v)) for of, cast in sorted(votes.items()) if of[0] in benchmarks
    }
    number = {of: {vote: i for i, vote in enumerate(all_)} for of, all_ in listed.items()}
    lines = [{"problem": problem, "benchmark": b, "votes": all_} for (b, problem), all_ in listed.items()]
    index = {
        "baseline": comparison.baseline,
        "base": comparison.base,
        "benchmarks": benchmarks,
        "dev": comparison.dev,
        "left_out": list(without),
        "arms": {name: sorted(arm.runs) for name, arm in comparison.arms.items()},
    }
    found = {INDEX: (json.dumps(index, indent=1) + "\n").encode(), PROBLEMS: gzipped(lines)}
    for name, by_kind in kinds.items():
        found[f"{name}.jsonl.gz"] = gzipped(_lines(name, by_kind, benchmarks, number))
    return found


def _kinds(comparison: Comparison, name: str) -> Iterator[tuple[str, dict[int, list[Graded]]]]:
    arm = comparison.arms[name]
    for kind in (SAMPLED, GREEDY_KIND):
        yield kind, {s: [a for a in of if a.greedy is (kind == GREEDY_KIND)] for s, of in sorted(arm.graded.items())}
    try:
        redrawn = arm.redrawn
    except UserError:  # an arm that does not redraw
        return
    yield REDRAWN_KIND, dict(sorted(redrawn.items()))


def _lines(
    arm: str,
    by_kind: Mapping[str, Mapping[int, Sequence[Graded]]],
    benchmarks: Sequence[str],
    number: Mapping[tuple[str, str], Mapping[str, int]],
) -> Iterator[Row]:
    used = Counter(_shape(a) for of in by_kind.values() for some in of.values() for a in some)
    shapes = sorted(used, key=lambda s: (-used[s], s))
    at = {shape: i for i, shape in enumerate(shapes)}
    yield {"arm": arm, "shapes": [json.loads(shape) for shape in shapes]}
    for kind, by_seed in by_kind.items():
        for seed, answers in by_seed.items():
            for b in benchmarks:
                if row := _columns([a for a in answers if a.benchmark == b], f"{arm}, seed {seed}, {b}, {kind}"):
                    samples, rows = row
                    if len(rows) != len(samples) * sum(of == b for of, _ in number):
                        raise UserError(f"{arm}, seed {seed}, {kind}: not all problems of {b}, which other arms have")
                    yield {
                        "seed": seed,
                        "benchmark": b,
                        "kind": kind,
                        "samples": samples,
                        "shape": [at[_shape(a)] for a in rows],
                        "tokens": [a.tokens for a in rows],
                        "vote": [NO_VOTE if a.vote is None else number[b, a.problem_id][a.vote] for a in rows],
                    }


def _columns(answers: Sequence[Graded], where: str) -> tuple[list[int | None], list[Graded]] | None:
    """(sample numbers, answers by problem and sample); None of none."""
    if not answers:
        return None
    ordered = sorted(answers, key=lambda a: (a.problem_id, -1 if a.sample is None else a.sample))
    problems = list(dict.fromkeys(a.problem_id for a in ordered))
    samples = [a.sample for a in ordered if a.problem_id == problems[0]]
    if [(a.problem_id, a.sample) for a in ordered] != [(p, s) for p in problems for s in samples]:
        raise UserError(f"{where}: some problem lacks an answer, or has one twice")
    return samples, ordered


def _shape(answer: Graded) -> str:
    """What is said of an answer but its length and its words, as canonical JSON."""
    trace = answer.trace
    shape: Row = {"right": int(answer.right), "first": int(first(answer)), "finish": answer.finish}
    if trace:
        shape["attempts"] = [int(ok) for _, ok in trace.attempts]
        shape["reviews"] = [[i, int(accepts), int(true)] for i, accepts, _, true in trace.reviews]
    return store.canonical(shape)


def not_tested(comparison: Comparison) -> tuple[str, ...]:
    """Benchmarks beside the test sets, which may be looked at as often as one likes; () where no test set is open."""
    return tuple(comparison.dev)


# ---------------------------------------------------------------- read back


@dataclass(frozen=True)
class RowsArm:
    """An arm as its rows have it: what `Comparison` and the hypotheses ask of one."""

    name: str
    runs: Mapping[int, None]
    graded: Mapping[int, list[Graded]]
    stored: Mapping[int, list[Graded]] = field(default_factory=dict)

    @property
    def redrawn(self) -> Mapping[int, list[Graded]]:
        """Raises UserError where the arm did not redraw."""
        if not self.stored:
            raise UserError(f"{self.name}: the rows have no redrawn answers")
        return self.stored


@dataclass(frozen=True)
class RowsComparison(Comparison):
    """The comparison of an experiment of which only the rows are at hand."""

    names: Sequence[str] = ()
    looked_at: Sequence[str] = ()  # those of them that are dev's
    lacking: Sequence[str] = ()  # benchmarks that are not in the rows

    @cached_property
    def dev(self) -> list[str]:
        return [name for name in self.names if name in self.looked_at]

    @cached_property
    def pooled(self) -> list[str]:
        return [name for name in self.names if name not in self.looked_at]

    @property
    def complete_slices(self) -> list[str]:
        """Those whose problems are all in the rows: not ALL nor a bin where a benchmark is left out."""
        return list(self.names) if self.lacking else self.slices


def read(folder: Path) -> RowsComparison:
    """What `files` wrote into a folder, as a comparison. Raises UserError for a file that is missing or broken."""
    index = read_json(folder / INDEX)
    problems: dict[str, list[Row]] = {}
    for _, row in foreign_rows(folder / PROBLEMS):
        problems.setdefault(row["benchmark"], []).append(row)
    arms = {}
    for name, seeds in index["arms"].items():
        found: dict[str, dict[int, list[Graded]]] = {k: {} for k in (SAMPLED, GREEDY_KIND, REDRAWN_KIND)}
        lines = foreign_rows(folder / f"{name}.jsonl.gz")
        shapes = [_judged(shape) for shape in next(lines)[1]["shapes"]]
        for where, row in lines:
            answers = _answers(row, problems.get(row["benchmark"], []), shapes, where)
            found[row["kind"]].setdefault(row["seed"], []).extend(answers)
        graded = {s: [*found[SAMPLED].get(s, ()), *found[GREEDY_KIND].get(s, ())] for s in seeds}
        arms[name] = RowsArm(name, dict.fromkeys(seeds), graded, found[REDRAWN_KIND])
    return RowsComparison(
        arms,
        index["baseline"],
        index["base"],
        names=tuple(index["benchmarks"]),
        looked_at=tuple(index["dev"]),
        lacking=tuple(index["left_out"]),
    )


def _judged(shape: Row) -> Row:
    """A shape as the fields of a `Graded`; answers of one shape share them."""
    trace = None
    if "attempts" in shape:
        rights = [bool(ok) for ok in shape["attempts"]]
        reviews = tuple((i, bool(a), bool(a) is rights[i], bool(true)) for i, a, true in shape["reviews"])
        trace = Traced(tuple(("", ok) for ok in rights), reviews, distinct=0, size=0, deflated=0)
    right, before = bool(shape["right"]), bool(shape["first"])
    verdict = Verdict("correct" if right else "wrong", "", "published")
    return {
        "finish": shape["finish"],
        "verdict": verdict,
        "first": before,
        "last": right,
        "attempt": before,
        "behaviours": None,
        "trace": trace,
    }


def _answers(row: Row, problems: Sequence[Row], shapes: Sequence[Row], where: str) -> Iterator[Graded]:
    samples = row["samples"]
    if any(len(row[column]) != len(problems) * len(samples) for column in COLUMNS):
        raise UserError(f"{where}: columns that are not as long as {len(problems)} problems x {len(samples)} answers")
    cells = zip(*(row[column] for column in COLUMNS), strict=True)
    for problem in problems:
        for sample in samples:
            shape, tokens, vote = next(cells)
            yield Graded(
                id=f"{problem['problem']}#{-1 if sample is None else sample}",
                problem_id=problem["problem"],
                benchmark=row["benchmark"],
                source="",
                sample=sample,
                tokens=tokens,
                vote=None if vote == NO_VOTE else problem["votes"][vote],
                **shapes[shape],
            )
