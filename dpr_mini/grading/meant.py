"""Which of the numbers in a sentence its result is."""

from __future__ import annotations

import re
from typing import NamedTuple

from dpr_mini.grading.numerals import NUMBER

# the left side of an equation with a letter in it: "3d + 8 = ", "2w = "; neither "12 x 4 = " nor "x = " nor "4 km/h = "
_LETTER = re.compile(
    r"[0-9]([a-wyz])(?![A-Za-z])|[0-9](x)(?![A-Za-z0-9])|(?<![A-Za-z])(?<![0-9] )([a-z])\s?[-+/^]\s?[0-9a-z(]"
    r"|[-+]\s?([a-z])(?![A-Za-z(])"
)
_CALCULATED = re.compile(rf"=\s*[$\u20ac\u00a3(*]*\s*({NUMBER.pattern})")
_GIVEN_NUMBER = re.compile(
    r"\b(?:of|the|these|those|this|that|his|her|their|its|my|our|for|in|with|from|after|within|at|over|every|each|all"
    r"|remaining|original|other|per|between|among|than|by|to|on)\s+[$\u20ac\u00a3]?$",
    re.I,
)
# a word that names the number behind it as the result
_NAMED = re.compile(
    r"(?:=|>>|\u662f|\u4e3a|\b(?:est(?: de)?|ist|es|betr\u00e4gt|is|are|was|were|be|equals?|makes?|making|leaves?"
    r"|gives?(?: us| him| her| them)?|leaving(?: (?:him|her|them|us))?(?: with)?|results? in|resulting in|get|total of"
    r"|totals|costs?|i\.e\.|namely)"
    r"(?: (?:a total of|only|just|exactly|still|now|then|therefore|thus|equal to|about))?)\s*[$\u20ac\u00a3*(]*$",
    re.I,
)
# a clause of its own that ends in the number: ", so he has 12"; none that only tells what was known
_CLAUSE = re.compile(
    r"(?!(?:who|whose|where|when|because|since|if|as|after|before|with|of|out|while|although|but|from|in|on|at|for|which)\b)"
    r"(?:[A-Za-z']+\s+){1,6}[$\u20ac\u00a3]?$",
    re.I,
)
_LABEL = re.compile(
    r"\b(?:week|day|grade|step|month|year|chapter|level|room|team|question|line|row|case|part|page|number|no\.|lap|shift"
    r"|round|phase|problem|player|group)\s+#?[0-9]+(?![0-9.,]*[0-9])",
    re.I,
)
# "3 less than 8", "5 of the 12", "2 or 3"
_OPERAND = re.compile(
    r"\s*(?:[-+*/^:=(,]|(?:%|percent)?\s*(?:[a-z]+\s+)?(?:more|less|fewer|times|plus|minus|of|out|or|and|to|x|by|than)\b)",
    re.I,
)
_CLOCK = re.compile(r"[0-9]\s?:\s?$")
_SUBJECT_HAS = re.compile(
    rf"\s*(?:so|thus|then|therefore|hence|the|all|in total)?,?\s*{NUMBER.pattern}\s*(?:[a-z]+\s+){{1,3}}?"
    r"(?:have|has|cost|need|take|make|weigh|give|hold|contain|last)s?\s+[$\u20ac\u00a3]?",
    re.I,
)


class Last(NamedTuple):
    """The last number of a text, and its sentence."""

    text: str
    start: int  # of the sentence
    before: str  # of the sentence, up to the number
    number: str
    behind: str  # of the sentence, from the number on
    rest: str  # of the text, from the number on


def unsolved(last: Last) -> bool:
    """Whether the number is a side of an equation that still has its unknown: "3d + 8 = 44"."""
    if not (side := re.search(r"([^=:,;]*)=\s*[$(*]*$", last.before)):
        return False
    letters = {letter for found in _LETTER.findall(side[1]) for letter in found if letter}
    known = last.text[: last.start + len(last.before)]
    return any(not re.search(rf"(?<![A-Za-z0-9]){letter}\s?=\s?-?[0-9]", known) for letter in letters)


def without_labels(text: str) -> str:
    """The text with "_" for names that hold a number ("week 4", "Grade 5"), as long as before."""
    return _LABEL.sub(lambda m: "_" * len(m[0]), text)


def adds_up(before: str) -> bool:
    """Whether a sum is named: "their ages add up to 60"."""
    return bool(re.search(r"\b(?:add|sum|come|amount|total|work out)(?:s|ing|ling)?\s+(?:up\s+)?to\s*$", before, re.I))


def alone(last: Last) -> bool:
    """Whether no other number of the sentence could be meant: it has none, or a word or a sign names this one."""
    before = re.sub(r"^[\s*#>(-]*(?:(?:step|part|case|day)\s*[0-9]+|[0-9]{1,2})\s*[.):]", "", last.before, flags=re.I)
    before = without_labels(re.sub(r"\([^()]*\)", " ", before))
    others = list(NUMBER.finditer(before))
    if not others or _NAMED.search(before) or adds_up(before) or _CLOCK.search(before):
        return True
    if not _GIVEN_NUMBER.search(before) and all(_GIVEN_NUMBER.search(before[: n.start()]) for n in others):
        return True  # "each of the 5 friends pays $13"
    results = _CALCULATED.findall(last.text[: last.start + len(last.before)])
    if results and _plain_number(results[-1]) == _plain_number(last.number):
        return True
    if _SUBJECT_HAS.fullmatch(before):  # "6 spiders have 48 legs"
        return True
    ends = [m.end() for m in re.finditer(r"[,:]\s|\b(?:so|and|then|thus|hence|therefore)\s", before)]
    return any(not NUMBER.search(before[end:]) and _CLAUSE.match(before[end:]) for end in ends)


def _given(before: str) -> bool:
    """Whether the words before a number make it a given ("of his 29") and no result ("equal to 29")."""
    return bool(_GIVEN_NUMBER.search(before)) and not _NAMED.search(before) and not adds_up(before)


def computed(last: Last) -> Last | None:
    """The sentence at the one of its several numbers that is no given, or that the last calculation gave.

    "78 - 30 = 48. Rosa has 48 peaches left to share with her 4 neighbors": 48. "Ines will have read 600 pages after 3
    weeks": 600. None where the sentence's last number is the only one that could be meant, or several could.
    """
    sentence = f"{last.before}{last.number}{last.behind}"
    if "=" in sentence:
        return None
    found = list(NUMBER.finditer(without_labels(sentence)))
    results = _CALCULATED.findall(last.text[: last.start])
    if len(found) < 2:
        return None
    free = [n for n in found if not _given(sentence[: n.start()])]
    result = _plain_number(results[-1]) if results else None
    same = [n for n in found if _plain_number(n[0]) == result]
    operands = {_plain_number(n) for n in NUMBER.findall(_calculation(last.text[: last.start]))} if results else set()
    if len(same) == 1 and all(n in same or _plain_number(n[0]) in operands for n in free):
        meant = same[0]
    elif len(free) == 1 and free[0] is not found[-1] and not _OPERAND.match(sentence[free[0].end() :]):
        meant = free[0]
    else:
        return None
    at, end = meant.span()
    rest = last.text[last.start + end :]
    return Last(last.text, last.start, sentence[:at], meant[0].strip(), sentence[end:], rest)


def _calculation(text: str) -> str:
    """The left side of the last equation."""
    line = text[: text.rfind("=")].rpartition("\n")[2]
    return re.split(r"[=:,;]|[.](?=\s)", line)[-1][-80:]


def _plain_number(number: str) -> str:
    return number.strip().replace(",", "").lstrip("+")
