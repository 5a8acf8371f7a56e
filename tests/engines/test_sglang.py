"""Whole runs on a real SGLang server, as a user starts them: what they record, and what kill -9 does to them.

Nothing here stands in for the server. What all engines promise is in test_conformance.py. `make test-sglang`
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import pytest
from places import RECIPES

from dpr_mini import store
from dpr_mini.chat.template import Template
from dpr_mini.engines.base import EngineError, Request, SamplingParams, generate
from dpr_mini.engines.hf import HfEngine
from dpr_mini.engines.sglang.engine import SglangEngine
from dpr_mini.engines.sglang.process import title
from dpr_mini.files.rows import read_json, read_rows
from dpr_mini.machine import guard
from dpr_mini.recipe import ServerConfig
from dpr_mini.types import GREEDY

pytestmark = pytest.mark.sglang
RECIPE = RECIPES / "smoke.yaml"


class Run:
    """`dpr-mini run recipes/smoke.yaml engine.kind=sglang ...` in a folder of its own."""

    def __init__(self, python: str, runs: Path, *more: str) -> None:
        self.runs, self.root = runs, runs / "smoke"
        self.command = [
            *(sys.executable, "-m", "dpr_mini.cli", "run", str(RECIPE), "engine.kind=sglang"),
            *(f"engine.python={python}", "--runs", str(runs), *more),
        ]
        self.members: set[int] = set()

    def start(self) -> subprocess.Popen:
        with (self.runs.parent / f"{self.runs.name}.log").open("a") as out:
            # a shell's background job has SIGINT ignored, and so would the run
            default = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
            return subprocess.Popen(self.command, stdout=out, stderr=out, preexec_fn=default)

    def said(self) -> str:
        return (self.runs.parent / f"{self.runs.name}.log").read_text()[-3000:]

    def folder(self, stage: str) -> Path:
        return self.root / read_json(self.root / "latest.json")["stages"][stage]

    def manifest(self, stage: str) -> dict:
        return store.read_manifest(self.folder(stage))

    def rows(self, stage: str = "dialogue-1") -> list[dict]:
        path = next(self.root.glob(f"{stage}-*/rows.jsonl"), None)
        return list(read_rows(path)) if path else []

    def wait_for_rows(self, client: subprocess.Popen, n: int) -> None:
        """Until n dialogues are there: others are under way then. Remembers the processes that the run has."""
        deadline = time.monotonic() + 240
        while not (path := next(self.root.glob("dialogue-1-*/rows.jsonl"), None)) or path.read_bytes().count(b"\n") < n:
            assert client.poll() is None and time.monotonic() < deadline, self.said()
            time.sleep(0.02)
        self.members |= {p.pid for p in psutil.Process(client.pid).children(recursive=True)}

    def victim(self, name: str) -> int:
        """The newest process of the run's that is called so."""
        return max(
            pid for pid in self.members if guard.lives(pid) and name in title(pid) and "guard.py" not in title(pid)
        )

    def left(self) -> list[str]:
        """Processes that are still there: those seen under the run, and any whose command line names its folder."""
        named = {p.pid for p in psutil.process_iter() if str(self.runs) in title(p.pid)}
        return [f"{pid} {title(pid)}" for pid in named | self.members if guard.lives(pid)]

    def nothing_left(self, seconds: float = 30.0) -> bool:
        deadline = time.monotonic() + seconds
        while self.left() and time.monotonic() < deadline:
            time.sleep(0.1)
        return not self.left()


# --- a whole run ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(sglang_python: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(sglang_python, tmp_path_factory.mktemp("whole") / "runs", "scale=0.1")
    client = run.start()
    run.wait_for_rows(client, 1)
    assert client.wait(540) == 0, run.said()
    return run


@pytest.mark.timeout(600)
def test_the_smoke_recipe_runs_end_to_end(whole):
    stages = read_json(whole.root / "latest.json")["stages"]
    assert all((whole.root / folder / store.MANIFEST).exists() for folder in stages.values())
    assert (whole.root / "report.html").exists()
    for stage in ("eval-0-answers", "dialogue-1", "eval-1-answers", "probe-2", "sample-2", "eval-2-answers"):
        metrics = whole.manifest(stage)["metrics"]
        assert metrics["engine"].startswith("sglang 0."), stage
        assert metrics["failed"] == 0
        facts = metrics["engine_facts"]
        assert facts["prefix_cache"] and facts["restarts"] == facts["failed"] == facts["retried"] == 0, facts
        assert facts["versions"]["sglang"] and not facts["reproducible"]
    assert whole.nothing_left(5.0), whole.left()


def test_95_percent_of_second_prompts_are_cached(whole, record_property):
    """Few-shot examples, the question and the answer of turn one are not computed again; only the new words are."""
    turns = [d["turns"] for d in whole.rows() if len(d["turns"]) == 2]
    assert len(turns) > 100
    known = sum(one["prompt_tokens"] + len(one["ids"]) for one, _ in turns)
    asked, cached = (sum(two[name] for _, two in turns) for name in ("prompt_tokens", "cached_tokens"))
    record_property("turn_2", {"prompt_tokens": asked, "of_them_known": known, "cached": cached})
    recorded = whole.manifest("dialogue-1")["metrics"]["turns"][1]
    assert (recorded["prompt_tokens"], recorded["cached_tokens"]) == (asked, cached)
    assert recorded["known_tokens"] == known and recorded["cached_of_known"] >= 0.99
    assert recorded["cached_share"] == round(cached / asked, 4) >= 0.95


