"""What flows between stages. Frozen, standard library only; everything imports this, this imports nothing.

A row on disk is `asdict(x)`; `from_row(cls, row)` reads it back. Token ids are ints of the model's
tokenizer; a probability is in [0, 1]; a length is in tokens unless the name says otherwise.
"""

from __future__ import annotations

import difflib
import hashlib
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

Finish = Literal["stop", "length", "error"]
Status = Literal["correct", "wrong", "unparsed", "timeout"]
Stop = Literal["met", "spent", "gave_up", "unanswered"]

GREEDY = -1  # the sample number of a greedy answer: in dialogues, in ids and in seeds
ALL = "all"  # in a benchmark's place: all benchmarks together
HARD, EASY = "hard for base", "easy for base"  # too: the untouched model's greedy answer is wrong, right (ours)


LONGEST = 2000  # characters of a message: more than a screen helps nobody


def printable(text: str, keep: str = "") -> str:
    """The text with what a terminal or a page would obey, not show, spelled out: controls, bidi marks, half surrogates.

    Characters of `keep` stay as they are, e.g. newlines.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else ascii(c)[1:-1] for c in text)


def one_line(text: str) -> str:
    """The text as one printable line of at most LONGEST characters; a longer one loses its middle."""
    line = printable(" ".join(part.strip() for part in text.splitlines() if part.strip()))
    return line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} ... {line[10 - LONGEST // 2 :]}"


HIDDEN = "***"  # stands for a secret
_KEYS = r"(?:api|access|private|secret|auth|admin|ssh)[_-]?key|passw(?:or)?d|passphrase|secret|credentials?"
# A setting or a variable of the environment that holds one: api_key, HF_TOKEN, DPR_MINI_SGLANG_AUTH; not max_tokens.
SECRET_NAME = re.compile(rf"(?:^|[_\W])(?:{_KEYS}|token|auth(?:orization)?)$", re.IGNORECASE)
_FORMS = (
    # user and password of a URL, which may be cut off behind them; host:port is none
    (re.compile(r"(?<=//)(?:[^\s'\"]*(?=@)|[^\s'\"/:\[]+:(?!\d{1,5}(?!\w))[^\s'\"]*)"), HIDDEN),
    (re.compile(r"(?<![\w/])[\w.+-]+:[^\s'\"@/:]+@(?=[\w\[])"), f"{HIDDEN}@"),
    (re.compile(r"(?<![A-Za-z0-9])(?:hf_|sk-|gh[pousr]_|github_pat_|glpat-|xox[abprs]-|AKIA)[\w-]{8,}"), HIDDEN),
    (re.compile(r"\b(bearer|basic) (?=\S*[\d=])[\w.~+/-]{6,}=*", re.IGNORECASE), rf"\1 {HIDDEN}"),
    (  # key=value, "key": "value"; prose such as "auth_key: no such name" is none
        re.compile(
            rf"((?:{_KEYS}|(?:hf|api|access|auth|session)[_-]?token)(?:[\"']\s?[=:]|\s?=)\s?[\"']?)[^\s&\"',;)\]}}]+",
            re.IGNORECASE,
        ),
        rf"\g<1>{HIDDEN}",
    ),
)
_secrets: set[str] = set()  # that this process made or was told


def keep_secret(text: str) -> str:
    """From now on `redacted` hides this text wherever it stands. Returns it."""
    _secrets.add(text)
    return text


def redacted(value: Any, wording: bool = False) -> Any:
    """Text, or a setting with all in it, without secrets: what is dumped, logged, printed or published goes through it.

    Secrets: values whose name says so (SECRET_NAME), in settings and in the environment; users and passwords of URLs;
    tokens by their usual forms; what `keep_secret` was told. Of `wording`, and of a recipe's `dialogue`, which is
    prompts, only secrets that are known are hidden: its own words stay as a model reads them.
    """
    if isinstance(value, str):
        environment = (v for n, v in os.environ.items() if SECRET_NAME.search(n) and not v.startswith("/"))
        known = _secrets | {part for v in environment for part in (v, v.partition(":")[2]) if len(part) >= 8}
        for secret in sorted(known, key=len, reverse=True):
            value = value.replace(secret, HIDDEN)
        for form, hidden in () if wording else _FORMS:
            value = form.sub(hidden, value)
        return value
    if isinstance(value, Mapping):
        secret_names = () if wording else {k for k in value if isinstance(k, str) and SECRET_NAME.search(k)}
        return {
            redacted(k, wording): HIDDEN
            if k in secret_names and isinstance(v, str)
            else redacted(v, wording or k == "dialogue")
            for k, v in value.items()
        }
    return [redacted(v, wording) for v in value] if isinstance(value, list | tuple) else value


class UserError(Exception):
    """Something the user can fix: its text is the one line that the command line prints instead of a traceback."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(redacted(message)))


