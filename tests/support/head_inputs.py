"""Inputs of linear_cross_entropy for its tests, and the options that change its formula."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

EXTRAS: dict[str, dict[str, float]] = {
    "plain": {},
    "softcap": {"softcap": 2.0},
    "smoothing": {"label_smoothing": 0.2},
    "z_loss": {"z_loss": 0.05},
    "all": {"softcap": 3.0, "label_smoothing": 0.1, "z_loss": 0.02},
}


def inputs(device: torch.device, m: int = 13, h: int = 6, v: int = 11, dtype: torch.dtype = torch.float32) -> Any:
    """hidden and weight with gradients, targets with rows 0, 5 and m - 1 ignored."""
    g = torch.Generator().manual_seed(m + h + v)
    hidden = torch.randn(m, h, generator=g).to(device, dtype).requires_grad_()
    weight = torch.randn(v, h, generator=g).to(device, dtype).requires_grad_()
    targets = torch.randint(v, (m,), generator=g)
    if m > 6:
        targets[[0, 5, m - 1]] = -100
    return hidden, weight, targets.to(device)


def gradients(loss: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(loss, tensors)


def weights_for(targets: Tensor) -> Tensor:
    """Weights with zeros and one negative, as a policy gradient has."""
    w = torch.linspace(0.2, 2.0, len(targets))
    w[1::4], w[2] = 0.0, -0.7
    return w.to(targets.device)
