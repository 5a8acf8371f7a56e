"""The method on one page: which stages there are, what each reads, and in which order they run.

    problems -> dialogue-1 -> filter-1 -> pack-1 -> train-1
                          -> probe-2 -> sample-2 -> filter-2 -> pack-2 -> train-2
    eval-0 (base), eval-1 (after train-1), eval-2 (after train-2), each behind its eval-N-answers -> report

`phases: [2]` leaves out the second half of the first line and starts from the base model; `[]` only scores it.

Phase 1: the base model talks to itself about each problem, rules keep the good dialogues, SFT. Phase 2: the phase-1
model is probed for its pass rate on each problem and sampled until a quota that grows with difficulty is met; the
same rules, SFT again. `build` only describes this (`plan` prints it); `run` does what is missing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from dpr_mini import store
from dpr_mini.chat.template import Template
from dpr_mini.engines.base import Engine
from dpr_mini.machine.facts import facts
from dpr_mini.models.resolve import EMBEDDED, embedded_identity, local_folder, model_digest, resolve_model
from dpr_mini.planning import plan as planner
from dpr_mini.recipe import Recipe, RecipeError, Source, prompts
from dpr_mini.stages import dialogue, difficulty, evaluate, pack, problems
from dpr_mini.stages import filter as filters
from dpr_mini.store import Stage
from dpr_mini.training import process
from dpr_mini.types import Problem, from_row

Inputs = Mapping[str, Path]


@dataclass
class Owner:
    """One machine, one owner: at most one engine is open, and none while a trainer works."""

    recipe: Recipe
    base: Path  # the recipe's folder: relative names start there
    logs: Path = Path(".")  # where a server's log is kept
    _open: tuple[Path, Engine] | None = field(default=None, init=False)

    def __enter__(self) -> Owner:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self.close()

    def close(self) -> None:
        if self._open:
            self._open[1].__exit__(None, None, None)
            self._open = None

    def model(self) -> Path:
        """Folder of the base model; downloaded or converted on first use."""
        return resolve_model(str(self.local() or self.recipe.model.name), self.recipe.model.revision)

    def identity(self) -> str:
        """What stands for the base model in stage keys: never a path, and no download to find out."""
        name = self.recipe.model.name
        if local := self.local():
            return model_digest(local)
        return embedded_identity() if name == EMBEDDED else f"{name}@{self.recipe.model.revision}"

    def engine(self, model: Path) -> tuple[Engine, Template]:
        """The open engine of `model`; another model's engine is closed first."""
        from dpr_mini.engines import open_engine

        if self._open is None or self._open[0] != model:
            self.close()
            e = self.recipe.engine
            engine = open_engine(e.kind, model, window=e.window, server=e, logs=self.logs)
            self._open = (model, engine.__enter__())
        return self._open[1], Template.load(model)

    def local(self) -> Path | None:
        """The folder of a model that the recipe names by a folder."""
        return local_folder(self.recipe.model.name, self.base)


