"""The method on one page: which stages there are, what each reads, and in which order they run.

    problems -> dialogue-1 -> filter-1 -> pack-1 -> train-1
                          -> probe-2 -> sample-2 -> filter-2 -> pack-2 -> train-2
    eval-0 (base), eval-1 (after train-1), eval-2 (after train-2), each behind its eval-N-answers -> report
    eval-N-test and what belongs to it: the same on `problems.test`, only where `run --test` opens it

`phases: [2]` leaves out the second half of the first line and starts from the base model; `[]` only scores it.

Phase 1: the base model runs dialogues with itself about each problem, rules keep the good ones, SFT. Phase 2: the
phase-1 model is probed for its pass rate on each problem and sampled until a quota that grows with difficulty is met;
the same rules, SFT again. `build` only describes this (`plan` prints it); `run` does what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType

from dpr_mini import store
from dpr_mini.chat.asking import Asking
from dpr_mini.chat.conversation import Generation
from dpr_mini.chat.template import Template
from dpr_mini.engines.base import Engine
from dpr_mini.machine.facts import facts
from dpr_mini.models.resolve import EMBEDDED, checked_folder, identity, local_folder, resolve_model
from dpr_mini.recipe import EngineConfig, ModelConfig, Recipe, RecipeError, placed
from dpr_mini.recipe.prompts import Words
from dpr_mini.runs import TEST
from dpr_mini.stages.checks import CHECKS, ChecksSettings
from dpr_mini.stages.dialogue import DIALOGUE, DialogueSettings
from dpr_mini.stages.difficulty import PROBE, SAMPLE, ProbeSettings, SampleSettings
from dpr_mini.stages.evaluate import ANSWERS, CARDS, CardsSettings
from dpr_mini.stages.filter import FILTER, FilterSettings
from dpr_mini.stages.pack import PACK, PackSettings
from dpr_mini.stages.planted import PLANTED, PlantedSettings
from dpr_mini.stages.problems import PROBLEMS, ProblemsSettings
from dpr_mini.stages.redrawn import REDRAWN, RedrawnSettings
from dpr_mini.stages.report import REPORT, ReportSettings
from dpr_mini.stages.train import TRAIN, TrainSettings
from dpr_mini.store import Kind, Settings, Stage
from dpr_mini.types import UserError, nearest


def build(recipe: Recipe, folder: Path, test: bool = False) -> dict[str, Stage]:
    """All stages by name, in the order they run. `folder` is the recipe's: relative names start there.

    `test` adds the stages that ask models about `problems.test`; the others have the same keys with and without.
    Raises RecipeError for a rule that does not exist, or a stage that `recipe.like` lacks.
    """
    r, words, graph = recipe, recipe.dialogue.words(), Graph(recipe, folder, test)
    base, gpu, add = graph.base, r.needs.gpu_gib > 0, graph.add
    by_base = Generation(r.engine.changes_samples(), r.seed, base)

    # Held-out problems are taken first; nothing that equals one of them is trained on.
    problems = add("problems", PROBLEMS, ProblemsSettings.of(r, folder))
    graph.evaluate(0, words, by_base, problems=problems)

    # Phase 1: the base model's dialogues with itself; rules keep the good ones; SFT gives pi_sft.
    sft, by_sft = None, by_base  # without phase 1, phase 2 starts from the base model
    if 1 in r.phases:
        talk = DialogueSettings(
            r.dialogue, words.used(r.dialogue.longest), by_base, r.grader, words.joining(r.dialogue.turns)
        )
        dialogues = add("dialogue-1", DIALOGUE, talk, problems=problems)
        with placed(r, "filter"):
            rules = FilterSettings(r.filter, words.bridges, r.grader)
        kept_dialogues = add("filter-1", FILTER, rules, like=r.filter.limit, dialogues=dialogues, problems=problems)
        packing = PackSettings(r.pack, words.bridges, base, r.train.epochs)
        rows = add("pack-1", PACK, packing, like=r.pack.rows or r.pack.trained_tokens, kept=kept_dialogues)
        training = TrainSettings(r.train, r.seed, base, gpu, r.pack.tokens_per_row)
        sft, by_sft = add("train-1", TRAIN, training, packs=rows), replace(by_base, base=None)
        graph.evaluate(1, words, by_sft, problems=problems, model=sft)

    # Phase 2: pi_sft's own pass rates decide how many samples each problem gets; SFT gives pi_rej.
    if 2 in r.phases:
        question = words.templates[r.dialogue.turns[0][0]]  # as training samples have it; an evaluation may differ
        draw = ProbeSettings(r.probe, question, by_sft, r.grader)
        probe = add("probe-2", PROBE, draw, problems=problems, model=sft)
        quotas = SampleSettings(r.sample.scaled(r.scale), draw)
        sampled = add("sample-2", SAMPLE, quotas, problems=problems, probed=probe, model=sft)
        with placed(r, "filter_2"):
            rules = FilterSettings(r.filter_2, words.bridges, r.grader)
        kept_dialogues = add(
            "filter-2", FILTER, rules, like=r.filter_2.limit, probed=probe, sampled=sampled, problems=problems
        )
        packing = PackSettings(r.pack_2, words.bridges, base, r.train_2.epochs)
        rows = add("pack-2", PACK, packing, like=r.pack_2.rows or r.pack_2.trained_tokens, kept=kept_dialogues)
        start = sft if r.train_2.init == "continue" else None
        training = TrainSettings(r.train_2, r.seed, None if start else base, gpu, r.pack_2.tokens_per_row)
        rej = add("train-2", TRAIN, training, packs=rows, model=start)
        graph.evaluate(2, words, replace(by_base, base=None), problems=problems, model=rej)

    add("report", REPORT, ReportSettings(r.model_dump(mode="json")), **graph.stages)
    return graph.stages


def refuse_missing_model(recipe: Recipe, folder: Path) -> None:
    """Raises RecipeError for a model's folder that is not there or is none; a name of the hub is asked nothing."""
    name = recipe.model.name
    if name != EMBEDDED and local_folder(name, folder) is None:
        try:
            checked_folder(name)
        except UserError as error:
            with placed(recipe):
                raise RecipeError(f"model.name: {error}", "model", "name") from None


