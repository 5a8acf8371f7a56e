"""A run's results as numbers: score cards, paired differences, lengths, difficulty. What the report is written from.

Everything is read from complete stage folders; nothing is graded or drawn again. "official" is the official verdict,
"first_result" and "last_number" are the two other scorers of evaluate.py on the same answers, "format" is official
minus last number: what comes of putting the answer where the grader looks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dpr_mini.scoring.stats import GREEDY, official, paired, pass_rates
from dpr_mini.store import MANIFEST, StoreError, read_json, read_rows

Row = Mapping[str, Any]
Word = Literal["improved", "got worse", "no change shown", "too few problems"]

LABELS = {"eval-0": "base", "eval-1": "phase 1", "eval-2": "phase 2"}
COMPARISONS = (("base", "phase 1"), ("phase 1", "phase 2"), ("base", "phase 2"))
MEASURES: dict[str, Callable[[Row], float]] = {
    "official": official,
    "format": lambda row: official(row) - row["last_ok"],  # what the official verdict sees and the last number does not
    "first_result": lambda row: row["first_ok"],
    "last_number": lambda row: row["last_ok"],
}
ANSWERS = "-answers"  # behind an evaluation's role: the stage that asked what it graded
GENERATING = ("eval-0-answers", "dialogue-1", "eval-1-answers", "probe-2", "sample-2", "eval-2-answers")
FEWEST = 10  # problems; below, a percentile bootstrap is too narrow to claim anything from (ours)


@dataclass(frozen=True)
class Model:
    """One evaluated model: its label, the evaluation's folder, the score cards by benchmark, the graded answers."""

    label: str
    folder: Path
    cards: dict[str, dict[str, Any]]
    rows: list[dict[str, Any]]

    def answers(self, benchmark: str = "all", greedy: bool = False) -> list[dict[str, Any]]:
        """Graded rows of a benchmark ("all": of every one): the sampled answers, or the greedy ones."""
        return [r for r in self.rows if benchmark in ("all", r["benchmark"]) and (r["sample"] == GREEDY) is greedy]


@dataclass(frozen=True)
class Bin:
    """Problems of one range of the probe's pass rate, and what plain rejection sampling and the quota gave."""

    label: str
    problems: int
    tried: int  # probe samples
    plain: int  # of these right: what rejection sampling without a quota would keep
    wanted: int
    drawn: int  # the probe's included
    right: int
    kept: int  # after the rules
    never: int  # problems without one right answer


