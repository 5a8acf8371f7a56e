"""A power cut at any moment loses no row that a manifest counts; what was damaged since is noticed, and named."""

import errno
import itertools
import json
import os
import random
import shutil
import stat
import subprocess
import time
from contextlib import nullcontext

import power
import pytest
from staging import OneEngine, plain_stage

from dpr_mini.files import durable, rows
from dpr_mini.files.rows import Rows, StoreError, read_rows, write_json, write_rows
from dpr_mini.store import MANIFEST, execute, read_manifest, write_manifest


def pipeline():
    """Three stages: rows that are appended, a whole file made of them, a folder made of that."""

    def draw(folder, at):
        with Rows(folder / "rows.jsonl") as file:
            for item in file.todo(map(str, range(12)), key=str):
                file.add({"id": item, "text": item * 300})
        return {"rows": len(list(read_rows(folder / "rows.jsonl")))}

    def select(folder, at):
        kept = [row for row in read_rows(at["drawn"] / "rows.jsonl") if int(row["id"]) % 2]
        write_rows(folder / "rows.jsonl", kept)
        (folder / "page.html").write_text("<p>" * 3000)  # nobody but the seal syncs it
        return {"kept": len(kept)}

    def build(folder, at):
        temporary = folder / ".model.tmp"
        if temporary.exists():
            shutil.rmtree(temporary)
        if not (folder / "model").exists():
            temporary.mkdir()
            names = "".join(row["id"] * 5000 for row in read_rows(at["kept"] / "rows.jsonl"))
            (temporary / "weights").write_text(names)
            (temporary / "config").write_text("{}")
            durable.seal(temporary)
            os.replace(temporary, folder / "model")
        return {"bytes": (folder / "model/weights").stat().st_size}

    one = plain_stage("draw", 1, {}, draw)
    two = plain_stage("select", 1, {}, select, {"drawn": one})
    return one, two, plain_stage("build", 1, {}, build, {"kept": two})


def content(root):
    """What the stages left, without times."""
    told = {}
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        name = path.relative_to(root).as_posix()
        if path.name == MANIFEST:
            told[name] = json.loads(path.read_text())["metrics"]
        elif path.name != "started.json":
            told[name] = path.read_bytes()
    return told


def go(root):
    for stage in pipeline():
        execute(stage, root, OneEngine())


@pytest.mark.slow
@pytest.mark.parametrize("whole_pages", [False, True])
def test_a_power_cut_at_any_moment_changes_nothing(tmp_path, monkeypatch, whole_pages):
    go(tmp_path / "unbroken")
    cuts, draw = itertools.count(), random.Random(0) if whole_pages else None

    def moment(disk, what):
        disk.hold(tmp_path / f"cut{next(cuts)}", draw)

    (tmp_path / "run").mkdir()
    with monkeypatch.context() as patch, power.watched(tmp_path / "run", moment):
        patch.setattr(rows, "EVERY", 0.0)  # so that rows are synced in between, too
        go(tmp_path / "run")
    number = next(cuts)
    assert number > 60
    for cut in range(0, number, 3):
        go(tmp_path / f"cut{cut}")
        assert content(tmp_path / f"cut{cut}") == content(tmp_path / "unbroken"), cut
        shutil.rmtree(tmp_path / f"cut{cut}")


def test_the_disk_of_these_tests_does_forget(tmp_path):
    """Were nothing synced, a complete stage would have no rows: the test above can fail."""
    (tmp_path / "run").mkdir()
    with power.watched(tmp_path / "run", lambda disk, what: None) as disk:
        (tmp_path / "run/rows.jsonl").write_text('{"id": 1}\n')
        disk.hold(tmp_path / "cut")
    assert (tmp_path / "cut/rows.jsonl").read_bytes() == b""


def test_a_file_is_the_old_one_or_the_new_one_and_no_temporary_stays(tmp_path):
    path = tmp_path / "a.jsonl"
    write_rows(path, [{"id": 1}])

    def broken():
        yield {"id": 2}
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_rows(path, broken())
    assert [p.name for p in tmp_path.iterdir()] == ["a.jsonl"] and list(read_rows(path)) == [{"id": 1}]


def test_a_sweep_takes_what_killed_runs_left_and_nothing_else(tmp_path):
    for name in (".stage.json.4711", ".rows.jsonl.1", ".lock", ".hidden", "rows.jsonl", "a.12"):
        (tmp_path / name).touch()
    (tmp_path / ".folder.12").mkdir()
    durable.sweep(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".folder.12", ".hidden", ".lock", "a.12", "rows.jsonl"]


def test_beside_others_only_what_the_dead_left_is_swept(tmp_path):
    """A cache is shared: what a process that runs is writing stays."""
    dead = subprocess.Popen(["true"])
    dead.wait()
    for name in (f".a.gguf.{dead.pid}", f".a.gguf.{os.getpid()}", f".b.gguf.{dead.pid}", ".a.gguf.x", "a.gguf"):
        (tmp_path / name).touch()
    (tmp_path / f".a.gguf.{10**30}").mkdir()
    durable.sweep_beside(tmp_path / "a.gguf")
    left = {p.name for p in tmp_path.iterdir()}
    assert left == {f".a.gguf.{os.getpid()}", f".b.gguf.{dead.pid}", ".a.gguf.x", "a.gguf"}


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EBADF, errno.EACCES, errno.EIO])
def test_a_folder_that_cannot_be_synced_is_let_be_but_a_broken_disk_is_not(tmp_path, monkeypatch, number):
    sync = os.fsync

    def refuses_folders(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, "no")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", refuses_folders)
    with pytest.raises(OSError, match="no") if number == errno.EIO else nullcontext():
        write_json(tmp_path / "a.json", {})
    assert (tmp_path / "a.json").exists()


