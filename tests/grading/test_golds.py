"""One reader of golds for all commands: what a value plainly says is read, anything else is a line, never a verdict."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from dpr_mini.commands.grade import grade_file, read_cases
from dpr_mini.files.foreign import Numeral, foreign_rows
from dpr_mini.grading.golds import FieldError, gold_text, mended, opened, optional, row_id
from dpr_mini.grading.grader import Grader
from dpr_mini.types import UserError


@pytest.mark.parametrize(
    ("written", "gold"),
    [
        ("0.00002", "0.00002"),
        ("6.25e-3", "0.00625"),
        ("7E2", "700"),
        ("-1.5e+20", "-150000000000000000000"),
        ("3.0", "3.0"),
        ("2.50", "2.50"),
        ("-0.1000000000000000000001", "-0.1000000000000000000001"),
        ("4e900", "4e900"),
        ("1e-99999999999999999999", "1e-99999999999999999999"),
        ("7" * 6000, "7" * 6000),
        ('"8"', "8"),
        ("[8]", "8"),
        ('["x+1"]', "x+1"),
        ('" 5 "', "5"),
        (r'"1 + 2 = <<1+2=3>>3\n#### 3"', "3"),
        (r'"12 * 200 is 2,400.\n#### 2,400"', "2,400"),
        (r'"Thus $y = \\boxed{\\frac{2}{9}}$."', r"\frac{2}{9}"),
        (r'"\\boxed{3}, \\boxed{5}"', "3, 5"),
        ('"<"', "<"),
        (r'"\\{\\}"', r"\{\}"),
        (r'"\\emptyset"', r"\emptyset"),
        ('"014"', "014"),
    ],
)
def test_a_gold_is_what_the_file_says(tmp_path, written, gold):
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"gold": {written}}}\n')
    ((where, row),) = foreign_rows(path)
    assert gold_text(row["gold"], where) == gold


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("null", "got null"),
        ("NaN", "got NaN"),
        ("Infinity", "got Infinity"),
        ("true", "got true"),
        ("[]", "got a list of 0"),
        ("[3, 4]", "got a list of 2"),
        ("[[3]]", "got a list of 1"),
        ("[null]", "got null"),
        ('{"value": 3}', "got an object"),
        ('""', "holds no value"),
        (r'" \n\u200b"', "holds no value"),
        (r'"$\\boxed{ }$"', "holds no value"),
        ('"####"', "holds no value"),
        ('["."]', "holds no value"),
        (r'"5\ud83d"', "half of a surrogate pair"),
    ],
)
def test_what_is_no_gold_is_a_line_and_never_a_verdict(tmp_path, written, says):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": 1, "gold": "5", "pred": "5"}\n' + f'{{"id": 2, "gold": {written}, "pred": "5"}}\n')
    with pytest.raises(FieldError, match=rf"rows\.jsonl:2: gold .*{says}") as caught:
        grade_file(path, tmp_path / "out.jsonl")
    assert "\n" not in str(caught.value) and not (tmp_path / "out.jsonl").exists()


def test_numbers_that_come_from_no_text_are_written_out_as_well():
    assert [gold_text(v, "x") for v in (1e-7, 12, Decimal("2.50"), Decimal("1E+3"), 3.0)] == [
        "0.0000001", "12", "2.50", "1000", "3.0"
    ]  # fmt: skip
    for value in (b"5", 5j, Decimal("NaN"), Numeral("nan"), (1,)):
        with pytest.raises(UserError, match="x: gold must be"):
            gold_text(value, "x")


def test_optional_fields_ids_and_what_a_model_wrote():
    assert [optional(v, "x", "level") for v in (None, float("nan"), 0, "hard", 2.0)] == ["", "", "0", "hard", "2.0"]
    assert [row_id(v, "x") for v in (1, "a", 2.5)] == [1, "a", 2.5]
    for value in (None, True, [1], float("nan"), Numeral("1e999"), "\udc00"):
        with pytest.raises(UserError, match="x: id "):
            row_id(value, "x")
    assert mended("5\ud83d and \U0001f600") == "5\ufffd and \U0001f600"


def test_the_grader_opens_golds_as_the_reader_does():
    with Grader() as grader:
        assert grader.grade("15 - 6 = 9\n#### 9", "So the answer is 9.").ok
        assert grader.grade(r"so \boxed{9}", "So the answer is 9.").ok
    assert opened("3 \\text{ and } 4") == "3 \\text{ and } 4" and opened("025") == "025"


def test_cases_are_read_before_any_work(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [
        {"id": 1, "gold": 1e-05, "pred": "10^{-5}"},
        {"id": "b", "gold": ["27"], "pred": 27.0},
        {"id": 3.5, "gold": "7", "pred": "cut \ud83d"},
        {"id": 4, "gold": "7", "pred": ""},
    ]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert list(read_cases(path)) == [
        (1, "0.00001", "10^{-5}"), ("b", "27", "27.0"), (3.5, "7", "cut \ufffd"), (4, "7", "")
    ]  # fmt: skip
    for pred in ("null", "[5]", "true", "NaN"):
        path.write_text(f'{{"id": 1, "gold": "5", "pred": {pred}}}\n')
        with pytest.raises(UserError, match=r"rows\.jsonl:1: pred must be"):
            list(read_cases(path))


def test_a_target_that_cannot_be_is_refused_before_the_rows_are_read(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("not read\n")
    (tmp_path / "link.jsonl").symlink_to(path)
    (tmp_path / "hard.jsonl").hardlink_to(path)
    for out, says in (
        (tmp_path / "none" / "o.jsonl", "none: no such folder"),
        (tmp_path, "must be a file"),
        (path, "is a file that is read"),
        (tmp_path / "link.jsonl", "is a file that is read"),
        (tmp_path / "hard.jsonl", "is a file that is read"),
    ):
        with pytest.raises(UserError, match=says):
            grade_file(path, out)
    assert path.read_text() == "not read\n"


def test_what_is_graded_is_counted_in_a_line(tmp_path, capsys):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": 1, "gold": "5", "pred": "5"}\n{"id": 2, "gold": "5", "pred": ""}\n')
    assert grade_file(path, tmp_path / "o.jsonl") == {"correct": 1, "unparsed": 1}
    line = "graded 2: correct 1, wrong 0, unparsed 1, timeout 0; of the unparsed, crashed 0 -> "
    assert capsys.readouterr().out.startswith(line)


def test_closed_forms_are_refused_or_accepted(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": 1, "gold": "5", "pred": "5"}\n')
    with pytest.raises(UserError, match="closed_forms is refuse or accept, got 'maybe'"):
        grade_file(path, tmp_path / "o.jsonl", closed_forms="maybe")
    assert grade_file(path, tmp_path / "o.jsonl", closed_forms="accept") == {"correct": 1}
