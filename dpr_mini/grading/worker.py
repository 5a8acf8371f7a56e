"""The child process that asks math-verify, under limits of its own, and the parent's side of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Signals that come from outside: nothing that a case does in its worker sends them. SIGKILL is also the kernel's, where
# memory runs out.
OUTSIDE = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
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

    def send(self, key: tuple[str, str]) -> None:
        self.key, self.begun = key, time.monotonic()
        self.deadline = self.begun + self.timeout_s
        self.process.stdin.write((json.dumps(key) + "\n").encode())

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
