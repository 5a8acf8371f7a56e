"""A checkpoint or a saved model that is not what was written is refused by name, before a step is made from it."""

import os
import shutil

import pytest

from dpr_mini.files.rows import StoreError, read_json, write_rows, write_sealed
from dpr_mini.recipe import TrainConfig
from dpr_mini.training import TrainError, loop

CONFIG = TrainConfig(epochs=2, rows_per_step=1, save_steps=2, dtype="float32", save_dtype="float32")
ROWS = [
    {"samples": [f"s{i}"], "ids": [5 + i, 9, 20, 31, 7], "trained": [False, True, True, True, True], "starts": [0]}
    for i in range(3)
]


@pytest.fixture(scope="module")
def llama(tiny_model):
    return tiny_model()


@pytest.fixture(scope="module")
def trained(llama, tmp_path_factory):
    """(rows, a training that was broken off behind checkpoint-4, one that has a model)."""
    home = tmp_path_factory.mktemp("trained")
    (home / "packs").mkdir()
    write_rows(home / "packs/rows.jsonl", ROWS)
    save = loop.save_checkpoint
    with pytest.MonkeyPatch.context() as patch:

        def then_break_off(folder, step, *more):
            save(folder, step, *more)
            if step == 4:
                raise KeyboardInterrupt

        patch.setattr(loop, "save_checkpoint", then_break_off)
        with pytest.raises(KeyboardInterrupt):
            loop.run(home / "half", home / "packs", llama, CONFIG, 0)
    loop.run(home / "whole", home / "packs", llama, CONFIG, 0)
    return home


@pytest.fixture
def half(trained, tmp_path):
    return shutil.copytree(trained / "half", tmp_path / "half")


@pytest.fixture
def whole(trained, tmp_path):
    return shutil.copytree(trained / "whole", tmp_path / "whole")


def go(folder, trained, llama):
    return loop.run(folder, trained / "packs", llama, CONFIG, 0)


def changed(path, change):
    data = path.read_bytes()
    path.write_bytes(change(data))


def flip(data):
    return data[:-50] + bytes([data[-50] ^ 1]) + data[-49:]


def renamed(data):
    return data.replace(b"layers.0.mlp", b"layers.9.mlp", 1)


def test_an_untouched_checkpoint_goes_on_to_the_same_weights(half, trained, llama):
    go(half, trained, llama)
    weights = [(folder / "model/model.safetensors").read_bytes() for folder in (half, trained / "whole")]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors"])
@pytest.mark.parametrize("change", [flip, renamed, lambda d: d[:-1], lambda d: b"", lambda d: bytes(len(d)), None])
def test_a_damaged_file_of_a_checkpoint_is_named(half, trained, llama, file, change):
    path = half / "checkpoint-4" / file
    if change is renamed and b"layers.0.mlp" not in path.read_bytes():
        pytest.skip("no such tensor in it")
    changed(path, change) if change else path.unlink()
    with pytest.raises(StoreError, match=rf"checkpoint-4/{file}: .*; delete the checkpoint's folder"):
        go(half, trained, llama)


EDITS = [('"step": 4', '"step": 400'), ('"epoch": ', '"epoch": 1'), ('"torch": "2', '"torch": "1'), ("{", "")]


@pytest.mark.parametrize(("old", "new"), [*EDITS, ('"step"', '"steps"')])
def test_what_a_checkpoint_says_of_itself_must_be_as_written(half, trained, llama, old, new):
    path = half / "checkpoint-4/trainer.json"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(StoreError, match=r"checkpoint-4/trainer.json.*; delete the checkpoint's folder"):
        go(half, trained, llama)


@pytest.mark.parametrize("change", [lambda d: d[: d.index(b"\n") + 1], lambda d: b"", None])
def test_steps_that_a_checkpoint_counts_must_be_in_the_metrics(half, trained, llama, change):
    path = half / "metrics.jsonl"
    (half / "metrics.jsonl.sum").unlink()  # as if nothing of it had been synced
    changed(path, change) if change else path.unlink()
    with pytest.raises(StoreError, match=r"metrics\.jsonl: it has \d of 4 steps; delete .*half to train again"):
        go(half, trained, llama)


def test_metrics_are_on_the_disk_before_the_checkpoint_that_counts_them(trained, llama, tmp_path, monkeypatch):
    noted, save = [], loop.save_checkpoint

    def look(folder, step, *more):
        size = (folder / "metrics.jsonl").stat().st_size
        noted.append(read_json(folder / "metrics.jsonl.sum")["bytes"] == size)
        save(folder, step, *more)

    monkeypatch.setattr(loop, "save_checkpoint", look)
    go(tmp_path / "new", trained, llama)
    assert noted == [True, True]


def test_the_advice_works(half, trained, llama):
    (half / "checkpoint-4/model.safetensors").write_bytes(b"")
    shutil.rmtree(half / "checkpoint-4")
    assert go(half, trained, llama)["steps"] == 6


@pytest.mark.parametrize("name", ["checkpoint-x", "checkpoint-", "checkpoint-4-copy"])
def test_a_folder_that_is_no_checkpoint_of_ours_is_neither_used_nor_deleted(half, trained, llama, name):
    shutil.copytree(half / "checkpoint-4", half / name)
    with pytest.raises(StoreError, match=rf"{name}: not a checkpoint of this training; move it away"):
        go(half, trained, llama)
    assert (half / name / "trainer.json").exists()


def test_another_torch_is_said(half, trained, llama, capsys):
    path = half / "checkpoint-4/trainer.json"
    write_sealed(path, read_json(path) | {"torch": "2.0.0"})
    go(half, trained, llama)
    assert "checkpoint-4 is of torch '2.0.0', not" in capsys.readouterr().out


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json"])
@pytest.mark.parametrize("change", [lambda d: b"", flip])
def test_a_saved_model_that_a_power_cut_emptied_is_not_taken_for_done(whole, trained, llama, file, change):
    """Before the stage's manifest is there, that the folder is there means nothing."""
    changed(whole / "model" / file, change)
    with pytest.raises(StoreError, match=rf"model/{file}: .*; delete .*/model to train it again"):
        go(whole, trained, llama)
    shutil.rmtree(whole / "model")
    assert go(whole, trained, llama)["steps"] == 6


def test_steps_that_were_lost_are_noticed_behind_a_saved_model(whole, trained, llama):
    os.truncate(whole / "metrics.jsonl", 0)
    with pytest.raises(StoreError, match=r"metrics.jsonl: has 0 bytes of .* that were on the disk"):
        go(whole, trained, llama)


def test_a_token_that_the_model_has_no_embedding_of(llama, tmp_path):
    (tmp_path / "packs").mkdir()
    write_rows(tmp_path / "packs/rows.jsonl", [ROWS[0] | {"ids": [5, 9, 99999, 31, 7]}])
    with pytest.raises(TrainError, match=r"token id 99999, the model has \d+ embeddings: .*samples s0"):
        loop.run(tmp_path / "out", tmp_path / "packs", llama, CONFIG, 0)
