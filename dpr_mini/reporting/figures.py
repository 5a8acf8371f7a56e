"""The report's figures, as SVG text that stands inside an HTML page: no fonts, no links, colours of the page.

Axes and labels take the page's text colour, so that one drawing serves light, dark and print. Bars lie: names of
benchmarks, rules and stages are long, and left of its bars each has a line of its own at any width of the screen.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dpr_mini.reporting.document import drawing
from dpr_mini.reporting.results import FILTERS, Bin
from dpr_mini.reporting.words import size
from dpr_mini.scoring.scores import Card

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes

Link = Callable[..., str]  # what a bar is of -> "#id" of its samples on the page, or ""
COLOURS = {"base": "#8b93a1", "phase 1": "#3b7dc4", "phase 2": "#e0812f"}
SHADES = ("#4aa39a", "#8d68c9", "#b5bcc6")  # of what is not a model
INK = "#010203"  # stands for the page's text colour
WIDTH, HEIGHT = 4.4, 3.0  # inches; about the width of a phone at 72 units an inch
ROW = 0.155  # inches, the height of one bar: that of a line of small text
FRAME = 1.15  # inches above and below the axes: title, ticks, label, legend
LONGEST = 18  # characters of a name before it breaks


def nowhere(*_: str) -> str:
    return ""


@contextmanager
def axes(name: str, into: list[str], title: str, height: float = HEIGHT) -> Iterator[Axes]:
    """Axes to draw on; the figure's SVG is appended to `into` on leaving. `name` salts the SVG's ids.

    `height` is in inches. What has a label is in the legend.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    style = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "text.parse_math": False,  # names come from recipes
        "font.family": "sans-serif",
        "font.size": 10,
        "figure.titlesize": 10.5,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        "legend.fontsize": 9.5,
        **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
    }
    with matplotlib.rc_context(style), drawing() as svg:
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        FigureCanvasSVG(figure)
        figure.suptitle(title, x=0.01, ha="left")  # a title over the axes alone would stick out at the right
        on = figure.add_subplot()
        yield on
        on.grid(axis="x" if on.yaxis.get_inverted() else "y", alpha=0.25, linewidth=0.6)
        on.set_axisbelow(True)
        _legend_below(on)
        into.append(_inline(svg(figure), name))


def _legend_below(on: Axes) -> None:
    """A legend under the axes in as many columns as its words leave room for."""
    from matplotlib.container import BarContainer

    handles = sorted(on.get_legend_handles_labels()[0], key=lambda h: not isinstance(h, BarContainer))  # bars first
    place = {"loc": "outside lower center", "columnspacing": 1.2, "handlelength": 1.4}
    for columns in range(len(handles), 0, -1):
        legend = on.figure.legend(handles=handles, ncols=columns, **place)
        if columns == 1 or legend.get_window_extent().width <= on.figure.bbox.width:
            return
        legend.remove()


def _inline(svg: str, name: str) -> str:
    """Cut what only a file of its own needs: prolog, metadata, name spaces, fixed size, lists of fonts."""
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'\sxmlns(:xlink)?="[^"]*"', "", svg)
    svg = re.sub(r'<svg width="[^"]*" height="[^"]*"', f'<svg role="img" aria-label="{name}"', svg, count=1)
    svg = re.sub(r"font: ([^;\"]*?)px [^;\"]*", r"font: \1px sans-serif", svg)
    svg = re.sub(r"font-family: [^;\"]*", "font-family: sans-serif", svg)
    return svg.replace(INK, "currentColor").strip()


# ---------------------------------------------------------------- bars


@dataclass(frozen=True)
class Bars:
    """One series of grouped bars: a value a group, None where there is no bar.

    `spans` are the values' intervals (low, high), `texts` what stands at the right of each bar, `links` where a click
    on it leads ("": nowhere); each has one entry a group, or is left out.
    """

    label: str
    colour: str
    values: Sequence[float | None]
    spans: Sequence[tuple[float, float] | None] = ()
    texts: Sequence[str] = ()
    links: Sequence[str] = ()


