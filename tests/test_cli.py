"""The command line: a user's mistake is one clear line and an exit code, never a traceback."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from places import ROOT

SMOKE = ROOT / "recipes" / "smoke.yaml"
TINY = """\
name: tiny
model: {{name: {model}}}
engine: {{kind: hf}}
problems:
  train: [{{file: train.jsonl}}]
  held_out: {{bench: [{{file: bench.jsonl}}]}}
dialogue: {{samples: 1, max_new_tokens: 8}}
evaluate: {{samples: 1, max_new_tokens: 8}}
"""


def cli(*args, cwd=ROOT, **options):
    command = [sys.executable, "-m", "dpr_mini.cli", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=240, **options)


def refused(done):
    """The one line that the user gets."""
    assert done.returncode not in (0, None)
    lines = [line for line in done.stderr.splitlines() if line.startswith("dpr-mini: ")]
    assert len(lines) == 1 and "Traceback" not in done.stderr, done.stderr
    return lines[0]


@pytest.fixture
def recipe(tmp_path):
    """A recipe of two problems with the smoke model."""
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY.format(model=ROOT / "recipes" / "smoke-model"))
    for name in ("train", "bench"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"problem": f"1 + 1? ({name})", "answer": "2"}) + "\n")
    return path


def test_a_missing_recipe():
    assert "recipes/smok.yaml: no such recipe; did you mean recipes/smoke.yaml?" in refused(
        cli("run", "recipes/smok.yaml")
    )


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="here is a GPU")
def test_a_recipe_that_needs_a_gpu_says_what_and_what_to_run_instead(tmp_path):
    line = refused(cli("run", "recipes/qwen7b.yaml", "--runs", tmp_path))
    assert "needs a GPU with 79 GiB of memory; here there is no NVIDIA GPU" in line
    assert "dpr-mini run recipes/smollm2-cpu.yaml" in line
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_plan_for_a_card_that_is_too_small():
    assert "needs a GPU with 79 GiB" in refused(cli("plan", "recipes/qwen7b.yaml", "--gpu", "24GiB"))
    assert cli("plan", "recipes/qwen7b.yaml", "--gpu", "80GiB").returncode == 0
    assert "write it as 24GiB" in refused(cli("plan", "recipes/qwen7b.yaml", "--gpu", "much"))


def test_an_unknown_key_and_an_unknown_stage(recipe):
    assert "unknown key 'train.epoch'; did you mean 'epochs'?" in refused(cli("run", recipe, "train.epoch=1"))
    assert "no stage 'filter'; there are: problems" in refused(cli("run", recipe, "--until", "filter"))


def test_a_malformed_row_names_file_and_line(recipe, tmp_path):
    with (tmp_path / "train.jsonl").open("a") as file:
        file.write('{"problem": "2 + 2?"\n')
    assert "train.jsonl:2: not JSON" in refused(cli("run", recipe, "--runs", tmp_path / "runs"))


def test_an_empty_problem_set(recipe, tmp_path):
    (tmp_path / "train.jsonl").write_text("")
    assert "nothing left in 'train'" in refused(cli("run", recipe, "--runs", tmp_path / "runs"))


def test_a_model_that_is_not_there(recipe, tmp_path):
    line = refused(cli("run", recipe, "model.name=./nowhere", "--runs", tmp_path / "runs"))
    assert "no model folder ./nowhere" in line


@pytest.mark.slow
def test_all_samples_dropped_keeps_the_dialogues(recipe, tmp_path):
    rules = "filter.rules=[{length: {min_tokens: 100000}}]"
    line = refused(cli("run", recipe, rules, "--runs", tmp_path / "runs"))
    assert "none of 1 dialogues passed the rules (dropped by length 1)" in line and "dialogues are kept" in line
    kept = next((tmp_path / "runs/tiny").glob("dialogue-1-*"))
    assert (kept / "stage.json").exists() and len((kept / "rows.jsonl").read_text().splitlines()) == 1
    drops = next((tmp_path / "runs/tiny").glob("filter-1-*")) / "drops.jsonl"
    assert json.loads(drops.read_text())["rule"] == "length"
    # the same command with a looser rule goes on from the dialogues that are there
    again = cli(
        "run", recipe, "filter.rules=[{length: {min_tokens: 1}}]", "--runs", tmp_path / "runs", "--until", "pack-1"
    )
    assert again.returncode == 0 and "dialogue-1" not in again.stdout


@pytest.mark.slow
def test_a_full_disk_keeps_what_was_done(recipe, tmp_path):
    """On a real file system of 144 KiB, in a name space of its own."""
    disk, held = tmp_path / "disk", tmp_path / "bench.jsonl"
    disk.mkdir()
    held.write_text("".join(json.dumps({"problem": f"{i} + 1?", "answer": "2"}) + "\n" for i in range(300)))
    command = (
        f"mount -t tmpfs -o size=144k none {disk} && {{ {sys.executable} -m dpr_mini.cli run {recipe} --runs {disk}"
    )
    command += f"; code=$?; cp -r {disk}/tiny {tmp_path}/saved; exit $code; }}"
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", command], capture_output=True, text=True, cwd=ROOT, timeout=240
    )
    if "Operation not permitted" in done.stderr or "Permission denied" in done.stderr:
        pytest.skip("this machine lets no test mount a file system")
    line = refused(done)
    assert "the disk is full" in line and "same command" in line
    problems = next((tmp_path / "saved").glob("problems-*"))
    assert (problems / "stage.json").exists()
    partial = next((tmp_path / "saved").glob("eval-0-answers-*"))
    assert not (partial / "stage.json").exists() and len((partial / "rows.jsonl").read_text()) > 1000


def test_two_runs_in_one_folder_are_refused(recipe, tmp_path):
    import fcntl

    root = tmp_path / "runs" / "tiny"
    root.mkdir(parents=True)
    with (root / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "another dpr-mini is at work there" in refused(cli("run", recipe, "--runs", tmp_path / "runs"))


def test_a_folder_that_is_no_run(tmp_path):
    for command in ("show", "report"):
        assert "is not a run's folder" in refused(cli(command, tmp_path))
    assert "is not a run's folder" in refused(cli("export", tmp_path, "--out", tmp_path / "x"))


def test_grade_grades_and_names_a_bad_line(tmp_path):
    cases, out = tmp_path / "cases.jsonl", tmp_path / "out.jsonl"
    cases.write_text('{"id": 1, "gold": "1/2", "pred": "so \\\\boxed{0.5}"}\n{"id": 2, "gold": "3", "pred": "4"}\n')
    assert cli("grade", cases, "--out", out).returncode == 0
    assert [json.loads(x)["status"] for x in out.read_text().splitlines()] == ["correct", "wrong"]
    cases.write_text('{"id": 1, "gold": "1/2"}\n')
    assert "cases.jsonl:1:" in refused(cli("grade", cases, "--out", out))


def test_doctor_names_what_is_missing_and_the_command():
    done = cli("doctor")
    assert "torch" in done.stdout and "gpu" in done.stdout
    assert done.returncode == 0 or "fix  " in done.stdout


@pytest.mark.slow
def test_eval_scores_a_local_model_and_resumes(recipe, tmp_path):
    args = ("eval", ROOT / "recipes" / "smoke-model", "--on", tmp_path / "bench.jsonl", "--k", 2)
    args += ("--max-new-tokens", 16, "--engine", "hf", "--runs", tmp_path / "runs")
    done = cli(*args)
    assert done.returncode == 0, done.stderr
    assert "bench" in done.stdout and "n=1, k=2" in done.stdout and "graded.jsonl" in done.stdout
    assert cli(*args).stdout.splitlines()[-2:] == done.stdout.splitlines()[-2:]
    assert "no benchmark 'gsm9k'" in refused(cli("eval", "x", "--on", "gsm9k"))


def test_no_command_needs_the_home_folder(tmp_path):
    env = {**os.environ, "HOME": "/nonexistent", "DPR_MINI_CACHE": str(tmp_path)}
    assert cli("plan", SMOKE, "--runs", tmp_path, env=env).returncode == 0
