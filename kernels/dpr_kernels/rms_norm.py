"""RMSNorm (Zhang and Sennrich 2019, arXiv 1910.07467), alone and fused with the residual addition before it.

    n = x / sqrt(mean(x^2) + eps)        y = (offset + w) * n
    dx = (g - n * mean(g * n)) / sqrt(mean(x^2) + eps)  with g = dy * (offset + w)        dw = sum over rows of dy * n

Casts are those of transformers' LlamaRMSNorm (Qwen2 and Qwen3 have the same): n is made in float32, rounded to x's
dtype, then multiplied by the weight, so a float32 weight on bfloat16 rows gives float32. Backward stays in float32.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from dpr_kernels import reference
from dpr_kernels._rows import as_rows, check_devices, check_kernel_dtypes, on
from dpr_kernels._triton import INTERPRETED, at_most, constexpr, jit, tl, triton
from dpr_kernels.backends import as_custom_operator, pick, warn_once

LONGEST_ROW = 8192  # a program holds a whole row in registers; the backward of a longer one spills them


def rms_norm(x: Tensor, weight: Tensor, eps: float = 1e-6, *, offset: float = 0.0, impl: str = "auto") -> Tensor:
    """Rows of x divided by their root mean square, times `offset + weight` (offset 1.0 is Gemma's convention).

    x (..., H) floating and of any strides (copied where rows cannot be reached by one stride); weight (H,) floating.
    Returns (..., H) contiguous, in the dtype that x and weight promote to. dX comes in x's dtype, dW in weight's: it is
    summed in float32 by a fixed number of programs, so it is the same from run to run.
    impl: triton, reference; liger; torch (F.rms_norm, which does not round before the weight). Raises ValueError for
    shapes, dtypes or devices that do not fit, for a sharded weight (a DTensor), and with triton for rows above 8192,
    which a program's registers do not hold (Llama 3.1 405B has 16,384; no model for one GPU has them). There auto is
    the reference, with a warning.
    """
    _check("rms_norm", x, weight)
    if as_custom_operator(impl):
        return torch.ops.dpr_kernels.rms_norm(x, weight, eps, offset, impl)[0]
    check_devices("rms_norm", x=x, weight=weight)
    chosen = chosen_for("rms_norm", impl, x)
    if chosen == "reference":
        return reference.rms_norm(x, weight, eps, offset=offset)
    if chosen == "triton":
        return _RMSNorm.apply(x, None, weight, float(eps), float(offset))[0]
    if chosen == "torch":
        out = torch.promote_types(x.dtype, weight.dtype)
        return F.rms_norm(x.to(out), weight.shape, offset + weight.to(out), eps)
    return _liger(x, weight, eps, offset)


def add_rms_norm(
    x: Tensor, residual: Tensor, weight: Tensor, eps: float = 1e-6, *, offset: float = 0.0, impl: str = "auto"
) -> tuple[Tensor, Tensor]:
    """(rms_norm(x + residual), x + residual) in one pass; gradients arriving on both outputs are summed in one pass.

    x and residual (..., H) of one shape and dtype, weight (H,). The sum is rounded to x's dtype before it is
    normalised, as a model that stores it does; it is written to a new tensor. Dtypes, strides and errors as in
    rms_norm. impl: triton, reference, liger.
    """
    _check("add_rms_norm", x, weight)
    if residual.shape != x.shape or residual.dtype != x.dtype:
        got = f"{(*x.shape,)} {x.dtype} and {(*residual.shape,)} {residual.dtype}"
        raise ValueError(f"add_rms_norm: x and residual must have one shape and dtype, got {got}")
    if as_custom_operator(impl):
        return torch.ops.dpr_kernels.add_rms_norm(x, residual, weight, eps, offset, impl)[:2]
    check_devices("add_rms_norm", x=x, residual=residual, weight=weight)
    chosen = chosen_for("add_rms_norm", impl, x)
    if chosen == "reference":
        return reference.add_rms_norm(x, residual, weight, eps, offset=offset)
    if chosen == "triton":
        return _RMSNorm.apply(x, residual, weight, float(eps), float(offset))
    return _liger_add(x, residual, weight, eps, offset)


def chosen_for(op: str, impl: str, x: Tensor) -> str:
    """`backends.pick`, but that rows which the kernels do not hold leave auto with the reference, said once."""
    chosen = pick(op, impl, x.device)
    if impl == "auto" and chosen == "triton" and x.shape[-1] > LONGEST_ROW:
        warn_once(f"{op}: impl 'auto' is the reference for rows of {x.shape[-1]}, above {LONGEST_ROW}")
        return "reference"
    return chosen


def _check(op: str, x: Tensor, weight: Tensor) -> None:
    if x.ndim < 1 or weight.ndim != 1 or weight.shape[0] != x.shape[-1] or not x.shape[-1]:
        raise ValueError(f"{op}: x (..., H) and weight (H,), H > 0: got {(*x.shape,)} and {(*weight.shape,)}")
    if not x.is_floating_point() or not weight.is_floating_point():
        raise ValueError(f"{op}: x and weight must be floating, got {x.dtype} and {weight.dtype}")


# --- Triton -----------------------------------------------------------------------------------------------------------


@jit(do_not_specialize=("n_rows",))  # lengths vary from step to step, and nothing is gained by what divides them
def _forward(
    x_ptr,
    residual_ptr,
    w_ptr,
    y_ptr,
    sum_ptr,
    rstd_ptr,
    n_rows,
    x_stride,
    residual_stride,
    H: constexpr,
    EPS: constexpr,
    OFFSET: constexpr,
    ADD: constexpr,
    BLOCK_R: constexpr,
    BLOCK_H: constexpr,
):
    rows = tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R).to(tl.int64)
    cols = tl.arange(0, BLOCK_H)[None, :]
    live = (rows < n_rows)[:, None] & (cols < H)
    at = rows[:, None]
    x = tl.load(x_ptr + at * x_stride + cols, mask=live, other=0.0)
    if ADD:
        residual = tl.load(residual_ptr + at * residual_stride + cols, mask=live, other=0.0)
        x = (x.to(tl.float32) + residual.to(tl.float32)).to(x.dtype)
        tl.store(sum_ptr + at * H + cols, x, mask=live)
    wide = x.to(tl.float32)
    rstd = tl.rsqrt(tl.sum(wide * wide, 1) / H + EPS)
    tl.store(rstd_ptr + rows, rstd, mask=rows < n_rows)
    normed = (wide * rstd[:, None]).to(x.dtype).to(tl.float32)
    w = tl.load(w_ptr + cols, mask=cols < H, other=0.0).to(tl.float32) + OFFSET
    tl.store(y_ptr + at * H + cols, (normed * w).to(y_ptr.dtype.element_ty), mask=live)


@jit(do_not_specialize=("n_rows",))
def _backward(
    dy_ptr,
    x_ptr,
    w_ptr,
    rstd_ptr,
    dsum_ptr,
    dx_ptr,
    dw_ptr,
    n_rows,
    dy_stride,
    x_stride,
    dsum_stride,
    H: constexpr,
    OFFSET: constexpr,
    ADD: constexpr,
    NEED_DW: constexpr,
    BLOCK_R: constexpr,
    BLOCK_H: constexpr,
    STAGES: constexpr,
):
    """Few programs walk over all rows: w stays in registers, loads of the next rows overlap the reductions of these,
    and each program owns one row of partial dW, so there is nothing to lock."""
    cols = tl.arange(0, BLOCK_H)[None, :]
    w = tl.load(w_ptr + cols, mask=cols < H, other=0.0).to(tl.float32) + OFFSET
    dw = tl.zeros((BLOCK_R, BLOCK_H), tl.float32)
    tiles = (n_rows - 1) // BLOCK_R + 1  # tl.cdiv adds first, and wraps just below 2^31
    for tile in tl.range(tl.program_id(0), tiles, tl.num_programs(0), num_stages=STAGES):
        rows = tile * BLOCK_R + tl.arange(0, BLOCK_R).to(tl.int64)
        live = (rows < n_rows)[:, None] & (cols < H)
        at = rows[:, None]
        dy = tl.load(dy_ptr + at * dy_stride + cols, mask=live, other=0.0).to(tl.float32)
        x = tl.load(x_ptr + at * x_stride + cols, mask=live, other=0.0).to(tl.float32)
        rstd = tl.load(rstd_ptr + rows, mask=rows < n_rows, other=0.0)[:, None]
        normed = x * rstd
        g = dy * w
        mean = tl.sum(g * normed, 1) / H
        dx = (g - normed * mean[:, None]) * rstd
        if ADD:
            dx += tl.load(dsum_ptr + at * dsum_stride + cols, mask=live, other=0.0).to(tl.float32)
        tl.store(dx_ptr + at * H + cols, dx.to(dx_ptr.dtype.element_ty), mask=live)
        if NEED_DW:
            dw += dy * normed
    if NEED_DW:
        out = dw_ptr + tl.program_id(0).to(tl.int64) * H + tl.arange(0, BLOCK_H)
        tl.store(out, tl.sum(dw, 0), mask=tl.arange(0, BLOCK_H) < H)


@jit(do_not_specialize=("n_partials",))
def _finish(partial_ptr, dw_ptr, n_partials, H: constexpr, BLOCK_P: constexpr, BLOCK_H: constexpr):
    """dW of BLOCK_H columns: the programs' partial sums, always added in the same order."""
    cols = tl.program_id(0) * BLOCK_H + tl.arange(0, BLOCK_H)[None, :]
    dw = tl.zeros((BLOCK_P, BLOCK_H), tl.float32)
    for start in tl.range(0, n_partials, BLOCK_P, num_stages=1):
        rows = start + tl.arange(0, BLOCK_P)[:, None]
        dw += tl.load(partial_ptr + rows * H + cols, mask=(rows < n_partials) & (cols < H), other=0.0)
    out = tl.program_id(0) * BLOCK_H + tl.arange(0, BLOCK_H)
    tl.store(dw_ptr + out, tl.sum(dw, 0).to(dw_ptr.dtype.element_ty), mask=out < H)


def _launch(h: int, backward: bool, values: int = 32) -> tuple[int, int, int]:
    """(BLOCK_R, BLOCK_H, warps). To be tuned on a GPU; here by count of registers.

    Forward 32 `values` a thread, so that the weight, read from L2 for each tile, is shared by 2 rows at H = 4096.
    Backward 8, 16 or 32: see _plan_backward. Short rows (heads of 64 to 256) are taken many at a time.
    """
    block_h = triton.next_power_of_2(h)
    if INTERPRETED:  # small, so that tests walk over several tiles and programs
        return max(1, 512 // block_h), block_h, 1
    tile = max(block_h, (2048 if values == 8 else 4096) if backward else 8192)
    warps = min(max(tile // (32 * values), 4), 16)
    return tile // block_h, block_h, warps


@cache
def _residency(device: torch.device, warps: int) -> tuple[int, int]:
    """(programs of the backward, bytes of shared memory for each): as many as are surely resident at once.

    That is 16 warps of 128 registers on each SM; more would queue and run at the end on a nearly idle GPU.
    """
    if device.type != "cuda":
        return 3, 0
    gpu = triton.runtime.driver.active.utils.get_device_properties(device.index)
    on_each = max(1, 16 // warps)
    # an SM has 1 KiB more than a program may have, and keeps 1 KiB of each program for itself
    return gpu["multiprocessor_count"] * on_each, (gpu["max_shared_mem"] + 1024) // on_each - 1024


def _plan_backward(dy: Tensor, dsum: Tensor | None, x: Tensor, need_dw: bool) -> tuple[int, int, int, int, int]:
    """(BLOCK_R, BLOCK_H, warps, programs, STAGES) for the rows x (n, H).

    16 values a thread; 32 where 128 registers hold them and tiles can still be fetched ahead: a row then ends in a
    barrier of half the warps. Those are rows of 16 bits without dW; many short rows a tile take more registers, so
    that those of 256 values, in float32 of 512 too, would spill: 8.
    """
    n, h = x.shape
    long = not need_dw and h > 512 and dy.element_size() == x.element_size() == 2
    plan = 0, 0, 0, 0, 0
    short = 128 < h <= (512 if x.element_size() == 4 else 256)
    for values in (32, 16) if long else (8,) if short else (16,):
        block_r, block_h, warps = _launch(h, backward=True, values=values)
        resident, shared = _residency(x.device, warps)
        tile_bytes = block_r * block_h * (dy.element_size() + x.element_size() * (1 if dsum is None else 2))
        # for the reductions; where a tile is several rows of 16 bits or these, their weight is laid out anew besides
        scratch = 8192 if short or (block_h <= 1024 and x.element_size() == 2) else 512
        # up to two tiles of each input under way besides the one in hand, where they fit
        stages = 1 + min(2, max(0, shared - scratch) // tile_bytes)
        plan = block_r, block_h, warps, min(triton.cdiv(n, block_r), resident), stages
        if stages > 1:
            break
    return plan


def _run_forward(
    x: Tensor, residual: Tensor | None, weight: Tensor, eps: float, offset: float
) -> tuple[Tensor, Tensor | None, Tensor]:
    """(y, x + residual, 1 / root mean square of each row in float32); no autograd. Without a residual the sum is None.

    x and residual (..., H), weight (H,), as the operators document them. y and the sum are new and contiguous.
    """
    add = residual is not None
    op = "add_rms_norm" if add else "rms_norm"
    check_kernel_dtypes(op, x, weight)
    h = x.shape[-1]
    if h > LONGEST_ROW:
        raise ValueError(f"{op}: impl 'triton' takes rows up to {LONGEST_ROW}, got {h}; impl 'reference' takes any")
    rows, weight = as_rows(x), weight.contiguous()
    addend = as_rows(residual) if add else rows
    y = torch.empty(x.shape, dtype=torch.promote_types(x.dtype, weight.dtype), device=x.device)
    total = torch.empty(x.shape, dtype=x.dtype, device=x.device) if add else None
    rstd = torch.empty(len(rows), dtype=torch.float32, device=x.device)
    if len(rows):
        block_r, block_h, warps = _launch(h, backward=False)
        # ptxas may go down to 64 registers and spill for it (Triton 3.6, sm_89, 8192 values of float32)
        limit = at_most(128) if block_h >= 8192 and x.element_size() == 4 else {}
        with on(x):
            _forward[(triton.cdiv(len(rows), block_r),)](
                rows, addend, weight, y, total if add else y, rstd, len(rows), rows.stride(0), addend.stride(0),
                H=h, EPS=eps, OFFSET=offset, ADD=add, BLOCK_R=block_r, BLOCK_H=block_h, num_warps=warps, **limit,
            )  # fmt: skip
    return y, total, rstd


def _run_backward(
    dy: Tensor, dsum: Tensor | None, x: Tensor, weight: Tensor, rstd: Tensor, offset: float, need_dw: bool
) -> tuple[Tensor, Tensor | None]:
    """(dx, dw in weight's dtype, None unless need_dw); no autograd.

    x is what was normalised: the sum, for add_rms_norm. dsum is the gradient that arrived on the sum itself.
    """
    shape, x, dy, weight = x.shape, as_rows(x), as_rows(dy), weight.contiguous()
    extra = dy if dsum is None else as_rows(dsum)
    h = x.shape[1]
    block_r, block_h, warps, programs, stages = _plan_backward(dy, dsum, x, need_dw)
    dx = torch.empty(shape, dtype=x.dtype, device=x.device)
    partial = torch.empty((programs, h) if need_dw else 0, dtype=torch.float32, device=x.device)
    if len(x):
        with on(x):
            _backward[(programs,)](
                dy, x, weight, rstd, extra, dx, partial, len(x), dy.stride(0), x.stride(0), extra.stride(0),
                H=h, OFFSET=offset, ADD=dsum is not None, NEED_DW=need_dw,
                BLOCK_R=block_r, BLOCK_H=block_h, STAGES=stages, num_warps=warps,
                **at_most(128),  # what _residency counts on; left to itself ptxas may go down to 64 and spill for it
            )  # fmt: skip
    dw = torch.empty_like(weight) if need_dw else None
    if need_dw:  # 128 bytes of a partial sum a program: a line each, and 128 programs at H 4096
        block_p, warps = (2, 1) if INTERPRETED else (128, 8)
        with on(x):
            _finish[(triton.cdiv(h, 32),)](partial, dw, programs, H=h, BLOCK_P=block_p, BLOCK_H=32, num_warps=warps)
    return dx, dw


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, residual: Tensor | None, weight: Tensor, eps: float, offset: float
    ) -> tuple[Tensor, Tensor | None]:
        y, total, rstd = _run_forward(x, residual, weight, eps, offset)
        # x itself, also where its rows were copied: autograd then says it clearly if somebody writes over x
        ctx.save_for_backward(x if total is None else total, weight, rstd)
        ctx.add, ctx.offset = residual is not None, offset
        ctx.set_materialize_grads(False)
        return y, total

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, dy: Tensor | None, dsum: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        if dy is None:  # only the sum was used
            return dsum, dsum if ctx.add else None, None, None, None
        dx, dw = _run_backward(dy, dsum, *ctx.saved_tensors, ctx.offset, ctx.needs_input_grad[2])
        return dx, dx if ctx.add else None, dw, None, None


# --- Liger ------------------------------------------------------------------------------------------------------------


def _one_dtype(op: str, x: Tensor, weight: Tensor) -> None:
    if x.dtype != weight.dtype:
        raise ValueError(f"{op}: impl 'liger' needs x and weight in one dtype, got {x.dtype} and {weight.dtype}")


def _liger(x: Tensor, weight: Tensor, eps: float, offset: float) -> Tensor:
    from liger_kernel.ops import LigerRMSNormFunction

    _one_dtype("rms_norm", x, weight)
    # in_place=False: its default writes dX over the gradient that autograd handed in
    return LigerRMSNormFunction.apply(x, weight, eps, offset, "llama", False, None)


def _liger_add(x: Tensor, residual: Tensor, weight: Tensor, eps: float, offset: float) -> tuple[Tensor, Tensor]:
    from liger_kernel.ops import LigerFusedAddRMSNormFunction

    _one_dtype("add_rms_norm", x, weight)
    return LigerFusedAddRMSNormFunction.apply(x, residual, weight, eps, offset, "llama", False)
