"""Training steps of a model of random weights: tokens/s, MFU, peak memory, the longest row that fits.

    python bench/train.py [--model qwen2.5-1.5b] [--arms ours plain liger | --ladder] [--mode full lora]
                          [--tokens 8192 32768] [--document 4096] [--longest] [--cap 12 16 24]
                          [--unsloth PYTHON] [--budget-seconds N] [--out FILE]

Without an install: PYTHONPATH=.:kernels; it needs torch, transformers and pydantic. One packed row a step: documents of
`--document` random tokens, all labelled but the first of each, so the head never gets away with fewer. The model has a
published shape (dpr_mini/models/shapes.py), random weights, is saved once as bfloat16; every arm loads that folder as
our trainer loads any model, in a process of its own (Liger patches modules) with expandable_segments. Every layer is
checkpointed in every arm; nobody clips gradients.
  plain            transformers as it is: its loss on whole logits; flash_attention_2 where installed, else SDPA, which
                   takes a packed row as a dense mask
  plain+packed     the same with our packed attention (no mask)
  plain+linear-ce  our trainer over transformers' layers: packed attention, linear cross-entropy
  ours             our trainer as it is: and dpr_kernels in the layers
  ours+offload     and checkpoints on the host; ours+offload+tiled  and the MLP in tiles of `--tile` tokens
  liger, liger+packed   plain and plain+packed with Liger's own patches and its fused linear cross-entropy
  unsloth          our trainer's backend unsloth, in the interpreter `--unsloth` (or DPR_MINI_UNSLOTH), with its
                   own checkpointing to the host
`--ladder` is the first six in that order. Modes:
  full    bfloat16 weights without masters. Ours: 8-bit AdamW (`--optimiser`), each weight updated inside backward,
          rounded stochastically. plain and liger: torch's fused AdamW with bfloat16 moments, rounded to nearest, as
          people run it without more libraries. So the step plain+packed -> plain+linear-ce changes the optimiser too
  full32  float32 masters, bfloat16 matmuls under autocast, AdamW with float32 moments in every arm
  lora    adapters of our recipe's default rank on every linear layer, float32, over bfloat16 weights; AdamW
  qlora   the same over 4-bit weights (needs bitsandbytes)
Every row says its own: `updates`, `attention`, `train` (what differs from the recipe's defaults), `versions`.

Time is the median of `--steps` steps, fewer where they take `--row-seconds`, after two that are not timed; the device
is waited for between two steps. `first_loss` is the loss before any update: equal weights and data, so it must agree
between arms of one precision. Peak memory: the allocator's maximum over the timed steps, weights and all.
MFU = FLOP a step (dpr_mini/training/flops.py: nothing that is computed again) / time / matmul rate, measured in the
same process (8192^3 in the matmuls' dtype on a GPU). The search of `--longest` starts from `--tokens`: doubling until
memory is out (halving where it is at once), then the middle; `document` stays; one step after one.
`--cap` GiB: the allocator may take no more than that less the CUDA context, as if the card were smaller; its speed is
still that of this card. Run again, it goes on: rows measured under equal conditions are kept, missing ones tried again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from train_arms import ARMS, LADDER, MODELS, MODES, OURS, following

from dpr_mini.files.rows import write_json
from dpr_mini.machine.facts import facts, installed

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
MEASURED = ("kernels/dpr_kernels/*.py", "dpr_mini/training/*.py", "bench/train_*.py")
PROBE = "import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else '')"
ON_CPU = (
    "No GPU: dpr_kernels runs its plain-PyTorch twins, Liger and memory caps not at all. These rows show that the arms "
    "train the same model (first_loss), and nothing of a GPU: no speed, no MFU, no memory, no longest row."
)


def rows_of(job: dict[str, Any], unsloth: str | None, seconds: float) -> Iterator[dict[str, Any]]:
    """The rows of an arm's process, as they come; one that ends badly adds a row that says so. At the end of the budget
    it is stopped, and the row it was at is left to the next run. `unsloth`: the interpreter of that arm."""
    python: str | None = sys.executable
    environment = {
        "PYTORCH_ALLOC_CONF": "expandable_segments:True",
        "OMP_WAIT_POLICY": "passive",  # spinning threads ruin the times of shared cores
        **os.environ,
        "HF_HUB_OFFLINE": "1",
    }
    if job["arm"] == "unsloth":
        if not unsloth or not (python := shutil.which(unsloth)):
            where = "--unsloth PYTHON or DPR_MINI_UNSLOTH; see docs/training.md, 'Unsloth'"
            yield {"status": "missing", "reason": f"no interpreter {unsloth!r} ({where})"}
            return
        environment |= {  # another environment: nothing of this one's
            "PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}",
            "UNSLOTH_COMPILE_LOCATION": str(Path(job["models"]).resolve() / "unsloth-compiled"),
            "UNSLOTH_DISABLE_STATISTICS": "1",  # nothing goes over a network
        }
    tail: list[str] = []
    end = time.monotonic() + seconds
    with subprocess.Popen(
        [python, str(HERE / "train_child.py"), json.dumps(job)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment,
    ) as process:  # fmt: skip
        late = threading.Timer(seconds, process.kill)
        late.start()
        for line in process.stdout or ():
            if line.startswith("ROW "):
                yield json.loads(line[4:])
            else:
                tail = [*tail[-20:], line]
        code = process.wait()
        late.cancel()
    if code and time.monotonic() >= end:
        print(f"{job['arm']} {job['mode']}: stopped at the budget", flush=True)
    elif code:
        said = "".join(tail).strip().splitlines() or ["it said nothing"]
        yield {"status": "failed", "reason": f"exit {code}: {said[-1][:300]}"}


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, help="default: qwen2.5-1.5b; tiny without a GPU")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=["ours", "plain", "liger"])
    parser.add_argument("--ladder", action="store_const", const=LADDER, dest="arms")
    parser.add_argument("--mode", nargs="+", choices=MODES, default=["full", "lora"])
    parser.add_argument("--tokens", nargs="+", type=int, help="default: 8192 32768; 256 without a GPU")
    parser.add_argument("--document", type=int, default=4096)
    parser.add_argument("--tile", type=int, default=4096)
    parser.add_argument("--optimiser", choices=["adamw8bit", "adamw"], default="adamw8bit", help="ours, mode full")
    parser.add_argument("--cap", nargs="+", type=float, default=[0], metavar="GIB", help="0: the whole card")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--row-seconds", type=float, default=10)
    parser.add_argument("--longest", action="store_true")
    parser.add_argument("--most", type=int, default=1 << 18, help="tokens: where doubling ends")
    parser.add_argument("--unsloth", default=os.environ.get("DPR_MINI_UNSLOTH"), metavar="PYTHON")
    parser.add_argument("--models", type=Path, help="where models are kept for the next run; default: nowhere")
    parser.add_argument("--budget-seconds", type=float, default=1e6)
    parser.add_argument("--resume", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--out", type=Path, help="default: bench/results/train-<device>.json")
    return parser.parse_args()


def conditions(gpu: str) -> dict[str, Any]:
    """What rows must share to stand in one file; a row has the versions of its own process besides."""
    files = sorted(f for pattern in MEASURED for f in ROOT.glob(pattern))
    source = hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()[:12]
    versions = installed(("torch", "triton", "transformers", "peft"))
    return {"device": gpu or f"cpu, {facts()['machine']['cpu']}", "versions": versions, "source": source}


def earlier(out: Path, machine: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of a run before this one, if they were measured under the same conditions."""
    if not out.exists():
        return []
    old = json.loads(out.read_text(encoding="utf-8"))
    if old["conditions"] == machine:
        return old["rows"]
    print(f"{out}: measured under other conditions ({old['conditions']}); started anew")
    return []


