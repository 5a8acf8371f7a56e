"""tools/replicate.py: one cell again with a new seed, held against what the published arm leaves open."""

from __future__ import annotations

import importlib.util
import math
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import pytest
from places import ROOT
from published import publishable

from dpr_mini.files.rows import read_json, read_rows, write_json, write_rows
from dpr_mini.reporting import published
from dpr_mini.reporting.arms import arrange, collect
from dpr_mini.reporting.numbers import summary
from dpr_mini.types import UserError

ARM = "countdown-dialogue"


@pytest.fixture(scope="module")
def replicate():
    """tools/replicate.py as a module."""
    spec = importlib.util.spec_from_file_location("replicate", ROOT / "tools" / "replicate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published folder of seeds 0 to 2 (numbers, and the problems' ids), and the store of a rerun with seed 8."""
    root = tmp_path_factory.mktemp("made")
    found = arrange(collect([publishable(root / "first")]))
    folder = root / "2026-01-01-countdown"
    (folder / published.ROWS).mkdir(parents=True)
    write_json(folder / "comparison.json", summary(found))
    (folder / published.ROWS / published.PROBLEMS).write_bytes(published.files(found)[published.PROBLEMS])
    publishable(root / "replicate", seeds=(8,))
    return root


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made / "2026-01-01-countdown", tmp_path / "2026-01-01-countdown")


@pytest.fixture
def again(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made / "replicate" / "exp", tmp_path / "exp")


def test_the_interval_is_wide_enough_for_a_new_seed(replicate) -> None:
    """Of eight seeds by a normal law, 95 % of ninth ones lie inside; an interval of the mean would hold a third."""
    rng, hits = np.random.default_rng(0), 0
    for _ in range(2000):
        *seeds, new = rng.normal(0.5, 0.03, 9).tolist()
        low, high = replicate.prediction(seeds)
        hits += low <= new <= high
    assert hits / 2000 == pytest.approx(0.95, abs=0.015)
    low, high = replicate.prediction([0.4, 0.5, 0.6])
    half = 4.302653 * stdev([0.4, 0.5, 0.6]) * math.sqrt(4 / 3)
    assert (low, high) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-5)


def test_a_rerun_is_inside_or_outside(replicate, folder: Path, again: Path) -> None:
    score = replicate.expected(folder, ARM, 8)
    line, inside = replicate.verdict(folder, score, again, ARM, 8)
    graded = [a for a in arrange(collect([again])).arms[ARM].graded[8] if a.benchmark == "countdown" and not a.greedy]
    rate = fmean(a.right for a in graded)
    low, high = replicate.prediction(list(score["per_seed"].values()))
    assert inside is (low <= rate <= high) and f"pass@1 {rate:.3f} on 12 countdown problems" in line
    moved = {**score, "per_seed": {"0": rate + 0.3, "1": rate + 0.31, "2": rate + 0.32}}
    line, inside = replicate.verdict(folder, moved, again, ARM, 8)
    assert not inside and line.startswith("NOT REPLICATED: ") and "\n" not in line
    near = {**score, "per_seed": {"0": rate - 0.02, "1": rate, "2": rate + 0.02}}
    assert replicate.verdict(folder, near, again, ARM, 8)[0].startswith("REPLICATED: ")


def test_the_untouched_model_turn_by_turn_is_a_cell_too(replicate, again: Path) -> None:
    """Its run has no evaluation of the model asked once, which `compare` would want."""
    latest = again / "arms" / "countdown-base-seed8" / "latest.json"
    asked = read_json(latest)
    asked["recipe"]["evaluate"]["turns"] = [["solve"], ["verify"]]
    write_json(latest, asked)
    assert replicate.rerun(again, "countdown-base", 8).scores("countdown-base", "countdown").n == 12


def test_other_problems_are_no_replication(replicate, folder: Path, again: Path) -> None:
    home = again / "arms" / f"{ARM}-seed8"
    file = home / read_json(home / "latest.json")["stages"]["eval-1-test"] / "graded.jsonl"
    rows = [{**r, "problem_id": r["problem_id"].replace("countdown000", "other")} for r in read_rows(file)]
    write_rows(file, rows)
    with pytest.raises(UserError, match="1 problems of this run are not published, 1 published"):
        replicate.verdict(folder, replicate.expected(folder, ARM, 8), again, ARM, 8)


def test_an_incomplete_rerun_is_no_verdict(replicate, folder: Path, again: Path) -> None:
    home = again / "arms" / f"{ARM}-seed8"
    shutil.rmtree(home / read_json(home / "latest.json")["stages"]["eval-1-test"])
    with pytest.raises(UserError, match="seed 8 is not complete"):
        replicate.verdict(folder, replicate.expected(folder, ARM, 8), again, ARM, 8)


def test_what_cannot_be_held_against_anything_is_said_first(replicate, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"seed 2 .* is a published one: give another, e.g. SEED=3"):
        replicate.expected(folder, ARM, 2)
    with pytest.raises(UserError, match="has no arm countdown-coin"):
        replicate.expected(folder, "countdown-coin", 8)
    with pytest.raises(UserError, match="no arm 'countdown-dialog'; there are: countdown, countdown-base"):
        replicate.recipe_of("countdown-dialog")
    with pytest.raises(UserError, match="nothing is published"):
        replicate.newest(tmp_path)
    numbers = read_json(folder / "comparison.json")
    score = numbers["arms"][ARM]["scores"]["countdown"]
    score["per_seed"] = {"0": 0.5}
    write_json(folder / "comparison.json", numbers)
    with pytest.raises(UserError, match="one seed"):
        replicate.expected(folder, ARM, 8)


def test_every_recipe_of_the_experiment_is_found(replicate) -> None:
    assert replicate.recipe_of("countdown").parent.name == "countdown"
    assert replicate.recipe_of("countdown-no-check").parent.name == "countdown"


def test_no_verdict_ends_with_two(folder: Path) -> None:
    words = [sys.executable, str(ROOT / "tools" / "replicate.py"), ARM, "--seed", "1", "--published", str(folder)]
    ended = subprocess.run(words, capture_output=True, text=True, cwd=folder)
    assert ended.returncode == 2 and "is a published one" in ended.stderr and not ended.stdout


def test_make_replicate_gives_arm_and_seed() -> None:
    words = ["make", "-n", "-o", ".venv/.installed", "replicate", "ARM=countdown-coin", "SEED=9"]
    shown = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "tools/replicate.py countdown-coin --seed 9" in shown
