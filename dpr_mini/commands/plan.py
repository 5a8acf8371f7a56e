"""`dpr-mini plan`: reuse, resume or run for each stage and what changed, then what the run needs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from dpr_mini import pipeline, store
from dpr_mini import recipe as recipes
from dpr_mini.machine import requirements
from dpr_mini.messages import printable, redacted
from dpr_mini.models.resolve import local_folder
from dpr_mini.planning import plan as planner
from dpr_mini.recipe import RecipeError
from dpr_mini.runs import RunError
from dpr_mini.sampling import simulate


def plan(path: Path, overrides: Sequence[str], runs: Path, gpu: str | None) -> None:
    """Print each stage with reuse / resume / run and which value changed, then what the run needs of a card of size
    `gpu`, of the one here, or of the CPU; fail, with the nearest recipe that fits, where that is not enough."""
    recipe = recipes.load(path, overrides)
    pipeline.refuse_missing_model(recipe, path.parent)
    stages = pipeline.build(recipe, path.parent)
    folder = local_folder(recipe.model.name, path.parent)
    planned = planner.Plan(recipe, planner.pick_card(recipe, _gib(gpu)), path.parent, folder)
    root = runs / recipe.folder
    for name, stage in stages.items():
        state = stage.state(root)
        print(f"{state:7} {name:15} {stage.folder(root)}")
        if state != "reuse":
            for change in _readable(store.changes(stage, root)):
                print(printable(redacted(f"        {'':15} {change}")))
    waiting = {name: stage.folder(root).name for name, stage in stages.items() if stage.state(root) != "reuse"}
    print("\n".join(planned.lines(waiting)))
    for line in simulate.planned(recipe, stages, root):
        print(f"        {line}")
    fixes = planned.fixes(lambda more: recipes.load(path, [*overrides, *more]))
    for number, fix in enumerate(fixes):
        print(f"{'fits' if not number else 'or':8} {fix}")
    if lack := requirements.missing_for(recipe.needs, _gib(gpu)):
        raise RunError(f"{path} {lack}; without one, run: dpr-mini run {recipe.needs.instead}")
    if short := planned.lack():
        nothing = "no switch helps: take a smaller model, or engine.urls where the engine is too large"
        raise RunError(f"{path} {short}; " + (f"the nearest that does: {fixes[0]}" if fixes else nothing))


def _readable(changes: list[str]) -> list[str]:
    """Changed values of the stage itself, then the stages before it that changed, in one line."""
    own = [f"changed: {c}" for c in changes if not c.startswith("inputs.")]
    before = sorted({c.rpartition('"')[0].rpartition('"')[2].rpartition("-")[0] for c in changes} - {""})
    names = [n for n in before if any(c.startswith("inputs.") and f'"{n}-' in c for c in changes)]
    return own + ([f"follows: {', '.join(names)}"] if names else [])


def _gib(text: str | None) -> float | None:
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)\s*(?:GiB|GB|G)?", text.strip(), re.IGNORECASE)
    if not match or not float(match[1]):
        raise RecipeError(f"--gpu {text!r:.60}: write it as 24GiB")
    return float(match[1])
