"""Registered hypotheses: what each measure is, what is said of it, and that none is ever left out."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import rows
from experiment import PROBLEMS, answers, make

from dpr_mini.cli import main
from dpr_mini.commands.compare import compare
from dpr_mini.files.rows import read_json, write_rows
from dpr_mini.recipe import Hypothesis, RecipeError, load
from dpr_mini.reporting import comparison, sides
from dpr_mini.reporting.arms import arrange, collect, registered
from dpr_mini.reporting.hypotheses import examine
from dpr_mini.reporting.numbers import summary
from dpr_mini.runs import RunError
from dpr_mini.scoring.measures import first, majority_of, mended
from dpr_mini.types import Graded, Traced

SEEDS = (1, 2, 3, 4)
H1 = {"name": "H1", "greater": {"arm": "talk"}, "than": {"arm": "base"}, "margin": 0.05}


def chain(problem: str, sample: int, first: bool, last: bool, tokens: int, vote: str) -> Graded:
    return rows.graded(problem, sample, last, problem[:3], attempt=first, tokens=tokens, vote=vote)


def talk(seed: int) -> list[Graded]:
    """Four answers a problem of 40 tokens: of "one" problems three are right at the end, two of them from the start.

    Of "two" problems none is right, but of two00 with an even seed one.
    """
    out = []
    for p in PROBLEMS:
        for i in range(4):
            right = i < 3 if p < "two" else p == "two00" and i == 0 and seed % 2 == 0
            out.append(chain(p, i, right and i < 2, right, 40, "7" if right else "8"))
    return out


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """The arm "talk", and the untouched model: half of the "one" problems' draws right, 10 tokens, never revised."""
    for seed in SEEDS:
        base = [
            rows.graded(p, i, i < 2 and p < "two", p[:3], tokens=10, vote="7" if i < 2 and p < "two" else "8")
            for p in PROBLEMS
            for i in range(4)
        ]
        make(tmp_path, "talk", seed, {"eval-0": base, "eval-1": talk(seed)}, phases=1, evaluate={"greedy": False})
    return tmp_path / "exp"


def outcome(experiment: Path, **fields):
    found = arrange(collect([experiment]))
    (one,) = examine(found, [Hypothesis.model_validate({"name": "H", **fields})])
    return one


def side(measure: str, arm: str = "talk") -> dict:
    return {"arm": arm, "measure": measure}


def test_every_measure_is_what_it_says(experiment):
    def mean(measure: str, on: str = "one") -> float:
        return outcome(experiment, greater=side(measure), than=0, benchmark=on).result.mean

    assert mean("pass@1") == 0.75 and mean("first") == 0.5 and mean("mended") == 0.25
    assert mean("tokens") == 40 and mean("log_tokens") == pytest.approx(math.log(40))
    assert mean("mended", "all") == pytest.approx(0.125) and mean("mended", "two") == 0
    gain = outcome(experiment, greater=side("first"), than=side("first", "base"), benchmark="one").result
    assert gain.mean == 0 and gain.p == 1, "the base's answers have no first attempt: their whole is it"
    assert outcome(experiment, greater=side("greedy"), than=0).missing == "talk has no answers for greedy on all"


def test_a_tasks_first_answer_is_its_first_attempt_where_no_bridge_or_a_late_one_follows_it():
    """What stands before a bridge may be two attempts, and without a bridge a chain would have nothing mended."""
    for before in (None, True):
        trace = Traced((("3+7", False), ("3*7", True)), ((0, False, True, False),), distinct=9, size=20, deflated=18)
        answer = rows.graded("one00", 0, True, first=False, attempt=before, trace=trace)
        assert (first(answer), mended(answer)) == (False, 1)
    plain = rows.graded("one00", 0, True, first=False, attempt=None)
    assert (first(plain), mended(plain)) == (True, 0), "`first` is another scorer's word where there is no trace"


