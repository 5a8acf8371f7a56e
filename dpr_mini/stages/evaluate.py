"""Score a model on the held-out problems: k sampled answers and a greedy one each, graded and counted.

Two halves. `answers` asks the model: `rows.jsonl` holds what it said. `cards` grades that: `graded.jsonl` holds what
the grader said of each answer, the score cards are the metrics. So every number can be traced, and graded again with
another grader without asking the model again. Besides the official verdict each answer is scored by its first and by
its last number: the gap between them separates a better format from better arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dpr_mini.chat.conversation import Conversation, examples, hold, script, usage
from dpr_mini.chat.template import Template
from dpr_mini.engines.base import Engine, Sampling
from dpr_mini.recipe import Evaluate, Example, Grading, RecipeError
from dpr_mini.scoring.card import score_all
from dpr_mini.scoring.graded import grade
from dpr_mini.store import StoreError, read_rows, write_rows
from dpr_mini.types import GREEDY, Dialogue, Problem, from_row, seed_for

ANSWERS = 1  # version of the rows that `answers` writes
VERSION = 4  # version of the graded rows and cards


def answers(
    folder: Path,
    problems: Sequence[Problem],
    engine: Engine,
    template: Template,
    config: Evaluate,
    templates: Mapping[str, str],
    seed: int,
    title: str = "eval",
    known: Sequence[Example] = (),
) -> dict[str, Any]:
    """Ask the model for every answer that `folder`/rows.jsonl lacks; returns what was used. Raises EngineError.

    `known` are worked examples to show before the questions, where `config.examples` says so.
    An answer's seed depends on the recipe's seed, the problem and its number alone: a larger k adds to the same draws.
    Raises RecipeError where examples are asked for and no problem is shown any.
    """
    drawn = Sampling(config.max_new_tokens, config.temperature, config.top_p)
    greedy = Sampling(config.max_new_tokens, temperature=0.0)

    def conversation(number: int, p: Problem, i: int) -> Conversation:
        turns = script(config.turns or ((config.template,),), templates, p.text, number + i)
        shown = examples(known, p, [name for name, _ in turns], templates) if config.examples else ()
        sampling = greedy if i == GREEDY else drawn
        return Conversation(p.id, i, turns, sampling, seed_for(seed, "eval", p.id, i), config.system, shown)

    wanted = [
        conversation(number, p, i)
        for number, p in enumerate(problems)
        for i in [*range(config.k(p.split)), *([GREEDY] if config.greedy else [])]
    ]
    if config.examples and not any(c.shown for c in wanted):
        levels = ", ".join(sorted({p.level for p in problems})) or "none"
        raise RecipeError(f"evaluate.examples: no example is for a problem here; levels: {levels}")
    given = hold(folder / "rows.jsonl", engine, template, wanted, title, whole=True)
    return usage(given.values(), len(wanted))


def cards(
    folder: Path, answered: Path, problems: Sequence[Problem], bridges: Mapping[str, str], limits: Grading
) -> dict[str, Any]:
    """Grade the answers in `answered`/rows.jsonl into `folder`/graded.jsonl; metrics: a score card per benchmark.

    Raises StoreError for an answer to a problem that is not among `problems`.
    """
    given = [from_row(Dialogue, row) for row in read_rows(answered / "rows.jsonl")]
    if strange := {d.problem_id for d in given} - {p.id for p in problems}:
        raise StoreError(f"{answered / 'rows.jsonl'}: {len(strange)} problems are not held out here: {min(strange)}")
    graded = grade(given, problems, bridges, limits)
    write_rows(folder / "graded.jsonl", (answer.to_row() for answer in graded))
    benchmarks = list(dict.fromkeys(p.split for p in problems))  # in the recipe's order
    return {"cards": {name: card.to_row() for name, card in score_all(graded, benchmarks).items()}}
