"""Supervised fine-tuning on packed rows, in a process of its own: the loop is in training/loop.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dpr_mini.planning.plan import training_gib
from dpr_mini.recipe import TrainConfig
from dpr_mini.store import Kind, Settings, Work
from dpr_mini.training import process


@dataclass(frozen=True)
class TrainSettings(Settings):
    config: TrainConfig
    seed: int
    base: str | None  # identity of the base model; None where training goes on from another stage's model
    gpu: bool  # the recipe needs one; not in the key
    tokens_per_row: int  # as packed, to foresee the memory; the rows' own key has it

    def key(self) -> dict[str, Any]:
        return self.config.changes_weights() | {"seed": self.seed} | ({"base": self.base} if self.base else {})


def run(work: Work) -> dict[str, Any]:
    """Train on the rows of `packs`; leaves a Hugging Face folder `model`. Raises TrainError."""
    settings: TrainSettings = work.settings
    work.machine.close()
    model = work.model
    need = training_gib(settings.config, settings.tokens_per_row, model) if settings.gpu else None
    return process.train(work.folder, work.inputs["packs"], model, settings.config, settings.seed, settings.gpu, need)


TRAIN = Kind(version=2, run=run)
