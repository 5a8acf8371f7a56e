"""Arms side by side: known differences, seeds averaged per problem, bins without regression to the mean."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import rows
from experiment import PROBLEMS, answers, graded, make
from places import ROOT

from dpr_mini.commands.compare import compare
from dpr_mini.files.rows import append_row, write_json
from dpr_mini.recipe import Hypothesis
from dpr_mini.reporting import comparison
from dpr_mini.reporting.arms import EASY, HARD, arrange, collect
from dpr_mini.reporting.hypotheses import examine
from dpr_mini.reporting.numbers import summary
from dpr_mini.runs import RunError
from dpr_mini.types import Graded, UserError


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Base: half of the samples of every "one" right, none of "two". Arm "up": 8 "one" problems gain a half, 2 lose.

    Seed 1 of "up" gains nothing on "two", seed 2 solves them all.
    """
    base = {p: [1, 0] if p[:3] == "one" else [0, 0] for p in PROBLEMS}
    for seed in (1, 2):
        up = {p: [1, 1] if p < "one08" else [0, 0] if p < "two" else [seed - 1] * 2 for p in PROBLEMS}
        make(tmp_path, "up", seed, {"eval-0": answers(base), "eval-1": answers(up)}, phases=1)
        make(tmp_path, "plain", seed, {"eval-0": answers(base)}, phases=[])
    return tmp_path / "exp"


def test_known_values(runs: Path) -> None:
    found = summary(arrange(collect([runs])))
    assert found["baseline"] == "plain", "the arm that is the untouched model"
    up = found["arms"]["up"]["scores"]
    assert (up["one"]["n"], up["one"]["k"], up["one"]["mean"], up["two"]["mean"]) == (10, 2, 0.8, 0.5)
    assert up["all"]["per_seed"] == {1: 0.4, 2: 0.9} and up["all"]["mean"] == pytest.approx(0.65)
    assert up["all"]["sd_over_seeds"] == pytest.approx(0.5 / 2**0.5)
    assert up["two"]["greedy"] == 0.5 and up["two"]["tokens_mean"] == 12.5
    by = {(d["on"], d["measure"]): d for d in found["differences"]}
    one = by["one", "pass@1"]
    assert (one["n"], one["mean"], one["up"], one["down"]) == (10, pytest.approx(0.3), 8, 2)
    assert one["p_problems"] == pytest.approx(112 / 1024), "a sum of 6 halves or more, or of -6 or less, of 10"
    assert -0.1 < one["low"] < 0 < 0.3 < one["high"] < 0.7, "of ten problems, by t"
    assert [one[x] for x in ("low", "high")] == pytest.approx([one[f"problems_{x}"] for x in ("low", "high")])
    two = by["two", "pass@1"]
    assert (two["mean"], two["problems_low"], two["problems_high"], two["up"]) == (0.5, 0.5, 0.5, 10)
    assert two["low"] < -5 and two["p"] > 0.4 and two["p_seeds"] == 1, "of two seeds one learnt nothing"
    assert two["per_seed"] == {1: 0.0, 2: 1.0}
    assert by["all", "greedy"]["mean"] == pytest.approx((8 - 10 + 10 * 0.5) / 20)
    assert by[HARD, "pass@1"]["n"] == by[EASY, "pass@1"]["n"] == 10 and by[HARD, "pass@1"]["mean"] == 0.5
    base = found["arms"]["plain"]["scores"]
    assert [base[b]["greedy"] for b in (HARD, EASY)] == [0, 1] and [base[b]["mean"] for b in (HARD, EASY)] == [0, 0.5]


def test_every_pair_of_arms_is_compared_once_those_with_the_baseline_first(runs: Path, tmp_path: Path) -> None:
    right = {p: [1, 1] for p in PROBLEMS}
    for seed in (1, 2):
        make(tmp_path, "best", seed, {"eval-0": answers(right), "eval-1": answers(right)}, phases=1)
    comparison = arrange(collect([runs]))
    assert comparison.pairs == [("best", "plain"), ("up", "plain"), ("up", "best")]
    by = {(d["arm"], d["baseline"], d["on"], d["measure"]): d["mean"] for d in summary(comparison)["differences"]}
    for on in comparison.slices:
        one, other, both = (by[a, b, on, "pass@1"] for a, b in comparison.pairs)
        assert both == pytest.approx(other - one)


