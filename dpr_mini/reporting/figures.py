"""The report's figures, as SVG text that stands inside an HTML page: no fonts, no links, colours of the page.

Axes and labels take the page's text colour, so that one drawing serves light, dark and print.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from dpr_mini.reporting.results import Bin
from dpr_mini.reporting.words import size
from dpr_mini.types import Card

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from matplotlib.axes import Axes
    from matplotlib.patches import Patch

Link = Callable[..., str]  # what a bar is of -> "#id" of its samples on the page, or ""
COLOURS = {"base": "#8b93a1", "phase 1": "#3b7dc4", "phase 2": "#e0812f"}
INK = "#010203"  # stands for the page's text colour
WIDTH, HEIGHT = 4.7, 3.1  # inches; about the width of a phone at 72 units an inch


def nowhere(*_: str) -> str:
    return ""


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


def accuracy(cards: Mapping[str, Mapping[str, Card]], to: Link = nowhere) -> list[str]:
    """Pass@1 by benchmark and model with interval bars. `cards`: model -> benchmark -> card."""
    made: list[str] = []
    benchmarks = list(next(iter(cards.values())))
    width = 0.8 / len(cards)
    with axes("accuracy", made) as on:
        for i, (model, by) in enumerate(cards.items()):
            at = np.arange(len(benchmarks)) + (i - (len(cards) - 1) / 2) * width
            means = np.array([by[b].mean for b in benchmarks])
            bars = np.array([[by[b].mean - by[b].low, by[b].high - by[b].mean] for b in benchmarks]).T
            # The percentile interval of a skewed bootstrap may miss its mean by a hair.
            drawn = on.bar(at, means, width * 0.92, color=COLOURS[model], label=model)
            _link(drawn, (to("answers", model, b) for b in benchmarks))
            on.errorbar(at, means, bars.clip(min=0), fmt="none", ecolor=INK, capsize=2.5, linewidth=1)
        first = next(iter(cards.values()))
        on.set_xticks(range(len(benchmarks)), [f"{b}\n{size(first[b])}" for b in benchmarks])
        top = max(c.high for by in cards.values() for c in by.values())
        on.set(ylabel="pass@1", ylim=(0, min(1.0, top * 1.08) or 1.0), title="Accuracy, 95 % intervals over problems")
        _legend_below(on, len(cards))
    return made


def difficulty(bins: Sequence[Bin], to: Link = nowhere) -> list[str]:
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
                drawn = on.bar(np.arange(len(bins)) + (i - 0.5) * 0.4, values, 0.37, color=colour, label=label)
                _link(drawn, (to("kept" if i else "probed", b.label) for b in bins))
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


def growth(lengths: Mapping[str, Mapping[str, tuple[float, float, float] | None]], to: Link = nowhere) -> list[str]:
    """Mean length of the answers that are "all", "right", "wrong", by model. `lengths`: model -> which -> interval."""
    made: list[str] = []
    which = list(next(iter(lengths.values())))
    width = 0.8 / len(lengths)
    with axes("growth", made) as on:
        for i, (model, by) in enumerate(lengths.items()):
            there = [w for w in which if by[w]]
            at = np.array([which.index(w) for w in there]) + (i - (len(lengths) - 1) / 2) * width
            means, low, high = np.array([by[w] for w in there]).T
            drawn = on.bar(at, means, width * 0.92, color=COLOURS[model], label=model)
            _link(drawn, (to(w, model) or to("answers", model, w) for w in there))
            on.errorbar(at, means, [(means - low).clip(0), (high - means).clip(0)], fmt="none", ecolor=INK, capsize=2.5)
        first = next(iter(lengths.values()))["all"]
        if first and first[0]:
            on.axhline(4 * first[0], color=INK, linewidth=0.8, linestyle="--")
            on.annotate("4 x base", (1, 4 * first[0]), (0, 2), ("axes fraction", "data"), "offset points", ha="right")
        on.set_xticks(range(len(which)), [f"{w} answers" for w in which])
        on.set(ylabel="tokens, mean", title="Length of answers by phase and by correctness")
        _legend_below(on, len(lengths))
    return made


def behaviours(shares: Mapping[str, Mapping[str, float]], counts: Mapping[str, int], to: Link = nowhere) -> list[str]:
    """Share of sampled answers that show each behaviour. `shares`: model -> behaviour -> share; `counts`: answers."""
    made: list[str] = []
    names = list(next(iter(shares.values())))
    width = 0.8 / len(shares)
    with axes("behaviours", made) as on:
        for i, (model, by) in enumerate(shares.items()):
            at = np.arange(len(names)) + (i - (len(shares) - 1) / 2) * width
            label = f"{model}, n={counts[model]}"
            drawn = on.bar(at, [by[n] for n in names], width * 0.92, color=COLOURS[model], label=label)
            _link(drawn, (to(n, model) for n in names))
        on.set_xticks(range(len(names)), names)
        top = max(max(by.values()) for by in shares.values())
        on.set(ylabel="share of answers", ylim=(0, top * 1.1 or 1), title="Behaviours in the answers (a lower bound)")
        _legend_below(on, len(shares))
    return made


def revisions(counts: Mapping[str, Mapping[str, int]], answers: Mapping[str, int], to: Link = nowhere) -> list[str]:
    """Answers that change their verdict after a first attempt. `counts`: model -> "wrong to right" ... -> answers."""
    made: list[str] = []
    names = list(next(iter(counts.values())))
    width = 0.8 / len(counts)
    with axes("revisions", made) as on:
        for i, (model, by) in enumerate(counts.items()):
            at = np.arange(len(names)) + (i - (len(counts) - 1) / 2) * width
            label = f"{model}, {answers[model]} go on"
            drawn = on.bar(at, [by[n] for n in names], width * 0.92, color=COLOURS[model], label=label)
            on.bar_label(drawn, fontsize=8)
            _link(drawn, (to(n, model) for n in names))
        on.set_xticks(range(len(names)), names)
        on.set(ylabel="answers", title="First attempt against final answer, in one response")
        on.margins(y=0.15)
        _legend_below(on, len(counts))
    return made


def spending(title: str, unit: str, by: Mapping[str, Mapping[str, float]], order: Sequence[str]) -> list[str]:
    """What each stage took, in `unit`, split by kind. `by`: kind -> stage -> amount; `order`: all stages."""
    made: list[str] = []
    stages = [stage for stage in order if any(stage in amounts for amounts in by.values())][::-1]
    colours = ("#4aa39a", "#8d68c9", "#b5bcc6")
    with axes(unit, made, height=1.3 + 0.2 * max(len(stages), 3)) as on:
        on.set_label("lying")
        left = np.zeros(len(stages))
        for (kind, amounts), colour in zip(by.items(), colours, strict=False):
            values = np.array([amounts.get(stage, 0) for stage in stages])
            label = f"{kind}, {values.sum():,.0f} in all"
            on.barh(range(len(stages)), values, 0.7, left=left, color=colour, label=label)
            left += values
        on.set_yticks(range(len(stages)), stages)
        on.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        on.locator_params(axis="x", nbins=6)
        on.set(xlabel=unit, title=title)
        _legend_below(on, 1 if len(by) > 2 else 2)
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
        on.xaxis.get_major_locator().set_params(integer=True)
        on.set(xlabel="optimiser step", ylabel="loss, nats a token", title="Training loss")
        _legend_below(on, 2)
    return made


def drops(counts: Mapping[str, Mapping[str, int]], to: Link = nowhere) -> list[str]:
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
            _link(bars, (to("dropped", f"filter-{model[-1]}", r) for r in rules))
            on.bar_label(bars, [f" {by[r]}" if by.get(r) else "" for r in rules], fontsize=8)
        on.set_yticks(range(len(rules)), rules)
        on.margins(x=0.12)
        on.set(xlabel="dropped dialogues", title="Drops by rule (the first rule that objects)")
        _legend_below(on, 2)
    return made


def _link(bars: Iterable[Patch], urls: Iterable[str]) -> None:
    """Make each bar a link, where it has something to lead to."""
    for bar, url in zip(bars, urls, strict=True):
        if url:
            bar.set_url(url)


def _legend_below(on: Axes, columns: int) -> None:
    on.figure.legend(loc="outside lower center", ncols=columns, columnspacing=1.2, handlelength=1.4)
