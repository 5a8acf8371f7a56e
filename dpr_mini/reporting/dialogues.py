"""The report's sections of unedited dialogues: of those kept one of each kind, in proportion; one that was dropped.

Which one is shown is decided by a hash of its id. How many of its kind there are stands beside it, the commonest kind
first, so that a rare one does not pass for a typical one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from dpr_mini.reporting.document import Block, Section, Talk
from dpr_mini.reporting.results import FILTERS, Results
from dpr_mini.reporting.samples import Chosen, by_hash, read
from dpr_mini.selection.rules import KINDS
from dpr_mini.types import Dialogue, Kept, Verdict

RARE = 0.05  # of the kept dialogues; a kind below folds away and is called rare (ours)
KIND_WORDS = dict(
    zip(
        KINDS,
        ("right in one turn", "right, then right again", "wrong, then right", "right, then wrong", "never right"),
        strict=True,
    )
)


def kept(results: Results) -> Section:
    """For each phase one kept dialogue of each kind, the commonest kind first."""
    blocks: list[Block] = []
    for role, phase in FILTERS.items():
        if role not in results.at:
            continue
        counts, cases = _one_of_each(results.kept(role))
        total = counts.total()
        for kind, count in counts.most_common():
            rare, case = count / total < RARE, cases[kind]
            title = f"{'Rare: ' if rare else ''}{kind.replace('_', ' ')} ({KIND_WORDS[kind]}): "
            title += f"{count:,} of {total:,} kept in {phase}, {count / total:.1%}"
            note = "Drawn by a hash of its id from those of its kind."
            source = results.source(role, "rows.jsonl")
            blocks.append(_talk(results, title, case.dialogue, case.verdicts, note, source, folded=rare))
    return Section("Kept dialogues", blocks)


def dropped(results: Results) -> Section:
    """One dialogue that the commonest rule of the first filter dropped, with what the rule saw.

    Raises StoreError where the dialogue is not there.
    """
    title = "A dropped dialogue"
    rules = results.drops.get("filter-1")
    if not rules or "dialogue-1" not in results.at:
        return Section(title)
    (rule, count), total = rules.most_common(1)[0], rules.total()
    of_rule = Chosen()
    for drop in results.dropped("filter-1"):
        if drop.rule == rule:
            of_rule.add(drop.dialogue_id, drop.evidence)
    chosen, evidence = next(iter(of_rule.few.items()))
    talk = read(results, ["dialogue-1"], {chosen})[chosen]
    source = ", ".join([results.source("filter-1", "drops.jsonl"), results.source("dialogue-1", "rows.jsonl")])
    heading = f"{rule}: {count:,} of {total:,} dropped in phase 1, {count / total:.1%}"
    note = "Drawn by a hash of its id from those that the commonest rule dropped."
    end = f"{rule}: {evidence}"
    return Section(title, [_talk(results, heading, talk, (), note, source, end)])


def _one_of_each(cases: Iterable[Kept]) -> tuple[Counter[str], dict[str, Kept]]:
    """How many there are of each kind, and the first of each by the hash of its id; no more is held in memory."""
    counts: Counter[str] = Counter()
    first: dict[str, Kept] = {}
    for case in cases:
        counts[case.kind] += 1
        if case.kind not in first or by_hash((case.id, first[case.kind].id), 1)[0] == case.id:
            first[case.kind] = case
    return counts, first


def _talk(
    results: Results,
    title: str,
    dialogue: Dialogue,
    verdicts: Iterable[Verdict],
    note: str,
    source: str,
    end: str = "",
    folded: bool = False,
) -> Talk:
    """A dialogue turn by turn with each turn's verdict; `end` is why it was dropped."""
    grades = [f", {v.status} ({v.extracted or 'no answer'})" for v in verdicts]
    passages = []
    for i, turn in enumerate(dialogue.turns):
        grade = grades[i] if i < len(grades) else ""
        passages.append(("asked", f"asked ({turn.instruction})", turn.prompt))
        passages.append(("model", f"model, {len(turn.ids)} tokens, {turn.finish}{grade}", turn.text))
    passages += [("evidence", "dropped because", end)] if end else []
    expected = results.expected(dialogue.problem_id)
    return Talk(title, passages, f"{dialogue.id}, expected answer: {expected}. {note}", source, folded)
