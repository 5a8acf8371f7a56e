"""The comparison of an experiment's arms in words and in one figure. `numbers` is what comparison.json holds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from dpr_mini.reporting.arms import ArmDifference, ArmScore
from dpr_mini.reporting.document import Block, Points, Section, Table, Text, drawing, render
from dpr_mini.reporting.hypotheses import Tested
from dpr_mini.reporting.inside import tables
from dpr_mini.reporting.words import change, flat, interval, p_value, tested
from dpr_mini.runs import opened
from dpr_mini.scoring.crossed import Crossed
from dpr_mini.types import ALL, from_row

Numbers = Mapping[str, Any]
LOGS = "(log_tokens)"  # how a side says that it is in logs
OPENINGS = 4  # lines of them that are shown; of more the ends
COSTS = {
    "sampled_answers": "answers sampled",
    "prompt_tokens": "prompt tokens",
    "sampled_tokens": "tokens generated",
    "kept": "kept",
    "contents": "distinct contents",
    "trained_tokens": "tokens trained",
    "steps": "optimiser steps",
    "seconds_sampling": "s sampling",
    "seconds_training": "s training",
    "seconds_evaluation": "s evaluation",
}


def page(numbers: Numbers) -> str:
    """comparison.md: hypotheses, arms over all problems, by benchmark and bin, what they cost, how it was made."""
    overall, baseline = _overall(numbers), numbers["baseline"]
    registered, differing = bool(numbers.get("hypotheses")), _differing(numbers)
    sections = [
        *([Section("Registered hypotheses", [hypotheses(numbers)])] if registered else []),
        Section("Arms (exploratory)", [arms(numbers), *_left_out(numbers)]),
        Section(f"Differences to {baseline} (exploratory)", _slices(numbers)),
        Section("Attempts and checks (exploratory)", tables(numbers.get("inside", {}))),
        Section("What it cost", [_costs(numbers)]),
        Section("Conditions", [_conditions(numbers), Points([("", t) for t in (*_openings(numbers), *differing)])]),
    ]
    seeds = sorted({s for arm in numbers["arms"].values() for s in arm["seeds"]})
    score = _score(numbers, baseline, overall)
    k = " or ".join(str(n) for n in sorted({_score(numbers, name, overall).k for name in numbers["arms"]}))
    lead = (
        f"{len(numbers['arms'])} arms on the same {score.n} held-out problems ({_on(numbers)}), "
        f"seeds {', '.join(map(str, seeds))}, "
        f"{k} samples a problem and seed. {_brackets(numbers)} "
        + (
            "Only the registered hypotheses test anything; all else is exploratory."
            if registered
            else "No hypotheses were registered: everything here is exploratory."
        )
    )
    text = render("report.md", "Comparison", lead, sections)
    return f"{text.rstrip()}\n\n![difference to {baseline}](comparison.svg)\n"


def _brackets(numbers: Numbers) -> str:
    """What the intervals are over."""
    if _score(numbers, numbers["baseline"], _overall(numbers)).problems_low is None:
        return "Brackets: 95 % bootstrap interval over problems alone, in a file from before seeds were in it."
    return (
        "Brackets: 95 % interval over problems and seeds (of an arm with one seed: over problems alone); in the second "
        "line over problems alone, which is about these very trainings."
    )


def brief(numbers: Numbers) -> str:
    """Hypotheses and the table of arms as lines for a terminal."""
    registered = [_aligned(hypotheses(numbers))] if numbers.get("hypotheses") else []
    lacks = [block.text for block in _left_out(numbers)]
    tests = ["\n".join(_openings(numbers))] if numbers.get("openings") else []
    return "\n\n".join([*registered, f"{_aligned(arms(numbers))}\non {_on(numbers)}", *lacks, *tests])


def _openings(numbers: Numbers) -> list[str]:
    """When test sets were opened, a line each; of many the first and the last, and at how many commits."""
    lines = numbers.get("openings", [])
    if len(lines) <= OPENINGS:
        return [opened(line) for line in lines]
    commits = len({line["commit"] for line in lines})
    between = f"... {len(lines) - 2} more between, {commits} commit{'s' if commits > 1 else ''} in all"
    return [opened(lines[0]), between, opened(lines[-1])]


def _aligned(table: Table) -> str:
    rows = [[cell.replace("\n", " ") for cell in row] for row in (table.head, *table.rows)]
    wide = [max(len(row[i]) for row in rows) for i in range(len(table.head))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, wide, strict=True)).rstrip() for row in rows)


def hypotheses(numbers: Numbers) -> Table:
    """One row a registered hypothesis, in the recipe's order, those that could not be tested among them."""
    rows = []
    for row in numbers["hypotheses"]:
        t: Tested = from_row(Tested, row)
        name, margin = f"{t.name}: {t.claim}", t.equivalent or t.margin
        cells = ("-",) * 5
        if r := t.result:
            size = f"n={r.n}, {r.seeds} seed{'s' if r.seeds > 1 else ''}"
            size += f"\n{t.left_out} problems without a value left out" if t.left_out else ""
            size += f"\nmaj@{t.votes}" if t.votes else ""
            flips = f"flips: {p_value(r.p_problems)}" + ("" if r.p_seeds is None else f", seeds {p_value(r.p_seeds)}")
            cells = (
                f"{change(r)}\nproblems {_bare(r.problems_low, r.problems_high)}{_ratio(t)}",
                f"{p_value(t.p)}\n{flips}",
                f"{p_value(t.p_holm)}\n{t.family}",
                size,
                "-" if margin is None else f"{margin:g}" + _against(r, t.margin),
            )
        cells = (*cells, f"{t.verdict}: {t.missing}" if t.missing else t.verdict)
        rows.append((name, t.on, *cells))
    head = ("hypothesis", "on", "estimate", "p", "Holm p, family", "size", "margin", "verdict")
    note = (
        "Brackets: 95 % over problems and seeds; below over problems alone. p: two-sided t over both, of an "
        "equivalence the larger of two one-sided ones; flips: sign-flip tests of the mean, problems or seeds as "
        "blocks. Holm's step-down within a family, where a missing hypothesis counts with p = 1; verdicts are at 0.05."
    )
    return Table(head, rows, "graded.jsonl of the evaluations in comparison.json", note=note)


