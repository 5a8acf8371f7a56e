"""How much arithmetic a step is, and how much of the machine's it uses (MFU, arXiv 2204.02311, appendix B)."""

from __future__ import annotations

import statistics
import time

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


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a large matmul here and now: the ceiling that MFU is a share of. Takes a fraction of a second."""
    side = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    times = []
    for _ in range(6):
        _wait(device)
        begun = time.perf_counter()
        torch.mm(a, b)
        _wait(device)
        times.append(time.perf_counter() - begun)
    return 2 * side**3 / statistics.median(times[1:])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
