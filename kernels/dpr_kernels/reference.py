"""The definition of every operator in plain PyTorch, written to be checked by eye: what the kernels are held against.

impl="reference" of an operator runs these, but for the loss: that runs `head_chunked`, which never holds all logits.
Autograd makes their gradients; those of `reference_backward` are written out for torch.compile's custom operators.
"""

from __future__ import annotations

import torch
from torch import Tensor


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, targets: Tensor, *, normaliser: float | Tensor, token_weights: Tensor | None = None,
    ignore_index: int = -100, softcap: float | None = None, label_smoothing: float = 0.0, z_loss: float = 0.0,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """dpr_kernels.linear_cross_entropy from all logits at once, as an eager model does it: (loss, nll of each row).

    hidden (M, H), weight (V, H), targets (M,) int64, token_weights (M,). The matmul is in the inputs' dtype, what
    follows in float32 (float64 for float64). log p = s - lse, so (1 - e) nll - e mean(log p) is the formula there.
    """
    counts = targets != ignore_index
    counts = counts if token_weights is None else counts & (token_weights != 0)
    z = hidden.where(counts[:, None], 0) @ weight.T  # a row that does not count may hold NaN, and 0 x NaN is NaN
    z = z.to(_exact(z))
    z = softcap * (z / softcap).tanh() if softcap else z
    log_p = z.log_softmax(1)
    nll = -log_p.gather(1, targets.where(counts, 0)[:, None]).squeeze(1)  # ignored, it may be -100
    each = (1 - label_smoothing) * nll - label_smoothing * log_p.mean(1) + z_loss * z.logsumexp(1) ** 2
    each = each if token_weights is None else each * token_weights.to(z.dtype)
    return each[counts].sum() / normaliser, nll.detach() * counts


def _exact(*tensors: Tensor) -> torch.dtype:
    return torch.float64 if any(x.dtype == torch.float64 for x in tensors) else torch.float32


def rms_norm(x: Tensor, weight: Tensor, eps: float = 1e-6, *, offset: float = 0.0) -> Tensor:
    """`(offset + weight) * x / sqrt(mean(x^2) + eps)` over the last dimension; arXiv 1910.07467.

    x (..., H), weight (H,), floating. Normalised in float32 (float64 for float64), rounded to x's dtype, then
    multiplied: the values of transformers' LlamaRMSNorm to the last bit. Returns the dtype both promote to.
    """
    exact = _exact(x, weight)
    wide = x.to(exact)
    normed = (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)).to(x.dtype)
    return ((offset + weight.to(exact)) * normed).to(torch.promote_types(x.dtype, weight.dtype))


def add_rms_norm(
    x: Tensor, residual: Tensor, weight: Tensor, eps: float = 1e-6, *, offset: float = 0.0
) -> tuple[Tensor, Tensor]:
    """(rms_norm(x + residual), x + residual); x and residual (..., H) of one dtype."""
    total = x + residual
    return rms_norm(total, weight, eps, offset=offset), total


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up, elementwise, in float32 (float64 for float64) with one rounding; arXiv 2002.05202."""
    exact = _exact(gate)
    return (torch.nn.functional.silu(gate.to(exact)) * up.to(exact)).to(gate.dtype)


def rope(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Rotary embedding, rotate-half convention: q (B, Hq, T, D), k (B, Hk, T, D), cos and sin (B or 1, T, D).

    In float32 (float64 for float64) with one rounding to the dtypes of q and k; arXiv 2104.09864.
    """
    exact = _exact(q, k)
    c, s = (x.to(exact).unsqueeze(1) for x in (cos, sin))

    def turn(x: Tensor) -> Tensor:
        wide = x.to(exact)
        a, b = wide.chunk(2, -1)
        return (wide * c + torch.cat((-b, a), -1) * s).to(x.dtype)

    return turn(q), turn(k)
