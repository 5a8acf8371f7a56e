r"""Checks that were carried out, beside the words that announce them (`behaviours`): equations of a chain, executed.

A checking line is an equation between plain numbers behind a word such as "Check:", or one behind the line that first
gave the answer which computes with the answer and comes back to a number that was there before ("13 - 5 = 8" after
"8 + 5 = 13", "2(3) + 1 = 7" after "2x + 1 = 7, x = 3"). Of each we ask whether it is true, whether the answer or a
number of the problem is in it, and whether it says something else than every line before it (another operation or
another order). All three together are an executed check.
A chained result is a true equation that computes with the result of an earlier one ("8 + 5 = 13, then 13 - 6 = 7").

Sides are read exactly by grading.latex, nothing is evaluated. What cannot be read so (variables, words between numbers,
remainders) is no line, so the counts are a lower bound; a step of the solution may still look like a check by chance.
They are no score.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise

from dpr_mini.grading.algebra import Unreadable
from dpr_mini.grading.latex import parse

FIELDS = ("lines", "true", "about", "different", "executed", "chained")
LONGEST = 200_000
"""Characters of a text that are read."""
_MOST = 500  # equations of a text that are read
_WIDEST = 120  # characters of a side; a longer one is no sum that anybody wrote
REMEMBERED = 20_000  # numbers and sides of equations whose values are remembered: responses share most of them
_REACH = 80  # characters behind "Check:" in which a line begins

_CLEAN = (
    (re.compile(r"(?<=\d),(?=\d{3}(?!\d))"), ""),
    (re.compile(r"\\(?:times|cdot)(?![A-Za-z])|[\u00d7\u22c5\u00b7]"), "*"),
    (re.compile(r"(?<=[0-9)])([ $]{0,3})[xX](?=[ $]{0,3}[0-9(])"), r"\1*"),
    (re.compile(r"\\div(?![A-Za-z])|\u00f7"), "/"),
    (re.compile(r"[\u2212\u2013]"), "-"),
    (re.compile(r"\\[dt]frac(?![A-Za-z])"), r"\\frac"),
    (re.compile(r"\\[()\[\]]|\\\\"), "\n"),
    (re.compile(r"\\[!,;: $]|[$\t]|\\(?:left|right)(?![A-Za-z])"), " "),
    (re.compile(r"(?m)^ {0,8}[-*+\u2022] {1,3}"), ""),  # list marks
    (re.compile(r"(?<![0-9) ])\*\*|\*\*(?![0-9( ])|(?<=\S)\*\*(?=\s)"), " "),  # bold marks, not powers
    (re.compile(r"\((?=[^()=\n]{1,60}=[^()\n]{1,60}\))"), "\n"),  # a bracket around a whole line
)
_RUN = re.compile(r"(?:[0-9+\-*/=().{}^ ]+|\\frac(?![A-Za-z]))+")
_STOP = re.compile(r"\.(?![0-9])")  # the end of a sentence, not a decimal point
# What stands beside a number and changes it: that side is not what its figures say.
_GLUED = re.compile(r"[A-Za-z_\\|!%\]]")
_OF = re.compile(
    r"\b(?:twice|thrice|double|triple|half|of|root|mod|minus|plus|times|by|negative|per|over|step)$", re.IGNORECASE
)
_MORE = re.compile(
    r"(?:r|rem|remainder|mod|percent|half|times|plus|minus|over|hundred|thousand|million|billion|dozen)\b|[%^!\\_]",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"(?<![0-9.])(?:[0-9]{1,30}(?:\.[0-9]{1,30})?|\.[0-9]{1,30})(?![0-9])")
_GIVEN = re.compile(
    r"(?<![A-Za-z0-9])[A-Za-z] ?= ?(-?[0-9]{1,30}(?:\.[0-9]{1,30})?(?:/[0-9]{1,30})?)"
    r"(?![0-9.]{0,30} ?[0-9+*/^(-]|[A-Za-z])"
)
# Words that announce a check; not "a check for $50".
_ANNOUNCED = re.compile(
    r"\b(?:check(?:ing)?(?=\b ?[:,.!*]| (?:this|that|it|my|our|by|if|whether|with)\b)|double-check\w{0,3}|verif\w{1,8}|"
    r"confirm\w{0,3}|substitut\w{1,4}|plugging)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class _Equation:
    """Two neighbouring sides of one line: where, as written without spaces, their values, the numbers in them."""

    at: int
    sides: tuple[str, str]
    values: tuple[Fraction, Fraction]
    numbers: tuple[frozenset[Fraction], frozenset[Fraction]]

    @property
    def true(self) -> bool:
        a, b = self.values
        return a == b or _rounded(self.sides[0], a, self.sides[1], b) or _rounded(self.sides[1], b, self.sides[0], a)

    @property
    def results(self) -> set[Fraction]:
        """The value of each side that is a bare number."""
        pairs = zip(self.sides, self.values, strict=True)
        return {value for side, value in pairs if _NUMBER.fullmatch(side.removeprefix("-"))}

    @property
    def operands(self) -> frozenset[Fraction]:
        pairs = zip(self.sides, self.numbers, strict=True)
        inner = (numbers for side, numbers in pairs if not _NUMBER.fullmatch(side.removeprefix("-")))
        return frozenset().union(*inner)


def count(text: str, answer: str = "", problem: str = "") -> dict[str, int]:
    """Checking lines of a chain (keys: FIELDS), and how many of its equations build on an earlier result.

    `answer` is the answer read from the chain, `problem` the question. Without a number as answer, only a line behind
    a word such as "Check:" is a checking line.
    """
    text = text[:LONGEST]
    for pattern, by in _CLEAN:
        text = pattern.sub(by, text)
    found = dict.fromkeys(FIELDS, 0)
    if not (equations := list(_equations(text))):
        return found
    value = _value(answer.replace(",", "").strip("$ "))
    solved = _solved(text, equations, value)
    given = _numbers(problem.replace(",", ""))
    announced = _announced(text, equations)
    first: dict[Fraction, int] = {}  # where each number first stands; those of the problem stand before
    for match in _NUMBER.finditer(text):
        first.setdefault(_fraction(match[0]), match.start())
    first |= dict.fromkeys(given, -1)
    seen: set[frozenset[str]] = set()
    results: set[Fraction] = set()
    for line, cued in zip(equations, announced, strict=True):
        numbers = line.numbers[0] | line.numbers[1]
        behind = solved is not None and line.at > solved
        about = value is not None and abs(value) in numbers
        known = any(first.get(abs(result), line.at) < line.at for result in line.results - {value})
        if cued or (behind and known and value is not None and abs(value) in line.operands):
            what = (line.true, about or bool(numbers & given), frozenset(line.sides) not in seen)
            found["lines"] += 1
            for name, holds in zip(("true", "about", "different"), what, strict=True):
                found[name] += holds
            found["executed"] += all(what)
        elif line.true and not behind:
            found["chained"] += bool(line.operands & results)
        seen.add(frozenset(line.sides))
        results |= line.results if line.true else set()
    return found


def _solved(text: str, equations: list[_Equation], answer: Fraction | None) -> int | None:
    """Where the answer first stands as the result of a line, or of "x ="; else where its number first stands."""
    if answer is None:
        return None
    places = [e.at for e in equations if answer in e.results]
    places += [m.start() for m in _GIVEN.finditer(text) if _value(m[1]) == answer]
    if not places:
        places = [m.start() for m in _NUMBER.finditer(text) if _fraction(m[0]) == abs(answer)]
    return min(places, default=None)


def _announced(text: str, equations: list[_Equation]) -> list[bool]:
    """Whether each equation begins within _REACH characters behind a word that announces a check."""
    ends = [m.end() for m in _ANNOUNCED.finditer(text)]
    found, i = [], 0
    for line in equations:
        while i < len(ends) and ends[i] <= line.at:
            i += 1
        found.append(i > 0 and line.at - ends[i - 1] <= _REACH)
    return found


def _equations(text: str) -> Iterator[_Equation]:
    """The first _MOST readable equations between plain numbers, in order."""
    found = 0
    for run in _RUN.finditer(text):
        if "=" not in run[0]:
            continue
        starts = [0, *(m.end() for m in _STOP.finditer(run[0]))]
        ends = [*(start - 1 for start in starts[1:]), len(run[0])]
        for start, end in zip(starts, ends, strict=True):
            part, at = run[0][start:end], run.start() + start
            before = text[max(0, at - 20) : at] if not start else ""
            after = text[run.end() : run.end() + 12] if end == len(run[0]) else ""
            for line in _pairs(part, at, before, after):
                yield line
                found += 1
                if found == _MOST:
                    return


def _pairs(part: str, at: int, before: str, after: str) -> Iterator[_Equation]:
    sides = [side.strip() for side in part.split("=")]
    before = before.rstrip(" ") if part[:1] == " " else before
    bound = part[:1] != " " and _GLUED.match(before[-1:])
    if bound or _OF.search(before.rstrip(" ")) or (sides[0][:1] in ("-", "+") and re.search(r"[A-Za-z0-9)]$", before)):
        sides[0] = ""
    if (_MORE if part[-1:] == " " else _GLUED).match(after):
        sides[-1] = ""
    if sides[0].count("(") > sides[0].count(")"):  # a bracket around the whole line
        sides[0] = sides[0].removeprefix("(")
    if sides[-1].count(")") > sides[-1].count("("):
        sides[-1] = sides[-1].removesuffix(")")
    for left, right in pairwise(s.strip() for s in sides):
        if not any(re.search(r"[0-9)}] ?[-+*/^(]|frac", s) for s in (left, right)):
            continue  # two bare numbers
        a, b = _value(left), _value(right)
        if a is not None and b is not None:
            numbers = (_numbers_of_side(left), _numbers_of_side(right))
            yield _Equation(at, (left.replace(" ", ""), right.replace(" ", "")), (a, b), numbers)


_fraction = lru_cache(maxsize=REMEMBERED)(Fraction)


def _numbers(text: str) -> frozenset[Fraction]:
    return frozenset(map(_fraction, _NUMBER.findall(text)))


_numbers_of_side = lru_cache(maxsize=REMEMBERED)(_numbers)  # a problem is too long to be remembered


def _value(text: str) -> Fraction | None:
    return _value_of_side(text) if 0 < len(text) <= _WIDEST else None


@lru_cache(maxsize=REMEMBERED)
def _value_of_side(text: str) -> Fraction | None:
    try:
        return parse(text).rational
    except Unreadable:
        return None


def _rounded(exact_side: str, exact: Fraction, shown_side: str, shown: Fraction) -> bool:
    """7 / 3 = 2.33: a quotient, and a decimal of as many places as one cares for."""
    places = shown_side.partition(".")[2]
    return (
        ("/" in exact_side or "frac" in exact_side)
        and places.isdigit()
        and abs(exact - shown) < Fraction(1, 10 ** len(places))
    )