class Graph:
    """The stages of a recipe while they are put together."""

    def __init__(self, recipe: Recipe, folder: Path, test: bool = False) -> None:
        self.recipe, self.test = recipe, test
        self.base = identity(recipe.model.name, recipe.model.revision, folder)
        self.like = build(recipe.like, folder) if recipe.like else {}  # another run's, that budgets are measured by
        self.stages: dict[str, Stage] = {}

    def add(
        self,
        name: str,
        kind: Kind,
        settings: Settings,
        *,
        like: str | tuple[str, ...] | int | None = None,
        **inputs: Stage | None,
    ) -> Stage:
        """A stage with its inputs by role; None stands for the base model, which the settings have.

        `like` names stages of the other run that the stage is measured by; a number is no name.
        """
        by_role = {role: stage for role, stage in inputs.items() if stage}
        for other in (like,) if isinstance(like, str) else like if isinstance(like, tuple) else ():
            if other not in self.like:
                section = name.removesuffix("-1").replace("-2", "_2")
                names = f"{self.recipe.like.name} has no stage {other!r}; {nearest(other, self.like)}"
                with placed(self.recipe):
                    raise RecipeError(f"{section}: {names}", section)
            by_role[f"{store.MEASURED}{other}"] = self.like[other]
        self.stages[name] = Stage(name, kind, settings, by_role)
        return self.stages[name]

    def evaluate(
        self, number: int, words: Words, generation: Generation, *, problems: Stage, model: Stage | None = None
    ) -> None:
        """eval-N-answers asks the model, eval-N grades what it said: another grader needs no new answers.

        `test` has stages of its own, so that its opening asks nothing else again.
        """
        sets = self.recipe.problems
        if sets.evaluated:
            splits = tuple(sets.evaluated) if sets.test else None  # None: all that are held out
            self._evaluate(f"eval-{number}", splits, words, generation, problems, model)
        if sets.test and self.test:
            self._evaluate(f"eval-{number}{TEST}", tuple(sets.test), words, generation, problems, model)

    def _evaluate(
        self,
        name: str,
        splits: tuple[str, ...] | None,
        words: Words,
        generation: Generation,
        problems: Stage,
        model: Stage | None,
    ) -> None:
        r, config = self.recipe, self.recipe.evaluate
        shown = r.dialogue.examples if config.examples else ()
        asking = Asking(config, words.used(config.longest), shown, generation, splits, words.joining(config.asked))
        answers = self.add(f"{name}-answers", ANSWERS, asking, problems=problems, model=model)
        grading = CardsSettings(config.grader, words.bridges, splits)
        graded = self.add(name, CARDS, grading, answers=answers, problems=problems)
        if config.planted:
            settings = PlantedSettings(config.planted, asking, words.bridges)
            self.add(f"{name}-planted", PLANTED, settings, answers=answers, problems=problems, model=model)
        if config.redraw:
            checker = model if config.redraw.checker == "self" else None
            by = replace(asking, generation=replace(generation, base=None if checker else self.base))
            checking = ChecksSettings(config.redraw, by, words.templates[config.redraw.turn], words.bridges)
            checks = self.add(f"{name}-checks", CHECKS, checking, answers=answers, problems=problems, model=checker)
            self.add(f"{name}-redrawn", REDRAWN, RedrawnSettings(config.redraw), graded=graded, checks=checks)


