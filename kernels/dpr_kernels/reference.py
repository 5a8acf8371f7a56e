"""The exact plain-PyTorch twin of every operator. Slow is allowed here, wrong is not."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    normaliser: float | Tensor,
    ignore_index: int = -100,
    chunk: int = 1024,
    return_nll: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Cross-entropy of `hidden @ weight.T` against `targets`, without holding all logits at once.

    hidden (M, H) and weight (V, H) floating, targets (M,) int64. Rows whose target is `ignore_index` are dropped
    before any arithmetic. At most `chunk` rows of logits live at a time; dX and dW are made in the forward pass, so
    the logits are computed once. Matmuls run in autocast's dtype where autocast is on, else in hidden's; softmax,
    loss and the sum of dW over chunks are float32 (float64 for float64 inputs).

    Returns the scalar `sum(nll) / normaliser`, which is 0 with zero gradients where no row is labelled; with
    `return_nll` also the per-row nll (M,), detached, 0 at ignored rows. `normaliser` gets no gradient: give the
    number of trained tokens of the *whole* accumulated step and summing over rows is the token mean.
    Raises ValueError for shapes that do not fit, a target outside [0, V), or chunk < 1.
    """
    if hidden.ndim != 2 or weight.ndim != 2 or hidden.shape[1] != weight.shape[1] or targets.shape != hidden.shape[:1]:
        shapes = [(*x.shape,) for x in (hidden, weight, targets)]
        raise ValueError(f"hidden (M, H), weight (V, H), targets (M,): got {shapes}")
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1, got {chunk}")
    kept = (targets != ignore_index).nonzero().squeeze(1)
    labels = targets[kept]
    if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < weight.shape[0]:
        raise ValueError(f"targets must lie in [0, {weight.shape[0]}) or equal ignore_index {ignore_index}")
    rows = hidden if kept.numel() == targets.numel() else hidden[kept]
    loss, nll = _LinearCrossEntropy.apply(rows, weight, labels, normaliser, chunk)
    if not return_nll:
        return loss
    return loss, nll.new_zeros(targets.shape).index_copy_(0, kept, nll)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, normaliser: float | Tensor, chunk: int
    ) -> tuple[Tensor, Tensor]:
        device = hidden.device.type
        matmul = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
        exact = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        need_dx, need_dw = ctx.needs_input_grad[:2]
        dx = torch.zeros_like(hidden) if need_dx else None
        dw = torch.zeros_like(weight, dtype=exact) if need_dw else None
        nll = torch.empty(targets.shape, dtype=exact, device=hidden.device)
        with torch.autocast(device, enabled=False):
            w = weight.to(matmul)
            for start in range(0, len(targets), chunk):
                x, y = hidden[start : start + chunk].to(matmul), targets[start : start + chunk, None]
                logits = (x @ w.T).to(exact)
                lse = logits.logsumexp(1, keepdim=True)
                nll[start : start + chunk] = (lse - logits.gather(1, y)).squeeze(1)
                if not (need_dx or need_dw):
                    continue
                # d nll / d logits = softmax - one_hot, made in the logits' own storage
                grad = logits.sub_(lse).exp_()
                grad.scatter_add_(1, y, grad.new_full(y.shape, -1.0))
                grad = grad.div_(normaliser).to(matmul)
                if dx is not None:
                    dx[start : start + chunk] = grad @ w
                if dw is not None:
                    dw += grad.T @ x
        loss = nll.sum() / normaliser if len(nll) else nll.new_zeros(())
        ctx.weight_dtype = weight.dtype
        ctx.save_for_backward(dx, dw)
        ctx.mark_non_differentiable(nll)
        return loss, nll

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor, _: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        dx, dw = ctx.saved_tensors
        return (
            None if dx is None else dx * grad_loss.to(dx.dtype),
            None if dw is None else (dw * grad_loss.to(dw.dtype)).to(ctx.weight_dtype),
            None,
            None,
            None,
        )
