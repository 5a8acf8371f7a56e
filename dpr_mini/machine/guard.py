"""Runs a server and makes sure that nothing of it outlives the process that wanted it.

    python -I guard.py SERVER ARGUMENT ...      (its own standard input is a pipe that the owner holds open)

The owner may end in any way, kill -9 included: the pipe closes (or the guard sees that it has another parent, where a
fork of the owner still holds the pipe), and the guard ends the server's whole session, first politely. A server that
ends by itself takes what it left behind with it. The guard adopts the server's orphans (PR_SET_CHILD_SUBREAPER), so
none stays as a zombie. Standard library only: it starts in a few milliseconds.
Its exit code is the server's, or 128 + the signal that ended it.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
GRACE = 10.0  # seconds between asking and killing


def session(sid: int) -> list[int]:
    """Processes of a session that are still alive. Zombies do not count: they hold nothing but a number."""
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [pid for pid in pids if _alive_in(pid) == sid]


def lives(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    return _alive_in(pid) is not None


def _alive_in(pid: int) -> int | None:
    """The session of a live process; None for one that has ended."""
    try:
        # the second field is a name in brackets that may hold anything; state, parent, group, session follow it
        state, _, _, sid, *_ = Path(f"/proc/{pid}/stat").read_bytes().decode("latin-1").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state in "ZX" else int(sid)


def end(sid: int, grace: float = GRACE) -> list[int]:
    """SIGTERM to a session, SIGKILL to what is left after `grace` seconds; returns the pids that even that left."""
    for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, 10.0)):
        signalled_pids: set[int] = set()
        deadline = time.monotonic() + patience
        while left := session(sid):
            for pid in set(left) - signalled_pids:  # one that was forked since the last look, too
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    continue
            signalled_pids.update(left)
            if time.monotonic() >= deadline:
                break
            time.sleep(0.02)
    return session(sid)


def reap() -> dict[int, int]:
    """Collect children that have ended: pid -> exit status. For the guard only: every child of it is the server's."""
    ended = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if not pid:
            return ended
        ended[pid] = status


def bury(sid: int, grace: float = GRACE) -> bool:
    """End a session and collect every orphan of it; whether nothing is left."""
    left = end(sid, grace)
    deadline = time.monotonic() + 5.0  # a process with threads can be collected only when the last of them is gone
    while time.monotonic() < deadline:
        try:
            if not os.waitpid(-1, os.WNOHANG)[0]:
                time.sleep(0.01)
        except ChildProcessError:
            break
    return not left


def main(command: list[str]) -> int:
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    owner = os.getppid()
    server = os.fork()
    if not server:
        os.setsid()
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # should the guard itself be killed
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        try:
            os.execvp(command[0], command)
        except OSError as error:
            print(f"cannot start {command[0]}: {error.strerror}", file=sys.stderr, flush=True)
            os._exit(127)
    while _alive_in(server) not in (server, None):  # until it leads its own session, it would not be found by it
        time.sleep(0.001)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0 if bury(server) else 1))
    while True:
        readable, _, _ = select.select([0], [], [], 0.2)
        if os.getppid() != owner or (readable and not os.read(0, 4096)):
            return 0 if bury(server) else 1
        if (status := reap().get(server)) is not None:
            bury(server, grace=2.0)
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