@dataclass
class Machine:
    """One machine, one owner: at most one engine is open, and none while a trainer works."""

    model: ModelConfig
    engine: EngineConfig
    base: Path  # the recipe's folder: relative names start there
    logs: Path = Path(".")  # where a server's log is kept
    _open: tuple[Path, Engine] | None = field(default=None, init=False)

    @classmethod
    def of(cls, recipe: Recipe, base: Path, logs: Path = Path(".")) -> Machine:
        return cls(recipe.model, recipe.engine, base, logs)

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self.close()

    def close(self) -> None:
        """End the open engine, if there is one."""
        if self._open:
            self._open[1].__exit__(None, None, None)
            self._open = None

    def base_model(self) -> Path:
        """Folder of the base model; downloaded or converted on first use."""
        return resolve_model(str(local_folder(self.model.name, self.base) or self.model.name), self.model.revision)

    def open(self, model: Path) -> tuple[Engine, Template]:
        """The engine and the chat template of `model`; another model's engine is closed first."""
        from dpr_mini.engines import open_engine

        if self._open is None or self._open[0] != model:
            self.close()
            e = self.engine
            engine = open_engine(e.kind, model, window=e.window, server=e, logs=self.logs)
            self._open = (model, engine.__enter__())
        return self._open[1], self.template(model)

    def template(self, model: Path) -> Template:
        return Template.load(model)


def run(
    stages: Mapping[str, Stage],
    root: Path,
    machine: store.Machine,
    until: str | None = None,
    tell: Callable[[str], None] = print,
    recipe: Recipe | None = None,
) -> list[str]:
    """Bring the stages to completion in order, up to `until`; returns the names of those that had to run.

    A mistake of `recipe`, whose stages they are, or of one that it is measured by, names its own file and line.
    """
    names = list(stages)[: list(stages).index(until) + 1] if until else list(stages)
    ran: list[str] = []

    def bring(name: str, stage: Stage, place: str, of: Recipe | None) -> None:
        state = stage.state(root)
        if state == "reuse":
            return
        for role, other in stage.inputs.items():  # complete by now, but for those of another run
            bring(other.name, other, f"for {name}", of.like if of and role.startswith(store.MEASURED) else of)
        tell(f"[{place}] {name}: {'resuming' if state == 'resume' else 'running'}")
        with placed(of) if of else nullcontext():
            store.execute(stage, root, machine, facts)
        ran.append(name)

    for number, name in enumerate(names, 1):
        bring(name, stages[name], f"{number}/{len(names)}", recipe)
    return ran
