"""The dialogue state machine: a model answers, is asked about its own answer, and answers again.

A `Conversation` knows the turns it was given and what came back; `converse` drives many of them through one engine,
each on its own clock. One turn is the special case that probing, sampling and evaluation use.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dpr_mini.chat.template import Template
from dpr_mini.engines.base import Completion, Engine, EngineError, Request, RequestError, SamplingParams
from dpr_mini.machine import progress
from dpr_mini.recipe import Example, prompts
from dpr_mini.store import Rows, append_row, read_rows
from dpr_mini.types import Dialogue, Problem, Turn, from_row, identity, seed_for, to_row

FAILURES = "failed.jsonl"  # every answer that an engine failed to give, in a stage's folder
FAILED = 0.02  # share of dialogues that may fail before a stage stops (ours)
REFUSED = 0.5  # share that may outgrow the model's context: their number says something about the recipe (ours)


@dataclass(frozen=True)
class Generation:
    """What every stage that generates depends on, besides its own settings and the model that is its input."""

    engine: Any  # kind, and what of the server's arguments changes a sample
    seed: int
    base: str | None  # identity of the base model; None where another stage's model generates

    def key(self) -> dict[str, Any]:
        return {"engine": self.engine, "seed": self.seed} | ({"base": self.base} if self.base else {})


@dataclass
class Conversation:
    """One dialogue under way. `script` is (instruction, prompt) per turn; `seed` is the dialogue's own.

    `system` is the system turn before the first; "" leaves it to the chat template. `shown` are few-shot
    examples, (prompt, answer) a turn, that the model sees before the first turn; they are no part of the dialogue.
    `given` are turns that were said before, the first of the script; `prefill` is how the first turn to be said begins.
    """

    problem_id: str
    sample: int
    script: tuple[tuple[str, str], ...]
    sampling: SamplingParams
    seed: int
    system: str = ""
    shown: tuple[tuple[str, str], ...] = ()
    turns: list[Turn] = field(default_factory=list)
    prefix: tuple[int, ...] = ()  # the prompt of the turn under way
    given: tuple[Turn, ...] = ()
    prefill: str = ""
    begun: tuple[int, ...] = ()  # `prefill` while its turn is under way

    def __post_init__(self) -> None:
        self.turns = [*self.given]

    @property
    def id(self) -> str:
        return f"{self.problem_id}#{self.sample}"

    @property
    def over(self) -> bool:
        """True after the last turn, or when an answer was cut off: there is nothing to ask about half an answer."""
        return len(self.turns) == len(self.script) or bool(self.turns and self.turns[-1].finish != "stop")

    def request(self, template: Template) -> Request:
        """The next turn's request: the first prompt, or the token list so far + the next instruction."""
        at = len(self.turns)
        if not self.prefix:
            self.prefix = template.opening(self.script[0][1], self.system, self.shown)
            for turn, (_, prompt) in zip(self.given, self.script[1:], strict=False):
                self.prefix = (*self.prefix, *turn.ids, *template.follow_up(prompt))
        elif self.turns:
            self.prefix = (*self.prefix, *self.turns[-1].ids, *template.follow_up(self.script[at][1]))
        self.begun = template.encode(self.prefill) if self.prefill and at == len(self.given) else ()
        return Request(self.id, (*self.prefix, *self.begun), self.sampling, seed_for(self.seed, at))

    def take(self, done: Completion) -> None:
        instruction, prompt = self.script[len(self.turns)]
        ids, text = (*self.begun, *done.ids), (self.prefill if self.begun else "") + done.text
        self.turns.append(Turn(instruction, prompt, ids, text, done.finish, done.prompt_tokens, done.cached_tokens))

    def dialogue(self, engine: str) -> Dialogue:
        return Dialogue(self.id, self.problem_id, self.sample, tuple(self.turns), engine, self.seed)


@dataclass(frozen=True, slots=True)
class Failure:
    """A turn that was not answered, for good. Its dialogue is not kept; the same command asks again."""

    id: str  # the dialogue's
    turn: int
    error: str
    refused: bool = False  # by us, before it was sent: the model has no room for it


def script(
    turns: Sequence[Sequence[str]], templates: Mapping[str, str], problem: str, turn_of: int
) -> tuple[tuple[str, str], ...]:
    """(template name, prompt) for each turn, from candidate number `turn_of` modulo the number of candidates."""
    names = [candidates[turn_of % len(candidates)] for candidates in turns]
    return tuple((name, prompts.fill(templates[name], problem)) for name in names)


def fits(example: Example, problem: Problem, names: Sequence[str]) -> bool:
    """True if the example applies to this problem and these templates; an example never applies to its own problem."""
    itself = identity(example.problem) == identity(problem.text)
    return example.level in (None, problem.level) and example.template in (None, *names) and not itself


def examples(
    few_shot: Sequence[Example], problem: Problem, names: Sequence[str], templates: Mapping[str, str]
) -> tuple[tuple[str, str], ...]:
    """(prompt, answer), turn by turn, of the examples that a dialogue of these templates is shown.

    An example ends with the dialogue's last template or its own last answer, whichever comes first.
    """
    return tuple(
        (prompts.fill(templates[name], example.problem), answer)
        for example in few_shot
        if fits(example, problem, names)
        for name, answer in zip(names, example.answers, strict=False)
    )


