r"""Find the answer in a response, and say how it was found. Pure functions on strings; every pattern is linear.

What is said is the whole of what is said: nothing that changes it is cut off ("3\pi", "3 or 5", "-\boxed{13}"), and
nothing that only comments on it becomes part of it ("7 (since 3+4=7)"). What is thought, denied, doubted or only asked
is no answer.
"""

from __future__ import annotations

import re

from dpr_mini.grading.notation import spelled, strip
from dpr_mini.grading.units import known

MAX_TEXT = 200_000  # characters of a response that are searched, from its end

_INT = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)"
_DEC = rf"(?:{_INT}(?:\.[0-9]+)?|\.[0-9]+)"
_EXP = r"(?:[eE][-+]?[0-9]{1,4}(?![0-9A-Za-z.]))?"
_FRAC = r"\\[dtc]?frac\s*(?:\{-?[0-9]+\}\s*\{[0-9]+\}|[0-9]\s*[0-9])"
# Digits inside a word or an identifier ("H2O", "x_2") are no number; a minus after an operand is an operator.
NUMBER = re.compile(
    rf"(?:(?<=[=:(]\s)-\s|(?<![\w)\]}}.])-)?(?<![A-Za-z0-9_.])(?:\\?[$\u20ac\u00a3]\s?)?-?"
    rf"(?:{_FRAC}|{_DEC}{_EXP}(?:\s?{_FRAC}|\s[0-9]+\s?/\s?[0-9]+|\s?/\s?{_DEC}(?!/|\.?[0-9]))?)(?:\s?\\?%)?"
)

_THINK = re.compile(r"</?think(?:ing)?>", re.I)
_TAG = re.compile(r"<(/?)answer>", re.I)


def extract(text: str) -> tuple[str, str]:
    r"""The final answer in a response, and how it was found.

    Thoughts in <think> are left out. Then, in this order: what <answer> holds ("tag"), the last \boxed{} with the
    formula around it ("boxed"; neighbours joined by commas or words are one list), GSM8K's "#### x" ("hashes"), a text
    that is nothing but an answer ("bare"), the last "answer is x" ("phrase"), the last $formula$ that no number
    follows ("math"), the last number, where its sentence states it ("last_number"). ("", "none") where there is
    nothing, ("", "denied") where the last thing said of the answer is what it is not.
    """
    text = _plain(said(spelled(text[-MAX_TEXT:])))
    tags = list(_TAG.finditer(text))
    if opened := [t for t in tags if not t[1]]:
        start = opened[-1]
        end = next((t.start() for t in tags if t[1] and t.start() > start.start()), len(text))
        inside = text[start.end() : end].strip()
        if inside:
            found, how = extract_plain(inside)
            if how in ("none", "last_number", "math"):  # words, pairs: all of it
                whole = _clause(strip(inside)) if "\n" not in inside else found
                return whole, "tag" if whole else "none"
            return found, "tag" if found else how
    return extract_plain(text)


_CHAT = re.compile(r"<\|[^|<>\s]{1,40}\|>|</?s>|<(?:eos|end_of_turn|start_of_turn)>|\[/?INST\]")
_BOLD = re.compile(r"(?<![\w)\]}*])\*\*(?=[^\s*])([^*\n]{1,200}?)(?<=[^\s*])\*\*(?![\w(*])")
_QUOTED = re.compile(r"(?m)^[ \t]*>(?:[ \t]|$)")


def _plain(text: str) -> str:
    """Without chat tokens, bold marks and quote signs: they are no part of what is said."""
    return _QUOTED.sub("", _BOLD.sub(r"\1", _CHAT.sub("", text)))


def said(text: str) -> str:
    """The text without its thoughts: what stands behind the last </think>, or before a <think> that never closes."""
    marks = list(_THINK.finditer(text))
    if not marks:
        return text
    last = marks[-1]
    return text[last.end() :] if last[0][1] == "/" else text[: last.start()]


