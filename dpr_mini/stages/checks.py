"""Answers checked by a model of choice, in a turn of its own behind each: does it accept what was answered?

`rows.jsonl` holds answer and reply, `verdicts.jsonl` what was read from the reply. The tokens that a check costs are
those up to its verdict; a reply without a verdict on the answer rejects it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from dpr_mini.chat.asking import Asking, asked
from dpr_mini.chat.conversation import Conversation, run_dialogues, usage
from dpr_mini.engines.base import described
from dpr_mini.files.rows import read_as, write_rows
from dpr_mini.recipe import RedrawConfig, prompts
from dpr_mini.scoring.redraw import counted, needed, read_check
from dpr_mini.store import Kind, Settings, Work
from dpr_mini.types import GREEDY, Dialogue, UserError, bare, seed_for, to_row

NEXT = "Answer:"  # where another attempt begins the check is over


@dataclass(frozen=True)
class ChecksSettings(Settings):
    redraw: RedrawConfig
    asking: Asking  # how the answers were asked; its generation is the checker's
    instruction: str  # the template of the turn that asks for the check
    bridges: Mapping[str, str]

    def key(self) -> dict[str, Any]:
        own = {"redraw": self.redraw.model_dump(mode="json"), "instruction": self.instruction}
        return own | {"bridges": dict(self.bridges)} | self.asking.key()


def run(work: Work) -> dict[str, Any]:
    """Ask for a check of every answer that a redraw may need one of; an answer that was cut off is not asked about.

    Raises UserError where a problem is not of a task, and EngineError.
    """
    settings: ChecksSettings = work.settings
    asking, config = settings.asking, settings.redraw
    problems = {p.id: p for p in asked(work.inputs["problems"], asking.splits)}
    if other := {p.split for p in problems.values() if not p.verifier}:
        raise UserError(f"evaluate.redraw: {min(other)} has no task's verifier; a check's verdict is read by one")
    numbers = {p.id: number for number, p in asking.numbered(problems.values())}
    answers = read_as(Dialogue, work.inputs["answers"] / "rows.jsonl")
    due = [d for d in answers if d.sample != GREEDY and needed(d.sample, config)]

    def conversation(d: Dialogue) -> Conversation:
        problem = problems[d.problem_id]
        seed = seed_for(asking.generation.seed, "checks", bare(d.problem_id), d.sample)
        then = ((config.turn, prompts.fill(settings.instruction, problem.text)),)
        return asking.conversation(numbers[d.problem_id], problem, d.sample, seed, then, (NEXT,), given=d.turns)

    conversations = [conversation(d) for d in due if d.finish == "stop"]
    engine, template = work.machine.open(work.model)
    talks = run_dialogues(work.folder / "rows.jsonl", engine, template, conversations, work.name, whole=True)
    checks = [
        read_check(talks.get(d.id, d), problems[d.problem_id], settings.bridges, template)
        for d in sorted(due, key=lambda d: d.id)
    ]
    write_rows(work.folder / "verdicts.jsonl", map(to_row, checks))
    splits = dict.fromkeys(p.split for p in problems.values())
    counts = {name: counted([c for c in checks if c.benchmark == name]) for name in splits}
    replies = (replace(d, turns=d.turns[1:]) for d in talks.values())
    return {"checks": counts, **usage(replies, len(conversations)), **described(engine)}


CHECKS = Kind(version=1, run=run)
