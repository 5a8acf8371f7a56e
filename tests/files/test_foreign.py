"""Files of others: what editors and data frames write is read; all else is one line, in bounded memory and time."""

from __future__ import annotations

import gzip
import json
import os
import random
import zlib

import pytest

from dpr_mini.files import foreign
from dpr_mini.files.foreign import Numeral, border, count_rows, foreign_rows
from dpr_mini.files.rows import StoreError
from dpr_mini.types import UserError

ROW = {"problem": "What is 2 + 2?", "answer": "4"}
LINE = (json.dumps(ROW) + "\n").encode()
BOM = b"\xef\xbb\xbf"


def rows(path):
    return [row for _, row in foreign_rows(path)]


def refused(path, says):
    with pytest.raises(StoreError, match=says) as caught:
        rows(path)
    assert str(caught.value).startswith(f"{path}:") and str(caught.value).isprintable()


@pytest.mark.parametrize(
    "data",
    [LINE, LINE.strip(), BOM + LINE, b"\n \n" + LINE, LINE.replace(b"\n", b"\r\n"), BOM + LINE.replace(b"\n", b"\r\n")],
)
def test_what_editors_write_is_read(tmp_path, data):
    for name, content in (("a.jsonl", data), ("a.jsonl.gz", gzip.compress(data)), ("a.txt", data)):
        (tmp_path / name).write_bytes(content)
        assert rows(tmp_path / name) == [ROW]


def test_lines_are_counted_whatever_ends_them(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINE.strip() + b"\r" + BOM + LINE.strip() + b"\r\n\r\n" + LINE)
    assert [where for where, _ in foreign_rows(path)] == [f"{path}:{n}" for n in (1, 2, 4)]
    assert count_rows(path) == 3


def test_rows_are_counted_unparsed_but_bounded(tmp_path, monkeypatch):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b"{\n\n" + LINE))
    assert count_rows(path) == 2, "what stands in a line is the reader's to refuse"
    path.write_bytes(gzip.compress(LINE * 100)[:-20])
    with pytest.raises(StoreError, match=r"a\.jsonl\.gz: cannot be read as gzipped JSON Lines: EOFError"):
        count_rows(path)
    monkeypatch.setattr(foreign, "LONGEST", 1 << 20)
    path.write_bytes(gzip.compress(b" " * (8 << 20)))
    with pytest.raises(StoreError, match=r"a\.jsonl\.gz:1: a line of more than 1 MiB"):
        count_rows(path)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("x".encode("utf-16"), "UTF-16 text: save it as UTF-8"),
        (json.dumps(ROW).encode("utf-16-be"), "a.jsonl:1: a NUL in the text, as in UTF-16"),
        (gzip.compress(LINE), r"a gzip archive: give it a name that ends in \.gz"),
        (b"PAR1xxxxPAR1", r"a parquet file: give it a name"),
        (b"PK\x03\x04", "a zip archive"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer"),
        (LINE + b'{"a": "\xe9"}\n', r"a\.jsonl:2: not UTF-8 text \(byte 0xe9 at 8\)"),
        (LINE + b"{", r"a\.jsonl:2: not JSON: .*column 2"),
        (LINE + b'{"a": 1, "a": 2}', r"a\.jsonl:2: the field 'a' stands twice"),
        (b'{"a": {"b": 1, "b": 2}}', r"a\.jsonl:1: the field 'b' stands twice"),
        (b"[" * 100_000, r"a\.jsonl:1: a nesting that is too deep"),
        (b"7", r"a\.jsonl:1: a row must be a JSON object, not int"),
        (b'{"a": [' + b"0," * foreign.VALUES + b"0]}", r"a\.jsonl:1: more than 1,000,000 values"),
    ],
)
def test_what_is_no_row_is_one_line(tmp_path, data, says):
    (tmp_path / "a.jsonl").write_bytes(data)
    refused(tmp_path / "a.jsonl", says)


def test_only_regular_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    refused(tmp_path / "pipe.jsonl", "a device, pipe or socket")
    refused(tmp_path, "this is a folder")
    refused(tmp_path / "none.jsonl", "no such file")
    refused(tmp_path / ("n" * 300), "cannot be opened: File name too long")
    with pytest.raises(StoreError, match="cannot be opened"):
        rows(tmp_path / "a\0b")


def test_damaged_archives(tmp_path):
    """Every byte of a small archive flipped in turn, and every length that it may be cut to."""
    whole, path = gzip.compress(LINE * 3), tmp_path / "a.jsonl.gz"
    damaged = [whole[:n] + bytes([whole[n] ^ 1 << n % 8]) + whole[n + 1 :] for n in range(len(whole))]
    for data in (*damaged, *(whole[:n] for n in range(len(whole)))):
        path.write_bytes(data)
        try:
            assert all(row == ROW for row in rows(path))  # a flag or a time in the header
        except StoreError as error:
            assert str(error).startswith(f"{path}")
    path.write_bytes(LINE)
    refused(path, "no gzip archive")


