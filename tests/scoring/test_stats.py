"""Statistics against values known otherwise: enumeration, simulation, textbook formulas."""

import itertools
import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rows import graded

from dpr_mini.scoring.stats import (
    bootstrap,
    compare,
    estimate,
    lengths,
    majority,
    paired,
    pass_at_k,
    standard_error,
    subset,
)
from dpr_mini.types import ALL, UserError, wilson


def by_id(rates):
    """One rate a problem, by the problem's id."""
    return {f"{i:04d}": float(rate) for i, rate in enumerate(rates)}


# ---------------------------------------------------------------- bootstrap and standard error


def test_bootstrap_covers_the_true_mean_about_95_times_in_100():
    rng = np.random.default_rng(1)
    hits = 0
    for i in range(300):
        _, low, high = bootstrap(rng.binomial(4, 0.3, 60) / 4, seed=i)
        hits += low <= 0.3 <= high
    assert 0.90 <= hits / 300 <= 0.98


def test_paired_interval_covers_the_true_difference_where_both_models_share_hard_problems():
    """AIME's size: 30 problems of very different difficulty, 8 answers of each model, a true gain of 0.1."""
    rng = np.random.default_rng(2)
    hits = narrower = 0
    for _ in range(300):
        hard = rng.beta(0.6, 1.2, 30) * 0.9
        before, after = (rng.binomial(8, rate) / 8 for rate in (hard, hard + 0.1))
        difference = paired(by_id(before), by_id(after))
        hits += difference.low <= 0.1 <= difference.high
        _, low, high = bootstrap(after)
        narrower += difference.high - difference.low < high - low
    assert 0.90 <= hits / 300 <= 0.98
    assert narrower > 290, "pairing takes the problems' own differences out"


def test_bootstrap_is_over_problems_and_repeats():
    assert bootstrap([0.5] * 10) == (0.5, 0.5, 0.5)
    assert bootstrap([0, 1, 1, 0, 1]) == bootstrap([0, 1, 1, 0, 1])
    with pytest.raises(ValueError, match="no problems"):
        bootstrap([])


def test_standard_error_is_s_over_root_n_and_that_of_a_share():
    values = [0.25, 1.0, 0.5, 0.0, 0.75, 0.5]
    assert standard_error(values) == pytest.approx(statistics.stdev(values) / math.sqrt(6))
    # 0/1 values: sqrt(p (1 - p) / (n - 1)); 12 % of 30 problems is the 6 points that one AIME run is unsure of
    assert standard_error([1] * 4 + [0] * 26) == pytest.approx(math.sqrt(4 / 30 * 26 / 30 / 29))
    assert standard_error([0.5]) is None


def test_standard_error_is_the_spread_that_the_bootstrap_sees():
    rng = np.random.default_rng(3)
    values = list(rng.binomial(4, 0.4, 400) / 4)
    _, low, high = bootstrap(values)
    assert (high - low) / (2 * 1.96) == pytest.approx(standard_error(values), rel=0.05)


def test_a_score_of_none_or_all_is_not_certain():
    none, every = estimate([0.0] * 30), estimate([1.0] * 30)
    assert (none.mean, none.low, none.se) == (0, pytest.approx(0), None)
    assert none.high == pytest.approx(0.1135, abs=1e-4)  # Wilson: z^2 / (n + z^2)
    assert every.low == pytest.approx(1 - 0.1135, abs=1e-4) and every.high == pytest.approx(1)
    one = estimate([0.5])
    assert one.n == 1 and one.low < 0.1 and one.high > 0.9 and one.se is None
    mixed = estimate([0.0, 1.0, 0.5])
    assert 0 < mixed.low < 0.5 < mixed.high < 1 and mixed.se > 0


def test_one_answer_a_problem_has_wilsons_interval():
    found = estimate([1.0] * 6 + [0.0] * 24)
    assert (found.low, found.high) == wilson(0.2, 30) and found.se == standard_error([1.0] * 6 + [0.0] * 24)


