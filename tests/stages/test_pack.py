"""Packing: nothing lost, nothing doubled, nothing over the edge, no row without something to learn."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import staging
from rows import kept as kept_dialogue

from dpr_mini import recipe
from dpr_mini.files.rows import StoreError, read_rows, write_rows
from dpr_mini.types import Dialogue, Pack, Turn, Verdict, from_row, to_row

ROOM = 40


class Letters:
    """A template of one id a letter; the end token is 0, which is not read back."""

    end = 0

    def opening(self, text):
        return (1, *map(ord, text), 2)

    def encode(self, text):
        return tuple(map(ord, text))

    def decode(self, ids):
        return "".join(chr(i) for i in ids if i)


def kept(folder: Path, *dialogues: tuple[str, list[tuple[str, str]], str]) -> Path:
    """(id, [(text, verdict) per turn], finish) -> a filter stage's folder."""
    rows = []
    for name, turns, finish in dialogues:
        done = tuple(
            Turn("solve" if i == 0 else "verify", "q", tuple(map(ord, text)), text, finish)
            for i, (text, _) in enumerate(turns)
        )
        verdicts = (Verdict(status, "", "") for _, status in turns)
        rows.append(to_row(kept_dialogue(Dialogue(name, "p", 0, done, "scripted", 0), *verdicts)))
    folder.mkdir()
    write_rows(folder / "rows.jsonl", rows)
    return folder


def trained_text(row: Pack) -> str:
    return "".join(chr(i) if i else "$" for i, t in zip(row.ids, row.trained, strict=True) if t)


def run(tmp_path, *dialogues, **config):
    folder = tmp_path / "pack"
    folder.mkdir()
    settings = recipe.PackConfig(**{"tokens_per_row": ROOM, **config})
    metrics = staging.pack(folder, kept(tmp_path / "kept", *dialogues), settings, Letters(), {"verify": "|"})
    rows = list(read_rows(folder / "rows.jsonl"))
    return metrics, rows, list(read_rows(folder / "drops.jsonl"))


def test_run_masks_a_wrong_first_attempt(tmp_path):
    wrong = ("a", [("one", "wrong"), ("two", "correct")], "stop")
    right = ("b", [("one", "correct"), ("two", "correct")], "stop")
    metrics, rows, drops = run(tmp_path, wrong, right)
    assert [r["id"] for r in rows] == ["row-000000"] and not drops
    packed = from_row(Pack, rows[0])
    assert packed.samples == ("a", "b") and trained_text(packed) == "|two$" + "one|two$"
    assert metrics["rows"] == 1 and metrics["samples"] == 2
    assert metrics["trained_tokens"] == len("|two$one|two$")
    assert metrics["contents"] == 2
    assert metrics["tokens"] == len(packed.ids) and metrics["fill"] == len(packed.ids) / ROOM


def test_run_can_train_on_a_wrong_first_attempt_and_always_trains_on_a_single_turn(tmp_path):
    (tmp_path / "x").mkdir()
    wrong = ("a", [("one", "wrong"), ("two", "correct")], "stop")
    _, rows, _ = run(tmp_path / "x", wrong, mask_wrong_first=False)
    assert trained_text(from_row(Pack, rows[0])) == "one|two$"
    _, rows, _ = run(tmp_path, ("a", [("one", "wrong")], "stop"))
    assert trained_text(from_row(Pack, rows[0])) == "one$"


def test_run_writes_a_log_line_for_every_sample_left_out(tmp_path):
    metrics, rows, drops = run(
        tmp_path,
        ("long", [("x" * 50, "correct")], "stop"),
        ("empty", [("", "correct")], "length"),
        ("fine", [("ok", "correct")], "stop"),
    )
    assert [(d["dialogue_id"], d["rule"]) for d in drops] == [("long", "too_long"), ("empty", "no_targets")]
    assert "54 tokens" in drops[0]["evidence"] and "40" in drops[0]["evidence"]
    assert [r["samples"] for r in rows] == [["fine"]] and metrics["dropped"] == 2


def test_run_with_nothing_left_says_why_and_keeps_the_log(tmp_path):
    with pytest.raises(StoreError, match=r"no sample left to train on.*longest 54.*40"):
        run(tmp_path, ("long", [("x" * 50, "correct")], "stop"))
    assert json.loads((tmp_path / "pack" / "drops.jsonl").read_text())["dialogue_id"] == "long"
    assert not (tmp_path / "pack" / "rows.jsonl").exists()


