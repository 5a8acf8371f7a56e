"""A server's processes with real processes: whatever ends first, nothing of it is left, not even a zombie."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from dpr_mini.engines.base import EngineError
from dpr_mini.engines.sglang.process import ServerProcess, children, free_port, title
from dpr_mini.machine import guard

# Like SGLang: a server whose children do the work; here they do not listen to SIGTERM, and note who they are.
SERVER = """\
import os, signal, sys, time
folder, stubborn, orphan = sys.argv[1], "stubborn" in sys.argv, "orphan" in sys.argv
for name in ("scheduler", "detokenizer"):
    if not os.fork():
        if stubborn:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if orphan and os.fork():
            os._exit(0)  # what is left has lost its parent
        open(f"{folder}/{name}", "w").write(str(os.getpid()))
        time.sleep(600)
open(f"{folder}/server", "w").write(str(os.getpid()))
print("ready to serve", flush=True)
if "exit" in sys.argv:
    while not os.path.exists(f"{folder}/end"):
        time.sleep(0.01)
    sys.exit(7)
time.sleep(600)
"""
OWNER = """\
import os, sys, time
from pathlib import Path
from dpr_mini.engines.sglang.process import ServerProcess
server = ServerProcess(sys.argv[2:], Path(sys.argv[1]) / "log")
server.start()
if os.environ.get("HEIR") and not os.fork():
    time.sleep(60)  # a fork of the owner that lives on, and holds its end of the pipe
    os._exit(0)
print("started", flush=True)
time.sleep(600)
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "server.py"
    path.write_text(SERVER)
    return path


def command(script: Path, *options: str) -> list[str]:
    return [sys.executable, "-I", str(script), str(script.parent), *options]


def until(true, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def members(folder: Path) -> list[int]:
    """Server, scheduler and detokenizer, once all have said who they are."""
    files = [folder / name for name in ("server", "scheduler", "detokenizer")]
    until(lambda: all(f.exists() and f.read_text() for f in files))
    return [int(f.read_text()) for f in files]


def gone(pid: int) -> bool:
    """No process of that number, and no zombie either."""
    return not Path(f"/proc/{pid}").exists()


@pytest.fixture
def server(script: Path):
    made: list[ServerProcess] = []

    def make(*options: str) -> ServerProcess:
        made.append(ServerProcess(command(script, *options), script.parent / "log"))
        made[-1].start()
        return made[-1]

    yield make
    for one in made:
        one.stop()


@pytest.mark.parametrize("option", ["plain", "orphan"])
def test_stop_ends_the_whole_session_and_leaves_no_zombie(server, tmp_path, option):
    process = server(option)
    pids = members(tmp_path)
    assert process.alive() and set(process.pids()) == set(pids)
    begun = time.monotonic()
    process.stop()
    assert time.monotonic() - begun < 5
    assert all(map(gone, pids)) and not process.alive()
    process.stop()  # twice does nothing


@pytest.mark.slow
def test_stop_kills_what_does_not_listen(server, tmp_path, monkeypatch):
    process = server("stubborn", "orphan")
    pids = members(tmp_path)
    begun = time.monotonic()
    process.stop()
    assert guard.GRACE <= time.monotonic() - begun < guard.GRACE + 5, "asked first, then killed"
    assert all(map(gone, pids))


def test_kill_does_not_ask(server, tmp_path):
    process = server("stubborn")
    pids = members(tmp_path)
    begun = time.monotonic()
    process.kill()
    assert time.monotonic() - begun < 3
    assert all(map(gone, pids)) and not process.alive()


@pytest.mark.slow
@pytest.mark.parametrize("heir", ["", "1"], ids=["alone", "a fork of it lives on"])
def test_nothing_outlives_an_owner_that_is_killed(script, tmp_path, heir):
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path), *command(script, "stubborn", "orphan")],
        stdout=subprocess.PIPE, env={**os.environ, "HEIR": heir}, start_new_session=True,
    )  # fmt: skip
    assert owner.stdout and owner.stdout.readline() == b"started\n"
    pids = members(tmp_path)
    guards = [pid for pid in children(owner.pid) if guard.__file__ in title(pid)]
    assert len(guards) == 1
    owner.kill()
    owner.wait()
    until(lambda: all(map(gone, pids)), guard.GRACE + 8)
    until(lambda: not guard.lives(guards[0]), 5)
    for pid in guard.session(owner.pid):  # the heir is ours to end
        os.kill(pid, signal.SIGKILL)
    owner.stdout.close()


def test_a_server_is_found_dead_with_its_exit_code_and_its_children_are_gone(server, tmp_path):
    process = server("exit")
    pids = members(tmp_path)
    watcher = process._guard
    assert process.alive() and watcher
    (tmp_path / "end").touch()
    until(lambda: not process.alive())
    assert watcher.wait(10) == 7
    assert all(map(gone, pids))


