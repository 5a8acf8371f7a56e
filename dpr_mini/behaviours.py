"""Marker counts for the four behaviours of arXiv 2503.01307 ("Four Habits"): cheap, local, a lower bound.

There a model judge counts instances; here a word-boundary pattern counts sentences that say what they do. A writer
who checks a result without saying so is missed, and a hollow "let me check" is counted: read a share of chains with
a marker as that, and compare it between models under the same counter only.

    verification   tests an own result or step against the conditions, a small case or the original equation
    backtracking   sees that a path fails and goes back to try another
    subgoals       splits the task into named intermediate goals
    backward       starts from the goal or the answer and works toward the givens
"""

from __future__ import annotations

import re

NAMES = ("verification", "backtracking", "subgoals", "backward")

_CUES = {
    "verification": (
        r"(?:let me|let us|let's|lets|we can|i can|i will|i'll|we|to|i should|we should|now) (?:\w+ )?"
        r"(?:verify|double[- ]check|check|test|confirm)\b(?! (?:off|out|in)\b)",
        r"(?:checking|verifying|testing) (?:this|that|the|my|our|each|whether|if|by)\b",
        r"(?:substitut\w+|plug\w*|put\w*) (?:\S+ ){0,4}?back (?:in|into)\b",
        r"(?:this|that|it|which) (?:checks out|is consistent with|satisfies|holds|matches the|agrees with)\b",
        r"^\W*(?:check|verification|sanity check)\s*:",
    ),
    "backtracking": (
        r"(?:^|[.!?,]\s+|\n)\W*(?:wait|hold on|hmm|actually)\b",
        r"(?:this|that|it|which) (?:is wrong|is incorrect|is not right|isn't right|does not work|doesn't work|fails|"
        r"cannot be right|can't be right|contradicts|leads to a contradiction|is a contradiction)\b",
        r"(?:go|going|went) back (?:to|and)\b|\bbacktrack\w*",
        r"(?:try|use|take) (?:another|a different|an alternative) (?:\w+ )?"
        r"(?:way|approach|method|path|route|value|one)\b",
        r"i (?:made|have made|see) (?:a|an|the|my) (?:\w+ )?(?:mistake|error|slip)\b",
        r"(?:start|begin) over\b|\b(?:redo|recompute|recalculate) (?:this|that|the|it|my)\b",
    ),
    "subgoals": (
        r"^\W*(?:step|part|goal|subgoal|sub-goal|case) (?:\d+|one|two|three)\b",
        r"(?:break|split|divide) (?:this|it|the \w+|that)(?: \w+)? (?:down|up|into)\b",
        r"(?:first|next|then|finally|second|third),? (?:i|we|let's|let us|let me) "
        r"(?:need to|have to|must|should|will|want to|find|compute|calculate|determine|work out|add|multiply)\b",
        r"(?:the|our|my) (?:first|next|second|third|final|last) (?:step|goal|subgoal|part|task) is\b",
        r"(?:to|before) \w+ (?:this|that|it), (?:i|we) (?:first )?(?:need|must|have to)\b",
    ),
    "backward": (
        r"(?:work|works|working|worked|reason|reasoning) backwards?\b",
        r"(?:start|starting|begin|beginning) (?:from|with) (?:the|my|our|this) "
        r"(?:final |end )?(?:answer|result|goal|end)\b",
        r"(?:going|go|reverse|reversing|undo|undoing) (?:in reverse|backwards?|the (?:steps|operations?|process))\b",
        r"(?:if|suppose|assume|assuming)(?: that)? the (?:final )?(?:answer|result) (?:is|were|was|equals)\b",
        r"to (?:get|reach|obtain|end with|arrive at) \S+(?: \w+){0,3}, (?:\w+ ){0,2}"
        r"(?:must|need to|needs to|has to|have to)\b",
    ),
}
# A cue begins at a word boundary unless it looks for the start of a line or a sentence itself.
_PATTERNS = {
    name: re.compile("|".join(c if c.startswith(("^", "(?:^")) else rf"\b(?:{c})" for c in cues), re.I | re.M)
    for name, cues in _CUES.items()
}


def count(text: str) -> dict[str, int]:
    """Markers of each behaviour in a text (keys: NAMES). Overlapping cues of one behaviour count once."""
    return {name: sum(1 for _ in _PATTERNS[name].finditer(text)) for name in NAMES}
