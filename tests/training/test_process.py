"""Training in a process of its own: the same weights, nothing left behind, one line where it cannot go on."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import stand_in
import torch
from safetensors.torch import load_file

from dpr_mini import recipe
from dpr_mini.files.rows import read_json, write_json
from dpr_mini.machine import gpus
from dpr_mini.training import TrainError, loop, process
from dpr_mini.training import child as train_process
from dpr_mini.types import Pack


@pytest.fixture
def out(tmp_path, training_folder) -> Path:
    return training_folder(tmp_path, 8)


def settings(**keys):
    base = {"epochs": 2, "learning_rate": 1e-3, "dtype": "float32", "save_dtype": "float32", "save_steps": 4}
    return recipe.TrainConfig(**{**base, **keys})


CONFIG = type(settings()).__name__  # for code that is a string: no rename reaches into it


def go(out, model, gpu=False, need=None, **keys):
    return process.train(out, out.parent / "packs", model, settings(**keys), 0, gpu, need)


def weights(folder):
    return (folder / "model" / "model.safetensors").read_bytes()


def trainers(of=None):
    """The processes below `of` (this one) that train; not the guards above them."""
    found = []
    for child in psutil.Process(of).children(recursive=True):
        line = child.cmdline()
        if "dpr_mini.training.child" in line and not any(part.endswith("guard.py") for part in line):
            found.append(child)
    return found


def kill_at(pattern, folder, dead):
    """SIGKILL the training process once `folder` has a file of that pattern; a thread that has begun to watch."""

    def watch():
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not list(folder.glob(pattern)):
            time.sleep(0.002)
        for child in trainers():
            child.kill()
            dead.append(child)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def test_a_killed_child_is_one_line_and_the_same_call_ends_with_the_same_weights(small_model, out, tmp_path):
    whole = tmp_path / "whole"
    whole.mkdir()
    here = loop.run(whole, tmp_path / "packs", small_model, settings(epochs=10), 0)
    watching = kill_at("checkpoint-*/trainer.json", out, dead := [])
    with pytest.raises(TrainError, match=r"ended by SIGKILL .*; the same command goes on from its last checkpoint"):
        go(out, small_model, epochs=10)
    watching.join()
    assert len(dead) == 1 and not (out / "model").exists() and list(out.glob("checkpoint-*"))
    there = go(out, small_model, epochs=10)
    assert there["steps"] == here["steps"] == 80 and weights(out) == weights(whole)
    assert load_file(out / "model" / "model.safetensors").keys()


def test_a_killed_parent_takes_the_child_with_it(small_model, out, tmp_path):
    code = (
        "import sys, json; from pathlib import Path; from dpr_mini import recipe; "
        "from dpr_mini.training import process; p = Path(sys.argv[1]); "
        f"c = recipe.{CONFIG}.model_validate(json.loads(sys.argv[3])); "
        "process.train(p / 'out', p / 'packs', Path(sys.argv[2]), c, 0, False)"
    )
    asked = json.dumps(settings(epochs=1000).model_dump(mode="json"))
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(small_model), asked])
    deadline = time.monotonic() + 120
    while not (out / "metrics.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    children = trainers(parent.pid)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    _, alive = psutil.wait_procs(children, timeout=30)
    assert len(children) == 1 and not alive


def test_an_interrupt_of_the_parent_ends_the_child(small_model, out):
    def interrupt():
        while not (out / "metrics.jsonl").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        go(out, small_model, epochs=1000)
    assert not trainers()


def test_a_mistake_comes_back_as_the_childs_own_line(small_model, tmp_path, training_folder):
    out = training_folder(tmp_path, [Pack(("a",), (5, 6, 7), (False, False, False), (0,))])
    with pytest.raises(TrainError, match=r"^a row has no token to train on; samples a$"):
        go(out, small_model)


def test_torch_without_a_gpu_is_refused_where_the_recipe_needs_one(driver, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    train_process.see_the_gpu({"gpu": False})
    with pytest.raises(TrainError, match=r"finds no GPU; nvidia-smi shows NVIDIA Test Card, driver 580.1: install a"):
        train_process.see_the_gpu({"gpu": True})
    driver.show()
    with pytest.raises(TrainError, match="finds no GPU; nor does nvidia-smi"):
        train_process.see_the_gpu({"gpu": True})


def test_a_card_without_room_is_refused_with_numbers_before_the_child_starts(small_model, out, driver, monkeypatch):
    driver.show(40960)
    monkeypatch.setattr(process, "run", lambda *args: {"trained": True})
    with pytest.raises(TrainError, match=r"needs 59\.5 GiB of the card, but .*40\.0 of them free: others hold 40\.0"):
        go(out, small_model, need=59.5)
    driver.show(61440)
    assert go(out, small_model, need=59.5) == {"trained": True}


def test_the_childs_settings_are_the_childs_alone(small_model, out, monkeypatch):
    for name in process.ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    _, environment = process._interpreter(settings(), out)
    assert process.ENVIRONMENT.items() <= environment.items()
    assert not os.environ.keys() & process.ENVIRONMENT.keys()
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "max_split_size_mb:64")
    assert "PYTORCH_ALLOC_CONF" not in process._interpreter(settings(), out)[1], "the user's own word wins"


def test_a_full_disk_is_told_as_one(small_model, out, monkeypatch):
    def leaves(command, **keys):
        write_json(out / process.RESULT, {"error": "No space left on device", "errno": 28})
        return subprocess.Popen(["false"], stdin=subprocess.PIPE)

    monkeypatch.setattr(process, "subprocess", type("S", (), {"Popen": staticmethod(leaves), "PIPE": subprocess.PIPE}))
    with pytest.raises(OSError, match="No space left") as caught:
        go(out, small_model)
    assert caught.value.errno == 28


def test_an_error_without_a_number_is_told_in_its_own_words(tmp_path, monkeypatch):
    """A library that cannot be loaded raises OSError, too: no disk is to be looked at."""

    def cannot_load(job, config):
        raise OSError("libx.so: cannot open shared object file")

    monkeypatch.setattr(train_process, "_work", cannot_load)
    job = {"config": settings().model_dump(mode="json"), "gpu": False}
    write_json(tmp_path / "job.json", job)
    with pytest.raises(SystemExit):
        train_process.main(tmp_path / "job.json")
    assert read_json(tmp_path / process.RESULT) == {"error": "libx.so: cannot open shared object file"}


# --- the card is empty when the next server starts: a stub whose memory is held by whoever has loaded torch -------

SCENARIO = """\
import json, sys
from pathlib import Path
from dpr_mini import recipe
from dpr_mini.engines.sglang import fleet, launch
from dpr_mini.engines.sglang.engine import SglangEngine
from dpr_mini.training import process
root, model, server, apart = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4] == "apart"
config = recipe.{CONFIG}.model_validate(json.loads(sys.argv[5]))
fleet.GPU_PATIENCE = 1.0
launch.find_python = lambda named, gpu: sys.executable
launch.versions = lambda python: {"sglang": "0"}
launch.command = lambda python, folder, port, *a, **k: [python, server, str(port), str(root), "well", str(folder)]
if apart:
    process.train(root / "out", root / "packs", model, config, 0, False)
