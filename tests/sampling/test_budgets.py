"""The arithmetic of phase 2: targets by hand, shares that add up, the odds of going on, rounds that end."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpr_mini.recipe import RecipeError, SamplingConfig, parse
from dpr_mini.sampling import budgets
from dpr_mini.sampling.budgets import BudgetError, Counts

GIVEN = {"train": [{"file": "none"}]}  # the problems of a recipe that is never run


def probe(*right, samples=4):
    return Counts.of([samples] * len(right), [samples] * len(right), right)


def first(found, **config):
    """The first round after a probe."""
    return budgets.step(found, found, SamplingConfig(**config))


def wanted(found, **config):
    return first(found, **config).wanted.tolist()


def draws(found, **config):
    return first(found, **config).draws.tolist()


def play(rates, config, samples=4, seed=0):
    """A whole sampling with binomial draws: (the probe's counts, the last counts, the last step, draws by round)."""
    rng, p = np.random.default_rng(seed), np.asarray(rates)
    begun = now = probe(*rng.binomial(samples, p), samples=samples)
    rounds = []
    while (step := budgets.step(begun, now, config)).draws.any():
        assert len(rounds) < 10_000
        rounds.append(step.draws)
        now = now.plus(step.draws, step.draws, rng.binomial(step.draws, p))
    return begun, now, step, rounds


# ---------------------------------------------------------------- targets, by hand


def test_prop2diff_is_proportional_to_the_fail_rate_with_at_least_one():
    # fail rates 1, 0.75, 0.5, 0.25, 0 with quota 8: ceil(8 d), and never less than one
    assert wanted(probe(0, 1, 2, 3, 4), target="prop2diff", quota=8) == [8, 6, 4, 2, 1]


def test_prop2diff_is_relative_to_the_hardest():
    # the hardest fails half the time: it gets the whole quota (max_j d_j = 0.5)
    assert wanted(probe(2, 3, 4), target="prop2diff", quota=8) == [8, 4, 1]


def test_prop2diff_where_nothing_fails_wants_one_each():
    assert wanted(probe(4, 4), target="prop2diff", quota=8) == [1, 1]


def test_darts_numbers():
    """k_p = 192 with fail rates 1, 1/2, 1/48 of 48 probes: 192, 96, 4."""
    assert wanted(probe(0, 24, 47, samples=48), target="prop2diff", quota=192) == [192, 96, 4]


def test_uniform_wants_the_same_of_all_and_draws_what_that_should_take():
    found = probe(0, 1, 4)
    assert wanted(found, target="uniform", quota=3) == [3, 3, 3]
    # lacking * (tried + 2) / (right + 1), rounded up: 3 * 6 / 1, 2 * 6 / 2, nothing
    assert draws(found, target="uniform", quota=3) == [18, 6, 0]
    assert draws(found, target="uniform", quota=3, max_tries=12) == [8, 6, 0]


def test_vrt_draws_alike_and_keeps_all():
    found = probe(0, 2, 4)
    assert draws(found, target="vrt", quota=1, max_tries=52) == [48, 48, 48]
    assert wanted(found, target="vrt", quota=1, max_tries=52) == [52, 52, 52]
    assert draws(found, target="vrt", max_tries=52, budget=12 + 60) == [20, 20, 20]


def test_cap_draws_on_past_its_quota_and_uniform_does_not():
    """ReST-EM: 10 of 32 draws. 11 of 16 probes were right already."""
    found = probe(11, samples=16)
    assert draws(found, target="cap", quota=10, max_tries=32) == [16]
    assert draws(found, target="uniform", quota=10, max_tries=32) == [0]
    assert wanted(found, target="cap", quota=10, max_tries=32) == [10]
    assert first(probe(11, samples=32), target="cap", quota=10, max_tries=32).stop.tolist() == ["met"]


def test_boundary_shares_the_rest_between_problems_that_are_neither_solved_nor_unsolved():
    found = probe(0, 1, 3, 4)
    assert draws(found, target="boundary", budget=16 + 10) == [0, 5, 5, 0]
    assert sorted(draws(found, target="boundary", budget=16 + 11)) == [0, 0, 5, 6]
    assert draws(found, target="boundary", budget=16 + 1000, max_tries=64) == [0, 60, 60, 0]
    assert wanted(found, target="boundary", budget=16 + 10) == [4, 9, 9, 4]


def test_gvm_by_hand():
    # 1/sqrt(p + 0.001/p): p = 0.25 1.98419, 0.5 1.41139, 1 0.99950; of 100: 45.146, 32.113, 22.741; none for p = 0
    found = probe(0, 1, 2, 4)
    assert draws(found, target="gvm", budget=16 + 100, dynamic=False) == [0, 45, 32, 23]
    weight = budgets.gvm(found, SamplingConfig(target="gvm", budget=1)).weight
    assert weight.tolist() == pytest.approx([0, 1.98419, 1.41139, 0.99950], abs=1e-5)


def test_gvm_peaks_at_hard_but_solvable():
    found = probe(*range(0, 1001), samples=1000)
    weight = budgets.gvm(found, SamplingConfig(target="gvm", budget=1)).weight
    assert found.rate[weight.argmax()] == pytest.approx(math.sqrt(1e-3), abs=1e-3)


def test_dynamic_gvm_draws_half_first_and_follows_the_pass_rates():
    begun = probe(1, 1)
    config = SamplingConfig(target="gvm", budget=8 + 40, max_tries=100)
    assert budgets.step(begun, begun, config).draws.tolist() == [10, 10]
    # the first turns out to be solved nearly always: p = 11/14 against 1/14, weights 1.1272 and 3.4325
    now = begun.plus(np.array([10, 10]), np.array([10, 10]), np.array([10, 0]))
    step = budgets.step(begun, now, config)
    assert step.draws.sum() == 10 and step.draws[0] == 0  # its share of all 40 is 9.9: it has had that
    fixed = budgets.step(begun, now, config.model_copy(update={"dynamic": False}))
    assert fixed.draws.tolist() == [10, 10]


def test_dynamic_targets_follow_what_was_drawn():
    begun = probe(0, 2)
    now = begun.plus(np.array([4, 0]), np.array([4, 0]), np.array([4, 0]))  # 4 of 8: as hard as the other
    assert budgets.step(begun, now, SamplingConfig(quota=8, dynamic=True)).wanted.tolist() == [8, 8]
    assert budgets.step(begun, now, SamplingConfig(quota=8, dynamic=False)).wanted.tolist() == [8, 4]


# ---------------------------------------------------------------- properties


@given(st.lists(st.integers(0, 8), min_size=1, max_size=20), st.integers(1, 40))
def test_prop2diff_grows_with_difficulty(corrects, quota):
    got = wanted(probe(*corrects, samples=8), target="prop2diff", quota=quota)
    assert all(1 <= w <= quota for w in got)
    by_rate = sorted(zip(corrects, got, strict=True))
    assert all(a[1] >= b[1] for a, b in pairwise(by_rate))


weights = st.one_of(st.just(0.0), st.floats(1e-6, 1e6))


@given(st.integers(0, 5000), st.lists(st.tuples(weights, st.integers(0, 300)), min_size=1, max_size=30))
def test_shares_add_up_and_keep_their_limits(total, pairs):
    weight, limit = np.array([w for w, _ in pairs]), np.array([n for _, n in pairs])
    got = budgets.share(total, weight, limit)
    assert got.sum() == min(total, limit[weight > 0].sum())
    assert (got >= 0).all() and (got <= limit).all() and not got[weight == 0].any()


@given(st.integers(0, 5000), st.lists(weights, min_size=2, max_size=30), st.integers(0, 300))
def test_a_greater_weight_never_gets_less(total, weight, limit):
    got = budgets.share(total, np.array(weight), np.full(len(weight), limit))
    pairs = sorted(zip(weight, got.tolist(), strict=True))
    assert all(a[1] <= b[1] for a, b in pairwise(pairs) if a[0] < b[0])


def test_remainders_do_not_all_go_to_the_first_source():
    got = budgets.share(50, np.ones(100), np.full(100, 9))
    assert got.max() == 1 and 10 < got[:50].sum() < 40


configs = st.builds(
    lambda target, quota, tries, over, **more: (target, quota, tries, over, more),
    st.sampled_from(list(budgets.TARGETS)),
    st.integers(1, 20),
    st.integers(1, 40),
    st.one_of(st.none(), st.integers(0, 400)),
    dynamic=st.booleans(),
    give_up=st.one_of(st.none(), st.floats(0.01, 0.9)),
)


@settings(max_examples=300, deadline=None)
@given(configs, st.lists(st.sampled_from([0, 0.02, 0.2, 0.5, 0.9, 1]), min_size=1, max_size=15), st.integers(0, 9))
def test_every_sampling_ends_within_its_limits(config, rates, seed):
    target, quota, tries, over, more = config
    over = over if over is not None or target not in ("boundary", "gvm") else 100
    budget = None if over is None else 4 * len(rates) + over
    config = SamplingConfig(target=target, quota=quota, max_tries=tries, budget=budget, **more)
    begun, now, step, rounds = play(rates, config, seed=seed)
    assert (now.asked <= np.maximum(tries, 4)).all()
    assert budget is None or now.asked.sum() <= budget
    assert (step.wanted >= 1).all()
    for wants, asked, right, stop in zip(step.wanted, now.asked, now.right, step.stop, strict=True):
        assert (right >= wants) == (stop == "met")
        if stop == "spent" and budget is None and config.target in ("uniform", "prop2diff"):
            assert asked >= tries
        assert stop != "gave_up" or config.give_up
    if target in ("vrt", "cap") and config.give_up is None:  # equal draws, all of them
        assert now.asked.max() - now.asked.min() <= (budget is not None)
        assert now.asked.sum() == min(4 * len(rates) + max(tries - 4, 0) * len(rates), budget or 10**9)
    if target in ("boundary", "gvm") and config.give_up is None:
        takes = (begun.right > 0) & (begun.right < 4) if target == "boundary" else begun.right > 0
        assert (now.asked - begun.asked).sum() == min(over, max(tries - 4, 0) * takes.sum())
    again = play(rates, config, seed=seed)
    assert all((a == b).all() for a, b in zip(rounds, again[3], strict=True)), "a function of what was drawn before"


def test_a_budget_that_is_too_small_for_a_round_is_shared_alike():
    """Two unsolved problems would want 18 each, the third 6: of 21 draws each gets 6, and the rest is shared."""
    got = draws(probe(0, 0, 1), target="uniform", quota=3, budget=12 + 21)
    assert sum(got) == 21 and got[2] == 6 and sorted(got[:2]) == [7, 8]


# ---------------------------------------------------------------- the odds of going on


def exact_chance(right, tried, more):
    """1 - the product over the further tries of P(wrong): each is (wrong + 1/2) / (tried + 1)."""
    none = 1.0
    for i in range(more):
        none *= (tried - right + 0.5 + i) / (tried + 1 + i)
    return 1 - none


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 300))
def test_the_chance_is_the_posterior_predictive(a, b, more):
    right, tried = min(a, b), max(a, b)
    got = budgets.chance(*(np.array([x]) for x in (right, tried, more)))[0]
    assert got == pytest.approx(exact_chance(right, tried, more), abs=1e-10)


