"""What a GPU recipe needs besides the card: compilers, headers, packages. One line for each that is missing, with the
command that brings it. `run` asks before anything is spent, `doctor` prints the same lines. Loads none of the packages.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from dpr_mini.machine import gpus
from dpr_mini.recipe import NeedsConfig, Recipe, TrainConfig

USUAL_CUDA = Path("/usr/local/cuda")  # where NVIDIA's installers put the toolkit
TOOLKIT = (
    "tools/install_sglang.sh brings one into SGLang's environment; or apt-get install cuda-toolkit from NVIDIA's "
    "repository, or set CUDA_HOME"
)
TRACKERS = ("tensorboard", "trackio", "wandb")
# package -> what a recipe uses it for, and what brings it
PACKAGES = {
    "triton": ("our kernels", "pip install triton"),
    "peft": ("train.mode lora and qlora", "pip install 'dpr-mini[lora]'"),
    "bitsandbytes": ("train.mode qlora, train.optimiser adamw8bit", "pip install 'dpr-mini[qlora]'"),
    "accelerate": ("train.mode qlora", "pip install 'dpr-mini[qlora]'"),
    "liger-kernel": ("train.backend liger", "pip install liger-kernel"),
    "pyarrow": ("problems from parquet files", "pip install 'dpr-mini[data]'"),
    "datasets": ("problems from the Hugging Face hub", "pip install 'dpr-mini[data]'"),
    "flash-attn": ("train.attention flash_attn; auto takes torch's own", "pip install flash-attn --no-build-isolation"),
}


def version(package: str) -> str | None:
    """The installed version; None without the package."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def find_nvcc() -> Path | None:
    """The CUDA compiler where torch and SGLang look: CUDA_HOME or CUDA_PATH alone if given, PATH, the usual place."""
    for name in ("CUDA_HOME", "CUDA_PATH"):
        if home := os.environ.get(name):
            return _program(Path(home) / "bin/nvcc")
    path = shutil.which("nvcc")
    return Path(path) if path else _program(USUAL_CUDA / "bin/nvcc")


def cuda_compiler(home: Path | None = None) -> str:
    """Why SGLang cannot compile its own kernels; "" where it can. It does so at first use, with no fallback.

    home: a toolkit that its own environment has.
    """
    if find_nvcc() is None and home is None:
        setting = next(
            (f"{n}={os.environ[n]} has no bin/nvcc; " for n in ("CUDA_HOME", "CUDA_PATH") if n in os.environ), ""
        )
        return f"nvcc is missing: SGLang compiles its rotary kernel at first use; {setting}{TOOLKIT}"
    if shutil.which((os.environ.get("CXX", "").split() or ["g++"])[0]) is None:  # the build takes CXX="ccache g++", too
        return "g++ is missing: nvcc, with which SGLang compiles its rotary kernel, needs it; apt-get install g++"
    return ""


def c_compiler() -> str:
    """Why Triton cannot compile the launcher of its first kernel for want of a compiler; "" where it can."""
    named = os.environ.get("CC")
    if any(shutil.which(name) for name in ([named] if named else ("gcc", "clang"))):
        return ""
    missing = f"CC={named} is no program" if named else "gcc is missing"
    return f"{missing}: Triton compiles a launcher at its first kernel; apt-get install gcc"


def python_headers() -> str:
    """Why Triton cannot compile that launcher for want of Python's headers; "" where they are there."""
    if (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        return ""
    package = f"python{sys.version_info.major}.{sys.version_info.minor}-dev"
    return f"Python.h is missing: Triton compiles a launcher at its first kernel; apt-get install {package}"


def package(name: str) -> str:
    """Why a package of PACKAGES or a tracker cannot be used; "" where it is installed."""
    if version(name):
        return ""
    use, fix = PACKAGES.get(name, (f"train.report_to {name}", f"pip install {name}"))
    return f"{name} is missing ({use}); {fix}"


def unsloth(python: str | None) -> str:
    """Why the interpreter that `train.python` names cannot train with Unsloth; "" where it has the package."""
    fix = "python3 -m venv .unsloth && .unsloth/bin/pip install unsloth, then train.python=.unsloth/bin/python"
    if not python:
        return f"unsloth is missing: train.python names no interpreter; {fix}"
    if not (interpreter := shutil.which(python)):
        return f"unsloth is missing: train.python: there is no {python}; {fix}"
    code = "import importlib.metadata as m; m.version('unsloth')"
    try:
        done = subprocess.run([interpreter, "-I", "-c", code], capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"unsloth is missing: {python} does not run ({error}); {fix}"
    return "" if done.returncode == 0 else f"unsloth is missing from {python}; {python} -m pip install unsloth"


def missing(recipe: Recipe, *, training: bool, problems: bool) -> list[str]:
    """A line for each thing that this recipe's stages want on a GPU and that is not here.

    training: some of them train. problems: the problems have still to be read. What SGLang
    wants is for engines/sglang/fleet.py to ask.
    """
    lines = []
    if training:
        lines += [c_compiler(), python_headers()]
        for phase, section in ((1, recipe.train), (2, recipe.train_2)):
            if phase in recipe.phases:
                lines += [package(name) for name in _packages(section)]
                lines += [unsloth(section.python)] if section.backend == "unsloth" else []
    sources = [*recipe.problems.train, *(s for group in recipe.problems.never_trained_on.values() for s in group)]
    if problems and any(source.hub for source in sources):
        lines.append(package("datasets"))
    return list(dict.fromkeys(line for line in lines if line))


def _packages(section: TrainConfig) -> Iterator[str]:
    """Packages of our own environment that a training section uses; Unsloth's has its own."""
    if section.report_to != "none":
        yield section.report_to
    if section.backend == "unsloth":
        return
    yield "triton"
    if section.attention == "flash_attn":
        yield "flash-attn"
    if section.mode != "full":
        yield "peft"
    if section.mode == "qlora" or section.optimiser == "adamw8bit":
        yield "bitsandbytes"
    if section.mode == "qlora":
        yield "accelerate"
    if section.backend == "liger":
        yield "liger-kernel"


def _program(path: Path) -> Path | None:
    return path if path.is_file() and os.access(path, os.X_OK) else None


def missing_for(needs: NeedsConfig, planned_gib: float | None) -> str:
    """What a recipe needs and this machine (or the planned card) has not; "" where nothing is lacking."""
    if not needs.gpu_gib:
        return ""
    message = f"needs a GPU with {needs.gpu_gib:.0f} GiB of memory"
    if planned_gib is not None:
        return "" if planned_gib >= needs.gpu_gib else f"{message}; this is {planned_gib:.0f} GiB"
    if (card := gpus.first()) is None:
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
        return f"{message}; here there is no NVIDIA GPU" + (f" (CUDA_VISIBLE_DEVICES={hidden!r})" if hidden else "")
    if card.total is None or card.total >= needs.gpu_gib:
        return ""
    return f"{message}; here there is {card.total:.0f} GiB ({card.name})"
