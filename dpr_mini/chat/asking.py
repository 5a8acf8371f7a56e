"""How an evaluation asks its problems: the same first turn whether a model answers, goes on or checks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dpr_mini.chat.conversation import Conversation, Generation, examples, script
from dpr_mini.chat.script import Adaptive, Judge
from dpr_mini.engines.base import SamplingParams
from dpr_mini.recipe import EvaluateConfig, Example
from dpr_mini.recipe.turns import adaptive
from dpr_mini.store import Settings, read_problems
from dpr_mini.types import GREEDY, Problem


@dataclass(frozen=True)
class Asking(Settings):
    config: EvaluateConfig
    templates: Mapping[str, str]  # those that the question uses
    examples: Sequence[Example]  # few-shot examples before the question; empty where `config.examples` is off
    generation: Generation
    splits: Sequence[str] | None = None  # the held-out sets that are asked; None: all of them
    bridges: Mapping[str, str] = field(default_factory=dict)  # of the turns, where what is asked depends on them

    def key(self) -> dict[str, Any]:
        shown = [e.model_dump(mode="json") for e in self.examples]
        key = self.config.changes_answers() | {"templates": dict(self.templates)}
        key |= {"bridges": dict(self.bridges)} if self.bridges else {}
        key |= {"splits": list(self.splits)} if self.splits is not None else {}
        if any(len(candidates) > 1 for candidates in self.config.longest):
            key["candidates"] = "by number in the set"  # before that: by number in all sets
        return key | ({"examples": shown} if shown else {}) | self.generation.key()

    @staticmethod
    def numbered(problems: Iterable[Problem]) -> Iterator[tuple[int, Problem]]:
        """Each problem with its number in its own set: what is asked depends on no set beside it."""
        seen = Counter[str]()
        for problem in problems:
            yield seen[problem.split], problem
            seen[problem.split] += 1

    def conversation(
        self,
        number: int,
        problem: Problem,
        sample: int,
        seed: int,
        then: tuple[tuple[str, str], ...] = (),
        stop: tuple[str, ...] = (),
        **more: Any,
    ) -> Conversation:
        """A dialogue about a problem, `number` of its set; `then` are turns behind its own, `stop` ends each.

        `more` is what a Conversation has besides.
        """
        config = self.config
        turns = script(config.asked, self.templates, problem.text, number + sample)
        asked: Any = (*turns, *then)
        if adaptive(config.asked):  # without a grader: nothing that is asked depends on the expected answer
            asked = Adaptive(config.asked, self.templates, problem, number + sample, Judge(self.bridges))
        shown = examples(self.examples, problem, [name for name, _ in turns], self.templates)
        sampling = SamplingParams(config.max_new_tokens, config.temperature, config.top_p, stop)
        if sample == GREEDY:
            sampling = SamplingParams(config.max_new_tokens, temperature=0.0, stop=stop)
        return Conversation(problem.id, sample, asked, sampling, seed, config.system, shown, **more)


def asked(folder: Path, splits: Sequence[str] | None) -> list[Problem]:
    """The held-out problems of a `problems` stage that are in these sets; None: all of them."""
    problems = read_problems(folder, train=False)
    return problems if splits is None else [p for p in problems if p.split in splits]
