"""Files that this project writes: JSON, and JSONL of rows that are appended as they arrive."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Self, TypeVar

from dpr_mini.files import durable
from dpr_mini.types import UserError, digest, from_row

T = TypeVar("T")
SUM = ".sum"  # behind a row file's name: how many of its bytes are on the disk, and their digest
EVERY = 5.0  # seconds between two syncs of a file of rows
REDO = "delete the folder to redo the stage"


class StoreError(UserError, RuntimeError):
    """Something on disk is not as it should be: one line that says what and how to fix it."""


def dumps(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, allow_nan=False)


class Rows:
    """An append-only JSONL file of rows with unique ids. Opening it cuts the partial last line of a killed run.

    with Rows(path) as rows:
        for item in rows.todo(items, key=lambda x: x.id): rows.add({"id": item.id, ...})

    Rows are synced every few seconds and at the end; `path`.sum then notes how many bytes that are, and their sha256.
    Opening compares them: what was synced must still be there, unchanged.
    """

    def __init__(self, path: Path, id_key: str = "id") -> None:
        self.path, self.id_key = path, id_key
        self.ids: set[str] = set()

    def __enter__(self) -> Self:
        """Raises StoreError, naming the file, for rows that are not those that were written."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._hash, self._size, self._synced = hashlib.sha256(), 0, -1
        if self.path.exists():
            _cut_partial_line(self.path)
            self._read()
        elif _sum(self.path).exists():
            raise self._changed("is gone, though some of it was on the disk")
        self._file = self.path.open("ab")
        self._last = time.monotonic()
        return self

    def _read(self) -> None:
        """Ids of the rows that are there, which are held against the note of what was synced."""
        note = _read_sum(self.path)
        synced, digest = note if note else (0, "")
        if note and self.path.stat().st_size < synced:
            raise self._changed(f"has {self.path.stat().st_size:,} bytes of {synced:,} that were on the disk")
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                row = _parsed(line)
                known = isinstance(row, dict) and isinstance(row.get(self.id_key), str | int)
                if not known and note and self._size >= synced:
                    print(f"{self.path}:{number}: not a whole row, after a crash; it and what follows is left out")
                    break
                if not known:
                    raise StoreError(f"{self.path}:{number}: not a row with {self.id_key!r}; {REDO}")
                self.ids.add(row[self.id_key])
                self._hash.update(line)
                self._size += len(line)
                reached = self._size - len(line) < synced <= self._size  # the note ends with a line
                if reached and (self._size, self._hash.hexdigest()) != (synced, digest):
                    raise self._changed("is not what was written")
        if self._size < synced:
            raise self._changed("is not what was written")
        os.truncate(self.path, self._size)

    def _changed(self, how: str) -> StoreError:
        return StoreError(f"{self.path}: {how}: damaged since; {REDO}")

    def __exit__(self, *exc: object) -> None:
        try:
            self.sync()
        finally:
            self._file.close()

    def add(self, row: Mapping[str, Any]) -> None:
        """Append and flush one row. Raises StoreError for an id that is there already."""
        if row[self.id_key] in self.ids:
            raise StoreError(f"{self.path}: row {row[self.id_key]!r} is there already")
        line = (dumps(row) + "\n").encode()
        self._file.write(line)
        self._file.flush()
        grown = self._hash.copy()
        grown.update(line)
        self._hash, self._size = grown, self._size + len(line)  # in one step: Ctrl-C may come between any two
        self.ids.add(row[self.id_key])
        if time.monotonic() - self._last > EVERY:
            self.sync()

    def sync(self) -> None:
        """Have the disk hold what was added, and the note of it."""
        if self._size == self._synced:
            return
        self._file.flush()
        os.fsync(self._file.fileno())
        write_json(_sum(self.path), {"bytes": self._size, "sha256": self._hash.hexdigest()})
        self._synced, self._last = self._size, time.monotonic()

    def todo(self, items: Iterable[T], key: Callable[[T], str]) -> Iterator[T]:
        return (item for item in items if key(item) not in self.ids)


def _sum(path: Path) -> Path:
    return path.with_name(path.name + SUM)


def _read_sum(path: Path) -> tuple[int, str] | None:
    if not _sum(path).exists():  # nothing was synced, or an older version wrote it
        return None
    fix = f"delete it to take {path.name} as it is"
    note = read_json(_sum(path), fix)
    size, sha256 = note.get("bytes"), note.get("sha256")
    if type(size) is not int or not isinstance(sha256, str):
        raise StoreError(f"{_sum(path)}: not a note of synced rows; {fix}")
    return size, sha256


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Add a line to a log: rows without ids, which may repeat."""
    if there := path.exists():
        _cut_partial_line(path)
    with path.open("a", encoding="utf-8") as file:
        file.write(dumps(row) + "\n")
        file.flush()
        os.fsync(file.fileno())
    if not there:
        durable.sync_folder(path.parent)


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


def _parsed(line: bytes) -> Any:
    """A line's JSON; None for what is none."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):  # also what is not UTF-8, and a number of too many digits
        return None


