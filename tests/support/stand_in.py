"""A stub for an SGLang server, and the programs that tests start: it, and the engine as its client.

It speaks the part of /generate that the engine uses and fails on demand. It shows nothing of SGLang itself: that is for
the tests with the marker `sglang`. It answers as 0.5.23 does, or with `old=True` as 0.5.9; endpoints that those have by
two names it has by the new one (a release before 0.5.9: `only_old_names`).
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from aiohttp import web

from dpr_mini.engines.base import Completion, Request, SamplingParams
from dpr_mini.engines.sglang import launch
from dpr_mini.engines.sglang.engine import SglangEngine
from dpr_mini.engines.sglang.process import free_port

EOS, POISON = 2, 251  # POISON: a token that no other prompt has
INFO = {
    "version": "0",
    "dtype": "float32",
    "max_total_num_tokens": 20000,
    "max_req_input_len": 250,
    "page_size": 1,
    "schedule_policy": "lpm",
    "max_running_requests": None,
    "internal_states": [{"effective_max_running_requests_per_dp": 4096}],
}
NAMES = {"/get_server_info": "/server_info", "/get_model_info": "/model_info"}


class Stand:
    """A server with a true prefix cache of whole prompts. `on_generate` may answer in its place: a reply, or None."""

    def __init__(self, model: str = "", on_generate: Callable[[Stand, dict], Any] | None = None, **info: Any) -> None:
        self.model, self.on_generate, self.info = model, on_generate, INFO | info
        self.seen: list[dict] = []
        self.calls: list[str] = []  # all but /generate and /health
        self.aborted: list[str] = []
        self.cache: list[tuple[int, ...]] = []
        self.flying: dict[str, int] = {}  # request -> tokens that it may hold
        self.most_tokens = self.most_requests = 0
        self.seconds = 0.0
        self.well = True
        self.flushes: list[int] = []  # statuses to give before 200
        self.update: Callable[[dict], dict] = self._update
        self.old = False  # 0.5.9
        self.only_old_names = False
        self.raw: dict[str, Any] = {}  # path -> what is answered there: text, a status, or a coroutine of the request

    def _update(self, body: dict) -> dict:
        self.model = body["model_path"]
        return {"success": True, "message": "ok"}

    def answer(self, body: dict, ids: tuple[int, ...] | None = None, reason: Any = None, **meta: Any) -> dict:
        prompt, params = tuple(body["input_ids"]), body["sampling_params"]
        if ids is None:
            draw = random.Random(repr((prompt, params["sampling_seed"])))
            room = params["max_new_tokens"]
            ids = tuple(draw.randrange(3, 250) for _ in range(min(room, 6)))
            reason = {"type": "length", "length": room}
            if room > 6:
                ids, reason = (*ids, EOS), {"type": "stop", "matched": EOS}
        cached = max((common(known, prompt[:-1]) for known in self.cache), default=0)
        self.cache.append((prompt + ids)[:-1] if ids else prompt)
        counts = {"prompt_tokens": len(prompt), "completion_tokens": len(ids), "cached_tokens": cached}
        counts["total_retractions" if self.old else "num_retractions"] = 0
        return {
            "text": "",
            "output_ids": ids,
            "meta_info": {"id": body["rid"], "finish_reason": reason} | counts | meta,
        }

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.seen.append(body)
        self.flying[body["rid"]] = len(body["input_ids"]) + body["sampling_params"]["max_new_tokens"]
        self.most_requests = max(self.most_requests, len(self.flying))
        self.most_tokens = max(self.most_tokens, sum(self.flying.values()))
        try:
            await asyncio.sleep(self.seconds)
            reply = self.on_generate(self, body) if self.on_generate else None
            if asyncio.iscoroutine(reply):
                reply = await reply
        finally:
            del self.flying[body["rid"]]
        if isinstance(reply, int | str) or callable(reply):
            return await answer_raw(reply, request)
        return web.json_response(self.answer(body) if reply is None else reply)

    async def _other(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        if path == "/health_generate" and not self.well:
            await asyncio.sleep(3600)
        if path != "/health":
            self.calls.append(path)
        if path in self.raw:
            return await answer_raw(self.raw[path], request)
        name = path if self.only_old_names else NAMES.get(path, path) if self.old else path
        if name == ("/get_server_info" if self.only_old_names else "/server_info"):
            return web.json_response(self.info)
        if name == ("/get_model_info" if self.only_old_names else "/model_info"):
            return web.json_response({"model_path": self.model})
        if path == "/flush_cache":
            return web.Response(status=self.flushes.pop(0) if self.flushes else 200)
        if path == "/abort_request":
            self.aborted.append((await request.json())["rid"])
        if path == "/update_weights_from_disk":
            told = self.update(await request.json())
            return web.json_response(told, status=200 if told.get("success") else 400)
        known = ("/health", "/health_generate", "/abort_request")
        return web.Response(status=200 if path in known else 404)

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/generate", self._generate)
        app.router.add_route("*", "/{path}", self._other)
        return app

    async def listen(self, port: int) -> web.AppRunner:
        runner = web.AppRunner(self.app(), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, reuse_address=True).start()
        return runner


async def answer_raw(reply: Any, request: web.Request) -> web.StreamResponse:
    if isinstance(reply, int):
        return web.Response(status=reply, text="as it was told")
    return web.Response(text=reply) if isinstance(reply, str) else await reply(request)


class Router:
    """A stub for SGLang's gateway in front of servers: what it answers was read in sgl-model-gateway's source.

    `workers` are their addresses, or objects as GET /workers lists them. It has neither generation here, nor weight
    updates nor aborts, and flushes by POST alone. old: before 0.2.2, /list_workers. raw: what /workers gives instead.
    """

    def __init__(self, workers: list[Any], old: bool = False, raw: Any = None) -> None:
        self.workers, self.old, self.raw = workers, old, raw
        self.calls: list[str] = []

    def listed(self) -> dict[str, Any]:
        if self.old:
            return {"urls": self.workers}
        one = {"model_id": "m", "priority": 50, "cost": 1.0, "worker_type": "regular", "is_healthy": True, "load": 0}
        one |= {"connection_mode": "Http"}
        found = [w if isinstance(w, dict) else {"id": str(n), "url": w, **one} for n, w in enumerate(self.workers)]
        stats = {"prefill_count": 0, "decode_count": 0, "regular_count": len(found)}
        return {"workers": found, "total": len(found), "stats": stats}

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        self.calls.append(path)
        if path == "/workers" and self.raw is not None:
            return await answer_raw(self.raw, request)
        if path == ("/list_workers" if self.old else "/workers"):
            return web.json_response(self.listed())
        if path == "/health":
            return web.Response(text="OK")
        return web.Response(status=405 if path == "/flush_cache" and request.method == "GET" else 404)

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_route("*", "/{path}", self._answer)
        return app

    listen = Stand.listen


def common(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


class Running:
    """A Stand or Router in a thread; it can be taken away and come back at the same address."""

    def __init__(self, stand: Any) -> None:
        self.stand, self.port = stand, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.up()

    def _call(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(20)

    def up(self) -> None:
        self.runner = self._call(self.stand.listen(self.port))

    def down(self) -> None:
        self._call(self.runner.cleanup())

    def end(self) -> None:
        self.down()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


def asks(n: int, size: int = 20, room: int = 24, seed: int = 0) -> list[Request]:
    draw = random.Random(seed)
    return [
        Request(f"q{i}", tuple(draw.randrange(3, 250) for _ in range(size)), SamplingParams(room), seed_)
        for i, seed_ in enumerate(range(n))
    ]


def whole(requests: list[Request], out: list[Completion]) -> None:
    """Every sample once, and each with its own answer."""
    assert sorted(c.id for c in out) == sorted(r.id for r in requests)
    by_id = {c.id: c for c in out}
    for request in requests:
        draw = random.Random(repr((request.ids, request.seed)))
        assert by_id[request.id].ids == tuple(draw.randrange(3, 250) for _ in range(6)), by_id[request.id]
        assert by_id[request.id].finish == "stop"


def until(true: Callable[[], Any], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def times(n: int, then: Any) -> Callable[[Stand, dict], Any]:
    """`then` for the first n calls."""
    left = [n]

    def reply(stand: Stand, body: dict) -> Any:
        left[0] -= 1
        return then if left[0] >= 0 else None

    return reply


def refused(release: str, flags: list[str]) -> str:
    """What the release's parser says of a flag that it does not know."""
    if "--cuda-graph-max-bs" in flags and launch.number(release) > (0, 5, 19):
        return (
            "ambiguous option: --cuda-graph-max-bs could match --cuda-graph-max-bs-decode, --cuda-graph-max-bs-prefill"
        )
    if "--cuda-graph-max-bs-decode" in flags and launch.number(release) < (0, 5, 15):
        return "unrecognized arguments: --cuda-graph-max-bs-decode"
    return ""


