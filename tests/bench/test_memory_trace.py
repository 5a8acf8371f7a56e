"""The planner against the real training loop, run on fake CUDA tensors with every live storage counted.

bench/memory_trace.py does the counting, in one process of its own: torch and the fake device are loaded once.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
from places import ROOT

SHORT = "train.rows_per_step=2"  # two rows are enough for gradients that wait; the recipes' four take twice as long
LORA = ["train.mode=lora", "train.weights=float32"]
JOBS = {
    "7b": ["recipes/qwen7b.yaml", SHORT],
    "1.5b": ["recipes/qwen1.5b-24gb.yaml", SHORT],
    "two layers": ["recipes/qwen1.5b-24gb.yaml", SHORT, "layers=2"],
    "leak": ["recipes/qwen1.5b-24gb.yaml", SHORT, "layers=2", "leak=1"],
    "no checkpoints": ["recipes/qwen1.5b-24gb.yaml", SHORT, "layers=2", "train.gradient_checkpointing=false"],
    "tiles": ["recipes/qwen1.5b-24gb.yaml", SHORT, "layers=2", "train.offload_checkpoints=true", "train.tiled_mlp=8"],
    "lora": ["recipes/qwen7b.yaml", SHORT, "layers=2", *LORA],
}
MOMENTS = {  # the planner's -> the trace's, in which a layer's backward includes what is computed again
    "loss": "loss",
    "backward of the last layer": "layer {last}",
    "backward of the first layer": "layer 0",
    "the embedding's gradient": "embedding",
    "update": "update",
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def traces():
    if not shutil.which(os.environ.get("CXX", "g++")):
        pytest.skip("the fake device is compiled: apt install g++")
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "kernels")])
    command = [sys.executable, "bench/memory_trace.py", *(word for words in JOBS.values() for word in words)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(zip(JOBS, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("name", ["7b", "1.5b"])
def test_the_planned_peak_of_a_recipe_is_within_5_percent_of_the_counted_one(traces, name):
    found = traces[name]
    assert found["tokens"] == 32768
    assert found["layers"] == 28
    assert found["planned_peak_gib"] == pytest.approx(found["counted_peak_gib"], rel=0.05)
    assert MOMENTS[found["planned_at"]].format(last=found["layers"] - 1) == found["counted_at"]


@pytest.mark.parametrize("name", ["7b", "1.5b"])
def test_every_moment_is_within_5_percent(traces, name):
    found = traces[name]
    for planned, counted in MOMENTS.items():
        there = found["counted_gib"][counted.format(last=found["layers"] - 1)]
        assert found["planned_gib"][planned] == pytest.approx(there, rel=0.05), planned


@pytest.mark.parametrize("name", ["two layers", "no checkpoints", "tiles"])
def test_two_layers_of_a_tied_model_are_planned_within_3_percent(traces, name):
    """Fewer layers, so that what is not a layer shows: here a tied head's gradient, which waits, is 7 %."""
    assert traces[name]["planned_peak_gib"] == pytest.approx(traces[name]["counted_peak_gib"], rel=0.03)


def test_lora_is_planned_within_10_percent(traces):
    assert traces["lora"]["planned_peak_gib"] == pytest.approx(traces["lora"]["counted_peak_gib"], rel=0.1)


def test_the_trace_sees_checkpointing_turned_off(traces):
    """The plan with checkpoints is far from the count without them, so that the comparison above can fail."""
    planned, counted = traces["two layers"]["planned_peak_gib"], traces["no checkpoints"]["counted_peak_gib"]
    assert counted > 1.25 * planned


def test_the_trace_sees_one_copy_of_a_layer_that_is_never_freed(traces):
    copies = 2 * 32768 * 1536 * 2 / 2**30
    rise = traces["leak"]["counted_peak_gib"] - traces["two layers"]["counted_peak_gib"]
    assert rise == pytest.approx(copies, abs=0.02)
