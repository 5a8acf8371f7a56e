"""No text of a figure lies on another one or sticks out, for any number of benchmarks and long names."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from rows import graded

from dpr_mini.reporting import figures
from dpr_mini.reporting.results import Bin
from dpr_mini.scoring.card import score
from dpr_mini.scoring.scores import Card

NAMES = ("olymmath-hard-en", "minerva_math", "a-benchmark-with-a-name_that-goes-on", "aime24", "math500", "all")
MODELS = ("base", "phase 1", "phase 2")


def texts(figure: Figure) -> list[tuple[str, np.ndarray]]:
    """Every text that is drawn, with (left, bottom, right, top) of it as shares of the figure."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    size = np.tile(figure.bbox.size, 2)
    drawn = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text() and t.figure]
    boxes = [(t.get_text(), t.get_window_extent(canvas.get_renderer()).extents / size) for t in drawn]
    inside = figure.axes[0]
    off = [t for axis in (inside.xaxis, inside.yaxis) for t in axis.get_ticklabels() if not _in_view(axis, t)]
    hidden = {id(t) for t in off}
    return [box for t, box in zip(drawn, boxes, strict=True) if id(t) not in hidden]


def _in_view(axis, label: Text) -> bool:
    """Whether a tick is drawn: matplotlib keeps labels of those outside the axis' limits."""
    at = label.get_position()[0 if axis.axis_name == "x" else 1]
    low, high = sorted(axis.get_view_interval())
    return low <= at <= high


def overlaps(figure: Figure) -> list[tuple[str, str]]:
    def meet(a: np.ndarray, b: np.ndarray) -> bool:
        return bool((np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]) > 0.002).all())

    return [(s, t) for (s, a), (t, b) in combinations(texts(figure), 2) if meet(a, b)]


def outside(figure: Figure) -> list[str]:
    return [text for text, box in texts(figure) if box.min() < -0.005 or box.max() > 1.005]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved while the test runs."""
    saved: list[Figure] = []
    save = Figure.savefig

    def keep(self: Figure, *args: object, **more: object) -> None:
        save(self, *args, **more)
        saved.append(self)

    monkeypatch.setattr(Figure, "savefig", keep)
    return saved


def card(name: str, n: int = 1319) -> Card:
    return replace(score([graded("a", 0, True, name), graded("b", 0, False, name)], name), n=n, k=16, k_most=32)


def cards(count: int, models: int = 3) -> dict[str, dict[str, Card]]:
    return {model: {name: card(name) for name in NAMES[-count:]} for model in MODELS[:models]}


@pytest.mark.parametrize("models", [1, 2, 3])
@pytest.mark.parametrize("benchmarks", [1, 3, 5, 6])
def test_labels_of_benchmarks_do_not_overlap(drawn: list[Figure], benchmarks: int, models: int) -> None:
    (svg,) = figures.accuracy(cards(benchmarks, models))
    (figure,) = drawn
    shown = [text for text, _ in texts(figure)]
    assert sum(text.startswith("n=1319, k=16 to 32") for text in shown) == benchmarks
    assert {name.replace("\n", "") for name in shown} >= set(NAMES[-benchmarks:])
    assert overlaps(figure) == [] and outside(figure) == []
    sizes = [float(s) for s in re.findall(r"(?:font: |font-size: )([\d.]+)px", svg)]
    width = float(re.search(r'viewBox="0 0 ([\d.]+)', svg)[1])
    assert sizes and min(sizes) * 368 / width > 9.9, "at 400 px, less the page's margins, this is too small to read"


def test_an_overlap_is_seen(drawn: list[Figure]) -> None:
    """The check itself: names side by side under upright bars, as they were once, do overlap."""
    with figures.axes("upright", [], "Upright") as on:
        on.bar(range(6), range(6))
        on.set_xticks(range(6), [f"{name}\nn=50, k=4" for name in NAMES])
    assert ("olymmath-hard-en\nn=50, k=4", "minerva_math\nn=50, k=4") in overlaps(drawn[0])


def test_what_sticks_out_is_seen(drawn: list[Figure]) -> None:
    with figures.axes("wide", [], "A title that is too long for any figure of this width, however it is set") as on:
        on.plot([0, 1])
    assert len(outside(drawn[0])) == 1


BINS = [Bin(label, 1000, 4000, 800, 4000, 9000, 5000, 3000, 20) for label in
        ("0", "0-0.25", "0.25-0.5", "0.5-0.75", "0.75-1", "1")]  # fmt: skip
RULES = ("false_arithmetic", "answer_correct", "not_truncated", "a_rule_of_somebody_with_a_long_name", "quota")
STAGES = ("problems", "eval-0-answers", "eval-0", "dialogue-1", "filter-1", "train-1", "eval-1-answers", "sample-2")
ALL_FIGURES: dict[str, Callable[[], list[str]]] = {
    "difficulty": lambda: figures.difficulty(BINS),
    "length": lambda: figures.length({m: list(range(1, 32768, 7)) for m in MODELS}),
    "growth": lambda: figures.growth({m: {"all": (1e4, 9e3, 2e4), "right": (1, 1, 1), "wrong": None} for m in MODELS}),
    "behaviours": lambda: figures.behaviours(
        {m: {"verification": 0.5, "backtracking": 0, "subgoals": 1, "backward": 0.1} for m in MODELS},
        dict.fromkeys(MODELS, 1_319_000),
    ),
    "revisions": lambda: figures.revisions(
        {m: {"wrong to right": 12345, "right to wrong": 0} for m in MODELS}, dict.fromkeys(MODELS, 1_319_000)
    ),
    "drops": lambda: figures.drops({f: dict.fromkeys(RULES, 123_456) for f in ("filter-1", "filter-2")}),
    "spending": lambda: figures.spending(
        "Tokens by stage", "tokens",
        {k: dict.fromkeys(STAGES, 12_345_678_901) for k in ("new", "trained", "prompts")}, STAGES,
    ),
    "losses": lambda: figures.losses({m: [{"loss": 12 / (i + 1)} for i in range(10_000)] for m in MODELS[1:]}),
}  # fmt: skip


@pytest.mark.parametrize("name", ALL_FIGURES)
def test_no_figure_has_texts_that_overlap(drawn: list[Figure], name: str) -> None:
    svgs = ALL_FIGURES[name]()
    assert len(svgs) == len(drawn) > 0
    for figure in drawn:
        assert overlaps(figure) == [] and outside(figure) == []


def test_a_stage_of_any_name_has_its_drops_linked() -> None:
    links = []
    figures.drops({"filter-2": {"quota": 3}}, lambda *key: links.append(key) or "#s")
    assert links == [("dropped", "filter-2", "quota")]


@pytest.mark.parametrize("name", [*NAMES, "x" * 50, "", "one word or two of it"])
def test_a_broken_name_loses_nothing(name: str) -> None:
    wrapped = figures._wrap(name)
    assert "".join(wrapped.split()) == "".join(name.split())
    assert all(len(line) <= figures.LONGEST for line in wrapped.split("\n"))


def test_a_figure_is_drawn_the_same_twice() -> None:
    assert figures.accuracy(cards(3)) == figures.accuracy(cards(3))
