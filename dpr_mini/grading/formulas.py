"""The formula or the words that a response ends in, where neither a box nor a phrase names its answer."""

from __future__ import annotations

import re

from dpr_mini.grading.concluding import END, conclusion
from dpr_mini.grading.doubt import doubted
from dpr_mini.grading.notation import strip
from dpr_mini.grading.numerals import NUMBER, NUMBER_WORDS, spelled_out
from dpr_mini.grading.phrases import upright

MAX_END = 20_000  # characters at the end of a response in which its result is looked for
_FOR_ALL = re.compile(r"\s*,?\s*\b(?:for|where)\s+(?:all|every|any|each)\b[^$\n]{0,40}\$[^$\n]{1,30}\$\s*\.?\s*$")
_SPAN = re.compile(r"\$\$?([^$\n]{1,200})\$|\\[(\[]([^$]{1,200}?)\\[)\]]")


def last_formula(text: str) -> str:
    """The last formula of the text, where no number follows; formulas joined by or, and, a comma are one answer."""
    text = conclusion(text[-MAX_END:].replace(r"\$", ""))  # $\$21$
    text, number = text[:-120] + _FOR_ALL.sub("", text[-120:]), None
    for number in NUMBER.finditer(text) if re.search("[0-9]", text) else ():  # noqa: B007
        pass
    spans = list(_SPAN.finditer(text))
    if not spans:
        return ""
    last = spans[-1]
    inside = strip(last[1] or last[2])
    prose = re.search(r"(?<![\\A-Za-z{])[A-Za-z]{3,}", inside)
    if (number is not None and number.start() >= last.end()) or prose or not inside or inside[-1] in "+-*/=,":
        return ""
    starts = [m.end() for m in END.finditer(text[: last.start()])]
    sentence = text[starts[-1] if starts else 0 : last.start()]
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


# letters alone, numbers, roots and signs, at the end of the last sentence, behind "=", "is" or ":"
_PLAIN = re.compile(
    r"(?:=|:|\b(?:is|are|equals?|gives?|get)\b)\s*(?P<formula>(?:\\(?:sqrt|pi|frac|cdot|times|infty|pm|cup)(?![A-Za-z])|\bsqrt\b"
    r"|\bpi\b|(?<![A-Za-z])[a-z](?![A-Za-z])|[0-9.,+*/^(){}\[\] -])+)$"
)


def plain_formula(text: str) -> str:
    """The formula without dollar signs that ends the last sentence: "So p(x) = 3x^2 + 5."; "" without one."""
    last = re.split(r"[.!?;]\s|\n", conclusion(text[-MAX_END:]).rstrip(" .*"))[-1][-300:]
    found = _PLAIN.search(last)
    if not found or doubted(last):
        return ""
    formula = upright(strip(found["formula"]))
    several = re.search(r"(?<=[^\s(])\s*[-+*/^]", formula)
    if not several or not re.search(r"[a-z]", formula) or re.search(r"[-+*/^(,]$", formula):
        return ""
    return formula


# "one" that counts nothing
_PRONOUN = re.compile(
    r"\b(?:this|that|no|each|every|the|which|any|some|another|like|first|last|only) one\b"
    r"|\bone (?:of|another|can|could|must|should|would|may|has to|way|more)\b"
)


def stated_words(text: str) -> str:
    """What the last sentence says in words ("The ball is red."), in a text without numbers."""
    sentences = [s for s in re.split(r"(?<=[.!?])\s+|\n", text.strip()[-MAX_END:]) if s.strip()]
    if not sentences or re.search("[0-9]", sentences[-1]) or doubted(sentences[-1]):
        return ""
    said = _PRONOUN.sub(" ", sentences[-1].lower())
    numerals = [w[0] for w in NUMBER_WORDS.finditer(said) if spelled_out(w[0]) is not None]
    if len(numerals) == 1 and not re.search(
        r"\b(?:half|halves|thirds?|quarters?|and|or|the)\s+" + numerals[0], sentences[-1], re.I
    ):
        return numerals[0]
    concluded = re.fullmatch(
        r"\W*(?:[Ss]o|[Tt]hus|[Tt]herefore|[Hh]ence)\b.{1,100}\b(?:is|are|was|be|falls?)\s+(?:[a-z]+\s+)?(?:on\s+)?"
        r"([A-Z][a-z]*)[.!]?\W*",
        sentences[-1],
    )
    if concluded:
        return concluded[1]
    if re.search("[0-9]", text):
        return ""
    found = re.fullmatch(
        r".{1,120}\b(?:is|are|was)\s+((?:an?\s+|the\s+)?[A-Za-z'-]+(?:\s[A-Za-z'-]+)?)[.!]?", sentences[-1].strip()
    )
    return strip(found[1]) if found else ""
