"""Intervals over problems and seeds against simulation and by hand; flips against all choices of signs; Holm, TOST."""

import itertools
import math
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import ROOT

from dpr_mini.scoring.crossed import (
    crossed,
    equivalence,
    holm,
    joined,
    matrix,
    mean_squares,
    one_sided,
    spread,
    unbalanced,
)
from dpr_mini.scoring.flips import flip_test
from dpr_mini.types import UserError

# ---------------------------------------------------------------- the crossed interval


def test_mean_squares_are_those_of_a_two_way_table():
    """By hand: rows (0, 2), (4, 10); grand mean 4, row means 1 and 7, column means 2 and 6, what is left +-1."""
    assert [float(x) for x in mean_squares(np.array([[0.0, 2.0], [4.0, 10.0]]))] == [36, 16, 4]


def test_the_variance_is_unbiased_and_the_degrees_of_freedom_are_satterthwaites():
    se, df = spread(np.array(2.0), np.array(5.0), np.array(1.0), 100, 4)
    assert float(se) == pytest.approx(math.sqrt(6 / 400))
    assert float(df) == pytest.approx(36 / (4 / 99 + 25 / 3 + 1 / 297))
    se, df = spread(np.array(2.0), np.array(0.1), np.array(1.9), 100, 4)
    assert float(se) == pytest.approx(math.sqrt(1 / 400)), "at least half of what problems alone give"
    assert float(spread(np.array(0.1), np.array(9.0), np.array(1.0), 100, 4)[1]) == 3, "at least S - 1"


def test_it_covers_the_method_on_a_new_seed_where_problems_alone_do_not():
    """A fast cut of bench/interval_coverage.py; its whole grid is in bench/results/coverage.json."""
    rng, cover, alone = np.random.default_rng(0), [], []
    from scipy.special import stdtrit

    for n, seeds, sd in ((50, 3, 0.0), (50, 8, 0.03), (120, 3, 0.03), (120, 5, 0.0), (120, 5, 0.02)):
        runs = 800
        rate = rng.beta(2.0, 2.0, (runs, n, 1)) * 0.8
        shift = 0.05 + rng.normal(0, 0.04, (runs, n, 1)) + sd * rng.normal(0, 1, (runs, 1, seeds))
        after = np.clip(rate + shift + rng.normal(0, 0.04, (runs, n, seeds)), 0, 1)
        d = (rng.binomial(4, after) - rng.binomial(4, np.broadcast_to(rate, after.shape))) / 4
        p, s, e = mean_squares(d)
        se, df = spread(p, s, e, n, seeds)
        off = np.abs(d.mean(axis=(1, 2)) - 0.05 - (after - rate - shift).mean())
        cover.append(float(np.mean(off <= stdtrit(df, 0.975) * se)))
        alone.append(float(np.mean(off <= stdtrit(n - 1, 0.975) * np.sqrt(p / (n * seeds)))))
    assert all(0.925 <= c <= 0.98 for c in cover), cover
    assert alone[2] < 0.9, "seeds that differ by 0.03 are more than 120 problems"


def test_one_seed_has_problems_only_and_says_so():
    found = crossed([[0.0], [0.5], [1.0], [0.25]])
    assert (found.seeds, found.p_seeds, found.over) == (1, None, "problems only (one seed)")
    assert (found.low, found.high, found.df) == (found.problems_low, found.problems_high, 3)
    assert found.mean == 0.4375 and found.se == pytest.approx(np.std([0, 0.5, 1, 0.25], ddof=1) / 2)


def test_what_it_says_of_problems_and_of_seeds():
    values = np.zeros((40, 4))
    values[:, :2] = 0.25
    found = crossed(values)
    assert (found.n, found.seeds, found.mean, found.over) == (40, 4, 0.125, "problems and seeds")
    assert found.low < 0 < found.problems_low and found.p > 0.05 and found.p_problems < 1e-6 and found.p_seeds == 0.5
    assert found.df == 3 and found.high - found.low == pytest.approx(2 * 3.18245 * found.se, rel=1e-5)


def test_no_change_anywhere_is_not_certainty():
    found = crossed(np.zeros((30, 3)))
    assert found.low == pytest.approx(-found.high) and 0.11 < found.high < 0.13 and found.p == 1
    assert equivalence(found, 0.05) > 0.05 and equivalence(crossed(np.zeros((600, 3))), 0.05) < 0.001


def test_one_problem_says_nothing():
    found = crossed([[0.5, 0.25]])
    assert found.p is None and found.se is None and found.low == found.high == found.mean == 0.375


@pytest.mark.parametrize("values", [[[]], [], [[math.nan, 1.0]]])
def test_no_values_are_refused(values):
    with pytest.raises(ValueError, match="finite values by problem and seed"):
        crossed(values)


def test_where_seeds_lack_problems_the_parts_are_joined():
    found = unbalanced({0: {"a": 1.0, "b": 0.0, "c": 1.0}, 1: {"a": 0.0, "c": 1.0}, 2: {}})
    assert (found.n, found.seeds, found.mean) == (3, 2, 0.5), "a 0.5, b 0, c 1"
    rows, each = [0.5, 0.0, 1.0], [2 / 3, 0.5]
    expected = math.sqrt(np.var(rows, ddof=1) / 3 + np.var(each, ddof=1) / 2)
    assert found.se == pytest.approx(expected)
    assert joined(3.0, 10, 0.0, 2) == (3.0, 9.0)
    se, df = joined(0.0208, 120, 0.0042, 3)  # phase 1 over one plain round, as it was published
    assert se == pytest.approx(0.02094, abs=1e-5) and df > 100


