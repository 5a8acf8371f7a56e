"""The process of one arm of bench/train.py: builds the model, trains on one row a step, prints a line a row length.

python bench/train_child.py JOB      (JSON; what bench/train.py starts, in Unsloth's interpreter for that arm)
"""

# ruff: noqa: E402  Unsloth has to be imported first
from __future__ import annotations

import json
import sys
from pathlib import Path

from train_arms import THEIRS, following, model_config, settings, updates

JOB = json.loads(sys.argv[1]) if __name__ == "__main__" else {}
if JOB.get("arm") == "unsloth":
    import unsloth  # noqa: F401  before torch and transformers are loaded: it patches them

import gc
import shutil
import statistics
import tempfile
import time
from contextlib import nullcontext, suppress
from typing import Any

import torch
from dpr_kernels import attention, backends
from torch import Tensor, nn

from dpr_mini.machine.facts import installed
from dpr_mini.recipe import TrainConfig
from dpr_mini.training import TrainError
from dpr_mini.training import unsloth as unsloth_backend
from dpr_mini.training.build import TOKENIZER, choose_dtype, load
from dpr_mini.training.checkpoints import trainable
from dpr_mini.training.flops import Ceiling, Flops
from dpr_mini.training.loop import Row, fit, peak_rss_gib
from dpr_mini.training.optimiser import Optimiser
from dpr_mini.types import Pack

LIBRARIES = ("torch", "triton", "transformers", "peft", "liger-kernel", "bitsandbytes", "flash-attn", "unsloth")
SEED = 0


