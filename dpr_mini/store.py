"""What is kept: stages addressed by content, rows appended as they arrive, the manifest written last.

    runs/<recipe>/<stage>-<8 hex>/{started.json, rows.jsonl, ..., stage.json}

A stage's key hashes its name, a version bumped by hand, its settings and the keys of its inputs: never code, time or
machine. The stage is handed those very settings, so what it reads is what was hashed. `stage.json` exists = the stage
is complete. Running the same command again reuses what is complete, resumes what is not (a partial last line is cut,
only missing ids are done), and runs the rest.
"""

from __future__ import annotations

import errno
import json
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

from dpr_mini.files import durable
from dpr_mini.files.rows import (
    StoreError,
    canonical,
    compare,
    read_as,
    read_json,
    read_sealed,
    write_json,
    write_sealed,
)
from dpr_mini.types import Problem, digest

State = Literal["reuse", "resume", "run"]
MANIFEST, STARTED = "stage.json", "started.json"
RESUME = "delete this file to have the stage resumed, or its folder to have it redone"
REASONS = {  # what the system's error numbers mean here, and what helps
    errno.ENOSPC: "the disk is full: free space",
    errno.EDQUOT: "the quota is used up: free space",
    errno.EROFS: "the file system is read-only: give a --runs that can be written",
    errno.EACCES: "not allowed: look at the owner and the rights",
    errno.EPERM: "not allowed: look at the owner and the rights",
    errno.EIO: "the disk does not read or write: look at it (dmesg)",
    errno.EMFILE: "too many open files: raise ulimit -n",
    errno.EPIPE: "nobody reads what is printed any more",
    errno.ENFILE: "too many open files on this machine: end some programs",
}


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
        return sum(read_manifest(folder)["metrics"][metric] for folder in measured)


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
        """Raises StoreError where the stage was complete and its manifest or a file's size is no longer as it was."""
        folder = self.folder(root)
        if not (folder / MANIFEST).exists():
            return "resume" if folder.exists() else "run"
        manifest = read_manifest(folder)
        for name, own in (("stage", self.name), ("key", self.key), ("version", self.kind.version)):
            if manifest.get(name) != own:
                raise StoreError(f"{folder / MANIFEST}: {name} is {manifest.get(name)!r}, not {own!r}; {RESUME}")
        check(folder, manifest)
        return "reuse"

    def manifest(self, root: Path) -> dict[str, Any]:
        return read_manifest(self.folder(root))


def read_manifest(folder: Path) -> dict[str, Any]:
    """A complete stage's manifest. Raises StoreError where it is none, or not as it was written."""
    path = folder / MANIFEST
    manifest = read_sealed(path, RESUME)
    if not isinstance(manifest.get("metrics"), dict):
        raise StoreError(f"{path}: it has no metrics, so it is no stage's manifest; {RESUME}")
    return manifest


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Declare a stage complete: its files are synced and listed, then the manifest is written."""
    write_sealed(folder / MANIFEST, {**manifest, "files": durable.seal(folder, without=MANIFEST)})


def check(
    folder: Path, manifest: Mapping[str, Any], content: Callable[[str], bool] = lambda name: False, fix: str = ""
) -> None:
    """Hold a complete stage's files against its manifest: sizes, and digests of those that `content` names.

    Manifests of older versions list no files; there is nothing to compare. Raises StoreError for the first difference.
    """
    compare(folder, manifest.get("files", {}), fix or f"delete {folder} to have the stage redone", content)


def system_error(what: str, error: OSError, root: Path | None = None) -> StoreError:
    """One line for what the system refused: which file, why, and what helps."""
    where = error.filename if isinstance(error.filename, str | os.PathLike) else None
    reason = REASONS.get(error.errno or 0, error.strerror or str(error))
    places = [str(place) for place in (what, where or root) if place]
    return StoreError(f"{': '.join([*places, reason])}; what was done is kept: then run the same command")


def verified(folder: Path, weights: bool = False) -> dict[str, Any]:
    """The manifest of a complete stage whose rows, and with `weights` its model, are as it left them.

    For what reads a run outside of `execute`. Raises StoreError.
    """
    manifest = read_manifest(folder)
    check(folder, manifest, lambda name: weights or not name.startswith("model/"))
    return manifest


def _check_inputs(stage: Stage, root: Path) -> None:
    """Raises StoreError where a file that the stage will read is not what its own stage left."""
    for role, other in stage.inputs.items():
        if role.startswith(MEASURED):  # of these metrics alone are read
            read_manifest(other.folder(root))
        else:
            verified(other.folder(root), weights=role == "model")


def execute(stage: Stage, root: Path, machine: Machine, facts: Callable[[], Mapping[str, Any]] = dict) -> Path:
    """Bring one stage whose inputs are complete to completion. `facts` describes the machine for the manifest.

    Raises StoreError for whatever the system refuses (a full disk, a read-only one, ...) and for damaged inputs;
    whatever the stage did before stays and is resumed.
    """
    folder = stage.folder(root)
    if stage.state(root) == "reuse":
        return folder
    try:
        _check_inputs(stage, root)
        folder.mkdir(parents=True, exist_ok=True)
        durable.sweep(folder)
        described = describe(stage)
        before, begun = _spent(folder), time.time()
        write_json(folder / STARTED, {**described, "begun": begun, "seconds_before": before})
        inputs = {role: s.folder(root) for role, s in stage.inputs.items()}
        metrics = stage.kind.run(Work(stage.name, folder, stage.settings, inputs, machine))
        write_manifest(
            folder,
            {
                **described,
                "metrics": metrics,
                "seconds": round(before + time.time() - begun, 3),  # all starts together
                "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                **facts(),
            },
        )
    except OSError as error:
        raise system_error(stage.name, error, root) from error
    return folder


def _spent(folder: Path) -> float:
    """Seconds of earlier starts that were cut off: from each one's beginning to the last file it touched."""
    if not (folder / STARTED).exists():
        return 0.0
    fix = "delete this file: the stage goes on, only its wall time is lost"
    started = read_json(folder / STARTED, fix)
    before, begun = started.get("seconds_before"), started.get("begun")
    if not isinstance(before, int | float) or not isinstance(begun, int | float):
        raise StoreError(f"{folder / STARTED}: no times of an earlier start; {fix}")
    last = max(f.stat().st_mtime for f in folder.rglob("*"))
    return before + max(0.0, last - begun)


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
    try:
        old = read_json(max(others, key=lambda f: f.stat().st_mtime))
    except StoreError:  # another run's, which will say it itself
        return []
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


def each_problem(folder: Path, *, train: bool) -> Iterator[Problem]:
    """The training problems, or the held-out ones, of a `problems` stage, one at a time."""
    return (p for p in read_as(Problem, folder / "rows.jsonl") if (p.split == "train") is train)


def read_problems(folder: Path, *, train: bool) -> list[Problem]:
    """All of them."""
    return list(each_problem(folder, train=train))
