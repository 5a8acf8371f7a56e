"""What the commands `run`, `plan` and `report` do with the pipeline."""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dpr_mini import doctor, pipeline, preflight, simulate, store
from dpr_mini import plan as planner
from dpr_mini import recipe as recipes
from dpr_mini.recipe import Recipe, RecipeError
from dpr_mini.store import Stage
from dpr_mini.types import UserError

LATEST = "latest.json"  # which stage folders the newest `run` of this recipe is made of
SMALL = 0.05  # scale at which a dry run of a large model fits into a desktop's memory
ARMS = "arms"  # where runs that share a store keep their latest.json and report, one folder each


class RunError(UserError):
    """A run that cannot start, or a run folder that is none."""


def run(
    paths: Sequence[Path],
    overrides: Sequence[str],
    runs: Path,
    until: str | None = None,
    seeds: Sequence[int] | None = None,
) -> None:
    """Do what is missing of every recipe, once for each seed, and print where the reports are.

    Recipes with one `store` share every stage they have in common. All of them are read before anything starts. Where
    there are several, one that cannot go on is named and the others are still run; RunError names them at the end.
    """
    if seeds is not None and any(o.startswith("seed=") for o in overrides):
        raise RunError("give --seeds or seed=, not both")
    turns = [[f"seed={seed}"] for seed in seeds] if seeds is not None else [[]]
    asked = [(path, recipes.load(path, [*overrides, *turn])) for turn in turns for path in paths]
    if not asked:
        raise RunError("no recipe given; e.g. dpr-mini run recipes/smollm2-cpu.yaml")
    homes: dict[Path, Path] = {}
    for path, recipe in asked:
        if lack := doctor.missing_for(recipe.needs, None):
            raise RunError(f"{path} {lack}; without one, run: dpr-mini run {recipe.needs.instead}")
        if (at := home(runs, recipe, len(asked) == 1)) in homes:
            raise RunError(f"{homes[at]} and {path} are both {recipe.name} with seed {recipe.seed}; name them apart")
        homes[at] = path
    _preflight(asked, runs, until)
    failed = []
    for number, (path, recipe) in enumerate(asked, 1):
        if len(asked) == 1:
            _run(path, recipe, runs, until, home(runs, recipe, True))
            return
        print(f"== {number}/{len(asked)}: {recipe.name}, seed {recipe.seed}")
        try:
            _run(path, recipe, runs, until, home(runs, recipe, False))
        except UserError as error:
            failed.append(f"{recipe.name}, seed {recipe.seed}")
            print(f"{failed[-1]}: {error}")
    for root in sorted({runs / recipe.folder for _, recipe in asked}):
        print(f"compare them: dpr-mini compare {root}")
    if failed:
        raise RunError(f"{len(failed)} of {len(asked)} runs are not complete: {'; '.join(failed)} (reasons above)")


def dry_run(paths: Sequence[Path], overrides: Sequence[str]) -> None:
    """Two training steps of every recipe on random weights and rows."""
    from dpr_mini.rehearsal import rehearse

    for path in paths:
        recipe = recipes.load(path, overrides)
        if recipe.scale > SMALL and (lack := doctor.missing_for(recipe.needs, None)):
            raise RunError(f"{path} {lack}; a dry run without one wants a smaller model, e.g. scale={SMALL:g}")
        rehearse(recipe, path.parent)


def _preflight(asked: Sequence[tuple[Path, Recipe]], runs: Path, until: str | None) -> None:
    """Before the first recipe spends anything: what the recipes need of this machine, each set of needs once."""
    seen = []
    for path, recipe in asked:
        if not recipe.needs.gpu_gib:
            continue
        with pipeline.Owner(recipe, path.parent) as owner:
            stages = pipeline.build(recipe, owner)
        alike = recipe.model_copy(update={"seed": 0, "name": "", "like": None})
        if alike not in seen and (until is None or until in stages):  # else `_run` says which stages there are
            preflight.check(recipe, path.parent, runs / recipe.folder, stages, until)
            seen.append(alike)


def _run(path: Path, recipe: Recipe, runs: Path, until: str | None, at: Path) -> None:
    root = runs / recipe.folder
    with pipeline.Owner(recipe, path.parent, root / "logs") as owner:
        stages = pipeline.build(recipe, owner)
        if until is not None and until not in stages:
            raise RunError(f"{recipe.name} has no stage {until!r}; there are: {', '.join(stages)}")
        with lock(root):
            remember(at, root, recipe, stages)
            begun = time.monotonic()
            ran = pipeline.run(stages, root, until)
    done = [name for name, stage in stages.items() if stage.state(root) == "reuse"]
    if not ran:
        print(f"nothing to do: {len(done)} of {len(stages)} stages of {root} are complete")
    else:
        print(f"{len(ran)} stages in {_time(time.monotonic() - begun)}, {len(set(done) - set(ran))} reused")
    if "report" in done:
        _publish(at, stages["report"].folder(root))