def main(job: dict[str, Any]) -> None:
    """Row lengths one after the other until there is none left, or one that does not end well."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if job["arm"].startswith("liger") and (reason := backends.why_not("liger", device)):
        tell({"status": "missing", "reason": reason})
        return
    if job["cap_gib"] and job["cap_gib"] * 2**30 > (total := torch.cuda.mem_get_info()[1]):
        tell({"status": "missing", "reason": f"a card of {job['cap_gib']:g} GiB: this one has {total / 2**30:.1f}"})
        return
    make_model(job["model"], Path(job["models"]), device)
    limit = capped(job["cap_gib"]) if job["cap_gib"] else {}
    done = {int(n): status for n, status in job["done"]}
    while tokens := following(done, job["tokens"], job["longest"], job["most"]):
        row = attempt(job, tokens, device) | limit
        tell({"tokens": tokens, **row, "versions": installed(LIBRARIES)})
        if row["status"] != "ok":  # what is left on the device is no start for the next
            return
        done[tokens] = "ok"


def tell(row: dict[str, Any]) -> None:
    print("ROW " + json.dumps(row), flush=True)


def make_model(name: str, models: Path, device: torch.device) -> Path:
    """The folder of a model of this shape with random weights, bfloat16, made on the first call."""
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = models / name
    if folder.exists():
        return folder
    torch.manual_seed(SEED)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**model_config(name)), dtype=torch.bfloat16)
    temporary = models / f".{name}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    model.save_pretrained(temporary, max_shard_size="4GB")
    for pattern in TOKENIZER:  # never used, but Unsloth loads none without
        for file in (Path(__file__).resolve().parents[1] / "recipes" / "smoke-model").glob(pattern):
            shutil.copy2(file, temporary)
    temporary.rename(folder)
    return folder


def capped(gib: float) -> dict[str, Any]:
    """Hold the allocator to a card of `gib`, less what the CUDA context takes; what a row says about it."""
    torch.zeros(1, device="cuda")
    torch.cuda.synchronize()
    free, total = torch.cuda.mem_get_info()
    outside = total - free - torch.cuda.memory_reserved()  # other processes' too, so keep the card free of them
    torch.cuda.set_per_process_memory_fraction((gib * 2**30 - outside) / total)
    return {"cap": "set_per_process_memory_fraction of a larger card", "context_gib": round(outside / 2**30, 3)}


def attempt(job: dict[str, Any], tokens: int, device: torch.device) -> dict[str, Any]:
    """A row: measured, or out of memory, or missing what its arm needs, with the reason."""
    gc.collect()  # a patched model is a cycle, and the one before must be gone
    if device.type == "cuda":
        torch.cuda.empty_cache()
    try:
        return measure(job, tokens, device)
    except RuntimeError as error:  # libraries with allocators of their own have no class for it
        signs = ("out of memory", "ALLOC_FAILED")
        if not isinstance(error, torch.OutOfMemoryError) and not any(sign in str(error) for sign in signs):
            raise
        return {"status": "oom", "reason": str(error).splitlines()[0][:200]}


def measure(job: dict[str, Any], tokens: int, device: torch.device) -> dict[str, Any]:
    """Some training steps on one row of `tokens` random tokens."""
    arm, gpu = job["arm"], device.type == "cuda"
    config = settings(arm, job["mode"], gpu=gpu, tokens=tokens, tile=job["tile"], optimiser=job["optimiser"])
    searched = tokens not in job["tokens"]
    warm, steps = (1, 1) if searched else (2, job["steps"])
    config = config.model_copy(update={"epochs": warm + steps})
    dtype, _ = choose_dtype(config, device)
    ceiling = Ceiling(device, dtype)
    torch.manual_seed(SEED)  # adapters draw their start
    begun = time.perf_counter()
    try:
        model = built(arm, Path(job["models"]) / job["model"], config, dtype, device, tokens)
        optimiser = optimiser_of(arm, model, config)
    except TrainError as error:
        return {"status": "missing", "reason": str(error)}
    loaded = time.perf_counter() - begun
    row = Row.of(packed(tokens, job["document"], model.config.vocab_size))
    clock = Clock(device, warm, steps, job["row_seconds"])
    with suppress(Enough):
        (theirs if arm in THEIRS else ours)(model, row, optimiser, config, dtype, clock)
    seconds = statistics.median(clock.times[warm:])
    flop = Flops(model).of(row.starts, len(row.targets))
    found = {
        "status": "ok",
        "attention": which_attention(model, dtype, device),
        "dtype": str(dtype).removeprefix("torch."),
        "updates": updates(arm, config),
        "train": config.model_dump(mode="json", exclude_defaults=True, exclude={"epochs", "save_steps"}),
        "documents": len(row.starts) - 1,
        "labelled": len(row.targets),
        "warm_up": warm,
        "steps": len(clock.times) - warm,
        "step_s": float(f"{seconds:.5g}"),
        "tokens_per_s": float(f"{tokens / seconds:.5g}"),
        "flop": flop,
        "mfu": round(ceiling.share(flop / seconds), 4),
        "matmul_flop_per_s": float(f"{ceiling.rate:.5g}"),
        "load_s": round(loaded, 2),
        "first_step_s": round(clock.times[0], 2),
        "first_loss": clock.losses[0],
        "last_loss": clock.losses[-1],
        "peak_rss_gib": round(peak_rss_gib(), 2),
    }
    if gpu:
        found["peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 3)
        found["reserved_gib"] = round(torch.cuda.max_memory_reserved() / 2**30, 3)
    return found


def built(
    arm: str, folder: Path, config: TrainConfig, dtype: torch.dtype, device: torch.device, tokens: int
) -> nn.Module:
    """The model as the arm trains it."""
    if arm == "unsloth":
        return unsloth_backend.load(folder, config, dtype, tokens)
    model = load(folder, config, dtype, device)
    if arm in THEIRS:
        with_liger, kind = THEIRS[arm]
        model.set_attn_implementation(
            kind or ("sdpa" if attention.why_not("flash_attn", device) else "flash_attention_2")
        )
        if with_liger:
            from liger_kernel.transformers import _apply_liger_kernel_to_instance

            _apply_liger_kernel_to_instance(model=model)
    return model


def which_attention(model: nn.Module, dtype: torch.dtype, device: torch.device) -> str:
    name = model.config._attn_implementation
    if not name.startswith("dpr_varlen"):
        return name
    c = model.config
    width = getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads
    return f"{name} ({attention.pick('auto', device, dtype, width)})"


def packed(tokens: int, document: int, vocab: int) -> Pack:
    """Documents of `document` random tokens, the last one shorter; all is labelled but each one's first."""
    ids = torch.randint(vocab, (tokens,), generator=torch.Generator().manual_seed(1)).tolist()
    starts = tuple(range(0, tokens, document))
    return Pack(tuple(f"random-{i}" for i in range(len(starts))), tuple(ids), (True,) * tokens, starts)