def as_program(port: int, folder: Path, mode: str, model: str, release: str = "0", flags: Sequence[str] = ()) -> None:
    """The stub as a child process; what it does wrong depends on which of its lives this is."""
    if why := refused(release, list(flags)):
        print(f"launch_server.py: error: {why}", flush=True)
        sys.exit(2)
    with (folder / "lives").open("a") as file:
        file.write(f"{os.getpid()}\n")
    life = len((folder / "lives").read_text().splitlines())
    worker = [sys.executable, "-c", "import time; time.sleep(600)"]
    child = subprocess.Popen(["sglang::scheduler", *worker[1:]], executable=worker[0])
    with (folder / "pids").open("a") as file:
        file.write(f"{os.getpid()}\n{child.pid}\n")
    if mode == "no start" or (mode == "one life" and life > 1):
        print("loading\nValueError: there is no such weight", flush=True)
        os._exit(3)

    numbers = iter(range(1, 1 << 30))

    async def reply(stand: Stand, body: dict) -> Any:
        n = next(numbers)
        if mode in ("dies", "one life") and life == 1 and n == 20:
            os._exit(1)
        if mode == "dies always" or (mode == "poison" and POISON in body["input_ids"]):
            os._exit(1)
        if mode == "scheduler" and life == 1 and n == 20:
            os.kill(child.pid, signal.SIGKILL)
        if mode in ("hangs", "scheduler") and life == 1 and n >= 20:
            stand.well = False
            await asyncio.sleep(3600)

    async def main() -> None:
        if mode != "never ready" and not (mode == "slow" and life > 1 and await asyncio.sleep(2)):
            stand = Stand("another model" if mode == "another" else model, reply)
            stand.seconds, stand.old = 0.01, launch.number(release) < (0, 5, 13)
            await stand.listen(port)
        print("up" if mode != "never ready" else "still loading", flush=True)
        await asyncio.sleep(3600)

    asyncio.run(main())


def as_client(folder: Path, model: Path, mode: str) -> None:
    """The engine in a process of its own, for Ctrl-C: a signal to this one would meet whatever other tests loaded."""
    launch.find_python = lambda named, gpu: sys.executable
    launch.versions = lambda python: {"sglang": "0"}
    launch.command = lambda python, served, port, *args, **more: [
        python, __file__, str(port), str(folder), mode, str(served)
    ]  # fmt: skip
    try:
        with SglangEngine(model, window=64, logs=folder / "logs") as engine:
            for request in asks(60):
                engine.submit(request)
            print("open", flush=True)
            while engine.poll():
                pass
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    if sys.argv[1] == "client":
        as_client(Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
    else:
        as_program(int(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:6], flags=sys.argv[6:])
