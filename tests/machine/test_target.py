"""What a command is to write is looked at before its work."""

import os

import pytest

from dpr_mini.machine import target
from dpr_mini.types import UserError


def test_a_file_that_can_be_written_is_left_as_it_is(tmp_path):
    (tmp_path / "old.jsonl").write_text("x")
    for name in ("new.jsonl", "old.jsonl"):
        target.writable(tmp_path / name, tmp_path / "in.jsonl")
    assert [p.name for p in tmp_path.iterdir()] == ["old.jsonl"] and (tmp_path / "old.jsonl").read_text() == "x"


def test_what_would_be_lost_or_cannot_be_written_is_one_line(tmp_path):
    source = tmp_path / "in.jsonl"
    source.write_text("x")
    os.link(source, tmp_path / "hard.jsonl")
    (tmp_path / "soft.jsonl").symlink_to(source)
    (tmp_path / "ring").symlink_to(tmp_path / "ring")
    os.mkfifo(tmp_path / "pipe")
    for name, says in (
        ("in.jsonl", "a file that is read"),
        ("../" + tmp_path.name + "/in.jsonl", "a file that is read"),
        ("hard.jsonl", "a file that is read"),
        ("soft.jsonl", "a file that is read"),
        (".", "this is a folder"),
        ("pipe", "this is none"),
        ("none/out.jsonl", "no such folder"),
        ("in.jsonl/out.jsonl", "no such folder"),
        ("n" * 300, "cannot be written: File name too long"),
        ("n" * 250, "cannot be written: File name too long"),  # with the temporary beside it
        ("a\0b", "cannot be written"),
        ("ring/out.jsonl", "no such folder|cannot be written"),
    ):
        with pytest.raises(UserError, match=says):
            target.writable(tmp_path / name, source)
    assert source.read_text() == "x" and not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_a_folder_may_be_made_where_no_file_is(tmp_path):
    target.folder(tmp_path / "a" / "b")
    (tmp_path / "file").write_text("x")
    for name in ("file", "file/a", "n" * 300):
        with pytest.raises(UserError, match="--out"):
            target.folder(tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
