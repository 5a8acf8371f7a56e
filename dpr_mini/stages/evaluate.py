"""Score a model on the held-out problems: k sampled answers and a greedy one each, graded and counted.

Two halves. `answers` asks the model: `rows.jsonl` holds what it said. `cards` grades that: `graded.jsonl` holds what
the grader said of each answer, the score cards are the metrics. So every number can be traced, and graded again with
another grader without asking the model again. Besides the official verdict each answer is scored by its first and by
its last number: the gap between them separates a better format from better arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dpr_mini.chat.conversation import (
    Conversation,
    Generation,
    examples,
    out_of_room,
    run_dialogues,
    script,
    usage,
)
from dpr_mini.chat.script import Adaptive, Judge
from dpr_mini.engines.base import SamplingParams, described
from dpr_mini.grading.grader import given_up
from dpr_mini.recipe import EvaluateConfig, Example, GraderConfig, RecipeError
from dpr_mini.recipe.turns import adaptive
from dpr_mini.scoring.card import score_all
from dpr_mini.scoring.graded import grade
from dpr_mini.store import Kind, Settings, StoreError, Work, read_problems, read_rows, write_rows
from dpr_mini.types import GREEDY, Dialogue, Problem, from_row, seed_for


@dataclass(frozen=True)
class AnswersSettings(Settings):
    config: EvaluateConfig
    templates: Mapping[str, str]  # those that the question uses
    examples: Sequence[Example]  # few-shot examples before the question; empty where `config.examples` is off
    generation: Generation
    bridges: Mapping[str, str] = field(default_factory=dict)  # of the turns, where what is asked depends on them

    def key(self) -> dict[str, Any]:
        shown = [e.model_dump(mode="json") for e in self.examples]
        key = self.config.changes_answers() | {"templates": dict(self.templates)}
        key |= {"bridges": dict(self.bridges)} if self.bridges else {}
        return key | ({"examples": shown} if shown else {}) | self.generation.key()


@dataclass(frozen=True)
class CardsSettings(Settings):
    grader: GraderConfig
    bridges: Mapping[str, str]

    def key(self) -> dict[str, Any]:
        return {"grader": self.grader.model_dump(mode="json"), "bridges": dict(self.bridges)}


def answers(work: Work) -> dict[str, Any]:
    """Ask the model for every answer that `rows.jsonl` lacks; returns the usage. Raises EngineError.

    An answer's seed depends on the recipe's seed, the problem and its number alone: a larger k adds to the same draws.
    Raises RecipeError where examples are asked for and no problem is shown any.
    """
    settings: AnswersSettings = work.settings
    config, templates = settings.config, settings.templates
    problems = read_problems(work.inputs["problems"], train=False)
    sampled_params = SamplingParams(config.max_new_tokens, config.temperature, config.top_p)
    greedy = SamplingParams(config.max_new_tokens, temperature=0.0)
    judge = Judge(settings.bridges)  # without a grader: nothing that is asked depends on the expected answer

    def conversation(number: int, p: Problem, i: int) -> Conversation:
        turns = script(config.asked, templates, p.text, number + i)
        shown = examples(settings.examples, p, [name for name, _ in turns], templates)
        asked = Adaptive(config.asked, templates, p, number + i, judge) if adaptive(config.asked) else turns
        sampling = greedy if i == GREEDY else sampled_params
        return Conversation(
            p.id, i, asked, sampling, seed_for(settings.generation.seed, "eval", p.id, i), config.system, shown
        )

    conversations = [
        conversation(number, p, i)
        for number, p in enumerate(problems)
        for i in [*range(config.k(p.split)), *([GREEDY] if config.greedy else [])]
    ]
    if config.examples and not any(c.shown for c in conversations):
        levels = ", ".join(sorted({p.level for p in problems})) or "none"
        raise RecipeError(f"evaluate.examples: no example is for a problem here; levels: {levels}")
    engine, template = work.machine.open(work.model)
    title = work.name.removesuffix("-answers")
    dialogues = run_dialogues(work.folder / "rows.jsonl", engine, template, conversations, title, whole=True)
    told = usage(dialogues.values(), len(conversations))
    if adaptive(config.asked):
        told["out_of_room"] = out_of_room(conversations, dialogues)
    return {**told, **described(engine)}


def cards(work: Work) -> dict[str, Any]:
    """Grade the answers into graded.jsonl; metrics: a score card per benchmark, answers given up on.

    Raises StoreError for an answer to a problem that is not held out.
    """
    settings: CardsSettings = work.settings
    folder, answered = work.folder, work.inputs["answers"]
    problems = read_problems(work.inputs["problems"], train=False)
    dialogues = [from_row(Dialogue, row) for row in read_rows(answered / "rows.jsonl")]
    if strange := {d.problem_id for d in dialogues} - {p.id for p in problems}:
        raise StoreError(f"{answered / 'rows.jsonl'}: {len(strange)} problems are not held out here: {min(strange)}")
    graded = grade(dialogues, problems, settings.bridges, settings.grader)
    write_rows(folder / "graded.jsonl", (answer.to_row() for answer in graded))
    benchmarks = list(dict.fromkeys(p.split for p in problems))  # in the recipe's order
    scores = {name: card.to_row() for name, card in score_all(graded, benchmarks).items()}
    return {"cards": scores, "grader": given_up(answer.verdict for answer in graded)}


ANSWERS = Kind(version=1, run=answers)  # raised when `rows.jsonl` changes
CARDS = Kind(version=5, run=cards)  # raised when graded rows or cards change
