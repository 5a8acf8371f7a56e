"""Token ids to text, the same for every engine: end tokens, stop strings, the limit of the context."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dpr_mini.engines.base import EngineError, Request, RequestError
from dpr_mini.models import tokenizer
from dpr_mini.models.check import check, context, end_ids, read_config, vocabulary
from dpr_mini.models.folder import ModelError


class Decoder:
    """A model folder's tokenizer, end tokens and context length, read from its JSON files.

    Raises EngineError for a folder that is not to be used (models/check.py).
    """

    def __init__(self, model_dir: Path) -> None:
        try:
            check(model_dir)
            self.config = read_config(model_dir)
            self.tokenizer = tokenizer.load(model_dir)
            self.eos = end_ids(model_dir, self.config)
            self.vocabulary = vocabulary(model_dir, self.config)
            self.context = context(model_dir, self.config)
        except ModelError as error:
            raise EngineError(str(error)) from error

    def text(self, ids: Sequence[int]) -> str:
        """Special tokens stay visible: a model that writes a chat marker into its answer must not hide it."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=False)

    def cut(self, ids: Sequence[int], stop: Sequence[str]) -> tuple[tuple[int, ...], str, bool]:
        """(ids, text, ended): `ids` up to the first end token or stop string, whichever comes first.

        A stop string that begins inside a token takes the whole token with it: `text` is the ids' decoding.
        """
        end = next((i for i, token in enumerate(ids) if token in self.eos), len(ids))
        ended = end < len(ids)
        text = self.text(ids[:end])
        starts = [at for s in stop if (at := text.find(s)) >= 0]
        if starts:
            prefix, ended = text[: min(starts)], True
            low, high = 0, end  # the longest prefix of tokens whose text lies within `prefix`
            while low < high:
                mid = (low + high + 1) // 2
                low, high = (mid, high) if len(self.text(ids[:mid])) <= len(prefix) else (low, mid - 1)
            end = low
            while end and not prefix.startswith(self.text(ids[:end])):  # a cut multi-byte character
                end -= 1
            text = self.text(ids[:end])
        return tuple(ids[:end]), text, ended

    def room(self, request: Request) -> int:
        """Tokens that may be generated: max_new_tokens, or what the context has left. Raises RequestError for none."""
        size, limit = len(request.ids), request.sampling.max_new_tokens
        if not size:
            raise RequestError(f"request {request.id}: the prompt is empty")
        if not 0 <= min(request.ids) <= max(request.ids) < self.vocabulary:
            # an index outside the embedding ends an SGLang server, and on a GPU the whole process
            raise RequestError(f"request {request.id}: a token id outside the model's vocabulary of {self.vocabulary}")
        if limit < 1:
            raise RequestError(f"request {request.id}: max_new_tokens must be at least 1, got {limit}")
        if size >= self.context:
            raise RequestError(
                f"request {request.id}: the prompt's {size} tokens leave no room in a context of {self.context}"
            )
        return min(limit, self.context - size)