def test_length_of_right_answers_leaves_out_problems_that_have_none_and_counts_them(experiment):
    longer = outcome(experiment, greater=side("log_tokens"), than=side("log_tokens", "base"))
    assert (longer.result.n, longer.left_out) == (10, 10)
    assert longer.result.mean == pytest.approx(math.log(4)) and longer.verdict == "holds"
    alone = outcome(experiment, greater=side("log_tokens"), than=0)
    assert (alone.result.n, alone.left_out) == (11, 9), "two00 is solved with even seeds"
    none = outcome(experiment, greater=side("log_tokens"), than=side("log_tokens", "base"), benchmark="two")
    assert none.missing == "no problem has a right answer of talk and of base in one seed" and none.verdict == "missing"


def test_a_majority_vote_costs_the_tokens_of_the_other_side(experiment):
    """Of the base four votes of 10 tokens for one answer of 40: two of four are right, a tie."""
    vote = outcome(experiment, greater={"arm": "talk"}, than=side("maj@tokens", "base"), benchmark="one")
    assert vote.votes == 4 and vote.result.mean == pytest.approx(0.75 - 0.5)
    other = outcome(experiment, greater=side("maj@tokens"), than={"arm": "base"}, benchmark="one")
    assert other.votes == 1 and other.result.mean == pytest.approx(0.75 - 0.5), "one answer at least"


def test_a_vote_is_computed_once_and_both_places_that_show_it_agree(experiment, monkeypatch):
    for folder in experiment.glob("eval-1-*"):  # a redraw of 20 tokens: two votes of ten
        found = [rows.graded(p, 0, p < "one05", p[:3], tokens=20, vote="7") for p in PROBLEMS]
        write_rows(folder / "redrawn.jsonl", (a.to_row() for a in found))
    calls = []
    monkeypatch.setattr(sides, "majority_of", lambda of, n: calls.append(n) or majority_of(of, n))
    voted = {"name": "H", "greater": side("redraw"), "than": side("maj@tokens", "base"), "benchmark": "one"}
    numbers = summary(arrange(collect([experiment])), [Hypothesis.model_validate(voted)])
    assert calls == [2] * len(SEEDS)
    (tested,) = numbers["hypotheses"]
    shown = {m["measure"]: m for m in numbers["measured"]}
    assert tested["votes"] == shown["maj@tokens"]["votes"] == 2 and shown["maj@tokens"]["tokens_mean"] == 20
    difference = shown["redraw"]["mean"] - shown["maj@tokens"]["mean"]
    assert tested["result"]["mean"] == pytest.approx(difference)


def test_a_vote_of_arms_without_a_seed_in_common_is_missing(experiment, tmp_path):
    late = answers({p: [1, 0] for p in PROBLEMS}, greedy=False)
    make(tmp_path, "late", 9, {"eval-0": late, "eval-1": late}, phases=1, evaluate={"greedy": False})
    voted = {"name": "H", "greater": {"arm": "late"}, "than": side("maj@tokens", "talk")}
    numbers = summary(arrange(collect([experiment])), [Hypothesis.model_validate(voted)])
    assert numbers["hypotheses"][0]["missing"] == "no seed that late and talk both have" and not numbers["measured"]


def test_too_few_draws_for_a_vote_and_answers_that_were_not_redrawn_are_one_line(experiment, tmp_path):
    for seed in SEEDS:
        cheap = answers({p: [1, 0] for p in PROBLEMS}, greedy=False)
        make(tmp_path, "two", seed, {"eval-0": cheap, "eval-1": cheap}, phases=1, evaluate={"greedy": False})
    few = outcome(experiment, greater={"arm": "talk"}, than=side("maj@tokens", "two"), benchmark="one")
    assert few.missing == "maj@tokens takes 3 answers a problem for equal tokens, there are 2: raise samples"
    redrawn = outcome(experiment, greater={"arm": "talk"}, than=side("redraw", "base"))
    assert redrawn.missing.startswith("base: eval-0-") and "has no redrawn.jsonl" in redrawn.missing


def test_redrawn_answers_stand_beside_the_graded_ones(experiment):
    for folder in experiment.glob("eval-0-*"):
        found = [rows.graded(p, 0, p < "one05", p[:3], tokens=20, vote="7") for p in PROBLEMS]
        write_rows(folder / "redrawn.jsonl", (a.to_row() for a in found))
    over = outcome(experiment, greater={"arm": "talk"}, than=side("redraw", "base"), benchmark="one")
    assert over.result.mean == pytest.approx(0.75 - 0.5) and over.result.seeds == 4


