"""A run's results as numbers: score cards, paired differences, lengths, difficulty. What the report is written from.

Everything is read from complete stage folders; nothing is graded or drawn again. "official" is the official verdict,
"first_result" and "last_number" are the two other scorers of the same answers, "format" is official minus last number:
what comes of putting the answer where the grader looks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

from dpr_mini.files.aside import Table
from dpr_mini.files.rows import read_as, read_rows
from dpr_mini.scoring.scores import Card
from dpr_mini.scoring.stats import Difference, Measure, compare, official, subset
from dpr_mini.selection.asked import Asked
from dpr_mini.store import MANIFEST, verified
from dpr_mini.types import ALL, Drop, Graded, Kept, Problem

T = TypeVar("T")
Word = Literal["improved", "got worse", "no change shown", "too few problems"]

LABELS = {"eval-0": "base", "eval-1": "phase 1", "eval-2": "phase 2"}
FILTERS = {"filter-1": "phase 1", "filter-2": "phase 2"}  # each decides what a phase is trained on
COMPARISONS = (("base", "phase 1"), ("phase 1", "phase 2"), ("base", "phase 2"))
MEASURES: dict[str, Measure] = {
    "official": official,
    "format": lambda a: a.right - a.last,  # what the official verdict sees and the last number does not
    "first_result": lambda a: a.first,
    "last_number": lambda a: a.last,
}
ANSWERS = "-answers"  # behind an evaluation's role: the stage that asked what it graded
GENERATING = ("dialogue-1", "probe-2", "sample-2")  # these and what evaluations ask
ASKING = (ANSWERS, "-planted", "-checks")  # how their stages' roles end
FEWEST = 10  # problems; below, nothing is claimed from an interval (ours)


@dataclass(frozen=True)
class Model:
    """One evaluated model: its label, the evaluation's folder, the score cards by benchmark, the graded answers."""

    label: str
    folder: Path
    cards: dict[str, Card]
    graded: list[Graded]

    def answers(self, benchmark: str = ALL, greedy: bool = False) -> list[Graded]:
        """The sampled answers to a benchmark (ALL: to every one), or the greedy ones."""
        return subset(self.graded, benchmark, greedy)


