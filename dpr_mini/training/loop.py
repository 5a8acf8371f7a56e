"""Supervised fine-tuning on packed rows: one device, one loop, from top to bottom in `fit`.

The loss is the token mean over the whole optimiser step: every row's summed nll is divided by the step's number of
targets, so that accumulating k rows equals one batch of k rows. Documents in a row neither see nor predict each other.
A killed run goes on from its newest complete checkpoint and ends with the weights of an unbroken one. How the model is
built, updated and kept is in the files beside this one.
"""

from __future__ import annotations

import math
import random
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from dpr_kernels import linear_cross_entropy
from torch import Tensor, nn

from dpr_mini import recipe
from dpr_mini.files.rows import Rows, read_as, read_rows
from dpr_mini.machine import mkl, progress
from dpr_mini.machine.facts import peak_rss_gib
from dpr_mini.training import TrainError, unsloth
from dpr_mini.training.build import choose_dtype, load, save_model, saved
from dpr_mini.training.checkpoints import checkpoints, resume, save_checkpoint, trainable
from dpr_mini.training.flops import Ceiling, Flops, overall
from dpr_mini.training.optimiser import Optimiser
from dpr_mini.training.track import Tracker, tracker
from dpr_mini.types import Pack, seed_for

IGNORED = -100  # the label of a position that predicts no target


def run(folder: Path, packs: Path, model_dir: Path, config: recipe.TrainConfig, seed: int) -> dict[str, Any]:
    """Train the causal LM in `model_dir` on `packs`/rows.jsonl; leave a Hugging Face folder in `folder`/model.

    `folder`/metrics.jsonl gets one row a step. Called again on a half-done folder it resumes. Runs in this process:
    the pipeline calls it through training/process.py, which gives it one of its own. Raises TrainError for rows
    without targets, a non-finite loss (naming the samples of the row), a model whose head is not a plain linear layer,
    or what cannot run here.
    """
    mkl.settle()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype, reason = choose_dtype(config, device)
    log, final = folder / "metrics.jsonl", folder / "model"
    if not saved(final):
        rows = [Row.of(pack) for pack in read_as(Pack, packs / "rows.jsonl")]
        if not rows:
            raise TrainError(f"{packs / 'rows.jsonl'}: no rows to train on")
        print(f"train: {config.mode} on {config.backend}, {_name(dtype)} matmuls ({reason}), on {device}")
        torch.manual_seed(seed)  # adapters draw their start
        if config.backend == "unsloth":
            model = unsloth.load(model_dir, config, dtype, max(len(row.ids) for row in rows))
        else:
            model = load(model_dir, config, dtype, device)
        _within(rows, model.get_input_embeddings().num_embeddings)
        optimiser = Optimiser(trainable(model), config, seed)
        done = resume(folder, model, optimiser)
        with tracker(config.report_to, folder, config.model_dump(mode="json")) as report:
            fit(folder, log, rows, model, optimiser, config, seed, dtype, done, report)
        save_model(final, model, model_dir, getattr(torch, config.save_dtype))
    for checkpoint in checkpoints(folder):  # the model is complete: they are of no more use
        shutil.rmtree(checkpoint)
    with Rows(log, "step"):  # holds the steps against what was synced
        pass
    return summary(log, config) | {"dtype": _name(dtype), "dtype_reason": reason}


def _within(rows: Sequence[Row], vocabulary: int) -> None:
    """Raises TrainError for a token id that the model has no embedding of: on a GPU its error names nothing."""
    for row in rows:
        if int(row.ids.max()) >= vocabulary or int(row.ids.min()) < 0:
            raise TrainError(
                f"a row has token id {int(row.ids.max())}, the model has {vocabulary} embeddings: rows of another "
                f"tokenizer; samples {', '.join(row.samples)}"
            )


