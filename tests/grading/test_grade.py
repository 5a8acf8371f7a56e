"""Grading: a table of answers, hostile answers, and workers that are killed. The cases are this project's own."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from fractions import Fraction
from pathlib import Path

import pytest
from places import SHARED_DATA

from dpr_mini.commands.grade import grade_file
from dpr_mini.grading import worker
from dpr_mini.grading.answers import exact, number
from dpr_mini.grading.grader import Grader
from dpr_mini.grading.reading import extract, first_result, last_number
from dpr_mini.types import UserError


@pytest.fixture(scope="module")
def grader():
    with Grader(workers=2) as g:
        yield g


EXTRACTED = [
    (r"so \boxed{12}", "12", "boxed"),
    (r"\boxed{7} no, \boxed{\frac{1}{2}}.", r"\frac{1}{2}", "boxed"),
    (r"\boxed{3} and then \boxed{4 + ", "3", "boxed"),  # the last one never closes
    (r"\boxed{1}, \boxed{2} and \boxed{3}", "1, 2, 3", "boxed"),
    (r"\boxed{84} \boxed{84}", "84", "boxed"),
    (r"\boxed{\text{Anna}}", r"\text{Anna}", "boxed"),
    (r"\boxed{\{1, 2\}}", r"\{1, 2\}", "boxed"),
    (r"\boxed 9", "9", "boxed"),
    ("3 * 4 = 12\n#### 12", "12", "hashes"),
    ("#### 1,200.", "1,200", "hashes"),
    ("The answer is 42.", "42", "phrase"),
    ("First the answer is 3. No: the answer is 5. Good.", "5", "phrase"),
    ("**Answer:** 3/4", "3/4", "phrase"),
    ("Answer = -2.5", "-2.5", "phrase"),
    ("So the final answer is $\\frac{3}{4}$.", r"\frac{3}{4}", "phrase"),
    ("The answer is 15 apples.", "15 apples", "phrase"),
    ("The answer is 5 because 2 + 3 = 5 and 9 is odd.", "5", "phrase"),
    ("The answer is 3 * 4 = 12.", "3 * 4 = 12", "phrase"),
    ("The answer is 36. I checked it, and the answer is correct.", "36", "phrase"),
    ("He has 3 + 4 = 7 apples, so he pays 14 dollars.", "14 dollars", "last_number"),
    ("It costs $1,250.50.", "$1,250.50", "last_number"),
    ("There are 12.", "12", "last_number"),
    ("It is minus, that is -7!", "-7", "last_number"),
    ("Take 10-3 to see it is 10 - 4", "", "none"),
    ("about half of it, or 3/8 then", "", "none"),
    ("this grew by 25% since", "25%", "last_number"),
    ("the sum is H2O", "", "none"),
    ("", "", "none"),
    ("I do not know how to do this.", "", "none"),
    (r"\frac{2}{3}", r"\frac{2}{3}", "bare"),
    ("17", "17", "bare"),
    ("Therefore we find $x^2 + 1$. I hope it helps", "x^2 + 1", "math"),
]


@pytest.mark.parametrize(("text", "answer", "how"), EXTRACTED)
def test_extract(text, answer, how):
    assert extract(text) == (answer, how)


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("7 * 8 = 56", "56", "56"),
        ("Tom has 3 apples, 4 pears: 3 + 4 = 7.", "7", "7"),
        ("The answer is 16. That is 4 squared.", "16", "4"),
        ("To find 7 + 4, you add 7 and 4, which equals 11.", "11", "11"),
        ("5 x 4 = 20. Let me check: 5 x 4 = 21", "20", "21"),
        ("x = -73, Answer: 5", "-73", "5"),
        ("3 is what I get", "3", "3"),
        ("none", "", ""),
        ("it is 8. Then 1,234.5.", "8", "1,234.5"),
    ],
)
def test_first_result_and_last_number(text, first, last):
    assert (first_result(text), last_number(text)) == (first, last)


def test_number_is_exact():
    assert number("0.1") == Fraction(1, 10)
    assert number(r"2\frac{3}{4}") == number("2 3/4") == Fraction(11, 4)
    assert number("1,234,567") == 1234567
    assert number("-.5") == Fraction(-1, 2)
    for text in ("1,22", "1/0", r"\frac{1}{0}", "1e", "0x10", "2 5/4", "\u0663", "x", "", "1_000", "9" * 500):
        assert number(text) is None, text


RIGHT = [
    ("12", "12.0"), ("1200", "1,200"), ("1200", r"1{,}200"), ("1200", r"1,\!200"), ("0.5", r"\frac12"),
    ("1/2", r"\dfrac{1}{2}"), ("-3", "\u22123"), ("2.75", r"2\frac{3}{4}"), ("$5$", r"\$5.00"), ("25%", r"25\%"),
    (r"\text{Anna}", "anna"), ("B", r"\text{(B)}"), ("5", "x = 5"), ("18", "18 apples"), (r"60^\circ", "60"),
    (r"\frac{3}{4}", "0.75"), ("025", "25"), ("x^2+2x+1", "(x+1)^2"), (r"2\sqrt{3}", r"\sqrt{12}"),
    ("(1, 2)", "(1,2)"), (r"\{1,2,3\}", r"\{3,2,1\}"), (r"1-\frac{1}{\mathrm{e}}", r"\frac{e-1}{e}"),
    (r"2\pi", "2pi"), ("104_5", "104_{5}"), (r"\frac{\pi}{2}", r"\dfrac{\pi}{2}"),
    (r"\$5", "5 dollars"), ("5", "\u20ac5"), ("1000.99", "1,000.99$"), ("-5", r"-\$5"),
    (r"\{1,2\}", r"1 \text{ or } 2"),
]  # fmt: skip
WRONG = [
    ("12", "13"), ("12", "1.2"), ("1200", "1.200"), ("1/2", "1/3"), ("-3", "3"), ("B", "C"), ("(1,2)", "(2,1)"),
    ("104_5", "104_6"), ("52", "52_8"), ("104_5", "104"), (r"1-\frac{1}{\mathrm{e}}", r"1+\frac{1}{\mathrm{e}}"),
    ("5", r"5 \approx 7"), ("7", r"5 \approx 7"), ("5", r"5 \text{ or } 6"), ("5", "5, 6"), ("listen", "silent"),
    ("22", "2\u00b2"), ("5 \\text{ km}", "5 m"), ("3", "3 million"), ("0.333", "0.334"), (r"[0,1)", "[0,1]"),
    (r"\frac{1}{\mathrm{ab}}", r"\frac{1}{\mathrm{cd}}"), ("31", "3 1"),
    ("31", r"31 \text{ is wrong}"), ("31", r"31 \text{ (not 32)}"), ("31", r"\boxed{31} \text{ or } 32"),
    ("31", "32 = 31"), ("31", r"31 \ldots"), (r"\$5", "5 cents"), ("ABC", "ACB"), ("1 1/2", "11/2"), ("31", "310"),
    ("x < 1", "x > 1"), ("2x", "x^2"), ("12", "twelve or so"), ("1", "x"),
]  # fmt: skip


@pytest.mark.parametrize(("gold", "answer"), RIGHT)
def test_right(grader, gold, answer):
    verdict = grader.grade(gold, rf"So it is \boxed{{{answer}}}.")
    assert verdict.ok, verdict


@pytest.mark.parametrize(("gold", "answer"), WRONG)
def test_wrong(grader, gold, answer):
    verdict = grader.grade(gold, rf"So it is \boxed{{{answer}}}.")
    assert verdict.status in ("wrong", "unparsed"), verdict


def test_every_gold_equals_itself(grader):
    for gold, _ in RIGHT + WRONG:
        assert grader.grade(gold, rf"\boxed{{{gold}}}").ok, gold


EXAMPLES = SHARED_DATA / "verify_examples.jsonl"
EXAMPLES = Path(os.environ.get("DPR_VERIFY_EXAMPLES", EXAMPLES))


@pytest.mark.skipif(not EXAMPLES.is_file(), reason="no file of outside examples ($DPR_VERIFY_EXAMPLES)")
def test_outside_examples(grader):
    """{gold, pred, equal, tier} lines of somebody else's: no wrong accept in the core tier, accuracy at least 0.97."""
    with EXAMPLES.open(encoding="utf-8") as file:
        rows = [r for r in map(json.loads, file) if r["tier"] == "core"]
    found = dict(grader.grade_many((i, r["gold"], r["pred"]) for i, r in enumerate(rows)))
    accepted = [(rows[i], v) for i, v in found.items() if v.ok and not rows[i]["equal"]]
    assert not accepted
    assert sum(found[i].ok == r["equal"] for i, r in enumerate(rows)) >= 0.97 * len(rows)


