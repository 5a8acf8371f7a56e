"""What the SGLang engine does when a server somewhere does what it should not: our own state machine, on a stub."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scripted import fan_out
from stand_in import Running, asks, times, until, whole

from dpr_mini.engines.base import Completion, EngineError, Request, SamplingParams, generate
from dpr_mini.engines.sglang import engine as engine_module
from dpr_mini.engines.sglang.engine import SglangEngine
from dpr_mini.recipe import ServerConfig

pytestmark = pytest.mark.timeout(90)


@pytest.fixture
def client(stub_model, tmp_path) -> Callable[..., SglangEngine]:
    def make(*servers: Running, window: int | None = 16, **config: Any) -> SglangEngine:
        urls = tuple(s.url for s in servers)
        settings = {"patience": 5, "request_timeout": 20, "check_cache": False} | config
        return SglangEngine(
            stub_model, window=window, config=ServerConfig(urls=urls, **settings), logs=tmp_path / "logs"
        )

    return make


def test_all_samples_come_once_and_each_is_its_own(serve, client):
    with client(serve(), check_cache=True) as engine:
        requests = asks(200)
        whole(requests, list(generate(engine, requests)))
        assert engine.poll() == []
        assert engine.facts()["retried"] == engine.facts()["failed"] == 0


@pytest.mark.parametrize("status", [503, 500, 429])
def test_a_busy_server_is_asked_again(serve, client, capsys, status):
    server = serve(times(3, status))
    with client(server) as engine:
        requests = asks(5)
        whole(requests, list(generate(engine, requests)))
        assert engine.facts()["retried"] == 3 and engine.facts()["failed"] == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "asked again" in line]
    assert told == [f"a request is asked again (HTTP {status}: as it was told); further ones are counted"], "once"
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
        ({"output_ids": ["a"], "meta_info": {"finish_reason": "stop"}}, "'a' is no token"),
        (
            {"output_ids": [5], "meta_info": {"finish_reason": "length", "cached_tokens": "some"}},
            "cached_tokens is 'some'",
        ),
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


@pytest.mark.parametrize(
    ("info", "window"),
    [
        ({"max_total_num_tokens": 992_000, "max_running_requests": 256}, 256),  # it decodes no more together
        ({"max_total_num_tokens": 992_000}, 484),  # 2048 tokens of its cache for each
        ({"max_total_num_tokens": 9_920_000}, 512),
        ({"max_total_num_tokens": 106_000}, 128),  # the tokens in flight are what limits
        ({"max_total_num_tokens": 106_000, "max_running_requests": 48}, 48),
    ],
)
def test_the_window_is_what_the_server_holds(serve, client, capsys, info, window):
    server = serve(**info)
    with client(server, window=None) as engine:
        assert engine.window == window == engine.facts()["window"]
        assert f"window {window}: {info['max_total_num_tokens']:,} tokens of cache" in capsys.readouterr().err
    with client(server, window=7) as engine:
        assert engine.window == 7, "the recipe's word counts"
        assert "window" not in capsys.readouterr().err


def test_the_window_of_several_servers_is_their_sum_and_unknown_before_they_answer(serve, client):
    engine = client(serve(), serve(max_running_requests=20), window=None)
    with pytest.raises(EngineError, match="its window is its server's to tell"):
        _ = engine.window
    with engine:
        assert engine.window == 128 + 20


def test_a_large_cache_is_filled_beyond_128_requests(serve, client):
    full = threading.Event()

    async def until_full(stand, body):
        if stand.most_requests == 256:
            full.set()
        while not full.is_set():
            await asyncio.sleep(0.01)

    server = serve(until_full, max_total_num_tokens=992_000, max_running_requests=256)
    with client(server, window=None) as engine:
        requests = asks(300)
        whole(requests, list(generate(engine, requests)))
        assert engine.facts()["most_in_flight"] == 256 == server.stand.most_requests


def test_the_tokens_in_flight_fit_into_the_servers_cache(serve, client):
    server = serve(max_total_num_tokens=450)
    server.stand.seconds = 0.01
    with client(server, window=64) as engine:
        requests = asks(40, size=60, room=40)
        whole(requests, list(generate(engine, requests)))
    assert server.stand.most_requests == 4 and server.stand.most_tokens == 400


@pytest.mark.parametrize("old", [False, True], ids=["num_retractions", "total_retractions"])
def test_lengths_that_were_seen_are_reserved_and_limits_again_after_a_retraction(serve, client, old):
    retract = False

    def reply(stand, body):
        return stand.answer(body, **{"total_retractions" if old else "num_retractions": 1}) if retract else None

    server = serve(reply, max_total_num_tokens=400)
    server.stand.old = old
    server.stand.seconds = 0.01
    with client(server, window=64) as engine:

        def most(n: int, seed: int) -> int:
            server.stand.most_requests = 0
            requests = asks(n, size=20, room=180, seed=seed)
            whole(requests, list(generate(engine, requests)))
            return server.stand.most_requests

        assert most(64, 1) == 2, "nothing is known yet: 20 + 180 each"
        server.stand.seconds = 0.3  # long enough for all that fit to be there at once
        assert most(64, 2) == 400 // (20 + 6), "95 of 100 answers had at most 6 tokens"
        server.stand.seconds = 0.01
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
        second = [Request(r.id, (*r.ids, *out[r.id].ids, 7, 8), SamplingParams(8), 1) for r in first]
        again = {c.id: c for c in generate(engine, second)}
        samples = fan_out(Request("n", first[3].ids, SamplingParams(8), 5), 6)
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


def test_other_weights_are_swapped_only_when_the_server_is_drained(serve, client, stub_model):
    server = serve()
    server.stand.model = "/models/of/before"
    server.stand.flushes = [400, 400]
    with client(server):
        assert Path(server.stand.model) == stub_model.resolve()
    assert server.stand.calls == [
        "/workers", "/list_workers", "/model_info", "/flush_cache", "/flush_cache", "/flush_cache",
        "/update_weights_from_disk", "/flush_cache", "/model_info", "/server_info",
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


@pytest.mark.parametrize(
    ("info", "config", "says"),
    [
        ({}, {}, "no prefix cache (it was started without)"),
        ({"enable_deterministic_inference": True, "attention_backend": "flashinfer"}, {"deterministic": True},
         "no prefix cache (with seeds that count, its attention (flashinfer) keeps none)"),
        ({}, {"check_cache": False}, ""),
        ({}, {"arguments": {"disable-radix-cache": True}}, ""),
    ],
    ids=["a server without", "deterministic on a new card", "not to be checked", "the recipe wants none"],
)  # fmt: skip
def test_a_server_without_a_cache_is_told_of_in_one_line(serve, client, capsys, info, config, says):
    server = serve(lambda stand, body: stand.cache.clear(), disable_radix_cache=True, **info)
    with client(server, **{"check_cache": True} | config) as engine:
        assert engine.facts()["prefix_cache"] is False and not server.stand.seen
    told = [line for line in capsys.readouterr().err.splitlines() if "prefix cache" in line]
    assert len(told) == bool(says) and all(says in line and "attention_backend=triton" in line for line in told)


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
    with pytest.raises(EngineError, match="none of SGLang's: /server_info gives"):
        client(odd).__enter__()
