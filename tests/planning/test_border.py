"""What `plan` refuses before it counts, and what it counts without an end."""

import gzip
import math
import time

import numpy as np
import pytest
from places import RECIPES

from dpr_mini.commands.plan import plan
from dpr_mini.files.rows import StoreError
from dpr_mini.planning.expected import right
from dpr_mini.recipe import RecipeError
from dpr_mini.sampling import simulate


def planned(tmp_path, *overrides: str, gpu: str = "80GiB") -> None:
    plan(RECIPES / "qwen7b.yaml", overrides, tmp_path / "runs", gpu)


@pytest.mark.parametrize("name", ["./nowhere", "nowhere", "/nowhere/model", "~/nowhere", "a/b/c"])
def test_a_model_that_is_not_there_is_refused_as_by_run(tmp_path, name):
    with pytest.raises(RecipeError, match=r"^override 'model\.name=.*': model\.name: no model folder"):
        planned(tmp_path, f"model.name={name}")


def test_a_folder_that_is_no_model_is_refused(tmp_path):
    with pytest.raises(RecipeError, match=r"has no config\.json"):
        planned(tmp_path, f"model.name={tmp_path}")


@pytest.mark.parametrize("gpu", ["", "0", "-1", "x", "9" * 400, "1e3", "inf", "٣GiB"])
def test_a_card_of_no_size_is_refused(tmp_path, gpu):
    with pytest.raises(RecipeError, match="write it as 24GiB"):
        planned(tmp_path, gpu=gpu)


def test_a_damaged_file_of_problems_is_one_line(tmp_path):
    data = gzip.compress(b'{"problem": "1 + 1", "answer": "2"}\n' * 100)
    (tmp_path / "a.jsonl.gz").write_bytes(data[: len(data) // 2])
    with pytest.raises(StoreError, match=r"a\.jsonl\.gz: cannot be read as gzipped JSON Lines: EOFError"):
        planned(tmp_path, f"problems.train=[{{file: {tmp_path / 'a.jsonl.gz'}}}]")


LIMITS = [
    ["problems.train=[{hub: openai/gsm8k, split: other, count: 10000000}]"],
    ["problems.train=[{generate: chain_sum, count: 10000000}]", "sample.budget=10000000000"],
    ["dialogue.samples=10000", "probe.samples=10000", "sample.max_tries=100000", "sample.quota=100000"],
    ["sample.max_tries=100000", "sample.quota=100000", "sample.give_up=0.001"],
    ["scale=0.000001", "evaluate.samples=10000", "train.epochs=1000"],
]


@pytest.mark.slow
@pytest.mark.parametrize("values", LIMITS, ids=" ".join)
def test_values_at_their_bounds_are_planned_in_seconds(tmp_path, capsys, values):
    begun = time.process_time()
    planned(tmp_path, *values)
    assert time.process_time() - begun < 30
    assert "nan" not in capsys.readouterr().out


def test_of_many_problems_a_part_is_simulated(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(simulate, "MOST", 100)
    planned(tmp_path, "problems.train=[{generate: chain_sum, count: 300}]")
    assert "expected for each 100 of 300 problems" in capsys.readouterr().out


@pytest.mark.parametrize(("draws", "most"), [(1, 1), (4, 2), (64, 8), (200, 200)])
def test_right_answers_kept_are_the_binomials_mean(draws, most):
    rates = np.array([0.0, 0.005, 0.3, 0.3, 0.98, 1.0])
    exact = sum(
        min(k, most) * math.comb(draws, k) * p**k * (1 - p) ** (draws - k) for p in rates for k in range(draws + 1)
    )
    assert right(rates, draws, most) == pytest.approx(exact, rel=1e-9)
    assert right(rates, 10_000, 5) <= 5 * len(rates)
