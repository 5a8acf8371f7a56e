"""A run's folder: latest.json says its stages, arms of one experiment, the lock, the published report."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dpr_mini import store
from dpr_mini.files.rows import append_row, read_json, read_rows, write_json, write_text
from dpr_mini.machine.facts import commit
from dpr_mini.recipe import Recipe
from dpr_mini.store import Stage
from dpr_mini.types import UserError

LATEST = "latest.json"  # which stage folders the newest `run` of this recipe is made of
TEST = "-test"  # behind an evaluation's name: the same on the sets of `problems.test`
OPENED = "test-opened.jsonl"  # in the store's folder: when which run first asked about them

ARMS = "arms"  # where runs that share a store keep their latest.json and report, one folder each


class RunError(UserError):
    """A run that cannot start, or a run folder that is none."""


def home(runs: Path, recipe: Recipe, alone: bool) -> Path:
    """Folder of latest.json and the report: the store's folder, or arms/<name>-seed<n> when several runs share it."""
    root = runs / recipe.folder
    return root if alone and recipe.name == recipe.folder else root / ARMS / f"{recipe.name}-seed{recipe.seed}"


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
    if not (at / LATEST).exists() or read_json(at / LATEST) != latest:
        write_json(at / LATEST, latest)


def read_latest(root: Path) -> dict[str, Any]:
    if not (root / LATEST).exists():
        raise RunError(f"{root} is not a run's folder; look under runs/")
    return read_json(root / LATEST)


def publish(root: Path, folder: Path) -> None:
    """Put the newest report where it is easy to find, and say where."""
    for name in ("report.html", "report.md", "scorecards.json"):
        text = (folder / name).read_text(encoding="utf-8")
        if not (root / name).exists() or (root / name).read_text(encoding="utf-8", errors="replace") != text:
            write_text(root / name, text)
    print(f"report: {root / 'report.html'} (also report.md, scorecards.json)")


def open_test(root: Path, recipe: Recipe, stages: Mapping[str, Stage]) -> None:
    """Note in the store, and print, that this run opens `problems.test`, unless it did before.

    A run is a recipe's name, its seed and its problems: with other problems it is opened again.
    """
    line = {
        "opened": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "recipe": recipe.name,
        "seed": recipe.seed,
        "commit": commit(),
        "sets": list(recipe.problems.test),
        "problems": stages["problems"].key,
    }
    run = ("recipe", "seed", "sets", "problems")
    if all(any(old[k] != line[k] for k in run) for old in openings(root)):
        append_row(root / OPENED, line)
        print(opened(line))


def openings(root: Path) -> list[dict[str, Any]]:
    """The lines that say when test sets were opened in a store's folder, the first one first."""
    return list(read_rows(root / OPENED)) if (root / OPENED).exists() else []


def opened(line: Mapping[str, Any]) -> str:
    """One such line in words."""
    at = f"commit {line['commit']}" if line["commit"] else "no commit"
    return f"test opened {line['opened']}, {at}: {', '.join(line['sets'])} by {line['recipe']}, seed {line['seed']}"


def evaluations(stages: Mapping[str, Path], last: str) -> list[str]:
    """The complete evaluations of one model in a run: that on what is always asked, that on the test sets."""
    return [name for name in (last, f"{last}{TEST}") if name in stages and (stages[name] / store.MANIFEST).exists()]
