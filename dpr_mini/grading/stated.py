"""The number that a response states as its result without calling it the answer.

Only where its concluding sentence states it: not denied, doubted, asked for, given, one of several numbers that could
be meant, or one operand of a calculation that is only named.
"""

from __future__ import annotations

import re

from dpr_mini.grading.concluding import END, conclusion, taken_back
from dpr_mini.grading.doubt import doubted, result_follows
from dpr_mini.grading.meant import Last, adds_up, alone, computed, unsolved, without_labels
from dpr_mini.grading.notation import strip
from dpr_mini.grading.numerals import NUMBER
from dpr_mini.grading.phrases import upright
from dpr_mini.grading.units import VALUE_WORDS, known, unit_name

MAX_END = 20_000  # characters at the end of a response in which its result is looked for
MAX_SENTENCE = 600  # characters of a sentence that are looked at, on each side of its number
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
_UNFINISHED = re.compile(  # the text ends in the middle of a sentence
    r"(?:\b(?:the|an?|by|to|of|and|or|with|for|from|is|are|was|we|then|get|need|have|multiply|divide|add|subtract"
    r"|that|which|so|it|per|than)|[-+*/=(,:])\s*$",
    re.I,
)
_UNKNOWN = re.compile(
    r"(?:cannot|can't|can not|could not|couldn't|unable to) (?:be )?(?:determined?|known?|found|find"
    r"|answer(?:ed)?|solved?|sa[iy]d?|tell|told)|without knowing|not enough information"
    r"|insufficient (?:information|data)|both (?:are|answers|interpretations)|\bambiguous\b|depends on (?:how|whether)"
    r"|impossible to (?:say|tell|know|determine)|does not (?:say|tell)|doesn't (?:say|tell)|no way to (?:know|tell)",
    re.I,
)
_GIVEN = re.compile(
    r"(?:\b(?P<the>the|these|those|this|(?<!means )(?<!so )(?<!know )(?<!find )(?<!see )(?<!shows )that"
    r"|original|other)\s+"
    r"|\b(?:for|in|with|from|after|within|at|over|every|(?<!total )(?<!sum )of)\s+)"
    r"[$\u20ac\u00a3]?$",
    re.I,
)
# "14 more flowers than her sister", "4 times as heavy": the number compares, and is the whole answer
_COMPARED = re.compile(
    r"\s+(?:(?:more|fewer|less|extra)\s+(?P<noun>[A-Za-z]+\s+)?than\b"
    r"|(?P<unit>[A-Za-z]+\s+)?(?:older|younger|taller|shorter|longer|heavier|lighter|wider|deeper|faster|slower|earlier|later|sooner)\s+than\b"
    r"|times\s+(?:as|more|larger|bigger|longer|heavier|faster)\b)"
)


def stated_number(text: str) -> str:
    """The number that the concluding sentence states as a result, with what belongs to it; else ""."""
    text = conclusion(text[-MAX_END:])
    if _UNKNOWN.search(text[-400:]) or _UNFINISHED.search(text[-60:]):
        return ""
    for _ in range(5):
        last = _last(text)
        if last is None or last.rest[len(last.behind) :][:1] == "?" or unsolved(last):
            return ""
        of_several = computed(last)
        shorter = None if of_several else _without_aside(last)
        if shorter is None:
            behind = last.rest[len(last.behind) + 1 :]
            if doubted(_claim(last.before, of_several is not None)) or doubted(last.behind):
                return ""
            if taken_back(last.number, behind) is not None:
                return ""
            if of_several:
                return _value(of_several)
            return _value(last) if alone(last) or _several(last) or _bracket(last) else ""
        text = shorter
    return ""


def _claim(before: str, computed_: bool) -> str:
    """What a sentence claims: without the reason in front of "so", or the condition in front of a computed result."""
    reason = list(re.finditer(r"[,;:]\s*(?:so|thus|therefore|hence)\b", before))
    supposed = re.match(r"\W*if\b[^,]*,", before, re.I) if computed_ else None
    return before[reason[-1].end() if reason else supposed.end() if supposed else 0 :]


def _last(text: str) -> Last | None:
    number = None
    for number in NUMBER.finditer(without_labels(text)) if re.search("[0-9]", text) else ():  # noqa: B007
        pass
    if number is None:
        return None
    ends = (m.end() - 1 for m in END.finditer(text[: number.start()]))
    start = max(text.rfind("\n", 0, number.start()), *ends, -1, number.start() - MAX_SENTENCE - 1) + 1
    rest = text[number.end() :]
    stop = re.search(r"[.!?;](?=\s|$)|\n|$", rest).start()
    behind = rest[: min(stop, MAX_SENTENCE)]
    return Last(text, start, text[start : number.start()], number[0].strip(), behind, rest)


