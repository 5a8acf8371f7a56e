"""Engines: token ids in, token ids out (base.py). `open_engine` picks one; torch and OpenVINO load only then."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dpr_mini.engines.base import Engine, EngineError
from dpr_mini.recipe import ServerConfig

KINDS = ("auto", "openvino", "hf", "sglang")
DTYPES = {"f32": "float32", "bf16": "bfloat16"}


def choose(kind: str, model_dir: Path) -> tuple[str, str]:
    """(engine kind, why) for `kind` in KINDS. Raises EngineError for a kind that does not exist."""
    if kind not in KINDS:
        raise EngineError(f"no engine {kind!r}; there are {', '.join(KINDS)}")
    if kind != "auto":
        return kind, "the recipe names it"
    import torch

    if torch.cuda.is_available():
        return "hf", f"a GPU is here ({torch.cuda.get_device_name()})"
    if find_spec("openvino_genai") is None or find_spec("gguf") is None:
        return "hf", "no GPU, and OpenVINO is not installed (pip install 'dpr-mini[cpu]' makes sampling faster)"
    from dpr_mini.models.gguf import why_not_exportable

    if reason := why_not_exportable(Path(model_dir)):
        return "hf", f"no GPU, and OpenVINO cannot read the model: {reason}"
    return "openvino", "no GPU, and OpenVINO is the fastest engine on a CPU"


def open_engine(
    kind: str,
    model_dir: Path,
    *,
    window: int | None = None,
    precision: str | None = None,
    server: ServerConfig | None = None,
    logs: Path = Path("."),
) -> Engine:
    """An engine for the model in `model_dir`, to be used in a with block; says on stderr which and why.

    `server` and `logs` (a folder) are for sglang. `window` and `precision` ("f32" or "bf16") None take the engine's
    own choice. On a CPU f32 makes a sample independent of its batch; bf16 is about 1.5 times faster and does not.
    Raises EngineError.
    """
    picked, why = choose(kind, model_dir)
    if precision not in (None, *DTYPES):
        raise EngineError(f"no precision {precision!r}; there are {', '.join(DTYPES)}")
    options: dict[str, Any] = {} if window is None else {"window": window}
    engine: Engine
    if picked == "openvino":
        from dpr_mini.engines.openvino import OpenVinoEngine

        if precision:
            options["precision"] = precision
        engine = OpenVinoEngine(Path(model_dir), **options)
    elif picked == "sglang":
        from dpr_mini.engines.sglang.engine import SglangEngine

        if precision:
            raise EngineError("sglang takes its precision from engine.arguments, e.g. dtype: bfloat16")
        engine = SglangEngine(Path(model_dir), config=server, logs=logs, **options)
    else:
        from dpr_mini.engines.hf import HfEngine

        if precision:
            options["dtype"] = DTYPES[precision]
        engine = HfEngine(Path(model_dir), **options)
    window_from_server = picked == "sglang" and window is None  # printed once the server is up
    size = "" if window_from_server else f", window {engine.window}"
    print(f"engine {engine.name}{size}: {why}", file=sys.stderr, flush=True)
    return engine
