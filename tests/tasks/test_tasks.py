"""Tasks: generated answers are right by their own verifiers, parts share no group, text is read, never evaluated."""

from itertools import islice, permutations, product

import pytest

from dpr_mini import tasks
from dpr_mini.tasks.trace import right_verdict, true_check
from dpr_mini.types import Executed, UserError

NAMES = sorted(tasks.TASKS)


@pytest.mark.parametrize("name", NAMES)
def test_generated_answers_are_right_and_their_steps_hold(name):
    task = tasks.make(name, {})
    for item in islice(task.items(3), 150):
        assert task.right(item.statement, item.answer), item
        lines = task.steps(item.statement, item.answer)
        assert lines and all(task.holds(item.statement, item.answer, line) for line in lines), item


@pytest.mark.parametrize("name", NAMES)
def test_parts_share_no_group_and_a_seed_changes_the_order_alone(name):
    task = tasks.make(name, {})
    parts = {part: [*islice(task.items(0, part), 200)] for part in tasks.PARTS}
    groups = [{i.group for i in items} for items in parts.values()]
    assert sum(map(len, groups)) == len(set.union(*groups))
    other = [*islice(task.items(1, "test"), 200)]
    assert [i.key for i in other] != [i.key for i in parts["test"]]
    assert [*islice(task.items(0, "test"), 200)] == parts["test"]


def test_countdown_has_the_problems_that_are_known_of_it():
    items = [*tasks.make("countdown", {}).items(0)]
    assert len(items) == len({i.key for i in items}) == 3076
    assert len({i.group for i in items}) == 357


@pytest.mark.parametrize(
    ("name", "statement", "answer", "right"),
    [
        ("countdown", "7 3 5 = 26", "3*7+5", True),
        ("countdown", "7 3 5 = 26", "5 + 7 * 3", False),  # from left to right: 36
        ("countdown", "7 3 5 = 26", "13*2+0", False),  # other numbers
        ("countdown", "3 3 4 = 13", "3*3+4", True),
        ("countdown", "3 3 4 = 13", "3*4+1", False),
        ("product_and_sum", "product 56, sum 15", "8 and 7", True),
        ("product_and_sum", "product 56, sum 15", "4, 14", False),
        ("missing_factor", "? * 7 = 91", "13", True),
        ("missing_factor", "? * 7 = 91", "14", False),
        ("linear", "3x + 4 = 19", "x = 5", True),
        ("linear", "3x + 4 = 19", "6", False),
        ("factorisation", "84", "7*2*3*2", True),
        ("factorisation", "84", "4*21", False),  # not prime
        ("sudoku", "1___ / ____ / ____ / ___1", "1234 / 3412 / 2143 / 4321", True),
        ("sudoku", "2___ / ____ / ____ / ___1", "1234 / 3412 / 2143 / 4321", False),
        ("sudoku", "1___ / ____ / ____ / ___1", "1234 / 1234 / 2143 / 4321", False),
        ("sums", "8 + 5 - 16", "-3", True),
        ("sums", "8 + 5 - 16", "3", False),
    ],
)
def test_verifiers(name, statement, answer, right):
    verdict = tasks.grade(Executed(name, statement), f"So be it. Answer: {answer}.")
    assert verdict.ok is right
    assert verdict.how == "answer/executed"


def test_a_trace_has_attempts_checks_and_verdicts_in_their_places():
    text = "3*5=15. Answer: 3*7-5 Check: 3*7=21, 21-5=16. Wrong. Answer: 7*3+5 Check: 7*3=21, 5+21=26. That is right."
    task = tasks.make("countdown", {})
    trace = tasks.read(task, text)
    assert [a.answer for a in trace.attempts] == ["3*7-5", "7*3+5"]
    assert [text[a.start : a.end] for a in trace.attempts] == ["Answer: 3*7-5", "Answer: 7*3+5"]
    assert [(r.attempt, r.accepts, r.lines) for r in trace.reviews] == [
        (0, False, ("3*7=21", "21-5=16")),
        (1, True, ("7*3=21", "5+21=26")),
    ]
    assert [text[r.end : r.over] for r in trace.reviews] == ["Wrong", "right"]
    assert text[trace.reviews[0].start : trace.reviews[0].end] == "3*7=21, 21-5=16. "
    assert trace.accepted
    assert all(right_verdict(task, "3 5 7 = 26", trace, r) for r in trace.reviews)
    assert all(true_check(task, "3 5 7 = 26", trace, r) for r in trace.reviews)


@pytest.mark.parametrize(
    ("check", "true", "right"),
    [
        ("3*7=21, 21-5=16. Wrong.", True, True),
        ("3*7=21, 21-5=16. Not right.", True, True),
        ("3*7=21, 21-5=26. Right.", False, False),  # a false line
        ("3*7=21. Wrong.", False, True),  # half of it
        ("3*7=21, 21+5=26. Right.", False, False),  # another answer's
        ("3*7=21, 21-5=16, 1+1=3. Wrong.", False, True),
        ("Wrong.", False, True),
        ("21-5=16, 7*3=21. Incorrect", True, True),
    ],
)
def test_checks_are_judged_by_execution_and_by_what_they_are_about(check, true, right):
    task, statement = tasks.make("countdown", {}), "3 5 7 = 26"
    trace = tasks.read(task, f"Answer: 3*7-5 Check: {check}")
    (review,) = trace.reviews
    assert true_check(task, statement, trace, review) is true
    assert right_verdict(task, statement, trace, review) is right


