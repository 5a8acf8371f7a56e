"""Whether a sentence states what it says: not where it denies, doubts, asks, supposes or only sets a task."""

from __future__ import annotations

import re

_DOUBT = re.compile(
    r"\bnot\b|n't\b|\bnever\b|\bcannot\b|\bmaybe\b|\bperhaps\b|\bmight\b|\bcould be\b|\bpossibly\b|\bprobably\b"
    r"|\bguess(?:ing)?\b|\bunless\b|\bunsure\b|\basked\b|\bquestion\b|\bproblem (?:asks|says|states)\b"
    r"|\bhow (?:many|much|far|old|long)\b|\bwhat is\b|\btoo (?:small|large|big|low|high|many|few)\b|\bwrong\b"
    r"|\bincorrect\b|\bimpossible\b|\bif\b|\bsuppose\b|\bassume\b|\binstead of\b|\brather than\b|\bmistake\b"
    r"|\bunlikely\b|\bneither\b|\bnobody\b|\bno one\b|\bhardly\b|\bdeny\b|\bdenies\b|\bwould (?:call|have)\b"
    r"|\bstep\b(?!\s*[0-9])|\btry\b|\btrying\b|\blet's\b|\blet us\b|\bfirst\b|\?",
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


def doubted(sentence: str) -> bool:
    """Whether a part of a sentence takes away from what it says."""
    return bool(_DOUBT.search(sentence) or (_TASK.search(sentence) and not _RESULT.search(sentence)))


def result_follows(before: str) -> bool:
    """Whether the words before a number name it as a result: "=", "is", "makes", "total of"."""
    return bool(_RESULT.search(before))
