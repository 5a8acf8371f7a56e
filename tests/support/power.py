"""A disk that forgets: of every file, what its last fsync left. Names are kept, as a journal keeps them."""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


class Disk:
    """Notes what is synced below `root`; `hold` writes what would be there after a power cut at this moment."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.synced: dict[int, bytes] = {}  # inode -> its bytes at the last fsync

    def note(self, descriptor: int) -> None:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            self.synced[os.fstat(descriptor).st_ino] = Path(f"/proc/self/fd/{descriptor}").read_bytes()

    def hold(self, to: Path, draw: random.Random | None = None) -> None:
        """With `draw` some files have whole pages more than was synced, or all: a disk may write when it likes."""
        to.mkdir(parents=True)
        for path in sorted(self.root.rglob("*")):
            target = to / path.relative_to(self.root)
            if path.is_dir():
                target.mkdir(exist_ok=True)
                continue
            data, kept = path.read_bytes(), self.synced.get(path.stat().st_ino, b"")
            if not data.startswith(kept):
                kept = b""  # a file that is gone had that inode
            more = data[: -(-len(kept) // 4096) * 4096 + 4096]
            target.write_bytes(draw.choice([kept, kept, more, data]) if draw else kept)


@contextmanager
def watched(root: Path, moment: Callable[[Disk, str], None]) -> Iterator[Disk]:
    """A Disk of `root`. `moment(disk, what)` is called before and after every sync, rename and removal."""
    disk, busy = Disk(root), False
    real = {name: getattr(os, name) for name in ("fsync", "replace", "unlink", "rename")}

    def tell(what: str) -> None:
        nonlocal busy
        if not busy:
            busy = True
            moment(disk, what)
            busy = False

    def fsync(descriptor: int) -> None:
        tell("before fsync")
        real["fsync"](descriptor)
        disk.note(descriptor)
        tell("after fsync")

    def wrapped(name: str) -> Callable[..., None]:
        def call(*args: object, **options: object) -> None:
            tell(f"before {name}")
            real[name](*args, **options)
            tell(f"after {name}")

        return call

    os.fsync = fsync
    for name in ("replace", "unlink", "rename"):
        setattr(os, name, wrapped(name))
    try:
        yield disk
    finally:
        for name, function in real.items():
            setattr(os, name, function)
