"""Training metrics to a tracker that the recipe names, besides metrics.jsonl, which is always written.

tensorboard and trackio stay on this machine; wandb sends the metrics to its service unless WANDB_MODE=offline.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from dpr_mini.training import TrainError
from dpr_mini.types import redacted

PROJECT = "dpr-mini"
SHOWN = ("loss", "lr", "grad_norm", "tokens_per_second", "mfu", "peak_gib")


class Tracker(Protocol):
    def __call__(self, row: Mapping[str, Any]) -> None:
        """Take one row of metrics.jsonl."""


@contextmanager
def tracker(kind: str, folder: Path, config: Mapping[str, Any]) -> Iterator[Tracker]:
    """Open the tracker `kind` (none, tensorboard, trackio, wandb) for the training in `folder`, and close it after.

    A resumed training goes on in the same curve. Raises TrainError where the library is not installed.
    """
    if kind == "none":
        yield lambda row: None
    elif kind == "tensorboard":
        with _load("torch.utils.tensorboard", "tensorboard").SummaryWriter(str(folder / "tensorboard")) as writer:

            def write(row: Mapping[str, Any]) -> None:
                for name, value in _shown(row).items():
                    writer.add_scalar(name, value, row["step"])

            yield write
    else:  # trackio has the calls of wandb
        library = _load(kind, kind)
        where = {"dir": str(folder)} if kind == "wandb" else {}
        library.init(project=PROJECT, name=folder.name, config=redacted(config), resume="allow", **where)
        try:
            yield lambda row: library.log(_shown(row), step=row["step"])
        finally:
            library.finish()


def _shown(row: Mapping[str, Any]) -> dict[str, float]:
    return {name: row[name] for name in SHOWN if name in row}


def _load(module: str, package: str) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise TrainError(
            f"train.report_to is {package}, but {error.name} is not installed: pip install {package}"
        ) from None
