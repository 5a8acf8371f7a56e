"""The process that trains; `training/process.py` starts it and reads what it leaves.

python -m dpr_mini.training.child JOB.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def main(path: Path) -> None:
    """Do the job; leave its metrics, or the one line that says why there are none, beside it."""
    job = json.loads(path.read_text(encoding="utf-8"))
    if job["config"]["backend"] == "unsloth":
        import unsloth  # noqa: F401  before torch and transformers are loaded: it patches them
    import torch

    from dpr_mini import recipe
    from dpr_mini.files.rows import write_json
    from dpr_mini.training.process import RESULT
    from dpr_mini.types import UserError

    try:
        see_the_gpu(job)
        result: dict[str, Any] = {"metrics": _work(job, recipe.TrainConfig.model_validate(job["config"]))}
    except UserError as error:
        result = {"error": str(error)}
    except torch.OutOfMemoryError as error:
        why = str(error).splitlines()[0]
        fix = "dpr-mini plan RECIPE says what takes the memory and which switch saves it"
        result = {"error": f"out of GPU memory: {why}; {fix}"}
    except OSError as error:
        result = {"error": error.strerror or str(error)}
        if error.errno:  # a library that cannot be loaded, or whose own OSError has no number, is no disk's fault
            result |= {"errno": error.errno, "file": error.filename}
    try:
        write_json(path.with_name(RESULT), result)
    except OSError as error:  # the parent learns of it by the exit code
        sys.exit(f"train: {result.get('error', 'trained')}; its result cannot be written: {error}")
    sys.exit(0 if "metrics" in result else 1)


def _work(job: dict[str, Any], config: Any) -> dict[str, Any]:
    folder = Path(job["folder"])
    if job["kind"] == "train":
        from dpr_mini.training import loop as train

        return train.run(folder, Path(job["packs"]), Path(job["model_dir"]), config, job["seed"])
    from dpr_mini.training import rehearsal

    return rehearsal.steps(folder, job, config)


def see_the_gpu(job: dict[str, Any]) -> None:
    """Raises TrainError where the recipe needs a GPU and torch has none: on a CPU it would take years."""
    import torch

    from dpr_mini.machine import gpus
    from dpr_mini.training import TrainError

    if not job["gpu"] or torch.cuda.is_available():
        return
    card = gpus.first()
    hint = f"nvidia-smi shows {card.name}, driver {card.driver}" if card else "nor does nvidia-smi"
    built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
    raise TrainError(
        f"torch {torch.__version__}, {built}, finds no GPU; {hint}: install a build of torch that the driver can run "
        "(pip install torch, or from PyTorch's index for an older driver)"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
