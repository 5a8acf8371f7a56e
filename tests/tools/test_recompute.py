"""Published differences with the spread of their seeds: known values, and where a page states them."""

import importlib.util
import json

import pytest
from places import ROOT


@pytest.fixture
def recompute():
    spec = importlib.util.spec_from_file_location("recompute_comparisons", ROOT / "tools" / "recompute_comparisons.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def difference(per_seed, **fields):
    plain = {"arm": "a", "baseline": "b", "on": "all", "measure": "pass@1", "n": 120, "mean": 0.031, "se": 0.0128}
    plain |= {"low": 0.007, "high": 0.057, "p_sign": 0.044, "per_seed": per_seed}
    return plain | fields


def test_seeds_that_differ_widen_an_interval_and_take_a_claim_back(recompute):
    row = recompute.recomputed(difference({"0": 0.031, "1": 0.056, "2": 0.006}))
    assert row["sd_seeds"] == pytest.approx(0.025) and row["low"] < 0 < row["problems_low"] and row["p"] > 0.05
    assert recompute.fell(row)
    same = recompute.recomputed(difference({"0": 0.031, "1": 0.031, "2": 0.031}))
    assert same["low"] == pytest.approx(0.031 - 1.98010 * 0.0128, abs=1e-5) and not recompute.fell(same), "df = 119"


def test_one_seed_has_no_spread_to_put_in(recompute):
    row = recompute.recomputed(difference({"0": 0.031}))
    assert row["low"] is None and row["p"] is None and not recompute.fell(row)


def test_claims_are_found_by_their_numbers_in_either_direction_and_over_a_line_break(recompute, tmp_path):
    results = tmp_path / "bench" / "results" / "x"
    results.mkdir(parents=True)
    (tmp_path / "README.md").write_text(
        "one\ngains **+0.031** [+0.007,\n+0.057].\n-0.031 [-0.057, -0.007]\n0.2 [0.1, 0.3]\n"
    )
    (tmp_path / "bench" / "LOG.md").write_text("another: +0.032 [+0.007, +0.057]\n")
    old = {"differences": [difference({"0": 0.0, "1": 0.062})]}
    (results / "comparison.json").write_text(json.dumps(old))
    (results / "comparison-new.json").write_text(json.dumps({"differences": [{"p": 0.5}]}))
    found = recompute.recompute(tmp_path)
    ((name, (row,)),) = found["files"].items()
    assert name == "bench/results/x/comparison.json" and row["claims"] == ["README.md:2", "README.md:4"]
    assert found["no_longer"] == 1 and found["unmatched"] == ["bench/LOG.md:1"]
    assert "**no longer holds**" in recompute.table([row])[2]
