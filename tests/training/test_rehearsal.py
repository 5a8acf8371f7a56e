"""`dpr-mini run RECIPE --dry-run`: training's real code on random weights, before anything is spent."""

import pytest
import torch
from places import RECIPES
from transformers import AutoConfig

from dpr_mini import recipe as recipes
from dpr_mini import runs
from dpr_mini.commands import dry_run as dry_run_command
from dpr_mini.files.rows import read_json, write_json
from dpr_mini.training import build, child, process
from dpr_mini.training.rehearsal import RehearsalError, rehearse, rehearse_layer, steps

METRICS = {"layers": 1, "steps": 2, "first_loss": 4.0, "last_loss": 3.0, "tokens_per_second": 9.0, "peak_rss_gib": 1.0}


@pytest.fixture
def no_new_process(monkeypatch):
    """The child's job is done here, where torch is loaded; one test below, and test_process.py, start a process."""

    def run(folder, job, config, gpu):
        write_json(folder / process.JOB, job | {"folder": str(folder), "gpu": gpu})
        assert type(config).model_validate(job["config"]) == config
        with pytest.raises(SystemExit) as ended:
            child.main(folder / process.JOB)
        result = read_json(folder / process.RESULT)
        assert not ended.value.code, result
        return result["metrics"]

    monkeypatch.setattr(process, "run", run)


@pytest.mark.usefixtures("no_new_process")
def test_two_steps_at_a_small_scale(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    dry_run_command.dry_run([RECIPES / "smoke.yaml"], ["scale=0.5", "train_2.mode=qlora", "train_2.lora_rank=4"])
    said = capfd.readouterr().out
    assert "dry run of train: rows of 256 tokens, 0.5 of the layers" in said
    assert said.count(": 2 layers, 2 steps, loss ") == 2 and "train: qlora on dpr_kernels" in said
    assert "GiB of host memory" in said and not list(tmp_path.iterdir())


def test_equal_sections_are_tried_once(monkeypatch):
    tried = []
    monkeypatch.setattr(process, "run", lambda *args, **keys: tried.append(1) or METRICS)
    rehearse(recipes.load(RECIPES / "smoke.yaml", ["scale=0.2"]), RECIPES)
    assert tried == [1]


@pytest.mark.usefixtures("no_new_process")
def test_a_shape_from_the_table_needs_no_download(capfd):
    keys = ["model.name=HuggingFaceTB/SmolLM2-135M", "scale=0.05", "train.gradient_checkpointing=true", "phases=1"]
    rehearse(recipes.load(RECIPES / "smoke.yaml", keys), RECIPES)
    said = capfd.readouterr().out
    assert "rows of 64 tokens" in said and ": 2 layers, 2 steps, loss " in said


def test_a_dry_run_saves_no_model_and_draws_the_weights_on_the_device(tmp_path):
    """On "meta" nothing is drawn: a model that were made on the CPU first would have values."""
    asked = recipes.load(RECIPES / "smoke.yaml", ["train.dtype=float32"])
    config = asked.train.model_copy(update={"epochs": 1})
    shape = AutoConfig.from_pretrained(RECIPES / "smoke-model")
    model = build.make(shape, config, torch.float32, torch.device("meta"))
    assert {p.device.type for p in model.parameters()} == {"meta"}
    job = {"local": str(RECIPES / "smoke-model"), "share": 0.0, "tokens": 64, "save": False, "seed": 0}
    assert steps(tmp_path, job, config)["layers"] == 1
    assert sorted(f.name for f in tmp_path.iterdir()) == ["metrics.jsonl", "metrics.jsonl.sum"]


def one_layer(*keys):
    asked = recipes.load(RECIPES / "smoke.yaml", ["train.gradient_checkpointing=true", *keys])
    line = rehearse_layer(asked, RECIPES, "train", asked.train)
    assert line.startswith("rehearsed one layer of train in ") and line.endswith(", saved")
    assert f"{asked.train.mode} on dpr_kernels" in line


def test_one_layer_goes_through_the_whole_stage_in_a_process_of_its_own():
    one_layer()


@pytest.mark.usefixtures("no_new_process")
def test_one_quantised_layer_goes_through_the_whole_stage():
    one_layer("train.mode=qlora", "train.lora_rank=4", "train.weights=float32")


def test_what_it_cannot_try_it_says():
    with pytest.raises(RehearsalError, match="needs the model's shape, and somebody/thing is not known here"):
        rehearse(recipes.load(RECIPES / "smoke.yaml", ["model.name=somebody/thing"]), RECIPES)
    with pytest.raises(runs.RunError, match=r"needs a GPU with 500 GiB.*a dry run without one wants a smaller model"):
        dry_run_command.dry_run([RECIPES / "smoke.yaml"], ["needs.gpu_gib=500"])
