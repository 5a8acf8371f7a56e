"""Stages alone: run with problems, dialogues and an engine of the test's own, without a pipeline."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dpr_mini import recipe
from dpr_mini.chat.asking import Asking
from dpr_mini.chat.conversation import Generation
from dpr_mini.files.aside import Sorted
from dpr_mini.files.rows import write_rows
from dpr_mini.selection import deciding, judging
from dpr_mini.selection.case import Case
from dpr_mini.stages import dialogue as dialogue_stage
from dpr_mini.stages import difficulty, evaluate
from dpr_mini.stages import filter as filter_stage
from dpr_mini.stages import pack as pack_stage
from dpr_mini.stages import problems as problems_stage
from dpr_mini.store import Kind, Settings, Stage, Work
from dpr_mini.types import Drop, Problem, to_row


@dataclass(frozen=True)
class Plain(Settings):
    """Settings that are their own key."""

    values: Mapping[str, Any]

    def key(self) -> dict[str, Any]:
        return dict(self.values)


def plain_stage(name, version, config, run, inputs=None) -> Stage:
    """A stage that is `run(folder, input folders by role)`."""
    return Stage(name, Kind(version, lambda work: run(work.folder, work.inputs)), Plain(config), inputs or {})


@dataclass
class OneEngine:
    """A machine whose engine is always open and the same."""

    engine: Any = None
    chat_template: Any = None

    def base_model(self) -> Path:
        return Path("base")

    def open(self, model: Path) -> tuple[Any, Any]:
        return self.engine, self.chat_template

    def template(self, model: Path) -> Any:
        return self.chat_template

    def close(self) -> None:
        return None


def generation(seed: int) -> Generation:
    return Generation("scripted", seed, "base")


def problems_folder(beside: Path, problems: Sequence[Problem]) -> Path:
    """A `problems` stage's folder with these, beside a stage's folder."""
    folder = beside.with_name(f"{beside.name}-problems")
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / "rows.jsonl", map(to_row, problems))
    return folder


def dialogue(folder, problems, engine, template, config, templates, seed) -> dict[str, Any]:
    settings = dialogue_stage.DialogueSettings(config, templates, generation(seed))
    inputs = {"problems": problems_folder(folder, problems)}
    return dialogue_stage.run(Work("dialogue-1", folder, settings, inputs, OneEngine(engine, template)))


def probe(folder, problems, engine, template, config, question, seed) -> dict[str, Any]:
    settings = difficulty.ProbeSettings(config, question, generation(seed))
    inputs = {"problems": problems_folder(folder, problems)}
    return difficulty.probe(Work("probe-2", folder, settings, inputs, OneEngine(engine, template)))


def sample(folder, problems, probed, engine, template, config, draw, question, seed) -> dict[str, Any]:
    settings = difficulty.SampleSettings(config, difficulty.ProbeSettings(draw, question, generation(seed)))
    inputs = {"problems": problems_folder(folder, problems), "probed": probed}
    return difficulty.sample(Work("sample-2", folder, settings, inputs, OneEngine(engine, template)))


def answers(folder, problems, engine, template, config, templates, seed, known=()) -> dict[str, Any]:
    settings = Asking(config, templates, known if config.examples else (), generation(seed))
    held_out = [replace(p, split="bench") if p.split == "train" else p for p in problems]
    inputs = {"problems": problems_folder(folder, held_out)}
    return evaluate.answers(Work("eval-0-answers", folder, settings, inputs, OneEngine(engine, template)))


def cards(folder, answered, problems, bridges, grader) -> dict[str, Any]:
    settings = evaluate.CardsSettings(grader, bridges)
    held_out = [replace(p, split="bench") if p.split == "train" else p for p in problems]
    inputs = {"problems": problems_folder(folder, held_out), "answers": answered}
    return evaluate.cards(Work("eval-0", folder, settings, inputs, OneEngine()))


def filtering(folder, dialogues, problems, config, bridges, quotas: Path | None = None) -> dict[str, Any]:
    """`dialogues`: one or two stage folders; `quotas`: a file of budgets."""
    inputs = dict(zip(("dialogues", "probed"), dialogues, strict=False)) | {"problems": problems}
    if quotas:
        sampled = folder.with_name(f"{folder.name}-sampled")
        sampled.mkdir(exist_ok=True)
        shutil.copy(quotas, sampled / "budgets.jsonl")
        (sampled / "rows.jsonl").touch()
        inputs["sampled"] = sampled
    settings = filter_stage.FilterSettings(config, bridges)
    return filter_stage.run(Work(folder.name, folder, settings, inputs, OneEngine()))


def judge(talks, problems, bridges, masking=True) -> list[Case]:
    """Their cases, in the order of the dialogues."""
    return list(judging.judged(talks, problems, bridges, masking))


def in_order(cases) -> list[Case]:
    """The order in which the filter judges them."""
    return sorted(cases, key=lambda c: judging.place_in_order(c.dialogue.id))


def all_aside(monkeypatch, module) -> list[Sorted]:
    """Whatever a module lays aside from now on, also where an error ends it."""
    made: list[Sorted] = []

    class Noted(Sorted):
        def __init__(self, folder: Path | None = None) -> None:
            super().__init__(folder)
            self.folder = folder
            made.append(self)

    monkeypatch.setattr(module, "Sorted", Noted)
    return made


def is_closed(aside: Sorted) -> bool:
    return aside._texts._file.closed


def apply(cases, rules, limit=None, quotas=None) -> tuple[list[Case], list[Drop]]:
    """(kept, dropped), both sorted by id."""
    verdicts = list(deciding.decided(in_order(cases), rules, limit, quotas))
    kept = [c for c, objection in verdicts if objection is None]
    drops = [Drop(c.dialogue.id, *objection) for c, objection in verdicts if objection]
    return sorted(kept, key=lambda c: c.dialogue.id), sorted(drops, key=lambda d: d.dialogue_id)


def pack(folder, kept, config, template, bridges, budget: int | None = None) -> dict[str, Any]:
    """`budget`: trained tokens of one epoch."""
    config = config.model_copy(update={"trained_tokens": budget or config.trained_tokens})
    settings = pack_stage.PackSettings(config, bridges, "base", 1)
    return pack_stage.run(Work(folder.name, folder, settings, {"kept": kept}, OneEngine(None, template)))


def problems(
    folder: Path, config: recipe.ProblemsConfig, base: Path, train: bool = True, scale: float = 1.0
) -> dict[str, Any]:
    config = config if train else config.model_copy(update={"train": ()})
    settings = problems_stage.ProblemsSettings(config, {}, base, scale)
    return problems_stage.run(Work("problems", folder, settings, {}, OneEngine()))
