"""Phase 1: the base model talks to itself about every training problem, over two or more turns.

Which template each turn uses is data: `turns` lists the candidates of every turn, and they take turns over problems
and samples, so that all four behaviours appear in equal number. Worked examples may stand before the question; what
is kept of a dialogue does not have them, so that training puts what they bring about into the weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dpr_mini.chat.conversation import Conversation, examples, fits, hold, script, usage
from dpr_mini.chat.template import Template
from dpr_mini.engines.base import Engine, Sampling
from dpr_mini.recipe import Dialogue, RecipeError
from dpr_mini.types import Problem, seed_for

VERSION = 1


def run(
    folder: Path,
    problems: Sequence[Problem],
    engine: Engine,
    template: Template,
    config: Dialogue,
    templates: Mapping[str, str],
    seed: int,
) -> dict[str, Any]:
    """Hold `config.samples` dialogues a problem; `rows.jsonl` gets one Dialogue row each, as it ends.

    Raises RecipeError for an example that no problem is shown, before anything is asked.
    """
    sampling = Sampling(config.max_new_tokens, config.temperature, config.top_p)

    def conversation(number: int, problem: Problem, sample: int) -> Conversation:
        turns = script(config.turns, templates, problem.text, number + sample)
        shown = examples(config.examples, problem, [name for name, _ in turns], templates)
        own = seed_for(seed, "dialogue-1", problem.id, sample)
        return Conversation(problem.id, sample, turns, sampling, own, shown=shown)

    asked = [name for turn in config.turns for name in turn]
    for at, example in enumerate(config.examples, 1):
        if not any(fits(example, p, asked) for p in problems):
            levels = ", ".join(sorted({p.level for p in problems})) or "none"
            raise RecipeError(
                f"dialogue.examples: no problem is shown example {at} ({example.problem!r}); levels: {levels}"
            )
    wanted = [
        conversation(n, problem, sample) for n, problem in enumerate(problems) for sample in range(config.samples)
    ]
    held = hold(folder / "rows.jsonl", engine, template, wanted, "dialogue-1")
    return usage(held.values(), len(wanted))