def test_each_phase_is_answered_by_its_own_weights(whole):
    """Greedy answers are those that another engine gives with the model which the stage names."""
    models = {"eval-0-answers": RECIPE.parent / "smoke-model", "eval-1-answers": whole.folder("train-1") / "model"}
    models["eval-2-answers"] = whole.folder("train-2") / "model"
    said = {}
    for stage, model in models.items():
        template = Template.load(model)
        turns = {d["problem_id"]: d["turns"][0] for d in whole.rows(stage) if d["sample"] == GREEDY}
        asked = [Request(i, template.opening(t["prompt"]), SamplingParams(112, 0.0), 0) for i, t in turns.items()]
        with HfEngine(model, dtype="float32") as engine:
            wanted = {c.id: c.text for c in generate(engine, asked)}
        said[stage] = {i: t["text"] for i, t in turns.items()}
        assert said[stage] == wanted, stage
    assert said["eval-0-answers"] != said["eval-1-answers"] != said["eval-2-answers"], "training changed what is said"
    log = (whole.root / "logs" / "sglang.log").read_text()
    assert log.count("\n=== ") == 3, "one server for the base model, one for each model that was trained"


# --- kill -9 ----------------------------------------------------------------------------------------------------


def long_run(python: str, runs: Path) -> Run:
    """Up to the end of phase 1's dialogues: 1260 of them."""
    return Run(python, runs, "problems.held_out={}", "--until", "dialogue-1")


def all_there(run: Run) -> None:
    """No sample lost, none doubled, none failed."""
    problems = [p["id"] for p in read_rows(run.folder("problems") / "rows.jsonl")]
    assert sorted(d["id"] for d in run.rows()) == sorted(f"{p}#{i}" for p in problems for i in range(3))
    metrics = run.manifest("dialogue-1")["metrics"]
    assert metrics["dialogues"] == len(problems) * 3 and metrics["failed"] == 0
    assert not list(run.folder("dialogue-1").glob("failed.jsonl"))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("victim", ["sglang.launch_server", "sglang::scheduler"])
def test_kill_9_of_the_server_loses_and_doubles_nothing(victim, sglang_python, tmp_path):
    run = long_run(sglang_python, tmp_path / "runs")
    client = run.start()
    run.wait_for_rows(client, 30)
    os.kill(run.victim(victim), signal.SIGKILL)
    at_kill = len(run.rows())
    assert client.wait(600) == 0, run.said()
    all_there(run)
    assert at_kill < len(run.rows()) - 128, "it was killed mid-generation"
    assert run.manifest("dialogue-1")["metrics"]["engine_facts"]["restarts"] == 1
    assert run.nothing_left(5.0), run.left()


@pytest.mark.timeout(900)
def test_kill_9_and_ctrl_c_of_the_client_leave_no_process_and_the_same_command_finishes(sglang_python, tmp_path):
    run = long_run(sglang_python, tmp_path / "runs")
    for rows, number, code in ((30, signal.SIGKILL, -signal.SIGKILL), (300, signal.SIGINT, 130)):
        client = run.start()
        run.wait_for_rows(client, rows)
        assert len(run.members) >= 3, "guard, server, scheduler, detokenizer"
        client.send_signal(number)
        assert client.wait(60) == code, run.said()
        assert run.nothing_left(), run.left()
        assert len(run.rows()) < 1200
    assert run.start().wait(600) == 0, run.said()
    all_there(run)
    assert run.nothing_left(5.0), run.left()


@pytest.mark.timeout(600)
def test_leaving_the_with_block_while_the_server_is_started_again_leaves_nothing(sglang_python, small_model, tmp_path):
    before = set(psutil.Process().children(recursive=True))
    config = ServerConfig(python=sglang_python, arguments={"dtype": "float32"}, start_timeout=280)
    with SglangEngine(small_model, config=config, logs=tmp_path) as engine:
        members = engine.fleet.process.pids()
        for i in range(32):
            engine.submit(Request(str(i), tuple(range(5, 30 + i)), SamplingParams(300, 4.0), i))
        engine.poll()
        os.kill(members[0], signal.SIGKILL)
        wait_until(lambda: engine.fleet.epoch == 1, 60)  # the new one is about to be started
        engine.cancel()
        assert engine.poll() == []
    assert set(psutil.Process().children(recursive=True)) == before
    assert not [p for p in psutil.process_iter() if str(tmp_path) in title(p.pid)]
    assert not [pid for pid in members if guard.lives(pid)]
    with pytest.raises(EngineError, match="with block"):
        engine.submit(Request("a", (5,), SamplingParams(1), 0))


def wait_until(true: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)
