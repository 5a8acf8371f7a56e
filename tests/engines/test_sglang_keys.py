"""Who may ask our SGLang server, and to whom keys go: they are in no command line, log, file or message."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from aiohttp import web
from stand_in import Router, Stand, asks

from dpr_mini import messages
from dpr_mini.engines.base import EngineError, generate
from dpr_mini.engines.sglang import fleet, launch, process, server, wire
from dpr_mini.engines.sglang.engine import SglangEngine
from dpr_mini.recipe import ServerConfig
from dpr_mini.recipe.serving import AUTH

pytestmark = pytest.mark.timeout(90)
KEY = "k3yOfTheServer0000"

# SGLang as far as its start goes: settings that are logged and copied, a parser of its own, children by spawn.
SERVER_ARGS = """
import argparse, dataclasses
@dataclasses.dataclass
class ServerArgs:
    model_path: str
    host: str
    api_key: str | None = None
def prepare_server_args(argv):
    parser = argparse.ArgumentParser()
    for name in ("--model-path", "--host", "--api-key"):
        parser.add_argument(name)
    return ServerArgs(**vars(parser.parse_args(argv)))
"""
LAUNCH_SERVER = """
import copy, json, multiprocessing, os, sys
from sglang.srt.server_args import prepare_server_args
def child(settings, out):
    out.put([settings.api_key, type(settings.api_key).__name__])
if __name__ == "__main__":
    settings = prepare_server_args(sys.argv[1:])
    print(f"{settings=}", copy.deepcopy(settings), f"{vars(settings)}", flush=True)
    context = multiprocessing.get_context("spawn")
    out = context.SimpleQueue()
    one = context.Process(target=child, args=(settings, out))
    one.start()
    lines = {
        "header": f"Bearer {settings.api_key}", "child": out.get(), "argv": sys.argv, "path": sys.path,
        "command": open("/proc/self/cmdline").read(), "variable": os.environ.get("DPR_MINI_SGLANG_KEY"),
    }
    one.join()
    json.dump(lines, open(os.environ["OUT"], "w"))
"""


@pytest.fixture
def sglang(tmp_path, monkeypatch):
    """start(argument, ...) -> the ended process and what the server saw."""
    for name, text in (("srt/server_args.py", SERVER_ARGS), ("launch_server.py", LAUNCH_SERVER)):
        path = tmp_path / "site/sglang" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def start(*arguments):
        out = tmp_path / "out.json"
        environment = os.environ | {"PYTHONPATH": str(tmp_path / "site"), server.VARIABLE: KEY, "OUT": str(out)}
        command = [sys.executable, "-u", str(launch.SERVER), *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        return done, json.loads(out.read_text()) if out.exists() else {}

    return start


def test_the_server_has_the_key_and_neither_its_command_line_nor_its_log_shows_it(sglang):
    done, saw = sglang("--model-path", "m", "--host", "127.0.0.1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("api_key='***'") == 2 and "'api_key': '***'" in done.stdout
    assert KEY not in done.stdout + done.stderr + saw["command"] + "".join(saw["argv"]) and saw["variable"] is None
    assert saw["header"] == f"Bearer {KEY}" and saw["child"] == [KEY, "str"], "its own processes have the key"
    assert str(launch.SERVER.parent) not in saw["path"], "our modules must not be found before SGLang's own"


def test_the_servers_parser_takes_whole_names_only(sglang):
    done, saw = sglang("--model-path", "m", "--hos", "0.0.0.0")
    assert done.returncode == 2 and "unrecognized arguments: --hos" in done.stderr and not saw


def test_what_starts_it_gives_the_key_in_the_environment_and_no_other_secret(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_verySecretToken")
    monkeypatch.setenv("WANDB_API_KEY", "w" * 40)
    ours = process.ServerProcess(["x", "-c", "pass", "--api-key=S3CRET"], tmp_path / "log", {server.VARIABLE: KEY})
    assert ours.environment[server.VARIABLE] == KEY and not {"HF_TOKEN", "WANDB_API_KEY"} & ours.environment.keys()
    assert "PATH" in ours.environment
    ours.command[0] = sys.executable
    ours.start()
    ours.stop()
    assert "S3CRET" not in (tmp_path / "log").read_text()


def keyed(stand: Stand, wants: str) -> Stand:
    """The stub, but it wants an Authorization header and repeats a wrong one; /health is free, as SGLang's is."""
    stand.headers = []
    app = stand.app

    @web.middleware
    async def check(request, handler):
        stand.headers.append((request.path, request.headers.get("Authorization")))
        if request.path.startswith("/health") or request.headers.get("Authorization") == wants:
            return await handler(request)
        return web.Response(status=401, text=f"not {request.headers.get('Authorization')} {KEY}\x1b[2J")

    def made():
        made_app = app()
        made_app.middlewares.append(check)
        return made_app

    stand.app = made
    return stand


