"""Which cases bench/operators.py measures, in which order, and the table that it prints."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

from providers import PROVIDERS, Shape

Case = tuple[str, Shape]  # operator, shape
Task = tuple[str, Shape, str]  # and provider
ROUNDS = (  # what matters most first: a budget that ends early has whole columns
    ("ours",),
    ("eager", "liger", "torch", "cce"),
    ("liger-fp32", "liger-cute", "torch-fp32", "quack", "flash_attn", "fa4"),
    ("compile", "flex", "reference", "unsloth"),  # slow to compile, or to run
)
OURS = {"attention": "torch"}  # operator -> the provider that stands for ours, where none has that name
COMPILED = ("compile",)  # takes many seconds a shape, so it gets the first shape of each operator
NOTES = {
    ("linear_cross_entropy", "cce"): (
        "its backward skips tiles whose gradients are all below 2^-12, with random logits most of them (about 12 % "
        "are left: calculated, not counted), so that this is not the time of an exact backward; its error shows it"
    ),
}


def head(rows: int, width: int = 4096, vocab: int = 128256, frozen: bool = False, ignored: float = 0.0) -> Any:
    return "linear_cross_entropy", {"rows": rows, "width": width, "vocab": vocab, "frozen": frozen, "ignored": ignored}


def plane(op: str, rows: int, width: int) -> Any:
    return op, {"rows": rows, "width": width}


def turned(op: str, tokens: int, heads: int, kv_heads: int, width: int, **more: int) -> Any:
    return op, {"tokens": tokens, "heads": heads, "kv_heads": kv_heads, "head": width, **more}


def sweep() -> list[Case]:
    """Fewer rows of the widths above: where launches and a half empty GPU begin to show. Milliseconds each."""
    rows = (2048, 8192)
    planes = [
        plane(op, n, w) for op, w in (("rms_norm", 4096), ("add_rms_norm", 4096), ("swiglu", 14336)) for n in rows
    ]
    return [*planes, *(turned("rope", n, 32, 8, 128) for n in rows)]


def plan(preset: str) -> list[Case]:
    """The most important first."""
    if preset == "h100":
        n, packed = 32768, partial(turned, "attention", 32768, 32, 8, 128)
        return [
            head(8192), plane("rms_norm", n, 4096), plane("add_rms_norm", n, 4096), plane("swiglu", n, 14336),
            turned("rope", n, 32, 8, 128), head(n), packed(document=4096), head(16384, frozen=True),
            plane("rms_norm", n, 8192), plane("add_rms_norm", n, 8192), plane("rms_norm", n, 2048),
            plane("add_rms_norm", n, 2048), plane("swiglu", n, 8960), packed(document=32768), packed(document=1024),
            head(16384), head(16384, 3584, 152064), head(16384, ignored=0.5), head(8192, frozen=True),
            head(n, frozen=True), *sweep(),
        ]  # fmt: skip
    n, w, v = (2048, 1024, 8192) if preset == "cpu" else (32, 64, 96)
    heads = turned("rope", n, 8, 2, 64), turned("attention", n, 8, 2, 64, document=n // 2)
    planes = (plane(op, n, w) for op in ("rms_norm", "add_rms_norm", "swiglu"))
    return [head(n // 2, w, v), *planes, *heads, head(n // 2, w, v, ignored=0.5), head(n // 2, w, v, frozen=True)]


def rounds(cases: Sequence[Case], providers: Collection[str] | None = None) -> list[list[Task]]:
    """All tasks, provider by provider: in each round every case of its first provider comes before the second's."""
    tasks = []
    firsts = dict(reversed(cases))
    for number, names in enumerate(ROUNDS):
        chosen = []
        for name in names:
            for op, shape in cases:
                ours = OURS.get(op)
                who = ours if number == 0 and ours else name
                if who not in PROVIDERS[op] or (number and who == ours):
                    continue
                if (providers is None or who in providers) and (who not in COMPILED or shape == firsts[op]):
                    chosen.append((op, shape, who))
        tasks.append(chosen)
    return tasks


def table(rows: list[dict[str, Any]]) -> None:
    last = None
    for row in rows:
        if (at := (row["op"], row["shape"])) != last:
            print(f"\n{row['op']} {' '.join(f'{k}={v}' for k, v in row['shape'].items())} {row['dtype']}")
            print(
                f"  {'':12}{'mode':10}{'ms':>10}{'p20 - p80':>20}{'roofline':>10}{'peak MiB':>10}{'host us':>9}"
                "  worst error, cosine"
            )
            last = at
        worst = max((e for e in row.get("error", {}).values() if e is not None), default=None)
        error = "" if worst is None else f"  {worst:.1e} {row['cosine']:.7f}"
        if "note" in row:
            print(f"  {row['provider']}: {row['note']}")
        if "modes" not in row:
            print(f"  {row['provider']:12}{row['status']}: {row['reason']}")
        for mode, m in row.get("modes", {}).items():
            if m["status"] != "ok":
                print(f"  {row['provider']:12}{mode:10}{m['status']}: {m['reason'][:90]}")
                continue
            spread, peak = f"{m['p20']:.4g} - {m['p80']:.4g}", m.get("peak_mib", "")
            numbers = f"{m['ms']:>10.4g}{spread:>20}{m['share']:>10.1%}{peak:>10}{m.get('host_us', ''):>9}"
            print(f"  {row['provider']:12}{mode:10}{numbers}{error}")
