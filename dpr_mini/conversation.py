"""The dialogue state machine: a model answers, is asked about its own answer, and answers again.

A `Conversation` knows the turns it was given and what came back; `converse` drives many of them through one engine,
each on its own clock. One turn is the special case that probing, sampling and evaluation use.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dpr_mini import progress
from dpr_mini.chat import Template
from dpr_mini.engines.base import Completion, Engine, EngineError, Request, Sampling
from dpr_mini.store import Rows, read_rows
from dpr_mini.types import Dialogue, Turn, from_row, seed_for, to_row


@dataclass
class Conversation:
    """One dialogue under way. `script` is (instruction, what is said) per turn; `seed` is the dialogue's own."""

    problem_id: str
    sample: int
    script: tuple[tuple[str, str], ...]
    sampling: Sampling
    seed: int
    turns: list[Turn] = field(default_factory=list)
    prefix: tuple[int, ...] = ()  # the prompt of the turn under way

    @property
    def id(self) -> str:
        return f"{self.problem_id}#{self.sample}"

    @property
    def over(self) -> bool:
        """All turns said, or the last answer broke off: there is nothing to ask about half an answer."""
        return len(self.turns) == len(self.script) or bool(self.turns and self.turns[-1].finish != "stop")

    def request(self, template: Template) -> Request:
        """The next turn's request: the first prompt, or the token list so far + the next instruction."""
        said = self.script[len(self.turns)][1]
        if self.turns:
            self.prefix = (*self.prefix, *self.turns[-1].ids, *template.follow_up(said))
        else:
            self.prefix = template.opening(said)
        return Request(self.id, self.prefix, self.sampling, seed_for(self.seed, len(self.turns)))

    def take(self, done: Completion) -> None:
        instruction, said = self.script[len(self.turns)]
        self.turns.append(
            Turn(instruction, said, done.ids, done.text, done.finish, done.prompt_tokens, done.cached_tokens)
        )

    def dialogue(self, engine: str) -> Dialogue:
        return Dialogue(self.id, self.problem_id, self.sample, tuple(self.turns), engine, self.seed)


def converse(engine: Engine, template: Template, waiting: Iterable[Conversation]) -> Iterator[Dialogue]:
    """Hold all conversations; dialogues come in the order they end. The engine's window is kept full."""
    queue, talking = iter(waiting), dict[str, Conversation]()
    while True:
        while len(talking) < engine.window and (new := next(queue, None)) is not None:
            engine.submit(new.request(template))
            talking[new.id] = new
        if not talking:
            return
        for completion in engine.poll():
            if completion.finish == "error":
                raise EngineError(f"request {completion.id}: {completion.error}; what was done is kept")
            conversation = talking[completion.id]
            conversation.take(completion)
            if conversation.over:
                yield talking.pop(completion.id).dialogue(engine.name)
            else:
                engine.submit(conversation.request(template))


def hold(
    path: Path, engine: Engine, template: Template, wanted: Iterable[Conversation], title: str
) -> dict[str, Dialogue]:
    """Hold the conversations that `path` does not have yet, append each as it ends, and return all wanted ones.

    The bar shows dialogues, time left, tokens per second and the share of prompt tokens that were cached.
    """
    wanted = list(wanted)
    with (
        Rows(path) as rows,
        progress.bar(total=len(wanted), desc=title, unit="dialogue") as bar,
    ):
        missing = list(rows.todo(wanted, key=lambda c: c.id))
        bar.update(len(wanted) - len(missing))
        bar.initial = bar.n
        generated = prompted = cached = 0
        for dialogue in converse(engine, template, missing):
            rows.add(to_row(dialogue))
            generated += dialogue.tokens
            prompted += sum(t.prompt_tokens for t in dialogue.turns)
            cached += sum(t.cached_tokens for t in dialogue.turns)
            spent = max(bar.format_dict["elapsed"], 1e-9)
            bar.set_postfix_str(f"{generated / spent:.0f} tok/s, {cached / max(prompted, 1):.0%} cached", refresh=False)
            bar.update()
    ids = {c.id for c in wanted}
    return {row["id"]: from_row(Dialogue, row) for row in read_rows(path) if row["id"] in ids}


def usage(dialogues: Iterable[Dialogue]) -> dict[str, Any]:
    """Tokens asked, cached and generated, per turn: what a manifest records of a generation stage."""
    turns: list[dict[str, int]] = []
    count = 0
    for dialogue in dialogues:
        count += 1
        for i, turn in enumerate(dialogue.turns):
            if i == len(turns):
                turns.append({"answers": 0, "prompt_tokens": 0, "cached_tokens": 0, "tokens": 0, "truncated": 0})
            for name, more in (
                ("answers", 1),
                ("prompt_tokens", turn.prompt_tokens),
                ("cached_tokens", turn.cached_tokens),
                ("tokens", len(turn.ids)),
                ("truncated", turn.finish == "length"),
            ):
                turns[i][name] += more
    shares = [round(t["cached_tokens"] / max(t["prompt_tokens"], 1), 4) for t in turns]
    return {
        "dialogues": count,
        "tokens": sum(t["tokens"] for t in turns),
        "turns": [{**t, "cached_share": share} for t, share in zip(turns, shares, strict=True)],
    }
