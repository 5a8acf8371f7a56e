"""Compiles every Triton kernel of dpr_kernels for GPUs that are not here, exactly as its launchers would launch it.

    python bench/compile_check.py                          everything, for six architectures: half an hour on two cores
    python bench/compile_check.py --target sm_90 --shapes recipes
                                                           what the shipped recipes launch on an H100: minutes
    --target sm_90 ...    default: sm_80 sm_86 sm_89 sm_90 sm_100 sm_120
    --shapes NAME ...     of dpr_mini/models/shapes.py; `recipes`: those of recipes/*.yaml; default: all, and odd inputs
    --only REGEX          the cases whose name matches, e.g. 'rope' or 'H 3584 bf16$'
    --all                 also print lines that repeat a kernel of an earlier case
    --out FILE            a JSON file with conditions and every kernel's numbers
    --against FILE        an older such file: registers, spills, widths and blocks an SM before and after, where they
                          differ

Without an install: PYTHONPATH=.:kernels. The operators' own autograd functions run on fake CUDA tensors (no memory, no
GPU), and Triton's launch is intercepted once it has specialised the arguments (dtypes, 16-byte alignment,
divisibility, ones) and compiled them to a cubin with the ptxas of its wheel. A line for each kernel, case and target:
warps, registers, shared memory, blocks that fit on a multiprocessor by these three, grid, widths of the global
accesses in PTX (16x8: eight of 16 bytes a thread; cp: cp.async), flags.

Exit status 1 where a kernel does not compile, cannot be launched there (shared memory, registers, grid), has no case
here, in a usual case spills, or starts more programs than are resident where each is to walk over all rows, or at the
shape of a shipped recipe moves less than 8 bytes of a tensor at once (single values and one a row aside). Rare and
edge cases may. It says nothing of speed or results.
"""

# ruff: noqa: E402  Triton reads its settings when it is imported
from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib
import io
import json
import os
import pkgutil
import re
import shlex
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

os.environ.pop("TRITON_INTERPRET", None)
# A cache of its own: ptxas must run, since its log is what is read.
cache_folder = tempfile.TemporaryDirectory(prefix="dpr-compile-")
os.environ["TRITON_CACHE_DIR"] = cache_folder.name

import torch

try:
    import triton
except ModuleNotFoundError:
    sys.exit("compile_check.py: triton is not installed (pip install triton)")
import compile_cases
import dpr_kernels
from compile_numbers import GPUS, NARROW, compare, line, name_of, narrow, narrowest, numbers, place_of
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from dpr_mini.files.rows import write_text
from dpr_mini.machine.facts import facts

NARROWEST = 8  # bytes that a thread moves at once, at least, at the shapes of the shipped recipes
compile_only = JITFunction.run


# --- a GPU that only says what it is ----------------------------------------------------------------------------------


class Card:
    """What Triton's launcher asks of a driver. The capability is also the device number, so that caches stay apart."""

    def __init__(self, capability: int) -> None:
        self.capability = capability
        _, processors, shared, _, _ = GPUS[capability]
        sizes = {"multiprocessor_count": processors, "max_shared_mem": shared << 10}
        sizes |= {"warpSize": 32, "max_num_regs": 65536}
        self.utils = SimpleNamespace(get_device_properties=lambda _: sizes)

    def get_current_device(self) -> int:
        return self.capability

    def get_current_stream(self, _: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.capability, 32)


class Pointer:
    """A tensor as Triton specialises it: its dtype and how its address is aligned (allocations are to 512 bytes)."""

    def __init__(self, x: torch.Tensor) -> None:
        self.dtype, self.address = x.dtype, x.storage_offset() * x.element_size()
        self.ptr_range = lambda: x.untyped_storage().nbytes()  # asked for on AMD only

    def data_ptr(self) -> int:
        return 512 + self.address % 512


