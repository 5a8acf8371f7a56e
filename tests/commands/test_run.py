"""What a run on a GPU looks at before it spends anything: each missing thing is one line, and no stage has run."""

from __future__ import annotations

import os
import shutil
import sys
from collections import namedtuple

import pytest
from places import RECIPES

from dpr_mini import recipe
from dpr_mini.commands import run as runner
from dpr_mini.engines.sglang import launch
from dpr_mini.machine import gpus, requirements
from dpr_mini.planning import disk
from dpr_mini.store import describe, write_manifest
from dpr_mini.training import TrainError, rehearsal
from dpr_mini.types import UserError

Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def machine(driver, monkeypatch, tmp_path):
    """A card of 80 GiB, 1000 GiB of disk, SGLang in place, and no training process: each test takes one thing away."""
    monkeypatch.setattr(launch, "find_python", lambda named, gpu: sys.executable)
    monkeypatch.setattr(launch, "versions", lambda python: {"sglang": "0.5.23"})
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 1000 * 2**30))
    monkeypatch.setattr(rehearsal, "rehearse_layer", lambda recipe, base, name, section: f"rehearsed {name}")
    for name in ("CUDA_HOME", "CUDA_PATH", "CC", "CXX"):
        monkeypatch.delenv(name, raising=False)
    return driver


def start(tmp_path, *overrides, path="qwen7b.yaml"):
    """`dpr-mini run`, as far as the first stage."""
    with pytest.raises(UserError) as caught:
        runner.run([RECIPES / path], list(overrides), tmp_path / "runs")
    assert not list((tmp_path / "runs").glob("*/*")), "no stage has run"
    return str(caught.value)


def absent(monkeypatch, *packages):
    there = requirements.version
    monkeypatch.setattr(requirements, "version", lambda name: None if name in packages else there(name))


def only_here(monkeypatch, machine, *programs):
    """A PATH with these programs of the system alone, and the stub for the driver."""
    for name in programs:
        os.symlink(shutil.which(name), machine.bin / name)
    monkeypatch.setenv("PATH", str(machine.bin))


def test_all_there_is_a_run_that_starts(tmp_path, monkeypatch, capsys):
    asked = recipe.load(RECIPES / "qwen7b.yaml")
    stages = runner.pipeline.build(asked, RECIPES)
    runner.check(asked, RECIPES, tmp_path, stages)
    assert capsys.readouterr().out == "rehearsed train\n", "train_2 is set up as train is"


@pytest.mark.parametrize(
    ("package", "overrides", "line"),
    [
        ("bitsandbytes", (), "bitsandbytes is missing (train.mode qlora, train.optimiser adamw8bit); pip install"),
        ("triton", (), "triton is missing (our kernels); pip install triton"),
        ("datasets", (), "datasets is missing (problems from the Hugging Face hub); pip install 'dpr-mini[data]'"),
        ("peft", ("train.mode=lora", "train.weights=float32"), "peft is missing (train.mode lora and qlora); pip"),
        ("accelerate", ("train.mode=qlora", "train.weights=float32"), "accelerate is missing (train.mode qlora); pip"),
        ("liger-kernel", ("train.backend=liger",), "liger-kernel is missing (train.backend liger); pip install"),
        ("wandb", ("train.report_to=wandb",), "wandb is missing (train.report_to wandb); pip install wandb"),
        ("flash-attn", ("train.attention=flash_attn",), "flash-attn is missing (train.attention flash_attn;"),
    ],
)
def test_a_missing_package_is_one_line(tmp_path, monkeypatch, capsys, package, overrides, line):
    absent(monkeypatch, package)
    said = start(tmp_path, *overrides)
    assert said == "qwen7b cannot run to its end here: 1 thing(s) missing, named above"
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 and lines[0].startswith(f"missing: {line}")


def test_a_package_that_nothing_uses_is_not_missed(tmp_path, monkeypatch):
    absent(monkeypatch, "peft", "liger-kernel", "wandb", "flash-attn", "accelerate")
    asked = recipe.load(RECIPES / "qwen7b.yaml")
    assert requirements.missing(asked, training=True, problems=True) == []


def test_no_nvcc(tmp_path, monkeypatch, machine, capsys):
    (machine.bin / "nvcc").unlink()
    monkeypatch.setattr(requirements, "USUAL_CUDA", tmp_path / "cuda")
    only_here(monkeypatch, machine, "gcc", "g++")
    start(tmp_path)
    assert (
        "missing: nvcc is missing: SGLang compiles its rotary kernel at first use; tools/install_sglang.sh"
        in capsys.readouterr().out
    )
    nvcc = tmp_path / "cuda/bin/nvcc"
    nvcc.parent.mkdir(parents=True)
    nvcc.write_text("#!/bin/sh\n")
    nvcc.chmod(0o755)
    assert requirements.cuda_compiler() == "", "where NVIDIA's installers put it"
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "other"))
    assert f"CUDA_HOME={tmp_path / 'other'} has no bin/nvcc" in requirements.cuda_compiler()


def test_no_compilers(tmp_path, monkeypatch, machine, capsys):
    only_here(monkeypatch, machine)
    start(tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[2].split()[0] for line in lines] == ["gcc", "g++"]
    assert "apt-get install gcc" in lines[0] and "apt-get install g++" in lines[1]