def extract_plain(text: str) -> tuple[str, str]:
    """`extract` where thoughts and tags are out of the way."""
    if (boxed := _boxed(text)) is not None:
        return boxed, "boxed" if boxed else "denied"
    if found := _hashes(text):
        return found, "hashes"
    if _is_bare(text):
        return _bare(text), "bare"
    if (phrase := _phrase(text)) is not None:
        if phrase[0]:
            return phrase[0], "phrase"
        text = phrase[1]  # denied: what follows may say it
        if not (stated := _last_number(text)):
            return "", "denied"
        return stated, "last_number"
    if found := _math(text):
        return found, "math"
    if found := _last_number(text):
        return found, "last_number"
    found = _last_words(text)
    return (found, "last_words") if found else ("", "none")


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


# ---------------------------------------------------------------- boxes

_DENIES = re.compile(r"(?:\bnot|n't|\bnever|\bcannot|\\not|\\neq?)(?:\s+(?:equal|equals|be|to|the|answer|is|=))*[\s:$({=]*$", re.I)
_JOINER = re.compile(
    r"(?:[\s$&]|\\[,;:! ]|\\q?quad(?![A-Za-z])|\\\(|\\\)|\*\*|(?P<join>,|;|\bor\b|\band\b|\bas well as\b|\\lor|\\text\{\s*(?:and|or|,)\s*\})|\\left|\\right"
    r"|\\?[A-Za-z]+(?:_\{?\w{1,3}\}?)?\s*=)*"
)
_NAME_BEFORE = re.compile(r"(\\?[A-Za-z]+(?:_\{?\w{1,3}\}?)?)\s*=\s*[\s${]*$")


def _boxed(text: str) -> str | None:
    """What the last box says, with what belongs to it; None without a box, "" where it is denied.

    One pass with a stack: linear even for thousands of boxes that never close.
    """
    stack: list[tuple[bool, int, int]] = []
    closed: list[tuple[int, int, str]] = []
    for token in re.finditer(r"\\[{}\\]|\\f?boxed\s*\{|[{}]", text):
        if token[0] == "}":
            if stack:
                is_box, start, inside = stack.pop()
                if is_box:
                    while closed and closed[-1][0] > start:  # a box inside this one is part of this one
                        closed.pop()
                    closed.append((start, token.end(), text[inside : token.start()]))
        elif token[0][-1] == "{" and token[0] != r"\{":
            stack.append((len(token[0]) > 1, token.start(), token.end()))
    closed = [c for c in closed if c[2].strip()]
    if not closed:
        bare = None
        for bare in re.finditer(r"\\boxed\s+([0-9A-Za-z]+)", text):  # noqa: B007
            pass
        return bare[1] if bare else None
    group = [closed[-1]]
    for box in reversed(closed[:-1]):  # \boxed{1}, \boxed{2} and $x=\boxed{3}$: one list
        between = text[box[1] : group[0][0]][:80]
        joined = _JOINER.fullmatch(between)
        if not joined or not re.search(r",|;|\bor\b|\band\b|\bas well\b|\\lor|\\q?quad", between):
            break
        group.insert(0, box)
    before = text[max(0, group[0][0] - 60) : group[0][0]]
    if _DENIES.search(before.split("\n")[-1]):
        return ""
    if len(group) == 1:
        return _in_context(text, *group[0])
    names = [_NAME_BEFORE.search(text[max(0, b[0] - 30) : b[0]]) for b in group]
    values = [strip(b[2]) for b in group]
    if all(names) and len({n[1].split("_")[0] for n in names}) > 1:
        return ", ".join(f"{n[1]}={v}" for n, v in zip(names, values, strict=True))
    return ", ".join(dict.fromkeys(values))


