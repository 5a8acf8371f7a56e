"""The stage that probes and samples: what it draws, keeps, counts, and that a cut does not change it."""

from functools import partial

import pytest
import staging
from scripted import ScriptedEngine

from dpr_mini.chat import conversation
from dpr_mini.chat.template import Template
from dpr_mini.engines.base import EngineError
from dpr_mini.files.rows import read_rows
from dpr_mini.grading.grader import Grader
from dpr_mini.recipe import GraderConfig, ProbeConfig, SamplingConfig
from dpr_mini.sampling.budgets import TARGETS, BudgetError
from dpr_mini.stages import difficulty
from dpr_mini.types import Difficulty, Problem, Verdict, seed_for


def test_difficulty_interval_is_wilsons():
    low, high = Difficulty("p", 10, 3).interval  # known values: 0.1078, 0.6032
    assert (low, high) == pytest.approx((0.1078, 0.6032), abs=1e-4)
    assert Difficulty("p", 0, 0).interval == (0.0, 1.0)


PROBE = ProbeConfig(samples=4, max_new_tokens=40)
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
    config = SamplingConfig(**{"quota": 4, "max_tries": 12, **config})
    with ScriptedEngine(answers, template.tokenizer, seed=engine_seed) as engine:
        staging.probe(probed, PROBLEMS, engine, template, PROBE, "{problem}", seed=1)
        told = staging.sample(sampled, PROBLEMS, probed, engine, template, config, PROBE, "{problem}", seed=1)
    return told, {r["problem_id"]: r for r in read_rows(sampled / "budgets.jsonl")}


def everything(folder):
    """All rows of both stages, in no order: (id, text) of each dialogue."""
    return sorted(
        (r["id"], r["turns"][0]["text"]) for f in ("probe", "sample") for r in read_rows(folder / f / "rows.jsonl")
    )


def test_the_probe_rates_each_problem_and_keeps_its_samples(template, tmp_path):
    _, budgets = go(tmp_path, template)
    rows = {r["problem_id"]: r for r in read_rows(tmp_path / "probe/rates.jsonl")}
    drawn = list(read_rows(tmp_path / "probe/rows.jsonl"))
    for problem in PROBLEMS:
        row, mine = rows[problem.id], [d for d in drawn if d["problem_id"] == problem.id]
        right = sum(d["turns"][0]["text"] == "Answer: 7" for d in mine)
        assert (row["tried"], row["correct"], row["rate"]) == (4, right, right / 4)
        assert tuple(row["interval"]) == Difficulty("p", 4, right).interval
        assert row["tokens"] == sum(len(d["turns"][0]["ids"]) for d in mine)
        assert [budgets[problem.id][k] for k in ("tried", "correct", "rate")] == [4, right, right / 4]


def test_what_never_solved_problems_cost_is_told(template, tmp_path):
    told, budgets = go(tmp_path, template)
    never = [b for b in budgets.values() if b["right"] == 0]
    assert {"p6", "p7"} <= {b["problem_id"] for b in never} and told["never_solved"] == len(never)
    tokens = sum(
        len(r["turns"][0]["ids"])
        for f in ("probe", "sample")
        for r in read_rows(tmp_path / f / "rows.jsonl")
        if budgets[r["problem_id"]]["right"] == 0
    )
    assert told["never_solved_cost"] == {"asked": 12 * len(never), "drawn": 12 * len(never), "tokens": tokens}
    assert sum(told["stops"].values()) == len(PROBLEMS) and told["stops"]["spent"] >= len(never)


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_keeps_to_a_budget_in_all(template, tmp_path, target):
    _, budgets = go(tmp_path, template, target=target, max_tries=30, budget=100)
    asked = sum(b["asked"] for b in budgets.values())
    assert asked == len(everything(tmp_path)) <= 100
    if asked < 100:  # nothing was left that could be asked
        assert all(b["stop"] == "met" or b["asked"] == 30 for b in budgets.values())
    if target in ("vrt", "cap"):
        assert sorted({b["asked"] for b in budgets.values()}) == [12, 13]
    for b in budgets.values():
        assert b["right"] <= b["drawn"] == b["asked"] and (b["stop"] == "met") == (b["right"] >= b["wanted"])


