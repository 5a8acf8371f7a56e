"""The rules a dialogue must pass to be trained on.

A rule is a function of a `Case` that returns what it objects to (evidence), or None. `RULES` maps its name to a
factory whose keyword options a recipe may set. `duplicate`, `near_duplicate` and `per_problem` also judge by what was
kept before: a `Memory` is told by `keep` of every case that passed *all* rules, so the order of the rules decides only
which objection is recorded. Build the rules anew for every pass. What is masked from the loss is not judged by rules
that read text (their option `turns`), nor are our bridge sentences. Which rules there are and their defaults are ours,
the paper (arXiv 2601.05616) does not name its own; `false_arithmetic` is RFT's (arXiv 2308.01825).
"""

from __future__ import annotations

import inspect
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from dpr_mini.files.aside import Table
from dpr_mini.grading.answers import exact
from dpr_mini.grading.notation import squeeze
from dpr_mini.grading.reading import extract
from dpr_mini.recipe import RecipeError
from dpr_mini.recipe.base import LARGEST_OPTION
from dpr_mini.recipe.messages import in_words
from dpr_mini.selection import behaviours, leaks, task_rules, tongues
from dpr_mini.selection.arithmetic import false_equations
from dpr_mini.selection.case import KINDS, Case, Rule, Turns
from dpr_mini.selection.overlap import formula, jaccard, runs
from dpr_mini.selection.repetition import repeated
from dpr_mini.selection.working import shown
from dpr_mini.types import Problem, UserError, hashed, nearest


def answered() -> Rule:
    """The last turn has an answer that could be read."""
    return lambda c: f"no answer in {c.text[-120:]!r}" if c.verdicts[-1].status == "unparsed" else None


def answer_correct() -> Rule:
    """The last turn's answer is the right one, and the joined chain still reads so.

    A first turn's "the answer is 45" can outlive a second turn's "8 * 9 = 72" once both stand in one text.
    """

    def rule(c: Case) -> str | None:
        last, chain = c.verdicts[-1], c.joined
        if not last.ok:
            return f"{last.status}: {last.extracted!r}, right is {c.problem.answer!r} ({last.how})"
        return None if chain.ok else f"the joined chain reads as {chain.extracted!r} ({chain.how})"

    return rule


def not_truncated() -> Rule:
    """Every turn ended by itself."""

    def rule(c: Case) -> str | None:
        cut = [f"turn {i}: {t.finish} after {len(t.ids)} tokens" for i, t in enumerate(c.dialogue.turns, 1)]
        return next((e for e, t in zip(cut, c.dialogue.turns, strict=True) if t.finish != "stop"), None)

    return rule


def trajectory(kinds: list[str] = ["single_right", "confirmed", "corrected"]) -> Rule:  # noqa: B006
    """From first to last turn the answers went one of these ways (KINDS); a prefix has one turn and passes."""
    if unknown := [k for k in kinds if k not in KINDS]:
        raise ValueError(f"kinds: no kind {unknown[0]!r}; there are: {', '.join(KINDS)}")
    return lambda c: None if c.prefix or c.kind in kinds else c.kind


def false_arithmetic(turns: Turns = "trained") -> Rule:
    """No false equation between plain numbers."""
    return lambda c: next((e for text in c.attempts(turns) for e in false_equations(text)), None)


def repetition(n: int = 8, times: int = 3, turns: Turns = "trained") -> Rule:
    """No run of n words follows itself or comes back so that it stands `times` times or more in one turn.

    A list of steps whose numbers or letters go on is no repetition.
    """
    if n < 1 or times < 2:
        raise ValueError("n must be at least 1 and times at least 2")

    def rule(c: Case) -> str | None:
        found = next(filter(None, (repeated(text, n, times) for text in c.turns(turns))), None)
        return f"{found[0]} times: {found[1]}" if found else None

    return rule


