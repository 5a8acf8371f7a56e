"""The standard streams as shells and services hand them over: full, closed, without colours, in another encoding."""

import os
import pty
import subprocess
import sys

import pytest
from places import ROOT


def shell(command, **environment):
    """A shell's line with `dpr-mini` in it; (exit code of dpr-mini, what it said on standard error)."""
    line = f'dpr-mini() {{ {sys.executable} -m dpr_mini "$@"; }}; set -o pipefail; {command}'
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | environment,
    )
    return done.returncode, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("dpr-mini --help >&-", "standard output is closed"),
        ("dpr-mini --help >/dev/full", "standard output: the disk is full"),
        ("dpr-mini --version >/dev/full", "standard output: the disk is full"),
        ("dpr-mini plan recipes/smoke.yaml >/dev/full", "standard output: the disk is full"),
        ("dpr-mini plan recipes/smoke.yaml | true", "nobody reads"),
        ("dpr-mini plan none.yaml 2>/dev/full", ""),
        ("dpr-mini plan none.yaml >&- 2>&-", ""),
    ],
)
def test_an_output_that_cannot_be_written_is_one_line_and_no_success(command, says):
    code, said = shell(command)
    assert code not in (0, 120), said  # 120: Python's own, with its own message
    assert len(said.splitlines()) == (1 if says else 0) and says in said


@pytest.mark.slow
def test_a_closed_error_stream_stops_nothing_and_no_file_is_taken_for_it(tmp_path):
    code, _ = shell(f"dpr-mini run recipes/smoke.yaml scale=0.05 --until problems --runs {tmp_path} 2>&-")
    assert code == 0 and not [p for p in tmp_path.rglob("*.jsonl") if b"%|" in p.read_bytes()]


def on_a_terminal(environment):
    said = b""

    def read(descriptor):
        nonlocal said
        data = os.read(descriptor, 1024)
        said += data
        return data

    os.environ |= environment
    try:
        pty.spawn([sys.executable, "-m", "dpr_mini", "plan", "none.yaml"], read)
    finally:
        for name in environment:
            del os.environ[name]
    return said


@pytest.mark.parametrize(("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_no_color(environment, coloured, capfd):
    said = on_a_terminal(environment)
    assert b"none.yaml: no such recipe" in said and (b"\x1b[" in said) is coloured


@pytest.mark.slow
def test_an_output_that_cannot_spell_everything():
    """A log in ASCII: what it lacks is spelled out, not a UnicodeEncodeError."""
    code, said = shell("dpr-mini plan recipes/smoke.yaml | grep -c '\\\\xb1'", PYTHONIOENCODING="ascii")
    assert code == 0, said
