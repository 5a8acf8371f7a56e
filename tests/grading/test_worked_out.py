r"""docs/grading.md, "What counts as not worked out": line by line, in every spelling, and no way round it."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dpr_mini.grading.grader import Grader
from dpr_mini.grading.tiers import unworked

WORKED = {
    "an integer": [("54", "54"), ("-54", "-54"), ("5400", "5,400"), ("5400", r"5\,400"), ("5400", "5{,}400")],
    "a decimal": [("2.5", "2.50"), (r"\frac{1}{8}", "0.125"), (r"\frac{1}{3}", r"0.\overline{3}")],
    "a fraction that is not whole": [("3/4", "6/8"), (r"\frac{3}{4}", r"\tfrac{9}{12}"), ("0.75", r"\frac34"),
        ("3/4", "¾")],
    "a mixed number": [(r"\frac{9}{4}", "2 1/4"), ("9/4", r"2\frac{1}{4}"), ("2.25", "2¼")],
    "a percentage": [("35", r"35\%"), (r"35\%", "35%"), ("0.35", "35%")],
    "scientific notation": [("60000", r"6\times10^4"), ("60000", r"6 \cdot 10^{4}"), ("60000", "6e4"),
        ("0.006", "6 \u00d7 10⁻³")],
    "one closed form": [("81", "3^4"), ("9", r"\sqrt{81}"), ("120", "5!"), ("10", r"\binom{5}{2}"),
        ("3", r"\log_2 8")],
    "a closed form with a factor": [(r"3\sqrt{2}", r"\sqrt{18}"), (r"\frac{\pi}{4}", r"0.25\pi"),
        ("2e", r"2\cdot e")],
    "a sum of unlike terms": [(r"2+\sqrt3", r"\sqrt{3}+2"), ("4-i", "-i+4"),
        (r"\frac{1+\sqrt5}{2}", r"\frac12+\frac{\sqrt5}{2}")],
    "its own form": [(r"2^5\cdot3", r"3\cdot2^5"), (r"\frac{10!}{3!}", "604800"), ("7+8", "15")],
    "any form of a formula": [("x^2-9", "(x+3)(x-3)"), ("2a+2b", "2(a+b)"), ("n^2+n", "n(n+1)")],
}  # fmt: skip
UNWORKED = {
    "a sum": [("54", "50+4"), ("54", r"\boxed{50 + 4}"), ("54", "(50)+(4)"), ("54", "27 + 27"), ("54", "54+0")],
    "a difference": [("54", "60-6"), ("54", "60 \u2212 6"), ("54", "60 - 6"), ("-4", "0-4"), ("5", "-(-5)")],
    "a product": [
        ("54", "6*9"), ("54", r"6\times 9"), ("54", r"6\cdot9"), ("54", "6⋅9"), ("54", "6\u22179"), ("54", "6·9"),
        ("54", "6 x 9"),
        ("54", "6(9)"), ("54", "(6)(9)"), ("54", r"1\cdot 54"), ("54", "6\u00d79"), ("4.5", r"9\cdot\frac12"),
        ("54", "54*1"),
    ],
    "a quotient": [
        ("54", "108/2"), ("54", r"\frac{108}{2}"), ("54", r"108\div 2"), ("54", "108 ÷ 2"), ("54", "54/1"),
        ("2", "1/0.5"),
        ("0.5", r"1 \div 2"), (r"3\pi", r"\frac{6\pi}{2}"),
    ],
    "like terms": [(r"5\sqrt3", r"2\sqrt3+3\sqrt3"), (r"\frac{5}{6}", r"\frac12+\frac13"), (r"4\pi", r"\pi+3\pi"),
        ("7", r"\sqrt9+\sqrt{16}")],
    "within a closed form": [("5", r"\sqrt{9+16}"), ("128", "2^{3+4}"), ("24", "(2+2)!"), ("81", "(1+2)^4")],
    "what only asks": [
        ("6", r"\gcd(12,18)"), ("36", r"\operatorname{lcm}(12,18)"), ("9", r"\max(4,9)"), ("4", "min(4, 9)"),
        ("3", r"\lfloor 3.7\rfloor"),
        ("2", r"17 \bmod 5"), ("15", r"\sum_{k=1}^5 k"), ("24", r"\prod_{k=1}^4 k"),
        ("0", r"\lim_{n\to\infty}\frac1n"),
        ("1", r"\int_0^1 2x\,dx"), ("3", "|-3|"), ("3", r"\lvert -3\rvert"),
    ],
    "in words": [("54", "fifty plus four"), ("54", "6 times 9"), ("54", "the product of 6 and 9"),
        ("54", r"\text{half of } 108")],
    "in a part": [("(3,4)", "(1+2,4)"), ("2, 6", "2, 2*3"), ("[0,4]", "[0,2+2]"),
        (r"\begin{pmatrix}1\\4\end{pmatrix}", r"\begin{pmatrix}1\\2+2\end{pmatrix}")],
    "on the right of an equals sign": [("54", "x = 6*9"), ("54", "54 = 6*9"), ("54", "6*9 = 50+4")],
    "a rounded decimal": [(r"\frac13", "0.33"), ("2/3", "0.667"), (r"\pi", "3.14"), (r"\sqrt2", "1.414"),
        ("1/7", "0.142857")],
}  # fmt: skip
CLOSED = [  # refused where a number is asked for, unless closed forms are accepted
    ("96", r"2^5\cdot3"), ("5", "(2+i)(2-i)"), ("604800", r"\frac{10!}{3!}"), (r"\frac12", r"\sin 30^\circ"),
    (r"\frac12", r"\cos\frac{\pi}{3}"), ("360", r"3\cdot5!"), ("2:3", "4:6"),
    ("1", r"\sum_{n=1}^{\infty}\frac{1}{2^n}"),
]  # fmt: skip


@pytest.fixture(scope="module")
def grader():
    with Grader(workers=2, timeout_s=20) as g:
        yield g


def pairs(table):
    return [pytest.param(g, a, id=f"{line}: {a}") for line, some in table.items() for g, a in some]


@pytest.mark.parametrize(("gold", "answer"), pairs(WORKED))
def test_worked_out(grader, gold, answer):
    assert grader.grade(gold, rf"\boxed{{{answer}}}").ok


@pytest.mark.parametrize("frame", [r"So \boxed{%s}.", "The answer is %s.", "#### %s", "<answer>%s</answer>"])
@pytest.mark.parametrize(("gold", "answer"), pairs(UNWORKED))
def test_not_worked_out(grader, gold, answer, frame):
    verdict = grader.grade(gold, frame.replace("%s", answer))
    assert not verdict.ok, verdict


@pytest.mark.parametrize(("gold", "answer"), CLOSED)
def test_closed_forms_are_a_switch(grader, gold, answer):
    text = rf"\boxed{{{answer}}}"
    assert not grader.grade(gold, text).ok
    with Grader(workers=1, timeout_s=20, closed_forms="accept") as accepting:
        assert accepting.grade(gold, text).ok
        assert not accepting.grade("54", r"\boxed{6\cdot 9}").ok, "plain arithmetic stays unworked"


def test_the_last_number_is_a_switch(grader):
    text = "He has 3 + 4 = 7 apples, so he pays 14 dollars."
    assert grader.grade("14", text).how == "last_number/exact" and grader.grade("14", text).ok
    with Grader(workers=1, last_number="refuse") as strict:
        verdict = strict.grade("14", text)
        assert (verdict.status, verdict.how) == ("unparsed", "last_number")
        assert strict.grade("14", r"So \boxed{14}").ok and strict.grade("14", "The answer is 14.").ok


# ---------------------------------------------------------------- nothing makes a wrong answer right

numbers = st.integers(-999, 999)


@st.composite
def cheats(draw) -> tuple[int, str]:
    """A gold number, and a text of which a wrong number, or nothing worked out, is all that is said."""
    gold, wrong, a = draw(numbers), draw(numbers), draw(st.integers(2, 40))
    assume(wrong not in (gold, -gold))
    hidden = draw(st.sampled_from(["\u200b", "\u2060", "\u00ad", "\u202e", "\ufeff", "\u200f"]))
    text = draw(
        st.sampled_from(
            [
                rf"\boxed{{{gold}}} or \boxed{{{wrong}}}", rf"\boxed{{{gold} \text{{ or }} {wrong}}}",
                rf"\boxed{{{gold}}}, \boxed{{{wrong}}}",
                rf"\boxed{{{gold}}} \boxed{{{wrong}}}", rf"\boxed{{\boxed{{{gold}}} {wrong}}}",
                f"The answer is {gold} or {wrong}.",
                f"The answer is not {gold}.", f"The answer is {gold}. No, that is wrong.",
                rf"\boxed{{{gold}, {wrong}}}",
                rf"\boxed{{{gold - a} + {a}}}", rf"\boxed{{{gold * a}/{a}}}",
                rf"\boxed{{\frac{{{gold * a}}}{{{a}}}}}",
                rf"\boxed{{{gold} \pm {a}}}", rf"\boxed{{{gold}{hidden}}}", f"What is {gold} plus {a}?",
                f"Is it {gold}?",
                rf"\boxed{{{wrong} = {gold}}}", rf"\boxed{{{wrong}}} % {gold}",
                rf"\boxed{{{gold}\phantom{{{wrong}}}}}",
                f"<think>It is {gold}.</think> It is {wrong}.", f"<answer>{wrong}</answer> {gold}",
                rf"\boxed{{{gold} < {gold + a}}}",
                f"#### {wrong}\nor {gold}", rf"\boxed{{\max({gold}, {gold - a})}}", f"Maybe {gold}, maybe {wrong}.",
            ]
        )
    )  # fmt: skip
    return gold, text


@settings(max_examples=600, deadline=None)
@given(cheats())
def test_no_transformation_makes_a_wrong_answer_right(case):
    gold, text = case
    assert not GRADER.grade(str(gold), text).ok


GRADER = Grader(workers=1)  # no case of these needs a worker


@settings(max_examples=200, deadline=None)
@given(numbers, st.integers(1, 99), st.sampled_from("+-*/"))
def test_a_calculation_that_repeats_the_question_is_refused(a, b, sign):
    value = {"+": a + b, "-": a - b, "*": a * b, "/": a // b}[sign]
    a = value * b if sign == "/" else a
    for spelt in (f"{a}{sign}{b}", f"{a} {sign} {b}", f"({a}){sign}({b})"):
        assert unworked(str(value), spelt, accept=False)
        assert unworked(str(value), spelt, accept=True), "the switch is not for plain arithmetic"
