"""The samples behind the report's numbers: for each bar or cell a few dialogues, unedited, that a click shows.

Which ones is decided by a hash of their id, so nobody picked them. A page holds only so many; each group says how many
there are in all and in which file the others stand.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from dpr_mini.reporting.document import Sample, Samples
from dpr_mini.reporting.results import ANSWERS, Results, inside_bin
from dpr_mini.store import StoreError
from dpr_mini.types import digest

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
    golds = {r["id"]: r["answer"] for r in results.rows("problems")} if "problems" in results.at else {}
    return {**_answers(results, golds), **_dropped(results, golds), **_by_difficulty(results, golds)}


def _answers(results: Results, golds: Mapping[str, str]) -> dict[Key, Samples]:
    found: dict[Key, Samples] = {}
    for model, role in zip(results.models, results.evaluations, strict=True):
        sampled = model.answers()
        wanted: dict[Key, tuple[str, list[dict[str, Any]]]] = {}
        for b in results.benchmarks:
            wanted["answers", model.label, b] = f"{model.label} on {b}: sampled answers", model.answers(b)
        for word, right in (("right", True), ("wrong", False)):
            rows = [r for r in sampled if (r["status"] == "correct") is right]
            wanted[word, model.label] = f"{model.label}: {word} answers", rows
        for word, before in (("wrong to right", False), ("right to wrong", True)):
            changed = [r for r in sampled if r["attempt_ok"] is before and (r["status"] == "correct") is not before]
            wanted[word, model.label] = f"{model.label}: {word} inside one answer", changed
        for name in sampled[0]["behaviours"]:
            rows = [r for r in sampled if r["behaviours"][name]]
            wanted[name, model.label] = f"{model.label}: answers that show {name}", rows
        chosen = {key: _choose(rows) for key, (_, rows) in wanted.items()}
        talks = _read(results, [role + ANSWERS], {r["id"] for rows in chosen.values() for r in rows})
        for key, (title, rows) in wanted.items():
            right = sum(r["status"] == "correct" for r in rows)
            source = f"{results.source(role, 'graded.jsonl')}, {results.source(role + ANSWERS, 'rows.jsonl')}"
            shown = [_talk(talks[r["id"]], golds, [r]) for r in chosen[key]]
            found |= _group(key, title, shown, len(rows), f"{right} of these right", source)
    return found


def _dropped(results: Results, golds: Mapping[str, str]) -> dict[Key, Samples]:
    found: dict[Key, Samples] = {}
    for role, drawn in (("filter-1", ["dialogue-1"]), ("filter-2", ["probe-2", "sample-2"])):
        if role not in results.at or not set(drawn) <= results.at.keys():
            continue
        by: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for drop in results.rows(role, "drops.jsonl"):
            by[drop["rule"]].append(drop)
        chosen = {rule: _choose(drops, "dialogue_id") for rule, drops in by.items()}
        talks = _read(results, drawn, {d["dialogue_id"] for drops in chosen.values() for d in drops})
        for rule, drops in by.items():
            shown = [_talk(talks[d["dialogue_id"]], golds, end=f"{rule}: {d['evidence']}") for d in chosen[rule]]
            source = results.source(role, "drops.jsonl")
            found |= _group(
                ("dropped", role, rule), f"Dropped in phase {role[-1]} by {rule}", shown, len(drops), "", source
            )
    return found


def _by_difficulty(results: Results, golds: Mapping[str, str]) -> dict[Key, Samples]:
    found: dict[Key, Samples] = {}
    if not results.bins or "probe-2" not in results.at:
        return found
    rates = {b["problem_id"]: b["rate"] for b in results.rows("sample-2", "budgets.jsonl")}
    kept = [{"id": r["id"], "problem_id": r["problem_id"]} for r in results.rows("filter-2")]
    probed = [{"id": r["id"], "problem_id": r["problem_id"]} for r in results.rows("probe-2")]
    for word, rows, title in (("kept", kept, "kept"), ("probed", probed, "drawn by the probe")):
        drawn = ["probe-2", "sample-2"] if word == "kept" else ["probe-2"]
        inside = {b.label: [r for r in rows if inside_bin(b.label, rates[r["problem_id"]])] for b in results.bins}
        chosen = {label: _choose(mine) for label, mine in inside.items()}
        talks = _read(results, drawn, {r["id"] for mine in chosen.values() for r in mine})
        for label, mine in inside.items():
            shown = [_talk(talks[r["id"]], golds) for r in chosen[label]]
            source = results.source("filter-2" if word == "kept" else "probe-2", "rows.jsonl")
            what = f"Answers to problems of pass rate {label}, {title}"
            found |= _group((word, label), what, shown, len(mine), "", source)
    return found


def _choose(rows: Sequence[dict[str, Any]], name: str = "id") -> list[dict[str, Any]]:
    return sorted(rows, key=lambda r: digest("shown", r[name]))[:SHOWN]


def _read(results: Results, roles: Iterable[str], ids: set[str]) -> dict[str, dict[str, Any]]:
    """The dialogues of some ids; the files may be far larger than what is shown of them."""

    def there() -> Iterator[tuple[str, dict[str, Any]]]:
        for role in roles:
            yield from ((row["id"], row) for row in results.rows(role) if row["id"] in ids)

    found = dict(there())
    if missing := ids - found.keys():
        raise StoreError(f"{', '.join(results.source(r, 'rows.jsonl') for r in roles)}: no dialogue {min(missing)}")
    return found


def _talk(
    dialogue: Mapping[str, Any], golds: Mapping[str, str], graded: Sequence[Mapping[str, Any]] = (), end: str = ""
) -> Sample:
    said = []
    for turn in dialogue["turns"]:
        said.append(("asked", f"asked ({turn['instruction']})", _cut(turn["prompt"])))
        said.append(("model", f"model, {len(turn['ids'])} tokens, {turn['finish']}", _cut(turn["text"])))
    for r in graded:
        kind = "correct" if r["status"] == "correct" else "evidence"
        said.append((kind, f"graded {r['status']}", f"{r['extracted'] or 'no answer'} ({r['how']})"))
    said += [("evidence", "dropped because", end)] if end else []
    gold = golds.get(dialogue["problem_id"], "not known")
    return Sample(f"{dialogue['id']}, expected answer: {gold}", said)


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
