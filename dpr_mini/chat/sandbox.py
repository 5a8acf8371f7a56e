"""The child process that renders one chat template, in the environment that transformers offers, under limits.

A chat template is a program that came with a model. jinja2's sandbox keeps it from files and code, but not from taking
all time and memory, so it never runs in the process that does the work. `chat/renderer.py` is the parent's side.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any

from jinja2 import TemplateError, nodes, pass_eval_context
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

MEMORY = 384 << 20  # bytes of address space; 25 MiB are taken before the template
SECONDS = 1.0  # of the processor, for compiling or for one rendering, which takes a millisecond
BASE, TIMES = 1 << 18, 8  # characters that a rendering may have: this many, and so many for each that went in (ours)
ERROR = 500  # characters of what a template says of itself


class Generation(Extension):
    """{% generation %} ... {% endgeneration %}: marks what the assistant said. Here it only shows it."""

    tags = {"generation"}  # noqa: RUF012  jinja2's name

    def parse(self, parser: Parser) -> nodes.CallBlock:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_shown"), [], [], body).set_lineno(line)

    @pass_eval_context
    def _shown(self, context: nodes.EvalContext, caller: Callable[[], str]) -> str:
        return caller()


class Dict:
    """`dict` without what a class would give away."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args, **kwargs)


class TemplateNamespace(Namespace):
    """`namespace()` without attributes that begin with an underscore."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # as jinja2's own: a template may call one of its values self
        self, args = args[0], args[1:]
        values = dict(*args, **kwargs)
        for name in values:
            _public(name)
        Namespace.__init__(self, values)

    def __setitem__(self, name: str, value: Any) -> None:
        _public(name)
        super().__setitem__(name, value)


def _public(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace cannot hold {name!r}: names that begin with an underscore are not allowed")


def environment(now: datetime, dated: Callable[[], None]) -> ImmutableSandboxedEnvironment:
    """transformers' environment for chat templates (utils/chat_template_utils.py of 5.24), which they are written
    against. `now` is what strftime_now formats; `dated` is called when it does."""

    def raise_exception(message: Any) -> None:
        raise TemplateError(message)

    def tojson(x: Any, ensure_ascii=False, indent=None, separators=None, sort_keys=False) -> str:
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def strftime_now(format: str) -> str:
        dated()
        return now.strftime(format)

    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    made.filters["tojson"] = tojson
    made.globals |= {
        "raise_exception": raise_exception,
        "strftime_now": strftime_now,
        "dict": Dict(),
        "namespace": TemplateNamespace,
    }
    return made


def serve() -> None:
    """The child's whole life: a JSON line in, a JSON line out. First {"source", "now"}, then variables to render
    with, again and again. Out: {"text", "dated"} or {"error"}."""
    import resource

    answers = os.fdopen(os.dup(1), "w", buffering=1, encoding="ascii")
    os.dup2(2, 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    seen: list[bool] = []
    template: Any = None
    for line in sys.stdin:
        asked = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)  # it ends the process, whatever that is in the middle of
        try:
            if template is None:
                made = environment(datetime.fromisoformat(asked["now"]), lambda: seen.append(True))
                template, answer = made.from_string(asked["source"]), {"text": ""}
            else:
                limit = BASE + TIMES * len(line)
                random.seed(0)  # a template that draws renders the same when it is asked again
                text = template.render(**asked)
                answer = {"text": text, "dated": bool(seen)}
                if len(text) > limit:
                    answer = {"error": f"it makes {len(text)} characters of the dialogue, more than the {limit} taken"}
        except Exception as error:  # the border: whatever a template raises is an answer
            answer = {"error": described(error)}
        try:
            text = json.dumps(answer)
        except MemoryError:
            text = json.dumps({"error": "it takes too much memory"})
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(text, file=answers)


def described(error: Exception) -> str:
    """What went wrong, in a few words, of whatever length the template's own were."""
    if isinstance(error, MemoryError):
        return "it takes too much memory"
    if isinstance(error, RecursionError):
        return "it nests too deeply"
    try:
        text = str(error)
    except Exception:  # its message is the template's own, and may be any object
        text = ""
    line = getattr(error, "lineno", None)
    return (f"line {line}: " if line else "") + (text[:ERROR] or type(error).__name__)
