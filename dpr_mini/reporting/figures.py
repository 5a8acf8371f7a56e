"""The report's figures, as SVG text that stands inside an HTML page: no fonts, no links, colours of the page.

Axes and labels take the page's text colour, so that one drawing serves light, dark and print.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from dpr_mini.reporting.results import Bin

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes

COLOURS = {"base": "#8b93a1", "phase 1": "#3b7dc4", "phase 2": "#e0812f"}
INK = "#010203"  # stands for the page's text colour
WIDTH, HEIGHT = 4.7, 3.1  # inches; about the width of a phone at 72 units an inch


@contextmanager
def axes(name: str, into: list[str], height: float = HEIGHT) -> Iterator[Axes]:
    """Axes to draw on; the figure's SVG is appended to `into` on leaving. `name` salts the SVG's ids."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    style = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "text.parse_math": False,  # names come from recipes
        "font.family": "sans-serif",
        "font.size": 9,
        "axes.titlesize": 9.5,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        "legend.fontsize": 8.5,
        **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
    }
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        FigureCanvasSVG(figure)
        on = figure.add_subplot()
        yield on
        on.grid(axis="x" if on.get_label() == "lying" else "y", alpha=0.25, linewidth=0.6)
        on.set_axisbelow(True)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    into.append(_inline(file.getvalue(), name))


def _inline(svg: str, name: str) -> str:
    """Cut what only a file of its own needs: prolog, metadata, name spaces, fixed size."""
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'\sxmlns(:xlink)?="[^"]*"', "", svg)
    svg = re.sub(r'<svg width="[^"]*" height="[^"]*"', f'<svg role="img" aria-label="{name}"', svg, count=1)
    svg = re.sub(r"font: ([^;\"]*?)px [^;\"]*", r"font: \1px sans-serif", svg)
    return svg.replace(INK, "currentColor").strip()


