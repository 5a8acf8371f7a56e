"""From dialogue to tokens: the only place that applies a chat template.

The token list is ours. A second turn is the first prompt's ids + the model's output ids + a suffix taken from the
template, so nothing a model wrote is ever tokenised again and the engine finds the whole prefix in its cache.
A training sample's loss mask comes from those same spans, never from a template's assistant mask.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from dpr_mini.chat import renderer
from dpr_mini.models import tokenizer
from dpr_mini.models.check import read_config, token_ids
from dpr_mini.types import Dialogue, Sample, UserError

_MARK = "\u2402dpr\u2403"  # stands for the assistant's text while the template around it is cut out


@dataclass(frozen=True)
class Template:
    """A model's tokenizer and chat template. Token ids are those of `tokenizer.json`."""

    folder: Path

    @classmethod
    def load(cls, folder: Path) -> Template:
        """Raises UserError where the tokenizer, the template or the end-of-turn token is missing."""
        template = cls(Path(folder))
        template.follow_up("x")  # fails now rather than after an hour
        return template

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Raises ModelError for one that cannot be read or gives ids that the model does not know."""
        if (self.folder / "config.json").exists():
            token_ids(self.folder, read_config(self.folder))
        return tokenizer.load(self.folder)

    @cached_property
    def _options(self) -> dict[str, Any]:
        return tokenizer.options(self.folder)

    @cached_property
    def end(self) -> int:
        """The token that ends an assistant turn: the tokenizer's eos."""
        token = self.tokenizer.token_to_id(self._options.get("eos_token") or "")
        if token is None:
            raise UserError(f"{self.folder / tokenizer.OPTIONS}: no eos_token that the tokenizer knows")
        return token

    @cached_property
    def _renderer(self) -> renderer.Renderer:
        source = tokenizer.chat_template(self.folder)
        if not source:
            path = self.folder / tokenizer.TEMPLATE
            raise UserError(f"{path}: missing; a base model without a chat template cannot hold a dialogue")
        return renderer.of(source)

    def render(self, messages: list[dict[str, str]]) -> str:
        """The template's text up to where the assistant's next answer begins, as transformers renders it.

        Raises UserError where the template refuses the dialogue or takes more than it may (chat/sandbox.py).
        """
        named = {role: token for role in tokenizer.ROLES if (token := self._options.get(role)) is not None}
        variables = {"messages": messages, "tools": None, "documents": None, "add_generation_prompt": True}
        try:
            return self._renderer.render(variables | named)
        except renderer.RenderError as error:
            raise UserError(f"{self.folder}: the chat template refused the dialogue: {error}") from None

    def opening(self, text: str, system: str = "", turns: Sequence[tuple[str, str]] = ()) -> tuple[int, ...]:
        """Prompt ids of the first turn, the generation prompt included. Without `system` it is the template's own.

        `turns` are (user, assistant) texts that stand before it.
        """
        messages = [{"role": "system", "content": system}] if system else []
        for user, assistant in turns:
            messages += [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]
        return self.encode(self.render([*messages, {"role": "user", "content": text}]))

    def follow_up(self, text: str) -> tuple[int, ...]:
        """Ids that close the assistant's turn, say `text`, and open the next one. They begin with `end`."""
        talk = [("user", "x"), ("assistant", _MARK), ("user", text)]
        whole = self.render([{"role": role, "content": content} for role, content in talk])
        _, mark, suffix = whole.rpartition(_MARK)
        ids = self.encode(suffix)
        if not mark or not ids or ids[0] != self.end:
            raise UserError(f"{self.folder}: the chat template does not close an assistant turn with the eos token")
        return ids

    def encode(self, text: str) -> tuple[int, ...]:
        """Raises UserError for half a surrogate pair, which no token is."""
        try:
            text.encode()
        except UnicodeEncodeError as error:
            seen = ascii(text[error.start])
            raise UserError(f"{self.folder}: {seen} in a text to be tokenised is half a character") from None
        return tuple(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: tuple[int, ...] | list[int], *, special: bool = False) -> str:
        return self.tokenizer.decode(list(ids), skip_special_tokens=not special)


