"""Rows of a user's files: read with their own spelling, refused by file and line."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from dpr_mini.files.rows import StoreError


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
