"""Pictures of what bench/operators.py measured, by operator.

    python bench/plot.py bench/results/kernels-nvidia-h200.json [--providers ...] [--folder FOLDER] [--format svg]

Writes for each operator, as .png or .svg,
    <name>-<operator>        share of the roofline by provider and shape: a column for forward, backward and both, and
                             one for peak memory where it was measured (a GPU)
    <name>-<operator>-rate   rate over size: terabytes or TFLOP a second over the least bytes or FLOP of the call, a
                             line a provider, and the ceiling measured in the same run as a dashed line
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

COMPUTES = ("linear_cross_entropy", "attention")  # bound by FLOP; the others by bytes
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


def variant(shape: dict[str, Any]) -> str:
    """What a line has in common beside its provider."""
    if shape.get("frozen"):
        return "frozen head"
    return f"{shape['ignored']:.0%} ignored" if shape.get("ignored") else ""


STYLES = {"": "-", "frozen head": ":"}  # any other: dash-dot


def over_size(
    op: str, mode: str, rows: list[dict[str, Any]], runs: list[dict[str, Any]]
) -> dict[tuple[str, str, Any], list[tuple[float, float, float]]]:
    """(provider, variant, model) -> [(size, rate, ceiling)], rising; size in GB or TFLOP, the rest in TB/s or TFLOP/s.

    A line is of one vocabulary, or one length of documents; norms, SwiGLU and rotation depend on bytes alone.
    """
    bound, unit = ("flop_per_s", 1e12) if op in COMPUTES else ("bytes_per_s", 1e9)
    lines: dict[tuple[str, str, Any], list[tuple[float, float, float]]] = {}
    for row in rows:
        m = row.get("modes", {}).get(mode)
        if row["op"] == op and m and m["status"] == "ok":
            ceiling = runs[row["run"]]["roofline"][bound]
            rate = m["share"] * ceiling  # the share is least work / time / ceiling
            point = rate * m["ms"] / 1000 / unit, rate / 1e12, ceiling / 1e12
            model = row["shape"].get("vocab", row["shape"].get("document"))
            lines.setdefault((row["provider"], variant(row["shape"]), model), []).append(point)
    return {who: sorted(points) for who, points in lines.items()}


def rates(plt: Any, op: str, rows: list[dict[str, Any]], runs: list[dict[str, Any]], title: str) -> Any:
    found = {mode: lines for mode in MODES if (lines := over_size(op, mode, rows, runs))}
    figure, grid = plt.subplots(1, len(found), figsize=(4.6 * len(found), 3.4), squeeze=False, layout="constrained")
    figure.suptitle(f"{op}: {title}", fontsize=9)
    size, rate = ("TFLOP", "TFLOP/s") if op in COMPUTES else ("GB", "TB/s")
    for axes, (mode, lines) in zip(grid[0], found.items(), strict=True):
        for (who, what, _), points in lines.items():
            if what and len(points) < 2:
                continue  # no size to go over; it has its bar in the other picture
            x, y, _ = zip(*points, strict=True)
            ours = who == "ours" or (op == "attention" and who == "torch")
            axes.plot(
                x, y, marker="o", markersize=3, color=COLOURS.get(who, "#444444"), linewidth=1.8 if ours else 1.0,
                linestyle=STYLES.get(what, "-."), label=f"{who}, {what}" if what else who,
            )  # fmt: skip
        every = [p for points in lines.values() for p in points]
        ends = min(every)[0], max(every)[0]
        for ceiling in sorted({round(p[2], 3) for p in every}):
            axes.plot(ends, [ceiling, ceiling], "--", color="#888888", linewidth=0.8)
            axes.annotate(f"ceiling {ceiling:.3g} {rate}", (ends[0], ceiling), fontsize=6, va="bottom", color="#555555")
        axes.set_xscale("log")
        ticks: list[float] = []
        for at, *_ in sorted(every):
            if not ticks or at > 1.15 * ticks[-1]:  # nearer ones would print over each other
                ticks.append(at)
        axes.set_xticks(ticks, [f"{at:.3g}" for at in ticks])
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        axes.set_xlabel(f"least work of the call, {size}", fontsize=7)
        axes.set_ylabel(rate, fontsize=7)
        axes.set_title(mode, fontsize=8)
        axes.tick_params(labelsize=6)
        axes.spines[["top", "right"]].set_visible(False)
    every_label: dict[str, Any] = {}
    for axes in grid[0]:
        for line, label in zip(*axes.get_legend_handles_labels(), strict=True):
            every_label.setdefault(label, line)
    figure.legend(
        every_label.values(), every_label.keys(), fontsize=6, frameon=False, loc="outside right center"
    )  # fmt: skip
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="a file of bench/operators.py")
    parser.add_argument("--providers", nargs="*", help="only these")
    parser.add_argument("--folder", type=Path, help="default: beside the results")
    parser.add_argument("--format", choices=["png", "svg"], default="png")
    chosen = parser.parse_args()
    try:
        import matplotlib
    except ImportError:
        sys.exit("no pictures: matplotlib is not installed (pip install matplotlib)")
    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    matplotlib.rcParams.update({"svg.hashsalt": "dpr-mini", "svg.fonttype": "none"})
    result = json.loads(chosen.results.read_text())
    rows = [r for r in result["rows"] if chosen.providers is None or r["provider"] in chosen.providers]
    found = groups(rows)
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
        pictures = {op: picture(plt, op, shapes, title), f"{op}-rate": rates(plt, op, rows, result["runs"], title)}
        for name, figure in pictures.items():
            path = folder / f"{chosen.results.stem}-{name}.{chosen.format}"
            # no date and no random names inside: the same numbers make the same file
            figure.savefig(path, dpi=150, metadata={"Date": None} if chosen.format == "svg" else None)
            plt.close(figure)
            print(path)


if __name__ == "__main__":
    main()
