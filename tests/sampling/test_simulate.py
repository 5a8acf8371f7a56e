"""The simulator against exact expectations, published figures, and real sampling with known pass rates."""

import json
import math

import numpy as np
import pytest
import staging
from places import ROOT
from scripted import ScriptedEngine

from dpr_mini import pipeline, recipe
from dpr_mini.chat.template import Template
from dpr_mini.files.rows import write_rows
from dpr_mini.recipe import ProbeConfig, SamplingConfig
from dpr_mini.sampling import budgets, simulate
from dpr_mini.sampling.budgets import TARGETS, Counts
from dpr_mini.store import describe, write_manifest
from dpr_mini.types import Difficulty, Problem, UserError, seed_for

RATES = [0.0, 0.02, 0.1, 0.3, 0.6, 0.95]


def near(found, exact, sd=None, replicas=400):
    """The mean within 4.5 standard errors of the exact one, the standard deviation within a fifth."""
    assert found.mean == pytest.approx(exact, abs=4.5 * found.sd / math.sqrt(replicas) + 1e-9)
    if sd is not None:
        assert found.sd == pytest.approx(sd, rel=0.2)


def forecast(rates=tuple(RATES), samples=4, **config):
    return simulate.forecast(simulate.known(rates, samples), SamplingConfig(**config), replicas=400)


# ---------------------------------------------------------------- exact expectations


def test_vrt_is_binomial():
    found = forecast(target="vrt", max_tries=32)
    p = np.array(RATES)
    assert (found.draws.mean, found.draws.sd) == (32 * 6, 0)
    near(found.usable, 32 * p.sum(), math.sqrt(32 * (p * (1 - p)).sum()))
    near(found.never_solved, ((1 - p) ** 32).sum())
    assert found.usable == found.right


def test_cap_is_a_binomial_cut_off():
    """E[min(Binomial(32, p), 10)], ReST-EM's numbers."""
    found = forecast(target="cap", quota=10, max_tries=32)
    exact = sum(min(k, 10) * math.comb(32, k) * p**k * (1 - p) ** (32 - k) for p in RATES for k in range(33))
    near(found.usable, exact)
    near(found.right, 32 * sum(RATES))
    assert found.draws.mean == 32 * 6


def test_uniform_keeps_what_the_cap_keeps_for_fewer_draws():
    """Stopping early changes what is drawn, not how many of the first 32 draws are right: min(c, 10)."""
    cap, uniform = (forecast(target=t, quota=10, max_tries=32) for t in ("cap", "uniform"))
    near(uniform.usable, cap.usable.mean + 0.0, None, 200)
    assert uniform.draws.mean < cap.draws.mean - 20


def test_a_quota_of_one_is_met_unless_all_tries_fail():
    found = forecast(target="uniform", quota=1, max_tries=20)
    near(found.usable, sum(1 - (1 - p) ** 20 for p in RATES))
    near(found.never_solved, sum((1 - p) ** 20 for p in RATES))


def test_draws_of_a_hard_problem_are_quota_over_rate():
    """E[draws] = quota / p where nothing else stops it, and a little more: rounds overshoot."""
    found = forecast([0.05] * 50, target="uniform", quota=40, max_tries=100_000)
    assert 50 * 40 / 0.05 <= found.draws.mean < 1.2 * 50 * 40 / 0.05


def test_bins_add_up():
    found = forecast([0.1] * 30 + [0.9] * 30, quota=4, max_tries=20)
    for name, whole in (("asked", found.draws), ("right", found.right), ("usable", found.usable)):
        assert sum(b[name].mean for b in found.bins.values()) == pytest.approx(whole.mean)
    assert sum(b["problems"].mean for b in found.bins.values()) == pytest.approx(60)
    assert list(found.bins) == sorted(found.bins)
    near(found.bins["0"]["problems"], 30 * 0.9**4 + 30 * 0.1**4, None)
    hard = sum(found.bins[b]["usable"].mean for b in ("0", "0-0.25"))
    assert found.hard.mean == pytest.approx(hard / found.usable.mean, rel=0.05)


def test_all_strategies_see_the_same_probes():
    at = {t: forecast(target=t, budget=400).bins["0"]["problems"] for t in TARGETS}
    assert len(set(at.values())) == 1


# ---------------------------------------------------------------- published figures


