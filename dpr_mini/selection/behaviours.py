"""Marker counts for the four behaviours of arXiv 2503.01307 ("Four Habits"): local, free, regular expressions.

    verification   tests an own result or step against the conditions, a known value, a small case or the equation
    backtracking   sees that a path fails and goes back to correct it or to try another
    subgoals       splits the task into named intermediate goals
    backward       starts from the goal or the answer and works toward the givens

The paper uses an LLM judge; we use regular expressions for explicit markers. Some words are enough alone ("I made a
mistake"). Others only announce ("let me check", "wait", "working backward"): they count where an act follows within
REACH characters, and not where all that follows is an equation the text already had. Behaviour without such words is
missed, but for one thing that is given two values in turn (revaluing). A doubt counts for nothing where the writer
only supposes, or finds that all is well. bench/behaviours.py measures precision and recall on labelled snippets.
Compare shares between models under one counter only.
"""

from __future__ import annotations

import re

from dpr_mini.selection import (
    backtracking_cues,
    backtracking_kinds,
    backward_cues,
    backward_kinds,
    backward_states,
    cues,
    failed_tries,
    revaluing,
)
from dpr_mini.selection.scanning import Cues, Places

NAMES = ("verification", "backtracking", "subgoals", "backward")
REACH = 200
JOINED = 4  # characters between two cues below which they are one: "Wait, let me go back"
LONGEST = 200_000
"""Characters of a text that are read: some 50 thousand tokens, so that a runaway file costs bounded time."""

_ENOUGH = {
    "verification": cues.VERIFIES,
    "backtracking": backtracking_cues.BACKTRACKS + backtracking_kinds.BACKTRACKS + failed_tries.BACKTRACKS,
    "subgoals": cues.SUBGOALS,
    "backward": backward_cues.REASONS_BACK + backward_kinds.REASONS_BACK + backward_states.REASONS_BACK,
}
# Name -> (announcements, what must follow one within REACH characters).
_ANNOUNCED = {
    "verification": (cues.MAY_VERIFY, cues.CHECKED),
    "backtracking": (backtracking_cues.MAY_BACKTRACK + backtracking_kinds.MAY_BACKTRACK, backtracking_cues.CORRECTED),
    "backward": (backward_cues.MAY_REASON_BACK + backward_kinds.MAY_REASON_BACK, backward_cues.UNDONE),
}


_ALONE = {name: Cues(words, cues.START, re.M) for name, words in _ENOUGH.items()}
_LOOSE = {name: Cues(words, cues.START, re.M) for name, (words, _) in _ANNOUNCED.items()}
_LEAD_AT = re.compile(cues.START_AT, re.M)
_ACTS = {name: re.compile(act) for name, (_, act) in _ANNOUNCED.items()}
_SENTENCE = re.compile(r"(?<=[.!?]) |\n|^ +")
_HYPOTHESIS = re.compile(
    r"(?:so |but |and |then |now )?(?:if (?!we (?:try|take|go)|i (?:try|take|go)|[a-z] ?=|"
    r"the \w+ is)|had (?:he|she|they|we|i|it)\b|were (?:he|she|it|the|we)\b|suppose|what if|unless )"
)
_DOUBT = re.compile(
    r"[^\w\n]{0,4}(?:(?:but|oh|ah|ok|no|and|actually|well),? )?(?:wait|hmm+|hold on|hang on|"
    r"actually|uh|um|oh)\b"
)
_CONFIRMED = re.compile(backtracking_kinds.CONFIRMED)
_DENIED = re.compile(
    r"\b(?:not|n't|wrong|instead|twice|forgot|should|but|mistake|also|another|drops?|redo|again)\b|"
    r"n't\b"
)
# "That is impossible" ends a proof by contradiction as well as a wrong path.
_ABSURD = re.compile(r"impossible|not possible|contradict|absurd|(?:can't|cannot|couldn't) be")
_SUPPOSED = re.compile(r"\b(?:suppose|supposing|assume|assuming|if|could|were|otherwise)\b")
_TURNED = re.compile(
    r"\b(?:let me|let's|try|instead|wrong|mistake|again|back|my|other|next|take|recheck|check|must have|should|redo|"
    r"wait|hmm+|oh|i)\b"
)
_PIECES = re.compile(r"(?<=[.!?])\s|\n|:\s")
# A bare number, "the answer is 7", or one more announcement. What the text had before, word for word, is hollow too.
_HOLLOW = re.compile(
    r"\W{0,3}[\d.,$ ]{0,20}\W{0,3}$|(?:so |thus |hence |therefore,? )?(?:the |"
    r"my )?(?:final )?answer (?:to .{1,60} )?is\b.{0,30}$|"
    r"(?:and |so |to solve this problem,? )?(?:wait,? )?(?:let me|let's|let us|i'll|i will|we can|we) (?:\w{1,9} )?"
    r"(?:go back|check|verify|double|confirm|test|see|work|try|redo|start|split|think|look)\b[\w' ]{0,40}$|"
    r"(?:wait|working|step by step|check(?:ing)?|verif\w{1,8})\b[\w ]{0,20}$",
)


def count(text: str) -> dict[str, int]:
    """Markers of each behaviour in the first LONGEST characters (keys: NAMES); two that touch count once."""
    text = text[:LONGEST].lower().replace("\u2019", "'")  # far quicker than a search that ignores case
    places = Places(text, _LEAD_AT)
    return {name: _count(name, places) for name in NAMES}


def _count(name: str, places: Places) -> int:
    text, spans = places.text, list(_ALONE[name].spans(places))
    if name in _LOOSE:
        spans += [(start, end) for start, end in _LOOSE[name].spans(places) if _acted(name, text, end)]
    if name == "backtracking":
        spans = [s for s in spans if not _taken_back(text, *s)] + revaluing.spans(text)
    found, end = 0, -JOINED
    for start, stop in sorted(spans):
        found += start >= end + JOINED
        end = max(end, stop)
    return found


def _taken_back(text: str, start: int, end: int) -> bool:
    """Whether a doubt comes to nothing: the sentence is a hypothesis, or what follows says that all is well."""
    begun = _SENTENCE.split(text[max(0, start - REACH) : start])[-1]
    if _HYPOTHESIS.match(begun + text[start : start + 20]):
        return True
    after = text[start : end + REACH]
    if _ABSURD.search(text, start, end) and _SUPPOSED.search(text, max(0, start - REACH), start):
        return not _TURNED.search(after)
    return bool(_DOUBT.match(after) and _CONFIRMED.search(after) and not _DENIED.search(after))


def _acted(name: str, text: str, end: int) -> bool:
    """Whether what follows an announcement that ends at `end` holds an act, once the hollow pieces are out."""
    before = text[max(0, end - 10 * REACH) : end]
    pieces = (p.strip(" \t.,;!*") for p in _PIECES.split(text[end : end + REACH]))
    return bool(_ACTS[name].search("\n".join(p for p in pieces if p not in before and not _HOLLOW.match(p))))
