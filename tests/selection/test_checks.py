"""Checks that were carried out: which equations are checking lines, and what is said of each."""

import time

import pytest

from dpr_mini.selection import checks

DONE = {"lines": 1, "true": 1, "about": 1, "different": 1, "executed": 1, "chained": 0}


def counts(**found: int) -> dict[str, int]:
    return dict.fromkeys(checks.FIELDS, 0) | found


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("9 + 6 = 15. Check: 15 - 6 = 9. The answer is 15.", "15"),
        ("9 + 6 = 15\n15 - 9 = 6", "15"),  # no word announces it
        ("7 * 6 = 42. To verify, 42 / 6 = 7.", "42"),
        (r"$7 \times 6 = 42$. Check: $\frac{42}{6} = 7$.", "42"),
        ("7 \u00d7 6 = 42 and 42 \u00f7 6 = 7", "42"),
        ("3x + 2 = 14, so 3x = 12 and x = 4. Check: 3*4 + 2 = 14. Yes.", "4"),
        ("3x + 2 = 14 has x = 4, since 3(4) + 2 = 14", "4"),
        ("3x + 20 = 8 has x = -4, as 3(-4) + 20 = 8", "-4"),
        ("- 9 + 6 = 15\n- 15 - 6 = 9", "15"),
        ("**9 + 6 = 15** (15 - 6 = 9)", "15"),
        ("1,200 + 300 = 1,500. Check: 1,500 - 300 = 1,200.", "1500"),
        ("6 + 9 = 15. Let me verify: 9 + 6 = 15 sweets.", "15"),  # another order of the operands
    ],
)
def test_an_executed_check(text, answer):
    assert checks.count(text, answer) == DONE


def test_a_false_check_is_no_executed_one():
    assert checks.count("9 + 6 = 15. Check: 15 - 6 = 8.", "15") == counts(lines=1, about=1, different=1)


@pytest.mark.parametrize("again", ["9 + 6 = 15", "15 = 9 + 6", "9+6=15"])
def test_a_copy_of_the_line_that_gave_the_answer_is_not_different(again):
    assert checks.count(f"9 + 6 = 15\nLet me verify: {again}", "15") == counts(lines=1, true=1, about=1)


def test_a_check_of_something_else_is_not_about_the_answer():
    text = "9 + 6 = 15. Check: 2 + 2 = 4."
    assert checks.count(text, "15") == counts(lines=1, true=1, different=1)
    assert checks.count(text, "15", "Two boxes of 2 and more")["about"] == 1  # a number of the problem


def test_steps_before_the_answer_are_no_checks():
    assert checks.count("9 + 6 = 15, then 15 - 4 = 11. The answer is 11.", "11") == counts(chained=1)
    assert checks.count("9 + 6 = 15 and 20 - 4 = 16", "16") == counts()


@pytest.mark.parametrize(
    "step",
    [
        "30 - 15 = 15",  # gives the answer
        "19 - 4 = 15",
        "15 * 3 = 45",  # goes on to a new number
    ],
)
def test_a_step_that_only_holds_the_answers_number_is_no_check(step):
    assert checks.count(f"60 / 4 = 15. Then {step}.", "15")["lines"] == 0


def test_the_number_that_a_check_comes_back_to_may_stand_in_the_problem():
    text = "Each gets 15. 15 * 4 = 60"
    assert checks.count(text, "15")["lines"] == 0
    assert checks.count(text, "15", "60 sweets for 4 children")["executed"] == 1


def test_a_false_result_is_no_link_of_a_chain():
    assert checks.count("9 + 6 = 16, then 16 - 4 = 12.", "12") == counts()
    assert checks.count("1. 3 * 4 = 12\n2. 12 + 5 = 17\n3. 17 - 1 = 16", "16") == counts(chained=2)


@pytest.mark.parametrize(
    "text",
    [
        "15. half of 15 + 1 = 16",  # the words change what the figures say
        "15. 2x + 15 = 21",
        "15. total - 3 + 15 = 18",
        "15 / 4 = 3 r 3",
        "15 + 0 = 15%",
        "15 = 15",
        "15 / 0 = 15",
        "15 apples + 3 apples = 18 apples",
        "She paid a check for 15 + 15 dollars.",
    ],
)
def test_what_is_not_certain_is_no_line(text):
    assert checks.count(text, "15") == counts()


def test_a_rounded_quotient_is_true():
    assert checks.count("8 / 3 = 2.67. Check: 8 / 3 = 2.7.", "2.67")["true"] == 1
    assert checks.count("8 / 3 = 2.67. Check: 8 / 3 = 2.9.", "2.67")["true"] == 0


def test_without_a_number_as_answer_only_announced_lines_count():
    assert checks.count("9 + 6 = 15. 15 - 6 = 9", "blue") == counts(chained=1)
    assert checks.count("9 + 6 = 15. Check: 15 - 6 = 9", "")["executed"] == 0
    assert checks.count("9 + 6 = 15. Check: 15 - 6 = 9", "", "9 apples and 6 more")["executed"] == 1


HOSTILE = ("3 + 4 = 7 ", "=", "1", "check ", "(1", "1=", "{", "\\frac", "x = 3 ", "1.", "1,000", "- \n", "4 - ", "$ ")


@pytest.mark.parametrize("piece", HOSTILE)
def test_time_grows_with_the_text_not_faster(piece):
    def seconds(length):
        text, best = (piece * length)[:length], float("inf")
        for _ in range(2):  # the smaller: other work on the machine only ever adds
            begun = time.process_time()
            checks.count(text, "7", "3 + 4")
            best = min(best, time.process_time() - begun)
        return best

    assert seconds(64_000) < 12 * seconds(8_000) + 0.05  # 8 when linear, 64 when quadratic


def test_whole_problems_and_answers_are_not_remembered():
    text = "98765 + 4321 = 103086. Check: 103086 - 4321 = 98765."
    expected = checks.count(text, "103086", "98765 and 4321")
    kept = (checks._value_of_side, checks._numbers_of_side)
    before = [of.cache_info().currsize for of in kept]
    assert checks.count(text, "103086", "98765 and 4321" + " apples" * 10_000) == expected
    checks.count(text, "9" * 10_000)
    assert [of.cache_info().currsize for of in kept] == before
