"""Score a model on the held-out problems: k sampled answers and a greedy one each, graded and counted.

Two halves. `answers` asks the model: `rows.jsonl` holds what it said. `cards` grades that: `graded.jsonl` holds what
the grader said of each answer, the score cards are the metrics. So every number can be traced, and graded again with
another grader without asking the model again. Besides the official verdict each answer is scored by its first and by
its last number: the gap between them separates a better format from better arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dpr_mini.chat.asking import Asking, asked
from dpr_mini.chat.conversation import out_of_room, run_dialogues, usage
from dpr_mini.engines.base import described
from dpr_mini.files.rows import StoreError, read_as, write_rows
from dpr_mini.grading.grader import given_up
from dpr_mini.recipe import GraderConfig, RecipeError
from dpr_mini.recipe.turns import adaptive
from dpr_mini.scoring.anatomy import anatomies
from dpr_mini.scoring.card import score_all
from dpr_mini.scoring.graded import grade
from dpr_mini.store import Kind, Settings, Work
from dpr_mini.types import GREEDY, Dialogue, bare, seed_for


@dataclass(frozen=True)
class CardsSettings(Settings):
    grader: GraderConfig
    bridges: Mapping[str, str]
    splits: Sequence[str] | None = None  # the held-out sets that were asked; None: all of them

    def key(self) -> dict[str, Any]:
        splits = {"splits": list(self.splits)} if self.splits is not None else {}
        return {"grader": self.grader.model_dump(mode="json"), "bridges": dict(self.bridges)} | splits


def answers(work: Work) -> dict[str, Any]:
    """Ask the model for every answer that `rows.jsonl` lacks; returns the usage. Raises EngineError.

    An answer's seed depends on the recipe's seed, the problem and its number alone: a larger k adds to the same draws,
    and benchmarks that have the problem are given the same answers.
    Raises RecipeError where examples are asked for and no problem is shown any.
    """
    settings: Asking = work.settings
    config, seed = settings.config, settings.generation.seed
    problems = asked(work.inputs["problems"], settings.splits)
    conversations = [
        settings.conversation(number, p, i, seed_for(seed, "eval", bare(p.id), i))
        for number, p in settings.numbered(problems)
        for i in [*range(config.k(p.split)), *([GREEDY] if config.greedy else [])]
    ]
    if config.examples and not any(c.shown for c in conversations):
        levels = ", ".join(sorted({p.level for p in problems})) or "none"
        told = f"evaluate.examples: no example is for a problem here; levels: {levels}"
        raise RecipeError(told, "evaluate", "examples")
    engine, template = work.machine.open(work.model)
    title = work.name.removesuffix("-answers")
    dialogues = run_dialogues(work.folder / "rows.jsonl", engine, template, conversations, title, whole=True)
    told = usage(dialogues.values(), len(conversations))
    if adaptive(config.asked):
        told["out_of_room"] = out_of_room(conversations, dialogues)
    return {**told, **described(engine)}


def cards(work: Work) -> dict[str, Any]:
    """Grade the answers into graded.jsonl; metrics: a score card per benchmark, answers given up on.

    Where there are problems of tasks, also the anatomy of the responses to them (`anatomy.py`).

    Raises StoreError for an answer to a problem that is not held out.
    """
    settings: CardsSettings = work.settings
    folder, answered = work.folder, work.inputs["answers"]
    problems = asked(work.inputs["problems"], settings.splits)
    dialogues = list(read_as(Dialogue, answered / "rows.jsonl"))
    if strange := {d.problem_id for d in dialogues} - {p.id for p in problems}:
        raise StoreError(f"{answered / 'rows.jsonl'}: {len(strange)} problems are not held out here: {min(strange)}")
    graded = grade(dialogues, problems, settings.bridges, settings.grader)
    write_rows(folder / "graded.jsonl", (answer.to_row() for answer in graded))
    benchmarks = list(dict.fromkeys(p.split for p in problems))  # in the recipe's order
    scores = {name: card.to_row() for name, card in score_all(graded, benchmarks).items()}
    parts = {name: of.to_row() for name, of in anatomies(graded, benchmarks).items()}
    given = given_up(answer.verdict for answer in graded)
    return {"cards": scores, "grader": given} | ({"anatomy": parts} if parts else {})


ANSWERS = Kind(version=1, run=answers)  # raised when `rows.jsonl` changes
CARDS = Kind(version=6, run=cards)  # raised when graded rows or cards change
