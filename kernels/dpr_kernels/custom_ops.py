"""The operators as torch.library custom operators, `torch.ops.dpr_kernels.*`: what torch.compile sees of them.

A compiled model has no graph break at them: the compiler is told the shapes, and calls them as they are. Outside
torch.compile the operators' own autograd functions run, which take the host less time a call; both call the same
launchers and the same plain PyTorch. `impl` is chosen when the operator runs, so a graph may be made anywhere.
They are here for auto, triton and reference; other libraries' operators are traced as those libraries wrote them.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Optional

import torch
from torch import Tensor
from torch.library import custom_op

from dpr_kernels import reference, reference_backward
from dpr_kernels._rows import check_devices, check_kernel_dtypes
from dpr_kernels.attention import _reference as attend
from dpr_kernels.attention import _row as boundaries
from dpr_kernels.backends import pick
from dpr_kernels.head_chunked import compute as head_in_pytorch
from dpr_kernels.head_loss import HeadJob, HeadLoss, results
from dpr_kernels.linear_cross_entropy import _compute as head_in_triton
from dpr_kernels.linear_cross_entropy import _rescaled, check_overlap
from dpr_kernels.rms_norm import _run_backward as norm_backward
from dpr_kernels.rms_norm import _run_forward as norm_forward
from dpr_kernels.rms_norm import chosen_for
from dpr_kernels.rope import _run as rotate
from dpr_kernels.swiglu import _run_backward as swiglu_backward
from dpr_kernels.swiglu import _run_forward as swiglu_forward

# These may read a value back to the host, which a CUDA graph (mode="reduce-overhead") cannot hold.
WAITS = [tag] if (tag := getattr(torch.Tag, "cudagraph_unsafe", None)) else []


def _float(*tensors: Tensor) -> torch.dtype:
    return torch.float64 if any(x.dtype == torch.float64 for x in tensors) else torch.float32


def _like(values: Tensor, x: Tensor) -> Tensor:
    """`values` in the memory order of x, where they are not: an operator's strides must be those that its fake has."""
    out = torch.empty_like(x)
    return values if values.stride() == out.stride() else out.copy_(values)


# --- norms ------------------------------------------------------------------------------------------------------------


def _norm(
    op: str, x: Tensor, residual: Tensor | None, weight: Tensor, eps: float, offset: float, impl: str
) -> tuple[Tensor, Tensor, Tensor]:
    check_devices(op, x=x, residual=residual, weight=weight)
    if chosen_for(op, impl, x) == "triton":
        return norm_forward(x, residual, weight, eps, offset)
    total = x if residual is None else x + residual
    exact = _float(x, weight)
    rstd = torch.rsqrt(total.to(exact).pow(2).mean(-1).flatten() + eps)
    y = reference.rms_norm(total, weight, eps, offset=offset)
    return y.contiguous(), total.contiguous(), rstd


