"""What a run on a GPU looks at before it spends anything: what is installed, the disk, and one layer of its training.

Only where the recipe says `needs.gpu_gib`, and only what the stages that have still to run will use. Each thing that is
missing is one line with the command that brings it; then the run does not start.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from dpr_mini.engines.base import EngineError
from dpr_mini.engines.sglang import launch
from dpr_mini.machine import requirements
from dpr_mini.models.resolve import local_folder
from dpr_mini.planning import plan as planner
from dpr_mini.planning.capacity import GIB
from dpr_mini.recipe import Recipe
from dpr_mini.store import Stage
from dpr_mini.training import TrainError
from dpr_mini.training.rehearsal import RehearsalError, rehearse_layer, sections
from dpr_mini.types import UserError


def check(recipe: Recipe, base: Path, root: Path, stages: Mapping[str, Stage], until: str | None = None) -> None:
    """Print a line for each thing that is missing, and raise UserError; print what was looked at otherwise.

    base: the recipe's folder. root: the folder of the stages' folders; `until`: the last stage that is wanted.
    """
    if not recipe.needs.gpu_gib or not (waiting := _waiting(stages, root, until)):
        return
    trains = any(name.startswith("train-") for name in waiting)
    lacks = requirements.missing(recipe, training=trains, problems="problems" in waiting)
    if any(name.endswith("-answers") or name.startswith(("dialogue-", "probe-", "sample-")) for name in waiting):
        lacks += engine(recipe)
    lacks += disk(recipe, base, root)
    if not lacks and trains:
        lacks += _rehearsed(recipe, base)
    for line in lacks:
        print(f"missing: {line}")
    if lacks:
        raise UserError(f"{recipe.name} cannot run to its end here: {len(lacks)} thing(s) missing, named above")


def engine(recipe: Recipe) -> list[str]:
    """What SGLang lacks, where the recipe starts a server of its own."""
    if recipe.engine.kind != "sglang" or recipe.engine.urls:
        return []
    try:
        python = launch.find_python(recipe.engine.python, gpu=True)
        launch.versions(python)
        launch.memory_share(recipe.engine.arguments)
    except EngineError as error:
        return [str(error), *filter(None, [requirements.cuda_compiler()])]
    return list(filter(None, [requirements.cuda_compiler(launch.cuda_home(python))]))


def disk(recipe: Recipe, base: Path, root: Path) -> list[str]:
    """A line where the run's models and checkpoints do not fit on the disk; a warning where rows might not."""
    plan = planner.Plan(recipe, planner.pick_card(recipe, None), base, local_folder(recipe.model.name, base))
    if plan.shape is None:
        return []
    parts, there = plan.disk(), _size(root)
    rows = parts.pop("rows")
    if parts["base model"] and _downloaded(recipe):
        parts["base model"] = 0.0
    need, free = sum(parts.values()) - there, shutil.disk_usage(_existing(root)).free
    breakdown = ", ".join(f"{name} {size / GIB:.1f}" for name, size in parts.items() if size)
    there_ = f", {there / GIB:.1f} of them there already" if there else ""
    if need > free:
        return [
            f"{(need - free) / GIB:.1f} GiB of disk: {root} has {free / GIB:.1f} free and takes {breakdown} GiB"
            f"{there_}; free some, or give --runs DIR on another disk"
        ]
    if need + rows > free:
        print(
            f"disk: {free / GIB:.1f} GiB free; {breakdown} GiB fit, and every answer at its limit would be "
            f"{rows / GIB:.1f} more. A full disk loses nothing: free some, run the same command"
        )
    return []


def _rehearsed(recipe: Recipe, base: Path) -> list[str]:
    """Rehearse each training section; a line for one that does not come to its end."""
    lacks = []
    for name, section in sections(recipe):
        try:
            print(rehearse_layer(recipe, base, name, section), flush=True)
        except RehearsalError as error:
            print(f"not rehearsed: {error}", flush=True)
        except TrainError as error:
            lacks.append(f"{name} does not run here: {error}")
    return lacks


def _waiting(stages: Mapping[str, Stage], root: Path, until: str | None) -> Sequence[str]:
    names = list(stages)[: list(stages).index(until) + 1] if until else list(stages)
    return [name for name in names if stages[name].state(root) != "reuse"]


def _downloaded(recipe: Recipe) -> bool:
    from huggingface_hub.constants import HF_HUB_CACHE

    return (Path(HF_HUB_CACHE) / f"models--{recipe.model.name.replace('/', '--')}" / "snapshots").is_dir()


def _size(folder: Path) -> int:
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) if folder.is_dir() else 0


def _existing(folder: Path) -> Path:
    """The nearest folder above that is there: its disk is the one that will be written to."""
    return next(p for p in (folder.resolve(), *folder.resolve().parents) if p.exists())
