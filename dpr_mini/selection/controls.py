"""Chains about a task's problems, edited for controls: checks taken out, verdicts by a coin.

What is not edited stays to the character; a turn whose text changes is tokenised anew. Bridges are ours and stay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from dpr_mini import tasks
from dpr_mini.chat.template import Template, join_text
from dpr_mini.tasks import Task
from dpr_mini.types import Dialogue, digest

Edit = tuple[int, int, str]  # characters of the chain, from and to, and what stands there instead


def without_checks(task: Task, chain: str) -> list[Edit]:
    """Edits that leave of every review its verdict: "Check: 3*7=21, 21-5=16. Wrong." becomes "Check: Wrong."."""
    return [(r.start, r.end, "") for r in tasks.read(task, chain).reviews if r.start < r.end]


def coin_verdicts(task: Task, chain: str, name: str) -> list[Edit]:
    """Edits that put a fair coin's word in every verdict's place, spelled as the word that stood there.

    The coin is a hash of `name` and the review's number.
    """
    edits = []
    for number, review in enumerate(tasks.read(task, chain).reviews):
        old = chain[review.end : review.over]
        right, wrong = ("correct", "incorrect") if "correct" in old.lower() else ("right", "wrong")
        word = right if int(digest("verdict", name, number), 16) % 2 else wrong
        spelled = word.upper() if old.isupper() else word.capitalize() if old[0].isupper() else word
        edits.append((review.end, review.over, spelled))
    return edits


def edited(dialogue: Dialogue, edits: Sequence[Edit], template: Template, bridges: Mapping[str, str]) -> Dialogue:
    """The dialogue with the edits, in the chain's order, made in its turns; what they touch of a bridge stays.

    An edit over several turns leaves its words in the last of them.
    """
    turns, at = [], 0
    for i, turn in enumerate(dialogue.turns):
        at += len(bridges.get(turn.instruction, "\n\n")) if i else 0
        text, done = "", 0
        for start, end, words in edits:
            first, last = max(start - at, 0), min(end - at, len(turn.text))
            if first < last:
                text += turn.text[done:first] + (words if end - at <= len(turn.text) else "")
                done = last
        text += turn.text[done:]
        at += len(turn.text)
        turns.append(turn if text == turn.text else replace(turn, text=text, ids=template.encode(text)))
    return replace(dialogue, turns=tuple(turns))


def controlled(
    dialogue: Dialogue, verifier: str, checks: str, verdicts: str, template: Template, bridges: Mapping[str, str]
) -> Dialogue:
    """The dialogue as `pack.checks` (own, none) and `pack.verdicts` (own, coin) want it."""
    task = tasks.named(verifier)
    if checks == "none":
        dialogue = edited(dialogue, without_checks(task, join_text(dialogue, bridges)), template, bridges)
    if verdicts == "coin":
        flips = coin_verdicts(task, join_text(dialogue, bridges), dialogue.id)
        dialogue = edited(dialogue, flips, template, bridges)
    return dialogue


def wrong_spans(
    dialogue: Dialogue, verifier: str, wrong: Sequence[int], bridges: Mapping[str, str]
) -> list[tuple[int, int]]:
    """Where in the joined chain the attempts with these numbers stand: (start, end) of each, no white space at it."""
    chain = join_text(dialogue, bridges)
    found = [tasks.read(tasks.named(verifier), chain).attempts[n] for n in wrong]
    return [(a.start, a.start + len(chain[a.start : a.end].rstrip())) for a in found]