class Recorder:
    """In place of JITFunction.run: compiles, launches nothing, and keeps a row a launch."""

    def __init__(self) -> None:
        self.capability, self.case = 0, compile_cases.Case("", lambda: None)
        self.of_recipes: set[str] = set()  # names of the cases at a shipped recipe's shape
        self.rows: list[dict[str, Any]] = []
        self.cubins: dict[str, dict[str, Any]] = {}  # hash -> its first row

    def row(self, kernel: str, at: str) -> dict[str, Any]:
        case = {"case": self.case.name, "kind": self.case.kind, "recipe": self.case.name in self.of_recipes}
        return {"target": self.capability, **case, "kernel": kernel, "at": at}

    def launch(self, kernel: JITFunction, args: tuple[Any, ...], grid: Any, options: dict[str, Any]) -> Any:
        args = tuple(Pointer(a) if isinstance(a, torch.Tensor) else a for a in args)
        row = self.row(name_of(kernel), place_of(kernel)) | {"grid": list(grid)}
        log, begin = io.StringIO(), time.perf_counter()
        try:
            with contextlib.redirect_stdout(log):
                cubin = compile_only(kernel, *args, grid=grid, warmup=True, **options)
                cubin = cubin.result() if hasattr(cubin, "result") else cubin
        except Exception as error:  # a compiler's classes are its own; the row has the message and the check fails
            lines = str(error).strip().splitlines() or [""]
            self.rows.append({**row, "error": f"{type(error).__name__}: {lines[0]} ... {lines[-1]}"[:400]})
            return None
        seconds = round(time.perf_counter() - begin, 2)
        if same := self.cubins.get(cubin.hash):  # compiled for an earlier case already
            row = {**same, **row, "seconds": 0.0, "repeats": True}
        else:
            row |= {"seconds": seconds, "repeats": False, **numbers(cubin, log.getvalue(), self.capability)}
            self.cubins[cubin.hash] = row
        row["launches"] = row["fits"] and row["grid"][0] < 2**31 and all(g <= 65535 for g in row["grid"][1:])
        self.rows.append(row)
        return cubin

    def compile(self, case: compile_cases.Case, everything: bool) -> None:
        """One case; what its launcher raises becomes a row."""
        self.case, before = case, len(self.rows)
        try:
            case.call()
        except Exception as error:  # as above: the row says where, and the check fails
            last = traceback.extract_tb(error.__traceback__)[-1]
            at = f"{os.path.basename(last.filename)}:{last.lineno}"
            self.rows.append({**self.row("launcher", at), "error": f"{error!r} {last.line}"[:400]})
        for row in self.rows[before:]:
            if "error" in row or everything or not row["repeats"]:
                print(line(row), flush=True)


# --- all of it --------------------------------------------------------------------------------------------------------


def target(text: str) -> int:
    number = int(text.removeprefix("sm_")) if text.removeprefix("sm_").isdigit() else 0
    if number not in GPUS:
        raise argparse.ArgumentTypeError(f"no target {text!r}; there are {', '.join(f'sm_{n}' for n in GPUS)}")
    return number


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", type=target, nargs="+", default=list(GPUS), metavar="sm_90")
    parser.add_argument("--shapes", nargs="+", metavar="NAME")
    parser.add_argument("--only", default="", metavar="REGEX")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--against", type=Path, metavar="FILE")
    return parser.parse_args()


def chosen_shapes(names: list[str] | None) -> dict[str, Any]:
    known = compile_cases.known_shapes()
    if names is None:
        return known
    wanted = [n for name in names for n in (compile_cases.shapes_of_recipes() if name == "recipes" else [name])]
    if unknown := [n for n in wanted if n not in known]:
        sys.exit(f"compile_check.py: no shape {unknown[0]!r}; there are recipes, {', '.join(known)}")
    return {n: known[n] for n in wanted}


def modules() -> dict[str, ModuleType]:
    """All modules of dpr_kernels, by their bare names."""
    names = [m.name for m in pkgutil.iter_modules(dpr_kernels.__path__)]
    return {name: importlib.import_module(f"dpr_kernels.{name}") for name in names}


def stand_in(recorder: Recorder, ops: SimpleNamespace) -> None:
    """From here on nothing is launched, and CUDA tensors need no CUDA."""
    triton.knobs.nvidia.dump_ptxas_log = True

    def launch(kernel: JITFunction, *args: Any, grid: Any, warmup: bool, **more: Any) -> Any:
        return recorder.launch(kernel, args, grid, more)

    JITFunction.run = launch
    torch.cuda.device_of = lambda _: contextlib.nullcontext()
    FakeTensor.__getitem__, FakeTensor.__setitem__ = sliced, lambda *_: None
    ops.linear_cross_entropy._multiply = lambda *_, **__: None  # cuBLAS; not ours to compile
    warnings.filterwarnings("ignore")


def sliced(x: torch.Tensor, at: Any) -> torch.Tensor:
    """x[at] for slices: in a CPU build of torch the indexing of a CUDA tensor wants a CUDA device, views do not."""
    for axis, one in enumerate(at if isinstance(at, tuple) else (at,)):
        begin, end, step = one.indices(x.shape[axis])
        assert step == 1
        x = x.narrow(axis, begin, end - begin)
    return x


def check(recorder: Recorder, chosen: argparse.Namespace) -> None:
    """Every chosen case for every chosen target."""
    ops = SimpleNamespace(**modules())
    shapes = chosen_shapes(chosen.shapes)
    stand_in(recorder, ops)
    for capability in chosen.target:
        print(f"\nsm_{capability} ({GPUS[capability][0]}, {GPUS[capability][2]} KiB a block)", flush=True)
        recorder.capability = capability
        driver.set_active(Card(capability))
        for module in vars(ops).values():
            for value in vars(module).values():
                if hasattr(value, "cache_clear"):
                    value.cache_clear()  # what a launcher remembers of the device
        with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
            recipes = compile_cases.shapes_of_recipes().values()
            recorder.of_recipes = {case.name for case in compile_cases.cases(ops, recipes, odd=False)}
            for case in compile_cases.cases(ops, shapes.values(), odd=chosen.shapes is None):
                if re.search(chosen.only, case.name):
                    recorder.compile(case, chosen.all)


