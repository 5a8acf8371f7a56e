"""The dialogue state machine: a model answers, is asked about its own answer, and answers again.

A `Conversation` knows what it asks and what came back; `converse` drives many of them through one engine, each on its
own clock. One turn is the special case that probing, sampling and evaluation use. What is asked may depend on what came
back (script.py), and a conversation may start behind turns, or inside an answer, that it did not generate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dpr_mini.chat.script import Ask, Script
from dpr_mini.chat.template import Template
from dpr_mini.engines.base import Completion, Engine, EngineError, Request, RequestError, SamplingParams
from dpr_mini.files.rows import Rows, append_row, read_rows, row_as
from dpr_mini.machine import progress
from dpr_mini.recipe import Example, TurnSpec, prompts
from dpr_mini.recipe.turns import chosen, times
from dpr_mini.types import Dialogue, Problem, Turn, identity, seed_for, to_row

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
    """One dialogue under way. `script` is (instruction, prompt) per turn or a function; `seed` is the dialogue's own.

    `system` is the system turn before the first; "" leaves it to the chat template. `shown` are few-shot
    examples, (prompt, answer) a turn, that the model sees before the first turn; they are no part of the dialogue.
    `given` are the dialogue's first turns, which are there already: the model sees them, and `script` goes on behind
    them. `prefill` begins the first answer that is generated; its tokens are the answer's, as `Turn.given` counts them.
    `branch` tells apart conversations of one sample number, in the id.
    """

    problem_id: str
    sample: int
    script: Sequence[tuple[str, str]] | Script
    sampling: SamplingParams
    seed: int
    system: str = ""
    shown: tuple[tuple[str, str], ...] = ()
    given: tuple[Turn, ...] = ()
    prefill: str = ""
    branch: str = ""
    turns: list[Turn] = field(init=False)
    prefix: tuple[int, ...] = field(default=(), init=False)  # the prompt of the turn under way, without `prefill`
    asked: Ask | None = field(default=None, init=False)  # the turn under way

    def __post_init__(self) -> None:
        self.turns = list(self.given)

    @property
    def id(self) -> str:
        return f"{self.problem_id}#{self.branch or self.sample}"

    def next(self, turns: Sequence[Turn]) -> Ask | None:
        """What is asked after these turns. None after the last, and after half an answer: nothing to ask about it."""
        if turns and turns[-1].finish != "stop":
            return None
        if callable(self.script):
            return self.script(turns)
        return Ask(*self.script[len(turns)]) if len(turns) < len(self.script) else None

    @property
    def over(self) -> bool:
        return self.next(self.turns) is None

    def request(self, template: Template) -> Request | None:
        """The next turn's request: the first prompt, or the token list so far + the next instruction. None: it is over.

        Ids: the turn's prompt, [tokens], then those of `prefill` where the turn begins with it.
        """
        self.asked = self.next(self.turns)
        if self.asked is None:
            return None
        texts = [*(t.prompt for t in self.turns), self.asked.prompt]
        added = list(zip(self.turns, texts[1:], strict=True))  # (answer, what is said to it)
        if self.prefix:
            added = added[-1:]
        else:
            self.prefix = template.opening(texts[0], self.system, self.shown)
        for turn, text in added:
            self.prefix = (*self.prefix, *turn.ids, *template.follow_up(text))
        ids = (*self.prefix, *self._prefilled(template))
        return Request(self.id, ids, self.sampling, seed_for(self.seed, len(self.turns)))

    def take(self, done: Completion, template: Template) -> None:
        """The answer to the turn that was asked. The tokens of `prefill` are the turn's, not its prompt's."""
        given = self._prefilled(template)
        ids = (*given, *done.ids)
        text = template.decode(ids, special=True) if given else done.text
        prompted = done.prompt_tokens - len(given)
        cached = min(done.cached_tokens, prompted)
        instruction, prompt, _ = self.asked
        self.turns.append(Turn(instruction, prompt, ids, text, done.finish, prompted, cached, len(given)))

    def _prefilled(self, template: Template) -> tuple[int, ...]:
        """The ids that the turn under way begins with."""
        return template.encode(self.prefill) if self.prefill and len(self.turns) == len(self.given) else ()

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
    turns: Sequence[TurnSpec], templates: Mapping[str, str], problem: str, turn_of: int
) -> tuple[tuple[str, str], ...]:
    """(template name, prompt) for each turn of the longest dialogue, from candidate number `turn_of` on."""
    names = [chosen(turn, turn_of, time) for turn in turns for time in range(times(turn))]
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
    """Run all conversations; dialogues come in the order they end. The engine's window is kept full.

    A turn that the model has no room for is a Failure; a dialogue that may end before it (`Ask.optional`) is kept as it
    is, and `out_of_room` counts it.
    """
    queue, talking = iter(waiting), dict[str, Conversation]()

    def ask(conversation: Conversation) -> Iterator[Dialogue | Failure]:
        talking.pop(conversation.id, None)
        request = conversation.request(template)
        if request is None:
            yield conversation.dialogue(engine.name)
            return
        try:
            engine.submit(request)
        except RequestError as error:
            if conversation.asked.optional and conversation.turns:
                yield conversation.dialogue(engine.name)
            else:
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
                conversation.take(completion, template)
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
    given = {c.id: len(c.given) for c in conversations}
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
            own = dialogue.turns[given[dialogue.id] :]
            generated += sum(len(t.ids) - t.given for t in own)
            prompted += sum(t.prompt_tokens for t in own)
            cached += sum(t.cached_tokens for t in own)
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
    rows_there = enumerate(read_rows(path), 1)
    return {row["id"]: row_as(Dialogue, row, f"{path}:{n}") for n, row in rows_there if row["id"] in given}


def out_of_room(conversations: Iterable[Conversation], dialogues: Mapping[str, Dialogue]) -> int:
    """How many of the dialogues that were kept had another turn to come, for which the model had no room."""
    return sum(c.next(dialogues[c.id].turns) is not None for c in conversations if c.id in dialogues)


def usage(dialogues: Iterable[Dialogue], total: int, given: int = 0) -> dict[str, Any]:
    """Tokens of prompts, cached and generated, per turn: what a manifest records of a stage that ran `total` dialogues.

    `known_tokens` of a later turn's prompt were read or written before in the same dialogue: all that a prefix cache
    can give it, and `cached_of_known` is the share that it gave. The rest of the prompt is the new instruction.
    Of each dialogue the first `given` turns are not counted: somebody else generated them. Of an answer whose beginning
    was given, `tokens` counts what was generated and `given_tokens` the rest.
    """
    turns: list[Counter[str]] = []
    count = 0
    for dialogue in dialogues:
        count += 1
        known_tokens = 0
        for i, turn in enumerate(dialogue.turns):
            if i == len(turns):
                turns.append(Counter())
            if i >= given:
                turns[i].update(
                    answers=1,
                    prompt_tokens=turn.prompt_tokens,
                    known_tokens=known_tokens,
                    cached_tokens=turn.cached_tokens,
                    cached_known_tokens=min(turn.cached_tokens, known_tokens),
                    tokens=len(turn.ids) - turn.given,
                    truncated=turn.finish == "length",
                    **({"given_tokens": turn.given} if turn.given else {}),
                )
            known_tokens = turn.prompt_tokens + len(turn.ids)
    return {
        "dialogues": count,
        "failed": total - count,  # each a line of failed.jsonl
        "tokens": sum(t["tokens"] for t in turns),
        "turns": [_shares(t) for t in turns[given:]],
    }


def _shares(turn: Counter[str]) -> dict[str, Any]:
    counts = {name: int(n) for name, n in turn.items() if name != "cached_known_tokens"}
    counts["cached_share"] = round(turn["cached_tokens"] / max(turn["prompt_tokens"], 1), 4)
    if turn["known_tokens"]:
        counts["cached_of_known"] = round(turn["cached_known_tokens"] / turn["known_tokens"], 4)
    return counts
