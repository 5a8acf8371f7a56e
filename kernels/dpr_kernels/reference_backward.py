"""The gradients of `reference` written out: a custom operator's backward runs where autograd records nothing.

All compute in float32 (float64 for float64) and round once, to the dtype of the input that the gradient belongs to.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def _exact(*tensors: Tensor) -> torch.dtype:
    return torch.float64 if any(x.dtype == torch.float64 for x in tensors) else torch.float32


def rms_norm(
    dy: Tensor, dsum: Tensor | None, x: Tensor, weight: Tensor, rstd: Tensor, offset: float
) -> tuple[Tensor, Tensor]:
    """(dX, dW) for dy and x (..., H), weight (H,), rstd = 1/sqrt(mean(x^2) + eps) (rows,).

    dsum is what arrived on x by another way, the residual's, and is added to dX.
    """
    exact = _exact(x, weight)
    dy = dy.to(exact)
    rstd = rstd.to(exact).reshape(*x.shape[:-1], 1)
    normed = x.to(exact) * rstd
    g = dy * (offset + weight.to(exact))
    dx = (g - normed * (g * normed).mean(-1, keepdim=True)) * rstd
    if dsum is not None:
        dx = dx + dsum.to(exact)
    return dx.to(x.dtype), (dy * normed).reshape(-1, x.shape[-1]).sum(0).to(weight.dtype)


def swiglu(dout: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    """(dgate, dup), all (..., I)."""
    exact = _exact(gate)
    d, a, b = (x.to(exact) for x in (dout, gate, up))
    s = a.sigmoid()
    return (d * b * s * (1 + a * (1 - s))).to(gate.dtype), (d * a * s).to(up.dtype)


def rope(dq: Tensor, dk: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """The transpose of the rotation: dq (B, Hq, T, D), dk (B, Hk, T, D), cos and sin (B or 1, T, D)."""
    exact = _exact(dq, dk)
    (cos1, cos2), (sin1, sin2) = (x.to(exact).unsqueeze(1).chunk(2, -1) for x in (cos, sin))

    def back(x: Tensor) -> Tensor:
        a, b = x.to(exact).chunk(2, -1)
        return torch.cat((a * cos1 + b * sin2, b * cos2 - a * sin1), -1).to(x.dtype)

    return back(dq), back(dk)


def varlen_attention(
    dout: Tensor, q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int], scale: float, window: int | None
) -> tuple[Tensor, Tensor, Tensor]:
    """(dq, dk, dv) of causal attention inside each document; dout and q (T, Hq, D), k and v (T, Hk, D).

    The probabilities P are made again, a document at a time, so L x L values a head live:
    dV = P^T dO, dS = P (dP - rowsum(dP P)) with dP = dO V^T, dQ = scale dS K, dK = scale dS^T Q; a key head's
    gradients are summed over the query heads that share it.
    """
    exact, shared = _exact(q), k.shape[1]
    grads: list[tuple[Tensor, Tensor, Tensor]] = []
    for one in zip(*(x.to(exact).split(list(lengths)) for x in (dout, q, k, v)), strict=True):
        d, a = (x.unflatten(1, (shared, -1)).permute(1, 2, 0, 3) for x in one[:2])  # (Hk, Hq / Hk, L, D)
        b, c = (x.transpose(0, 1).unsqueeze(1) for x in one[2:])  # (Hk, 1, L, D)
        length = one[0].shape[0]
        seen = torch.ones(length, length, dtype=torch.bool, device=q.device).tril()
        if window is not None:
            seen = seen.triu(1 - window)
        p = (scale * (a @ b.mT)).masked_fill(~seen, float("-inf")).softmax(-1)
        dp = d @ c.mT
        ds = p * (dp - (dp * p).sum(-1, keepdim=True)) * scale
        dq = (ds @ b).flatten(0, 1).transpose(0, 1)
        dk, dv = ((x.mT @ y).sum(1).transpose(0, 1) for x, y in ((ds, a), (p, d)))
        grads.append((dq, dk, dv))
    dq, dk, dv = (torch.cat(x).to(y.dtype) for x, y in zip(zip(*grads, strict=True), (q, k, v), strict=True))
    return dq, dk, dv
