"""What the elementwise and row kernels share: a tensor seen as rows, and gradients that may be overwritten."""

from __future__ import annotations

import sys
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


def check_devices(op: str, **tensors: Tensor | None) -> None:
    """Raises ValueError where one of `tensors` lies on another device than the first, and for a DTensor among them.

    A kernel would read foreign memory: an illegal access, or silent traffic between GPUs. Of a DTensor it would take
    the rank's shard for the whole.
    """
    given = {name: x for name, x in tensors.items() if x is not None}
    sharding = sys.modules.get("torch.distributed.tensor")  # where nobody loaded it there is none
    first = next(iter(given))
    for name, x in given.items():
        if sharding is not None and isinstance(x, sharding.DTensor):
            raise ValueError(
                f"{op}: {name} is a DTensor; call {op} where the parameters are gathered, inside the forward of the "
                "module that fully_shard wraps"
            )
        if x.device != given[first].device:
            raise ValueError(f"{op}: {name} is on {x.device}, {first} on {given[first].device}")


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
