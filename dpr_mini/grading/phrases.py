"""Answers that a response names as such: "#### 18", "the answer is 18", without remarks and without introductions."""

from __future__ import annotations

import re

from dpr_mini.grading.notation import strip
from dpr_mini.grading.numerals import spelled_out

_HEADING = re.compile(
    r"[0-9]+\s*[.):]\s*\**[A-Za-z]|[A-Za-z ]{3,}[0-9]*\s*:|\**(?:step|part|case|solution|final|answer|conclusion"
    r"|check|verification|explanation|summary|result|method|approach|problem|question|thus|so|we|the|let|first"
    r"|now)\b",
    re.I,
)


def hashes(text: str) -> str:
    """GSM8K's "#### 1,234"; a Markdown heading is none."""
    for found in reversed(list(re.finditer(r"(?:^|\n|[ \t])####(?!#)[ \t]*([^\n]*)", text))):
        said_ = found[1].strip()
        if answer := re.match(r"\**(?:the\s+)?(?:final\s+)?answer\**\s*(?:is|:|=)\s*\**\s*(\S.*)", said_, re.I):
            return clause(strip(answer[1]))
        if said_ and not _HEADING.match(said_):
            said_ = re.split(r"(?<=[^\s.!])[.!](?=\s+[A-Z]|\s*$)", said_)[0]  # "#### 5. Hope this helps!"
            words = re.findall(r"[A-Za-z]{2,}", re.sub(r"\\[A-Za-z]+", "", said_))
            if (
                not words
                or re.match(r"[-+$\u20ac\u00a3\\(\[{.0-9]", said_)
                or (len(words) <= 2 and not text[found.end() :].strip())
            ):
                return clause(strip(said_))
    return ""


ANSWER = re.compile(
    r"(?:(?<![A-Za-z])answers?(?![A-Za-z])|\u7b54\u6848|\u7b54\u3048|\u7b54(?=[:\uff1a])|\b(?:correct|right|best)\s+(?:option|choice|letter)\b|\b(?:option"
    r"|choice)\b(?=\s*(?:is\s+)?\(?[A-J]\b)|\bresult\b(?=\s*[:=]))[\s*_:\"']{0,6}(?:(?:is|are|was|were|would be"
    r"|should be|must be|will be|comes to|equals|becomes)(?![A-Za-z])|:|=|(?<=:)|(?<=\*)|\u662f|\u4e3a)"
    r"(?:\s+(?:therefore|thus|then|simply|just|now|indeed|clearly|equal to))?[\s*_:=\"]{0,6}(?:\\\[|\\\(|\$\$)?\s*",
    re.I,
)
_DENIED_BEFORE = re.compile(
    r"\b(?:mistake|wrong to|incorrect to|not true|untrue|not the case|false that|deny|denies|doubt|nobody|no one"
    r"|hardly|never|cannot say|can't say|don't think|do not think|doesn't mean|not (?:say|conclude|think|claim"
    r"|mean|sure))\b",
    re.I,
)
_TAKEN_BACK = re.compile(
    r"(?:that's|that is|this is|it's|it is|that was)\s+(?:not (?:right|correct)|wrong|incorrect)"
    r"|\bI (?:made|have made) an? (?:mistake|error)",
    re.I,
)
_NO_VALUE = re.compile(
    r"(?:in)?(?:correct|right|wrong)\b(?!\s+(?:angle|triangle|side))|(?:indeed|also|still|valid|the same"
    r"|consistent|yes\b(?!\W*$)|clear|found|given|obtained|confirmed|verified|below|above|as follows|in the|therefore"
    r"|that)\b|no\b(?=\s*,)",
    re.I,
)
_DENIAL = re.compile(
    r"(?:definitely\s+|certainly\s+|clearly\s+)?(?:not\b|never\b|n't\b|cannot\b|neither\b|anything but)"
    r"|unlikely",
    re.I,
)
_REMARK = re.compile(
    r"\s*[(\[]\s*(?:since|because|as\b|from|which|where|i\.?e\.?|that is|check|by|using|see|rounded to the|note"
    r"|answer|final)[^()]*(?:\([^()]*\)[^()]*)*[)\]]?\s*$"
    r"|\s*[,;:-]*\s*\b(?:because|since|as (?:we|it|the|there|they|this|required|expected|desired|shown"
    r"|calculated|stated|above)|which|so that|where|due to|given that|by the|using|after|based on|making|meaning"
    r"|as)\b.*$"
    r"|\s+--?\s+[A-Za-z].*$|\s*,\s*(?:so|and so|and (?:we|it|this|that|the)|but|while|not)\b.*$"
    r"|\s+[\u2713\u2714\u2705\U0001f300-\U0001faff].*$",
    re.I | re.S,
)
_ASIDE = re.compile(
    r"\s*\((?=[^()]*(?<![\\A-Za-z])[A-Za-z]{3}[^()]*\s)(?P<inside>[^()]*)\)\s*$|\s*\((?P<word>[a-z]+[- ][a-z -]+)\)\s*$"
)
_CHANGES = re.compile(
    r"\b(?:or|not|most|least|more|less|fewer|negative|minus|plus|below|above|under|over|thousands?|millions?"
    r"|billions?|hundreds?|dozens?|percent|approx\w*|about|roughly|am|pm|left|right|maybe|perhaps|but|if|unless"
    r"|except|wrong|incorrect|times|per|squared|cubed|mod|base)\b|%|[ap]\.m",
    re.I,
)
_INTRODUCED = re.compile(
    r"^(?:\$?\\?[A-Za-z][\w\\(){}$ '-]{0,80}?|[A-Za-z][^=:]{0,80}?)(?:\s+(?:is|are|was|were|equals?|has|have"
    r"|comes to|becomes|costs?|gives|must be)(?:\s+(?:equal to|exactly|simply|just|therefore|thus))?|\s*:)\s+(?=\S)"
    r"(?!(?:is|are|was|were|to)\b)",
    re.I,
)