def test_the_exit_code_of_a_signal_is_the_shells(server, tmp_path):
    process = server()
    pids = members(tmp_path)
    os.kill(pids[0], signal.SIGKILL)
    until(lambda: not process.alive())
    assert process._guard and process._guard.wait(10) == 128 + signal.SIGKILL
    assert all(map(gone, pids))


def test_a_killed_guard_takes_the_server_along_and_stop_takes_the_rest(server, tmp_path):
    process = server("stubborn")
    pids = members(tmp_path)
    assert process._guard
    process._guard.kill()
    until(lambda: not process.alive())
    until(lambda: not guard.lives(pids[0]), 3)
    process.stop()
    # their parent is whoever adopts orphans on this machine, who may not collect them: they hold nothing any more
    assert not any(map(guard.lives, pids))


def test_a_guard_that_is_asked_to_end_ends_the_server(server, tmp_path):
    process = server()
    pids = members(tmp_path)
    assert process._guard
    process._guard.terminate()
    assert process._guard.wait(10) == 0
    assert all(map(gone, pids))


def test_the_death_of_a_vital_process_is_the_servers(server, tmp_path):
    process = server()
    _, scheduler, other = members(tmp_path)
    os.kill(other, signal.SIGKILL)
    time.sleep(0.2)
    assert process.alive(), "nobody has said yet that it is vital"
    process.ready(title(scheduler)[:20])
    os.kill(scheduler, signal.SIGKILL)
    until(lambda: not process.alive(), 1)


def test_a_process_that_is_not_vital_may_end(server, tmp_path):
    process = server()
    _, scheduler, _ = members(tmp_path)
    process.ready("sglang::")
    os.kill(scheduler, signal.SIGKILL)
    time.sleep(0.2)
    assert process.alive()


def test_a_command_that_does_not_exist(tmp_path):
    process = ServerProcess(["no-such-server", "--port", "1"], tmp_path / "log")
    with pytest.raises(EngineError, match=r"no-such-server did not start: there is no such command"):
        process.start()
    assert not process.alive()
    process.stop()


def test_a_command_that_cannot_be_executed_is_dead_and_says_why(tmp_path):
    text = tmp_path / "server"
    text.write_text("not a program")
    text.chmod(0o755)
    process = ServerProcess([str(text)], tmp_path / "log")
    with suppress(EngineError):  # it may have ended before it was seen
        process.start()
    until(lambda: not process.alive())
    assert "cannot start" in process.tail() and "Exec format error" in process.tail()
    process.stop()


def test_the_log_keeps_every_start_and_tail_is_of_the_last(tmp_path):
    log = tmp_path / "logs" / "server.log"
    for word in ("first", "second"):
        code = f"for i in range(30): print('{word}', i)\nimport time; time.sleep(60)"
        process = ServerProcess([sys.executable, "-u", "-c", code], log)
        process.start()
        until(lambda p=process: "29" in p.tail(1))
        assert process.tail(3) == f"{word} 27 | {word} 28 | {word} 29"
        process.stop()
    said = log.read_text()
    assert said.count("\n=== ") == 2 and "first 0" in said and "second 0" in said
    assert "first" not in process.tail(100).replace("first'", "")
    quiet = ServerProcess([sys.executable, "-c", "import time; time.sleep(60)"], log)
    quiet.start()
    assert quiet.tail() == "it said nothing"
    quiet.stop()


def test_the_server_sees_the_environment_and_no_folder_of_the_caller(tmp_path):
    code = "import os, sys; print(os.environ['EXTRA'], sys.flags.safe_path, repr(sys.stdin.read()))"
    process = ServerProcess([sys.executable, "-c", code], tmp_path / "log", {"EXTRA": "given"})
    process.start()
    until(lambda: not process.alive())
    assert process.tail() == "given True ''"
    process.stop()


def test_ending_a_server_takes_no_exit_code_of_another_child(server, tmp_path):
    """The graders' workers are children of the same process: their exit codes are not the server's to collect."""
    worker = subprocess.Popen([sys.executable, "-c", "raise SystemExit(5)"])
    until(lambda: not guard.lives(worker.pid))
    process = server("stubborn")
    members(tmp_path)
    assert process._guard
    process._guard.kill()  # now the session is ours to end
    process.stop()
    assert worker.wait() == 5


def test_process_names_that_are_no_text_do_not_matter(tmp_path):
    """Any process of the machine may call itself anything."""
    code = "open('/proc/self/comm', 'wb').write(b'\\xff) R 1 \\xfe'); print(1, flush=True); import time; time.sleep(60)"
    odd = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True)
    assert odd.stdout and odd.stdout.readline()
    assert guard.session(odd.pid) == [odd.pid] and guard.lives(odd.pid)
    odd.kill()
    odd.wait()
    odd.stdout.close()
    assert guard.session(odd.pid) == [] and not guard.lives(odd.pid)


def test_a_free_port_can_be_bound():
    import socket

    with socket.socket() as mine:
        mine.bind(("127.0.0.1", free_port()))
