"""A run's folder that somebody else made: nothing outside it is written, emptied, read or copied."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from places import RECIPES
from typer.testing import CliRunner

from dpr_mini import runs
from dpr_mini.cli import app
from dpr_mini.files.rows import StoreError, read_json, write_json
from dpr_mini.recipe import load
from dpr_mini.runs import RunError, beside, lock, openings, read_latest, remember, store_of

PRECIOUS = "precious, and nobody else's"
RECIPE = {"name": "r", "seed": 0}


@pytest.fixture
def outside(tmp_path):
    """A folder with something in it."""
    folder = tmp_path / "outside"
    folder.mkdir()
    for name in ("precious.txt", "report.html", "rows.jsonl", "latest.json"):
        (folder / name).write_text(PRECIOUS)
    yield folder
    assert {p.name: p.read_text() for p in folder.iterdir()} == dict.fromkeys(
        ("precious.txt", "report.html", "rows.jsonl", "latest.json"), PRECIOUS
    ), "something outside was changed"


def made(root: Path, *, recipe: object = None, **stages: object) -> Path:
    """A run's folder whose latest.json says so; _ stands for - in a stage's name."""
    root.mkdir(parents=True, exist_ok=True)
    folders = {name.replace("_", "-"): folder for name, folder in stages.items()}
    write_json(root / "latest.json", {"recipe": RECIPE if recipe is None else recipe, "stages": folders})
    return root


def refused(*words: object) -> str:
    """The one line with which a command ends."""
    done = CliRunner().invoke(app, [str(w) for w in words])
    assert done.exit_code == 1 and isinstance(done.exception, SystemExit), (done.output, done.exception)
    line = done.output.strip().splitlines()[-1]
    assert line.startswith("dpr-mini: ") and line.isprintable(), done.output
    return line


COMMANDS = (("show",), ("report",), ("export",), ("compare",))


@pytest.mark.parametrize(
    "folder",
    [
        "../outside", "/etc", "report", "report-0123456", "report-0123456g", "Report-01234567", "x/report-01234567",
        "./report-01234567", "report-01234567/", "../report-01234567", "../../report-01234567", "eval-0-01234567", "",
        "report-01234567\n", 7, None, ["report-01234567"],
    ],
)  # fmt: skip
def test_a_stage_is_a_folder_of_the_form_that_we_write_in_its_store(tmp_path, outside, folder):
    root = made(tmp_path / "run", report=folder)
    for command, *_ in COMMANDS:
        more = ("--out", tmp_path / "out") if command == "export" else ()
        assert "is no folder of 'report' in this store" in refused(command, root, *more)


def test_arms_name_the_stages_of_their_store_and_no_other_folder_does(tmp_path):
    arm = made(tmp_path / "store/arms/r-seed0", report="../../report-01234567")
    assert read_latest(arm)["stages"] == {"report": "../../report-01234567"}
    assert store_of(arm) == tmp_path / "store" and store_of(tmp_path / "store") == tmp_path / "store"
    with pytest.raises(RunError, match="no folder of 'report'"):
        read_latest(made(tmp_path / "store/arms/a", report="report-01234567"))
    with pytest.raises(RunError, match="no folder of 'report'"):
        read_latest(made(tmp_path / "store/legs/a", report="../../report-01234567"))


@pytest.mark.parametrize("name", ["../../x", "a/b", "", ".x", "a\n", None])
def test_a_recipes_name_is_no_path(tmp_path, name):
    with pytest.raises(RunError, match="name is not of letters"):
        read_latest(made(tmp_path / "run", recipe={"name": name, "seed": 0}))


@pytest.mark.parametrize(
    "text", ["[]", "null", "{}", '{"recipe": [], "stages": {}}', '{"recipe": {}, "stages": []}', "[" * 10**5]
)
def test_a_latest_json_that_says_nothing(tmp_path, text):
    (tmp_path / "latest.json").write_text(text)
    for command in ("show", "report"):
        assert "latest.json" in refused(command, tmp_path) or "do not fit together" in refused(command, tmp_path)


def test_a_damaged_latest_json_is_written_anew_by_a_run_and_told_so(tmp_path, capsys):
    root = made(tmp_path / "run", report="report-01234567")
    (root / "latest.json").write_text("{")
    assert "run its recipe again, which writes it anew" in refused("show", root)
    remember(root, root, load(RECIPES / "smoke.yaml"), {})
    assert "latest.json:1: not JSON" in (said := capsys.readouterr().out) and "it is written anew" in said
    assert read_json(root / "latest.json")["stages"] == {}


LINKS = ["report-01234567", "report-01234567/report.html", "report-01234567/a/b", "report-01234567/model"]


@pytest.mark.parametrize("at", LINKS)
@pytest.mark.parametrize("target", ["outside", "outside/precious.txt", "nowhere", "/proc/self/environ"])
def test_links_out_of_the_run_are_refused_where_it_is_read(tmp_path, outside, at, target):
    root = made(tmp_path / "run", report="report-01234567")
    (root / at).parent.mkdir(parents=True, exist_ok=True)
    (root / at).symlink_to(tmp_path / target)
    for command in ("show", "report"):
        assert f"{at} is a link that leads out of" in refused(command, root)


@pytest.mark.parametrize(
    "at",
    [*LINKS, "logs", "logs/sglang.log", "test-opened.jsonl", "report.html", "arms", "arms/r-seed0", ".report.md.1"],
)
def test_links_out_of_the_run_are_refused_before_it_is_written(tmp_path, outside, at):
    root = tmp_path / "run"
    (root / at).parent.mkdir(parents=True, exist_ok=True)
    (root / at).symlink_to(outside)
    with pytest.raises(RunError, match=f"{at} is a link that leads out of"), lock(root):
        pytest.fail("it was entered")


def test_links_that_stay_inside_and_those_of_a_server_and_a_tracker_are_none_of_it(tmp_path, outside):
    root = made(tmp_path / "run", train_1="train-1-01234567")
    for folder in ("train-1-01234567/wandb", "logs/sglang-model"):
        (root / folder).mkdir(parents=True)
        (root / folder / "link").symlink_to(outside / "precious.txt")
    (root / "train-1-01234567/best").symlink_to(root / "train-1-01234567/wandb")
    with lock(root):
        assert read_latest(root)["stages"]


def test_a_pipe_in_a_stage_is_not_waited_for(tmp_path):
    root = made(tmp_path / "run", report="report-01234567")
    (root / "report-01234567").mkdir()
    os.mkfifo(root / "report-01234567/rows.jsonl")
    assert "is neither a file nor a folder" in refused("show", root, "report")


def test_the_lock_is_a_file_of_ours_that_nothing_is_written_to(tmp_path, outside):
    root = tmp_path / "run"
    root.mkdir()
    (root / ".lock").symlink_to(outside / "precious.txt")
    with pytest.raises(RunError, match=r"\.lock is a link; remove it"), lock(root):
        pytest.fail("it was entered")
    (root / ".lock").unlink()
    os.mkfifo(root / ".lock")
    with pytest.raises(RunError, match=r"\.lock is no file"), lock(root):
        pytest.fail("it was entered")
    (root / ".lock").unlink()
    (root / ".lock").write_text("kept")
    with lock(root):
        pass
    assert (root / ".lock").read_text() == "kept"
    (tmp_path / "linked").symlink_to(outside)
    with pytest.raises(RunError, match="is a link to"), lock(tmp_path / "linked"):
        pytest.fail("it was entered")


def test_report_waits_for_nobody_and_writes_beside_nobody(tmp_path):
    root = made(tmp_path / "run", report="report-01234567")
    with lock(root), pytest.raises(RunError, match="another dpr-mini is at work there"), lock(root):
        pytest.fail("it was entered twice")
    with lock(root):
        assert "another dpr-mini is at work there" in refused("report", root)
    with lock(root):  # it was released
        pass


def test_a_folder_that_cannot_be_written_to_needs_no_lock(tmp_path, monkeypatch):
    def read_only(*_: object) -> int:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(runs.os, "open", read_only)
    with pytest.raises(OSError, match="Read-only file system"), lock(tmp_path):
        pytest.fail("it was entered")
    monkeypatch.setattr(runs.os, "access", lambda *_: False)
    with lock(tmp_path):
        pass


@pytest.mark.parametrize("name", ["../outside", "/etc", "problems", "problems-0123456", None, 7, ["problems-01234567"]])
def test_an_input_that_a_manifest_names_stands_beside_it(tmp_path, name):
    with pytest.raises(RunError, match="is no stage's folder"):
        beside(tmp_path / "filter-1-01234567", name)
    assert beside(tmp_path / "filter-1-01234567", "problems-01234567") == tmp_path / "problems-01234567"
    (tmp_path / "problems-01234567").symlink_to("/etc")
    with pytest.raises(RunError, match="leads out of"):
        beside(tmp_path / "filter-1-01234567", "problems-01234567")


def test_openings_are_not_read_through_a_link(tmp_path, outside):
    (tmp_path / "test-opened.jsonl").symlink_to(outside / "precious.txt")
    with pytest.raises(RunError, match="is a link"):
        openings(tmp_path)


def test_a_damaged_line_of_openings_is_to_be_mended_not_deleted(tmp_path):
    (tmp_path / "test-opened.jsonl").write_text('{"opened": "x"}\nnothing\n')
    with pytest.raises(StoreError, match=r"test-opened\.jsonl:2: not a JSON object; mend the line by hand"):
        openings(tmp_path)


def test_a_manifest_of_another_form_is_one_line(tmp_path):
    root = made(tmp_path / "run", eval_0="eval-0-01234567", report="report-01234567")
    for manifest in ([], {"metrics": None}, {"metrics": {"cards": 5}, "seconds": "x"}, {"metrics": {}}):
        (root / "eval-0-01234567").mkdir(exist_ok=True)
        write_json(root / "eval-0-01234567/stage.json", manifest)
        for command in (("show", root), ("report", root)):
            done = CliRunner().invoke(app, [str(w) for w in command])
            assert done.exit_code in (0, 1) and not (done.exception and not isinstance(done.exception, SystemExit))


def test_secrets_of_an_older_run_are_hidden_when_it_is_read(tmp_path):
    secret = {"engine": {"urls": ["http://user:S3CRET@h:1"], "arguments": {"api_key": "S3CRET"}}}
    root = made(tmp_path / "run", recipe=RECIPE | secret)
    assert "S3CRET" not in json.dumps(read_latest(root))
