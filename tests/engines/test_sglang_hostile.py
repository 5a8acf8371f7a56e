"""A server that says anything at all costs one failed request or one line: no traceback, memory or other address."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from stand_in import INFO, asks, times, whole

from dpr_mini.engines.base import EngineError, generate
from dpr_mini.engines.sglang import calls, wire
from dpr_mini.engines.sglang.engine import SglangEngine
from dpr_mini.recipe import ServerConfig

pytestmark = pytest.mark.timeout(90)
ESCAPES = "\x1b[31mboom\x1b[0m\x1b]0;title\x07\r\n"
ENDS = {"type": "length", "length": 6}


@pytest.fixture
def client(stub_model, tmp_path) -> Callable[..., SglangEngine]:
    def make(*urls: str, **config: Any) -> SglangEngine:
        settings = {"patience": 0.5, "request_timeout": 20, "check_cache": False} | config
        return SglangEngine(stub_model, window=1, config=ServerConfig(urls=urls, **settings), logs=tmp_path / "logs")

    return make


def packed(data: bytes, kind: str = "gzip") -> Callable[[web.Request], Any]:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=data, headers={"Content-Encoding": kind, "Content-Type": "application/json"})

    return answer


def endless(sent: list[int]) -> Callable[[web.Request], Any]:
    async def answer(request: web.Request) -> web.StreamResponse:
        reply = web.StreamResponse()
        await reply.prepare(request)
        for n in range(200):
            await reply.write(b" " * (1 << 20))
            sent.append(n)
        return reply

    return answer


async def moved(request: web.Request) -> web.StreamResponse:
    raise web.HTTPTemporaryRedirect("/elsewhere")


async def cut_off(request: web.Request) -> web.StreamResponse:
    request.transport.close()
    return web.Response()


def replied(**change: Any) -> dict[str, Any]:
    return {"output_ids": [5, 6], "meta_info": {"finish_reason": ENDS, "cached_tokens": 0}} | change


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (replied(output_ids=[10**6, 5]), "1000000 is no token"),
        (replied(output_ids=[True, False]), "True is no token"),
        (replied(output_ids=[5] * 5000), "5000 tokens came back where 24 were asked for"),
        (replied(meta_info=[1]), "none of SGLang's"),
        (replied(meta_info={"finish_reason": ENDS, "num_retractions": "x"}), "num_retractions is 'x'"),
        (replied(meta_info={"finish_reason": {"type": "abort", "message": ESCAPES}}), "boom"),
        ('{"output_ids": [5], "meta_info": {"finish_reason": "length", "cached_tokens": NaN}}', "cached_tokens is nan"),
        ("[" * 100_000, "nested too deep"),
        (
            '{"output_ids": ' + "[" * 900 + "]" * 900 + ', "meta_info": {"finish_reason": "length"}}',
            "no token|too deep",
        ),
        ("null", "none of SGLang's"),
        ("", "the answer is no JSON"),
        ('{"output_ids": [' + "9" * 5000 + "]}", "the answer is no JSON"),
        (packed(gzip.compress(b" " * (1 << 20))), r"the answer is packed \(gzip\)"),
        (packed(b"", "\x1b[2J"[1:]), "the answer is packed"),
        (moved, "HTTP 307 points to /elsewhere, and nothing is sent there"),
        (cut_off, "ServerDisconnected"),
    ],
    ids=lambda value: str(value)[:24] if isinstance(value, str | dict) else getattr(value, "__name__", ""),
)
def test_a_wrong_reply_is_one_failed_request_and_one_printable_line(serve, client, reply, says):
    bad = lambda stand, body: reply if body["sampling_params"]["sampling_seed"] == 1 else None  # noqa: E731
    server = serve(bad)
    with client(server.url) as engine:
        out = {c.id: c for c in generate(engine, asks(3))}
        whole([r for r in asks(3) if r.id != "q1"], [out["q0"], out["q2"]])
    assert out["q1"].finish == "error" and re.search(says, out["q1"].error), out["q1"]
    assert out["q1"].error.isprintable() and len(out["q1"].error) <= 1000
    assert "/elsewhere" not in server.stand.calls


def test_an_error_page_is_shown_on_one_line_and_not_read_to_its_end(serve, client):
    sent: list[int] = []

    async def page(request: web.Request) -> web.StreamResponse:
        reply = web.StreamResponse(status=400)
        await reply.prepare(request)
        await reply.write(ESCAPES.encode() * 3)
        for n in range(200):
            await reply.write(b"x" * (1 << 20))
            sent.append(n)
        return reply

    with client(serve(lambda stand, body: page).url) as engine:
        (done,) = generate(engine, asks(1))
    assert done.error.startswith("HTTP 400: [31mboom") and done.error.isprintable() and len(sent) < 100


def test_an_answer_without_end_is_left_when_it_is_too_long(serve, client):
    sent: list[int] = []
    with client(serve(lambda stand, body: endless(sent)).url) as engine:
        (done,) = generate(engine, asks(1))
    assert done.error == f"the answer is longer than {wire.most_bytes(24)} bytes" and len(sent) < 100


def test_a_long_answer_may_be_as_long_as_its_tokens(serve, client):
    """What a token may take is more than any does: an id of six digits, text of 128 spaces or 16 escapes."""
    longest = len(json.dumps([151_642])) + max(len(" " * 128), len(json.dumps("\x1b" * 16)))
    assert longest < wire.TOKEN_BYTES and wire.most_bytes(32_768) > 32_768 * longest
    with client(serve(lambda stand, body: stand.answer(body) | {"text": "x" * wire.REPLY_BYTES}).url) as engine:
        whole(asks(2), list(generate(engine, asks(2))))


NO_ANSWER = ["[]", "null", "7", '"text"', "", "<html>a proxy's page</html>", "[" * 50_000, moved, cut_off, 500]
NO_ANSWER += [packed(gzip.compress(json.dumps(INFO).encode()))]
NO_INFO = ["{}", '{"max_total_num_tokens": NaN}', '{"internal_states": 5}', '{"internal_states": [[]]}']
NO_INFO += [json.dumps(INFO | {"max_req_input_len": -1}), json.dumps(INFO | {"max_running_requests": "many"})]


@pytest.mark.parametrize(
    ("path", "said"),
    [("/server_info", said) for said in NO_ANSWER + NO_INFO] + [("/model_info", said) for said in NO_ANSWER],
    ids=lambda said: str(said)[:20] if isinstance(said, str | int) else said.__name__,
)
def test_a_server_that_does_not_say_what_it_is_is_one_line(serve, client, path, said):
    server = serve()
    server.stand.raw[path] = said
    with pytest.raises(EngineError) as caught:
        client(server.url).__enter__()
    assert str(caught.value).isprintable() and len(str(caught.value)) < 500
    assert "/elsewhere" not in server.stand.calls


@pytest.mark.parametrize("folder", [None, 7, "", "\x00", "a\x1b[2J", "/" + "x" * 100_000, "\ud800", ["/"]])
def test_a_folder_that_is_none_is_not_ours_and_one_line(serve, client, folder):
    server = serve()
    server.stand.raw["/model_info"] = json.dumps({"model_path": folder})
    with pytest.raises(EngineError, match="still serves") as caught:
        client(server.url).__enter__()
    assert str(caught.value).isprintable() and len(str(caught.value)) < 5000


@pytest.mark.parametrize("said", ["[]", "null", '{"success": 1}', json.dumps({"message": ESCAPES * 99})])
def test_a_swap_of_weights_that_says_anything_else_has_failed(serve, client, said):
    server = serve()
    server.stand.model, server.stand.raw["/update_weights_from_disk"] = "/models/of/before", said
    with pytest.raises(EngineError, match="cannot load") as caught:
        client(server.url).__enter__()
    assert str(caught.value).isprintable() and len(str(caught.value)) < 500


@pytest.mark.parametrize("n", [1, 2])
def test_a_probe_of_the_cache_that_is_answered_wrongly_is_one_line(serve, client, n):
    """The second of the two as well."""
    wrong = times(1, replied(output_ids=[2**40]))
    server = serve(lambda stand, body: wrong(stand, body) if len(stand.seen) == n else None)
    with pytest.raises(EngineError, match="1099511627776 is no token") as caught:
        client(server.url, check_cache=True).__enter__()
    assert str(caught.value).isprintable()


def test_old_endpoints_are_asked_where_the_new_ones_are_not_and_that_is_said_once(serve, client, capsys):
    server = serve()
    server.stand.only_old_names = True
    with client(server.url, server.url + "/") as engine:
        whole(asks(2), list(generate(engine, asks(2))))
    assert server.stand.calls[4:8] == ["/model_info", "/get_model_info", "/server_info", "/get_server_info"]
    told = capsys.readouterr().err
    assert told.count("as in older releases") == 1 and "named twice" in told

    server.stand.old, server.stand.only_old_names = True, False  # 0.5.9 has both
    server.stand.calls.clear()
    with client(server.url) as engine:
        whole(asks(2), list(generate(engine, asks(2))))
    assert not any(path.startswith("/get_") for path in server.stand.calls)
    assert "older" not in capsys.readouterr().err


def test_old_endpoints_are_not_asked_of_a_server_that_fails(serve, client):
    server = serve()
    server.stand.raw["/model_info"] = 500
    with pytest.raises(EngineError, match="does not tell /model_info: HTTP 500"):
        client(server.url).__enter__()
    assert "/get_model_info" not in server.stand.calls


def test_a_time_out_is_no_answer(serve):
    server = serve(lambda stand, body: asyncio.sleep(60))

    async def run() -> None:
        async with aiohttp.ClientSession() as session:
            body = {"rid": "a", "input_ids": [5], "sampling_params": {"max_new_tokens": 1}}
            with pytest.raises(calls.Lost, match="no answer in 0 s"):
                await calls.ask(session, server.url + "/generate", body, 0.2)
            assert await calls.healthy(session, server.url + "/health", 5) is True
            assert await calls.healthy(session, server.url + "/nowhere", 5) is False

    asyncio.run(run())
