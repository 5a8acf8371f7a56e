"""`dpr-mini doctor` on the SGLang side: what is here, what is missing, and the one command that mends it."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from dpr_mini import doctor
from dpr_mini.engines import launch


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """A folder without a .sglang, and a PATH without a driver's tool."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", os.defpath)


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def interpreter(folder: Path, **packages: str) -> Path:
    """A true Python whose only packages are these."""
    site = folder / "site"
    for name, version in packages.items():
        meta = site / f"{name}-{version}.dist-info/METADATA"
        meta.parent.mkdir(parents=True)
        meta.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    setup = f"import sys; sys.path[:] = [p for p in sys.path if 'site-packages' not in p] + [{str(site)!r}]; "
    return program(folder / ".sglang/bin/python", f'exec {sys.executable} -S -I -c "{setup}$3"')


def smi(folder: Path) -> None:
    program(
        folder / "bin/nvidia-smi",
        'case "$1" in *memory.total) echo 81920;; *memory.free) echo 71680;; *) exit 2;; esac',
    )


def told(capsys) -> str:
    begun = time.perf_counter()
    doctor.examine()
    assert time.perf_counter() - begun < 10
    return capsys.readouterr().out


def line(text: str, word: str) -> str:
    [found] = [x for x in text.splitlines() if word in x.split()[:2]]
    return found


def test_without_sglang_and_gpu_the_answer_is_one_command_and_nothing_is_wrong(capsys):
    ready = doctor.examine()
    text = capsys.readouterr().out
    assert line(text, "gpu").startswith("gpu      none")
    assert line(text, "sglang").startswith("absent ") and line(text, "sglang").endswith(f": {launch.INSTALL_CPU}")
    assert ready == ("MISSING" not in text and "free disk" not in text), "SGLang is optional"


def test_with_a_gpu_its_memory_and_the_command_for_a_gpu(tmp_path, monkeypatch, capsys):
    smi(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    text = told(capsys)
    assert line(text, "gpu") == "gpu      80 GiB, 70 of them free"
    assert line(text, "sglang").endswith(f": {launch.INSTALL}")


def test_what_is_installed_is_named_with_its_versions(tmp_path, capsys):
    python = interpreter(tmp_path, sglang="0.5.9", torch="2.9.1", transformers="4.57.1", unrelated="1")
    found = line(told(capsys), "sglang")
    assert found == f"{'ok':8} sglang 0.5.9 ({python}: torch 2.9.1, transformers 4.57.1)"


def test_an_environment_without_sglang_says_what_to_run(tmp_path, capsys):
    python = interpreter(tmp_path, torch="2.9.1")
    found = line(told(capsys), "sglang:")
    assert found.startswith("BROKEN") and f"run: {python} -m pip install sglang==0.5.9" in found


def test_an_interpreter_that_does_not_run_is_one_line(tmp_path, capsys):
    program(tmp_path / ".sglang/bin/sglang-python", "echo libcuda.so.1 is missing >&2; exit 127")
    found = line(told(capsys), "sglang:")
    assert "does not run: libcuda.so.1 is missing" in found and launch.INSTALL_CPU in found