def nearest(name: str, names: Iterable[str]) -> str:
    """What to add to a message that refuses `name`: the nearest valid name, or all of them."""
    names = list(names)
    near = difflib.get_close_matches(name, names, 1, 0.4)
    return f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(names) or 'none'}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One question with a known final answer. `split` is "train" or a held-out benchmark's name.

    `level` and `subject` are the data's own labels, "" where it has none. A problem of a task (tasks/) names its
    `verifier`, which reads `statement`: there `answer` is one right answer of several.
    """

    id: str
    source: str
    text: str
    answer: str
    level: str = ""
    split: str = "train"
    subject: str = ""
    verifier: str = ""
    statement: str = ""

    @property
    def gold(self) -> str | Executed:
        """What the grader holds an answer against."""
        return Executed(self.verifier, self.statement) if self.verifier else self.answer


@dataclass(frozen=True, slots=True)
class Executed:
    """A gold that is no answer but a task's statement: a response is right if the verifier says so."""

    verifier: str
    statement: str


@dataclass(frozen=True, slots=True)
class Turn:
    """One assistant turn: the instruction that asked for it and the tokens the model answered with.

    `instruction` is the template's name, `prompt` the text that was sent. `ids` exclude the end token.
    `prompt_tokens` and `cached_tokens` count this turn's whole prefix and the part the engine had cached.
    The first `given` of `ids` were put there: the model did not generate them.
    """

    instruction: str
    prompt: str
    ids: tuple[int, ...]
    text: str
    finish: Finish
    prompt_tokens: int = 0
    cached_tokens: int = 0
    given: int = 0


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

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.trained):
            raise ValueError(f"{self.id}: {len(self.ids)} ids and {len(self.trained)} flags of what is trained")


@dataclass(frozen=True, slots=True)
class Pack:
    """One training row: samples laid end to end. `starts` are the offsets at which each begins."""

    samples: tuple[str, ...]
    ids: tuple[int, ...]
    trained: tuple[bool, ...]
    starts: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.trained):
            raise ValueError(f"{len(self.ids)} ids and {len(self.trained)} flags of what is trained")
        inside = all(a < b for a, b in zip(self.starts, (*self.starts[1:], len(self.ids)), strict=True))
        if len(self.samples) != len(self.starts) or self.starts[:1] != (0,) or not inside:
            raise ValueError(f"starts {self.starts[:8]} of {len(self.samples)} samples in {len(self.ids)} ids")


@dataclass(frozen=True, slots=True)
class Kept:
    """A dialogue that passed the filter's rules. `kind` is its trajectory over the turns (rules.KINDS).

    `verdicts` has one for each turn; `behaviours` counts markers by name in what the model wrote. `attempt` is the
    verdict on what stands before the first bridge in the first turn; None where there is none. For a task's problem
    `verifier` is its name and `wrong` the numbers, from 0, of the chain's wrong attempts that another follows.
    """

    id: str
    problem_id: str
    kind: str
    verdicts: tuple[Verdict, ...]
    behaviours: Mapping[str, int]
    dialogue: Dialogue
    attempt: Verdict | None = None
    verifier: str = ""
    wrong: tuple[int, ...] = ()

    def to_row(self) -> dict[str, Any]:
        """A line of a filter's rows.jsonl."""
        return {k: v for k, v in to_row(self).items() if v or k not in ("verifier", "wrong")}


@dataclass(frozen=True, slots=True)
class Traced:
    """What a response to a task's problem consists of, each part judged by the task's verifier.

    `attempts` are (answer, whether it is right), in order. `reviews` are (number of the attempt, whether it is
    accepted, whether that is the verifier's verdict, whether the check is true: carried out, and of this attempt).
    `distinct` counts the tokens outside of n-grams that were said before (anatomy.distinct); `size` and `deflated` are
    bytes of the text, plain and compressed.
    """

    attempts: tuple[tuple[str, bool], ...]
    reviews: tuple[tuple[int, bool, bool, bool], ...]
    distinct: int
    size: int
    deflated: int

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Traced:
        """Read one back: JSON has lists for tuples."""
        both = {name: tuple(map(tuple, row[name])) for name in ("attempts", "reviews")}
        return cls(**{**row, **both})