_OPEN = re.compile(r"\$\$?|\\\(|\\\[|\\begin\s*\{[a-z*]+\}(?:\{[^{}]*\})?|\\\\|\n\s*\n|&")
_CLOSE = re.compile(r"\$\$?|\\\)|\\\]|\\end\s*\{[a-z*]+\}|\\\\|\n\s*\n")
_LEFT_END = re.compile(
    r"=|\\(?:implies|Rightarrow|Longrightarrow|rightarrow|to|therefore|iff|Leftrightarrow|approx|equiv|colon|quad|qquad|in|cong|simeq|sim)(?![A-Za-z])"
    r"|:|=>|\\text\s*\{[^{}]*\}|\\(?:mathbf|textbf|mathrm)\s*\{[^{}]*(?:[Aa]nswer|[Tt]herefore)[^{}]*\}|[,;]|[A-Za-z]{3,}\s"
)
_RELATION = re.compile(r"(\\(?:neq?|not)(?![A-Za-z])\s*=?|!=)|(<=?|>=?|\\(?:l|g)(?:eq?|t)(?:slant|q)?(?![A-Za-z]))")


def _in_context(text: str, start: int, end: int, inside: str) -> str:
    """The box's content with sign, factor, power, unit and relation that stand around it in its formula."""
    inside = strip(inside)
    opened = list(_OPEN.finditer(text, max(0, start - 400), start))
    in_math = bool(opened) and (opened[-1][0] not in ("$", "$$") or _odd_dollars(text, start)) and "\n" not in opened[-1][0]
    if in_math:
        left = text[opened[-1].end() : start]
        close = _CLOSE.search(text, end, end + 400)
        right = text[end : close.start() if close else end]
    else:  # only what touches it
        line = text[max(0, start - 40) : start].split("\n")[-1]
        left = m[0] if (m := re.search(r"(?:(?<=\s)|^)(?:-|\\pm)\s?$|(?<=\s)-?[0-9.]+\s?(?:\\cdot|\\times|\*)?\s?$", line)) else ""
        left = "" if re.search(r"[0-9]\s+$", left) else left
        m = re.match(r"\s?(?:\\(?:pi|sqrt|text|mathrm|frac|cdot|times|cm|%)(?![A-Za-z])[^\n.$]{0,40}|\^[^\s.,;$]{1,20}|%|[a-z](?![A-Za-z])|[-+*/]\s?[0-9\\][^\n$]{0,30}|!)", text[end : end + 60])
        right = m[0] if m else ""
        if more := re.match(r"[\s$*]*(?:or|and)\s+(?:\$|\\\()?\s*(-?[0-9][0-9.,/]*)(?=[\s.,;$]|$)", text[end : end + 40]):
            right += f" \\text{{ or }} {more[1]}"
    depth = left.count("{") - left.count("}") - 2 * 0
    if depth > 0 and in_math:  # a box within a fraction or a root: the whole formula says it
        if re.search(r"\\(?:text|textbf|mathbf|color|bbox|fbox|underline|displaystyle)\s*\{[^{}]*$|(?<![A-Za-z])\{\\(?:color|bf|large|Large)[^{}]*$|^\s*\{[^{}]*$", left):
            return inside
        return strip(left.rpartition("=")[2] + inside + right.partition("=")[0])
    ends = list(_LEFT_END.finditer(left))
    left = left[ends[-1].end() :] if ends else left
    right = re.split(r"=|\\(?:approx|implies|Rightarrow|quad|qquad|tag|label|checkmark|blacksquare|square|qed)(?![A-Za-z])|[,;.](?=\s|$)|:", right)[0]
    left, right = left.strip(), right.strip()
    if relation := _RELATION.search(left):
        if relation[1]:
            return ""
        return strip(f"{left} {inside}")
    if re.match(r"\\text\s*\{\s*(?!or\b|and\b)[a-z]{4,}", right) and not re.match(r"\\text\s*\{\s*(?:at most|at least|more|less|or)", right):
        words = re.match(r"\\text\s*\{([^{}]*)\}", right)
        right = right if words and len(words[1].split()) <= 3 else ""
    left = re.sub(r"^[\s&$*{]+|\\(?:therefore|quad|qquad|left|displaystyle|large|Large|bf|textbf|mathbf)(?![A-Za-z])", "", left).strip()
    right = re.sub(r"[\s&$*}]+$|^[\s*}]+", "", right)
    if not left and not right:
        return inside
    if re.fullmatch(r"[A-Za-z]{1,2}|[A-Za-z][A-Za-z ']*", left):  # a letter or words that only introduce it
        left = ""
    if re.search(r"[<>]|\\[lg]eq?(?![a-z])|\\neq?", right):
        return inside
    simple = re.fullmatch(r"[\w.]+|\\[dt]?frac\{[^{}]*\}\{[^{}]*\}|\\sqrt\{[^{}]*\}", inside) or (left in ("", "-") and not re.search(r"(?<=.)[-+,]", inside) and not right) or right.startswith(("\\text", "\\mathrm", "%"))
    return strip(f"{left}{inside if simple else f'({inside})'}{' ' if right[:1].isalpha() else ''}{right}")


