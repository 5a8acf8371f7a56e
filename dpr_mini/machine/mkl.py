"""One call of every MKL vector function from one thread, before two threads make the first one together.

MKL picks a function's kernel on its first call. Where two threads of a fresh process make that call at once, one may
get a kernel of half the digits for this call alone (pytorch/pytorch issue 188792; oneMKL 2024.2, which torch's wheels
for x86 bring). Seen here beside other work: rotary angles off by 1.5e-4 in the second half of a process's first row.
"""

from __future__ import annotations

import functools

import torch

FUNCTIONS = (  # what torch hands, or might hand, to MKL's vector library for contiguous floats
    *("acos", "asin", "atan", "cos", "cosh", "erf", "erfc", "erfinv", "exp", "exp2", "expm1", "lgamma", "log", "log10"),
    *("log1p", "log2", "rsqrt", "sin", "sinh", "sqrt", "tan", "tanh"),
)


@functools.cache
def settle() -> None:
    """Make the first calls; once a process, two milliseconds. One element never leaves the calling thread."""
    for dtype in (torch.float32, torch.float64):
        x = torch.full((1,), 0.5, dtype=dtype)
        for name in FUNCTIONS:
            getattr(torch, name)(x)
