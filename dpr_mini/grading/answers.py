r"""The exact tier: numbers, quantities, words, choices and equal strings, decided with Fractions and never floats."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

from dpr_mini.grading.colons import colons
from dpr_mini.grading.notation import clean, squeeze
from dpr_mini.grading.numerals import DECIMAL, INTEGER, spelled_out
from dpr_mini.grading.units import known, prose, scaled, split_unit

MAX_ANSWER = 1_000  # characters; a longer answer can only be equal as a string, else it is `unparsed`

_BASE = re.compile(r"[0-9][0-9A-Fa-f]*\)?\s*_\s*\{?\s*[0-9A-Za-z\\]")
_BASES = {
    name: n + 2
    for n, name in enumerate(re.findall("[a-z]+", "two three four five six seven eight nine ten eleven twelve"))
}
APPROXIMATE = re.compile(r"\\approx(?![A-Za-z])|\\simeq|\\doteq|\\sim(?![A-Za-z])|\u2248|~=")
_VARIABLE = re.compile(r"(\\?[A-Za-z]+(?:_\{?\w{1,3}\}?)?)\s*=\s*(?=[^=])")
# An answer that takes itself back or says several things; math-verify drops the words and keeps a number.
_HEDGE = re.compile(
    r"(?<![\\A-Za-z])(?:not|maybe|perhaps|possibly|probably|either|neither|unless|wrong|incorrect|unsure|n't"
    r"|isn't|never|false|guess)(?![A-Za-z])",
    re.I,
)
_OPEN = re.compile(r"\\[lcv]?dots|\.\.\.|\\cdots")
_SCIENTIFIC = re.compile(rf"({DECIMAL})\s*(?:\\times|\\cdot|\*|x)\s*10\s*(?:\^|\*\*)\s*\{{?\s*(-?[0-9]{{1,4}})\s*\}}?")
_FRACTION = re.compile(
    rf"(?P<whole>{INTEGER}\s*)?\\frac\s*(?:\{{\s*(?P<n>-?{DECIMAL})\s*\}}|(?P<n1>[0-9]))\s*"
    rf"(?:\{{\s*(?P<d>{DECIMAL})\s*\}}|(?P<d1>[0-9]))"
    rf"|(?P<whole2>{INTEGER}\s+)?(?P<n2>{DECIMAL})\s*/\s*(?P<d2>{DECIMAL})"
)


def number(text: str) -> Fraction | None:
    """The exact value of an integer, decimal, fraction, mixed number or 4.2e6 (cleaned text); None for anything
    else."""
    text = text.strip()
    if len(text) > 400:
        return None
    if text.startswith("(") and text.endswith(")") and "," not in text:
        text = text[1:-1].strip()
    sign = 1
    if text[:1] in ("-", "+"):
        sign, text = (-1 if text[0] == "-" else 1), text[1:].lstrip()
    text = text.removeprefix("$").lstrip()
    if re.fullmatch(rf"{DECIMAL}|{INTEGER}\.", text):
        return sign * Fraction(text.replace(",", "").rstrip("."))
    if re.fullmatch(r"[0-9]{1,3}(?: [0-9]{3})+", text):
        return sign * Fraction(text.replace(" ", ""))
    if found := _SCIENTIFIC.fullmatch(text):
        return sign * Fraction(found[1].replace(",", "")) * Fraction(10) ** int(found[2])
    if found := _FRACTION.fullmatch(text):
        whole, top, bottom = (
            found["whole"] or found["whole2"],
            found["n"] or found["n1"] or found["n2"],
            found["d"] or found["d1"] or found["d2"],
        )
        over, under = Fraction(top.replace(",", "")), Fraction(bottom.replace(",", ""))
        if not under or (whole and not 0 <= over < under):
            return None
        return sign * (Fraction(whole.replace(",", "").strip() if whole else 0) + over / under)
    return None


@lru_cache(4096)
def quantity(text: str) -> tuple[Fraction | None, str]:
    """(value, unit) of "5", "5 cm", "$5", "5%", "3 million"; (None, unit) where the value is no plain number."""
    if (value := spelled_out(text)) is not None:
        return value, ""
    if text.endswith("%") and (value := number(text[:-1])) is not None:
        return value, "%"
    if large := scaled(text):
        value, unit = quantity(large[0])
        if value is not None:
            return value * large[1], unit
    value, unit = split_unit(text)
    return number(value), unit


def same_unit(a: str, b: str) -> bool:
    """Whether one may stand for the other: equal, left out on one side, or one says more of the same counted
    things."""
    if not a or not b or a == b:
        return True
    x, y = set(a.split()), set(b.split())
    return (x <= y or y <= x) and not any(known(w) and "^" in w for w in x ^ y)


_COMPOUND = re.compile(r"([0-9][0-9.,]*)\s*(@?[A-Za-z]+)\.?(?:\s*(?:,|and|\s)\s*|$)")


def compound(text: str) -> list[tuple[Fraction, str]] | None:
    """2 hours 15 minutes: values with units, more than one; else None."""
    parts, at = [], 0
    for found in _COMPOUND.finditer(text):
        if found.start() != at or not known(found[2]) or (value := number(found[1].rstrip(".,"))) is None:
            return None
        parts.append((value, split_unit(f"1 {found[2]}")[1]))
        at = found.end()
    return parts if len(parts) > 1 and at == len(text) else None


def exact(gold: str, answer: str) -> tuple[bool, str] | None:
    """Decide without computer algebra: (equal, how), or None where that would not be certain.

    Equal strings are equal; numbers and quantities are compared as Fractions. What math-verify would accept wrongly is
    refused here: number bases and approximations that are not the same string, answers that take themselves back,
    times and ratios, and words (products of letters to it). How a value is written is for worked.py.
    """
    if squeeze(gold) == squeeze(answer):
        return True, "string"
    a, b = clean(gold), clean(answer)
    if _BASE.search(a) or _BASE.search(b):
        flat = [re.sub(r"[{}()\s]", "", squeeze(t)) for t in (gold, answer)]
        values = [_in_base(t) for t in flat]
        return flat[0] == flat[1] or (None not in values and values[0] == values[1]), "base"
    if APPROXIMATE.search(a):  # never for math-verify, which takes either side of it; see structure
        return False, "approximate"
    if APPROXIMATE.search(b):
        return None
    if _HEDGE.search(b) and not _HEDGE.search(a):
        return False, "hedge"
    if _OPEN.search(b) and not _OPEN.search(a):
        return False, "open"
    if decided := choice(a, b):
        return decided
    a, b = unnamed(a, b)
    if decided := colons(a, b):
        return decided
    both = compound(a), compound(b)
    if any(both):
        return both[0] == both[1], "compound"
    (x, unit_x), (y, unit_y) = quantity(a), quantity(b)
    if x is not None and y is not None:
        if "%" in (unit_x, unit_y) and unit_x != unit_y:
            return _percent(x, unit_x, y, unit_y), "exact"
        return (True, "exact") if x == y and same_unit(unit_x, unit_y) else (False, "unit" if x == y else "exact")
    return _by_words(gold, a, b, x, y)


def _percent(x: Fraction, unit_x: str, y: Fraction, unit_y: str) -> bool:
    """25% is 0.25; a bare 25 is 25% where somebody left the sign out, and 0.25% is not 0.25."""
    if {unit_x, unit_y} != {"%", ""}:
        return False
    bare, percent = (y, x) if unit_x == "%" else (x, y)
    return bare * 100 == percent or (bare == percent and abs(bare) >= 1)


def unnamed(a: str, b: str) -> tuple[str, str]:
    """Without `x =` where only one of the two has it, or both the same."""
    names = [_VARIABLE.match(t) for t in (a, b)]
    if (all(names) and names[0][1] == names[1][1] and a.count("=") == b.count("=") == 1) or sum(
        n is not None for n in names
    ) == 1:
        return tuple(t[n.end() :] if n and t.count("=") == 1 else t for t, n in zip((a, b), names, strict=True))
    return a, b


def choice(gold: str, answer: str) -> tuple[bool, str] | None:
    """A letter to choose: C, (C), C., "C) 12", "option C"; None where the gold answer is no such letter."""
    wanted = re.fullmatch(r"\(?([A-J])[).]?", gold)
    if not wanted:
        return None
    said = re.sub(r"^(?:the\s+)?(?:correct\s+)?(?:option|choice|answer|letter)\s*:?\s*", "", answer, flags=re.I)
    if found := re.fullmatch(r"\(?([A-Ja-j])[).:]?", said):
        return found[1].upper() == wanted[1], "choice"
    if found := re.fullmatch(r"\(?([A-J])\s*[).:]\s+(.*)|\(([A-Ja-j])\)\s*(.*)", said, re.S):
        rest = found[2] or found[4] or ""
        return (found[1] or found[3]).upper() == wanted[1] and not re.search(
            r"\bor\b|\band\b|\(?\b[A-J]\b\)", rest
        ), "choice"
    if re.fullmatch(r"[A-Za-z0-9 ,()/&]+", said) and re.search(r"(?<![A-Za-z])[A-J](?![A-Za-z])", said):
        return (False, "choice") if re.search(r"or|and|,|/|&", said) else None
    return None


def _in_base(text: str) -> int | None:
    """The value of "1010_2" or "52_eight"; None where it is no numeral of that base."""
    digits, _, base = text.partition("_")
    n = _BASES.get(base.lower()) or (int(base) if re.fullmatch("[0-9]{1,2}", base) else 0)
    if not 2 <= n <= 36 or len(digits) > 200 or not re.fullmatch("[0-9A-Za-z]+", digits):
        return None
    values = [int(d, 36) for d in digits]
    return sum(v * n**k for k, v in enumerate(reversed(values))) if max(values) < n else None


_LETTERS = re.compile(r"[A-Za-z\u4e00-\u9fff][A-Za-z\u4e00-\u9fff' .,-]*")


def _by_words(gold: str, a: str, b: str, x: Fraction | None, y: Fraction | None) -> tuple[bool, str] | None:
    words = [
        bool(_LETTERS.fullmatch(t)) and bool(re.search(r"[A-Za-z]{3}|[\u4e00-\u9fff]|\btext\b", t)) for t in (a, b)
    ]
    if r"\text" in gold and _LETTERS.fullmatch(a):
        words[0] = True
    if words[0] and _LETTERS.fullmatch(b):
        return _plain_words(a) == _plain_words(b), "words"
    if words[0] and (y is not None or not re.search(r"[A-Za-z]{3}|[\u4e00-\u9fff]", re.sub(r"\\[A-Za-z]+", "", b))):
        return False, "words"
    if x is not None and words[1] and not re.search(r"(?i)\b(?:pi|e|i)\b", b):
        return False, "words"
    return None


def _plain_words(text: str) -> str:
    found = re.sub(r"[.,']", "", text.casefold()).split()
    return " ".join(w.removesuffix("s") if len(w) > 4 else w for w in found if w not in ("a", "an", "the"))


def unread_words(gold: str, answer: str) -> bool:
    """Words of an answer that nobody has read: computer algebra would drop them, so nobody may."""
    words = prose(answer)
    return bool(words) and sorted(words) != sorted(prose(gold))
