"""`dpr-mini run --dry-run`: two training steps on random weights and rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dpr_mini import recipe as recipes
from dpr_mini.machine import requirements
from dpr_mini.runs import RunError

SMALL = 0.05  # scale at which a dry run of a large model fits into a desktop's memory


def dry_run(paths: Sequence[Path], overrides: Sequence[str]) -> None:
    """Two training steps of every recipe on random weights and rows."""
    from dpr_mini.training.rehearsal import rehearse

    for path in paths:
        recipe = recipes.load(path, overrides)
        if recipe.scale > SMALL and (lack := requirements.missing_for(recipe.needs, None)):
            raise RunError(f"{path} {lack}; a dry run without one wants a smaller model, e.g. scale={SMALL:g}")
        rehearse(recipe, path.parent)
