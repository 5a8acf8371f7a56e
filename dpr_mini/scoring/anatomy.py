"""What responses to tasks are made of: attempts, checks, verdicts, and what became of them. Counts before shares.

`dissect` judges one response, `anatomy` counts over the sampled answers of a benchmark. Nothing here reads words other
than the task's grammar (tasks/trace.py): every attempt and every line of a check is executed.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from dpr_mini import tasks
from dpr_mini.scoring.stats import subset
from dpr_mini.tasks.trace import true_check
from dpr_mini.types import Graded, Traced

NGRAM = 4  # tokens; what repeats a run of so many was said before (ours)
_DRAWS = 2000  # resamples of a slope's interval


def dissect(task: tasks.Task, statement: str, trace: tasks.Trace, ids: Sequence[int], text: str) -> Traced:
    """The trace of a response, judged. `ids` are the tokens that the model wrote of `text`."""
    encoded = text.encode()
    attempts = tuple((a.answer, task.right(statement, a.answer)) for a in trace.attempts)
    return Traced(
        attempts,
        tuple(
            (r.attempt, r.accepts, r.accepts == attempts[r.attempt][1], true_check(task, statement, trace, r))
            for r in trace.reviews
        ),
        distinct(ids),
        len(encoded),
        len(zlib.compress(encoded, 9, wbits=-zlib.MAX_WBITS)),  # deflate as gzip has it, without a header
    )


def distinct(ids: Sequence[int], n: int = NGRAM) -> int:
    """Tokens that are left once every run of n tokens that came before is taken out."""
    seen: set[tuple[int, ...]] = set()
    fresh = [True] * len(ids)
    for at, gram in enumerate(zip(*(ids[i:] for i in range(n)), strict=False)):
        if gram in seen:
            fresh[at : at + n] = [False] * n
        seen.add(gram)
    return sum(fresh)


@dataclass(frozen=True, slots=True)
class Part:
    """`n` of the `of` that there are; the share is None of none."""

    n: int
    of: int

    @property
    def share(self) -> float | None:
        return self.n / self.of if self.of else None

    def to_row(self) -> dict[str, Any]:
        return {"n": self.n, "of": self.of, "share": None if self.share is None else round(self.share, 4)}


def part(flags: Iterable[bool]) -> Part:
    """How many of the flags are true."""
    flags = list(flags)
    return Part(sum(flags), len(flags))


@dataclass(frozen=True, slots=True)
class Anatomy:
    """Of the sampled answers to one benchmark's tasks. A response without an attempt counts as wrong, first and last.

    `kept`, `spoiled`, `mended`, `lost`: first and final answer right and right, right and wrong, wrong and right, wrong
    and wrong. `accept_right` and `accept_wrong`: verdicts on right and on wrong attempts that accept. `mends`: of
    responses whose wrong first attempt was rejected, those that end right. `retry_true`: of attempts that follow a
    wrong one that was rejected, those that are right, `retry_any` of those that follow any rejected one; `first` is
    the share of first attempts that are right, which is also the accuracy of responses cut after it. `fresh` is what
    `retry_any` is to be held against: first attempts of the other responses to the same problems, once for each retry;
    problems with a wrong first attempt are harder than `first` says. None without other responses. `attempts`:
    responses by number of attempts. `tokens`, `distinct`: means over responses. `deflated`: compressed size, of one.
    """

    responses: int
    kept: int
    spoiled: int
    mended: int
    lost: int
    first: Part
    final: Part
    accept_right: Part
    accept_wrong: Part
    verdicts: Part
    true_checks: Part
    mends: Part
    retry_true: Part
    retry_any: Part
    attempts: Mapping[int, int]
    attempts_mean: float
    tokens: float
    distinct: float
    deflated: float
    fresh: float | None = None

    def to_row(self) -> dict[str, Any]:
        """As stage.json holds it."""
        row = {name: getattr(self, name) for name in self.__slots__}
        row = {name: value.to_row() if isinstance(value, Part) else value for name, value in row.items()}
        return row | {"attempts": {str(n): count for n, count in self.attempts.items()}}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Anatomy:
        """Read one back."""
        parts = {name: Part(v["n"], v["of"]) for name, v in row.items() if isinstance(v, Mapping) and "of" in v}
        return cls(**{**row, **parts, "attempts": {int(n): count for n, count in row["attempts"].items()}})


def anatomies(answers: Sequence[Graded], benchmarks: Sequence[str]) -> dict[str, Anatomy]:
    """The anatomy of every benchmark that has answers to tasks."""
    found = {name: anatomy(subset(answers, name)) for name in benchmarks}
    return {name: of for name, of in found.items() if of}


def anatomy(answers: Sequence[Graded]) -> Anatomy | None:
    """Of these answers, those to problems of tasks; None where there are none."""
    traced = [(a, a.trace) for a in answers if a.trace]
    if not traced:
        return None
    ends = Counter((first_right(t), a.right) for a, t in traced)
    reviews = [(t.attempts[at][1], accepts, well, true) for _, t in traced for at, accepts, well, true in t.reviews]
    retried = [pair for _, t in traced for pair in retries(t)]
    numbers = Counter(len(t.attempts) for _, t in traced)
    return Anatomy(
        responses=len(traced),
        kept=ends[True, True],
        spoiled=ends[True, False],
        mended=ends[False, True],
        lost=ends[False, False],
        first=part(first_right(t) for _, t in traced),
        final=part(a.right for a, _ in traced),
        accept_right=part(accepts for right, accepts, _, _ in reviews if right),
        accept_wrong=part(accepts for right, accepts, _, _ in reviews if not right),
        verdicts=part(well for _, _, well, _ in reviews),
        true_checks=part(true for _, _, _, true in reviews),
        mends=part(a.right for a, t in traced if not first_right(t) and rejected(t, 0)),
        retry_true=part(now for before, now in retried if not before),
        retry_any=part(now for _, now in retried),
        attempts=dict(sorted(numbers.items())),
        attempts_mean=fmean(len(t.attempts) for _, t in traced),
        tokens=fmean(a.tokens for a, _ in traced),
        distinct=fmean(t.distinct for _, t in traced),
        deflated=sum(t.deflated for _, t in traced) / max(1, sum(t.size for _, t in traced)),
        fresh=fresh([(a.problem_id, t) for a, t in traced]),
    )


def first_right(trace: Traced) -> bool:
    """Whether the first attempt is right; False where there is none."""
    return bool(trace.attempts) and trace.attempts[0][1]


def rejected(trace: Traced, attempt: int) -> bool:
    """Whether the last verdict on an attempt rejects it; False where there is none on it."""
    verdicts = [accepts for at, accepts, _, _ in trace.reviews if at == attempt]
    return bool(verdicts) and not verdicts[-1]


def retries(trace: Traced) -> Iterator[tuple[bool, bool]]:
    """(whether it is right, whether the next one is) of every rejected attempt that another follows."""
    for at, ((_, before), (_, now)) in enumerate(zip(trace.attempts, trace.attempts[1:], strict=False)):
        if rejected(trace, at):
            yield before, now


def fresh(traced: Sequence[tuple[str, Traced]]) -> float | None:
    """Of (problem id, trace): how often first attempts of the other responses are right where one is tried again."""
    right, number = Counter[str](), Counter[str]()
    for problem, trace in traced:
        right[problem] += first_right(trace)
        number[problem] += 1
    drawn = [
        (right[problem] - first_right(trace)) / (number[problem] - 1)
        for problem, trace in traced
        if number[problem] > 1
        for _ in retries(trace)
    ]
    return fmean(drawn) if drawn else None


@dataclass(frozen=True, slots=True)
class Slope:
    """Change of log tokens from a problem that the base always solves to one that it never solves.

    exp(mean) is the ratio of lengths. [low, high] is the 95 % percentile bootstrap interval over the `n` problems.
    """

    n: int
    mean: float
    low: float
    high: float


def slope(answers: Iterable[Graded], base_rates: Mapping[str, float], seed: int = 0) -> Slope | None:
    """Least squares of a problem's mean log tokens on the base's fail rate, over problems that have both.

    None where all problems have one fail rate. Sampled answers of no token at all count as one token.
    """
    by: dict[str, list[float]] = {}
    for a in subset(answers):
        if a.problem_id in base_rates:
            by.setdefault(a.problem_id, []).append(math.log(max(1, a.tokens)))
    x = np.asarray([1.0 - base_rates[i] for i in by])
    y = np.asarray([fmean(logs) for logs in by.values()])
    if not x.size or np.ptp(x) == 0:
        return None
    chosen = np.random.default_rng(seed).integers(0, x.size, (_DRAWS, x.size))
    drawn = _slopes(x[chosen], y[chosen])
    low, high = np.percentile(drawn[np.isfinite(drawn)], [2.5, 97.5])
    return Slope(int(x.size), float(_slopes(x[None], y[None])[0]), float(low), float(high))


def _slopes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Least-squares slopes of rows [draws, n] -> [draws]; nan where a row has one value of x."""
    dx = x - x.mean(axis=1, keepdims=True)
    spread = (dx**2).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(spread > 0, (dx * y).sum(axis=1) / spread, np.nan)
