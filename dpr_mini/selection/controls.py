"""Chains about a task's problems, edited for controls: checks taken out, verdicts by a coin.

What is not edited stays to the character, and bridges are ours. Where checks go, a turn is tokenised anew; a coin's
verdict takes the place of the old one's tokens, and of as many as it had: how a word is spelled may not tell what the
coin hides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from dpr_mini import tasks
from dpr_mini.chat.template import Template, Unspelled, holding, join_text
from dpr_mini.tasks import Task
from dpr_mini.types import Dialogue, Turn, digest

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
    turns = []
    for turn, own in _by_turn(dialogue, edits, bridges):
        text, done = "", 0
        for first, last, words in own:
            text, done = text + turn.text[done:first] + words, last
        text += turn.text[done:]
        turns.append(turn if text == turn.text else replace(turn, text=text, ids=template.encode(text)))
    return replace(dialogue, turns=tuple(turns))


def swapped(dialogue: Dialogue, edits: Sequence[Edit], template: Template, bridges: Mapping[str, str]) -> Dialogue:
    """The same with all other tokens as they were, and with as many tokens for the new words as the old ones had.

    White space behind the words goes or comes where that needs it: where "Right." and "Wrong. " are tokens, one takes
    the other's place.
    """
    turns = []
    for turn, own in _by_turn(dialogue, edits, bridges):
        new = turn
        for first, last, words in reversed(own):  # what is before stays where it was
            if turn.text[first:last] != words:
                new = _swap(new, first, last, words, template)
        turns.append(new)
    return replace(dialogue, turns=tuple(turns))


def _swap(turn: Turn, first: int, last: int, words: str, template: Template) -> Turn:
    try:
        held = holding(turn.ids, turn.text, first, last, template)
    except Unspelled:
        text = turn.text[:first] + words + turn.text[last:]
        return replace(turn, text=text, ids=template.encode(text))
    begin = len(template.decode(turn.ids[: held.start]))
    end = len(template.decode(turn.ids[: held.stop]))
    plain = turn.text[begin:first] + words + turn.text[last:end]
    spelled = (plain,)
    if not any(c.isalnum() for c in turn.text[last:end]):  # else the space might part the word that begins there
        spelled += (plain.rstrip(), f"{plain.rstrip()} ")
    piece = next((s for s in spelled if len(template.encode(s)) == len(held)), plain)
    ids = (*turn.ids[: held.start], *template.encode(piece), *turn.ids[held.stop :])
    return replace(turn, text=turn.text[:begin] + piece + turn.text[end:], ids=ids)


def _by_turn(
    dialogue: Dialogue, edits: Sequence[Edit], bridges: Mapping[str, str]
) -> Iterator[tuple[Turn, list[Edit]]]:
    """Every turn with its edits, in characters of the turn."""
    at = 0
    for i, turn in enumerate(dialogue.turns):
        at += len(bridges.get(turn.instruction, "\n\n")) if i else 0
        own = [
            (first, last, words if end - at <= len(turn.text) else "")
            for start, end, words in edits
            if (first := max(start - at, 0)) < (last := min(end - at, len(turn.text)))
        ]
        yield turn, own
        at += len(turn.text)


def controlled(
    dialogue: Dialogue, verifier: str, checks: str, verdicts: str, template: Template, bridges: Mapping[str, str]
) -> Dialogue:
    """The dialogue as `pack.checks` (own, none) and `pack.verdicts` (own, coin) want it."""
    task = tasks.named(verifier)
    if checks == "none":
        dialogue = edited(dialogue, without_checks(task, join_text(dialogue, bridges)), template, bridges)
    if verdicts == "coin":
        flips = coin_verdicts(task, join_text(dialogue, bridges), f"{dialogue.id}/{dialogue.seed}")
        dialogue = swapped(dialogue, flips, template, bridges)
    return dialogue


def wrong_spans(
    dialogue: Dialogue, verifier: str, wrong: Sequence[int], bridges: Mapping[str, str]
) -> list[tuple[int, int]]:
    """Where in the joined chain the attempts with these numbers stand: (start, end) of each, no white space at it.

    The working before an attempt is part of it: a wrong one holds a false equation or leads to the wrong answer.
    """
    chain = join_text(dialogue, bridges)
    found = [tasks.read(tasks.named(verifier), chain).attempts[n] for n in wrong]
    return [(a.begin, a.begin + len(chain[a.begin : a.end].rstrip())) for a in found]
