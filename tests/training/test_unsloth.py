"""Training with Unsloth's layers in its own environment; without a GPU these are its CPU fallback, transformers'."""

import sys

import pytest
import torch
from safetensors.torch import load_file

from dpr_mini import recipe
from dpr_mini.training import TrainError, loop, process


def settings(python, **keys):
    base = {"backend": "unsloth", "python": python, "epochs": 2, "learning_rate": 1e-3}
    return recipe.TrainConfig(**{**base, "dtype": "float32", "save_dtype": "float32", **keys})


def test_without_an_interpreter_it_says_so(small_model, tmp_path, training_folder):
    out = training_folder(tmp_path, 1)
    for python in (None, "/no/such/python"):
        with pytest.raises(
            TrainError, match=r"backend=unsloth: no interpreter .* \(train.python\); see docs/training.md, 'Unsloth'"
        ):
            process.train(out, tmp_path / "packs", small_model, settings(python), 0, gpu=False)


def test_an_interpreter_without_unsloth_ends_in_one_line(small_model, tmp_path, training_folder):
    out = training_folder(tmp_path, 1)
    with pytest.raises(TrainError, match="the training process ended with code 1; what it said is above"):
        process.train(out, tmp_path / "packs", small_model, settings(sys.executable), 0, gpu=False)


@pytest.mark.unsloth
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", ["full", "lora", "qlora"])
def test_it_trains_like_the_plain_backend(unsloth_python, small_model, tmp_path, mode, training_folder):
    """One epoch from the same start: with frozen adapters of LoRA's own start, only the first loss can be compared."""
    out = training_folder(tmp_path, 6)
    ours = process.train(out, tmp_path / "packs", small_model, settings(unsloth_python, mode=mode), 0, gpu=False)
    assert ours["mode"] == mode and ours["backend"] == "unsloth" and ours["last_loss"] < ours["first_loss"]
    plain = training_folder(tmp_path / "plain", 6)
    keys = settings(None, backend="plain", mode=mode)
    theirs = loop.run(plain, tmp_path / "plain" / "packs", small_model, keys, 0)
    # qlora: another release of the quantiser may round a weight differently
    assert ours["first_loss"] == pytest.approx(theirs["first_loss"], rel=1e-5 if mode != "qlora" else 1e-2)
    trained = load_file(out / "model" / "model.safetensors")
    assert trained.keys() == load_file(plain / "model" / "model.safetensors").keys()
    if mode == "full":
        for name, weight in load_file(plain / "model" / "model.safetensors").items():
            torch.testing.assert_close(trained[name], weight, atol=2e-4, rtol=1e-3, msg=name)
    # the stage is done: nothing is started again
    assert (
        process.train(out, tmp_path / "packs", small_model, settings(unsloth_python, mode=mode), 0, gpu=False)["steps"]
        == 12
    )
