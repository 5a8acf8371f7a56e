"""The Triton kernels of linear_cross_entropy: a row of logits to its loss and gradient, and the scaling in backward."""

from __future__ import annotations

from typing import Any

from dpr_kernels._triton import at_most, constexpr, jit, tl, triton

# One value a row is read or written there: a wider access is not to be had, and a start that is aligned in one call and
# not in the next (a chunk of odd length) would only compile the kernel once more.
ONE_A_ROW = ["targets", "weights", "scale", "losses", "nlls", "hits"]


def _jit_rows(fn: Any) -> Any:
    return fn if triton is None else triton.jit(fn, do_not_specialize_on_alignment=ONE_A_ROW)


def launch(vocab: int, wide: bool) -> dict[str, int]:
    """Block, warps and register limit of the row kernel: 16 values a thread, and two rows in flight on a multiprocessor
    where 64 registers hold them, as they do for the plain loss on sm_80 to sm_100 (bench/results/compile.json).

    `wide`: label smoothing or accuracy, which take 70 to 110, so one row. Held to 64, most of these spill: 4 to 116
    bytes (Triton 3.9; with smoothing on sm_90 none). Left alone ptxas goes down to 64 in some places and spills there;
    128 keeps it from that.
    """
    block = min(8192, max(128, 1 << (vocab - 1).bit_length()))
    return {"BLOCK": block, "num_warps": max(1, min(16, block // 512))} | (at_most(128) if wide else {})


@jit
def _capped(z, SOFTCAP: constexpr):
    """softcap * tanh(z / softcap); the series below 1/4 keeps the relative error of small values."""
    u = z / SOFTCAP
    t = tl.exp(-2.0 * tl.abs(u))
    far = (1.0 - t) / (1.0 + t)
    q = u * u
    near = u * (1.0 + q * (-1 / 3 + q * (2 / 15 + q * (-17 / 315 + q * (62 / 2835)))))
    return SOFTCAP * tl.where(q < 0.0625, near, tl.where(u < 0, -far, far))


@_jit_rows
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
    # 1. Does the row count? What is read of it is read where it is used: each value held over the first pass is a
    #    register, and at 64 of them a second row fits on a multiprocessor.
    row = tl.program_id(0).to(tl.int64)
    source = logits + row * logits_stride
    into = grad + row * grad_stride
    label = tl.load(targets + row)
    counts = label != IGNORE
    if WEIGHTED:
        counts = counts & (tl.load(weights + row) != 0.0)
    if counts:
        # -1 outside the vocabulary; columns are int32: no 64-bit comparison a value
        at_label = tl.where((label >= 0) & (label < vocab), label, -1).to(tl.int32)
        # 2. First pass over the logits, lane by lane online: largest value so far, sum of exp(value - largest), one
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
        # 3. The lanes together, the target's own logit, and the factors of the loss and of its gradient. A target
        #    outside the vocabulary reads column 0, and must not pass unseen.
        best = tl.max(top, 0)
        mass = tl.sum(total * tl.exp(top - best), 0)
        mass = tl.where(at_label >= 0, mass, float("nan"))
        mine = tl.load(source + tl.maximum(at_label, 0)).to(tl.float32)
        if SOFTCAP > 0:
            mine = _capped(mine, SOFTCAP)
        factor = tl.load(scale)
        if SCALED:  # share: what the gradient is multiplied with
            share = factor
        else:
            share = tl.full((), 1.0, tl.float32)
        if WEIGHTED:
            token = tl.load(weights + row)
            factor = factor * token
            share = share * token
        # 4. The row's loss, nll and hit.
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
            tl.store(hits + row, place == at_label)
        # 5. Second pass: softmax, less the smoothed one-hot, times the cap's slope; written over the logits.
        if GRAD:
            up = share / mass
            if Z_LOSS > 0:
                up *= 1.0 + 2.0 * Z_LOSS * lse
            blocks = (padded - 1) // BLOCK + 1  # cdiv adds first, and would wrap near 2^31
            for i in range(0, blocks):
                cols = (blocks - 1 - i) * BLOCK + tl.arange(0, BLOCK)  # backwards: what was read last is in the cache
                z = tl.load(source + cols, mask=cols < padded, other=0.0, eviction_policy="evict_first").to(tl.float32)
                if SOFTCAP > 0:
                    z = _capped(z, SOFTCAP)
                g = tl.exp(z - best) * up
                if SMOOTHING > 0:
                    g -= share * (SMOOTHING / vocab)
                g = tl.where(cols == at_label, g - share * (1.0 - SMOOTHING), g)
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
