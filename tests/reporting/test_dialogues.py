"""Unedited dialogues: one of each kind, in proportion, that nobody picked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from run_by_hand import kept, make

from dpr_mini.files.rows import read_json, write_json, write_rows
from dpr_mini.reporting import data, dialogues, samples
from dpr_mini.reporting.results import Results
from dpr_mini.reporting.samples import by_hash

Made = tuple[dict[str, Path], dict[str, Any]]


def test_a_rare_kind_stands_last_folded_and_called_rare(made: Made) -> None:
    rows = [kept("p0#0", "corrected", ("MENDED", "b"))]
    rows += [kept(f"p{i}#0", "confirmed", ("a", "b")) for i in range(1, 40)]
    write_rows(made[0]["filter-1"] / "rows.jsonl", rows)
    common, rare, second = dialogues.kept(Results(made[0])).blocks
    assert (common.title, common.folded) == (
        "confirmed (right, then right again): 39 of 40 kept in phase 1, 97.5%", False)  # fmt: skip
    assert (rare.title, rare.folded) == ("Rare: corrected (wrong, then right): 1 of 40 kept in phase 1, 2.5%", True)
    assert rare.turns[1][2] == "MENDED" and rare.note.startswith("p0#0, expected answer: 7.")
    assert (second.title, second.folded) == ("single right (right in one turn): 2 of 2 kept in phase 2, 100.0%", False)


def test_which_one_is_shown_is_decided_by_a_hash(made: Made) -> None:
    rows = [kept(f"p{i}#0", "confirmed", ("a", "b")) for i in range(30)]
    first = by_hash((row["id"] for row in rows), 1)[0]
    for order in (rows, rows[::-1]):
        write_rows(made[0]["filter-1"] / "rows.jsonl", order)
        shown = dialogues.kept(Results(made[0])).blocks[0]
        assert shown.note.startswith(f"{first}, expected answer")
    assert first != rows[0]["id"], "a first one by id would pass this test"


def test_a_dropped_dialogue_says_why(made: Made) -> None:
    (talk,) = dialogues.dropped(Results(made[0])).blocks
    assert talk.title == "false_arithmetic: 2 of 3 dropped in phase 1, 66.7%"
    kind, label, text = talk.turns[-1]
    assert (kind, label) == ("evidence", "dropped because") and text.startswith("false_arithmetic: ")


def test_a_first_turn_that_was_dropped_too_is_shown_alone(made: Made) -> None:
    """A filter with `prefixes` gives it its dialogue's id with "/first" behind; no file has a row of that id."""
    results = Results(made[0])
    talk = next(row for row in results.rows("dialogue-1") if len(row["turns"]) > 1)
    drop = {"dialogue_id": f"{talk['id']}/first", "rule": "duplicate", "evidence": "said before"}
    write_rows(made[0]["filter-1"] / "drops.jsonl", [drop])
    (shown,) = dialogues.dropped(Results(made[0])).blocks
    assert shown.note.startswith(f"{talk['id']}/first, expected answer") and len(shown.turns) == 3
    (sample,) = samples.groups(Results(made[0]))["dropped", "filter-1", "duplicate"].samples
    assert sample.title.startswith(f"{talk['id']}/first") and len(sample.turns) == 3
    assert sample.turns[1][2] == talk["turns"][0]["text"]


def test_what_filter_and_pack_counted_is_in_the_funnel(made: Made) -> None:
    def counts(**more) -> dict[str, str]:
        for role, metrics in more.items():
            file = made[0][role.replace("_", "-")] / "stage.json"
            write_json(file, (manifest := read_json(file)) | {"metrics": manifest["metrics"] | metrics})
        table = next(t for t in data.funnel(Results(made[0]), lambda *_: "").blocks if t.head[0] == "what")
        return {row[0]: row[1] for row in table.rows}

    assert not [name for name in counts() if name.startswith("mix") or "first turns" in name or "texts" in name]
    mix = {"total": 6, "kept": {"confirmed": 4, "single_right": 2}, "there": {"confirmed": 9, "single_right": 2}}
    filtered = {"prefixes": {"tried": 30, "kept": 2}, "mix": {**mix, "limited_by": ["single_right"]}}
    found = counts(filter_1=filtered, pack_1={"distinct_samples": 5, "contents": 1234})
    assert found["kept: first turns of dropped dialogues"] == "2 of 30"
    assert found["mix: confirmed"] == "4 of 9 that passed the rules"
    assert found["mix: single right"] == "2 of 2 that passed the rules, which limits the rest"
    assert (found["packed: distinct samples"], found["packed: distinct texts"]) == ("5", "1,234")


def test_without_filters_there_is_none(tmp_path: Path) -> None:
    at, _ = make(tmp_path)
    results = Results({role: folder for role, folder in at.items() if not role.startswith("filter")})
    assert dialogues.kept(results).blocks == dialogues.dropped(results).blocks == []
