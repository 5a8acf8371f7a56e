"""Pictures (PNG) of what bench/operators.py measured: share of the roofline by provider, and peak memory, by operator.

    python bench/plot.py bench/results/kernels-nvidia-h200.json [--providers ...] [--folder bench/results]

Writes <name>-<operator>.png: a column for forward, backward and both, and one for memory where it was measured (a GPU).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

MODES = ("forward", "backward", "full")
# (red, green and blue stay apart for the colour-blind); ours is always the same dark one
COLOURS = {
    "ours": "#1b3a6b", "torch": "#e08a1e", "liger": "#2a9d8f", "eager": "#9aa0a6", "compile": "#c77dff",
    "cce": "#d1495b", "liger-fp32": "#8fd3c8", "torch-fp32": "#f5c888", "quack": "#6a994e", "unsloth": "#bc6c25",
    "reference": "#d9d9d9", "flash_attn": "#1b3a6b", "fa4": "#2a9d8f", "flex": "#c77dff",
}  # fmt: skip
NAMES = {  # op -> what of the shape tells its panels' groups apart
    "linear_cross_entropy": lambda s: (
        f"{s['rows']} x {s['width']} x {s['vocab']}"
        + (", frozen" if s["frozen"] else "")
        + (f", {s['ignored']:.0%} ignored" if s["ignored"] else "")
    ),
    "rope": lambda s: f"{s['tokens']} tokens, {s['heads']}/{s['kv_heads']} heads of {s['head']}",
    "attention": lambda s: f"{s['tokens']} tokens, documents of {s['document']}",
}


def label(op: str, shape: dict[str, Any]) -> str:
    return NAMES.get(op, lambda s: f"{s['rows']} x {s['width']}")(shape)


def groups(rows: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, dict[str, Any]]]]:
    """op -> shape's label -> provider -> row; rows without a measurement (a library that is missing) left out."""
    found: dict[str, dict[str, dict[str, dict[str, Any]]]] = {}
    for row in rows:
        if "modes" in row:
            found.setdefault(row["op"], {}).setdefault(label(row["op"], row["shape"]), {})[row["provider"]] = row
    return found


def draw(axes: Any, shapes: dict[str, dict[str, dict[str, Any]]], mode: str, value: Any, text: Any) -> None:
    """Horizontal bars, one group a shape; where a provider has no number its status is written instead."""
    at, ticks = 0.0, []
    for name, providers in shapes.items():
        begins = at
        for who, row in providers.items():
            m = row["modes"].get(mode)
            if m is None:
                continue
            if m["status"] == "ok":
                axes.barh(at, value(m), color=COLOURS.get(who, "#444444"), height=0.85)
                axes.annotate(f" {who} {text(m)}", (value(m), at), va="center", fontsize=6)
            else:
                axes.annotate(f" {who}: {m['status']}", (0, at), va="center", fontsize=6, color="#b00020")
            at += 1
        ticks.append(((begins + at - 1) / 2, name))
        at += 0.8
    axes.set_yticks([y for y, _ in ticks], [name.replace(", ", "\n") for _, name in ticks], fontsize=6)
    axes.set_ylim(at - 0.3, -0.9)
    axes.tick_params(axis="x", labelsize=6)
    axes.spines[["top", "right"]].set_visible(False)


def picture(plt: Any, op: str, shapes: dict[str, dict[str, dict[str, Any]]], title: str) -> Any:
    rows = [r for providers in shapes.values() for r in providers.values()]
    modes = [m for m in MODES if any(m in r["modes"] for r in rows)]
    memory = any("peak_mib" in m for r in rows for m in r["modes"].values())
    lines = sum(len(p) + 0.8 for p in shapes.values())
    figure, grid = plt.subplots(
        1, len(modes) + memory, figsize=(4.6 * (len(modes) + memory), 0.16 * lines + 1.3),
        squeeze=False, layout="constrained",
    )  # fmt: skip
    figure.suptitle(f"{op}: {title}", fontsize=9)
    for axes, mode in zip(grid[0], modes, strict=False):
        draw(axes, shapes, mode, lambda m: 100 * m["share"], lambda m: f"{m['share']:.0%}, {m['ms']:.3g} ms")
        axes.set_title(f"{mode}: share of the roofline", fontsize=8)
        axes.set_xlim(0, 130)  # room for the words
        axes.set_xticks(range(0, 101, 20), [f"{x} %" for x in range(0, 101, 20)])
        axes.axvline(100, color="#888888", linewidth=0.6, zorder=0)
    if memory:
        axes = grid[0][-1]
        draw(axes, shapes, "full", lambda m: m["peak_mib"] / 1024, lambda m: f"{m['peak_mib'] / 1024:.2f} GiB")
        axes.set_title("full: peak memory above the inputs, GiB", fontsize=8)
        axes.margins(x=0.35)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="a file of bench/operators.py")
    parser.add_argument("--providers", nargs="*", help="only these")
    parser.add_argument("--folder", type=Path, help="default: beside the results")
    chosen = parser.parse_args()
    try:
        import matplotlib
    except ImportError:
        sys.exit("no pictures: matplotlib is not installed (pip install matplotlib)")
    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    result = json.loads(chosen.results.read_text())
    found = groups([r for r in result["rows"] if chosen.providers is None or r["provider"] in chosen.providers])
    if not found:
        sys.exit(f"no pictures: {chosen.results} has no measured row")
    folder, roofline = chosen.folder or chosen.results.parent, result["runs"][-1]["roofline"]
    folder.mkdir(parents=True, exist_ok=True)
    title = (
        f"{result['conditions']['device']}, torch {result['conditions']['versions']['torch']}; last run: "
        f"copy {roofline['bytes_per_s'] / 1e12:.3g} TB/s, matmul {roofline['flop_per_s'] / 1e12:.3g} TFLOP/s"
    )
    if not result["conditions"]["cuda"]:
        title += "\nplain PyTorch on a CPU at small sizes: shows nothing of a GPU"
    for op, shapes in found.items():
        figure = picture(plt, op, shapes, title)
        path = folder / f"{chosen.results.stem}-{op}.png"
        figure.savefig(path, dpi=150)
        plt.close(figure)
        print(path)


if __name__ == "__main__":
    main()
