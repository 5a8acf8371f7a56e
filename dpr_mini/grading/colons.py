"""Clock times and ratios: read part by part, never divided."""

from __future__ import annotations

import re
from fractions import Fraction

_CLOCK = re.compile(
    r"([0-9]{1,2})(?::([0-9]{2}))?(?::([0-9]{2}))?\s*(?:o'?clock)?\s*(?P<half>[ap]\.?\s?m\b\.?|noon|midnight"
    r"|in the (?:morning|afternoon|evening)|at night)?\.?",
    re.I,
)
_PART = r"[-+]?(?:[0-9][0-9,]*(?:\.[0-9]+)?|\\frac\s*\{[0-9]+\}\s*\{[0-9]+\})"
_RATIO = re.compile(rf"{_PART}(?:\s*:\s*{_PART})+")
_TO = re.compile(rf"({_PART})\s+to\s+({_PART})", re.I)


def colons(gold: str, answer: str, closed_forms: bool = False) -> tuple[bool, str] | None:
    """(equal, "clock" or "ratio") where one of the two cleaned texts is a time of day or a ratio; else None.

    A time says its half of the day or the hour says it (17:30); a half that only the answer says is no other time, one
    that it leaves out is. A ratio in other numbers (4:6 for 2:3) is equal only where closed forms are accepted.
    """
    times = [_time(t) for t in (gold, answer)]
    if any(t is not None and t[3] for t in times) or (":" in gold + answer and all(times)):
        if None in times:
            return (
                (False, "clock") if not _RATIO.fullmatch(gold.strip()) or not _RATIO.fullmatch(answer.strip()) else None
            )
        a, b = times
        if bool(a[3]) and not b[3] and a[0] < 13 and b[0] < 13:
            return False, "clock"
        return _same_time(a, b), "clock"
    ratios = [_ratio(t) for t in (gold, answer)]
    if not any(ratios) or ":" not in gold + answer:
        return None
    if None in ratios:
        return False, "ratio"
    a, b = ratios
    if len(a) != len(b):
        return False, "ratio"
    if closed_forms and a[0] and b[0]:
        return all(x * b[0] == y * a[0] for x, y in zip(a, b, strict=True)), "ratio"
    return a == b, "ratio"


def _time(text: str) -> tuple[int, int, int, str] | None:
    found = _CLOCK.fullmatch(text.strip())
    if not found or not (found[2] or found["half"]):
        return None
    hour, minute, second = int(found[1]), int(found[2] or 0), int(found[3] or 0)
    if hour > 24 or minute > 59 or second > 59:
        return None
    half = (found["half"] or "").lower()
    word = "p" if re.match(r"p|noon|in the (?:afternoon|evening)|at night", half) else "a" if half else ""
    return hour, minute, second, word


def _same_time(a: tuple[int, int, int, str], b: tuple[int, int, int, str]) -> bool:
    if a[1:3] != b[1:3]:
        return False
    if not a[3] or not b[3]:
        if a[0] > 12 or b[0] > 12:
            return _hour(a) == _hour(b)
        return a[0] == b[0]
    return _hour(a) == _hour(b)


def _hour(t: tuple[int, int, int, str]) -> int:
    hour, half = t[0], t[3]
    if not half or hour > 12:
        return hour
    return hour % 12 + (12 if half == "p" else 0)


def _ratio(text: str) -> tuple[Fraction, ...] | None:
    text = text.strip()
    if found := _TO.fullmatch(text):
        parts = [found[1], found[2]]
    elif _RATIO.fullmatch(text):
        parts = re.split(r"\s*:\s*", text)
    else:
        return None
    values = []
    for part in parts:
        fraction = re.fullmatch(r"([-+]?)\\frac\s*\{([0-9]+)\}\s*\{([0-9]+)\}", part)
        if fraction and int(fraction[3]):
            values.append(Fraction(int(fraction[2]), int(fraction[3])))
        elif fraction:
            return None
        else:
            values.append(Fraction(part.replace(",", "")))
    return tuple(values)
