"""Triton where it is installed; without it the kernels' modules still import, and a launch says what is missing."""

from __future__ import annotations

from typing import Any

import torch

try:
    import triton
    import triton.language as tl
except ImportError as error:
    # CPU-only torch brings no triton. Only its absence is let pass: a broken install must show.
    if error.name != "triton":
        raise
    triton = tl = None  # type: ignore[assignment]

# TRITON_INTERPRET as triton.jit reads it when a kernel is defined: "true" and "on" count too
INTERPRETED = triton is not None and bool(triton.knobs.runtime.interpret)


def at_most(registers: int) -> dict[str, int]:
    """A launch's option that holds a kernel to so many registers a thread; ptxas has it, other GPUs' compilers none."""
    return {} if torch.version.hip else {"maxnreg": registers}


if triton is not None:
    jit = triton.jit
    constexpr: Any = tl.constexpr
else:
    constexpr = int

    def jit(fn: Any = None, **options: Any) -> Any:
        """Leaves the function as it is: backends.pick() never hands work to Triton where it is missing."""
        return fn if fn is not None else lambda fn: fn
