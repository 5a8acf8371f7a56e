"""Where training stands, on disk: trained weights and the optimiser's state, whole or not at all."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from dpr_mini.files import durable
from dpr_mini.files.rows import Rows, StoreError, compare, read_rows, read_sealed, rewrite_rows, write_sealed
from dpr_mini.training.optimiser import Optimiser
from dpr_mini.types import UserError

PREFIX, TRAINER = "checkpoint-", "trainer.json"
AGAIN = "delete the checkpoint's folder: training starts again without it"


def trainable(model: nn.Module) -> Iterable[tuple[str, nn.Parameter]]:
    return ((name, p) for name, p in model.named_parameters() if p.requires_grad)


def checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints, newest last. Incomplete ones are deleted: trainer.json is written last.

    Raises StoreError for a folder of that name that is none of ours.
    """
    folders = []
    for path in folder.glob(f"{PREFIX}*"):
        if path.is_symlink() or not path.name.removeprefix(PREFIX).isdecimal():
            raise StoreError(f"{path}: not a checkpoint of this training; move it away")
        if (path / TRAINER).exists():
            folders.append(path)
        else:
            shutil.rmtree(path)
    return sorted(folders, key=_step)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix(PREFIX))


def save_checkpoint(folder: Path, step: int, epoch: int, model: nn.Module, optimiser: Optimiser) -> None:
    """`folder`/checkpoint-<step>: trained weights and the optimiser's state. The previous one goes afterwards."""
    path = folder / f"checkpoint-{step}"
    path.mkdir()
    with disk_errors():
        save_file({name: p.detach() for name, p in trainable(model)}, path / "model.safetensors")
        save_file(optimiser.state(), path / "optimizer.safetensors")
    trainer = {"step": step, "epoch": epoch, "torch": torch.__version__}
    write_sealed(path / TRAINER, trainer | {"files": durable.seal(path)})
    for old in checkpoints(folder)[:-1]:
        shutil.rmtree(old)


def resume(folder: Path, model: nn.Module, optimiser: Optimiser) -> int:
    """Load the newest complete checkpoint, cut metrics.jsonl back to it, and return the steps that are done."""
    folders, done = checkpoints(folder), 0
    if folders:
        done = _read_trainer(folders[-1])["step"]
        with _checkpoint_errors(folders[-1]):
            weights = load_file(folders[-1] / "model.safetensors")
            with torch.no_grad():
                for name, p in trainable(model):
                    p.copy_(weights[name])
            optimiser.load(load_file(folders[-1] / "optimizer.safetensors"))
        print(f"train: resumed after step {done} from {folders[-1].name}")
    log, rows = folder / "metrics.jsonl", []
    if log.exists():
        with Rows(log, "step"):  # cuts a partial line
            rows = [row for row in read_rows(log) if row["step"] < done]
    if [row["step"] for row in rows] != list(range(done)):
        raise StoreError(f"{log}: it has {len(rows)} of {done} steps; delete {folder} to train again")
    if log.exists():
        rewrite_rows(log, rows)
    return done


def _read_trainer(checkpoint: Path) -> dict[str, Any]:
    """What a checkpoint says of itself, held against its name and its files. Raises StoreError where they differ."""
    path = checkpoint / TRAINER
    trainer = read_sealed(path, AGAIN)
    if trainer.get("step") != _step(checkpoint) or "epoch" not in trainer or "torch" not in trainer:
        raise StoreError(f"{path}: step {trainer.get('step')!r} in {checkpoint.name}: not what was written; {AGAIN}")
    compare(checkpoint, trainer.get("files", {}), AGAIN)
    if trainer["torch"] != torch.__version__:
        now = torch.__version__
        said = f"{checkpoint.name} is of torch {str(trainer['torch'])[:40]!r}, not {now}"
        print(f"train: {said}: last digits will differ")
    return trainer


@contextmanager
def _checkpoint_errors(checkpoint: Path) -> Iterator[None]:
    """A checkpoint that cannot be read, or is another model's, is one line."""
    try:
        yield
    except UserError:
        raise
    except (SafetensorError, OSError, RuntimeError, KeyError, ValueError) as error:
        raise StoreError(f"{checkpoint}: not a checkpoint of this model ({error}); {AGAIN}") from error


@contextmanager
def disk_errors() -> Iterator[None]:
    """safetensors says "os error 28" in an error of its own; the store looks for the OSError that it stands for."""
    try:
        yield
    except SafetensorError as error:
        if number := re.search(r"os error (\d+)", str(error)):
            raise OSError(int(number[1]), str(error)) from error
        raise