def pitch(series: int, groups: Sequence[str], notes: Sequence[str] = ()) -> float:
    """From one group of bars to the next, in bars: room for the bars, and for the lines of each group's name."""
    lines = max(_wrap(name).count("\n") + 1 for name in groups) + bool(notes)
    return max(series + 0.8, 1.15 * lines + 0.3)


def tall(series: int, groups: Sequence[str], notes: Sequence[str] = ()) -> float:
    """Height in inches of a figure of grouped bars."""
    return FRAME + ROW * len(groups) * pitch(series, groups, notes)


def grouped(on: Axes, series: Sequence[Bars], groups: Sequence[str], notes: Sequence[str] = ()) -> np.ndarray:
    """Draw horizontal bars, one group below the other; returns each group's middle on the y axis, in bars.

    `notes` are small second lines under the groups' names.
    """
    middles = np.arange(len(groups)) * pitch(len(series), groups, notes)
    for i, bars in enumerate(series):
        at = middles + i - (len(series) - 1) / 2
        patches = on.barh(at, [v or 0 for v in bars.values], 0.92, color=bars.colour, label=bars.label)
        for patch, url in zip(patches, bars.links, strict=bool(bars.links)):
            if url:
                patch.set_url(url)
        for y, value, span in zip(at, bars.values, bars.spans, strict=bool(bars.spans)):
            if value is not None and span:
                # The percentile interval of a skewed bootstrap may miss its mean by a hair.
                reach = [[max(0, value - span[0])], [max(0, span[1] - value)]]
                on.errorbar(value, y, xerr=reach, fmt="none", ecolor=INK, capsize=2.2, linewidth=1)
        for y, text in zip(at, bars.texts, strict=bool(bars.texts)):
            place = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
            on.annotate(text, (1, y), (4, 0), va="center", fontsize=9, **place)
    on.set_yticks(middles, [_wrap(name) for name in groups], va="bottom" if notes else "center", linespacing=1)
    for y, note in zip(middles, notes, strict=bool(notes)):
        place = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
        on.annotate(note, (0, y), (-5, -1), ha="right", va="top", fontsize=9, alpha=0.75, **place)
    on.tick_params(axis="y", length=0, pad=5)
    step = middles[1] - middles[0] if len(groups) > 1 else pitch(len(series), groups, notes)
    on.set_ylim(middles[-1] + step / 2, -step / 2)
    on.locator_params(axis="x", nbins=5)
    return middles


def _wrap(name: str) -> str:
    """A long name on several lines, broken behind a dash, underscore, slash or space where it has one."""
    lines = [""]
    for piece in re.findall(rf"[^-_/ ]{{0,{LONGEST - 1}}}[-_/ ]|[^-_/ ]{{1,{LONGEST}}}", name):
        if len(f"{lines[-1]}{piece}".rstrip()) > LONGEST:
            lines.append("")
        lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines)


def accuracy(cards: Mapping[str, Mapping[str, Card]], to: Link = nowhere) -> list[str]:
    """Pass@1 by benchmark and model with interval bars. `cards`: model -> benchmark -> card."""
    svgs: list[str] = []
    first = next(iter(cards.values()))
    names, notes = list(first), [size(card) for card in first.values()]
    series = [
        Bars(
            model,
            COLOURS[model],
            [by[b].mean for b in names],
            [(by[b].low, by[b].high) for b in names],
            [f"{by[b].mean:.3f}" for b in names],
            [to("answers", model, b) for b in names],
        )
        for model, by in cards.items()
    ]
    title = "Accuracy (pass@1), 95 % intervals over problems"
    with axes("accuracy", svgs, title, tall(len(series), names, notes)) as on:
        grouped(on, series, names, notes)
        top = max(card.high for by in cards.values() for card in by.values())
        on.set(xlabel="share of answers that are right", xlim=(0, min(1.0, top * 1.08) or 1.0))
    return svgs


