"""Statistics against values known otherwise."""

import numpy as np
import pytest

from dpr_mini.stats import bootstrap, paired, sign_test


def test_sign_test_known_values():
    assert sign_test(9, 1) == pytest.approx(22 / 1024)
    assert sign_test(5, 5) == 1.0
    assert sign_test(0, 0) == 1.0
    assert sign_test(0, 6) == pytest.approx(2 / 64)


def test_bootstrap_covers_the_true_mean_about_95_times_in_100():
    rng = np.random.default_rng(1)
    hits = 0
    for i in range(200):
        _, low, high = bootstrap(rng.binomial(4, 0.3, 60) / 4, seed=i)
        hits += low <= 0.3 <= high
    assert 0.90 <= hits / 200 <= 0.985


def test_bootstrap_is_over_problems_and_repeats():
    assert bootstrap([0.5] * 10) == (0.5, 0.5, 0.5)
    assert bootstrap([0, 1, 1, 0, 1]) == bootstrap([0, 1, 1, 0, 1])
    with pytest.raises(ValueError, match="no problems"):
        bootstrap([])


def test_paired_sees_a_difference_that_two_intervals_would_hide():
    rng = np.random.default_rng(0)
    before = rng.uniform(0, 0.8, 60)
    after = before + 0.1
    found = paired(list(before), list(after))
    assert found["mean"] == pytest.approx(0.1) and found["low"] > 0.09 and found["up"] == 60
    assert bootstrap(list(before))[2] > bootstrap(list(after))[1], "the two intervals overlap"
    with pytest.raises(ValueError, match="paired comparison of 2 with 1"):
        paired([1, 0], [1])