def test_chances_by_hand():
    # nothing known, one try: the prior's mean. One wrong: Beta(1/2, 3/2) has mean 1/4. One right: 3/4.
    got = budgets.chance(np.array([0, 0, 1, 0]), np.array([0, 1, 1, 5]), np.array([1, 1, 1, 0]))
    assert got.tolist() == pytest.approx([0.5, 0.25, 0.75, 0.0])
    # nothing right of many: about 1 - sqrt(t / (t + m))
    assert budgets.chance(np.array([0]), np.array([100]), np.array([300]))[0] == pytest.approx(0.5, abs=0.002)


@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 80), st.floats(0.01, 0.9))
def test_patience_ends_where_the_chance_falls_below(a, b, tries, give_up):
    right, tried = min(a, b), max(a, b)
    got = budgets.patience(*(np.array([x]) for x in (right, tried, tries)), give_up)[0]
    below = [k for k in range(tries + 1) if exact_chance(right, tried + k, tries - k) < give_up]
    assert got == below[0]


@pytest.mark.parametrize(("give_up", "share"), [(0.05, 0.90), (0.3, 0.49), (0.5, 0.25)])
def test_where_a_problem_is_given_up(give_up, share):
    """With nothing right it is given up once it has had (1 - give_up)^2 of its tries, in one round up to there."""
    config = SamplingConfig(target="uniform", max_tries=1000, give_up=give_up)
    _, now, step, _ = play([0.0], config)
    assert now.asked[0] == pytest.approx(1000 * share, rel=0.02) and step.stop.tolist() == ["gave_up"]
    assert exact_chance(0, now.asked[0], 1000 - now.asked[0]) < give_up
    assert exact_chance(0, now.asked[0] - 1, 1001 - now.asked[0]) >= give_up
    _, patient, _, _ = play([0.0], config.model_copy(update={"give_up": None}))
    assert patient.asked[0] == 1000


