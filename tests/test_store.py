"""The store: keys by content, manifest last, rows that survive a kill."""

import errno
import json
import os

import pytest
from staging import OneEngine, plain_stage

from dpr_mini.files.foreign import foreign_rows
from dpr_mini.files.rows import Rows, StoreError, read_rows, write_json
from dpr_mini.store import MANIFEST, changes, execute


def stage(config=None, inputs=None, run=None, name="filter-1", version=1):
    return plain_stage(name, version, config or {"a": 1}, run or (lambda folder, at: {}), inputs or {})


def test_key_depends_on_name_version_config_and_inputs_only():
    one = stage()
    assert one.key == stage().key
    assert one.key == stage(run=lambda folder, at: {"other": "code"}).key
    others = [stage({"a": 2}), stage(name="filter-2"), stage(version=2), stage(inputs={"x": stage()})]
    assert len({one.key, *(o.key for o in others)}) == 5
    # the same input in another role is another stage
    assert stage(inputs={"x": one}).key != stage(inputs={"y": one}).key


def test_manifest_is_written_last_and_makes_the_stage_complete(tmp_path):
    def run(folder, at):
        assert not (folder / MANIFEST).exists()
        return {"kept": 3}

    one = stage(run=run)
    assert one.state(tmp_path) == "run"
    folder = execute(one, tmp_path, OneEngine(), lambda: {"commit": "abc"})
    assert one.state(tmp_path) == "reuse"
    manifest = json.loads((folder / MANIFEST).read_text())
    assert manifest["metrics"] == {"kept": 3} and manifest["config"] == {"a": 1} and manifest["commit"] == "abc"


def test_complete_stage_does_not_run_again(tmp_path):
    calls = []
    one = stage(run=lambda folder, at: calls.append(1) or {})
    execute(one, tmp_path, OneEngine())
    execute(one, tmp_path, OneEngine())
    assert calls == [1]


def test_a_stage_that_failed_is_resumed_not_complete(tmp_path):
    def run(folder, at):
        (folder / "rows.jsonl").write_text('{"id": "a"}\n')
        raise KeyboardInterrupt

    one = stage(run=run)
    with pytest.raises(KeyboardInterrupt):
        execute(one, tmp_path, OneEngine())
    assert one.state(tmp_path) == "resume"
    assert (one.folder(tmp_path) / "rows.jsonl").exists()


def test_seconds_are_those_of_all_starts(tmp_path):
    """A start that was cut off counts from its beginning to the last file it touched."""

    def run(folder, at):
        (folder / "rows.jsonl").write_text('{"id": "a"}\n')
        if not (folder / "again").exists():
            raise KeyboardInterrupt
        return {}

    one = stage(run=run)
    with pytest.raises(KeyboardInterrupt):
        execute(one, tmp_path, OneEngine())
    folder = one.folder(tmp_path)
    begun = json.loads((folder / "started.json").read_text())["begun"]
    (folder / "again").touch()
    for file in folder.iterdir():
        os.utime(file, (begun + 100, begun + 100))
    execute(one, tmp_path, OneEngine())
    assert 100 <= one.manifest(tmp_path)["seconds"] < 101
    assert changes(stage({"a": 1}), tmp_path) == []


def test_full_disk_is_one_clear_line_and_keeps_what_was_done(tmp_path):
    def run(folder, at):
        (folder / "rows.jsonl").write_text('{"id": "a"}\n')
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StoreError, match=r"disk .* full.*same command") as caught:
        execute(stage(run=run), tmp_path, OneEngine())
    assert "\n" not in str(caught.value)
    assert (stage().folder(tmp_path) / "rows.jsonl").exists()


def test_rows_cut_a_partial_last_line_and_give_only_what_is_missing(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"id": "a"}\n{"id": "b"}\n{"id": "c", "te')
    with Rows(path) as rows:
        assert rows.ids == {"a", "b"}
        for item in rows.todo(["a", "b", "c", "d"], key=str):
            rows.add({"id": item})
    assert [r["id"] for r in read_rows(path)] == ["a", "b", "c", "d"]


@pytest.mark.parametrize("size", [0, 10, 70_000, 200_000])
def test_a_partial_line_of_any_length_is_cut(tmp_path, size):
    path = tmp_path / "rows.jsonl"
    whole = json.dumps({"id": "a", "text": "x" * 80_000}) + "\n"
    path.write_text(whole + '{"id": "' + "y" * size)
    with Rows(path) as rows:
        assert rows.ids == {"a"}
    assert path.read_text() == whole


def test_a_partial_only_line_leaves_an_empty_file(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": "a"')
    with Rows(path) as rows:
        assert rows.ids == set()
    assert path.read_text() == ""


def test_a_row_is_never_doubled(tmp_path):
    with Rows(tmp_path / "rows.jsonl") as rows:
        rows.add({"id": "a"})
        with pytest.raises(StoreError, match="'a' is there already"):
            rows.add({"id": "a"})


def test_a_broken_line_in_the_middle_is_named(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": "a"}\nnonsense\n{"id": "b"}\n')
    with pytest.raises(StoreError, match=r"rows.jsonl:2: not a row with 'id'"), Rows(path):
        pass


def test_nan_does_not_get_into_a_file(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", {"loss": float("nan")})
    assert not (tmp_path / "x.json").exists()


def test_changes_name_the_value_and_the_input(tmp_path):
    dialogues = stage(name="dialogue-1")
    execute(dialogues, tmp_path, OneEngine())
    before = stage({"rules": ["a", "b"], "limit": 1}, {"dialogues": dialogues})
    execute(before, tmp_path, OneEngine())
    after = stage({"rules": ["a", "c"], "limit": 1}, {"dialogues": stage({"t": 9}, name="dialogue-1")})
    told = changes(after, tmp_path)
    assert 'config.rules.1: "b" -> "c"' in told
    assert any(c.startswith("inputs.dialogues: ") for c in told)
    assert not any("limit" in c for c in told)
    assert changes(stage({"x": 1}, name="never-run"), tmp_path) == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": 1', "not JSON"),
        ("[1]", "must be a JSON object, not list"),
        ('{"id": ' + "[" * 100_000 + "]" * 100_000 + "}", "too deep to read"),
    ],
)
def test_a_users_bad_line_is_named(tmp_path, line, message):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": "\u2028"}\n\n' + line + "\n")
    rows = foreign_rows(path)
    assert next(rows) == (f"{path}:1", {"id": "\u2028"})
    with pytest.raises(StoreError, match=rf"rows\.jsonl:3: .*{message}"):
        next(rows)


def test_a_users_numbers_keep_their_spelling(tmp_path):
    """And are floats and ints all the same; a whole number of any length is read."""
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1.50, "b": 2E-7, "c": 12, "d": 3e999, "e": ' + "8" * 5000 + "}\n")
    ((_, row),) = foreign_rows(path)
    assert (row["a"], row["b"], row["c"]) == (1.5, 2e-7, 12) and type(row["c"]) is int
    assert [row[k].spelling for k in "abde"] == ["1.50", "2E-7", "3e999", "8" * 5000]