def test_a_difference_of_logs_is_shown_as_the_ratio_too(experiment):
    logs = {"name": "H7", "greater": side("log_tokens"), "than": side("log_tokens", "base")}
    lengths = {"name": "H8", "greater": side("tokens"), "than": side("tokens", "base")}
    asked = [Hypothesis.model_validate(h) for h in (logs, lengths)]
    table = comparison.hypotheses(summary(arrange(collect([experiment])), asked))
    assert table.rows[0][2].splitlines()[2].startswith("ratio 4.00 [4.00, 4.0"), "40 tokens over 10"
    assert "ratio" not in table.rows[1][2]


def test_verdicts_of_differences_and_of_equivalence(experiment):
    def verdict(**fields) -> str:
        return outcome(experiment, **fields).verdict

    a, b = {"arm": "talk"}, {"arm": "base"}
    assert verdict(greater=a, than=b, benchmark="one") == "holds"
    assert verdict(greater=b, than=a, benchmark="one") == "the opposite holds"
    assert verdict(greater=a, than=b, benchmark="two") == "not shown"
    same = {"of": side("first"), "than": side("first", "base"), "benchmark": "one"}
    assert verdict(equivalent=0.05, **same) == "not shown", "ten problems without a change leave more than that open"
    assert verdict(equivalent=0.3, **same) == "equivalent within 0.3"
    assert verdict(of=a, than=b, equivalent=0.05, benchmark="one") == "not equivalent: more than 0.05 apart"


def test_holm_counts_what_could_not_be_tested_and_families_stay_apart(experiment):
    lines = [
        {**H1, "benchmark": "one"},
        {**H1, "name": "H2", "greater": {"arm": "later"}},
        {**H1, "name": "H3", "benchmark": "two"},
        {**H1, "name": "H4", "benchmark": "three", "family": "else"},
        {**H1, "name": "H5", "benchmark": "two", "family": "more"},
    ]
    found = examine(arrange(collect([experiment])), [Hypothesis.model_validate(x) for x in lines])
    assert [t.name for t in found] == ["H1", "H2", "H3", "H4", "H5"]
    assert found[1].missing == "no complete run of later" and found[1].p_holm is None
    assert found[3].missing == "no problems 'three'; there are: one, two, all"
    assert found[0].p_holm == pytest.approx(3 * found[0].p) and found[2].p_holm == pytest.approx(2 * found[2].p, abs=1)
    assert found[4].p_holm == found[4].p, "alone in its family"


def test_the_pages_show_every_hypothesis_and_call_the_rest_exploratory(experiment, tmp_path, capsys):
    recipe = tmp_path / "r.yaml"
    lines = [{**H1, "claim": "it helps"}, {**H1, "name": "H9", "greater": {"arm": "later"}}]
    recipe.write_text(json.dumps({"name": "r", "problems": {"train": [{"file": "x"}]}, "hypotheses": lines}))
    compare([experiment], tmp_path / "out", recipe=recipe)
    numbers = read_json(tmp_path / "out" / "comparison.json")
    first, second = numbers["hypotheses"]
    assert first["result"]["mean"] == pytest.approx(0.13125) and first["result"]["seeds"] == 4
    assert {"low", "high", "problems_low", "problems_high", "p_problems", "p_seeds"} <= first["result"].keys()
    assert first["p_holm"] == pytest.approx(2 * first["p"]) and second["result"] is None
    text, shown = (tmp_path / "out" / "comparison.md").read_text(), capsys.readouterr().out
    for page in (text, shown):
        assert "H1: it helps" in page and "missing: no complete run of later" in page and "H9" in page
    assert "+0.131 \\[+0." in text and "## Registered hypotheses" in text and "## Arms (exploratory)" in text
    assert "n=20, 4 seeds" in shown and shown.index("H1: it helps") < shown.index("over seeds")


def test_runs_register_hypotheses_and_must_agree(tmp_path):
    same = answers({p: [1, 0] for p in PROBLEMS})
    for name, more in (("a", {"hypotheses": [H1]}), ("b", {"hypotheses": [H1]}), ("none", {})):
        make(tmp_path, name, 1, {"eval-0": same}, phases=[], **more)
    assert registered(collect([tmp_path / "exp"])) == (Hypothesis.model_validate(H1),)
    make(tmp_path, "c", 1, {"eval-0": same}, phases=[], hypotheses=[{**H1, "margin": 0.1}])
    with pytest.raises(RunError, match=r"a, seed 1, and c, seed 1, register different hypotheses; .*--hypotheses"):
        registered(collect([tmp_path / "exp"]))