PHRASES = ["as you asked", "you asked me", "your previous answer", "your instruction"]


def template_leak(phrases: list[str] = PHRASES, words: int = 8, turns: Turns = "trained") -> Rule:
    """No control token of a chat, no talk of our prompt, and no copy of its words.

    A copy is `words` consecutive words of a line of the instructions, or a shorter sentence of them as a whole; 0 looks
    for none. The problem's own text inside an instruction may be quoted. `phrases` are talk of our prompt, too.
    """
    if words < 0:
        raise ValueError("words must be 0 (off) or more")
    pattern = re.compile("|".join(rf"\b{re.escape(p)}\b" for p in phrases) or "(?!)", re.I)

    def seen(text: str, instructions: Sequence[str]) -> str | None:
        if match := pattern.search(text):
            return leaks.around(text, match)
        if (leak := leaks.leak(text)) or not words:
            return leak
        copy = leaks.copied(text, instructions, words)
        return f"our own words: {copy}" if copy else None

    def rule(c: Case) -> str | None:
        question = c.problem.text or "\0"
        instructions = [part for t in c.dialogue.turns for part in t.prompt.split(question)]
        return next(filter(None, (seen(text, instructions) for text in c.attempts(turns))), None)

    return rule


def working(words: int = 6, turns: Turns = "trained") -> Rule:
    """Not an answer alone: a calculation, other numbers than the answer's, or at least `words` words of an argument.

    Where no answer could be read, `answered` is the rule that objects.
    """
    if words < 1:
        raise ValueError("words must be at least 1")

    def rule(c: Case) -> str | None:
        answer, text = c.verdicts[-1].extracted, "\n".join(c.attempts(turns))
        return None if not answer or shown(text, answer, words) else f"no working: {text[:120]!r}"

    return rule


def length(min_tokens: int = 0, max_tokens: int = 1_000_000) -> Rule:
    """Tokens of all turns together are within limits."""
    if min_tokens > max_tokens:
        raise ValueError(f"min_tokens {min_tokens} is more than max_tokens {max_tokens}")
    return lambda c: None if min_tokens <= c.dialogue.tokens <= max_tokens else f"{c.dialogue.tokens} tokens"


def longer_than_first(ratio: float = 1.5) -> Rule:
    """The whole chain has at least `ratio` times the first turn's tokens; a single turn passes."""

    def rule(c: Case) -> str | None:
        first, total = len(c.dialogue.turns[0].ids), c.dialogue.tokens
        short = len(c.dialogue.turns) > 1 and total < ratio * first
        return f"{total} tokens, the first turn has {first}" if short else None

    return rule


def show_behaviours(at_least: int = 1, required: list[str] = []) -> Rule:  # noqa: B006
    """At least this many of the four behaviours have a marker, the required ones among them."""
    if unknown := [r for r in required if r not in behaviours.NAMES]:
        raise ValueError(f"required: no behaviour {unknown[0]!r}; there are: {', '.join(behaviours.NAMES)}")

    def rule(c: Case) -> str | None:
        shown = [name for name in behaviours.NAMES if c.behaviours[name]]
        ok = len(shown) >= at_least and set(required) <= set(shown)
        return None if ok else f"shown: {', '.join(shown) or 'none'}"

    return rule


def one_answer(turns: Turns = "last") -> Rule:
    """The last turn or attempt does not state two different final answers (boxed, "####" or "answer is")."""

    def rule(c: Case) -> str | None:
        answers: list[str] = []
        sentences = [s for text in c.attempts(turns) for s in re.split(r"\n|(?<=[.!?])\s+", text)]
        boxes = (re.split(r"(?=\\boxed)", s) for s in sentences)  # `extract` reads one box of a text
        for piece in (piece for parts in boxes for piece in parts[1:] or parts):
            answer, how = extract(piece)
            if re.fullmatch(r"(?:[A-Za-z'-]+\s+){2,}[A-Za-z'-]+", answer):  # "a whole number of dollars"
                continue
            if answer and how in ("boxed", "hashes", "phrase") and not any(_same(answer, f) for f in answers):
                answers.append(answer)
        return f"{len(answers)} answers: {', '.join(answers)}" if len(answers) > 1 else None

    return rule