def test_a_right_answer_keeps_a_problem_going():
    config = SamplingConfig(target="uniform", quota=50, max_tries=100, give_up=0.3)
    begun = probe(0, 1)
    now = begun.plus(*(np.array([60, 60]),) * 2, np.array([0, 3]))
    step = budgets.step(begun, now, config)
    assert step.stop[0] == "gave_up" and step.draws[0] == 0 and step.draws[1] > 0


# ---------------------------------------------------------------- what cannot be, and what is told


def test_a_problem_of_which_the_engine_answered_nothing_is_not_asked_again():
    """Its prompt has no room in the model, or ends the server: it would fail again, and stop the stage."""
    found = Counts.of([4, 4], [0, 4], [0, 0])
    for target in budgets.TARGETS:
        step = first(found, target=target, budget=100)
        assert step.draws[0] == 0 and step.stop[0] == "unanswered"


def test_a_budget_below_the_probe_is_refused():
    with pytest.raises(BudgetError, match=r"sample\.budget: 7 draws in all, but the probe alone takes 8"):
        first(probe(1, 1), budget=7)
    assert draws(probe(1, 1), budget=8) == [0, 0]


@pytest.mark.parametrize("target", ["boundary", "gvm"])
def test_what_shares_out_draws_must_be_given_some(target):
    with pytest.raises(RecipeError, match=f"target: {target} shares out a number of draws: give sample.budget"):
        parse({"name": "x", "problems": GIVEN, "sample": {"target": target}}, "x")