def test_costs_are_of_the_stages_that_lead_to_the_arm(runs: Path) -> None:
    arms = summary(arrange(collect([runs])))["arms"]
    assert arms["up"]["costs"] == {
        "sampled_answers": 78, "sampled_tokens": 500, "prompt_tokens": 2000, "kept": 21.5, "contents": 2,
        "trained_tokens": 1150, "steps": 7,
        "seconds_sampling": 2, "seconds_training": 2, "seconds_evaluation": 2,
    }  # fmt: skip
    assert arms["plain"]["costs"]["trained_tokens"] == arms["plain"]["costs"]["sampled_answers"] == 0


def test_without_an_arm_of_its_own_the_untouched_model_comes_from_the_others(runs: Path) -> None:
    found = arrange(collect([runs / "arms" / "up-seed1", runs / "arms" / "up-seed2"]))
    assert found.baseline == "base" and list(found.arms) == ["base", "up"]
    assert summary(found)["arms"]["base"]["scores"]["all"]["mean"] == 0.25
    assert arrange(collect([runs]), "up").difference("plain", "up", "one").mean == pytest.approx(-0.3)


def test_only_seeds_that_both_have_are_compared(runs: Path, tmp_path: Path) -> None:
    everything = {p: [1, 1] for p in PROBLEMS}
    make(tmp_path, "up", 3, {"eval-0": answers(everything), "eval-1": answers(everything)}, phases=1)
    found = summary(arrange(collect([runs])))
    assert {tuple(d["seeds"]) for d in found["differences"]} == {(1, 2)}
    assert found["arms"]["up"]["seeds"] == [1, 2, 3]


def test_bins_do_not_show_a_gain_where_nothing_changed(tmp_path: Path) -> None:
    """Base and arm answer alike by chance; greedily a model is right where it is likely to be."""
    rng, problems = np.random.default_rng(0), [f"{b}{i:03d}" for b in ("one", "two") for i in range(600)]
    chance = dict(zip(problems, rng.uniform(0, 1, len(problems)).tolist(), strict=True))

    def draw() -> list[Graded]:
        sampled = answers({p: [int(x) for x in rng.random(4) < c] for p, c in chance.items()}, greedy=False)
        return sampled + [graded(p, None, bool(c > 0.5)) for p, c in chance.items()]

    make(tmp_path, "same", 0, {"eval-0": draw(), "eval-1": draw()}, phases=1)
    found = arrange(collect([tmp_path / "exp"]))
    for name in (HARD, EASY):
        assert (
            abs(found.difference("same", found.baseline, name).mean) < 0.04
        )  # bins by the base's own samples: over 0.1
    assert found.scores("same", HARD).mean < 0.4 < 0.6 < found.scores("same", EASY).mean


def test_without_greedy_answers_there_are_no_bins(tmp_path: Path) -> None:
    same = answers({p: [1, 0] for p in PROBLEMS}, greedy=False)
    make(tmp_path, "a", 0, {"eval-0": same, "eval-1": same}, phases=1, evaluate={"greedy": False})
    found = summary(arrange(collect([tmp_path / "exp"])))
    assert list(found["arms"]["a"]["scores"]) == ["one", "two", "all"]
    assert {d["measure"] for d in found["differences"]} == {"pass@1"}
    compare([tmp_path / "exp"])
    assert "| a | 0.500" in (tmp_path / "exp" / "comparison.md").read_text()


