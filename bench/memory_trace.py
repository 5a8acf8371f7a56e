"""Memory of a recipe's training counted on a GPU that is not there, beside what the planner says.

    python bench/memory_trace.py RECIPE [key=value ...] [RECIPE [key=value ...]] ...

    recipes/qwen7b.yaml train.rows_per_step=2         counts what 4 rows count, in half of the time
    recipes/qwen7b.yaml layers=3                      a model with fewer layers, for the planner too
    recipes/qwen7b.yaml layers=3 leak=1               a copy of every layer's output that nobody frees

The real loop (dpr_mini/training/loop.py: fit) runs for two steps on fake CUDA tensors of the recipe's shapes: forward,
loss, backward, accumulation, clipping, AdamW, with every storage counted while it lives (bench/fake_gpu.py). Rows are
documents of 900 tokens, all labelled but the first of each: the most that the head can get. No weights are needed.
A JSON line a recipe: GiB at each moment, without context and slack. train.mode qlora is not possible: its weights are
quantised while a folder is loaded.
"""

from __future__ import annotations

import sys
from pathlib import Path

import fake_gpu

if __name__ == "__main__":
    fake_gpu.start()

import json
import tempfile
import time
import warnings
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import nn
from transformers import AutoConfig

import dpr_mini.training.loop as trainer
from dpr_mini import recipe
from dpr_mini.models.shapes import Shape, shape_of
from dpr_mini.planning import capacity
from dpr_mini.recipe import TrainConfig
from dpr_mini.training import build
from dpr_mini.training.checkpoints import trainable
from dpr_mini.training.optimiser import Optimiser
from dpr_mini.types import Pack, UserError

STEPS = 2  # the first one allocates the moments
DOCUMENT = 900  # tokens
GIB = 2**30


def main() -> None:
    jobs: list[list[str]] = []
    for word in sys.argv[1:]:
        if "=" not in word:
            jobs.append([word])
        elif jobs:
            jobs[-1].append(word)
    if not jobs or sys.argv[1] in ("-h", "--help"):
        sys.exit(__doc__)
    for path, *overrides in jobs:
        print(json.dumps({"recipe": path, "overrides": overrides} | traced(Path(path), overrides)), flush=True)


def traced(path: Path, overrides: list[str]) -> dict[str, Any]:
    """GiB of the recipe's first training at each moment, counted and planned. A moment lasts until the next begins:
    loss, backward (of a recomputed layer: its recomputation too), the embedding's gradient, norm and update."""
    own = {k: int(v) for k, v in (o.split("=", 1) for o in overrides) if k in ("layers", "leak")}
    asked = recipe.load(path, [o for o in overrides if o.split("=", 1)[0] not in own])
    shape = shape_of(asked.model.name)
    if shape is None:
        sys.exit(f"memory_trace.py: the shape of {asked.model.name} is not known here (dpr_mini/models/shapes.py)")
    if asked.train.mode == "qlora":
        sys.exit("memory_trace.py: train.mode is qlora, whose weights are quantised while a folder is loaded")
    shape = replace(shape, layers=own.get("layers", shape.layers))
    job = capacity.trainings(asked, shape, gpu=True, bf16=True, large=True)[0].job  # fake_gpu.GPU
    begun, live = time.process_time(), fake_gpu.Live()
    with fake_gpu.fake_gpu(live), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Accessing the data pointer of FakeTensor")  # it is 0 for all
        train(shape, asked.train, job.tokens, asked.seed, live, own.get("leak", 0))
    planned = {m.name: round(m.total / GIB, 2) for m in job.moments()}
    counted = {name: round(peak / GIB, 2) for name, peak in live.peaks.items()}
    return {
        "tokens": job.tokens,
        "planned_peak_gib": round(job.peak().total / GIB, 2),
        "counted_peak_gib": round(live.peak / GIB, 2),
        "planned_at": job.peak().name,
        "counted_at": max(live.peaks, key=live.peaks.__getitem__),
        "planned_gib": planned,
        "counted_gib": counted,
        "counted_host_gib": round(live.host_peak / GIB, 2),
        "layers": shape.layers,
        "cpu_seconds": round(time.process_time() - begun, 1),
    }


def train(shape: Shape, config: TrainConfig, tokens: int, seed: int, live: fake_gpu.Live, leak: int) -> None:
    """`fit` on the fake device: STEPS steps of the recipe's rows."""
    device = torch.device("cuda", 0)
    config = config.model_copy(update={"epochs": 1, "save_steps": 10**9})
    dtype, _ = build.choose_dtype(config, device)
    live.at("model")
    model = build.make(AutoConfig.for_model(**shape.config()), config, dtype, device)
    optimiser = Optimiser(trainable(model), config, seed)
    row = row_of(shape.vocab, tokens)
    kept = watch(model, optimiser, live, leak)

    def forward(*args: Any) -> Any:
        live.at("forward")
        kept.clear()
        return row_loss(*args)

    def head(*args: Any, **options: Any) -> Any:
        live.at("loss")
        found = linear_cross_entropy(*args, **options)
        live.at("backward")
        return found

    def norm(*args: Any) -> torch.Tensor:
        live.at("norm")
        return gradient_norm(*args)

    row_loss, gradient_norm = trainer.row_loss, trainer.gradient_norm
    linear_cross_entropy = trainer.linear_cross_entropy
    changed = {"row_loss": forward, "gradient_norm": norm, "linear_cross_entropy": head}
    changed["Ceiling"] = lambda *_: SimpleNamespace(rate=1.0, share=lambda rate: 0.0)  # no clock runs here
    # the loop's own modules; and swiglu's check that gate and up lie apart: here every address is 0
    apart = mock.patch.object(sys.modules["dpr_kernels.swiglu"], "_check_reuse", lambda gate, up: None)
    within = mock.patch.multiple(trainer, **changed)
    with tempfile.TemporaryDirectory(prefix="dpr-mini-trace-") as folder, within, apart:
        rows = [row] * (STEPS * config.rows_per_step)
        log = Path(folder) / "metrics.jsonl"
        trainer.fit(Path(folder), log, rows, model, optimiser, config, seed, dtype, 0, lambda row: None)
    live.at("end")
    kept.clear()


def watch(model: nn.Module, optimiser: Optimiser, live: fake_gpu.Live, leak: int) -> list[torch.Tensor]:
    """Say when a layer is computed again and when the update begins. Returns what `leak` keeps of the layers."""
    kept: list[torch.Tensor] = []

    def again(number: int, *_: object) -> None:
        if live.moment != "forward":
            live.at(f"layer {number}")

    for number, layer in enumerate(m for m in model.modules() if hasattr(m, "self_attn") and hasattr(m, "mlp")):
        layer.input_layernorm.register_forward_pre_hook(partial(again, number))  # inside of what is checkpointed
        if leak:
            layer.register_forward_hook(lambda layer, given, out: kept.append(out.detach().clone()))
    step = optimiser.step

    def stepping() -> None:
        live.at("update")
        step()

    optimiser.step = stepping  # type: ignore[method-assign]
    return kept


def row_of(vocabulary: int, tokens: int) -> trainer.Row:
    starts = tuple(range(0, tokens, DOCUMENT))
    ids = tuple(i % vocabulary for i in range(tokens))
    return trainer.Row.of(Pack(tuple(f"random-{s}" for s in starts), ids, (True,) * tokens, starts))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"memory_trace.py: {error}")