def _same(a: str, b: str) -> bool:
    decided = exact(a, b)
    return decided[0] if decided else squeeze(a).lower() == squeeze(b).lower()


def language(max_share: float = 0.05, turns: Turns = "trained") -> Rule:
    """In English: foreign letters, names' accents apart, are at most this share; no foreign sentence, none garbled."""
    if max_share > 1:
        raise ValueError("max_share must be at most 1")

    def rule(c: Case) -> str | None:
        return tongues.foreign("\n".join(c.attempts(turns)), max_share)

    return rule


class Memory(ABC):
    """A rule that also judges by the cases that were kept before."""

    @abstractmethod
    def __call__(self, c: Case) -> str | None: ...

    @abstractmethod
    def keep(self, c: Case) -> None: ...


@dataclass
class Duplicate(Memory):
    """Not the same text (case, layout and our bridges aside) as one kept for this problem."""

    _seen: Table = field(default_factory=Table, init=False)

    def __call__(self, c: Case) -> str | None:
        first = self._seen.get(self._key(c))
        return None if first is None else f"same text as {first}"

    def keep(self, c: Case) -> None:
        self._seen[self._key(c)] = c.dialogue.id

    def _key(self, c: Case) -> bytes:
        return hashed(c.problem.id, " ".join(" ".join(c.attempts("all")).lower().split()))


@dataclass
class NearDuplicate(Memory):
    """Not `threshold` or more similar to one kept for this problem, bridges aside (Jaccard, runs of three words)."""

    threshold: float = 0.8
    _kept: Table = field(default_factory=Table, init=False)  # by problem how many, by problem and number `_of`

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ValueError("threshold must be above 0 and at most 1")

    def __call__(self, c: Case) -> str | None:
        if not (count := self._kept.get(hashed(c.problem.id), 0)):
            return None
        mine = runs(self._formula(c))
        near = (
            (jaccard(mine, runs(text.split())), name)
            for size, name, text in self._of(c, count)
            if _ratio(len(mine), size) >= self.threshold  # else the sizes rule it out
        )
        share, name = max(near, key=lambda x: x[0], default=(0.0, ""))
        return f"similarity {share:.2f} to {name}" if share >= self.threshold else None

    def keep(self, c: Case) -> None:
        number = self._kept.count(hashed(c.problem.id))
        mine = self._formula(c)
        self._kept[hashed(c.problem.id, number)] = f"{len(runs(mine))} {c.dialogue.id}\n{' '.join(mine)}"

    def _of(self, c: Case, count: int) -> Iterator[tuple[int, str, str]]:
        """(number of runs, id, formula) of what was kept for the problem, in that order."""
        for number in range(1, count + 1):
            told, _, text = self._kept[hashed(c.problem.id, number)].rpartition("\n")
            size, _, name = told.partition(" ")
            yield int(size), name, text

    @staticmethod
    def _formula(c: Case) -> tuple[str, ...]:
        return formula("\n".join(c.attempts("all")))


def _ratio(a: int, b: int) -> float:
    """The most that two sets of these sizes can have in common."""
    return min(a, b) / max(a, b, 1)


@dataclass
class PerProblem(Memory):
    """At most this many for one problem."""

    at_most: int = 4
    _kept: Table = field(default_factory=Table, init=False)

    def __post_init__(self) -> None:
        if self.at_most < 1:
            raise ValueError("at_most must be at least 1")

    def __call__(self, c: Case) -> str | None:
        full = self._kept.get(hashed(c.problem.id), 0) >= self.at_most
        return f"{self.at_most} kept for this problem" if full else None

    def keep(self, c: Case) -> None:
        self._kept.count(hashed(c.problem.id))