@dataclass(frozen=True)
class Change:
    """A paired difference of two models (labels) on one benchmark, by one measure.

    `measure` is one of MEASURES over the sampled answers, or "greedy": the official verdict on the greedy ones.
    """

    before: str
    after: str
    benchmark: str
    measure: str
    difference: Difference

    @property
    def verdict(self) -> Word:
        return verdict(self.difference)

    def to_row(self) -> dict[str, Any]:
        """The change as scorecards.json holds it."""
        names = ("before", "after", "benchmark", "measure")
        return {n: getattr(self, n) for n in names} | asdict(self.difference) | {"verdict": self.verdict}


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
        return {role: verified(folder) for role, folder in self.at.items()}

    def metrics(self, role: str) -> dict[str, Any]:
        return self.manifests[role]["metrics"]

    def rows(self, role: str, file: str = "rows.jsonl") -> Iterator[dict[str, Any]]:
        return read_rows(self.at[role] / file)

    def read(self, cls: type[T], role: str, file: str = "rows.jsonl") -> Iterator[T]:
        """The same as what they were. Raises StoreError, naming file and line, for a row that is none of that kind."""
        return read_as(cls, self.at[role] / file)

    def kept(self, role: str) -> Iterator[Kept]:
        """The dialogues that a filter kept, one at a time: there may be many."""
        return self.read(Kept, role)

    def dropped(self, role: str) -> Iterator[Drop]:
        return self.read(Drop, role, "drops.jsonl")

    def source(self, role: str, file: str = MANIFEST) -> str:
        return f"{self.at[role].name}/{file}"

    def graded(self, file: str = MANIFEST) -> str:
        """The same file of all evaluations, for a note under a table."""
        return ", ".join(self.source(role, file) for role in self.evaluations)

    @property
    def generating(self) -> list[str]:
        """Roles of the stages that asked a model, in the order they ran."""
        return [role for role in self.at if role in GENERATING or role.endswith(ASKING)]

    @property
    def evaluations(self) -> list[str]:
        """Roles of the evaluations that are there, one for each of `models`."""
        return [role for role in LABELS if role in self.at]

    @cached_property
    def models(self) -> list[Model]:
        return [
            Model(
                LABELS[role],
                self.at[role],
                {name: Card.from_row(card) for name, card in self.metrics(role)["cards"].items()},
                list(self.read(Graded, role, "graded.jsonl")),
            )
            for role in self.evaluations
        ]

    @cached_property
    def benchmarks(self) -> list[str]:
        """Benchmark names; ALL is the last of several."""
        return list(self.models[0].cards) if self.models else []

    @property
    def overall(self) -> str:
        return self.benchmarks[-1]

    @cached_property
    def changes(self) -> list[Change]:
        """Every two models, by benchmark and measure; no "greedy" where neither has greedy answers.

        Raises UserError where two models were asked different problems.
        """
        by = {m.label: m for m in self.models}
        return [
            Change(a, b, benchmark, measure, difference)
            for a, b in COMPARISONS
            if a in by and b in by
            for benchmark in self.benchmarks
            for measure in ("official", "greedy", *list(MEASURES)[1:])
            if (difference := _difference(by[a], by[b], benchmark, measure))
        ]

    def by_measure(self, measure: str) -> list[Change]:
        return [c for c in self.changes if c.measure == measure]

    def change(self, before: str, after: str, benchmark: str, measure: str = "official") -> Change | None:
        key = (before, after, benchmark, measure)
        return next((c for c in self.changes if (c.before, c.after, c.benchmark, c.measure) == key), None)

    def difference(self, before: str, after: str, benchmark: str, measure: str = "official") -> Difference | None:
        change = self.change(before, after, benchmark, measure)
        return change and change.difference

    @cached_property
    def problems(self) -> Asked:
        """By id, on disk; none without their stage."""
        return Asked(self.read(Problem, "problems") if "problems" in self.at else ())

    def expected(self, problem: str) -> str:
        """The answer to a problem of this id, for the page."""
        return self.problems[problem].answer if problem in self.problems else "not known"

    @cached_property
    def drops(self) -> dict[str, Counter[str]]:
        """Filter's role -> drops by rule."""
        return {role: Counter(drop.rule for drop in self.dropped(role)) for role in FILTERS if role in self.at}

    @cached_property
    def bins(self) -> list[Bin]:
        """By pass rate in the probe, hardest first; empty without phase 2."""
        if not {"sample-2", "filter-2"} <= self.at.keys():
            return []
        sums = {label: Counter[str]() for label in self.metrics("sample-2")["bins"]}
        for b in self.rows("sample-2", "budgets.jsonl"):
            if label := self.bin_of.get(b["problem_id"]):
                sums[label].update({name: b[name] for name in ("tried", "correct", "wanted", "drawn", "right")})
                sums[label].update(problems=1, never=int(b["right"] == 0))
        for row in self.rows("filter-2"):
            if label := self.bin_of.get(row["problem_id"]):
                sums[label]["kept"] += 1
        order = ("problems", "tried", "correct", "wanted", "drawn", "right", "kept", "never")
        return [Bin(label, *(of[name] for name in order)) for label, of in sums.items() if of["problems"]]

    @cached_property
    def bin_of(self) -> Table:
        """Problem's id -> the bin of its pass rate in the probe; of phase 2."""
        labels, found = list(self.metrics("sample-2")["bins"]), Table()
        for b in self.rows("sample-2", "budgets.jsonl"):
            if label := next((label for label in labels if inside_bin(label, b["rate"])), None):
                found[b["problem_id"]] = label
        return found


def _difference(before: Model, after: Model, benchmark: str, measure: str) -> Difference | None:
    greedy = measure == "greedy"
    answers = [m.answers(benchmark, greedy) for m in (before, after)]
    if not any(answers):
        return None
    return compare(*answers, MEASURES["official" if greedy else measure], (before.folder.name, after.folder.name))


def verdict(difference: Difference) -> Word:
    """A change is claimed only where the paired 95 % interval excludes zero and there are problems enough."""
    if difference.n < FEWEST:
        return "too few problems"
    if difference.low > 0:
        return "improved"
    return "got worse" if difference.high < 0 else "no change shown"


def inside_bin(label: str, rate: float) -> bool:
    """Whether a pass rate belongs to one of difficulty.py's bins: "0" and "1" are exact, "a-b" is a < rate <= b."""
    low, _, high = label.partition("-")
    return float(low) < rate <= float(high) and rate < 1 if high else rate == float(low)