def test_exact_tier_is_silent_where_it_is_not_certain():
    for gold, answer in [("x+1", "1+x"), (r"\sqrt{4}", "2"), ("3.14", r"\pi"), ("7", r"7 \approx 7.0")]:
        assert exact(gold, answer) is None, (gold, answer)


def hostile(canary: str) -> list[str]:
    shell = f"touch {canary}"
    return [
        "9^{9^{9^{9}}}",
        "100000000!",
        "((10!)!)!",
        r"\binom{10^9}{5\cdot 10^8}",
        r"\sum_{k=1}^{10^9} \frac{1}{k}",
        "9" * 100_000,
        "x" * 100_000,
        r"\boxed{" * 20_000,
        "{" * 5_000 + "}" * 5_000,
        r"\frac{1}{" * 5_000 + "2" + "}" * 5_000,
        "(" * 200 + "1" + ")" * 200,
        r"\sqrt{" * 30 + "2" + "}" * 30,
        f"__import__('os').system('{shell}')",
        f"eval(compile('import os; os.system(\"{shell}\")', 'x', 'exec'))",
        f"().__class__.__bases__[0].__subclasses__(); open('{canary}', 'w')",
        f"$({shell})",
        f"`{shell}`",
        f"; {shell} ;",
        rf"\input{{|{shell}}}",
        rf"\immediate\write18{{{shell}}}",
        r"\frac{1}{",
        "}}}{{{",
        r"\left( \right] \begin{pmatrix} 1 \\",
        r"\Gamma(10^{12})",
        "NaN", "nan", "inf", r"\infty", "-0", "1e999999999", "0/0", "1/0",
        "7\x00", "\x007", "\ud800".encode("utf-8", "replace").decode(),
        "\u0667", "\uff18", "7\u0660", "\u2166", "7\u20e3",
        "7 or 8", "7, 8", r"7 \pm 1", "7 (or maybe 8)", "[7, 8]", r"7 \neq 8", "any number", "True", "7 = 8",
    ]  # fmt: skip