def test_a_prompted_model_is_no_baseline_and_a_partial_run_is_named(runs: Path, tmp_path: Path) -> None:
    base = {p: [1, 1] for p in PROBLEMS}
    turns = {"turns": [["solve"], ["verify"]]}
    make(tmp_path, "asked-twice", 1, {"eval-0": answers(base)}, phases=[], evaluate=turns)
    make(tmp_path, "partial", 1, {"eval-0": answers(base)}, phases=1)
    found = arrange(collect([runs]))
    assert found.base == "plain" and "asked-twice" in found.arms
    assert found.left_out == ["partial, seed 1"]
    with pytest.raises(RunError, match="of the untouched model there must be one"):
        arrange(collect([runs / "arms" / "asked-twice-seed1"]))


def test_what_cannot_be_compared_is_one_line(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no arm 'x' to compare with; there are: plain, up"):
        arrange(collect([runs]), "x")
    with pytest.raises(RunError, match="are both up with seed 1"):
        collect([runs, runs / "arms" / "up-seed1"])
    with pytest.raises(RunError, match="is not a run's folder"):
        collect([tmp_path])
    make(tmp_path / "a", "other", 1, {"eval-0": answers({p: [1, 1] for p in PROBLEMS[1:]})}, phases=[])
    with pytest.raises(
        UserError, match=r"^plain and other have different problems: 1 of 20 in plain, e\.g\. one00, are not"
    ):
        arrange(collect([runs, tmp_path / "a" / "exp"]))
    right = answers({p: [1, 1] for p in PROBLEMS})
    trained = make(tmp_path / "c", "base", 1, {"eval-0": right, "eval-1": right}, phases=1)
    with pytest.raises(RunError, match="a trained run is named 'base', the untouched model's name here"):
        arrange(collect([trained]))
    settings = {"evaluate": {"temperature": 0.1}}
    make(tmp_path / "b", "cold", 1, {"eval-0": answers({p: [1, 1] for p in PROBLEMS})}, phases=[], **settings)
    with pytest.raises(RunError, match=r"evaluated with different settings \(evaluate: ...\): cold, plain, up"):
        arrange(collect([runs, tmp_path / "b" / "exp"]))


def test_the_files_say_what_the_numbers_say(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compare([runs], tmp_path / "out")
    numbers = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert numbers["conditions"]["machine"] == [{"cpu": "made", "cores": 2}] and numbers["conditions"]["commit"] == [
        "abc"
    ]
    assert numbers["arms"]["up"]["differs"]["phases"] == [1] and "written_by" in numbers
    text = (tmp_path / "out" / "comparison.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith("| up | 0.650"))
    assert "0.400 to 0.900" in row and "+0.400 \\[-2.495, +3.295\\]<br>\\[+0.256, +0.544\\]" in row
    assert "p = 0.351, 18 up, 2 down<br>flips &lt; 0.001" in row, "sure of these two trainings, not of the method"
    assert "| up | 78 | 2,000 | 500 | 22 | 2 | 1,150 | 7 |" in text and "everything here is exploratory" in text
    assert "Registered" not in text and "![difference to plain](comparison.svg)" in text
    figure = ElementTree.parse(tmp_path / "out" / "comparison.svg").getroot()
    assert {"plain", "up"} <= {t.text for t in figure.iter("{http://www.w3.org/2000/svg}text")}
    assert "comparison.md" in capsys.readouterr().out
    compare([runs], tmp_path / "again")
    for name in ("comparison.md", "comparison.svg"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_the_command_prints_the_table(runs: Path) -> None:
    command = [sys.executable, "-m", "dpr_mini.cli", "compare", runs, "--baseline", "plain"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines()[0].startswith("arm") and (runs / "comparison.json").exists()
    wrong = subprocess.run([*command[:-1], "none"], capture_output=True, text=True, cwd=ROOT)
    assert wrong.returncode == 1 and "no arm 'none'" in wrong.stderr and "Traceback" not in wrong.stderr


def test_dev_and_test_sets_are_benchmarks_once_all_runs_opened_them(tmp_path: Path) -> None:
    """A test set's evaluation stands beside the other; while one run has none, only what all have is compared."""

    def of(benchmark: str, right: int) -> list[Graded]:
        return [rows.graded(f"{benchmark}{i}", s, i < right, benchmark) for i in range(10) for s in (0, 1)]

    for name, gain in (("up", 4), ("plain", 0)):
        ends = {"eval-0": of("one", 2), "eval-0-test": of("two", 3)}
        ends |= {"eval-1": of("one", 2 + gain), "eval-1-test": of("two", 3 + gain)} if gain else {}
        make(tmp_path, name, 1, ends, phases=1 if gain else [])
    compared = arrange(collect([tmp_path / "exp"]))
    assert compared.benchmarks == ["two", "one"], "the one test set first; dev is in no mean with it"
    assert len(compared.within(compared.arms["up"].graded[1], "all")) == 20
    numbers = summary(compared)
    found = {(d["arm"], d["on"]): d["mean"] for d in numbers["differences"] if d["measure"] == "pass@1"}
    assert found["up", "one"] == found["up", "two"] == pytest.approx(0.4)
    assert "on the same 10 held-out problems (two)" in comparison.page(numbers)
    latest = tmp_path / "exp" / "arms" / "plain-seed1" / "latest.json"
    closed = json.loads(latest.read_text())
    closed["stages"].pop("eval-0-test")
    write_json(latest, closed)
    shut = arrange(collect([tmp_path / "exp"]))
    assert shut.benchmarks == ["one"]
    line = "No test set counts, as these runs lack theirs: plain, seed 1."
    assert line in comparison.page(summary(shut)) and line in comparison.brief(summary(shut))
    asked = Hypothesis(name="H", greater={"arm": "up"}, than={"arm": "plain"}, benchmark="two")
    assert examine(shut, [asked])[0].missing == (
        "no problems 'two'; there are: one; test sets count once all runs have them, and plain, seed 1 lacks them"
    )


def test_it_says_when_these_runs_opened_the_test_sets(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compare([runs])
    assert "test opened" not in capsys.readouterr().out

    def line(day: int, recipe: str, seed: int = 1) -> dict:
        return {"opened": f"2026-01-{day:02d}", "recipe": recipe, "seed": seed, "commit": "abc", "sets": ["one", "two"]}

    for opening in (line(3, "up"), line(2, "plain"), line(1, "another arm")):
        append_row(runs / "test-opened.jsonl", opening)
    compare([runs / "arms" / f"{name}-seed1" for name in ("up", "plain")])
    first, second = (s for s in capsys.readouterr().out.splitlines() if s.startswith("test opened"))
    assert first == "test opened 2026-01-02, commit abc: one, two by plain, seed 1" and "by up, seed 1" in second
    for day in (5, 7, 6):
        append_row(runs / "test-opened.jsonl", line(day, "up", 2) | {"commit": f"c{day}"})
    compare([runs])
    out = capsys.readouterr().out
    assert "2026-01-02, commit abc" in out and "2026-01-07, commit c7" in out and "2026-01-06" not in out
    assert "... 3 more between, 4 commits in all" in out
    assert "2026-01-07, commit c7" in (runs / "comparison.md").read_text(encoding="utf-8")


def test_arms_are_shown_on_the_benchmark_of_the_first_hypothesis_that_of_several_test_sets(tmp_path: Path) -> None:
    """Else over the test sets together; their bins have no problem of dev either."""

    def of(benchmark: str, right: int) -> list[Graded]:
        return [rows.graded(f"{benchmark}{i}", s, i < right, benchmark) for i in range(10) for s in (0, 1, None)]

    ends = {"eval-0": of("dev", 9), "eval-0-test": of("one", 2) + of("two", 7)}
    make(tmp_path, "plain", 1, ends, phases=[])
    compared = arrange(collect([tmp_path / "exp"]))
    assert compared.slices == ["one", "two", "dev", "all", HARD, EASY]
    assert [compared.scores("plain", s).n for s in compared.slices] == [10, 10, 10, 20, 11, 9]
    assert compared.scores("plain", "all").mean == pytest.approx(0.45)
    assert "20 held-out problems (one, two together)" in comparison.page(summary(compared))
    asked = Hypothesis(name="H", greater={"arm": "plain"}, than=0, benchmark="two")
    assert "10 held-out problems (two)" in comparison.page(summary(compared, [asked]))