def test_a_recipe_without_hypotheses_is_refused_in_one_line(tmp_path, capsys):
    same = answers({p: [1, 0] for p in PROBLEMS})
    make(tmp_path, "a", 1, {"eval-0": same}, phases=[])
    (tmp_path / "r.yaml").write_text("{name: r, problems: {train: [{file: x}]}}")
    with pytest.raises(RecipeError, match=r"r\.yaml: it has no hypotheses"):
        compare([tmp_path / "exp"], recipe=tmp_path / "r.yaml")
    assert callable(main)


def test_an_older_comparison_is_still_read():
    """Without hypotheses, crossed intervals, prompt tokens or contents; p was the sign test's."""
    path = Path(__file__).parents[2] / "bench" / "results" / "2026-11-25-two-rounds" / "comparison.json"
    text = comparison.page(read_json(path))
    assert "over problems alone, in a file from before seeds were in it" in text and "Registered" not in text
    assert "smollm2-prop2diff" in comparison.brief(read_json(path))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{name: H1, than: 0}", "give `greater` and `than`, or `equivalent`, `of` and `than`"),
        ("{name: H1, greater: {arm: a}, of: {arm: a}, than: 0}", "give `greater`"),
        ("{name: H1, of: {arm: a}, than: {arm: b}}", "give `greater`"),
        ("{name: H1, greater: {arm: a}, than: 1}", "than"),
        (
            "{name: H1, greater: {arm: a, measure: maj@tokens}, than: 0}",
            "takes the tokens of the other side",
        ),
        ("{name: H1, greater: {arm: a}, than: {arm: b}, margins: 1}", "unknown key .*margins.*did you mean 'margin'"),
        ("{name: H1, equivalent: 0.1, margin: 0.1, of: {arm: a}, than: {arm: b}}", "a margin itself"),
    ],
)
def test_a_mistake_in_a_hypothesis_is_one_line(tmp_path, line, message):
    path = tmp_path / "r.yaml"
    path.write_text(f"name: r\nproblems: {{train: [{{file: x}}]}}\nhypotheses:\n  - {line}\n")
    with pytest.raises(RecipeError, match=message) as caught:
        load(path)
    assert "\n" not in str(caught.value) and "r.yaml:" in str(caught.value)


def test_hypotheses_are_inherited_and_change_no_key(tmp_path):
    from dpr_mini.pipeline import build

    (tmp_path / "a.yaml").write_text("{name: a, problems: {train: [{generate: chain_sum, count: 3}]}}")
    (tmp_path / "b.yaml").write_text(f"extends: a.yaml\nname: a\nhypotheses: {json.dumps([H1])}")
    (tmp_path / "c.yaml").write_text("{extends: b.yaml, name: a}")
    plain, registering = load(tmp_path / "a.yaml"), load(tmp_path / "c.yaml")
    assert registering.hypotheses == (Hypothesis.model_validate(H1),) and plain.hypotheses == ()
    keys = [{n: s.key for n, s in build(r, tmp_path).items()} for r in (plain, registering)]
    assert keys[0] == keys[1]


def test_seeds_that_differ_make_the_method_uncertain(tmp_path):
    """The mean over problems is sure of itself, the crossed interval is not: half of the trainings gain nothing."""
    base = {p: [1, 0] for p in PROBLEMS}
    for seed in (1, 2, 3, 4):
        arm = {p: [1, 1] if seed % 2 else [1, 0] for p in PROBLEMS}
        make(tmp_path, "talk", seed, {"eval-0": answers(base), "eval-1": answers(arm)}, phases=1)
    one = outcome(tmp_path / "exp", greater={"arm": "talk"}, than={"arm": "base"})
    assert one.result.problems_low > 0.2 and one.result.low < 0 and one.verdict == "not shown"
    assert one.result.p_problems < 0.001 and one.result.p_seeds == 0.5
    assert np.isclose(one.result.df, 3)
