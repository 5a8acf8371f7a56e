"""The method on one page: which stages there are, what each reads, and in which order they run.

    problems -> dialogue-1 -> filter-1 -> pack-1 -> train-1
                          -> probe-2 -> sample-2 -> filter-2 -> pack-2 -> train-2
    eval-0 (base), eval-1 (after train-1), eval-2 (after train-2) -> report

Phase 1: the base model talks to itself about each problem, rules keep the good dialogues, SFT. Phase 2: the phase-1
model is probed for its pass rate on each problem and sampled until a quota that grows with difficulty is met; the
same rules, SFT again. `build` only describes this (`plan` prints it); `run` does what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from dpr_mini import prompts, store
from dpr_mini.chat import Template
from dpr_mini.engines.base import Engine
from dpr_mini.facts import facts
from dpr_mini.model import EMBEDDED, embedded_identity, model_digest, resolve_model
from dpr_mini.recipe import Recipe, RecipeError, Source
from dpr_mini.stages import dialogue, difficulty, evaluate, filters, pack, problems
from dpr_mini.store import Stage
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
        name = self.recipe.model.name
        if name == EMBEDDED:
            return None
        return next((p for p in (self.base / name, Path(name)) if (p / "config.json").is_file()), None)


def build(recipe: Recipe, owner: Owner) -> dict[str, Stage]:
    """All stages in the order they run. Raises RecipeError for a template or rule that does not exist."""
    templates = {**prompts.TEMPLATES, **recipe.dialogue.templates}
    bridges = {**prompts.BRIDGES, **recipe.dialogue.bridges}
    _check(recipe, templates)
    question = templates[recipe.evaluate.template]
    engine, seed, base = recipe.engine.changes_samples(), recipe.seed, owner.identity()
    stages: dict[str, Stage] = {}

    def stage(name: str, version: int, config: dict[str, Any], run: Callable[..., Any], **inputs: str) -> None:
        known = {role: stages[other] for role, other in inputs.items()}
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
        title = f"eval-{number}"
        engine_stage(
            title,
            evaluate.VERSION,
            {**_dump(recipe.evaluate), "question": question, "bridges": bridges},
            model,
            lambda folder, at, e, t: evaluate.run(
                folder, _problems(at, train=False), e, t, recipe.evaluate, question, bridges, seed, title
            ),
            problems="problems",
        )

    def training(phase: int, kept: str, start: str) -> None:
        """pack-N and train-N on the rows that `kept` left, starting from "base" or another training stage."""
        config = recipe.train if phase == 1 else recipe.train_2
        stage(
            f"pack-{phase}",
            pack.VERSION,
            {**_dump(recipe.pack), "bridges": bridges, "tokenizer": base},
            lambda folder, at: pack.run(folder, at["kept"], recipe.pack, Template.load(owner.model()), bridges),
            kept=kept,
        )

        def train(folder: Path, at: Inputs) -> dict[str, Any]:
            from dpr_mini.stages import train

            owner.close()
            model = at["model"] / "model" if "model" in at else owner.model()
            return train.run(folder, at["packs"], model, config, seed, config.save_dtype)

        made = {} if start == "base" else {"model": start}
        chosen = config.changes_weights() | {"seed": seed}
        chosen |= {"base": base} if start == "base" else {}
        stage(f"train-{phase}", TRAIN_VERSION, chosen, train, packs=f"pack-{phase}", **made)

    # Held-out problems are taken first; nothing that equals one of them is trained on.
    asked = _scaled(recipe)
    data = {"sources": _dump(asked), "files": _file_digests(asked, owner.base)}
    stage("problems", problems.VERSION, data, lambda folder, at: problems.run(folder, asked, owner.base))
    if recipe.problems.held_out:
        evaluation(0, "base")

    # Phase 1: the base model talks to itself; rules keep the good dialogues; SFT gives pi_sft.
    used = {name: templates[name] for turn in recipe.dialogue.turns for name in turn}
    engine_stage(
        "dialogue-1",
        dialogue.VERSION,
        _dump(recipe.dialogue, without=("bridges",)) | {"templates": used},
        "base",
        lambda folder, at, e, t: dialogue.run(folder, _problems(at), e, t, recipe.dialogue, templates, seed),
        problems="problems",
    )
    stage(
        "filter-1",
        filters.VERSION,
        {**_dump(recipe.filter), "bridges": bridges},
        lambda folder, at: filters.run(folder, [at["dialogues"]], at["problems"], recipe.filter, bridges),
        dialogues="dialogue-1",
        problems="problems",
    )
    training(1, "filter-1", "base")
    if recipe.problems.held_out:
        evaluation(1, "train-1")

    # Phase 2: pi_sft's own pass rates decide how many samples each problem gets; SFT gives pi_rej.
    if recipe.phases == 2:
        draws = {**_dump(recipe.probe), "question": question}
        engine_stage(
            "probe-2",
            difficulty.VERSION,
            draws,
            "train-1",
            lambda folder, at, e, t: difficulty.probe(folder, _problems(at), e, t, recipe.probe, question, seed),
            problems="problems",
        )
        engine_stage(
            "sample-2",
            difficulty.VERSION,
            {**_dump(recipe.sample), "draw": draws},
            "train-1",
            lambda folder, at, e, t: difficulty.sample(
                folder, _problems(at), at["probed"], e, t, recipe.sample, recipe.probe, question, seed
            ),
            problems="problems",
            probed="probe-2",
        )
        stage(
            "filter-2",
            filters.VERSION,
            {**_dump(recipe.filter_2), "bridges": bridges},
            lambda folder, at: filters.run(
                folder,
                [at["probed"], at["sampled"]],
                at["problems"],
                recipe.filter_2,
                bridges,
                quotas=at["sampled"] / "budgets.jsonl",
            ),
            probed="probe-2",
            sampled="sample-2",
            problems="problems",
        )
        training(2, "filter-2", "train-1" if recipe.train_2.init == "continue" else "base")
        if recipe.problems.held_out:
            evaluation(2, "train-2")

    def write_report(folder: Path, at: Inputs) -> dict[str, Any]:
        from dpr_mini.stages import report

        return report.run(folder, at, recipe.model_dump(mode="json"))

    everything = {name.replace("-", "_"): name for name in stages}
    stage("report", REPORT_VERSION, {"name": recipe.name}, write_report, **everything)
    return stages


def evaluation_only(recipe: Recipe, owner: Owner) -> dict[str, Stage]:
    """The two stages that score one model: its problems are the held-out ones alone."""
    asked = _scaled(recipe)
    question = {**prompts.TEMPLATES, **recipe.dialogue.templates}[recipe.evaluate.template]
    bridges = {**prompts.BRIDGES, **recipe.dialogue.bridges}

    def score(folder: Path, at: Inputs) -> dict[str, Any]:
        engine, template = owner.engine(owner.model())
        held_out = _problems(at, train=False)
        scored = evaluate.run(folder, held_out, engine, template, recipe.evaluate, question, bridges, recipe.seed)
        return {**scored, **_engine(engine)}

    data = {"sources": _dump(asked), "files": _file_digests(asked, owner.base)}
    first = Stage(
        "problems", problems.VERSION, data, lambda folder, at: problems.run(folder, asked, owner.base, train=False)
    )
    config = {**_dump(recipe.evaluate), "question": question, "bridges": bridges, "base": owner.identity()}
    config |= {"engine": recipe.engine.changes_samples(), "seed": recipe.seed}
    return {"problems": first, "eval-0": Stage("eval-0", evaluate.VERSION, config, score, {"problems": first})}


TRAIN_VERSION = 1  # kept here so that describing the graph does not import torch or matplotlib
REPORT_VERSION = 1


def run(
    stages: Mapping[str, Stage],
    root: Path,
    until: str | None = None,
    tell: Callable[[str], None] = print,
) -> list[str]:
    """Bring the stages to completion in order, up to `until`; returns the names of those that had to run."""
    names = list(stages)[: list(stages).index(until) + 1] if until else list(stages)
    ran = []
    for number, name in enumerate(names, 1):
        state = stages[name].state(root)
        if state != "reuse":
            tell(f"[{number}/{len(names)}] {name}: {'resuming' if state == 'resume' else 'running'}")
            store.execute(stages[name], root, facts)
            ran.append(name)
    return ran


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
    from dpr_mini.model import file_digest

    sources = [*asked.train, *(s for group in asked.held_out.values() for s in group)]
    return {s.file: file_digest(base / s.file) for s in sources if s.file and (base / s.file).is_file()}


def _check(recipe: Recipe, templates: Mapping[str, str]) -> None:
    for name in {n for turn in recipe.dialogue.turns for n in turn} | {recipe.evaluate.template}:
        if name not in templates:
            raise RecipeError(f"{recipe.name}: no template {name!r}; there are: {', '.join(sorted(templates))}")
    if any(not turn for turn in recipe.dialogue.turns):
        raise RecipeError(f"{recipe.name}: dialogue.turns: every turn needs at least one template")
    for section in (recipe.filter, recipe.filter_2):
        filters.build_rules(section.rules)


def _dump(section: Any, without: tuple[str, ...] = ()) -> dict[str, Any]:
    return section.model_dump(mode="json", exclude=set(without))
