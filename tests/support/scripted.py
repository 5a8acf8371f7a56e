"""An engine without a model: a function answers. For tests of what stands above engines.

It ends requests in a shuffled but seeded order, a few at a time, so that a barrier between conversations or a
reliance on order shows; and it counts cached tokens exactly, as a cache that forgets nothing would.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Self

from tokenizers import Tokenizer

from dpr_mini.engines.base import Completion, EngineError, Request
from dpr_mini.types import Finish, seed_for

Answer = str | tuple[str, Finish]


class ScriptedEngine:
    """`fn(request)` gives the answer's text, or (text, finish); a text cut at max_new_tokens ends with "length".

    `seen` keeps every request in the order of submission. Raises EngineError for an empty prompt.
    """

    name = "scripted"
    reproducible = True

    def __init__(
        self, fn: Callable[[Request], Answer], tokenizer: Tokenizer, *, window: int = 8, seed: int = 0
    ) -> None:
        self.fn, self.tokenizer, self.window = fn, tokenizer, window
        self.seen: list[Request] = []
        self._waiting: list[tuple[Request, int]] = []
        self._cache: dict = {}  # a trie of token ids: everything that was ever prompted or answered
        self._random = random.Random(seed)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._waiting.clear()

    def submit(self, request: Request) -> None:
        if not request.ids:
            raise EngineError(f"request {request.id}: the prompt is empty")
        if request.sampling.max_new_tokens < 1:
            raise EngineError(f"request {request.id}: max_new_tokens must be at least 1")
        self.seen.append(request)
        self._waiting.append((request, self._remember(request.ids)))

    def poll(self) -> list[Completion]:
        done = []
        for _ in range(min(len(self._waiting), self._random.randint(1, 3))):
            done.append(self._answer(*self._waiting.pop(self._random.randrange(len(self._waiting)))))
        return done

    def cancel(self) -> None:
        self._waiting.clear()

    def facts(self) -> dict[str, Any]:
        return {}

    def _answer(self, request: Request, cached: int) -> Completion:
        answer = self.fn(request)
        text, finish = answer if isinstance(answer, tuple) else (answer, "stop")
        for stop in request.sampling.stop:
            if stop in text:
                text, finish = text[: text.index(stop)], "stop"
        ids = tuple(self.tokenizer.encode(text, add_special_tokens=False).ids)
        if len(ids) > request.sampling.max_new_tokens:
            ids, finish = ids[: request.sampling.max_new_tokens], "length"
            text = self.tokenizer.decode(list(ids), skip_special_tokens=False)
        self._remember((*request.ids, *ids))
        error = text if finish == "error" else ""
        return Completion(request.id, ids, text, finish, len(request.ids), cached, error)

    def _remember(self, ids: tuple[int, ...]) -> int:
        """Add `ids` to the cache; the length of the longest beginning that was there, the last token left out."""
        node, found, known = self._cache, 0, True
        for token in ids:
            known = known and token in node
            found += known
            node = node.setdefault(token, {})
        return min(found, len(ids) - 1)


def fan_out(request: Request, n: int) -> list[Request]:
    """n requests for n different samples of one prompt, each with its own derived id and seed."""
    return [replace(request, id=f"{request.id}.{i}", seed=seed_for(request.seed, i)) for i in range(n)]
