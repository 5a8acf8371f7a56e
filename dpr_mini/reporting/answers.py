"""The report's sections on answers: the figures, how long they are, which behaviours they show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dpr_mini.reporting import executed, figures
from dpr_mini.reporting.document import Figures, Section, Table
from dpr_mini.reporting.figures import Link
from dpr_mini.reporting.results import Model, Results
from dpr_mini.scoring.stats import bootstrap, lengths, pass_rates
from dpr_mini.types import Graded


def gallery(results: Results, to: Link) -> Section:
    """Every figure but that of accuracy, which stands on the first screen, with where its numbers come from."""
    drawings: list[tuple[str, str]] = []

    def add(svgs: list[str], *captions: str) -> None:
        drawings.extend(zip(svgs, captions, strict=True))

    if results.models:
        cards, graded = results.graded(), results.graded("graded.jsonl")
        add(
            figures.growth({m.label: by_verdict(m) for m in results.models}, to),
            "Means over problems with 95 % bootstrap intervals. Right answers come from easier problems: compare one "
            f"kind over models. Dashes: the paper's authors claim chains more than 4 times longer. From {graded}.",
        )
        tokens = {m.label: [a.tokens for a in m.answers()] for m in results.models}
        add(figures.length(tokens), f"x: ratio of means to {next(iter(tokens))}. From {graded}.")
        shares = {m.label: m.cards[results.overall].behaviours for m in results.models}
        counts = {label: len(values) for label, values in tokens.items()}
        if all(shares.values()):  # none are counted in answers to tasks
            add(figures.behaviours(shares, counts, to), f"Word patterns (behaviours.py). From {cards}.")
        revised = {m.label: m.cards[results.overall].revised for m in results.models}
        if any(revised.values()):
            changed = {m.label: changes(m.answers()) for m in results.models}
            note = "Answers that go on after a first attempt: its verdict against that of the whole. "
            add(figures.revisions(changed, revised, to), f"{note}From {graded}.")
    if results.bins:
        note = "Upper bars: right among the probe's equal draws for every problem, before the rules. "
        source = f"From {results.source('sample-2', 'budgets.jsonl')}, {results.source('filter-2', 'rows.jsonl')}."
        each = "The same for each problem; dashes: the quota. "
        add(figures.difficulty(results.bins, to), note + source, each + source)
    if any(results.drops.values()):
        dropped = {role: by for role, by in results.drops.items() if by}
        add(figures.drops(dropped, to), f"From {', '.join(results.source(r, 'drops.jsonl') for r in results.drops)}.")
    trained = {f"phase {i}": f"train-{i}" for i in (1, 2) if f"train-{i}" in results.at}
    if trained:
        steps = {label: list(results.rows(role, "metrics.jsonl")) for label, role in trained.items()}
        add(figures.losses(steps), f"From {', '.join(results.source(r, 'metrics.jsonl') for r in trained.values())}.")
    seconds, tokens_spent = spent(results)
    order = list(results.at)
    add(figures.spending("Time by stage", "seconds", seconds, order), "From stage.json of every stage.")
    if tokens_spent:
        note = "New: generated; trained: seen in training, all epochs; prompts are counted as often as they were sent."
        bars = figures.spending("Tokens by stage", "tokens", tokens_spent, order)
        add(bars, f"{note} From stage.json of the stages named.")
    return Section("Figures", [Figures(drawings)])


def by_verdict(model: Model) -> dict[str, tuple[float, float, float] | None]:
    """(mean, low, high) tokens of all, right and wrong sampled answers; a problem's are averaged first."""
    mean = {kind: list(pass_rates(of, lambda a: a.tokens).values()) for kind, of in kinds(model.answers()).items()}
    return {kind: bootstrap(values) if values else None for kind, values in mean.items()}


def kinds(answers: list[Graded]) -> dict[str, list[Graded]]:
    """The answers, those of them that are right, and those that are not."""
    return {"all": answers, "right": [a for a in answers if a.right], "wrong": [a for a in answers if not a.right]}


def changes(answers: Iterable[Graded]) -> dict[str, int]:
    """Answers whose first attempt and final answer differ in verdict."""
    final = [(a.attempt, a.right) for a in answers if a.attempt is not None]
    return {
        "wrong to right": sum(after and not before for before, after in final),
        "right to wrong": sum(before and not after for before, after in final),
    }


