"""What flows between stages. Frozen, standard library only; everything imports this, this imports nothing.

A row on disk is `asdict(x)`; `from_row(cls, row)` reads it back. Token ids are ints of the model's
tokenizer; a probability is in [0, 1]; a length is in tokens unless the name says otherwise.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

Finish = Literal["stop", "length", "error"]
Status = Literal["correct", "wrong", "unparsed", "timeout"]
Stop = Literal["met", "spent", "gave_up", "unanswered"]


class UserError(Exception):
    """Something the user can mend: its text is the one line that the command line prints instead of a traceback."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One question with a known final answer. `split` is "train" or a held-out benchmark's name.

    `level` and `subject` are the data's own labels, "" where it has none.
    """

    id: str
    source: str
    text: str
    answer: str
    level: str = ""
    split: str = "train"
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Turn:
    """One assistant turn: the instruction that asked for it and the tokens the model answered with.

    `instruction` is the template's name, `prompt` the text that was sent. `ids` exclude the end token.
    `prompt_tokens` and `cached_tokens` count this turn's whole prefix and the part the engine had cached.
    """

    instruction: str
    prompt: str
    ids: tuple[int, ...]
    text: str
    finish: Finish
    prompt_tokens: int = 0
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A model's conversation with itself about one problem. `id` is problem id + "#" + sample number."""

    id: str
    problem_id: str
    sample: int
    turns: tuple[Turn, ...]
    engine: str
    seed: int

    @property
    def finish(self) -> Finish:
        return self.turns[-1].finish

    @property
    def tokens(self) -> int:
        return sum(len(t.ids) for t in self.turns)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A graded answer. `how` names what found the answer and what compared it, e.g. "boxed/number"."""

    status: Status
    extracted: str
    how: str

    @property
    def ok(self) -> bool:
        return self.status == "correct"


@dataclass(frozen=True, slots=True)
class Drop:
    """Why a dialogue was not kept: the rule's name and what it saw."""

    dialogue_id: str
    rule: str
    evidence: str


@dataclass(frozen=True, slots=True)
class Difficulty:
    """Pass rate of one problem, estimated from `tried` samples of which `correct` were right."""

    problem_id: str
    tried: int
    correct: int

    @property
    def rate(self) -> float:
        return self.correct / self.tried if self.tried else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson 95 % interval of the pass rate (Wilson 1927); (0, 1) where nothing was tried."""
        return wilson(self.rate, self.tried)


@dataclass(frozen=True, slots=True)
class Budget:
    """What phase 2 wanted of one problem and what that took, the probe's draws included.

    `wanted` correct samples; draws `asked`, answers `drawn` (an engine may fail a draw), of these `right`; `tokens`
    generated for it; `stop` is why no more was drawn, see budgets.step.
    """

    problem_id: str
    wanted: int
    asked: int
    drawn: int
    right: int
    tokens: int
    stop: Stop


@dataclass(frozen=True, slots=True)
class Sample:
    """One training text: token ids and, per token, whether it is trained on (same length)."""

    id: str
    ids: tuple[int, ...]
    trained: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Pack:
    """One training row: samples laid end to end. `starts` are the offsets at which each begins."""

    samples: tuple[str, ...]
    ids: tuple[int, ...]
    trained: tuple[bool, ...]
    starts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ScoreCard:
    """One benchmark's result. `mean` is pass@1 over n problems x k samples; the interval is over problems.

    `greedy` is None where no greedy answer was asked for besides the samples; `se` is the standard error of `mean`
    over problems, None where they do not differ.
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


def wilson(rate: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a rate that n draws gave (Wilson 1927); (0, 1) for no draw."""
    if not n:
        return 0.0, 1.0
    z = 1.959964
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def digest(*parts: Any) -> str:
    """Hex sha256 of the parts' text, separated so that ("ab", "c") differs from ("a", "bc")."""
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()


def identity(text: str) -> str:
    """A problem's id: digest of its text without case and layout."""
    return digest(" ".join(text.lower().split()))[:16]


def seed_for(*parts: Any) -> int:
    """A 31-bit seed from (recipe seed, stage, row id, turn, sample ...), the same on every machine."""
    return int(digest(*parts)[:8], 16) & 0x7FFFFFFF


def to_row(value: Any) -> dict[str, Any]:
    return asdict(value)


def from_row(cls: type, row: Mapping[str, Any]) -> Any:
    """Read a dataclass back from JSON; keys that the class lacks (verdicts beside a dialogue) are left out."""
    hints = get_type_hints(cls)
    return cls(**{f.name: _read(hints[f.name], row[f.name]) for f in fields(cls) if f.name in row})


def _read(hint: Any, value: Any) -> Any:
    if get_origin(hint) is tuple:
        inner = get_args(hint)[0]
        if is_dataclass(inner):
            return tuple(from_row(inner, v) for v in value)
        return tuple(value)
    return value
