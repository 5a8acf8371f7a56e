"""Supervised fine-tuning on packed rows: one device, one loop, from top to bottom in `run`.

Weights are float32 masters; matmuls run in bfloat16 under autocast where the machine is good at it. The loss is the
token mean over the whole optimiser step: every row's summed nll is divided by the step's number of targets, so that
accumulating k rows equals one batch of k rows. Documents in a row neither see nor predict each other.
A killed run goes on from its newest complete checkpoint and ends with the weights of an unbroken one.
"""

from __future__ import annotations

import errno
import math
import os
import random
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# libgomp's spinning waits cost 10x where the cores are shared; only read when torch starts its threads.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from dpr_kernels import linear_cross_entropy
from dpr_kernels.attention import register
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from dpr_mini import progress, recipe, store
from dpr_mini.types import Pack, UserError, from_row, seed_for

VERSION = 1
TOKENIZER = ["tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "chat_template*"]


class TrainError(UserError, RuntimeError):
    """Training that cannot start or must not go on: one line that says why."""


def run(
    folder: Path, packs: Path, model_dir: Path, config: recipe.Train, seed: int, out_dtype: str = "bfloat16"
) -> dict[str, Any]:
    """Train the causal LM in `model_dir` on `packs`/rows.jsonl; leave a Hugging Face folder in `folder`/model.

    `out_dtype` ("bfloat16", "float32") is that of the saved weights. `folder`/metrics.jsonl gets one row a step.
    Called again on a half-done folder it resumes. Raises TrainError for rows without targets, a non-finite loss
    (naming the samples of the row) or a model whose head is not a plain linear layer.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype, reason = choose_dtype(config.dtype, device)
    log, final = folder / "metrics.jsonl", folder / "model"
    if not final.exists():
        print(f"train: {str(dtype).removeprefix('torch.')} matmuls ({reason}), float32 masters, on {device}")
        rows = [Row.of(from_row(Pack, r)) for r in store.read_rows(packs / "rows.jsonl")]
        if not rows:
            raise TrainError(f"{packs / 'rows.jsonl'}: no rows to train on")
        torch.manual_seed(seed)  # adapters draw their start
        model = load(model_dir, config, dtype, device)
        optimiser = make_optimiser(model, config)
        done = resume(folder, model, optimiser)
        fit(folder, log, rows, model, optimiser, config, seed, dtype, done)
        save_model(final, model, model_dir, getattr(torch, out_dtype))
    for checkpoint in checkpoints(folder):  # the model is complete: they are of no more use
        shutil.rmtree(checkpoint)
    steps = list(store.read_rows(log))
    seconds = sum(s["seconds"] for s in steps)
    return {
        "steps": len(steps),
        "tokens": sum(s["tokens"] for s in steps),
        "trained_tokens": sum(s["trained_tokens"] for s in steps),
        "first_loss": steps[0]["loss"],
        "last_loss": steps[-1]["loss"],
        "tokens_per_second": round(sum(s["tokens"] for s in steps) / seconds, 1),
        "dtype": str(dtype).removeprefix("torch."),
        "dtype_reason": reason,
        "peak_rss_gib": round(peak_rss_gib(), 2),
        **({"peak_gpu_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2)} if device.type == "cuda" else {}),
    }


def fit(
    folder: Path,
    log: Path,
    rows: Sequence[Row],
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    config: recipe.Train,
    seed: int,
    dtype: torch.dtype,
    done: int,
) -> None:
    """The loop: steps `done` .. of all epochs. One step = `rows_per_step` rows, one update."""
    device = next(model.parameters()).device
    parameters = [p for p in model.parameters() if p.requires_grad]
    plan = list(schedule(len(rows), config, seed))
    bar = progress.bar(total=len(plan), initial=done, unit="step", desc="train")
    with store.Rows(log, "step") as metrics, bar:
        for step, (epoch, batch) in enumerate(plan[done:], done):
            begun = time.perf_counter()
            torch.manual_seed(seed_for(seed, "train", step))  # for a model with dropout: a resumed step draws the same
            lr = learning_rate(step, len(plan), config)
            for group in optimiser.param_groups:
                group["lr"] = lr
            targets, loss = sum(len(rows[i].positions) for i in batch), 0.0
            # One autocast region for the step: the low-precision copy of the weights is made once, not once a row.
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                for i in batch:
                    part = row_loss(model, rows[i], targets)
                    with torch.autocast(device.type, enabled=False):
                        part.backward()
                    loss += part.item()
                    if not math.isfinite(loss):
                        raise TrainError(f"step {step}: loss is {loss}; row of samples {', '.join(rows[i].samples)}")
            norm = nn.utils.clip_grad_norm_(parameters, config.max_grad_norm).item()
            if not math.isfinite(norm):
                names = ", ".join(s for i in batch for s in rows[i].samples)
                raise TrainError(f"step {step}: gradient norm is {norm}; rows of samples {names}")
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            seconds, tokens = time.perf_counter() - begun, sum(len(rows[i].ids) for i in batch)
            metrics.add(
                {
                    "step": step,
                    "loss": loss,
                    "lr": lr,
                    "grad_norm": norm,
                    "tokens": tokens,
                    "trained_tokens": targets,
                    "seconds": round(seconds, 4),
                }
            )
            bar.set_postfix_str(f"loss {loss:.3f}, {tokens / seconds:.0f} tok/s", refresh=False)
            bar.update()
            if (step + 1) % config.save_steps == 0 and step + 1 < len(plan):
                save_checkpoint(folder, step + 1, epoch, model, optimiser)


@dataclass(frozen=True)
class Row:
    """One packed row as the loop wants it: `positions` (M,) predict `targets` (M,), all int64 on the CPU."""

    samples: tuple[str, ...]
    ids: Tensor  # (T,) int64
    starts: Tensor  # (B + 1,) int32: 0, ..., T
    position_ids: Tensor  # (T,) int64, from 0 in every document
    positions: Tensor
    targets: Tensor

    @classmethod
    def of(cls, pack: Pack) -> Row:
        """Raises TrainError for a row without targets. The first token of a document is never a target."""
        ids, bounds = torch.tensor(pack.ids), torch.tensor([*pack.starts, len(pack.ids)])
        trained = torch.tensor(pack.trained)
        trained[bounds[:-1]] = False
        targets = trained.nonzero().squeeze(1)
        if not len(targets):
            raise TrainError(f"a row has no token to train on; samples {', '.join(pack.samples)}")
        position_ids = torch.arange(len(ids)) - bounds[:-1].repeat_interleave(bounds.diff())
        return cls(pack.samples, ids, bounds.int(), position_ids, targets - 1, ids[targets])


def row_loss(model: nn.Module, row: Row, normaliser: float) -> Tensor:
    """Summed nll of the row's targets / normaliser. The head sees labelled positions only."""
    device = next(model.parameters()).device
    starts = row.starts.to(device, non_blocking=True)
    longest = int(row.starts.diff().max())
    hidden = model.base_model(
        input_ids=row.ids.to(device)[None],
        position_ids=row.position_ids.to(device)[None],
        cu_seq_lens_q=starts,
        cu_seq_lens_k=starts,
        max_length_q=longest,
        max_length_k=longest,
        use_cache=False,
    ).last_hidden_state[0]
    head = model.get_output_embeddings().weight
    return linear_cross_entropy(hidden[row.positions.to(device)], head, row.targets.to(device), normaliser=normaliser)


def choose_dtype(wanted: str, device: torch.device) -> tuple[torch.dtype, str]:
    """The dtype of the matmuls and why. "auto" is bfloat16 only where the machine multiplies it in hardware."""
    if wanted != "auto":
        return getattr(torch, wanted), "the recipe says so"
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability()
        fast = major >= 8
        return (torch.bfloat16 if fast else torch.float32), f"auto: the GPU is sm{major}{minor}"
    cpuinfo = Path("/proc/cpuinfo")
    flags = set(cpuinfo.read_text(encoding="utf-8").split()) if cpuinfo.exists() else set()
    found = sorted(flags & {"avx512_bf16", "amx_bf16"})
    if found:
        return torch.bfloat16, f"auto: the CPU has {' and '.join(found)}"
    return torch.float32, "auto: the CPU has neither avx512_bf16 nor amx_bf16"


def schedule(rows: int, config: recipe.Train, seed: int) -> Iterator[tuple[int, list[int]]]:
    """(epoch, row numbers) of every step. An epoch's order is a function of (seed, epoch) alone."""
    for epoch in range(config.epochs):
        order = list(range(rows))
        random.Random(seed_for(seed, "train order", epoch)).shuffle(order)
        for at in range(0, rows, config.rows_per_step):
            yield epoch, order[at : at + config.rows_per_step]


def learning_rate(step: int, steps: int, config: recipe.Train) -> float:
    """Linear warm-up over `warmup_ratio` of the steps, then a cosine that ends at `min_lr_ratio` of the peak."""
    warm = round(steps * config.warmup_ratio)
    if step < warm:
        return config.learning_rate * (step + 1) / warm
    share = (step - warm) / max(1, steps - 1 - warm)
    low = config.min_lr_ratio
    return config.learning_rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * share)))


