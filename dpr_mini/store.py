"""What is kept: stages addressed by content, rows appended as they arrive, the manifest written last.

    runs/<recipe>/<stage>-<8 hex>/{started.json, rows.jsonl, ..., stage.json}

A stage's key hashes its name, a version bumped by hand, its settings and the keys of its inputs: never code, time or
machine. The stage is handed those very settings, so what it reads is what was hashed. `stage.json` exists = the stage
is complete. Running the same command again reuses what is complete, resumes what is not (a partial last line is cut,
only missing ids are done), and runs the rest.
"""

from __future__ import annotations

import errno
import gzip
import json
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol, Self, TypeVar

from dpr_mini.types import Problem, UserError, digest, from_row

T = TypeVar("T")
State = Literal["reuse", "resume", "run"]
MANIFEST, STARTED = "stage.json", "started.json"


class StoreError(UserError, RuntimeError):
    """Something on disk is not as it should be: one line that says what and how to fix it."""


class Settings(ABC):
    """All that a stage reads besides its inputs: parts of the recipe, digests of what is outside. Frozen."""

    @abstractmethod
    def key(self) -> dict[str, Any]:
        """The settings as JSON, without those that change no result: paths, trackers, where a server runs."""


class Machine(Protocol):
    """What a stage may use of the machine: one model at a time is open, and none while a trainer works."""

    def base_model(self) -> Path:
        """Folder of the recipe's base model, downloaded or converted on first use."""

    def open(self, model: Path) -> tuple[Any, Any]:
        """The engine of a model's folder and its chat template; another model's engine is closed first."""

    def template(self, model: Path) -> Any:
        """The chat template and tokenizer of a model's folder alone."""

    def close(self) -> None:
        """End the open engine, if there is one."""


MEASURED = "like "  # role of an input of which only metrics are read: this and the other run's stage name


@dataclass(frozen=True)
class Work:
    """All that a running stage sees. `inputs`: the folder of each input, by the role it has for this stage."""

    name: str
    folder: Path
    settings: Any
    inputs: Mapping[str, Path]
    machine: Machine

    @property
    def model(self) -> Path:
        """Folder of the model that the stage starts from: that of its training stage, else the base model."""
        return self.inputs["model"] / "model" if "model" in self.inputs else self.machine.base_model()

    def measured(self, metric: str) -> int:
        """Sum of one metric over the stages of another run that this one is measured by."""
        measured = [folder for role, folder in self.inputs.items() if role.startswith(MEASURED)]
        return sum(read_json(folder / MANIFEST)["metrics"][metric] for folder in measured)


@dataclass(frozen=True)
class Kind:
    """What stages of one kind share. Raise the version when the function gives other results for equal settings."""

    version: int
    run: Callable[[Work], dict[str, Any]]


@dataclass(frozen=True)
class Stage:
    """One step of the pipeline: `kind.run` does the work and returns its metrics. `inputs` are stages by role."""

    name: str
    kind: Kind
    settings: Settings
    inputs: Mapping[str, Stage] = field(default_factory=dict)

    @cached_property
    def config(self) -> dict[str, Any]:
        return self.settings.key()

    @cached_property
    def key(self) -> str:
        inputs = {role: stage.key for role, stage in self.inputs.items()}
        return digest(self.name, self.kind.version, canonical(self.config), canonical(inputs))[:8]

    def folder(self, root: Path) -> Path:
        return root / f"{self.name}-{self.key}"

    def state(self, root: Path) -> State:
        folder = self.folder(root)
        if (folder / MANIFEST).exists():
            return "reuse"
        return "resume" if folder.exists() else "run"

    def manifest(self, root: Path) -> dict[str, Any]:
        return read_json(self.folder(root) / MANIFEST)


def canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def execute(stage: Stage, root: Path, machine: Machine, facts: Callable[[], Mapping[str, Any]] = dict) -> Path:
    """Bring one stage whose inputs are complete to completion. `facts` describes the machine for the manifest.

    Raises StoreError for a full disk; whatever the stage did before stays and is resumed.
    """
    folder = stage.folder(root)
    if stage.state(root) == "reuse":
        return folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        described = describe(stage)
        before, begun = _spent(folder), time.time()
        write_json(folder / STARTED, {**described, "begun": begun, "seconds_before": before})
        inputs = {role: s.folder(root) for role, s in stage.inputs.items()}
        metrics = stage.kind.run(Work(stage.name, folder, stage.settings, inputs, machine))
        write_json(
            folder / MANIFEST,
            {
                **described,
                "metrics": metrics,
                "seconds": round(before + time.time() - begun, 3),  # all starts together
                "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                **facts(),
            },
        )
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreError(
                f"{stage.name}: the disk of {root} is full; what was done is kept: free space, run the same command"
            ) from error
        raise
    return folder


def _spent(folder: Path) -> float:
    """Seconds of earlier starts that were cut off: from each one's beginning to the last file it touched."""
    if not (folder / STARTED).exists():
        return 0.0
    started = read_json(folder / STARTED)
    last = max(f.stat().st_mtime for f in folder.rglob("*"))
    return started["seconds_before"] + max(0.0, last - started["begun"])


