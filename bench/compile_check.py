"""Compiles every Triton kernel of dpr_kernels for GPUs that are not here, exactly as its launchers would launch it.

    python bench/compile_check.py                          everything, for six architectures: half an hour on two cores
    python bench/compile_check.py --target sm_90 --shapes recipes
                                                           what the shipped recipes launch on an H100: minutes
    --target sm_90 ...    default: sm_80 sm_86 sm_89 sm_90 sm_100 sm_120
    --shapes NAME ...     of dpr_mini/models/shapes.py; `recipes`: those of recipes/*.yaml; default: all, and odd inputs
    --only REGEX          the cases whose name matches, e.g. 'rope' or 'H 3584 bf16$'
    --all                 also print lines that repeat a kernel of an earlier case
    --out FILE            a JSON file with conditions and every kernel's numbers

Without an install: PYTHONPATH=.:kernels. The operators' own autograd functions run on fake CUDA tensors (no memory, no
GPU), and Triton's launch is intercepted once it has specialised the arguments (dtypes, 16-byte alignment,
divisibility, ones) and compiled them to a cubin with the ptxas of its wheel. A line for each kernel, case and target:
warps, registers, shared memory, blocks that fit on a multiprocessor by these three, grid, widths of the global
accesses in PTX (16x8: eight of 16 bytes a thread; cp: cp.async), flags.

Exit status 1 where a kernel does not compile, cannot be launched there (shared memory, registers, grid), has no case
here, or spills more than 16 bytes (stored, or loaded) in a usual case; rare and edge ones may. It says nothing of
speed or results.
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
from collections import Counter
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
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from dpr_mini.files.rows import write_text
from dpr_mini.machine.facts import facts

# capability: (name, multiprocessors, KiB of shared memory of a block, of an SM, warps of an SM); 64 Ki registers each
GPUS = {
    80: ("A100", 108, 163, 164, 64),
    86: ("A10, RTX 30", 84, 99, 100, 48),
    89: ("L4, RTX 40", 142, 99, 100, 48),
    90: ("H100", 132, 227, 228, 64),
    100: ("B200", 148, 227, 228, 64),
    120: ("RTX 50", 170, 99, 100, 48),
}
SMALL_SPILL = 16  # bytes stored, or loaded: a few registers of a kernel that waits for memory anyway
NARROW = 0.2  # share of the bytes in accesses below 16 bytes from which a line says so
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
        self.rows: list[dict[str, Any]] = []
        self.cubins: dict[str, dict[str, Any]] = {}  # hash -> its first row

    def row(self, kernel: str, at: str) -> dict[str, Any]:
        return {"target": self.capability, "case": self.case.name, "kind": self.case.kind, "kernel": kernel, "at": at}

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


def name_of(kernel: JITFunction) -> str:
    return f"{kernel.fn.__module__.rsplit('.', 1)[-1]}.{kernel.fn.__name__}"


def place_of(kernel: JITFunction) -> str:
    code = kernel.fn.__code__
    return f"{os.path.basename(code.co_filename)}:{code.co_firstlineno}"


# --- what a cubin says ------------------------------------------------------------------------------------------------


def numbers(cubin: Any, log: str, capability: int) -> dict[str, Any]:
    ptx, meta = cubin.asm["ptx"], cubin.metadata
    registers = int(re.search(r"Used (\d+) registers", log).group(1))
    spills = [int(n) for n in re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", log).groups()]
    threads, shared = meta.num_warps * 32, meta.shared
    _, _, most, on_sm, warps = GPUS[capability]
    by_registers = 65536 // (-(-registers // 8) * 8 * threads)
    by_shared = (on_sm << 10) // (shared + 1024) if shared else 32
    return {
        "warps": meta.num_warps, "registers": registers, "shared": shared,
        "spills": spills,  # bytes stored, bytes loaded
        "blocks_on_sm": min(by_registers, by_shared, warps // meta.num_warps, 32),
        "fits": shared <= most << 10 and registers * threads <= 65536,
        "loads": widths(ptx, "ld"), "stores": widths(ptx, "st"), "async": widths(ptx, "cp.async"),
        "scalars": scalars(cubin.asm["ttgir"]),
        "tensor_cores": len(re.findall(r"\b(?:wgmma|mma|tcgen05)\S*", ptx)),
        "tf32": len(re.findall(r"mma\S*tf32", ptx)), "atomics": len(re.findall(r"\b(?:atom|red)\.global", ptx)),
    }  # fmt: skip


def widths(ptx: str, what: str) -> dict[int, int]:
    """bytes of one access of a thread -> how many stand in the PTX."""
    if what == "cp.async":
        sizes = re.findall(r"cp\.async\.c[ag]\S*\s*\[[^]]*\],\s*\[[^]]*\],\s*(\w+)", ptx)
        return dict(Counter(int(n, 0) for n in sizes))
    pattern = what + r"\.global(?:\.\w+|::\w+)*?(?:\.v(\d))?\.[bfus](\d+)\s"
    return dict(Counter(int(v or 1) * int(b) // 8 for v, b in re.findall(pattern, ptx)))


def scalars(ttgir: str) -> dict[int, int]:
    """The same for single values (a row's label, a scale), which no width could help."""
    kinds = re.findall(r"tt\.(?:load|store) [^:\n]*: !tt\.ptr<[a-z]+(\d+)>", ttgir)
    return dict(Counter(max(8, int(bits)) // 8 for bits in kinds))


def narrow(row: dict[str, Any]) -> float:
    """Share of the bytes of tensors that move in pieces below 16 bytes."""
    every: Counter[int] = Counter()
    for kind in ("loads", "stores", "async"):
        every.update(row[kind])
    every.subtract(row["scalars"])
    moved = {w: w * max(0, n) for w, n in every.items()}
    return sum(b for w, b in moved.items() if w < 16) / max(1, sum(moved.values()))


def line(row: dict[str, Any]) -> str:
    start = f"  {row['case']:48.48} {row['kernel'].replace('linear_cross_entropy', 'lce'):20}"
    if "error" in row:
        return f"{start} FAILS: {row['at']} {row['error']}"
    moved = " ".join(
        f"{name} " + " ".join(f"{w}x{n}" for w, n in sorted(row[kind].items(), reverse=True))
        for kind, name in (("loads", "ld"), ("async", "cp"), ("stores", "st"))
        if row[kind]
    )
    flags = {
        "CANNOT LAUNCH": not row["launches"],
        "SPILLS {}+{} B".format(*row["spills"]): sum(row["spills"]),
        f"NARROW {narrow(row):.0%}": narrow(row) > NARROW,
        f"mma {row['tensor_cores']}": row["tensor_cores"],
        "TF32": row["tf32"],
        f"atomics {row['atomics']}": row["atomics"],
    }
    words = "".join(f"  {word}" for word, true in flags.items() if true)
    size = f"w{row['warps']:<2} r{row['registers']:<3} sh {row['shared'] / 1024:5.1f}K blk/SM {row['blocks_on_sm']:2}"
    return f"{start} {size} grid {row['grid'][0]:>8} {moved}{words}"


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
            for case in compile_cases.cases(ops, shapes.values(), odd=chosen.shapes is None):
                if re.search(chosen.only, case.name):
                    recorder.compile(case, chosen.all)


def missing(recorder: Recorder) -> list[str]:
    """Kernels of the package that no case has launched."""
    kernels = {
        name_of(v): v
        for m in modules().values()
        for v in vars(m).values()
        if isinstance(v, JITFunction) and v.fn.__module__ == m.__name__
    }
    # a function without a launch of its own is compiled inside those of its module that call it
    inner = {
        name
        for name, kernel in kernels.items()
        for other in kernels.values()
        if other is not kernel
        and other.fn.__module__ == kernel.fn.__module__
        and re.search(rf"(?<![\w.]){kernel.fn.__name__}\(", other.src)
    }
    return sorted(set(kernels) - {r["kernel"] for r in recorder.rows} - inner)


def verdict(rows: list[dict[str, Any]]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """What is not well, and what is worth knowing: sentence -> kernels."""
    cubins = [r for r in rows if "error" not in r]
    spilling = [r for r in cubins if max(r["spills"]) > SMALL_SPILL]
    usual = [r for r in cubins if r["kind"] == "usual"]

    def names(some: list[dict[str, Any]]) -> list[str]:
        return sorted({f"{r['kernel']} ({r['at']}) sm_{r['target']} {r['case']}" for r in some})

    bad = {
        "failed to compile": names([r for r in rows if "error" in r]),
        "cannot be launched": names([r for r in cubins if not r["launches"]]),
        f"spill more than {SMALL_SPILL} bytes in a usual case": names([r for r in spilling if r["kind"] == "usual"]),
    }
    odd, slim = [r for r in spilling if r["kind"] != "usual"], [r for r in usual if narrow(r) > NARROW]
    told = {
        f"spill more than {SMALL_SPILL} bytes in a rare or edge case": names(odd),
        f"move more than {NARROW:.0%} of their bytes in accesses below 16": names(slim),
    }
    return bad, told


def conditions() -> dict[str, Any]:
    files = sorted(Path(dpr_kernels.__file__).parent.glob("*.py"))
    return {
        "triton": triton.__version__,
        "torch": torch.__version__,
        "source": hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()[:12],
        "commit": facts()["commit"],
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": shlex.join(["python", "bench/compile_check.py", *sys.argv[1:]]),
        "gpu": "none: compiled only, nothing was run",
        "limits": f"{SMALL_SPILL} bytes spilled in a usual case, shared memory and registers of a block, grid",
    }


def write_result(out: Path, head: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """JSON with a line a cubin: the numbers of its first case."""
    out.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps({k: v for k, v in row.items() if k != "repeats"}) for row in rows)
    write_text(out, json.dumps(head, indent=1).removesuffix("\n}") + f',\n "cubins": [\n{lines}\n]\n}}\n')


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
    if chosen.out:
        kept = [r for r in rows if "error" in r or not r["repeats"]]
        result = {"how": (__doc__ or "").strip(), "conditions": conditions(), "counts": counts}
        write_result(chosen.out, {**result, "not_well": bad, "worth_knowing": told}, kept)
    return 1 if any(bad.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
