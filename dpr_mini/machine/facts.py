"""What a manifest says about the machine and the software that made it. Nothing here enters a key."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from dpr_mini.machine import gpus

PACKAGES = ("dpr-mini", "torch", "transformers", "tokenizers", "openvino-genai", "math-verify", "reasoning-gym", "peft")


def facts() -> dict[str, Any]:
    """Versions, commit, machine and the peak memory of this process so far (GiB)."""
    return {**_fixed(), "peak_rss_gib": round(peak_rss_gib(), 3)}


def peak_rss_gib() -> float:
    """Peak memory of this process so far, GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # KiB on Linux


@cache
def _fixed() -> dict[str, Any]:
    return {
        "versions": {"python": platform.python_version(), **installed(PACKAGES)},
        "commit": commit(),
        "machine": {"cpu": cpu(), "cores": len(os.sched_getaffinity(0)), "gpu": gpu(), "system": platform.system()},
    }


def installed(names: tuple[str, ...]) -> dict[str, str]:
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def commit() -> str:
    """The checkout's commit, with "+" where files differ from it; "" outside a checkout."""

    def git(*args: str) -> str:
        here = Path(__file__).parent
        done = subprocess.run(["git", *args], cwd=here, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except FileNotFoundError:  # no git here
        return ""


def cpu() -> str:
    info = Path("/proc/cpuinfo")
    names = [x for x in info.read_text().splitlines() if x.startswith("model name")] if info.exists() else []
    return names[0].partition(":")[2].strip() if names else platform.processor()


def gpu() -> str:
    """The name of the GPU that this machine's work is done on; "" without one."""
    return card.name if (card := gpus.first()) else ""


def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 itself; without it bf16 autocast is slower than float32."""
    info = Path("/proc/cpuinfo")
    flags = info.read_text().split("flags", 1)[-1].split("\n", 1)[0].split() if info.exists() else []
    return "avx512_bf16" in flags or "amx_bf16" in flags
