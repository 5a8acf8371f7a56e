"""What every engine does: token ids in, token ids out, each request on its own clock.

An engine is a context manager. `submit` hands it a request; `poll` blocks until at least one request has
finished (or none is in flight) and returns what finished, in any order. So a conversation's next turn starts
the moment its last one ends: there is no barrier between conversations. The caller owns the token list; turn
two's prompt is turn one's ids + its output ids + the suffix that `chat.Template` gives, so its prefix is cached.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, Self

from dpr_mini.types import Finish, UserError


class EngineError(UserError, RuntimeError):
    """An engine that cannot start or cannot go on. The message is one line that says what to do."""


class RequestError(EngineError):
    """A request that this model cannot take, whatever the engine: empty, too long, tokens that do not exist."""


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How to draw. `temperature` 0 is greedy; `top_p` in (0, 1]; `stop` strings are not part of the output."""

    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """One sample to draw. `ids` is the whole prompt. A reproducible engine draws equal samples for equal requests."""

    id: str
    ids: tuple[int, ...]
    sampling: SamplingParams
    seed: int


@dataclass(frozen=True, slots=True)
class Completion:
    """What came back. `ids` exclude the end token and any stop string; `text` is their decoding.

    `cached_tokens` of the `prompt_tokens` prompt tokens were not computed again. `finish` is "stop" (the end
    token or a stop string), "length" (the limit) or "error", with one line in `error`.
    """

    id: str
    ids: tuple[int, ...]
    text: str
    finish: Finish
    prompt_tokens: int
    cached_tokens: int
    error: str = ""


class Engine(Protocol):
    name: str
    """Kind and version, as rows record it, e.g. "openvino 2026.4.1"."""

    window: int
    """Requests that keep the engine busy; more in flight only wait."""

    reproducible: bool
    """Whether equal (ids, sampling, seed) draw the same tokens. Known once the engine is open."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *exc: object) -> None: ...

    def submit(self, request: Request) -> None:
        """Queue one request. Raises RequestError for an empty prompt or one that leaves no room to answer."""

    def poll(self) -> list[Completion]:
        """Block until something finished; [] only when nothing is in flight."""

    def cancel(self) -> None:
        """Drop everything that is queued or in flight; nothing of it will be returned."""

    def facts(self) -> dict[str, Any]:
        """What a manifest says of the engine beyond its name."""


def generate(engine: Engine, requests: Iterable[Request]) -> Iterator[Completion]:
    """Draw all requests, keeping the engine's window full; completions come in the order they finish."""
    todo, in_flight = iter(requests), 0
    while True:
        while in_flight < engine.window and (request := next(todo, None)) is not None:
            engine.submit(request)
            in_flight += 1
        if not in_flight:
            return
        for completion in engine.poll():
            in_flight -= 1
            yield completion


def described(engine: Engine) -> dict[str, Any]:
    """What a manifest says of the engine that a stage used."""
    return {"engine": engine.name, "engine_facts": {"reproducible": engine.reproducible, **engine.facts()}}