def _bare(low: float, high: float) -> str:
    return f"[{low:+.3f}, {high:+.3f}]"


def _ratio(tested: Tested) -> str:
    """Of a difference of logs the ratio that it is, with its interval."""
    if LOGS not in tested.side or LOGS not in tested.than:
        return ""
    mean, low, high = (math.exp(x) for x in (tested.result.mean, tested.result.low, tested.result.high))
    return f"\nratio {mean:.2f} [{low:.2f}, {high:.2f}]"


def _against(result: Crossed, margin: float | None) -> str:
    """Where the interval lies to one side of the margin of interest: which."""
    if margin is None:
        return ""
    return ": more" if result.low > margin else ": less" if result.high < margin else ""


def arms(numbers: Numbers, on: str | None = None) -> Table:
    """One row an arm, over all problems or those of a benchmark: pass@1, greedy, differences to the baseline, length.

    Without columns of greedy answers where no arm has any.
    """
    overall, rows = on or _overall(numbers), []
    scores = {name: _score(numbers, name, overall) for name in numbers["arms"]}
    greedily = any(s.greedy is not None for s in scores.values())
    for name, s in scores.items():
        seeds = s.per_seed.values()
        spread = f"{min(seeds):.3f} to {max(seeds):.3f}" if len(seeds) > 1 else "one seed"
        greedy = "-" if s.greedy is None else f"{s.greedy:.3f}"
        d, g = (_difference(numbers, name, overall, m) for m in ("pass@1", "greedy"))
        alone = "" if s.problems_low is None else f"\n[{s.problems_low:.3f}, {s.problems_high:.3f}]"
        cells = (_both(d), _tested(d), *([_both(g)] if greedily else []), f"{s.tokens_mean:.1f}", f"{s.truncated:.1%}")
        rows.append((name, interval(s) + alone, spread, *([greedy] if greedily else []), *cells))
    baseline = numbers["baseline"]
    test = "sign test" if _score(numbers, baseline, overall).problems_low is None else "p"
    named, pair = (["greedy"], [f"greedy - {baseline}"]) if greedily else ([], [])
    head = ("arm", "pass@1", "over seeds", *named, f"pass@1 - {baseline}", test, *pair)
    how = "exact, two-sided" if test == "sign test" else "t over both; flips: sign-flip test of the mean over problems"
    note = f"Benchmark {on or _on(numbers)}. {_brackets(numbers)} {test[0].upper()}{test[1:]}: {how}."
    return Table((*head, "tokens", "truncated"), rows, "graded.jsonl of the evaluations in comparison.json", note=note)


