"""kill -9 in every stage, then the same command: the same rows and the same weights as an unbroken run."""

import signal
import subprocess
import sys
import time

import forked
import psutil
import pytest
from leavings import rows, weights
from places import ROOT

from dpr_mini.files.rows import read_json

# few problems, in short rows: a kill needs a place between two rows or steps, and there are dozens in every stage
COMMAND = [
    "run", "recipes/smoke.yaml", "scale=0.03", "engine.window=8",
    "pack.tokens_per_row=128", "train.rows_per_step=1", "train.epochs=2", "train.save_steps=2",
]  # fmt: skip
# in these the kill must come when some work is done and some is not: after so many rows, steps or a checkpoint
MIDWAY = {
    **dict.fromkeys(("eval-0-answers", "eval-1-answers", "eval-2-answers"), "rows.jsonl"),
    **dict.fromkeys(("dialogue-1", "probe-2", "sample-2"), "rows.jsonl"),
    **dict.fromkeys(("train-1", "train-2"), "checkpoint-*/trainer.json"),
}


def finish(runs):
    """The command, as a user types it, to its end; what it said."""
    command = [sys.executable, "-m", "dpr_mini.cli", *COMMAND, "--runs", str(runs)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


def start(runs):
    """The same command, forked from a process that has torch loaded: every kill takes a process of its own."""
    return forked.start([*COMMAND, "--runs", str(runs)], runs.with_suffix(".log"))


def kill_in(process, folder, wait_for):
    """SIGKILL once `wait_for` (a pattern, or the folder itself) has appeared; True if the stage was not complete."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.is_alive():
        found = [f for f in folder.glob(wait_for) if f.stat().st_size] if wait_for else folder.exists()
        if found or (folder / "stage.json").exists():
            break
        time.sleep(0.001)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    return not (folder / "stage.json").exists()


def kill_the_trainer_in(process, folder, said):
    """SIGKILL the training process alone at its first checkpoint: the run ends with one line that says so."""
    while process.is_alive() and not list(folder.glob("checkpoint-*/trainer.json")):
        time.sleep(0.001)
    for child in psutil.Process(process.pid).children(recursive=True):
        if child.cmdline()[1:3] == ["-m", "dpr_mini.training.child"]:
            child.kill()
    process.join(120)
    told = said.read_text()
    assert process.exitcode == 1, told[-2000:]
    assert "the training process was ended by SIGKILL" in told.splitlines()[-1], told[-2000:]
    assert not (folder / "model").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_kill_in_every_stage_then_the_same_command(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(whole)
    stages = read_json(whole / "smoke" / "latest.json")["stages"]
    midway = {}
    for name, folder in stages.items():
        if name == "train-1":
            kill_the_trainer_in(start(killed), killed / "smoke" / folder, killed.with_suffix(".log"))
        midway[name] = kill_in(start(killed), killed / "smoke" / folder, MIDWAY.get(name))
    assert [n for n in MIDWAY if not midway[n]] == [], "the kill came too late to test anything"
    told = finish(killed)
    assert "resum" in told or "nothing to do" in told
    for name, folder in stages.items():
        assert rows(killed / "smoke" / folder) == rows(whole / "smoke" / folder), name
        if name.startswith("train"):
            assert weights(killed / "smoke" / folder) == weights(whole / "smoke" / folder), name
    assert (killed / "smoke" / "report.html").exists()
    assert not list((killed / "smoke").rglob("checkpoint-*")), "a finished training leaves no checkpoint behind"
