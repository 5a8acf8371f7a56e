"""`dpr-mini run`: do what is missing of every recipe and seed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from dpr_mini import pipeline, store
from dpr_mini import recipe as recipes
from dpr_mini.engines.sglang import launch
from dpr_mini.files import durable
from dpr_mini.machine import requirements
from dpr_mini.planning import disk
from dpr_mini.recipe import Recipe
from dpr_mini.runs import TEST, RunError, home, lock, open_test, publish, remember
from dpr_mini.store import Stage
from dpr_mini.training import rehearsal
from dpr_mini.types import UserError


def run(
    paths: Sequence[Path],
    overrides: Sequence[str],
    runs: Path,
    until: str | None = None,
    seeds: Sequence[int] | None = None,
    test: bool = False,
) -> None:
    """Do what is missing of every recipe, once for each seed, and print where the reports are.

    Recipes with one `store` share every stage they have in common. All of them are read before anything starts. Where
    there are several, one that cannot go on is named and the others are still run; RunError names them at the end.
    `test` opens the sets of `problems.test`: the first time is noted in the store (runs.OPENED) before it is asked.
    """
    if seeds is not None and any(o.startswith("seed=") for o in overrides):
        raise RunError("give --seeds or seed=, not both")
    turns = [[f"seed={seed}"] for seed in seeds] if seeds is not None else [[]]
    queue = [(path, recipes.load(path, [*overrides, *turn])) for turn in turns for path in paths]
    if not queue:
        raise RunError("no recipe given; e.g. dpr-mini run recipes/smollm2-cpu.yaml")
    homes: dict[Path, Path] = {}
    for path, recipe in queue:
        if test and not recipe.problems.test:
            raise RunError(f"{path} has no problems.test to open")
        if lack := requirements.missing_for(recipe.needs, None):
            raise RunError(f"{path} {lack}; without one, run: dpr-mini run {recipe.needs.instead}")
        if (at := home(runs, recipe, len(queue) == 1)) in homes:
            raise RunError(f"{homes[at]} and {path} are both {recipe.name} with seed {recipe.seed}; name them apart")
        homes[at] = path
        pipeline.refuse_missing_model(recipe, path.parent)
    _preflight(queue, runs, until, test)
    failed = []
    for number, (path, recipe) in enumerate(queue, 1):
        if len(queue) == 1:
            _run(path, recipe, runs, until, home(runs, recipe, True), test)
            return
        print(f"== {number}/{len(queue)}: {recipe.name}, seed {recipe.seed}")
        try:
            _run(path, recipe, runs, until, home(runs, recipe, False), test)
        except UserError as error:
            failed.append(f"{recipe.name}, seed {recipe.seed}")
            print(f"{failed[-1]}: {error}")
    for root in sorted({runs / recipe.folder for _, recipe in queue}):
        print(f"compare them: dpr-mini compare {root}")
    if failed:
        raise RunError(f"{len(failed)} of {len(queue)} runs are not complete: {'; '.join(failed)} (reasons above)")


def _preflight(queue: Sequence[tuple[Path, Recipe]], runs: Path, until: str | None, test: bool) -> None:
    """Check what the recipes need of this machine before any starts; recipes that differ only in name or seed, once."""
    checked_recipes = []
    for path, recipe in queue:
        if not recipe.needs.gpu_gib:
            continue
        stages = pipeline.build(recipe, path.parent, test)
        alike = recipe.model_copy(update={"seed": 0, "name": "", "like": None})
        # with an `until` that is no stage, `_run` says which stages there are
        if alike not in checked_recipes and (until is None or until in stages):
            check(recipe, path.parent, runs / recipe.folder, stages, until)
            checked_recipes.append(alike)


def check(recipe: Recipe, base: Path, root: Path, stages: Mapping[str, Stage], until: str | None = None) -> None:
    """Before a GPU run: print a line for each thing that is missing, with what brings it, and raise UserError.

    Only what the stages that have still to run will use: packages and compilers, SGLang, the disk, and one layer of
    each training section, rehearsed. base: the recipe's folder. root: that of the stages' folders.
    """
    names = list(stages)[: list(stages).index(until) + 1] if until else list(stages)
    waiting = [name for name in names if stages[name].state(root) != "reuse"]
    if not recipe.needs.gpu_gib or not waiting:
        return
    trains = any(name.startswith("train-") for name in waiting)
    lines = requirements.missing(recipe, training=trains, problems="problems" in waiting)
    asking = ("-answers", "-planted", "-checks")
    if any(name.endswith(asking) or name.startswith(("dialogue-", "probe-", "sample-")) for name in waiting):
        lines += launch.missing(recipe.engine)
    lines += disk.missing(recipe, base, root)
    if not lines and trains:
        lines += rehearsal.failures(recipe, base)
    for line in lines:
        print(f"missing: {line}")
    if lines:
        raise UserError(f"{recipe.name} cannot run to its end here: {len(lines)} thing(s) missing, named above")


def _run(path: Path, recipe: Recipe, runs: Path, until: str | None, at: Path, test: bool) -> None:
    root = runs / recipe.folder
    try:
        _bring(path, recipe, root, until, at, test)
    except OSError as error:
        raise store.system_error(recipe.name, error, root) from error


def _bring(path: Path, recipe: Recipe, root: Path, until: str | None, at: Path, test: bool) -> None:
    stages = pipeline.build(recipe, path.parent, test)
    if until is not None and until not in stages:
        raise RunError(f"{recipe.name} has no stage {until!r}; there are: {', '.join(stages)}")
    with pipeline.Machine.of(recipe, path.parent, root / "logs") as machine, _locked(root, at):
        remember(at, root, recipe, stages)
        if any(TEST in name for name in list(stages)[: list(stages).index(until) + 1 if until else None]):
            open_test(root, recipe, stages)
        begun = time.monotonic()
        ran = pipeline.run(stages, root, machine, until, recipe=recipe)
    done = [name for name, stage in stages.items() if stage.state(root) == "reuse"]
    if not ran:
        print(f"nothing to do: {len(done)} of {len(stages)} stages of {root} are complete")
    else:
        print(f"{len(ran)} stages in {_time(time.monotonic() - begun)}, {len(set(done) - set(ran))} reused")
    if "report" in done:
        publish(at, stages["report"].folder(root))


@contextmanager
def _locked(root: Path, at: Path) -> Iterator[None]:
    """The run's lock; what killed runs left half written goes, where the folder can be written to."""
    with lock(root):
        for folder in {root, at}:
            if folder.exists() and os.access(folder, os.W_OK):
                durable.sweep(folder)
        yield


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds / 60:.1f} min"