# "3/4 of 60, which is 45": the value behind the calculation
_THAT_IS = re.compile(
    r"^(?P<head>.*[0-9].*?),?\s+(?:i\.e\.,?|which (?:is|equals|gives|makes|comes to)(?: equal to)?|that is,?|namely"
    r"|or simply)"
    r"\s+(?=[-$\\(]*[0-9])(?P<value>.+)$",
    re.I | re.S,
)


def clause(text: str) -> str:
    """An answer without the remarks behind it and the words that only introduce it; the right side of a
    calculation."""
    if (tail := re.search(r"[\"'}\]\s]+$", text)) and text.count("}") > text.count("{"):
        text = strip(
            text[: tail.start()] + "}" * max(0, text[: tail.start()].count("{") - text[: tail.start()].count("}"))
        )
    if (spelt := re.search(r"\s*\(([a-z -]+)\)$", text)) and spelled_out(spelt[1]) is not None:
        text = text[: spelt.start()]  # 12 (twelve)
    text = text.replace("`", "") if text.count("`") == 1 else text
    if (named := _THAT_IS.match(text)) and not re.fullmatch(r"[-$\\(]*[0-9.,/]+\s*[a-z]*", named["head"].strip(), re.I):
        text = named["value"]
    for _ in range(3):
        aside = _ASIDE.search(text)
        if aside and (not _CHANGES.search(aside[0]) or re.match(r"\s*\(not\s", aside[0])):
            shorter = text[: aside.start()]
        else:
            shorter = _REMARK.sub("", text)
        if not shorter.strip() or shorter == text:
            break
        text = strip(shorter)
    text = re.sub(r",?\s+and$", "", text)
    text = re.sub(r"^[\u4e00-\u9fff]{1,12}(?:\u662f|\u4e3a|\u6709|\u7b49\u4e8e)\s*(?=[^\u4e00-\u9fff])", "", text)
    return re.sub(r"^at\s+(?=[$\\(])", "", introduced(text))


