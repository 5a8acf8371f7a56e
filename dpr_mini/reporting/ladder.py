"""One figure of an experiment, from comparison.json alone: rates, and beside each what an answer costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dpr_mini.reporting.arms import ArmScore
from dpr_mini.reporting.document import drawing
from dpr_mini.reporting.measured import Measured
from dpr_mini.types import from_row

PASS = "pass@1"
INK, STRONG, FAINT = "#6b7280", "#3b7dc4", "#b45f2b"  # legible on white and on black


@dataclass(frozen=True, slots=True)
class Rung:
    """A line of the figure: a measure of an arm, in words. `control`: drawn apart, in another colour."""

    label: str
    arm: str
    measure: str = PASS
    control: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """Rungs on the same problems."""

    title: str
    on: str
    rungs: Sequence[Rung]


def value(numbers: Mapping[str, Any], rung: Rung, on: str) -> ArmScore | Measured | None:
    """What comparison.json has of a rung; None where it has nothing."""
    if rung.measure == PASS:
        row = numbers["arms"].get(rung.arm, {}).get("scores", {}).get(on)
        return row and from_row(ArmScore, row)
    wanted = rung.arm, rung.measure, on
    rows = (r for r in numbers.get("measured", ()) if (r["arm"], r["measure"], r["on"]) == wanted)
    row = next(rows, None)
    return row and from_row(Measured, row)


def cost(of: ArmScore | Measured) -> str:
    """Generated tokens of one answer, in words."""
    return "same answers, cut" if of.tokens_mean is None else f"{of.tokens_mean:.0f} tokens"


def figure(numbers: Mapping[str, Any], panels: Sequence[Panel]) -> str:
    """An SVG: mean and 95 % interval over problems and seeds of every rung; small dots are seeds.

    A rung of which comparison.json has nothing is named all the same, as not measured.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    style = {"svg.fonttype": "none", "svg.hashsalt": "ladder", "text.parse_math": False, "font.size": 9}
    style |= dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK)
    sizes = [len(panel.rungs) + 1 for panel in panels]
    with matplotlib.rc_context(style), drawing() as svg:
        fig = Figure(figsize=(8.4, 0.9 + 0.34 * sum(sizes)), layout="constrained")
        FigureCanvasSVG(fig)
        every = fig.subplots(len(panels), 1, squeeze=False, gridspec_kw={"height_ratios": sizes})[:, 0]
        for on, panel in zip(every, panels, strict=True):
            _panel(on, numbers, panel)
        every[-1].set(xlabel=f"{PASS}; of votes and redraws, the share that is right")
        fig.suptitle(
            "95 % intervals over problems and seeds; small dots: seeds; right: generated tokens an answer", fontsize=9
        )
        return svg(fig)


def _panel(on: Any, numbers: Mapping[str, Any], panel: Panel) -> None:
    n, seeds = None, set[int]()
    for row, rung in enumerate(panel.rungs):
        found = value(numbers, rung, panel.on)
        text = "not measured" if found is None else cost(found)
        on.text(1.01, row, text, transform=on.get_yaxis_transform(), va="center")
        if found is None:
            continue
        n, color = found.n, FAINT if rung.control else STRONG
        on.plot([found.low, found.high], [row, row], color=color, linewidth=1.8)
        on.plot(found.mean, row, "s" if rung.control else "o", color=color, markersize=6, clip_on=False)
        each = list(found.per_seed.values())
        seeds.add(len(each))
        on.plot(each, [row + 0.3] * len(each), "o", color=INK, markersize=2.2, clip_on=False)
        if row and rung.control is not panel.rungs[row - 1].control:
            on.axhline(row - 0.42, color=INK, linewidth=0.6, linestyle=":")
    on.set(xlim=(0, 1), ylim=(len(panel.rungs) - 0.4, -0.6))
    on.set_yticks(range(len(panel.rungs)), [rung.label for rung in panel.rungs])
    trained = f", {' or '.join(map(str, sorted(seeds)))} seeds" if seeds else ""
    on.set_title(f"{panel.title}, n={n or 0} problems{trained}", fontsize=9, loc="left")
    on.grid(axis="x", alpha=0.25, linewidth=0.6)
    on.spines[["top", "right"]].set_visible(False)
