"""AdamW (arXiv 1711.05101) over weights of any dtype, one weight at a time.

The arithmetic is torch's (float32 moments) or bitsandbytes' (8 bits, arXiv 2110.02861). What is ours: float32 weights
are updated where they lie; bfloat16 ones in slices that are widened to float32, updated, and rounded stochastically
(arXiv 2010.06192), because an update of 1e-5 of a weight is less than half of bfloat16's step and rounding to nearest
would lose it every time. A weight can be updated as soon as its gradient is there, inside backward, so that gradients
never all live at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dpr_mini import recipe
from dpr_mini.training import TrainError
from dpr_mini.types import seed_for

SLICE = 1 << 24  # bfloat16 values that are widened at a time: bounds the memory of an update, about 16 bytes a value


@dataclass(eq=False)
class Part:
    """A weight, or a slice of a bfloat16 one, with a library optimiser for it alone."""

    name: str
    weight: nn.Parameter
    begin: int
    end: int
    stand_in: nn.Parameter  # what the library sees: the weight itself, or a float32 copy that lives for one update
    optimiser: torch.optim.Optimizer


class Optimiser:
    """Updates the named weights; weight decay is for matrices only, not for norms and biases.

    `named`: the trained weights, float32 or bfloat16. `seed` draws the rounding, one stream a step, so that a resumed
    run rounds like an unbroken one. Raises TrainError where bitsandbytes is asked for and missing.
    """

    def __init__(self, named: Iterable[tuple[str, nn.Parameter]], config: recipe.TrainConfig, seed: int) -> None:
        self.parts: dict[nn.Parameter, list[Part]] = {}
        for name, weight in named:
            decay = config.weight_decay if weight.ndim >= 2 else 0.0
            self.parts[weight] = list(_parts(name, weight, config, decay))
        if not self.parts:
            raise TrainError("the model has no weight to train")
        self.seed = seed
        self.squares: Tensor | None = None  # of the gradients taken inside backward
        self._generators: dict[torch.device, torch.Generator] = {}

    def begin(self, step: int, learning_rate: float) -> None:
        """Before the backward of a step: set its learning rate and its stream of rounding."""
        self.squares = None
        for device in {weight.device for weight in self.parts}:
            generator = self._generators.setdefault(device, torch.Generator(device))
            generator.manual_seed(seed_for(self.seed, "rounding", step))
        for parts in self.parts.values():
            for part in parts:
                for group in part.optimiser.param_groups:
                    group["lr"] = learning_rate

    def step(self) -> None:
        """Update every weight that has a gradient, and drop the gradients."""
        for weight in self.parts:
            self.update(weight)

    def update_in_backward(self) -> None:
        """From now on, update each weight the moment its gradient is complete; `squares` sums their norms."""
        for weight in self.parts:
            weight.register_post_accumulate_grad_hook(self._take)

    def _take(self, weight: Tensor) -> None:
        norm = torch.linalg.vector_norm(weight.grad, dtype=torch.float32)
        self.squares = norm.square() if self.squares is None else self.squares + norm.square()
        self.update(weight)

    @torch.no_grad()
    def update(self, weight: nn.Parameter) -> None:
        """One weight, from its gradient, which is dropped. Nothing without one."""
        if weight.grad is None:
            return
        for part in self.parts[weight]:
            if part.stand_in is weight:
                part.optimiser.step()
                continue
            values = weight.view(-1)[part.begin : part.end]
            part.stand_in.data = values.float()
            part.stand_in.grad = weight.grad.view(-1)[part.begin : part.end].float()
            part.optimiser.step()
            values.copy_(round_stochastically(part.stand_in.data, self._generators[weight.device]))
            part.stand_in.data, part.stand_in.grad = values.new_empty(0, dtype=torch.float32), None
        weight.grad = None

    def state(self) -> dict[str, Tensor]:
        """All moments and counters by the names of their weights, for a checkpoint."""
        moments = {}
        for part in self._each():
            for key, value in part.optimiser.state[part.stand_in].items():
                moments[f"{part.name}.{key}"] = value if isinstance(value, Tensor) else torch.tensor(value)
        return moments

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `state` gave. Raises TrainError where it belongs to other weights or another optimiser."""
        grouped: dict[str, dict[str, Tensor]] = {}
        for name, value in state.items():
            owner, _, key = name.rpartition(".")
            grouped.setdefault(owner, {})[key] = value
        if odd := grouped.keys() ^ {part.name for part in self._each()}:
            raise TrainError(f"the checkpoint's optimiser is another one's: {sorted(odd)[0]} is in one of them only")
        for part in self._each():
            counts = not isinstance(part.optimiser, torch.optim.AdamW)  # bitsandbytes counts steps in Python
            part.optimiser.state[part.stand_in] = {
                key: int(value) if counts and key == "step" else value.to(part.weight.device, copy=True)
                for key, value in grouped[part.name].items()
            }

    def _each(self) -> Iterator[Part]:
        return (part for parts in self.parts.values() for part in parts)


def round_stochastically(x: Tensor, generator: torch.Generator) -> Tensor:
    """float32 -> bfloat16, up or down with the probability that makes the mean exact (arXiv 2010.06192, section 3).

    Adds a uniform 16-bit number to the bits that bfloat16 cuts off. Writes into `x`; finite values only.
    """
    bits = x.view(torch.int32)
    bits.add_(torch.randint(1 << 16, bits.shape, dtype=torch.int32, device=x.device, generator=generator))
    bits.bitwise_and_(-1 << 16)
    return x.bfloat16()


def _parts(name: str, weight: nn.Parameter, config: recipe.TrainConfig, decay: float) -> Iterator[Part]:
    size = weight.numel()
    if weight.dtype == torch.float32:
        yield Part(name, weight, 0, size, weight, _library(weight, config, decay))
        return
    for begin in range(0, size, SLICE):
        stand_in = nn.Parameter(torch.empty(0, dtype=torch.float32, device=weight.device))
        inner = _library(stand_in, config, decay)
        yield Part(f"{name}[{begin}:]", weight, begin, min(begin + SLICE, size), stand_in, inner)


def _library(weight: nn.Parameter, config: recipe.TrainConfig, decay: float) -> torch.optim.Optimizer:
    options: dict[str, Any] = {"lr": config.learning_rate, "betas": config.betas, "weight_decay": decay}
    if config.optimiser == "adamw":
        return torch.optim.AdamW([weight], fused=True, **options)
    try:
        from bitsandbytes.optim import AdamW8bit
    except ModuleNotFoundError as error:
        raise TrainError(
            f"train.optimiser is adamw8bit, but {error.name} is not installed: pip install 'dpr-mini[qlora]'"
        ) from None
    return AdamW8bit([weight], **options)