def summary(log: Path, config: recipe.TrainConfig) -> dict[str, Any]:
    """What a finished training's metrics.jsonl comes to, and the memory it took."""
    steps = list(read_rows(log))
    seconds = sum(s["seconds"] for s in steps)
    return {
        "steps": len(steps),
        "tokens": sum(s["tokens"] for s in steps),
        "trained_tokens": sum(s["trained_tokens"] for s in steps),
        "first_loss": steps[0]["loss"],
        "last_loss": steps[-1]["loss"],
        "tokens_per_second": round(sum(s["tokens"] for s in steps) / seconds, 1),
        "mfu": round(overall(steps), 4),
        "mode": config.mode,
        "backend": config.backend,
        "peak_rss_gib": round(peak_rss_gib(), 2),
        **({"peak_gpu_gib": max(s["peak_gib"] for s in steps)} if "peak_gib" in steps[0] else {}),
    }


def fit(
    folder: Path,
    log: Path,
    rows: Sequence[Row],
    model: nn.Module,
    optimiser: Optimiser,
    config: recipe.TrainConfig,
    seed: int,
    dtype: torch.dtype,
    done: int,
    report: Tracker,
) -> None:
    """The loop: steps `done` .. of all epochs. One step = `rows_per_step` rows, one update."""
    device = next(model.parameters()).device
    parameters = [p for _, p in trainable(model)]
    plan = list(schedule(len(rows), config, seed))
    flops, ceiling = Flops(model), Ceiling(device, dtype)
    # float32 masters and adapters meet low-precision matmuls under autocast; bfloat16 weights need none
    widened = dtype != torch.float32 and any(p.dtype == torch.float32 for p in parameters)
    if config.update_in_backward:
        optimiser.update_in_backward()
    bar = progress.bar(total=len(plan), initial=done, unit="step", desc="train")
    with Rows(log, "step") as metrics, bar:
        for step, (epoch, batch) in enumerate(plan[done:], done):
            begun = time.perf_counter()
            torch.manual_seed(seed_for(seed, "train", step))  # for a model with dropout: a resumed step draws the same
            lr = learning_rate(step, len(plan), config)
            optimiser.begin(step, lr)
            targets, losses = sum(len(rows[i].positions) for i in batch), []
            # One autocast region for the step: the low-precision copy of the weights is made once, not once a row.
            with torch.autocast(device.type, dtype) if widened else nullcontext():
                for i in batch:
                    part = row_loss(model, rows[i], targets, config)
                    if config.update_in_backward:  # afterwards it would be too late
                        _finite(part.item(), "loss", step, rows[i].samples)
                    with torch.autocast(device.type, enabled=False):
                        part.backward()
                    losses.append(part.detach())
            # Read back at once, before any weight is changed; the host waits for the device here alone. But with
            # update_in_backward, which has read each loss already, and has changed the weights.
            *parts, norm = torch.stack([*losses, gradient_norm(parameters, optimiser, config)]).tolist()
            for i, part in zip(batch, parts, strict=True):
                _finite(part, "loss", step, rows[i].samples)
            _finite(norm, "gradient norm", step, [s for i in batch for s in rows[i].samples])
            optimiser.step()
            seconds, tokens = time.perf_counter() - begun, sum(len(rows[i].ids) for i in batch)
            work = sum(flops.of(rows[i].starts, len(rows[i].positions)) for i in batch)
            row = {
                "step": step,
                "loss": sum(parts),
                "lr": lr,
                "grad_norm": norm,
                "tokens": tokens,
                "trained_tokens": targets,
                "seconds": round(seconds, 4),
                "tokens_per_second": round(tokens / seconds, 1),
                "mfu": round(ceiling.share(work / seconds), 4),
                "matmul_flop_per_s": float(f"{ceiling.rate:.4g}"),  # what mfu is a share of
            }
            if device.type == "cuda":
                row["peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
            metrics.add(row)
            report(row)
            memory = row.get("peak_gib", peak_rss_gib())
            shown = f"loss {sum(parts):.3f}, {tokens / seconds:.0f} tok/s, MFU {row['mfu']:.0%}, {memory:.1f} GiB"
            bar.set_postfix_str(shown, refresh=False)
            bar.update()
            if (step + 1) % config.save_steps == 0 and step + 1 < len(plan):
                metrics.sync()  # before the checkpoint that says they are done
                save_checkpoint(folder, step + 1, epoch, model, optimiser)


def _finite(value: float, what: str, step: int, samples: Sequence[str]) -> None:
    if not math.isfinite(value):
        raise TrainError(f"step {step}: {what} is {value}; row of samples {', '.join(samples)}")


def gradient_norm(parameters: Sequence[nn.Parameter], optimiser: Optimiser, config: recipe.TrainConfig) -> Tensor:
    """The norm of the step's whole gradient, () float32; clipped to `max_grad_norm` where the recipe wants it."""
    if optimiser.squares is not None:  # the gradients are gone already
        return optimiser.squares.sqrt().float()
    limit = config.max_grad_norm or math.inf
    return nn.utils.clip_grad_norm_(parameters, limit).float()


@dataclass(frozen=True)
class Row:
    """One packed row as the loop wants it: `positions` (M,) predict `targets` (M,), all int64 on the CPU."""

    samples: tuple[str, ...]
    ids: Tensor  # (T,) int64
    starts: Tensor  # (B + 1,) int32: 0, ..., T
    position_ids: Tensor  # (T,) int64, from 0 in every document
    positions: Tensor
    targets: Tensor
    labels: Tensor  # (T,) int64: the targets where they are predicted, IGNORED elsewhere

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
        labels = ids.roll(-1).where(trained.roll(-1), IGNORED)
        return cls(pack.samples, ids, bounds.int(), position_ids, targets - 1, ids[targets], labels)


def row_loss(model: nn.Module, row: Row, normaliser: float, config: recipe.TrainConfig) -> Tensor:
    """Summed nll of the row's targets / normaliser. The head sees labelled positions only, never all logits at once.

    It gets all hidden states and is told their rows: picking them here would be a copy, and in the backward a sort
    (Liger's, which knows no rows, does that). Nothing is read back, and copies to the device are only asked for.
    """
    device, lengths = next(model.parameters()).device, row.starts.diff()
    move = partial(Tensor.to, device=device, non_blocking=True)
    if config.backend == "unsloth":
        documents = {"packed_seq_lengths": move(lengths)}
    else:
        starts, longest = move(row.starts), int(lengths.max())
        documents = {"cu_seq_lens_q": starts, "cu_seq_lens_k": starts, "max_length_q": longest, "max_length_k": longest}
    hidden = model.base_model(
        input_ids=move(row.ids)[None],
        position_ids=move(row.position_ids)[None],
        use_cache=False,
        **documents,
    ).last_hidden_state[0]
    if len(hidden) != len(row.ids):
        raise TrainError(
            f"{config.backend} gave {len(hidden)} of {len(row.ids)} positions; samples {row.samples[0]} ..."
        )
    return linear_cross_entropy(
        hidden,
        model.get_output_embeddings().weight,
        move(row.labels),
        normaliser=normaliser,
        rows=row.positions,
        ignore_index=IGNORED,
        chunk=config.loss_chunk,
        impl="liger" if config.backend == "liger" else "auto",
    )


def schedule(rows: int, config: recipe.TrainConfig, seed: int) -> Iterator[tuple[int, list[int]]]:
    """(epoch, row numbers) of every step. An epoch's order is a function of (seed, epoch) alone."""
    for epoch in range(config.epochs):
        order = list(range(rows))
        random.Random(seed_for(seed, "train order", epoch)).shuffle(order)
        for at in range(0, rows, config.rows_per_step):
            yield epoch, order[at : at + config.rows_per_step]


def learning_rate(step: int, steps: int, config: recipe.TrainConfig) -> float:
    """Linear warm-up over `warmup_ratio` of the steps, then a cosine that ends at `min_lr_ratio` of the peak."""
    warm = round(steps * config.warmup_ratio)
    if step < warm:
        return config.learning_rate * (step + 1) / warm
    share = (step - warm) / max(1, steps - 1 - warm)
    low = config.min_lr_ratio
    return config.learning_rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * share)))


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
