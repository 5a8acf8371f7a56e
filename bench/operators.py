"""Our kernels beside everybody else's in one run: time, share of the machine's ceiling, memory, error against fp64.

    python bench/operators.py [--preset h100|cpu|tiny] [--ops ...] [--providers ...] [--budget-seconds N] [--out FILE]

Without an install: PYTHONPATH=.:kernels. Run again, it goes on: rows measured under equal conditions are kept (rows of
our own code only while that code is the same), so a budget may cut the work into pieces; --no-resume starts anew.

Provider by provider, ours first, so that a budget leaves whole columns; torch.compile gets the first shape of each
operator. Time is the median of single calls with its 20 % and 80 % quantiles; on a GPU by CUDA events, after 256 MiB
were written to push the inputs out of the L2 cache, and a millisecond in which the GPU waits, so that the host's
launches are not measured. `host_us` is the host's part: the median time of five more calls, each on an idle GPU, until
the call comes back. Where it is longer than the time of the GPU, a loop of this operator alone waits for the host;
where a provider waits for the GPU itself (ours and the reference look for ignored rows), that is in it. A CPU has no
such column: the host is the device. The first call (compiling) is timed apart. Inputs are normal random numbers,
seeded.
"backward" follows an untimed forward; "full" is both in one interval. linear_cross_entropy has no "backward": some
providers make their gradients in the forward; its "forward" is without gradients, as in an evaluation.

Share of the roofline = least time / time, least = max(bytes / copy bandwidth, FLOP / matmul rate), both measured at the
start of the same run (copy of 2 GiB; 8192^3 in bf16; smaller on a CPU). Bytes: every tensor read or written once
(rms_norm 2 and 3 values an element forward and backward, add_rms_norm 4 and 4, swiglu 3 and 5, rope 2 and 2 and its
table). FLOP: linear_cross_entropy 2MHV forward, 6MHV full, 4MHV full with a frozen head, M being labelled rows,
whatever a provider computes again; attention, causal, a document of L: 2 L^2 D Hq forward, 5 L^2 D Hq backward.
Peak memory: the allocator's maximum during a call above what the inputs take, outputs and gradients included.
Error: largest difference from the operator's definition (dpr_kernels/reference.py) in fp64 over the largest fp64 value,
and the least cosine of a gradient, on a smaller problem of the same widths (`checked_at`): fp64 does not fit at full
size. torch.compile is not compared.

Providers: ours (Triton), reference (our plain PyTorch; of the loss in chunks, of attention SDPA document by document),
eager (as transformers writes it), compile (torch.compile of eager), torch (F.rms_norm; F.linear_cross_entropy of 2.13;
varlen_attn), libraries with their own defaults, in place where they are; *-fp32 sums dW in float32. liger's default
sums it in the weight's dtype; liger-cute is its CuTe DSL kernels (nvidia-cutlass-dsl), for sm_90 and newer. quack, fa4,
liger-cute and unsloth are called as their sources say and untried. A provider that is
missing, fails, or runs out of memory stays a row and says why.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: spinning threads ruin the times of shared cores

import dpr_kernels
import torch
import torch.nn.functional as F
from kernel_plan import COMPILED, NOTES, plan, rounds, table
from providers import PROVIDERS, Missing, Shape, exact, problem, provider, smaller, work
from torch import Tensor

from dpr_mini.files.rows import write_json
from dpr_mini.machine.facts import facts

SPEC = {"H200": (4.8e12, 989e12), "H100": (3.35e12, 989e12)}  # SXM data sheets: bytes/s, dense bf16 FLOP/s
LAUNCH_CYCLES = 2_000_000  # about a millisecond of the GPU; launching forward and backward took the host up to 0.2 ms
LIBRARIES = ("torch", "triton", "liger-kernel", "unsloth", "cut-cross-entropy", "quack-kernels", "flash-attn")
ON_CPU = (
    "No GPU here: 'ours' would run in Triton's interpreter, whose time means nothing, so it is left out; these rows "
    "compare plain PyTorch at small sizes. They show nothing of a GPU: no kernel speed, no peak memory, no bf16."
)


# --- measuring --------------------------------------------------------------------------------------------------------


class Clock:
    """Single calls, timed one by one; `seconds` is what one measurement may take."""

    def __init__(self, device: torch.device, seconds: float) -> None:
        self.cuda, self.seconds = device.type == "cuda", seconds
        self.flush = torch.empty(256 << 20, dtype=torch.int8, device=device) if self.cuda else None

    def wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()

    def once(self, call: Callable[[Any], Any], state: Any) -> tuple[Any, Any]:
        if not self.cuda:
            begun = time.perf_counter()
            call(state)
            return begun, time.perf_counter()
        self.flush.zero_()
        torch.cuda._sleep(LAUNCH_CYCLES)  # the host is ahead when the interval begins: its launches are not in it
        ends = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        ends[0].record()
        call(state)
        ends[1].record()
        return ends

    def milliseconds(self, call: Callable[[Any], Any], prepare: Callable[[], Any]) -> list[float]:
        def several(n: int) -> list[float]:
            ends = [self.once(call, prepare()) for _ in range(n)]
            self.wait()
            return [a.elapsed_time(b) if self.cuda else 1000 * (b - a) for a, b in ends]

        several(2)  # warm-up
        guess = max(several(2)) / 1000
        return several(max(5, min(100, int(self.seconds / max(guess, 1e-6)))))

    def host_us(self, call: Callable[[Any], Any], prepare: Callable[[], Any]) -> float:
        """Microseconds until a call on an idle GPU comes back, the median of five."""
        taken = []
        for _ in range(5):
            state = prepare()
            self.wait()
            begun = time.perf_counter()
            call(state)
            taken.append(1e6 * (time.perf_counter() - begun))
        self.wait()
        return _four(statistics.median(taken))

    def row(self, call: Callable[[Any], Any], prepare: Callable[[], Any] = lambda: None) -> dict[str, Any]:
        times = sorted(self.milliseconds(call, prepare))
        p20, p80 = (times[round(q * (len(times) - 1))] for q in (0.2, 0.8))
        row = {"ms": _four(statistics.median(times)), "p20": _four(p20), "p80": _four(p80), "calls": len(times)}
        return row | ({"host_us": self.host_us(call, prepare)} if self.cuda else {})


def _four(x: float) -> float:
    return float(f"{x:.4g}")


def ceilings(device: torch.device, dtype: torch.dtype, clock: Clock, copied: int, side: int) -> dict[str, Any]:
    """Copy bandwidth and matmul rate of this machine, now."""
    a = torch.randn(copied // 4, device=device)
    b = torch.empty_like(a)
    copy = clock.row(lambda _: b.copy_(a))
    x, y = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    out = torch.empty_like(x)
    matmul = clock.row(lambda _: torch.mm(x, y, out=out))
    rates = {"bytes_per_s": 2 * copied / copy["ms"] * 1e3, "flop_per_s": 2 * side**3 / matmul["ms"] * 1e3}
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    spec = next((v for k, v in SPEC.items() if k in name), None)
    return {**rates, "copied_bytes": copied, "matmul": f"{side}^3 {dtype}".replace("torch.", ""), "spec": spec}


def measure(op: str, name: str, shape: Shape, setting: Setting) -> dict[str, Any]:
    """One row. Never raises for what a provider does: the reason is in the row."""
    row: dict[str, Any] = {
        "op": op,
        "shape": shape,
        "dtype": str(setting.dtype).removeprefix("torch."),
        "provider": name,
    }
    try:
        function, in_place = provider(op, name, setting.device)
        case = problem(op, shape, setting.device, setting.dtype)
    except (Missing, ImportError) as error:
        return {**row, "status": "missing", "reason": str(error)}
    row |= {"status": "ok", "modes": {}} | ({"note": NOTES[op, name]} if (op, name) in NOTES else {})
    pristine = [x.detach().clone() for x in case.tensors()] if in_place else []

    def restored() -> None:
        with torch.no_grad():
            for x, was in zip(case.tensors(), pristine, strict=False):
                x.copy_(was)

    def forward(_: Any) -> tuple[Tensor, ...]:
        with torch.set_grad_enabled(op != "linear_cross_entropy"):
            return function(**case.args)

    def prepared() -> tuple[Tensor, ...]:
        restored()
        return function(**case.args)

    def full(_: Any) -> Any:
        return case.gradients(function(**case.args))

    calls = {"forward": (forward, restored), "backward": (case.gradients, prepared), "full": (full, restored)}
    for mode, (least_bytes, flop) in work(op, shape, setting.dtype.itemsize).items():
        call, prepare = calls[mode]
        try:
            begun = time.perf_counter()
            call(prepare())
            setting.clock.wait()
            first = time.perf_counter() - begun
            timing = setting.clock.row(call, prepare)
            if setting.clock.cuda and mode != "backward":
                prepare()
                setting.clock.wait()
                torch.cuda.reset_peak_memory_stats()
                before = torch.cuda.memory_allocated()
                call(None)
                timing["peak_mib"] = round((torch.cuda.max_memory_allocated() - before) / 2**20, 1)
        except Exception as error:  # whatever another library raises belongs in its row, not in our traceback
            out_of_memory = isinstance(error, torch.OutOfMemoryError)
            row["modes"][mode] = {"status": "oom" if out_of_memory else "failed", "reason": _line(error)}
            row["status"] = row["modes"][mode]["status"]
            continue
        finally:
            setting.tidy()
        least = max(least_bytes / setting.roofline["bytes_per_s"], flop / setting.roofline["flop_per_s"])
        timing |= {"status": "ok", "share": round(1000 * least / timing["ms"], 4), "first_s": round(first, 3)}
        if spec := setting.roofline["spec"]:
            timing["share_of_spec"] = round(1000 * max(least_bytes / spec[0], flop / spec[1]) / timing["ms"], 4)
        row["modes"][mode] = timing
    return row


def add_errors(op: str, shape: Shape, rows: list[dict[str, Any]], setting: Setting) -> None:
    """Adds error and cosine against fp64 to the rows of one op and shape."""
    for row in rows:
        if row["provider"] in COMPILED:  # the smaller problem would be compiled anew
            row |= {"error": {}, "unchecked": "not compared with fp64: that would compile once more"}
    rows = [row for row in rows if row["provider"] not in COMPILED]
    if not rows:
        return
    small = smaller(op, shape)
    source = problem(op, small, setting.device, setting.dtype)
    wide = source.copied(torch.float64)
    outs = exact(op)(**wide.args)
    truth = [*outs, *wide.gradients(outs)]
    names = [f"out{i}" for i in range(len(outs))] + [f"d{n}" for n in source.trained]
    del wide, outs
    for row in rows:
        try:
            function, _ = provider(op, row["provider"], setting.device)
            case = source.copied()
            outs = function(**case.args)
            outs_kept = [x.detach().clone() for x in outs]
            values = [*outs_kept, *case.gradients(outs)]
        except Exception as error:  # as in measure()
            row |= {"checked_at": small, "error": {}, "check_failed": _line(error)}
            continue
        finally:
            setting.tidy()
        errors, cosines = {}, [1.0]
        for name, a, b in zip(names, values, truth, strict=True):
            if a is None:
                errors[name] = None  # the provider has no such gradient
                continue
            a = a.detach().double()
            errors[name] = _four(((a - b).abs().max() / b.abs().max()).item())
            if name.startswith("d"):
                cosines.append(F.cosine_similarity(a.flatten(), b.flatten(), 0).item())
        row |= {"checked_at": small, "error": errors, "cosine": round(min(cosines), 9)}


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".strip().splitlines()[0][:300]


@dataclass
class Setting:
    device: torch.device
    dtype: torch.dtype
    clock: Clock
    roofline: dict[str, Any]

    def tidy(self) -> None:
        gc.collect()
        if self.clock.cuda:
            torch.cuda.synchronize()  # raises where a kernel has destroyed the context: nothing after it would be true
            torch.cuda.empty_cache()


# --- the plan, the file, the table ------------------------------------------------------------------------------------


def source() -> str:
    """A digest of what runs under the names "ours" and "reference"."""
    files = sorted(Path(dpr_kernels.__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(f.read_bytes() for f in (*files, Path(__file__)))).hexdigest()[:12]


def conditions(device: torch.device, preset: str) -> dict[str, Any]:
    installed = {d.metadata["Name"].lower().replace("_", "-"): d.version for d in metadata.distributions()}
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {facts()['machine']['cpu']}",
        "cuda": torch.version.cuda,
        "threads": torch.get_num_threads() if device.type == "cpu" else None,
        "preset": preset,
        "python": platform.python_version(),
        "versions": {n: installed[n] for n in (*LIBRARIES, "flash-attn-4", "transformers") if n in installed},
    }


def earlier(path: Path, now: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(runs, rows) of the file that still hold."""
    if not path.exists():
        return [], []
    old = json.loads(path.read_text())
    if old["conditions"] != now:
        print(f"{path} was measured under other conditions: starting anew", flush=True)
        return [], []
    return old["runs"], [r for r in old["rows"] if r["source"] in (None, source())]


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--preset", choices=["auto", "h100", "cpu", "tiny"], default="auto", help="sizes; tiny is a test"
    )
    parser.add_argument("--ops", nargs="*", default=list(PROVIDERS), choices=list(PROVIDERS))
    parser.add_argument("--providers", nargs="*", help="default: all; without a GPU those of PyTorch, uncompiled")
    parser.add_argument("--budget-seconds", type=float, default=float("inf"), help="stop cleanly after about this")
    parser.add_argument("--call-seconds", type=float, default=0.3, help="for one provider, shape and mode")
    parser.add_argument("--resume", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--out", type=Path, help="default: bench/results/kernels-<device>.json")
    return parser.parse_args()


def main() -> None:
    begun, chosen = time.monotonic(), options()
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu")
    preset = ("h100" if cuda else "cpu") if chosen.preset == "auto" else chosen.preset
    dtype = torch.bfloat16 if cuda else torch.float32
    name = torch.cuda.get_device_name(device).lower().replace(" ", "-") if cuda else "cpu"
    out = chosen.out or Path(__file__).parent / "results" / f"kernels-{name}.json"
    providers = chosen.providers or (None if cuda else ["eager", "torch", "torch-fp32", "reference", "ours"])
    clock = Clock(device, chosen.call_seconds)
    roofline = ceilings(device, dtype, clock, (2 << 30) if cuda else (256 << 20), 8192 if cuda else 1024)
    print(
        f"copy {roofline['bytes_per_s'] / 1e9:.0f} GB/s, matmul {roofline['flop_per_s'] / 1e12:.2f} TFLOP/s", flush=True
    )
    setting, now = Setting(device, dtype, clock, roofline), conditions(device, preset)
    runs, rows = earlier(out, now) if chosen.resume else ([], [])
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    runs.append({"begun": started, "roofline": roofline, "load_average": os.getloadavg()[0], **facts()})
    cases = [c for c in plan(preset) if c[0] in chosen.ops]
    left = 0

    def save() -> None:
        notes = {"how": __doc__.strip(), **({} if cuda else {"cannot_show": ON_CPU})}
        out.parent.mkdir(parents=True, exist_ok=True)
        write_json(out, {**notes, "conditions": now, "runs": runs, "rows": rows})

    def spent() -> bool:
        return time.monotonic() - begun > chosen.budget_seconds

    for tasks in rounds(cases, providers):
        for op, shape, who in tasks:
            if any((r["op"], r["shape"], r["provider"]) == (op, shape, who) for r in rows):
                continue
            if spent():
                left += 1
                continue
            print(f"{time.monotonic() - begun:6.1f} s  {op} {shape} {who}", flush=True)
            # counted as failed until it has come back: a context that it destroys is not entered again
            row = {"op": op, "shape": shape, "provider": who, "status": "failed", "reason": "ended the process"}
            extra = {"source": source() if who in ("ours", "reference") else None, "run": len(runs) - 1}
            rows.append({**row, "dtype": str(dtype).removeprefix("torch."), **extra})
            save()
            rows[-1] = {**measure(op, who, shape, setting), **extra}
            if who in COMPILED:
                torch._dynamo.reset()
            save()
        for op, shape in cases:
            mine = [r for r in rows if (r["op"], r["shape"]) == (op, shape)]
            todo = [r for r in mine if "modes" in r and "error" not in r]
            if todo and not spent():
                add_errors(op, shape, todo, setting)
                save()
            elif todo:
                left += 1
    place = {json.dumps(c): i for i, c in enumerate(plan(preset))}
    order = {n: i for op in PROVIDERS.values() for i, n in enumerate(op)}
    rows.sort(key=lambda r: (place[json.dumps((r["op"], r["shape"]))], order[r["provider"]]))
    save()
    table([r for r in rows if r["op"] in chosen.ops])
    print(f"\n{out}: {len(rows)} rows" + ("" if cuda else f"\n{ON_CPU}"))
    if left:
        print(f"stopped at the budget of {chosen.budget_seconds:.0f} s with {left} left: run it again to go on")


if __name__ == "__main__":
    main()
