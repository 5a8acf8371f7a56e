"""Rows of a user's files: read with their own spelling, refused by file and line.

This is the border: whatever a file that others wrote can raise, of its own or of a library that unpacks it, becomes one
StoreError that names file, line or row, what was seen and what helps. What is read is bounded, so that a small file
that unpacks to a large one ends in a line, too, not in the machine's memory.
"""

from __future__ import annotations

import gzip
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Self, TypeVar

from dpr_mini.files.rows import StoreError
from dpr_mini.types import UserError

T = TypeVar("T")
Rows = Iterator[tuple[str, dict[str, Any]]]  # ("file:line", row)

LONGEST = 16 << 20  # bytes of one row
VALUES = 1_000_000  # in one row, by commas and brackets where it is JSON: each costs up to 200 bytes in memory
BLANK = 1_000_000  # empty lines in a row
# A file may unpack to so much; and to more, where that is not so many times its own size as nobody's text is.
UNPACKED, TIMES = 64 << 20, 200
BATCH = 16  # parquet rows at a time
# One row group, unpacked: so much of it is read only where it was not packed tighter than text is, and so many elements
# in lists are never read.
CHUNK, TIGHT, ELEMENTS = 256 << 20, 20, 1 << 25

BOM = b"\xef\xbb\xbf"
NO_TEXT = (  # how a file begins that is no UTF-8 text, and what to do with it
    (b"\xff\xfe", "UTF-16 text: save it as UTF-8"),
    (b"\xfe\xff", "UTF-16 text: save it as UTF-8"),
    (b"\x00\x00\xfe\xff", "UTF-32 text: save it as UTF-8"),
    (b"\x1f\x8b", "a gzip archive: give it a name that ends in .gz"),
    (b"PAR1", "a parquet file: give it a name that ends in .parquet"),
    (b"PK\x03\x04", "a zip archive, as spreadsheets are: unpack or export it as JSON Lines"),
    (b"version https://git-lfs.github.com/spec/", "a Git LFS pointer: get the file itself (git lfs pull)"),
)


class Numeral(float):
    """A JSON number that keeps its spelling, of which a float may be a poor copy (1e400) or have another one (1e-05).

    Also an integer that is too long for Python's own reader.
    """

    __slots__ = ("spelling",)
    spelling: str

    def __new__(cls, spelling: str) -> Self:
        self = super().__new__(cls, spelling)
        self.spelling = spelling
        return self

    def __getnewargs__(self) -> tuple[str]:
        return (self.spelling,)


def foreign_rows(path: Path) -> Rows:
    """("file:line", row) of a user's JSONL file, also gzipped, or of a parquet file: ("file: row 1", row).

    Empty lines are passed over, and so is a UTF-8 byte order mark. Fractions are `Numeral`s. Nothing but StoreError
    comes out of here, and UserError where a library is missing: for what is not there, no regular file, not text, not
    JSON, not an object, damaged, or too large.
    """
    return _bordered(path, _parquet if path.suffix.lower() == ".parquet" else _json_lines)


def count_rows(path: Path) -> int:
    """How many rows a user's JSONL file has, also gzipped: lines that are not empty. None is parsed, which takes long.

    Raises StoreError as `foreign_rows` does, but not for what stands in a line.
    """
    return sum(1 for _ in _bordered(path, _lines))


def _bordered(path: Path, read: Callable[[Path], Iterator[T]]) -> Iterator[T]:
    kind = {".parquet": "parquet", ".gz": "gzipped JSON Lines"}.get(path.suffix.lower(), "JSON Lines")
    return border(lambda: read(path), str(path), f"read as {kind}", "is it damaged, or something else?")


def border(open_rows: Callable[[], Iterator[T]], name: str, done: str, fix: str) -> Iterator[T]:
    """The rows of something foreign. Raises StoreError for whatever else opening it or reading on can raise.

    `name` begins the message, `done` says what could not be ("read as parquet"), `fix` what to do.

    A library that unpacks, parses or downloads raises what it likes: ValueError, OSError, EOFError, zlib.error,
    ArrowException, KeyError, MemoryError, RecursionError and classes of its own that have no base in common. So all is
    caught, here and nowhere else.
    """
    try:
        yield from open_rows()
    except UserError:
        raise
    except FileNotFoundError as error:
        raise StoreError(f"{name}: cannot be {done}: no such file or data set ({_said(error)}); {fix}") from None
    except MemoryError:
        raise StoreError(f"{name}: too large for this machine's memory; split it") from None
    except ImportError as error:
        raise StoreError(f"{name}: a package is missing ({_said(error)}): pip install 'dpr-mini[data,cpu]'") from None
    except Exception as error:
        raise StoreError(f"{name}: cannot be {done}: {type(error).__name__}: {_said(error)}; {fix}") from None


