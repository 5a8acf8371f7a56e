r"""Exact comparison of what answers are made of beyond one number: values with units, lists, sets, tuples, matrices,
plus-minus, inequalities against intervals and unions, chains of approximations. The values come from `latex.parse`.

None always means "not certain": computer algebra may decide. Nothing here evaluates text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from dpr_mini.grading.algebra import Unreadable, Value, constant
from dpr_mini.grading.answers import APPROXIMATE, same_unit
from dpr_mini.grading.latex import parse
from dpr_mini.grading.notation import clean, squeeze
from dpr_mini.grading.regions import COMMA, region, same_region, says_region, split
from dpr_mini.grading.units import split_unit

MAX_ITEMS = 24

Decision = tuple[bool, str] | None

_THOUSANDS = re.compile(r"-?[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?")
_AMBIGUOUS = re.compile(r"(?<![0-9])[0-9]{1,3},[0-9]{3}(?![0-9])")


_CAP = re.compile(r"\\cap(?![a-z])|\u2229")
_NAMED_TUPLE = re.compile(r"\(([A-Za-z](?:\s*,\s*[A-Za-z])+)\)\s*=\s*(?=\()")
_NAME = re.compile(r"(\\?[A-Za-z]+(?:_\{?[0-9A-Za-z]{1,3}\}?)?)\s*=\s*(?=[^=\s])")

# ---------------------------------------------------------------- collections


@dataclass(frozen=True)
class Items:
    """kind: "value", "list", "set", "(", "[" or "matrix RxC". Each item is a Value or Items."""

    kind: str
    items: tuple[Value | Items, ...]
    names: tuple[str, ...] = ()
    decimal: bool = False


_MATRIX = re.compile(r"\\begin\{([pbvBV]?matrix|array)\}(?:\{[lcr|]+\})?(.*)\\end\{\1\}", re.S)


@lru_cache(4096)
def items(text: str) -> Items:
    """Raises Unreadable for what is not certain."""
    text = text.strip()
    if found := _MATRIX.fullmatch(text):
        rows = [r for r in split(found[2], re.compile(r"\\\\")) if r.strip()]
        cells = [split(r, re.compile("&")) for r in rows]
        if not rows or len({len(r) for r in cells}) != 1 or found[1] in ("vmatrix", "Vmatrix") or len(rows) > MAX_ITEMS:
            raise Unreadable("a matrix")
        return Items(f"matrix {len(rows)}x{len(cells[0])}", tuple(parse(c) for r in cells for c in r))
    scaled = re.fullmatch(r"([^=,;&]*[^\s=,;&])\s*(\\begin\{[pb]?matrix\}.*)", text, re.S)
    if scaled and _MATRIX.fullmatch(scaled[2]):
        factor, matrix = parse(scaled[1]), items(scaled[2])
        return Items(matrix.kind, tuple(factor * cell for cell in matrix.items))
    if len(sets := split(text, _CAP)) > 1:
        both = [items(t) for t in sets[:MAX_ITEMS]]
        if any(s.kind != "set" for s in both):
            raise Unreadable("an intersection")
        return Items("set", tuple(v for v in both[0].items if all(any(_same(v, w) for w in s.items) for s in both)))
    if text.startswith("\\{") and text.endswith("\\}") and _one_group(text[1:-2] + "}"):
        return Items("set", _members(text[2:-2]))
    if text[:1] in ("(", "[") and text[-1:] == {"(": ")", "[": "]"}[text[0]] and _one_group(text):
        inner = split(text[1:-1], re.compile("[,;]"))
        if len(inner) > 1:
            return Items(text[0], _members(text[1:-1]), decimal=_dotted(text))
    if text[:1] == "{" and text[-1:] == "}" and _one_group(text) and len(split(text[1:-1], COMMA)) > 1:
        return Items("set", _members(text[1:-1]))
    if (tuple_ := _NAMED_TUPLE.match(text)) and text[-1] == ")" and _one_group(text[tuple_.end() :]):
        letters, values = tuple_[1].replace(" ", "").split(","), _members(text[tuple_.end() + 1 : -1])
        if len(letters) != len(set(letters)) or len(letters) != len(values):
            raise Unreadable("names")
        return Items("(", values, tuple(letters), _dotted(text))
    if pairs := _named_groups(text):
        return pairs
    parts = [p for p in split(text, COMMA) if p]
    if len(parts) > MAX_ITEMS:
        raise Unreadable("too many items")
    if len(parts) > 1 and _AMBIGUOUS.search(text):
        raise Unreadable("1,234 is one number or two")
    names: list[str] = []
    found: list[Value | Items] = []
    for part in parts:
        if named := _NAME.match(part):
            names.append(named[1].split("_")[0] if len(parts) > 1 and _indexed(parts) else named[1])
            part = part[named.end() :]
        for sign in _signs(part):
            inner = items(sign) if len(parts) > 1 or sign != text else None
            found.append(inner.items[0] if inner and inner.kind == "value" else inner or parse(sign))
    if not found:
        raise Unreadable("nothing")
    if names and len(set(names)) > 1 and len(names) != len(found):
        raise Unreadable("some are named")
    return Items("list" if len(found) > 1 else "value", tuple(found), tuple(names), _dotted(text))


def _named_groups(text: str) -> Items | None:
    """a=3, b=8; a=4, b=6: a list of tuples, the names giving the order."""
    groups = [g for g in split(text, re.compile(";")) if g]
    if len(groups) < 2:
        return None
    found = []
    for group in groups[:MAX_ITEMS]:
        named = [(_NAME.match(p), p) for p in split(group, re.compile(r",|(?<![\\\\A-Za-z])and(?![A-Za-z])"))]
        if len(named) < 2 or not all(n for n, _ in named):
            return None
        pairs = (
            sorted(((n[1], parse(p[n.end() :])) for n, p in named), key=lambda pair: pair[0])
            if len({n[1] for n, _ in named}) == len(named)
            else []
        )
        found.append(([n for n, _ in pairs], Items("(", tuple(v for _, v in pairs))))
    if not found[0][0] or any(names != found[0][0] for names, _ in found):
        return None
    return Items("list", tuple(t for _, t in found))


def _indexed(parts: Sequence[str]) -> bool:
    """x_1 = 2, x_2 = 3: two values of one unknown."""
    heads = {named[1].split("_")[0] if (named := _NAME.match(p)) and "_" in named[1] else p for p in parts}
    return len(heads) == 1


def _dotted(text: str) -> bool:
    return bool(re.search(r"\.[0-9]", text))


def _one_group(text: str) -> bool:
    """The first bracket closes with the last."""
    level = 0
    for at, c in enumerate(text):
        level += (c in "([{") - (c in ")]}")
        if not level:
            return at == len(text) - 1
    return False


def _signs(text: str) -> list[str]:
    """Both readings of one \\pm, with \\mp the other way round."""
    count = len(re.findall(r"\\pm(?![a-z])|\u00b1", text))
    if not count and not re.search(r"\\mp(?![a-z])", text):
        return [text]
    if count != 1:
        raise Unreadable("several signs")
    return [
        re.sub(r"\\mp(?![a-z])", down + " ", re.sub(r"\\pm(?![a-z])|\u00b1", up + " ", text)).strip()
        for up, down in (("+", "-"), ("-", "+"))
    ]


def _members(text: str) -> tuple[Value | Items, ...]:
    parts = split(text, re.compile("[,;]")) if text.strip() else []
    if len(parts) > MAX_ITEMS:
        raise Unreadable("too many items")
    found: list[Value | Items] = []
    for part in parts:
        for sign in _signs(part):
            inner = items(sign)
            if inner.names:
                raise Unreadable("a named member")
            found.append(inner.items[0] if inner.kind == "value" else inner)
    return tuple(found)


def _same(a: Value | Items, b: Value | Items) -> bool | None:
    if isinstance(a, Value) and isinstance(b, Value):
        return a.same(b)
    if isinstance(a, Items) and isinstance(b, Items):
        return same_items(a, b)
    return False


def same_items(a: Items, b: Items) -> bool | None:
    if len(set(a.names)) > 1 or len(set(b.names)) > 1:
        if not a.names or not b.names:  # x = 1, y = 2 for (1, 2)
            named = a if a.names else b
            other = b if a.names else a
            ordered = other.kind == "list" or list(named.names) == sorted(set(named.names))
            if not ordered or other.kind not in ("list", "(") or len(a.items) != len(b.items):
                return False
            return _all(_same(x, y) for x, y in zip(a.items, b.items, strict=True))
        if len(set(a.names)) != len(a.items) or len(set(b.names)) != len(b.items):
            return None
        if set(a.names) != set(b.names):
            return False
        other = dict(zip(b.names, b.items, strict=True))
        return _all(_same(v, other[n]) for n, v in zip(a.names, a.items, strict=True))
    if a.names and b.names and a.names[0] != b.names[0]:
        return False
    if a.kind == b.kind == "value":
        return _same(a.items[0], b.items[0])
    loose = {"list", "set", "value"}
    if a.kind in loose and b.kind in loose:
        return _same_set(a, b)
    if {a.kind, b.kind} == {"list", "("}:  # "1, 2" for (1, 2): in order
        return (
            _all(_same(x, y) for x, y in zip(a.items, b.items, strict=True)) if len(a.items) == len(b.items) else False
        )
    if a.kind != b.kind or len(a.items) != len(b.items):
        return False
    return _all(_same(x, y) for x, y in zip(a.items, b.items, strict=True))


def _all(found) -> bool | None:
    found = list(found)
    return False if False in found else None if None in found else True


def _same_set(a: Items, b: Items) -> bool | None:
    if {a.kind, b.kind} == {"list", "value"}:
        return False
    if a.kind == b.kind == "list" and len(a.items) != len(b.items):
        return False if len(_distinct(a.items)) != len(_distinct(b.items)) else None
    open_ = False
    for these, those in ((a.items, b.items), (b.items, a.items)):
        for x in these:
            found = [_same(x, y) for y in those]
            if True not in found:
                if None not in found:
                    return False
                open_ = True
    return None if open_ else True


def _distinct(values: Sequence[Value | Items]) -> list[Value | Items]:
    kept: list[Value | Items] = []
    for v in values:
        if not any(_same(v, k) for k in kept):
            kept.append(v)
    return kept


# ---------------------------------------------------------------- the whole

_INTEGER = re.compile(
    r",?\s*(?:for|where|with)?\s*(?:any\s+)?(?:integer )?[a-z]\s*(?:\\in|\u2208)\s*\\mathbb\s*\{?Z\}?\s*$"
)


def structure(gold: str, answer: str) -> Decision:
    """(equal, how) where values and shapes settle it, else None."""
    if len(gold) > 1000 or len(answer) > 1000:
        return None
    (a, unit_a), (b, unit_b) = (split_unit(_INTEGER.sub("", clean(t))) for t in (gold, answer))
    a, b = (t.replace(",", "") if _THOUSANDS.fullmatch(t) else t for t in (a, b))
    try:
        if APPROXIMATE.search(b):
            return _chain(a, b)
        if (same := _equations(a, b)) is not None:
            return same, "equation"
        if (a, b) != (ordered := (_rising(a), _rising(b))) and squeeze(ordered[0]) == squeeze(ordered[1]):
            return True, "order"
        if says_region(a) or says_region(b):
            return _regions(a, b)
        left, right = (items(_no_degrees(t)) for t in (a, b))
        same = same_items(left, right)
    except (Unreadable, RecursionError):
        return (False, "approximate") if APPROXIMATE.search(b) else None
    if same and (not same_unit(unit_a, unit_b) or "%" in (unit_a, unit_b)):
        return False, "unit"
    if same is None:
        return (False, "value") if _far(left, right) else None
    return same, "value" if left.kind == right.kind == "value" else "structure"


def _equations(a: str, b: str) -> bool | None:
    """y = 3x + 2 and 3x - y + 2 = 0: multiples of each other; None where one is no equation in two variables."""
    rests = []
    for text in (a, b):
        sides = split(text, re.compile("="))
        if len(sides) != 2 or len(split(text, COMMA)) > 1 or not all(sides):
            return None
        try:
            rests.append(parse(sides[0]) - parse(sides[1]))
        except Unreadable:
            return None
    p, q = rests
    if len(p.variables) < 2 or p.variables != q.variables or p.opaque or q.opaque:
        return None
    factor = (p / q).rational
    if factor is None:  # p / q is not reduced: compare by the first monomial they share
        shared = set(p.num) & set(q.num) if p.den == q.den else set()
        if not shared:
            return None
        mono = min(shared)
        factor = p.num[mono] / q.num[mono]
    return p.same(q * constant(factor))


def _rising(text: str) -> str:
    """A chain of > as a chain of <, from the other end."""
    signs = re.findall(r"[<>]|\\[lg]eq?(?![a-z])|=", text)
    if len(signs) < 2 or any(s in ("<", "=") or s.startswith("\\l") for s in signs):
        return text
    sides = re.split(r"[<>]|\\[lg]eq?(?![a-z])", text)
    turned = [{">": "<"}.get(s, s.replace("g", "l", 1)) for s in reversed(signs)]
    return "".join(x for pair in zip(reversed(sides), [*turned, ""], strict=True) for x in pair)


def _no_degrees(text: str) -> str:
    """The unit of a bare angle; within sin(...) it stays."""
    return text if re.search(r"sin|cos|tan|cot|sec|csc", text) else re.sub(r"(?<=[0-9)}])\s*degrees\b", "", text)


def _far(a: Items, b: Items) -> bool:
    """Two real numbers that no rounding brings together."""
    if not a.kind == b.kind == "value" or not all(isinstance(v, Value) for v in (*a.items, *b.items)):
        return False
    try:
        x, y = a.items[0].near(), b.items[0].near()
    except Unreadable:
        return False
    return abs(x - y) > 0.05 * max(abs(x), abs(y), 1e-3)


def _regions(a: str, b: str) -> Decision:
    left, right = region(a), region(b)
    if left is None or right is None:
        one, other = (left, b) if left else (right, a)
        wide = one is not None and not all(p.low is p.high is not None for p in one.parts)
        if wide and not says_region(other) and items(other).kind == "value":
            return False, "region"  # many numbers are not one
        return None
    same = same_region(left, right)
    return None if same is None else (same, "region")


def _chain(gold: str, answer: str) -> Decision:
    """exact = ... ~ decimal: right where the exact part is, and each rounded part is a rounding of it."""
    if APPROXIMATE.search(gold):
        return False, "approximate"
    sides = [p for p in re.split(rf"{APPROXIMATE.pattern}|=", answer) if p.strip()]
    names = [p for p in sides if re.fullmatch(r"\s*[A-Za-z]\s*", p)]
    values = [parse(p) for p in sides if p not in names[:1]]
    if not values:
        return False, "approximate"
    wanted, first = parse(gold), values[0]
    for text, value in zip([p for p in sides if p not in names[:1]][1:], values[1:], strict=True):
        if value.same(first):
            continue
        places = len(text.strip().partition(".")[2])
        rounded = re.fullmatch(r"\s*-?[0-9]*\.?[0-9]+\s*", text)
        if not rounded or abs(value.near() - first.near()) > 0.50001 * 10.0**-places:
            return False, "approximate"
    told = values if "." in gold else values[:1]  # a rounded gold answer may be the rounded part
    return any(v.same(wanted) is True for v in told), "approximate"
