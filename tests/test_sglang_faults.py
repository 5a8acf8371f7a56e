"""What the SGLang engine does when a server does what it should not: our own state machine, against a stand-in.

The stand-in speaks the part of /generate that the engine uses and fails on demand. It shows nothing of SGLang itself:
that is for the tests with the marker `sglang`. Run as a program, this file is that server as a child process.
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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from dpr_mini.engines import fleet, guard, launch
from dpr_mini.engines import sglang as engine_module
from dpr_mini.engines.base import Completion, EngineError, Request, Sampling, fan_out, generate
from dpr_mini.engines.process import ServerProcess, free_port
from dpr_mini.engines.sglang import SglangEngine
from dpr_mini.recipe import Server

EOS, POISON = 2, 251  # POISON: a token that no other prompt has
INFO = {
    "version": "0",
    "dtype": "float32",
    "max_total_num_tokens": 20000,
    "max_req_input_len": 250,
    "page_size": 1,
    "schedule_policy": "lpm",
}

pytestmark = pytest.mark.timeout(90)


# --- the stand-in -----------------------------------------------------------------------------------------------------


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
        return {"output_ids": ids, "meta_info": {"finish_reason": reason, "cached_tokens": cached} | meta}

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
        if isinstance(reply, int):
            return web.Response(status=reply, text="as it was told")
        if isinstance(reply, str):
            return web.Response(text=reply)
        return web.json_response(self.answer(body) if reply is None else reply)

    async def _other(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        if path == "/health_generate" and not self.well:
            await asyncio.sleep(3600)
        if path != "/health":
            self.calls.append(path)
        if path == "/get_server_info":
            return web.json_response(self.info)
        if path == "/get_model_info":
            return web.json_response({"model_path": self.model})
        if path == "/flush_cache":
            return web.Response(status=self.flushes.pop(0) if self.flushes else 200)
        if path == "/abort_request":
            self.aborted.append((await request.json())["rid"])
        if path == "/update_weights_from_disk":
            told = self.update(await request.json())
            return web.json_response(told, status=200 if told.get("success") else 400)
        return web.Response()

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


def common(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


class Running:
    """A Stand in a thread; it can be taken away and come back at the same address."""

    def __init__(self, stand: Stand) -> None:
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


@pytest.fixture(scope="module")
def model(tiny_model) -> Path:
    return tiny_model()


@pytest.fixture
def serve(model) -> Iterator[Callable[..., Running]]:
    made: list[Running] = []

    def start(on_generate: Any = None, **info: Any) -> Running:
        made.append(Running(Stand(str(model), on_generate, **info)))
        return made[-1]

    yield start
    for one in made:
        one.end()


@pytest.fixture
def client(model, tmp_path) -> Callable[..., SglangEngine]:
    def make(*servers: Running, window: int = 16, **config: Any) -> SglangEngine:
        urls = tuple(s.url for s in servers)
        settings = {"patience": 5, "request_timeout": 20, "check_cache": False} | config
        return SglangEngine(model, window=window, config=Server(urls=urls, **settings), logs=tmp_path / "logs")

    return make


def asks(n: int, size: int = 20, room: int = 24, seed: int = 0) -> list[Request]:
    draw = random.Random(seed)
    return [
        Request(f"q{i}", tuple(draw.randrange(3, 250) for _ in range(size)), Sampling(room), seed_)
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


# --- a server somewhere -----------------------------------------------------------------------------------------------


def test_all_samples_come_once_and_each_is_its_own(serve, client):
    with client(serve(), check_cache=True) as engine:
        requests = asks(200)
        whole(requests, list(generate(engine, requests)))
        assert engine.poll() == []
        assert engine.facts()["retried"] == engine.facts()["failed"] == 0


@pytest.mark.parametrize("status", [503, 500, 429])
def test_a_busy_server_is_asked_again(serve, client, status):
    server = serve(times(3, status))
    with client(server) as engine:
        requests = asks(5)
        whole(requests, list(generate(engine, requests)))
        assert engine.facts()["retried"] == 3 and engine.facts()["failed"] == 0
    rids = [body["rid"] for body in server.stand.seen]
    assert len(set(rids)) == len(rids) == 8, "a server may still know the name of the first attempt"


def test_a_server_that_was_away_is_asked_again(serve, client):
    server = serve()
    with client(server, patience=30) as engine:
        server.down()
        requests = asks(6)
        for request in requests:
            engine.submit(request)
        until(lambda: engine.counts["retried"] >= 6)
        server.up()
        out: list[Completion] = []
        while done := engine.poll():
            out += done
        whole(requests, out)


def test_a_server_that_stays_away_fails_its_requests_by_name(serve, client):
    server = serve()
    with client(server, patience=0.5) as engine:
        server.down()
        out = list(generate(engine, asks(3)))
        assert [c.finish for c in out] == ["error"] * 3 and all("Connect" in c.error for c in out)
        assert {c.id for c in out} == {"q0", "q1", "q2"} and engine.counts["failed"] == 3
        server.up()
        whole(asks(4), list(generate(engine, asks(4))))


def test_a_time_out_is_asked_again_even_where_it_is_longer_than_the_patience(serve, client):
    async def slow(stand, body):
        if len(stand.seen) == 1:
            await asyncio.sleep(60)

    server = serve(slow)
    with client(server, request_timeout=0.5, patience=0.4) as engine:
        whole(asks(1), list(generate(engine, asks(1))))
        assert engine.counts["retried"] == 1
    assert server.stand.aborted == [server.stand.seen[0]["rid"]], "it may still be at work on it"


def test_what_never_answers_ends_as_an_error(serve, client):
    async def never(stand, body):
        if body["sampling_params"]["sampling_seed"] == 1:
            await asyncio.sleep(3600)

    server = serve(never)
    with client(server, request_timeout=0.3, patience=1) as engine:
        out = {c.id: c for c in generate(engine, asks(3))}
    assert (out["q1"].finish, out["q1"].ids) == ("error", ()) and "no answer in" in out["q1"].error
    assert out["q0"].finish == out["q2"].finish == "stop"
    tried = [b["rid"] for b in server.stand.seen if b["sampling_params"]["sampling_seed"] == 1]
    assert len(tried) >= 3 and set(tried) == set(server.stand.aborted)


def test_a_refusal_is_an_error_at_once(serve, client):
    server = serve(lambda stand, body: 400 if body["sampling_params"]["sampling_seed"] == 1 else None)
    with client(server) as engine:
        out = {c.id: c for c in generate(engine, asks(3))}
        assert engine.counts["retried"] == 0
    assert out["q1"].error == "HTTP 400: as it was told" and out["q0"].finish == out["q2"].finish == "stop"
    assert len(server.stand.seen) == 3


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        ({"text": "no ids"}, "none of SGLang's"),
        ({"meta_info": {"finish_reason": {"type": "stop"}}}, "no output_ids"),
        ({"output_ids": ["a"], "meta_info": {"finish_reason": "stop"}}, "unreadable"),
        ({"output_ids": [5], "meta_info": {"finish_reason": "length", "cached_tokens": "some"}}, "unreadable"),
        ({"output_ids": [5], "meta_info": {"finish_reason": {"type": "abort", "message": "Aborted"}}}, "Aborted"),
        ([], "none of SGLang's"),
    ],
)
def test_a_reply_that_nobody_can_read_is_an_error_and_not_a_hang(serve, client, reply, says):
    with client(serve(times(1, reply)), window=1) as engine:
        out = list(generate(engine, asks(3)))
    assert [c.finish for c in out] == ["error", "stop", "stop"] and says in out[0].error


def test_an_answer_that_is_no_json_is_asked_again(serve, client):
    with client(serve(times(2, "<html>a proxy's page</html>"))) as engine:
        whole(asks(3), list(generate(engine, asks(3))))
        assert engine.counts["retried"] == 2


def test_replies_in_a_list_of_one_are_read_everywhere(serve, client):
    server = serve(lambda stand, body: [stand.answer(body)])
    with client(server, check_cache=True) as engine:
        whole(asks(3), list(generate(engine, asks(3))))


def test_cancel_drops_what_never_ends_here_and_there(serve, client):
    async def never(stand, body):
        if len(stand.seen) <= 6:
            await asyncio.sleep(3600)

    server = serve(never)
    with client(server, window=6) as engine:
        for request in asks(20):
            engine.submit(request)
        until(lambda: len(server.stand.seen) == 6)
        begun = time.monotonic()
        engine.cancel()
        assert time.monotonic() - begun < 3
        assert engine.poll() == []
        assert sorted(server.stand.aborted) == sorted(b["rid"] for b in server.stand.seen)
        requests = asks(10, seed=1)
        whole(requests, list(generate(engine, requests)))
        assert len(server.stand.seen) == 16, "nothing that was dropped is sent later"


def test_leaving_in_the_middle_does_not_wait(serve, client):
    server = serve(lambda stand, body: asyncio.sleep(3600))
    begun = time.monotonic()
    with client(server) as engine:
        for request in asks(5):
            engine.submit(request)
        until(lambda: len(server.stand.seen) == 5)
    assert time.monotonic() - begun < 5 and len(server.stand.aborted) == 5
    with pytest.raises(EngineError, match="not open"):
        engine.submit(asks(1)[0])


def test_a_running_server_that_hangs_is_told_of(serve, client, monkeypatch, capsys):
    monkeypatch.setattr(engine_module, "HEALTH_WAIT", 0.2)
    go = threading.Event()

    async def hang(stand, body):
        while not go.is_set():
            await asyncio.sleep(0.01)

    server = serve(hang)
    server.stand.well = False
    with client(server, health_every=0.1) as engine:
        engine.submit(asks(1)[0])
        told = ""

        def said() -> bool:
            nonlocal told
            told += capsys.readouterr().err
            return "does not answer /health_generate" in told

        until(said)
        go.set()
        whole(asks(1), engine.poll())  # it is not ours to end: what it gives after all counts


def test_the_window_is_never_exceeded(serve, client):
    server = serve()
    server.stand.seconds = 0.01
    with client(server, window=5) as engine:
        for request in asks(60):
            engine.submit(request)
        while engine.poll():
            pass
        assert server.stand.most_requests == 5 == engine.facts()["most_in_flight"]


def test_the_tokens_in_flight_fit_into_the_servers_cache(serve, client):
    server = serve(max_total_num_tokens=450)
    server.stand.seconds = 0.01
    with client(server, window=64) as engine:
        requests = asks(40, size=60, room=40)
        whole(requests, list(generate(engine, requests)))
    assert server.stand.most_requests == 4 and server.stand.most_tokens == 400


def test_lengths_that_were_seen_are_reserved_and_limits_again_after_a_retraction(serve, client):
    retract = False

    def reply(stand, body):
        return stand.answer(body, total_retractions=1) if retract else None

    server = serve(reply, max_total_num_tokens=400)
    server.stand.seconds = 0.01
    with client(server, window=64) as engine:

        def most(n: int, seed: int) -> int:
            server.stand.most_requests = 0
            requests = asks(n, size=20, room=180, seed=seed)
            whole(requests, list(generate(engine, requests)))
            return server.stand.most_requests

        assert most(64, 1) == 2, "nothing is known yet: 20 + 180 each"
        assert most(64, 2) == 400 // (20 + 6), "95 of 100 answers had at most 6 tokens"
        retract = True
        most(3, 3)
        assert most(40, 4) == 2, "the server took some back: whole limits again"
        assert engine.facts()["retractions"] > 0


def test_the_expected_length_is_the_95th_percentile(serve, client):
    with client(serve()) as engine:
        engine._drawn.extend([10] * 94 + [200] * 6)
        assert engine._expected(999) == 200
        engine._drawn.clear()
        engine._drawn.extend([10] * 95 + [200] * 5)
        assert (engine._expected(999), engine._expected(4)) == (10, 4)
        engine._drawn.clear()
        engine._drawn.extend([10] * 63)
        assert engine._expected(999) == 999


@pytest.mark.parametrize(
    ("info", "size", "room", "says"),
    [
        ({"max_req_input_len": 31}, 31, 4, "31 prompt tokens, the server takes 30"),
        ({"max_total_num_tokens": 60}, 31, 30, "31 \\+ 30 tokens, its cache holds 60"),
        ({}, 0, 4, "empty"),
        ({}, 300, 4, "no room"),
    ],
)
def test_what_cannot_be_answered_is_refused_before_it_is_sent(serve, client, info, size, room, says):
    large, small = serve(), serve(**info)
    with client(large, small) as engine:  # the smallest replica decides: any may get it
        with pytest.raises(EngineError, match=says):
            engine.submit(asks(1, size=size, room=room)[0])
        assert engine.poll() == []
    assert not large.stand.seen and not small.stand.seen


# --- several servers --------------------------------------------------------------------------------------------------


def test_a_conversation_and_equal_prompts_stay_on_one_replica(serve, client):
    servers = [serve(), serve(), serve()]
    for server in servers:
        server.stand.seconds = 0.005
    with client(*servers, window=12) as engine:
        first = asks(30)
        out = {c.id: c for c in generate(engine, first)}
        second = [Request(r.id, (*r.ids, *out[r.id].ids, 7, 8), Sampling(8), 1) for r in first]
        again = {c.id: c for c in generate(engine, second)}
        samples = fan_out(Request("n", first[3].ids, Sampling(8), 5), 6)
        list(generate(engine, samples))
    homes = [{tuple(b["input_ids"]) for b in s.stand.seen} for s in servers]
    assert all(len(h) >= 10 for h in homes), "the work is shared"
    for one, two in zip(first, second, strict=True):
        assert [one.ids in h for h in homes] == [two.ids in h for h in homes]
        assert sum(one.ids in h for h in homes) == 1
        assert again[one.id].cached_tokens >= len(one.ids)
    assert sum(any(b["input_ids"] == list(first[3].ids) for b in s.stand.seen) for s in servers) == 1


def test_facts_of_several_servers(serve, client):
    with client(serve(), serve(max_total_num_tokens=5000)) as engine:
        facts = engine.facts()
    assert (facts["servers"], facts["cache_tokens"], facts["reproducible"]) == (2, 25000, False)


# --- the first of several equal prompts -------------------------------------------------------------------------------


def test_a_prompt_is_computed_once_before_its_samples_where_the_server_does_not_see_to_it(serve, client):
    primed = threading.Event()
    early: list[dict] = []

    async def reply(stand, body):
        if body["sampling_params"]["max_new_tokens"] == 0:
            await asyncio.sleep(0.3)
            primed.set()
            return stand.answer(body, ids=(), reason={"type": "length"})
        if not primed.is_set():
            early.append(body)
        return None

    server = serve(reply)
    with client(server) as engine:
        for request in fan_out(asks(1)[0], 8):
            engine.submit(request)
        out: list[Completion] = []
        while done := engine.poll():
            out += done
    assert len(out) == 8 and {c.finish for c in out} == {"stop"}
    prompts = [b for b in server.stand.seen if b["sampling_params"]["max_new_tokens"] == 0]
    assert len(prompts) == 1, "once for all"
    assert len(early) <= 1, "only one that was sent before the others were known"
    assert sum(c.cached_tokens == 0 for c in out) <= 1
    assert not engine._priming, "nothing is kept of it"


def test_a_prompt_of_one_sample_is_sent_once(serve, client):
    server = serve()
    with client(server) as engine:
        whole(asks(9), list(generate(engine, asks(9))))
    assert len(server.stand.seen) == 9


def test_a_failed_first_computation_does_not_stop_the_samples(serve, client):
    server = serve(lambda stand, body: 500 if body["sampling_params"]["max_new_tokens"] == 0 else None)
    with client(server) as engine:
        out = list(generate(engine, fan_out(asks(1)[0], 8)))
    assert [c.finish for c in out] == ["stop"] * 8


# --- taking a running server over -------------------------------------------------------------------------------------


def test_other_weights_are_swapped_only_when_the_server_is_drained(serve, client, model):
    server = serve()
    server.stand.model = "/models/of/before"
    server.stand.flushes = [400, 400]
    with client(server):
        assert Path(server.stand.model) == model.resolve()
    calls = [c for c in server.stand.calls if c != "/health"]
    assert calls[:7] == [
        "/get_model_info", "/flush_cache", "/flush_cache", "/flush_cache", "/update_weights_from_disk", "/flush_cache",
        "/get_model_info",
    ]  # fmt: skip


def test_the_same_weights_are_left_alone(serve, client):
    server = serve()
    with client(server):
        assert "/update_weights_from_disk" not in server.stand.calls


@pytest.mark.parametrize(
    ("update", "says"),
    [
        (lambda body: {"success": False, "message": "another architecture"}, "cannot load .*another architecture"),
        (lambda body: {"success": True, "message": "so it says"}, "still serves /models/of/before"),
    ],
)
def test_weights_that_cannot_be_swapped_are_one_line(serve, client, update, says):
    server = serve()
    server.stand.model, server.stand.update = "/models/of/before", update
    with pytest.raises(EngineError, match=says) as caught, client(server):
        pass
    assert "\n" not in str(caught.value)


def test_a_server_that_does_not_keep_turns_is_refused(serve, client):
    server = serve(lambda stand, body: stand.cache.clear())
    with pytest.raises(EngineError, match=r"had 0 tokens of a second turn cached where 1\d\d were expected"):
        client(server, check_cache=True).__enter__()
    with client(server, check_cache=False) as engine:
        assert engine.name == "sglang 0 float32"
    plain = serve(lambda stand, body: stand.cache.clear(), disable_radix_cache=True)
    with client(plain, check_cache=True) as engine:
        assert engine.facts()["prefix_cache"] is False and not plain.stand.seen


def test_seeds_that_are_demanded_must_count(serve, client):
    with pytest.raises(EngineError, match=r"engine\.deterministic: .*without --enable-deterministic-inference"):
        client(serve(), deterministic=True).__enter__()
    with client(serve(enable_deterministic_inference=True), deterministic=True) as engine:
        assert engine.reproducible
    with client(serve()) as engine:
        assert not engine.reproducible


def test_an_address_without_a_server_or_with_another_one_is_one_line(serve, client):
    gone = serve()
    gone.down()
    with pytest.raises(EngineError, match="no SGLang server answers at http://127"):
        client(gone).__enter__()
    gone.up()
    odd = serve()
    odd.stand.info = ["no", "dict"]
    with pytest.raises(EngineError, match="none of SGLang's: /get_server_info gives"):
        client(odd).__enter__()


# --- a server of our own ----------------------------------------------------------------------------------------------


def as_program(port: int, folder: Path, mode: str, model: str) -> None:
    """The stand-in as a child process; what it does wrong depends on which of its lives this is."""
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
            stand.seconds = 0.01
            await stand.listen(port)
        print("up" if mode != "never ready" else "still loading", flush=True)
        await asyncio.sleep(3600)

    asyncio.run(main())


@pytest.fixture
def own(model, tmp_path, monkeypatch) -> Iterator[Callable[..., SglangEngine]]:
    """make(mode) -> an engine whose server is this file; afterwards nothing of any of its lives may be there."""
    monkeypatch.setattr(launch, "find_python", lambda named, gpu: sys.executable)
    monkeypatch.setattr(launch, "versions", lambda python: {"sglang": "0"})
    monkeypatch.setattr(engine_module, "ALIVE_EVERY", 0.1)

    def make(mode: str, window: int = 8, **config: Any) -> SglangEngine:
        def command(python: str, folder: Path, port: int, *args: Any, **more: Any) -> list[str]:
            return [python, __file__, str(port), str(tmp_path), mode, str(folder)]

        monkeypatch.setattr(launch, "command", command)
        settings = {"patience": 20, "request_timeout": 60} | config
        return SglangEngine(model, window=window, config=Server(**settings), logs=tmp_path / "logs")

    yield make
    for pid in pids(tmp_path):
        assert not guard.lives(pid), "a process of the server is left"


def pids(folder: Path) -> list[int]:
    path = folder / "pids"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def lives(folder: Path) -> int:
    return len((folder / "lives").read_text().splitlines())


@pytest.mark.parametrize("mode", ["dies", "scheduler"])
def test_a_server_that_dies_is_started_again_and_no_sample_is_lost_or_doubled(own, tmp_path, mode):
    with own(mode) as engine:
        requests = asks(60)
        whole(requests, list(generate(engine, requests)))
        assert engine.poll() == []
        assert engine.facts()["restarts"] == 1 and engine.facts()["failed"] == 0
        alive = [pid for pid in pids(tmp_path) if guard.lives(pid)]
        assert alive == pids(tmp_path)[2:], "the first one's processes are gone, the second one's are here"
    assert lives(tmp_path) == 2
    assert (tmp_path / "logs/sglang.log").read_text().count("\n=== ") == 2


def test_a_server_that_hangs_is_started_again(own, tmp_path, monkeypatch):
    monkeypatch.setattr(engine_module, "HEALTH_WAIT", 0.5)
    with own("hangs", health_every=0.3) as engine:
        requests = asks(60)
        whole(requests, list(generate(engine, requests)))
        assert engine.facts()["restarts"] == 1
    assert lives(tmp_path) == 2


def test_a_request_that_kills_servers_is_found_and_all_others_are_answered(own, tmp_path):
    requests = asks(40)
    requests[13] = Request("bad", (5, POISON, 6), Sampling(8), 1)
    with own("poison") as engine:
        out = list(generate(engine, requests))
        whole([r for r in requests if r.id != "bad"], [c for c in out if c.id != "bad"])
        [bad] = [c for c in out if c.id == "bad"]
        assert (bad.finish, bad.error) == ("error", "the server dies of this request")
        assert engine.facts()["restarts"] == 3 and engine.facts()["failed"] == 1
        whole(asks(5, seed=3), list(generate(engine, asks(5, seed=3))))


def test_a_server_that_dies_of_everything_is_given_up(own, tmp_path):
    with own("dies always", check_cache=False) as engine:
        for request in asks(30):
            engine.submit(request)
        failed = 0
        with pytest.raises(EngineError, match=r"died 6 times in a row; it said: up"):
            while True:
                done = engine.poll()
                assert done and all(c.finish == "error" for c in done)
                failed += len(done)
        assert failed < 30
        for again in (engine.poll, lambda: engine.submit(asks(1)[0])):  # never a wait for what cannot come
            with pytest.raises(EngineError, match="in a row"):
                again()
        engine.cancel()
        assert engine.poll() == []
    assert lives(tmp_path) == 1 + engine_module.DEATHS


def test_a_server_that_does_not_come_back_is_said_by_poll(own, tmp_path):
    with own("one life") as engine:
        for request in asks(40):
            engine.submit(request)
        with pytest.raises(EngineError, match=r"died while starting: .*there is no such weight"):
            while engine.poll():
                pass


def test_a_server_that_dies_at_the_start_is_one_line_with_its_last_words(own, tmp_path):
    begun = time.monotonic()
    with pytest.raises(EngineError, match=r"died while starting: .*loading \| ValueError: there is no such") as caught:
        own("no start").__enter__()
    assert "sglang.log" in str(caught.value) and "\n" not in str(caught.value)
    assert time.monotonic() - begun < 30


def test_a_server_that_is_never_ready_is_one_line(own, tmp_path):
    with pytest.raises(EngineError, match=r"not ready after 3 s \(engine\.start_timeout\): still loading"):
        own("never ready", start_timeout=3).__enter__()


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


@pytest.mark.parametrize("mode", ["never ready", "hangs"], ids=["during the start", "while waiting for answers"])
def test_an_interrupt_leaves_nothing(own, tmp_path, model, mode):
    command = [sys.executable, __file__, "client", str(tmp_path), str(model), mode]
    client = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until(lambda: pids(tmp_path), 30)
    if mode == "hangs":
        assert client.stdout and client.stdout.readline() == "open\n"
        time.sleep(0.5)
    client.send_signal(signal.SIGINT)
    _, said = client.communicate(timeout=30)
    assert client.returncode == 130 and "Traceback" not in said, said
    assert not any(map(guard.lives, pids(tmp_path)))


def test_cancel_and_leaving_while_the_server_is_started_again(own, tmp_path):
    with own("slow") as engine:
        for request in asks(30):
            engine.submit(request)
        assert engine.poll()
        os.kill(pids(tmp_path)[0], signal.SIGKILL)
        until(lambda: lives(tmp_path) == 2)
        engine.cancel()  # it must neither cut the start short nor wait for it
        requests = asks(10, seed=5)
        whole(requests, list(generate(engine, requests)))
        os.kill(pids(tmp_path)[2], signal.SIGKILL)
        until(lambda: lives(tmp_path) == 3)
        # leaving now: the fixture looks whether the third life is left
    assert lives(tmp_path) == 3


def test_leaving_while_a_dead_server_is_cleared_away_starts_no_other(own, tmp_path, monkeypatch):
    """What is left of a server may take seconds to end."""
    kill = ServerProcess.kill

    def slowly(process: ServerProcess) -> None:
        time.sleep(1)
        kill(process)

    monkeypatch.setattr(ServerProcess, "kill", slowly)
    with own("well") as engine:
        engine.submit(asks(1)[0])
        os.kill(pids(tmp_path)[0], signal.SIGKILL)
        until(lambda: engine._revival)
    time.sleep(2)
    assert lives(tmp_path) == 1 and not any(map(guard.lives, pids(tmp_path)))


def test_each_opening_is_a_new_server(own, tmp_path):
    engine = own("well")
    for n in (1, 2):
        with engine:
            whole(asks(5), list(generate(engine, asks(5))))
        assert lives(tmp_path) == n and not any(map(guard.lives, pids(tmp_path)))


# --- the GPU is free afterwards: a stand-in for the driver's tool -----------------------------------------------------


@pytest.fixture
def free_mib(tmp_path, monkeypatch) -> Path:
    """A file of free MiB, one line a GPU, that a tool called nvidia-smi prints."""
    figures = tmp_path / "free"
    tool = tmp_path / "bin/nvidia-smi"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\ntest "$1" = --query-gpu=memory.free || exit 2\ncat {figures}\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tool.parent), prepend=os.pathsep)
    monkeypatch.setattr(fleet, "GPU_PATIENCE", 1.5)
    figures.write_text("80000\n80000\n")
    return figures


def test_another_server_on_our_port_is_not_taken_for_ours(own):
    with pytest.raises(EngineError, match="taken by another server, which serves another model"):
        own("another").__enter__()


def test_closing_waits_until_the_gpu_is_free(own, free_mib):
    with own("well"):
        free_mib.write_text("80000\n9000\n")
        threading.Timer(1.0, lambda: free_mib.write_text("79900\n79800\n")).start()
        begun = time.monotonic()
    assert time.monotonic() - begun > 0.9


def test_memory_that_does_not_come_back_is_an_error_and_the_server_is_gone(own, free_mib, tmp_path):
    engine = own("well").__enter__()
    free_mib.write_text("80000\n59520\n")
    with pytest.raises(EngineError, match=r"20\.0 GiB of GPU memory did not come back"):
        engine.__exit__()
    assert not any(map(guard.lives, pids(tmp_path)))
    engine.__exit__()  # closed is closed


def test_a_driver_that_says_no_more_is_not_a_free_gpu(own, free_mib):
    engine = own("well").__enter__()
    free_mib.unlink()
    with pytest.raises(EngineError, match="nvidia-smi no longer says"):
        engine.__exit__()


if __name__ == "__main__":
    if sys.argv[1] == "client":
        as_client(Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
    else:
        as_program(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4])
