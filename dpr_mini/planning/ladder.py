"""Where a recipe does not fit a card: the nearest recipe that does, found by trying the switches that save memory.

The ladder is every combination of these rungs. A rung's cost says how much it changes, so that the cheapest
combination is the nearest; a changed result always costs more than all that only takes time.

    cost  rung                                            what it changes
       1  gradient_checkpointing                          time: a third more (each layer's forward twice)
       2  gradient_checkpointing and offload_checkpoints  time, and host memory
       1  tiled_mlp, tiles of 4096 tokens                 time: the MLP's forward once more
       5  optimiser=adamw8bit                             moments are rounded
      10  weights=bfloat16                                weights are rounded (stochastically)
      16  the same and update_in_backward                 and no accumulation over rows, no clipping
      40  mode=lora                                       the method: adapters
      50  mode=qlora                                      the method, and frozen weights in 4 bits
      60  the longest row that fits                       the data: longer samples are dropped
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from dpr_mini.planning.capacity import Training
from dpr_mini.recipe import Recipe, RecipeError, TrainConfig

SHORTER = 60
RESULT = 5  # the least cost of a changed result
LEAST_ROW = 1024  # tokens; a shorter one is no fix

Changes = dict[str, Any]


@dataclass(frozen=True)
class Fix:
    """Changes that fit: keys of the training sections, and a row length or None."""

    cost: int
    changes: Changes
    tokens: int | None = None


def rungs(tokens: int) -> tuple[tuple[tuple[int, Changes], ...], ...]:
    """Groups of alternatives; one of each group makes a combination."""
    floats: Changes = {"weights": "float32", "update_in_backward": False}
    at_once: Changes = {"update_in_backward": True, "rows_per_step": 1, "max_grad_norm": None}
    checkpoint: Changes = {"gradient_checkpointing": True}
    return (
        ((0, {}), (1, checkpoint), (2, {**checkpoint, "offload_checkpoints": True})),
        ((0, {}), (1, {"tiled_mlp": max(2, -(-tokens // 4096))})),
        ((0, {}), (5, {"optimiser": "adamw8bit"})),
        (
            (0, {}),
            (10, {"weights": "bfloat16"}),
            (16, {"weights": "bfloat16", **at_once}),
            (40, {"mode": "lora", **floats}),
            (50, {"mode": "qlora", **floats}),
        ),
    )


def combinations(tokens: int) -> list[tuple[int, Changes]]:
    """(cost, changes) of every combination, cheapest first."""
    pairs: list[tuple[int, Changes]] = [(0, {})]
    for group in rungs(tokens):
        pairs = [(cost + more, {**changes, **extra}) for cost, changes in pairs for more, extra in group]
    return sorted(pairs, key=lambda item: (item[0], len(item[1])))


def apply(train: TrainConfig, changes: Changes) -> TrainConfig | None:
    """The section with the changes; None where they do not go together with the rest of it, or undo a saving."""
    order = ("full", "lora", "qlora")
    if "mode" in changes and order.index(changes["mode"]) < order.index(train.mode):
        return None
    if "weights" in changes and "mode" not in changes and train.mode != "full":
        return None
    try:
        return TrainConfig.model_validate(train.model_dump() | changes)
    except ValidationError:
        return None


def fixes(trainings: list[Training], most: float) -> list[Fix]:
    """Changes that make the trainings fit in `most` bytes of the card; [] where nothing helps.

    First the cheapest at this row length. Where that changes the result, or there is none, two alternatives follow: the
    cheapest with adapters, and the longest row that fits with changes that cost time only.
    """
    tokens = trainings[0].job.tokens
    tried = [(cost, ch, changed) for cost, ch in combinations(tokens) if (changed := _changed(trainings, ch))]
    fitting = [Fix(cost, ch) for cost, ch, changed in tried if max(t.total for t in changed) <= most]
    nearest_fixes = fitting[:1]
    if nearest_fixes and nearest_fixes[0].cost < RESULT:
        return nearest_fixes
    if not nearest_fixes or "mode" not in nearest_fixes[0].changes:
        nearest_fixes += [m for m in fitting if "mode" in m.changes][:1]
    rows = [
        Fix(cost + SHORTER, ch, min(t.longest_row(most) for t in changed))
        for cost, ch, changed in tried
        if cost < RESULT
    ]
    longest = max(rows, key=lambda m: (m.tokens or 0, -m.cost))
    return nearest_fixes + ([longest] if LEAST_ROW <= (longest.tokens or 0) < tokens else [])


def _changed(trainings: list[Training], changes: Changes) -> list[Training]:
    """The trainings with the changes; [] where one of them cannot have these, or all have this mode already."""
    if "mode" in changes and all(t.job.train.mode == changes["mode"] for t in trainings):
        return []
    pairs = [(t, apply(t.job.train, changes)) for t in trainings]
    return [Training(t.section, replace(t.job, train=c)) for t, c in pairs if c] if all(c for _, c in pairs) else []


def overrides(fix: Fix, recipe: Recipe, needs: float | None, load: Callable[[list[str]], Recipe]) -> list[str]:
    """Command-line overrides (section.key=value) that make the change.

    `needs`: GiB to ask for instead of what the recipe asks for, or None. `load` gives the recipe with overrides: a
    key that train_2 sets for itself is not inherited from `train`, and gets an override of its own.
    """
    before, texts = recipe.train.model_dump(), [] if needs is None else [f"needs.gpu_gib={needs:g}"]
    texts += [f"train.{key}={_text(value)}" for key, value in fix.changes.items() if before[key] != value]
    if 2 in recipe.phases:
        try:
            after = load(texts).train_2.model_dump()
        except RecipeError:  # half of the change does not go together with the rest of train_2
            after = {}
        texts += [f"train_2.{k}={_text(v)}" for k, v in fix.changes.items() if k not in after or after[k] != v]
    return texts + ([] if fix.tokens is None else [f"pack.tokens_per_row={fix.tokens}"])


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