def test_a_matrix_wants_the_same_problems_of_every_seed():
    assert matrix({2: {"b": 3.0, "a": 2.0}, 1: {"a": 0.0, "b": 1.0}}).tolist() == [[0, 2], [1, 3]]
    with pytest.raises(UserError, match=r"^arm: seed 2 lacks 1 of 2 problems that other seeds have, e\.g\. b; "):
        matrix({1: {"a": 0.0, "b": 1.0}, 2: {"a": 0.0}}, "arm")
    with pytest.raises(UserError, match="arm: no problem"):
        matrix({}, "arm")


# ---------------------------------------------------------------- flips


def by_enumeration(values):
    total = abs(sum(values))
    flips = [abs(sum(s * v for s, v in zip(signs, values, strict=True)))
             for signs in itertools.product((1, -1), repeat=len(values))]  # fmt: skip
    return sum(f >= total - 1e-9 for f in flips) / len(flips)


DIFFERENCES = st.floats(-1, 1).map(lambda d: round(d, 6))  # below, the enumeration's own tolerance decides


@settings(max_examples=40)
@given(st.lists(st.one_of(st.integers(-8, 8).map(lambda i: i / 8), DIFFERENCES), min_size=1, max_size=9))
def test_flips_are_all_choices_of_signs(values):
    assert flip_test(values) == pytest.approx(by_enumeration(values), abs=1e-9)


def test_flips_of_many_rates_are_exact_and_of_many_lengths_drawn():
    assert flip_test([1.0] * 40) == pytest.approx(2 / 2**40)
    assert flip_test([0.25] * 20 + [0.0] * 500) == flip_test([1] * 20) == pytest.approx(2 / 2**20)
    assert flip_test([0, 0.0]) == 1
    rng = np.random.default_rng(0)
    values = rng.normal(0.3, 1.0, 200)
    assert flip_test(values) == flip_test(-values), "a fixed seed"
    assert flip_test(values + 1) == 1 / 10_000, "never zero"
    assert 0 < flip_test(values) < 0.01


def test_flips_of_problems_have_their_size_where_nothing_changed():
    """Two models of equal chances: of p values about 5 % are below 0.05; with one answer a problem they are coarse."""
    rng = np.random.default_rng(3)
    for k in (1, 4):
        rates = rng.beta(2, 2, (600, 80))
        d = (rng.binomial(k, rates) - rng.binomial(k, rates)) / k
        below = np.mean([flip_test(row) < 0.05 for row in d])
        assert 0.02 < below < 0.065, (k, below)


def test_flips_of_seeds_have_their_size_where_seeds_differ_and_those_of_problems_do_not():
    rng = np.random.default_rng(4)
    seeds_below = problems_below = 0
    for _ in range(400):
        problems = rng.normal(0, 0.15, (60, 1))
        d = problems - problems.mean() + rng.normal(0, 0.1, (1, 8)) + rng.normal(0, 0.2, (60, 8))
        d = np.round(d * 8) / 8
        found = flip_test(d.mean(axis=0)), flip_test(d.mean(axis=1))
        seeds_below, problems_below = seeds_below + (found[0] <= 0.05), problems_below + (found[1] <= 0.05)
    assert 0.025 < seeds_below / 400 < 0.075 and problems_below / 400 > 0.1


# ---------------------------------------------------------------- equivalence and families


def test_equivalence_is_the_larger_of_two_one_sided_tests():
    found = crossed(np.tile(np.array([[0.03], [-0.02], [0.01], [0.0]] * 30), (1, 4)))
    low, high = one_sided(found, -0.05)[0], one_sided(found, 0.05)[1]
    assert equivalence(found, 0.05) == max(low, high) < 0.001
    assert one_sided(found, found.mean)[0] == pytest.approx(0.5)
    assert equivalence(found, abs(found.mean) / 2) > 0.5, "the mean lies outside"
    with pytest.raises(ValueError, match="a margin is above 0"):
        equivalence(found, 0)


def test_the_95_interval_and_two_one_sided_tests_at_2_5_percent_agree():
    found = crossed(np.random.default_rng(0).normal(0.02, 0.2, (100, 5)))
    assert one_sided(found, found.low)[0] == pytest.approx(0.025) == one_sided(found, found.high)[1]


def test_holms_step_down_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == [] and holm([0.6, 0.7]) == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_never_lowers_a_p_and_keeps_the_order(values):
    adjusted = holm(values)
    assert all(p <= a <= 1 for p, a in zip(values, adjusted, strict=True))
    order = sorted(range(len(values)), key=values.__getitem__)
    assert [adjusted[i] for i in order] == sorted(adjusted)
    assert min(adjusted) == pytest.approx(min(1.0, len(values) * min(values)))


def test_the_coverage_script_measures_a_small_grid(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    import interval_coverage

    monkeypatch.setattr(interval_coverage, "POOL", 2000)
    rng = np.random.default_rng(0)
    world = interval_coverage.WORLDS[0]
    truth = interval_coverage.Truth(world, rng)
    found = interval_coverage.crossed_coverage(world, truth, 50, 3, 0.05, 4, 300, rng)
    assert found["problems"] < 0.88 < 0.9 < found["crossed"] <= 1 and found["half_width"] > 0.05
    single = interval_coverage.single_coverage(0.07, 20, 4, 200, rng, 1.0)
    assert single["bootstrap"] < 0.9 < single["estimate"]
    del sys.modules["interval_coverage"]