def _odd_dollars(text: str, at: int) -> bool:
    """Whether a formula that a $ opened is still open."""
    line = text[max(0, at - 2000) : at].rpartition("\n\n")[2].replace(r"\$", "")
    return line.replace("$$", "$").count("$") % 2 == 1


# ---------------------------------------------------------------- marks and phrases

_HEADING = re.compile(r"[0-9]+\s*[.):]\s*\**[A-Za-z]|[A-Za-z ]{3,}[0-9]*\s*:|\**(?:step|part|case|solution|final|answer|conclusion|check|verification|explanation|summary|result|method|approach|problem|question|thus|so|we|the|let|first|now)\b", re.I)


def _hashes(text: str) -> str:
    """GSM8K's "#### 1,234"; a Markdown heading is none."""
    for found in reversed(list(re.finditer(r"(?:^|\n|[ \t])####(?!#)[ \t]*([^\n]*)", text))):
        said_ = found[1].strip()
        if answer := re.match(r"\**(?:the\s+)?(?:final\s+)?answer\**\s*(?:is|:|=)\s*\**\s*(\S.*)", said_, re.I):
            return _clause(strip(answer[1]))
        if said_ and not _HEADING.match(said_):
            words = re.findall(r"[A-Za-z]{2,}", re.sub(r"\\[A-Za-z]+", "", said_))
            if re.match(r"[-+$\u20ac\u00a3\\(\[{.0-9]", said_) or (len(words) <= 2 and not text[found.end() :].strip()):
                return _clause(strip(said_))
    return ""


