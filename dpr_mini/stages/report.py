"""The report: what improved, what did not, under which conditions. Every claim has an interval, every number a file.

Writes `report.html` (one page, nothing loaded from anywhere), `report.md` (the same blocks) and `scorecards.json`.
`results.py` has the numbers, `figures.py` the drawings, `samples.py` the dialogues behind them, `document.py` the page.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from dpr_mini.reporting import answers, data, samples
from dpr_mini.reporting.document import Block, Fold, Points, Section, Table, Text, render
from dpr_mini.reporting.figures import Link
from dpr_mini.reporting.results import COMPARISONS, FEWEST, GENERATING, Results
from dpr_mini.store import write_json, write_text

VERSION = 2
NAMES = {
    "official": "official",
    "first_result": "first result",
    "last_number": "last number",
    "format": "format",
}


def run(folder: Path, at: Mapping[str, Path], recipe: dict[str, Any]) -> dict[str, Any]:
    """Report on the complete stage folders in `at` (role -> folder); `recipe` is the resolved recipe.

    Stages that are not there (phases: 1, a run under way, no held-out problems) are left out and named.
    Raises StoreError for a stage whose files do not fit together.
    """
    results = Results(at)
    groups = samples.groups(results)
    to = samples.linker({key: group.anchor for key, group in groups.items()})
    sections = [
        _headline(results, recipe, to),
        _verdicts(results),
        _format_or_arithmetic(results, to),
        answers.gallery(results, to),
        answers.length_table(results, recipe, to),
        answers.behaviour_table(results, to),
        data.funnel(results, to),
        data.difficulty(results, to),
        data.excerpts(results),
        _conditions(results, recipe),
        Section("", list(groups.values())),
    ]
    title, lead = f"dpr-mini: {recipe['name']}", _lead(results, recipe)
    for name in ("report.html", "report.md"):
        write_text(folder / name, render(name, title, lead, sections))
    write_json(folder / "scorecards.json", _scorecards(results, recipe))
    return {"headline": _summary(results)}


def _lead(results: Results, recipe: Mapping[str, Any]) -> str:
    phases = recipe["phases"]
    done = f"{sum(f'train_{i}' in results.at for i in phases)} of {len(phases)} phases"
    done += " (phase 2 alone)" if list(phases) == [2] else ""
    engines = sorted({results.metrics(r)["engine"] for r in GENERATING if r in results.at})
    text = (
        f"{recipe['model']['name']} "
        + (f"taught itself in {done}" if phases else "as it is, untrained")
        + " (arXiv 2601.05616, with our own prompts, rules and settings), "
        f"seed {recipe['seed']}, scale {recipe['scale']:g}, engine {', '.join(engines)}."
    )
    if not results.models:
        return text + " Nothing was evaluated: the recipe has no held-out problems, or the run has not come that far."
    wanted = ["base", *(f"phase {i}" for i in phases)]
    missing = [label for label in wanted if label not in {m.label for m in results.models}]
    text += " Underlined numbers and most bars can be clicked: they show dialogues behind them."
    return text + (f" Not evaluated: {', '.join(missing)}." if missing else "")


# ---------------------------------------------------------------- accuracy


def _headline(results: Results, recipe: Mapping[str, Any], to: Link) -> Section:
    models, asked = results.models, recipe["evaluate"]
    if not models:
        return Section("Accuracy")
    rows = []
    for b in results.benchmarks:
        card = models[0].cards[b]
        cells = (_card(m.cards[b], bool(m.answers(b, greedy=True))) for m in models)
        rows.append((f"{b}\nn={card['n']}, k={card['k']}", *cells))
    table = Table(
        ("benchmark", *(m.label for m in models)),
        rows,
        results.graded(),
        note=f"pass@1: mean over n problems of the share of k samples that are right, T={asked['temperature']:g}, "
        f"top-p {asked['top_p']:g}, at most {asked['max_new_tokens']} new tokens; in brackets the 95 % bootstrap "
        "interval over problems. Greedy: one answer at T=0.",
        links={
            (i, j): to("answers", m.label, b) for i, b in enumerate(results.benchmarks) for j, m in enumerate(models, 1)
        },
    )
    blocks: list[Block] = [table]
    if len(models) > 1:
        rows = [
            (
                f"{d['after']} vs {d['before']}",
                d["benchmark"],
                _difference(d, "\n"),
                _difference(results.difference(d["before"], d["after"], d["benchmark"], "greedy"), "\n"),
                f"{_p(d)}\n{d['up']} up, {d['down']} down",
            )
            for d in results.of("official")
        ]
        note = "Differences on the same problems, 95 % bootstrap interval over problems; p: exact two-sided sign test "
        note += "over the problems whose pass rate changed."
        head = ("comparison", "benchmark", "pass@1", "greedy", "p (pass@1)")
        blocks.append(Table(head, rows, results.graded("graded.jsonl"), "Paired differences", note))
    return Section("Accuracy", blocks)


def _verdicts(results: Results) -> Section:
    """One line a comparison and benchmark, and one for greedy answers to all; no word without its interval."""
    points = []
    greedy = [d for d in results.of("greedy") if d["benchmark"] == results.overall]
    for d in [*results.of("official"), *greedy]:
        what = {
            "no change shown": "; no change that this many problems could show",
            "too few problems": f"; fewer than {FEWEST} problems, nothing is claimed",
        }.get(d["verdict"], "; weak: the sign test alone would not claim it" if d["p_sign"] > 0.05 else "")
        name = "pass@1" if d["measure"] == "official" else "greedy accuracy"
        numbers = f"{name} {_difference(d)}, n={d['n']}, sign test p {_p(d)}{what}."
        points.append((d["verdict"], f"{d['before']} to {d['after']} on {d['benchmark']}: {numbers}"))
    if not points:
        return Section("What the numbers say")
    caution = (
        f"Each line is a 95 % interval of its own: of {len(points)} such lines about {len(points) * 0.05:.1f} would "
        "exclude zero by chance. One seed; another run of training may come out differently."
    )
    first, last = results.models[0].label, results.models[-1].label
    words = [(results.difference(first, last, results.overall, m) or {}).get("verdict") for m in ("official", "greedy")]
    sharper = (
        f"From {first} to {last} sampled answers improved and greedy ones show no change: the model says more often "
        "what it could say before, which is not the same as being able to do more."
    )
    plain = [Text(sharper)] if words == ["improved", "no change shown"] else []
    return Section("What the numbers say", [Points(points), *plain, Text(caution)])


def _format_or_arithmetic(results: Results, to: Link) -> Section:
    if not results.models:
        return Section("Format or arithmetic?")
    rows, revisions, links = [], [], {}
    for b in results.benchmarks:
        for m in results.models:
            c = m.cards[b]
            shares = (f"{c['mean']:.3f}", *(f"{c[k]:.3f}" for k in ("first_result", "last_number")))
            rows.append((b, m.label, *shares, *(f"{c[k]:.1%}" for k in ("truncated", "unparsed")), str(c["timeouts"])))
            if c["revised"]:
                each = m.answers(b)
                first = sum(r["attempt_ok"] is True for r in each) / c["revised"]
                last = sum(r["status"] == "correct" for r in each if r["attempt_ok"] is not None) / c["revised"]
                share = f"{c['revised']} of {len(each)}"
                changes = (f"{c[k]:.3f}" for k in ("wrong_to_right", "right_to_wrong"))
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
        rows = [(f"{y} vs {x}", *(_difference(results.difference(x, y, b, m), "\n") for m in NAMES)) for x, y in pairs]
        note = "Paired differences with 95 % bootstrap intervals over problems; format: official minus last number."
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
    found = {m: results.difference(before, after, results.overall, m) for m in NAMES}
    official = found["official"]
    head = f"{before} to {after}: official {_difference(official)}"
    if official["verdict"] not in ("improved", "got worse"):
        return f"{head}: no change is shown, so there is nothing to divide."
    what = "gain" if official["verdict"] == "improved" else "loss"
    shown = {m: found[m]["verdict"] == official["verdict"] for m in found}
    seen = [
        f"the {NAMES[m]} sees {_difference(found[m])}"
        + (f", {found[m]['mean'] / official['mean']:.0%} of it" if shown[m] else f": no {what} shown")
        for m in ("last_number", "first_result")
    ]
    meaning = {
        (True, False): f"no part of this {what} is shown to be format",
        (True, True): f"part of this {what} is format, part is not",
        (False, True): f"this {what} is one of format as far as these problems can tell",
        (False, False): f"these problems cannot tell whether this {what} is one of format",
    }[shown["last_number"], shown["format"]]
    return f"{head}; {'; '.join(seen)}. So {meaning} (format {_difference(found['format'])})."


# ---------------------------------------------------------------- conditions


def _conditions(results: Results, recipe: Mapping[str, Any]) -> Section:
    facts = _facts(results, recipe)
    rows = [(name, value if isinstance(value, str) else ", ".join(value)) for name, value in facts.items()]
    stages = [
        (m["stage"], results.at[role].name, f"{m['seconds']:,.1f}", f"{m['peak_rss_gib']:.2f}", m["finished"])
        for role, m in results.manifests.items()
    ]
    note = "Peak memory is that of the process up to then (GiB): over stages of one process it never falls."
    head = ("stage", "folder", "seconds", "peak GiB", "finished (UTC)")
    dumped = yaml.safe_dump(dict(recipe), sort_keys=False, allow_unicode=True, width=110)
    source = "stage.json of every stage and the recipe"
    return Section(
        "Conditions",
        [
            Table(("what", "value"), rows, source, prose=True),
            Table(head, stages, "stage.json of the stages named", "Stages", note),
            Fold("The recipe, resolved", dumped),
        ],
    )


def _facts(results: Results, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Conditions by name; a list where stages were made under different ones."""

    def of(name: str) -> list[str]:
        return list(dict.fromkeys(_flat(m[name]) for m in results.manifests.values()))

    def draw(section: str) -> str:
        asked = recipe[section]
        return f"{asked['samples']} samples, " + ", ".join(
            f"{k} {asked[k]:g}" for k in ("temperature", "top_p", "max_new_tokens")
        )

    engines = list(dict.fromkeys(results.metrics(r)["engine"] for r in GENERATING if r in results.at))
    model = recipe["model"]["name"] + (f" @ {recipe['model']['revision']}" if recipe["model"]["revision"] else "")
    sampling = {"evaluate": "evaluation", "dialogue": "dialogue, each turn", "probe": "probe and phase-2 sampling"}
    return {
        "model": model,
        "engine": engines,
        "seed": str(recipe["seed"]),
        "scale": f"{recipe['scale']:g}",
        **{f"sampling: {label}": draw(section) for section, label in sampling.items()},
        "machine": of("machine"),
        "versions": of("versions"),
        "commit": [c or "none (not a checkout)" for c in of("commit")],
    }


