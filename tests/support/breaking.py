"""In a process of a run: one of its file operations fails, or a disk is watched for what a power cut would leave."""

from __future__ import annotations

import errno
import os
import random
import sys
from pathlib import Path
from typing import Any

import power

_watching: list[Any] = []
CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "shutil.rmtree")
ERRORS = (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EMFILE)


def _train_here() -> None:
    """Training in this process, whose file operations are the ones that are met."""
    from dpr_mini.training import loop, process

    def train(folder: Path, packs: Path, model: Path, config: Any, seed: int, gpu: bool, need: Any = None) -> Any:
        return loop.run(folder, packs, model, config, seed)

    process.train = train


def fail(runs: Path, at: int, number: int) -> None:
    """The `at`th operation that changes something below `runs` raises OSError `number`, and so do those after it."""
    _train_here()
    count = 0

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal count
        paths = [a for a in args if isinstance(a, str | os.PathLike) and str(runs) in str(a)]
        writes = event in CHANGES or (event == "open" and (args[2] or 0) & (os.O_WRONLY | os.O_RDWR))
        if paths and writes:
            count += 1
            if count >= at:
                raise OSError(number, os.strerror(number), str(paths[0]))

    sys.addaudithook(hook)


def cut(runs: Path, moments: dict[int, Path], seed: int) -> None:
    """At these moments (syncs, renames and removals are counted) keep what the disk below `runs` would hold."""
    _train_here()
    runs.mkdir(parents=True, exist_ok=True)
    count, draw = 0, random.Random(seed)

    def moment(disk: power.Disk, what: str) -> None:
        nonlocal count
        if count in moments:
            disk.hold(moments[count], draw)
        count += 1

    _watching.append(watch := power.watched(runs, moment))  # to the end of the process
    watch.__enter__()
