"""A dry run of training: the recipe's training sections on a model of random weights and rows of random tokens.

Two steps each through the real trainer, saving included, so that a missing library, a backend that cannot run here or
too little memory shows in a minute and not after hours of sampling. `scale` shrinks the number of layers and the rows;
the widths and the vocabulary, which decide what a kernel can take, stay those of the model.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from dpr_mini import progress, store
from dpr_mini.model import EMBEDDED
from dpr_mini.pipeline import Owner
from dpr_mini.recipe import Recipe
from dpr_mini.shapes import config_for
from dpr_mini.types import Pack, UserError, to_row

STEPS = 2
SMALLEST = 64  # tokens of a row


class RehearsalError(UserError):
    """A model whose shape is not known here."""


def rehearse(recipe: Recipe, base: Path) -> None:
    """Two training steps for each different training section; prints loss, speed and memory of each.

    `base` is the recipe's folder. Raises RehearsalError for a model of unknown shape, and what the trainer raises.
    """
    from dpr_mini.stages import train

    rows = max(SMALLEST, round(recipe.pack.tokens_per_row * recipe.scale))
    with tempfile.TemporaryDirectory(prefix="dpr-mini-dry-run-") as temporary:
        folder = Path(temporary)
        layers, vocabulary = _random_model(folder / "model", recipe, base)
        for name, section in _sections(recipe):
            short = section.model_copy(
                update={"epochs": 1, "rows_per_step": min(section.rows_per_step, 2), "report_to": "none"}
            )
            packs = folder / f"packs-{name}"
            packs.mkdir()
            made = (_random_row(i, rows, vocabulary) for i in range(STEPS * short.rows_per_step))
            store.write_rows(packs / "rows.jsonl", made)
            (out := folder / name).mkdir()
            print(f"dry run of {name}: {layers} layers of random weights, rows of {rows} tokens")
            metrics = train.run(out, packs, folder / "model", short, recipe.seed, section.save_dtype)
            kind = "gpu" if "peak_gpu_gib" in metrics else "rss"
            print(
                f"dry run of {name}: {metrics['steps']} steps, loss {metrics['first_loss']:.3f} -> "
                f"{metrics['last_loss']:.3f}, {metrics['tokens_per_second']:.0f} tokens/s, "
                f"{metrics[f'peak_{kind}_gib']} GiB of {'GPU' if kind == 'gpu' else 'host'} memory at most"
            )


def _sections(recipe: Recipe) -> Iterator[tuple[str, Any]]:
    """The training sections that this recipe uses; phase 2's only where it differs in what is set up."""
    if 1 in recipe.phases:
        yield "train", recipe.train
    free = {"epochs", "learning_rate", "warmup_ratio", "min_lr_ratio", "save_steps", "init", "weight_decay"}
    same = recipe.train.model_dump(exclude=free) == recipe.train_2.model_dump(exclude=free)
    if 2 in recipe.phases and not (1 in recipe.phases and same):
        yield "train_2", recipe.train_2


def _random_model(folder: Path, recipe: Recipe, base: Path) -> tuple[int, int]:
    """A model of the recipe's shape, fewer layers and random weights, in `folder`; (layers, vocabulary)."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    name = recipe.model.name
    if local := Owner(recipe, base).local():
        config = AutoConfig.from_pretrained(local)
    elif known := config_for("smollm2-135m" if name == EMBEDDED else name):
        config = AutoConfig.for_model(**known)
    else:
        raise RehearsalError(f"a dry run needs the model's shape, and {name} is not known here; give its folder")
    config.num_hidden_layers = max(1, round(config.num_hidden_layers * recipe.scale))
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[: config.num_hidden_layers]
    progress.quiet_transformers()
    torch.manual_seed(recipe.seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    return config.num_hidden_layers, config.vocab_size


def _random_row(number: int, tokens: int, vocabulary: int) -> dict[str, Any]:
    """Documents of different lengths; the first third of each is not trained on."""
    draw = random.Random(number)
    starts, trained = [0], []
    while starts[-1] < tokens:
        starts.append(min(tokens, starts[-1] + draw.randint(tokens // 8 + 2, tokens // 2)))
    for begin, end in pairwise(starts):
        trained += [i >= (end - begin) // 3 for i in range(end - begin)]
    names = tuple(f"random-{number}-{i}" for i in range(len(starts) - 1))
    ids = tuple(draw.randrange(vocabulary) for _ in range(tokens))
    return {"id": f"row-{number}"} | to_row(Pack(names, ids, tuple(trained), tuple(starts[:-1])))
