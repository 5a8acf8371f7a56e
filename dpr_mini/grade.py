r"""Is a model's answer right? Find the answer in the text, decide exactly where that is certain, else ask math-verify.

    with Grader() as grader:
        grader.grade("1/2", r"... so \boxed{0.5}")      # Verdict("correct", "0.5", "boxed/exact")

1. `extract` finds the answer and says how. 2. `exact` decides numbers, plain words and equal strings with Fractions,
and only when it is certain. 3. `structure` decides formulas, lists, sets, tuples, matrices, inequalities and intervals
from exact values of their own, again only where that is certain. 4. `guards` refuse what is too large, too deep or in
part unread by math-verify. 5. The rest goes to math-verify in child processes that the parent kills: its own limits
are SIGALRM, which fails off the main thread and cannot stop a long C call. What a model wrote is never evaluated
by us, and a child has limits on memory, CPU time and file size.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Self

from dpr_mini.grading.answers import MAX_ANSWER, exact, extract, first_result, last_number
from dpr_mini.grading.guards import MAX_NESTING, depth, dropped, for_parser, heavy
from dpr_mini.grading.structure import structure
from dpr_mini.store import foreign_rows, write_rows
from dpr_mini.types import UserError, Verdict

__all__ = ["GradeError", "Grader", "exact", "extract", "first_result", "grade_file", "last_number", "read_cases"]

RETRIES = 2  # of a case whose worker died; after that it is `unparsed`, "crashed"
START_S = 120.0  # a worker imports sympy: 2 s on a quiet core


class GradeError(UserError, ValueError):
    """A case that cannot be read, or a grader that cannot start: one line that says where and what."""


# ---------------------------------------------------------------- math-verify, in children that can be killed


def _serve(memory_bytes: int, cpu_s: int) -> None:
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


class _Worker:
    """One child process. `key` is the case it works on, `deadline` when the parent kills it."""

    def __init__(self, timeout_s: float, memory_mib: int) -> None:
        self.timeout_s, self.key, self.begun = timeout_s, None, time.monotonic()
        self.ready, self.deadline = False, self.begun + START_S
        code = f"from dpr_mini.grade import _serve; _serve({memory_mib << 20}, {int(timeout_s) + 2})"
        # Not multiprocessing: its children import the caller's __main__ again. The model's text meets no secrets here.
        environment = {k: os.environ[k] for k in ("PATH", "LANG", "LD_LIBRARY_PATH", "VIRTUAL_ENV") if k in os.environ}
        environment |= {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)])}
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

    def last_words(self) -> str:
        self.errors.seek(0)
        return (self.errors.read().decode(errors="replace").strip().splitlines() or ["no message"])[-1]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.errors):
            stream.close()


class Grader:
    """Grades answers, in any thread. Workers start when the first case needs one and end with the `with` block.

    timeout_s: wall-clock seconds for one case (the child's start is not counted); a case that takes longer is
    `timeout` and its worker is killed and replaced. memory_mib: address space of a worker. Each (gold, answer)
    pair is decided once. Raises GradeError where a worker cannot start.
    """

    def __init__(self, workers: int | None = None, timeout_s: float = 5.0, memory_mib: int = 2048) -> None:
        self.limit = max(1, workers or os.cpu_count() or 1)
        self.timeout_s, self.memory_mib = timeout_s, memory_mib
        self._workers: list[_Worker] = []
        self._queue: deque[tuple[str, str]] = deque()
        self._queued: set[tuple[str, str]] = set()
        self._crashes: Counter[tuple[str, str]] = Counter()
        self._decided: dict[tuple[str, str], tuple[str, str, float]] = {}
        self._failed_starts = 0
        self._lock = threading.RLock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        with self._lock:
            for worker in self._workers:
                worker.kill()
            self._workers.clear()

    def grade(self, gold: str, text: str) -> Verdict:
        """Grade one response (or bare answer) against a gold answer."""
        return next(v for _, v, _ in self._many([(0, gold, text)]))

    def grade_many(self, cases: Iterable[tuple[Any, str, str]]) -> Iterator[tuple[Any, Verdict]]:
        """Grade (id, gold, text) cases over all workers; (id, verdict) in order of completion."""
        return ((name, verdict) for name, verdict, _ in self._many(cases))

    def _many(self, cases: Iterable[tuple[Any, str, str]]) -> Iterator[tuple[Any, Verdict, float]]:
        waiting: dict[tuple[str, str], list[tuple[Any, str, str]]] = {}
        cases, more = iter(cases), True
        while more or waiting:
            while more and len(waiting) < 8 * self.limit:
                try:
                    name, gold, text = next(cases)
                except StopIteration:
                    more = False
                    break
                begun = time.monotonic()
                answer, how = extract(text)
                gold = extract(gold)[0] if r"\boxed" in gold else gold
                if verdict := _quick(gold, answer, how):
                    yield name, verdict, (time.monotonic() - begun) * 1000
                    continue
                key = (for_parser(gold), for_parser(answer))
                waiting.setdefault(key, []).append((name, answer, how))
                self._submit(key)
            if waiting:
                self._step()
            for key in [k for k in waiting if k in self._decided]:
                status, by, ms = self._decided[key]
                for name, answer, how in waiting.pop(key):
                    yield name, Verdict(status, answer, f"{how}/{by}"), ms

    def _submit(self, key: tuple[str, str]) -> None:
        with self._lock:
            if key not in self._decided and key not in self._queued:
                self._queue.append(key)
                self._queued.add(key)

    def _step(self) -> None:
        """Hand out queued cases, wait until one is done or late, note the results."""
        with self._lock:
            idle = sum(w.key is None for w in self._workers)
            while idle < len(self._queue) and len(self._workers) < self.limit:
                self._workers.append(_Worker(self.timeout_s, self.memory_mib))
                idle += 1
            for worker in self._workers:
                if worker.ready and worker.key is None and self._queue:
                    self._assign(worker, self._queue.popleft())
            active = [w for w in self._workers if w.key is not None or not w.ready]
            if not active:
                return
            first = min(w.deadline for w in active)
            done = wait([w.process.stdout for w in active], max(0.0, first - time.monotonic()))
            now = time.monotonic()
            for worker in active:
                if worker.process.stdout in done:
                    self._receive(worker, worker.read())
                elif now >= worker.deadline:
                    self._lost(worker, "timeout", "killed")

    def _assign(self, worker: _Worker, key: tuple[str, str]) -> None:
        with suppress(BrokenPipeError):  # died while idle: the next step sees its closed pipe
            worker.send(key)

    def _receive(self, worker: _Worker, message: list[str] | str | None) -> None:
        if message is None and worker.key is not None and self._crashes[worker.key] < RETRIES:
            self._crashes[worker.key] += 1  # the worker may have been ended from outside: once more
            self._queue.appendleft(worker.key)
            self._workers.remove(worker)
            worker.kill()
        elif message is None:
            self._lost(worker, "unparsed", "crashed")
        elif not worker.ready:
            worker.ready = True
        else:
            self._note(worker, *message)
            worker.key = None

    def _note(self, worker: _Worker, status: str, by: str) -> None:
        self._decided[worker.key] = (status, by, (time.monotonic() - worker.begun) * 1000)
        self._queued.discard(worker.key)

    def _lost(self, worker: _Worker, status: str, by: str) -> None:
        self._workers.remove(worker)
        words = "" if status == "timeout" else worker.last_words()
        worker.kill()
        if not worker.ready:
            self._failed_starts += 1
            if self._failed_starts <= RETRIES:  # ended from outside, perhaps: the next step starts another
                return
            raise GradeError(f"a grading worker did not start: {words or f'nothing heard for {START_S:.0f} s'}")
        self._note(worker, status, by)


_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\u202a-\u202e\u2066-\u2069]")  # and marks that turn text around


def _quick(gold: str, answer: str, how: str) -> Verdict | None:
    """A verdict that needs no worker, or None."""
    if not answer:
        return Verdict("unparsed", "", how)
    if len(answer) > MAX_ANSWER or len(gold) > MAX_ANSWER:
        status = "correct" if answer == gold else "unparsed"
        return Verdict(status, answer[:MAX_ANSWER], f"{how}/{'string' if status == 'correct' else 'too-long'}")
    if answer != gold and _CONTROL.search(answer):
        return Verdict("unparsed", answer, f"{how}/control-character")
    if r"\boxed" in answer and re.search(r"\w", re.sub(r"\\f?boxed\s*\{[^{}]*\}", "", answer)):
        return Verdict("wrong", answer, f"{how}/several")  # a box within the box, and more beside it
    if decided := exact(gold, answer):
        return Verdict("correct" if decided[0] else "wrong", answer, f"{how}/{decided[1]}")
    if depth(answer) > MAX_NESTING:
        return Verdict("unparsed", answer, f"{how}/nesting")
    if decided := structure(gold, answer):
        return Verdict("correct" if decided[0] else "wrong", answer, f"{how}/{decided[1]}")
    if dropped(gold, answer):
        return Verdict("wrong", answer, f"{how}/dropped")
    if heavy(answer):
        return Verdict("unparsed", answer, f"{how}/too-large")
    return None


# ---------------------------------------------------------------- files


def read_cases(path: Path) -> list[tuple[Any, str, str]]:
    """(id, gold, pred) of every line of a JSONL file. Raises UserError with file and line for a malformed one."""
    cases = []
    for where, row in foreign_rows(path):
        if missing := [k for k in ("id", "gold", "pred") if k not in row]:
            raise GradeError(f"{where}: {', '.join(missing)} missing; a case is {{id, gold, pred}}")
        for key in ("gold", "pred"):
            if isinstance(row[key], bool) or not isinstance(row[key], str | int | float):
                raise GradeError(f"{where}: {key} must be a string, got {type(row[key]).__name__}")
        cases.append((row["id"], str(row["gold"]), str(row["pred"])))
    return cases


def grade_file(cases: Path, out: Path, **options: Any) -> dict[str, int]:
    """Grade {id, gold, pred} lines into {id, status, extracted, how, ms} lines, in the same order.

    ms is the time of the decision; a pair that was decided before repeats its first time. Returns counts by status.
    Raises GradeError for a malformed line (before anything is written). `options` are Grader's.
    """
    from dpr_mini import progress

    found = read_cases(cases)
    rows: list[dict[str, Any]] = [{} for _ in found]
    counts: dict[str, int] = {}
    with Grader(**options) as grader:
        numbered = ((i, gold, pred) for i, (_, gold, pred) in enumerate(found))
        bar = progress.bar(iterable=grader._many(numbered), total=len(found), desc="grade", unit="answer")
        for i, verdict, ms in bar:
            rows[i] = {"id": found[i][0], "status": verdict.status, "extracted": verdict.extracted}
            rows[i] |= {"how": verdict.how, "ms": round(ms, 3)}
            counts[verdict.status] = counts.get(verdict.status, 0) + 1
    write_rows(out, rows)
    return counts
