"""A rehearsal of training: the recipe's training sections on random weights and rows of random tokens, two steps each.

`rehearse` is `run --dry-run`: every layer, rows of full length, the model made on the device and nothing saved, so that
a missing library, a backend that cannot run here or too little memory shows in a minute and not after hours of
sampling. `rehearse_layer` is the beginning of a run on a GPU: one layer, short rows, and the whole training stage with
its loading and saving. Both work in the child process that training works in (training/process.py). The widths and
the vocabulary, which decide what a kernel can take, are those of the model.
"""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from dpr_mini.files.rows import write_rows
from dpr_mini.models.resolve import EMBEDDED, local_folder
from dpr_mini.models.shapes import config_for
from dpr_mini.recipe import Recipe, TrainConfig
from dpr_mini.training import TrainError, process
from dpr_mini.types import Pack, UserError, to_row

STEPS = 2
SMALLEST = 64  # tokens of a row
SHORT = 512  # tokens of a row of `rehearse_layer`


class RehearsalError(UserError):
    """A model whose shape is not known here."""


def rehearse(recipe: Recipe, base: Path) -> None:
    """Two training steps for each different training section; prints loss, speed and memory of each.

    `base` is the recipe's folder; `scale` shrinks the number of layers and the rows. Raises RehearsalError for a model
    of unknown shape, and what the trainer raises.
    """
    tokens = max(SMALLEST, round(recipe.pack.tokens_per_row * recipe.scale))
    for name, section in sections(recipe):
        print(f"dry run of {name}: rows of {tokens} tokens, {recipe.scale:g} of the layers, random weights", flush=True)
        metrics = _child(recipe, base, section, {"share": recipe.scale, "tokens": tokens, "save": False})
        kind = "gpu" if "peak_gpu_gib" in metrics else "rss"
        print(
            f"dry run of {name}: {metrics['layers']} layers, {metrics['steps']} steps, loss "
            f"{metrics['first_loss']:.3f} -> {metrics['last_loss']:.3f}, {metrics['tokens_per_second']:.0f} tokens/s, "
            f"{metrics[f'peak_{kind}_gib']} GiB of {'GPU' if kind == 'gpu' else 'host'} memory at most"
        )


def rehearse_layer(recipe: Recipe, base: Path, name: str, section: TrainConfig) -> str:
    """The training stage on one layer of the model, loading, two steps and saving included; a line that says so.

    Raises RehearsalError for a model of unknown shape, and what the trainer raises.
    """
    begun = time.monotonic()
    tokens = min(SHORT, recipe.pack.tokens_per_row)
    metrics = _child(recipe, base, section, {"share": 0.0, "tokens": tokens, "save": True})
    took = time.monotonic() - begun
    return (
        f"rehearsed one layer of {name} in {took:.0f} s: {section.mode} on {section.backend}, "
        f"loss {metrics['first_loss']:.3f} -> {metrics['last_loss']:.3f}, saved"
    )


def failures(recipe: Recipe, base: Path) -> list[str]:
    """Rehearse one layer of each training section and print how it went; a line for one that does not end well."""
    lines = []
    for name, section in sections(recipe):
        try:
            print(rehearse_layer(recipe, base, name, section), flush=True)
        except RehearsalError as error:
            print(f"not rehearsed: {error}", flush=True)
        except TrainError as error:
            lines.append(f"{name} does not run here: {error}")
    return lines


def sections(recipe: Recipe) -> Iterator[tuple[str, TrainConfig]]:
    """The training sections that this recipe uses; phase 2's only where it differs in what is set up."""
    if 1 in recipe.phases:
        yield "train", recipe.train
    free = {"epochs", "learning_rate", "warmup_ratio", "min_lr_ratio", "save_steps", "init", "weight_decay"}
    same = recipe.train.model_dump(exclude=free) == recipe.train_2.model_dump(exclude=free)
    if 2 in recipe.phases and not (1 in recipe.phases and same):
        yield "train_2", recipe.train_2


