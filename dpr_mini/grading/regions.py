r"""Sets of real numbers: inequalities, intervals and unions in one canonical form, a union of disjoint intervals."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from dpr_mini.grading.algebra import Unreadable, Value
from dpr_mini.grading.latex import parse

MAX_PARTS = 24


def split(text: str, separator: re.Pattern[str]) -> list[str]:
    """Cut at the matches that stand outside all brackets."""
    parts, level, start, at = [], 0, 0, 0
    while at < len(text):
        c = text[at]
        if level == 0 and (found := separator.match(text, at)) and found.end() > at:
            parts.append(text[start:at])
            start = at = found.end()
            continue
        level += (c in "([{") - (c in ")]}")
        at += 1
    return [p.strip() for p in [*parts, text[start:]]]


_OR = re.compile(r"(?:,\s*)?(?<![\\A-Za-z])or(?![A-Za-z])|\\(?:lor|vee|cup)(?![A-Za-z])|\u222a")
_AND = re.compile(r"(?<![\\A-Za-z])and(?![A-Za-z])|\\(?:land|wedge|cap)(?![A-Za-z])|\u2229")
_RELATION = re.compile(
    r"\\(?:leqslant|geqslant|leqq|geqq|leq|geq|le|ge|lt|gt|neq|ne)(?![A-Za-z])|<=|>=|!=|[<>\u2264\u2265\u2260]"
)
_SPELLING = {"\u2264": "<=", "\u2265": ">=", "\u2260": "!="}

COMMA = re.compile(
    r"[,;]\s*(?:and\b|or\b)?|(?<![\\A-Za-z])and(?![A-Za-z])|(?<![\\A-Za-z])or(?![A-Za-z])|\\(?:lor|vee)(?![A-Za-z])"
)


@dataclass(frozen=True)
class Interval:
    """Between two end points; None is infinite. `closed` says whether each belongs to it."""

    low: Value | None
    high: Value | None
    closed: tuple[bool, bool]


@dataclass(frozen=True)
class Region:
    """A union of disjoint intervals in order; `name` is the variable, "" where none is named."""

    parts: tuple[Interval, ...]
    name: str = ""


REALS = Interval(None, None, (False, False))


def _before(a: Value, b: Value) -> int:
    """-1, 0, 1. Equality is exact; the order of unequal numbers is read from floats that are clearly apart."""
    if a.same(b):
        return 0
    gap = a.near() - b.near()
    if a.opaque or b.opaque or abs(gap) < 1e-9 * (1 + abs(a.near())):
        raise Unreadable("too close to order")
    return -1 if gap < 0 else 1


def _cut(a: Interval, b: Interval) -> Interval | None:
    """The intersection."""
    (low, left), (high, right) = (a.low, a.closed[0]), (a.high, a.closed[1])
    if b.low is not None:
        order = 1 if low is None else _before(b.low, low)
        low, left = (b.low, b.closed[0]) if order > 0 else (low, left and b.closed[0]) if order == 0 else (low, left)
    if b.high is not None:
        order = -1 if high is None else _before(b.high, high)
        high, right = (
            (b.high, b.closed[1]) if order < 0 else (high, right and b.closed[1]) if order == 0 else (high, right)
        )
    if low is not None and high is not None:
        order = _before(low, high)
        if order > 0 or (order == 0 and not (left and right)):
            return None
    return Interval(low, high, (left, right))


def _union(parts: Sequence[Interval]) -> tuple[Interval, ...]:
    if len(parts) > MAX_PARTS:
        raise Unreadable("too many intervals")
    ordered: list[Interval] = []
    for new in parts:  # insertion by lower end
        at = 0
        while at < len(ordered) and _starts_before(ordered[at], new):
            at += 1
        ordered.insert(at, new)
    merged: list[Interval] = []
    for part in ordered:
        if merged and _touch(merged[-1], part):
            last = merged.pop()
            high, right = _farther(last, part)
            part = Interval(last.low, high, (last.closed[0], right))
        merged.append(part)
    return tuple(merged)


def _starts_before(a: Interval, b: Interval) -> bool:
    if a.low is None or b.low is None:
        return a.low is None
    order = _before(a.low, b.low)
    return order < 0 or (order == 0 and a.closed[0])


def _touch(a: Interval, b: Interval) -> bool:
    if a.high is None or b.low is None:
        return True
    order = _before(b.low, a.high)
    return order < 0 or (order == 0 and (a.closed[1] or b.closed[0]))


def _farther(a: Interval, b: Interval) -> tuple[Value | None, bool]:
    if a.high is None or b.high is None:
        return None, False
    order = _before(a.high, b.high)
    right = a.closed[1] if order > 0 else b.closed[1] if order < 0 else a.closed[1] or b.closed[1]
    return (a.high if order > 0 else b.high), right


_INFINITY = re.compile(r"([-+]?)\s*(?:\\infty|\u221e|\\infinity|infinity|inf)", re.I)
_REALS = re.compile(r"\\(?:mathbb|mathbf|Bbb)\s*\{?\s*R\s*\}?|\\R|\u211d|all real numbers")
_BELONGS = re.compile(r"(\\?[A-Za-z]+)\s*(?:\\in(?![A-Za-z])|\u2208)\s*")


def region(text: str) -> Region | None:
    """A set of real numbers from inequalities, intervals, unions; None where the text is something else."""
    parts: list[Interval] = []
    names: set[str] = set()
    builder = r"\\\{\s*([A-Za-z])(?:\s*\\in\s*\\mathbb\s*\{?R\}?)?\s*(?:\\mid|\||:)(.*)\\\}"
    if found := re.fullmatch(builder, text):
        text, names = found[2].strip(), {found[1]}
    pieces = split(text, _OR)
    if (
        len(pieces) == 1
        and len(conditions := split(text, _LISTED)) > 1
        and all(_RELATION.search(c) for c in conditions)
    ):
        return _listed(conditions)
    for piece in pieces:
        found = [REALS]
        for condition in split(piece, _AND):
            named = _BELONGS.match(condition)
            body = condition[named.end() :] if named else condition
            if named:
                names.add(named[1])
            got = _bracketed(body) or _inequality(body, names)
            if got is None:
                return None
            found = [c for a in found for b in got if (c := _cut(a, b))]
        parts += found
    if len(names) > 1:
        return None
    return Region(_union(parts), next(iter(names), ""))


_LISTED = re.compile("[,;]")


def _listed(conditions: Sequence[str]) -> Region | None:
    """x > -3, x < 4: both where both can hold, else either."""
    regions = [region(c) for c in conditions]
    if None in regions or len({r.name for r in regions if r.name}) > 1:
        return None
    both = [REALS]
    for one in regions:
        both = [c for a in both for b in one.parts if (c := _cut(a, b))]
    parts = both or [p for one in regions for p in one.parts]
    return Region(_union(parts), regions[0].name)


def _bracketed(text: str) -> list[Interval] | None:
    text = text.strip()
    if found := re.fullmatch(rf"(?:{_REALS.pattern})\s*(?:(?:\\setminus|\\backslash|\\)\s*\\\{{(.*)\\\}})?", text):
        holes = [parse(p) for p in split(found[1], COMMA)] if found[1] else []
        pieces = [REALS]
        for hole in holes:
            sides = [Interval(None, hole, (False, False)), Interval(hole, None, (False, False))]
            pieces = [c for a in pieces for b in sides if (c := _cut(a, b))]
        return pieces
    if re.fullmatch(r"\\\{[^{}]*\\\}", text):
        return [Interval(v, v, (True, True)) for v in (parse(p) for p in split(text[2:-2], COMMA))]
    if text[:1] not in ("(", "[", "]") or text[-1:] not in (")", "]", "[") or len(text) < 5:
        return None
    ends = split(text[1:-1], re.compile("[,;]"))
    if len(ends) != 2:
        return None
    low, high = (None if _INFINITY.fullmatch(e) else parse(e) for e in ends)
    for end, value, sign in ((ends[0], low, "-"), (ends[1], high, "")):
        if value is None and _INFINITY.fullmatch(end)[1].replace("+", "") != sign:
            return None
    closed = (text[0] == "[" and low is not None, text[-1] == "]" and high is not None)
    if low is not None and high is not None and (order := _before(low, high)) >= 0 and (order > 0 or not all(closed)):
        return None
    return [Interval(low, high, closed)]


def _inequality(text: str, names: set[str]) -> list[Interval] | None:
    """2 < x <= 5, 3x > 1, x != 2: linear in one variable."""
    if (found := re.fullmatch(r"\|([^|]+)\|\s*(<=|>=|<|>|\\[lg]eq?|\\[lg]t)\s*([^|]+)", text)) is not None:
        sign, bound = _kind(found[2]), found[3]
        if (limit := parse(bound).rational) is None or limit < 0:
            return None
        below = _half_line(found[1], sign, bound, names)
        above = _half_line(f"-({found[1]})", sign, bound, names)
        if below is None or above is None:
            return None
        return [c for p in below for q in above if (c := _cut(p, q))] if sign[0] == "<" else below + above
    signs = [_kind(m[0]) for m in _RELATION.finditer(text)]
    sides = split(text, _RELATION)
    if not signs or len(sides) != len(signs) + 1 or len(signs) > 2:
        return None
    result = [REALS]
    for left, sign, right in zip(sides, signs, sides[1:], strict=False):
        got = _half_line(left, sign, right, names)
        if got is None:
            return None
        result = [c for a in result for b in got if (c := _cut(a, b))]
    return result


def _kind(sign: str) -> str:
    sign = _SPELLING.get(sign, sign)
    if sign[0] == "\\":
        sign = {"l": "<", "g": ">", "n": "!"}[sign[1]] + ("" if sign in (r"\lt", r"\gt") else "=")
    return sign


def _half_line(left: str, sign: str, right: str, names: set[str]) -> list[Interval] | None:
    infinite = [bool(_INFINITY.fullmatch(side)) for side in (left, right)]
    if any(infinite):  # -\infty < x says nothing
        finite = parse(right if infinite[0] else left)
        names |= finite.variables
        negative = (left if infinite[0] else right).startswith("-")
        return [REALS] if len(finite.variables) == 1 and sign[0] == ("<" if infinite[0] == negative else ">") else None
    rest = parse(left) - parse(right)
    if len(rest.variables) != 1 or rest.opaque:
        return None
    (name,) = rest.variables
    names.add(name)
    slope = {tuple(p for p in m if p[0] != name): c for m, c in rest.num.items() if (name, Fraction(1)) in m}
    free = {m: c for m, c in rest.num.items() if all(a != name for a, _ in m)}
    if len(slope) + len(free) != len(rest.num) or any(a == name for m in rest.den for a, _ in m):
        return None  # not linear
    factor = Value(slope, rest.den)
    at = -(Value(free, rest.den) / factor)
    if sign == "!=":
        return [Interval(None, at, (False, False)), Interval(at, None, (False, False))]
    above = (sign[0] == ">") == (factor.near() > 0)
    closed = sign.endswith("=")
    return [Interval(at, None, (closed, False)) if above else Interval(None, at, (False, closed))]


def same_region(a: Region, b: Region) -> bool | None:
    if a.name and b.name and a.name != b.name:
        return False
    if len(a.parts) != len(b.parts):
        return False
    for p, q in zip(a.parts, b.parts, strict=True):
        if p.closed != q.closed:
            return False
        for u, v in ((p.low, q.low), (p.high, q.high)):
            if (u is None) != (v is None):
                return False
            if u is not None and (same := u.same(v)) is not True:
                return same
    return True


_REGION_SIGN = re.compile(rf"{_RELATION.pattern}|\\cup|\u222a|\\infty|\u221e|\\in(?![a-z])|\u2208|{_REALS.pattern}")


def says_region(text: str) -> bool:
    half_open = (text[:1] == "[") != (text[-1:] == "]") and text[:1] in "([" and text[-1:] in ")]"
    return bool(half_open or _REGION_SIGN.search(text))
