"""The countdown experiment, killed at random moments: the same rows and the same weights as an unbroken run."""

import random
import signal
import time
from pathlib import Path

import forked
import pytest
from leavings import rows, weights

from dpr_mini.files.rows import read_json, read_rows

ARMS = ("countdown-dialogue", "countdown-plain")
SEED = 3
COMMAND = [
    "run", *(f"recipes/countdown/{arm}.yaml" for arm in ARMS), "--seeds", str(SEED), "--test",
    "problems.train=[{task: countdown, part: train, count: 24, seed: run}]",
    "problems.dev={countdown-dev: [{task: countdown, part: dev, count: 6, seed: 0}]}",
    # part `base`: a test never opens the real test sets
    "problems.test.countdown=[{task: countdown, part: base, count: 8, seed: 0}]",
    "problems.test.sums=[{task: sums, part: base, count: 4, seed: 0}]",
    "engine.window=16", "dialogue.samples=4", "train.epochs=2", "train.save_steps=2", "train.rows_per_step=1",
]  # fmt: skip


def run(runs: Path, kill_after: float | None = None) -> bool:
    """Start the command; SIGKILL after so many seconds. Whether it came to its end by itself."""
    process = forked.start([*COMMAND, "--runs", str(runs)], log := runs.with_suffix(".log"))
    process.join(kill_after or 300)
    if process.is_alive():
        process.kill()
        process.join()
        assert kill_after, f"not done after 300 s: {log.read_text()[-2000:]}"
        assert process.exitcode == -signal.SIGKILL
        return False
    assert process.exitcode == 0, log.read_text()[-3000:]
    return True


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_random_it_ends_with_the_rows_of_an_unbroken_run(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    begun = time.monotonic()
    assert run(whole)
    took, draw, kills = time.monotonic() - begun, random.Random(16), 0
    while not run(killed, draw.uniform(0.1, 0.5) * took):
        kills += 1
        assert kills < 40, "it makes no headway"
    assert kills >= 2, "it was killed too seldom to test anything"
    for arm in ARMS:
        mine, other = (r / "countdown/arms" / f"{arm}-seed{SEED}" for r in (killed, whole))
        stages = read_json(other / "latest.json")["stages"]
        assert read_json(mine / "latest.json")["stages"] == stages
        for name, folder in stages.items():
            assert rows(mine / folder) == (left := rows(other / folder)), (arm, name)
            assert left or name.startswith(("train", "report")), f"{name} left no rows to compare"
            if name.startswith("train"):
                assert weights(mine / folder) == weights(other / folder), (arm, name)
    assert {"eval-1-test", "eval-1-redrawn", "dialogue-1"} <= stages.keys()
    opened = [
        [(r["recipe"], r["seed"], r["sets"]) for r in read_rows(root / "countdown/test-opened.jsonl")]
        for root in (whole, killed)
    ]
    assert opened[0] == opened[1], "each opens the test sets once, however often it is killed"