def main() -> None:
    begun, chosen = time.monotonic(), options()
    probe = subprocess.run([sys.executable, "-c", PROBE], stdout=subprocess.PIPE, text=True, check=True)
    gpu = probe.stdout.strip()  # asked in a process of its own: this one must not hold a CUDA context beside the arms
    if any(chosen.cap) and not gpu:
        sys.exit("train.py: --cap holds the allocator of a GPU, and there is none here")
    chosen.model = chosen.model or ("qwen2.5-1.5b" if gpu else "tiny")
    chosen.tokens = chosen.tokens or ([8192, 32768] if gpu else [256])
    out = chosen.out or HERE / "results" / f"train-{(gpu or 'cpu').lower().replace(' ', '-')}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    machine = conditions(gpu)
    note = {} if gpu else {"cannot_show": ON_CPU}
    result: dict[str, Any] = {"how": (__doc__ or "").strip(), **note, "conditions": machine, "facts": facts()}
    result["rows"] = earlier(out, machine) if chosen.resume else []
    end = begun + chosen.budget_seconds
    with tempfile.TemporaryDirectory(prefix="dpr-bench-") as temporary:
        models = chosen.models or Path(temporary)
        models.mkdir(parents=True, exist_ok=True)
        for row in measured(chosen, result["rows"], models, end):
            print(f"{row['arm']} {row['mode']} {row}", flush=True)
            write_json(out, result)
    table(result["rows"])
    print(out if gpu else f"{out}\n{ON_CPU}")
    if time.monotonic() >= end:
        print(f"stopped at the budget of {chosen.budget_seconds:g} s; run again, it goes on")