def missing(recorder: Recorder) -> list[str]:
    """Kernels of the package that no case has launched."""
    known = kernels()
    # a function without a launch of its own is compiled inside those of its module that call it
    inner = {
        name
        for name, kernel in known.items()
        for other in known.values()
        if other is not kernel
        and other.fn.__module__ == kernel.fn.__module__
        and re.search(rf"(?<![\w.]){kernel.fn.__name__}\(", other.src)
    }
    return sorted(set(known) - {r["kernel"] for r in recorder.rows} - inner)


def verdict(rows: list[dict[str, Any]]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """What is not well, and what is worth knowing: sentence -> kernels."""
    cubins = [r for r in rows if "error" not in r]
    usual, odd = ([r for r in cubins if (r["kind"] == "usual") == well] for well in (True, False))
    queue = [r for r in usual if r["kernel"] in compile_cases.ALL_RESIDENT]
    queue = [r for r in queue if r["grid"][0] > r["blocks_on_sm"] * GPUS[r["target"]][1]]

    def names(some: list[dict[str, Any]]) -> list[str]:
        return sorted({f"{r['kernel']} ({r['at']}) sm_{r['target']} {r['case']}" for r in some})

    bad = {
        "failed to compile": names([r for r in rows if "error" in r]),
        "cannot be launched": names([r for r in cubins if not r["launches"]]),
        "spill in a usual case": names([r for r in usual if any(r["spills"])]),
        f"move less than {NARROWEST} bytes at once at a recipe's shape": names(
            [r for r in usual if r["recipe"] and narrowest(r) < NARROWEST]
        ),
        "start more programs than fit, though each walks over all rows": names(queue),
    }
    told = {
        "spill in a rare or edge case": names([r for r in odd if any(r["spills"])]),
        f"move more than {NARROW:.0%} of their bytes in accesses below 16": names(
            [r for r in usual if narrow(r) > NARROW]
        ),
    }
    return bad, told


def kernels() -> dict[str, JITFunction]:
    """Every kernel of the package by its name."""
    return {
        name_of(v): v
        for m in modules().values()
        for v in vars(m).values()
        if isinstance(v, JITFunction) and v.fn.__module__ == m.__name__
    }


def digest() -> str:
    """Of the kernels' own source; what launches them (blocks, warps) is not in it."""
    return hashlib.sha256("".join(k.src for _, k in sorted(kernels().items())).encode()).hexdigest()[:12]


def conditions() -> dict[str, Any]:
    files = sorted(Path(dpr_kernels.__file__).parent.glob("*.py"))
    return {
        "triton": triton.__version__,
        "torch": torch.__version__,
        "source": hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()[:12],
        "kernels": digest(),
        "commit": facts()["commit"],
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": shlex.join(["python", "bench/compile_check.py", *sys.argv[1:]]),
        "gpu": "none: compiled only, nothing was run",
        "limits": f"nothing spilled in a usual case, {NARROWEST} bytes at once at a recipe's shape, shared memory and "
        "registers of a block, grid",
    }


def write_result(out: Path, head: dict[str, Any], cubins: list[dict[str, Any]], against: dict[str, Any] | None) -> None:
    """JSON with a line a cubin, the numbers of its first case, and a line a difference from an older file."""
    out.parent.mkdir(parents=True, exist_ok=True)
    lists = {"cubins": [{k: v for k, v in row.items() if k != "repeats"} for row in cubins]}
    if against:
        head = {**head, "against": {k: v for k, v in against.items() if k != "differs"}}
        lists["differs"] = against["differs"]
    lines = ["{" + json.dumps(head, indent=1)[1:].removesuffix("\n}")]
    lines += [f' "{name}": [\n' + ",\n".join(map(json.dumps, rows)) + "\n ]" for name, rows in lists.items()]
    write_text(out, ",\n".join(lines) + "\n}\n")


def main() -> int:
    chosen, recorder = options(), Recorder()
    print(f"triton {triton.__version__}, torch {torch.__version__}")
    check(recorder, chosen)
    rows = recorder.rows
    bad, told = verdict(rows)
    if not chosen.only:
        bad["have no case here"] = missing(recorder)
    seconds = sum(r.get("seconds", 0.0) for r in rows)
    counts = {"launches": len(rows), "cubins": len(recorder.cubins), "compile_seconds": round(seconds)}
    print("\n" + ", ".join(f"{n} {name}" for name, n in counts.items()))
    for sentence, names in (bad | told).items():
        print(f"{len(names)} {sentence}" + "".join(f"\n  {name}" for name in names))
    against = compare(rows, chosen.against) if chosen.against else None
    if chosen.out:
        kept = [r for r in rows if "error" in r or not r["repeats"]]
        result = {"how": (__doc__ or "").strip(), "conditions": conditions(), "counts": counts}
        write_result(chosen.out, {**result, "not_well": bad, "worth_knowing": told}, kept, against)
    return 1 if any(bad.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