_ANSWER = re.compile(
    r"(?:\banswers?\b|\u7b54\u6848|\b(?:correct|right|best)\s+(?:option|choice|letter)\b|\b(?:option|choice)\b(?=\s*(?:is\s+)?\(?[A-J]\b)|\bresult\b(?=\s*[:=]))[\s*_:\"']{0,6}(?:(?:is|are|was|were|would be|should be|must be|will be|comes to|equals|becomes)(?![A-Za-z])|:|=|(?<=:)|(?<=\*)|\u662f|\u4e3a)"
    r"(?:\s+(?:therefore|thus|then|simply|just|now|indeed|clearly|equal to))?[\s*_:=\"]{0,6}(?:\\\[|\\\(|\$\$)?\s*",
    re.I,
)
_DENIED_BEFORE = re.compile(
    r"\b(?:mistake|wrong to|incorrect to|not true|untrue|not the case|false that|deny|denies|doubt|nobody|no one|hardly|never|cannot say|can't say|don't think|do not think|doesn't mean|not (?:say|conclude|think|claim|mean|sure))\b", re.I
)
_NO_VALUE = re.compile(
    r"(?:in)?(?:correct|right|wrong)\b(?!\s+(?:angle|triangle|side))|(?:indeed|also|still|valid|the same|consistent|yes|clear|found|given|obtained|confirmed|verified|below|above|as follows|in the|therefore|that)\b|no\b(?=\s*[,.!]|$)",
    re.I,
)
_DENIAL = re.compile(r"(?:definitely\s+|certainly\s+|clearly\s+)?(?:not\b|never\b|n't\b|cannot\b|neither\b|anything but)|unlikely", re.I)
_REMARK = re.compile(
    r"\s*[(\[]\s*(?:since|because|as\b|from|which|where|i\.?e\.?|that is|check|by|using|see|rounded to the|note|answer|final)[^()]*(?:\([^()]*\)[^()]*)*[)\]]?\s*$"
    r"|\s*[,;:-]*\s*\b(?:because|since|as (?:we|it|the|there|they|this|required|expected|desired|shown|calculated|stated|above)|which|so that|where|due to|given that|by the|using|after|based on|making|meaning|as)\b.*$"
    r"|\s+--?\s+[A-Za-z].*$|\s*,\s*(?:so|and so|and (?:we|it|this|that|the)|but|while|not)\b.*$|\s+[\u2713\u2714\u2705\U0001f300-\U0001faff].*$",
    re.I | re.S,
)
_ASIDE = re.compile(r"\s*\((?=[^()]*[A-Za-z]{3}[^()]*\s)(?P<inside>[^()]*)\)\s*$|\s*\((?P<word>[a-z]+[- ][a-z -]+)\)\s*$")
_CHANGES = re.compile(
    r"\b(?:or|not|most|least|more|less|fewer|negative|minus|plus|below|above|under|over|thousands?|millions?|billions?|hundreds?|dozens?|percent|approx\w*|about|roughly|am|pm|left|right|maybe|perhaps|but|if|unless|except|wrong|incorrect|times|per|squared|cubed|mod|base)\b|%|[ap]\.m", re.I
)
_INTRODUCED = re.compile(
    r"^(?:\$?\\?[A-Za-z][\w\\(){}$ '-]{0,80}?|[A-Za-z][^=:]{0,80}?)(?:\s+(?:is|are|was|were|equals?|has|have|comes to|becomes|costs?|gives|must be)(?:\s+(?:equal to|exactly|simply|just|therefore|thus))?|\s*:)\s+(?=\S)",
    re.I,
)


def _clause(text: str) -> str:
    """An answer without the remarks behind it and the words that only introduce it; the right side of a calculation."""
    if (tail := re.search(r"[\"'}\]\s]+$", text)) and text.count("}") > text.count("{"):
        text = strip(text[: tail.start()] + "}" * max(0, text[: tail.start()].count("{") - text[: tail.start()].count("}")))
    for _ in range(3):
        shorter = _REMARK.sub("", text)
        if shorter == text and (aside := _ASIDE.search(text)) and not _CHANGES.search(aside[0]):
            shorter = text[: aside.start()]
        if not shorter.strip() or shorter == text:
            break
        text = strip(shorter)
    return _right_side(introduced(text))


def introduced(text: str) -> str:
    r"""What "the total is 31", "largest value: 6" or "the smallest $m$ is 28" says; a limit or a denial stays."""
    found = _INTRODUCED.match(text)
    if not found or re.fullmatch(r"\s*[0-9].*", text) or re.search(r"(?<![\\A-Za-z])(?:not|no|never)\b", found[0], re.I):
        return text
    head = found[0]
    if re.search(r"\b(?:or|if|unless|than|half|twice|minus|negative|and|less|more|maybe)\b", head, re.I) or re.search(r"[0-9]", re.sub(r"\$[^$]*\$", "", head)):
        return text
    return strip(text[found.end() :])


