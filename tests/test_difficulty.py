"""Quotas by difficulty and the rounds that fill them."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpr_mini import conversation
from dpr_mini.chat import Template
from dpr_mini.engines.base import EngineError
from dpr_mini.engines.scripted import ScriptedEngine
from dpr_mini.recipe import Probe, Sampling
from dpr_mini.stages import difficulty
from dpr_mini.store import read_rows
from dpr_mini.types import Difficulty, Problem, seed_for


def rates(*pairs):
    return [Difficulty(f"p{i}", tried, correct) for i, (tried, correct) in enumerate(pairs)]


def wanted(found, **config):
    return [b.wanted for b in difficulty.allocate(found, Sampling(**config))]


def test_prop2diff_is_proportional_to_the_fail_rate_with_at_least_one():
    # fail rates 1, 0.75, 0.5, 0.25, 0 with quota 8: ceil(8 d), and never less than one
    found = rates((4, 0), (4, 1), (4, 2), (4, 3), (4, 4))
    assert wanted(found, target="prop2diff", quota=8) == [8, 6, 4, 2, 1]


def test_prop2diff_is_relative_to_the_hardest():
    # the hardest fails half the time: it gets the whole quota (max_j d_j = 0.5)
    assert wanted(rates((4, 2), (4, 3), (4, 4)), target="prop2diff", quota=8) == [8, 4, 1]


def test_prop2diff_where_nothing_fails_wants_one_each():
    assert wanted(rates((4, 4), (4, 4)), target="prop2diff", quota=8) == [1, 1]


def test_uniform_wants_the_same_of_all():
    assert wanted(rates((4, 0), (4, 4)), target="uniform", quota=3) == [3, 3]


@given(st.lists(st.integers(0, 8), min_size=1, max_size=20), st.integers(1, 40))
def test_prop2diff_grows_with_difficulty(corrects, quota):
    found = rates(*((8, c) for c in corrects))
    got = wanted(found, target="prop2diff", quota=quota)
    assert all(1 <= w <= quota for w in got)
    by_rate = sorted(zip((d.rate for d in found), got, strict=True))
    assert all(a[1] >= b[1] for a, b in pairwise(by_rate))


def test_difficulty_interval_is_wilsons():
    low, high = Difficulty("p", 10, 3).interval  # known values: 0.1078, 0.6032
    assert (low, high) == pytest.approx((0.1078, 0.6032), abs=1e-4)
    assert Difficulty("p", 0, 0).interval == (0.0, 1.0)


@pytest.mark.parametrize(
    ("rate", "label"),
    [(0.0, "0"), (0.1, "0-0.25"), (0.25, "0-0.25"), (0.26, "0.25-0.5"), (0.75, "0.5-0.75"), (1.0, "1")],
)
def test_bins(rate, label):
    assert difficulty.bin_of(rate) == label


PROBE = Probe(samples=4, max_new_tokens=40)
PROBLEMS = [
    Problem(f"p{i}", "t", f"easy {i}" if i < 3 else f"hard {i}" if i < 6 else f"never {i}", "7") for i in range(8)
]


@pytest.fixture(scope="module")
def template(tiny_model):
    return Template.load(tiny_model())


def answer(request):
    """Easy problems are right 3 times of 4, hard ones 1 of 4, the others never; decided by the sample's seed."""
    kind, luck = request.id[1], seed_for(request.seed) % 4
    right = luck < 3 if kind in "012" else luck < 1 if kind in "345" else False
    return f"Answer: {7 if right else 8}"


def go(folder, template, engine_seed=0, answers=answer, **config):
    probed, sampled = folder / "probe", folder / "sample"
    for f in (probed, sampled):
        f.mkdir(parents=True, exist_ok=True)
    config = Sampling(**{"quota": 4, "max_tries": 12, **config})
    with ScriptedEngine(answers, template.tokenizer, seed=engine_seed) as engine:
        difficulty.probe(probed, PROBLEMS, engine, template, PROBE, "{problem}", seed=1)
        told = difficulty.sample(sampled, PROBLEMS, probed, engine, template, config, PROBE, "{problem}", seed=1)
    return told, {r["problem_id"]: r for r in read_rows(sampled / "budgets.jsonl")}


