"""Rows that are appended: what was synced must still be there, unchanged; what a crash left behind it is cut."""

import re

import pytest

from dpr_mini.files import rows
from dpr_mini.files.rows import Rows, StoreError, read_as, read_json, read_rows, write_rows
from dpr_mini.types import Graded, Pack, Problem


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "rows.jsonl"
    with Rows(path) as file:
        for name in "abc":
            file.add({"id": name, "text": "1" * 50})
    return path


def ids(path):
    with Rows(path) as file:
        return file.ids


def test_untouched_rows_are_read_back_and_go_on(path):
    with Rows(path) as file:
        assert file.ids == {"a", "b", "c"}
        file.add({"id": "d"})
    assert ids(path) == {"a", "b", "c", "d"}


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.replace(b"1111", b"1112", 1),
        lambda data: data[:-40],
        lambda data: b"",
        lambda data: b"".join(data.splitlines(True)[:2]),
        lambda data: b"".join(data.splitlines(True)[::-1]),
        lambda data: b'{"id": "x"}\n' + data,
        lambda data: b"[1]\n" + data,
        lambda data: data[:100] + bytes(100) + data[200:],
    ],
)
def test_rows_that_were_synced_must_be_there_unchanged(path, change):
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(StoreError, match=re.escape(f"{path}") + r".*; delete the folder to redo the stage"):
        ids(path)


TAILS = [b"\x00" * 4096, b'{"id": "d", "te', b"\x00" * 10 + b"\njunk\n", b"[1]\n", b'{"no": 1}\n']


@pytest.mark.parametrize("tail", TAILS)
def test_what_a_crash_left_behind_them_is_cut(path, tail, capsys):
    path.write_bytes(path.read_bytes() + tail)
    assert ids(path) == {"a", "b", "c"}
    assert [row["id"] for row in read_rows(path)] == ["a", "b", "c"]
    assert ("done again" in capsys.readouterr().out) == tail.endswith(b"\n")


def test_whole_rows_behind_them_are_kept(path):
    """They were flushed, and a kill loses nothing: only a power cut would have."""
    path.write_bytes(path.read_bytes() + b'{"id": "d"}\n')
    assert ids(path) == {"a", "b", "c", "d"}


def test_rows_are_synced_now_and_then(tmp_path, monkeypatch):
    now = iter(range(0, 1000, 2))
    monkeypatch.setattr(rows.time, "monotonic", lambda: next(now))
    notes = []
    with Rows(tmp_path / "rows.jsonl") as file:
        for number in range(30):
            file.add({"id": number})
            note = tmp_path / "rows.jsonl.sum"
            notes.append(read_json(note)["bytes"] if note.exists() else 0)
    assert 5 < len(set(notes)) < 15


def test_a_file_that_is_written_anew_forgets_the_note(path):
    write_rows(path, [{"id": "z"}])
    assert ids(path) == {"z"}


@pytest.mark.parametrize("note", [b"", b"{}", b"[]", b'{"bytes": true, "sha256": "a"}', b'{"bytes": 5}'])
def test_a_damaged_note_is_named_with_what_to_do(path, note):
    path.with_name("rows.jsonl.sum").write_bytes(note)
    with pytest.raises(StoreError, match=r"rows.jsonl.sum.*; delete"):
        ids(path)


@pytest.mark.parametrize("line", [b"[1]", b"1", b"null", b'{"a": ', b"\xff", b"[" * 10**5, b"9" * 10**4, b""])
def test_a_line_that_is_no_row_is_named(tmp_path, line):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"id": 1}\n' + line + b"\n")
    with pytest.raises(StoreError, match=r"rows.jsonl:2: not a JSON object; delete the folder"):
        list(read_rows(path))


PROBLEM = b'{"id": "a", "source": "s", "text": "t", "answer": "1"}\n'


@pytest.mark.parametrize(
    ("cls", "line"),
    [
        (Problem, b'{"id": "a"}'),
        (Pack, b'{"samples": ["a"], "ids": [1, 2], "trained": [true], "starts": [0]}'),
        (Pack, b'{"samples": ["a"], "ids": [1, 2], "trained": [true, true], "starts": [1]}'),
        (Pack, b'{"samples": ["a"], "ids": 5, "trained": [true, true], "starts": [0]}'),
        (Graded, b'{"id": "a", "sample": 1}'),
    ],
)
def test_a_row_of_another_kind_is_named(tmp_path, cls, line):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(line + b"\n")
    with pytest.raises(StoreError, match=r"rows.jsonl:1: not a row of this kind"):
        list(read_as(cls, path))


def test_rows_are_read_as_what_they_were(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(PROBLEM)
    assert list(read_as(Problem, path)) == [Problem("a", "s", "t", "1")]


def test_a_file_that_is_not_there_is_one_line(tmp_path):
    for read in (lambda p: list(read_rows(p)), read_json):
        with pytest.raises(StoreError, match=r"none: no such file"):
            read(tmp_path / "none")
        with pytest.raises(StoreError, match=r": no such file"):
            read(tmp_path)