def measured(
    chosen: argparse.Namespace, rows: list[dict[str, Any]], models: Path, end: float
) -> Iterator[dict[str, Any]]:
    """Adds to `rows` what is asked for and not among them, one arm in every mode first; gives each as it comes."""
    for cap, arm, mode in ((c, a, m) for c in chosen.cap for a in chosen.arms for m in chosen.mode):
        key = {"model": chosen.model, "mode": mode, "arm": arm, "document": chosen.document, "cap_gib": cap}
        key |= {"optimiser": chosen.optimiser if mode == "full" and arm in OURS else "adamw"}
        key |= {"tile": chosen.tile} if "tiled" in arm else {}
        rows[:] = [r for r in rows if not (key.items() <= r.items() and r["status"] == "missing")]
        while (left := end - time.monotonic()) > 0:
            had = [r for r in rows if key.items() <= r.items()]
            done = {r["tokens"]: r["status"] for r in had if "tokens" in r}
            ended = any(r["status"] in ("missing", "failed") for r in had)
            if ended or not following(done, chosen.tokens, chosen.longest, chosen.most):
                break
            job = {n: getattr(chosen, n) for n in ("tokens", "tile", "steps", "row_seconds", "longest", "most")}
            before = len(rows)
            for row in rows_of(job | key | {"done": [*done.items()], "models": str(models)}, chosen.unsloth, left):
                rows.append({**key, **row})
                yield rows[-1]
            if len(rows) == before:  # stopped
                break


def table(rows: list[dict[str, Any]]) -> None:
    print(f"\n{'':46}{'tokens':>8}{'tok/s':>10}{'MFU':>7}{'peak GiB':>10}{'first loss':>12}")
    for r in rows:
        cap = f" under {r['cap_gib']:g} GiB" if r["cap_gib"] else ""
        name = f"{r['model']} {r['mode']} {r['arm']}{cap}"
        if r["status"] != "ok":
            print(f"{name:46}{r.get('tokens', ''):>8} {r['status']}: {r['reason'][:90]}")
            continue
        peak = r.get("peak_gib", "")
        print(f"{name:46}{r['tokens']:>8}{r['tokens_per_s']:>10}{r['mfu']:>7.1%}{peak:>10}{r['first_loss']:>12.5f}")


if __name__ == "__main__":
    main()
