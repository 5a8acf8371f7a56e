"""A whole smoke run that is broken off anywhere: the same command ends it with the rows and weights of an unbroken one.

By power cuts, by what the system refuses, by kills at random moments. DPR_MINI_BREAKS says how many of each (100 are
some minutes).
"""

import os
import random
import signal
import time

import breaking
import forked
import pytest
from leavings import rows, weights

from dpr_mini.files.rows import read_json

COMMAND = [
    "run", "recipes/smoke.yaml", "scale=0.03", "engine.window=8",
    "pack.tokens_per_row=128", "train.rows_per_step=1", "train.epochs=1", "train.save_steps=2",
]  # fmt: skip
BREAKS = int(os.environ.get("DPR_MINI_BREAKS", "0"))
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


def start(runs, prepare=None, *more):
    return forked.start([*COMMAND, "--runs", str(runs)], runs.with_suffix(".log"), prepare, *more)


def finish(runs):
    process = start(runs)
    process.join(300)
    assert process.exitcode == 0, runs.with_suffix(".log").read_text()[-3000:]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    runs = tmp_path_factory.mktemp("unbroken") / "runs"
    finish(runs)
    return runs


def compare(runs, unbroken):
    """Every stage's rows and weights, no temporary file, and each manifest's metrics where they are no times."""
    stages = read_json(unbroken / "smoke/latest.json")["stages"]
    for name, folder in stages.items():
        assert rows(runs / "smoke" / folder) == rows(unbroken / "smoke" / folder), name
        if name.startswith("train"):
            assert weights(runs / "smoke" / folder) == weights(unbroken / "smoke" / folder), name
        assert (runs / "smoke" / folder / "stage.json").exists()
    assert [p for p in runs.rglob(".*") if p.name != ".lock"] == []


def test_a_power_cut_anywhere(unbroken, tmp_path):
    """Of every file there is what was synced, or some pages more, or all."""
    draw = random.Random(1)
    moments = sorted(draw.sample(range(20, 420), BREAKS or 2))
    cuts = {moment: tmp_path / f"cut{moment}" for moment in moments}
    process = start(tmp_path / "whole", breaking.cut, tmp_path / "whole", cuts, 1)
    process.join(300)
    assert process.exitcode == 0, (tmp_path / "whole.log").read_text()[-3000:]
    held = [path for path in cuts.values() if path.exists()]
    assert len(held) >= len(cuts) // 2
    for path in held:
        finish(path)
        compare(path, unbroken)


def test_what_the_system_refuses_is_one_line_and_costs_nothing(unbroken, tmp_path):
    draw = random.Random(2)
    runs = tmp_path / "runs"
    for number in range(BREAKS or 5):
        error = breaking.ERRORS[number % len(breaking.ERRORS)]
        process = start(runs, breaking.fail, runs, draw.randrange(1, draw.choice([3, 12, 40, 120])), error)
        process.join(300)
        told = runs.with_suffix(".log").read_text()
        if process.exitcode == 0:  # it was complete before that many operations
            assert "nothing to do" in told
            continue
        last = told.splitlines()[-1]
        assert process.exitcode == 1 and "Traceback" not in told, told[-3000:]
        assert last.startswith("dpr-mini: ") and "what was done is kept" in last and last.isprintable(), last
    finish(runs)
    compare(runs, unbroken)


def test_kills_at_random_moments(unbroken, tmp_path):
    """SIGKILL to the process that works, whenever; what it started must be gone before the next start takes over."""
    draw, kills, run = random.Random(3), 0, 0
    while kills < (BREAKS or 6):
        runs = tmp_path / f"runs{run}"
        while kills < (BREAKS or 6):
            process = start(runs)
            process.join(draw.choice([0.2, 1.0, 3.0]) * draw.random() + 0.01)
            if not process.is_alive():
                assert process.exitcode == 0, runs.with_suffix(".log").read_text()[-3000:]
                break
            process.kill()
            process.join()
            assert process.exitcode == -signal.SIGKILL
            kills += 1
            time.sleep(0.05)
        finish(runs)
        compare(runs, unbroken)
        run += 1
