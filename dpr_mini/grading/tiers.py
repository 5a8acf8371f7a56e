"""The tiers in order: a verdict without a worker, or None where only computer algebra can tell."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from typing import Literal

from dpr_mini.grading.algebra import Unreadable, Value
from dpr_mini.grading.answers import APPROXIMATE, MAX_ANSWER, exact, quantity, unnamed, unread_words
from dpr_mini.grading.colons import colons
from dpr_mini.grading.guards import MAX_NESTING, depth, dropped, heavy, unknown_commands
from dpr_mini.grading.latex import parse
from dpr_mini.grading.notation import clean, squeeze
from dpr_mini.grading.numerals import spelled_out
from dpr_mini.grading.phrases import introduced, upright
from dpr_mini.grading.regions import says_region, split
from dpr_mini.grading.structure import structure
from dpr_mini.grading.units import scaled, split_unit
from dpr_mini.grading.worked import ASKS, SERIES, form
from dpr_mini.types import Verdict

# what is not drawn, and marks that turn text around
_CONTROL = re.compile(
    r"[\x00-\x08\x0e-\x1f\x7f\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\U000e0000-\U000e0fff]"
)


ClosedForms = Literal["refuse", "accept"]


_PLAIN = re.compile(r"-?[0-9]{1,40}(?:\.[0-9]{1,40})?")


def decide(gold: str, answer: str, how: str, *, closed_forms: ClosedForms = "refuse") -> Verdict | None:
    """A verdict that needs no worker, or None. `closed_forms`: "accept" lets pass what worked.py calls closed."""

    def verdict(status: str, by: str) -> Verdict:
        return Verdict(status, answer[:MAX_ANSWER], f"{how}/{by}")

    if not answer:
        return Verdict("unparsed", "", how)
    if _PLAIN.fullmatch(answer) and _PLAIN.fullmatch(gold):
        if answer == gold or Fraction(answer) == Fraction(gold):
            return verdict("correct", "string" if answer == gold else "exact")
        return verdict("wrong", "exact")
    if len(answer) > MAX_ANSWER or len(gold) > MAX_ANSWER:
        return verdict("correct", "string") if answer == gold else verdict("unparsed", "too-long")
    if answer != gold and _CONTROL.search(answer):
        return verdict("unparsed", "control-character")
    if answer == gold and r"\boxed" not in gold:
        return verdict("correct", "string")
    gold = upright(gold) if "\\" not in gold else gold
    while found := re.fullmatch(r"\s*\\f?boxed\s*\{([^{}]*)\}\s*", answer):
        answer = found[1]
    if r"\boxed" in answer:
        return verdict("wrong", "several")  # a box within the box, and more beside it
    if squeeze(gold) == squeeze(answer):
        return verdict("correct", "string")
    if depth(answer) > MAX_NESTING:
        return verdict("unparsed", "nesting")
    said = _said(gold, answer)
    if said is None:
        return verdict("wrong", "contradiction")
    accept = closed_forms == "accept"
    if accept and (decided := colons(*unnamed(clean(gold), clean(said)), True)):
        return verdict("correct" if decided[0] else "wrong", decided[1])
    decided = exact(gold, said)
    if decided and not decided[0]:
        return verdict("wrong", decided[1])
    if (reason := unworked(gold, said, accept)) and (
        decided is None or decided[1] not in ("choice", "words", "base", "clock", "ratio", "string", "compound")
    ):
        return verdict("wrong", reason)
    if decided:
        return verdict("correct", decided[1])
    if decided := structure(gold, said):
        return verdict("correct" if decided[0] else "wrong", decided[1])
    if unread_words(clean(gold), clean(said)):
        return verdict("wrong", "words")
    if unknown := unknown_commands(gold, said):
        return verdict("unparsed", f"unread-{unknown}")
    if dropped(gold, said):
        return verdict("wrong", "dropped")
    if heavy(gold) or (heavy(said) and not (accept and SERIES.search(said))):
        return verdict("unparsed", "too-large")
    if (
        _beyond_a_float(said)
        or _beyond_a_float(gold)
        or (_varies(gold) is False and _POWER.search(clean(gold) + " " + clean(said)))
    ):
        return verdict("unparsed", "cannot-compare")
    return None


_LARGE = re.compile(
    r"(?:\^|\*\*)\s*\{?\s*\(?\s*-?[0-9]{3,}|[0-9]{3,}\s*!|[0-9]{40}|(?<![0-9])0\.0{12}|degrees.*(?:sin|cos|tan"
    r"|cot)|(?:sin|cos|tan|cot).*degrees"
)


_POWER = re.compile(
    r"[0-9)}]\s*(?:\^|\*\*)\s*\{?\s*\(?\s*-?[0-9]{2}|[0-9]{13}|[0-9]{2,}\s*!"
)  # what floats cannot tell apart


def _beyond_a_float(text: str) -> bool:
    """What computer algebra would round to a float, or read without its degrees."""
    return bool(_LARGE.search(clean(text)))


# ---------------------------------------------------------------- what the answer says

_FOR_ALL = re.compile(
    r"\s*,?\s*(?:for|where|with)\s+(?:every|all|any|each)\s+(?:real\s+|positive\s+|integers?\s+|numbers?\s+"
    r"|values? of\s+)*\$?[a-z]\$?(?:\s*\\in\s*\\mathbb\s*\{?[RZNQ]\}?)?\s*$",
    re.I,
)
_FUNCTION_NAME = re.compile(
    r"(?:[A-Za-z]\s*\(\s*[a-z](?:\s*,\s*[a-z])*\s*\)|m?\s*\\angle\s*\{?[A-Z]{1,3}\}?)\s*"
    r"(?:=\s*(?=[^=])|\\in(?![A-Za-z])\s*(?=[\[(\\]))"
)


def _fraction(x: Fraction) -> Value:
    return parse(f"{x.numerator}") / parse(f"{x.denominator}")


def _said(gold: str, answer: str) -> str | None:
    """The answer without words that only introduce it; of a true chain of values its last side; None for a
    false one."""
    text = clean(answer)
    plain = clean(gold)
    if not _FOR_ALL.search(plain):
        text = _FOR_ALL.sub("", text)
    lettered = re.fullmatch(r"\(([A-J])\)\s*(?=[-+0-9\\$])(.+)", text)
    if lettered and not re.fullmatch(r"\(?[A-J][).]?", plain):
        text = lettered[2]
    text = re.sub(r"(?<=[0-9}%])\s+of (?:the|an?|his|her|their|its|all)(?: [a-z]+){1,2}$", "", text)
    shorter = introduced(text)
    if shorter != text and ":" not in plain and "=" not in shorter:
        text = shorter
    if "=" not in plain and (name := _FUNCTION_NAME.match(text)):
        text = text[name.end() :]
    if "=" not in text or APPROXIMATE.search(text) or re.search(r"[<>]|\\[lg]eq?(?![a-z])|\\ne|\\equiv", text):
        return text
    if (
        len(split(text, re.compile(r"[,;]|(?<![\\A-Za-z])(?:or|and)(?![A-Za-z])|\\(?:lor|land|vee|wedge)(?![A-Za-z])")))
        > 1
    ):
        return text
    sides = split(text, re.compile(r"={1,2}"))
    if any(not s for s in sides):
        return text
    values, last_unit = [], split_unit(sides[-1])[1]
    of_hundred = [quantity(s)[1] == "%" for s in sides]
    for side in sides:
        side_value, unit = split_unit(side)
        if any(of_hundred) and not all(of_hundred):  # 0.35 = 35%
            x, percent = quantity(side)
            values.append(None if x is None or x < 0 else _fraction(x / 100 if percent else x))
            continue
        if unit and last_unit and unit != last_unit:  # 2 h = 120 min
            values.append(None)
            continue
        try:
            value = parse(_plain_digits(side_value))
            values.append(None if value.variables else value)
        except (Unreadable, RecursionError):
            x = quantity(side)[0]
            values.append(None if x is None or x < 0 else _fraction(x))
    known = [v for v in values if v is not None]
    if any(v.same(known[0]) is False for v in known[1:]):
        return None
    if values[-1] is not None and (
        len(known) == len(sides) or re.fullmatch(r"\\?[A-Za-z]+(?:_\{?\w{1,3}\}?)?", sides[0])
    ):
        first = [] if len(known) == len(sides) else [sides[0]]
        return " = ".join([*first, sides[-1]])
    return text


def _plain_digits(text: str) -> str:
    return re.sub(r"(?<=[0-9]),(?=[0-9]{3}(?![0-9]))", "", text)


# ---------------------------------------------------------------- was it worked out?

_LEAF = re.compile(
    r"[,;=<>&]|\\\\|\\(?:le|ge|leq|geq|lt|gt|ne|neq|cup|cap|in|lor|land|vee|wedge|mid|to|setminus"
    r"|backslash)(?![A-Za-z])|(?<![\\A-Za-z])(?:or|and)(?![A-Za-z])"
)
_REALS = re.compile(r"\\mathbb\s*\{?\s*[RZQNC]\s*\}?|\\emptyset|\\?")
_INFINITE = re.compile(r"[-+]?\s*(?:\\infty|infinity)")


def unworked(gold: str, answer: str, accept: bool) -> str:
    """Why the answer is not worked out where the gold answer is; "" where it is, or where no value is asked for."""
    asked = clean(gold)
    text = clean(answer)
    if ASKS.search(text if not says_region(text) else text.replace("|", "")) and not ASKS.search(asked):
        return "" if accept and SERIES.search(text) else "unevaluated"
    if says_region(asked) or says_region(text):
        found = _worst(text)
        return "unevaluated" if found and found[0] and _asks_value(gold) else ""
    if not _asks_value(gold):
        return "no-variable" if _varies(gold) and _varies(answer) is False else ""
    if quantity(text)[0] is not None and (scaled(text) or spelled_out(text) is not None):
        return ""
    found = _worst(text)
    if found is None:
        return "" if accept and re.search(r"\\(?:sin|cos|tan|cot|sec|csc)", text) else "not-a-value"
    reason, closed, variable = found
    if reason or variable:
        return "unevaluated" if reason else "variable"
    return "closed-form" if closed and not accept else ""


@lru_cache(4096)
def _varies(text: str) -> bool | None:
    """Whether a formula has a variable; None where it is not read."""
    found = _worst(clean(text))
    return None if found is None else found[2]


@lru_cache(4096)
def _asks_value(gold: str) -> bool:
    found = _worst(clean(gold))
    return found is not None and not any(found)


@lru_cache(4096)
def _worst(text: str) -> tuple[str, str, bool] | None:
    """Of a value, list, tuple, interval or matrix: the reason that its least worked part is none, its closed form,
    whether it has a variable; None if unreadable."""
    closed, variable = "", False
    leaves = list(_leaves(APPROXIMATE.split(text)[0]))
    for leaf in leaves:
        if _INFINITE.fullmatch(leaf) or _REALS.fullmatch(leaf):
            continue
        try:
            found = form(leaf)
        except (Unreadable, RecursionError, ValueError):
            return None
        if found.reason:
            return found.reason, "", found.variable
        closed, variable = closed or found.closed, variable or found.variable
    return ("", closed, variable) if leaves else None


def _leaves(text: str) -> Iterator[str]:
    """The formulas that a list, tuple, set, interval, union or matrix is made of, without units and names."""
    scaled_matrix = re.fullmatch(r"(.*?[^\s=,;])\s*(\\begin\s*\{[pbvBV]?matrix\}.*)", text, re.S)
    if scaled_matrix:
        yield from _leaves(scaled_matrix[1])
        text = scaled_matrix[2]
    text = re.sub(r"\\begin\s*\{[a-z]*(?:matrix|array)\}(?:\{[lcr|]+\})?|\\end\s*\{[a-z]*(?:matrix|array)\}", " ", text)
    text = re.sub(r"\\pm(?![a-z])|\\mp(?![a-z])", "+", text).strip()
    value, unit = split_unit(text)
    text = value if unit else re.sub(r"(?<=[0-9)}])\s*degrees\b", "", text)
    parts = split(_ungrouped(_plain_digits(text)), _LEAF)
    if len(parts) > 1:
        for part in parts:
            if part and not re.fullmatch(r"\\?[A-Za-z]+(?:_\{?\w{1,3}\}?)?|\\mathbb\s*\{?R\}?|[A-Za-z]\([a-z]\)", part):
                yield from _leaves(part)
            elif part and len([p for p in parts if p]) == 1:
                yield part
        return
    inner = _ungrouped(text)
    if inner != text:
        yield from _leaves(inner)
    elif text:
        yield _plain_digits(text)


def _ungrouped(text: str) -> str:
    r"""Without the bracket around all of it, where that makes a tuple, an interval or a set: (1, 2], \{3\}."""
    text = text.strip()
    found = re.fullmatch(r"(?:\\\{|[(\[\]{])(.*?)(?:\\\}|[)\]\[}])", text, re.S)
    if not found or not ("," in found[1] or ";" in found[1] or text.startswith("\\{")):
        return text
    level = 0
    for at, c in enumerate(found[1]):
        level += (c in "([{") - (c in ")]}")
        if level < 0 and at < len(found[1]):
            return text
    return found[1].strip()
