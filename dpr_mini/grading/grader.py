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
from multiprocessing.connection import wait
from typing import Any, Self, get_args

from dpr_mini import tasks
from dpr_mini.grading.golds import opened
from dpr_mini.grading.guards import for_parser
from dpr_mini.grading.reading import extract
from dpr_mini.grading.tiers import ClosedForms, decide
from dpr_mini.grading.worker import LATE, START_S, Worker
from dpr_mini.types import Executed, UserError, Verdict

# So many ends of workers are a case's own doing, each but the first while it was alone and with a CONTROL after it that
# passed: ends by the worker itself, and by a signal from outside, as where memory runs out.
CRASHES, KILLS = 2, 6
CONTROL = (r"x+1", r"1+x")  # what any worker grades
STARTS = 3  # workers in a row that do not start
GIVEN_UP = {"killed": "timeout", "crashed": "crashed"}  # how a verdict ends that no tier gave: what it is counted as


FALLBACKS = ("last_number", "last_words")  # how an answer was found that nobody called one


class Grader:
    """Grades answers, in any thread. Workers start when the first case needs one and end with the `with` block.

    timeout_s: seconds of the processor for one case (the child's start is not counted), so that a worker that was
    stopped or starved is waited for; a case that takes longer is `timeout` and its worker is killed and replaced.
    memory_mib: address space of a worker. closed_forms: whether a number may be said as a closed form that nobody
    worked out ("accept"), see docs/grading.md. last_number: whether the last number that a sentence states is an answer
    where none is named ("refuse" makes such texts `unparsed`).
    Each (gold, answer) pair is decided once. A case whose worker ends is asked again, alone, so that its verdict is the
    same; one that ends its workers again and again while others pass is `unparsed`, "crashed" (see `given_up`).
    Raises UserError where a worker cannot start, where others do not pass either, and for another word than those of
    `ClosedForms`.
    """

    def __init__(
        self,
        workers: int | None = None,
        timeout_s: float = 5.0,
        memory_mib: int = 2048,
        closed_forms: ClosedForms = "refuse",
        last_number: ClosedForms = "accept",
    ) -> None:
        for name, value in (("closed_forms", closed_forms), ("last_number", last_number)):
            if value not in get_args(ClosedForms):
                raise UserError(f"{name} is refuse or accept, got {value!r}")
        self.last_number = last_number
        self.limit = max(1, workers or os.cpu_count() or 1)
        self.timeout_s, self.memory_mib, self.closed_forms = timeout_s, memory_mib, closed_forms
        self._workers: list[Worker] = []
        self._queue: deque[tuple[str, str]] = deque()
        self._queued: set[tuple[str, str]] = set()
        self._suspects: deque[tuple[tuple[str, str], bool]] = deque()  # cases whose worker ended, whether from outside
        self._decided: dict[tuple[str, str], tuple[str, str, float]] = {}
        self._failed_starts: Counter[bool] = Counter()  # since one started, by whether from outside
        self._lock = threading.RLock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        with self._lock:
            for worker in self._workers:
                worker.kill()
            self._workers.clear()

    def grade(self, gold: str | Executed, text: str) -> Verdict:
        """Grade one response (or bare answer) against a gold answer, or by a task's verifier."""
        return next(v for _, v, _ in self._many([(0, gold, text)]))

    def grade_many(self, cases: Iterable[tuple[Any, str | Executed, str]]) -> Iterator[tuple[Any, Verdict]]:
        """Grade (id, gold, text) cases over all workers; (id, verdict) in order of completion."""
        return ((name, verdict) for name, verdict, _ in self._many(cases))

    def _many(self, cases: Iterable[tuple[Any, str | Executed, str]]) -> Iterator[tuple[Any, Verdict, float]]:
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
                if isinstance(gold, Executed):
                    yield name, tasks.grade(gold, text), (time.monotonic() - begun) * 1000
                    continue
                answer, how = extract(text)
                if how in FALLBACKS and self.last_number == "refuse":
                    answer = ""
                gold = opened(gold)
                if verdict := decide(gold, answer, how, closed_forms=self.closed_forms):
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
            for worker in [w for w in self._workers if w.ready and w.key is None and w.process.poll() is not None]:
                self._end(worker)  # ended from outside while it had nothing to do
            idle = sum(w.key is None for w in self._workers)
            while idle < len(self._queue) and len(self._workers) < self.limit:
                self._workers.append(Worker(self.timeout_s, self.memory_mib))
                idle += 1
            for worker in list(self._workers):
                if worker.ready and worker.key is None and self._queue:
                    self._assign(worker, self._queue.popleft())
            active = [w for w in self._workers if w.key is not None or not w.ready]
            if not active:
                if self._suspects:
                    self._alone(*self._suspects.popleft())
                return
            first = min(w.deadline for w in active)
            done = wait([w.process.stdout for w in active], max(0.0, first - time.monotonic()))
            now = time.monotonic()
            for worker in active:
                if worker.process.stdout in done:
                    self._receive(worker, worker.read())
                elif now >= worker.deadline:
                    self._late(worker)

    def _assign(self, worker: Worker, key: tuple[str, str]) -> None:
        try:
            worker.send(key)
        except BrokenPipeError:  # died while idle, which says nothing about the case
            self._queue.appendleft(key)
            self._end(worker)

    def _receive(self, worker: Worker, message: list[str] | str | None) -> None:
        if message is None:
            self._died(worker)
        elif not worker.ready:
            worker.ready = True
            self._failed_starts.clear()
        else:
            self._note(worker, *message)
            worker.rest()

    def _died(self, worker: Worker) -> None:
        """The worker has ended: its case is asked again, once there is nothing beside it."""
        outside = worker.ended_from_outside()
        if worker.key is None:
            self._not_started(worker, outside)
            return
        self._suspects.append((worker.key, outside))
        self._end(worker)

    def _alone(self, key: tuple[str, str], outside: bool) -> None:
        """Decide a case whose worker ended: in workers of its own, and after each that ends a CONTROL in another.

        Where that does not pass either, or is not left alone for as long, the case is not to blame.
        """
        deaths, unsteady = Counter({outside: 1}), 0
        while True:
            worker = self._started()
            message, seconds = worker.ask(key), time.monotonic() - worker.begun
            if message:
                self._note(worker, *message)
                self._end(worker) if message == list(LATE) else worker.rest()
                return
            outside = worker.ended_from_outside()
            for each in list(self._workers):  # idle ones hold memory, too
                self._end(each)
            control = self._started()
            passes = control.ask(CONTROL) and control.lives(seconds)
            self._end(control)
            if passes:
                deaths[outside] += 1
                if deaths[outside] >= (KILLS if outside else CRASHES):
                    self._decide(key, "unparsed", "crashed", seconds)
                    return
            else:
                unsteady += 1
                if unsteady >= KILLS:
                    raise UserError(
                        "grading workers are ended from outside, whatever they work on: look at the machine's memory "
                        "(dmesg) and at who kills processes; then run the same command"
                    )

    def _started(self) -> Worker:
        """A worker that is ready, and no other is used. Raises UserError where none starts."""
        while True:
            worker = Worker(self.timeout_s, self.memory_mib)
            self._workers.append(worker)
            wait([worker.process.stdout], START_S)
            if worker.process.stdout in wait([worker.process.stdout], 0) and worker.read():
                worker.ready = True
                self._failed_starts.clear()
                return worker
            self._not_started(worker, worker.process.poll() is not None and worker.ended_from_outside())

    def _late(self, worker: Worker) -> None:
        if worker.key is None:
            self._not_started(worker, outside=False)
        elif worker.late():
            self._note(worker, *LATE)
            self._end(worker)

    def _not_started(self, worker: Worker, outside: bool) -> None:
        """The next step starts another; what ends one from outside may end all of them at once."""
        words = worker.last_words()
        self._end(worker)
        self._failed_starts[outside] += 1
        if self._failed_starts[outside] >= STARTS * (self.limit if outside else 1):
            why = "ended from outside, again and again" if outside else words or f"nothing heard for {START_S:.0f} s"
            raise UserError(f"a grading worker did not start: {why}")

    def _note(self, worker: Worker, status: str, by: str) -> None:
        self._decide(worker.key, status, by, time.monotonic() - worker.begun)

    def _decide(self, key: tuple[str, str], status: str, by: str, seconds: float) -> None:
        self._decided[key] = (status, by, seconds * 1000)
        self._queued.discard(key)

    def _end(self, worker: Worker) -> None:
        self._workers.remove(worker)
        worker.kill()


def given_up(verdicts: Iterable[Verdict]) -> dict[str, int]:
    """How many verdicts no tier gave: {"timeout": n, "crashed": n}, for metrics and summaries."""
    ends = Counter(v.how.rpartition("/")[2] for v in verdicts)
    return {name: ends[end] for end, name in GIVEN_UP.items()}