@dataclass(frozen=True, slots=True, kw_only=True)
class Graded:
    """One answer of an evaluation with all that the grader said of it; `sample` is None for the greedy answer.

    `first` and `last`: whether the first result and the last number in the text are right. `attempt` is that of what
    stands before the first bridge, or of a dialogue's first turn; `joined` that of a dialogue's whole chain; None where
    there is no such text. `vote` is the answer it stands for in a majority vote; None where no answer was found, for
    the greedy one, and in files older than version 4 of eval-N. `tokens` are those of all turns, `behaviours` counts of
    markers by name. An answer to a task's problem has no such counts, but a `trace`: what it does was executed.
    """

    id: str
    problem_id: str
    benchmark: str
    source: str
    level: str = ""
    subject: str = ""
    sample: int | None
    tokens: int
    finish: Finish
    verdict: Verdict
    first: bool
    last: bool
    attempt: bool | None = None
    joined: bool | None = None
    behaviours: Mapping[str, int] | None
    vote: str | None = None
    trace: Traced | None = None

    @property
    def right(self) -> bool:
        return self.verdict.ok

    @property
    def greedy(self) -> bool:
        return self.sample is None

    def to_row(self) -> dict[str, Any]:
        """A line of graded.jsonl: flat; the greedy answer's sample number is GREEDY, as in its id."""
        return {
            "id": self.id,
            "problem_id": self.problem_id,
            "benchmark": self.benchmark,
            "source": self.source,
            "level": self.level,
            "subject": self.subject,
            "sample": GREEDY if self.sample is None else self.sample,
            "tokens": self.tokens,
            "finish": self.finish,
            **to_row(self.verdict),
            "first_ok": self.first,
            "last_ok": self.last,
            "attempt_ok": self.attempt,
            "joined_ok": self.joined,
            "behaviours": None if self.behaviours is None else dict(self.behaviours),
            "vote": self.vote,
            **({"trace": to_row(self.trace)} if self.trace else {}),
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Graded:
        """Read a line of graded.jsonl; what a file of an older version lacks gets its default."""
        flags = {name: row[key] for name in ("first", "last", "attempt", "joined") if (key := f"{name}_ok") in row}
        sample = None if row["sample"] == GREEDY else row["sample"]
        read = from_row(cls, {**row, **flags, "sample": sample, "verdict": row, "trace": None})
        return replace(read, trace=Traced.from_row(row["trace"])) if row.get("trace") else read


def wilson(rate: float, n: float, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's 95 % interval of a rate that n draws gave (Wilson 1927); (0, 1) for no draw. `z` is the quantile."""
    if not n:
        return 0.0, 1.0
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def digest(*parts: Any) -> str:
    """Hex sha256 of the parts' text, separated so that ("ab", "c") differs from ("a", "bc")."""
    return _sha256(parts).hexdigest()


def hashed(*parts: Any) -> bytes:
    """The first 16 bytes of `digest`: a key of the same length whatever the parts."""
    return _sha256(parts).digest()[:16]


def _sha256(parts: Iterable[Any]) -> Any:
    return hashlib.sha256("\x1f".join(map(str, parts)).encode())


def identity(text: str) -> str:
    """A problem's id: digest of its text without case and layout."""
    return digest(" ".join(text.lower().split()))[:16]


SHARED = "@"  # in a problem's id: behind it the benchmark, where another one has the same problem


def bare(name: str) -> str:
    """A problem's or dialogue's id without a benchmark: what those that share the problem have in common, as seeds."""
    return re.sub(f"{SHARED}[^#]*", "", name)


def seed_for(*parts: Any) -> int:
    """A 31-bit seed from (recipe seed, stage, row id, turn, sample ...), the same on every machine."""
    return int(digest(*parts)[:8], 16) & 0x7FFFFFFF


def to_row(value: Any) -> dict[str, Any]:
    """A dataclass as JSON has it: as `asdict` does, but what cannot change is not copied, and that is most of it."""
    return {name: _plain(getattr(value, name)) for name in _names(type(value))}


@cache
def _names(cls: type) -> tuple[str, ...]:
    return tuple(f.name for f in fields(cls))


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return to_row(value)
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, tuple | list) and not all(isinstance(v, int | str | float) for v in value[:1]):
        return type(value)(map(_plain, value))
    return value


def from_row(cls: type, row: Mapping[str, Any]) -> Any:
    """Read a dataclass back from JSON. Keys that the class lacks are left out; fields that the row lacks get defaults.

    Raises TypeError where the row lacks a field that has no default.
    """
    hints = _hints(cls)
    return cls(**{f.name: _read(hints[f.name], row[f.name]) for f in fields(cls) if f.name in row})


@cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)


def _read(hint: Any, value: Any) -> Any:
    """A JSON value as what the annotation says: dataclasses alone, in tuples, as values of mappings, or None."""
    kind, inner = get_origin(hint), get_args(hint)
    if kind is UnionType:
        return None if value is None else _read(next(a for a in inner if a is not NoneType), value)
    if is_dataclass(hint):
        return from_row(hint, value)
    if kind is tuple:
        return tuple(from_row(inner[0], v) for v in value) if is_dataclass(inner[0]) else tuple(value)
    if kind is Mapping:
        return {name: _read(inner[1], v) for name, v in value.items()}
    return value