def _without_aside(last: Last) -> str | None:
    """The text before a given number, a reason or an aside, which hold no result; "" where nothing is left.

    None where the number stands in none of them.
    """
    before, start = last.before, last.start

    def up_to(at: int) -> str:
        kept = before[:at].rstrip()
        part = re.search(r"\b(?:of|than|out of)$", kept)  # "17 of the 29"
        return f"{last.text[:start]}{kept}." if NUMBER.search(kept) and not part else ""

    bracket = _bracket(last)
    if bracket and re.search(r"[A-Za-z]{3,}|\bvs\b|[0-9]\s*[-+*/]\s*[$\u20ac\u00a3]?[0-9]+\s*\)", bracket):
        return up_to(before.rfind("("))
    given = None if result_follows(before) else _GIVEN.search(before)
    if given:  # "the $90", "for 3 apples": what was known; another number may be the result
        if given["the"]:
            return up_to(given.start())
        if NUMBER.search(before[: given.start()]) and not re.search(r"=\s*[^=]*$", before):
            return ""
    against = re.search(r",\s*(?:and\s+)?not\s+[$\u20ac\u00a3]?$", before)  # "22 hours, not 24"
    if not against and _COMPARED.match(last.behind):  # "34 are aboard, 11 fewer than before"
        against = re.search(r",\s*(?:which is\s+)?[$\u20ac\u00a3]?$", before)
    if against and NUMBER.search(before[: against.start()]):
        return up_to(against.start())
    if (why := re.search(r",?\s*\b(?:because|since)\b|,\s*(?:who|whose)\b", before)) and NUMBER.search(
        before[: why.start()]
    ):
        return up_to(why.start())
    if before.endswith("{") or re.search(r"[-+*/=(,]\s*$", last.rest):  # cut off
        return ""
    if re.search(r"[A-Za-z]\(\s*$", before):  # sqrt(19), f(3)
        return ""
    return None


def _bracket(last: Last) -> str:
    """The bracket that the number stands in, "" where there is none."""
    if not re.search(r"\([^()]*$", last.before):
        return ""
    found = re.match(r"\([^()\n]*\)", last.text[last.start + last.before.rfind("(") :])
    return found[0] if found else ""


def _value(last: Last) -> str:
    """The number with what belongs to it: its sign in words, its unit, the list, pair or time that it ends."""
    sentence, value, behind = last.before, last.number, last.behind
    before = sentence.rstrip(' $*"`_(')
    if re.search(r"\bratio\b", sentence) and (ratio := re.search(r"\bis\s+([0-9]+)\s+to\s+$", sentence)):
        return f"{ratio[1]}:{value}"
    if colon := re.search(r"(?:[0-9]+(?::| : ))+$", sentence):
        half = _HALF.match(last.rest)
        return strip(colon[0] + value) + (f" {half[0].strip()}" if half else "")
    if several := _several(last):
        return several
    bracket = _bracket(last)
    if bracket and not re.search(r"[A-Za-z]{2,}", bracket) and re.search("[,=]", bracket):
        return strip(bracket if "," in bracket else bracket[1:-1])
    if more := re.match(r"\s+(?:more|additional)(?=\s+[a-z])(?!.*\bthan\b)", behind):  # "needs 3 more hours"
        behind = behind[more.end() :]
    if compared := _COMPARED.match(behind):
        return strip(f"{value} {compared['noun'] or compared['unit'] or ''}")
    if re.match(r"\s*(?:degrees?|\^\s*\\circ)?\s*[A-Za-z]{0,10}\s*below\s+(?:zero|freezing)\b", behind):
        return f"-{value}"
    if _SIGN_WORD.search(before) and not re.search(r"[0-9)}]\s*(?:minus|negative)\s*$", before, re.I):
        return strip(f"-{value}")
    step = re.search(r"\b(?:divid|multipl|increas|decreas|reduc|rais)[a-z]*\b[^.]{0,60}\bby\s*$", before, re.I)
    if step and not ("%" in value and re.search(r"[a-z] (?:increas|decreas)ed by\s*$", before)):
        return ""
    operand = re.search(r"[0-9]\s*(?:[-+*/]|\\times|\\cdot)\s*$", before)
    if _BEFORE.search(before) and (operand or "=" not in sentence) and not adds_up(before):
        return ""
    if listed := re.search(r"-?[0-9][0-9./,]*(?:\s*,\s*-?[0-9][0-9./]*)*\s*,\s*(?:and\s+|or\s+)?$", sentence):
        return "" if "or" in listed[0] else strip(listed[0] + value)
    if glued := _GLUE.match(behind):
        return upright(strip(value + glued[0]))
    return upright(strip(" ".join([value, *_unit_words(before, value, behind)])))


_HALF = re.compile(r"\s*(?:[ap]\.?\s?m\b\.?|in the (?:morning|afternoon|evening)|at night)", re.I)
_MEASURES = re.compile(r"(?:[0-9][0-9.,]*\s*[A-Za-z]+\.?(?:\s*,)?(?:\s+and)?\s+)+$")


def _several(last: Last) -> str:
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


_HAS = re.compile(r"\b(?:has|have|had|is|are|was|were|be|remains?)\b(?:\s+\w+){0,3}$")


def _unit_words(before: str, value: str, behind: str) -> list[str]:
    """The words behind a number that may be its unit, or change it; at most four."""
    words, taken = _UNIT_BEHIND.match(behind), []
    money, has = value[:1] in "$\u20ac\u00a3", _HAS.search(before)
    if money and re.match(r"\s*(?:back|left|more|less)\b(?!\s+(?:than|of))", behind):  # "$7 back"
        return []
    for word in words[0].split() if words else ():
        low = word.lower()
        if low.strip(".,") in _HARMLESS and not (low == "in" and not taken and "^" in words[0]):
            break
        if low.strip(".,") == "left" and not re.search(r"\bleft\s+of\b", behind):
            unit = taken[-1] if taken else ""
            remains = has or (taken and not known(unit)) or re.search(r"\bleft\s+(?:in|on|to|for|after)\b", behind)
            if remains and unit.lower().removesuffix("s") not in _PLACES:
                break  # "3 apples left", "44 liters left in the tank" remain; "3 steps left" is a direction
        if low == "more" and re.search(r"\bneeds?\b", before):  # "needs 48 apples more"
            break
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
        "long tall wide deep thick high heavy short away a after altogether an and are as at because both but by can "
        "each every for from go had has have he her here him his i in is it its now of on our remain remaining "
        "remains she since so that the their them then there these they this to together total was we were when "
        "where which while who will with within",
    )
)