def test_a_budget_that_the_probe_exceeds_is_refused_before_drawing(template, tmp_path):
    with pytest.raises(BudgetError, match="the probe alone takes 32"):
        go(tmp_path, template, budget=31)
    assert not (tmp_path / "sample/rows.jsonl").exists()


def test_giving_up_saves_draws_on_what_is_never_solved(template, tmp_path):
    patient, _ = go(tmp_path / "patient", template, target="uniform", max_tries=60)
    told, budgets = go(tmp_path / "hasty", template, target="uniform", max_tries=60, give_up=0.3)
    assert budgets["p7"]["stop"] == "gave_up" and budgets["p7"]["asked"] == 30  # (1 - 0.3)^2 of 60, about
    assert told["stops"]["gave_up"] == 2 and patient["stops"]["gave_up"] == 0
    saved = patient["never_solved_cost"]["asked"] - told["never_solved_cost"]["asked"]
    assert patient["never_solved"] == told["never_solved"] == 2 and saved == 2 * 30


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


RESUMED = {
    "quota by difficulty": {"max_tries": 40},
    "from the probe alone": {"max_tries": 40, "dynamic": False},
    "within a budget, giving up": {"target": "uniform", "max_tries": 30, "budget": 90, "give_up": 0.3},
    "in halves": {"target": "gvm", "budget": 100, "max_tries": 40},
}


