"""Rules that execute: verdicts, checks and changes of mind in chains about a task's problems."""

from __future__ import annotations

import inspect
import re
from dataclasses import replace
from pathlib import Path

import pytest
from chains import BRIDGES, CONFIRMED, CORRECTED, MENDS, ONE_TURN, PROBLEM, RIGHT, SPOILED, WRONG, talk
from places import ROOT
from staging import apply, judge

from dpr_mini.commands.filter import filter_file
from dpr_mini.recipe import RecipeError
from dpr_mini.selection import deciding
from dpr_mini.selection.case import Case
from dpr_mini.selection.judging import begins_right, prefix
from dpr_mini.selection.rules import RULES as ALL_RULES
from dpr_mini.selection.rules import build_rules, objections, refuse
from dpr_mini.selection.task_rules import RULES
from dpr_mini.types import Dialogue, Problem, UserError

SUDOKU = Problem(
    "s", "sudoku", "fill", "", verifier="sudoku", statement="1_3_ / 34__ / __43 / 4_2_"
)  # filled by 1234 / 3412 / 2143 / 4321
GRID = "Answer: 1234 / 3412 / 2143 / 4321"
UNITS = "column 1: 1324, column 2: 2413, column 3: 3142, column 4: 4231, box 1: 1234, box 2: 3412, box 3: 2143, box 4: "


def judged(*texts: str | Dialogue, problem: Problem = PROBLEM) -> Case:
    first = texts[0]
    dialogue = first if isinstance(first, Dialogue) else talk(*texts, problem=problem)
    (case,) = judge([dialogue], {problem.id: problem}, BRIDGES)
    return case


FIRES = [
    ("verdict_true", {}, judged(*SPOILED), "review 1 calls '3*7+5' wrong, it is right"),
    ("verdict_true", {}, judged(WRONG, "3*7=21, 21-5=16. Right."), "review 1 calls '3*7-5' right, it is wrong"),
    ("verdict_true", {}, judged(WRONG, MENDS, "3*7=21, 21+5=26. Not right."), "review 2 calls '3*7+5' wrong"),
    ("verdict_true", {"at_least": 1}, judged(RIGHT), "0 verdicts, at least 1 wanted"),
    ("verdict_true", {"at_least": 3}, judged(*CORRECTED), "2 verdicts, at least 3"),
    ("check_true", {}, judged(RIGHT, "3*7=21, 21+5=27. Right."), "review 1 of '3*7+5': 21+5=27 does not hold"),
    ("check_true", {}, judged(RIGHT, "3*7=21, 21-5=16. Right."), "3*7=21, 21-5=16 does not work it out"),
    ("check_true", {}, judged(RIGHT, "3*7=21. Right."), "3*7=21 does not work it out"),
    ("check_true", {}, judged(RIGHT, "Right."), "review 1 of '3*7+5': no check"),
    ("check_true", {}, judged(WRONG, "Wrong. " + RIGHT, "3*7=21, 21+5=26. Right."), "review 1 of '3*7-5': no check"),
    ("check_true", {"at_least": 1}, judged(RIGHT), "0 checks, at least 1 wanted"),
    ("check_true", {}, judged(GRID, UNITS + "4312. Right.", problem=SUDOKU), "box4:4312 does not hold"),
    ("changed_answer", {}, judged(WRONG, "3*7=21, 21-5=16. Wrong."), "review 1 rejects '3*7-5', and no other answer"),
    ("changed_answer", {}, judged(WRONG, "Wrong. Answer: 3 * 7 - 5"), "'3 * 7 - 5' follows, which was rejected"),
    ("changed_answer", {}, judged(WRONG, "Wrong. Answer: seven", RIGHT), "and what follows is no answer"),
    ("changed_answer", {}, judged(WRONG, "Wrong. Answer: 5*7-3", "Wrong. " + WRONG), "review 2 rejects '5*7-3', and"),
    ("changed_answer", {}, judged(WRONG, MENDS, "Wrong."), "review 2 rejects '3*7+5', and no other answer"),
    ("changed_answer", {}, judged(WRONG, "Wrong. Right."), "no other answer follows"),
]
SILENT = [
    ("verdict_true", {"at_least": 2}, judged(*CORRECTED)),
    ("verdict_true", {}, judged(WRONG)),
    ("verdict_true", {"at_least": 2}, judged(ONE_TURN)),
    ("check_true", {"at_least": 2}, judged(*CORRECTED)),
    ("check_true", {}, judged(RIGHT, "7*3=21 and 5+21=26: right")),  # the same sums in another order
    ("check_true", {"at_least": 1}, judged(GRID, UNITS + "4321. Right.", problem=SUDOKU)),
    ("changed_answer", {}, judged(*CORRECTED)),
    ("changed_answer", {}, judged(*CONFIRMED)),
    ("changed_answer", {}, judged(*SPOILED)),  # another answer it is; that it is a worse one other rules say
]


@pytest.mark.parametrize(("name", "options", "case", "says"), FIRES)
def test_rule_fires(name, options, case, says):
    [(_, rule)] = build_rules([{name: options}])
    assert says in (rule(case) or "silent")


@pytest.mark.parametrize(("name", "options", "case"), SILENT)
def test_rule_is_silent(name, options, case):
    [(_, rule)] = build_rules([{name: options}])
    assert rule(case) is None


def test_every_rule_is_tried():
    assert {n for n, *_ in FIRES} == {n for n, *_ in SILENT} == set(RULES)