def load(model_dir: Path, config: recipe.Train, dtype: torch.dtype, device: torch.device) -> nn.Module:
    """The model with our packed attention. Full: float32 masters. LoRA: frozen in `dtype`, adapters float32."""
    from transformers import AutoModelForCausalLM

    progress.quiet_transformers()
    start = dtype if config.mode == "lora" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(
        model_dir, dtype=start, attn_implementation=register(), use_safetensors=True, trust_remote_code=False
    )
    head, settings = model.get_output_embeddings(), model.config
    changers = ("final_logit_softcapping", "logits_scaling", "logit_scale")
    odd = [k for k in changers if getattr(settings, k, None) not in (None, 1.0)]
    if head is None or getattr(head, "bias", None) is not None or odd:
        raise TrainError(f"{model_dir}: the head is not a plain linear layer ({', '.join(odd) or type(head).__name__})")
    if config.mode == "lora":
        model = _with_adapters(model, config)
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model.to(device).train()


def _with_adapters(model: nn.Module, config: recipe.Train) -> nn.Module:
    """LoRA (arXiv 2106.09685) on every linear layer but the head; alpha = 2 x rank."""
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ModuleNotFoundError as error:
        raise TrainError(f"train.mode is lora, but {error.name} is not installed: pip install 'peft>=0.21'") from None
    lora = LoraConfig(
        r=config.lora_rank, lora_alpha=2 * config.lora_rank, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    model.requires_grad_(False)
    model = inject_adapter_in_model(lora, model)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return model


def merge_adapters(model: nn.Module) -> None:
    """Add every adapter to its layer, in float32, and put the plain layers back. Nothing without adapters."""
    layers = [(name, m) for name, m in model.named_modules() if hasattr(m, "lora_A") and hasattr(m, "merge")]
    if layers:
        model.float()
    for name, layer in layers:
        layer.merge()
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer.get_base_layer())


