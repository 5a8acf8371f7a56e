"""A real SGLang server as the engine: started here as a child process, or running somewhere and named by its URL.

One call per sample, no barrier between conversations, as many tokens in flight as the server's cache holds. The
client owns the token list, so the second turn's prompt is the first's ids + its output ids + the next instruction,
and the server finds it cached. A server that dies or hangs is started again and what was in flight is asked again.
A request that fails for good comes back as a Completion with "error": it is never lost and never waited for.

The event loop runs in a thread of its own: `submit` and `poll` stay plain calls.
"""

from __future__ import annotations

import asyncio
import math
import queue
import sys
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Coroutine
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential, wait_random

from dpr_mini.engines.base import Completion, EngineError, Request, RequestError
from dpr_mini.engines.decode import Decoder
from dpr_mini.engines.sglang import launch, wire
from dpr_mini.engines.sglang.calls import Lost, Refused
from dpr_mini.engines.sglang.fleet import Fleet, Replica
from dpr_mini.recipe import ServerConfig

T = TypeVar("T")
ALIVE_EVERY = 0.5  # seconds between two looks at the server's processes
HEALTH_WAIT = 30.0  # seconds that a server at work may take to say that it is well
DEATHS = 5  # in a row, without one finished request between them, before it stops trying
SUSPECT = 2  # servers that died under a request before it has to run alone


class Dead(Exception):
    """The server that was asked has died since."""


@dataclass(slots=True, eq=False)
class Job:
    request: Request
    room: int
    cost: int = 0  # tokens reserved for it
    deaths: int = 0  # servers that died while they worked on it
    replica: Replica | None = None
    rid: str = ""