def test_a_negative_number_of_reviews_is_refused():
    with pytest.raises(RecipeError, match="check_true: at_least must be 0 or more"):
        build_rules([{"check_true": {"at_least": -1}}])


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        ((RIGHT,), "single_right"),
        ((WRONG,), "never_right"),
        (("no idea",), "never_right"),
        (CONFIRMED, "confirmed"),
        (CORRECTED, "corrected"),
        (SPOILED, "spoiled"),
        ((WRONG, "3*7=21, 21-5=16. Wrong. Answer: 5*7-3"), "never_right"),
        ((ONE_TURN,), "corrected"),  # one turn, two attempts: as phase 2 draws them
        ((RIGHT + " Check: " + CONFIRMED[1],), "confirmed"),
        ((RIGHT + " Check: " + SPOILED[1],), "spoiled"),
        ((RIGHT, "hm"), "single_right"),  # two turns, but one attempt that nobody reviewed
    ],
)
def test_the_kind_goes_by_the_attempts_not_by_the_turns(texts, kind):
    assert judged(*texts).kind == kind


def test_other_problems_have_no_trace_and_their_kinds_go_by_turns():
    case = judged("The answer is 12.", "Yes, the answer is 12.", problem=Problem("p", "made", "3 * 4?", "12"))
    assert case.trace is None and case.kind == "confirmed"


def test_a_problem_without_a_verifier_is_refused_in_one_line():
    plain = Problem("p7", "gsm8k", "What is 3 * 4?", "12")
    rules = build_rules(["answered", "check_true"])
    with pytest.raises(UserError, match=r"check_true .*no verifier: p7 \(gsm8k\) What is 3 \* 4\?$") as error:
        refuse(rules, [PROBLEM, plain])
    assert "\n" not in str(error.value)
    refuse(rules, [PROBLEM])
    refuse(build_rules(["answered"]), [plain])


def test_foreign_rows_have_no_verifier(tmp_path: Path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"id": "a", "text": "Answer: 3*7+5", "gold": "26"}\n')
    with pytest.raises(UserError, match=r"changed_answer executes answers .*no verifier"):
        filter_file(rows, tmp_path / "out.jsonl", "answered,changed_answer")
    assert not (tmp_path / "out.jsonl").exists()


def test_duplicates_are_found_whatever_turns_a_chain_stands_in():
    turns, one, other = talk(*CORRECTED), talk(ONE_TURN.replace(" ", "  "), name="c#1"), talk(*CONFIRMED, name="c#2")
    cases = judge([turns, one, other], {PROBLEM.id: PROBLEM}, BRIDGES)
    kept, (drop,) = apply(cases[:1] + cases[2:] + cases[1:2], build_rules(["duplicate"]))
    assert drop.rule == "duplicate" and {c.dialogue.id for c in kept} | {drop.dialogue_id} == {"c#0", "c#1", "c#2"}
    assert "c#2" in {c.dialogue.id for c in kept}, "another check or another attempt is another text"


def test_the_first_turn_of_a_dialogue_alone():
    case = judged(*SPOILED)
    alone = prefix(case)
    assert alone.dialogue.id == "c#0/first" and alone.text == RIGHT and alone.kind == "single_right"
    assert (alone.verdicts, alone.joined) == (case.verdicts[:1], case.verdicts[0]) and len(alone.trace.attempts) == 1
    several = ["answer_correct", {"trajectory": {"kinds": ["confirmed"]}}, "longer_than_first", "changed_answer"]
    several += [{"verdict_true": {"at_least": 1}}, {"check_true": {"at_least": 1}}]
    assert list(objections(alone, build_rules(several))) == []
    assert [n for n, _ in objections(replace(alone, prefix=False), build_rules(several))] == [
        "trajectory",
        "verdict_true",
        "check_true",
    ]
    assert begins_right(case)
    assert not begins_right(judged(*CORRECTED)), "it is wrong"
    assert not begins_right(judged(RIGHT)), "there is no other turn"
    assert not begins_right(judged(talk(*SPOILED, finishes={0: "length"}))), "it was cut"
    cut = judged(talk(*SPOILED, finishes={1: "length"}))
    assert begins_right(cut) and prefix(cut).dialogue.finish == "stop"


def test_a_first_turn_is_made_a_case_once_and_only_where_it_is_asked_for(monkeypatch):
    made = []
    monkeypatch.setattr(deciding, "prefix", lambda case: made.append(case) or prefix(case))
    cases = [judged(talk(*SPOILED, name=f"c#{i}")) for i in range(3)]
    rules = build_rules(["answer_correct"])
    decided = [case.dialogue.id for case, _ in deciding.decided(cases, rules, prefixes=True)]
    assert decided[:3] == ["c#0", "c#1", "c#2"] and sorted(decided[3:]) == ["c#0/first", "c#1/first", "c#2/first"]
    assert len(made) == 3
    assert len(list(deciding.decided(cases, rules))) == 3 and len(made) == 3


def test_the_table_of_rules_has_every_rule_and_its_options():
    lines = re.findall(r"^\| `(\w+)` \|.*\|(.*)\|$", (ROOT / "docs" / "rules.md").read_text(), re.MULTILINE)
    options = {name: set(re.findall(r"\w+", cell)) for name, cell in lines}
    assert options == {name: {*inspect.signature(factory).parameters} for name, factory in ALL_RULES.items()}
