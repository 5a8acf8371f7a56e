"""Sections of the report on accuracy: the cards, what the numbers say, format or arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dpr_mini.reporting.document import Block, Points, Section, Table, Text
from dpr_mini.reporting.figures import Link
from dpr_mini.reporting.results import COMPARISONS, FEWEST, Change, Results, Word
from dpr_mini.reporting.words import FEWEST_IN_PROSE, cell, change, p_value, said_change, size, up_and_down

NAMES = {
    "official": "official",
    "first_result": "first result",
    "last_number": "last number",
    "format": "format",
}
CHANGED: dict[Word, str] = {"improved": "gain", "got worse": "loss"}


def headline(results: Results, recipe: Mapping[str, Any], to: Link) -> Section:
    models, config = results.models, recipe["evaluate"]
    if not models:
        return Section("Accuracy")
    rows = []
    for b in results.benchmarks:
        cells = (cell(m.cards[b], bool(m.answers(b, greedy=True))) for m in models)
        rows.append((f"{b}\n{size(models[0].cards[b])}", *cells))
    table = Table(
        ("benchmark", *(m.label for m in models)),
        rows,
        results.graded(),
        note=f"pass@1: mean over n problems of the share of k samples that are right, T={config['temperature']:g}, "
        f"top-p {config['top_p']:g}, at most {config['max_new_tokens']} new tokens; in brackets the 95 % "
        "interval over problems. Greedy: one answer at T=0.",
        links={
            (i, j): to("answers", m.label, b) for i, b in enumerate(results.benchmarks) for j, m in enumerate(models, 1)
        },
    )
    blocks: list[Block] = [table]
    if len(models) > 1:
        rows = [
            (
                f"{c.after} vs {c.before}",
                c.benchmark,
                change(c.difference, "\n"),
                change(results.difference(c.before, c.after, c.benchmark, "greedy"), "\n"),
                f"{p_value(c.difference)}\n{up_and_down(c.difference)}",
            )
            for c in results.by_measure("official")
        ]
        note = "Differences on the same problems, 95 % t interval over problems; p: two-sided sign-flip "
        note += "test of the mean."
        head = ("comparison", "benchmark", "pass@1", "greedy", "p (pass@1)")
        blocks.append(Table(head, rows, results.graded("graded.jsonl"), "Paired differences", note))
    return Section("Accuracy", blocks)


def verdicts(results: Results) -> Section:
    """One line a comparison and benchmark, and one for greedy answers to all; no word without its interval."""
    points = []
    greedy = [c for c in results.by_measure("greedy") if c.benchmark == results.overall]
    for c in [*results.by_measure("official"), *greedy]:
        d = c.difference
        what = {
            "no change shown": "; no change that this many problems could show",
            "too few problems": f"; fewer than {FEWEST} problems, nothing is claimed",
        }.get(c.verdict, "; weak: the sign-flip test alone would not claim it" if d.p > 0.05 else "")
        name = "pass@1" if c.measure == "official" else "greedy accuracy"
        n = "" if d.n < FEWEST_IN_PROSE else f", n={d.n}"
        numbers = f"{name} {said_change(d)}{n}, sign-flip p {p_value(d)}{what}."
        points.append((c.verdict, f"{c.before} to {c.after} on {c.benchmark}: {numbers}"))
    if not points:
        return Section("What the numbers say")
    caution = (
        f"Each line is a 95 % interval of its own: of {len(points)} such lines about {len(points) * 0.05:.1f} would "
        "exclude zero by chance. One seed; another run of training may come out differently."
    )
    first, last = results.models[0].label, results.models[-1].label
    ends = (results.change(first, last, results.overall, m) for m in ("official", "greedy"))
    words = [c and c.verdict for c in ends]
    sharper = (
        f"From {first} to {last} sampled answers improved and greedy ones show no change: the model says more often "
        "what it could say before, which is not the same as being able to do more."
    )
    plain = [Text(sharper)] if words == ["improved", "no change shown"] else []
    return Section("What the numbers say", [Points(points), *plain, Text(caution)])


def format_or_arithmetic(results: Results, to: Link) -> Section:
    if not results.models:
        return Section("Format or arithmetic?")
    rows, revisions, links = [], [], {}
    for b in results.benchmarks:
        for m in results.models:
            c = m.cards[b]
            shares = (f"{x:.3f}" for x in (c.mean, c.first_result, c.last_number))
            rows.append((b, m.label, *shares, f"{c.truncated:.1%}", f"{c.unparsed:.1%}", str(c.timeouts)))
            if c.revised:
                each = m.answers(b)
                first = sum(a.attempt is True for a in each) / c.revised
                last = sum(a.right for a in each if a.attempt is not None) / c.revised
                share = f"{c.revised} of {len(each)}"
                changes = (f"{x:.3f}" for x in (c.wrong_to_right, c.right_to_wrong))
                if b == results.overall:
                    links |= {(len(revisions), 5): to("wrong to right", m.label)}
                    links |= {(len(revisions), 6): to("right to wrong", m.label)}
                revisions.append((b, m.label, share, f"{first:.3f}", f"{last:.3f}", *changes))
    source = results.graded()
    blocks: list[Block] = [
        Text(
            "A model can gain by writing its answer where the grader looks (format), or by getting more answers right. "
            "The same answers are therefore scored twice more: by the last number in the text, whatever stands around "
            "it, and by the first result (the first number after an equals sign, 'is' or 'answer'). A gain in official "
            "accuracy that the last number does not show is format; so is one that the first result does not show: "
            "the answer was there and something else was said after it."
        ),
        Table(
            ("benchmark", "model", "official", "first result", "last number", "truncated", "unparsed", "timeouts"),
            rows,
            source,
            note="Shares of the sampled answers; timeouts are answers that the grader gave up on.",
        ),
    ]
    if pairs := _pairs(results):
        b = results.overall
        rows = [(f"{y} vs {x}", *(change(results.difference(x, y, b, m), "\n") for m in NAMES)) for x, y in pairs]
        note = "Paired differences with 95 % t intervals over problems; format: official minus last number."
        graded = results.graded("graded.jsonl")
        blocks.append(Table(("comparison", *NAMES.values()), rows, graded, f"The change by scorer, {b}", note))
        blocks.append(Points([("", _split(results, x, y)) for x, y in pairs]))
    if revisions:
        head = (
            "benchmark",
            "model",
            "answers that go on",
            "first attempt",
            "final",
            "wrong to right",
            "right to wrong",
        )
        note = "Answers with a joining sentence of the training chains in them: the text before it against the whole."
        title = "First attempt and final answer in one response"
        blocks.append(Table(head, revisions, source, title, note, links=links))
    else:
        blocks.append(Text("No answer of any model revises itself with one of the training chains' joining sentences."))
    return Section("Format or arithmetic?", blocks)


def _split(results: Results, before: str, after: str) -> str:
    """How much of an official change the other two scorers see, in words that the intervals allow."""
    by = by_scorer(results, before, after)
    official = by["official"]
    head = f"{before} to {after}: official {change(official.difference)}"
    if official.verdict not in CHANGED:
        return f"{head}: no change is shown, so there is nothing to divide."
    what = CHANGED[official.verdict]
    clauses = [
        f"the {NAMES[m]} sees {change(by[m].difference)}"
        + (f", {_ratio(by[m], official):.0%} of it" if by[m].verdict == official.verdict else f": no {what} shown")
        for m in ("last_number", "first_result")
    ]
    return f"{head}; {'; '.join(clauses)}. So {origin(by)} (format {change(by['format'].difference)})."


def by_scorer(results: Results, before: str, after: str) -> dict[str, Change]:
    """The change over all problems by each scorer of the same answers (NAMES)."""
    return {c.measure: c for m in NAMES if (c := results.change(before, after, results.overall, m))}


def origin(by: Mapping[str, Change]) -> str:
    """Whether an official change that is shown comes of format, in words that the scorers' intervals allow."""
    word = by["official"].verdict
    what = CHANGED[word]
    return {
        (True, False): f"no part of this {what} is shown to be format",
        (True, True): f"part of this {what} is format, part is not",
        (False, True): f"this {what} is one of format as far as these problems can tell",
        (False, False): f"these problems cannot tell whether this {what} is one of format",
    }[by["last_number"].verdict == word, by["format"].verdict == word]


def _ratio(part: Change, whole: Change) -> float:
    return part.difference.mean / whole.difference.mean


def _pairs(results: Results) -> list[tuple[str, str]]:
    labels = {m.label for m in results.models}
    return [(a, b) for a, b in COMPARISONS if a in labels and b in labels]
