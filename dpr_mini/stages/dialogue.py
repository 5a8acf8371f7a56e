"""Phase 1: the base model talks to itself about every training problem, over two or more turns.

Which template each turn uses is data: `turns` lists the candidates of every turn, and they take turns over problems
and samples, so that all four behaviours appear in equal number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dpr_mini.chat import Template
from dpr_mini.conversation import Conversation, hold, script, usage
from dpr_mini.engines.base import Engine, Sampling
from dpr_mini.recipe import Dialogue
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
    """Hold `config.samples` dialogues a problem; `rows.jsonl` gets one Dialogue row each, as it ends."""
    sampling = Sampling(config.max_new_tokens, config.temperature, config.top_p)
    wanted = [
        Conversation(
            problem.id,
            sample,
            script(config.turns, templates, problem.text, number + sample),
            sampling,
            seed_for(seed, "dialogue-1", problem.id, sample),
        )
        for number, problem in enumerate(problems)
        for sample in range(config.samples)
    ]
    held = hold(folder / "rows.jsonl", engine, template, wanted, "dialogue-1")
    return usage(held.values(), len(wanted))