class Spelled(Letters):
    """Letters that are read back, too; the first of "." and what follows it is one token."""

    def decode(self, ids):
        return "".join(chr(i) if i < 1000 else "." + chr(i - 1000) for i in ids if i)

    def encode(self, text):
        ids = list(map(ord, text))
        while 46 in ids[:-1]:
            at = ids.index(46)
            ids[at : at + 2] = [1000 + ids[at + 1]]
        return tuple(ids)


def chain(folder: Path, text: str, attempt: str | None, ids=None, turns=1) -> Path:
    """A kept answer in one turn (or two of the same text) with the verdict on what stands before its first bridge."""
    template = Spelled()
    made = Turn("solve", "q", ids or template.encode(text), text, "stop")
    case = kept_dialogue(Dialogue("a", "p", 0, (made,) * turns, "scripted", 0), *[Verdict("correct", "", "")] * turns)
    folder.mkdir()
    verdict = Verdict(attempt, "", "") if attempt else None
    write_rows(folder / "rows.jsonl", [to_row(replace(case, attempt=verdict))])
    return folder


def packed_chain(tmp_path, text, attempt, ids=None, turns=1, bridge="\nCheck: ", **config):
    folder = tmp_path / "pack"
    folder.mkdir()
    source = chain(tmp_path / "kept", text, attempt, ids, turns)
    settings = recipe.PackConfig(tokens_per_row=200, **config)
    staging.pack(folder, source, settings, Spelled(), {"verify": bridge})
    row = from_row(Pack, next(iter(read_rows(folder / "rows.jsonl"))))
    trained = [i for i, t in zip(row.ids, row.trained, strict=True) if t]
    return Spelled().decode([i for i in trained if i]), row


def test_a_wrong_first_attempt_of_a_chain_in_one_turn_is_masked_to_the_token(tmp_path):
    text = "6+7=12\nCheck: 6+7=13\nCheck: 13"
    trained, row = packed_chain(tmp_path, text, "wrong")
    assert trained == "\nCheck: 6+7=13\nCheck: 13", "as if it had been two turns: the bridge is trained, too"
    assert Spelled().decode(row.ids[3:-1]) == text, "what is masked stays in the row"
    assert not any(row.trained[:9]) and all(row.trained[9:])


@pytest.mark.parametrize(("attempt", "config"), [("correct", {}), (None, {}), ("wrong", {"mask_wrong_first": False})])
def test_nothing_else_of_a_chain_is_masked(tmp_path, attempt, config):
    text = "6+7=13\nCheck: 6+7=13" if attempt else "6+7=13"
    assert packed_chain(tmp_path, text, attempt, **config)[0] == text


def test_a_token_that_holds_the_end_of_the_wrong_attempt_is_masked_whole(tmp_path):
    assert packed_chain(tmp_path, "It is 12.\nCheck: 13", "wrong")[0] == "Check: 13"


def test_the_wrong_start_of_a_right_first_turn_is_masked(tmp_path):
    trained, _ = packed_chain(tmp_path, "12\nCheck: 13", "wrong", turns=2)
    assert trained == "\nCheck: 13" + "\n\n" + "12\nCheck: 13"


def test_tokens_that_do_not_spell_what_is_masked_are_dropped_with_a_line(tmp_path):
    with pytest.raises(StoreError, match="no sample left to train on"):
        packed_chain(tmp_path, "12\nCheck: 13", "wrong", ids=tuple(map(ord, "twelve\nCheck: 13")))
    (drop,) = read_rows(tmp_path / "pack" / "drops.jsonl")
    assert drop["rule"] == "mask" and "'12'" in drop["evidence"]


# ---------------------------------------------------------------- a number of rows


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_so_many_rows_are_filled_with_samples_taken_again_where_there_are_too_few(tmp_path, rows):
    texts = [(f"d{i}", [("abc" * (1 + i % 3), "correct")], "stop") for i in range(6)]
    metrics, packed, _ = run(tmp_path, *texts, rows=rows)
    assert metrics["rows"] == len(packed) == rows
    assert metrics["fill"] > 0.8
    names = [name for row in packed for name in row["samples"]]
    assert metrics["samples"] == len(names) and metrics["distinct_samples"] == len(set(names))
    assert metrics["trained_tokens"] == sum(sum(row["trained"]) for row in packed)


def test_rows_and_trained_tokens_are_two_budgets():
    with pytest.raises(ValueError, match="choose one"):
        recipe.PackConfig(rows=3, trained_tokens=7)