@pytest.mark.slow
def test_hostile_answers(tmp_path):
    """Gold is 31, which none of them is. Each has a verdict in time, and the ordinary cases beside them are right."""
    canary = tmp_path / "canary"
    answers = hostile(str(canary))
    cases = [((i, "boxed"), "31", rf"\boxed{{{a}}}") for i, a in enumerate(answers)]
    cases += [((i, "text"), "31", a) for i, a in enumerate(answers)]
    cases += [((i, "easy"), f"{i}", f"The answer is {i}.") for i in range(100)]
    cases += [((i, "algebra"), *double(i)) for i in range(1, 5)]
    limit, last, slowest = 3.0, time.monotonic(), 0.0
    with Grader(workers=2, timeout_s=limit) as g:
        found = {}
        for name, verdict, ms in g._many(cases):
            found[name] = verdict
            slowest = max(slowest, ms)
    assert len(found) == len(cases)
    accepted = [(answers[i][:60], v) for (i, how), v in found.items() if how in ("boxed", "text") and v.ok]
    assert not accepted
    lost = [(n, v) for n, v in found.items() if n[1] in ("easy", "algebra") and not v.ok]
    assert not lost
    assert not canary.exists()
    assert slowest < (limit + 1) * 1000, f"{slowest:.0f} ms"
    assert time.monotonic() - last < 60


def test_many_unclosed_boxes_are_linear():
    begun = time.perf_counter()
    extract(r"\boxed{" * 28_000)
    extract("the answer is " * 14_000)
    extract("$" * 100_000)
    extract("1," * 100_000)
    extract("1" * 200_000)
    assert time.perf_counter() - begun < 3


def double(i: int) -> tuple[str, str]:
    """A case that only a worker can decide."""
    return rf"\sin({2 * i}x)", rf"\boxed{{2\sin({i}x)\cos({i}x)}}"