def _said(error: Exception) -> str:
    own = isinstance(error, OSError) and error.errno and error.strerror
    return (own or " ".join(str(error).split()))[:300] or "no reason given"


def is_regular(path: Path) -> bool:
    """Whether that is a file that ends: no folder, device or pipe, and no name that the system refuses."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):  # ValueError: a name with a NUL
        return False


def _size(path: Path) -> int:
    """Bytes of a regular file. Raises StoreError for any other."""
    try:
        found = path.stat()
    except FileNotFoundError:
        raise StoreError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: cannot be opened: {getattr(error, 'strerror', None) or error}") from None
    if not stat.S_ISREG(found.st_mode):
        what = "a folder" if stat.S_ISDIR(found.st_mode) else "a device, pipe or socket"
        raise StoreError(f"{path}: this is {what}; rows are read from a regular file")
    return found.st_size


def _unpacked(path: Path, packed: int, unpacked: int) -> None:
    """Raises StoreError where a file unpacks to more than text would."""
    if unpacked > max(UNPACKED, TIMES * packed):
        raise StoreError(f"{path}: {packed:,} bytes unpack to more than {TIMES} times as many; nobody's rows do")


# ---------------------------------------------------------------- JSON Lines


def _json_lines(path: Path) -> Rows:
    return ((where, _row(line, where)) for where, line in _lines(path))


def _lines(path: Path) -> Iterator[tuple[str, bytes]]:
    """("file:line", what stands there) of every line that is not empty."""
    size = _size(path)
    with ExitStack() as stack:
        file: BinaryIO = stack.enter_context(path.open("rb"))
        packed = path.suffix.lower() == ".gz"
        if packed:
            _text_head(path, file.peek(8)[:8], packed)
            file = stack.enter_context(gzip.GzipFile(fileobj=file))
        number = read = blank = 0
        while line := file.readline(LONGEST + 1):
            read += len(line)
            blank = 0 if line.strip() else blank + 1
            if blank > BLANK:
                raise StoreError(f"{path}:{number}: more than {BLANK:,} empty lines before it; is it damaged?")
            if packed:
                _unpacked(path, size, read)
            if not number:
                _text_head(path, line[:64], False)
            for part in line.rstrip(b"\r\n").split(b"\r"):  # inside a string JSON has no bare carriage return
                number += 1
                if len(line) > LONGEST:
                    raise StoreError(f"{path}:{number}: a line of more than {LONGEST >> 20} MiB; a row is less")
                if part.strip():
                    yield f"{path}:{number}", part.removeprefix(BOM)


def _text_head(path: Path, head: bytes, packed: bool) -> None:
    """Raises StoreError for a file that begins as something else does."""
    if packed:
        if head and not head.startswith(b"\x1f\x8b"):
            raise StoreError(f"{path}: no gzip archive, whatever its name says; take .gz off, or pack it again")
        return
    for start, what in NO_TEXT:
        if head.startswith(start):
            raise StoreError(f"{path}: this is {what}")


def _row(line: bytes, where: str) -> dict[str, Any]:
    if sum(map(line.count, (b",", b"[", b"{"))) > VALUES:
        raise StoreError(f"{where}: more than {VALUES:,} values in one row; a row is one problem or answer")
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        seen = f"byte {line[error.start]:#04x} at {error.start + 1}"
        raise StoreError(f"{where}: not UTF-8 text ({seen}); save the file as UTF-8") from None
    if "\0" in text:
        raise StoreError(f"{where}: a NUL in the text, as in UTF-16 or a damaged file; save it as UTF-8") from None
    try:
        row = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise StoreError(f"{where}: not JSON: {error.msg} at column {error.colno}; a line is one object") from None
    except RecursionError:  # thousands of brackets
        raise StoreError(f"{where}: a nesting that is too deep to read") from None
    except _TwiceError as error:
        raise StoreError(f"{where}: the field {error.args[0]!r:.60} stands twice; which one counts?") from None
    if not isinstance(row, dict):
        raise StoreError(f"{where}: a row must be a JSON object, not {type(row).__name__}")
    return row


class _TwiceError(Exception):
    """A field's name that one object has twice."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise _TwiceError(next(n for n in names if names.count(n) > 1))
    return found