def build(recipe: Recipe, owner: Owner) -> dict[str, Stage]:
    """All stages in the order they run. Raises RecipeError for a template, rule or stage that does not exist."""
    like = build(recipe.like, owner) if recipe.like else {}  # stages of another run that budgets are taken from
    templates = {**prompts.TEMPLATES, **recipe.dialogue.templates}
    bridges = {**prompts.BRIDGES, **recipe.dialogue.bridges}
    _check(recipe, templates)
    engine, seed, base = recipe.engine.changes_samples(), recipe.seed, owner.identity()
    stages: dict[str, Stage] = {}

    def stage(
        name: str, version: int, config: dict[str, Any], run: Callable[..., Any], *measured: str, **inputs: str
    ) -> None:
        """`measured` are stages of `like`: inputs of which only the metrics are read."""
        if missing := [other for other in measured if other not in like]:
            raise RecipeError(f"{recipe.name}: {name} is measured against {missing[0]}, which the other run lacks")
        known = {role: stages[other] for role, other in inputs.items()}
        known |= {f"like {other}": like[other] for other in measured}
        stages[name] = Stage(name, version, config, run, known)

    def engine_stage(
        name: str, version: int, config: dict[str, Any], model: str, run: Callable[..., Any], **inputs: str
    ) -> None:
        """A stage that generates with `model`: "base", or the training stage that made it."""
        made = {} if model == "base" else {"model": model}
        config |= {"engine": engine, "seed": seed} | ({"base": base} if model == "base" else {})

        def body(folder: Path, at: Inputs) -> dict[str, Any]:
            opened, template = owner.engine(at["model"] / "model" if made else owner.model())
            return {**run(folder, at, opened, template), **_engine(opened)}

        stage(name, version, config, body, **made, **inputs)

    def evaluation(number: int, model: str) -> None:
        """eval-N-answers asks the model, eval-N grades what it said: another grader needs no new answers."""
        title, wanted = f"eval-{number}", recipe.evaluate
        engine_stage(
            f"{title}-answers",
            evaluate.ANSWERS,
            _asking(recipe, templates),
            model,
            lambda folder, at, e, t: evaluate.answers(
                folder, _problems(at, train=False), e, t, wanted, templates, seed, title, recipe.dialogue.examples
            ),
            problems="problems",
        )
        stage(
            title,
            evaluate.VERSION,
            {"grader": _dump(wanted.grader), "bridges": bridges},
            lambda folder, at: evaluate.cards(
                folder, at["answers"], _problems(at, train=False), bridges, wanted.grader
            ),
            answers=f"{title}-answers",
            problems="problems",
        )

    def filtering(phase: int, inputs: dict[str, str]) -> None:
        """filter-N: the dialogues of all `inputs` but the problems, graded and put through the rules."""
        config = recipe.filter if phase == 1 else recipe.filter_2
        measured = [config.limit] if isinstance(config.limit, str) else []

        def run(folder: Path, at: Inputs) -> dict[str, Any]:
            talks = [at[role] for role in inputs]
            limit = _measure(at, measured, "kept") if measured else config.limit
            quotas = at["sampled"] / "budgets.jsonl" if "sampled" in at else None
            return filters.run(
                folder, talks, at["problems"], config.model_copy(update={"limit": limit}), bridges, quotas=quotas
            )

        known = {**_dump(config), "bridges": bridges}
        stage(f"filter-{phase}", filters.VERSION, known, run, *measured, **inputs, problems="problems")

    def training(phase: int, kept: str, start: str) -> None:
        """pack-N and train-N on the rows that `kept` left, starting from "base" or another training stage."""
        config, packing = (recipe.train, recipe.pack) if phase == 1 else (recipe.train_2, recipe.pack_2)
        budget = packing.trained_tokens
        measured = budget if isinstance(budget, tuple) else ()

        def fill(folder: Path, at: Inputs) -> dict[str, Any]:
            total = _measure(at, measured, "trained_tokens") if measured else budget
            once = math.ceil(total / config.epochs) if total else None
            return pack.run(folder, at["kept"], packing, Template.load(owner.model()), bridges, once)

        known = {**_dump(packing), "bridges": bridges, "tokenizer": base}
        known |= {"epochs": config.epochs} if budget else {}  # the budget is that of all epochs together
        stage(f"pack-{phase}", pack.VERSION, known, fill, *measured, kept=kept)

        def train(folder: Path, at: Inputs) -> dict[str, Any]:
            owner.close()
            model = at["model"] / "model" if "model" in at else owner.model()
            gpu = recipe.needs.gpu_gib > 0
            need = planner.training_gib(recipe, phase, model) if gpu else None
            return process.train(folder, at["packs"], model, config, seed, gpu, need)

        made = {} if start == "base" else {"model": start}
        chosen = config.changes_weights() | {"seed": seed}
        chosen |= {"base": base} if start == "base" else {}
        stage(f"train-{phase}", TRAIN_VERSION, chosen, train, packs=f"pack-{phase}", **made)

    # Held-out problems are taken first; nothing that equals one of them is trained on.
    asked = _scaled(recipe)
    data = {"sources": _dump(asked), "files": _file_digests(asked, owner.base)}
    if recipe.scale < 1 and any(s.count is None for s in asked.train):  # the others' counts are scaled already
        data["scale"] = recipe.scale
    stage("problems", problems.VERSION, data,
          lambda folder, at: problems.run(folder, asked, owner.base, scale=recipe.scale))  # fmt: skip
    if recipe.problems.held_out:
        evaluation(0, "base")

    # Phase 1: the base model talks to itself; rules keep the good dialogues; SFT gives pi_sft.
    sampler = "base"
    if 1 in recipe.phases:
        used = {name: templates[name] for turn in recipe.dialogue.turns for name in turn}
        unread = ("bridges",) if recipe.dialogue.examples else ("bridges", "examples")
        engine_stage(
            "dialogue-1",
            dialogue.VERSION,
            _dump(recipe.dialogue, without=unread) | {"templates": used},
            "base",
            lambda folder, at, e, t: dialogue.run(folder, _problems(at), e, t, recipe.dialogue, templates, seed),
            problems="problems",
        )
        filtering(1, {"dialogues": "dialogue-1"})
        training(1, "filter-1", "base")
        sampler = "train-1"
        if recipe.problems.held_out:
            evaluation(1, "train-1")

    # Phase 2: pi_sft's own pass rates decide how many samples each problem gets; SFT gives pi_rej.
    if 2 in recipe.phases:
        first_turn = templates[recipe.dialogue.turns[0][0]]  # as training samples have it; an evaluation may differ
        draws = {**_dump(recipe.probe), "question": first_turn}
        sampling = recipe.sample.scaled(recipe.scale)
        engine_stage(
            "probe-2",
            difficulty.VERSION,
            draws,
            sampler,
            lambda folder, at, e, t: difficulty.probe(folder, _problems(at), e, t, recipe.probe, first_turn, seed),
            problems="problems",
        )
        engine_stage(
            "sample-2",
            difficulty.VERSION,
            {**_dump(sampling), "draw": draws},
            sampler,
            lambda folder, at, e, t: difficulty.sample(
                folder, _problems(at), at["probed"], e, t, sampling, recipe.probe, first_turn, seed
            ),
            problems="problems",
            probed="probe-2",
        )
        filtering(2, {"probed": "probe-2", "sampled": "sample-2"})
        training(2, "filter-2", sampler if recipe.train_2.init == "continue" else "base")
        if recipe.problems.held_out:
            evaluation(2, "train-2")

    def write_report(folder: Path, at: Inputs) -> dict[str, Any]:
        from dpr_mini.stages import report

        return report.run(folder, at, recipe.model_dump(mode="json"))

    everything = {name.replace("-", "_"): name for name in stages}
    stage("report", REPORT_VERSION, {"name": recipe.name}, write_report, **everything)
    return stages


