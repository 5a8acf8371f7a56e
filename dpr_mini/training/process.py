"""Work with torch in a process of its own: its end gives the card back, whatever the work left behind.

The parent writes a job as JSON, starts `python -m dpr_mini.training.child JOB` under a guard (guard.py: whatever ends
the parent ends the child), and reads the result that the child leaves as JSON: metrics, or one line that says why
there are none. Nothing else is exchanged, so the child may live in another environment: `train.python` names Unsloth's
interpreter. The allocator's and OpenMP's settings are the child's alone: a server that is started from the same parent
sees neither.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dpr_mini import recipe
from dpr_mini.files.rows import read_json, write_json
from dpr_mini.machine import gpus, guard
from dpr_mini.training import TrainError

JOB, RESULT = "train-job.json", "train-result.json"
FIX = "see docs/training.md, 'Unsloth'"
# Read once, when torch starts: libgomp's spinning waits cost 10x where the cores are shared, and a GPU's memory must
# not fall to pieces under rows of different lengths.
ENVIRONMENT = {"OMP_WAIT_POLICY": "passive", "PYTORCH_ALLOC_CONF": "expandable_segments:True"}
UNSLOTH = {
    "UNSLOTH_DISABLE_STATISTICS": "1",  # nothing goes over a network
    "HF_HUB_OFFLINE": "1",
}
SIGNALLED = 128  # a guard's exit code for a child that a signal ended: this and the signal's number


def train(
    folder: Path,
    packs: Path,
    model_dir: Path,
    config: recipe.TrainConfig,
    seed: int,
    gpu: bool,
    need: float | None = None,
) -> dict[str, Any]:
    """The training stage (stages/train.py) in a child process; its metrics. Called again, it resumes.

    gpu: the recipe needs one: torch without CUDA is refused, not borne with. need: GiB that it takes of the card.
    Raises TrainError with the child's one line, before it starts where the card has too little free memory, and
    OSError for a full disk.
    """
    if need is not None and (lack := gpus.lack(need)):
        raise TrainError(f"training {lack}")
    job = {"kind": "train", "packs": str(packs), "model_dir": str(model_dir), "seed": seed}
    return run(folder, job | {"config": config.model_dump(mode="json")}, config, gpu)


def run(folder: Path, job: dict[str, Any], config: recipe.TrainConfig, gpu: bool) -> dict[str, Any]:
    """Run `job` for `folder` in the interpreter that `config` asks for; what the child returns. Raises TrainError."""
    python, environment = _interpreter(config, folder)
    write_json(folder / JOB, job | {"folder": str(folder), "gpu": gpu})
    (folder / RESULT).unlink(missing_ok=True)
    command = [sys.executable, "-I", guard.__file__, python, "-m", "dpr_mini.training.child", str(folder / JOB)]
    # a session of its own: Ctrl-C is the parent's to pass on, once
    child = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment, start_new_session=True)
    assert child.stdin
    try:
        code = child.wait()
    finally:
        child.stdin.close()  # the guard ends what is still there: first politely, then for good
        child.wait()
    result = read_json(folder / RESULT) if (folder / RESULT).exists() else {}
    if "errno" in result:
        raise OSError(result["errno"], result["error"], result.get("file"))
    if code or "metrics" not in result:
        raise TrainError(result.get("error") or _ended(code))
    return result["metrics"]


def _interpreter(config: recipe.TrainConfig, folder: Path) -> tuple[str, dict[str, str]]:
    """(interpreter, its environment). Raises TrainError where Unsloth's is not there."""
    kernels = find_spec("dpr_kernels")  # found, not imported: it would load torch here
    package = find_spec("dpr_mini")
    assert kernels and kernels.origin and package and package.origin
    homes = [str(Path(module).resolve().parent.parent) for module in (package.origin, kernels.origin)]
    environment = {**ENVIRONMENT, **os.environ}
    if "PYTORCH_CUDA_ALLOC_CONF" in os.environ and "PYTORCH_ALLOC_CONF" not in os.environ:
        del environment["PYTORCH_ALLOC_CONF"]  # the user's own word for it, from before torch 2.9
    environment["PYTHONSAFEPATH"] = "1"  # a folder named like a package in the working directory must not be imported
    if config.backend != "unsloth":
        before = os.environ.get("PYTHONPATH")
        environment["PYTHONPATH"] = os.pathsep.join([*homes, *([before] if before else [])])
        return sys.executable, environment
    if not config.python or not (python := shutil.which(config.python)):
        raise TrainError(f"train.backend=unsloth: no interpreter {config.python!r} (train.python); {FIX}")
    environment |= UNSLOTH | {"PYTHONPATH": os.pathsep.join(homes)}
    environment["UNSLOTH_COMPILE_LOCATION"] = str((folder / "unsloth-compiled").resolve())
    # absolute, but not resolved: a virtual environment's python is a link whose place says which environment
    return str(Path(python).absolute()), environment


def _ended(code: int) -> str:
    """Why a child that left no result has ended."""
    number = -code if code < 0 else code - SIGNALLED
    if number <= 0:
        return f"the training process ended with code {code}; what it said is above"
    name = signal.Signals(number).name
    why = " (mostly the system, out of host memory; dmesg says so)" if name == "SIGKILL" else ""
    return f"the training process was ended by {name}{why}; the same command goes on from its last checkpoint"