def difficulty(bins: Sequence[Bin], to: Link = nowhere) -> list[str]:
    """Responses by the probe's pass rate, before and after the quota: in all, and per problem."""
    svgs: list[str] = []
    groups, notes = [b.label for b in bins], [f"n={b.problems}" for b in bins]
    for name, title, per in (
        ("kept", "Responses by difficulty", False),
        ("kept-per-problem", "Responses per problem by difficulty", True),
    ):
        series = []
        for label, colour, word, counts in (
            ("right in the probe (no quota)", SHADES[0], "probed", [b.plain for b in bins]),
            ("kept under the quota", SHADES[1], "kept", [b.kept for b in bins]),
        ):
            values = [c / b.problems for c, b in zip(counts, bins, strict=True)] if per else counts
            texts = [f"{v:.2f}" if per else f"{v:,}" for v in values]
            series.append(Bars(label, colour, values, (), texts, [to(word, b.label) for b in bins]))
        title += f", n={sum(b.problems for b in bins)} problems"
        with axes(name, svgs, title, tall(len(series) + per, groups, notes)) as on:
            middles = grouped(on, series, groups, notes)
            if per:
                quotas = [b.wanted / b.problems for b in bins]
                on.scatter(quotas, middles, 130, marker="|", color=INK, zorder=3, label="quota")
            on.set(xlabel="responses per problem" if per else "responses", ylabel="pass rate in the probe")
    return svgs


def length(tokens: Mapping[str, Sequence[int]]) -> list[str]:
    """Share of sampled answers up to each length, by model: medians and tails can be read off without bins."""
    svgs: list[str] = []
    counts = {len(v) for v in tokens.values()}
    title = f"Answer length, n={'/'.join(map(str, sorted(counts)))} answers each; dots: medians"
    with axes("length", svgs, title, HEIGHT + 0.2 * len(tokens)) as on:
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
        on.set(xlabel="answer length, tokens", ylabel="share of answers up to it", ylim=(0, 1.02))
    return svgs


def growth(lengths: Mapping[str, Mapping[str, tuple[float, float, float] | None]], to: Link = nowhere) -> list[str]:
    """Mean length of the answers that are "all", "right", "wrong", by model. `lengths`: model -> which -> interval."""
    svgs: list[str] = []
    which = list(next(iter(lengths.values())))
    series = [
        Bars(
            model,
            COLOURS[model],
            [by[w] and by[w][0] for w in which],
            [by[w] and by[w][1:] for w in which],
            [f"{by[w][0]:.0f}" if by[w] else "none" for w in which],
            [(to(w, model) or to("answers", model, w)) if by[w] else "" for w in which],
        )
        for model, by in lengths.items()
    ]
    with axes("growth", svgs, "Length of answers, by correctness", tall(len(series), which)) as on:
        grouped(on, series, which)
        first = next(iter(lengths.values()))["all"]
        if first and first[0]:
            label = f"4 x {next(iter(lengths))}, all"
            on.axvline(4 * first[0], color=INK, linewidth=0.8, linestyle="--", label=label)
        on.set(xlabel="tokens, mean", ylabel="answers")
    return svgs


def behaviours(shares: Mapping[str, Mapping[str, float]], counts: Mapping[str, int], to: Link = nowhere) -> list[str]:
    """Share of sampled answers that show each behaviour. `shares`: model -> behaviour -> share; `counts`: answers."""
    svgs: list[str] = []
    names = list(next(iter(shares.values())))
    series = [
        Bars(
            f"{model}, n={counts[model]}",
            COLOURS[model],
            [by[n] for n in names],
            (),
            [f"{by[n]:.1%}" for n in names],
            [to(n, model) for n in names],
        )
        for model, by in shares.items()
    ]
    with axes("behaviours", svgs, "Behaviours in the answers (a lower bound)", tall(len(series), names)) as on:
        grouped(on, series, names)
        top = max(max(by.values()) for by in shares.values())
        on.set(xlabel="share of answers", xlim=(0, min(1.0, top * 1.1) or 1))
    return svgs


