"""The parent's side of chat/sandbox.py: one child for each template, bounded in time, memory and output."""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from dpr_mini.types import UserError

KEPT = 4  # children at a time: a run has one template, mostly
OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP)
PASSED = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "TZ")  # a template meets no secrets


class RenderError(UserError, ValueError):
    """A chat template that cannot be rendered: one line that says why."""


class _Ended(RenderError):
    """The child is gone. `outside`: by a signal that nothing a template does can send."""

    def __init__(self, message: str, outside: bool) -> None:
        super().__init__(message)
        self.outside = outside


class Renderer:
    """A chat template's source, rendered in a child process that is started when it is first needed."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._lock = threading.Lock()

    def render(self, variables: Mapping[str, Any]) -> str:
        """The template's text. Raises RenderError for whatever else comes of it, within a second of the processor."""
        with self._lock:
            try:
                answer = self._answer(variables)
            except _Ended as error:
                if not error.outside:
                    raise
                answer = self._answer(variables)  # says nothing about the template
        if answer["dated"]:
            _say_date()
        return answer["text"]

    def _answer(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        if self._process is None or self._owner != os.getpid():
            self._start()
        return self._ask(variables)

    def _start(self) -> None:
        self._process = None  # another process's, if this one was forked off it
        first = {"source": self.source, "now": today().isoformat()}  # before there is a child: it may raise
        environment = {name: os.environ[name] for name in PASSED if name in os.environ}
        environment |= {
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, sys.path)]),
            "PYTHONSAFEPATH": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self._owner = os.getpid()
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from dpr_mini.chat.sandbox import serve; serve()"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env=environment, start_new_session=True,
        )  # fmt: skip
        _running.append(self)
        self._ask(first)

    def _ask(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """The child's answer. Where it says an error the child stays; where it dies, or compiling fails, it goes."""
        process = self._process
        assert process and process.stdin and process.stdout
        try:
            process.stdin.write(json.dumps(asked).encode() + b"\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = b""
        except BaseException:  # Ctrl-C: the answer to come would be taken for the next one's
            self.close()
            raise
        if not line.endswith(b"\n"):
            raise self._ended()
        answer = json.loads(line)
        if "error" in answer:
            if "source" in asked:
                self.close()
            raise RenderError(answer["error"])
        return answer

    def _ended(self) -> _Ended:
        process, self._process = self._process, None
        assert process
        code = process.wait()
        self._forget(process)
        if code == -signal.SIGPROF:
            return _Ended("it takes more than a second of the processor", outside=False)
        how = f"{'signal' if code < 0 else 'code'} {abs(code)}"
        return _Ended(f"it ended the process that renders it ({how})", outside=-code in OUTSIDE)

    def close(self) -> None:
        """End the child, if this process has one."""
        process, self._process = self._process, None
        if process and self._owner == os.getpid():
            process.kill()
            process.wait()
            self._forget(process)

    def _forget(self, process: subprocess.Popen[bytes]) -> None:
        for stream in (process.stdin, process.stdout):
            if stream:
                with suppress(BrokenPipeError):  # what was not read any more
                    stream.close()
        if self in _running:
            _running.remove(self)


_running: list[Renderer] = []
_known: OrderedDict[str, Renderer] = OrderedDict()


def of(source: str) -> Renderer:
    """The renderer of a template; the same one for the same source, so that trained models share the base model's."""
    if source not in _known:
        _known[source] = Renderer(source)
        while len(_known) > KEPT:
            _known.popitem(last=False)[1].close()
    _known.move_to_end(source)
    return _known[source]


@atexit.register
def close_all() -> None:
    """End the children that this process has started. They would end with it anyway: their input closes."""
    for renderer in list(_running):
        renderer.close()


@cache
def today() -> datetime:
    """What strftime_now formats: when this process began to render, or $SOURCE_DATE_EPOCH (seconds since 1970, UTC).

    One value for a whole process: prompts do not change at midnight. Raises UserError for a variable that is no number.
    """
    pinned = os.environ.get("SOURCE_DATE_EPOCH")
    if not pinned:
        return datetime.now()
    try:
        return datetime.fromtimestamp(int(pinned), UTC).replace(tzinfo=None)
    except (ValueError, OverflowError, OSError):
        raise UserError(f"SOURCE_DATE_EPOCH: seconds since 1970 are needed, not {pinned!r}") from None


@cache
def _say_date() -> None:
    if os.environ.get("SOURCE_DATE_EPOCH"):
        return
    now = today()
    pin = int(now.replace(tzinfo=UTC).timestamp())
    print(
        f"the chat template writes the date into every prompt: {now:%Y-%m-%d}. A resume on another day asks with that "
        f"day's; to keep this one: export SOURCE_DATE_EPOCH={pin}",
        file=sys.stderr,
        flush=True,
    )
