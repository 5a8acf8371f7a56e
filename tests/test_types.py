"""Rows on disk: each type reads its row back, and rows of older versions stay readable."""

import json
from dataclasses import replace

import pytest
from places import TEST_DATA
from rows import RIGHT, WRONG, graded, kept

from dpr_mini.files.rows import read_json, read_rows
from dpr_mini.scoring.scores import Card, Estimate
from dpr_mini.types import GREEDY, Dialogue, Graded, Kept, Problem, Turn, from_row

ROWS = [(case["version"], case["row"]) for case in read_rows(TEST_DATA / "graded.jsonl")]
CARDS = read_json(TEST_DATA / "cards.json")
FILLED = {"level": "", "subject": "", "joined_ok": None, "vote": None}  # what graded rows older than version 4 lack


def through_json(row):
    return json.loads(json.dumps(row, allow_nan=False))


@pytest.mark.parametrize(("version", "row"), ROWS, ids=[f"version {v}, {r['id']}" for v, r in ROWS])
def test_graded_rows_of_every_version_are_read_and_keep_their_form(version, row):
    answer = Graded.from_row(row)
    assert answer.to_row() == {**FILLED, **row}
    assert version < 4 or list(answer.to_row()) == list(row), "keys in the order in which they always were"
    assert (answer.verdict.status, answer.verdict.extracted) == (row["status"], row["extracted"])
    assert (answer.first, answer.last, answer.attempt) == (row["first_ok"], row["last_ok"], row["attempt_ok"])
    assert answer.joined is row.get("joined_ok")


def test_the_fixture_has_old_rows_and_new_ones_a_greedy_one_and_a_dialogues():
    assert {v for v, _ in ROWS} == {1, 3, 4} and "vote" not in ROWS[0][1] and ROWS[-1][1]["joined_ok"]
    greedy = Graded.from_row(next(r for _, r in ROWS if r["sample"] == GREEDY))
    assert greedy.greedy and greedy.sample is None and greedy.right and greedy.id.endswith("#-1")


def test_a_graded_row_without_its_verdict_is_refused():
    row = {name: value for name, value in ROWS[-1][1].items() if name != "status"}
    with pytest.raises(TypeError, match="status"):
        Graded.from_row(row)


def test_a_card_of_today_is_read_and_written_to_the_last_digit():
    row = CARDS["version 4"]
    card = Card.from_row(row)
    assert json.dumps(card.to_row()) == json.dumps(row)
    assert isinstance(card.maj, Estimate) and card.by_level["1 digit"].tokens_mean == 33.1125
    assert card.estimate == Estimate(40, card.mean, card.low, card.high, card.se) and card.joined is None
    assert json.dumps(Card.from_row({**row, "joined": 0.5}).to_row()).count('"joined": 0.5') == 1


def test_a_card_of_version_1_is_read():
    row = CARDS["version 1"]
    card = Card.from_row(row)
    assert row.items() <= card.to_row().items() and card.k_most == card.k == 4
    assert (card.se, card.greedy_estimate, card.pass_at, card.maj) == (None, None, None, None)
    assert card.lengths == card.by_level == card.by_subject == {}


def test_a_kept_dialogue_is_read_back_with_all_that_is_in_it():
    turns = (Turn("solve", "q", (1, 2), "a", "stop"), Turn("verify", "r", (3,), "b", "length", 7, 5))
    case = kept(Dialogue("p#0", "p", 0, turns, "made", 1), WRONG, RIGHT, kind="corrected")
    row = through_json(case.to_row())
    assert list(row) == ["id", "problem_id", "kind", "verdicts", "behaviours", "dialogue", "attempt"]
    assert from_row(Kept, row) == case
    task = replace(case, verifier="countdown", wrong=(0, 2))
    assert from_row(Kept, through_json(task.to_row())) == task


def test_what_a_type_lacks_is_left_out_and_what_a_row_lacks_gets_its_default():
    problem = from_row(Problem, {"id": "p", "source": "s", "text": "t", "answer": "1", "more": 2})
    assert problem == Problem("p", "s", "t", "1")
    with pytest.raises(TypeError, match="answer"):
        from_row(Problem, {"id": "p", "source": "s", "text": "t"})


def test_the_helper_makes_a_row_as_an_evaluation_does():
    assert list(graded("a", None, True).to_row()) == list(ROWS[-1][1])
