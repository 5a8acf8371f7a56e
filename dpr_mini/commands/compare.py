"""`dpr-mini compare`: write comparison.json, .md and .svg of an experiment's arms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dpr_mini.files.rows import write_json, write_text
from dpr_mini.machine import target
from dpr_mini.recipe import RecipeError, load
from dpr_mini.reporting.arms import arrange, collect, registered
from dpr_mini.reporting.numbers import summary
from dpr_mini.runs import foreign
from dpr_mini.types import printable


def compare(
    folders: Sequence[Path], out: Path | None = None, baseline: str | None = None, recipe: Path | None = None
) -> None:
    """Write comparison.json, .md and .svg into `out` (the first folder by default), print hypotheses and arms.

    Tested are the hypotheses of `recipe`, or those that the runs' recipes register. Raises RecipeError where `recipe`
    has none, and UserError, before any work, where `out` cannot be written in.
    """
    from dpr_mini.reporting import comparison

    target.folder(out or folders[0])
    with foreign(folders[0]):
        runs = collect(folders)
        hypotheses = load(recipe).hypotheses if recipe else registered(runs)
        if recipe and not hypotheses:
            raise RecipeError(f"{recipe}: it has no hypotheses")
        arms = arrange(runs, baseline)
        out = out or folders[0]
        out.mkdir(parents=True, exist_ok=True)
        numbers = summary(arms, hypotheses)
        write_json(out / "comparison.json", numbers)
        write_text(out / "comparison.md", comparison.page(numbers))
        write_text(out / "comparison.svg", comparison.figure(numbers))
        print(printable(comparison.brief(numbers), keep="\n"))
        print(f"comparison: {out / 'comparison.md'} (also comparison.json, comparison.svg)")
