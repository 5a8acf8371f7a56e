r"""The last \boxed{} of a response: its content, and what stands around it in its formula and changes it."""

from __future__ import annotations

import re

from dpr_mini.grading.notation import strip
from dpr_mini.grading.phrases import upright
from dpr_mini.grading.units import known

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
        joined = _JOINER.fullmatch(
            re.sub(r"^\s*\$?\s*(?:[A-Za-z]{3,12}|[ckm]?m|k?g|ft|in|[Lhs])(?=\s+(?:and|or)\b|\s*,)", "", between)
        )
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
    inside, around = strip(_COMMENT.sub("", inside) or inside), _formula(text, start, end)
    left, right = around or _touching(text, start, end)
    if around and not right.strip() and (unit := _UNIT_BEHIND.match(text, end)) and known(unit[1]):
        right = rf"\text{{ {unit[1]}}}"
    if around and left.count("{") > left.count("}"):  # within a fraction or a root: the whole formula says it
        return inside if _STYLED.search(left) else strip(left.rpartition("=")[2] + inside + right.partition("=")[0])
    ends = list(_LEFT_END.finditer(left))
    left = left[ends[-1].end() :] if ends else left
    left, right = left.strip(), _RIGHT_END.split(right)[0].strip()
    if relation := _RELATION.search(left):
        return "" if relation[1] else strip(f"{left} {inside}")
    left, right = _without_words(left, right)
    if not (left or right) or re.search(r"[<>]|\\[lg]eq?(?![a-z])|\\neq?", right):
        return inside
    alone = _ATOM.fullmatch(inside) or (left in ("", "-") and not right and not re.search(r"(?<=.)[-+,]", inside))
    grouped = inside if alone or right.startswith(("\\text", "\\mathrm", "%")) else f"({inside})"
    return strip(f"{left}{grouped}{' ' if right[:1].isalpha() else ''}{right}")


_COMMENT = re.compile(
    r"\\text\s*\{\s*\((?:since|because|as|where|which|from|by|at|when|attained|reached|after|using)\b.*$", re.S
)
# "\boxed{72} \) cm": the unit stands behind the formula; "in" and the like are words
_UNIT_BEHIND = re.compile(r"\s*(?:\$\$?|\\\)|\\\])\s*(?!(?:in|a|as|at|I)\b)([A-Za-z]{1,12})(?=[.,;!)*]|$|(?<=\w\w)\s)")
# a style's group, or one that only holds the box
_STYLED = re.compile(
    r"\\(?:text|textbf|mathbf|color|bbox|fbox|underline|displaystyle)\s*\{[^{}]*$"
    r"|(?<![A-Za-z])\{\\(?:color|bf|large|Large)[^{}]*$|^\s*\{[^{}]*$"
)
_RIGHT_END = re.compile(
    r"=|\\(?:approx|implies|Rightarrow|quad|qquad|tag|label|checkmark|blacksquare|square|qed)(?![A-Za-z])"
    r"|[,;.](?=\s|$)|:"
)
_ATOM = re.compile(r"[\w.]+|\\[dt]?frac\{[^{}]*\}\{[^{}]*\}|\\sqrt\{[^{}]*\}")
# a sign that touches ("-\boxed", "= - \boxed"; "- \boxed" at a line's start is a bullet), or a factor
_TOUCHES_LEFT = re.compile(
    r"(?:(?<=\s)|^)(?:-|\\pm)$|(?:(?<=[=:(]\s)|(?<=\bis\s)|(?<=[=(]))(?:-|\\pm)\s$"
    r"|(?<=\s)-?[0-9.]*[0-9]\s?(?:\\cdot|\\times|\*)?\s?$"
)
# "60 a day", "60 i.e. sixty" and "60!" at the end of a sentence are prose
_TOUCHES_RIGHT = re.compile(
    r"\s?(?:\\(?:pi|sqrt|text|mathrm|frac|cdot|times|cm|%)(?![A-Za-z])[^\n.$]{0,40}|\^[^\s.,;$]{1,20}|%"
    r"|(?!(?<=\s)(?:a\s|i\.|[a-z]\)))[a-z](?![A-Za-z])|[-+*/]\s?[0-9\\][^\n$]{0,30}|!(?=\s*[-+*/=\\^0-9]))"
)
_ANOTHER = re.compile(r"[\s$*]*(?:or|and)\s+(?:\$|\\\()?\s*(-?[0-9][0-9.,/]*)(?=[\s.,;$]|$)")


def _formula(text: str, start: int, end: int) -> tuple[str, str] | None:
    """What stands left and right of the box within its formula or environment; None outside of one."""
    opened = list(_OPEN.finditer(text, max(0, start - 400), start))
    if not opened or "\n" in opened[-1][0] or (opened[-1][0] in ("$", "$$") and not _odd_dollars(text, start)):
        return None
    close = _CLOSE.search(text, end, end + 400)
    return text[opened[-1].end() : start], text[end : close.start() if close else end]


def _touching(text: str, start: int, end: int) -> tuple[str, str]:
    """In prose: a sign or factor that touches the box, a power or unit behind it, another number that is offered."""
    before = _TOUCHES_LEFT.search(text[max(0, start - 40) : start].split("\n")[-1])
    left = before[0] if before and not re.search(r"[0-9]\s+$", before[0]) else ""
    after = _TOUCHES_RIGHT.match(text[end : end + 60])
    right = upright(f"0{after[0]}")[1:] if after else ""
    if more := _ANOTHER.match(text[end : end + 40]):
        right += rf" \text{{ or }} {more[1]}"
    return left, right


def _without_words(left: str, right: str) -> tuple[str, str]:
    """Without styles, and words that only introduce the box or comment on it; a unit or a limit behind it stays."""
    comment = re.match(r"\\text\s*\{\s*(?!or\b|and\b|at most|at least|more|less)([a-z]{4,}[^{}]*)\}?", right)
    if comment and not (0 < len(comment[1].split()) <= 3 and "}" in right):
        right = ""
    left = re.sub(
        r"^[\s&$*{]+|\\(?:therefore|quad|qquad|left|displaystyle|large|Large|bf|textbf|mathbf)(?![A-Za-z])", "", left
    ).strip()
    if re.fullmatch(r"[A-Za-z]{1,2}|[A-Za-z][A-Za-z ']*", left):
        left = ""
    right = re.sub(r"[\s&$*]+$|^[\s*}]+", "", right)
    while right.endswith("}") and right.count("}") > right.count("{"):
        right = right[:-1].rstrip()
    return left, right


def _odd_dollars(text: str, at: int) -> bool:
    """Whether a formula that a $ opened is still open."""
    line = text[max(0, at - 2000) : at].rpartition("\n\n")[2].replace(r"\$", "")
    return line.replace("$$", "$").count("$") % 2 == 1