def _integer(digits: str) -> int | Numeral:
    try:
        return int(digits)
    except ValueError:  # thousands of digits
        return Numeral(digits)


_DECODER = json.JSONDecoder(parse_float=Numeral, parse_int=_integer, object_pairs_hook=_object)


# ---------------------------------------------------------------- parquet and arrow


def _parquet(path: Path) -> Rows:
    size = _size(path)
    with path.open("rb") as begun:
        head = begun.read(64)
    if not head.startswith(b"PAR1"):
        _text_head(path, head, False)
        raise StoreError(f"{path}: no parquet file, whatever its name says; JSON Lines are called .jsonl")
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
        nested = any(field.type.num_fields for field in file.schema_arrow)
        elements = _elements(path) if nested else [0] * file.metadata.num_row_groups
        narrow = narrow_floats(file.schema_arrow)
        number = read = 0
        for group, within in enumerate(elements):
            batch_size = _batch_size(f"{path}: row group {group + 1}", size, file.metadata.row_group(group), within)
            for batch in file.iter_batches(batch_size, row_groups=[group], use_threads=False):
                read += batch.nbytes
                _unpacked(path, size, read)
                for i in range(batch.num_rows):
                    number += 1
                    one = batch.slice(i, 1)
                    if batch.nbytes > LONGEST and one.nbytes > LONGEST:
                        raise StoreError(f"{path}: row {number}: more than {LONGEST >> 20} MiB; a row is less")
                    if sum(map(_values, one.columns)) > VALUES:
                        raise StoreError(f"{path}: row {number}: more than {VALUES:,} values; a row is one problem")
                    (row,) = one.to_pylist()
                    yield f"{path}: row {number}", spelled(row, narrow)


def _values(array: Any) -> int:
    """How many values an arrow array holds, those in its lists and structures too."""
    import pyarrow

    kind = array.type
    if pyarrow.types.is_struct(kind):
        return len(array) + sum(map(_values, array.flatten()))
    if pyarrow.types.is_map(kind):
        return len(array) + _values(array.keys) + _values(array.items)
    if kind.num_fields and hasattr(array, "flatten"):  # lists of every sort
        return len(array) + _values(array.flatten())
    return len(array)


def _batch_size(where: str, packed: int, group: Any, elements: int) -> int:
    """Rows to read at a time, so that they fit. Raises StoreError for a row group of which no row may fit."""
    unpacked, fix = group.total_byte_size, "write the file with smaller row groups"
    if unpacked > LONGEST * max(1, group.num_rows):
        raise StoreError(f"{where}: rows of more than {LONGEST >> 20} MiB; a row is less")
    if unpacked > CHUNK and unpacked > TIGHT * packed:
        raise StoreError(f"{where}: a file of {packed:,} bytes unpacks to {unpacked:,}; {fix}")
    if elements > ELEMENTS:
        raise StoreError(f"{where}: {elements:,} elements in lists; {fix}")
    return 1 if unpacked > TIGHT * packed or elements > LONGEST else BATCH


def _elements(path: Path) -> list[int]:
    """How many elements the lists of each row group have. Raises StoreError for a file whose metadata are damaged.

    What pyarrow says of a damaged column ends the process (std::terminate, seen with 26.0), so another one is asked.
    """
    asked = [sys.executable, "-c", _ASK, str(path.absolute())]
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    done = subprocess.run(asked, capture_output=True, text=True, env=environment, timeout=120)
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise StoreError(f"{path}: cannot be read as parquet: {why.strip():.200}; is it damaged?")
    return [int(number) for number in done.stdout.split()]


_ASK = """
import sys, pyarrow.parquet
file = pyarrow.parquet.ParquetFile(sys.argv[1]).metadata
for group in map(file.row_group, range(file.num_row_groups)):
    print(sum(group.column(i).num_values - group.num_rows for i in range(group.num_columns)))
"""


def narrow_floats(schema: Any) -> dict[str, type]:
    """Columns of floats that are narrower than Python's, and their type, of an arrow schema."""
    import numpy as np

    types = {"float": np.float32, "halffloat": np.float16}
    return {field.name: types[str(field.type)] for field in schema if str(field.type) in types}


def spelled(row: Mapping[str, Any], narrow: Mapping[str, type]) -> dict[str, Any]:
    """The row with narrow floats as their own type spells them: 0.1, which Python's float has as 0.10000000149."""
    if not narrow:
        return dict(row)
    return {n: Numeral(str(narrow[n](v))) if n in narrow and v is not None else v for n, v in row.items()}