def make_optimiser(model: nn.Module, config: recipe.Train) -> torch.optim.Optimizer:
    """AdamW (arXiv 1711.05101); weight decay on matrices only, not on norms and biases."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [g for g in groups if g["params"]]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, fused=True)


def trainable(model: nn.Module) -> Iterable[tuple[str, nn.Parameter]]:
    return ((name, p) for name, p in model.named_parameters() if p.requires_grad)


def checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints, newest last. Half-written ones are deleted: trainer.json comes last in them."""
    found = []
    for path in folder.glob("checkpoint-*"):
        if (path / "trainer.json").exists():
            found.append(path)
        else:
            shutil.rmtree(path)
    return sorted(found, key=lambda p: int(p.name.removeprefix("checkpoint-")))


def save_checkpoint(folder: Path, step: int, epoch: int, model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    """`folder`/checkpoint-<step>: trained weights and AdamW's moments, float32. The previous one goes afterwards."""
    path = folder / f"checkpoint-{step}"
    path.mkdir()
    state = {f"{name}.{key}": v for name, p in trainable(model) for key, v in optimiser.state[p].items()}
    with disk_errors():
        save_file({name: p.detach() for name, p in trainable(model)}, path / "model.safetensors")
        save_file(state, path / "optimizer.safetensors")
    store.write_json(path / "trainer.json", {"step": step, "epoch": epoch, "torch": torch.__version__})
    for old in checkpoints(folder)[:-1]:
        shutil.rmtree(old)


@contextmanager
def disk_errors() -> Iterator[None]:
    """safetensors says "os error 28" in an error of its own; the store looks for the OSError that it stands for."""
    try:
        yield
    except SafetensorError as error:
        if f"os error {errno.ENOSPC}" in str(error):
            raise OSError(errno.ENOSPC, str(error)) from error
        raise


def resume(folder: Path, model: nn.Module, optimiser: torch.optim.Optimizer) -> int:
    """Load the newest complete checkpoint, cut metrics.jsonl back to it, and return the steps that are done."""
    found, done = checkpoints(folder), 0
    if found:
        done = store.read_json(found[-1] / "trainer.json")["step"]
        with (
            safe_open(found[-1] / "model.safetensors", "pt") as weights,
            safe_open(found[-1] / "optimizer.safetensors", "pt") as moments,
            torch.no_grad(),
        ):
            for name, p in trainable(model):
                p.copy_(weights.get_tensor(name))
                keys = ("step", "exp_avg", "exp_avg_sq")
                optimiser.state[p] = {k: moments.get_tensor(f"{name}.{k}").to(p.device) for k in keys}
        print(f"train: resumed after step {done} from {found[-1].name}")
    log = folder / "metrics.jsonl"
    if log.exists():
        with store.Rows(log, "step"):  # cuts a torn line
            kept = [row for row in store.read_rows(log) if row["step"] < done]
        store.write_rows(log, kept)
    return done


def save_model(path: Path, model: nn.Module, source: Path, dtype: torch.dtype) -> None:
    """A complete Hugging Face folder at `path`, or nothing: it is written beside and moved in one step."""
    temporary = path.with_name(f".{path.name}.tmp")
    if temporary.exists():
        shutil.rmtree(temporary)
    merge_adapters(model)
    with disk_errors():
        model.to(dtype).save_pretrained(temporary)
    for pattern in TOKENIZER:
        for file in source.glob(pattern):
            shutil.copy2(file, temporary / file.name)
    os.replace(temporary, path)


def peak_rss_gib() -> float:
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)