@pytest.fixture(scope="module")
def dart():
    """DART-Math's setting on budgets.ASSUMED: 14,973 problems of MATH and GSM8K, known from 48 draws each.

    Shares in percent by pass rate: 0.005 3, 0.01 3, 0.015 4, 0.03 3, 0.06 3, 0.1 2, 0.2 2, 0.4 3, 0.6 4, 0.8 8, 0.9 15,
    0.98 50.
    """
    start = simulate.assumed(14_973, 48)

    def play(**config):
        return simulate.forecast(start, SamplingConfig(dynamic=False, **config), replicas=4)

    return {
        "uniform": play(target="uniform", quota=40, max_tries=2048),
        "prop2diff": play(target="prop2diff", quota=192, max_tries=8192),
        "vrt": play(target="vrt", max_tries=52),
    }


def test_dart_uniform(dart):
    """Published (arXiv 2407.13690 and its authors' notes): 90 % of queries full at 2,048 draws for about 5 M draws;
    591 k pairs at the end."""
    found = dart["uniform"]
    assert found.draws.mean == pytest.approx(5e6, rel=0.1)
    assert found.usable.mean == pytest.approx(591e3, rel=0.05)
    full = np.array([p * 2048 >= 40 for p in budgets.ASSUMED]) @ np.array(list(budgets.ASSUMED.values()))
    assert full == 90


def test_dart_prop2diff(dart):
    """Published: more than 15 M draws and a limit above 8 k; 585 k pairs. Hard problems weigh far more."""
    found = dart["prop2diff"]
    assert 15e6 < found.draws.mean < 25e6
    assert found.usable.mean == pytest.approx(585e3, rel=0.07)
    assert found.hard.mean > 3 * dart["uniform"].hard.mean


def test_dart_vanilla(dart):
    """52 draws a query were chosen to give as many pairs as the two others; easy problems dominate."""
    found = dart["vrt"]
    assert found.draws.mean == 52 * 14_973
    assert found.usable.mean == pytest.approx(dart["uniform"].usable.mean, rel=0.05)
    assert found.hard.mean < 0.05


# ---------------------------------------------------------------- real sampling


PROBE = ProbeConfig(samples=4, max_new_tokens=40)
TRUE = [0.0, 0.03, 0.1, 0.25, 0.5, 0.75, 0.95] * 12
PROBLEMS = [Problem(f"p{i}", "t", f"problem {i}", "7") for i in range(len(TRUE))]


@pytest.fixture(scope="module")
def template(tiny_model):
    return Template.load(tiny_model())


def answer(request):
    rate = TRUE[int(request.id[1:].split("#")[0])]
    return f"Answer: {7 if seed_for(request.seed) / 2**31 < rate else 8}"


@pytest.mark.slow
@pytest.mark.parametrize("probed_first", [False, True])
def test_expected_counts_are_those_of_real_sampling(template, tmp_path, probed_first):
    """The real stages with an engine of known pass rates, against forecasts with and without knowing the rates.

    Five numbers of six strategies are each compared with the forecast's own 95 % interval. They hang together, so
    that a few more than one in twenty may be outside; none may be far.
    """
    z = {}
    with ScriptedEngine(answer, template.tokenizer) as engine:
        staging.probe(tmp_path, PROBLEMS, engine, template, PROBE, "{problem}", seed=3)
        start = simulate.read(tmp_path / "rates.jsonl", 4) if probed_first else simulate.known(TRUE, 4)
        for target in TARGETS:
            config = SamplingConfig(target=target, quota=4, max_tries=16, budget=1000)
            told = staging.sample(
                tmp_path / target, PROBLEMS, tmp_path, engine, template, config, PROBE, "{problem}", seed=3
            )
            expected = simulate.forecast(start, config, replicas=100)
            rows = told["bins"].values()
            hard = sum(told["bins"][b]["usable"] for b in simulate.HARD)
            for name, real, of in (
                ("draws", sum(b["asked"] for b in rows), expected.draws),
                ("right", sum(b["right"] for b in rows), expected.right),
                ("usable", usable := sum(b["usable"] for b in rows), expected.usable),
                ("hard", hard / usable, expected.hard),
                ("never", told["never_solved"], expected.never_solved),
            ):
                z[target, name] = (real - of.mean) / of.sd if of.sd else 0.0 if real == of.mean else math.inf
    outside = {k: round(v, 2) for k, v in z.items() if abs(v) > 1.96}
    assert len(outside) <= 3 and max(map(abs, z.values())) < 3.5, outside