def home(runs: Path, recipe: Recipe, alone: bool) -> Path:
    """The run's own folder, with latest.json and report: that of the stages, or one below it where runs share them."""
    root = runs / recipe.folder
    return root if alone and recipe.name == recipe.folder else root / ARMS / f"{recipe.name}-seed{recipe.seed}"


def plan(path: Path, overrides: Sequence[str], runs: Path, gpu: str | None) -> None:
    """Print each stage with reuse / resume / run and which value changed, then what the run needs of a card of size
    `gpu`, of the one here, or of the CPU; fail, with the nearest recipe that fits, where that is not enough."""
    recipe = recipes.load(path, overrides)
    with pipeline.Owner(recipe, path.parent) as owner:
        stages = pipeline.build(recipe, owner)
        planned = planner.Plan(recipe, planner.pick_card(recipe, _gib(gpu)), path.parent, owner.local())
    root = runs / recipe.folder
    for name, stage in stages.items():
        state = stage.state(root)
        print(f"{state:7} {name:15} {stage.folder(root)}")
        if state != "reuse":
            for change in _readable(store.changes(stage, root)):
                print(f"        {'':15} {change}")
    waiting = {name: stage.folder(root).name for name, stage in stages.items() if stage.state(root) != "reuse"}
    print("\n".join(planned.lines(waiting)))
    for line in simulate.planned(recipe, stages, root):
        print(f"        {line}")
    mends = planned.mends(lambda more: recipes.load(path, [*overrides, *more]))
    for number, mend in enumerate(mends):
        print(f"{'fits' if not number else 'or':8} {mend}")
    if lack := doctor.missing_for(recipe.needs, _gib(gpu)):
        raise RunError(f"{path} {lack}; without one, run: dpr-mini run {recipe.needs.instead}")
    if short := planned.lack():
        nothing = "no switch helps: take a smaller model, or engine.urls where the engine is too large"
        raise RunError(f"{path} {short}; " + (f"the nearest that does: {mends[0]}" if mends else nothing))


def report(root: Path) -> None:
    """Write a run's report again from what is there."""
    from dpr_mini.stages import report as reporting

    latest = read_latest(root)
    folders = {n.replace("-", "_"): root / f for n, f in latest["stages"].items() if n != "report"}
    complete = {role: f for role, f in folders.items() if (f / store.MANIFEST).exists()}
    if not any(re.fullmatch(r"eval_\d", role) for role in complete):
        raise RunError(f"{root}: nothing to report yet; run {latest['recipe']['name']} again")
    folder = root / latest["stages"]["report"]
    folder.mkdir(exist_ok=True)
    reporting.run(folder, complete, latest["recipe"])
    _publish(root, folder)


@contextmanager
def lock(root: Path) -> Iterator[None]:
    """One run at a time in a folder. The system releases the lock of a killed process."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(f"{root}: another dpr-mini is at work there; wait for it, or give another --runs") from None
        yield


def remember(at: Path, root: Path, recipe: Recipe, stages: Mapping[str, Stage]) -> None:
    """Note in the run's folder `at` which folders its stages are, relative to it, for `show`, `report`, `export`."""
    folders = {name: os.path.relpath(stage.folder(root), at) for name, stage in stages.items()}
    latest = {"recipe": recipe.model_dump(mode="json"), "stages": folders}
    at.mkdir(parents=True, exist_ok=True)
    if not (at / LATEST).exists() or store.read_json(at / LATEST) != latest:
        store.write_json(at / LATEST, latest)


def read_latest(root: Path) -> dict[str, Any]:
    if not (root / LATEST).exists():
        raise RunError(f"{root} is not a run's folder; look under runs/")
    return store.read_json(root / LATEST)


def _publish(root: Path, folder: Path) -> None:
    """Put the newest report where it is easy to find, and say where."""
    for name in ("report.html", "report.md", "scorecards.json"):
        store.write_text(root / name, (folder / name).read_text(encoding="utf-8"))
    print(f"report: {root / 'report.html'} (also report.md, scorecards.json)")


def _readable(changes: list[str]) -> list[str]:
    """Changed values of the stage itself, then the stages before it that changed, in one line."""
    own = [f"changed: {c}" for c in changes if not c.startswith("inputs.")]
    before = sorted({c.rpartition('"')[0].rpartition('"')[2].rpartition("-")[0] for c in changes} - {""})
    names = [n for n in before if any(c.startswith("inputs.") and f'"{n}-' in c for c in changes)]
    return own + ([f"follows: {', '.join(names)}"] if names else [])


def _gib(text: str | None) -> float | None:
    if text is None:
        return None
    if not (match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:GiB|GB|G)?", text.strip(), re.IGNORECASE)):
        raise RecipeError(f"--gpu {text!r}: write it as 24GiB")
    return float(match[1])


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds / 60:.1f} min"
