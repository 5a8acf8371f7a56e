"""Backtracking that no word announces: one thing is given two different values in turn.

Three kinds, all within SPAN characters: the same sum ("5! is 100 ... 5! = 120"), the same short phrase in front of a
number ("the total is 12. ... the total is 15."), and the same two numbers under another operator ("40 + 8 = 48? ...
40 - 8 = 32") where the text between them doubts. A rounded value is the same value.
"""

from __future__ import annotations

import math
import re

SPAN = 400
_LARGEST_FACTORIAL = 20
_LARGEST_BASE = 1000
_NUMBER = r"\d[\d,]{0,12}(?:\.\d{1,8})?"
_SIGN = r"[-+*/\u00d7\u00f7\u00b7^\u2212]"
# One operation between two numbers, and the value that is given for it.
_SUM = re.compile(
    rf"(?<![\d.,^)/!])(?P<a>{_NUMBER})(?:(?P<one>!|[\u00b2\u00b3])| ?(?P<sign>{_SIGN}|% of|times|plus|"
    rf"minus) ?\$?(?P<b>{_NUMBER})) "
    rf"?(?:=|\u2248|is|equals|gives|makes|are) ?\$?(?P<value>{_NUMBER})(?![\d^!%]| ?{_SIGN}| ?%|\.\d)"
)
_PAIR = re.compile(rf"(?<![\d.,^]){_NUMBER} ?{_SIGN} ?\$?{_NUMBER}(?= ?[=)])")
_PHRASE = re.compile(
    r"(?:^|[.!?;:\u2026\n] |\n|\b(?:so|hence|thus|then|making|"
    rf"makes),? )(?P<words>[a-z](?:[a-z']{{0,14}} ){{0,6}}?[a-z']{{0,14}} ?(?:=|\b(?:is|are|was|were|at|has|have|"
    r"had|gets?|got|"
    rf"needs?)\b)) ?\$?(?P<value>{_NUMBER}(?::\d{{1,3}})?)(?P<unit>(?: [a-z]{{1,14}})?)(?=[.,;!?\n]|$)(?!\.\d|/)"
)
_DOUBT = re.compile(
    r"\?|!|n't\b|\b(?:not|no|nor|neither|never|but|wrong|should|hmm+|wait|only|instead|actually|absurd|impossible|"
    r"negative|oops|cannot|though|yet|too|except|rather|already)\b"
)
_CASES = re.compile(
    r"\b(?:or|if|case|cases|when|either|day|year|week|next|then|after|now|before|first|second|"
    r"option|otherwise|respectively|later|each|another|same)\b|(?:^|\n) ?(?:\d|-)"
)


def spans(text: str) -> list[tuple[int, int]]:
    """[start, end) of each second value in lower-case text."""
    return _sums(text) + _operators(text) + _phrases(text)


def _sums(text: str) -> list[tuple[int, int]]:
    """A sum whose first value is wrong and whose second is right: two wrong ones are a slip, not a correction."""
    found, seen = [], {}
    for m in _SUM.finditer(text):
        right = _result(m)
        if right is None or text[max(0, m.start() - 3) : m.start()].strip()[-1:] in tuple(
            "-+*/x\u00d7\u00f7\u00b7^\u2212("
        ):
            continue
        key, close = m.group("a", "sign", "one", "b"), abs(float(m["value"].replace(",", "")) - right) < 0.5
        if close and key in seen and m.start() - seen[key] < SPAN:
            found.append(m.span())
        if not close:
            seen[key] = m.end()
    return found


def _result(m: re.Match[str]) -> float | None:
    """What the operation of a match of _SUM gives, or None where it is too large or has no value."""
    a = float(m["a"].replace(",", ""))
    if m["one"]:
        powers = {
            "!": math.prod(range(1, int(a) + 1)) if a <= _LARGEST_FACTORIAL else None,
            "\u00b2": a * a,
            "\u00b3": a**3,
        }
        return powers[m["one"]]
    b, sign = float(m["b"].replace(",", "")), m["sign"]
    if sign in ("+", "plus"):
        return a + b
    if sign in ("-", "\u2212", "minus"):
        return a - b
    if sign in ("*", "\u00d7", "\u00b7", "times"):
        return a * b
    if sign == "% of":
        return a * b / 100
    if sign == "^":
        return a**b if a <= _LARGEST_BASE and b <= _LARGEST_FACTORIAL else None
    return a / b if b else None


def _operators(text: str) -> list[tuple[int, int]]:
    found, seen = [], {}
    for m in _PAIR.finditer(text):
        numbers = tuple(re.findall(_NUMBER, m.group()))
        sign = re.sub(r"[\d.,\s$]", "", m.group())
        old = seen.get(numbers)
        if old and old[0] != sign and m.start() - old[1] < SPAN and _DOUBT.search(text, old[1], m.start()):
            found.append(m.span())
        seen[numbers] = sign, m.end()
    return found


def _phrases(text: str) -> list[tuple[int, int]]:
    found, seen = [], {}
    for m in _PHRASE.finditer(text):
        words = m["words"].split()
        key = f"{' '.join(words)}|{m['unit']}"
        old = seen.get(key)
        if old and m.start() - old[1] < SPAN and not _CASES.search(text, old[2], m.end()) and old[0] != m["value"]:
            found.append(m.span())
        seen[key] = m["value"], m.end(), m.start()
    return found
