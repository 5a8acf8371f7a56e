"""What bench/compile_check.py reads from a cubin: registers, spills, shared memory, widths of accesses; and how the
numbers of two runs differ."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

# capability: (name, multiprocessors, KiB of shared memory of a block, of an SM, warps of an SM); 64 Ki registers each
GPUS = {
    80: ("A100", 108, 163, 164, 64),
    86: ("A10, RTX 30", 84, 99, 100, 48),
    89: ("L4, RTX 40", 142, 99, 100, 48),
    90: ("H100", 132, 227, 228, 64),
    100: ("B200", 148, 227, 228, 64),
    120: ("RTX 50", 170, 99, 100, 48),
}
NARROW = 0.2  # share of the bytes in accesses below 16 bytes from which a line says so
FEW = 128  # values of one dimension that are no tensor to stream


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
    """The same for single values (a row's label, a scale), and for up to 128 in one dimension (a value a row, the part
    of dW that a program finishes): no width could help them."""
    kinds = re.findall(r"tt\.(?:load|store) [^:\n]*: !tt\.ptr<[a-z]+(\d+)>", ttgir)
    counts = Counter(max(8, int(bits)) // 8 for bits in kinds)
    layouts = {name: grid(text) for name, text in re.findall(r"^(#\w+) = #ttg\.blocked<(.*)>", ttgir, re.M)}
    few = r"(?:tt\.load|tt\.store|async_copy\w*) .*?: tensor<(\d+)x!tt\.ptr<[a-z]+(\d+)>, "
    few += r"(?:#ttg\.slice<\{dim = (\d), parent = )?(#\w+)"
    for n, bits, dim, layout in re.findall(few, ttgir):
        if int(n) <= FEW and layout in layouts:
            kept = [axis for axis in range(len(layouts[layout])) if str(axis) != dim]
            each, threads = layouts[layout][kept[0]]
            counts[int(bits) // 8] += max(each, int(n) // threads)
    return dict(counts)


def grid(blocked: str) -> list[tuple[int, int]]:
    """Of a layout's text, for each dimension: (neighbours a thread holds, threads)."""
    each, lanes, warps = (
        [int(n) for n in re.search(rf"{name} = \[([^]]*)\]", blocked).group(1).split(",")]
        for name in ("sizePerThread", "threadsPerWarp", "warpsPerCTA")
    )
    return [(e, a * b) for e, a, b in zip(each, lanes, warps, strict=True)]


def tensors_only(row: dict[str, Any]) -> dict[int, int]:
    """bytes of one access -> how many, loads and stores together, without `scalars`."""
    every: Counter[int] = Counter()
    for kind in ("loads", "stores", "async"):
        every.update(row[kind])
    every.subtract(row["scalars"])
    return {width: n for width, n in every.items() if n > 0}


def narrow(row: dict[str, Any]) -> float:
    """Share of the bytes of tensors that move in pieces below 16 bytes."""
    moved = {w: w * n for w, n in tensors_only(row).items()}
    return sum(b for w, b in moved.items() if w < 16) / max(1, sum(moved.values()))


def narrowest(row: dict[str, Any]) -> int:
    """Bytes of the narrowest access of a tensor; 16 without any."""
    return min(tensors_only(row), default=16)


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


def name_of(kernel: Any) -> str:
    return f"{kernel.fn.__module__.rsplit('.', 1)[-1]}.{kernel.fn.__name__}"


def place_of(kernel: Any) -> str:
    code = kernel.fn.__code__
    return f"{os.path.basename(code.co_filename)}:{code.co_firstlineno}"


# --- before and after -------------------------------------------------------------------------------------------------


RENAMED = {"linear_cross_entropy._row_kernel": "head_kernels._row_kernel"}  # before -> now
RENAMED |= {"linear_cross_entropy._rescale_kernel": "head_kernels._rescale_kernel"}


def compare(rows: list[dict[str, Any]], file: Path) -> dict[str, Any]:
    """Prints and returns what differs from an older result, for each kernel, case and target that both have.

    A file has a cubin once, in the first case that launches it: where the other case is not there, nothing is compared.
    Nor is a kernel that a case launches in several forms (a last, shorter chunk): which of them a file has kept is not
    known.
    """
    before, after = by_case(json.loads(file.read_text())["cubins"]), by_case(rows)
    differs, both = [], 0
    for key, now in after.items():
        old = before.get(key, [])
        if len(old) != 1 or len(now) != 1:
            continue
        both += 1
        changes = {what: [old[0][what], now[0][what]] for what in now[0] if old[0][what] != now[0][what]}
        if changes:
            differs.append({"target": key[0], "case": key[1], "kernel": key[2], **changes})
    print(f"\n{len(differs)} of {both} kernels differ from {file.name}; {len(after) - both} more are not compared")
    for each in differs:
        words = ", ".join(f"{k} {a} -> {b}" for k, (a, b) in list(each.items())[3:])
        print(f"  {each['case']} {each['kernel']} sm_{each['target']}: {words}")
    return {"file": file.name, "compared": both, "not_compared": len(after) - both, "differs": differs}


def by_case(rows: list[dict[str, Any]]) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    """(target, case, kernel) -> the numbers to compare, of each form in which the case launches it."""
    found: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in [r for r in rows if "error" not in r]:
        moved = {
            kind: " ".join(f"{w}x{n}" for w, n in sorted((int(w), n) for w, n in row[kind].items()))
            for kind in ("loads", "async", "stores")
        }
        spills = "+".join(map(str, row["spills"]))
        numbers = {"registers": row["registers"], "spills": spills, **moved, "blocks_on_sm": row["blocks_on_sm"]}
        forms = found.setdefault((row["target"], row["case"], RENAMED.get(row["kernel"], row["kernel"])), [])
        if numbers not in forms:
            forms.append(numbers)
    return found
