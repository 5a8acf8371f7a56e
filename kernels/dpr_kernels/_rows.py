"""What the elementwise and row kernels share: a tensor seen as rows, and gradients that may be overwritten."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

KERNEL_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def as_rows(x: Tensor) -> Tensor:
    """x (..., H) as (rows, H) with neighbouring columns: a view where the strides allow it, else a copy. H > 0."""
    rows = x.reshape(-1, x.shape[-1])
    return rows if rows.stride(1) == 1 or rows.shape[1] == 1 else rows.contiguous()


def check_kernel_dtypes(op: str, *tensors: Tensor) -> None:
    """Raises ValueError for a dtype that the Triton kernels do not compute in (the reference takes any)."""
    for x in tensors:
        if x.dtype not in KERNEL_DTYPES:
            raise ValueError(f"{op}: impl 'triton' takes float32, bfloat16 or float16, got {x.dtype}")


def on(x: Tensor) -> AbstractContextManager[Any]:
    """Triton launches on the current GPU: make that x's. Nothing on a CPU."""
    return torch.cuda.device_of(x)


class _PrivateGrad(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad.clone()


def private_grad(x: Tensor) -> Tensor:
    """x, whose gradient is copied on its way back: for libraries whose backward overwrites the gradient they are given.

    Autograd may hand the same gradient tensor to several consumers, and a user may hold it.
    """
    return _PrivateGrad.apply(x)
