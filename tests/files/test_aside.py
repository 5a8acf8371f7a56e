"""What is laid aside on disk comes back as from memory, leaves nothing behind, and a full disk is a system error."""

from __future__ import annotations

import errno
import os
import re
import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpr_mini.files.aside import Sorted, Table, Texts
from dpr_mini.store import system_error

KEYS = st.text(st.sampled_from("ab\u00e9\ufffd\U0001d11e\ud800\n\0"), max_size=4)  # half a surrogate, too


@given(st.lists(st.tuples(KEYS, st.text(max_size=5) | st.integers(0, 9))))
def test_a_table_is_a_dict(items):
    table, expected = Table(), {}
    for key, value in items:
        assert (key in table) is (key in expected) and table.get(key, "none") == expected.get(key, "none")
        table[key] = expected[key] = value
    assert len(table) == len(expected) and all(table[k] == v for k, v in expected.items())


def test_a_table_counts_and_is_a_set():
    table, counts = Table(), Table()
    for key in ("a", "b", "a", b"a"):
        table.add(key)
    assert len(table) == 2 and "a" in table and "c" not in table
    assert [counts.count("a") for _ in range(3)] == [1, 2, 3] and counts["a"] == 3
    with pytest.raises(KeyError):
        table["c"]


@given(st.lists(st.tuples(KEYS, st.text(max_size=5))))
def test_sorted_is_sorted_as_text_and_stable(items):
    with Sorted() as aside:
        for key, text in items:
            aside.add(key, text)
        assert len(aside) == len(items)
        found = [text.decode("utf-8", "surrogatepass") for text in aside]
        assert found == [text for _, text in sorted(items, key=lambda item: item[0])]
        aside.add("", "last")
        assert b"last" in list(aside), "after it was read more may come"


def test_more_than_is_handed_to_sqlite_at_once_comes_back_in_order():
    with Sorted() as aside:
        for i in range(2000):
            aside.add(f"{i * 7919 % 2000:04d}", str(i * 7919 % 2000))
        assert [int(text) for text in aside] == list(range(2000))


def test_texts_are_read_and_written_in_turns(tmp_path):
    with Texts(tmp_path) as texts:
        places = [texts.add("first"), texts.add("")]
        assert texts.at(places[0]) == b"first"
        places.append(texts.add("third"))
        assert [texts.at(place) for place in reversed(places)] == [b"third", b"", b"first"]
        assert list(texts) == [b"first", b"", b"third"] and len(texts) == 3
        assert not list(tmp_path.iterdir()), "a killed run leaves no file, as it has no name"


def told(error) -> str:
    """The line that the user sees."""
    return str(system_error("filter-1", error.value))


def test_a_full_disk_is_told_with_the_place_and_what_helps(monkeypatch):
    monkeypatch.setenv("SQLITE_TMPDIR", "/small")
    table = Table()
    table._database._open.execute("PRAGMA max_page_count = 8")
    with pytest.raises(OSError, match=r"SQLite: .*full") as error:
        for i in range(1000):
            table[str(i)] = "x" * 100
    assert error.value.errno == errno.ENOSPC
    assert re.match(r"filter-1: /small \(.*set TMPDIR to .*\): the disk is full: free space; .*kept", told(error))


def test_what_else_sqlite_refuses_is_no_broken_disk(monkeypatch):
    monkeypatch.setenv("SQLITE_TMPDIR", "/nowhere")
    with pytest.raises(OSError, match="SQLite") as error:
        Table()._database.run("SELECT lost FROM kept")
    assert re.match(r"filter-1: /nowhere \(.*set TMPDIR to .*\): SQLite: no such column: lost; ", told(error))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has it")
@pytest.mark.parametrize("named", [True, False])
def test_a_full_disk_under_texts_is_told_with_the_folder(tmp_path, named):
    with Texts(tmp_path if named else None) as texts, open("/dev/full", "wb", buffering=0) as full:
        texts._file = full
        with pytest.raises(OSError, match="No space") as error:
            texts.add("x")
    where = tmp_path if named else tempfile.gettempdir()
    assert told(error).startswith(f"filter-1: {where}: the disk is full: free space; ")