def introduced(text: str) -> str:
    r"""What "the total is 31", "largest value: 6" or "the smallest $m$ is 28" says; a limit or a denial stays."""
    found = _INTRODUCED.match(text)
    if (
        not found
        or re.fullmatch(r"\s*[0-9].*", text)
        or re.search(r"(?<![\\A-Za-z])(?:not|no|never)\b", found[0], re.I)
    ):
        return text
    head = found[0]
    if re.search(r"\b(?:or|if|unless|than|half|twice|minus|negative|and|less|more|maybe)\b", head, re.I) or re.search(
        r"[0-9]", re.sub(r"\$[^$]*\$", "", head)
    ):
        return text
    return strip(text[found.end() :])


def phrase(text: str) -> tuple[str, str] | None:
    """(x, what follows) of the last "answer is x" whose x is a value; x is "" where the last one denies; or None."""
    for match in reversed(list(ANSWER.finditer(text))):
        rest = text[match.end() : match.end() + 400]
        bullets = re.match(r"(?:\s*[-*\u2022]\s+(?=[-0-9$\\(])[^\n]{1,60}(?:\n|$))+", text[match.end() - 1 :])
        if bullets and "\n" in match[0]:
            listed = [re.sub(r"^[-*\u2022]\s+", "", line.strip()) for line in bullets[0].strip().split("\n")]
            return ", ".join(strip(line) for line in listed if line), text[match.end() - 1 + bullets.end() :]
        end = re.search(
            r"(?:(?<!\bi\.e)(?<!\be\.g)[.!?]|;(?!\s*-?[0-9$\\(]))(?=\s|\*|$|\"|\))|\n|\\\]|\\\)(?!\s*(?:or\b|and\b|,\s*(?:or\b|and\b|[-$0-9(\\])))",
            rest,
        )
        if (
            end
            and end[0] == "!"
            and re.match(r".*[0-9)}]$", rest[: end.start()], re.S)
            and re.match(r"!\s*[^\s]|!\.", rest[end.start() :])
        ):
            end = re.search(r"[.](?=\s|\*|$)|\n", rest)
        words = rest[: end.start()] if end else rest
        if re.search(r"\?\s*$", rest[: end.end()] if end else "") or re.search(
            r"\bif\b[^.\n]{0,60}$|\bwhether\b[^.\n]{0,40}$", text[max(0, match.start() - 60) : match.start()], re.I
        ):
            continue
        words = strip(words)
        if _DENIAL.match(words):
            if instead := re.search(r",?\s+but\s+(?:rather\s+|instead\s+|it is\s+|it's\s+)?(?=[-$\\0-9(])", words):
                return upright(clause(words[instead.end() :])), text[match.end() + (end.end() if end else len(rest)) :]
            return "", text[match.end() + (end.end() if end else 0) :]
        before = re.split(r"[.!?\n,:;]", text[max(0, match.start() - 80) : match.start()])[-1]
        if _DENIED_BEFORE.search(before):
            return "", text[match.end() + (end.end() if end else len(rest)) :]
        before = before[-30:]
        if re.search(
            r"\b(?:wrong|incorrect|not an?|not the|previous|first|earlier|initial|student'?s?|his|her|their|my)\s+$",
            before,
            re.I,
        ) and not re.search(r"\bmy\s+$", before, re.I):
            continue
        if _TAKEN_BACK.search(rest[len(words) :] if end else ""):
            return "", text[match.end() + end.end() :]
        if not words or _NO_VALUE.match(words):
            continue
        return upright(clause(words)), text[match.end() + (end.end() if end else len(rest)) :]
    return None


def upright(text: str) -> str:
    """In prose a single letter behind a number is a unit ("5 m")."""
    text = re.sub(r"(?<=[0-9])\s*(k?m|[cm]m|ft|in)\s?\^\s?\{?([23])\}?$", r" \\text{ \1}^\2", text)
    return re.sub(r"(?<=[0-9}])\s+([mgshlL])$", r" \\text{ \1}", text)
