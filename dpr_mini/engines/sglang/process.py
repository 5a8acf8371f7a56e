"""A server as a child process: a session of its own, a log that is kept, and an end that is proved."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from dpr_mini.engines.base import EngineError
from dpr_mini.machine import guard
from dpr_mini.types import SECRET_NAME, redacted

# Settings of our own process that are not the server's: torch's allocator, and how idle threads wait.
OURS = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "OMP_WAIT_POLICY")


class ServerProcess:
    """`command` under a guard (guard.py): whatever ends this process, kill -9 included, ends the server's session.

    log: file that its output is appended to, under a line that says when and what. environment: added to our own,
    less OURS and what is named as a secret: a server needs no token of a hub or a tracker.
    """

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> None:
        self.command, self.log = list(command), log
        # PYTHONSAFEPATH: a folder named like a package in the working directory must not be imported by the server
        inherited_variables = {
            name: value for name, value in os.environ.items() if name not in OURS and not SECRET_NAME.search(name)
        }
        self.environment = {
            **inherited_variables,
            "PYTHONSAFEPATH": "1",
            "PYTHONUNBUFFERED": "1",
            **(environment or {}),
        }
        self._guard: subprocess.Popen[bytes] | None = None
        self._members: set[int] = set()
        self._begin = 0  # where in the log the last start begins
        self._ending = threading.Lock()  # an interrupt may stop it while another thread does
        self.pid: int | None = None

    def start(self) -> None:
        """Start it; returns as soon as its process is there. Raises EngineError where the command does not exist."""
        if shutil.which(self.command[0], path=self.environment.get("PATH")) is None:
            raise EngineError(f"{self.command[0]} did not start: there is no such command")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as out:
            begun = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            out.write(f"\n=== {begun} {redacted(' '.join(self.command))}\n".encode())
            self._begin = out.tell()
            self._guard = subprocess.Popen(
                [sys.executable, "-I", guard.__file__, *self.command],
                stdin=subprocess.PIPE, stdout=out, stderr=out, env=self.environment,
                start_new_session=True,  # Ctrl-C is for us to pass on, in order
            )  # fmt: skip
        self._members = set()
        deadline = time.monotonic() + 10
        self.pid = None
        while self.pid is None and self._guard.poll() is None and time.monotonic() < deadline:
            # not before it leads a session of its own: by that it is found when it must end
            self.pid = next((pid for pid in children(self._guard.pid) if pid in guard.session(pid)), None)
            time.sleep(0.005)
        if self.pid is None:
            self.stop()
            raise EngineError(f"{self.command[0]} did not start: {self.tail(3)}")

    def ready(self, vital: str) -> None:
        """From now on the death of any process whose title begins with `vital` is the server's death."""
        self._members = {pid for pid in self.pids() if title(pid).startswith(vital)}

    def alive(self) -> bool:
        """False once the server, its guard, or one of its vital processes has ended."""
        if self._guard is None or self._guard.poll() is not None:
            return False
        return all(guard.lives(pid) for pid in (self.pid, *self._members) if pid)

    def pids(self) -> list[int]:
        """Its live processes."""
        return guard.session(self.pid) if self.pid else []

    def tail(self, lines: int = 12) -> str:
        """The last lines of its log since the last start, joined into one."""
        with self.log.open("rb") as file:
            file.seek(max(self._begin, self.log.stat().st_size - (1 << 14)))
            output = file.read().decode(errors="replace").splitlines()
        return " | ".join([line.strip() for line in output if line.strip()][-lines:]) or "it said nothing"

    def stop(self) -> None:
        """End the whole session and wait. Raises EngineError if a process of it is still there afterwards."""
        with self._ending:
            if self._guard is None:
                return
            assert self._guard.stdin
            self._guard.stdin.close()
            try:
                self._guard.wait(guard.GRACE + 20)
            except subprocess.TimeoutExpired:
                self._guard.kill()
                self._guard.wait()
            self._guard = None
            left = guard.end(self.pid, grace=0.0) if self.pid else []  # for a guard that was killed
            self._members, self.pid = set(), None
        if left:
            raise EngineError(f"processes of the server could not be ended: {left}; its log: {self.log}")

    def kill(self) -> None:
        """SIGKILL the whole session at once, for a server that does not answer."""
        for pid in self.pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.stop()


def children(pid: int) -> list[int]:
    """Direct children of a process that were made by its main thread."""
    try:
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def title(pid: int) -> str:
    """What a process calls itself: its command line; "" for one that has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def free_port() -> int:
    """A port of 127.0.0.1 that was free a moment ago, from below those that a system hands out by itself (32768 on).

    A server takes its port half a minute after it was chosen. Of the others one of its own processes may get it first:
    seen with SGLang 0.5.9, whose scheduler then sat on the port that its server was to listen on.
    """
    for port in random.SystemRandom().sample(range(20000, 32000), 1000):  # not the seeded one: two runs would agree
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise EngineError("no free port on 127.0.0.1 between 20000 and 32000")
