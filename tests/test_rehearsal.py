"""`dpr-mini run RECIPE --dry-run`: training's real code on random weights, before anything is spent."""

from pathlib import Path

import pytest

from dpr_mini import recipe as recipes
from dpr_mini import runner
from dpr_mini.rehearsal import RehearsalError, rehearse

RECIPES = Path(__file__).parents[1] / "recipes"


def test_two_steps_at_a_small_scale(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    runner.dry_run([RECIPES / "smoke.yaml"], ["scale=0.5", "train_2.mode=qlora", "train_2.lora_rank=4"])
    said = capsys.readouterr().out
    assert "dry run of train: 2 layers of random weights, rows of 256 tokens" in said
    assert said.count(": 2 steps, loss ") == 2 and "train: qlora on dpr_kernels" in said
    assert "GiB of host memory" in said and not list(tmp_path.iterdir())


def test_equal_sections_are_tried_once(capsys):
    rehearse(recipes.load(RECIPES / "smoke.yaml", ["scale=0.2"]), RECIPES)
    assert capsys.readouterr().out.count(": 2 steps, loss ") == 1


def test_a_shape_from_the_table_needs_no_download(capsys):
    keys = ["model.name=HuggingFaceTB/SmolLM2-135M", "scale=0.05", "train.gradient_checkpointing=true", "phases=1"]
    rehearse(recipes.load(RECIPES / "smoke.yaml", keys), RECIPES)
    assert "2 layers of random weights, rows of 64 tokens" in capsys.readouterr().out


def test_what_it_cannot_try_it_says():
    with pytest.raises(RehearsalError, match="needs the model's shape, and somebody/thing is not known here"):
        rehearse(recipes.load(RECIPES / "smoke.yaml", ["model.name=somebody/thing"]), RECIPES)
    with pytest.raises(runner.RunError, match=r"needs a GPU with 500 GiB.*a dry run without one wants a smaller model"):
        runner.dry_run([RECIPES / "smoke.yaml"], ["needs.gpu_gib=500"])