def test_small_archives_of_large_content_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(foreign, "UNPACKED", 1 << 20)
    monkeypatch.setattr(foreign, "LONGEST", 1 << 20)
    monkeypatch.setattr(foreign, "BLANK", 1000)
    for name, unit, says in (("line", b"1", "unpack to more"), ("blank", b"\n", "1,000 empty lines")):
        (tmp_path / f"{name}.jsonl.gz").write_bytes(gzip.compress(unit * (2 << 20)))
        refused(tmp_path / f"{name}.jsonl.gz", says)
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(LINE * 50_000))
    refused(tmp_path / "rows.jsonl.gz", "unpack to more than 200 times as many")


def test_numbers_keep_their_spelling(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"a": 1e-05, "b": ' + "7" * 5000 + ', "c": 3}')
    ((a, b, c),) = [row.values() for row in rows(tmp_path / "a.jsonl")]
    assert isinstance(a, Numeral) and a.spelling == "1e-05" and b.spelling == "7" * 5000 and c == 3


class OddError(Exception):
    pass


@pytest.mark.parametrize(
    "error",
    [OddError("x\ny"), zlib.error(), KeyError("k"), MemoryError(), OSError(5, "Input/output error"), EOFError()],
)
def test_whatever_a_library_raises_is_one_line(error):
    def broken():
        yield "a", ROW
        raise error

    read = border(broken, "set", "had", "look there")
    assert next(read) == ("a", ROW)
    with pytest.raises(StoreError, match="set: "):
        next(read)
    with pytest.raises(UserError, match="mine"):
        list(border(lambda: (_ for _ in ()).throw(UserError("mine")), "set", "had", "look there"))


# ---------------------------------------------------------------- parquet


@pytest.fixture
def pq():
    return pytest.importorskip("pyarrow.parquet", reason="pyarrow is an extra")


def test_parquet_is_read_with_lists_objects_and_nulls(tmp_path, pq):
    import pyarrow as pa

    messages = [{"role": "user", "content": "Two?"}]
    made = [{"prompt": messages, "reward_model": {"ground_truth": "2", "style": "rule"}, "x": None, "m": [1, 2]}] * 40
    pq.write_table(pa.Table.from_pylist(made), tmp_path / "a.parquet", row_group_size=7)
    assert rows(tmp_path / "a.parquet") == made
    assert [where for where, _ in foreign_rows(tmp_path / "a.parquet")][::39] == [
        f"{tmp_path / 'a.parquet'}: row {n}" for n in (1, 40)
    ]


def test_damaged_parquet(tmp_path, pq):
    import pyarrow as pa

    path, rng = tmp_path / "a.parquet", random.Random(3)
    pq.write_table(pa.table({"problem": [f"p{i}" for i in range(50)], "answer": [str(i) for i in range(50)]}), path)
    whole = path.read_bytes()
    for n in [*range(0, len(whole), 29)]:
        data = bytearray(whole)
        data[n] ^= 1 << rng.randrange(8)
        path.write_bytes(bytes(data))
        try:
            rows(path)  # a flipped letter is a letter
        except StoreError as error:
            assert str(error).startswith(f"{path}")
    for data, says in (
        (whole[:-9], "read as parquet"),
        (LINE, "no parquet file"),
        (b"", "no parquet"),
        (b"\x1f\x8b", "gzip"),
    ):
        path.write_bytes(data)
        refused(path, says)


def test_small_parquet_of_large_content_is_refused(tmp_path, pq, monkeypatch):
    import pyarrow as pa

    def write(value, count):
        many = pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), pa.array([value]))
        pq.write_table(pa.table({"problem": many}), tmp_path / "a.parquet")

    monkeypatch.setattr(foreign, "UNPACKED", 1 << 20)
    monkeypatch.setattr(foreign, "LONGEST", 1 << 20)
    write("x" * 10_000, 5_000)
    refused(tmp_path / "a.parquet", "unpack to more than 200 times as many")
    write("x" * (3 << 20), 2)
    refused(tmp_path / "a.parquet", "more than 1 MiB|unpack to")
    monkeypatch.setattr(foreign, "CHUNK", 2 << 20)
    pq.write_table(pa.table({"problem": ["y" * (3 << 20)]}), tmp_path / "a.parquet", use_dictionary=False)
    refused(tmp_path / "a.parquet", "row group 1: .* of more than 1 MiB")
    monkeypatch.setattr(foreign, "ELEMENTS", 5_000)
    lists = pa.ListArray.from_arrays(pa.array([0, 9_000], pa.int32()), pa.nulls(9_000, pa.int8()))
    pq.write_table(pa.table({"problem": lists}), tmp_path / "a.parquet")
    refused(tmp_path / "a.parquet", "elements in lists")
    monkeypatch.setattr(foreign, "ELEMENTS", 50_000)
    monkeypatch.setattr(foreign, "VALUES", 5_000)
    refused(tmp_path / "a.parquet", "row 1: more than 5,000 values")
