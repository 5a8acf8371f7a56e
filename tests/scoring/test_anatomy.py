"""Anatomy of responses to tasks: each part judged by execution, counts of what became of them, length and its slope."""

import json
import math
import time

import pytest

from dpr_mini import tasks
from dpr_mini.scoring.anatomy import Anatomy, anatomies, anatomy, distinct, slope
from dpr_mini.scoring.graded import grade
from dpr_mini.selection import behaviours
from dpr_mini.types import GREEDY, Dialogue, Graded, Problem, Traced, Turn

STATEMENT = "3 5 7 = 26"
PROBLEM = Problem("p", "countdown", STATEMENT, "3*7+5", split="one", verifier="countdown", statement=STATEMENT)
WRONG, RIGHT = "Answer: 3*7-5", "Answer: 3*7+5"
NO, YES = " Check: 3*7=21, 21-5=16. Wrong. ", " Check: 3*7=21, 21+5=26. Right."


def graded(*texts, sample=0, bridges=None, problem=PROBLEM):
    turns = tuple(Turn("solve" if not i else "verify", "?", tuple(map(ord, t)), t, "stop") for i, t in enumerate(texts))
    dialogue = Dialogue(f"{problem.id}#{sample}", problem.id, sample, turns, "e", 0)
    return grade([dialogue], [problem], bridges or {})[0]


def test_a_row_has_every_attempt_and_review_judged_and_survives_the_disk():
    row = graded(WRONG + " Check: 3*7=21, 21-5=26. Right. " + "Answer: 7*3+5 " + "Check: 7*3=21, 21+5=26. Wrong.")
    assert row.trace.attempts == (("3*7-5", False), ("7*3+5", True))
    assert row.trace.reviews == ((0, True, False, False), (1, False, False, True))
    assert (row.right, row.first, row.behaviours) == (True, False, None)
    assert Graded.from_row(row.to_row()) == row
    assert Graded.from_row(json.loads(json.dumps(row.to_row()))) == row
    assert "trace" not in grade([Dialogue("q#0", "q", 0, (Turn("s", "?", (1,), "= 1", "stop"),), "e", 0)],
                                [Problem("q", "made", "?", "1", split="one")], {})[0].to_row()  # fmt: skip


def test_a_dialogues_turns_are_one_trace():
    row = graded(WRONG, NO.removeprefix(" Check: ").strip() + " " + RIGHT, bridges={"verify": " Check: "})
    assert row.trace.attempts == (("3*7-5", False), ("3*7+5", True))
    assert row.trace.reviews == ((0, False, True, True),)
    assert (row.right, row.first, row.attempt, row.joined) == (True, False, False, True)


def test_counts_of_what_became_of_first_answers():
    texts = [
        WRONG + NO + RIGHT + YES,  # mended
        WRONG + NO + WRONG + NO + RIGHT,  # mended at the second try
        WRONG + NO + WRONG + " Right.",  # rejected, and not mended
        WRONG + " Right.",  # accepted though wrong
        RIGHT + YES,  # kept
        RIGHT + " Wrong. " + WRONG,  # spoiled
        "no attempt",
    ]
    answers = [graded(text, sample=i) for i, text in enumerate(texts)]
    answers.append(graded(RIGHT, sample=GREEDY))
    of = anatomies(answers, ["one"])["one"]
    assert (of.responses, of.kept, of.spoiled, of.mended, of.lost) == (7, 1, 1, 2, 3)
    assert (of.first.n, of.final.n) == (2, 3)
    assert (of.mends.n, of.mends.of) == (2, 3), "of wrong first attempts that were rejected"
    assert (of.accept_right.n, of.accept_right.of) == (2, 3)
    assert (of.accept_wrong.n, of.accept_wrong.of) == (2, 6)
    assert (of.verdicts.n, of.verdicts.of) == (6, 9)
    assert (of.true_checks.n, of.true_checks.of) == (6, 9), "a verdict alone is no check"
    assert (of.retry_true.n, of.retry_true.of) == (2, 4)
    assert (of.retry_any.n, of.retry_any.of) == (2, 5)
    # Five retries: four of responses that began wrong (two of the six others began right), one of one that began right.
    assert of.fresh == pytest.approx((4 * 2 / 6 + 1 / 6) / 5)
    assert of.attempts == {0: 1, 1: 2, 2: 3, 3: 1} and of.attempts_mean == pytest.approx(11 / 7)
    assert Anatomy.from_row(of.to_row()) == of
    assert of.tokens == pytest.approx(sum(map(len, texts)) / 7)


