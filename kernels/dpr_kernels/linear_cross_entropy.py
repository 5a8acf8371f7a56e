"""Cross-entropy of a linear head without the (M, V) logits: chunks of rows, cuBLAS matmuls, one Triton kernel between.

For a chunk of rows: logits = x W^T into one reused buffer; a program a row reads it twice (log-sum-exp, then gradient,
written over the logits); dX = G W; dW += G^T X in float32. So 6MHV FLOP with a trained head, 4MHV with a frozen one,
2MHV without gradients, and 3 passes over each logit. Backward only scales. See `_rows_at_once` for the memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dpr_kernels import head_chunked, head_libraries
from dpr_kernels._rows import check_kernel_dtypes
from dpr_kernels._triton import constexpr, jit, tl
from dpr_kernels.backends import pick
from dpr_kernels.head_loss import HeadJob, HeadLoss, Labelled, results


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    normaliser: float | Tensor,
    token_weights: Tensor | None = None,
    ignore_index: int = -100,
    softcap: float | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    rows: Tensor | Literal["all"] | None = None,
    chunk: int | None = None,
    accumulate: Literal["float32", "weight"] = "float32",
    logits: Literal["matmul", "float32"] = "matmul",
    return_nll: bool = False,
    return_accuracy: bool = False,
    impl: str = "auto",
) -> Tensor | tuple[Tensor, ...]:
    """Cross-entropy of `hidden @ weight.T` against `targets`, without holding all logits at once.

    hidden (M, H) and weight (V, H) floating (Triton: float32, bfloat16, float16), targets (M,) int64, token_weights
    (M,) floating. Returns the float32 scalar (float64 for float64 inputs, which the reference takes)

        sum_i token_weights_i * l_i / normaliser,   l_i = lse - (1 - e) s_y - e mean(s) + z_loss * lse^2

    with s = softcap * tanh(logits / softcap), or the logits; lse = logsumexp(s); e = label_smoothing (arXiv
    1512.00567, uniform over V); the z-loss of arXiv 2204.02311. It is 0 with zero gradients where no row is labelled.
    `normaliser` (a number, or a tensor of one) and token_weights get no gradient: give the number of trained tokens
    of the *whole* accumulated step, and summing over micro-batches is the token mean.

    With `return_nll` also the nll lse - s_y of each row, (M,) detached, without weight and extras; with
    `return_accuracy` then (M,) bool: the target is the largest logit (of equal ones the first). Both are 0 at ignored
    rows. A tuple in this order.

    Rows whose target is `ignore_index` or whose weight is 0 take no part, whatever they hold. `rows` says where the
    others are: None looks with one nonzero(), a host synchronisation; a (K,) int64 tensor, rising and without
    doubles, names rows that the host knows, and no other is computed; "all" computes every row. With the latter two
    nothing is synchronised, and rows that do not count are masked.

    `chunk` rows of logits live at a time (None: chosen, see `_rows_at_once`). Matmuls run in autocast's dtype where
    autocast is on, else in hidden's, and so do the logits, as in an eager model; logits="float32" keeps them in
    float32 for 3 times the buffer (2 without gradients). dW is summed over chunks in float32, or with
    accumulate="weight" in the weight's dtype (never in float16); a frozen head gets none.
    The Triton backward scales its gradients in place: a second backward through one forward raises RuntimeError.

    Raises ValueError for shapes, dtypes or options that do not fit, and on a CPU for a target outside [0, V). On a
    GPU nobody waits for the answer: such a row makes the loss and the gradients NaN. RuntimeError where `impl`
    cannot run. impl: auto, reference, triton; liger, cce (cut-cross-entropy), torch (2.13's): each of these
    raises ValueError for an option it does not have, and is called as it is: what is said above of ignored rows,
    host synchronisation and targets outside [0, V) holds for the first three.
    """
    loss = HeadLoss(ignore_index, softcap, label_smoothing, z_loss, chunk, accumulate, logits)
    job = HeadJob.of(hidden, weight, targets, normaliser, token_weights, rows, loss)
    return LOSSES[pick("linear_cross_entropy", impl, hidden.device)](job, return_nll, return_accuracy)


def _run(job: HeadJob, return_nll: bool, return_accuracy: bool) -> Tensor | tuple[Tensor, ...]:
    check_kernel_dtypes("linear_cross_entropy", job.hidden, job.weight)
    part = job.labelled()
    total, nll, hit = _LinearCrossEntropy.apply(job.hidden, job.weight, job, part, return_nll, return_accuracy)
    return results(total, nll, hit, part.rows, job.targets.shape)


# implementation -> the loss of a job; the flags are return_nll and return_accuracy
LOSSES: Mapping[str, Callable[[HeadJob, bool, bool], Tensor | tuple[Tensor, ...]]] = {
    "reference": head_chunked.run,
    "triton": _run,
    **{impl: partial(head_libraries.run, impl) for impl in head_libraries.LACKS},
}


def _rows_at_once(rows: int, vocab: int, width: int, logit_bytes: int, trained: bool, direct: bool) -> int:
    """How many rows of logits to hold: enough to keep the matmuls busy, no more than is in memory anyway.

    A sum of dW costs 8VH bytes of traffic a chunk, so a trained head gets 1 GiB of logits (4096 rows of 128k bfloat16,
    no larger than the bfloat16 dW that is made from the float32 sum in the end); otherwise 256 MiB. `direct`: one
    chunk needs no float32 sum, and is taken where it needs no more memory than the sum would (rows <= 2H or so).
    """
    fits = max(128, (1 << (30 if trained else 28)) // (vocab * logit_bytes) // 128 * 128)
    if rows <= fits or (trained and direct and rows * logit_bytes <= 2 * width + max(fits * logit_bytes, 2 * width)):
        return max(rows, 1)
    even = -(-rows // -(-rows // fits))
    return -(-even // 128) * 128


def _launch(vocab: int) -> dict[str, int]:
    """Block and warps of the row kernel: 16 values a thread, two or more rows in flight on a multiprocessor."""
    block = min(8192, max(128, 1 << (vocab - 1).bit_length()))
    return {"BLOCK": block, "num_warps": max(1, min(16, block // 512))}


@jit
def _capped(z, SOFTCAP: constexpr):
    """softcap * tanh(z / softcap); the series below 1/4 keeps the relative error of small values."""
    u = z / SOFTCAP
    t = tl.exp(-2.0 * tl.abs(u))
    far = (1.0 - t) / (1.0 + t)
    q = u * u
    near = u * (1.0 + q * (-1 / 3 + q * (2 / 15 + q * (-17 / 315 + q * (62 / 2835)))))
    return SOFTCAP * tl.where(q < 0.0625, near, tl.where(u < 0, -far, far))


@jit
def _row_kernel(
    logits,  # (rows, >= padded) in any float dtype
    grad,  # the same, may be the same storage
    targets,  # (rows,) int64
    weights,  # (rows,) float32 if WEIGHTED
    scale,  # one float32: 1 / normaliser
    losses,  # (rows,) float32
    nlls,  # (rows,) float32
    hits,  # (rows,) bool
    vocab,
    padded,  # vocab rounded up to a multiple of 64: the masks of loads and stores end there, so they stay wide
    logits_stride,
    grad_stride,
    IGNORE: constexpr,
    SOFTCAP: constexpr,  # 0: none
    SMOOTHING: constexpr,
    Z_LOSS: constexpr,
    WEIGHTED: constexpr,
    NLL: constexpr,
    HIT: constexpr,
    GRAD: constexpr,
    SCALED: constexpr,  # the gradient too is multiplied by `scale`
    BLOCK: constexpr,
):
    """One row: its loss, and the gradient of the loss by its logits. A switch that is off leaves no code behind."""
    # 1. Does the row count? And the factors of its loss and of its gradient.
    row = tl.program_id(0).to(tl.int64)
    source = logits + row * logits_stride
    into = grad + row * grad_stride
    label = tl.load(targets + row)
    factor = tl.load(scale)
    if SCALED:  # share: what the gradient is multiplied with
        share = factor
    else:
        share = tl.full((), 1.0, tl.float32)
    counts = label != IGNORE
    if WEIGHTED:
        token = tl.load(weights + row)
        counts = counts & (token != 0.0)
        factor = factor * token
        share = share * token
    if counts:
        # 2. The target's own logit. A target outside the vocabulary reads column 0, and is made NaN in step 4.
        in_vocab = (label >= 0) & (label < vocab)
        mine = tl.load(source + tl.where(in_vocab, label, 0)).to(tl.float32)
        if SOFTCAP > 0:
            mine = _capped(mine, SOFTCAP)
        # 3. First pass over the logits, lane by lane online: largest value so far, sum of exp(value - largest), one
        #    exponential a value; the plain sum where labels are smoothed, the largest value's column for the accuracy.
        top = tl.full((BLOCK,), -3.0e38, tl.float32)
        total = tl.zeros((BLOCK,), tl.float32)
        plain = tl.zeros((BLOCK,), tl.float32)
        first = tl.zeros((BLOCK,), tl.int32)
        for start in range(0, padded, BLOCK):
            cols = start + tl.arange(0, BLOCK)
            z = tl.load(source + cols, mask=cols < padded, other=0.0, eviction_policy="evict_last").to(tl.float32)
            if SOFTCAP > 0:
                z = _capped(z, SOFTCAP)
            if SMOOTHING > 0:
                plain += tl.where(cols < vocab, z, 0.0)
            z = tl.where(cols < vocab, z, float("-inf"))
            more = z > top
            e = tl.exp(-tl.abs(z - top))
            total = tl.where(more, total * e + 1.0, total + e)
            top = tl.where(more, z, top)
            if HIT:
                first = tl.where(more, cols, first)
        # 4. The lanes together, and the row's loss, nll and hit.
        best = tl.max(top, 0)
        mass = tl.sum(total * tl.exp(top - best), 0)
        mass = tl.where(in_vocab, mass, float("nan"))  # a target outside the vocabulary must not pass unseen
        # the largest logit is taken off before anything is rounded: lse = best + log(mass) is only for the z-loss
        loss = tl.log(mass) - (mine - best)
        lse = best + tl.log(mass)
        if NLL:
            tl.store(nlls + row, loss)
        if SMOOTHING > 0:
            loss += SMOOTHING * (mine - tl.sum(plain, 0) / vocab)
        if Z_LOSS > 0:
            loss += Z_LOSS * lse * lse
        tl.store(losses + row, loss * factor)
        if HIT:
            place = tl.min(tl.where(top == best, first, vocab), 0)
            tl.store(hits + row, place == label)
        # 5. Second pass: softmax, less the smoothed one-hot, times the cap's slope; written over the logits.
        if GRAD:
            up = share / mass
            if Z_LOSS > 0:
                up *= 1.0 + 2.0 * Z_LOSS * lse
            blocks = tl.cdiv(padded, BLOCK)
            for i in range(0, blocks):
                cols = (blocks - 1 - i) * BLOCK + tl.arange(0, BLOCK)  # backwards: what was read last is in the cache
                z = tl.load(source + cols, mask=cols < padded, other=0.0, eviction_policy="evict_first").to(tl.float32)
                if SOFTCAP > 0:
                    z = _capped(z, SOFTCAP)
                g = tl.exp(z - best) * up
                if SMOOTHING > 0:
                    g -= share * (SMOOTHING / vocab)
                g = tl.where(cols == label, g - share * (1.0 - SMOOTHING), g)
                if SOFTCAP > 0:
                    g *= 1.0 - (z / SOFTCAP) * (z / SOFTCAP)
                g = tl.where(cols < vocab, g, 0.0)
                tl.store(into + cols, g.to(grad.dtype.element_ty), mask=cols < padded)
    else:
        # 6. A row that does not count: zeros everywhere, whatever its logits hold.
        tl.store(losses + row, 0.0)
        if NLL:
            tl.store(nlls + row, 0.0)
        if HIT:
            tl.store(hits + row, False)
        if GRAD:
            for start in range(0, padded, BLOCK):
                cols = start + tl.arange(0, BLOCK)
                nothing = tl.zeros((BLOCK,), grad.dtype.element_ty)
                tl.store(into + cols, nothing, mask=cols < padded)


@jit
def _rescale_kernel(x, factor, size, BLOCK: constexpr):
    """x *= factor, and no traffic where factor is 1, as it is when the loss is what backward starts from."""
    by = tl.load(factor)
    if by != 1.0:
        at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        value = tl.load(x + at, mask=at < size)
        tl.store(x + at, (value.to(tl.float32) * by).to(x.dtype.element_ty), mask=at < size)


@cache
def _float32_out(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a matmul of `dtype` can write float32 there: NVIDIA only (torch 2.8 and newer)."""
    writes = "dtype_out" in torch.ops.aten.addmm.overloads() and "dtype_out" in torch.ops.aten.mm.overloads()
    half = dtype in (torch.bfloat16, torch.float16)
    return writes and half and device.type == "cuda" and torch.version.hip is None


def _multiply(a: Tensor, b: Tensor, out: Tensor, *, add: bool = False) -> None:
    """out = a @ b, or out += a @ b, rounded once, to out's dtype; nothing of out's size is made beside it.

    Without a matmul that writes float32 (a CPU) the operands are widened.
    """
    if a.dtype != out.dtype and out.dtype == torch.float32 and _float32_out(a.device, a.dtype):
        if add:
            torch.addmm(out, a, b, out_dtype=torch.float32, out=out)
        else:
            torch.mm(a, b, out_dtype=torch.float32, out=out)
        return
    a, b = a.to(out.dtype), b.to(out.dtype)
    if add:
        out.addmm_(a, b)
    else:
        torch.mm(a, b, out=out)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, job: HeadJob, part: Labelled, with_nll: bool, with_hit: bool
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        device, (vocab, width), count = hidden.device, weight.shape, len(part.targets)
        loss, matmul, normaliser = job.loss, job.matmul, job.normaliser
        # float16 would lose gradients divided by a large count: that is left to the backward pass
        late = matmul == torch.float16
        kept, need_dx, need_dw = part.kept, *job.needs
        if isinstance(normaliser, Tensor):
            scale = normaliser.detach().to(device, torch.float32, non_blocking=True).reshape(()).reciprocal()
        else:
            scale = torch.full((), 1 / normaliser if normaliser else float("inf"), device=device)
        if kept is not None:
            scale = scale.masked_fill(~kept.any(), 0)
        direct = matmul == weight.dtype and not late  # a sum of undivided gradients overflows float16
        targets = part.targets.contiguous()
        weights = None if part.weights is None else part.weights.contiguous()
        logit_dtype = torch.float32 if loss.logits == "float32" else matmul
        apart = (need_dx or need_dw) and logit_dtype != matmul  # the gradient needs a buffer of its own
        each = logit_dtype.itemsize + matmul.itemsize * apart
        trained = need_dw and loss.accumulate == "float32"
        chunk = loss.chunk or _rows_at_once(count, vocab, width, each, trained, direct and weight.itemsize == 2)
        whole = direct and (count <= chunk or loss.accumulate == "weight")
        padded = -(-vocab // 64) * 64
        buffer = torch.empty(min(chunk, count), padded, dtype=logit_dtype, device=device)
        buffer[:, vocab:].zero_()
        gradient = torch.empty_like(buffer, dtype=matmul) if apart else buffer
        dx = dw = None
        if need_dx:
            dx = (torch.empty_like if part.rows is None else torch.zeros_like)(
                hidden, memory_format=torch.contiguous_format
            )
        if need_dw:
            make = torch.empty if count else torch.zeros
            dw = make(vocab, width, dtype=weight.dtype if whole else torch.float32, device=device)
        losses = torch.empty(count, dtype=torch.float32, device=device)
        nll = torch.empty_like(losses) if with_nll else None
        hit = torch.empty_like(losses, dtype=torch.bool) if with_hit else None
        with torch.autocast(device.type, enabled=False), torch.cuda.device_of(hidden):
            w = weight.detach().to(matmul)
            for start in range(0, count, chunk):
                at = slice(start, min(start + chunk, count))
                n = at.stop - start
                x = hidden.detach()[at] if part.rows is None else hidden.detach().index_select(0, part.rows[at])
                x = x.to(matmul)
                if kept is not None:  # such a row may hold NaN, and 0 x NaN is NaN
                    x = x.masked_fill(~kept[at, None], 0)
                _multiply(x, w.t(), buffer[:n, :vocab])
                _row_kernel[(n,)](
                    buffer,
                    gradient,
                    targets[at],
                    losses if weights is None else weights[at],
                    scale,
                    losses[at],
                    losses if nll is None else nll[at],
                    losses if hit is None else hit[at],
                    vocab,
                    padded,
                    buffer.stride(0),
                    gradient.stride(0),
                    IGNORE=loss.ignore_index,
                    SOFTCAP=float(loss.softcap or 0.0),
                    SMOOTHING=float(loss.label_smoothing),
                    Z_LOSS=float(loss.z_loss),
                    WEIGHTED=weights is not None,
                    NLL=with_nll,
                    HIT=with_hit,
                    GRAD=need_dx or need_dw,
                    SCALED=not late,
                    **_launch(vocab),
                )
                g = gradient[:n, :vocab]
                if dx is not None and part.rows is None and dx.dtype in (matmul, torch.float32):
                    _multiply(g, w, dx[at])
                elif dx is not None and part.rows is None:
                    dx[at] = g @ w
                elif dx is not None:
                    dx.index_copy_(0, part.rows[at], (g @ w).to(dx.dtype))
                if dw is not None:
                    _multiply(g.t(), x, dw, add=start > 0)
        ctx.done, ctx.dtypes = False, (hidden.dtype, weight.dtype)
        ctx.save_for_backward(dx, dw, scale if late else None)
        ctx.mark_non_differentiable(*(t for t in (nll, hit) if t is not None))
        return losses.sum(), nll, hit

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.done:
            raise RuntimeError("linear_cross_entropy: a second backward, but the first scaled the gradients in place")
        ctx.done = True
        dx, dw, scale = ctx.saved_tensors
        factor = grad_loss.float() if scale is None else grad_loss.float() * scale
        dx, dw = (_rescaled(d, factor, t) for d, t in zip((dx, dw), ctx.dtypes, strict=True))
        return dx, dw, *[None] * 4


def _rescaled(x: Tensor | None, factor: Tensor, dtype: torch.dtype) -> Tensor | None:
    """x * factor in `dtype`: in place where x has it, else in one pass of multiplying and rounding."""
    if x is None or not x.numel():
        return x if x is None else x.to(dtype)
    if x.dtype != dtype:
        return torch.mul(x, factor, out=torch.empty_like(x, dtype=dtype))
    block = 8192
    with torch.cuda.device_of(x):
        _rescale_kernel[(-(-x.numel() // block),)](x, factor, x.numel(), BLOCK=block)
    return x