@pytest.mark.slow
def test_killed_worker_is_replaced(grader):
    """Ended from outside while idle and while working: the cases still come back right."""
    assert grader.grade(*double(1)).ok
    for child in grader._workers:
        os.kill(child.process.pid, signal.SIGKILL)
    cases = [(i, *double(i)) for i in range(2, 12)]
    stream = grader.grade_many(cases)
    found = dict([next(stream)])
    for child in list(grader._workers):
        os.kill(child.process.pid, signal.SIGKILL)
    found |= dict(stream)
    assert {i: v.status for i, v in found.items()} == {i: "correct" for i, _, _ in cases}


def test_works_off_the_main_thread(grader):
    found = {}

    def work(at: int) -> None:
        found[at] = grader.grade(*double(at))

    threads = [threading.Thread(target=work, args=(at,)) for at in range(40, 46)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert sorted(found) == list(range(40, 46)) and all(v.ok for v in found.values())


def test_equal_pairs_are_decided_once(grader, monkeypatch):
    sent = []
    monkeypatch.setattr(worker.Worker, "send", _spy(worker.Worker.send, sent))
    cases = [(i, r"\sin(2a)", r"\boxed{2\sin(a)\cos(a)}") for i in range(50)]
    assert all(v.ok for _, v in grader.grade_many(cases)) and len(sent) == 1


def _spy(original, seen):
    def send(self, key):
        seen.append(key)
        return original(self, key)

    return send


def test_no_worker_for_easy_cases():
    with Grader() as g:
        assert g.grade("12", "the answer is 12").ok and not g._workers


def test_workers_end_with_the_block():
    with Grader(workers=1) as g:
        g.grade(r"\sin(2x)", r"\boxed{2\sin(x)\cos(x)}")
        processes = [w.process for w in g._workers]
    assert processes and all(p.poll() is not None for p in processes)


def test_a_worker_that_cannot_start_is_an_error():
    with Grader(workers=1, memory_mib=20) as g, pytest.raises(UserError, match="did not start"):
        g.grade(r"\sin(2x)", r"\boxed{2\sin(x)\cos(x)}")


def test_grade_file(tmp_path):
    cases, out = tmp_path / "cases.jsonl", tmp_path / "verdicts.jsonl"
    rows = [
        {"id": "a", "gold": "x+1", "pred": "1+x"},
        {"id": "b", "gold": "3", "pred": "So 2 + 2 = 4"},
        {"id": "c", "gold": 7, "pred": "none"},
    ]
    cases.write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert grade_file(cases, out, workers=1) == {"correct": 1, "wrong": 2}
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert [r["id"] for r in found] == ["a", "b", "c"]
    assert [set(r) for r in found] == [{"id", "status", "extracted", "how", "ms"}] * 3
    assert found[1]["status"] == "wrong" and found[1]["extracted"] == "4"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "not JSON"),
        ("[1]", "not list"),
        ('{"id": 1, "pred": "3"}', "gold missing"),
        ('{"id": 1, "gold": null, "pred": "3"}', "gold must be a string or a number, got null"),
    ],
)
def test_malformed_line_is_named(tmp_path, line, says):
    cases, out = tmp_path / "cases.jsonl", tmp_path / "out.jsonl"
    cases.write_text('{"id": 0, "gold": "1", "pred": "1"}\n' + line + "\n")
    with pytest.raises(UserError, match=rf"cases\.jsonl:2: .*{says}"):
        grade_file(cases, out)
    assert not out.exists()


def test_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        grade_file(tmp_path / "nothing.jsonl", tmp_path / "out.jsonl")


@pytest.mark.parametrize(
    ("gold", "answer", "right"),
    [
        ("4", "3 + 4 - 3", False),
        ("-1", "1 - 2", False),
        ("4", "3 + 4 - 3 = 3 + 4 - 3", False),
        ("12", r"\boxed{3\cdot 4}", False),
        ("21", r"\boxed{7\times 3}", False),
        ("4", "3 + 4 - 3 = 4", True),
        ("20", "5 x 4 = 20.", True),
        ("0", "0 - 0 is 0", True),
        ("18", 'The answer is "18"', True),
        ("300000", r"\boxed{3 \times 10^5}", True),
        ("3 + 2i", r"\boxed{3+2i}", True),
        ("-3", "-3", True),
    ],
)
def test_repeating_the_question_is_no_answer(grader, gold, answer, right):
    """Seen in a trained model's answers: "What is 0 - 4?" -> "0 - 4", which computer algebra calls equal to -4."""
    assert grader.grade(gold, answer).ok is right
