"""Rotary position embedding (Su et al. 2021, arXiv 2104.09864) in the rotate-half convention of Llama and Qwen.

With a head's halves (a, b): out = (a cos1 - b sin1, b cos2 + a sin2), where 1 and 2 are the halves of cos and sin. They
are equal in every such model, and the backward is then the rotation by -theta; here it is the transpose, right for
any cos and sin.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dpr_kernels import reference
from dpr_kernels._rows import check_devices, check_kernel_dtypes, on, private_grad
from dpr_kernels._triton import INTERPRETED, constexpr, jit, tl, triton
from dpr_kernels.backends import as_custom_operator, pick


def rope(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, *, impl: str = "auto") -> tuple[Tensor, Tensor]:
    """q and k rotated by their positions, in one launch; what transformers' apply_rotary_pos_emb returns.

    q (B, Hq, T, D) and k (B, Hk, T, D), D even, any strides: the transposed views that attention layers make are read
    where they lie, and the results have the same memory order. cos and sin (B or 1, T, D), already gathered by
    position, so packed documents need nothing more. Results have the dtypes of q and k (float32 inside, one rounding);
    q and k are not written to. cos and sin are constants: one that requires a gradient is refused.

    impl: triton, reference; liger (it writes in place, so it gets copies of q and k, and reads only the first half of
    cos and sin). Raises ValueError for shapes or dtypes that do not fit, partial rotary embeddings (cos narrower than
    a head) among them.
    """
    if q.ndim != 4 or k.ndim != 4 or k.shape[0] != q.shape[0] or k.shape[2:] != q.shape[2:] or q.shape[3] % 2:
        raise ValueError(f"rope: q (B, Hq, T, D) and k (B, Hk, T, D), D even: got {(*q.shape,)} and {(*k.shape,)}")
    batch, _, t, d = q.shape
    if not d:
        raise ValueError("rope: heads of width 0")
    if cos.shape != sin.shape or cos.ndim != 3 or cos.shape[0] not in (1, batch) or cos.shape[1] != t:
        raise ValueError(f"rope: cos and sin must be ({batch} or 1, {t}, {d}), got {(*cos.shape,)} and {(*sin.shape,)}")
    if cos.shape[2] != d:
        raise ValueError(f"rope: no partial rotary embedding: heads are {d} wide, cos and sin {cos.shape[2]}")
    if not all(x.is_floating_point() for x in (q, k, cos, sin)) or cos.dtype != sin.dtype:
        raise ValueError(f"rope: floating inputs, cos like sin: got {[x.dtype for x in (q, k, cos, sin)]}")
    if cos.requires_grad or sin.requires_grad:
        raise ValueError("rope: cos and sin get no gradient; detach them")
    if as_custom_operator(impl):
        return torch.ops.dpr_kernels.rope(q, k, cos, sin, False, impl)
    check_devices("rope", q=q, k=k, cos=cos, sin=sin)
    chosen = pick("rope", impl, q.device)
    if chosen == "reference":
        return reference.rope(q, k, cos, sin)
    if chosen == "triton":
        return _RoPE.apply(q, k, cos, sin)
    return _liger(q, k, cos, sin)


# --- Triton -----------------------------------------------------------------------------------------------------------


@jit
def _rotate(
    x_ptr,
    out_ptr,
    batch,
    times,
    live,
    x_strides,
    out_strides,
    cos1,
    cos2,
    sin1,
    sin2,
    HEADS: constexpr,
    HALF: constexpr,
    BLOCK_HEADS: constexpr,
    BLOCK_HALF: constexpr,
    BACKWARD: constexpr,
):
    """All heads of a tile's tokens, BLOCK_HEADS at a time."""
    lanes = tl.arange(0, BLOCK_HALF)[None, None, :]
    from_ptr = x_ptr + batch * x_strides[0] + times * x_strides[2] + lanes
    to_ptr = out_ptr + batch * out_strides[0] + times * out_strides[2] + lanes
    for start in tl.range(0, HEADS, BLOCK_HEADS, num_stages=1):
        heads = start + tl.arange(0, BLOCK_HEADS).to(tl.int64)[:, None, None]
        here = live & (heads < HEADS)
        at = from_ptr + heads * x_strides[1]
        a = tl.load(at, mask=here, other=0.0).to(tl.float32)
        b = tl.load(at + HALF, mask=here, other=0.0).to(tl.float32)
        if BACKWARD:
            first = a * cos1 + b * sin2
            second = b * cos2 - a * sin1
        else:
            first = a * cos1 - b * sin1
            second = b * cos2 + a * sin2
        at = to_ptr + heads * out_strides[1]
        tl.store(at, first.to(out_ptr.dtype.element_ty), mask=here)
        tl.store(at + HALF, second.to(out_ptr.dtype.element_ty), mask=here)


