"""Ctrl-C after an engine has worked is an interrupt like any other, not a crash."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """\
import os, signal, sys
from pathlib import Path
from dpr_mini.engines import open_engine
from dpr_mini.engines.base import Request, SamplingParams, generate
with open_engine(sys.argv[1], Path(sys.argv[2])) as engine:
    list(generate(engine, [Request("a", (5, 6, 7), SamplingParams(4), 1)]))
    if sys.argv[3] == "open":
        os.kill(os.getpid(), signal.SIGINT)
for _ in range(3):
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


@pytest.mark.parametrize("kind", ["openvino", "hf"])
@pytest.mark.parametrize("when", ["open", "closed"])
def test_an_interrupt_is_no_crash(tiny_model, kind, when):
    """OpenVINO leaves a signal stack behind that it has freed."""
    if kind == "openvino":
        pytest.importorskip("openvino_genai")
    command = [sys.executable, "-c", CODE, kind, str(tiny_model()), when]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if when == "open":
        assert done.returncode in (1, -2) and done.stderr.rstrip().endswith("KeyboardInterrupt"), done.stderr
    else:
        assert (done.returncode, done.stdout) == (0, "interrupted\n" * 3), done.stderr
