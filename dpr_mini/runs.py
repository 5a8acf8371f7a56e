"""A run's folder: latest.json says its stages, arms of one experiment, the lock, the published report.

The folder may be somebody else's: a folder that a file of it names is of the form that we write and stands in the
store, nothing in it is a link that leads out, and what it says is redacted again before it is dumped.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dpr_mini import store
from dpr_mini.files.rows import StoreError, append_row, read_json, read_rows, write_json, write_text
from dpr_mini.machine.facts import commit
from dpr_mini.messages import redacted
from dpr_mini.recipe import Recipe
from dpr_mini.store import Stage
from dpr_mini.types import UserError

LATEST = "latest.json"  # which stage folders the newest `run` of this recipe is made of
TEST = "-test"  # behind an evaluation's name: the same on the sets of `problems.test`
OPENED = "test-opened.jsonl"  # in the store's folder: when which run first asked about them

ARMS = "arms"  # where runs that share a store keep their latest.json and report, one folder each


STAGE = r"[a-z]+(?:-[a-z0-9]+)*"  # a stage's name
FOLDER = re.compile(rf"({STAGE})-[0-9a-f]{{8}}")
LARGEST = 1 << 24  # bytes of a latest.json
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # a recipe's
# What links may lead out of: SGLang is served a model by links, and wandb links its own logs. We read neither.
ELSEWHERE = ("sglang-model", "wandb")


class RunError(UserError):
    """A run that cannot start, or a run folder that is none."""


def home(runs: Path, recipe: Recipe, alone: bool) -> Path:
    """Folder of latest.json and the report: the store's folder, or arms/<name>-seed<n> when several runs share it."""
    root = runs / recipe.folder
    return root if alone and recipe.name == recipe.folder else root / ARMS / f"{recipe.name}-seed{recipe.seed}"


@contextmanager
def lock(root: Path) -> Iterator[None]:
    """One run at a time in a folder, of which nothing leads out. The system releases the lock of a killed process.

    A folder that cannot be written to needs none. Raises RunError.
    """
    if root.is_symlink():
        raise RunError(f"{root} is a link to {os.readlink(root)}; give the folder that holds its target as --runs")
    root.mkdir(parents=True, exist_ok=True)
    path, file = root / ".lock", -1
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise RunError(f"{path} is a link; remove it") from None
        if error.errno in (errno.EISDIR, errno.ENXIO):
            raise RunError(f"{path} is no file; remove it") from None
        if os.access(root, os.W_OK):
            raise  # one line, like all that the system refuses
    try:
        if file >= 0:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise RunError(f"{path} is no file; remove it")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                why = "another dpr-mini is at work there; wait for it, or give another --runs"
                raise RunError(f"{root}: {why}") from None
        refuse_ways_out(root, root)
        yield
    finally:
        if file >= 0:
            os.close(file)


def refuse_ways_out(folder: Path, root: Path) -> None:
    """Raise RunError if `folder`, or anything in it, is a link to what is not below `root`, or no file at all."""
    top = root.resolve()

    def look(path: Path) -> None:
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:  # a run is at work there
            return
        if stat.S_ISLNK(mode):
            try:
                inside = path.resolve(strict=True).is_relative_to(top)
            except (OSError, RuntimeError):  # to nothing, or to itself: what is written there may be anywhere
                inside = False
            if not inside:
                raise RunError(f"{path} is a link that leads out of {root}; remove it, or put there what it stands for")
        elif not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise RunError(f"{path} is neither a file nor a folder; remove it")

    if folder != root and os.path.lexists(folder):
        look(folder)
    for at, folders, files in os.walk(folder):
        for name in (*folders, *files):
            look(Path(at, name))
        folders[:] = [name for name in folders if name not in ELSEWHERE]


def store_of(home: Path) -> Path:
    """The folder of the stages of the run whose latest.json stands in `home`."""
    at = home.resolve()
    return at.parent.parent if at.parent.name == ARMS else at


