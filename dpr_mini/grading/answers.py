r"""The text side of grading: find the answer in a response, and decide without computer algebra where that is certain.

Pure functions on strings; numbers are Fractions, never floats; every pattern is linear and every length is bounded.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

MAX_TEXT = 200_000  # characters of a response that are searched, from its end
MAX_ANSWER = 1_000  # characters; a longer answer can only be equal as a string, else it is `unparsed`

_INT = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)"
_DEC = rf"(?:{_INT}(?:\.[0-9]+)?|\.[0-9]+)"
# Digits inside a word or an identifier ("H2O", "x_2") are no number; a minus after an operand is an operator.
NUMBER = re.compile(
    rf"(?:(?<=[=:(]\s)-\s|(?<![\w)\]}}.])-)?(?<![A-Za-z0-9_.])(?:\\?\$\s?)?"
    rf"(?:\\[dtc]?frac\s*\{{-?[0-9]+\}}\s*\{{[0-9]+\}}|{_DEC}(?:\s?/\s?{_DEC}(?![0-9./]))?)(?:\s?\\?%)?"
)


# ---------------------------------------------------------------- finding the answer


def extract(text: str) -> tuple[str, str]:
    r"""The final answer in a response, and how it was found.

    In this order: the last \boxed{} that closes ("boxed"; neighbours joined by commas are one list), GSM8K's
    "#### x" ("hashes"), a text that is nothing but an answer ("bare"), the last "answer is x" ("phrase"), a last
    $formula$ that no number follows ("math"), the last number ("last_number"). ("", "none") where there is nothing.
    """
    text = text[-MAX_TEXT:].replace("\u2212", "-")
    if found := _boxed(text):
        return found, "boxed"
    if found := _last(r"####[ \t]*([^\n]+)", text):
        return _strip(found), "hashes"
    if _is_bare(text):
        return _right_side(_strip(text)), "bare"
    if found := _phrase(text):
        return found, "phrase"
    number = max(NUMBER.finditer(text), key=lambda m: m.start(), default=None)
    for span in reversed(list(re.finditer(r"\$\$?([^$\n]{1,200})\$|\\[(\[]([^$]{1,200}?)\\[)\]]", text))):
        inside = _strip(span[1] or span[2])
        prose = re.search(r"(?<![\\A-Za-z{])[A-Za-z]{3,}", inside)
        after = number is not None and number.start() >= span.end()
        if after or prose or not inside or inside[-1] in "+-*/=,":
            break
        return _right_side(inside), "math"
    return (_strip(number[0]), "last_number") if number else ("", "none")


def first_result(text: str) -> str:
    """The first number that a text states as a result (after "=", "is", "equals" ... or "answer:"), else the first.

    Scored beside `last_number` it separates format from arithmetic: an answer that is right at once and then
    rambles is right by this and wrong by the other.
    """
    text = text[:MAX_TEXT].replace("\u2212", "-")
    stated = re.search(rf"(?:=|\b(?:is|are|equals?|gives|makes|answer)\b:?)\s*[\"$*(\\]*({NUMBER.pattern})", text, re.I)
    found = stated[1] if stated else (m[0] if (m := NUMBER.search(text)) else "")
    return _strip(found)


def last_number(text: str) -> str:
    """The last number in a text, "" if none."""
    return _last(f"({NUMBER.pattern})", text[-MAX_TEXT:].replace("\u2212", "-"))


def _last(pattern: str, text: str) -> str:
    found = ""
    for match in re.finditer(pattern, text):
        found = match[1]
    return found.strip()


def _boxed(text: str) -> str:
    """One pass with a stack: linear even for thousands of boxes that never close."""
    stack: list[tuple[bool, int, int]] = []
    closed: list[tuple[int, int, str]] = []
    for token in re.finditer(r"\\[{}\\]|\\f?boxed\s*\{|[{}]", text):
        if token[0] == "}":
            if stack:
                is_box, start, inside = stack.pop()
                if is_box:
                    # A box inside this one is part of this one.
                    while closed and closed[-1][0] > start:
                        closed.pop()
                    closed.append((start, token.end(), text[inside : token.start()]))
        elif token[0][-1] == "{" and token[0] != r"\{":
            stack.append((len(token[0]) > 1, token.start(), token.end()))
    closed = [c for c in closed if c[2].strip()]
    if not closed:
        return _last(r"\\boxed\s+([0-9A-Za-z]+)", text)
    answers = [closed[-1]]
    for box in reversed(closed[:-1]):  # \boxed{1}, \boxed{2} and \boxed{3}: one list
        between = text[box[1] : answers[0][0]]
        if not re.fullmatch(r"[\s$]*(?:,|;|and|or|,\s*and|\\text\{\s*and\s*\})[\s$]*", between[:40]):
            break
        answers.insert(0, box)
    values = list(dict.fromkeys(_strip(a[2]) for a in answers))
    return ", ".join(values)


_ANSWER = re.compile(
    r"\banswer\b[\s*_:]{0,6}(?:is|was|would be|should be|:|=|(?<=:)|(?<=\*))[\s*_:=]{0,6}(?:\\\[|\\\(|\$\$)?\s*", re.I
)
_NO_VALUE = re.compile(r"(?:in)?(?:correct|right|wrong|not|indeed|also|still|valid|the same|consistent|yes|no\b)", re.I)
_UNIT_TAIL = re.compile(r"(?:\s+[A-Za-z]+){1,3}")


def _phrase(text: str) -> str:
    """The last "answer is x" whose x is a value; "the answer is correct" is a remark, not a value."""
    for match in reversed(list(_ANSWER.finditer(text))):
        rest = text[match.end() : match.end() + 300]
        end = re.search(r"[.!?;](?=\s|\*|$)|\n|\\\]|\\\)", rest)
        rest = _strip(rest[: end.start()] if end else rest)
        if not rest or _NO_VALUE.match(rest):
            continue
        number = NUMBER.match(rest)
        if number:
            tail = rest[number.end() :]
            if not tail.strip() or _UNIT_TAIL.fullmatch(tail):
                return rest
            if not re.match(r"\s*[-+*/^\\(_{\u00d7\u00f7x]|[A-Za-z]", tail):  # "5 because 2 + 3 = 5", "12, which ..."
                if re.match(r"\s*,\s*-?[0-9]", tail):
                    return rest
                return _strip(number[0])
        return _right_side(rest)
    return ""


def _is_bare(text: str) -> bool:
    text = text.strip()
    if not text or len(text) > 200 or "\n" in text or _ANSWER.search(text):
        return False
    plain = re.sub(r"\\(?:text|textbf|mbox|mathrm)\s*\{[^{}]*\}|\\[A-Za-z]+", " ", text)
    words = re.findall(r"[^\W\d_]{2,}", plain)
    if not any(c.isdigit() for c in plain):
        return len(words) <= 4
    if any(c.isalpha() and ord(c) > 0x3FF for c in plain) or {"is", "are", "equals", "gives"} & set(words):
        return False
    return not words or (len(words) <= 2 and not re.match(r"[\W_]*[^\W\d_]{2,}", plain) and plain.count(".") <= 1)


def _right_side(text: str) -> str:
    """What "3 * 4 = 12" says is 12; an equation with unknowns is left whole."""
    left, equals, right = text.rpartition("=")
    known = re.sub(r"\\[A-Za-z]+|(?<=[0-9])\s*x\s*(?=[0-9])", "", left)
    return _strip(right) if equals and right.strip() and not re.search(r"[A-Za-z]", known) else text


_DELIMITERS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**"), ("`", "`"))


def _strip(text: str) -> str:
    """Without math delimiters, bold marks and closing punctuation; "..." stays (it makes 0.333... another number)."""
    for _ in range(8):
        text = text.strip().removeprefix("**").removesuffix("**").strip().strip('"\u201c\u201d').strip()
        end = len(text)
        while end and text[end - 1] in ".,;:" and not text.endswith("..", 0, end):
            end -= 1
            while end and text[end - 1].isspace():
                end -= 1
        text = text[:end]
        for opening, closing in _DELIMITERS:
            if text.startswith(opening) and text.endswith(closing) and len(text) > len(opening) + len(closing):
                text = text[len(opening) : -len(closing)]
                break
        else:
            break
    return text.removesuffix("**") if text.count("**") == 1 else text


# ---------------------------------------------------------------- the exact tier

_WRAPPER = re.compile(r"\\(?:text|textbf|textit|textrm|mbox|mathrm|mathbf|mathit|operatorname|rm)\s*\{([^{}]*)\}")
_SPACING = re.compile(r"\\(?:left|right|displaystyle|[Bb]igg?[lr]?|limits)(?![A-Za-z])|\\!")
_BASE = re.compile(r"[0-9][0-9A-Fa-f]*\)?\s*_\s*\{?\s*[0-9A-Za-z\\]")
_BASES = {
    name: n + 2
    for n, name in enumerate(re.findall("[a-z]+", "two three four five six seven eight nine ten eleven twelve"))
}
APPROXIMATE = re.compile(r"\\approx|\\simeq|\\doteq|\u2248")
_VARIABLE = re.compile(r"([A-Za-z](?:_\{?\w{1,3}\}?)?)\s*=\s*(?=[^=])")
# A word after a number that is no unit: it changes the value, or the answer goes on.
NO_UNIT = set(
    re.findall(
        r"\w+",
        "one ten percent half third pi or and to not no of plus minus times "
        "over than about one two i e x is are was for when where base am pm "
        " were wrong incorrect correct right if but mod squared cubed",
    )
)
_UNITS = {
    "cm": "centimeter centimetre", "mm": "millimeter millimetre", "km": "kilometer kilometre", "m": "meter metre",
    "in": "inch inche", "ft": "foot feet", "mi": "mile", "yd": "yard", "kg": "kilogram", "g": "gram", "lb": "pound",
    "s": "sec second", "min": "minute", "h": "hr hour", "l": "liter litre", "mph": "mile per hour",
}  # fmt: skip
_SHORT = {long: short for short, longs in _UNITS.items() for long in longs.split()}
_SCALE = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12}
_CURRENCY = {"$": "dollar", "\u20ac": "euro", "\u00a3": "pound"}
# An answer that takes itself back or says several things; math-verify drops the words and keeps a number.
_HEDGE = re.compile(
    r"(?<![\\A-Za-z])(?:not|maybe|perhaps|possibly|either|unless|wrong|incorrect|unsure)(?![A-Za-z])", re.I
)
_SEVERAL = re.compile(r"(?<![\\A-Za-z])or(?![A-Za-z])|\\lor(?![A-Za-z])|\\vee(?![A-Za-z])", re.I)
# A sum or product of numbers that nobody worked out ("3 + 4"); not a power of ten ("3 x 10^5").
_UNEVALUATED = re.compile(
    r"[0-9)}]\s*(?:[-+]|(?:[*x\u00d7\u00b7]|\\times|\\cdot|\\div|\u00f7)(?!\s*10\s*(?:\^|\*\*)))\s*\\?[({]*-?[0-9]"
)
_OPEN = re.compile(r"\\[lcv]?dots|\.\.\.|\u2026")
_FRACTION = re.compile(
    rf"(?P<whole>{_INT}\s*)?\\frac\s*(?:\{{\s*(?P<n>-?{_DEC})\s*\}}|(?P<n1>[0-9]))\s*"
    rf"(?:\{{\s*(?P<d>{_DEC})\s*\}}|(?P<d1>[0-9]))"
    rf"|(?P<whole2>{_INT}\s+)?(?P<n2>{_DEC})\s*/\s*(?P<d2>{_DEC})"
)


@lru_cache(4096)
def clean(answer: str) -> str:
    r"""One spelling for what looks the same: \dfrac and \frac, \left( and (, {,} and the comma, \text{} unwrapped."""
    if answer.isdigit() and answer.isascii():
        return answer
    text = _strip(answer.replace("\u2212", "-").replace("\u00a0", " ").replace("\u2009", " "))
    text = (
        _SPACING.sub("", re.sub(r",\s*\\!\s*", ",", text)).replace("{,}", ",").replace(r"\%", "%").replace(r"\$", "$")
    )
    text = re.sub(r"\\[dtc]frac", r"\\frac", text).replace(r"\varnothing", r"\emptyset")
    text = re.sub(r"(?<=[0-9,])\\[,;: ](?=[0-9]{3})|(?<=[0-9],)\s(?=[0-9]{3}(?![0-9]))(?=.{0,9}\\)", "", text)
    text = re.sub(r"(?<!\\)\\[,;: ]|\\q?quad(?![A-Za-z])|~", " ", text)
    text = re.sub(r"\s*\^\s*\{?\s*\\circ\s*\}?|°", " degrees", text)
    for _ in range(3):
        text = _WRAPPER.sub(r" \1 " if " " in text else r"\1", text)
    return _strip(re.sub(r"\s+", " ", text))


@lru_cache(4096)
def squeeze(answer: str) -> str:
    """`clean` without spaces (but 3 1 is not 31) and braces of a single character: equal means the same string."""
    return re.sub(r"\{([0-9A-Za-z])\}", r"\1", re.sub(r"(?<![0-9])\s+|\s+(?![0-9])", "", clean(answer)))


def number(text: str) -> Fraction | None:
    """The exact value of an integer, decimal, fraction or mixed number (cleaned text); None for anything else."""
    text = text.strip()
    if len(text) > 400:
        return None
    if text.startswith("(") and text.endswith(")") and "," not in text:
        text = text[1:-1].strip()
    sign = 1
    if text[:1] in ("-", "+"):
        sign, text = (-1 if text[0] == "-" else 1), text[1:].lstrip()
    text = text.removeprefix("$").lstrip()
    if re.fullmatch(rf"{_DEC}|{_INT}\.", text):
        return sign * Fraction(text.replace(",", "").rstrip("."))
    if re.fullmatch(r"[0-9]{1,3}(?: [0-9]{3})+", text):
        return sign * Fraction(text.replace(" ", ""))
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


def unit_name(word: str) -> str:
    """One spelling of a unit's word: singular, and short where there is an abbreviation."""
    singular = word.removesuffix("s") if len(word) > 2 else word
    return _SHORT.get(word) or _SHORT.get(singular, singular)


def _quantity(text: str) -> tuple[Fraction | None, str]:
    """(value, unit) of "5", "5 cm", "$5", "5%"; (None, "") where it is anything else. The unit is singular."""
    unit = next((name for sign, name in _CURRENCY.items() if text.lstrip("+- ").startswith(sign)), "")
    if (value := number(re.sub(r"^([-+]?\s*)[\u20ac\u00a3]", r"\1", text))) is not None:
        return value, unit
    if text[-1:] in ("%", *_CURRENCY) and (value := number(text[:-1])) is not None:
        return value, _CURRENCY.get(text[-1], "%") if text[-1] != "$" else unit  # a lone last $ closed a formula
    split = re.fullmatch(r"(.*[0-9}])((?:\s*[A-Za-z]{2,}|\s[mgshL])(?:\s[A-Za-z]+){0,2})", text)
    if not split or not NO_UNIT.isdisjoint(split[2].lower().split()):
        return None, ""
    words = " ".join(map(unit_name, split[2].lower().split()))
    value = number(split[1])
    if value is not None and (scale := _SCALE.get(words.partition(" ")[0])):
        return value * scale, words.partition(" ")[2]
    return (value, words) if value is not None else (None, "")


def exact(gold: str, answer: str) -> tuple[bool, str] | None:
    """Decide without computer algebra: (equal, how), or None where that would not be certain.

    Equal strings are equal. Two numbers are compared exactly; two that differ by under 1 % are left to math-verify
    (1/3 against 0.333). What math-verify would accept wrongly is refused here: number bases and approximations that
    are not the same string, answers that take themselves back, and words (products of letters to it).
    """
    if squeeze(gold) == squeeze(answer):
        return True, "string"
    a, b = clean(gold), clean(answer)
    if _BASE.search(a) or _BASE.search(b):
        flat = [re.sub(r"[{}()]", "", squeeze(t)) for t in (gold, answer)]
        values = [_in_base(t) for t in flat]
        return flat[0] == flat[1] or (None not in values and values[0] == values[1]), "base"
    if APPROXIMATE.search(a + b):  # never for math-verify, which takes either side of it; see structure
        return (False, "approximate") if APPROXIMATE.search(a) else None
    if _HEDGE.search(b) and not _HEDGE.search(a):
        return False, "hedge"
    names = [_VARIABLE.match(t) for t in (a, b)]
    if (all(names) and names[0][1] == names[1][1]) or sum(n is not None for n in names) == 1:
        a, b = (t[n.end() :] if n else t for t, n in zip((a, b), names, strict=True))
    (x, unit_x), (y, unit_y) = _quantity(a), _quantity(b)
    if x is not None and y is not None:
        if "%" in (unit_x, unit_y) and unit_x != unit_y:
            near = any(abs(x - k * y) * 100 <= max(abs(x), abs(k * y)) for k in (1, 100, Fraction(1, 100)))
            return None if near else (False, "exact")
        if unit_x and unit_y and unit_x != unit_y:
            return False, "unit"
        if x == y:
            return True, "exact"
        if x.denominator == y.denominator == 1 or abs(x - y) * 100 > max(abs(x), abs(y)):
            return False, "exact"
        return None
    if x is not None:
        sides = [number(side) for side in b.split("=")]
        if len(sides) > 1 and None not in sides and len(set(sides)) > 1:
            return False, "contradiction"
        if _SEVERAL.search(b):
            return False, "several"
        if _UNEVALUATED.search(b.rpartition("=")[2]):
            return False, "unevaluated"  # repeating the question would be right: a number is asked for
        if _OPEN.search(b) and not _OPEN.search(a):
            return False, "open"
    return _by_words(gold, a, b, x, y)


def _in_base(text: str) -> int | None:
    """The value of "1010_2" or "52_eight"; None where it is no numeral of that base."""
    digits, _, base = text.partition("_")
    n = _BASES.get(base.lower()) or (int(base) if re.fullmatch("[0-9]{1,2}", base) else 0)
    if not 2 <= n <= 36 or len(digits) > 200 or not re.fullmatch("[0-9A-Za-z]+", digits):
        return None
    values = [int(d, 36) for d in digits]
    return sum(v * n**k for k, v in enumerate(reversed(values))) if max(values) < n else None


def _by_words(gold: str, a: str, b: str, x: Fraction | None, y: Fraction | None) -> tuple[bool, str] | None:
    choice = [re.fullmatch(r"\(?([A-Za-z])[).]?", t) for t in (a, b)]
    if all(choice) and re.fullmatch("[A-DF-H]", choice[0][1]):
        return choice[0][1] == choice[1][1].upper(), "choice"
    words = [re.fullmatch(r"[A-Za-z][A-Za-z' -]*", t) for t in (a, b)]
    if all(words) and (r"\text" in gold or re.search("[A-Za-z]{4}|[A-Z]{3}", a)):
        return a.casefold() == b.casefold(), "words"
    if y is not None and words[0] and re.search("[A-Za-z]{4}", a):
        return False, "words"
    if x is not None and words[1] and not re.search(r"(?i)\b(?:pi|e|i)\b", b):
        return False, "words"
    return None
