r"""Find the answer in a response, and say how it was found. Pure functions on strings; every pattern is linear.

What is said is the whole of what is said: nothing that changes it is cut off ("3\pi", "3 or 5", "-\boxed{13}"), and
nothing that only comments on it becomes part of it ("7 (since 3+4=7)"). What is thought, denied, doubted or only asked
is no answer.
"""

from __future__ import annotations

import re

from dpr_mini.grading.boxes import boxed
from dpr_mini.grading.concluding import taken_back
from dpr_mini.grading.formulas import last_formula, plain_formula, stated_words
from dpr_mini.grading.notation import spelled, strip
from dpr_mini.grading.numerals import NUMBER
from dpr_mini.grading.phrases import ANSWER, clause, hashes, phrase, upright
from dpr_mini.grading.stated import stated_number

MAX_TEXT = 200_000  # characters of a response that are searched, from its end

_THINK = re.compile(r"</?think(?:ing)?>", re.I)
_TAG = re.compile(r"<(/?)(?:final_?answer|answer|result|final)>", re.I)
# ASCII without a box, a formula or a space in it that `spelled` would read
_ALONE = re.compile(r"\\boxed\{((?:[!-#%-z|~ ]|\{(?:[!-#%-z|~ ]|\{[!-#%-z|~ ]*\})*\})*)\}[.]?")
_HTML = re.compile(r"</?(?:b|i|u|strong|em|br|p|code|span|div|center)\s*/?>", re.I)
# "The family spent $67 at the movies", "6 spiders have 48 legs"
_SENTENCE = re.compile(
    r"(?:[A-Za-z0-9' ]{2,40}\s(?:have|has|had|is|are|was|were|costs?|earns?|needs?|gets?|makes?|spends?"
    r"|pays?|travels?|weighs?|takes?)|(?-i:The|A|An|Each|All|It|They|He|She|There|We|You|[A-Z][a-z]+)(?:\s(?!of|half|twice"
    r"|double|minus|plus|times|not|or|negative|than|by|over)[A-Za-z'-]+){1,10})\s[$\u20ac\u00a3]?(?=[0-9])",
    re.I,
)


def extract(text: str) -> tuple[str, str]:
    r"""The final answer in a response, and how it was found.

    Thoughts in <think> are left out. Then, in this order: what <answer> holds ("tag"), the last \boxed{} with the
    formula around it ("boxed"; neighbours joined by commas or words are one list), GSM8K's "#### x" ("hashes"), a text
    that is nothing but an answer ("bare"), the last "answer is x" ("phrase"), the last $formula$ that no number
    follows ("math"), the last number, where its sentence states it ("last_number"). ("", "none") where there is
    nothing, ("", "denied") where the last thing said of the answer is what it is not.
    """
    if len(text) < 500 and (alone := _ALONE.fullmatch(text)):  # nothing but a box, as bench/grade.py and golds have it
        return strip(alone[1]), "boxed"
    text = _plain(said(spelled(text[-MAX_TEXT:])))
    tags = list(_TAG.finditer(text))
    if opened := [t for t in tags if not t[1]]:
        start = opened[-1]
        end = next((t.start() for t in tags if t[1] and t.start() > start.start()), len(text))
        inside = text[start.end() : end].strip()
        if inside:
            found, how = extract_plain(inside)
            if how in ("none", "last_number", "math"):  # words, pairs: all of it
                whole = clause(strip(inside)) if "\n" not in inside else found
                if how == "last_number" and _SENTENCE.match(whole):
                    whole = found
                return whole, "tag" if whole else "none"
            return found, "tag" if found else how
    return extract_plain(text)


_HEADED = re.compile(r"^[ \t]*#{1,6}[ \t]*((?:the[ \t]+)?(?:final[ \t]+)?answer)[ \t]*:?[ \t]*$", re.I | re.M)
_STRUCK = re.compile(r"~~[^~\n]{1,200}~~")
_CHAT = re.compile(r"<\|[^|<>\s]{1,40}\|>|</?s>|<(?:eos|end_of_turn|start_of_turn)>|\[/?INST\]")
_BOLD = re.compile(r"(?<![\w)\]}*])(\*\*\*|\*\*|__)(?=[^\s*_])([^*_\n]{1,200}?)(?<=[^\s*_])\1(?![\w(*])")
_QUOTED = re.compile(r"(?m)^[ \t]*>(?:[ \t]|$)")


_IDIOM = re.compile(r"\bif (?:I'm|I am|we're|we are) (?:not mistaken|right|correct)\b,?", re.I)
_TURN = re.compile(
    r"\n[ \t]{0,8}(?:(User|Human|#{2,4}\s*(?:Instruction|Input|Human|User|Question))|Question|Q|Problem)\s*:(?=\s)"
)
_GOODBYE = re.compile(
    r"(?:^|(?<=[.!?\n]))\s*(?:I hope (?:this|that|it)|Let me know|Feel free|Would you like"
    r"|Do you want|Is there anything|Please let)"
    r"\b[^\n]*\s*$",
    re.I,
)


