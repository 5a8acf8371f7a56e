"""The comparison of an experiment's arms in words and in one figure. `numbers` is what comparison.json holds."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from dpr_mini.reporting.arms import ArmDifference, ArmScore
from dpr_mini.reporting.document import Block, Points, Section, Table, Text, render
from dpr_mini.reporting.words import change, flat, interval, sign_test
from dpr_mini.types import ALL, from_row

Numbers = Mapping[str, Any]
COSTS = {
    "sampled_answers": "answers sampled",
    "kept": "kept",
    "trained_tokens": "tokens trained",
    "steps": "steps",
    "seconds_sampling": "s sampling",
    "seconds_training": "s training",
    "seconds_evaluation": "s evaluation",
}


def page(numbers: Numbers) -> str:
    """comparison.md: arms over all problems, by benchmark and bin, what they cost, how it was made."""
    overall, baseline = _overall(numbers), numbers["baseline"]
    sections = [
        Section("Arms", [arms(numbers), *_left_out(numbers)]),
        Section(f"Differences to {baseline}", _slices(numbers)),
        Section("What it cost", [_costs(numbers)]),
        Section("Conditions", [_conditions(numbers), Points([("", text) for text in _differing(numbers)])]),
    ]
    seeds = sorted({s for arm in numbers["arms"].values() for s in arm["seeds"]})
    score = _score(numbers, baseline, overall)
    lead = (
        f"{len(numbers['arms'])} arms on the same {score.n} held-out problems, seeds {', '.join(map(str, seeds))}, "
        f"{score.k} samples a problem and seed. Brackets: 95 % bootstrap interval over problems, a problem's "
        "samples and seeds averaged first. Over seeds: the lowest and the highest; no interval has that spread in it."
    )
    text = render("report.md", "Comparison", lead, sections)
    return f"{text.rstrip()}\n\n![difference to {baseline}](comparison.svg)\n"


def brief(numbers: Numbers) -> str:
    """The table of arms as lines for a terminal."""
    table = arms(numbers)
    rows = [[cell.replace("\n", " ") for cell in row] for row in (table.head, *table.rows)]
    wide = [max(len(row[i]) for row in rows) for i in range(len(table.head))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, wide, strict=True)).rstrip() for row in rows)


def arms(numbers: Numbers) -> Table:
    """One row an arm, over all problems: pass@1, greedy, their differences to the baseline, length."""
    overall, rows = _overall(numbers), []
    for name in numbers["arms"]:
        s = _score(numbers, name, overall)
        seeds = s.per_seed.values()
        spread = f"{min(seeds):.3f} to {max(seeds):.3f}" if len(seeds) > 1 else "one seed"
        greedy = "-" if s.greedy is None else f"{s.greedy:.3f}"
        d, g = (_difference(numbers, name, overall, m) for m in ("pass@1", "greedy"))
        cells = (change(d), sign_test(d), change(g), f"{s.tokens_mean:.1f}", f"{s.truncated:.1%}")
        rows.append((name, interval(s), spread, greedy, *cells))
    baseline = numbers["baseline"]
    head = ("arm", "pass@1", "over seeds", "greedy", f"pass@1 - {baseline}", "sign test", f"greedy - {baseline}")
    note = f"Benchmark {overall}. Sign test: exact, two-sided, over the problems whose pass rate changed."
    return Table((*head, "tokens", "truncated"), rows, "graded.jsonl of the evaluations in comparison.json", note=note)


def _left_out(numbers: Numbers) -> list[Block]:
    runs = numbers["left_out"]
    return [Text(f"Not complete and left out: {'; '.join(runs)}.")] if runs else []


def _slices(numbers: Numbers) -> list[Block]:
    blocks: list[Block] = []
    first = numbers["arms"][numbers["baseline"]]["scores"]
    rows = []
    for name in numbers["arms"]:
        cells = []
        for s in first:
            d = _difference(numbers, name, s, "pass@1")
            cells.append(f"{_score(numbers, name, s).mean:.3f}" + (f"\n{change(d)}\n{sign_test(d)}" if d else ""))
        rows.append((name, *cells))
    head = ("arm", *(f"{s}\nn={_score(numbers, numbers['baseline'], s).n}" for s in first))
    note = "; ".join(f"{name}: {text}" for name, text in numbers["bins"].items() if name in first) + "."
    blocks.append(Table(head, rows, "the same answers", note=note.capitalize()))
    shown = [d for d in numbers["differences"] if d["baseline"] == numbers["baseline"]]
    count = sum(d["measure"] == "pass@1" for d in shown)
    blocks.append(
        Text(
            f"Each of the {count} differences has a 95 % interval of its own: about {count * 0.05:.0f} of so many "
            "would exclude zero by chance. comparison.json has those of every other pair of arms too."
        )
    )
    return blocks


def _costs(numbers: Numbers) -> Table:
    rows = [(name, *(f"{arm['costs'][c]:,.0f}" for c in COSTS)) for name, arm in numbers["arms"].items()]
    note = "As if each arm had been run alone, means over seeds; tokens trained on, in all epochs together."
    return Table(("arm", *COSTS.values()), rows, "stage.json of the stages that lead to each evaluation", note=note)


def _conditions(numbers: Numbers) -> Table:
    rows = [(name, flat(value)) for name, value in numbers["conditions"].items() if name != "recipe"]
    return Table(("what", "value"), rows, "stage.json of every stage", prose=True)


def _differing(numbers: Numbers) -> list[str]:
    """What each arm's recipe says otherwise than the first one's."""
    lines = []
    for name, arm in numbers["arms"].items():
        values = ", ".join(f"{k}={v}" for k, v in arm["differs"].items() if k != "name")
        lines.append(f"{name}: {values}" if values else f"{name}: the recipe in comparison.json")
    return lines


def figure(numbers: Numbers) -> str:
    """One SVG: pass@1 of every arm and its difference to the baseline; small dots are single seeds."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    overall, names = _overall(numbers), list(numbers["arms"])
    ink, strong = "#6b7280", "#3b7dc4"  # legible on white and on black
    style = {"svg.fonttype": "none", "svg.hashsalt": "comparison", "text.parse_math": False, "font.size": 9}
    style |= dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), ink)
    with matplotlib.rc_context(style):
        fig = Figure(figsize=(8.4, 1.2 + 0.32 * len(names)), layout="constrained")
        FigureCanvasSVG(fig)
        left, right = fig.subplots(1, 2, sharey=True)
        for row, name in enumerate(names):
            score, difference = _score(numbers, name, overall), _difference(numbers, name, overall, "pass@1")
            for on, value in ((left, score), (right, difference)):
                if value:
                    on.plot([value.low, value.high], [row, row], color=strong, linewidth=1.6)
                    on.plot(value.mean, row, "o", color=strong, markersize=6)
                    seeds = list(value.per_seed.values())
                    on.plot(seeds, [row + 0.28] * len(seeds), "o", color=ink, markersize=2.5)
        left.set_yticks(range(len(names)), names)
        left.invert_yaxis()
        right.axvline(0, color=ink, linewidth=0.8)
        score = _score(numbers, numbers["baseline"], overall)
        left.set(xlabel=f"pass@1, {overall}, n={score.n}, k={score.k}")
        right.set(xlabel=f"pass@1 - {numbers['baseline']}, paired")
        for on in (left, right):
            on.grid(axis="x", alpha=0.25, linewidth=0.6)
            on.spines[["top", "right"]].set_visible(False)
        fig.suptitle("95 % intervals over problems; small dots: seeds", fontsize=9)
        file = io.StringIO()
        fig.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return file.getvalue()


def _overall(numbers: Numbers) -> str:
    """All benchmarks together, or the only one."""
    scores = numbers["arms"][numbers["baseline"]]["scores"]
    return ALL if ALL in scores else next(iter(scores))


def _score(numbers: Numbers, arm: str, on: str) -> ArmScore:
    return from_row(ArmScore, numbers["arms"][arm]["scores"][on])


def _difference(numbers: Numbers, arm: str, on: str, measure: str) -> ArmDifference | None:
    """Of one arm to the baseline; None for the baseline itself, and where nothing was compared."""
    keys = (arm, numbers["baseline"], on, measure)
    rows = ((tuple(d[k] for k in ("arm", "baseline", "on", "measure")), d) for d in numbers["differences"])
    row = next((d for of, d in rows if of == keys), None)
    return row and from_row(ArmDifference, row)