class Enough(Exception):
    """All steps of a row are timed."""


class Clock:
    """Called with every step's metrics, as a tracker of our trainer is; the device waits between two steps.

    `times` (seconds) and `losses` of all steps. The allocator's peak is that of the steps after `warm`. Raises Enough
    after `steps` more, or once those have taken `seconds`.
    """

    def __init__(self, device: torch.device, warm: int, steps: int, seconds: float) -> None:
        self.gpu, self.warm, self.steps, self.seconds = device.type == "cuda", warm, steps, seconds
        self.times: list[float] = []
        self.losses: list[float] = []
        self.last = time.perf_counter()

    def __call__(self, row: dict[str, Any]) -> None:
        if self.gpu:
            torch.cuda.synchronize()
        self.times.append(time.perf_counter() - self.last)
        self.losses.append(row["loss"])
        timed = self.times[self.warm :]
        if timed and (len(timed) >= self.steps or sum(timed) >= self.seconds):
            raise Enough
        if self.gpu and not timed:
            torch.cuda.reset_peak_memory_stats()
        self.last = time.perf_counter()


def optimiser_of(arm: str, model: nn.Module, config: TrainConfig) -> Any:
    """Ours, or what transformers' users have without another library."""
    if arm not in THEIRS:
        return Optimiser(trainable(model), config, SEED)
    trained = [p for _, p in trainable(model)]
    return torch.optim.AdamW(trained, lr=config.learning_rate, weight_decay=0.0, fused=True)


def ours(model: nn.Module, row: Row, optimiser: Any, config: TrainConfig, dtype: torch.dtype, clock: Clock) -> None:
    """The project's own loop, metrics file and all."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "metrics.jsonl"
        fit(Path(folder), log, [row], model, optimiser, config, SEED, dtype, 0, clock)


def theirs(model: nn.Module, row: Row, optimiser: Any, config: TrainConfig, dtype: torch.dtype, clock: Clock) -> None:
    """transformers' forward with labels and its own loss."""
    device = next(model.parameters()).device
    inputs = inputs_for(model, row, device)
    widened = dtype != torch.float32 and any(p.dtype == torch.float32 for _, p in trainable(model))
    for _ in range(config.epochs):
        with torch.autocast(device.type, dtype) if widened else nullcontext():
            loss = model(**inputs, use_cache=False).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        clock({"loss": loss.item()})


def inputs_for(model: nn.Module, row: Row, device: torch.device) -> dict[str, Tensor | int]:
    """The row as transformers takes it; the boundaries go to our packed attention only, where it is in place."""
    labels = torch.full_like(row.ids, -100)
    labels[row.positions + 1] = row.targets
    tensors = {"input_ids": row.ids, "position_ids": row.position_ids, "labels": labels}
    inputs: dict[str, Tensor | int] = {name: x.to(device)[None] for name, x in tensors.items()}
    if model.config._attn_implementation.startswith("dpr_varlen"):
        starts, longest = row.starts.to(device), int(row.starts.diff().max())
        inputs |= {"cu_seq_lens_q": starts, "cu_seq_lens_k": starts, "max_length_q": longest, "max_length_k": longest}
    return inputs


if __name__ == "__main__":
    main(JOB)
