"""The result that a response states without calling it the answer: its last formula, number or word.

Only where the sentence states it: not denied, doubted, asked for, or one operand of a calculation that is only named.
"""

from __future__ import annotations

import re

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
    r"|\bguess\b|\bunless\b|\bunsure\b"
    r"|\basked\b|\bquestion\b|\bproblem (?:asks|says|states)\b|\bhow (?:many|much|far|old|long)\b|\bwhat is\b"
    r"|(?<!we )(?<!we can )\b(?:find|compute|calculate|determine|evaluate)\b|\bneed to\b|\bwant to\b"
    r"|\btoo (?:small|large|big|low|high|many|few)\b|\bwrong\b|\bincorrect\b|\bimpossible\b|\bif\b|\bsuppose\b"
    r"|\bassume\b|\bguessing\b|\binstead of\b|\brather than\b|\bmistake\b|\bunlikely\b|\bneither\b|\bstep\b"
    r"|\btry\b|\btrying\b|\blet's\b|\blet us\b|\bfirst\b|\bnobody\b|\bno one\b|\bhardly\b|\bdeny\b|\bdenies\b"
    r"|\bwould call\b|\bdivided by\b(?!.*(?:=|\bis\b|equals))|\?",
    re.I,
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
    return bool(_DOUBT.search(sentence))


def stated_number(text: str) -> str:
    """The last number of the text, with what belongs to it, if its sentence states it as a result; else ""."""
    text, number = text[-MAX_END:], None
    for number in NUMBER.finditer(text) if _DIGIT.search(text) else ():  # noqa: B007
        pass
    if number is None:
        return ""
    start = (
        max(
            text.rfind("\n", 0, number.start()),
            *(m.end() - 1 for m in re.finditer(r"[.!?;](?=\s)", text[: number.start()])),
            -1,
        )
        + 1
    )
    stop = re.search(r"[.!?;](?=\s|$)|\n|$", text[number.end() :])
    start = max(start, number.start() - MAX_SENTENCE)
    sentence, behind = text[start : number.start()], text[number.end() : number.end() + min(stop.start(), MAX_SENTENCE)]
    if doubted(sentence) or doubted(behind) or text[number.end() + stop.start() :][:1] == "?":
        return ""
    if _UNKNOWN.search(text[-400:]):
        return ""
    if given := _GIVEN.search(sentence):  # "the $90", "for 3 apples": what was known; another number may be the result
        earlier = sentence[: given.start()]
        if given["the"]:
            return stated_number(text[: start + given.start()] + ".") if NUMBER.search(earlier) else ""
        if NUMBER.search(earlier) and not re.search(r"=\s*[^=]*$", sentence):
            return ""
    if (why := re.search(r",?\s*\b(?:because|since)\b", sentence)) and NUMBER.search(sentence[: why.start()]):
        return stated_number(text[: start + why.start()] + ".")
    if colon := re.search(r"(?:[0-9]+(?::| : ))+$", sentence):
        half = re.match(
            r"\s*(?:[ap]\.?\s?m\b\.?|in the (?:morning|afternoon|evening)|at night)", text[number.end() :], re.I
        )
        return strip(colon[0] + number[0].strip()) + (f" {half[0].strip()}" if half else "")
    before = sentence.rstrip(' $*"`_(')
    if before.endswith("{") or re.search(r"[-+*/=(,]\s*$", text[number.end() :]):  # cut off
        return ""
    if measures := re.search(r"(?:[0-9][0-9.,]*\s*[A-Za-z]+\.?(?:\s*,)?(?:\s+and)?\s+)+$", sentence):
        pairs = re.findall(r"([0-9][0-9.,]*)\s*([A-Za-z]+)", measures[0])
        last = re.match(r"\s*([A-Za-z]+)", behind)
        if last and all(known(unit) for _, unit in pairs) and known(last[1]):
            if {unit_name(unit) for _, unit in pairs} == {unit_name(last[1])}:
                return ", ".join([*(value.rstrip(".,") for value, _ in pairs), f"{number[0].strip()} {last[1]}"])
            return strip(measures[0] + number[0].strip() + " " + last[1])
    if (listed := _LIST_BEFORE.search(sentence)) and not re.search(r"\bbetween\s*$", sentence[: listed.start()]):
        unit = re.match(r"\s+[A-Za-z]+", behind)
        return (
            strip(f"{listed['list']}, {number[0].strip()}")
            if not unit or unit[0].strip() in _HARMLESS
            else strip(f"{listed['list']}, {number[0].strip()}{unit[0]}")
        )
    if sentence.rstrip().endswith("(") or re.search(r"\([^()]*$", sentence):
        opening = sentence.rfind("(")
        pair = re.match(r"\([^()\n]*\)", text[start + opening :])
        if pair and "," in pair[0] and not re.search(r"[A-Za-z]{2,}", pair[0]):
            return strip(pair[0])
        if pair and "=" in pair[0] and not re.search(r"[A-Za-z]{2,}", pair[0]):
            return strip(pair[0][1:-1])
        if re.search(r"[A-Za-z]\(\s*$", sentence):  # sqrt(19), f(3)
            return ""
        if pair and re.search(r"[A-Za-z]{3,}|=", pair[0]):  # an aside
            return stated_number(text[: start + opening].rstrip() + ".") if NUMBER.search(sentence[:opening]) else ""
    value = number[0].strip()
    if compared := _COMPARED.match(behind):
        return strip(f"{value} {compared['noun'] or ''}")
    if re.match(r"\s*(?:degrees?|\^\s*\\circ)?\s*[A-Za-z]{0,10}\s*below\s+(?:zero|freezing)\b", behind):
        return f"-{value}"
    if _SIGN_WORD.search(before) and not re.search(r"[0-9)}]\s*(?:minus|negative)\s*$", before, re.I):
        return strip(f"-{value}")
    if re.search(r"\b(?:divid|multipl|increas|decreas|reduc|rais)[a-z]*\b[^.]{0,60}\bby\s*$", before, re.I):
        return ""
    if _BEFORE.search(before):
        equals = re.search(r"=[^=]*$", sentence)
        if not equals or re.search(r"[0-9]\s*(?:[-+*/]|\\times|\\cdot)\s*$", before):
            return ""
    several = re.search(r"(?:-?[0-9][0-9./,]*)(?:\s*,\s*-?[0-9][0-9./]*)*\s*,\s*(?:and\s+|or\s+)?$", sentence)
    if several:
        return "" if "or" in several[0] else strip(several[0] + value)
    if glued := _GLUE.match(behind):
        return upright(strip(value + glued[0]))
    words = _UNIT_BEHIND.match(behind)
    taken: list[str] = []
    for word in words[0].split() if words else ():
        if word.lower().strip(".,") in _HARMLESS and not (word.lower() == "in" and not taken and "^" in words[0]):
            break
        if (
            word.lower() == "left"
            and taken
            and taken[-1].lower().removesuffix("s") not in _PLACES
            and not known(taken[-1])
        ):
            break  # "3 apples left" remain; "3 steps left" is a direction
        if (
            taken
            and word.lower() in ("before", "after", "until")
            and re.search(rf"\b{word}\s+(?:s?he|they|it|the|we|I)\b", behind)
        ):
            break
        if taken and word.lower().endswith("ed") and word.lower() not in VALUE_WORDS:
            break  # "58 people visited"
        taken.append(word)
    return upright(strip(" ".join([value, *taken[:4]])))


_PLACES = {
    "unit",
    "step",
    "block",
    "square",
    "space",
    "place",
    "position",
    "row",
    "column",
    "street",
    "door",
    "seat",
    "point",
}
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