def _scorecards(results: Results, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The machine-readable report: cards per model and benchmark, paired differences, conditions."""
    return {
        "name": recipe["name"],
        "models": {m.label: {"from": m.folder.name, "cards": m.cards} for m in results.models},
        "differences": results.differences,
        "conditions": {**_facts(results, recipe), "recipe": recipe},
        "stages": {role: folder.name for role, folder in results.at.items()},
    }


def _summary(results: Results) -> dict[str, Any]:
    """What `show` prints: pass@1 of every model on every benchmark, and the verdicts."""
    return {
        "pass@1": {b: {m.label: round(m.cards[b]["mean"], 4) for m in results.models} for b in results.benchmarks},
        "verdicts": dict(
            Counter(d["verdict"] for d in results.differences if d["measure"] == "official").most_common()
        ),
    }


# ---------------------------------------------------------------- words for numbers


def _card(card: Mapping[str, float], greedy: bool) -> str:
    """A card as a cell of three lines."""
    text = f"{card['mean']:.3f}\n[{card['low']:.3f}, {card['high']:.3f}]"
    return f"{text}\ngreedy {card['greedy']:.3f}" if greedy else text


def _difference(found: Mapping[str, float] | None, between: str = " ") -> str:
    return f"{found['mean']:+.3f}{between}[{found['low']:+.3f}, {found['high']:+.3f}]" if found else "-"


def _p(found: Mapping[str, float]) -> str:
    return "< 0.001" if found["p_sign"] < 0.001 else f"{found['p_sign']:.3f}"


def _pairs(results: Results) -> list[tuple[str, str]]:
    there = {m.label for m in results.models}
    return [(a, b) for a, b in COMPARISONS if a in there and b in there]


def _flat(value: Any) -> str:
    return ", ".join(f"{k} {v}" for k, v in value.items() if v != "") if isinstance(value, Mapping) else str(value)
