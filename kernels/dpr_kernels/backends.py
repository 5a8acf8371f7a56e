"""Which implementation of an operator runs: named by the caller, or chosen by `auto` and never changed in silence.

`OPS` lists the operators that have Triton kernels. varlen_attention has none: its choice depends on dtype and head
width too, and stands in `attention.pick` and `attention.why_not`.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from shutil import which

import torch
import torch.nn.functional as F

from dpr_kernels._triton import INTERPRETED, triton

IMPLS = ("auto", "reference", "triton", "liger", "cce", "torch")
# operator -> its implementations; `auto` is Triton on a GPU and the reference elsewhere
OPS: Mapping[str, tuple[str, ...]] = {
    "linear_cross_entropy": ("reference", "triton", "liger", "cce", "torch"),
    "rms_norm": ("reference", "triton", "liger", "torch"),
    "add_rms_norm": ("reference", "triton", "liger"),
    "swiglu": ("reference", "triton", "liger"),
    "rope": ("reference", "triton", "liger"),
}
PACKAGES = {"liger": "liger-kernel", "cce": "cut-cross-entropy"}
MODULES = {"liger": "liger_kernel", "cce": "cut_cross_entropy"}
# On a GPU the interpreter works on copies in host memory: the result is right, slow, and no proof of the kernel.
ON_COPIES = "TRITON_INTERPRET is set, so Triton's kernels would run in its interpreter, not on the GPU: unset it"


def as_custom_operator(impl: str) -> bool:
    """Whether an operator is to be called as torch.ops.dpr_kernels.*: torch.compile is at work, and it exists so."""
    return torch.compiler.is_compiling() and impl in ("auto", "reference", "triton")


def pick(op: str, impl: str, device: torch.device) -> str:
    """The implementation of `op` to run on `device`: `impl` itself, or what `auto` stands for.

    Raises ValueError for one that the operator does not have, RuntimeError for one that cannot run here, saying why.
    `auto` is the reference, with a warning, on a GPU without Triton; with the interpreter on it is an error there.
    """
    if impl == "auto":
        if device.type != "cuda":
            return "reference"
        if INTERPRETED:  # a variable left set, nothing that is missing: no reason to train on the slow path
            raise RuntimeError(f"{op}: impl 'auto' cannot run here: {ON_COPIES}")
        if reason := why_not("triton", device, op):
            warn_once(f"{op}: impl 'auto' is the reference on this GPU: {reason}")
        return "reference" if reason else "triton"
    if impl not in OPS[op]:
        raise ValueError(f"{op} has no impl {impl!r}; it has auto, {', '.join(OPS[op])}")
    if reason := why_not(impl, device, op):
        raise RuntimeError(f"{op}: impl {impl!r} cannot run here: {reason}")
    return impl


@cache
def warn_once(message: str) -> None:
    warnings.warn(message, stacklevel=4)


@cache
def why_not(impl: str, device: torch.device, op: str = "") -> str:
    """Why `impl` of `op` cannot run on `device`; "" where it can."""
    if impl == "reference":
        return ""
    if impl == "torch":
        missing = op == "linear_cross_entropy" and not hasattr(F, "linear_cross_entropy")
        return f"torch {torch.__version__} has no F.linear_cross_entropy (2.13 has)" if missing else ""
    if triton is None:
        return "triton is not installed (pip install triton)"
    gpu, interpreted = device.type == "cuda", device.type == "cpu" and INTERPRETED
    if gpu and INTERPRETED:  # the libraries' kernels are Triton's too
        return ON_COPIES
    if impl == "triton":
        return "" if gpu or interpreted else "needs a GPU, or TRITON_INTERPRET=1 set before import"
    if find_spec(MODULES[impl]) is None:
        return f"{PACKAGES[impl]} is not installed (pip install {PACKAGES[impl]})"
    if gpu or ((impl, op) == ("liger", "linear_cross_entropy") and interpreted):
        return ""
    if (impl, op) == ("cce", "linear_cross_entropy") and device.type == "cpu":  # its torch.compile twin
        compiler = any(map(which, (os.environ.get("CXX", "g++"), "g++", "clang++")))
        return "" if compiler else f"{PACKAGES[impl]} compiles C++ on a CPU and finds no compiler"
    return f"{PACKAGES[impl]} needs a GPU"


def available(device: torch.device | str | None = None) -> dict[str, dict[str, str]]:
    """operator -> implementation -> "" if it can run on `device` (default: the GPU if there is one), else why not."""
    at = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return {op: {impl: why_not(impl, at, op) for impl in impls} for op, impls in OPS.items()}


def versions() -> dict[str, str]:
    """Installed version of every library behind an implementation, for result files; torch's with its build ("+cu130"),
    which PyPI's metadata leave out."""
    names = ["triton", *PACKAGES.values()]
    installed = {d.metadata["Name"].lower().replace("_", "-"): d.version for d in metadata.distributions()}
    return {"torch": str(torch.__version__)} | {name: installed[name] for name in names if name in installed}
