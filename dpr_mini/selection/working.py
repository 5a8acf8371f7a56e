r"""Does a response show any working, or is it an answer alone?

Working is a calculation, numbers other than the answer's, or an argument in words. What any answer could be wrapped in
("So the final answer is \boxed{52} apples.") is none. Whether the working is good is not asked.
"""

from __future__ import annotations

import re
from fractions import Fraction

_NUMBER = re.compile(r"(?<![A-Za-z_])(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?(?:\s?/\s?[0-9]+)?")
_POWER = re.compile(r"(?<=[0-9)])\*\*(?=[0-9(])|(?<=[0-9)] )\*\*(?= [0-9(])")  # every other "**" is bold
_SIDE = r"[\s$({\[]*"
_OPERATOR = (
    r"(?:[+*\u00d7\u22c5\u00b7\u00f7/\u2212-]|\\(?:times|cdot|div)(?![a-z])|"
    r"(?:plus|minus|times|divided by)\b|x(?=\s*\d))"
)
_LETTER = r"(?<![A-Za-z\\])[A-Za-z](?![A-Za-z])"
_CALCULATION = re.compile(
    rf"[\d)}}%]\s*\$?\s*{_OPERATOR}{_SIDE}(?:\d|\\[dt]?frac|{_LETTER})|(?:{_LETTER}|\))\s*\$?\s*{_OPERATOR}{_SIDE}\d"
    rf"|{_LETTER}\s*[-+*]\s*{_LETTER}"
    r"|\d\s*\^|\\(?:frac|sqrt|sum|int|binom)\b"
)
_LABEL = re.compile(r"\bstep\s+\d{1,3}\b|^[ \t]*\(?\d{1,3}[.)](?=\s)|\b100\s*\\?%", re.I | re.M)
_UP_TO_20 = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
)
_VALUES = {name: value for value, name in enumerate(re.findall(r"\w+", _UP_TO_20))}
_VALUES |= {"thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90, "dozen": 12}
_SHARES = frozenset({"half", "double", "twice", "triple", "thrice", "quarter", "squared", "cubed"})
# Words that an answer alone may come in: they say nothing of how it was found.
_WRAPPING = (
    "a an the so thus hence therefore then and or to of in is are was be it its this that these there here we i you he "
    "she they my our your his her their get gets got have has had must should would will can could do does let me us "
    "final answer answers result value total number amount solution correct right sure certain confident yes no ok "
    "okay well now finally exactly just only simply equals equal gives makes box boxed text mathrm textbf question "
    "problem task exercise please note again verify check checked verified done think believe know as for with on at "
    "by which what not altogether all"
)
_EMPTY = frozenset(re.findall(r"\w+", _WRAPPING))
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")


def shown(text: str, answer: str, words: int) -> bool:
    """True if `text` has a calculation, two numbers besides the answer's or one with a word, or `words` telling words.

    `answer` is what was read as the final answer: where it is a formula, its own signs are no calculation.
    """
    text = _LABEL.sub(" ", _POWER.sub("^", text).replace("**", " "))
    answer = answer.rpartition("=")[2]  # of "2x = 104, so x = 52" the value
    signs = "".join(answer.split())[:300]
    if signs and not re.fullmatch(r"-?[0-9.,]+", signs):
        text = re.sub(r"\s*".join(map(re.escape, signs)), " ", text)
    if _CALCULATION.search(text):
        return True
    known = {_value(m[0]) for m in _NUMBER.finditer(answer)}
    said = [_value(m[0]) for m in _NUMBER.finditer(text)]
    plain = re.sub(r"\\[A-Za-z]+", " ", text.lower())
    named = re.findall(r"[^\W\d_]{2,}", _CJK.sub(" ", plain))
    said += [_VALUES.get(w, w) for w in named if w in _VALUES or w in _SHARES]
    others = [n for n in said if n not in known]
    telling = {w for w in named if w not in _EMPTY and w not in _VALUES and w not in _SHARES}
    count = len(telling) + sum(len(run) // 2 for run in _CJK.findall(plain))
    return len(others) > 1 or bool(others and count) or count >= words


def _value(number: str) -> Fraction | str:
    """The value of a number as written: "1,200", "3/4"."""
    try:
        return Fraction(re.sub(r"[\s,]", "", number))
    except (ValueError, ZeroDivisionError):  # thousands of digits, x/0
        return number