def revisions(counts: Mapping[str, Mapping[str, int]], answers: Mapping[str, int], to: Link = nowhere) -> list[str]:
    """Answers that change their verdict after a first attempt. `counts`: model -> "wrong to right" ... -> answers."""
    svgs: list[str] = []
    names = list(next(iter(counts.values())))
    series = [
        Bars(
            f"{model}, {answers[model]} go on",
            COLOURS[model],
            [by[n] for n in names],
            (),
            [str(by[n]) for n in names],
            [to(n, model) for n in names],
        )
        for model, by in counts.items()
    ]
    with axes("revisions", svgs, "First attempt against final answer, in one response", tall(len(series), names)) as on:
        grouped(on, series, names)
        on.set(xlabel="answers", xlim=(0, max(1, *(max(by.values()) for by in counts.values())) * 1.05))
        on.xaxis.get_major_locator().set_params(integer=True)
    return svgs


def drops(counts: Mapping[str, Mapping[str, int]], to: Link = nowhere) -> list[str]:
    """Dialogues dropped by rule. `counts`: filter's stage -> rule -> dropped."""
    svgs: list[str] = []
    rules = list(dict.fromkeys(rule for by in counts.values() for rule in sorted(by, key=lambda r: -by[r])))
    series = [
        Bars(
            f"{FILTERS[stage]}, n={sum(by.values()):,}",
            COLOURS[FILTERS[stage]],
            [by.get(r, 0) for r in rules],
            (),
            [f"{by[r]:,}" if by.get(r) else "" for r in rules],
            [to("dropped", stage, r) for r in rules],
        )
        for stage, by in counts.items()
    ]
    title = "Drops by rule (the first rule that objects)"
    with axes("drops", svgs, title, tall(len(series), rules)) as on:
        grouped(on, series, rules)
        on.set(xlabel="dropped dialogues")
        on.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    return svgs


# ---------------------------------------------------------------- what a run took


def spending(title: str, unit: str, by: Mapping[str, Mapping[str, float]], order: Sequence[str]) -> list[str]:
    """What each stage took, in `unit`, split by kind. `by`: kind -> stage -> amount; `order`: all stages."""
    svgs: list[str] = []
    stages = [stage for stage in order if any(stage in amounts for amounts in by.values())]
    with axes(unit, svgs, title, FRAME + 0.2 * max(len(stages), 3)) as on:
        left = np.zeros(len(stages))
        for (kind, amounts), colour in zip(by.items(), SHADES, strict=False):
            values = np.array([amounts.get(stage, 0) for stage in stages])
            label = f"{kind}, {values.sum():,.0f} in all"
            on.barh(range(len(stages)), values, 0.7, left=left, color=colour, label=label)
            left += values
        on.set_yticks(range(len(stages)), stages)
        on.set_ylim(len(stages) - 0.5, -0.5)
        on.tick_params(axis="y", length=0)
        on.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        on.locator_params(axis="x", nbins=3)
        on.set(xlabel=unit)
    return svgs


def losses(steps: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """Training loss by optimiser step: every step pale, the running mean over a tenth of the steps strong."""
    svgs: list[str] = []
    with axes("loss", svgs, "Training loss") as on:
        for model, rows in steps.items():
            loss = np.array([r["loss"] for r in rows])
            window = max(1, len(loss) // 10)
            on.plot(loss, color=COLOURS[model], alpha=0.35 if window > 1 else 1, linewidth=1)
            smooth = np.convolve(loss, np.ones(window) / window, "valid")
            at = np.arange(window - 1, len(loss)) - (window - 1) / 2
            on.plot(at, smooth, color=COLOURS[model], linewidth=1.8, label=f"{model}, n={len(loss)} steps")
        on.xaxis.get_major_locator().set_params(integer=True, nbins=6)
        on.set(xlabel="optimiser step", ylabel="loss, nats a token")
    return svgs