def test_sampling_stops_at_the_quota_or_the_budget(template, tmp_path):
    told, budgets = go(tmp_path, template)
    drawn = [r["problem_id"] for r in read_rows(tmp_path / "sample/rows.jsonl")]
    for problem in PROBLEMS:
        row = budgets[problem.id]
        assert row["drawn"] == 4 + drawn.count(problem.id) <= 12
        assert row["right"] >= row["wanted"] or row["drawn"] == 12
        if row["correct"] >= row["wanted"]:  # the probe alone met the quota: nothing more was drawn
            assert row["drawn"] == 4
    assert told["never_solved"] == 2
    assert told["met"] + told["spent"] + told["never_solved"] == 8
    assert sum(b["drawn"] for b in told["bins"].values()) == 32 + len(drawn)


def test_probe_samples_are_not_drawn_again(template, tmp_path):
    go(tmp_path, template)
    ids = [r["id"] for f in ("probe", "sample") for r in read_rows(tmp_path / f / "rows.jsonl")]
    assert len(ids) == len(set(ids))


def test_a_torn_sampling_resumes_to_the_same_samples(template, tmp_path):
    told, budgets = go(tmp_path / "whole", template)
    go(tmp_path / "torn", template)
    rows = tmp_path / "torn/sample/rows.jsonl"
    lines = rows.read_text().splitlines(keepends=True)
    rows.write_text("".join(lines[: len(lines) // 3]) + lines[-1][:30])
    (tmp_path / "torn/sample/budgets.jsonl").unlink()
    again, same = go(tmp_path / "torn", template, engine_seed=9)
    assert same == budgets and again["bins"] == told["bins"]

    def drawn(folder):
        return sorted((r["id"], r["turns"][0]["text"]) for r in read_rows(tmp_path / folder / "sample/rows.jsonl"))

    assert drawn("torn") == drawn("whole")


def test_a_quota_that_the_probe_met_leaves_an_empty_file(template, tmp_path):
    _, budgets = go(tmp_path, template, max_tries=4)
    assert list(read_rows(tmp_path / "sample/rows.jsonl")) == []
    assert {b["drawn"] for b in budgets.values()} == {4}


def broken(*ids):
    """The same answers, but some draws fail for good, each time they are asked."""
    return lambda request: ("the server dies of this request", "error") if request.id in ids else answer(request)


def test_a_failed_draw_keeps_its_number_and_the_others_theirs(template, tmp_path, monkeypatch):
    """Each draw's seed is its number's: a draw that fails must not shift those after it."""
    monkeypatch.setattr(conversation, "FAILED", 0.2)
    go(tmp_path / "whole", template)
    told, budgets = go(tmp_path / "broken", template, answers=broken("p6#5", "p7#9"))

    def drawn(folder):
        return {r["id"]: r["turns"][0]["text"] for r in read_rows(tmp_path / folder / "sample/rows.jsonl")}

    whole, rest = drawn("whole"), drawn("broken")
    assert {"p6#5", "p7#9"} <= whole.keys() and not {"p6#5", "p7#9"} & rest.keys()
    assert rest == {k: v for k, v in whole.items() if k not in ("p6#5", "p7#9")}
    assert budgets["p6"]["drawn"] == budgets["p7"]["drawn"] == 12, "asked 12 times, as the budget allows"
    assert told["failed"] == 2 and told["dialogues"] == len(rest)


def test_a_failed_probe_counts_for_no_rate_and_its_number_is_not_drawn_again(template, tmp_path, monkeypatch):
    monkeypatch.setattr(conversation, "FAILED", 0.2)
    told, budgets = go(tmp_path, template, answers=broken("p6#1", "p3#0"))
    assert (budgets["p6"]["tried"], budgets["p3"]["tried"], budgets["p0"]["tried"]) == (3, 3, 4)
    ids = [r["id"] for f in ("probe", "sample") for r in read_rows(tmp_path / f / "rows.jsonl")]
    assert len(ids) == len(set(ids)) and not {"p6#1", "p3#0"} & set(ids)
    assert budgets["p6"]["drawn"] == 12 and told["failed"] == 0


def test_the_same_command_gets_the_failed_draws(template, tmp_path, monkeypatch):
    monkeypatch.setattr(conversation, "FAILED", 0.2)
    go(tmp_path / "whole", template)
    go(tmp_path / "broken", template, answers=broken("p6#5"))
    told, _ = go(tmp_path / "broken", template)
    ids = [sorted(r["id"] for r in read_rows(tmp_path / f / "sample/rows.jsonl")) for f in ("whole", "broken")]
    assert ids[0] == ids[1] and told["failed"] == 0


def test_too_many_failed_draws_stop_the_stage(template, tmp_path):
    with pytest.raises(EngineError, match=r"sample-2: 1 of \d+ failed"):
        go(tmp_path, template, answers=broken("p6#5"))