def read_rows(path: Path, fix: str = REDO) -> Iterator[dict[str, Any]]:
    """Rows of a file that this project wrote. Raises StoreError, naming the line, for one that is not a JSON object."""
    return (row for _, row in placed_rows(path, fix))


def placed_rows(path: Path, fix: str = REDO) -> Iterator[tuple[int, dict[str, Any]]]:
    """The same, each with the byte at which it begins in the file: `row_at` finds it again there."""
    place = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                row = _parsed(line)
                if not isinstance(row, dict):
                    raise StoreError(f"{path}:{number}: not a JSON object; {fix}")
                yield place, row
                place += len(line)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise StoreError(f"{path}: no such file; {fix}") from None


def row_at(file: IO[bytes], place: int) -> dict[str, Any]:
    """The row that begins at a byte of an open file, as `placed_rows` gave it."""
    file.seek(place)
    row = _parsed(file.readline())
    if not isinstance(row, dict):
        raise StoreError(f"{file.name}: byte {place:,}: changed while it was read; run the same command again")
    return row


def read_as(cls: type[T], path: Path) -> Iterator[T]:
    """Rows of a file of ours as what they were before. Raises StoreError for a row that is none of that kind."""
    for number, row in enumerate(read_rows(path), 1):
        yield row_as(cls, row, f"{path}:{number}")


def row_as(cls: type[T], row: Mapping[str, Any], where: str) -> T:
    """One row as what it was before. Raises StoreError, saying where it stands, for a row that is none of that kind."""
    try:
        return cls.from_row(row) if hasattr(cls, "from_row") else from_row(cls, row)
    except (TypeError, KeyError, ValueError, AttributeError, LookupError) as error:
        raise StoreError(f"{where}: not a row of this kind ({error}); {REDO}") from None


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a whole file atomically, row by row: there is the old one or the new one, never half."""
    write_lines(path, map(dumps, rows))


def write_lines(path: Path, lines: Iterable[str | bytes]) -> None:
    """The same of rows that are JSON already, without their line's end."""

    def write(file: IO[str]) -> None:
        for line in lines:
            file.write((line if isinstance(line, str) else line.decode()) + "\n")

    durable.replace(path, write)


def rewrite_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """The same where `Rows` has appended: its note is of the rows that were there before."""
    _sum(path).unlink(missing_ok=True)
    write_rows(path, rows)


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    durable.replace(path, lambda file: file.write(text) and None)


def read_json(path: Path, fix: str = "make it again") -> dict[str, Any]:
    """A JSON object that this project wrote. Raises StoreError, naming the file and `fix`, for what is none."""
    try:
        value = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise StoreError(f"{path}: no such file; {fix}") from None
    except json.JSONDecodeError as error:
        raise StoreError(f"{path}:{error.lineno}: not JSON ({error.msg}); {fix}") from None
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path}: not JSON ({error}); {fix}") from None
    if not isinstance(value, dict):
        raise StoreError(f"{path}: not a JSON object; {fix}")
    return value


def canonical(value: Any) -> str:
    """JSON with one spelling for one value: what keys and digests are made of."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def write_sealed(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object and, in `digest`, a digest of it, by which `read_sealed` knows what was written."""
    as_read = json.loads(json.dumps({name: v for name, v in value.items() if name != "digest"}))
    write_json(path, as_read | {"digest": digest(canonical(as_read))})


def read_sealed(path: Path, fix: str) -> dict[str, Any]:
    """What `write_sealed` wrote. Raises StoreError with `fix` where it is not that; without `digest` it is older."""
    value = read_json(path, fix)
    if "digest" in value and value["digest"] != digest(canonical({n: v for n, v in value.items() if n != "digest"})):
        raise StoreError(f"{path}: its content is not what was written; {fix}")
    return value


def compare(
    folder: Path, listing: Mapping[str, Any], fix: str, content: Callable[[str], bool] = lambda name: True
) -> None:
    """Raises StoreError with `fix` for the first file that is not as listed; digests of those that `content` names."""
    if found := durable.damage(folder, listing, content=content):
        path, how = found
        raise StoreError(f"{path}: {how}: damaged since; {fix}")
