"""What is here, what is missing, and the one command that installs it."""

from __future__ import annotations

import os
import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import psutil

from dpr_mini.machine import gpus, requirements
from dpr_mini.machine.facts import cpu, cpu_has_bf16
from dpr_mini.machine.requirements import version
from dpr_mini.models.resolve import PACKAGE, PACKAGE_VERSION, cache_dir

# package -> what it is for; the first group is what the demo needs
DEMO = {
    "torch": "training",
    "transformers": "models",
    "openvino-genai": "generation on a CPU",
    "gguf": "the embedded model and the OpenVINO engine",
    "accelerate": "reading the embedded model's GGUF",
    "reasoning-gym": "generated problems",
    "math-verify": "grading",
    "datasketch": "near duplicates",
    "scipy": "intervals of scores",
    PACKAGE: "the embedded model's weights",
}
OPTIONAL = ("datasets", "pyarrow")
# what only recipes for a GPU, or other backends than the default, use
GPU_PACKAGES = ("triton", "peft", "bitsandbytes", "liger-kernel", "flash-attn")
UNSLOTH = (".unsloth/bin/python",)  # where the Makefile builds its environment
TAKEN = 0.5  # GiB of a card that are taken by themselves
DISK_GIB = 6.0  # the demo's environment, cache and run


def examine() -> bool:
    """Print the state of this machine; True where the demo recipe can run."""
    memory, disk, card = psutil.virtual_memory(), shutil.disk_usage(Path.cwd()), gpus.first()
    print(f"cpu      {cpu()}, {len(os.sched_getaffinity(0))} cores, bf16: {'yes' if cpu_has_bf16() else 'no'}")
    print(f"memory   {memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free")
    print(f"disk     {disk.free / 2**30:.1f} GiB free here; cache in {cache_dir()}")
    for line in graphics(card):
        print(line)
    missing = [name for name in DEMO if not version(name)]
    for name, use in DEMO.items():
        print(f"{'ok' if version(name) else 'MISSING':8} {name} {version(name) or ''} ({use})")
    for name in (*OPTIONAL, *GPU_PACKAGES, *requirements.TRACKERS):
        release = version(name)
        print(
            f"{'ok':8} {name} {release} ({use_of(name)})" if release else f"{'absent':8} {requirements.package(name)}"
        )
    print(unsloth())
    for what, lack in (
        ("gcc and Python.h", requirements.c_compiler() or requirements.python_headers()),
        ("nvcc and g++", requirements.cuda_compiler()),
    ):
        print(f"{'absent' if lack else 'ok':8} {lack or f'{what} (what a GPU compiles with)'}")
    print(sglang(card is not None))
    if missing:
        print(f"fix      {fix_command(missing)}")
    if disk.free < DISK_GIB * 2**30:
        print(f"fix      free disk: the demo needs about {DISK_GIB:.0f} GiB")
    if not missing and disk.free >= DISK_GIB * 2**30:
        print("ready    dpr-mini run recipes/smollm2-cpu.yaml")
        return True
    return False


def graphics(card: gpus.Gpu | None) -> list[str]:
    """The GPU that CUDA would take, its driver, and what torch was built for."""
    if card is None:
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
        why = f"none visible with CUDA_VISIBLE_DEVICES={hidden!r}" if hidden is not None else "none"
        return [f"gpu      {why} (the CPU recipes need none)"]
    others = len(gpus.visible()) - 1
    lines = [f"gpu      {card.words()}, driver {card.driver}, compute capability {card.capability}"]
    if others:
        lines.append(f"         {others} more are visible; a run uses the first (CUDA_VISIBLE_DEVICES chooses)")
    if card.taken > TAKEN:
        lines.append(f"         others hold {card.taken:.1f} GiB of it (nvidia-smi lists them)")
    cuda = cuda_of_torch()
    if version("torch") and not cuda:
        fix = "pip install --force-reinstall torch"
        lines.append(f"         torch {version('torch')} is built without CUDA, so training runs on the CPU; {fix}")
    return lines + ([f"         torch {version('torch')} is built for CUDA {cuda}"] if cuda else [])


def cuda_of_torch() -> str:
    """The CUDA release that torch was built for, without loading it; "" for a build without."""
    if (spec := find_spec("torch")) is None or not spec.origin:
        return ""
    source = (Path(spec.origin).parent / "version.py").read_text(encoding="utf-8")
    match = re.search(r"^cuda\b[^=]*= '([\d.]+)'", source, re.MULTILINE)
    return match[1] if match else ""


def use_of(name: str) -> str:
    return requirements.PACKAGES.get(name, (f"train.report_to {name}", ""))[0]


def unsloth() -> str:
    """One line on Unsloth's own environment; it is optional."""
    usual = next((p for p in UNSLOTH if Path(p).exists()), None)
    if lack := requirements.unsloth(usual):
        return f"{'absent':8} {lack}"
    return f"{'ok':8} unsloth in {usual} (train.backend unsloth)"


def sglang(gpu: bool) -> str:
    """One line on SGLang: its interpreter and versions, or the one command that installs it. It is optional."""
    from dpr_mini.engines.base import EngineError
    from dpr_mini.engines.sglang import launch

    install = launch.INSTALL if gpu else launch.INSTALL_CPU
    try:
        python = launch.find_python(None, gpu)
    except EngineError:
        return f"{'absent':8} sglang (engine.kind=sglang, the fastest on a GPU): {install}"
    try:
        have = launch.versions(python)
    except EngineError as error:
        return f"{'BROKEN':8} sglang: {error}; make it anew: {install}"
    parts = ", ".join(f"{name} {number}" for name, number in have.items() if name != "sglang")
    return f"{'ok':8} sglang {have['sglang']} ({python}: {parts})"


def fix_command(missing: list[str]) -> str:
    """One command that installs what the demo lacks."""
    parts = []
    if set(missing) - {PACKAGE}:
        parts.append("pip install 'dpr-mini[cpu]'")
    if PACKAGE in missing:
        parts.append(f"pip install --no-deps {PACKAGE}=={PACKAGE_VERSION}")
    return " && ".join(parts)