def join_text(dialogue: Dialogue, bridges: Mapping[str, str]) -> str:
    """The one long chain of thought: every turn's text, each later one behind its bridge."""
    first, *later = dialogue.turns
    return first.text + "".join(bridges.get(t.instruction, "\n\n") + t.text for t in later)


def standing_text(dialogue: Dialogue, bridges: Mapping[str, str], turn: int) -> str:
    """The chain up to this turn: what its answer is read from where a later turn may let an earlier answer stand."""
    return join_text(replace(dialogue, turns=dialogue.turns[: turn + 1]), bridges)


def attempts(text: str, bridges: Mapping[str, str]) -> list[str]:
    """A text split at the bridge sentences in it, without them: a chain of phase 2 is one turn of several attempts.

    A bridge that nothing comes before joins nothing and stays. White space at a bridge belongs to it.
    """
    parts, at = [], 0
    for match in _joints(tuple(bridges.values())).finditer(text):
        if before := text[at : match.start()].strip():
            parts.append(before if parts else text[: match.start()].rstrip())
            at = match.end()
    return [*parts, text[at:].lstrip() if parts else text]


def first_attempt(text: str, bridges: Mapping[str, str]) -> str | None:
    """The text before the first bridge sentence in it; None where there is none."""
    first, *later = attempts(text, bridges)
    return first if later else None


@lru_cache
def _joints(bridges: tuple[str, ...]) -> re.Pattern[str]:
    """Finds a bridge sentence, whatever white space is in it; the longest where one begins with another."""
    sentences = sorted({b.strip() for b in bridges} - {""}, key=lambda b: (-len(b), b))
    spaced = (r"\s+".join(map(re.escape, b.split())) for b in sentences)
    return re.compile("|".join(rf"(?<!\w)(?:{b})" if b[0].isalnum() else b for b in spaced) or "(?!)")


def spelled(ids: Sequence[int], text: str, template: Template) -> int | None:
    """How many of the first ids it takes to spell `text`, the whole of the last one's; None where they begin otherwise.

    A token that holds the end of the text and something behind it counts.
    """

    def enough(n: int) -> bool:
        return template.decode(list(ids[:n])).startswith(text)

    n = bisect.bisect_left(range(len(ids)), True, key=enough)
    return n if enough(n) else None


class Unspelled(ValueError):
    """The tokens of a text do not spell it."""


def holding(ids: Sequence[int], text: str, start: int, end: int, template: Template) -> range:
    """Which of the ids, those of `text`, hold its characters `start` to `end`; one that holds others, too, counts.

    Raises Unspelled where the ids begin otherwise than the text up to there.
    """
    first, last = spelled(ids, text[: start + 1], template), spelled(ids, text[:end], template)
    if first is None or last is None:
        raise Unspelled(text[start:end])
    return range(first - 1, last)


def to_sample(
    dialogue: Dialogue,
    template: Template,
    bridges: Mapping[str, str],
    masked: int = 0,
    spans: Sequence[tuple[int, int]] = (),
) -> Sample:
    """One training sample: the first turn's question, then the joined chain and its end token.

    Trained are the assistant's tokens (bridges and end token included) except the first `masked` ones of the first
    turn and those that hold characters of `spans`, (start, end) in the joined chain. A chain that was cut off by the
    length limit gets no end token: it must not learn to stop there. Raises Unspelled for a span that the tokens do not
    spell.
    """
    prompt = template.opening(dialogue.turns[0].prompt)
    ids, trained = list(prompt), [False] * len(prompt)
    at = 0  # in the joined chain
    for i, turn in enumerate(dialogue.turns):
        bridge = bridges.get(turn.instruction, "\n\n") if i else ""
        for text, tokens in ((bridge, template.encode(bridge)), (turn.text, turn.ids)):
            own = [True] * len(tokens)
            for start, end in spans:
                first, last = max(start - at, 0), min(end - at, len(text))
                for n in holding(tokens, text, first, last, template) if first < last else ():
                    own[n] = False
            ids, trained, at = [*ids, *tokens], [*trained, *own], at + len(text)
    trained[len(prompt) : len(prompt) + masked] = [False] * masked
    if dialogue.finish == "stop":
        ids, trained = [*ids, template.end], [*trained, True]
    return Sample(dialogue.id, tuple(ids), tuple(trained))