def test_the_last_attempt_counts_and_one_that_cannot_be_read_is_no_answer():
    gold = Executed("countdown", "3 5 7 = 26")
    assert tasks.grade(gold, "Answer: 3*7+5 Check: 3*7=21, 21+5=26. Right.").ok
    assert tasks.grade(gold, "Answer: 3*7+5 Wrong. Answer: 3*7-5").status == "wrong"
    assert tasks.grade(gold, "Answer: 3*7+5 Wrong. Answer: hm").status == "unparsed"
    assert tasks.grade(gold, "3*7+5").status == "unparsed"
    assert tasks.grade(gold, "Answer: __import__('os')").status == "unparsed"


@pytest.mark.parametrize(
    ("name", "statement", "answer", "status"),
    [
        ("countdown", "3 5 7 = 26", "3*7+5", "correct"),
        ("countdown", "3 5 7 = 26", "3*7+5. Right.", "correct"),
        ("countdown", "3 5 7 = 26", "3*7+5=26", "correct"),
        ("countdown", "3 5 7 = 26", "3*7+5, 21+5=26", "correct"),
        ("countdown", "3 5 7 = 26", "3*7+5*2", "unparsed"),
        ("countdown", "3 5 7 = 26", "3*7+5 - 1=25", "unparsed"),
        ("countdown", "3 5 7 = 26", "3*7+5*", "unparsed"),  # cut off
        ("countdown", "3 5 7 = 26", "3*7+5.5", "unparsed"),
        ("countdown", "1 1 5 = 5", "1*1*5000000", "unparsed"),
        ("sums", "8 + 5 - 6", "7", "correct"),
        ("sums", "8 + 5 - 6", "7+2", "unparsed"),
        ("sums", "8 + 5 - 6", "7.5", "unparsed"),
        ("sums", "8 + 5 - 6", "7,000", "unparsed"),
        ("sums", "8 + 5 - 6", "0000007", "unparsed"),
        ("product_and_sum", "product 56, sum 15", "7, 8, 9", "unparsed"),
    ],
)
def test_the_beginning_of_a_longer_answer_is_none(name, statement, answer, status):
    assert tasks.grade(Executed(name, statement), f"Answer: {answer}").status == status


def test_an_answer_is_right_where_python_says_so():
    """Every expression of the numbers, and of numbers that are not given, worked out by Python with its brackets."""
    task, orders = tasks.make("countdown", {}), list(permutations(range(3)))
    for item in islice(task.items(7), 60):
        numbers, target = item.statement.split(" = ")
        given = sorted(numbers.split())
        for used in (given, [given[0], given[0], given[2]], [given[0], given[1], "9"]):
            for order, (a, b) in product(orders, product("+-*", repeat=2)):
                x, y, z = (used[i] for i in order)
                right = sorted(used) == given and eval(f"({x}{a}{y}){b}{z}") == int(target)
                assert task.right(item.statement, f"{x}{a}{y}{b}{z}") is right, (item, x, a, y, b, z)
        assert task.right(item.statement, item.answer)


def test_a_hostile_answer_costs_no_time():
    gold = Executed("countdown", "3 5 7 = 26")
    assert tasks.grade(gold, "Answer: " + "9" * 200_000).status == "unparsed"
    assert tasks.grade(Executed("factorisation", "84"), "Answer: 2" + "*2" * 100_000).status == "wrong"
    assert tasks.grade(gold, "1+" * 100_000 + "=").status == "unparsed"


def test_a_check_of_a_sudoku_reads_its_units_off():
    task = tasks.make("sudoku", {})
    text = "Answer: 1234 / 3412 / 2143 / 4321 " + (
        "Column 1: 1324, column 2: 2413, column 3: 3142, column 4: 4231, box 1: 1234, box 2: 3412, box 3: 2143, "
        "box 4: 4321"
    )
    statement = "1___ / ____ / ____ / ___1"
    trace = tasks.read(task, f"{text}. Right.")
    assert true_check(task, statement, trace, trace.reviews[0])
    trace = tasks.read(task, f"{text.replace('1324', '1342')}. Right.")
    assert not true_check(task, statement, trace, trace.reviews[0])


def test_unknown_tasks_options_and_parts_are_refused_with_the_nearest_name():
    with pytest.raises(UserError, match="did you mean 'countdown'"):
        tasks.make("count-down", {})
    with pytest.raises(UserError, match=r"no option 'larges'.*'largest'"):
        tasks.make("countdown", {"larges": 3})
    with pytest.raises(UserError, match="sudoku: empty"):
        tasks.make("sudoku", {"empty": 16})
    with pytest.raises(ValueError, match="no part 'dev2'"):
        tasks.make("countdown", {}).items(0, "dev2")


@pytest.mark.parametrize("digits", ["\u0663*\u0667+\u0665", "\uff13*\uff17+\uff15", "3*\u0667+5"])
def test_digits_of_other_scripts_are_no_answer(digits):
    """Python reads them as numbers; kept as they are spelled they would be another vote for the same answer."""
    task = tasks.named("countdown")
    trace = tasks.read(task, f"Answer: {digits} Check: {digits}=26. Right.")
    assert trace.answer == "" and not task.right("3 5 7 = 26", digits) and task.steps("3 5 7 = 26", digits) is None
    assert tasks.read(task, "Answer: 3*7+5 Check: \u0663*\u0667=\u0662\u0661, 21+5=26. Right.").reviews[0].lines == (
        "21+5=26",
    )
    for name, answer in {
        "sums": "-\u0667",
        "linear": "x = \u0667",
        "missing_factor": "\u0667",
        "product_and_sum": "\u0667, \u0668",
    }.items():
        assert tasks.read(tasks.named(name), f"Answer: {answer}").answer == ""
