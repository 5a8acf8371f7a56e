"""Where training stands, on disk: trained weights and the optimiser's state, whole or not at all."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from dpr_mini import store
from dpr_mini.training.optimiser import Optimiser


def trainable(model: nn.Module) -> Iterable[tuple[str, nn.Parameter]]:
    return ((name, p) for name, p in model.named_parameters() if p.requires_grad)


def checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints, newest last. Incomplete ones are deleted: trainer.json is written last."""
    folders = []
    for path in folder.glob("checkpoint-*"):
        if (path / "trainer.json").exists():
            folders.append(path)
        else:
            shutil.rmtree(path)
    return sorted(folders, key=lambda p: int(p.name.removeprefix("checkpoint-")))


def save_checkpoint(folder: Path, step: int, epoch: int, model: nn.Module, optimiser: Optimiser) -> None:
    """`folder`/checkpoint-<step>: trained weights and the optimiser's state. The previous one goes afterwards."""
    path = folder / f"checkpoint-{step}"
    path.mkdir()
    with disk_errors():
        save_file({name: p.detach() for name, p in trainable(model)}, path / "model.safetensors")
        save_file(optimiser.state(), path / "optimizer.safetensors")
    store.write_json(path / "trainer.json", {"step": step, "epoch": epoch, "torch": torch.__version__})
    for old in checkpoints(folder)[:-1]:
        shutil.rmtree(old)


def resume(folder: Path, model: nn.Module, optimiser: Optimiser) -> int:
    """Load the newest complete checkpoint, cut metrics.jsonl back to it, and return the steps that are done."""
    folders, done = checkpoints(folder), 0
    if folders:
        done = store.read_json(folders[-1] / "trainer.json")["step"]
        weights = load_file(folders[-1] / "model.safetensors")
        with torch.no_grad():
            for name, p in trainable(model):
                p.copy_(weights[name])
        optimiser.load(load_file(folders[-1] / "optimizer.safetensors"))
        print(f"train: resumed after step {done} from {folders[-1].name}")
    log = folder / "metrics.jsonl"
    if log.exists():
        with store.Rows(log, "step"):  # cuts a partial line
            rows = [row for row in store.read_rows(log) if row["step"] < done]
        store.write_rows(log, rows)
    return done


@contextmanager
def disk_errors() -> Iterator[None]:
    """safetensors says "os error 28" in an error of its own; the store looks for the OSError that it stands for."""
    try:
        yield
    except SafetensorError as error:
        if f"os error {errno.ENOSPC}" in str(error):
            raise OSError(errno.ENOSPC, str(error)) from error
        raise
