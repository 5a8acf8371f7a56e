"""What a model scored: means with their intervals, lengths, and the card that holds those of one benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from dpr_mini.types import from_row


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over `n` problems with its 95 % interval [low, high] and standard error.

    `se` is None where the problems do not differ, and in files older than version 4 of eval-N.
    """

    n: int
    mean: float
    low: float
    high: float
    se: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelEstimate(Estimate):
    """pass@1 over the problems of one level or subject, and the mean length of their answers in tokens."""

    tokens_mean: float


@dataclass(frozen=True, slots=True)
class Lengths:
    """Generated tokens of `n` answers."""

    n: int
    mean: float
    median: float
    p90: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One model on one benchmark, or on all of them (ALL). `mean` is pass@1 over n problems x k samples.

    [low, high] is the 95 % interval of `mean` over problems, `se` its standard error (None where they do not differ).
    `k` is the smallest number of samples a problem, `k_most` the largest; they differ only over several benchmarks, and
    then pass@k (`pass_at`, by "1", "2", "4" ... "k") and maj@k (`maj`) are None. `greedy` is None without greedy
    answers. `lengths` are those of "right" and "wrong" answers. Shares, in [0, 1], are of the sampled answers:
    `truncated`, `first_result` and `last_number` (right by those scorers), `unparsed`, `behaviours` (by name: showing
    it; {} where all answers are to problems of tasks, in which no words are counted), `joined` (whole chain right; None
    where no answer is a dialogue); `wrong_to_right` and `right_to_wrong` are of the `revised` answers. `timeouts`
    counts greedy answers too.
    """

    benchmark: str
    n: int
    k: int
    mean: float
    low: float
    high: float
    greedy: float | None
    truncated: float
    tokens_mean: float
    tokens_median: float
    tokens_p90: float
    se: float | None = None
    k_most: int
    greedy_estimate: Estimate | None = None
    pass_at: Mapping[str, Estimate] | None = None
    maj: Estimate | None = None
    lengths: Mapping[str, Lengths | None] = field(default_factory=dict)
    by_level: Mapping[str, LabelEstimate] = field(default_factory=dict)
    by_subject: Mapping[str, LabelEstimate] = field(default_factory=dict)
    first_result: float
    last_number: float
    unparsed: float
    timeouts: int
    behaviours: Mapping[str, float]
    joined: float | None = None
    revised: int
    wrong_to_right: float
    right_to_wrong: float

    @property
    def estimate(self) -> Estimate:
        """pass@1."""
        return Estimate(self.n, self.mean, self.low, self.high, self.se)

    def to_row(self) -> dict[str, Any]:
        """The card as stage.json, scorecards.json and the published results hold it."""
        return {name: value for name, value in asdict(self).items() if name != "joined" or value is not None}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Card:
        """Read a card back; what a file of an older version lacks gets its default."""
        return from_row(cls, {"k_most": row["k"], **row})
