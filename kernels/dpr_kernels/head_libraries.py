"""linear_cross_entropy by other people's libraries: what each one lacks, and how it is called."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from dpr_kernels.reference import HeadLoss

# Options that a library does not have, or has only on a path that holds all logits (label smoothing in torch's).
LACKS: Mapping[str, frozenset[str]] = {
    "liger": frozenset({"chunk", "logits='float32'", "return_accuracy"}),
    "unsloth": frozenset(
        {"token_weights", "z_loss", "chunk", "accumulate='float32'", "logits='float32'"}
        | {"return_nll", "return_accuracy"}
    ),
    "cce": frozenset(
        {"label_smoothing", "z_loss", "chunk", "accumulate='float32'", "logits='float32'", "return_accuracy"}
    ),
    "torch": frozenset({"softcap", "label_smoothing", "z_loss", "logits='float32'", "return_accuracy"}),
}


def run(
    impl: str,
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    token_weights: Tensor | None,
    rows: Tensor | str | None,
    normaliser: float | Tensor,
    options: HeadLoss,
    return_nll: bool,
    return_accuracy: bool,
) -> Tensor | tuple[Tensor, ...]:
    """Arguments as linear_cross_entropy's. Raises ValueError for an option that `impl` lacks, naming it."""
    kind = hidden.device.type
    matmul = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
    half = matmul in (torch.bfloat16, torch.float16)
    asked = {
        "token_weights": token_weights is not None,
        "softcap": options.softcap is not None,
        "label_smoothing": options.label_smoothing > 0,
        "z_loss": options.z_loss > 0,
        "chunk": options.chunk is not None,
        "accumulate='float32'": options.accumulate == "float32" and half and weight.requires_grad,
        "logits='float32'": options.logits == "float32" and half,
        "return_nll": return_nll,
        "return_accuracy": return_accuracy,
    }
    if lacking := [name for name, wanted in asked.items() if wanted and name in LACKS[impl]]:
        raise ValueError(f"linear_cross_entropy: impl {impl!r} has no {', '.join(lacking)}")
    if return_nll and (options.label_smoothing or options.z_loss):
        raise ValueError(f"linear_cross_entropy: impl {impl!r} has no return_nll beside label_smoothing or z_loss")
    shape, weights = targets.shape, token_weights
    if weights is not None:
        targets, weights = targets.masked_fill(weights == 0, options.ignore_index), weights.float()
    where = rows.to(hidden.device, non_blocking=True) if isinstance(rows, Tensor) else None
    if where is not None:
        hidden, targets = hidden[where], targets[where]
        weights = None if weights is None else weights[where]
    x, w = hidden.to(matmul), weight.to(matmul)
    with torch.autocast(kind, enabled=False):
        if impl == "unsloth":
            return _unsloth(x, w, targets, normaliser, options)
        call = {"liger": _liger, "cce": _cce, "torch": _torch}[impl]
        by_row = weights is not None or return_nll
        losses = call(x, w, targets, "none" if by_row else "sum", options).float()
    total = (losses if weights is None else losses * weights).sum() / normaliser
    if not return_nll:
        return total
    nll = losses.detach()
    return total, nll if where is None else nll.new_zeros(shape).index_copy_(0, where, nll)


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


def _unsloth(x: Tensor, w: Tensor, y: Tensor, normaliser: float | Tensor, options: HeadLoss) -> Tensor:
    import unsloth  # noqa: F401  (unsloth_zoo refuses to be imported first)
    from unsloth_zoo.fused_losses.cross_entropy_loss import unsloth_fused_ce_loss

    return unsloth_fused_ce_loss(
        None,
        x[None],
        w,
        None,
        y[None],
        n_items=normaliser,
        shift_labels=False,
        ignore_index=options.ignore_index,
        logit_softcapping=options.softcap or 0,
        label_smoothing=options.label_smoothing,
    )