@pytest.mark.parametrize(("n", "rate"), [(20, 0.07), (30, 0.07), (50, 0.07), (20, 0.5)])
def test_few_problems_and_small_rates_are_covered(n, rate):
    """Where the percentile bootstrap covers 0.81 to 0.91 at the rate of 0.07. One right answer makes no large jump."""
    rng = np.random.default_rng(5)
    found = [estimate(rng.binomial(4, rng.beta(rate, 1 - rate, n)) / 4) for _ in range(1500)]
    assert 0.94 <= np.mean([e.low <= rate <= e.high for e in found]) <= 0.99
    none, one, five = (estimate([0.25] * j + [0.0] * (n - j)) for j in (0, 1, 5))
    assert 0.6 * none.high < one.high < five.high, "not the 0.45 of draws taken for independent"


# ---------------------------------------------------------------- pass@k, maj@k


@pytest.mark.parametrize("n", range(1, 8))
def test_pass_at_k_is_the_share_of_all_choices_of_k_with_a_right_one(n):
    for c, k in itertools.product(range(n + 1), range(1, n + 1)):
        draws = [True] * c + [False] * (n - c)
        chosen = [any(some) for some in itertools.combinations(draws, k)]
        assert pass_at_k(n, c, k) == pytest.approx(sum(chosen) / len(chosen))


def test_pass_at_k_ends_and_large_numbers():
    assert pass_at_k(10, 3, 1) == pytest.approx(0.3) and pass_at_k(10, 0, 10) == 0 and pass_at_k(10, 1, 10) == 1
    n, c, k = 20_000, 10, 1_000
    assert pass_at_k(n, c, k) == pytest.approx(1 - float(math.comb(n - c, k) * 10**30 // math.comb(n, k)) / 1e30)
    for wrong in ((4, 5, 1), (4, -1, 1), (4, 2, 0), (4, 2, 5)):
        with pytest.raises(ValueError, match="pass@"):
            pass_at_k(*wrong)


def test_pass_at_k_is_unbiased_where_the_plug_in_is_not():
    """Mean over many samplings of n = 8 answers against the true 1 - (1 - p)^4."""
    rng, p = np.random.default_rng(4), 0.2
    right = rng.binomial(8, p, 20_000)
    true = 1 - (1 - p) ** 4
    assert np.mean([pass_at_k(8, int(c), 4) for c in right]) == pytest.approx(true, abs=0.006)
    assert abs(np.mean(1 - (1 - right / 8) ** 4) - true) > 0.02


def test_majority_counts_votes_and_shares_ties():
    assert majority(["7", "7", "8"], [True, True, False]) == 1
    assert majority(["7", "8", "8"], [True, False, False]) == 0
    assert majority(["7", "8"], [True, False]) == 0.5
    assert majority(["7", "8", "9"], [True, False, False]) == pytest.approx(1 / 3)
    assert majority(["8", "9"], [False, False]) == 0
    assert majority([None, None, "7"], [False, False, True]) == 1, "no answer is no vote"
    assert majority([None, None], [False, False]) == 0 and majority([], []) == 0


@given(st.lists(st.sampled_from(["right", "a", "b", None]), max_size=9), st.randoms())
def test_majority_does_not_depend_on_the_order_of_the_draws(votes, random):
    shuffled = list(votes)
    random.shuffle(shuffled)
    known = [majority(v, [x == "right" for x in v]) for v in (votes, shuffled)]
    assert known[0] == known[1] and 0 <= known[0] <= 1
    more = [*votes, *["right"] * 10]
    assert majority(more, [x == "right" for x in more]) == 1


def test_lengths():
    assert lengths([]) is None
    length = lengths([1, 2, 3, 4, 100])
    assert (length.n, length.mean, length.median) == (5, 22, 3)
    assert length.p90 == pytest.approx(61.6)


# ---------------------------------------------------------------- two models


def test_paired_sees_a_difference_that_two_intervals_would_hide():
    rng = np.random.default_rng(0)
    before = rng.uniform(0, 0.8, 60)
    after = before + 0.1
    difference = paired(by_id(before), by_id(after))
    assert difference.mean == pytest.approx(0.1) and difference.low > 0.09 and difference.up == 60
    assert bootstrap(list(before))[2] > bootstrap(list(after))[1], "the two intervals overlap"


def test_two_models_that_agree_on_every_problem_are_not_certainly_equal():
    difference = paired(by_id([1, 0, 1] * 10), by_id([1, 0, 1] * 10))
    assert (difference.mean, difference.p) == (0, 1) and difference.high == pytest.approx(0.1135, abs=1e-4)
    assert difference.low == -difference.high


def test_with_one_answer_a_problem_it_is_mcnemars_exact_test():
    before, after = [1, 1, 0, 0, 0, 0], [1, 0, 1, 1, 1, 0]
    difference = paired(by_id(before), by_id(after))
    assert (difference.up, difference.down) == (3, 1)
    assert difference.p == pytest.approx(10 / 16), "of 2^4 choices: 1 + 4 with three up or more, and as many down"


def test_the_interval_and_the_p_are_of_the_mean_not_of_how_many_rise():
    """Many small losses and a few large gains: the sign test would say worse, the mean is higher."""
    difference = paired(by_id([0.5] * 40), by_id([0.4] * 24 + [1.0] * 16))
    assert difference.up < difference.down and difference.low > 0 and difference.p < 0.05


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=20))
def test_the_mean_difference_is_the_difference_of_the_means(pairs):
    before, after = ([p[i] / 4 for p in pairs] for i in (0, 1))
    difference = paired(by_id(before), by_id(after))
    assert difference.mean == pytest.approx(statistics.fmean(after) - statistics.fmean(before))
    assert difference.n == len(pairs) >= difference.up + difference.down


