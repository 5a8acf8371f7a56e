"""Which part of a response concludes it: without code, checks and reasons behind the result; and what is taken back."""

from __future__ import annotations

import re

from dpr_mini.grading.numerals import NUMBER

_CODE = re.compile(r"```[^`]*(?:```|$)|~~~[^~]*(?:~~~|$)")
# a sentence ends here; not at "i.e. 5", "Mr. Lee", "12.5"
END = re.compile(
    r"(?<!\bi\.e)(?<!\be\.g)(?<!\bMr)(?<!\bMrs)(?<!\bDr)(?<!\bvs)(?<!\bapprox)[.!?;]+(?:[\"')\]]|\*\*)?(?=\s)|\n"
)
_CHECKS = re.compile(
    r"[\s*#>_-]*(?:(?:let(?:'s| me| us)|now|to|we can|i(?:'ll| will| can)|(?:quick|sanity)\s)?\s*"
    r"(?:double[- ])?(?:check|verif(?:y|ication|ying))\b|\(?check\s*:|proof\s*:)",
    re.I,
)
_CONCLUDES = re.compile(
    r"[\s*#>_-]*(?:so|thus|therefore|hence|finally|in total|altogether|overall|in conclusion|final|conclusion|the)\b",
    re.I,
)
_REASON = re.compile(
    r"[\s*#>_-]*(?:(?:this|that|it) is (?:because|since|due to)|because|the reason|here,|where\b|note that)\b", re.I
)
_ASKS = re.compile(r"\?[\"')\]*\s]*$")


def sentences(text: str) -> list[tuple[int, int]]:
    """(start, end) of each sentence that is not blank."""
    found, start = [], 0
    for end in [*(m.end() for m in END.finditer(text)), len(text)]:
        if text[start:end].strip():
            found.append((start, end))
        start = end
    return found


def conclusion(text: str) -> str:
    """The text up to the sentence that concludes it.

    Code is left out, and what only checks a result or gives its reason at the end of a text. "" where a text ends by
    asking what it was asked, and nothing before it draws a conclusion.
    """
    text = _CODE.sub("\n", text).rstrip()
    parts = sentences(text)
    if len(parts) > 1 and text[slice(*parts[-2])].lstrip().startswith(text[slice(*parts[-1])].strip()):
        parts.pop()  # it repeats itself until it is cut off
        text = text[: parts[-1][1]].rstrip()
    last = len(parts)
    for i in reversed(range(len(parts))):
        sentence = text[slice(*parts[i])]
        if _CHECKS.match(sentence):
            last = i
        elif _CONCLUDES.match(sentence) and NUMBER.search(sentence):
            break
    while last and _REASON.match(text[slice(*parts[last - 1])]):
        last -= 1
    kept = text[: parts[last - 1][1]].rstrip() if last else ""
    if _ASKS.search(kept) and not any(
        re.search(r"=\s*[^=\n]*[0-9]", text[a:b]) or _CONCLUDES.match(text[a:b]) for a, b in parts[: last - 1]
    ):
        return ""
    return kept


_HESITATES = r"(?:(?:hmm+|wait|oh|ah|oops|but|no|actually|hold on|well|hang on|uh|sorry|hm)\b[\s,.!:;-]*){0,4}"
_DEICTIC = (
    r"(?:that|this|it|which|(?:the|my|this|that) (?:answer|result|value|total|number|figure|argument|reasoning|approach"
    r"|calculation|computation|method))"
)
_WRONG = (
    r"(?:not (?:right|correct|possible|true|the (?:right|correct) (?:answer|one))|wrong|incorrect|flawed|impossible"
    r"|a mistake|off|too (?:big|small|large|low|high|many|much|few))\b(?=\s*(?:[.,!?;:)]|$|because\b|since\b|as\b))"
)
_IS = r"(?:'s| is| was| would be| looks| seems(?: to be)?| must be| has to be)"
_NEVER = r"(?:can't|cannot|can not|couldn't|isn't|is not|wasn't|doesn't|does not)"
_BACK = re.compile(
    rf"\s*[(*_\"]*(?:no\b[\s,.!]*(?:wait|hold on|hang on|actually)|(?:wait|hold on|hang on|actually|hmm+)[\s,.!]*no\b)"
    rf"|\s*[(*_\"]*{_HESITATES}(?:"
    rf"{_DEICTIC}(?:{_IS}\s+(?:actually\s+|clearly\s+)?{_WRONG}|\s+{_NEVER}\s+(?:be\s+)?"
    r"(?:right|correct|possible|true|it|work|fit|match|add up|the answer)\b(?=\s*(?:[.,!?;:)]|$|because\b|since\b)))"
    r"|(?:scratch|strike|forget|disregard|ignore) (?:that|this|it|(?:the|my) (?:answer|result|line|number))\b"
    r"|i (?:made|have made|see|found|spot) an? (?:\w+ )?(?:mistake|error|slip)\b"
    r"|i (?:mis(?:read|counted|took|understood|calculated|copied)|forgot|overlooked|should have)\b"
    r"|i(?:'m| am) wrong\b|i was wrong\b|i take (?:that|it) back\b"
    r"|i (?:can't|cannot|could not|couldn't) (?:determine|say|tell|answer|solve|know)\b)",
    re.I,
)
_NUMBER_WRONG = re.compile(
    rf"\b(?P<number>-?[0-9][0-9.,]*(?:/[0-9]+)?)(?:\s+[a-z]+)?(?:{_IS}\s+{_WRONG}"
    r"|\s+(?:can't|cannot|can not|isn't|is not)\s+(?:be\s+)?(?:right|correct|possible|true|the answer)"
    r"|\s+(?:does not|doesn't|did not|didn't|fails to) (?:satisfy|work|fit|match|hold|solve|check)"
    r"|\s+(?:has to|must|can) be (?:rejected|discarded|ruled out|excluded))",
    re.I,
)


def taken_back(answer: str, after: str) -> int | None:
    """Where in `after`, the text behind an answer, the answer is taken back: the end of that sentence; None if not."""
    after = after[:4_000]
    answer = re.sub(r"\\[dtc]?frac\{([0-9]+)\}\{([0-9]+)\}", r"\1/\2", answer)
    numbers = {n[0].strip(" $\u20ac\u00a3").rstrip(".,") for n in NUMBER.finditer(answer)}
    found = None
    for start, end in sentences(after):
        sentence = after[start:end]
        named = _NUMBER_WRONG.search(sentence)
        if _BACK.match(sentence) or (named and named["number"].rstrip(".,") in numbers):
            found = end
    return found