@pytest.mark.parametrize("name", RESUMED)
def test_a_partial_sampling_resumes_to_the_same_samples(template, tmp_path, name):
    told, budgets = go(tmp_path / "whole", template, **RESUMED[name])
    assert told["rounds"] > 1
    go(tmp_path / "partial", template, **RESUMED[name])
    rows = tmp_path / "partial/sample/rows.jsonl"
    lines = rows.read_text().splitlines(keepends=True)
    rows.write_text("".join(lines[: len(lines) // 3]) + lines[-1][:30])
    rows.with_name("rows.jsonl.sum").unlink()  # as if the cut had come before the first sync
    (tmp_path / "partial/sample/budgets.jsonl").unlink()
    again, same = go(tmp_path / "partial", template, engine_seed=9, **RESUMED[name])
    assert same == budgets and again["bins"] == told["bins"] and again["unplanned"] == 0
    assert everything(tmp_path / "partial") == everything(tmp_path / "whole")


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
    assert budgets["p6"]["asked"] == budgets["p7"]["asked"] == 12, "asked 12 times, as the budget allows"
    assert budgets["p6"]["drawn"] == budgets["p7"]["drawn"] == 11
    assert told["failed"] == 2 and told["dialogues"] == len(rest)


def test_a_failed_probe_counts_for_no_rate_and_its_number_is_not_drawn_again(template, tmp_path, monkeypatch):
    monkeypatch.setattr(conversation, "FAILED", 0.2)
    told, budgets = go(tmp_path, template, answers=broken("p6#1", "p3#0"))
    assert (budgets["p6"]["tried"], budgets["p3"]["tried"], budgets["p0"]["tried"]) == (3, 3, 4)
    ids = [r["id"] for f in ("probe", "sample") for r in read_rows(tmp_path / f / "rows.jsonl")]
    assert len(ids) == len(set(ids)) and not {"p6#1", "p3#0"} & set(ids)
    assert (budgets["p6"]["asked"], budgets["p6"]["drawn"]) == (12, 11) and told["failed"] == 0


def test_the_same_command_gets_the_failed_draws(template, tmp_path, monkeypatch):
    monkeypatch.setattr(conversation, "FAILED", 0.2)
    go(tmp_path / "whole", template)
    go(tmp_path / "broken", template, answers=broken("p6#5"))
    told, _ = go(tmp_path / "broken", template)
    ids = [sorted(r["id"] for r in read_rows(tmp_path / f / "sample/rows.jsonl")) for f in ("whole", "broken")]
    assert ids[0] == ids[1] and told["failed"] == 0


def test_a_problem_that_the_engine_never_answers_is_left_alone(template, tmp_path, monkeypatch):
    monkeypatch.setattr(conversation, "FAILED", 0.2)
    told, budgets = go(tmp_path, template, answers=broken(*(f"p6#{i}" for i in range(12))))
    assert told["stops"]["unanswered"] == 1 and told["failed"] == 0
    p6 = budgets["p6"]
    assert (p6["tried"], p6["asked"], p6["drawn"], p6["stop"]) == (0, 4, 0, "unanswered")


def test_one_failed_draw_in_a_small_last_round_does_not_stop_the_stage(template, tmp_path, monkeypatch):
    """The share of failures is over all rounds: 1 of 60 or more, though 1 of a few in its own round."""
    monkeypatch.setattr(conversation, "FAILED", 1 / 60)
    config = {"target": "gvm", "budget": 100, "max_tries": 60}
    go(tmp_path / "whole", template, **config)
    last = list(read_rows(tmp_path / "whole/sample/rows.jsonl"))[-1]["id"]
    told, budgets = go(tmp_path / "broken", template, answers=broken(last), **config)
    assert told["failed"] == 1 and budgets[last.split("#")[0]]["asked"] > budgets[last.split("#")[0]]["drawn"]


def test_a_failed_draw_that_comes_after_all_is_counted_and_what_it_made_needless_is_told(
    template, tmp_path, monkeypatch
):
    """A cut run is resumed: an early draw that had failed is right now, so a later one was not needed."""
    monkeypatch.setattr(conversation, "FAILED", 0.2)
    config = {"target": "uniform", "quota": 2, "max_tries": 40}
    _, whole = go(tmp_path / "whole", template, **config)
    drawn = [r for r in read_rows(tmp_path / "whole/sample/rows.jsonl") if r["turns"][0]["text"] == "Answer: 7"]
    id = next(r["id"] for r in drawn if r["problem_id"] in ("p3", "p4", "p5"))
    go(tmp_path / "cut", template, answers=broken(id), **config)
    told, budgets = go(tmp_path / "cut", template, **config)
    assert budgets == whole
    assert told["unplanned"] == len(everything(tmp_path / "cut")) - len(everything(tmp_path / "whole"))


def test_too_many_failed_draws_stop_the_stage(template, tmp_path):
    with pytest.raises(EngineError, match=r"sample-2: 1 of \d+ failed"):
        go(tmp_path, template, answers=broken("p6#5"))


def test_what_the_grader_gives_up_on_is_counted_and_it_has_the_recipes_settings(template, tmp_path, monkeypatch):
    seen = []

    class Lost(Grader):
        """Gives up on every second answer that is right."""

        def __init__(self, **options):
            super().__init__(**options)
            seen.append(options)

        def grade_many(self, cases):
            for number, (name, verdict) in enumerate(super().grade_many(cases)):
                lost = verdict.ok and number % 2
                yield name, Verdict("unparsed", "7", "phrase/crashed") if lost else verdict

    told, _ = go(tmp_path / "all", template)
    assert told["grader"] == {"timeout": 0, "crashed": 0}
    monkeypatch.setattr(difficulty, "Grader", Lost)
    own = GraderConfig(timeout_s=3, closed_forms="accept")
    monkeypatch.setattr(difficulty, "ProbeSettings", partial(difficulty.ProbeSettings, grader=own))
    told, _ = go(tmp_path / "lost", template)
    assert told["grader"]["timeout"] == 0 and told["grader"]["crashed"] > 0
    chosen = {"timeout_s": 3.0, "memory_mib": 2048, "closed_forms": "accept", "last_number": "accept"}
    assert seen == [chosen] * 2