def _phrase(text: str) -> tuple[str, str] | None:
    """(x, "") of the last "answer is x" whose x is a value; ("", what follows) where the last one denies; or None."""
    for match in reversed(list(_ANSWER.finditer(text))):
        rest = text[match.end() : match.end() + 400]
        end = re.search(r"[.!?;](?=\s|\*|$|\"|\))|\n|\\\]|\\\)(?!\s*(?:or|and|,))", rest)
        if end and end[0] == "!" and re.match(r".*[0-9)}]$", rest[: end.start()], re.S) and re.match(r"!\s*[^\s]|!\.", rest[end.start() :]):
            end = re.search(r"[.](?=\s|\*|$)|\n", rest)
        clause = rest[: end.start()] if end else rest
        if re.search(r"\?\s*$", rest[: end.end()] if end else "") or re.search(r"\bif\b[^.\n]{0,60}$|\bwhether\b[^.\n]{0,40}$", text[max(0, match.start() - 60) : match.start()], re.I):
            continue
        clause = strip(clause)
        if _DENIAL.match(clause):
            return "", text[match.end() + (end.end() if end else 0) :]
        before = re.split(r"[.!?\n,:;]", text[max(0, match.start() - 80) : match.start()])[-1]
        if _DENIED_BEFORE.search(before):
            return "", text[match.end() + (end.end() if end else len(rest)) :]
        before = before[-30:]
        if re.search(r"\b(?:wrong|incorrect|not an?|not the|previous|first|earlier|initial|student'?s?|his|her|their|my)\s+$", before, re.I) and not re.search(r"\bmy\s+$", before, re.I):
            continue
        if not clause or _NO_VALUE.match(clause):
            continue
        return _upright(_clause(clause)), ""
    return None


def _upright(text: str) -> str:
    """In prose a single letter behind a number is a unit ("5 m")."""
    return re.sub(r"(?<=[0-9])\s+([mgshlL])$", r" \\text{ \1}", text)


def _bare(text: str) -> str:
    text = strip(text.strip().removeprefix("=").strip())
    return _upright(_clause(text)) if not re.search(r"[$\\]", text) else _clause(text)


def _last_words(text: str) -> str:
    """What the last sentence says in words ("The ball is red."), in a text without numbers."""
    sentences = [s for s in re.split(r"(?<=[.!?])\s+|\n", text.strip()) if s.strip()]
    if not sentences or NUMBER.search(text) or _doubted(sentences[-1]):
        return ""
    found = re.fullmatch(r".{1,120}\b(?:is|are|was)\s+((?:an?\s+|the\s+)?[A-Za-z'-]+(?:\s[A-Za-z'-]+)?)[.!]?", sentences[-1].strip())
    return strip(found[1]) if found else ""


def _is_bare(text: str) -> bool:
    text = text.strip()
    if not text or len(text) > 200 or "\n" in text or _ANSWER.search(text):
        return False
    plain = re.sub(r"\\(?:text|textbf|mbox|mathrm)\s*\{[^{}]*\}|\\[A-Za-z]+|\$", " ", text)
    words = re.findall(r"[^\W\d_]{2,}", plain)
    if not any(c.isdigit() for c in plain):
        return len(words) <= 4
    if any(c.isalpha() and ord(c) > 0x3FF for c in plain) and len(plain) > 12:
        return False
    if {"is", "are", "equals", "gives", "was", "not", "asked", "must"} & set(words):
        return False
    return not words or (len(words) <= 2 and not re.match(r"[\W_]*[^\W\d_]{2,}", plain) and plain.count(".") <= 1)


def _right_side(text: str) -> str:
    """What "3 * 4 = 12" says is 12, if it is true; a chain or an equation with unknowns is left whole."""
    return text


# ---------------------------------------------------------------- formulas and numbers

_SPAN = re.compile(r"\$\$?([^$\n]{1,200})\$|\\[(\[]([^$]{1,200}?)\\[)\]]")


