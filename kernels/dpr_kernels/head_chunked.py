"""linear_cross_entropy in plain PyTorch, chunk by chunk of rows: what impl="reference" runs and a CPU trains with.

The definition that one can check by eye is `reference.linear_cross_entropy`. This never holds all logits, follows
autocast, and makes its gradients in the forward pass.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dpr_kernels.head_loss import Computed, HeadJob, HeadLoss, Labelled, results

CHUNK = 1024  # rows of logits that live at a time where the caller names no chunk


def run(job: HeadJob, return_nll: bool, return_accuracy: bool) -> Tensor | tuple[Tensor, ...]:
    """dpr_kernels.linear_cross_entropy of `job`: results and errors as there.

    Softmax, loss and sums are float32, float64 for float64 inputs. dX and dW are made in the forward pass; backward
    scales copies, so it may run more than once.
    """
    part = job.labelled()
    total, nll, hit = _LinearCrossEntropy.apply(job.hidden, job.weight, job, part, return_nll, return_accuracy)
    return results(total, nll, hit, part.rows, job.targets.shape)


def compute(hidden: Tensor, weight: Tensor, job: HeadJob, part: Labelled, with_nll: bool, with_hit: bool) -> Computed:
    """The loss and, where `job.needs` them, its gradients, without autograd."""
    loss, matmul, device = job.loss, job.matmul, hidden.device.type
    exact = torch.float64 if hidden.dtype == torch.float64 else torch.float32
    normaliser = torch.as_tensor(job.normaliser, dtype=exact, device=hidden.device).detach().reshape(())
    # float16 would lose gradients divided by a large count: that is left to the backward pass
    late = matmul == torch.float16
    sums = exact if late or loss.accumulate == "float32" else weight.dtype
    dx = torch.zeros_like(hidden, memory_format=torch.contiguous_format) if job.needs[0] else None
    dw = torch.zeros_like(weight, dtype=sums, memory_format=torch.contiguous_format) if job.needs[1] else None
    nll = torch.empty(part.targets.shape, dtype=exact, device=hidden.device)
    losses, hit = torch.empty_like(nll), torch.empty_like(nll, dtype=torch.bool) if with_hit else None
    chunk = loss.chunk or CHUNK
    with torch.autocast(device, enabled=False), torch.no_grad():
        w = weight.to(matmul)
        for start in range(0, len(part.targets), chunk):
            at = slice(start, start + chunk)
            scale, kept = (None if t is None else t[at, None] for t in (part.weights, part.kept))
            x = (hidden[at] if part.rows is None else hidden.index_select(0, part.rows[at])).to(matmul)
            if kept is not None:  # a row that does not count may hold NaN, and 0 x NaN is NaN
                x = x.masked_fill(~kept, 0)
            # 1. logits, in the matmul's dtype or in float32, then capped
            z = x.to(exact) @ w.to(exact).T if loss.logits == "float32" else (x @ w.T).to(exact)
            if loss.softcap:
                z = z.div_(loss.softcap).tanh_().mul_(loss.softcap)
            # 2. the loss of each row, its nll, and whether the target is the largest logit
            y, in_vocab = _columns(part.targets[at, None], z.shape[1])
            lse = z.logsumexp(1, keepdim=True)
            if device != "cpu":  # a CPU's targets are checked in HeadJob.labelled, a GPU's are not read
                lse = lse.masked_fill(~in_vocab, float("nan"))
            row, one = _row_losses(z, lse, y, loss)
            row = row if scale is None else row * scale
            if kept is not None:
                row, one = row.where(kept, 0), one.where(kept, 0)
            losses[at], nll[at] = row.squeeze(1), one.squeeze(1)
            if hit is not None:
                right = (_first_largest(z) == y) & in_vocab
                hit[at] = (right if kept is None else right & kept).squeeze(1)
            if dx is None and dw is None:
                continue
            # 3. the gradient by the logits, over the logits, and from it dX and dW
            grad = _to_gradient(z, lse, y, loss)
            grad = grad if scale is None else grad.mul_(scale)
            grad = (grad if late else grad.div_(normaliser)).to(matmul)
            if kept is not None:
                grad = grad.masked_fill_(~kept, 0)
            if dx is not None and part.rows is None:
                dx[at] = grad @ w
            elif dx is not None:
                dx.index_copy_(0, part.rows[at], (grad @ w).to(dx.dtype))
            if dw is not None:
                dw += grad.T @ x
    total = losses.sum() / normaliser if len(losses) else losses.sum()
    factor = 1 / normaliser if late else None
    if part.kept is not None:  # 0 / 0 where nothing is labelled
        total = total.where(part.kept.any(), 0)
        factor = None if factor is None else factor.where(part.kept.any(), 0)
    return Computed(total, nll if with_nll else None, hit, dx, dw, factor)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, job: HeadJob, part: Labelled, with_nll: bool, with_hit: bool
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        out = compute(hidden, weight, job, part, with_nll, with_hit)
        ctx.dtypes = hidden.dtype, weight.dtype
        ctx.save_for_backward(out.dx, out.dw, out.late_scale)
        ctx.mark_non_differentiable(*(t for t in (out.nll, out.hit) if t is not None))
        return out.loss, out.nll, out.hit

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        dx, dw, factor = ctx.saved_tensors
        if factor is not None:
            grad_loss = grad_loss * factor
        scaled = [None if d is None else d.to(grad_loss.dtype) * grad_loss for d in (dx, dw)]
        dx, dw = (None if d is None else d.to(t) for d, t in zip(scaled, ctx.dtypes, strict=True))
        return dx, dw, *[None] * 4


def _columns(targets: Tensor, vocab: int) -> tuple[Tensor, Tensor]:
    """targets (K, 1) with 0 for those outside [0, vocab), which may be gathered; and which lie inside."""
    in_vocab = (targets >= 0) & (targets < vocab)
    return targets.where(in_vocab, 0), in_vocab


def _row_losses(z: Tensor, lse: Tensor, y: Tensor, loss: HeadLoss) -> tuple[Tensor, Tensor]:
    """The loss of each row (K, 1) without its weight, and its plain nll; from capped logits z (K, V)."""
    mine, eps = z.gather(1, y), loss.label_smoothing
    row = one = lse - mine
    if eps:
        row = lse - (1 - eps) * mine - eps * z.mean(1, keepdim=True)
    if loss.z_loss:
        row = row + loss.z_loss * lse**2
    return row, one


def _first_largest(z: Tensor) -> Tensor:
    """(K, 1): the column of each row's largest value, of equal ones the first (argmax does not promise that)."""
    columns = torch.arange(z.shape[1], device=z.device)
    return torch.where(z == z.amax(1, keepdim=True), columns, z.shape[1]).amin(1, keepdim=True)


def _to_gradient(z: Tensor, lse: Tensor, y: Tensor, loss: HeadLoss) -> Tensor:
    """d row / d logits = (softmax (1 + 2 z_loss lse) - smoothed one-hot) slope of the cap, in the storage of z."""
    slope = 1 - (z / loss.softcap) ** 2 if loss.softcap else None
    grad = z.sub_(lse).exp_()
    if loss.z_loss:
        grad = grad.mul_(1 + 2 * loss.z_loss * lse)
    grad.scatter_add_(1, y, grad.new_full(y.shape, loss.label_smoothing - 1.0))
    if loss.label_smoothing:
        grad = grad.sub_(loss.label_smoothing / z.shape[1])
    return grad if slope is None else grad.mul_(slope)
