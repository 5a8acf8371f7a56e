"""`pytest --fast` leaves out what it says, and fails what should have been left out."""

import re
import subprocess
import sys
from pathlib import Path

import fast
import pytest

CONFTEST = """\
import fast

fast.LIMIT = 0.3


def pytest_configure(config):
    for name in fast.MARKERS:
        config.addinivalue_line("markers", name)
    config.pluginmanager.register(fast.Fast())
"""
TESTS = """\
import subprocess, sys, time
import pytest

BUSY = "import time\\nwhile time.process_time() < 0.4: pass"


def test_quick():
    pass


@pytest.mark.slow
def test_marked():
    pass


@pytest.fixture
def tiny_model():
    pass


def test_with_a_model(tiny_model):
    pass


@pytest.fixture
def busy():
    end = time.process_time() + 0.4
    while time.process_time() < end:
        pass


def test_busy_fixture(busy):
    pass


def test_busy_child():
    subprocess.run([sys.executable, "-c", BUSY], check=True)


def test_that_waits():
    time.sleep(0.4)


def test_that_loads_torch():
    sys.modules["torch"] = sys


def test_after_it():
    pass
"""


def run(folder, **files):
    (folder / "conftest.py").write_text(CONFTEST)
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", "-o"]
    command += [f"pythonpath={Path(fast.__file__).parent} {folder}"]
    done = subprocess.run([*command, str(folder)], cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_what_runs_and_what_fails(tmp_path):
    said = run(tmp_path, test_light=TESTS, test_heavy="import torch\n\n\ndef test_training():\n    pass\n")
    outcomes = {word: set(re.findall(rf"^{word} \S+::(\w+)", said, re.MULTILINE)) for word in ("PASSED", "FAILED")}
    assert outcomes["PASSED"] == {"test_quick", "test_that_waits", "test_after_it"}, said
    assert outcomes["FAILED"] == {"test_busy_fixture", "test_busy_child", "test_that_loads_torch"}, said
    assert len(re.findall(r"s of the processor, more than 0\.3: mark it slow", said)) >= 2
    assert "loads torch, which `pytest --fast` has no time for: mark it slow" in said
    assert "2 deselected" in said


@pytest.mark.parametrize(
    ("line", "heavy"),
    [
        ("import torch", True),
        ("from torch import nn", True),
        ("from dpr_mini.engines.hf import HfEngine", True),
        ("from dpr_mini.training import build, loop", True),
        ("from dpr_mini.training import TrainError", False),
        ("    import torch", False),
        ("import torchlike", False),
    ],
)
def test_which_heads_are_heavy(line, heavy):
    assert bool(fast.HEAVY.search(f'"""Text."""\nimport sys\n{line}\n')) is heavy


def test_a_file_that_loads_torch_by_another_is_named(tmp_path):
    said = run(tmp_path, helper='import sys\nsys.modules["torch"] = sys\n', test_light="import helper\n" + TESTS)
    assert "test_light.py loads torch at its head; add it to HEAVY" in said
