"""The causal test: a response is made to begin with another one's wrong, or right, first attempt. Where does it end?

The attempts are the model's own: each is the beginning of a sampled answer to the same problem, chosen by hash, up to
where its first attempt ends. `plants.jsonl` says which, `rows.jsonl` holds how the model went on, `graded.jsonl` what
that came to. Only problems of tasks have attempts that can be cut out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dpr_mini import tasks
from dpr_mini.chat.asking import Asking, asked
from dpr_mini.chat.conversation import run_dialogues, usage
from dpr_mini.engines.base import described
from dpr_mini.files.rows import read_as, write_rows
from dpr_mini.recipe import GraderConfig, PlantedConfig
from dpr_mini.scoring.anatomy import part
from dpr_mini.scoring.graded import grade
from dpr_mini.store import Kind, Settings, Work
from dpr_mini.types import GREEDY, Dialogue, Executed, Graded, Problem, UserError, bare, digest, seed_for, to_row

Prefix = Literal["right", "wrong"]


@dataclass(frozen=True)
class PlantedSettings(Settings):
    planted: PlantedConfig
    asking: Asking
    bridges: Mapping[str, str]

    def key(self) -> dict[str, Any]:
        return {"planted": self.planted.model_dump(mode="json"), "bridges": dict(self.bridges)} | self.asking.key()


@dataclass(frozen=True, slots=True)
class Plant:
    """What a response begins with: the text of `source`, a sampled answer, up to the end of its first attempt."""

    id: str
    problem_id: str
    prefix: Prefix
    source: str
    text: str


def plants(problems: Sequence[Problem], answers: Sequence[Dialogue], config: PlantedConfig) -> list[Plant]:
    """So many wrong and right ones of each problem as its sampled answers have, each of another answer."""
    by: dict[tuple[str, Prefix], list[tuple[str, str]]] = {}
    golds = {p.id: p.gold for p in problems}
    for d in sorted((d for d in answers if d.sample != GREEDY), key=lambda d: digest("planted", bare(d.id))):
        gold, text = golds[d.problem_id], d.turns[0].text
        if not isinstance(gold, Executed):
            continue
        task = tasks.named(gold.verifier)
        trace = tasks.read(task, text)
        if trace.attempts and trace.attempts[0].answer:
            right = task.right(gold.statement, trace.attempts[0].answer)
            found = by.setdefault((d.problem_id, "right" if right else "wrong"), [])
            found.append((d.id, text[: trace.attempts[0].end]))
    wanted: dict[Prefix, int] = {"wrong": config.wrong, "right": config.right}
    return [
        Plant(f"{p.id}#{first + i}", p.id, prefix, source, text)
        for p in problems
        for prefix, first in (("wrong", 0), ("right", config.wrong))
        for i, (source, text) in enumerate(by.get((p.id, prefix), [])[: wanted[prefix]])
    ]


def run(work: Work) -> dict[str, Any]:
    """Let the model go on from each planted attempt. Metrics: how often it ends right, by prefix, with counts.

    Raises UserError where no problem is of a task, and EngineError.
    """
    settings: PlantedSettings = work.settings
    asking, config, bridges = settings.asking, settings.planted, settings.bridges
    problems = [p for p in asked(work.inputs["problems"], asking.splits) if p.verifier]
    if not problems:
        raise UserError("evaluate.planted: no problem here is of a task; only a task's attempts can be cut out")
    numbers, known = {p.id: number for number, p in asking.numbered(problems)}, {p.id: p for p in problems}
    rows = read_as(Dialogue, work.inputs["answers"] / "rows.jsonl")
    planted = plants(problems, [d for d in rows if d.problem_id in known], config)
    write_rows(work.folder / "plants.jsonl", map(to_row, planted))
    conversations = [
        asking.conversation(
            numbers[plant.problem_id],
            known[plant.problem_id],
            int(plant.id.rpartition("#")[2]),
            seed_for(asking.generation.seed, "planted", bare(plant.problem_id), plant.prefix, bare(plant.source)),
            prefill=plant.text,
        )
        for plant in planted
    ]
    engine, template = work.machine.open(work.model)
    talks = run_dialogues(work.folder / "rows.jsonl", engine, template, conversations, work.name, whole=True)
    graded = grade(list(talks.values()), problems, bridges, GraderConfig())
    write_rows(work.folder / "graded.jsonl", (answer.to_row() for answer in graded))
    by_id = {answer.id: answer for answer in graded}
    found: dict[str, Any] = {}
    for split in dict.fromkeys(p.split for p in problems):
        here = {p.id for p in problems if p.split == split}
        of = {name: [p for p in planted if p.prefix == name and p.problem_id in here] for name in ("wrong", "right")}
        found[split] = {name: _ends(mine, here, by_id) for name, mine in of.items() if getattr(config, name)}
    return {"planted": found, **usage(talks.values(), len(conversations)), **described(engine)}


def _ends(planted: Sequence[Plant], problems: Collection[str], graded: Mapping[str, Graded]) -> dict[str, Any]:
    """Of responses with one prefix: those that end right, that make another attempt; problems with no such prefix."""
    answers = [graded[p.id] for p in planted]
    return {
        "ends_right": part(a.right for a in answers).to_row(),
        "goes_on": part(bool(a.trace) and len(a.trace.attempts) > 1 for a in answers).to_row(),
        "problems": len(problems),
        "without": len(set(problems) - {p.problem_id for p in planted}),
    }


PLANTED = Kind(version=1, run=run)
