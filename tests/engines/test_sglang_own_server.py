"""What the SGLang engine does when its own server dies, hangs or keeps its GPU: our state machine, on a stub."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import stand_in
from stand_in import POISON, asks, until, whole

from dpr_mini.engines.base import EngineError, Request, SamplingParams, generate
from dpr_mini.engines.sglang import engine as engine_module
from dpr_mini.engines.sglang import fleet, launch
from dpr_mini.engines.sglang.engine import SglangEngine
from dpr_mini.engines.sglang.process import OURS, ServerProcess
from dpr_mini.machine import guard
from dpr_mini.recipe import ServerConfig

pytestmark = pytest.mark.timeout(90)


@pytest.fixture(scope="module")
def model(tiny_model) -> Path:
    return tiny_model()


@pytest.fixture
def own(model, tmp_path, monkeypatch) -> Iterator[Callable[..., SglangEngine]]:
    """make(mode) -> an engine whose server is the stub; afterwards nothing of any of its lives may be there."""
    monkeypatch.setattr(launch, "find_python", lambda named, gpu: sys.executable)
    monkeypatch.setattr(launch, "versions", lambda python: {"sglang": "0"})
    monkeypatch.setattr(engine_module, "ALIVE_EVERY", 0.1)

    real = launch.command

    def make(mode: str, window: int = 8, **config: Any) -> SglangEngine:
        def command(python: str, folder: Path, port: int, *args: Any, **more: Any) -> list[str]:
            flags = real(python, folder, port, *args, **more)
            flags = flags[flags.index("--port") + 2 :]
            return [python, stand_in.__file__, str(port), str(tmp_path), mode, str(folder), more["release"], *flags]

        monkeypatch.setattr(launch, "command", command)
        settings = {"patience": 20, "request_timeout": 60} | config
        return SglangEngine(model, window=window, config=ServerConfig(**settings), logs=tmp_path / "logs")

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
    requests[13] = Request("bad", (5, POISON, 6), SamplingParams(8), 1)
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


@pytest.mark.parametrize("mode", ["never ready", "hangs"], ids=["during the start", "while waiting for answers"])
def test_an_interrupt_leaves_nothing(own, tmp_path, model, mode):
    command = [sys.executable, stand_in.__file__, "client", str(tmp_path), str(model), mode]
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


@pytest.mark.parametrize("name", ["cuda_graph_max_bs", "cuda-graph-max-bs-decode"])
@pytest.mark.parametrize("release", ["0.5.9", "0.5.23"])
def test_a_flag_with_two_names_is_given_by_the_one_that_the_release_knows(own, monkeypatch, release, name):
    monkeypatch.setattr(launch, "versions", lambda python: {"sglang": release})
    with own("well", arguments={name: 64}) as engine:
        whole(asks(3), list(generate(engine, asks(3))))
        assert engine.name.startswith(f"sglang {release}")


def test_a_flag_that_the_release_does_not_know_is_one_line(own, monkeypatch):
    monkeypatch.setattr(launch, "versions", lambda python: {"sglang": "0.5.23"})
    monkeypatch.setattr(launch, "RENAMED", ())
    with pytest.raises(EngineError, match=r"died while starting: .*ambiguous option: --cuda-graph-max-bs") as caught:
        own("well", arguments={"cuda_graph_max_bs": 64}).__enter__()
    assert "\n" not in str(caught.value)


def test_each_opening_is_a_new_server(own, tmp_path):
    engine = own("well")
    for n in (1, 2):
        with engine:
            whole(asks(5), list(generate(engine, asks(5))))
        assert lives(tmp_path) == n and not any(map(guard.lives, pids(tmp_path)))


# --- the GPU is free afterwards: a stub for the driver's tool -----------------------------------------------------


@pytest.fixture
def card(driver, monkeypatch):
    """The driver, with a short patience."""
    monkeypatch.setattr(fleet, "GPU_PATIENCE", 1.5)
    return driver


def test_another_server_on_our_port_is_not_taken_for_ours(own):
    with pytest.raises(EngineError, match="taken by another server, which serves another model"):
        own("another").__enter__()


def test_closing_waits_until_the_gpu_is_free(own, card):
    with own("well"):
        card.show(9000)
        threading.Timer(1.0, lambda: card.show(81800)).start()
        begun = time.monotonic()
    assert time.monotonic() - begun > 0.9


def test_memory_that_does_not_come_back_is_said_and_the_server_is_gone(own, card, tmp_path, capsys):
    engine = own("well").__enter__()
    card.show(81920 - 20480)
    engine.__exit__()
    assert "20.0 GiB of GPU memory did not come back when the SGLang server ended" in capsys.readouterr().err
    assert not any(map(guard.lives, pids(tmp_path)))
    engine.__exit__()  # closed is closed


def test_what_happens_on_another_gpu_is_not_ours(own, card, monkeypatch, capsys):
    """70 and 60 GiB free before, 70 and 55 after."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    card.show(71680, 61440)
    with own("well"):
        card.show(71680, 56320)
    assert "did not come back" not in capsys.readouterr().err


