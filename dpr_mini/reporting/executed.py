"""Checks that the texts carried out, for the report: counted in the stored dialogues, apart from word patterns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from dpr_mini.grading.reading import extract
from dpr_mini.reporting.results import ANSWERS, Results
from dpr_mini.selection import checks
from dpr_mini.types import Dialogue, from_row

DRAWN = {"filter-1": ("dialogue-1",), "filter-2": ("probe-2", "sample-2")}


def shares(results: Results) -> dict[tuple[str, str], dict[str, float]]:
    """Share of responses with at least one such line, by field of checks.FIELDS; n is under "responses".

    Keys are (model's label, "answers") for sampled answers, (filter's role, "drawn" or "kept") for dialogues. What has
    no stored dialogues has no entry.
    """
    problems = {r["id"]: r["text"] for r in results.rows("problems")} if "problems" in results.at else {}
    found = {}
    for model, role in zip(results.models, results.evaluations, strict=True):
        if role + ANSWERS in results.at:
            answers = {a.id: a.verdict.extracted for a in model.answers()}
            talks = (d for d in _talks(results, (role + ANSWERS,)) if d.id in answers)
            found[model.label, "answers"] = _shares(((d, answers[d.id]) for d in talks), problems)
    for role in results.drops:
        if all(stage in results.at for stage in DRAWN[role]):
            drawn = ((d, extract(d.turns[-1].text)[0]) for d in _talks(results, DRAWN[role]))
            found[role, "drawn"] = _shares(drawn, problems)
        kept = ((case.dialogue, case.verdicts[-1].extracted) for case in results.kept(role))
        found[role, "kept"] = _shares(kept, problems)
    return {key: value for key, value in found.items() if value}


def _talks(results: Results, roles: Iterable[str]) -> Iterator[Dialogue]:
    return (from_row(Dialogue, row) for role in roles for row in results.rows(role))


def _shares(said: Iterable[tuple[Dialogue, str]], problems: Mapping[str, str]) -> dict[str, float]:
    """Of dialogues and the answers read from them; {} where there are none."""
    counts: Counter[str] = Counter()
    total = 0
    for dialogue, answer in said:
        text = "\n\n".join(turn.text for turn in dialogue.turns)
        lines = checks.count(text, answer, problems.get(dialogue.problem_id, ""))
        counts.update(name for name, n in lines.items() if n)
        total += 1
    return {"responses": total} | {name: counts[name] / total for name in checks.FIELDS} if total else {}