def spent(results: Results) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, float]]]:
    """({kind: {stage: seconds}}, {kind: {stage: tokens}}); kinds without any are left out."""
    seconds: dict[str, dict[str, float]] = {"generating": {}, "training": {}, "other": {}}
    tokens: dict[str, dict[str, float]] = {"new": {}, "trained": {}, "prompts": {}}
    for role, manifest in results.manifests.items():
        name, metrics = role, manifest["metrics"]
        kind = "generating" if role in results.generating else "training" if role.startswith("train") else "other"
        seconds[kind][name] = manifest["seconds"]
        if kind == "generating":
            tokens["new"][name] = metrics["tokens"]
            tokens["prompts"][name] = sum(t["prompt_tokens"] for t in metrics["turns"])
        elif kind == "training":
            tokens["trained"][name] = metrics["tokens"]
    return {k: v for k, v in seconds.items() if v}, {k: v for k, v in tokens.items() if v}


def length_table(results: Results, recipe: Mapping[str, Any], to: Link) -> Section:
    rows, links = [], {}
    for b in results.benchmarks:
        for which in ("all", "right", "wrong") if b == results.overall else ("all",):
            base = None
            for m in results.models:
                answers = kinds(m.answers(b))[which]
                length = lengths([a.tokens for a in answers])
                base = length if m is results.models[0] else base
                ratio = f"{length.mean / base.mean:.2f}" if length and base and base.mean else "-"
                cells = [f"{x:.1f}" for x in (length.mean, length.median, length.p90)] if length else ["-"] * 3
                cut = f"{sum(a.finish == 'length' for a in answers) / len(answers):.1%}" if answers else "-"
                links[len(rows), 4] = to("answers", m.label, b) if which == "all" else to(which, m.label)
                rows.append((b, which, m.label, str(len(answers)), *cells, ratio, cut))
    if not rows:
        return Section("Length of answers")
    head = ("benchmark", "answers", "model", "n", "mean", "median", "p90", f"x {results.models[0].label}", "truncated")
    note = (
        f"Generated tokens of the sampled answers, cut at {recipe['evaluate']['max_new_tokens']}. Right answers come "
        "from easier problems: compare right with right over models, not right with wrong. The paper's authors report "
        "chains more than 4 times longer after training."
    )
    source = results.graded("graded.jsonl")
    return Section("Length of answers", [Table(head, rows, source, note=note, links=links)])


def behaviour_table(results: Results, to: Link) -> Section:
    """Two kinds of count side by side: word patterns, and lines that were carried out (by us, exactly)."""
    worded = [m for m in results.models if m.cards[results.overall].behaviours]
    shares = {(m.label, "answers"): m.cards[results.overall].behaviours for m in worded}
    for role in results.drops:
        metrics = results.metrics(role)
        shares |= {(role, "drawn"): metrics["behaviours"], (role, "kept"): metrics["kept_behaviours"]}
    if not shares:
        return Section("Behaviours")
    names = list(next(iter(shares.values())))
    done = executed.shares(results)
    rows = [
        (f"{label.replace('_', '-')}, {what}", *(f"{by[n]:.1%}" for n in names), *_executed(done.get((label, what))))
        for (label, what), by in shares.items()
    ]
    links = {(i, j): to(n, m.label) for i, m in enumerate(worded) for j, n in enumerate(names, 1)}
    note = (
        f"{names[0].capitalize()} to {names[-1]}: share of responses that show the behaviour by word patterns, a lower "
        "bound (behaviours.py; precision and recall on labelled snippets: bench/results/behaviours.json). An "
        "announcement that only repeats what stands there, such as 'Let me check: 6 * 3 = 18' after 6 * 3 = 18, does "
        "not count. Executed check: share of responses with a checking line (an equation behind 'Check:', or one after "
        "the answer that computes with it and comes back to a known number) that is true when calculated exactly, has "
        "the answer or a number of the problem in it, and is not a copy of a line before it; below it the shares with "
        "a line that is each of these. Chained result: a true equation computes with an earlier one's result. Both run "
        "equations between plain numbers (checks.py), are mostly a lower bound, and enter no score."
    )
    source = ", ".join(results.source(r) for r in (*results.evaluations, *results.drops))
    if done:
        source += "; executed: rows.jsonl of the dialogues"
    head = ("responses", *names, "executed check (equations run)", "chained result (equations run)")
    return Section("Behaviours", [Table(head, rows, source, note=note, links=links)])


def _executed(shares: Mapping[str, float] | None) -> tuple[str, str]:
    if shares is None:
        return "no dialogues", "no dialogues"
    parts = f"true {shares['true']:.1%}, about the answer {shares['about']:.1%}, different {shares['different']:.1%}"
    return f"{shares['executed']:.1%}\n{parts}", f"{shares['chained']:.1%}"
