"""Memory does not grow with the rows, and time grows as they do: each size in a process of its own."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from places import ROOT

SCRIPT = ROOT / "bench" / "load.py"
# name -> (rows, rows): 12 kB of memory a row was seen in the filter, 8 in pack, 1.6 in problems, 3.7 in write_rows
SIZES = {
    "filter": (1200, 3000),
    "pack": (1500, 5000),
    "problems": (2000, 20_000),
    "write_rows": (2000, 20_000),
    "grade command": (2000, 20_000),
}
MORE_MIB = 8  # a portion that is graded together, caches of what was seen, SQLite's pages


@pytest.fixture(scope="module")
def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("load", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("load")


@pytest.mark.slow
@pytest.mark.parametrize("what", SIZES)
def test_memory_is_bounded_and_time_is_linear(load: ModuleType, folder: Path, what: str) -> None:
    small, large = (measured(load, folder, what, count) for count in SIZES[what])
    assert large["peak_mib"] - small["peak_mib"] < MORE_MIB, (small, large)
    per_row = [one["cpu_s"] / one["rows"] for one in (small, large)]
    assert per_row[1] < 1.5 * per_row[0], "what takes its time once makes the smaller one slower, not faster"


def measured(load: ModuleType, folder: Path, what: str, count: int) -> dict[str, float]:
    for name in load.MEASURED[what][1]:
        load.made(folder, name, count)
    command = [sys.executable, SCRIPT, "--one", what, "--sizes", str(count), "--folder", folder]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=240, cwd=ROOT)
    assert not done.returncode, done.stderr[-2000:]
    return json.loads(done.stdout)


def test_the_table_says_what_a_further_row_takes(load: ModuleType) -> None:
    of = [{"rows": 1000, "cpu_s": 0.5, "peak_mib": 10.0}, {"rows": 2000, "cpu_s": 1.0, "peak_mib": 11.0}]
    head, _, line = load.table({"filter": of}).splitlines()
    assert head.count("rows/s") == 2 and line == "| filter | 2,000 | 2,000 | 10 | 11 | 1,049 |"
    assert load.table({"pack": of[:1]}).splitlines()[-1] == "| pack | 2,000 | 10 | - |"
