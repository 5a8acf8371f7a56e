"""`dpr-mini compare`: write comparison.json, .md and .svg of an experiment's arms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dpr_mini import store
from dpr_mini.reporting.arms import arrange, collect, summary


def compare(folders: Sequence[Path], out: Path | None = None, baseline: str | None = None) -> None:
    """Write comparison.json, .md and .svg into `out` (the first folder by default), and print the table of arms."""
    from dpr_mini.reporting import comparison

    arms = arrange(collect(folders), baseline)
    out = out or folders[0]
    out.mkdir(parents=True, exist_ok=True)
    numbers = summary(arms)
    store.write_json(out / "comparison.json", numbers)
    store.write_text(out / "comparison.md", comparison.page(numbers))
    store.write_text(out / "comparison.svg", comparison.figure(numbers))
    print(comparison.brief(numbers))
    print(f"comparison: {out / 'comparison.md'} (also comparison.json, comparison.svg)")
