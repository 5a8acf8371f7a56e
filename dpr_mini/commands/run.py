"""`dpr-mini run`: do what is missing of every recipe and seed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from dpr_mini import pipeline, preflight
from dpr_mini import recipe as recipes
from dpr_mini.machine import requirements
from dpr_mini.recipe import Recipe
from dpr_mini.runs import RunError, home, lock, publish, remember
from dpr_mini.types import UserError


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
        if lack := requirements.missing_for(recipe.needs, None):
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


def _preflight(asked: Sequence[tuple[Path, Recipe]], runs: Path, until: str | None) -> None:
    """Before the first recipe spends anything: what the recipes need of this machine, each set of needs once."""
    seen = []
    for path, recipe in asked:
        if not recipe.needs.gpu_gib:
            continue
        stages = pipeline.build(recipe, path.parent)
        alike = recipe.model_copy(update={"seed": 0, "name": "", "like": None})
        if alike not in seen and (until is None or until in stages):  # else `_run` says which stages there are
            preflight.check(recipe, path.parent, runs / recipe.folder, stages, until)
            seen.append(alike)


def _run(path: Path, recipe: Recipe, runs: Path, until: str | None, at: Path) -> None:
    root = runs / recipe.folder
    stages = pipeline.build(recipe, path.parent)
    if until is not None and until not in stages:
        raise RunError(f"{recipe.name} has no stage {until!r}; there are: {', '.join(stages)}")
    with pipeline.Machine.of(recipe, path.parent, root / "logs") as machine, lock(root):
        remember(at, root, recipe, stages)
        begun = time.monotonic()
        ran = pipeline.run(stages, root, machine, until)
    done = [name for name, stage in stages.items() if stage.state(root) == "reuse"]
    if not ran:
        print(f"nothing to do: {len(done)} of {len(stages)} stages of {root} are complete")
    else:
        print(f"{len(ran)} stages in {_time(time.monotonic() - begun)}, {len(set(done) - set(ran))} reused")
    if "report" in done:
        publish(at, stages["report"].folder(root))


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds / 60:.1f} min"