def test_a_driver_that_says_no_more_is_not_a_free_gpu(own, card):
    engine = own("well").__enter__()
    card.cards.unlink()
    with pytest.raises(EngineError, match="nvidia-smi no longer says"):
        engine.__exit__()


def test_a_full_card_is_refused_with_numbers_before_a_server_starts(own, card, tmp_path):
    card.show(20480)
    with pytest.raises(EngineError, match=r"wants 0.85 of the card .*, 68.0 GiB, but .* 80.0 GiB, 20.0 of them free"):
        own("well").__enter__()
    assert not (tmp_path / "lives").exists()


def test_a_card_that_is_gone_before_the_server_starts_is_said(own, card, tmp_path):
    engine = own("well")
    card.show()
    with pytest.raises(EngineError, match="nvidia-smi no longer shows a GPU"):
        engine.__enter__()
    assert not (tmp_path / "lives").exists()


def test_a_card_that_becomes_free_is_waited_for(own, card):
    card.show(20480)
    threading.Timer(0.7, lambda: card.show(81920)).start()
    with own("well"):
        pass


def test_what_others_hold_is_reported_and_stops_nothing_while_enough_is_free(own, card, capsys):
    card.show(73728)
    with own("well"):
        pass
    assert "others hold 8.0 GiB of NVIDIA Test Card, 80.0 GiB, 72.0 of them free" in capsys.readouterr().err


def test_a_mig_slice_of_unknown_free_memory_starts(own, card, capsys):
    card.show("[N/A]", total="[N/A]", mig="Enabled")
    card.slices.write_text("GPU 0: NVIDIA Test Card (UUID: GPU-a0)\n  MIG 3g.40gb     Device  0: (UUID: MIG-1)\n")
    with own("well"):
        pass
    assert "how much of NVIDIA Test Card, 40.0 GiB is free is not known" in capsys.readouterr().err


def test_without_nvcc_the_engine_does_not_open(own, card, monkeypatch):
    monkeypatch.setenv("CUDA_HOME", "/no/cuda")
    with pytest.raises(EngineError, match="nvcc is missing: SGLang compiles"):
        own("well")


def test_a_compiler_in_sglangs_own_environment_is_enough(own, card, monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_HOME", "/no/cuda")
    monkeypatch.setattr(launch, "cuda_home", lambda python: tmp_path / "cu13")
    with own("well") as engine:
        assert engine.fleet.process.environment["CUDA_HOME"] == str(tmp_path / "cu13")


def test_the_server_has_none_of_our_allocators_settings(monkeypatch, tmp_path):
    for name in OURS:
        monkeypatch.setenv(name, "ours")
    assert not ServerProcess(["true"], tmp_path / "log").environment.keys() & set(OURS)
