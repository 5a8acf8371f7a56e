"""Phase 1: the base model runs a dialogue with itself about every training problem, of two or more turns.

Which template each turn uses is data: `turns` lists the candidates of every turn, and they take turns over problems
and samples, so that all four behaviours appear in equal number. Few-shot examples may stand before the question; what
is kept of a dialogue does not have them, so that training puts what they bring about into the weights.

With `branches` there are two passes: `firsts.jsonl` gets the first turns, `rows.jsonl` the dialogues that go on from
them, more where the grader says that the first turn is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dpr_mini.chat.conversation import (
    Conversation,
    Generation,
    examples,
    fits,
    out_of_room,
    run_dialogues,
    script,
    usage,
)
from dpr_mini.chat.script import Adaptive, Judge
from dpr_mini.chat.template import Template
from dpr_mini.engines.base import Engine, SamplingParams, described
from dpr_mini.grading.grader import Grader, given_up
from dpr_mini.recipe import DialogueConfig, GraderConfig, RecipeError
from dpr_mini.recipe.turns import adaptive
from dpr_mini.store import Kind, Settings, Work, read_problems
from dpr_mini.types import Dialogue, Problem, seed_for


@dataclass(frozen=True)
class DialogueSettings(Settings):
    config: DialogueConfig
    templates: Mapping[str, str]  # those that the turns use
    generation: Generation
    grader: GraderConfig = field(default_factory=GraderConfig)  # for `when: wrong` and `branches`
    bridges: Mapping[str, str] = field(default_factory=dict)  # of the turns, where what is asked depends on them

    def key(self) -> dict[str, Any]:
        unread = {"bridges"} if self.config.examples else {"bridges", "examples"}
        own = self.config.model_dump(mode="json", exclude=unread)
        if self.config.grades:
            own |= self.grader.key()
        if self.bridges:
            own["bridges"] = dict(self.bridges)
        return own | {"templates": dict(self.templates)} | self.generation.key()


@dataclass(frozen=True)
class Talks:
    """The conversations of the stage: each a function of its problem, its numbers and what came back so far."""

    settings: DialogueSettings
    problems: Sequence[Problem]
    judge: Judge

    def all(self, only_first: bool = False) -> list[Conversation]:
        """`config.samples` a problem, whole ones or their first turns alone."""
        samples = range(self.settings.config.samples)
        return [self._one(n, i, only_first=only_first) for n in range(len(self.problems)) for i in samples]

    def branches(self, first: Dialogue, number: int) -> list[Conversation]:
        """Those that go on from a first turn; only one where nothing is asked after it. Ids: problem#first.way."""
        config = self.settings.config.branches
        ways = config.wrong if self.judge.wrong(self.problems[number], first.turns) else config.right
        if self._one(number, first.sample, first, 0).over:
            ways = 1
        return [self._one(number, first.sample, first, way) for way in range(ways)]

    def _one(
        self, number: int, sample: int, first: Dialogue | None = None, way: int = 0, only_first: bool = False
    ) -> Conversation:
        settings, problem, turn_of = self.settings, self.problems[number], number + sample + way
        config, parts = settings.config, (problem.id, sample)
        turns = script(config.turns, settings.templates, problem.text, turn_of)
        shown = examples(config.examples, problem, [name for name, _ in turns], settings.templates)
        asked = turns[:1] if only_first else turns
        if adaptive(config.turns) and not only_first:
            asked = Adaptive(config.turns, settings.templates, problem, turn_of, self.judge)
        sampling = SamplingParams(config.max_new_tokens, config.temperature, config.top_p)
        if first is None:
            own = seed_for(settings.generation.seed, "dialogue-1", *parts)
            return Conversation(problem.id, sample, asked, sampling, own, shown=shown)
        own = seed_for(settings.generation.seed, "dialogue-1", *parts, way)
        given, numbered = first.turns, sample * config.branches.most + way
        return Conversation(
            problem.id, numbered, asked, sampling, own, shown=shown, given=given, branch=f"{sample}.{way}"
        )


def run(work: Work) -> dict[str, Any]:
    """Run `config.samples` dialogues a problem; `rows.jsonl` gets one Dialogue row each, as it ends.

    Raises RecipeError for an example that no problem is shown, before anything is asked, and EngineError.
    """
    settings: DialogueSettings = work.settings
    config = settings.config
    problems = read_problems(work.inputs["problems"], train=True)
    names = [name for turn in config.longest for name in turn]
    for at, example in enumerate(config.examples, 1):
        if not any(fits(example, p, names) for p in problems):
            levels = ", ".join(sorted({p.level for p in problems})) or "none"
            raise RecipeError(
                f"dialogue.examples: no problem is shown example {at} ({example.problem!r}); levels: {levels}",
                "dialogue",
                "examples",
                at - 1,
            )
    with Grader(**dict(settings.grader)) as grader:
        talks = Talks(settings, problems, Judge(settings.bridges, grader))
        engine, template = work.machine.open(work.model)
        if config.branches:
            told = _branched(work, talks, engine, template)
        else:
            conversations = talks.all()
            dialogues = run_dialogues(work.folder / "rows.jsonl", engine, template, conversations, work.name)
            told = usage(dialogues.values(), len(conversations))
            if adaptive(config.turns):
                told["out_of_room"] = out_of_room(conversations, dialogues)
        if config.grades:
            told["grader"] = given_up(talks.judge.verdicts.values())
    return {**told, **described(engine)}


def _branched(work: Work, talks: Talks, engine: Engine, template: Template) -> dict[str, Any]:
    """Both passes; the usage counts every first turn once, however many dialogues go on from it."""
    alone = talks.all(only_first=True)
    firsts = run_dialogues(work.folder / "firsts.jsonl", engine, template, alone, f"{work.name}, first turns")
    numbers = {p.id: n for n, p in enumerate(talks.problems)}
    conversations = [
        c for one in alone if one.id in firsts for c in talks.branches(firsts[one.id], numbers[one.problem_id])
    ]
    dialogues = run_dialogues(work.folder / "rows.jsonl", engine, template, conversations, work.name)
    once, later = usage(firsts.values(), len(alone)), usage(dialogues.values(), len(conversations), given=1)
    in_rows = sum(len(d.turns[0].ids) for d in dialogues.values())
    wrong = sum(talks.judge.wrong(talks.problems[numbers[d.problem_id]], d.turns) for d in firsts.values())
    return {
        "dialogues": later["dialogues"],
        "failed": once["failed"] + later["failed"],
        "tokens": once["tokens"] + later["tokens"],
        "turns": [*once["turns"], *later["turns"]],
        "first_turns": {
            "right": len(firsts) - wrong,
            "wrong": wrong,
            "tokens": once["tokens"],  # generated; `tokens` counts them once
            "tokens_in_rows": in_rows,  # the same, as often as they stand in a dialogue
        },
        "out_of_room": out_of_room(conversations, dialogues),
    }


DIALOGUE = Kind(version=1, run=run)