def _norm_backward(
    op: str, dy: Tensor, dsum: Tensor | None, x: Tensor, weight: Tensor, rstd: Tensor, offset: float, need_dw: bool,
    impl: str,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    if chosen_for(op, impl, x) == "triton":
        dx, dw = norm_backward(dy, dsum, x, weight, rstd, offset, need_dw)
    else:
        dx, dw = reference_backward.rms_norm(dy, dsum, x, weight, rstd, offset)
    return dx.contiguous(), dw if need_dw and dw is not None else weight.new_empty(0)


@custom_op("dpr_kernels::rms_norm", mutates_args=())
def _rms_norm(x: Tensor, weight: Tensor, eps: float, offset: float, impl: str) -> tuple[Tensor, Tensor]:
    y, _, rstd = _norm("rms_norm", x, None, weight, eps, offset, impl)
    return y, rstd


@_rms_norm.register_fake
def _(x: Tensor, weight: Tensor, eps: float, offset: float, impl: str) -> tuple[Tensor, Tensor]:
    y = x.new_empty(x.shape, dtype=torch.promote_types(x.dtype, weight.dtype))
    return y, x.new_empty(math.prod(x.shape[:-1]), dtype=_float(x, weight))


@custom_op("dpr_kernels::add_rms_norm", mutates_args=())
def _add_rms_norm(
    x: Tensor, residual: Tensor, weight: Tensor, eps: float, offset: float, impl: str
) -> tuple[Tensor, Tensor, Tensor]:
    return _norm("add_rms_norm", x, residual, weight, eps, offset, impl)


@_add_rms_norm.register_fake
def _(
    x: Tensor, residual: Tensor, weight: Tensor, eps: float, offset: float, impl: str
) -> tuple[Tensor, Tensor, Tensor]:
    y = x.new_empty(x.shape, dtype=torch.promote_types(x.dtype, weight.dtype))
    return y, x.new_empty(x.shape), x.new_empty(math.prod(x.shape[:-1]), dtype=_float(x, weight))


@custom_op("dpr_kernels::rms_norm_backward", mutates_args=())
def _rms_norm_backward(
    op: str, dy: Tensor, dsum: Optional[Tensor], x: Tensor, weight: Tensor, rstd: Tensor, offset: float,  # noqa: UP045
    need_dw: bool, impl: str,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    return _norm_backward(op, dy, dsum, x, weight, rstd, offset, need_dw, impl)


@_rms_norm_backward.register_fake
def _(
    op: str, dy: Tensor, dsum: Tensor | None, x: Tensor, weight: Tensor, rstd: Tensor, offset: float, need_dw: bool,
    impl: str,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    return x.new_empty(x.shape), weight.new_empty(weight.shape if need_dw else 0)


def _norm_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.set_materialize_grads(False)
    *tensors, _, ctx.offset, ctx.impl = inputs
    ctx.add = len(tensors) == 3
    ctx.save_for_backward(output[1] if ctx.add else tensors[0], tensors[-1], output[-1])


def _norm_gradient(ctx: Any, dy: Tensor | None, *rest: Tensor | None) -> tuple[Tensor | None, ...]:
    if dy is None:  # only the sum was used
        return rest[0] if ctx.add else None, *([rest[0]] * ctx.add), None, None, None, None
    op, need_dw = ("add_rms_norm" if ctx.add else "rms_norm"), ctx.needs_input_grad[1 + ctx.add]
    dx, dw = torch.ops.dpr_kernels.rms_norm_backward(
        op, dy, rest[0] if ctx.add else None, *ctx.saved_tensors, ctx.offset, need_dw, ctx.impl
    )
    return *([dx] * (1 + ctx.add)), dw if need_dw else None, None, None, None


_rms_norm.register_autograd(_norm_gradient, setup_context=_norm_context)
_add_rms_norm.register_autograd(_norm_gradient, setup_context=_norm_context)


# --- swiglu -----------------------------------------------------------------------------------------------------------


@custom_op("dpr_kernels::swiglu", mutates_args=())
def _swiglu(gate: Tensor, up: Tensor, impl: str) -> Tensor:
    check_devices("swiglu", gate=gate, up=up)
    if pick("swiglu", impl, gate.device) == "triton":
        return swiglu_forward(gate, up)
    return reference.swiglu(gate, up).contiguous()


@_swiglu.register_fake
def _(gate: Tensor, up: Tensor, impl: str) -> Tensor:
    return gate.new_empty(gate.shape)


@custom_op("dpr_kernels::swiglu_backward", mutates_args=())
def _swiglu_backward(dout: Tensor, gate: Tensor, up: Tensor, impl: str) -> tuple[Tensor, Tensor]:
    if pick("swiglu", impl, gate.device) == "triton":
        return swiglu_backward(dout, gate, up, False)
    dgate, dup = reference_backward.swiglu(dout, gate, up)
    return dgate.contiguous(), dup.contiguous()


@_swiglu_backward.register_fake
def _(dout: Tensor, gate: Tensor, up: Tensor, impl: str) -> tuple[Tensor, Tensor]:
    return gate.new_empty(gate.shape), up.new_empty(up.shape)


def _swiglu_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    gate, up, ctx.impl = inputs
    ctx.save_for_backward(gate, up)


def _swiglu_gradient(ctx: Any, dout: Tensor) -> tuple[Tensor, Tensor, None]:
    return *torch.ops.dpr_kernels.swiglu_backward(dout, *ctx.saved_tensors, ctx.impl), None


_swiglu.register_autograd(_swiglu_gradient, setup_context=_swiglu_context)


# --- rope -------------------------------------------------------------------------------------------------------------


@custom_op("dpr_kernels::rope", mutates_args=())
def _rope(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, backward: bool, impl: str) -> tuple[Tensor, Tensor]:
    check_devices("rope", q=q, k=k, cos=cos, sin=sin)
    if pick("rope", impl, q.device) == "triton":
        turned = rotate(q, k, cos, sin, backward)
    else:
        turned = (reference_backward.rope if backward else reference.rope)(q, k, cos, sin)
    return _like(turned[0], q), _like(turned[1], k)


@_rope.register_fake
def _(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, backward: bool, impl: str) -> tuple[Tensor, Tensor]:
    return torch.empty_like(q), torch.empty_like(k)


def _rope_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    _, _, cos, sin, ctx.backward_rotation, ctx.impl = inputs
    ctx.save_for_backward(cos, sin)


def _rope_gradient(ctx: Any, dq: Tensor, dk: Tensor) -> tuple[Tensor | None, ...]:
    turned = torch.ops.dpr_kernels.rope(dq, dk, *ctx.saved_tensors, not ctx.backward_rotation, ctx.impl)
    return *turned, *[None] * 4


_rope.register_autograd(_rope_gradient, setup_context=_rope_context)


# --- linear_cross_entropy ---------------------------------------------------------------------------------------------


@custom_op("dpr_kernels::linear_cross_entropy", mutates_args=(), tags=WAITS)
def _head(
    hidden: Tensor, weight: Tensor, targets: Tensor, normaliser: Optional[Tensor], number: float,  # noqa: UP045
    token_weights: Optional[Tensor], rows: Optional[Tensor], all_rows: bool, ignore_index: int,  # noqa: UP045
    softcap: Optional[float], label_smoothing: float, z_loss: float, chunk: Optional[int],  # noqa: UP045
    accumulate: str, logits: str, overlap: bool, matmul: torch.dtype, need_dx: bool, need_dw: bool, nll: bool,
    hit: bool, impl: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """(loss, nll, hit, dX, dW, factor that both gradients still lack); what is not wanted is empty."""
    loss = HeadLoss(ignore_index, softcap, label_smoothing, z_loss, chunk, accumulate, logits, overlap)
    norm = number if normaliser is None else normaliser
    with torch.autocast(hidden.device.type, dtype=matmul, enabled=matmul != hidden.dtype):
        job = HeadJob.of(hidden, weight, targets, norm, token_weights, "all" if all_rows else rows, loss)
        part = job.labelled()
        job = replace(job, needs=(need_dx, need_dw))  # here nothing requires a gradient, so the job could not tell
        chosen = pick("linear_cross_entropy", impl, hidden.device)
        check_overlap(overlap, chosen)
        if chosen == "triton":
            check_kernel_dtypes("linear_cross_entropy", hidden, weight)
        compute = head_in_triton if chosen == "triton" else head_in_pytorch
        total, each, right, dx, dw, factor = compute(hidden, weight, job, part, nll, hit)
    beside = list(results(total, each, right, part.rows, targets.shape)[1:]) if nll or hit else []
    each, right = (beside.pop(0) if wanted else None for wanted in (nll, hit))
    return (
        total,
        hidden.new_empty(0, dtype=total.dtype) if each is None else each,
        hidden.new_empty(0, dtype=torch.bool) if right is None else right,
        hidden.new_empty(0) if dx is None else dx,
        weight.new_empty(0, dtype=_head_sum(weight, matmul)) if dw is None else dw.to(_head_sum(weight, matmul)),
        torch.ones((), dtype=total.dtype, device=hidden.device) if factor is None else factor.to(total.dtype),
    )


def _head_sum(weight: Tensor, matmul: torch.dtype) -> torch.dtype:
    """dW's dtype between forward and backward. float16's is not divided by the normaliser yet: it stays float32."""
    return torch.float32 if matmul == torch.float16 else weight.dtype


@_head.register_fake
def _(
    hidden: Tensor, weight: Tensor, targets: Tensor, normaliser: Tensor | None, number: float,
    token_weights: Tensor | None, rows: Tensor | None, all_rows: bool, ignore_index: int, softcap: float | None,
    label_smoothing: float, z_loss: float, chunk: int | None, accumulate: str, logits: str, overlap: bool,
    matmul: torch.dtype, need_dx: bool, need_dw: bool, nll: bool, hit: bool, impl: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    exact, m = _float(hidden), targets.shape[0]  # len() would make a constant of it
    return (
        hidden.new_empty((), dtype=exact),
        hidden.new_empty(m if nll else 0, dtype=exact),
        hidden.new_empty(m if hit else 0, dtype=torch.bool),
        hidden.new_empty(hidden.shape if need_dx else 0),
        weight.new_empty(weight.shape if need_dw else 0, dtype=_head_sum(weight, matmul)),
        hidden.new_empty((), dtype=exact),
    )


def _head_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.needs, ctx.impl = inputs[17:19], inputs[-1]
    ctx.dtypes = inputs[0].dtype, inputs[1].dtype
    ctx.save_for_backward(*output[3:])
    ctx.mark_non_differentiable(*output[1:])


def _head_gradient(ctx: Any, dloss: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    *grads, factor = ctx.saved_tensors
    by, scale = dloss * factor, torch.ops.dpr_kernels.scaled
    scaled = [
        scale(x, by, t, ctx.impl) if need else None for x, t, need in zip(grads, ctx.dtypes, ctx.needs, strict=True)
    ]
    return *scaled, *[None] * 20


@custom_op("dpr_kernels::scaled", mutates_args=())
def _scaled(x: Tensor, by: Tensor, dtype: torch.dtype, impl: str) -> Tensor:
    """x * by in float32, rounded once. A CUDA tensor of bfloat16 times one of () float32 would round `by` first."""
    if pick("linear_cross_entropy", impl, x.device) == "triton":
        return _rescaled(x.clone() if x.dtype == dtype else x, by.float(), dtype)
    return (x.to(by.dtype) * by).to(dtype)


@_scaled.register_fake
def _(x: Tensor, by: Tensor, dtype: torch.dtype, impl: str) -> Tensor:
    return torch.empty_like(x, dtype=dtype)


_head.register_autograd(_head_gradient, setup_context=_head_context)


# --- attention --------------------------------------------------------------------------------------------------------


@custom_op("dpr_kernels::varlen_attention", mutates_args=(), tags=WAITS)
def _attention(
    q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, scale: float, window: Optional[int],  # noqa: UP045
    max_length: Optional[int],  # noqa: UP045
) -> Tensor:  # fmt: skip
    """The reference alone: torch's kernels are custom operators already."""
    row = boundaries(cu_seqlens, q.shape[0], max_length, on_host=True)
    return attend(q, k, v, row.lengths, scale, window).contiguous()


@_attention.register_fake
def _(
    q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, scale: float, window: int | None, max_length: int | None
) -> Tensor:
    return q.new_empty(q.shape)


@custom_op("dpr_kernels::varlen_attention_backward", mutates_args=(), tags=WAITS)
def _attention_backward(
    dout: Tensor, q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, scale: float,
    window: Optional[int],  # noqa: UP045
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    row = boundaries(cu_seqlens, q.shape[0], None, on_host=True)
    grads = reference_backward.varlen_attention(dout, q, k, v, row.lengths or [], scale, window)
    return tuple(x.contiguous() for x in grads)  # type: ignore[return-value]


@_attention_backward.register_fake
def _(
    dout: Tensor, q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, scale: float, window: int | None
) -> tuple[Tensor, Tensor, Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _attention_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.scale, ctx.window, _ = inputs
    ctx.save_for_backward(*tensors)


def _attention_gradient(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
    grads = torch.ops.dpr_kernels.varlen_attention_backward(dout, *ctx.saved_tensors, ctx.scale, ctx.window)
    return *grads, *[None] * 4


_attention.register_autograd(_attention_gradient, setup_context=_attention_context)