def converse(engine: Engine, template: Template, waiting: Iterable[Conversation]) -> Iterator[Dialogue | Failure]:
    """Run all conversations; dialogues come in the order they end. The engine's window is kept full."""
    queue, talking = iter(waiting), dict[str, Conversation]()

    def ask(conversation: Conversation) -> Iterator[Failure]:
        try:
            engine.submit(conversation.request(template))
        except RequestError as error:
            talking.pop(conversation.id, None)
            yield Failure(conversation.id, len(conversation.turns), str(error), refused=True)
        else:
            talking[conversation.id] = conversation

    try:
        while True:
            while len(talking) < engine.window and (new := next(queue, None)) is not None:
                yield from ask(new)
            if not talking:
                return
            for completion in engine.poll():
                conversation = talking[completion.id]
                if completion.finish == "error":
                    del talking[completion.id]
                    yield Failure(completion.id, len(conversation.turns), completion.error)
                    continue
                conversation.take(completion)
                if conversation.over:
                    yield talking.pop(completion.id).dialogue(engine.name)
                else:
                    yield from ask(conversation)
    finally:
        if talking:  # interrupted: nobody will ask for the rest
            engine.cancel()


def run_dialogues(
    path: Path,
    engine: Engine,
    template: Template,
    conversations: Iterable[Conversation],
    title: str,
    whole: bool = False,
    earlier: tuple[int, int] = (0, 0),
) -> dict[str, Dialogue]:
    """Run the conversations that `path` does not have yet, append each as it ends, and return all of `conversations`.

    The bar shows dialogues, time left, tokens per second and the share of prompt tokens that were cached. A dialogue
    that the engine fails is a line of `failed.jsonl` beside `path`, and not in what is returned. Raises EngineError
    where more than the share FAILED of all fail (of those without room for a turn, REFUSED), or any one with `whole`;
    the same command asks those again. A stage that asks in rounds passes (total, failed) of its `earlier` rounds: the
    share is over all rounds, so that one failure in a small last round does not stop it.
    """
    conversations = list(conversations)
    total, failed = len(conversations) + earlier[0], earlier[1]
    failures: list[Failure] = []
    with (
        Rows(path) as rows,
        progress.bar(total=len(conversations), desc=title, unit="dialogue") as bar,
    ):
        missing = list(rows.todo(conversations, key=lambda c: c.id))
        bar.update(len(conversations) - len(missing))
        bar.initial = bar.n
        generated = prompted = cached = 0
        for dialogue in converse(engine, template, missing):
            bar.update()
            if isinstance(dialogue, Failure):
                failures.append(dialogue)
                append_row(path.with_name(FAILURES), to_row(dialogue))
                continue
            rows.add(to_row(dialogue))
            generated += dialogue.tokens
            prompted += sum(t.prompt_tokens for t in dialogue.turns)
            cached += sum(t.cached_tokens for t in dialogue.turns)
            spent = max(bar.format_dict["elapsed"], 1e-9)
            bar.set_postfix_str(f"{generated / spent:.0f} tok/s, {cached / max(prompted, 1):.0%} cached", refresh=False)
    refused = sum(f.refused for f in failures)
    failed += len(failures) - refused
    if failures and (whole or failed > FAILED * total or refused > REFUSED * total):
        raise EngineError(
            f"{title}: {len(failures)} of {len(conversations)} failed ({path.with_name(FAILURES)}), "
            f"e.g. {failures[0].id}: {failures[0].error}; "
            "what was done is kept, the same command asks for the rest again"
        )
    ids = {c.id for c in conversations}
    return {row["id"]: from_row(Dialogue, row) for row in read_rows(path) if row["id"] in ids}


def usage(dialogues: Iterable[Dialogue], total: int) -> dict[str, Any]:
    """Tokens of prompts, cached and generated, per turn: what a manifest records of a stage that ran `total` dialogues.

    `known_tokens` of a later turn's prompt were read or written before in the same dialogue: all that a prefix cache
    can give it, and `cached_of_known` is the share that it gave. The rest of the prompt is the new instruction.
    """
    turns: list[Counter[str]] = []
    count = 0
    for dialogue in dialogues:
        count += 1
        known_tokens = 0
        for i, turn in enumerate(dialogue.turns):
            if i == len(turns):
                turns.append(Counter())
            turns[i].update(
                answers=1,
                prompt_tokens=turn.prompt_tokens,
                known_tokens=known_tokens,
                cached_tokens=turn.cached_tokens,
                cached_known_tokens=min(turn.cached_tokens, known_tokens),
                tokens=len(turn.ids),
                truncated=turn.finish == "length",
            )
            known_tokens = turn.prompt_tokens + len(turn.ids)
    return {
        "dialogues": count,
        "failed": total - count,  # each a line of failed.jsonl
        "tokens": sum(t["tokens"] for t in turns),
        "turns": [_shares(t) for t in turns],
    }


def _shares(turn: Counter[str]) -> dict[str, Any]:
    counts = {name: int(n) for name, n in turn.items() if name != "cached_known_tokens"}
    counts["cached_share"] = round(turn["cached_tokens"] / max(turn["prompt_tokens"], 1), 4)
    if turn["known_tokens"]:
        counts["cached_of_known"] = round(turn["cached_known_tokens"] / turn["known_tokens"], 4)
    return counts
