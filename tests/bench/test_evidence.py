"""bench/evidence.sh and bench/rounds.sh with a program in place of dpr-mini that writes down how it was called."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT

CALLED = """#!{python}
import json, os, sys
from pathlib import Path
with open({log!r}, "a") as file:
    file.write(json.dumps([os.environ.get("OMP_NUM_THREADS"), *sys.argv[1:]]) + "\\n")
sys.exit(Path({fails!r}).exists() and "--seeds" in sys.argv and sys.argv[sys.argv.index("--seeds") + 1] == "1")
"""


@pytest.fixture
def checkout(tmp_path):
    """A repository with the script, a registration and recipes, all committed."""
    for name in ("bench/evidence.sh", "bench/PREREG.md", *(f"recipes/countdown/{n}.yaml" for n in ("countdown", "x"))):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("as registered\n")
    for name in ("evidence.sh", "rounds.sh"):
        shutil.copy(ROOT / "bench" / name, tmp_path / "bench")
    program = tmp_path / "program"
    program.write_text(CALLED.format(python=sys.executable, log=str(tmp_path / "log"), fails=str(tmp_path / "fails")))
    program.chmod(0o755)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "bench", "recipes")
    git(tmp_path, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "registered")
    return tmp_path


def git(at: Path, *words: str) -> None:
    subprocess.run(["git", "-C", at, *words], check=True)


def run(at: Path, *words: str, script: str = "evidence.sh") -> tuple[int, str, list[list[str]]]:
    """Exit code, what was printed, the calls in the order of their words."""
    environment = {"PATH": "/usr/bin:/bin", "DPR_MINI": str(at / "program")}
    done = subprocess.run(["bash", at / "bench" / script, *words], capture_output=True, text=True, env=environment)
    log = at / "log"
    calls = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    log.unlink(missing_ok=True)
    return done.returncode, done.stdout + done.stderr, sorted(calls)


def test_seeds_are_shared_out_and_overrides_arrive_whole(checkout):
    rules = "filter.rules=[answered, {per_problem: {at_most: 4}}]"
    code, said, calls = run(checkout, "--jobs", "2", "--seeds", "0,1,2", "--runs", "out", "train.epochs=1", rules)
    assert code == 0, said
    *jobs, (_, *compared) = sorted(calls, key=lambda c: c[1] == "compare")
    assert [(c[0], c[c.index("--seeds") + 1], c[c.index("--runs") + 1]) for c in jobs] == [
        ("1", "0,2", "out/job-0"),
        ("1", "1", "out/job-1"),
    ]
    for call in jobs:
        assert {"train.epochs=1", rules, "--test"} <= set(call)
        assert len([word for word in call if word.endswith(".yaml")]) == 11
    assert compared == [*("compare", "out/job-0/countdown", "out/job-1/countdown"),
                        *("--baseline", "countdown-base", "--out", "out")]  # fmt: skip


def test_a_job_that_fails_stops_the_comparison_alone_and_the_same_command_goes_on(checkout):
    (checkout / "fails").touch()
    code, said, calls = run(checkout, "--seeds", "0,1", "--runs", "out")
    assert code == 1 and "the same command goes on" in said
    assert len(calls) == 2 and not any("compare" in call for call in calls)
    (checkout / "fails").unlink()
    assert run(checkout, "--seeds", "0,1", "--runs", "out")[0] == 0
    code, said, calls = run(checkout, "--seeds", "0,1", "--runs", "out", "--jobs", "4")
    assert code == 2 and "begun with --jobs 2" in said and not calls


@pytest.mark.parametrize("changed", ["bench/PREREG.md", "recipes/countdown/x.yaml"])
def test_nothing_is_opened_that_is_not_committed(checkout, changed):
    (checkout / changed).write_text("another thought\n")
    code, said, calls = run(checkout, "--seeds", "0")
    assert code == 2 and f"commit {'bench/PREREG.md recipes/countdown'} first" in said and not calls


def test_every_round_starts_from_the_model_of_the_one_before(checkout):
    for job, seed in ((0, 0), (1, 1)):
        for arm in ("countdown", "countdown-plain-2"):
            (checkout / f"out/job-{job}/countdown/arms/{arm}-seed{seed}").mkdir(parents=True)
    words = ("--jobs", "1", "--seeds", "1", "--runs", str(checkout / "out"), "train.epochs=1")
    code, said, calls = run(checkout, *words, script="rounds.sh")
    assert code == 0, said
    exported = {call[call.index("--out") + 1]: call[2] for call in calls if call[1] == "export"}
    runs = [call for call in calls if call[1] == "run"]
    assert len(runs) == len(exported) == 4 and all({"phases=[2]", "train.epochs=1", "--test"} <= {*c} for c in runs)
    begun = {w.removeprefix("name="): c for c in runs for w in c if w.startswith("name=")}
    home = {"countdown-round": "countdown", "countdown-plain-round": "countdown-plain-2"}
    for name, arm in home.items():
        for number, before in ((3, f"job-1/countdown/arms/{arm}-seed1"), (4, f"{name}-3-seed1")):
            (model,) = (w.removeprefix("model.name=") for w in begun[f"{name}-{number}"] if w.startswith("model.name="))
            assert exported[model].endswith(before)
    assert "like=null" in begun["countdown-plain-round-3"] and "like=null" not in begun["countdown-round-3"]
    compared = calls[0]
    assert compared[1] == "compare" and sum("countdown-rounds" in w for w in compared) == 1