def test_without_tasks_there_is_no_anatomy():
    text = Problem("q", "made", "?", "1", split="two")
    other = grade([Dialogue("q#0", "q", 0, (Turn("s", "?", (1,), "= 1", "stop"),), "e", 0)], [text], {})
    assert anatomy(other) is None and anatomies([*other, graded(RIGHT)], ["two", "one"]).keys() == {"one"}
    assert anatomy([graded("nothing at all")]).mends.share is None, "a share of none is not nought"


def test_tokens_that_were_said_before_are_not_distinct():
    assert distinct([1, 2, 3, 4, 5, 6]) == 6 and distinct([]) == 0 and distinct([1, 2]) == 2
    assert distinct([1, 2, 3, 4] * 5) == 4
    assert distinct([1, 2, 3, 4, 9, 1, 2, 3, 4, 5]) == 6
    assert distinct([1, 2, 3, 9, 1, 2, 3]) == 7, "a run of three is short enough"
    assert distinct([7] * 10) == 1 and distinct([1, 2, 1, 2], n=2) == 2


def test_a_text_that_says_the_same_again_is_smaller_when_compressed():
    once, again = graded(RIGHT + YES), graded((RIGHT + YES + " ") * 6)
    assert once.trace.deflated / once.trace.size > 2 * again.trace.deflated / again.trace.size


def length(problem, tokens, sample=0):
    return Graded(id=f"{problem}#{sample}", problem_id=problem, benchmark="one", source="s", sample=sample,
                  tokens=tokens, finish="stop", verdict=graded(RIGHT).verdict, first=True, last=True,
                  behaviours=None, trace=Traced((), (), 0, 0, 0))  # fmt: skip


def test_the_slope_of_length_on_the_bases_fail_rate():
    rates = {f"p{i}": i / 20 for i in range(20)}
    longer = [length(p, round(1000 * math.exp(0.7 * (1 - r))), s) for p, r in rates.items() for s in range(2)]
    found = slope(longer, rates | {"not asked": 0.0})
    assert found.n == 20 and found.mean == pytest.approx(0.7, abs=0.01) and found.low > 0.6
    flat = slope([length(p, 50) for p in rates], rates)
    assert flat.mean == pytest.approx(0, abs=1e-12)
    assert slope(longer, dict.fromkeys(rates, 0.5)) is None and slope([], rates) is None


@pytest.mark.slow
def test_grading_costs_less_than_counting_words_would():
    """Ten thousand responses: 3 s on a quiet core, of which counting words took 17 before. Here as a ratio."""
    text = WRONG + NO + WRONG + NO + RIGHT + YES
    turn = Turn("solve", "?", tuple(map(ord, text)), text, "stop")
    answers = [Dialogue(f"p#{i}", "p", i, (turn,), "e", 0) for i in range(500)]
    begun = time.process_time()
    assert all(a.right for a in grade(answers, [PROBLEM], {"verify": " Check: "}))
    between = time.process_time()
    for _ in answers:
        behaviours.count(text)
    assert between - begun < 0.7 * (time.process_time() - between)


def test_the_verdict_is_that_of_the_tasks_grader():
    for text in (WRONG, RIGHT, "", "Answer: hm", WRONG + NO + RIGHT):
        assert graded(text).verdict == tasks.grade(PROBLEM.gold, text)
