"""A few optimiser steps of a recipe's own `train` section on random weights: memory, speed, and the plan beside them.

    python bench/recipe_step.py RECIPE [key=value ...] [--rows 2] [--steps 3] [--layers N] [--profile] [--out FILE]

    recipes/qwen7b.yaml --rows 2              on a GPU: 7B as the recipe trains it, 3 steps of 2 rows of 32768 tokens
    recipes/smollm2-cpu.yaml --rows 1         on a CPU: half a minute of processor time a step
    recipes/qwen7b.yaml --rows 2 model.name=smoke-model pack.tokens_per_row=64
                                              the same section (bfloat16, 8-bit AdamW, clipping) on a small shape

Without an install: PYTHONPATH=.:kernels. FORCE_CPU=1 hides a GPU. The model has the recipe's published shape
(dpr_mini/models/shapes.py) and random weights made on the device: no download, nothing is saved. Weights, optimiser,
attention, checkpointing, accumulation and clipping are the recipe's, which no arm of bench/train.py has (its mode full
updates inside backward). Rows are documents of 900 tokens, all labelled but the first of each: the most that the head
can get. --rows: rows a step, default the recipe's. --layers: fewer layers, for a trial. In mode qlora
the weights are made in bfloat16 and quantised on the device. --profile: one step more, which is not among the timed
ones, under torch's profiler: `profile` says where its time went, kernel by kernel (operator by operator on a CPU).

A JSON line a step, and `--out` written anew with each. On a GPU: `peak_gib` allocated in that step, `reserved_gib` by
the allocator, `update_seconds` of the optimiser alone. The first step allocates the moments and compiles. Then what
the planner counts (`planned_*`, not measured), and what it assumes beside that: allocator slack, CUDA context.
Exit status 3: out of memory; the file says at which step, and the plan beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

if os.environ.get("FORCE_CPU"):
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
# before torch, as in the process of a training stage
os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from transformers import AutoConfig

from dpr_mini import recipe
from dpr_mini.files.rows import write_json
from dpr_mini.machine import mkl
from dpr_mini.machine.facts import facts, installed
from dpr_mini.models.resolve import EMBEDDED
from dpr_mini.models.shapes import Shape, read_shape, shape_of
from dpr_mini.planning import capacity
from dpr_mini.planning.memory import LARGE, Job
from dpr_mini.training import build
from dpr_mini.training import loop as trainer
from dpr_mini.training.checkpoints import trainable
from dpr_mini.training.optimiser import Optimiser
from dpr_mini.types import Pack, UserError

DOCUMENT = 900  # tokens
GIB = 2**30
OUT_OF_MEMORY = 3
LONGEST = 40  # kernels that a profile names
LIBRARIES = ("torch", "triton", "transformers", "peft", "bitsandbytes")
METRICS = ("step", "loss", "grad_norm", "tokens", "seconds", "tokens_per_second", "mfu")


class Result:
    """What is measured, printed and kept as it comes."""

    def __init__(self, out: Path | None, **conditions: Any) -> None:
        self.out = out
        self.content: dict[str, Any] = {"how": (__doc__ or "").strip(), "conditions": conditions, "steps": []}
        self.tell(conditions)

    def add(self, **what: Any) -> None:
        self.content |= what
        self.tell(what)

    def step(self, metrics: dict[str, Any]) -> None:
        self.content["steps"].append(metrics)
        self.tell(metrics)

    def tell(self, what: dict[str, Any]) -> None:
        print(json.dumps(what), flush=True)
        if self.out:
            self.out.parent.mkdir(parents=True, exist_ok=True)
            write_json(self.out, self.content)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--layers", type=int)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--out", type=Path)
    return parser.parse_intermixed_args()  # overrides may stand anywhere


def main() -> int:
    chosen = options()
    asked = recipe.load(chosen.recipe, chosen.overrides)
    config = asked.train.model_copy(update={"epochs": 1, "save_steps": 10**9})
    if chosen.rows:
        config = config.model_copy(update={"rows_per_step": chosen.rows})
    name = "smollm2-135m" if asked.model.name == EMBEDDED else asked.model.name
    folder, tokens = chosen.recipe.parent / name, asked.pack.tokens_per_row
    shape = read_shape(folder) if (folder / "config.json").exists() else shape_of(name)
    if shape is None:
        sys.exit(f"recipe_step.py: the shape of {name} is not known here (dpr_mini/models/shapes.py)")
    if chosen.layers:
        shape = replace(shape, layers=chosen.layers)

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    cuda = device.type == "cuda"
    mkl.settle()
    dtype, why = build.choose_dtype(config, device)
    result = Result(
        chosen.out, recipe=str(chosen.recipe), overrides=chosen.overrides, model=name, layers=shape.layers,
        device=torch.cuda.get_device_name() if cuda else f"cpu, {facts()['machine']['cpu']}",
        versions=installed(LIBRARIES), commit=os.environ.get("COMMIT") or facts()["commit"],
        date=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), allocator=os.environ["PYTORCH_ALLOC_CONF"],
        matmuls=f"{dtype} ({why})", rows_per_step=config.rows_per_step, tokens_per_row=tokens,
        train=config.model_dump(mode="json", exclude_defaults=True),
    )  # fmt: skip
    large = cuda and torch.cuda.get_device_properties(device).total_memory >= LARGE
    result.add(**planned(Job(shape, config, tokens, gpu=cuda, bf16=dtype == torch.bfloat16, large=large)))
    try:
        measure(result, shape, config, tokens, dtype, device, asked.seed, chosen.steps, chosen.profile)
    except torch.OutOfMemoryError as error:
        result.add(status="out of memory", reason=str(error).splitlines()[0], done=len(result.content["steps"]))
        return OUT_OF_MEMORY
    result.add(status="ok")
    return 0


def planned(job: Job) -> dict[str, Any]:
    """The planner's count, GiB, without allocator slack and CUDA context."""
    return {
        "planned_gib": {m.name: round(m.total / GIB, 2) for m in job.moments()},
        "planned_peak_gib": round(job.peak().total / GIB, 2),
        "planned_at": job.peak().name,
        "assumed_slack": capacity.SLACK,
        "assumed_context_gib": capacity.CONTEXT / GIB,
    }