def _both(of: ArmDifference | None) -> str:
    """A difference with its interval, and the one over problems alone in a second line."""
    alone = of and of.problems_low is not None
    return change(of) + (f"\n{_bare(of.problems_low, of.problems_high)}" if alone else "")


def _tested(of: ArmDifference | None) -> str:
    """Its p, how many problems rose and fell, and the p of flipping problems."""
    return tested(of) + (f"\nflips {p_value(of.p_problems)}" if of and of.p_problems is not None else "")


def _left_out(numbers: Numbers) -> list[Text]:
    lines = {"Not complete and left out": numbers["left_out"]}
    lines["No test set counts, as these runs lack theirs"] = numbers.get("closed")
    return [Text(f"{what}: {'; '.join(runs)}.") for what, runs in lines.items() if runs]


def _slices(numbers: Numbers) -> list[Block]:
    blocks: list[Block] = []
    first = numbers["arms"][numbers["baseline"]]["scores"]
    rows = []
    for name in numbers["arms"]:
        cells = []
        for s in first:
            d = _difference(numbers, name, s, "pass@1")
            cells.append(f"{_score(numbers, name, s).mean:.3f}" + (f"\n{_both(d)}\n{_tested(d)}" if d else ""))
        rows.append((name, *cells))
    head = ("arm", *(f"{s}\nn={_score(numbers, numbers['baseline'], s).n}" for s in first))
    bins = [f"{name}: {text}" for name, text in numbers["bins"].items() if name in first]
    blocks.append(Table(head, rows, "the same answers", note=f"{'; '.join(bins)}.".capitalize() if bins else ""))
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
    rows = [  # older files lack some
        (name, *(f"{arm['costs'][c]:,.0f}" if c in arm["costs"] else "-" for c in COSTS))
        for name, arm in numbers["arms"].items()
    ]
    note = (
        "As if each arm had been run alone, means over seeds. Prompt tokens were read while sampling, cached ones too; "
        "distinct contents are texts trained on, without bridges; tokens trained on are those of all epochs."
    )
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
    over = "problems" if _score(numbers, names[0], overall).problems_low is None else "problems and seeds"
    ink, strong = "#6b7280", "#3b7dc4"  # legible on white and on black
    style = {"svg.fonttype": "none", "svg.hashsalt": "comparison", "text.parse_math": False, "font.size": 9}
    style |= dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), ink)
    with matplotlib.rc_context(style), drawing() as svg:
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
        fig.suptitle(f"95 % intervals over {over}; small dots: seeds", fontsize=9)
        return svg(fig)


def _overall(numbers: Numbers) -> str:
    """What arms are shown on first: that of the first registered hypothesis, else all benchmarks, or the only one."""
    scores = numbers["arms"][numbers["baseline"]]["scores"]
    first = next((row["on"] for row in numbers.get("hypotheses", ())), ALL)
    return first if first in scores else ALL if ALL in scores else next(iter(scores))


def _on(numbers: Numbers) -> str:
    """`_overall` in words."""
    overall, pooled = _overall(numbers), numbers.get("pooled")
    return f"{', '.join(pooled)} together" if overall == ALL and pooled else overall


def _score(numbers: Numbers, arm: str, on: str) -> ArmScore:
    return from_row(ArmScore, numbers["arms"][arm]["scores"][on])


def _difference(numbers: Numbers, arm: str, on: str, measure: str) -> ArmDifference | None:
    """Of one arm to the baseline; None for the baseline itself, and where nothing was compared."""
    keys = (arm, numbers["baseline"], on, measure)
    rows = ((tuple(d[k] for k in ("arm", "baseline", "on", "measure")), d) for d in numbers["differences"])
    row = next((d for of, d in rows if of == keys), None)
    return row and from_row(ArmDifference, {"p": row.get("p_sign"), **row})  # older files have a sign test's