def test_different_problems_are_refused_in_one_line():
    with pytest.raises(UserError, match=r"^base and phase 1 have different problems: 1 of 2 in base, e.g. b, are not"):
        paired({"a": 1, "b": 0}, {"a": 1}, ("base", "phase 1"))
    with pytest.raises(UserError, match=r"1 of 2 in phase 1, e\.g\. c, are not in base"):
        paired({"a": 1}, {"a": 1, "c": 0}, ("base", "phase 1"))
    with pytest.raises(UserError, match="before and after have no problem to compare"):
        compare([], [])


def test_the_order_of_problems_does_not_matter():
    one, other = {"a": 1.0, "b": 0.0, "c": 0.5}, {"c": 0.5, "b": 1.0, "a": 0.0}
    difference = paired(one, other)
    assert difference.mean == 0 and difference.up == difference.down == 1


BEFORE = [graded("a", 0, False), graded("a", 1, True), graded("b", 0, False), graded("b", 1, False)]
AFTER = [graded("a", 0, True), graded("b", 0, True, tokens=5)]
GREEDY_ANSWERS = [graded("a", None, True), graded("b", None, False)]


def test_a_problems_samples_are_averaged_first_and_the_two_may_have_different_k():
    difference = compare(BEFORE, AFTER)
    assert (difference.n, difference.mean, difference.up) == (2, pytest.approx(0.75), 2)
    assert compare(AFTER, AFTER, lambda a: a.tokens).mean == 0
    assert compare(BEFORE, AFTER, lambda a: a.tokens).mean == pytest.approx((0 + 2) / 2)


def test_one_function_takes_benchmarks_and_greedy_answers_apart():
    other = [graded("c", 0, True, "other"), graded("c", None, False, "other")]
    every = [*BEFORE, *GREEDY_ANSWERS, *other]
    assert subset(every, "bench") == BEFORE and subset(every, "bench", greedy=True) == GREEDY_ANSWERS
    assert subset(every) == subset(every, ALL) == [*BEFORE, other[0]]
    assert subset(every, greedy=True) == [*GREEDY_ANSWERS, other[1]] and subset(every, "none") == []
    with pytest.raises(UserError, match="different problems"):  # greedy answers in one of them only
        compare(subset(every, greedy=True), subset(BEFORE, greedy=True))