def _child(recipe: Recipe, base: Path, section: TrainConfig, job: dict[str, Any]) -> dict[str, Any]:
    """`steps` in a process of its own; its metrics."""
    name, local = recipe.model.name, local_folder(recipe.model.name, base)
    if local is None and config_for(_known(name)) is None:
        raise RehearsalError(f"a dry run needs the model's shape, and {name} is not known here; give its folder")
    if section.backend == "unsloth":  # it loads a folder, and no folder without a tokenizer
        if local is None:
            raise RehearsalError(f"a dry run of Unsloth needs a tokenizer: give the folder of {name}")
        job |= {"save": True}
    short = {"epochs": 1, "rows_per_step": min(section.rows_per_step, 2), "report_to": "none"}
    config = section.model_copy(update=short)
    job |= {"kind": "rehearse", "model": _known(name), "local": str(local) if local else None, "seed": recipe.seed}
    with tempfile.TemporaryDirectory(prefix="dpr-mini-rehearsal-") as folder:
        work = job | {"config": config.model_dump(mode="json")}
        return process.run(Path(folder), work, config, gpu=recipe.needs.gpu_gib > 0)


def _known(name: str) -> str:
    return "smollm2-135m" if name == EMBEDDED else name


def steps(folder: Path, job: dict[str, Any], config: TrainConfig) -> dict[str, Any]:
    """In the child: two optimiser steps; the metrics of the training stage, and the number of layers."""
    import torch
    from transformers import AutoConfig

    from dpr_mini.machine import mkl
    from dpr_mini.training import build
    from dpr_mini.training import loop as train
    from dpr_mini.training.checkpoints import trainable
    from dpr_mini.training.optimiser import Optimiser

    mkl.settle()
    shape = (
        AutoConfig.from_pretrained(job["local"]) if job["local"] else AutoConfig.for_model(**config_for(job["model"]))
    )
    shape.num_hidden_layers = max(1, round(shape.num_hidden_layers * job["share"]))
    if getattr(shape, "layer_types", None):
        shape.layer_types = shape.layer_types[: shape.num_hidden_layers]
    packs = [_random_pack(i, job["tokens"], shape.vocab_size) for i in range(STEPS * config.rows_per_step)]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    layers = {"layers": shape.num_hidden_layers}
    if job["save"]:
        model = _saved(folder / "start", shape, device, job)
        (folder / "packs").mkdir()
        rows = ({"id": f"row-{i}", **to_row(pack)} for i, pack in enumerate(packs))
        write_rows(folder / "packs" / "rows.jsonl", rows)
        return train.run(folder, folder / "packs", model, config, job["seed"]) | layers
    dtype, reason = build.choose_dtype(config, device)
    print(f"train: {config.mode} on {config.backend}, {dtype} matmuls ({reason}), on {device}", flush=True)
    torch.manual_seed(job["seed"])
    model = build.make(shape, config, dtype, device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()  # what making the model took is not what training takes
    optimiser = Optimiser(trainable(model), config, job["seed"])
    log = folder / "metrics.jsonl"
    data = [train.Row.of(pack) for pack in packs]
    train.fit(folder, log, data, model, optimiser, config, job["seed"], dtype, 0, lambda row: None)
    return train.summary(log, config) | layers


def _saved(folder: Path, shape: Any, device: Any, job: dict[str, Any]) -> Path:
    """A model of random weights in `folder`, drawn on `device`, with the tokenizer of the recipe's folder if any."""
    import torch
    from transformers import AutoModelForCausalLM

    from dpr_mini.machine import progress
    from dpr_mini.training.build import TOKENIZER

    progress.quiet_transformers()
    torch.manual_seed(job["seed"])
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(shape, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    for pattern in TOKENIZER if job["local"] else ():
        for file in Path(job["local"]).glob(pattern):
            shutil.copy2(file, folder / file.name)
    return folder


def _random_pack(number: int, tokens: int, vocabulary: int) -> Pack:
    """Documents of different lengths; the first third of each is not trained on."""
    draw = random.Random(number)
    starts, trained = [0], []
    while starts[-1] < tokens:
        starts.append(min(tokens, starts[-1] + draw.randint(tokens // 8 + 2, tokens // 2)))
    for begin, end in pairwise(starts):
        trained += [i >= (end - begin) // 3 for i in range(end - begin)]
    names = tuple(f"random-{number}-{i}" for i in range(len(starts) - 1))
    return Pack(names, tuple(draw.randrange(vocabulary) for _ in range(tokens)), tuple(trained), tuple(starts[:-1]))
