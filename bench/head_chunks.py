"""linear_cross_entropy by the rows of logits it holds at once: time and memory of every chunk, the default's marked.

    python bench/head_chunks.py [--preset h100|tiny] [--call-seconds 0.15] [--budget-seconds N] [--out FILE]

Without an install: PYTHONPATH=.:kernels. A trained head, a frozen one (LoRA) and no gradients at all (evaluation), at
the widths and vocabularies of Qwen2.5 and Llama 3. `overlap`: the default's buffer in two halves, the row kernel of one
on a side stream beside the matmul of the other (on a GPU). Time is the median of single calls, by bench/operators.py's
clock; FLOP 6MHV, 4MHV and 2MHV, so `share` is that of the matmul rate measured at the start. Peak memory: the
allocator's maximum during a call above what the inputs take, gradients included. Inputs are those of
bench/operators.py.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from dpr_kernels import linear_cross_entropy as head
from dpr_kernels.linear_cross_entropy import _large, _rows_at_once
from operators import Clock, ceilings, conditions
from providers import problem

from dpr_mini.files.rows import write_json

MODES = {"trained": 6, "frozen": 4, "no_grad": 2}  # FLOP / MHV
SIZES = {  # rows, then (width, vocabulary); chunks
    "h100": (32768, ((1536, 151936), (3584, 152064), (4096, 128256)), (1024, 2048, 4096, 8192, 16384)),
    "tiny": (256, ((64, 512),), (64, 128)),
}


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=["auto", *SIZES], default="auto")
    parser.add_argument("--call-seconds", type=float, default=0.15, help="for one size, mode and chunk")
    parser.add_argument("--budget-seconds", type=float, default=float("inf"), help="stop cleanly after about this")
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def main() -> None:
    begun, chosen = time.monotonic(), options()
    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    dtype = torch.bfloat16 if cuda else torch.float32
    preset = ("h100" if cuda else "tiny") if chosen.preset == "auto" else chosen.preset
    clock = Clock(device, chosen.call_seconds)
    roofline = ceilings(device, dtype, clock, (2 << 30) if cuda else (16 << 20), 8192 if cuda else 256)
    rows, sizes, chunks = SIZES[preset]
    found: list[dict[str, Any]] = []
    content = {"how": (__doc__ or "").strip(), "conditions": conditions(device, preset), "roofline": roofline}
    for width, vocab in sizes:
        for mode in MODES:
            default = _rows_at_once(rows, vocab, width, dtype.itemsize, mode == "trained", True, _large(device))
            each = [(chunk, False) for chunk in sorted({*chunks, default})] + [(default, True)] * cuda
            for chunk, overlap in each:
                if time.monotonic() - begun > chosen.budget_seconds:
                    print(f"stopped at the budget of {chosen.budget_seconds:g} s")
                    return
                row = measured(rows, width, vocab, mode, chunk, overlap, device, dtype, clock, roofline["flop_per_s"])
                found.append(row | {"default": chunk == default and not overlap})
                print(found[-1], flush=True)
                write_json(chosen.out, {**content, "rows": found})


def measured(
    rows: int, width: int, vocab: int, mode: str, chunk: int, overlap: bool, device: torch.device, dtype: torch.dtype,
    clock: Clock, rate: float,
) -> dict[str, Any]:  # fmt: skip
    shape = {"rows": rows, "width": width, "vocab": vocab, "frozen": mode != "trained", "ignored": 0.0}
    case = problem("linear_cross_entropy", shape, device, dtype)
    a = case.args
    row: dict[str, Any] = {
        "rows": rows,
        "width": width,
        "vocab": vocab,
        "mode": mode,
        "chunk": chunk,
        "overlap": overlap,
    }

    def call(_: Any) -> Any:
        with torch.set_grad_enabled(mode != "no_grad"):
            out = head(a["hidden"], a["weight"], a["targets"], normaliser=a["count"], chunk=chunk, overlap=overlap)
        return case.gradients((out,)) if mode != "no_grad" else out

    try:
        call(None)
        row |= clock.row(call)
        if clock.cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            call(None)
            row["peak_mib"] = round((torch.cuda.max_memory_allocated() - before) / 2**20, 1)
    except torch.OutOfMemoryError as error:
        return row | {"status": "oom", "reason": str(error).splitlines()[0][:200]}
    flop = MODES[mode] * rows * width * vocab
    return row | {"status": "ok", "share": round(1000 * flop / rate / row["ms"], 4)}


if __name__ == "__main__":
    main()