def _math(text: str) -> str:
    """The last formula of the text, where no number follows; formulas joined by or, and, a comma are one answer."""
    number = None
    for number in NUMBER.finditer(text):  # noqa: B007
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
    if _doubted(sentence) or re.search(r"\?\s*$", text.strip()) or _doubted(text[last.end() : last.end() + 60].split(".")[0]):
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
    return _upright("".join(parts) + (f" {tail[1]}" if tail and len(parts) == 1 else ""))


_DOUBT = re.compile(
    r"\bnot\b|n't\b|\bnever\b|\bcannot\b|\bmaybe\b|\bperhaps\b|\bmight\b|\bcould be\b|\bpossibly\b|\bprobably\b|\bguess\b|\bunless\b|\bunsure\b"
    r"|\basked\b|\bquestion\b|\bproblem (?:asks|says|states)\b|\bhow (?:many|much|far|old|long)\b|\bwhat is\b|(?<!we )(?<!we can )\b(?:find|compute|calculate|determine|evaluate)\b|\bneed to\b|\bwant to\b"
    r"|\btoo (?:small|large|big|low|high|many|few)\b|\bwrong\b|\bincorrect\b|\bimpossible\b|\bif\b|\bsuppose\b|\bassume\b|\bguessing\b|\binstead of\b|\brather than\b|\bmistake\b|\berror\b|\bunlikely\b|\bneither\b|\bstep\b|\btry\b|\btrying\b|\blet's\b|\blet us\b|\bfirst\b|\bnobody\b|\bno one\b|\bhardly\b|\bdeny\b|\bdenies\b|\bwould call\b|\bdivided by\b(?!.*(?:=|\bis\b|equals))|\?",
    re.I,
)
_BEFORE = re.compile(
    r"[0-9)}%]\s*(?:[-+*/^]|\\times|\\cdot|\\div|\bx\b|plus|minus|times|divided by|multiplied by|over|or|and|to|of|from|than|out of)\s*$|\b(?:or|either|between|than|over|under|below|above|almost|nearly|up to|at least|at most|about|around|approximately|roughly|step|part|exceeds|number|question|equation|line|case|day|level)\s*$|[*/^]\s*$|\\(?:times|cdot|div|neq?|le|ge|leq|geq|lt|gt)\s*$|(?:!=|[<>]=?)\s*$|\b(?:add|subtract|multiply by|divide by|plus)\s*$",
    re.I,
)
_LIST_BEFORE = re.compile(
    r"(?P<list>-?\$?[0-9][0-9./]*(?:\s*,\s*(?:[a-z]\s*=\s*)?-?\$?[0-9][0-9./]*)*)\s*,?\s*(?:and|or)\s+(?:[a-z]\s*=\s*)?\$?$", re.I
)
_SIGN_WORD = re.compile(r"\b(?:minus|negative)\s*$", re.I)
_GLUE = re.compile(r"(?:[A-Za-z\\^!(_{][^\s,;$]*)|\s*(?:\\(?:pi|sqrt|cdot|times|pm)(?![A-Za-z])|[-+*/^](?=\s*[0-9\\a-z(])|\bx\s+[0-9])[^,;.$\n]*|\s*:\s*[0-9]+(?:\s*(?:[ap]\.?m\b\.?))?")


def _doubted(sentence: str) -> bool:
    return bool(_DOUBT.search(sentence))