@jit(do_not_specialize=("n_times",))  # lengths vary from step to step, and nothing is gained by what divides them
def _kernel(
    q_ptr, k_ptr, cos_ptr, sin_ptr, q_out_ptr, k_out_ptr, n_times,
    q_b, q_h, q_t, k_b, k_h, k_t, cos_b, cos_t, sin_b, sin_t, qo_b, qo_h, qo_t, ko_b, ko_h, ko_t,
    HQ: constexpr, HK: constexpr, HALF: constexpr,
    BLOCK_T: constexpr, BLOCK_Q: constexpr, BLOCK_K: constexpr, BLOCK_HALF: constexpr, BACKWARD: constexpr,
):  # fmt: skip
    """All heads of BLOCK_T tokens: cos and sin are read once for them.

    Tiles are (heads, tokens, half a head). A tile of one head fills every thread with 16 bytes of bfloat16, so q, k,
    cos and sin have one layout, however many heads there are: none moves in smaller pieces or through shared memory.
    """
    blocks = (n_times - 1) // BLOCK_T + 1  # tl.cdiv adds first, and wraps just below 2^31
    batch = (tl.program_id(0) // blocks).to(tl.int64)
    times = (tl.program_id(0) % blocks).to(tl.int64) * BLOCK_T + tl.arange(0, BLOCK_T)[None, :, None]
    lanes = tl.arange(0, BLOCK_HALF)[None, None, :]
    live = (times < n_times) & (lanes < HALF)
    cos_ptr += batch * cos_b + times * cos_t + lanes
    sin_ptr += batch * sin_b + times * sin_t + lanes
    cos1 = tl.load(cos_ptr, mask=live, other=0.0).to(tl.float32)
    cos2 = tl.load(cos_ptr + HALF, mask=live, other=0.0).to(tl.float32)
    sin1 = tl.load(sin_ptr, mask=live, other=0.0).to(tl.float32)
    sin2 = tl.load(sin_ptr + HALF, mask=live, other=0.0).to(tl.float32)
    _rotate(
        q_ptr, q_out_ptr, batch, times, live, (q_b, q_h, q_t), (qo_b, qo_h, qo_t), cos1, cos2, sin1, sin2,
        HQ, HALF, BLOCK_Q, BLOCK_HALF, BACKWARD,
    )  # fmt: skip
    _rotate(
        k_ptr, k_out_ptr, batch, times, live, (k_b, k_h, k_t), (ko_b, ko_h, ko_t), cos1, cos2, sin1, sin2,
        HK, HALF, BLOCK_K, BLOCK_HALF, BACKWARD,
    )  # fmt: skip


HEADS_AT_ONCE = 2 if INTERPRETED else 4  # 8 loads of 16 bytes under way in each thread


def _launch(half: int) -> tuple[int, int]:
    """(BLOCK_T, warps) for halves padded to `half`: 8 lanes of one head a thread, one warp up to heads of 512.

    To be tuned on a GPU. Heads of 128 are four tokens a program, heads of 64 eight.
    """
    if INTERPRETED:
        return max(1, 64 // half), 1
    warps = min(max(half // 256, 1), 8)
    return max(1, 256 * warps // half), warps


def _dense(x: Tensor) -> tuple[Tensor, Tensor]:
    """(x, an output for it), both with neighbouring lanes. empty_like keeps the order of the dimensions in memory, so
    attention's views stay the views they were; where elements overlap that order may put the lanes elsewhere."""
    x = x if x.stride(-1) == 1 else x.contiguous()
    out = torch.empty_like(x)
    if out.stride(-1) != 1:
        x = x.contiguous()
        out = torch.empty_like(x)
    assert x.stride(-1) == out.stride(-1) == 1, (x.stride(), out.stride())
    return x, out


def _run(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, backward: bool) -> tuple[Tensor, Tensor]:
    """q and k rotated, or with `backward` by the transpose; no autograd. Shapes as in `rope`."""
    if not q.shape[0] * q.shape[2]:
        return torch.empty_like(q), torch.empty_like(k)
    check_kernel_dtypes("rope", q, k, cos)
    (q, q_out), (k, k_out) = _dense(q), _dense(k)
    cos, sin = (x if x.stride(-1) == 1 else x.contiguous() for x in (cos, sin))
    batch, hq, t, d = q.shape
    block_q, block_k = (min(triton.next_power_of_2(max(n, 1)), HEADS_AT_ONCE) for n in (hq, k.shape[1]))
    block_half = triton.next_power_of_2(d // 2)
    block_t, warps = _launch(block_half)
    cos_strides = [s for x in (cos, sin) for s in (0 if x.shape[0] == 1 else x.stride(0), x.stride(1))]
    with on(q):
        _kernel[(batch * triton.cdiv(t, block_t),)](
            q, k, cos, sin, q_out, k_out, t,
            *q.stride()[:3], *k.stride()[:3], *cos_strides, *q_out.stride()[:3], *k_out.stride()[:3],
            HQ=hq, HK=k.shape[1], HALF=d // 2, BLOCK_T=block_t, BLOCK_Q=block_q, BLOCK_K=block_k,
            BLOCK_HALF=block_half, BACKWARD=backward, num_warps=warps,
        )  # fmt: skip
    return q_out, k_out


class _RoPE(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(cos, sin)
        return _run(q, k, cos, sin, backward=False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dq: Tensor, dk: Tensor) -> tuple[Tensor, Tensor, None, None]:
        return *_run(dq, dk, *ctx.saved_tensors, backward=True), None, None


# --- Liger ------------------------------------------------------------------------------------------------------------


def _liger(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Liger rotates q, k and, in backward, the gradients where they lie: it gets copies of each."""
    from liger_kernel.ops import LigerRopeFunction

    out = LigerRopeFunction.apply(q.clone(), k.clone(), cos, sin)
    return private_grad(out[0]), private_grad(out[1])
