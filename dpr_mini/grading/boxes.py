r"""The last \boxed{} of a response: its content, and what stands around it in its formula and changes it."""

from __future__ import annotations

import re

from dpr_mini.grading.notation import strip

_DENIES = re.compile(
    r"(?:\bnot|n't|\bnever|\bcannot|\\not|\\neq?)(?:\s+(?:equal|equals|be|to|the|answer|is|=))*[\s:$({=]*$", re.I
)
_JOINER = re.compile(
    r"(?:[\s$&]|\\[,;:! ]|\\q?quad(?![A-Za-z])|\\\(|\\\)|\*\*|(?P<join>,|;|\bor\b|\band\b|\bas well as\b|\\lor"
    r"|\\text\{\s*(?:and|or|,)\s*\})|\\left|\\right"
    r"|\\?[A-Za-z]+(?:_\{?\w{1,3}\}?)?\s*=)*"
)
_NAME_BEFORE = re.compile(r"(\\?[A-Za-z]+(?:_\{?\w{1,3}\}?)?)\s*=\s*[\s${]*$")


def boxed(text: str) -> str | None:
    """What the last box says, with what belongs to it; None without a box, "" where it is denied.

    One pass with a stack: linear even for thousands of boxes that never close.
    """
    stack: list[tuple[bool, int, int]] = []
    closed: list[tuple[int, int, str]] = []
    for token in re.finditer(r"\\[{}\\]|(?:\\f?box(?:ed)?|(?<![A-Za-z\\])boxed)\s*\{|[{}]", text):
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
        joined = _JOINER.fullmatch(re.sub(r"^\s*\$?\s*[A-Za-z]{3,12}(?=\s+(?:and|or)\b|\s*,)", "", between))
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
    r"=|\\(?:implies|Rightarrow|Longrightarrow|rightarrow|to|therefore|iff|Leftrightarrow|approx|equiv|colon"
    r"|quad|qquad|in|cong|simeq|sim)(?![A-Za-z])"
    r"|:|=>|\\text\s*\{[^{}]*\}|\\(?:mathbf|textbf|mathrm)\s*\{[^{}]*(?:[Aa]nswer|[Tt]herefore)[^{}]*\}|[,;]"
    r"|[A-Za-z]{3,}\s"
)
_RELATION = re.compile(r"(\\(?:neq?|not)(?![A-Za-z])\s*=?|!=)|(<=?|>=?|\\(?:l|g)(?:eq?|t)(?:slant|q)?(?![A-Za-z]))")


def _in_context(text: str, start: int, end: int, inside: str) -> str:
    """The box's content with sign, factor, power, unit and relation that stand around it in its formula."""
    inside = strip(inside)
    opened = list(_OPEN.finditer(text, max(0, start - 400), start))
    in_math = (
        bool(opened) and (opened[-1][0] not in ("$", "$$") or _odd_dollars(text, start)) and "\n" not in opened[-1][0]
    )
    if in_math:
        left = text[opened[-1].end() : start]
        close = _CLOSE.search(text, end, end + 400)
        right = text[end : close.start() if close else end]
    else:  # only what touches it
        line = text[max(0, start - 40) : start].split("\n")[-1]
        left = (
            m[0]
            if (m := re.search(r"(?:(?<=\s)|^)(?:-|\\pm)\s?$|(?<=\s)-?[0-9.]+\s?(?:\\cdot|\\times|\*)?\s?$", line))
            else ""
        )
        left = "" if re.search(r"[0-9]\s+$", left) else left
        m = re.match(
            r"\s?(?:\\(?:pi|sqrt|text|mathrm|frac|cdot|times|cm|%)(?![A-Za-z])[^\n.$]{0,40}|\^[^\s.,;$]{1,20}|%"
            r"|[a-z](?![A-Za-z])|[-+*/]\s?[0-9\\][^\n$]{0,30}|!)",
            text[end : end + 60],
        )
        right = m[0] if m else ""
        if more := re.match(
            r"[\s$*]*(?:or|and)\s+(?:\$|\\\()?\s*(-?[0-9][0-9.,/]*)(?=[\s.,;$]|$)", text[end : end + 40]
        ):
            right += f" \\text{{ or }} {more[1]}"
    depth = left.count("{") - left.count("}") - 2 * 0
    if depth > 0 and in_math:  # a box within a fraction or a root: the whole formula says it
        if re.search(
            r"\\(?:text|textbf|mathbf|color|bbox|fbox|underline|displaystyle)\s*\{[^{}]*$"
            r"|(?<![A-Za-z])\{\\(?:color|bf|large|Large)[^{}]*$|^\s*\{[^{}]*$",
            left,
        ):
            return inside
        return strip(left.rpartition("=")[2] + inside + right.partition("=")[0])
    ends = list(_LEFT_END.finditer(left))
    left = left[ends[-1].end() :] if ends else left
    right = re.split(
        r"=|\\(?:approx|implies|Rightarrow|quad|qquad|tag|label|checkmark|blacksquare|square|qed)(?![A-Za-z])"
        r"|[,;.](?=\s|$)|:",
        right,
    )[0]
    left, right = left.strip(), right.strip()
    if relation := _RELATION.search(left):
        if relation[1]:
            return ""
        return strip(f"{left} {inside}")
    if re.match(r"\\text\s*\{\s*(?!or\b|and\b)[a-z]{4,}", right) and not re.match(
        r"\\text\s*\{\s*(?:at most|at least|more|less|or)", right
    ):
        words = re.match(r"\\text\s*\{([^{}]*)\}", right)
        right = right if words and len(words[1].split()) <= 3 else ""
    left = re.sub(
        r"^[\s&$*{]+|\\(?:therefore|quad|qquad|left|displaystyle|large|Large|bf|textbf|mathbf)(?![A-Za-z])", "", left
    ).strip()
    right = re.sub(r"[\s&$*]+$|^[\s*}]+", "", right)
    while right.endswith("}") and right.count("}") > right.count("{"):
        right = right[:-1].rstrip()
    if not left and not right:
        return inside
    if re.fullmatch(r"[A-Za-z]{1,2}|[A-Za-z][A-Za-z ']*", left):  # a letter or words that only introduce it
        left = ""
    if re.search(r"[<>]|\\[lg]eq?(?![a-z])|\\neq?", right):
        return inside
    simple = (
        re.fullmatch(r"[\w.]+|\\[dt]?frac\{[^{}]*\}\{[^{}]*\}|\\sqrt\{[^{}]*\}", inside)
        or (left in ("", "-") and not re.search(r"(?<=.)[-+,]", inside) and not right)
        or right.startswith(("\\text", "\\mathrm", "%"))
    )
    return strip(f"{left}{inside if simple else f'({inside})'}{' ' if right[:1].isalpha() else ''}{right}")


def _odd_dollars(text: str, at: int) -> bool:
    """Whether a formula that a $ opened is still open."""
    line = text[max(0, at - 2000) : at].rpartition("\n\n")[2].replace(r"\$", "")
    return line.replace("$$", "$").count("$") % 2 == 1
