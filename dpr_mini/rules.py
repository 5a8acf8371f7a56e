"""The rules a dialogue must pass to be trained on.

A rule is a function of a `Case` that returns what it objects to (evidence), or None. `RULES` maps its name to a
factory whose keyword options a recipe may set. All are pure but `duplicate` and `per_problem`, which remember what
they let through: put them last, and build the rules anew for every pass. Which rules there are and their defaults
are ours, the paper (arXiv 2601.05616) does not name its own; `false_arithmetic` is RFT's (arXiv 2308.01825).
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from dpr_mini import behaviours
from dpr_mini.answers import exact, extract, squeeze
from dpr_mini.arithmetic import false_equations
from dpr_mini.recipe import RecipeError
from dpr_mini.types import Dialogue, Problem, Verdict, digest

KINDS = ("single_right", "confirmed", "corrected", "spoiled", "never_right")


@dataclass(frozen=True)
class Case:
    """One graded dialogue. `text` is the joined chain and `joined` its verdict, read as one response.

    `verdicts` has one per turn; the last is the final answer's.

    `behaviours` counts markers in what the model wrote, not in the bridge sentences that join its turns.
    """

    dialogue: Dialogue
    problem: Problem
    text: str
    verdicts: tuple[Verdict, ...]
    joined: Verdict
    behaviours: Mapping[str, int]
    kind: str


Rule = Callable[[Case], str | None]


def kind_of(verdicts: Sequence[Verdict]) -> str:
    """Trajectory from the first turn's verdict to the last one's (KINDS)."""
    if not verdicts[-1].ok:
        return "spoiled" if verdicts[0].ok and len(verdicts) > 1 else "never_right"
    if len(verdicts) == 1:
        return "single_right"
    return "confirmed" if verdicts[0].ok else "corrected"


# ---------------------------------------------------------------- rules


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
    """From first to last turn the answers went one of these ways (KINDS)."""
    if unknown := [k for k in kinds if k not in KINDS]:
        raise ValueError(f"kinds: no kind {unknown[0]!r}; there are: {', '.join(KINDS)}")
    return lambda c: None if c.kind in kinds else c.kind


def false_arithmetic() -> Rule:
    """No false equation between plain numbers."""
    return lambda c: next(false_equations(c.text), None)


def repetition(n: int = 8, times: int = 3) -> Rule:
    """No run of n words follows itself or comes back so that it stands `times` times or more in one turn."""
    if n < 1 or times < 2:
        raise ValueError("n must be at least 1 and times at least 2")

    def rule(c: Case) -> str | None:
        for turn in c.dialogue.turns:
            words = turn.text.lower().split()
            grams = Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
            gram, count = max(grams.items(), key=lambda g: g[1], default=((), 0))
            if count >= times:
                return f"{count} times: {' '.join(gram)}"
        return None

    return rule


LEAKS = ["as you asked", "you asked me", "the user", "your previous answer", "your instruction", "as an ai"]


def template_leak(phrases: list[str] = LEAKS) -> Rule:
    """The chain does not talk to whoever gave our instructions."""
    pattern = re.compile("|".join(rf"\b{re.escape(p)}\b" for p in phrases) or "(?!)", re.I)

    def rule(c: Case) -> str | None:
        found = pattern.search(c.text)
        return c.text[max(0, found.start() - 40) : found.end() + 40] if found else None

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


def one_answer() -> Rule:
    """The last turn does not state two different final answers (boxed, "####" or "answer is")."""

    def rule(c: Case) -> str | None:
        found: list[str] = []
        for piece in re.split(r"\n|(?<=[.!?])\s+", c.dialogue.turns[-1].text):
            answer, how = extract(piece)
            if answer and how in ("boxed", "hashes", "phrase") and not any(_same(answer, f) for f in found):
                found.append(answer)
        return f"{len(found)} answers: {', '.join(found)}" if len(found) > 1 else None

    return rule


def _same(a: str, b: str) -> bool:
    decided = exact(a, b)
    return decided[0] if decided else squeeze(a).lower() == squeeze(b).lower()


def language(max_share: float = 0.05) -> Rule:
    """Letters outside ASCII, apart from Greek (mathematics), are at most this share of all letters."""

    def rule(c: Case) -> str | None:
        letters = [x for x in c.text if x.isalpha()]
        foreign = [x for x in letters if not x.isascii() and not "\u0370" <= x <= "\u03ff"]
        share = len(foreign) / max(len(letters), 1)
        return f"{share:.0%} of letters: {''.join(foreign[:20])}" if share > max_share else None

    return rule


def duplicate() -> Rule:
    """Not the same text (case and layout aside) as one kept for this problem. Remembers."""
    seen: dict[tuple[str, str], str] = {}

    def rule(c: Case) -> str | None:
        key = (c.problem.id, digest(" ".join(c.text.lower().split())))
        first = seen.setdefault(key, c.dialogue.id)
        return None if first == c.dialogue.id else f"same text as {first}"

    return rule


def per_problem(at_most: int = 4) -> Rule:
    """At most this many for one problem. Remembers."""
    kept: Counter[str] = Counter()

    def rule(c: Case) -> str | None:
        if kept[c.problem.id] >= at_most:
            return f"{at_most} kept for this problem"
        kept[c.problem.id] += 1
        return None

    return rule


RULES: dict[str, Callable[..., Rule]] = {
    "answered": answered,
    "answer_correct": answer_correct,
    "not_truncated": not_truncated,
    "trajectory": trajectory,
    "false_arithmetic": false_arithmetic,
    "repetition": repetition,
    "template_leak": template_leak,
    "length": length,
    "longer_than_first": longer_than_first,
    "behaviours": show_behaviours,
    "one_answer": one_answer,
    "language": language,
    "duplicate": duplicate,
    "per_problem": per_problem,
}


def build_rules(rules: Sequence[str | Mapping[str, Mapping[str, Any]]]) -> list[tuple[str, Rule]]:
    """(name, rule) in the recipe's order. Raises RecipeError for an unknown rule or a wrong option."""
    built = []
    for entry in rules:
        named = {entry: {}} if isinstance(entry, str) else dict(entry)
        if len(named) != 1:
            raise RecipeError(f"filter.rules: one rule an entry, got {', '.join(named) or 'none'}")
        [(name, options)] = named.items()
        if name not in RULES:
            near = difflib.get_close_matches(name, RULES, 1, 0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(RULES)}"
            raise RecipeError(f"filter.rules: no rule {name!r}; {hint}")
        built.append((name, _build(name, options or {})))
    return built


def _build(name: str, options: Mapping[str, Any]) -> Rule:
    factory = RULES[name]
    known = inspect.signature(factory).parameters
    valid = ", ".join(f"{p.name} (default {p.default})" for p in known.values()) or "none"
    hints = get_type_hints(factory)
    strict = ConfigDict(strict=True)  # True is no number, "3" neither
    for option, value in options.items():
        if option not in known:
            raise RecipeError(f"filter.rules: {name} has no option {option!r}; valid: {valid}")
        try:
            TypeAdapter(hints[option], config=strict).validate_python(value)
        except ValidationError as error:
            wrong = f"filter.rules: {name}.{option}: {error.errors()[0]['msg']} (got {value!r:.60}); valid: {valid}"
            raise RecipeError(wrong) from None
    try:
        return factory(**options)
    except ValueError as error:
        raise RecipeError(f"filter.rules: {name}: {error}") from None