@pytest.mark.slow
def test_forecasts_from_a_probe_hold_for_different_problems():
    """Runs of problems whose pass rates the forecast never sees: about 90 % of them end inside the interval."""
    config = SamplingConfig(quota=4, max_tries=24)
    inside = []
    for i in range(18):
        rng = np.random.default_rng(i)
        p = (rng.beta(0.3, 1, 200), rng.beta(2, 2, 200), np.where(rng.random(200) < 0.4, 0, rng.random(200)))[i % 3]
        right = rng.binomial(6, p)
        expected = simulate.forecast(
            simulate.probed([Difficulty(str(n), 6, int(c)) for n, c in enumerate(right)], 6), config, replicas=30
        )
        real = simulate.forecast(lambda _, p=p, c=right: (p, Counts.of([6] * 200, [6] * 200, c)), config, replicas=2)
        for one, of in ((real.draws, expected.draws), (real.usable, expected.usable)):
            inside.append(of.interval[0] <= one.mean <= of.interval[1])
    assert np.mean(inside) > 0.8


MADE = (  # of pass rates, as a function of a generator
    lambda rng: rng.beta(0.3, 1, 145),
    lambda rng: rng.beta(0.5, 0.5, 145),
    lambda rng: np.where(rng.random(145) < 0.3, 0, rng.random(145)),
    lambda rng: rng.beta(2, 2, 145),
    lambda rng: rng.beta(0.2, 0.6, 145),
)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["prop2diff", "uniform"])
def test_each_number_of_a_forecast_holds_by_itself(target):
    """One run each of 40 problem sets, as many problems as the demo has at half scale and its quota and probe.

    A 95 % interval that holds 35 of 40 is not refuted; one that holds 34 is (p < 0.04). The numbers of one run hang
    together, so that each is counted alone. How many draws are spent is skewed: bench/LOG.md has how often that holds.
    """
    config, held = (
        SamplingConfig(target=target, quota=4, max_tries=12),
        dict.fromkeys(("right", "usable", "never_solved"), 0),
    )
    for i in range(40):
        rng = np.random.default_rng((7, i))
        p = MADE[i % len(MADE)](rng)
        right = rng.binomial(4, p)
        expected = simulate.forecast(
            simulate.probed([Difficulty(str(n), 4, int(c)) for n, c in enumerate(right)], 4), config, replicas=60
        )
        once = simulate.played(lambda _, p=p, c=right: (p, Counts.of([4] * 145, [4] * 145, c)), config, rng)["all"]
        for name, came in (("right", "right"), ("usable", "usable"), ("never_solved", "never")):
            low, high = getattr(expected, name).interval
            held[name] += low <= once[came] <= high
    assert min(held.values()) >= 35, held


def test_the_spread_of_pass_rates_is_found():
    """Half the problems at 0.1, half at 0.9, 20 draws each: the fitted weights have their mean and their two heaps."""
    rng = np.random.default_rng(0)
    right = np.concatenate([rng.binomial(20, 0.1, 500), rng.binomial(20, 0.9, 500)])
    outcomes, times = np.unique(np.stack([np.full(1000, 20), right], axis=1), axis=0, return_counts=True)
    weights = simulate.spread(outcomes, times)
    assert weights.sum() == pytest.approx(1)
    assert weights @ simulate.GRID == pytest.approx(right.mean() / 20, abs=0.01)
    assert weights[(simulate.GRID > 0.3) & (simulate.GRID < 0.7)].sum() < 0.01


# ---------------------------------------------------------------- files and words


def test_files_of_pass_rates(tmp_path):
    (tmp_path / "rates.json").write_text(json.dumps([0, 0.5, 1]))
    rates, counts = simulate.read(tmp_path / "rates.json", 8)(np.random.default_rng(0))
    assert rates.tolist() == [0, 0.5, 1] and counts.right[[0, 2]].tolist() == [0, 8]
    write_rows(tmp_path / "budgets.jsonl", [{"problem_id": "a", "tried": 4, "correct": 3}] * 3)
    rates, counts = simulate.read(tmp_path / "budgets.jsonl", 4)(np.random.default_rng(0))
    assert counts.right.tolist() == [3, 3, 3] and (rates > 0).all()


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("x.json", "{", "x.json: Expecting"),
        ("x.json", "[0.5, 1.5]", "must be a JSON list of pass rates from 0 to 1"),
        ("x.json", "[]", "must be a JSON list of pass rates"),
        ("x.json", '{"a": 1}', "must be a JSON list of pass rates"),
        (
            "x.jsonl",
            '{"tried": 4, "correct": 5}\n',
            "x.jsonl:1: needs whole numbers tried >= correct >= 0, got 4 and 5",
        ),
        ("x.jsonl", '{"tried": 4}\n', "x.jsonl:1: needs whole numbers"),
        ("x.jsonl", "", "x.jsonl: no rows"),
        ("none.json", None, "none.json: "),
    ],
)
def test_what_is_no_file_of_pass_rates(tmp_path, name, text, said):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError) as error:
        simulate.read(tmp_path / name, 4)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_the_assumed_problems_are_as_many_as_asked():
    for n in (1, 7, 290):
        rates, _ = simulate.assumed(n, 4)(np.random.default_rng(0))
        assert len(rates) == n
    assert sum(budgets.ASSUMED.values()) == 100


