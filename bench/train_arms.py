"""What bench/train.py compares: models, arms, modes, and which row length comes next. Loads no torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from dpr_mini import recipe
from dpr_mini.models.shapes import SHAPES, Shape, config_for

MODELS = ("tiny", *SHAPES)
TINY = Shape("llama", 256, 64, 128, 2, 4, 2, 16, True, 8192).config() | {"initializer_range": 0.2}  # decisive logits
POSITIONS = (
    1 << 20
)  # tokens: random weights have no trained context, and Unsloth would stretch a shorter one's rotation

# transformers' own forward and loss: arm -> (Liger's patches?, attention; "" is what transformers offers here)
THEIRS = {
    "plain": (False, ""),
    "plain+packed": (False, "dpr_varlen"),
    "liger": (True, ""),
    "liger+packed": (True, "dpr_varlen"),
}
# our trainer: arm -> keys of recipe.TrainConfig
OURS: Mapping[str, Mapping[str, Any]] = {
    "plain+linear-ce": {"backend": "plain"},
    "ours": {},
    "ours+offload": {"offload_checkpoints": True},
    "ours+offload+tiled": {"offload_checkpoints": True, "tiled_mlp": 1},
    "unsloth": {"backend": "unsloth", "offload_checkpoints": True},  # its checkpoints wait on the host by default
}
ARMS = (*THEIRS, *OURS)
LADDER = ("plain", "plain+packed", "plain+linear-ce", "ours", "ours+offload", "ours+offload+tiled")
MODES: Mapping[str, Mapping[str, Any]] = {
    "full": {"weights": "bfloat16"},
    "full32": {"weights": "float32"},
    "lora": {"mode": "lora"},
    "qlora": {"mode": "qlora"},
}
LEAST = 1024  # tokens: the search for the longest row goes no lower


def settings(arm: str, mode: str, *, gpu: bool, tokens: int, tile: int, optimiser: str) -> recipe.TrainConfig:
    """What an arm asks of our trainer; of `plain` and `liger` what the model is loaded with.

    `optimiser` is for our trainer in mode full, which then updates inside backward. `tokens` and `tile` give the
    number of slices of a tiled MLP. Without a GPU whatever is not bfloat16 weights multiplies in float32.
    """
    keys: dict[str, Any] = {"gradient_checkpointing": True, "max_grad_norm": None, "learning_rate": 1e-4}
    keys |= {"save_steps": 10**9, **MODES[mode]}
    if arm in THEIRS:
        keys["backend"] = "plain"
    else:
        keys |= OURS[arm]
        if mode == "full":
            keys |= {"optimiser": optimiser, "update_in_backward": True}
    if "tiled_mlp" in keys:
        keys["tiled_mlp"] = -(-tokens // tile)
    if not gpu and mode != "full":
        keys["dtype"] = "float32"
    return recipe.TrainConfig(**keys)


def updates(arm: str, config: recipe.TrainConfig) -> str:
    """How the weights are updated, in words for a row."""
    what = f"{config.weights} weights" if config.mode == "full" else "float32 adapters"
    if arm in THEIRS:
        moments = config.weights if config.mode == "full" else "float32"
        return f"{what}: torch.optim.AdamW(fused=True), {moments} moments, rounded to nearest, no clipping"
    where = "inside backward" if config.update_in_backward else "after backward"
    rounding = ", rounded stochastically" if config.weights == "bfloat16" else ""
    return f"{what}: {config.optimiser} of dpr_mini.training, {where}{rounding}, no clipping"


def model_config(name: str) -> dict[str, Any]:
    """Arguments of AutoConfig.for_model."""
    known = TINY if name == "tiny" else config_for(name)
    if known is None:
        raise ValueError(f"no model {name!r}; there are {', '.join(MODELS)}")
    return known | {"max_position_embeddings": POSITIONS}


def following(done: Mapping[int, str], asked: Collection[int], longest: bool, most: int) -> int | None:
    """The row length to measure next, or None: `done` maps lengths to "ok" or "oom".

    First what was asked for, shortest first, nothing longer than what was out of memory. `longest`: then doubling up to
    `most` until memory is out, or halving down to LEAST until it is enough, then the middle while the shortest that
    failed is at least twice the longest that fitted.
    """
    fits = max((n for n, status in done.items() if status == "ok"), default=0)
    fails = min((n for n, status in done.items() if status != "ok"), default=0)
    for n in sorted(asked):
        if n not in done and not (fails and n > fails):
            return n
    if not longest:
        return None
    if not fails:
        return 2 * fits if 2 * fits <= most else None
    if not fits:
        return fails // 2 if fails // 2 >= LEAST else None
    return (fits + fails) // 2 if fails >= 2 * fits else None
