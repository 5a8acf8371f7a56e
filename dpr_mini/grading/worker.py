"""The child process that asks math-verify, under limits of its own, and the parent's side of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

# Signals that come from outside: nothing that a case does in its worker sends them. SIGKILL is also the kernel's, where
# memory runs out.
OUTSIDE = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
LATE = ("timeout", "killed")  # what comes of a case that has had its time
# A case is late once it has had this share of its limit as time of the processor: on a quiet core that is its limit.
SHARE, STALLED = 0.9, 12
START_S = 120.0  # a worker imports sympy: 2 s on a quiet core


def serve(memory_bytes: int, cpu_s: int) -> None:
    """A worker's whole life: a JSON line in, a JSON line out, under limits of its own. Runs in the child."""
    import logging
    import resource

    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # nothing that a library prints may reach the pipe
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    from math_verify import LatexExtractionConfig, parse, verify

    logging.disable(logging.CRITICAL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    config = [LatexExtractionConfig()]  # without the plain-expression reader, which calls sympy's parse_expr
    print(json.dumps("ready"), file=answers)
    for line in sys.stdin:
        gold, answer = json.loads(line)
        usage = resource.getrusage(resource.RUSAGE_SELF)
        limit = int(usage.ru_utime + usage.ru_stime) + cpu_s
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
        try:
            left, right = (parse(f"${t}$", config, parsing_timeout=None) for t in (gold, answer))
            if not left or not right:
                result = ["unparsed", "math-verify"]
            elif any(all(isinstance(x, str) for x in side) for side in (left, right)):
                # No formula in one of them, only (cut) strings; that the whole strings differ is known already.
                result = ["wrong", "string"]
            else:
                result = ["correct" if verify(left, right, timeout_seconds=None) else "wrong", "math-verify"]
        except MemoryError:
            result = ["unparsed", "memory"]
        except RecursionError:
            result = ["unparsed", "nesting"]
        print(json.dumps(result), file=answers)


class Worker:
    """One child process. `key` is the case it works on, `deadline` when the parent kills it."""

    def __init__(self, timeout_s: float, memory_mib: int) -> None:
        self.timeout_s, self.key, self.begun = timeout_s, None, time.monotonic()
        self.ready, self.deadline = False, self.begun + START_S
        code = f"from dpr_mini.grading.worker import serve; serve({memory_mib << 20}, {int(timeout_s) + 2})"
        # Not multiprocessing: its children import the caller's __main__ again. The model's text meets no secrets here.
        environment = {k: os.environ[k] for k in ("PATH", "LANG", "LD_LIBRARY_PATH", "VIRTUAL_ENV") if k in os.environ}
        environment |= {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, sys.path)])}
        environment |= {
            "PYTHONSAFEPATH": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115  closed in kill()
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors,
            env=environment, start_new_session=True, bufsize=0,
        )  # fmt: skip
        self._seen: psutil.Process | None = None

    def send(self, key: tuple[str, str]) -> None:
        self.key, self.begun = key, time.monotonic()
        self.deadline, self._used = self.begun + self.timeout_s, 0.0
        self._moved, self._before = self.begun, self._processor_seconds()
        self.process.stdin.write((json.dumps(key) + "\n").encode())

    def rest(self) -> None:
        """It has answered and may be sent another case."""
        self.key = None

    def late(self) -> bool:
        """At its deadline: whether the case has had its time, in seconds of the processor, not of the clock.

        A worker that was stopped, or starved by others, is given the time that it lacks. One that has got nothing at
        all for STALLED times the limit is killed, which then looks as any end from outside does.
        """
        now, used = time.monotonic(), self._processor_seconds() - self._before
        if used >= self.timeout_s * SHARE:
            return True
        if used > self._used:
            self._used, self._moved = used, now
        elif now - self._moved > STALLED * self.timeout_s:
            self.process.kill()
        self.deadline = now + min(self.timeout_s, max(0.1, self.timeout_s - used))
        return False

    def _processor_seconds(self) -> float:
        """Seconds of the processor that the worker has had so far; 0 where it has ended, which its pipe says."""
        import psutil

        try:
            self._seen = self._seen or psutil.Process(self.process.pid)
            times = self._seen.cpu_times()
        except psutil.Error:
            return 0.0
        return times.user + times.system

    def ask(self, key: tuple[str, str]) -> list[str] | None:
        """Send a case and wait for what comes of it: the answer, a time-out, or None where the worker ends."""
        try:
            self.send(key)
        except BrokenPipeError:
            return None
        while not wait([self.process.stdout], max(0.0, self.deadline - time.monotonic())):
            if self.late():
                return list(LATE)
        return self.read()

    def lives(self, seconds: float) -> bool:
        """Whether it is there for so long, with nothing to do."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return True
        return False

    def read(self) -> list[str] | str | None:
        """The child's line; None where it has died."""
        line = self.process.stdout.readline()
        return json.loads(line) if line.endswith(b"\n") else None

    def ended_from_outside(self) -> bool:
        """Whether a child whose pipe has closed was ended by another process, not by its own doing."""
        try:
            return -self.process.wait(timeout=5) in OUTSIDE
        except subprocess.TimeoutExpired:
            return False  # closed its pipe and lives on

    def last_words(self) -> str:
        self.errors.seek(0)
        return (self.errors.read().decode(errors="replace").strip().splitlines() or ["no message"])[-1]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.errors):
            stream.close()