def test_the_table_has_every_strategy_at_equal_draws():
    lines = simulate.table(simulate.assumed(100, 4), SamplingConfig(quota=4, max_tries=16, budget=900))
    assert [line.split()[0] for line in lines[1:7]] == list(TARGETS)
    assert all(int(line.split()[1]) <= 900 for line in lines[1:7])
    assert "quota 4, at most 16 draws a problem" in lines[7] and "may draw 900 in all" in lines[7]
    assert max(map(len, lines)) <= 120
    own = simulate.table(simulate.assumed(100, 4), SamplingConfig(target="vrt", max_tries=9))
    assert own[1].split()[:4] == ["vrt", "900", "±", "0"] and "may draw 900 in all" in own[7]


def test_the_table_of_a_budget_below_the_probe_says_so():
    assert simulate.table(simulate.assumed(100, 4), SamplingConfig(budget=399)) == [
        "sample.budget: 399 draws in all, but the probe alone takes 400: raise it, or lower probe.samples"
    ]


@pytest.fixture
def smoke(tmp_path):
    """The smoke recipe's stages, and a function that gives one of them a finished folder."""
    read = recipe.load(ROOT / "recipes/smoke.yaml", ["scale=0.5"])
    stages = pipeline.build(read, ROOT / "recipes")

    def finish(name, metrics=None, **files):
        folder = stages[name].folder(tmp_path)
        folder.mkdir(parents=True)
        for file, rows in files.items():
            write_rows(folder / f"{file}.jsonl", rows)
        write_manifest(folder, {**describe(stages[name]), "metrics": metrics or {}})

    return read, stages, finish


def test_a_plan_says_where_its_pass_rates_come_from(smoke, tmp_path):
    read, stages, finish = smoke
    told = simulate.planned(read, stages, tmp_path)
    assert told[0].startswith("sample-2, expected for 210 problems, pass rates ASSUMED")
    finish("problems", {"splits": {"train": 207}})
    assert "for 207 problems, pass" in simulate.planned(read, stages, tmp_path)[0]
    finish("probe-2", rates=[{"problem_id": f"p{i}", "tried": 3, "correct": i % 4} for i in range(20)])
    told = simulate.planned(read, stages, tmp_path)
    assert told[0] == f"sample-2, expected from {stages['probe-2'].folder(tmp_path).name}:"
    assert told[2].startswith("prop2diff")
    finish("sample-2")
    assert simulate.planned(read, stages, tmp_path) == []


def test_the_budget_shrinks_with_the_scale(tmp_path):
    read = recipe.load(ROOT / "recipes/smoke.yaml", ["scale=0.5", "sample.budget=3000"])
    stages = pipeline.build(read, ROOT / "recipes")
    assert stages["sample-2"].config["budget"] == 1500
    assert any("may draw 1,500 in all" in line for line in simulate.planned(read, stages, tmp_path))


def test_a_plan_of_unknown_problems(tmp_path):
    """Problems of a file are not counted before they are loaded."""
    given = {"name": "x", "model": {"name": "smoke-model"}, "problems": {"train": [{"file": "none.jsonl"}]}}
    for more, said in (
        ({}, "for each 1,000 problems, pass rates ASSUMED"),
        ({"budget": 5000}, "is known once the problems are: run --until problems"),
    ):
        read = recipe.parse({**given, "sample": more}, "x")
        stages = pipeline.build(read, ROOT / "recipes")
        assert said in simulate.planned(read, stages, tmp_path)[0]


def test_one_phase_has_nothing_to_plan(tmp_path):
    read = recipe.load(ROOT / "recipes/smoke.yaml", ["phases=1"])
    assert simulate.planned(read, pipeline.build(read, ROOT / "recipes"), tmp_path) == []
