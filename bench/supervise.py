"""Runs a command with a limit of time, and leaves no process of it behind: not those in groups of their own either.

The calling process becomes the one that orphans below it are handed to (Linux: PR_SET_CHILD_SUBREAPER), so that a
server or a training child that outlives its parent is still found among our descendants.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

SUBREAPER = 36  # of prctl(2)
TAIL = 40  # lines of output that are kept
STOPPED = 124  # exit status of what ran past its limit, as of timeout(1)
GRACE = 5.0  # seconds between asking to end and ending


@dataclass(frozen=True)
class Ended:
    """How a command ended. `status` 124: it ran past its limit."""

    command: tuple[str, ...]
    status: int
    seconds: float
    tail: tuple[str, ...]

    def row(self) -> dict[str, Any]:
        return {"command": list(self.command), "status": self.status, "seconds": self.seconds, "tail": list(self.tail)}


def adopt_orphans() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def supervise(
    command: Sequence[str], limit: float, log: TextIO, environment: Mapping[str, str], watch: Watch | None = None
) -> Ended:
    """Runs `command` for at most `limit` seconds, its output to `log` and to our own; then none of it is left.

    It is asked to end (SIGTERM) up to five seconds before the limit, and killed at the limit. Descendants that live
    longer than the command are killed too. An exception here, KeyboardInterrupt say, kills all and goes on.
    """
    begun, tail = time.monotonic(), deque(maxlen=TAIL)
    grace = min(GRACE, limit / 5)
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=dict(environment),
        text=True, errors="replace", start_new_session=True,
    )  # fmt: skip

    def copy() -> None:
        for text in process.stdout or ():
            tail.append(text.rstrip()[-500:])
            log.write(text)
            log.flush()
            print(text, end="", flush=True)

    reader = threading.Thread(target=copy, daemon=True)
    reader.start()
    late = False
    try:
        with watch or contextlib.nullcontext():
            try:
                process.wait(max(0.1, limit - grace))
            except subprocess.TimeoutExpired:
                late = True
                end(signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(grace)
    finally:
        end(signal.SIGKILL)
    process.wait()
    reader.join(5)
    status = STOPPED if late else process.returncode
    return Ended(tuple(command), status, round(time.monotonic() - begun, 1), tuple(tail))


def end(number: signal.Signals) -> None:
    """Sends a signal to every descendant; after SIGKILL none is left when this returns."""
    for _ in range(100):
        below = list(descendants(os.getpid()))
        for pid in below:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        if number != signal.SIGKILL or not below:
            return
        for pid in below:  # our own children, adopted ones too, are ours to reap; the first is the caller's
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        time.sleep(0.02)


def descendants(ancestor: int) -> Iterator[int]:
    """Processes below `ancestor` that still run, from /proc."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):  # it has ended meanwhile
                state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
                if state != "Z":
                    children.setdefault(int(parent), []).append(int(folder.name))
    below = children.get(ancestor, [])
    while below:
        yield from below
        below = [pid for parent in below for pid in children.get(parent, ())]


class Watch:
    """Memory in use, once a second while its block runs: of the GPU by nvidia-smi, else resident, of our descendants.

    `keep(rows)` is called with every new row: {"second", "unix", "gpu_mib" or "rss_mib"}.
    """

    def __init__(self, keep: Callable[[list[dict[str, Any]]], None]) -> None:
        self.keep, self.rows, self.over = keep, [], threading.Event()
        self.tool = shutil.which("nvidia-smi")
        self.thread = threading.Thread(target=self.sample, daemon=True)

    def __enter__(self) -> Watch:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join(10)

    def sample(self) -> None:
        begun = time.time()
        while not self.over.wait(1.0):
            now = time.time()
            row = {"second": round(now - begun, 1), "unix": round(now, 1)}
            self.rows.append(row | (self.gpu() if self.tool else {"rss_mib": resident()}))
            self.keep(self.rows)

    def gpu(self) -> dict[str, int]:
        query = [self.tool, "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
        done = subprocess.run(query, capture_output=True, text=True, check=False, timeout=10)
        used = [int(word) for word in done.stdout.split() if word.isdigit()]
        return {"gpu_mib": sum(used)} if used else {}


def resident() -> int:
    """MiB resident of all our descendants together; shared pages count once for each."""
    pages = 0
    for pid in descendants(os.getpid()):
        with contextlib.suppress(OSError):
            pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") >> 20