class SglangEngine:
    """Engine (see base.py) on SGLang; `config` is the recipe's section of it.

    model_dir: Hugging Face folder. window: requests in flight at most; None: what the servers' caches and limits hold
    (launch.window), known once the engine is open. logs: folder of the server's log.
    Raises EngineError where there is no SGLang, on entering if the server does not start, and for a bad request.
    """

    def __init__(
        self, model_dir: Path, *, window: int | None = None, config: ServerConfig | None = None, logs: Path = Path(".")
    ) -> None:
        self.model_dir, self._window, self.logs = Path(model_dir), window, Path(logs)
        self.config = config or ServerConfig()
        self.decoder = Decoder(self.model_dir)
        self.fleet = Fleet(self.model_dir, self.decoder, self.config, self.logs)
        self.counts: Counter[str] = Counter()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def name(self) -> str:
        return self.fleet.name

    @property
    def window(self) -> int:
        """Requests in flight at most. Raises EngineError where only an open server can tell."""
        if self._window is not None:
            return self._window
        if not self.fleet.replicas:
            raise EngineError("the sglang engine is not open; its window is its server's to tell")
        return sum(r.info.window for r in self.fleet.replicas)

    @property
    def reproducible(self) -> bool:
        """SGLang overlooks seeds without a word unless it runs deterministically."""
        return all(r.info.deterministic for r in self.fleet.replicas)

    def facts(self) -> dict[str, Any]:
        """Versions, settings, and what went wrong and was put right."""
        first = self.fleet.replicas[0].info
        return {
            "versions": self.fleet.versions or {"sglang": first.version},
            "attention": first.attention,
            "servers": len(self.fleet.replicas),
            "cache_tokens": sum(r.info.pool for r in self.fleet.replicas),
            "window": self.window,
            "prefix_cache": first.prefix_cache,
            "reproducible": self.reproducible,
            **{name: self.counts[name] for name in ("restarts", "retried", "failed", "retractions", "most_in_flight")},
        }

    def __enter__(self) -> Self:
        self._pending: deque[Job] = deque()
        self._flying: dict[asyncio.Task[None], Job] = {}
        self._done: queue.SimpleQueue[Completion | EngineError] = queue.SimpleQueue()
        self._outstanding = 0
        self._up = False
        self._lost: EngineError | None = None  # why no answer will come any more
        self._watch: asyncio.Task[None] | None = None
        self._revival: asyncio.Task[None] | None = None
        self._deaths = 0
        self._finished = 0
        self._drawn: deque[int] = deque(maxlen=512)  # lengths of the last answers
        self._homes: dict[Any, Replica] = {}  # conversation or prompt -> the replica whose cache knows it
        self._priming: dict[tuple[int, ...], asyncio.Task[Any]] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sglang", daemon=True)
        self._thread.start()
        try:
            self._call(self._open())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        if self._loop is None:
            return
        try:
            self._call(self._close())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            self._loop = None

    def submit(self, request: Request) -> None:
        """Queue one request. Raises RequestError for one that cannot be answered, EngineError for a lost server."""
        if self._loop is None:
            raise EngineError("the sglang engine is not open; use it in a with block")
        if self._lost:
            raise self._lost
        room, replicas = self.decoder.room(request), self.fleet.replicas
        if len(request.ids) >= (longest := min(r.info.longest for r in replicas)):
            raise RequestError(
                f"request {request.id}: {len(request.ids)} prompt tokens, the server takes {longest - 1}"
            )
        if len(request.ids) + room > (pool := min(r.info.pool for r in replicas)):
            raise RequestError(f"request {request.id}: {len(request.ids)} + {room} tokens, its cache holds {pool}")
        # a server may have a shorter context than its model
        room = min(room, longest + launch.BEYOND_PROMPT - len(request.ids))
        self._outstanding += 1
        self._loop.call_soon_threadsafe(self._add, Job(request, room))

    def poll(self) -> list[Completion]:
        """Block until something finished; [] only when nothing is in flight. Raises EngineError for a lost server."""
        if not self._outstanding:
            return []
        done = [self._done.get()]
        while not self._done.empty():
            done.append(self._done.get())
        completions = [one for one in done if isinstance(one, Completion)]
        for error in (one for one in done if isinstance(one, EngineError)):
            self._done.put(error)  # for the next call: what was answered before it is not lost, and none waits for ever
            if not completions:
                raise error
        self._outstanding -= len(completions)
        return completions

    def cancel(self) -> None:
        """Drop everything in flight, here and on the server."""
        if self._loop is not None:
            self._call(self._cancel())
        self._outstanding = 0

    # --- in the loop's thread -----------------------------------------------------------------------------------

    async def _open(self) -> None:
        await self.fleet.open()
        if self._window is None:
            sizes = ", ".join(
                f"{r.info.pool:,} tokens of cache, {r.info.running:,} requests at once" for r in self.fleet.replicas
            )
            print(f"window {self.window}: {sizes}", file=sys.stderr, flush=True)
        self._up = True
        self._watch = asyncio.create_task(self._watchdog())

    async def _close(self) -> None:
        ending = [task for task in (self._watch, self._revival) if task]
        for task in ending:  # a server that is being started again must not outlive this
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        await self._cancel()
        self._up = False
        await self.fleet.close()

    async def _cancel(self) -> None:
        jobs = list(self._flying.values())
        self._pending.clear()
        for task in [*self._flying, *self._priming.values()]:
            task.cancel()
        await asyncio.gather(*self._flying, return_exceptions=True)
        self._flying.clear()
        self._priming.clear()
        if self._up and not self.fleet.dead:
            await asyncio.gather(*(self._abort(job) for job in jobs if job.rid))  # "" could mean all, others' too
        while not self._done.empty():
            self._done.get()
        for replica in self.fleet.replicas:
            replica.reserved = 0

    def _add(self, job: Job) -> None:
        self._pending.append(job)
        self._pump()

    def _pump(self) -> None:
        """Send what fits: the window, the cache of the replica, and nothing beside a request that kills servers."""
        while self._up and self._pending and len(self._flying) < self.window:
            job = self._pending[0]
            alone = job.deaths >= SUSPECT or any(j.deaths >= SUSPECT for j in self._flying.values())
            if alone and self._flying:
                return
            replica = self._home(job)
            job.cost = len(job.request.ids) + self._expected(job.room)
            if replica.reserved and replica.reserved + job.cost > replica.info.pool:
                return
            self._pending.popleft()
            job.replica = replica
            replica.reserved += job.cost
            self._flying[asyncio.create_task(self._draw(job))] = job
            self.counts["most_in_flight"] = max(self.counts["most_in_flight"], len(self._flying))

    def _home(self, job: Job) -> Replica:
        """The replica that knows the conversation, or else the prompt, or else has the most room."""
        replicas = self.fleet.replicas
        if len(replicas) == 1:
            return replicas[0]
        prompt = hash(job.request.ids)  # not the ids themselves: all prompts of a run would stay in memory
        earlier_home = self._homes.get(job.request.id) or self._homes.get(prompt)
        home = earlier_home or min(replicas, key=lambda r: r.reserved / r.info.pool)
        self._homes[job.request.id] = self._homes[prompt] = home
        return home

    def _expected(self, room: int) -> int:
        """Tokens that a request will probably draw: its limit, until enough answers have shown their length.

        Reserving every limit would leave most of the cache empty; reserving too little makes the server take requests
        back and compute them again (sglang#26248). So: the 95th percentile of the last answers, and the whole limit
        again once the server has taken one back.
        """
        if len(self._drawn) < 64 or self.counts["retractions"]:
            return room
        return min(room, sorted(self._drawn)[math.ceil(0.95 * len(self._drawn)) - 1])

    async def _draw(self, job: Job) -> None:
        """One request, to its completion, its failure, or back into the queue if its server died."""
        done: Completion | None = None
        task, epoch = asyncio.current_task(), self.fleet.epoch
        try:
            await self._prime(job)
            reply = await self._ask(job, epoch)
            answer = wire.completion(job.request, reply, self.decoder, job.room, job.rid)
            self.counts["retractions"] += wire.retractions(job.request, reply)
            self._drawn.append(len(answer.ids))
            done = answer
        except (Lost, Refused, EngineError) as error:
            done = _failed(job, str(error))
        except Dead:
            job.deaths += 1
            if job.deaths > SUSPECT:  # it was alone
                done = _failed(job, "the server dies of this request")
        except Exception as error:  # a reply that nobody has thought of must not be waited for
            done = _failed(job, f"unreadable reply: {type(error).__name__}: {error}")
        finally:
            del self._flying[task]
            job.replica.reserved -= job.cost
            if not self._twins(job):
                self._priming.pop(job.request.ids, None)
        if done is None:
            self._pending.appendleft(job)
        else:
            self._finished += 1
            if done.finish != "error":
                self._deaths = 0
            self.counts["failed"] += done.finish == "error"
            self._done.put(done)
        self._pump()

    async def _ask(self, job: Job, epoch: int) -> Any:
        """The server's reply. Retried while the server may come back: a sample that was not received does not count.

        Raises Refused, Lost (for good) or Dead.
        """
        failing: float | None = None  # since when; a time-out counts from its end, or it would never be asked again

        def again(state: RetryCallState) -> None:
            if not self.counts["retried"] and state.outcome:
                why = state.outcome.exception()
                print(f"a request is asked again ({why}); further ones are counted", file=sys.stderr, flush=True)
            self.counts["retried"] += 1

        def enough(state: RetryCallState) -> bool:
            nonlocal failing
            failing = failing or time.monotonic()
            return time.monotonic() - failing >= self.config.patience

        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(Lost),
            wait=wait_exponential(0.2, 15.0) + wait_random(0.0, 0.3),
            stop=enough,
            before_sleep=again,
            reraise=True,
        ):
            with attempt:
                job.rid = uuid.uuid4().hex  # a new one each time: the server may still know the last
                body = wire.payload(job.request, job.room, self.decoder.eos, job.rid)
                most = wire.most_bytes(job.room)
                try:
                    return await self.fleet.ask(job.replica.url, "/generate", body, self.config.request_timeout, most)
                except Lost:
                    if epoch != self.fleet.epoch or self.fleet.dead:
                        await self._revive(epoch)
                        raise Dead from None
                    await self._abort(job)  # it may still be at work on it
                    raise
        raise AssertionError("unreachable")

    async def _abort(self, job: Job) -> None:
        try:
            await self.fleet.ask(job.replica.url, "/abort_request", {"rid": job.rid}, 5.0)
        except (Lost, Refused):
            return  # its answer is empty in some releases, and a server that is gone has nothing to abort

    async def _prime(self, job: Job) -> None:
        """Compute a prompt that others share once, before them all.

        The server's own order (schedule_policy lpm) puts them last, but all the same into one batch if they come at
        once: then each computes it (seen with 0.5.9 under load).
        """
        ids = job.request.ids
        if ids not in self._priming:
            if not self._twins(job):
                return
            body = wire.payload(job.request, 0, (), uuid.uuid4().hex)
            work = self.fleet.ask(job.replica.url, "/generate", body, self.config.request_timeout)
            self._priming[ids] = asyncio.create_task(work)
        await asyncio.gather(self._priming[ids], return_exceptions=True)  # a failure shows when the sample is asked

    def _twins(self, job: Job) -> bool:
        """Whether others have the same prompt. Those in flight count: they were sent before this one was known."""
        others = (*self._pending, *self._flying.values())
        return any(other is not job and other.request.ids == job.request.ids for other in others)

    # --- faults -------------------------------------------------------------------------------------------------

    async def _watchdog(self) -> None:
        """Find a server that has died or hangs: requests in flight would wait for ever."""
        heard, finished, silent = time.monotonic(), -1, 0
        while True:
            await asyncio.sleep(ALIVE_EVERY)
            if self.fleet.dead:
                await self._revive(self.fleet.epoch)
            if self._finished != finished or not self._flying or not self._up:
                heard, finished, silent = time.monotonic(), self._finished, 0
            elif time.monotonic() - heard > self.config.health_every:
                epoch, wait = self.fleet.epoch, max(HEALTH_WAIT, self.config.health_every)
                answers = [await self.fleet.healthy(r.url, "/health_generate", wait) for r in self.fleet.replicas]
                silent = 0 if all(answers) else silent + 1
                heard = time.monotonic()
                if silent == 2 and self.fleet.process:
                    await self._revive(epoch)
                elif silent == 2:
                    print("the SGLang server does not answer /health_generate; waiting", file=sys.stderr, flush=True)

    async def _revive(self, epoch: int) -> None:
        """Start our server again, once for all who saw it die. What was in flight is queued again by `_draw`."""
        if self._revival is None or self._revival.done():
            if epoch != self.fleet.epoch or self.fleet.process is None or self._lost:
                return
            self._revival = asyncio.create_task(self._restart())
        await asyncio.shield(self._revival)  # `cancel` drops those who wait, never a start half-way

    async def _restart(self) -> None:
        self._up = False
        self._deaths += 1
        self._priming.clear()
        try:
            if self._deaths > DEATHS:
                tail = self.fleet.said()
                raise EngineError(f"the SGLang server died {self._deaths} times in a row; it said: {tail}")
            print("the SGLang server died or hangs; starting it again", file=sys.stderr, flush=True)
            await self.fleet.restart()
        except Exception as error:
            lost = error if isinstance(error, EngineError) else EngineError(f"{type(error).__name__}: {error}")
            self._lost = lost
            self._done.put(lost)
            return
        self.counts["restarts"] += 1
        self._up = True
        self._pump()

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop's thread and wait for it; an interrupt here cancels it there."""
        assert self._loop
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise


def _failed(job: Job, why: str) -> Completion:
    return Completion(job.request.id, (), "", "error", len(job.request.ids), 0, wire.line(why, 1000))
