"""Statistics against values known otherwise: enumeration, simulation, textbook formulas."""

import itertools
import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpr_mini.scoring.stats import (
    GREEDY,
    PairError,
    bootstrap,
    compare,
    compare_graded,
    crossed,
    estimate,
    lengths,
    majority,
    paired,
    pass_at_k,
    sign_test,
    standard_error,
)

# ---------------------------------------------------------------- sign test


def test_sign_test_known_values():
    assert sign_test(9, 1) == pytest.approx(22 / 1024)
    assert sign_test(5, 5) == 1.0
    assert sign_test(0, 0) == 1.0
    assert sign_test(0, 6) == pytest.approx(2 / 64)
    assert sign_test(2, 10) == pytest.approx(2 * (1 + 12 + 66) / 4096)


@pytest.mark.parametrize("n", range(1, 11))
def test_sign_test_is_the_share_of_coin_flips_that_are_as_far_from_even(n):
    heads = [sum(flips) for flips in itertools.product((0, 1), repeat=n)]
    for up in range(n + 1):
        as_far = sum(abs(2 * h - n) >= abs(2 * up - n) for h in heads)
        assert sign_test(up, n - up) == pytest.approx(as_far / 2**n)


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
    for i in range(300):
        hard = rng.beta(0.6, 1.2, 30) * 0.9
        before, after = (rng.binomial(8, rate) / 8 for rate in (hard, hard + 0.1))
        found = paired(list(before), list(after), seed=i)
        hits += found["low"] <= 0.1 <= found["high"]
        _, low, high = bootstrap(after, seed=i)
        narrower += found["high"] - found["low"] < high - low
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
    assert (none["mean"], none["low"], none["se"]) == (0, pytest.approx(0), None)
    assert none["high"] == pytest.approx(0.1135, abs=1e-4)  # Wilson: z^2 / (n + z^2)
    assert every["low"] == pytest.approx(1 - 0.1135, abs=1e-4) and every["high"] == pytest.approx(1)
    one = estimate([0.5])
    assert one["n"] == 1 and one["low"] < 0.1 and one["high"] > 0.9 and one["se"] is None
    mixed = estimate([0.0, 1.0, 0.5])
    assert (mixed["low"], mixed["high"]) == bootstrap([0.0, 1.0, 0.5])[1:] and mixed["se"] > 0


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
    found = lengths([1, 2, 3, 4, 100])
    assert (found["n"], found["mean"], found["median"]) == (5, 22, 3)
    assert found["p90"] == pytest.approx(61.6)


# ---------------------------------------------------------------- two models


def test_paired_sees_a_difference_that_two_intervals_would_hide():
    rng = np.random.default_rng(0)
    before = rng.uniform(0, 0.8, 60)
    after = before + 0.1
    found = paired(list(before), list(after))
    assert found["mean"] == pytest.approx(0.1) and found["low"] > 0.09 and found["up"] == 60
    assert bootstrap(list(before))[2] > bootstrap(list(after))[1], "the two intervals overlap"
    with pytest.raises(ValueError, match="paired comparison of 2 with 1"):
        paired([1, 0], [1])


def test_two_models_that_agree_on_every_problem_are_not_certainly_equal():
    found = paired([1, 0, 1] * 10, [1, 0, 1] * 10)
    assert (found["mean"], found["p_sign"]) == (0, 1) and found["high"] == pytest.approx(0.1135, abs=1e-4)
    assert found["low"] == -found["high"]


def test_counts_of_mcnemar_with_one_answer_a_problem():
    before, after = [1, 1, 0, 0, 0, 0], [1, 0, 1, 1, 1, 0]
    assert crossed(before, after) == {"both": 1, "gained": 3, "lost": 1, "neither": 1}
    found = compare({str(i): v for i, v in enumerate(before)}, {str(i): v for i, v in enumerate(after)})
    assert (found["up"], found["down"], found["gained"], found["lost"]) == (3, 1, 3, 1)
    assert found["p_sign"] == sign_test(3, 1) == pytest.approx(10 / 16)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=20))
def test_crossed_counts_add_up_and_hold_the_mean_difference(pairs):
    before, after = ([p[i] / 4 for p in pairs] for i in (0, 1))
    found = crossed(before, after)
    assert sum(found.values()) == pytest.approx(len(pairs))
    difference = sum(b - a for a, b in zip(before, after, strict=True))
    assert found["gained"] - found["lost"] == pytest.approx(difference)


def test_different_problems_are_refused_in_one_line():
    with pytest.raises(PairError, match=r"^base and phase 1 have different problems: 1 of 2 in base, e.g. b, are not"):
        compare({"a": 1, "b": 0}, {"a": 1}, ("base", "phase 1"))
    with pytest.raises(PairError, match=r"1 of 2 in phase 1, e\.g\. c, are not in base"):
        compare({"a": 1}, {"a": 1, "c": 0}, ("base", "phase 1"))
    with pytest.raises(PairError, match="no problem to compare"):
        compare({}, {})


def test_the_order_of_problems_does_not_matter():
    one, other = {"a": 1.0, "b": 0.0, "c": 0.5}, {"c": 0.5, "b": 1.0, "a": 0.0}
    assert compare(one, other)["mean"] == 0 and compare(one, other)["up"] == compare(one, other)["down"] == 1


def graded(problem, sample, ok, benchmark="bench"):
    return {"problem_id": problem, "sample": sample, "benchmark": benchmark, "status": "correct" if ok else "wrong"}


def test_compare_graded_takes_sampled_and_greedy_apart_and_different_k():
    before = [graded("a", 0, False), graded("a", 1, True), graded("b", 0, False), graded("b", 1, False)]
    before += [graded("a", GREEDY, True), graded("b", GREEDY, False)]
    after = [graded("a", 0, True), graded("b", 0, True), graded("a", GREEDY, True), graded("b", GREEDY, False)]
    found = compare_graded(before, after)
    assert list(found) == ["bench"]
    assert found["bench"]["sampled"]["mean"] == pytest.approx(0.75) and found["bench"]["greedy"]["mean"] == 0
    plain = [r for r in before if r["sample"] != GREEDY]
    assert compare_graded(plain, plain)["bench"]["greedy"] is None
    with pytest.raises(PairError, match="different problems"):  # greedy answers in one of them only
        compare_graded(before, plain)


def test_compare_graded_adds_all_over_several_benchmarks():
    rows = [graded("a", 0, True), graded("b", 0, False, "other")]
    turned = [graded("a", 0, False), graded("b", 0, True, "other")]
    found = compare_graded(rows, turned)
    assert list(found) == ["bench", "other", "all"]
    assert (found["bench"]["sampled"]["mean"], found["other"]["sampled"]["mean"]) == (-1, 1)
    assert found["all"]["sampled"]["mean"] == 0 and found["all"]["sampled"]["n"] == 2
