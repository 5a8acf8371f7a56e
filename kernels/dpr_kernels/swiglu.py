"""SwiGLU's elementwise half (Shazeer 2020, arXiv 2002.05202): silu(gate) * up, the product inside a Llama or Qwen MLP.

    s = sigmoid(gate)    out = gate * s * up    dgate = dout * up * s * (1 + gate * (1 - s))    dup = dout * gate * s

Float32 inside, one rounding at the end (eager rounds silu(gate) too).
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dpr_kernels import reference
from dpr_kernels._rows import as_rows, check_devices, check_kernel_dtypes, on
from dpr_kernels._triton import INTERPRETED, constexpr, jit, tl, triton
from dpr_kernels.backends import as_custom_operator, pick


def swiglu(gate: Tensor, up: Tensor, *, reuse_inputs: bool = False, impl: str = "auto") -> Tensor:
    """silu(gate) * up, elementwise.

    gate and up (..., I), one shape and floating dtype, any strides: the halves of one fused (..., 2I) projection,
    `x.chunk(2, -1)`, are read where they lie. Returns (..., I) contiguous in their dtype.

    `reuse_inputs=True` lets the backward write dgate and dup over gate and up: 2I values a token less at the peak. It
    is a promise that nothing else reads them by then, as in an MLP where they are fresh outputs of two projections.
    Autograd is told: another node that saved them, or a second backward, raises instead of reading gradients. Plain
    code that kept a reference would see gradients, so it is off by default. It needs contiguous gate and up, of
    separate storage, that are not leaves. The reference ignores it, as does torch.compile: neither writes over inputs.

    impl: triton, reference; liger (writes over gate and up in backward, so it gets copies unless reuse_inputs).
    Raises ValueError for shapes, dtypes or reuse that do not fit.
    """
    if gate.shape != up.shape or gate.dtype != up.dtype or gate.ndim < 1 or not gate.is_floating_point():
        got = f"{(*gate.shape,)} {gate.dtype} and {(*up.shape,)} {up.dtype}"
        raise ValueError(f"swiglu: gate and up must have one shape (..., I) and one floating dtype, got {got}")
    if as_custom_operator(impl):
        return torch.ops.dpr_kernels.swiglu(gate, up, impl)
    check_devices("swiglu", gate=gate, up=up)
    chosen = pick("swiglu", impl, gate.device)
    if chosen == "reference":
        return reference.swiglu(gate, up)
    reuse = reuse_inputs and torch.is_grad_enabled() and (gate.requires_grad or up.requires_grad)
    if reuse:
        _check_reuse(gate, up)
    if chosen == "triton":
        return _SwiGLU.apply(gate, up, reuse)
    return _Liger.apply(gate, up, reuse)


def _check_reuse(gate: Tensor, up: Tensor) -> None:
    if gate.is_leaf or up.is_leaf:
        raise ValueError("swiglu: reuse_inputs would overwrite a leaf tensor; give outputs of an operation")
    if not gate.is_contiguous() or not up.is_contiguous():
        raise ValueError("swiglu: reuse_inputs needs contiguous gate and up")
    if gate.untyped_storage().data_ptr() == up.untyped_storage().data_ptr():
        raise ValueError("swiglu: reuse_inputs needs gate and up in separate storages")


# --- Triton -----------------------------------------------------------------------------------------------------------


@jit
def _forward(gate_ptr, up_ptr, out_ptr, n_cols, gate_stride, up_stride, BLOCK: constexpr):
    blocks = (n_cols - 1) // BLOCK + 1  # tl.cdiv adds first, and wraps just below 2^31
    row = (tl.program_id(0) // blocks).to(tl.int64)
    cols = (tl.program_id(0) % blocks).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = cols < n_cols
    gate = tl.load(gate_ptr + row * gate_stride + cols, mask=live, other=0.0).to(tl.float32)
    up = tl.load(up_ptr + row * up_stride + cols, mask=live, other=0.0).to(tl.float32)
    out = gate * tl.sigmoid(gate) * up
    tl.store(out_ptr + row * n_cols + cols, out.to(out_ptr.dtype.element_ty), mask=live)


@jit
def _backward(
    dout_ptr, gate_ptr, up_ptr, dgate_ptr, dup_ptr, n_cols, dout_stride, gate_stride, up_stride, BLOCK: constexpr
):
    """dgate and dup are dense; each may be gate and up themselves, since a value is read before it is written."""
    blocks = (n_cols - 1) // BLOCK + 1  # tl.cdiv adds first, and wraps just below 2^31
    row = (tl.program_id(0) // blocks).to(tl.int64)
    cols = (tl.program_id(0) % blocks).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = cols < n_cols
    dout = tl.load(dout_ptr + row * dout_stride + cols, mask=live, other=0.0).to(tl.float32)
    gate = tl.load(gate_ptr + row * gate_stride + cols, mask=live, other=0.0).to(tl.float32)
    up = tl.load(up_ptr + row * up_stride + cols, mask=live, other=0.0).to(tl.float32)
    s = tl.sigmoid(gate)
    dup = dout * gate * s
    dgate = dout * up * s * (1.0 + gate * (1.0 - s))
    tl.store(dgate_ptr + row * n_cols + cols, dgate.to(dgate_ptr.dtype.element_ty), mask=live)
    tl.store(dup_ptr + row * n_cols + cols, dup.to(dup_ptr.dtype.element_ty), mask=live)


def _launch() -> tuple[int, int]:
    """(values a program, warps): 16 values a thread, two 16-byte loads of bfloat16 from each input. To be tuned."""
    return (1024, 1) if INTERPRETED else (2048, 4)


def _grid(*tensors: Tensor) -> tuple[list[Tensor], int, int]:
    """The tensors as rows of a common width, all in one row if all are dense, so that only the end is masked."""
    if all(x.is_contiguous() for x in tensors):
        rows = [x.reshape(1, -1) for x in tensors]
    else:
        rows = [as_rows(x) for x in tensors]
    return rows, *rows[0].shape


def _run_forward(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up, new and contiguous; no autograd."""
    check_kernel_dtypes("swiglu", gate)
    out = torch.empty(gate.shape, dtype=gate.dtype, device=gate.device)
    if out.numel():
        (a, b), n_rows, n_cols = _grid(gate, up)
        block, warps = _launch()
        with on(gate):
            _forward[(n_rows * triton.cdiv(n_cols, block),)](
                a, b, out, n_cols, a.stride(0), b.stride(0), BLOCK=block, num_warps=warps
            )
    return out