RULES: dict[str, Callable[..., Rule]] = {
    "answered": answered,
    "answer_correct": answer_correct,
    "not_truncated": not_truncated,
    "trajectory": trajectory,
    "false_arithmetic": false_arithmetic,
    "repetition": repetition,
    "template_leak": template_leak,
    "working": working,
    "length": length,
    "longer_than_first": longer_than_first,
    "behaviours": show_behaviours,
    "one_answer": one_answer,
    "language": language,
    **task_rules.RULES,
    "duplicate": Duplicate,
    "near_duplicate": NearDuplicate,
    "per_problem": PerProblem,
}


def objections(case: Case, rules: Sequence[tuple[str, Rule]]) -> Iterator[tuple[str, str]]:
    """(rule, evidence) of every rule that objects, in the rules' order. Lazy: next() stops at the first objection."""
    return ((name, evidence[:200]) for name, rule in rules if (evidence := rule(case)) is not None)


def remember(case: Case, rules: Sequence[tuple[str, Rule]]) -> None:
    """Tell the rules that this case is kept."""
    for _, rule in rules:
        if isinstance(rule, Memory):
            rule.keep(case)


def refuse(rules: Iterable[tuple[str, Rule]], problems: Iterable[Problem]) -> None:
    """Raises UserError where a rule executes answers and a problem has no verifier to do so."""
    name = next((name for name, _ in rules if name in task_rules.RULES), None)
    if name and (plain := next((p for p in problems if not p.verifier), None)):
        shown = f"{plain.id} ({plain.source}) {plain.text:.60}".rstrip()
        raise UserError(f"filter.rules: {name} executes answers and needs a task's problems; no verifier: {shown}")


def build_rules(rules: Sequence[str | Mapping[str, Mapping[str, Any]]]) -> list[tuple[str, Rule]]:
    """(name, rule) in the recipe's order. Raises RecipeError for an unknown rule or a wrong option."""
    built = []
    for number, entry in enumerate(rules):
        named = {entry: {}} if isinstance(entry, str) else dict(entry)
        if len(named) != 1:
            raise RecipeError(f"filter.rules: one rule an entry, got {', '.join(named) or 'none'}", "rules", number)
        [(name, options)] = named.items()
        if name not in RULES:
            raise RecipeError(f"filter.rules: no rule {name!r}; {nearest(name, RULES)}", "rules", number)
        try:
            built.append((name, _build(name, options or {})))
        except RecipeError as error:
            raise RecipeError(str(error), "rules", number) from None
    return built


def _build(name: str, options: Mapping[str, Any]) -> Rule:
    factory = RULES[name]
    parameters = inspect.signature(factory).parameters
    valid = ", ".join(f"{p.name} (default {p.default})" for p in parameters.values()) or "none"
    hints = get_type_hints(factory)
    strict = ConfigDict(strict=True)  # True is no number, "3" neither
    for option, value in options.items():
        if option not in parameters:
            raise RecipeError(f"filter.rules: {name} has no option {option!r}; valid: {valid}")
        try:
            TypeAdapter(hints[option], config=strict).validate_python(value)
        except ValidationError as error:
            raise RecipeError(f"filter.rules: {name}.{option}: {in_words(error.errors())}; valid: {valid}") from None
    try:
        rule = factory(**options)
    except ValueError as error:
        raise RecipeError(f"filter.rules: {name}: {error}") from None
    numbers = {option: value for option, value in options.items() if isinstance(value, int | float)}
    if odd := [o for o, value in numbers.items() if not 0 <= value <= LARGEST_OPTION]:
        wrong = f"must be from 0 to {LARGEST_OPTION} (got {numbers[odd[0]]!r:.60})"
        raise RecipeError(f"filter.rules: {name}.{odd[0]}: {wrong}; valid: {valid}")
    return rule
