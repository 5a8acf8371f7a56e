"""How much arithmetic a step is, and how much of the machine's it uses (MFU, arXiv 2204.02311, appendix B)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Flops:
    """FLOP of a training step of this model: what the mathematics asks for, not what is computed again.

    A weight that multiplies costs 2 FLOP a token forward, 2 for the gradient of its input and 2 more where it is
    trained. The head is counted at labelled tokens only, since it runs on no other. Causal attention of a document of
    L tokens: 2 L^2 D FLOP a query head forward (half of the square is masked), twice that backward (arXiv 2307.08691).
    """

    def __init__(self, model: nn.Module) -> None:
        head = model.get_output_embeddings()
        self.trained = self.frozen = 0
        for module in model.modules():
            if module is head or not isinstance(module, nn.Linear):
                continue
            if module.weight.requires_grad:
                self.trained += module.weight.numel()
            else:  # packed 4-bit weights have other shapes than the layer
                self.frozen += module.in_features * module.out_features
        c = model.config
        self.head, self.head_trained = c.vocab_size * c.hidden_size, head.weight.requires_grad
        width = getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads
        self.attention = c.num_hidden_layers * c.num_attention_heads * width

    def of(self, starts: Tensor, targets: int) -> float:
        """FLOP of one row: `starts` (B + 1,) = 0, ..., T, of whose tokens `targets` are labelled."""
        lengths = starts.diff().double()
        weights = (6 * self.trained + 4 * self.frozen) * lengths.sum().item()
        head = (6 if self.head_trained else 4) * self.head * targets
        return weights + head + 6 * self.attention * lengths.square().sum().item()


class Ceiling:
    """What MFU is a share of: the best matmul rate seen so far, so that no share is above 1.

    A rate that was measured beside other work is too low. A step that beats it is the sign: then it is measured again,
    and where the step is still faster, the step's own rate counts.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.device, self.dtype = device, dtype
        self.rate = matmul_rate(device, dtype)

    def share(self, rate: float) -> float:
        """MFU of a step of so many FLOP/s."""
        if rate > self.rate:
            self.rate = max(rate, matmul_rate(self.device, self.dtype))
        return rate / self.rate


def overall(steps: Sequence[Mapping[str, Any]]) -> float:
    """MFU of a whole training from its metrics rows, relative to the highest `matmul_flop_per_s` among them.

    Rows of one training may have several: a ceiling rises, and every process that resumes measures its own.
    """
    # rows written before there was a ceiling are left out
    measured_steps = [s for s in steps if "matmul_flop_per_s" in s]
    best = max((s["matmul_flop_per_s"] for s in measured_steps), default=1.0)
    used = sum(s["mfu"] * s["matmul_flop_per_s"] / best * s["seconds"] for s in measured_steps)
    return used / (sum(s["seconds"] for s in measured_steps) or 1.0)


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a large matmul here and now: the best of several, since other work and a cold start only take time.

    Takes a fraction of a second.
    """
    side = 8192 if device.type == "cuda" else 512  # small: bfloat16 without instructions for it runs at 1 GFLOP/s
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    times = []
    for _ in range(6):
        _wait(device)
        begun = time.perf_counter()
        torch.mm(a, b)
        _wait(device)
        times.append(time.perf_counter() - begun)
    return 2 * side**3 / min(times)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
