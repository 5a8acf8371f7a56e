"""Numbers in words: one form for an interval, a difference, a p-value and a card, wherever they are shown."""

from dataclasses import replace

import pytest
from rows import graded

from dpr_mini.recipe import EvaluateConfig
from dpr_mini.reporting import words
from dpr_mini.scoring.card import score
from dpr_mini.scoring.scores import Estimate
from dpr_mini.scoring.stats import Difference

GAIN = Difference(n=240, mean=0.3264, low=0.2761, high=0.3768, se=0.0257, up=120, down=9, p=9.9e-25)
ANSWERS = [
    graded(problem, sample, right, level=level, tokens=10 + right)
    for problem, level, rights in (("a", "easy", (True, True)), ("b", "hard", (True, False)))
    for sample, right in zip((0, 1), rights, strict=True)
]
GREEDY_ANSWERS = [graded("a", None, True), graded("b", None, False)]


def test_an_interval_and_an_estimate():
    estimate = Estimate(240, 0.46875, 0.4114, 0.5286, 0.0299)
    assert words.interval(estimate) == "0.469 [0.411, 0.529]"
    assert words.interval(estimate, "\n") == "0.469\n[0.411, 0.529]"
    assert words.estimate(estimate) == "0.469 [0.411, 0.529] s.e. 0.030"
    assert words.estimate(replace(estimate, se=None)) == "0.469 [0.411, 0.529]", "where no problem differs"


def test_a_difference_has_a_sign_and_nothing_is_a_dash():
    assert words.change(GAIN) == "+0.326 [+0.276, +0.377]"
    assert words.change(replace(GAIN, mean=-0.04, low=-0.08, high=0.01), "\n") == "-0.040\n[-0.080, +0.010]"
    assert words.change(None) == words.tested(None) == "-"


def test_a_sentence_has_no_interval_of_few_problems():
    """A table may: below 50 problems a sentence says n and the rate alone."""
    few, many = Estimate(49, 0.5, 0.36, 0.64), Estimate(50, 0.5, 0.36, 0.64)
    assert words.said(few) == "0.500 (n=49)" and words.said(many) == words.interval(many) == words.interval(few)
    assert words.said_change(replace(GAIN, n=40)) == "+0.326 (n=40)"
    assert words.said_change(replace(GAIN, n=40), places=1) == "+0.3 (n=40)"
    assert words.said_change(GAIN) == words.change(GAIN) and words.said_change(None) == "-"


@pytest.mark.parametrize(
    ("p", "value", "equals"),
    [(9.9e-25, "< 0.001", "p < 0.001"), (0.00099, "< 0.001", "p < 0.001"), (0.001, "0.001", "p = 0.001"),
     (0.0343, "0.034", "p = 0.034"), (1.0, "1.000", "p = 1.000")],
)  # fmt: skip
def test_p_has_one_form(p, value, equals):
    difference = replace(GAIN, p=p)
    assert (words.p_value(difference), words.p_equals(difference)) == (value, equals)
    assert words.p_value(p) == value and words.p_value(None) == "-"
    assert words.tested(difference) == f"{equals}, 120 up, 9 down"


def test_a_card_as_a_cell_with_and_without_greedy_answers():
    plain, both = score(ANSWERS), score([*ANSWERS, *GREEDY_ANSWERS])
    assert words.size(both) == "n=2, k=2"
    assert words.cell(plain, False).splitlines()[0] == "0.750" and "greedy" not in words.full_cell(plain)
    assert words.cell(both, True).endswith("\ngreedy 0.500")
    first, greedy, length = words.full_cell(both).splitlines()
    assert first == words.interval(both) and greedy == f"greedy {words.interval(both.greedy_estimate)}"
    assert length == "11 tokens, 0.0% truncated" and words.full_cell(None) == "-"


def test_a_card_over_benchmarks_with_different_k_says_both():
    card = score([*ANSWERS, graded("c", 0, True, "other")])
    assert words.size(card) == "n=3, k=1 to 2"
    lines = list(words.lines(card, EvaluateConfig()))
    assert lines[0].startswith("all: n=3, k=1 to 2, T=0.7") and not any("maj@" in x or "pass@2" in x for x in lines)


def test_a_card_for_a_terminal_names_every_score():
    lines = list(words.lines(score([*ANSWERS, *GREEDY_ANSWERS], "bench"), EvaluateConfig(samples=2)))
    assert lines[0] == "bench: n=2, k=2, T=0.7, top-p 0.95, at most 1024 tokens, preset ours"
    assert [x[2:13].strip() for x in lines[1:5]] == ["pass@1", "maj@2", "pass@2", "greedy, k=1"]
    assert lines[5].startswith("  tokens      mean 11 (right 11, wrong 10), median 11, p90 11; truncated 0.0%")
    assert [x.split(":")[0] for x in lines[6:]] == ["  level easy", "  level hard"]
    assert lines[6].startswith("  level easy: n=1, k=2, 1.000 [") and lines[6].endswith("], 11 tokens")


def test_anything_else_is_flat():
    assert words.flat({"cores": 2, "gpu": "", "system": None, "cpu": "x"}) == "cores 2, cpu x"
    assert words.flat([{"a": {"b": 1}}, "c"]) == "a b 1; c" and words.flat(0.5) == "0.5"