@pytest.mark.parametrize(("named", "well"), [("env g++", True), (" ", True), ("no-such-compiler -O2", False)])
def test_a_compiler_that_is_named_with_words(monkeypatch, named, well):
    monkeypatch.setenv("CXX", named)
    assert (requirements.cuda_compiler() == "") == well


def test_no_python_headers(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(requirements.sysconfig, "get_path", lambda name: str(tmp_path))
    start(tmp_path)
    assert (
        f"Python.h is missing: Triton compiles a launcher at its first kernel; apt-get install python{sys.version[:4]}"[
            :80
        ]
        in capsys.readouterr().out
    )


def test_no_sglang(tmp_path, monkeypatch, capsys):
    monkeypatch.undo()
    driver_less = os.environ["PATH"]
    assert driver_less
    monkeypatch.chdir(tmp_path)
    asked = recipe.load(RECIPES / "qwen7b.yaml")
    [line] = [line for line in launch.missing(asked.engine) if "SGLang here" in line]
    assert "no SGLang here: engine.python names no interpreter and there is no .sglang; " in line


@pytest.mark.parametrize("python", [None, "/no/such/python", sys.executable])
def test_no_unsloth(tmp_path, capsys, python):
    keys = ["train.backend=unsloth", *([f"train.python={python}"] if python else [])]
    start(tmp_path, *keys)
    assert "missing: unsloth is missing" in capsys.readouterr().out


def test_too_little_disk_is_told_in_gib(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 40 * 2**30))
    start(tmp_path)
    [line] = capsys.readouterr().out.splitlines()
    assert "GiB of disk:" in line and "has 40.0 free and takes base model 14.2, trained models 28.4" in line
    assert line.endswith("free some, or give --runs DIR on another disk")


def test_what_is_there_already_is_not_wanted_again(tmp_path, monkeypatch):
    asked = recipe.load(RECIPES / "qwen7b.yaml")
    [line] = _with_free(monkeypatch, 40, asked, tmp_path)
    (tmp_path / "train-1-00000000").mkdir()
    with (tmp_path / "train-1-00000000/model.safetensors").open("wb") as file:
        file.truncate(60 * 2**30)  # sparse
    assert "GiB of disk" in line and _with_free(monkeypatch, 40, asked, tmp_path) == []


def _with_free(monkeypatch, gib, asked, root):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, gib * 2**30))
    return disk.missing(asked, RECIPES, root)


def test_a_rehearsal_that_fails_is_its_own_line(tmp_path, monkeypatch, capsys):
    def fails(recipe, base, name, section):
        raise TrainError("out of GPU memory: 3 GiB")

    monkeypatch.setattr(rehearsal, "rehearse_layer", fails)
    start(tmp_path)
    assert capsys.readouterr().out == "missing: train does not run here: out of GPU memory: 3 GiB\n"


def test_two_sections_that_differ_are_both_rehearsed(tmp_path, monkeypatch):
    tried = []
    monkeypatch.setattr(rehearsal, "rehearse_layer", lambda recipe, base, name, section: tried.append(name) or name)
    asked = recipe.load(RECIPES / "qwen7b.yaml", ["train_2.optimiser=adamw"])
    stages = runner.pipeline.build(asked, RECIPES)
    runner.check(asked, RECIPES, tmp_path, stages)
    assert tried == ["train", "train_2"]


def test_a_recipe_for_a_cpu_and_a_finished_run_are_not_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr(requirements, "missing", lambda *args, **keys: pytest.fail("looked at"))
    asked = recipe.load(RECIPES / "smoke.yaml")
    runner.check(asked, RECIPES, tmp_path, runner.pipeline.build(asked, RECIPES))
    large = recipe.load(RECIPES / "qwen7b.yaml")
    stages = runner.pipeline.build(large, RECIPES)
    for stage in stages.values():
        stage.folder(tmp_path).mkdir()
        write_manifest(stage.folder(tmp_path), {**describe(stage), "metrics": {}})
    runner.check(large, RECIPES, tmp_path, stages)


def test_only_what_is_still_to_do_is_asked_for(tmp_path, monkeypatch):
    """Up to the first evaluation nothing is trained, so bitsandbytes is not missed."""
    absent(monkeypatch, "bitsandbytes")
    asked = recipe.load(RECIPES / "qwen7b.yaml")
    stages = runner.pipeline.build(asked, RECIPES)
    runner.check(asked, RECIPES, tmp_path, stages, "eval-0")
    with pytest.raises(UserError, match="cannot run to its end here"):
        runner.check(asked, RECIPES, tmp_path, stages, "train-1")


@pytest.mark.slow
def test_a_gpu_recipe_rehearses_on_the_real_trainer(tmp_path, monkeypatch, capfd, machine):
    """The one test with a real child: torch has no GPU here, and that is what it says."""
    monkeypatch.undo()
    monkeypatch.setenv("PATH", str(machine.bin), prepend=os.pathsep)
    asked = recipe.load(RECIPES / "smoke.yaml", ["needs.gpu_gib=1", "engine.kind=hf"])
    stages = runner.pipeline.build(asked, RECIPES)
    if gpus.first().name != "NVIDIA Test Card":
        pytest.skip("a real driver is here")
    with pytest.raises(UserError, match="cannot run to its end here"):
        runner.check(asked, RECIPES, tmp_path, stages)
    assert "missing: train does not run here: torch" in (said := capfd.readouterr().out)
    assert "finds no GPU; nvidia-smi shows NVIDIA Test Card" in said