def _plain(text: str) -> str:
    """Without chat tokens, bold marks and quote signs: they are no part of what is said."""
    text = _HTML.sub(" ", text).replace("&gt;", ">").replace("&lt;", "<").replace("&amp;", "&")
    text = _QUOTED.sub("", _STRUCK.sub("", _BOLD.sub(r"\2", _CHAT.sub("", text)))).replace(r"\\boxed", r"\boxed")
    text = _IDIOM.sub("", _HEADED.sub(r"\1:", text))
    for turn in _TURN.finditer(text):  # it goes on as somebody else
        before = text[: turn.start()]
        if turn[1] or ANSWER.search(before) or "####" in before or stated_number(before):
            text = text[: turn.start()]
            break
    while found := _GOODBYE.search(text[-400:]):
        text = text[: len(text) - min(len(text), 400) + found.start()]
    return text


def said(text: str) -> str:
    """The text without its thoughts: what stands behind the last </think>, or before a <think> that never closes."""
    marks = list(_THINK.finditer(text))
    if not marks:
        return text
    last = marks[-1]
    return text[last.end() :] if last[0][1] == "/" else text[: last.start()]


def extract_plain(text: str) -> tuple[str, str]:
    """`extract` where thoughts and tags are out of the way."""
    if (box := boxed(text)) is not None:
        behind = text[text.rindex("box") + 3 :]
        return _unless_taken_back(box, "boxed", behind.partition("}")[2]) if box else ("", "denied")
    if found := hashes(text):
        return _unless_taken_back(found, "hashes", text.rpartition("####")[2].partition("\n")[2])
    if _is_bare(text):
        return _bare(text), "bare"
    if (named := phrase(text)) is not None:
        if named[0]:
            if _SENTENCE.match(named[0]) and (result := stated_number(f"{named[0]}.")):
                return _unless_taken_back(result, "phrase", named[1])
            return _unless_taken_back(named[0], "phrase", named[1])
        text = named[1]  # denied: what follows may say it
        if not (stated := stated_number(text)):
            return "", "denied"
        return stated, "last_number"
    if found := last_formula(text):
        return found, "math"
    if found := plain_formula(text):
        return found, "math"
    if found := stated_words(text):
        return found, "last_words"
    if found := stated_number(text):
        return found, "last_number"
    return "", "none"


def _unless_taken_back(found: str, how: str, behind: str) -> tuple[str, str]:
    """The answer, unless the text behind it takes it back; then what is said after that."""
    if (end := taken_back(found, behind)) is None:
        return found, how
    instead, how = extract_plain(behind[end:])
    return (instead, how) if instead else ("", "denied")


def first_result(text: str) -> str:
    """The first number that a text states as a result (after "=", "is", "equals" ... or "answer:"), else the first.

    Scored beside `last_number` it separates format from arithmetic: an answer that is right at once and then
    rambles is right by this and wrong by the other.
    """
    text = spelled(text[:MAX_TEXT])
    stated = re.search(rf"(?:=|\b(?:is|are|equals?|gives|makes|answer)\b:?)\s*[\"$*(\\]*({NUMBER.pattern})", text, re.I)
    found = stated[1] if stated else (m[0] if (m := NUMBER.search(text)) else "")
    return strip(found)


def last_number(text: str) -> str:
    """The last number in a text, "" if none."""
    number = None
    for number in NUMBER.finditer(spelled(text[-MAX_TEXT:])):  # noqa: B007
        pass
    return number[0].strip() if number else ""


def _bare(text: str) -> str:
    text = strip(re.sub(r"^(?:=>?|->|\\to(?![a-z])|\\Rightarrow(?![a-z]))\s*", "", text.strip()))
    text = re.sub(r"^[0-9]{1,2}\.\s+(?=[^=]*=)", "", text)  # a numbered line
    text = (
        re.split(r"\\(?:Rightarrow|implies|Longrightarrow|to)(?![a-zA-Z])|=>|\u21d2|\u2192", text)[-1].strip() or text
    )
    written = re.search(r"\$|\\(?!times(?![A-Za-z]))", text)  # 4.8 \times 10^{-3} m is prose
    return clause(text) if written else upright(clause(text))


def _is_bare(text: str) -> bool:
    text = text.strip()
    if not text or len(text) > 200 or "\n" in text or ANSWER.search(text):
        return False
    plain = re.sub(r"\\(?:text|textbf|mbox|mathrm)\s*\{[^{}]*\}|\\[A-Za-z]+|\$", " ", text)
    plain = re.sub(r"\b(?:sqrt|sin|cos|tan|log|ln|exp|pi)(?=\W|$)", " ", plain)
    words = re.findall(r"[^\W\d_]{2,}", plain)
    if not any(c.isdigit() for c in plain):
        return len(words) <= 4
    if re.search(r"\b(?:so|thus|hence|then|therefore|because|since)\b", plain, re.I):
        return False
    if any(c.isalpha() and ord(c) > 0x3FF for c in plain) and len(plain) > 12:
        return False
    if {"is", "are", "equals", "gives", "was", "not", "asked", "must"} & set(words):
        return False
    return not words or (len(words) <= 2 and not re.match(r"[\W_]*[^\W\d_]{2,}", plain) and plain.count(".") <= 1)