def accuracy(cards: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[str]:
    """Pass@1 by benchmark and model with interval bars. `cards`: model -> benchmark -> card."""
    made: list[str] = []
    benchmarks = list(next(iter(cards.values())))
    width = 0.8 / len(cards)
    with axes("accuracy", made) as on:
        for i, (model, by) in enumerate(cards.items()):
            at = np.arange(len(benchmarks)) + (i - (len(cards) - 1) / 2) * width
            means = np.array([by[b]["mean"] for b in benchmarks])
            bars = np.array([[by[b]["mean"] - by[b]["low"], by[b]["high"] - by[b]["mean"]] for b in benchmarks]).T
            # The percentile interval of a skewed bootstrap may miss its mean by a hair.
            on.bar(at, means, width * 0.92, color=COLOURS[model], label=model)
            on.errorbar(at, means, bars.clip(min=0), fmt="none", ecolor=INK, capsize=2.5, linewidth=1)
        first = next(iter(cards.values()))
        on.set_xticks(range(len(benchmarks)), [f"{b}\nn={first[b]['n']}, k={first[b]['k']}" for b in benchmarks])
        top = max(c["high"] for by in cards.values() for c in by.values())
        on.set(ylabel="pass@1", ylim=(0, min(1.0, top * 1.08) or 1.0), title="Accuracy, 95 % intervals over problems")
        _legend_below(on, len(cards))
    return made


def difficulty(bins: Sequence[Bin]) -> list[str]:
    """Responses by the probe's pass rate, before and after the quota: in all, and per problem."""
    made: list[str] = []
    names = {"right in the probe (no quota)": "#4aa39a", "kept under the quota": "#8d68c9"}
    count = sum(b.problems for b in bins)
    for name, title, per in (
        ("kept", "Responses by difficulty", False),
        ("kept-per-problem", "Responses per problem by difficulty", True),
    ):
        with axes(name, made) as on:
            for i, (label, colour) in enumerate(names.items()):
                values = [(b.kept if i else b.plain) / (b.problems if per else 1) for b in bins]
                on.bar(np.arange(len(bins)) + (i - 0.5) * 0.4, values, 0.37, color=colour, label=label)
            if per:
                wanted = [b.wanted / b.problems for b in bins]
                on.scatter(range(len(bins)), wanted, 90, marker="_", color=INK, zorder=3, label="quota")
            on.set_xticks(range(len(bins)), [f"{b.label}\nn={b.problems}" for b in bins])
            on.set(xlabel="pass rate in the probe (hard to easy), problems", title=f"{title}, n={count} problems")
            on.set_ylabel("responses per problem" if per else "responses")
            _legend_below(on, 3 if per else 2)
    return made


def length(tokens: Mapping[str, Sequence[int]]) -> list[str]:
    """Share of sampled answers up to each length, by model: medians and tails can be read off without bins."""
    made: list[str] = []
    with axes("length", made) as on:
        base = np.mean(next(iter(tokens.values())))
        for model, values in tokens.items():
            ratio = "" if model == next(iter(tokens)) or not base else f", {np.mean(values) / base:.2f}x"
            text = f"{model}: mean {np.mean(values):.0f}{ratio}, p90 {np.percentile(values, 90):.0f}"
            at = np.sort(values)
            on.step(at, np.arange(1, len(at) + 1) / len(at), where="post", color=COLOURS[model], label=text)
            on.plot(np.median(values), 0.5, "o", color=COLOURS[model], markersize=5)
        longest = max(max(v) for v in tokens.values())
        if longest > 8 * np.median(np.concatenate(list(tokens.values()))):
            on.set_xscale("log")
        counts = {len(v) for v in tokens.values()}
        on.set(xlabel="answer length, tokens", ylabel="share of answers up to it", ylim=(0, 1.02))
        on.set_title(f"Answer length, n={'/'.join(map(str, sorted(counts)))} answers each; dots: medians")
        _legend_below(on, 1)
    return made


def losses(steps: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """Training loss by optimiser step: every step pale, the running mean over a tenth of the steps strong."""
    made: list[str] = []
    with axes("loss", made) as on:
        for model, rows in steps.items():
            loss = np.array([r["loss"] for r in rows])
            window = max(1, len(loss) // 10)
            on.plot(loss, color=COLOURS[model], alpha=0.35 if window > 1 else 1, linewidth=1)
            smooth = np.convolve(loss, np.ones(window) / window, "valid")
            at = np.arange(window - 1, len(loss)) - (window - 1) / 2
            on.plot(at, smooth, color=COLOURS[model], linewidth=1.8, label=f"{model}, n={len(loss)} steps")
        on.set(xlabel="optimiser step", ylabel="loss, nats a token", title="Training loss")
        _legend_below(on, 2)
    return made


def drops(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Dialogues dropped by rule. `counts`: model that was trained on the rest -> rule -> dropped."""
    made: list[str] = []
    rules = list(dict.fromkeys(rule for by in counts.values() for rule in sorted(by, key=lambda r: -by[r])))[::-1]
    height = 0.4 / len(counts)
    with axes("drops", made, height=1.3 + 0.32 * max(len(rules), 2)) as on:
        on.set_label("lying")
        for i, (model, by) in enumerate(counts.items()):
            at = np.arange(len(rules)) + (0.5 * (len(counts) - 1) - i) * height * 2
            bars = on.barh(at, [by.get(r, 0) for r in rules], height * 1.8, color=COLOURS[model])
            bars.set_label(f"{model}, n={sum(by.values())}")
            on.bar_label(bars, [f" {by[r]}" if by.get(r) else "" for r in rules], fontsize=8)
        on.set_yticks(range(len(rules)), rules)
        on.margins(x=0.12)
        on.set(xlabel="dropped dialogues", title="Drops by rule (the first rule that objects)")
        _legend_below(on, 2)
    return made


def _legend_below(on: Axes, columns: int) -> None:
    on.figure.legend(loc="outside lower center", ncols=columns, columnspacing=1.2, handlelength=1.4)
