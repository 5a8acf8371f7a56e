"""What every implementation of linear_cross_entropy is given: the options, the checked call, and which rows count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from dpr_kernels._rows import check_devices


@dataclass(frozen=True)
class HeadLoss:
    """The options that do not depend on the data, as linear_cross_entropy describes them. ValueError for a bad one."""

    ignore_index: int
    softcap: float | None
    label_smoothing: float
    z_loss: float
    chunk: int | None
    accumulate: Literal["float32", "weight"]
    logits: Literal["matmul", "float32"]
    overlap: bool = False

    def __post_init__(self) -> None:
        if self.chunk is not None and self.chunk < 1:
            raise ValueError(f"chunk must be at least 1, got {self.chunk}")
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


class Computed(NamedTuple):
    """What an implementation's function without autograd gives: `_compute` of linear_cross_entropy, head_chunked's too.

    dx (M, H) has hidden's dtype, dw (V, H) weight's or that of its sum (float32, float64); None where not asked for.
    """

    loss: Tensor  # () float32, float64 for float64 inputs; already divided by the normaliser
    nll: Tensor | None  # (K,) as the loss, aligned with Labelled's targets
    hit: Tensor | None  # (K,) bool
    dx: Tensor | None
    dw: Tensor | None
    late_scale: Tensor | None  # () what backward has still to multiply dx and dw with (float16); None: nothing


@dataclass(frozen=True, eq=False)
class HeadJob:
    """One call of the loss. `of` makes it from a user's arguments; the shapes are those of linear_cross_entropy."""

    hidden: Tensor  # (M, H)
    weight: Tensor  # (V, H)
    targets: Tensor  # (M,)
    normaliser: float | Tensor
    token_weights: Tensor | None  # (M,)
    rows: Tensor | Literal["all"] | None  # (K,)
    loss: HeadLoss
    needs: tuple[
        bool, bool
    ]  # whether hidden and weight get a gradient; inside an autograd function it is too late to ask

    @classmethod
    def of(
        cls,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        normaliser: float | Tensor,
        token_weights: Tensor | None,
        rows: Tensor | Literal["all"] | None,
        loss: HeadLoss,
    ) -> HeadJob:
        """Raises ValueError for tensors that do not fit or lie elsewhere; looks at no value that lies on a GPU."""
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
        on_device = {"hidden": hidden, "weight": weight, "targets": targets, "token_weights": token_weights}
        for name, x in {"rows": rows, "normaliser": normaliser}.items():  # on the CPU they are moved when wanted
            if isinstance(x, Tensor) and x.device.type != "cpu":
                on_device[name] = x
        check_devices("linear_cross_entropy", **on_device)
        _check_rows(rows, len(targets))
        grad = torch.is_grad_enabled()
        needs = (grad and hidden.requires_grad, grad and weight.requires_grad)
        return cls(hidden, weight, targets, normaliser, token_weights, rows, loss, needs)

    @property
    def matmul(self) -> torch.dtype:
        """The dtype of the matmuls: autocast's where autocast is on, else hidden's."""
        kind = self.hidden.device.type
        return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else self.hidden.dtype

    def labelled(self) -> Labelled:
        """Drop the rows that count for nothing: by `rows` without asking the device, else by one nonzero()."""
        targets, weights, ignored = self.targets, self.token_weights, self.loss.ignore_index
        kept = targets != ignored
        if weights is not None:
            weights = weights.to(torch.float64 if self.hidden.dtype == torch.float64 else torch.float32)
            kept = kept & (weights != 0)
        if self.rows is None:
            picked = kept.nonzero().squeeze(1)
            where, kept = (None if len(picked) == len(targets) else picked), None
        elif isinstance(self.rows, str):
            where = None
        else:
            where = self.rows.to(targets.device, non_blocking=True)
            kept = kept[where]
        if where is not None:
            targets = targets[where]
            weights = None if weights is None else weights[where]
        if targets.device.type == "cpu":  # a GPU's are not read: a bad one makes loss and gradient NaN
            check_targets(targets if kept is None else targets[kept], self.weight.shape[0], ignored)
        return Labelled(where, targets, weights, kept)


def _check_rows(rows: Tensor | str | None, count: int) -> None:
    if isinstance(rows, str) and rows != "all":
        raise ValueError(f"rows must be None, 'all' or a tensor, got {rows!r}")
    if not isinstance(rows, Tensor):
        return
    if rows.ndim != 1 or rows.dtype != torch.int64:
        raise ValueError(f"rows must be (K,) int64, got {(*rows.shape,)} {rows.dtype}")
    if rows.device.type == "cpu" and len(rows):
        rising = bool((rows.diff() > 0).all())
        if not (rising and int(rows[0]) >= 0 and int(rows[-1]) < count):
            raise ValueError(f"rows must rise strictly within [0, {count})")


def check_targets(targets: Tensor, vocab: int, ignore_index: int) -> None:
    """Raises ValueError for a target of a row that counts outside [0, vocab); reads values."""
    if len(targets) and not 0 <= int(targets.min()) <= int(targets.max()) < vocab:
        raise ValueError(f"targets must lie in [0, {vocab}) or equal ignore_index {ignore_index}")


def results(
    total: Tensor, nll: Tensor | None, hit: Tensor | None, rows: Tensor | None, shape: torch.Size
) -> Tensor | tuple[Tensor, ...]:
    """The loss, and what the caller wants beside it: nll and hit of the labelled `rows` spread over all of `shape`."""
    beside = [x for x in (nll, hit) if x is not None]
    if rows is not None:
        beside = [x.new_zeros(shape).index_copy_(0, rows, x) for x in beside]
    return (total, *beside) if beside else total
