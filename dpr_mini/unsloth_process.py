"""The process that trains with Unsloth's layers, in Unsloth's own environment; `training/unsloth.py` starts it.

python -m dpr_mini.unsloth_process JOB.json
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(job: Path) -> None:
    """The training stage of `job`; leaves its metrics, or the one line that says why there are none."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # a run that is killed must not go on here
    if os.getppid() == 1:
        sys.exit("the run that wanted this has ended")
    import unsloth  # noqa: F401  before torch and transformers are loaded

    from dpr_mini import recipe, store
    from dpr_mini.stages import train
    from dpr_mini.training import TrainError
    from dpr_mini.training.unsloth import RESULT

    asked = json.loads(job.read_text(encoding="utf-8"))
    folder, packs, model = (Path(asked[name]) for name in ("folder", "packs", "model_dir"))
    config = recipe.Train.model_validate(asked["config"])
    try:
        metrics = train.run(folder, packs, model, config, asked["seed"], asked["dtype"], here=True)
    except TrainError as error:
        store.write_json(folder / RESULT, {"error": str(error)})
        sys.exit(1)
    store.write_json(folder / RESULT, {"metrics": metrics})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