def _last_number(text: str) -> str:
    """The last number of the text, with what belongs to it, if its sentence states it as a result; else ""."""
    number = None
    for number in NUMBER.finditer(text):  # noqa: B007
        pass
    if number is None:
        return ""
    start = max(text.rfind("\n", 0, number.start()), *(m.end() - 1 for m in re.finditer(r"[.!?;](?=\s)", text[: number.start()])), -1) + 1
    stop = re.search(r"[.!?;](?=\s|$)|\n|$", text[number.end() :])
    sentence, behind = text[start : number.start()], text[number.end() : number.end() + stop.start()]
    if _doubted(sentence) or _doubted(behind) or text[number.end() + stop.start() :][:1] == "?":
        return ""
    if (why := re.search(r",?\s*\b(?:because|since)\b", sentence)) and NUMBER.search(sentence[: why.start()]):
        return _last_number(text[: start + why.start()] + ".")
    if colon := re.search(r"(?:[0-9]+\s?:\s?)+$", sentence):
        half = re.match(r"\s*(?:[ap]\.?\s?m\b\.?|in the (?:morning|afternoon|evening)|at night)", text[number.end() :], re.I)
        return strip(colon[0] + number[0].strip()) + (f" {half[0].strip()}" if half else "")
    before = sentence.rstrip(" $*\"`_(")
    if (listed := _LIST_BEFORE.search(sentence)) and not re.search(r"\bbetween\s*$", sentence[: listed.start()]):
        unit = re.match(r"\s+[A-Za-z]+", behind)
        return strip(f"{listed['list']}, {number[0].strip()}") if not unit or unit[0].strip() in _HARMLESS else strip(f"{listed['list']}, {number[0].strip()}{unit[0]}")
    if sentence.rstrip().endswith("(") or re.search(r"\([^()]*$", sentence):
        opening = sentence.rfind("(")
        pair = re.match(r"\([^()\n]*\)", text[start + opening :])
        if pair and "," in pair[0] and not re.search(r"[A-Za-z]{2,}", pair[0]):
            return strip(pair[0])
        if pair and re.search(r"[A-Za-z]{3,}|=", pair[0]):
            return ""
    value = number[0].strip()
    if _SIGN_WORD.search(before) and not re.search(r"[0-9)}]\s*(?:minus|negative)\s*$", before, re.I):
        return strip(f"-{value}")
    if _BEFORE.search(before):
        equals = re.search(r"=[^=]*$", sentence)
        if not equals or re.search(r"[0-9]\s*(?:[-+*/]|\\times|\\cdot)\s*$", before):
            return ""
    several = re.search(r"(?:-?[0-9][0-9./,]*)(?:\s*,\s*-?[0-9][0-9./]*)*\s*,\s*(?:and\s+|or\s+)?$", sentence)
    if several:
        return "" if "or" in several[0] else strip(several[0] + value)
    if glued := _GLUE.match(behind):
        return strip(value + glued[0])
    words = _UNIT_BEHIND.match(behind)
    taken: list[str] = []
    for word in words[0].split() if words else ():
        if word.lower().strip(".,") in _HARMLESS and not (word.lower() == "in" and not taken and "^" in words[0]):
            break
        if word.lower() == "left" and taken and taken[-1].lower().removesuffix("s") not in _PLACES and not known(taken[-1]):
            break  # "3 apples left" remain; "3 steps left" is a direction
        taken.append(word)
    return _upright(strip(" ".join([value, *taken[:4]])))


_PLACES = {"unit", "step", "block", "square", "space", "place", "position", "row", "column", "street", "door", "seat", "point"}
_UNIT_BEHIND = re.compile(r"(?:\s*(?:[A-Za-z'-]+(?:[/^]\{?[A-Za-z0-9-]+\}?)*\.?|\\text\s*\{[^{}]*\}|\u5143|[\u4e00-\u9fff]{1,3}))+")
_HARMLESS = {
    "in", "for", "from", "and", "to", "of", "on", "at", "by", "when", "where", "since", "is", "are", "so", "after", "as",
    "each", "together", "total", "with", "altogether", "was", "were", "every", "both", "within", "while", "because", "then", "now", "here", "that", "which", "who", "they", "it", "he", "she", "we", "i", "his", "her", "their", "our", "its", "can", "will", "but", "him", "them", "remain", "remains", "remaining", "there", "this", "these", "has", "have", "had", "go", "the", "a", "an",
}  # fmt: skip
