"""The exact plain-PyTorch twin of every operator. Slow is allowed here, wrong is not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


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
) -> Tensor | tuple[Tensor, ...]:
    """dpr_kernels.linear_cross_entropy in plain PyTorch: the same arguments, results and errors; see there.

    At most `chunk` (default 1024) rows of logits live at a time. Softmax, loss and sums are float32, float64 for
    float64 inputs. dX and dW are made in the forward pass; backward scales copies, so it may run more than once.
    """
    loss = HeadLoss(ignore_index, softcap, label_smoothing, z_loss, chunk or 1024, accumulate, logits)
    loss.check(hidden, weight, targets, normaliser, token_weights, rows, chunk)
    part = labelled(hidden, weight, targets, token_weights, ignore_index, rows)
    grad = torch.is_grad_enabled()
    needs = (grad and hidden.requires_grad, grad and weight.requires_grad)
    x = hidden if part.rows is None else hidden[part.rows]
    if part.kept is not None:  # a row that does not count may hold NaN, and 0 x NaN is NaN
        x = torch.where(part.kept[:, None], x, 0)
    total, nll, hit = _LinearCrossEntropy.apply(x, weight, part, normaliser, loss, needs, return_accuracy)
    return results(total, nll if return_nll else None, hit, part.rows, targets.shape)


@dataclass(frozen=True)
class HeadLoss:
    """The options of a linear cross-entropy that do not depend on the data."""

    ignore_index: int
    softcap: float | None
    label_smoothing: float
    z_loss: float
    chunk: int | None
    accumulate: str
    logits: str

    def check(
        self,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        normaliser: float | Tensor,
        token_weights: Tensor | None,
        rows: Tensor | str | None,
        chunk: int | None,
    ) -> None:
        """Raises ValueError for what does not fit; looks at no value that lies on a GPU."""
        fits = hidden.ndim == weight.ndim == 2 and hidden.shape[1] == weight.shape[1]
        if not fits or targets.shape != hidden.shape[:1] or not weight.shape[0]:
            shapes = [(*x.shape,) for x in (hidden, weight, targets)]
            raise ValueError(f"hidden (M, H), weight (V, H), targets (M,): got {shapes}")
        if not (hidden.is_floating_point() and weight.is_floating_point() and targets.dtype == torch.int64):
            dtypes = [x.dtype for x in (hidden, weight, targets)]
            raise ValueError(f"hidden and weight must be floating and targets int64, got {dtypes}")
        if token_weights is not None and (token_weights.shape != targets.shape or token_weights.requires_grad):
            raise ValueError(f"token_weights must be ({len(targets)},) and get no gradient: detach it")
        if isinstance(normaliser, Tensor) and (normaliser.numel() != 1 or normaliser.requires_grad):
            raise ValueError("normaliser must be one number and gets no gradient: detach it")
        if isinstance(rows, str) and rows != "all":
            raise ValueError(f"rows must be None, 'all' or a tensor, got {rows!r}")
        if isinstance(rows, Tensor):
            if rows.ndim != 1 or rows.dtype != torch.int64:
                raise ValueError(f"rows must be (K,) int64, got {(*rows.shape,)} {rows.dtype}")
            if rows.device.type == "cpu" and len(rows):
                rising = bool((rows.diff() > 0).all())
                if not (rising and int(rows[0]) >= 0 and int(rows[-1]) < len(targets)):
                    raise ValueError(f"rows must rise strictly within [0, {len(targets)})")
        if chunk is not None and chunk < 1:
            raise ValueError(f"chunk must be at least 1, got {chunk}")
        if self.softcap is not None and not self.softcap > 0:
            raise ValueError(f"softcap must be positive or None, got {self.softcap}")
        if not 0 <= self.label_smoothing <= 1:
            raise ValueError(f"label_smoothing must lie in [0, 1], got {self.label_smoothing}")
        if self.z_loss < 0:
            raise ValueError(f"z_loss must not be negative, got {self.z_loss}")
        if self.accumulate not in ("float32", "weight"):
            raise ValueError(f"accumulate must be 'float32' or 'weight', got {self.accumulate!r}")
        if self.logits not in ("matmul", "float32"):
            raise ValueError(f"logits must be 'matmul' or 'float32', got {self.logits!r}")


class Labelled(NamedTuple):
    """Which rows count. `rows` (K,) picks them from hidden, None takes all; the others are aligned with them."""

    rows: Tensor | None
    targets: Tensor
    weights: Tensor | None
    kept: Tensor | None  # bool; None where every row counts


def labelled(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    token_weights: Tensor | None,
    ignore_index: int,
    rows: Tensor | str | None,
) -> Labelled:
    """Drop the rows that count for nothing: by `rows` without asking the device, else by one nonzero()."""
    kept = targets != ignore_index
    if token_weights is not None:
        token_weights = token_weights.to(torch.float64 if hidden.dtype == torch.float64 else torch.float32)
        kept = kept & (token_weights != 0)
    if rows is None:
        picked = kept.nonzero().squeeze(1)
        where, kept = (None if len(picked) == len(targets) else picked), None
    elif isinstance(rows, str):
        where = None
    else:
        where = rows.to(targets.device, non_blocking=True)
        kept = kept[where]
    if where is not None:
        targets = targets[where]
        token_weights = None if token_weights is None else token_weights[where]
    if targets.device.type == "cpu":  # a GPU is not asked: there such a row's loss and gradient are NaN
        check_targets(targets if kept is None else targets[kept], weight.shape[0], ignore_index)
    return Labelled(where, targets, token_weights, kept)


def check_targets(targets: Tensor, vocab: int, ignore_index: int) -> None:
    if len(targets) and not 0 <= int(targets.min()) <= int(targets.max()) < vocab:
        raise ValueError(f"targets must lie in [0, {vocab}) or equal ignore_index {ignore_index}")


def results(
    total: Tensor, nll: Tensor | None, hit: Tensor | None, rows: Tensor | None, shape: torch.Size
) -> Tensor | tuple[Tensor, ...]:
    """The loss, and what was asked for beside it, spread over all rows again."""
    beside = [x for x in (nll, hit) if x is not None]
    if rows is not None:
        beside = [x.new_zeros(shape).index_copy_(0, rows, x) for x in beside]
    return (total, *beside) if beside else total


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        part: Labelled,
        normaliser: float | Tensor,
        loss: HeadLoss,
        needs: tuple[bool, bool],
        accuracy: bool,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        device = hidden.device.type
        matmul = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
        exact = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        vocab, eps, chunk = weight.shape[0], loss.label_smoothing, loss.chunk
        dx = torch.zeros_like(hidden) if needs[0] else None
        # float16 would lose gradients divided by a large count: that is left to the backward pass
        late = matmul == torch.float16
        total = exact if late or loss.accumulate == "float32" else weight.dtype
        dw = torch.zeros_like(weight, dtype=total) if needs[1] else None
        nll = torch.empty(part.targets.shape, dtype=exact, device=hidden.device)
        losses, hit = torch.empty_like(nll), torch.empty_like(nll, dtype=torch.bool) if accuracy else None
        with torch.autocast(device, enabled=False):
            w = weight.to(matmul)
            for start in range(0, len(part.targets), chunk):
                at = slice(start, start + chunk)
                x, label = hidden[at].to(matmul), part.targets[at, None]
                if loss.logits == "float32":
                    z = x.to(exact) @ w.to(exact).T
                else:
                    z = (x @ w.T).to(exact)
                if loss.softcap:
                    z = z.div_(loss.softcap).tanh_().mul_(loss.softcap)
                    slope = 1 - (z / loss.softcap) ** 2
                known = (label >= 0) & (label < vocab)
                y = label.where(known, 0)
                lse = z.logsumexp(1, keepdim=True)
                if device != "cpu":  # see labelled()
                    lse = lse.masked_fill(~known, float("nan"))
                mine = z.gather(1, y)
                row = one = lse - mine
                if eps:
                    row = lse - (1 - eps) * mine - eps * z.mean(1, keepdim=True)
                if loss.z_loss:
                    row = row + loss.z_loss * lse**2
                scale = None if part.weights is None else part.weights[at, None]
                row = row if scale is None else row * scale
                kept = None if part.kept is None else part.kept[at, None]
                if kept is not None:
                    row, one = row.where(kept, 0), one.where(kept, 0)
                losses[at], nll[at] = row.squeeze(1), one.squeeze(1)
                if hit is not None:
                    best = torch.where(z == z.amax(1, keepdim=True), torch.arange(vocab, device=z.device), vocab)
                    right = (best.amin(1, keepdim=True) == y) & known
                    hit[at] = (right if kept is None else right & kept).squeeze(1)
                if dx is None and dw is None:
                    continue
                # d row / d logits = softmax (1 + 2 z_loss lse) - smoothed one-hot, in the logits' own storage
                grad = z.sub_(lse).exp_()
                if loss.z_loss:
                    grad = grad.mul_(1 + 2 * loss.z_loss * lse)
                grad.scatter_add_(1, y, grad.new_full(y.shape, eps - 1.0))
                if eps:
                    grad = grad.sub_(eps / vocab)
                if loss.softcap:
                    grad = grad.mul_(slope)
                grad = grad if scale is None else grad.mul_(scale)
                grad = (grad if late else grad.div_(normaliser)).to(matmul)
                if kept is not None:
                    grad = grad.masked_fill_(~kept, 0)
                if dx is not None:
                    dx[at] = grad @ w
                if dw is not None:
                    dw += grad.T @ x
        summed = losses.sum() / normaliser if len(losses) else losses.sum()
        factor = (1 / torch.as_tensor(normaliser, dtype=exact, device=hidden.device)).reshape(()) if late else None
        if part.kept is not None:  # 0 / 0 where nothing is labelled
            summed = summed.where(part.kept.any(), 0)
            factor = None if factor is None else factor.where(part.kept.any(), 0)
        ctx.dtypes = hidden.dtype, weight.dtype
        ctx.save_for_backward(dx, dw, factor)
        ctx.mark_non_differentiable(nll, *(() if hit is None else (hit,)))
        return summed, nll, hit

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        dx, dw, factor = ctx.saved_tensors
        if factor is not None:
            grad_loss = grad_loss * factor
        scaled = [None if d is None else d.to(grad_loss.dtype) * grad_loss for d in (dx, dw)]
        dx, dw = (None if d is None else d.to(t) for d, t in zip(scaled, ctx.dtypes, strict=True))
        return dx, dw, None, None, None, None, None


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
