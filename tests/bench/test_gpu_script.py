"""bench/gpu.sh: its parts share the time, leave no process behind, and write what they have after each of them."""

from __future__ import annotations

import importlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from places import BENCH

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="says what a machine without a GPU says")


@pytest.fixture(scope="module")
def parts() -> Iterator[ModuleType]:
    """bench/gpu_parts.py as a module."""
    names = ("gpu_parts", "gpu_report", "supervise")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(BENCH), *sys.path])
        yield importlib.import_module("gpu_parts")
        for name in names:
            patch.delitem(sys.modules, name)


def start(out: Path, *names: str, **more: str) -> subprocess.Popen[str]:
    environment = {k: v for k, v in os.environ.items() if k not in ("WHEELS", "DATA")}
    environment |= {"PYTHON": sys.executable, "OUT": str(out), "MODELS": str(out / "work"), **more}
    return subprocess.Popen(
        ["bash", BENCH / "gpu.sh", *names], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def run(out: Path, *names: str, **more: str) -> tuple[int, str, dict[str, Any]]:
    """(exit status, what it said, gpu-cpu.json)."""
    process = start(out, *names, **more)
    said, errors = process.communicate()
    file = out / "gpu-cpu.json"
    return process.returncode, said + errors, json.loads(file.read_text()) if file.exists() else {}


def alive(mark: str) -> list[int]:
    """Processes that carry MARK=`mark` in their environment."""
    pids = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and f"MARK={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                pids.append(int(folder.name))
        except OSError:
            continue
    return pids


# --- the whole script -------------------------------------------------------------------------------------------------


@no_gpu
def test_it_says_what_is_missing(tmp_path: Path) -> None:
    status, said, _ = run(tmp_path, "tests")
    assert status == 1 and "finds no GPU here (FORCE_CPU=1 tries" in said
    status, said, _ = run(tmp_path, "nonsense", FORCE_CPU="1")
    assert status == 2 and "no part 'nonsense': recipe, tests, smoke" in said


@no_gpu
@pytest.mark.slow
def test_every_part_begins_and_all_end_in_the_time_that_is_given(tmp_path: Path) -> None:
    begun, mark = time.monotonic(), f"walk-{os.getpid()}"
    _, said, result = run(tmp_path, FORCE_CPU="1", TOTAL_SECONDS="30", MARK=mark)
    assert time.monotonic() - begun < 30 + 10, said[-2000:]  # the interpreter's own start and end, on shared cores
    assert not alive(mark)
    names = ["recipe", "tests", "smoke", "qlora", "arms", "others", "smollm2", "kernels", "chunks"]
    assert list(result["parts"]) == names
    for name, part in result["parts"].items():
        assert part["status"] in ("well", "failed", "stopped at its limit", "nothing measured", "missing"), (name, part)
        assert part["status"] == "missing" or part["commands"], name
        assert part["conditions"]["commit"] is not None and part["conditions"]["versions"]["torch"]
    assert result["conditions"]["total_seconds"] == 30 and result["conditions"]["gpu"] is None
    table = (tmp_path / "gpu-cpu.md").read_text()
    assert all(f"| {name} |" in table for name in names) and "Nothing here says anything of a GPU" in table
    assert (tmp_path / "smoke-cpu.json").exists() and "== kernels (cpu, at most" in (
        tmp_path / "gpu-cpu.log"
    ).read_text()
    assert len([f for f in tmp_path.iterdir() if f.is_file()]) <= 8  # as many come back from a lent machine


@no_gpu
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_parts_that_end_well_leave_their_results_and_a_second_call_keeps_those_of_the_first(tmp_path: Path) -> None:
    status, said, result = run(tmp_path, "recipe", "qlora", FORCE_CPU="1", TOTAL_SECONDS="280")
    assert status == 0 and {p["status"] for p in result["parts"].values()} <= {"well", "missing"}, said[-3000:]
    steps = json.loads((tmp_path / "recipe-step-cpu.json").read_text())
    assert [s["step"] for s in steps["steps"]] == [0, 1, 2] and steps["steps"][2]["loss"] < steps["steps"][0]["loss"]
    assert steps["conditions"]["train"]["optimiser"] == "adamw8bit" and steps["planned_peak_gib"] >= 0
    rows = json.loads((tmp_path / "train-cpu.json").read_text())["rows"]
    assert [r["status"] for r in rows] == ["ok"] and result["parts"]["qlora"]["result"]["rows"] == rows
    model = tmp_path / "work" / "models" / "tiny" / "model.safetensors"
    made = model.stat().st_mtime_ns
    before = result["parts"]["recipe"]
    status, said, result = run(tmp_path, "kernels", FORCE_CPU="1", TOTAL_SECONDS="200")
    assert status == 0 and result["parts"]["kernels"]["status"] == "well", said[-3000:]
    assert result["parts"]["recipe"] == before and model.stat().st_mtime_ns == made
    kernels = json.loads((tmp_path / "kernels-cpu.json").read_text())
    assert {r["provider"] for r in kernels["rows"]} == {"ours", "eager", "liger", "torch", "cce"}


@no_gpu
def test_a_signal_ends_the_part_with_all_its_processes_and_keeps_the_file(tmp_path: Path) -> None:
    mark = f"signal-{os.getpid()}"
    process = start(tmp_path, "kernels", "tests", FORCE_CPU="1", MARK=mark)
    for line in process.stdout:
        if line.startswith("$ "):
            break
    assert alive(mark)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 143 and "SIGTERM: kernels is ended" in said
    assert not alive(mark)
    result = json.loads((tmp_path / "gpu-cpu.json").read_text())
    assert result["parts"]["kernels"]["status"] == "interrupted" and list(result["parts"]) == ["kernels"]


# --- its pieces -------------------------------------------------------------------------------------------------------

LIVES_ON = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
print("started", flush=True)
time.sleep({seconds})
"""


@pytest.mark.parametrize(("seconds", "status"), [(60, 124), (0, 0)], ids=["past its limit", "leaves a process"])
def test_a_command_leaves_no_process_behind(tmp_path: Path, seconds: int, status: int) -> None:
    """Not even one in a session of its own that ignores SIGTERM; run apart, for pytest must not adopt orphans."""
    mark = f"orphan-{os.getpid()}-{seconds}"
    code = f"""
import sys, os
sys.path.insert(0, {str(BENCH)!r})
import supervise
supervise.adopt_orphans()
with open("log", "w") as log:
    command = [sys.executable, "-c", {LIVES_ON.format(seconds=seconds)!r}]
    ended = supervise.supervise(command, 4, log, {{**os.environ, "MARK": {mark!r}}})
print(ended.status, ended.tail)
"""
    begun = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == f"{status} ('started',)", done.stdout + done.stderr
    assert not alive(mark) and time.monotonic() - begun < 30
    assert (tmp_path / "log").read_text() == "started\n"


@given(data=st.data(), total=st.floats(20, 600))
def test_shares_fill_the_time_and_what_one_leaves_goes_to_the_next(parts: ModuleType, data: Any, total: float) -> None:
    names = data.draw(st.permutations(parts.USUAL))
    names = names[: data.draw(st.integers(1, len(names)))]
    left = total
    for n, name in enumerate(names):
        given_time = parts.share(name, names, left)
        planned = sum(parts.PARTS[x].seconds for x in names[n:])
        assert given_time == pytest.approx(left * parts.PARTS[name].seconds / planned) and given_time <= left + 1e-6
        left -= given_time * data.draw(st.floats(0, 1))  # it may end earlier
    assert left >= -1e-6
    assert parts.share(names[-1], names, left) == pytest.approx(left)  # the last one may take all that is there


def test_gpu_tests_come_first_and_run_beside_each_other(parts: ModuleType) -> None:
    gpu, others = (" ".join(command) for _, command in parts.test_commands(False, True))
    assert "-m gpu" in gpu and gpu.endswith("-n 3") and "-m not gpu" in others and others.endswith("-n 8")
    for command in (gpu, others):
        assert "tests/kernels " in command and "--ignore=tests/kernels/test_compile.py" in command
    assert not any("-n" in command for _, command in parts.test_commands(False, False))


class Script:
    """Stands for the commands of a part: their exit statuses, in order."""

    def __init__(self, module: ModuleType, out: Path, *statuses: int) -> None:
        self.bench = module.Bench(out, out, "x", False, io.StringIO(), time.monotonic() + 100)
        self.commands: list[str] = []
        left = list(statuses)

        def run(*command: Any, **_: Any) -> Any:
            self.commands.append(" ".join(map(str, command)))
            self.bench.ends.append(module.Ended(tuple(map(str, command)), left.pop(0), 1.0, ("said",)))
            return self.bench.ends[-1]

        self.bench.run = run


def test_a_recipe_that_is_out_of_memory_is_tried_once_more_with_less(parts: ModuleType, tmp_path: Path) -> None:
    script = Script(parts, tmp_path, 3, 0)
    assert parts.outcome(parts.PARTS["recipe"], script.bench)["status"] == "well"
    assert "--rows 2" in script.commands[0] and "train.offload_checkpoints=true train.tiled_mlp=8" in script.commands[1]
    for statuses in ((0,), (1,)):
        script = Script(parts, tmp_path, *statuses)
        parts.outcome(parts.PARTS["recipe"], script.bench)
        assert len(script.commands) == 1


def test_red_gpu_tests_are_not_hidden_by_the_others(parts: ModuleType, tmp_path: Path) -> None:
    for statuses, word in (((1, 0), "failed"), ((0, 1), "failed"), ((0, 0), "well"), ((5, 0), "well")):
        script = Script(parts, tmp_path, *statuses)
        assert parts.outcome(parts.PARTS["tests"], script.bench)["status"] == word, statuses


def test_a_bench_that_stops_at_its_budget_without_a_row_is_not_well(parts: ModuleType, tmp_path: Path) -> None:
    row = parts.outcome(parts.PARTS["arms"], Script(parts, tmp_path, 0).bench)
    assert row["status"] == "nothing measured"
    rows = [{"model": parts.LARGE, "mode": "lora", "arm": "ours"}, {"model": "tiny", "mode": "lora", "arm": "ours"}]
    (tmp_path / "train-x.json").write_text(json.dumps({"rows": rows}))
    row = parts.outcome(parts.PARTS["arms"], Script(parts, tmp_path, 0).bench)
    assert row["status"] == "well" and row["result"]["rows"] == rows[:1]


def test_a_part_gives_way_where_its_packages_are_not(parts: ModuleType, tmp_path: Path) -> None:
    lacking = parts.Part(1, lambda bench: {}, ("no_such_package",))
    row = parts.outcome(lacking, Script(parts, tmp_path).bench)
    assert row["status"] == "missing" and "no_such_package (WHEELS=folder)" in row["reason"]


def test_memory_is_told_by_stage(parts: ModuleType, tmp_path: Path) -> None:
    """By the clock of the manifests, which have UTC and whole seconds."""
    for name, finished, seconds in (("train-1", "2026-01-02T03:04:20Z", 10), ("eval-1", "2026-01-02T03:04:30Z", 6)):
        (tmp_path / name).mkdir()
        content = {"stage": name, "seconds": seconds, "finished": finished, "metrics": {}}
        (tmp_path / name / "stage.json").write_text(json.dumps(content))
    noon = 1767323060.0 - 10  # 2026-01-02T03:04:10Z
    memory = [{"second": n, "unix": noon + n, "gpu_mib": 1000 + 100 * n} for n in range(25)]
    summary = sys.modules["gpu_report"].run_summary(tmp_path, memory)
    train, evaluation = summary["stages"]
    assert (train["stage"], train["gpu_mib_first"], train["gpu_mib_most"]) == ("train-1", 1000, 2100)
    assert (evaluation["gpu_mib_first"], evaluation["gpu_mib_most"]) == (2300, 3100) and summary["cards"] is None