def measure(
    result: Result, shape: Shape, config: recipe.TrainConfig, tokens: int, dtype: torch.dtype, device: torch.device,
    seed: int, steps: int, profiled: bool,
) -> None:  # fmt: skip
    cuda = device.type == "cuda"
    begun = time.perf_counter()
    torch.manual_seed(seed)
    model = build.make(AutoConfig.for_model(**shape.config()), config, dtype, device)
    if cuda:
        torch.cuda.reset_peak_memory_stats()  # what making the model took is not what training takes
    optimiser = Optimiser(trainable(model), config, seed)
    wait(cuda)
    counted = {"parameters": sum(p.numel() for p in model.parameters()), "layers": shape.layers}
    weights = {"weights_gib": round(torch.cuda.memory_allocated() / GIB, 2)} if cuda else {}
    result.add(model=counted | weights | {"made_in_s": round(time.perf_counter() - begun, 1)})
    optimiser.step = timed(optimiser.step, cuda, spent := [])
    row = row_of(shape.vocab, tokens)
    reserved: list[float] = []
    kind = ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU
    profiler = profile(activities=[kind]) if profiled else None

    def report(metrics: dict[str, Any]) -> None:
        if profiler and metrics["step"] == steps:
            wait(cuda)
            profiler.stop()
            result.add(profile=where_time_went(profiler, metrics["seconds"], cuda))
            return
        shown = {k: metrics[k] for k in METRICS}
        if not config.update_in_backward:
            shown["update_seconds"] = round(spent[-1], 3)
        memory = peak(cuda)
        result.step(shown | memory)
        if cuda:
            reserved[:] = [memory["reserved_gib"] / memory["peak_gib"] - 1]
        if profiler and metrics["step"] == steps - 1:
            profiler.start()

    with tempfile.TemporaryDirectory(prefix="dpr-mini-step-") as folder:
        data = [row] * ((steps + profiled) * config.rows_per_step)
        log = Path(folder) / "metrics.jsonl"
        trainer.fit(Path(folder), log, data, model, optimiser, config, seed, dtype, 0, report)
    if cuda:
        free, total = torch.cuda.mem_get_info()
        outside = (total - free - torch.cuda.memory_reserved()) / GIB
        result.add(
            card_gib=round(total / GIB, 2), slack=round(reserved[-1], 4), outside_allocator_gib=round(outside, 2)
        )


def where_time_went(profiler: profile, seconds: float, cuda: bool) -> dict[str, Any]:
    """The kernels (operators on a CPU) of a step by their time, the longest first; what they leave of it is `other`."""
    rows = []
    for entry in profiler.key_averages():
        spent = (entry.self_device_time_total if cuda else entry.self_cpu_time_total) / 1e6
        if spent and (entry.device_type == DeviceType.CUDA) == cuda:
            rows.append((spent, entry.count, entry.key))
    rows.sort(reverse=True)
    total = sum(spent for spent, _, _ in rows)
    shown = [{"seconds": round(s, 4), "share": round(s / seconds, 4), "calls": n, "name": k[:160]} for s, n, k in rows]
    return {"step_seconds": seconds, "other_share": round(1 - total / seconds, 4), "longest": shown[:LONGEST]}


def row_of(vocabulary: int, tokens: int) -> trainer.Row:
    ids = torch.randint(vocabulary, (tokens,), generator=torch.Generator().manual_seed(1)).tolist()
    starts = tuple(range(0, tokens, DOCUMENT))
    return trainer.Row.of(Pack(tuple(f"random-{s}" for s in starts), tuple(ids), (True,) * tokens, starts))


def timed(call: Callable[[], None], cuda: bool, spent: list[float]) -> Callable[[], None]:
    def measured() -> None:
        wait(cuda)
        begun = time.perf_counter()
        call()
        wait(cuda)
        spent.append(time.perf_counter() - begun)

    return measured


def wait(cuda: bool) -> None:
    if cuda:
        torch.cuda.synchronize()


def peak(cuda: bool) -> dict[str, float]:
    """Of the step that has just ended; of the process so far without a GPU."""
    if not cuda:
        return {"peak_rss_gib": round(trainer.peak_rss_gib(), 2)}
    numbers = {
        "peak_gib": round(torch.cuda.max_memory_allocated() / GIB, 2),
        "reserved_gib": round(torch.cuda.max_memory_reserved() / GIB, 2),
    }
    torch.cuda.reset_peak_memory_stats()
    return numbers


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"recipe_step.py: {error}")