def evaluation_only(recipe: Recipe, owner: Owner) -> dict[str, Stage]:
    """problems -> eval-0-answers -> eval-0: one model's score on the held-out problems alone.

    Asking and grading are two stages, so that another grader or another limit grades the answers that are there.
    """
    asked, wanted = _scaled(recipe), recipe.evaluate
    templates = {**prompts.TEMPLATES, **recipe.dialogue.templates}
    bridges = {**prompts.BRIDGES, **recipe.dialogue.bridges}
    _check(recipe, templates)

    def ask(folder: Path, at: Inputs) -> dict[str, Any]:
        engine, template = owner.engine(owner.model())
        held_out = _problems(at, train=False)
        known = recipe.dialogue.examples
        used = evaluate.answers(folder, held_out, engine, template, wanted, templates, recipe.seed, known=known)
        return {**used, **_engine(engine)}

    def score(folder: Path, at: Inputs) -> dict[str, Any]:
        return evaluate.cards(folder, at["answers"], _problems(at, train=False), bridges, wanted.grader)

    data = {"sources": _dump(asked), "files": _file_digests(asked, owner.base)}
    first = Stage(
        "problems", problems.VERSION, data, lambda folder, at: problems.run(folder, asked, owner.base, train=False)
    )
    config = _asking(recipe, templates) | {"base": owner.identity()}
    config |= {"engine": recipe.engine.changes_samples(), "seed": recipe.seed}
    answers = Stage("eval-0-answers", evaluate.ANSWERS, config, ask, {"problems": first})
    config = {"grader": _dump(wanted.grader), "bridges": bridges}
    graded = Stage("eval-0", evaluate.VERSION, config, score, {"answers": answers, "problems": first})
    return {stage.name: stage for stage in (first, answers, graded)}


