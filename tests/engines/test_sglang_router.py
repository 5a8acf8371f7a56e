"""A router in engine.urls stands for its workers: they are asked one by one, as if the recipe had named them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stand_in import Router, Stand, asks, whole

from dpr_mini.engines.base import EngineError, Request, SamplingParams, generate
from dpr_mini.engines.sglang.engine import SglangEngine
from dpr_mini.recipe import ServerConfig

pytestmark = pytest.mark.timeout(90)


@pytest.fixture(scope="module")
def model(tiny_model) -> Path:
    return tiny_model()


@pytest.fixture
def client(model, tmp_path) -> Callable[..., SglangEngine]:
    def make(*urls: str, **config: Any) -> SglangEngine:
        return SglangEngine(model, config=ServerConfig(urls=urls, patience=2, **config), logs=tmp_path / "logs")

    return make


@pytest.mark.parametrize("old", [False, True], ids=["/workers", "/list_workers"])
def test_a_routers_workers_are_asked_themselves(run_stand_in, client, model, capsys, old):
    """Each with its own cache and its own weights; the router is asked for nothing but their addresses."""
    servers = [run_stand_in(Stand("/models/of/before")), run_stand_in(Stand(str(model), max_running_requests=20))]
    router = run_stand_in(Router([s.url for s in servers], old=old))
    with client(router.url) as engine:
        first = asks(30)
        out = list(generate(engine, first))
        whole(first, out)
        ids = {c.id: c.ids for c in out}
        second = [Request(r.id, (*r.ids, *ids[r.id], 7, 8), SamplingParams(8), 1) for r in first]
        again = {c.id: c for c in generate(engine, second)}
        assert all(again[r.id].cached_tokens >= len(r.ids) for r in first), "a conversation stays with its worker"
        facts = engine.facts()
        assert (facts["servers"], facts["cache_tokens"], engine.window) == (2, 40_000, 128 + 20)
    assert all(len(s.stand.seen) >= 20 for s in servers), "the work is shared"
    assert Path(servers[0].stand.model) == model.resolve(), "its weights were loaded"
    assert set(router.stand.calls) <= {"/health", "/workers", "/list_workers"}
    line = f"{router.url} is a router; its workers are asked: {servers[0].url}, {servers[1].url}"
    assert capsys.readouterr().err.splitlines().count(line) == 1


def test_a_router_beside_its_own_worker_and_another_server(run_stand_in, client, model, capsys):
    servers = [run_stand_in(Stand(str(model))) for _ in range(3)]
    router = run_stand_in(Router([s.url for s in servers[:2]]))
    with client(servers[1].url, router.url, servers[2].url) as engine:
        assert [r.url for r in engine.fleet.replicas] == [servers[1].url, servers[0].url, servers[2].url]
    assert "1 named twice" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("router", "says"),
    [
        (Router([]), "the router at .* has no workers"),
        (Router(["http://127.0.0.1:1"]), "the worker http://127.0.0.1:1 of the router at .* does not answer"),
        (Router(["grpc://127.0.0.1:1"]), "has the worker 'grpc://127.0.0.1:1', which cannot be asked over HTTP"),
        (Router([{"url": "http://127.0.0.1:1", "worker_type": "decode"}]), "for 'decode' alone"),
        (Router([], raw=401), "does not tell /workers: HTTP 401"),
        (Router([], raw=503), "does not tell /workers: HTTP 503"),
        (Router([], raw="<html>"), "does not tell /workers: the answer is no JSON"),
        (Router([], raw='{"ok": true}'), "does not name its workers as SGLang's routers do"),
        (Router([], raw=404), "none of SGLang's: it has neither /model_info nor /get_model_info"),
    ],
    ids=["none", "away", "grpc", "half", "key", "unwell", "page", "else", "hidden"],
)
def test_a_router_whose_workers_cannot_be_asked_is_one_line(run_stand_in, client, router, says):
    at = run_stand_in(router)
    with pytest.raises(EngineError, match=says) as caught:
        client(at.url).__enter__()
    assert str(caught.value).isprintable()


def test_a_router_of_routers_is_one_line(run_stand_in, client, model):
    inner = run_stand_in(Router([run_stand_in(Stand(str(model))).url]))
    outer = run_stand_in(Router([inner.url]))
    with pytest.raises(EngineError, match=f"{inner.url} of the router at {outer.url} is a router itself"):
        client(outer.url).__enter__()