def test_what_was_sealed_is_not_read_again_until_it_changes(tmp_path, monkeypatch):
    (tmp_path / "weights").write_bytes(b"a" * 100)
    time.sleep(2 * durable.TICK)
    listing, reads, sha256 = durable.seal(tmp_path), [], durable.sha256
    monkeypatch.setattr(durable, "sha256", lambda path: reads.append(path) or sha256(path))
    assert durable.damage(tmp_path, listing, content=lambda name: True) is None and not reads
    (tmp_path / "weights").write_bytes(b"b" * 100)
    assert durable.damage(tmp_path, listing, content=lambda name: True) and reads


@pytest.mark.parametrize(
    "listing", [[], None, 5, {"a": 3}, {"a": []}, {"a": ["x", "y"]}, {"a": [1, 2]}, {"a": [True, "x"]}]
)
def test_a_listing_of_another_form_is_a_damage_not_a_traceback(tmp_path, listing):
    assert "listed in no form" in durable.damage(tmp_path, listing, content=lambda name: True)[1]


# ---------------------------------------------------------------- damages


@pytest.fixture
def complete(tmp_path):
    go(tmp_path)
    return tmp_path


def folder(root, name):
    return next(root.glob(f"{name}-????????"))


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path):
    path.write_bytes(path.read_bytes()[:-7])


def emptied(path):
    path.write_bytes(b"")


def longer(path):
    path.write_bytes(path.read_bytes() + b"x")


FILES = ["draw/rows.jsonl", "draw/started.json", "select/rows.jsonl", "build/model/weights", "build/model/config"]


@pytest.mark.parametrize("damage", [cut, os.unlink, emptied, longer])
@pytest.mark.parametrize("file", FILES)
def test_another_size_is_noticed_before_anything_is_reused(complete, file, damage):
    stage, _, name = file.partition("/")
    damage(folder(complete, stage) / name)
    with pytest.raises(StoreError, match=rf"{name}: (has .* bytes|is gone).*damaged since; delete .*{stage}-"):
        go(complete)


@pytest.mark.parametrize("file", ["draw/rows.jsonl", "select/rows.jsonl"])
def test_another_content_is_noticed_before_a_stage_reads_it(complete, file):
    stage, _, name = file.partition("/")
    flip(folder(complete, stage) / name)
    shutil.rmtree(folder(complete, {"draw": "select", "select": "build"}[stage]))
    with pytest.raises(StoreError, match=rf"{name}: has another content than when it was complete"):
        go(complete)


def test_all_files_that_differ_are_named(complete):
    for path in folder(complete, "draw").iterdir():
        if path.name != MANIFEST:
            path.unlink()
    with pytest.raises(StoreError, match=r"rows.jsonl: is gone \(and rows.jsonl.sum, started.json\)"):
        go(complete)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"metrics"', '"metrcs"'),
        ('"rows": 12', '"rows": 13'),
        ('"version": 1', '"version": 99'),
        ('"stage": "draw"', '"stage": "dram"'),
        ("{", ""),
        ("{", "[{"),
        ('"config"', "\x00"),
    ],
)
def test_a_manifest_that_was_changed_is_noticed(complete, old, new):
    path = folder(complete, "draw") / MANIFEST
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(StoreError, match=r"draw-.*/stage.json.*; delete this file to have the stage resumed"):
        go(complete)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff\xfe", b"null", b"[" * 10**5, b"1" * 10**4])
def test_a_manifest_that_is_none_is_noticed(complete, data):
    (folder(complete, "draw") / MANIFEST).write_bytes(data)
    with pytest.raises(StoreError, match=r"/stage.json.*; delete this file to have the stage resumed"):
        go(complete)


def test_the_advice_works(complete):
    """Delete the manifest: the stage resumes from rows that are whole. Delete the folder: it is done again."""
    before = content(complete)
    (folder(complete, "draw") / MANIFEST).write_bytes(b"")
    (folder(complete, "draw") / MANIFEST).unlink()
    go(complete)
    assert content(complete) == before
    flip(folder(complete, "draw") / "rows.jsonl")
    shutil.rmtree(folder(complete, "draw"))
    go(complete)
    assert content(complete) == before


def test_a_run_of_an_older_version_is_reused(complete):
    """Its manifests list no files: there is nothing to compare."""
    path = folder(complete, "draw") / MANIFEST
    manifest = read_manifest(path.parent)
    write_json(path, {k: v for k, v in manifest.items() if k not in ("files", "digest")})
    flip(path.parent / "rows.jsonl")
    assert pipeline()[0].state(complete) == "reuse"


def test_a_manifest_can_be_written_again(complete):
    """`dpr-mini report` does so when it has made the report's files anew."""
    home = folder(complete, "select")
    (home / "more.txt").write_text("more")
    write_manifest(home, read_manifest(home))
    assert "more.txt" in read_manifest(home)["files"] and pipeline()[1].state(complete) == "reuse"
