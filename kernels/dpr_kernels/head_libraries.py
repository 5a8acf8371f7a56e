"""linear_cross_entropy by other people's libraries: what each one lacks, and how it is called."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from dpr_kernels.head_loss import HeadJob, HeadLoss, results

# Options that a library does not have, or has only on a path that holds all logits (label smoothing in torch's).
LACKS: Mapping[str, frozenset[str]] = {
    "liger": frozenset({"chunk", "logits='float32'", "return_accuracy"}),
    "cce": frozenset(
        {"label_smoothing", "z_loss", "chunk", "accumulate='float32'", "logits='float32'", "return_accuracy"}
    ),
    "torch": frozenset({"softcap", "label_smoothing", "z_loss", "logits='float32'", "return_accuracy"}),
}


def run(impl: str, job: HeadJob, return_nll: bool, return_accuracy: bool) -> Tensor | tuple[Tensor, ...]:
    """dpr_kernels.linear_cross_entropy of `job`. Raises ValueError for an option that `impl` lacks, naming it."""
    loss, kind = job.loss, job.hidden.device.type
    _check_options(impl, job, return_nll, return_accuracy)
    hidden, targets, weights = job.hidden, job.targets, job.token_weights
    if weights is not None:
        targets, weights = targets.masked_fill(weights == 0, loss.ignore_index), weights.float()
    where = job.rows.to(hidden.device, non_blocking=True) if isinstance(job.rows, Tensor) else None
    if where is not None:
        hidden, targets = hidden[where], targets[where]
        weights = None if weights is None else weights[where]
    x, w = hidden.to(job.matmul), job.weight.to(job.matmul)
    with torch.autocast(kind, enabled=False):
        call = {"liger": _liger, "cce": _cce, "torch": _torch}[impl]
        by_row = weights is not None or return_nll
        losses = call(x, w, targets, "none" if by_row else "sum", loss).float()
    total = (losses if weights is None else losses * weights).sum() / job.normaliser
    return results(total, losses.detach() if return_nll else None, None, where, job.targets.shape)


def _check_options(impl: str, job: HeadJob, return_nll: bool, return_accuracy: bool) -> None:
    loss, half = job.loss, job.matmul in (torch.bfloat16, torch.float16)
    in_use = {
        "token_weights": job.token_weights is not None,
        "softcap": loss.softcap is not None,
        "label_smoothing": loss.label_smoothing > 0,
        "z_loss": loss.z_loss > 0,
        "chunk": loss.chunk is not None,
        "accumulate='float32'": loss.accumulate == "float32" and half and job.weight.requires_grad,
        "logits='float32'": loss.logits == "float32" and half,
        "return_nll": return_nll,
        "return_accuracy": return_accuracy,
    }
    if lacking := [name for name, used in in_use.items() if used and name in LACKS[impl]]:
        raise ValueError(f"linear_cross_entropy: impl {impl!r} has no {', '.join(lacking)}")
    if return_nll and (loss.label_smoothing or loss.z_loss):
        raise ValueError(f"linear_cross_entropy: impl {impl!r} has no return_nll beside label_smoothing or z_loss")


def _liger(x: Tensor, w: Tensor, y: Tensor, reduction: str, options: HeadLoss) -> Tensor:
    """By row Liger runs its forward a second time in backward."""
    from liger_kernel.transformers.functional import liger_fused_linear_cross_entropy

    return liger_fused_linear_cross_entropy(
        x,
        w,
        y,
        ignore_index=options.ignore_index,
        lse_square_scale=options.z_loss,
        label_smoothing=options.label_smoothing,
        reduction=reduction,
        softcap=options.softcap,
        accum_dtype=torch.float32 if options.accumulate == "float32" else None,
    )


def _cce(x: Tensor, w: Tensor, y: Tensor, reduction: str, options: HeadLoss) -> Tensor:
    """With the library's own defaults: it drops gradients below a threshold that goes with the dtype."""
    from cut_cross_entropy import linear_cross_entropy

    return linear_cross_entropy(
        x,
        w,
        y,
        ignore_index=options.ignore_index,
        softcap=options.softcap,
        reduction=reduction,
        impl="cce" if x.is_cuda else "torch_compile",
    )


def _torch(x: Tensor, w: Tensor, y: Tensor, reduction: str, options: HeadLoss) -> Tensor:
    """The chunked path of torch 2.13. Its "balanced" sums dW in float32, "compact" in the weight's dtype."""
    half = x.dtype in (torch.bfloat16, torch.float16)
    settings = torch.nn.LinearCrossEntropyOptions(
        batch_chunk_size=options.chunk,
        chunking_method="auto" if options.chunk is None else None,
        acc_policy="compact" if options.accumulate == "weight" or not half else "balanced",
        acc_dtype=torch.float32 if half else None,
    )
    return F.linear_cross_entropy(x, w, y, reduction=reduction, ignore_index=options.ignore_index, options=settings)
