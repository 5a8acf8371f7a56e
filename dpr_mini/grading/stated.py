"""The result that a response states without calling it the answer: its last formula, number or word.

Only where the sentence states it: not denied, doubted, asked for, or one operand of a calculation that is only named.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from dpr_mini.grading.answers import spelled_out
from dpr_mini.grading.notation import strip
from dpr_mini.grading.numerals import NUMBER
from dpr_mini.grading.phrases import upright
from dpr_mini.grading.units import VALUE_WORDS, known, unit_name

_FOR_ALL = re.compile(r"\s*,?\s*\b(?:for|where)\s+(?:all|every|any|each)\b[^$\n]{0,40}\$[^$\n]{1,30}\$\s*\.?\s*$")
MAX_END = 20_000  # characters at the end of a response in which its result is looked for
_DIGIT = re.compile("[0-9]")
MAX_SENTENCE = 600  # characters of a sentence that are looked at, on each side of its number
_SPAN = re.compile(r"\$\$?([^$\n]{1,200})\$|\\[(\[]([^$]{1,200}?)\\[)\]]")


def last_formula(text: str) -> str:
    """The last formula of the text, where no number follows; formulas joined by or, and, a comma are one answer."""
    text = text[-MAX_END:]
    text, number = text[:-120] + _FOR_ALL.sub("", text[-120:]), None
    for number in NUMBER.finditer(text) if _DIGIT.search(text) else ():  # noqa: B007
        pass
    spans = list(_SPAN.finditer(text))
    if not spans:
        return ""
    last = spans[-1]
    inside = strip(last[1] or last[2])
    prose = re.search(r"(?<![\\A-Za-z{])[A-Za-z]{3,}", inside)
    if (number is not None and number.start() >= last.end()) or prose or not inside or inside[-1] in "+-*/=,":
        return ""
    sentence = text[text.rfind(". ", 0, last.start()) + 1 : last.start()]
    if (
        doubted(sentence)
        or re.search(r"\?\s*$", text.strip())
        or doubted(text[last.end() : last.end() + 60].split(".")[0])
    ):
        return ""
    parts = [inside]
    at = last.start()
    for before in reversed(spans[:-1]):
        between = text[before.end() : at].strip()
        if not re.fullmatch(r",|or|and|, ?or|, ?and|;", between):
            break
        parts.insert(0, strip(before[1] or before[2]) + (r" \text{ or } " if "or" in between else ", "))
        at = before.start()
    tail = re.match(r"\s*([A-Za-z]{2,}(?:\s[A-Za-z]+)?)\s*[.!]?\s*$", text[last.end() :])
    return upright("".join(parts) + (f" {tail[1]}" if tail and len(parts) == 1 else ""))


_DOUBT = re.compile(
    r"\bnot\b|n't\b|\bnever\b|\bcannot\b|\bmaybe\b|\bperhaps\b|\bmight\b|\bcould be\b|\bpossibly\b|\bprobably\b"
    r"|\bguess(?:ing)?\b|\bunless\b|\bunsure\b|\basked\b|\bquestion\b|\bproblem (?:asks|says|states)\b"
    r"|\bhow (?:many|much|far|old|long)\b|\bwhat is\b|\btoo (?:small|large|big|low|high|many|few)\b|\bwrong\b"
    r"|\bincorrect\b|\bimpossible\b|\bif\b|\bsuppose\b|\bassume\b|\binstead of\b|\brather than\b|\bmistake\b"
    r"|\bunlikely\b|\bneither\b|\bnobody\b|\bno one\b|\bhardly\b|\bdeny\b|\bdenies\b|\bwould call\b"
    r"|\bstep\b|\btry\b|\btrying\b|\blet's\b|\blet us\b|\bfirst\b|\?",
    re.I,
)
# words of a task that is set, or of a step towards it: no doubt where a result follows
_TASK = re.compile(
    r"(?<!we )(?<!we can )\b(?:find|compute|calculate|determine|evaluate)\b|\bneed to\b|\bwant to\b"
    r"|\bdivided by\b(?!.*(?:=|\bis\b|equals))",
    re.I,
)
_RESULT = re.compile(
    r"(?:=|\b(?:is|are|was|equals?|gives?(?: us)?|makes?|results? in|resulting in|(?:to )?get|total of))\s*[$*]*$", re.I
)
_BEFORE = re.compile(
    r"[0-9)}%]\s*(?:[-+*/^]|\\times|\\cdot|\\div|\bx\b|plus|minus|times|divided by|multiplied by|over|or|and|to"
    r"|of|from|than|out of)\s*$|\b(?:or|either|between|than|over|under|below|above|almost|nearly|up to|at least"
    r"|at most|about|around|approximately|roughly|step|part|exceeds|number|question|equation|line|case|day"
    r"|level)\s*$|[*/^]\s*$|\{\s*$|\\(?:times|cdot|div|neq?|le|ge|leq|geq|lt|gt)\s*$|(?:!=|[<>]=?)\s*$|\b(?:add"
    r"|subtract|multiply by|divide by|plus)\s*$",
    re.I,
)
_LIST_BEFORE = re.compile(
    r"(?P<list>-?\$?[0-9][0-9./]*(?:\s*,\s*(?:[a-z]\s*=\s*)?-?\$?[0-9][0-9./]*)*)\s*,?\s*(?:and"
    r"|or)\s+(?:[a-z]\s*=\s*)?\$?$",
    re.I,
)
_SIGN_WORD = re.compile(r"\b(?:minus|negative)\s*$", re.I)
_GLUE = re.compile(
    r"(?:[A-Za-z\\^!(_{][^\s,;$]*)|\s*(?:\\(?:pi|sqrt|cdot|times|pm)(?![A-Za-z])|[-+*/^](?=\s*[0-9\\a-z(])"
    r"|\bx\s+[0-9])[^,;.$\n]*|\s*:\s*[0-9]+(?:\s*(?:[ap]\.?m\b\.?))?"
)


_UNKNOWN = re.compile(
    r"cannot be (?:determined|known|found|answered)|not enough information|insufficient (?:information|data)"
    r"|impossible to (?:say|tell|know|determine)|does not (?:say|tell)|doesn't (?:say|tell)|no way to (?:know|tell)",
    re.I,
)
_GIVEN = re.compile(
    r"(?:\b(?P<the>the|these|those|this|that|original|other)\s+"
    r"|\b(?:for|in|with|from|after|within|at|over|every|(?<!total )(?<!sum )of)\s+)"
    r"[$\u20ac\u00a3]?$",
    re.I,
)
# "14 more flowers than her sister", "4 times as heavy": the number compares, and is the whole answer
_COMPARED = re.compile(
    r"\s+(?:(?:more|fewer|less|extra)\s+(?P<noun>[A-Za-z]+\s+)?than\b|(?:years?\s+)?(?:older|younger|taller|shorter|longer|heavier|lighter)\s+than\b"
    r"|times\s+(?:as|more|larger|bigger|longer|heavier|faster)\b)"
)


def doubted(sentence: str) -> bool:
    return bool(_DOUBT.search(sentence) or (_TASK.search(sentence) and not _RESULT.search(sentence)))


class _Last(NamedTuple):
    """The last number of a text, and its sentence."""

    text: str
    start: int  # of the sentence
    before: str  # of the sentence, up to the number
    number: str
    behind: str  # of the sentence, from the number on
    rest: str  # of the text, from the number on


def stated_number(text: str) -> str:
    """The last number of the text, with what belongs to it, if its sentence states it as a result; else ""."""
    for _ in range(5):
        last = _last(text[-MAX_END:])
        if last is None or _UNKNOWN.search(last.text[-400:]):
            return ""
        if doubted(last.before) or doubted(last.behind) or last.rest[len(last.behind) :][:1] == "?":
            return ""
        shorter = _without_aside(last)
        if shorter is None:
            return _value(last)
        text = shorter
    return ""


def _last(text: str) -> _Last | None:
    number = None
    for number in NUMBER.finditer(text) if _DIGIT.search(text) else ():  # noqa: B007
        pass
    if number is None:
        return None
    ends = (m.end() - 1 for m in re.finditer(r"[.!?;](?=\s)", text[: number.start()]))
    start = max(text.rfind("\n", 0, number.start()), *ends, -1, number.start() - MAX_SENTENCE - 1) + 1
    rest = text[number.end() :]
    stop = re.search(r"[.!?;](?=\s|$)|\n|$", rest).start()
    behind = rest[: min(stop, MAX_SENTENCE)]
    return _Last(text, start, text[start : number.start()], number[0].strip(), behind, rest)


def _without_aside(last: _Last) -> str | None:
    """The text before a given number, a reason or an aside, which hold no result; "" where nothing is left.

    None where the number stands in none of them.
    """
    before, start = last.before, last.start

    def up_to(at: int) -> str:
        return last.text[: start + at].rstrip() + "." if NUMBER.search(before[:at]) else ""

    given = None if _RESULT.search(before) else _GIVEN.search(before)
    if given:  # "the $90", "for 3 apples": what was known; another number may be the result
        if given["the"]:
            return up_to(given.start())
        if NUMBER.search(before[: given.start()]) and not re.search(r"=\s*[^=]*$", before):
            return ""
    if (why := re.search(r",?\s*\b(?:because|since)\b", before)) and NUMBER.search(before[: why.start()]):
        return up_to(why.start())
    if before.endswith("{") or re.search(r"[-+*/=(,]\s*$", last.rest):  # cut off
        return ""
    if re.search(r"[A-Za-z]\(\s*$", before):  # sqrt(19), f(3)
        return ""
    bracket = _bracket(last)
    if bracket and re.search(r"[A-Za-z]{3,}", bracket):
        return up_to(before.rfind("("))
    return None


def _bracket(last: _Last) -> str:
    """The bracket that the number stands in, "" where there is none."""
    if not re.search(r"\([^()]*$", last.before):
        return ""
    found = re.match(r"\([^()\n]*\)", last.text[last.start + last.before.rfind("(") :])
    return found[0] if found else ""


def _value(last: _Last) -> str:
    """The number with what belongs to it: its sign in words, its unit, the list, pair or time that it ends."""
    sentence, value, behind = last.before, last.number, last.behind
    before = sentence.rstrip(' $*"`_(')
    if colon := re.search(r"(?:[0-9]+(?::| : ))+$", sentence):
        half = _HALF.match(last.rest)
        return strip(colon[0] + value) + (f" {half[0].strip()}" if half else "")
    if several := _several(last):
        return several
    bracket = _bracket(last)
    if bracket and not re.search(r"[A-Za-z]{2,}", bracket) and re.search("[,=]", bracket):
        return strip(bracket if "," in bracket else bracket[1:-1])
    if compared := _COMPARED.match(behind):
        return strip(f"{value} {compared['noun'] or ''}")
    if re.match(r"\s*(?:degrees?|\^\s*\\circ)?\s*[A-Za-z]{0,10}\s*below\s+(?:zero|freezing)\b", behind):
        return f"-{value}"
    if _SIGN_WORD.search(before) and not re.search(r"[0-9)}]\s*(?:minus|negative)\s*$", before, re.I):
        return strip(f"-{value}")
    if re.search(r"\b(?:divid|multipl|increas|decreas|reduc|rais)[a-z]*\b[^.]{0,60}\bby\s*$", before, re.I):
        return ""
    operand = re.search(r"[0-9]\s*(?:[-+*/]|\\times|\\cdot)\s*$", before)
    if _BEFORE.search(before) and (operand or "=" not in sentence):
        return ""
    if listed := re.search(r"-?[0-9][0-9./,]*(?:\s*,\s*-?[0-9][0-9./]*)*\s*,\s*(?:and\s+|or\s+)?$", sentence):
        return "" if "or" in listed[0] else strip(listed[0] + value)
    if glued := _GLUE.match(behind):
        return upright(strip(value + glued[0]))
    return upright(strip(" ".join([value, *_unit_words(behind)])))


_HALF = re.compile(r"\s*(?:[ap]\.?\s?m\b\.?|in the (?:morning|afternoon|evening)|at night)", re.I)
_MEASURES = re.compile(r"(?:[0-9][0-9.,]*\s*[A-Za-z]+\.?(?:\s*,)?(?:\s+and)?\s+)+$")


def _several(last: _Last) -> str:
    """Measures that are one (2 hours and 15 minutes), and numbers that are a list (8 cm, 15 cm and 17 cm; 4 and 9)."""
    unit = re.match(r"\s+([A-Za-z]+)|([A-Za-z]+)", last.behind)
    name = (unit[1] or unit[2]) if unit else ""
    if name and known(name) and (measures := _MEASURES.search(last.before)):
        pairs = re.findall(r"([0-9][0-9.,]*)\s*([A-Za-z]+)", measures[0])
        if all(known(word) for _, word in pairs):
            if {unit_name(word) for _, word in pairs} == {unit_name(name)}:
                return ", ".join([*(number.rstrip(".,") for number, _ in pairs), f"{last.number} {name}"])
            return strip(f"{measures[0]}{last.number} {name}")
    listed = _LIST_BEFORE.search(last.before)
    if not listed or re.search(r"\bbetween\s*$", last.before[: listed.start()]):
        return ""
    tail = f" {unit[1]}" if unit and unit[1] and unit[1] not in _HARMLESS else ""
    return strip(f"{listed['list']}, {last.number}{tail}")


def _unit_words(behind: str) -> list[str]:
    """The words behind a number that may be its unit, or change it; at most four."""
    words, taken = _UNIT_BEHIND.match(behind), []
    for word in words[0].split() if words else ():
        low = word.lower()
        if low.strip(".,") in _HARMLESS and not (low == "in" and not taken and "^" in words[0]):
            break
        if taken and low == "left" and taken[-1].lower().removesuffix("s") not in _PLACES and not known(taken[-1]):
            break  # "3 apples left" remain; "3 steps left" is a direction
        if taken and low in ("before", "after", "until") and re.search(rf"\b{low}\s+{_SUBJECT}", behind):
            break
        if taken and low.endswith("ed") and low not in VALUE_WORDS:
            break  # "58 people visited"
        taken.append(word)
    return taken[:4]


_SUBJECT = r"(?:s?he|they|it|the|we|I)\b"
_PLACES = set(re.findall(r"\w+", "unit step block square space place position row column street door seat point"))
_UNIT_BEHIND = re.compile(
    r"(?:\s*(?:[A-Za-z'-]+(?:[/^]\{?[A-Za-z0-9-]+\}?)*\.?|\\text\s*\{[^{}]*\}|\u5143|[\u4e00-\u9fff]{1,3}))+"
)
_HARMLESS = frozenset(
    re.findall(
        r"\w+",
        "long tall wide deep thick high heavy away a after altogether an and are as at because both but by can "
        "each every for from go had has have he her here him his i in is it its now of on our remain remaining "
        "remains she since so that the their them then there these they this to together total was we were when "
        "where which while who will with within",
    )
)


def stated_words(text: str) -> str:
    """What the last sentence says in words ("The ball is red."), in a text without numbers."""
    sentences = [s for s in re.split(r"(?<=[.!?])\s+|\n", text.strip()[-MAX_END:]) if s.strip()]
    if not sentences or re.search("[0-9]", sentences[-1]) or doubted(sentences[-1]):
        return ""
    numerals = [w for w in re.findall(r"[a-z]+(?:-[a-z]+)?", sentences[-1].lower()) if spelled_out(w) is not None]
    if len(numerals) == 1 and not re.search(
        r"\b(?:half|halves|thirds?|quarters?|and|or|the)\s+" + numerals[0], sentences[-1], re.I
    ):
        return numerals[0]
    if re.search("[0-9]", text):
        return ""
    found = re.fullmatch(
        r".{1,120}\b(?:is|are|was)\s+((?:an?\s+|the\s+)?[A-Za-z'-]+(?:\s[A-Za-z'-]+)?)[.!]?", sentences[-1].strip()
    )
    return strip(found[1]) if found else ""
