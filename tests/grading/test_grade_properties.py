"""Properties of grading over generated answers: format does not matter, value does, nothing raises."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dpr_mini.grading import tiers
from dpr_mini.grading.answers import exact
from dpr_mini.grading.grader import Grader
from dpr_mini.grading.guards import dropped, for_parser, heavy
from dpr_mini.grading.notation import clean, squeeze
from dpr_mini.grading.reading import extract, first_result, last_number
from dpr_mini.grading.structure import structure

FAST = settings(max_examples=200, deadline=None)
WORKER = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
whole = st.integers(-(10**9), 10**9)
small = st.integers(-99, 99)
positive = st.integers(1, 999)
NOISE = st.text(alphabet="0123456789xyie.,+-*/^_=<>(){}[]\\|&$%! \u222a\u00b1\u03c0\u2264", max_size=30)
COMMANDS = st.lists(
    st.sampled_from(
        [r"\frac{", "}{", "}", r"\sqrt", r"\pi", r"\pm", r"\cup", r"\infty", r"\le", r"\text{", r"\{", r"\}", "i",
         "e", "x",
         "2", "0", "-", ",", "(", "]", "^", "_", "=", r"\approx", r"\overline{", r"\\", "&", r"\sin", r"^\circ",
         r"\ln", "!"]
    ),
    max_size=12,
).map("".join)  # fmt: skip
ANY = st.one_of(st.text(max_size=60), NOISE, COMMANDS)


@pytest.fixture(scope="module")
def grader():
    with Grader(workers=2, timeout_s=2) as g:
        yield g


def decide(gold: str, answer: str) -> bool | None:
    """Right, wrong, or None where it would need a worker."""
    verdict = tiers.decide(gold, answer, "boxed")
    return verdict.ok if verdict else None


@st.composite
def spelled(draw) -> tuple[str, str, Fraction]:
    """A number, and another spelling of it."""
    top, bottom = draw(small), draw(positive)
    value = Fraction(top, bottom)
    k = draw(st.integers(1, 20))
    sign = "-" if top < 0 else ""
    forms = [
        f"{top}/{bottom}", rf"\frac{{{top}}}{{{bottom}}}", rf"{sign}\dfrac{{{abs(top)}}}{{{bottom}}}",
        rf"$\frac{{{top * k}}}{{{bottom * k}}}$", f"{top * k}/{bottom * k}",
        rf"\left(\tfrac{{{top}}}{{{bottom}}}\right)",
        rf"\displaystyle {sign}\frac{{{abs(top)}}}{{{bottom}}}", rf" {sign} \frac {{ {abs(top)} }}{{ {bottom} }} ",
    ]  # fmt: skip
    return draw(st.sampled_from(forms)), draw(st.sampled_from(forms)), value


@FAST
@given(spelled())
def test_spellings_of_a_fraction_are_equal_both_ways(pair):
    a, b, _ = pair
    assert decide(a, b) is True and decide(b, a) is True, pair


@FAST
@given(whole, st.integers(0, 5), st.sampled_from(["{}", "${}$", r"\text{{{}}}", "{}.", r"\mathbf{{{}}}", "x = {}"]))
def test_spellings_of_a_decimal_are_equal(n, zeros, wrapper):
    for text in (str(n), f"{n:,}", f"{n:,}".replace(",", "{,}"), f"{n:,}".replace(",", r",\!"), f"{n}." + "0" * zeros):
        assert decide(str(n), wrapper.format(text.rstrip("."))) is True, text


@FAST
@given(spelled(), spelled())
def test_a_different_number_is_never_accepted(one, two):
    for a in one[:2]:
        for b in two[:2]:
            assert decide(a, b) is not (one[2] != two[2]), (a, b)


@FAST
@given(whole, whole)
def test_integers(m, n):
    assert decide(str(m), str(n)) is (m == n) and decide(f"{m:,}", f"{n:,}") is (m == n)


@FAST
@given(small, small, small, small, st.sampled_from([r"\pi", "i", r"\sqrt{2}", r"\mathrm{e}", "x"]))
def test_sums_with_a_constant_are_decided_by_their_coefficients(a, b, c, d, name):
    left, right = f"{a}{b:+}{name}", f"{d}{name}{c:+}"
    assert decide(left, right) is ((a, b) == (c, d))
    assert decide(left, right) == decide(right, left)
    assert decide(f"{a} + ({b}) {name}", left) is True


@FAST
@given(st.lists(small, min_size=1, max_size=5, unique=True), st.randoms(use_true_random=False), small)
def test_sets_ignore_order_and_tuples_do_not(numbers, random, extra):
    shuffled = random.sample(numbers, len(numbers))
    text, other = ", ".join(map(str, numbers)), ", ".join(map(str, shuffled))
    assert decide(rf"\{{{text}\}}", rf"\{{{other}\}}") is True
    if len(numbers) > 1:
        assert decide(text, other) is True
        assert decide(f"({text})", f"({other})") is (numbers == shuffled)
    if extra not in numbers:
        assert decide(rf"\{{{text}\}}", rf"\{{{other}, {extra}\}}") is False


@FAST
@given(small, small, st.booleans(), st.booleans(), st.sampled_from("xtn"))
def test_intervals_and_inequalities_agree(a, b, left, right, name):
    if a >= b:
        return
    interval = f"{'[' if left else '('}{a}, {b}{']' if right else ')'}"
    low, high = r"\le" if left else "<", r"\leq" if right else "<"
    text = f"{a} {low} {name} {high} {b}"
    assert decide(interval, text) is True and decide(text, interval) is True
    flipped = f"{a} {'<' if left else '<='} {name} {high} {b}"
    assert decide(interval, flipped) is False
    assert decide(text, f"{a} {low} {name}") is False


@pytest.mark.slow
@FAST
@given(ANY, ANY)
def test_nothing_raises_in_process(gold, answer):
    for text in (gold, answer):
        extract(text), first_result(text), last_number(text), clean(text), squeeze(text), for_parser(text), heavy(text)
    exact(gold, answer), dropped(gold, answer)
    forth, back = structure(gold, answer), structure(answer, gold)
    assert not (forth and back and forth[1] == back[1] == "value" and forth[0] != back[0])
    assert decide(gold, gold) in (True, None) or not gold


@FAST
@given(ANY)
def test_every_text_equals_itself(text):
    decided = structure(text, text)
    assert decided is None or decided[0] or "approx" in decided[1]


@pytest.mark.slow
@WORKER
@given(ANY, ANY)
def test_nothing_raises_in_workers(grader, gold, answer):
    verdict = grader.grade(gold, rf"\boxed{{{answer}}}")
    assert verdict.status in ("correct", "wrong", "unparsed", "timeout")


@WORKER
@given(spelled(), small)
def test_workers_accept_no_other_number(grader, pair, extra):
    a, _, value = pair
    if value != extra:
        assert not grader.grade(str(extra), rf"\boxed{{\cos(0) \cdot {a}}}").ok