def beside(folder: Path, name: object) -> Path:
    """The folder of a stage that the manifest in `folder` names as an input. Raises RunError for what is none."""
    if not isinstance(name, str) or not FOLDER.fullmatch(name):
        raise RunError(f"{folder / store.MANIFEST}: {name!r:.80} is no stage's folder; delete the folder to redo it")
    refuse_ways_out(folder.parent / name, folder.parent)
    return folder.parent / name


def remember(at: Path, root: Path, recipe: Recipe, stages: Mapping[str, Stage]) -> None:
    """Note in the run's folder `at` which folders its stages are, relative to it, for `show`, `report`, `export`."""
    folders = {name: os.path.relpath(stage.folder(root), at) for name, stage in stages.items()}
    latest = {"recipe": redacted(recipe.model_dump(mode="json")), "stages": folders}
    at.mkdir(parents=True, exist_ok=True)
    if not _says(at / LATEST, latest):
        write_json(at / LATEST, latest)


def _says(path: Path, value: Any) -> bool:
    try:
        return path.exists() and read_json(path, "it is written anew") == value
    except StoreError as error:
        print(error)
        return False


def read_latest(root: Path) -> dict[str, Any]:
    """The recipe of the run in `root` and where its stages are: {"recipe": ..., "stages": {name: folder below root}}.

    Raises RunError where `root` is no run's folder, and for a stage that is not in its store: latest.json may be
    somebody else's. Paths are as `remember` writes them, and what is there has no link that leads out.
    """
    path = root / LATEST
    if path.is_symlink() or not path.is_file():
        raise RunError(f"{root} is not a run's folder; look under runs/")
    if path.stat().st_size > LARGEST:
        raise RunError(f"{path}: {path.stat().st_size} bytes, where a recipe and its stages have a few thousand")
    again = "run its recipe again, which writes it anew"
    latest = read_json(path, again)
    recipe, stages = latest.get("recipe"), latest.get("stages")
    if not isinstance(recipe, dict) or not isinstance(stages, dict):
        raise RunError(f"{path}: no recipe and its stages; {again}")
    name = recipe.get("name", "r")
    if not isinstance(name, str) or not NAME.fullmatch(name):  # it becomes a part of files' names
        raise RunError(f"{path}: its recipe's name is not of letters, digits and . _ -; {again}")
    shared = "../../" if store_of(root) != root.resolve() else ""
    for name, folder in stages.items():
        placed = isinstance(folder, str) and folder.startswith(shared)
        form = FOLDER.fullmatch(folder, len(shared)) if placed else None
        if not form or form[1] != name:
            raise RunError(f"{path}: {folder!r:.80} is no folder of {name!r:.40} in this store; {again}")
        refuse_ways_out(root / folder, store_of(root))
    return latest | {"recipe": redacted(recipe)}


@contextmanager
def foreign(root: Path) -> Iterator[None]:
    """The border to a run's folder: what can be raised where its files do not fit together becomes one RunError."""
    try:
        yield
    except UserError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "dpr_mini" in f.filename]
        at = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
        raise RunError(
            f"{root}: its files do not fit together ({type(error).__name__}: {error}{at}); "
            "delete the stage that was changed, and run the recipe again"
        ) from error


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
    """The lines that say when test sets were opened in a store's folder, the first one first.

    Raises RunError for a link, StoreError for a line that is none.
    """
    if (root / OPENED).is_symlink():
        raise RunError(f"{root / OPENED} is a link; put there what it stands for")
    fix = "mend the line by hand: it says what was opened, and is written nowhere else"
    return list(read_rows(root / OPENED, fix)) if (root / OPENED).exists() else []


def opened(line: Mapping[str, Any]) -> str:
    """One such line in words."""
    at = f"commit {line['commit']}" if line["commit"] else "no commit"
    return f"test opened {line['opened']}, {at}: {', '.join(line['sets'])} by {line['recipe']}, seed {line['seed']}"


def evaluations(stages: Mapping[str, Path], last: str) -> list[str]:
    """The complete evaluations of one model in a run: that on what is always asked, that on the test sets."""
    return [name for name in (last, f"{last}{TEST}") if name in stages and (stages[name] / store.MANIFEST).exists()]
