"""`dpr-mini doctor` on the SGLang side: what is here, what is missing, and the one command that installs it."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from dpr_mini.commands import doctor
from dpr_mini.engines.sglang import launch


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch, request):
    """A folder without a .sglang, and a PATH without a driver's tool but the stub that a test asks for."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", os.defpath)
    if "driver" in request.fixturenames:
        monkeypatch.setenv("PATH", str(request.getfixturevalue("driver").bin), prepend=os.pathsep)


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


def test_with_a_gpu_its_memory_its_driver_and_the_command_for_a_gpu(driver, capsys):
    driver.show(71680, 81920)
    text = told(capsys)
    seen = "NVIDIA Test Card, 80.0 GiB, 70.0 of them free, driver 580.1, compute capability 9.0"
    assert line(text, "gpu") == f"gpu      {seen}"
    assert "1 more are visible; a run uses the first" in text and "others hold 10.0 GiB of it" in text
    assert line(text, "sglang").endswith(f": {launch.INSTALL}")


def test_torch_without_cuda_is_named_beside_a_gpu(driver, monkeypatch, capsys):
    monkeypatch.setattr(doctor, "cuda_of_torch", lambda: "")
    assert "built without CUDA, so training runs on the CPU" in told(capsys)
    monkeypatch.setattr(doctor, "cuda_of_torch", lambda: "13.0")
    assert "is built for CUDA 13.0" in told(capsys)


def test_a_hidden_gpu_is_told_from_none(driver, monkeypatch, capsys):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "none visible with CUDA_VISIBLE_DEVICES=''" in line(told(capsys), "gpu")


def test_every_compiler_and_package_of_a_gpu_has_its_line(driver, monkeypatch, capsys):
    text = told(capsys)
    for word in ("triton", "peft", "bitsandbytes", "liger-kernel", "flash-attn", "tensorboard", "trackio", "wandb"):
        line(text, word)
    assert "nvcc and g++" in text and "unsloth is missing" in text
    monkeypatch.setenv("CUDA_HOME", "/no/cuda")
    monkeypatch.setenv("CC", "no-such-compiler")
    text = told(capsys)
    assert "absent   nvcc is missing" in text and "CUDA_HOME=/no/cuda has no bin/nvcc" in text
    assert "absent   CC=no-such-compiler is no program" in text


def test_what_is_installed_is_named_with_its_versions(tmp_path, capsys):
    python = interpreter(tmp_path, sglang="0.5.9", torch="2.9.1", transformers="4.57.1", unrelated="1")
    found = line(told(capsys), "sglang")
    assert found == f"{'ok':8} sglang 0.5.9 ({python}: torch 2.9.1, transformers 4.57.1)"


def test_an_environment_without_sglang_says_what_to_run(tmp_path, capsys):
    python = interpreter(tmp_path, torch="2.9.1")
    found = line(told(capsys), "sglang:")
    assert found.startswith("BROKEN") and f"run: {python} -m pip install sglang==0.5.23" in found


def test_an_interpreter_that_does_not_run_is_one_line(tmp_path, capsys):
    program(tmp_path / ".sglang/bin/sglang-python", "echo libcuda.so.1 is missing >&2; exit 127")
    found = line(told(capsys), "sglang:")
    assert "does not run: libcuda.so.1 is missing" in found and launch.INSTALL_CPU in found