def _run_backward(dout: Tensor, gate: Tensor, up: Tensor, reuse: bool) -> tuple[Tensor, Tensor]:
    """(dgate, dup), contiguous; no autograd. With `reuse` they are gate and up themselves, written over."""
    dgate, dup = gate, up
    if not reuse:
        dgate, dup = (torch.empty(gate.shape, dtype=gate.dtype, device=gate.device) for _ in range(2))
    if dout.numel():
        (d, a, b), n_rows, n_cols = _grid(dout, gate, up)
        block, warps = _launch()
        with on(gate):
            _backward[(n_rows * triton.cdiv(n_cols, block),)](
                d, a, b, dgate, dup, n_cols, d.stride(0), a.stride(0), b.stride(0), BLOCK=block, num_warps=warps
            )
    return dgate, dup


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, reuse: bool) -> Tensor:
        ctx.save_for_backward(gate, up)
        ctx.reuse = reuse
        return _run_forward(gate, up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor, Tensor, None]:
        gate, up = ctx.saved_tensors
        if ctx.reuse:
            _once(ctx, gate, up)
        dgate, dup = _run_backward(dout, gate, up, ctx.reuse)
        return *(_overwritten(gate, up) if ctx.reuse else (dgate, dup)), None


def _once(ctx: Any, gate: Tensor, up: Tensor) -> None:
    """Raises RuntimeError where gate or up is the memory that an earlier backward of this node wrote gradients over.

    Autograd says so itself, but not for tensors that came through saved-tensor hooks. Recomputed ones are other memory.
    """
    storages = [x.untyped_storage() for x in (gate, up)]
    if any(old() is new for old, new in zip(getattr(ctx, "written", ()), storages, strict=False)):
        raise RuntimeError(
            "swiglu: a second backward, but the first one wrote its gradients over gate and up; give reuse_inputs=False"
        )
    ctx.written = [weakref.ref(x) for x in storages]


def _overwritten(gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    """gate and up, which now hold gradients: their versions move, so that autograd refuses to read them as inputs."""
    for x in (gate, up):
        torch.autograd.graph.increment_version(x)
    return gate.detach(), up.detach()


# --- Liger ------------------------------------------------------------------------------------------------------------


class _Liger(torch.autograd.Function):
    """Liger's two kernels behind our promise: its own autograd node overwrites what it saved and tells nobody."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, reuse: bool) -> Tensor:
        from liger_kernel.ops.swiglu import swiglu_forward

        gate, up = gate.contiguous(), up.contiguous()
        ctx.save_for_backward(gate, up)
        ctx.reuse = reuse
        return swiglu_forward(gate, up)[2]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor, Tensor, None]:
        from liger_kernel.ops.swiglu import swiglu_backward

        gate, up = ctx.saved_tensors
        if not ctx.reuse:
            return *swiglu_backward(gate.clone(), up.clone(), dout.contiguous()), None
        _once(ctx, gate, up)
        swiglu_backward(gate, up, dout.contiguous())
        return *_overwritten(gate, up), None
