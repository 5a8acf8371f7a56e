"""What a number looks like in text, in digits and in words."""

from __future__ import annotations

import re
from fractions import Fraction

INTEGER = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)"
DECIMAL = rf"(?:{INTEGER}(?:\.[0-9]+)?|\.[0-9]+)"
_EXP = r"(?:[eE][-+]?[0-9]{1,4}(?![0-9A-Za-z.]))?"
_FRAC = r"\\[dtc]?frac\s*(?:\{-?[0-9]+\}\s*\{[0-9]+\}|[0-9]\s*[0-9])"
# Digits inside a word or an identifier ("H2O", "x_2") are no number; a minus after an operand is an operator.
NUMBER = re.compile(
    rf"(?:(?<=[=:(]\s)-\s|(?<![\w)\]}}.])-)?(?<![A-Za-z0-9_.^])(?<!\^\{{)(?<!_\{{)(?<!\^\{{-)(?:\\?[$\u20ac\u00a3]\s?)?-?"
    rf"(?:{_FRAC}|{DECIMAL}{_EXP}(?:\s?{_FRAC}|\s[0-9]+\s?/\s?[0-9]+|\s?/\s?{DECIMAL}(?!/|\.?[0-9]))?)(?:\s?\\?%)?"
)

_SMALL = re.findall(
    r"\w+",
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen",
)
_TENS = dict(
    zip(re.findall(r"\w+", "twenty thirty forty fifty sixty seventy eighty ninety"), range(2, 10), strict=True)
)
_GROUPS = {"thousand": 1_000, "million": 1_000_000, "billion": 1_000_000_000}
_PARTS = {"half": 2, "halve": 2, "third": 3, "quarter": 4}
_PARTS |= {p: n for n, p in enumerate(["fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"], start=4)}
_CARDINAL = "|".join(sorted([*_SMALL, *_TENS, "hundred", *_GROUPS], key=len, reverse=True))
# a run of number words; singular "hundred" may begin with "a"
NUMBER_WORDS = re.compile(
    rf"\b(?:a (?=hundred|thousand|million))?(?:{_CARDINAL})(?:[ -](?:and )?(?:{_CARDINAL}))*"
    r"(?:[ -](?:half|halves|thirds?|quarters?|fourths?|fifths?|sixths?|sevenths?|eighths?|ninths?|tenths?))?\b"
)


def spelled_out(text: str) -> Fraction | None:
    """The value of "twelve", "forty-two", "one hundred and five" or "two thirds"; None for anything else."""
    words = text.lower().replace("-", " ").split()
    if words[:1] in (["minus"], ["negative"]) and (value := spelled_out(" ".join(words[1:]))) is not None:
        return -value
    if len(words) == 2 and words[0] in ("a", "an", *_SMALL[1:10]) and (part := _PARTS.get(words[1].removesuffix("s"))):
        return Fraction(_SMALL.index(words[0]) if words[0] in _SMALL else 1, part)
    value = _cardinal(words)
    return None if value is None else Fraction(value)


def _cardinal(words: list[str]) -> int | None:
    """Of "two thousand three hundred and five": 2305; None where a word is no number or stands out of order."""
    total, below, limit = 0, 0, 10**12
    room = 1_000  # what the next word of this group must be below
    for i, word in enumerate(words):
        if word == "and":
            if i in (0, len(words) - 1) or words[i - 1] not in ("hundred", *_GROUPS):
                return None
            continue
        if word == "a" and i == 0 and words[1:2] and words[1] in ("hundred", *_GROUPS):
            below, room = 1, 1
        elif word in _SMALL and room > _SMALL.index(word) and (word != "zero" or len(words) == 1):
            below, room = below + _SMALL.index(word), 1
        elif word in _TENS and room > 20:
            below, room = below + 10 * _TENS[word], 10
        elif word == "hundred" and 0 < below < 20:
            below, room = 100 * below, 100
        elif word in _GROUPS and below > 0 and _GROUPS[word] < limit:
            total, below, limit, room = total + below * _GROUPS[word], 0, _GROUPS[word], 1_000
        else:
            return None
    return total + below if words else None