def test_a_budget_shrinks_with_the_problems():
    assert SamplingConfig(budget=1000).scaled(0.15).budget == 150
    assert SamplingConfig(budget=2).scaled(0.1).budget == 1
    assert SamplingConfig().scaled(0.15) == SamplingConfig()


@pytest.mark.parametrize(
    ("rate", "label"),
    [(0.0, "0"), (0.1, "0-0.25"), (0.25, "0-0.25"), (0.26, "0.25-0.5"), (0.75, "0.5-0.75"), (1.0, "1")],
)
def test_bins(rate, label):
    assert budgets.bin_of(rate) == label


def test_summary_by_hand():
    def row(rate, wanted, asked, drawn, right, tokens, stop):
        return {"rate": rate, "wanted": wanted, "asked": asked, "drawn": drawn, "right": right, "tokens": tokens,
                "stop": stop}  # fmt: skip

    rows = [row(0.0, 8, 64, 63, 0, 900, "spent"), row(0.0, 8, 50, 50, 0, 700, "gave_up"),
            row(1.0, 1, 4, 4, 4, 40, "met"), row(0.0, 8, 64, 64, 3, 800, "spent"),
            row(0.5, 4, 12, 12, 6, 90, "met")]  # fmt: skip
    told = budgets.summary(rows)
    assert (told["met"], told["spent"], told["never_solved"]) == (2, 1, 2)
    assert told["never_solved_cost"] == {"asked": 114, "drawn": 113, "tokens": 1600}
    assert told["stops"] == {"met": 2, "spent": 2, "gave_up": 1, "unanswered": 0}
    assert list(told["bins"]) == ["0", "0.25-0.5", "1"]
    assert told["bins"]["0"] == {"problems": 3, "wanted": 24, "asked": 178, "drawn": 177, "right": 3, "tokens": 2400,
                                 "usable": 3}  # fmt: skip
    assert told["bins"]["0.25-0.5"]["usable"] == 4 and told["bins"]["1"]["usable"] == 1
