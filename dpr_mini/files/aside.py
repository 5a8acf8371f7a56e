"""What would not fit into memory, laid aside on disk: texts that come back in the order of their keys, a table by key.

Neither leaves a file behind, whatever ends the process: they have no name. A table, and the order of keys, lie where
SQLite keeps what is temporary (TMPDIR), texts in the folder that is named.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

Key = str | bytes
Value = str | int
_TOGETHER = 512  # rows that are handed to SQLite, or asked of it, at once


class _Database:
    """A private database that SQLite deletes itself. What the disk refuses is an OSError, as with any file."""

    def __init__(self, columns: str) -> None:
        self._open = sqlite3.connect("", isolation_level=None)  # "": on disk, without a name
        for setting in ("journal_mode = OFF", "synchronous = OFF", "temp_store = FILE"):
            self.run(f"PRAGMA {setting}")
        self.run(f"CREATE TABLE kept ({columns})")
        self.run("BEGIN")  # one transaction to the end: nobody else reads it

    def run(self, command: str, *values: Any) -> sqlite3.Cursor:
        try:
            return self._open.execute(command, values)
        except sqlite3.Error as error:
            raise _refused(error) from error

    def run_many(self, command: str, values: Iterable[tuple[Any, ...]]) -> None:
        try:
            self._open.executemany(command, values)
        except sqlite3.Error as error:
            raise _refused(error) from error

    def rows(self, command: str) -> Iterator[tuple[Any, ...]]:
        cursor = self.run(command)
        while True:
            try:
                some = cursor.fetchmany(_TOGETHER)
            except sqlite3.Error as error:
                raise _refused(error) from error
            if not some:
                return
            yield from some

    def close(self) -> None:
        self._open.close()


def _refused(error: sqlite3.Error) -> OSError:
    """What helps stands beside the place: for a full disk `store.system_error` has words of its own.

    Anything else has no number of the system's, so SQLite's own words are told.
    """
    full = getattr(error, "sqlite_errorname", "") == "SQLITE_FULL"
    where = os.environ.get("SQLITE_TMPDIR") or os.environ.get("TMPDIR") or "/var/tmp"  # as SQLite looks for it
    place = f"{where} (temporary files; set TMPDIR to have them on another disk)"
    return OSError(errno.ENOSPC if full else None, f"SQLite: {error}", place)


@contextmanager
def _in(place: str | Path) -> Iterator[None]:
    """A file without a name: what the system refuses of it is told of the folder."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(place)
        raise


def _bytes(key: Key) -> bytes:
    """Compared as bytes, UTF-8 has the order of Python's own strings."""
    return key if isinstance(key, bytes) else key.encode("utf-8", "surrogatepass")


class Table:
    """Key -> value, as a dict of texts would be, but on disk. Any order, no deleting."""

    def __init__(self) -> None:
        self._database = _Database("key BLOB PRIMARY KEY, value")
        self._size = 0

    def __setitem__(self, key: Key, value: Value) -> None:
        self._size += key not in self
        kept = value if isinstance(value, int) else _bytes(value)
        self._database.run("INSERT OR REPLACE INTO kept VALUES (?, ?)", _bytes(key), kept)

    def get(self, key: Key, default: Any = None) -> Any:
        found = self._database.run("SELECT value FROM kept WHERE key = ?", _bytes(key)).fetchone()
        if found is None:
            return default
        return found[0] if isinstance(found[0], int) else found[0].decode("utf-8", "surrogatepass")

    def __getitem__(self, key: Key) -> Any:
        """Raises KeyError for a key that is not there."""
        if (value := self.get(key)) is None:
            raise KeyError(key)
        return value

    def __contains__(self, key: Key) -> bool:
        return bool(self._database.run("SELECT 1 FROM kept WHERE key = ?", _bytes(key)).fetchone())

    def __len__(self) -> int:
        return self._size

    def add(self, key: Key) -> None:
        """As with a set: `len` then counts the different keys."""
        self._size += self._database.run("INSERT OR IGNORE INTO kept VALUES (?, 1)", _bytes(key)).rowcount

    def count(self, key: Key) -> int:
        """One more for the key, as with a Counter. Returns how many there are now."""
        now = self.get(key, 0) + 1
        self[key] = now
        return now


class Texts:
    """Texts that are written once and then read, each by its place or all of them in the order in which they came.

    with Texts(folder) as texts: place = texts.add("..."); texts.at(place)
    """

    def __init__(self, folder: Path | None = None) -> None:
        """The file lies in `folder`, which exists; None: where temporary files are kept."""
        self._folder = folder or tempfile.gettempdir()
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  closed by close()
        self._end = self._count = 0
        self._writing = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        with _in(self._folder):
            self._file.close()

    def add(self, text: Key) -> int:
        """Lay a text aside. Returns where it lies, for `at`."""
        data = _bytes(text)
        place = self._end
        with _in(self._folder):
            if not self._writing:
                self._file.seek(self._end)
                self._writing = True
            self._file.write(len(data).to_bytes(8, "little") + data)
        self._end += 8 + len(data)
        self._count += 1
        return place

    def __len__(self) -> int:
        return self._count

    def at(self, place: int) -> bytes:
        """The text that lies there, as bytes."""
        with _in(self._folder):
            self._writing = False
            self._file.seek(place)
            return self._file.read(int.from_bytes(self._file.read(8), "little"))

    def __iter__(self) -> Iterator[bytes]:
        """All of them, in the order in which they came."""
        place = 0
        while place < self._end:
            data = self.at(place)
            yield data
            place += 8 + len(data)


class Sorted:
    """Texts that come back in the order of their keys; those of equal keys in the order in which they came.

    with Sorted(folder) as rows: rows.add(key, text); for text in rows: ...
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._texts = Texts(folder)
        self._order = _Database("key BLOB, place INTEGER")
        self._new: list[tuple[bytes, int]] = []
        self._size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._texts.close()
        self._order.close()

    def add(self, key: Key, text: Key) -> None:
        self._new.append((_bytes(key), self._texts.add(text)))
        self._size += 1
        if len(self._new) == _TOGETHER:
            self._flush()

    def _flush(self) -> None:
        self._order.run_many("INSERT INTO kept VALUES (?, ?)", self._new)
        self._new = []

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        """The texts as bytes. Nothing is added while one walks over them."""
        self._flush()
        for (place,) in self._order.rows("SELECT place FROM kept ORDER BY key, rowid"):
            yield self._texts.at(place)