@dataclass(frozen=True)
class Results:
    """The complete stages of a run by role ("eval-0", "train-2", ...); later phases may be absent."""

    at: Mapping[str, Path]

    @cached_property
    def manifests(self) -> dict[str, dict[str, Any]]:
        return {role: read_json(folder / MANIFEST) for role, folder in self.at.items()}

    def metrics(self, role: str) -> dict[str, Any]:
        return self.manifests[role]["metrics"]

    def rows(self, role: str, file: str = "rows.jsonl") -> Iterator[dict[str, Any]]:
        return read_rows(self.at[role] / file)

    def source(self, role: str, file: str = MANIFEST) -> str:
        return f"{self.at[role].name}/{file}"

    def graded(self, file: str = MANIFEST) -> str:
        """The same file of all evaluations, for a note under a table."""
        return ", ".join(self.source(role, file) for role in self.evaluations)

    @property
    def evaluations(self) -> list[str]:
        """Roles of the evaluations that are there, one for each of `models`."""
        return [role for role in LABELS if role in self.at]

    @cached_property
    def models(self) -> list[Model]:
        return [
            Model(LABELS[role], self.at[role], self.metrics(role)["cards"], list(self.rows(role, "graded.jsonl")))
            for role in self.evaluations
        ]

    @cached_property
    def benchmarks(self) -> list[str]:
        """Benchmark names; "all" is the last of several."""
        return list(self.models[0].cards) if self.models else []

    @property
    def overall(self) -> str:
        return self.benchmarks[-1]

    @cached_property
    def differences(self) -> list[dict[str, Any]]:
        """Paired differences of every two models, benchmark and measure; see `compare`."""
        by = {m.label: m for m in self.models}
        return [
            {"before": a, "after": b, "benchmark": benchmark, "measure": measure, **compared}
            for a, b in COMPARISONS
            if a in by and b in by
            for benchmark in self.benchmarks
            for measure in ("official", "greedy", *list(MEASURES)[1:])
            if (compared := compare(by[a], by[b], benchmark, measure))
        ]

    def of(self, measure: str) -> list[dict[str, Any]]:
        return [d for d in self.differences if d["measure"] == measure]

    def difference(self, before: str, after: str, benchmark: str, measure: str = "official") -> dict[str, Any] | None:
        wanted = (before, after, benchmark, measure)
        keys = ("before", "after", "benchmark", "measure")
        return next((d for d in self.differences if tuple(d[k] for k in keys) == wanted), None)

    @cached_property
    def drops(self) -> dict[str, Counter[str]]:
        """Filter's role -> drops by rule."""
        return {
            role: Counter(r["rule"] for r in self.rows(role, "drops.jsonl"))
            for role in ("filter-1", "filter-2")
            if role in self.at
        }

    @cached_property
    def bins(self) -> list[Bin]:
        """By pass rate in the probe, hardest first; empty without phase 2."""
        if not {"sample-2", "filter-2"} <= self.at.keys():
            return []
        budgets = list(self.rows("sample-2", "budgets.jsonl"))
        kept = Counter(r["problem_id"] for r in self.rows("filter-2"))
        return [
            Bin(
                label,
                len(inside),
                *(sum(b[name] for b in inside) for name in ("tried", "correct", "wanted", "drawn", "right")),
                kept=sum(kept[b["problem_id"]] for b in inside),
                never=sum(b["right"] == 0 for b in inside),
            )
            for label in self.metrics("sample-2")["bins"]
            if (inside := [b for b in budgets if inside_bin(label, b["rate"])])
        ]


def compare(before: Model, after: Model, benchmark: str, measure: str) -> dict[str, Any] | None:
    """`stats.paired` over the problems' pass rates, with its verdict; None where there is no such answer.

    "greedy" is the official verdict on greedy answers. Raises StoreError where the two saw different problems.
    """
    greedy = measure == "greedy"
    right = MEASURES["official" if greedy else measure]
    a, b = (pass_rates(m.answers(benchmark, greedy), right) for m in (before, after))
    if a.keys() != b.keys():
        raise StoreError(f"{before.folder} and {after.folder}: different problems in {benchmark!r}; run both again")
    if not a:
        return None
    found = paired(list(a.values()), list(b.values()))
    return {**found, "verdict": verdict(found)}


def verdict(difference: Mapping[str, float]) -> Word:
    """A change is claimed only where the paired 95 % interval excludes zero and there are problems enough."""
    if difference["n"] < FEWEST:
        return "too few problems"
    if difference["low"] > 0:
        return "improved"
    return "got worse" if difference["high"] < 0 else "no change shown"


def lengths(rows: Sequence[Row]) -> dict[str, float] | None:
    """Generated tokens of some graded rows: n, mean, median, p90, share truncated. None of none."""
    if not rows:
        return None
    tokens = np.array([r["tokens"] for r in rows])
    return {
        "n": len(rows),
        "mean": float(tokens.mean()),
        "median": float(np.median(tokens)),
        "p90": float(np.percentile(tokens, 90)),
        "truncated": sum(r["finish"] == "length" for r in rows) / len(rows),
    }


def inside_bin(label: str, rate: float) -> bool:
    """Whether a pass rate belongs to one of difficulty.py's bins: "0" and "1" are exact, "a-b" is a < rate <= b."""
    low, _, high = label.partition("-")
    return float(low) < rate <= float(high) and rate < 1 if high else rate == float(low)
