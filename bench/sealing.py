"""What syncing and digests cost a whole run: seconds inside files/durable.py, and their share of the run's.

    python bench/sealing.py [--repeats 3] [--out bench/results/sealing.json] [KEY=VALUE ...]

The recipe runs in a fresh folder with this process's calls timed; training runs in this process, too, so that its
checkpoints and models are in the count. Every fsync, every digest and every comparison with a manifest counts, whoever
asks for it; what one of them calls is counted once. The finished run is then started again: what a look at it costs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dpr_mini.commands.run import run
from dpr_mini.files import durable
from dpr_mini.files.rows import write_json
from dpr_mini.machine.facts import facts
from dpr_mini.training import loop, process

COUNTED = ((os, "fsync"), (durable, "sync"), (durable, "sha256"), (durable, "seal"), (durable, "damage"))


class Clock:
    """Seconds inside the functions that it was put around, the outermost one's only."""

    def __init__(self) -> None:
        self.seconds, self.depth, self.calls = 0.0, 0, Counter[str]()

    def around(self, owner: Any, name: str) -> None:
        function: Callable[..., Any] = getattr(owner, name)

        def timed(*args: Any, **options: Any) -> Any:
            self.calls[name] += 1
            self.depth += 1
            begun = time.perf_counter()
            try:
                return function(*args, **options)
            finally:
                self.depth -= 1
                if not self.depth:
                    self.seconds += time.perf_counter() - begun

        setattr(owner, name, timed)


def train_here(folder: Path, packs: Path, model: Path, config: Any, seed: int, gpu: bool, need: Any = None) -> Any:
    """A training stage in this process (stages/train.py calls it in one of its own)."""
    return loop.run(folder, packs, model, config, seed)


def one_run(recipe: Path, overrides: list[str], clock: Clock) -> dict[str, Any]:
    """Seconds of a run in a fresh folder and of a look at the finished one, with the share inside `clock`."""
    told = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("run", "again"):
            clock.seconds, clock.calls, begun = 0.0, Counter(), time.perf_counter()
            run([recipe], overrides, Path(folder))
            seconds = time.perf_counter() - begun
            told[name] = {"seconds": round(seconds, 3), "sealing": round(clock.seconds, 4), "calls": dict(clock.calls)}
        files = [path for path in Path(folder).rglob("*") if path.is_file()]
        told["files"], told["bytes"] = len(files), sum(path.stat().st_size for path in files)
    told["share"] = round(told["run"]["sealing"] / told["run"]["seconds"], 5)
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--recipe", type=Path, default=Path("recipes/smoke.yaml"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    clock = Clock()
    for owner, name in COUNTED:
        clock.around(owner, name)
    process.train = train_here
    runs = [one_run(asked.recipe, asked.overrides, clock) for _ in range(asked.repeats)]
    share = statistics.median(each["share"] for each in runs)
    told = {"recipe": asked.recipe.name, "overrides": asked.overrides, "median_share": share, "runs": runs, **facts()}
    print(f"{share:.2%} of the run's time, median of {len(runs)} runs")
    if asked.out:
        write_json(asked.out, told)


if __name__ == "__main__":
    main()
