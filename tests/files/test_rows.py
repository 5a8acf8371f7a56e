"""Rows that are appended: what was synced must still be there, unchanged; what a crash left behind it is cut."""

import re

import pytest

from dpr_mini.files import rows
from dpr_mini.files.rows import (
    Rows,
    StoreError,
    append_row,
    read_as,
    read_json,
    read_rows,
    rewrite_rows,
    write_rows,
)
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
    assert ("left out" in capsys.readouterr().out) == tail.endswith(b"\n")


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
    rewrite_rows(path, [{"id": "z"}])
    assert ids(path) == {"z"}


def test_a_users_file_of_that_name_is_no_note(tmp_path):
    (tmp_path / "verdicts.jsonl.sum").write_text("mine")
    write_rows(tmp_path / "verdicts.jsonl", [{"id": "z"}])
    assert (tmp_path / "verdicts.jsonl.sum").read_text() == "mine"


def test_a_file_that_is_gone_though_it_was_synced_is_missed(path):
    path.unlink()
    with pytest.raises(StoreError, match=r"rows\.jsonl: is gone, though some of it was on the disk"):
        ids(path)


def test_an_interrupt_while_a_row_is_added_leaves_a_note_that_holds(path):
    """Ctrl-C comes between any two steps of Python: here behind the digest's."""

    class Interrupts:
        def __init__(self, inner):
            self.inner = inner

        def copy(self):
            return Interrupts(self.inner.copy())

        def update(self, line):
            self.inner.update(line)
            raise KeyboardInterrupt

        def hexdigest(self):
            return self.inner.hexdigest()

    with pytest.raises(KeyboardInterrupt), Rows(path) as file:
        file._hash = Interrupts(file._hash)
        file.add({"id": "d"})
    assert ids(path) == {"a", "b", "c", "d"}


def test_a_new_log_has_its_name_on_the_disk(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(rows.durable, "sync_folder", synced.append)
    for number in range(2):
        append_row(tmp_path / "log.jsonl", {"n": number})
    assert synced == [tmp_path] and [r["n"] for r in read_rows(tmp_path / "log.jsonl")] == [0, 1]


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