else:
    from dpr_mini.training import loop
    loop.run(root / "out", root / "packs", model, config, 0)
with SglangEngine(model, logs=root / "logs") as engine:
    print("served", engine.name)
"""
# 24 GiB for every process of this test that has torch loaded
CARD = """\
n=0
for p in /proc/[0-9]*; do
  if grep -qzs "^DPR_TEST_CARD={mark}$" $p/environ && grep -qs libtorch_cpu $p/maps; then n=$((n + 1)); fi
done
echo "GPU-a0, NVIDIA Test Card, 81920, $((81920 - n * 24576)), 580.1, 9.0, Disabled"
"""


@pytest.mark.parametrize("how", ["apart", "here"])
def test_nothing_of_the_trainer_is_left_when_the_next_server_starts(small_model, out, tmp_path, driver, how):
    """And the stub would see it: trained in the parent, the server is refused."""
    driver.program("nvidia-smi", CARD.replace("{mark}", str(tmp_path)))
    asked = json.dumps(settings(epochs=5).model_dump(mode="json"))
    environment = os.environ | {"DPR_TEST_CARD": str(tmp_path)}
    code = SCENARIO.replace("{CONFIG}", CONFIG)
    command = [sys.executable, "-c", code, str(tmp_path), str(small_model), stand_in.__file__, how, asked]
    done = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    free = []
    while not (out / "model").exists() and done.poll() is None:
        free.append(gpus.first().free)
        time.sleep(0.2)  # the stub looks through all processes
    said, errors = done.communicate(timeout=120)
    assert min(free) <= 56.0, "the stub saw the trainer"
    if how == "apart":
        assert done.returncode == 0 and "served sglang 0" in said, errors[-2000:]
    else:
        assert done.returncode and "68.0 GiB, but NVIDIA Test Card, 80.0 GiB, 56.0 of them free" in errors