def engine(model: Path, tmp_path: Path, *urls: str) -> SglangEngine:
    config = ServerConfig(urls=urls, patience=0.5, request_timeout=20, check_cache=False)
    return SglangEngine(model, window=4, config=config, logs=tmp_path / "logs")


@pytest.mark.parametrize(
    ("given", "header"), [(KEY, f"Bearer {KEY}"), ("user:" + KEY, "Basic dXNlcjprM3lPZlRoZVNlcnZlcjAwMDA=")]
)
def test_a_running_server_gets_the_key_of_the_environment(
    stub_model, tmp_path, run_stand_in, monkeypatch, given, header
):
    monkeypatch.setenv(AUTH, given)
    stand = keyed(Stand(str(stub_model)), header)
    with engine(stub_model, tmp_path, run_stand_in(stand).url) as client:
        assert all(c.finish == "stop" for c in generate(client, asks(3)))
    assert all(sent is None for path, sent in stand.headers if path.startswith("/health"))


def test_a_server_that_refuses_the_key_does_not_bring_it_into_a_message(
    stub_model, tmp_path, run_stand_in, monkeypatch
):
    monkeypatch.setenv(AUTH, f"user:{KEY}")
    with pytest.raises(
        EngineError, match=rf"HTTP 401: .*\(the key of a server in engine\.urls goes into \${AUTH}"
    ) as e:
        engine(stub_model, tmp_path, run_stand_in(keyed(Stand(str(stub_model)), "another")).url).__enter__()
    assert KEY not in str(e.value) and "dXNlcjpr" not in str(e.value) and str(e.value).isprintable()
    assert KEY not in wire.line(f"x {KEY}") + wire.shown({"a": KEY})


@pytest.mark.parametrize("given", ["test", "a", "me:test", "u:p", ":a"])
def test_a_short_key_is_not_hidden_in_every_word_that_has_it(monkeypatch, given):
    monkeypatch.setattr(messages, "_secrets", set())
    monkeypatch.setenv(AUTH, given)
    assert fleet.authorization(given)
    text = f"problems.test: the latest answer, tested at {fleet.authorization('x')}"
    assert messages.redacted(text) == text


@pytest.mark.parametrize("given", [KEY, f"me:{KEY}", f"/{KEY}"])
def test_a_long_key_is_hidden_in_every_form_that_is_sent(monkeypatch, given):
    """Also one that begins as a path does, which the environment alone does not tell from one."""
    monkeypatch.setattr(messages, "_secrets", set())
    monkeypatch.setenv(AUTH, given)
    header = fleet.authorization(given)
    assert messages.redacted(f"{given} {given.rpartition(':')[2]} {header.split()[1]}") == "*** *** ***"


def test_a_router_cannot_send_the_key_elsewhere(stub_model, tmp_path, run_stand_in, monkeypatch):
    """On one machine another port may be another user's; of another host the same goes for the name."""
    monkeypatch.setenv(AUTH, KEY)
    thief = keyed(Stand(str(stub_model)), "")
    with pytest.raises(EngineError, match="HTTP 401"):
        engine(stub_model, tmp_path, run_stand_in(Router([run_stand_in(thief).url])).url).__enter__()
    assert thief.headers and not any(sent for _, sent in thief.headers)


@pytest.mark.parametrize("bad", ["a b", "a\nX-Header: b", "é", "\x00"])
def test_a_key_that_cannot_be_a_header(bad):
    with pytest.raises(EngineError, match=rf"\${AUTH}: a key"):
        fleet.authorization(bad)
    assert fleet.authorization("") == ""
