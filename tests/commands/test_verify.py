"""`dpr-mini verify`: every file of a run as it was when its stage was complete, or a line that names it."""

import json

import pytest
from staging import OneEngine, plain_stage
from typer.testing import CliRunner

from dpr_mini.cli import app
from dpr_mini.files.rows import write_json, write_rows
from dpr_mini.store import MANIFEST, execute


@pytest.fixture
def run(tmp_path):
    def write(folder, at):
        write_rows(folder / "rows.jsonl", [{"id": "a", "text": "b" * 5000}])
        return {"rows": 1}

    one = plain_stage("problems", 1, {}, write)
    two = plain_stage("filter-1", 1, {}, write, {"problems": one})
    three = plain_stage("pack-1", 1, {}, write, {"kept": two})
    for stage in (one, two):
        execute(stage, tmp_path, OneEngine())
    folders = {stage.name: stage.folder(tmp_path).name for stage in (one, two, three)}
    write_json(tmp_path / "latest.json", {"recipe": {"name": "r"}, "stages": folders})
    return tmp_path


def folder(run, stage):
    return run / json.loads((run / "latest.json").read_text())["stages"][stage]


def verify(run):
    done = CliRunner().invoke(app, ["verify", str(run)])
    return done.exit_code, done.output


def test_a_run_that_is_as_it_was(run):
    code, said = verify(run)
    assert code == 0 and "4 files, " in said and "all as they were" in said
    assert "problems             ok  2 files" in said and "pack-1               not run" in said


def test_a_changed_byte_is_named_though_no_stage_would_read_it(run):
    path = folder(run, "filter-1") / "rows.jsonl"
    path.write_bytes(path.read_bytes().replace(b"b", b"c", 1))
    code, said = verify(run)
    assert code == 1 and f"{path}: has another content" in said and "1 of 3 stages are damaged: filter-1" in said
    assert "problems             ok" in said and "filter-1             DAMAGED" in said


def test_all_damages_are_listed_not_only_the_first(run):
    (folder(run, "problems") / "rows.jsonl").unlink()
    (folder(run, "filter-1") / MANIFEST).write_bytes(b"{}")
    code, said = verify(run)
    assert code == 1 and "rows.jsonl: is gone" in said and "stage.json: it has no metrics" in said
    assert "2 of 3 stages are damaged: problems, filter-1" in said


def test_an_older_run_lists_no_files_and_that_is_said(run):
    path = folder(run, "problems") / MANIFEST
    manifest = json.loads(path.read_text())
    write_json(path, {k: v for k, v in manifest.items() if k not in ("files", "digest")})
    code, said = verify(run)
    assert code == 0 and "problems             no list of files" in said and "1 of an older version" in said


@pytest.mark.parametrize("files", [[], None, {"rows.jsonl": 5}, {"rows.jsonl": ["x", "y"]}])
def test_a_list_of_files_of_another_form_is_a_damage(run, files):
    path = folder(run, "filter-1") / MANIFEST
    manifest = {k: v for k, v in json.loads(path.read_text()).items() if k != "digest"}
    write_json(path, manifest | {"files": files})
    code, said = verify(run)
    assert code == 1 and "filter-1             DAMAGED" in said and "listed in no form" in said


def test_what_is_no_run_is_one_line(tmp_path):
    code, said = verify(tmp_path)
    assert code == 1 and "is not a run's folder" in said
