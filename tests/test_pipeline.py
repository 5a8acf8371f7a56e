"""The whole two-phase loop on the smoke model, through the command line, as a user runs it."""

import json
import resource
import subprocess
import sys

import pytest
from places import ROOT

from dpr_mini.files.rows import read_json, read_rows

RECIPE = "recipes/smoke.yaml"
SMALL = ("scale=0.08", "train.epochs=1")
STAGES = ["problems", "eval-0-answers", "eval-0", "dialogue-1", "filter-1", "pack-1", "train-1",
          "eval-1-answers", "eval-1", "probe-2", "sample-2", "filter-2", "pack-2", "train-2",
          "eval-2-answers", "eval-2", "report"]  # fmt: skip

pytestmark = pytest.mark.slow


def cli(*args):
    command = [sys.executable, "-m", "dpr_mini.cli", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=400)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    done = cli("run", RECIPE, *SMALL, "--runs", runs)
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"report: {runs}/smoke/report.html" in done.stdout
    return runs


@pytest.fixture(scope="module")
def root(runs):
    return runs / "smoke"


def folder(root, stage):
    return root / read_json(root / "latest.json")["stages"][stage]


def metrics(root, stage):
    return read_json(folder(root, stage) / "stage.json")["metrics"]


def test_every_stage_is_complete_and_says_how_it_was_made(root):
    latest = read_json(root / "latest.json")
    assert list(latest["stages"]) == STAGES
    for stage in STAGES:
        manifest = read_json(folder(root, stage) / "stage.json")
        assert {"config", "inputs", "metrics", "seconds", "versions", "commit", "machine", "peak_rss_gib"} <= set(
            manifest
        )


def test_no_row_is_lost_between_stages(root):
    problems = list(read_rows(folder(root, "problems") / "rows.jsonl"))
    train = {p["id"] for p in problems if p["split"] == "train"}
    held = {p["id"] for p in problems} - train
    talks = {r["id"]: r for r in read_rows(folder(root, "dialogue-1") / "rows.jsonl")}
    assert {r["problem_id"] for r in talks.values()} == train and len(talks) == 3 * len(train)
    kept = {r["id"] for r in read_rows(folder(root, "filter-1") / "rows.jsonl")}
    dropped = {d["dialogue_id"] for d in read_rows(folder(root, "filter-1") / "drops.jsonl")}
    assert kept | dropped == set(talks) and not kept & dropped
    packed = [s for r in read_rows(folder(root, "pack-1") / "rows.jsonl") for s in r["samples"]]
    left = [d["dialogue_id"] for d in read_rows(folder(root, "pack-1") / "drops.jsonl")]
    assert sorted(packed + left) == sorted(kept)
    for stage in ("eval-0", "eval-1", "eval-2"):
        rows = list(read_rows(folder(root, stage) / "graded.jsonl"))
        assert {r["problem_id"] for r in rows} == held and len(rows) == 5 * len(held)


def test_phase_2_keeps_at_most_its_quota(root):
    wanted = {r["problem_id"]: r["wanted"] for r in read_rows(folder(root, "sample-2") / "budgets.jsonl")}
    kept = [r["problem_id"] for r in read_rows(folder(root, "filter-2") / "rows.jsonl")]
    assert kept and all(kept.count(p) <= wanted[p] for p in set(kept))


def test_kept_dialogues_are_right_and_two_turns_long(root):
    for row in read_rows(folder(root, "filter-1") / "rows.jsonl"):
        assert row["verdicts"][-1]["status"] == "correct"
        turns = row["dialogue"]["turns"]
        assert len(turns) == 2 and turns[0]["instruction"] == "solve"


def test_phase_2_starts_from_the_phase_1_weights(root):
    assert read_json(folder(root, "train-2") / "stage.json")["inputs"]["model"] == folder(root, "train-1").name
    assert metrics(root, "train-2")["first_loss"] < metrics(root, "train-1")["first_loss"]


def test_score_cards_are_what_the_graded_rows_say(root):
    for stage in ("eval-0", "eval-2"):
        rows = [r for r in read_rows(folder(root, stage) / "graded.jsonl") if r["sample"] >= 0]
        card = metrics(root, stage)["cards"]["all"]
        assert card["mean"] == pytest.approx(sum(r["status"] == "correct" for r in rows) / len(rows))
        assert card["low"] <= card["mean"] <= card["high"] and card["k"] == 4
    cards = json.loads((root / "scorecards.json").read_text())
    assert cards


def test_a_finished_run_does_nothing_and_says_so_within_two_seconds(runs):
    begun = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = cli("run", RECIPE, *SMALL, "--runs", runs)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0 and "nothing to do: 17 of 17 stages" in done.stdout
    # of the processor, not of the clock: other work on the machine makes the clock say anything
    assert (ended.ru_utime + ended.ru_stime) - (begun.ru_utime + begun.ru_stime) < 2


def test_plan_names_the_changed_value_and_what_follows(runs):
    done = cli("plan", RECIPE, *SMALL, "filter.limit=7", "--runs", runs)
    state = {line.split()[1]: line.split()[0] for line in done.stdout.splitlines() if line[0] != " "}
    assert [s for s in STAGES if state[s] == "run"] == [
        "filter-1", "pack-1", "train-1", "eval-1-answers", "eval-1", "probe-2", "sample-2",
        "filter-2", "pack-2", "train-2", "eval-2-answers", "eval-2", "report",
    ]  # fmt: skip
    assert "changed: config.limit: (none) -> 7" in done.stdout
    assert "follows: filter-1" in done.stdout


def test_a_changed_filter_reruns_filter_and_what_follows_only(runs):
    done = cli("run", RECIPE, *SMALL, "filter_2.limit=20", "--runs", runs)
    ran = [line.split("] ")[1].split(":")[0] for line in done.stdout.splitlines() if line.startswith("[")]
    assert ran == ["filter-2", "pack-2", "train-2", "eval-2-answers", "eval-2", "report"], done.stderr[-500:]
    assert cli("run", RECIPE, *SMALL, "--runs", runs).stdout.startswith("nothing to do")  # the first is still there


def test_show_prints_counts_drops_and_rows_to_read(root):
    overview = cli("show", root).stdout
    assert all(stage in overview for stage in STAGES)
    shown = cli("show", root, "filter-1", "--rows", 2, "--seed", 1).stdout
    assert "drops by rule" in shown and "[model, " in shown and '"kept"' in shown
    assert cli("show", root, "nothing").returncode == 1


def test_report_is_one_offline_page_and_can_be_written_again(root):
    page = (root / "report.html").read_text()
    assert "<svg" in page and 'src="http' not in page and "<script src" not in page
    (root / "report.html").unlink()
    assert cli("report", root).returncode == 0
    assert (root / "report.html").read_text() == page


def test_export_gives_a_model_that_loads(root, tmp_path):
    from dpr_mini.engines import open_engine
    from dpr_mini.engines.base import Request, SamplingParams

    assert cli("export", root, "--out", tmp_path / "hf").returncode == 0
    with open_engine("hf", tmp_path / "hf") as engine:
        engine.submit(Request("a", (5, 6, 7), SamplingParams(4, 0.0), 0))
        assert engine.poll()[0].prompt_tokens == 3
    again = cli("export", root, "--out", tmp_path / "hf")
    assert again.returncode == 1 and "exists" in again.stderr
    assert cli("export", root, "--out", tmp_path / "m.gguf", "--format", "gguf").returncode == 0
    assert (tmp_path / "m.gguf").read_bytes()[:4] == b"GGUF"