def describe(stage: Stage) -> dict[str, Any]:
    return {
        "stage": stage.name,
        "key": stage.key,
        "version": stage.kind.version,
        "config": stage.config,
        "inputs": {role: f"{s.name}-{s.key}" for role, s in stage.inputs.items()},
    }


def changes(stage: Stage, root: Path) -> list[str]:
    """What differs between this stage and the newest folder of the same name: "config.x: 1 -> 2" lines."""
    others = [f for f in root.glob(f"{stage.name}-????????/{STARTED}") if f.parent != stage.folder(root)]
    if not others:
        return []
    old = read_json(max(others, key=lambda f: f.stat().st_mtime))
    before, after = flatten(old), flatten(describe(stage))
    skip = {"key", "begun", "seconds_before"}
    return [
        f"{name}: {_short(before.get(name))} -> {_short(after.get(name))}"
        for name in sorted(before.keys() | after.keys())
        if name not in skip and before.get(name) != after.get(name)
    ]


def flatten(value: Any, at: str = "") -> dict[str, Any]:
    """{"a": {"b": [1]}} -> {"a.b.0": 1}."""
    if isinstance(value, Mapping):
        items: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    else:
        return {at: value}
    return {k: v for name, inner in items for k, v in flatten(inner, f"{at}.{name}" if at else str(name)).items()}


def _short(value: Any) -> str:
    text = "(none)" if value is None else json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


class Rows:
    """An append-only JSONL file of rows with unique ids. Opening it cuts the partial last line of a killed run.

    with Rows(path) as rows:
        for item in rows.todo(items, key=lambda x: x.id): rows.add({"id": item.id, ...})
    """

    def __init__(self, path: Path, id_key: str = "id") -> None:
        self.path, self.id_key = path, id_key
        self.ids: set[str] = set()

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            _cut_partial_line(self.path)
            self.ids = {row[self.id_key] for row in read_rows(self.path)}
        self._file = self.path.open("a", encoding="utf-8")
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    def add(self, row: Mapping[str, Any]) -> None:
        """Append and flush one row. Raises StoreError for an id that is there already."""
        if row[self.id_key] in self.ids:
            raise StoreError(f"{self.path}: row {row[self.id_key]!r} is there already")
        self._file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
        self._file.flush()
        self.ids.add(row[self.id_key])

    def todo(self, items: Iterable[T], key: Callable[[T], str]) -> Iterator[T]:
        return (item for item in items if key(item) not in self.ids)


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Add a line to a log: rows without ids, which may repeat."""
    if path.exists():
        _cut_partial_line(path)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")


def _cut_partial_line(path: Path) -> None:
    with path.open("rb+") as file:
        size = file.seek(0, os.SEEK_END)
        keep = size
        while keep:
            step = min(keep, 1 << 16)
            file.seek(keep - step)
            newline = file.read(step).rfind(b"\n")
            if newline >= 0:
                keep = keep - step + newline + 1
                break
            keep -= step
        if keep < size:
            file.truncate(keep)


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a file that this project wrote. Raises StoreError, naming the line, for one that is not JSON."""
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise StoreError(
                    f"{path}:{number}: not JSON ({error.msg}); delete the folder to redo the stage"
                ) from None


def read_problems(folder: Path, *, train: bool) -> list[Problem]:
    """The training problems, or the held-out ones, of a `problems` stage."""
    rows = (from_row(Problem, row) for row in read_rows(folder / "rows.jsonl"))
    return [p for p in rows if (p.split == "train") is train]


class Numeral(float):
    """A JSON number that keeps its spelling, of which a float may be a poor copy (1e400) or have another one (1e-05).

    Also an integer that is too long for Python's own reader.
    """

    spelling: str

    def __new__(cls, spelling: str) -> Self:
        self = super().__new__(cls, spelling)
        self.spelling = spelling
        return self


def _integer(digits: str) -> int | Numeral:
    try:
        return int(digits)
    except ValueError:  # thousands of digits
        return Numeral(digits)


def foreign_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """("file:line", row) of a user's JSONL file, also gzipped; empty lines are passed over. Fractions are `Numeral`s.

    Raises StoreError, naming file and line, for what is not there, not text, not JSON or not an object.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    row = _foreign(line, f"{path}:{number}")
                    if not isinstance(row, dict):
                        raise StoreError(f"{path}:{number}: a row must be a JSON object, not {type(row).__name__}")
                    yield f"{path}:{number}", row
    except FileNotFoundError:
        raise StoreError(f"{path}: no such file") from None
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError, IsADirectoryError, PermissionError) as error:
        raise StoreError(f"{path}: cannot be read as text: {error}") from None


def _foreign(line: str, where: str) -> Any:
    try:
        return json.loads(line, parse_float=Numeral, parse_int=_integer)
    except json.JSONDecodeError as error:
        raise StoreError(f"{where}: not JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:  # thousands of brackets
        raise StoreError(f"{where}: a nesting that is too deep to read") from None


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a whole file atomically: there is the old one or the new one, never half."""
    _replace(path, "".join(json.dumps(r, ensure_ascii=False, allow_nan=False) + "\n" for r in rows))


def write_json(path: Path, value: Any) -> None:
    _replace(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    _replace(path, text)


def read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise StoreError(
            f"{path}:{error.lineno}: not JSON ({error.msg}); delete the folder to redo the stage"
        ) from None


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