TRAIN_VERSION = 2  # kept here so that describing the graph does not import torch or matplotlib
REPORT_VERSION = 2


def run(
    stages: Mapping[str, Stage],
    root: Path,
    until: str | None = None,
    tell: Callable[[str], None] = print,
) -> list[str]:
    """Bring the stages to completion in order, up to `until`; returns the names of those that had to run."""
    names = list(stages)[: list(stages).index(until) + 1] if until else list(stages)
    ran: list[str] = []

    def bring(name: str, stage: Stage, place: str) -> None:
        state = stage.state(root)
        if state == "reuse":
            return
        for other in stage.inputs.values():  # complete by now, but for those of another run
            bring(other.name, other, f"for {name}")
        tell(f"[{place}] {name}: {'resuming' if state == 'resume' else 'running'}")
        store.execute(stage, root, facts)
        ran.append(name)

    for number, name in enumerate(names, 1):
        bring(name, stages[name], f"{number}/{len(names)}")
    return ran


def _measure(at: Inputs, measured: Iterable[str], metric: str) -> int:
    """Sum of one metric over stages of another run."""
    return sum(store.read_json(at[f"like {name}"] / store.MANIFEST)["metrics"][metric] for name in measured)


def _engine(engine: Engine) -> dict[str, Any]:
    return {"engine": engine.name, "engine_facts": {"reproducible": engine.reproducible, **engine.facts()}}


def _problems(at: Inputs, train: bool = True) -> list[Problem]:
    rows = (from_row(Problem, row) for row in store.read_rows(at["problems"] / "rows.jsonl"))
    return [p for p in rows if (p.split == "train") is train]


def _scaled(recipe: Recipe) -> Any:
    def shrink(sources: tuple[Source, ...]) -> tuple[Source, ...]:
        return tuple(s.model_copy(update={"count": recipe.count(s)}) for s in sources)

    held_out = {name: shrink(sources) for name, sources in recipe.problems.held_out.items()}
    return recipe.problems.model_copy(update={"train": shrink(recipe.problems.train), "held_out": held_out})


def _file_digests(asked: Any, base: Path) -> dict[str, str]:
    """Content digests of the local files that problems come from: a changed file is a changed input."""
    from dpr_mini.models.resolve import file_digest

    sources = [*asked.train, *(s for group in asked.held_out.values() for s in group)]
    return {s.file: file_digest(base / s.file) for s in sources if s.file and (base / s.file).is_file()}


def _asking(recipe: Recipe, templates: Mapping[str, str]) -> dict[str, Any]:
    """What an evaluation's answers depend on besides the model: settings, templates and examples that it uses."""
    turns = recipe.evaluate.turns or ((recipe.evaluate.template,),)
    known = {"templates": {name: templates[name] for turn in turns for name in turn}}
    if recipe.evaluate.examples:
        known["examples"] = _dump(recipe.dialogue)["examples"]
    return recipe.evaluate.changes_answers() | known


def _check(recipe: Recipe, templates: Mapping[str, str]) -> None:
    turns = (*recipe.dialogue.turns, *(recipe.evaluate.turns or ()))
    for name in sorted({n for turn in turns for n in turn} | {recipe.evaluate.template}):
        if name not in templates:
            raise RecipeError(f"{recipe.name}: no template {name!r}; there are: {', '.join(sorted(templates))}")
    if any(not turn for turn in turns):
        raise RecipeError(f"{recipe.name}: turns: every turn needs at least one template")
    if recipe.evaluate.examples and not recipe.dialogue.examples:
        raise RecipeError(f"{recipe.name}: evaluate.examples: there are none; give dialogue.examples")
    for number, example in enumerate(recipe.dialogue.examples, 1):
        if example.template not in (None, *(name for turn in recipe.dialogue.turns for name in turn)):
            raise RecipeError(f"{recipe.name}: dialogue.examples: no turn has example {number}'s {example.template!r}")
    if not recipe.phases and not recipe.problems.held_out:
        raise RecipeError(f"{recipe.name}: phases: [] only scores the base model, and problems.held_out has none")
    for section in (recipe.filter, recipe.filter_2):
        filters.build_rules(section.rules)


def _dump(section: Any, without: tuple[str, ...] = ()) -> dict[str, Any]:
    return section.model_dump(mode="json", exclude=set(without))
