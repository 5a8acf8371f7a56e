"""The samples behind the report's numbers: for each bar or cell a few dialogues, unedited, that a click shows.

Which ones is decided by a hash of their id, so nobody picked them. A page holds only so many; each group says how many
there are in all and in which file the others stand.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from dpr_mini.files.rows import StoreError, row_as
from dpr_mini.reporting.document import Sample, Samples
from dpr_mini.reporting.results import ANSWERS, Results
from dpr_mini.selection.judging import PREFIX
from dpr_mini.types import Dialogue, Graded, Verdict, digest

Key = tuple[str, ...]
Links = Mapping[Key, str]  # what a number is of -> id of its group on the page
SHOWN = 6  # samples a group (ours)
LONGEST = 5000  # characters of one text (ours)


def groups(results: Results) -> dict[Key, Samples]:
    """Groups that have samples, by what they are of:

    ("answers", model, benchmark), ("right" | "wrong", model) the longest ones, ("wrong to right" | "right to wrong",
    model), (behaviour, model), ("dropped", filter's role, rule), ("kept", bin), ("probed", bin).
    Raises StoreError where a row names a dialogue that is not there.
    """
    return {**_answers(results), **_dropped(results), **_by_difficulty(results)}


def _answers(results: Results) -> dict[Key, Samples]:
    groups: dict[Key, Samples] = {}
    for model, role in zip(results.models, results.evaluations, strict=True):
        sampled = model.answers()
        titled: dict[Key, tuple[str, list[Graded]]] = {}
        for b in results.benchmarks:
            titled["answers", model.label, b] = f"{model.label} on {b}: sampled answers", model.answers(b)
        for word, right in (("right", True), ("wrong", False)):
            titled[word, model.label] = f"{model.label}: {word} answers", [a for a in sampled if a.right is right]
        for word, before in (("wrong to right", False), ("right to wrong", True)):
            changed = [a for a in sampled if a.attempt is before and a.right is not before]
            titled[word, model.label] = f"{model.label}: {word} inside one answer", changed
        for name in model.cards[results.overall].behaviours:
            answers = [a for a in sampled if a.behaviours and a.behaviours[name]]
            titled[name, model.label] = f"{model.label}: answers that show {name}", answers
        chosen = {key: {a.id: a for a in answers} for key, (_, answers) in titled.items()}
        chosen = {key: {i: by[i] for i in by_hash(by, SHOWN)} for key, by in chosen.items()}
        talks = read(results, [role + ANSWERS], {i for by in chosen.values() for i in by})
        for key, (title, answers) in titled.items():
            right = sum(a.right for a in answers)
            source = f"{results.source(role, 'graded.jsonl')}, {results.source(role + ANSWERS, 'rows.jsonl')}"
            shown = [_talk(talks[i], results, answer.verdict) for i, answer in chosen[key].items()]
            groups |= _group(key, title, shown, len(answers), f"{right} of these right", source)
    return groups


class Chosen:
    """A few of many ids, by a hash of each, with something to remember of each; `count` is how many there were."""

    def __init__(self) -> None:
        self.count = 0
        self._few: dict[str, Any] = {}

    def add(self, name: str, of: Any = None) -> None:
        """One more id."""
        self.count += 1
        self._few[name] = of
        if len(self._few) >= 10 * SHOWN:  # now and then, so that each one costs little
            self._few = self.few

    @property
    def few(self) -> dict[str, Any]:
        """The chosen ones in the order of the hash, and what was to be remembered."""
        return {name: self._few[name] for name in by_hash(self._few, SHOWN)}


def _dropped(results: Results) -> dict[Key, Samples]:
    groups: dict[Key, Samples] = {}
    for role, stages in (("filter-1", ["dialogue-1"]), ("filter-2", ["probe-2", "sample-2"])):
        if role not in results.at or not set(stages) <= results.at.keys():
            continue
        chosen: dict[str, Chosen] = defaultdict(Chosen)  # by rule, with what the rule saw
        for drop in results.dropped(role):
            chosen[drop.rule].add(drop.dialogue_id, drop.evidence)
        talks = read(results, stages, {i for of in chosen.values() for i in of.few})
        for rule, of in chosen.items():
            shown = [_talk(talks[i], results, end=f"{rule}: {evidence}") for i, evidence in of.few.items()]
            title, source = f"Dropped in phase {role[-1]} by {rule}", results.source(role, "drops.jsonl")
            groups |= _group(("dropped", role, rule), title, shown, of.count, "", source)
    return groups


def _by_difficulty(results: Results) -> dict[Key, Samples]:
    groups: dict[Key, Samples] = {}
    if not results.bins or "probe-2" not in results.at:
        return groups
    for word, role, title in (("kept", "filter-2", "kept"), ("probed", "probe-2", "drawn by the probe")):
        chosen = {b.label: Chosen() for b in results.bins}
        for row in results.rows(role):
            if label := results.bin_of.get(row["problem_id"]):
                chosen[label].add(row["id"])
        stages = ["probe-2", "sample-2"] if word == "kept" else ["probe-2"]
        talks = read(results, stages, {i for of in chosen.values() for i in of.few})
        for label, of in chosen.items():
            shown = [_talk(talks[i], results) for i in of.few]
            what = f"Answers to problems of pass rate {label}, {title}"
            groups |= _group((word, label), what, shown, of.count, "", results.source(role, "rows.jsonl"))
    return groups


def by_hash(ids: Iterable[str], most: int) -> list[str]:
    """The first `most` dialogue ids in the order of a hash of each: a sample that nobody picked."""
    return heapq.nsmallest(most, ids, key=lambda i: digest("shown", i))


def read(results: Results, roles: Iterable[str], ids: set[str]) -> dict[str, Dialogue]:
    """The dialogues of some ids; the files may be far larger than what is shown of them.

    An id that ends in PREFIX is of a dialogue's first turn alone, which a filter made. Raises StoreError where one of
    them is not there.
    """
    whole = {i.removesuffix(PREFIX) for i in ids}
    found = {
        row["id"]: row_as(Dialogue, row, f"{results.source(role, 'rows.jsonl')}:{number}")
        for role in roles
        for number, row in enumerate(results.rows(role), 1)
        if row["id"] in whole
    }
    firsts = {i + PREFIX: replace(talk, id=i + PREFIX, turns=talk.turns[:1]) for i, talk in found.items()}
    talks = {i: talk for i, talk in (found | firsts).items() if i in ids}
    if missing := ids - talks.keys():
        raise StoreError(f"{', '.join(results.source(r, 'rows.jsonl') for r in roles)}: no dialogue {min(missing)}")
    return talks


def _talk(dialogue: Dialogue, results: Results, verdict: Verdict | None = None, end: str = "") -> Sample:
    passages = []
    for turn in dialogue.turns:
        passages.append(("asked", f"asked ({turn.instruction})", _cut(turn.prompt)))
        passages.append(("model", f"model, {len(turn.ids)} tokens, {turn.finish}", _cut(turn.text)))
    if verdict:
        text = f"{verdict.extracted or 'no answer'} ({verdict.how})"
        passages.append(("correct" if verdict.ok else "evidence", f"graded {verdict.status}", text))
    passages += [("evidence", "dropped because", end)] if end else []
    return Sample(f"{dialogue.id}, expected answer: {results.expected(dialogue.problem_id)}", passages)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ... ({len(text) - LONGEST:,} more characters)"


def _group(key: Key, title: str, shown: list[Sample], count: int, more: str, source: str) -> dict[Key, Samples]:
    if not shown:
        return {}
    note = f"{len(shown)} of {count:,}, chosen by a hash of their id" + (f"; {more}" if more else "") + "."
    return {key: Samples("s" + digest(*key)[:10], title, shown, note, source)}


def linker(links: Links) -> Callable[..., str]:
    """Key -> "#id" of its group, or "" where there is none."""
    return lambda *key: f"#{links[key]}" if key in links else ""
