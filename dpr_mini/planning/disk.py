"""Does a run fit on the disk: looked at before a GPU run spends anything."""

from __future__ import annotations

import shutil
from pathlib import Path

from dpr_mini.models.resolve import local_folder
from dpr_mini.planning.capacity import GIB
from dpr_mini.planning.plan import Plan, pick_card
from dpr_mini.recipe import Recipe


def missing(recipe: Recipe, base: Path, root: Path) -> list[str]:
    """A line where the run's models and checkpoints do not fit on the disk; a warning where rows might not."""
    plan = Plan(recipe, pick_card(recipe, None), base, local_folder(recipe.model.name, base))
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


def _downloaded(recipe: Recipe) -> bool:
    from huggingface_hub.constants import HF_HUB_CACHE

    return (Path(HF_HUB_CACHE) / f"models--{recipe.model.name.replace('/', '--')}" / "snapshots").is_dir()


def _size(folder: Path) -> int:
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) if folder.is_dir() else 0


def _existing(folder: Path) -> Path:
    """The nearest folder above that is there: its disk is the one that will be written to."""
    return next(p for p in (folder.resolve(), *folder.resolve().parents) if p.exists())
