"""Phase 1: the base model runs a dialogue with itself about every training problem, of two or more turns.

Which template each turn uses is data: `turns` lists the candidates of every turn, and they take turns over problems
and samples, so that all four behaviours appear in equal number. Few-shot examples may stand before the question; what
is kept of a dialogue does not have them, so that training puts what they bring about into the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dpr_mini.chat.conversation import Conversation, Generation, examples, fits, run_dialogues, script, usage
from dpr_mini.engines.base import SamplingParams, described
from dpr_mini.recipe import DialogueConfig, RecipeError
from dpr_mini.store import Kind, Settings, Work, read_problems
from dpr_mini.types import Problem, seed_for


@dataclass(frozen=True)
class DialogueSettings(Settings):
    config: DialogueConfig
    templates: Mapping[str, str]  # those that the turns use
    generation: Generation

    def key(self) -> dict[str, Any]:
        unread = {"bridges"} if self.config.examples else {"bridges", "examples"}
        own = self.config.model_dump(mode="json", exclude=unread)
        return own | {"templates": dict(self.templates)} | self.generation.key()


def run(work: Work) -> dict[str, Any]:
    """Run `config.samples` dialogues a problem; `rows.jsonl` gets one Dialogue row each, as it ends.

    Raises RecipeError for an example that no problem is shown, before anything is asked, and EngineError.
    """
    settings: DialogueSettings = work.settings
    config, templates = settings.config, settings.templates
    problems = read_problems(work.inputs["problems"], train=True)
    sampling = SamplingParams(config.max_new_tokens, config.temperature, config.top_p)

    def conversation(number: int, problem: Problem, sample: int) -> Conversation:
        turns = script(config.turns, templates, problem.text, number + sample)
        shown = examples(config.examples, problem, [name for name, _ in turns], templates)
        own = seed_for(settings.generation.seed, "dialogue-1", problem.id, sample)
        return Conversation(problem.id, sample, turns, sampling, own, shown=shown)

    names = [name for turn in config.turns for name in turn]
    for at, example in enumerate(config.examples, 1):
        if not any(fits(example, p, names) for p in problems):
            levels = ", ".join(sorted({p.level for p in problems})) or "none"
            raise RecipeError(
                f"dialogue.examples: no problem is shown example {at} ({example.problem!r}); levels: {levels}"
            )
    conversations = [
        conversation(n, problem, sample) for n, problem in enumerate(problems) for sample in range(config.samples)
    ]
    engine, template = work.machine.open(work.model)
    dialogues = run_dialogues(work.folder / "rows.jsonl", engine, template, conversations, work.name)
    return {**usage(dialogues.values(), len(conversations)), **described(engine)}


DIALOGUE = Kind(version=1, run=run)
