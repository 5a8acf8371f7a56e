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

import os
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from multiprocessing.connection import wait
from typing import Any, Self

from dpr_mini.grading.guards import for_parser
from dpr_mini.grading.reading import extract
from dpr_mini.grading.tiers import decide
from dpr_mini.grading.worker import START_S, Worker
from dpr_mini.types import UserError, Verdict

RETRIES = 2  # of a case whose worker died; after that it is `unparsed`, "crashed"


class Grader:
    """Grades answers, in any thread. Workers start when the first case needs one and end with the `with` block.

    timeout_s: wall-clock seconds for one case (the child's start is not counted); a case that takes longer is
    `timeout` and its worker is killed and replaced. memory_mib: address space of a worker. Each (gold, answer)
    pair is decided once. Raises UserError where a worker cannot start.
    """

    def __init__(self, workers: int | None = None, timeout_s: float = 5.0, memory_mib: int = 2048) -> None:
        self.limit = max(1, workers or os.cpu_count() or 1)
        self.timeout_s, self.memory_mib = timeout_s, memory_mib
        self._workers: list[Worker] = []
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
                if verdict := decide(gold, answer, how):
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
                self._workers.append(Worker(self.timeout_s, self.memory_mib))
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

    def _assign(self, worker: Worker, key: tuple[str, str]) -> None:
        with suppress(BrokenPipeError):  # died while idle: the next step sees its closed pipe
            worker.send(key)

    def _receive(self, worker: Worker, message: list[str] | str | None) -> None:
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

    def _note(self, worker: Worker, status: str, by: str) -> None:
        self._decided[worker.key] = (status, by, (time.monotonic() - worker.begun) * 1000)
        self._queued.discard(worker.key)

    def _lost(self, worker: Worker, status: str, by: str) -> None:
        self._workers.remove(worker)
        words = "" if status == "timeout" else worker.last_words()
        worker.kill()
        if not worker.ready:
            self._failed_starts += 1
            if self._failed_starts <= RETRIES:  # ended from outside, perhaps: the next step starts another
                return
            raise UserError(f"a grading worker did not start: {words or f'nothing heard for {START_S:.0f} s'}")
        self._note(worker, status, by)
