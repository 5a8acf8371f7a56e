"""Put a finished run's numbers where the documentation shows them, so that no number is typed by hand.

    python tools/publish.py runs/smollm2-cpu [more runs ...]
    python tools/publish.py runs/smollm2-cpu/comparison.json 2026-11-25-mix     (of `dpr-mini compare`; the experiment)
    python tools/publish.py --redraw bench/results/smollm2-cpu.json

Copies a run's scorecards.json (numbers with their conditions) and its accuracy figure to bench/results/<name>.*, and
rewrites the text between markers, where a file has them:

    docs/results.md   <!-- <name> -->      the table by benchmark, conditions, figure
    docs/results.md   <!-- dialogue -->    of the demo: one kept dialogue, drawn by a hash of its id
    docs/results.md   <!-- <experiment> --> of a comparison: the table of arms, what its intervals are over

each up to its `<!-- end ... -->`. A comparison and its figure go to bench/results/<experiment>/. Publishing again
changes nothing.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recompute_comparisons import recomputed

from dpr_mini import store
from dpr_mini.files.rows import read_json, write_json, write_text
from dpr_mini.reporting import comparison, figures, words
from dpr_mini.reporting.dialogues import KIND_WORDS
from dpr_mini.reporting.results import Results
from dpr_mini.reporting.samples import by_hash
from dpr_mini.runs import read_latest
from dpr_mini.scoring.scores import Card
from dpr_mini.scoring.stats import Difference
from dpr_mini.selection.rules import KINDS
from dpr_mini.types import ALL, Kept

ROOT = Path(__file__).parent.parent
RESULTS_PAGE = "docs/results.md"
DEMO = "smollm2-cpu"  # the recipe whose run has its example dialogue shown
NO_SEEDS = (
    f"Brackets: 95 % over problems alone, about this one training; none for fewer than {words.FEWEST_IN_PROSE} problems"
)


def publish(run: Path, root: Path = ROOT) -> None:
    """Write a run's numbers into the checkout `root`, and say where."""
    latest = read_latest(run)
    name = latest["recipe"]["name"]
    folders = {role: run / f for role, f in latest["stages"].items() if role != "report"}
    results = Results({role: f for role, f in folders.items() if (f / store.MANIFEST).exists()})
    seconds = {role: manifest["seconds"] for role, manifest in results.manifests.items()}
    numbers = {**read_json(run / "scorecards.json"), "seconds": seconds}
    _write(root, name, numbers, figure({m.label: m.cards for m in results.models}))
    fill(root / RESULTS_PAGE, name, summary(results, latest["recipe"], sum(seconds.values())))
    if name == DEMO:
        fill(root / RESULTS_PAGE, "dialogue", example(list(results.kept("filter-1"))))


def redraw(scorecards: Path) -> None:
    """Draw a published run's figure again from its numbers, beside them."""
    models = read_json(scorecards)["models"]
    cards = {label: {b: Card.from_row(card) for b, card in m["cards"].items()} for label, m in models.items()}
    write_text(scorecards.with_suffix(".svg"), figure(cards))
    print(scorecards.with_suffix(".svg"))


def figure(cards: Mapping[str, Mapping[str, Card]]) -> str:
    """pass@1 by phase as an SVG file of its own, legible on white and on black."""
    (drawn,) = figures.accuracy(cards)
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return drawn.replace("<svg ", f"<svg {names} ", 1).replace("currentColor", "#6b7280")


def publish_comparison(file: Path, experiment: str, root: Path = ROOT) -> None:
    """Write what `dpr-mini compare` wrote into the experiment's folder of the checkout `root`, and say where."""
    numbers, name = read_json(file), f"{experiment}/{file.stem}"
    _write(root, name, numbers, file.with_suffix(".svg").read_text(encoding="utf-8"))
    table = comparison.arms(numbers)
    rows = [[cell.replace("\n", " ") for cell in row] for row in table.rows]
    figure = f"![difference to the baseline](../bench/results/{name}.svg)"
    note = f"{table.note} {registered(numbers)}"
    lines = ["", *_table(table.head, rows), "", note, "", *with_seeds(numbers), figure, ""]
    fill(root / RESULTS_PAGE, experiment, lines)


def registered(numbers: dict[str, Any]) -> str:
    """How much was looked at, and how much of it was named before."""
    many, tests = len(numbers["differences"]), len(numbers.get("hypotheses") or ())
    if tests:
        return f"{tests} hypotheses were registered; the {many} differences in the file are exploratory."
    return f"No hypothesis was registered; of the {many} differences in the file every one is exploratory."


def with_seeds(numbers: dict[str, Any]) -> list[str]:
    """The baseline's differences over problems and seeds, of a file whose intervals are over problems alone; else none.

    As recompute_comparisons.py gives them, which also says how wide they are.
    """
    baseline = numbers["baseline"]
    rows: dict[str, dict[str, str]] = {}
    for d in numbers["differences"]:
        if d["baseline"] == baseline and d["on"] == ALL and "p_sign" in d:
            row = recomputed(d)
            said = f"{row['mean']:+.3f}, one seed"
            if row["low"] is not None:
                said = f"{row['mean']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}], {words.p_equals(row['p'])}"
            rows.setdefault(d["arm"], {})[d["measure"]] = said
    if not rows:
        return []
    head = ("95 % over problems and seeds", f"pass@1 - {baseline}", f"greedy - {baseline}")
    cells = [(arm, said.get("pass@1", "-"), said.get("greedy", "-")) for arm, said in rows.items()]
    return [*_table(head, cells), ""]


def _write(root: Path, name: str, numbers: dict[str, Any], svg: str) -> None:
    (root / "bench" / "results" / name).parent.mkdir(exist_ok=True)
    write_json(root / "bench" / "results" / f"{name}.json", numbers)
    write_text(root / "bench" / "results" / f"{name}.svg", svg)
    print(f"{name}: bench/results/{name}.json, .svg")


def fill(page: Path, name: str, lines: Sequence[str]) -> None:
    """Put lines between the markers `<!-- name -->` and `<!-- end name -->` of a page, or say that it has none."""
    marked = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- end {re.escape(name)} -->)", re.DOTALL)
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    if not marked.search(text):
        print(f"{page.name}: no markers <!-- {name} --> and <!-- end {name} -->, nothing to fill")
        return
    write_text(page, marked.sub(lambda m: "\n".join([m[1].rstrip(), *lines, m[2]]), text))
    print(f"{page.name}: <!-- {name} -->")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *rows)]


# ---------------------------------------------------------------- what is written


def summary(results: Results, recipe: dict[str, Any], seconds: float) -> list[str]:
    """The table by benchmark, the conditions, what the numbers say of length and format, the figure."""
    models, name, asked = results.models, recipe["name"], recipe["evaluate"]
    rows = []
    for b in results.benchmarks:
        cells = [_cell(m.cards[b]) for m in models]
        d = results.difference(models[0].label, models[-1].label, b)
        cells.append(f"{_change(d)}, {words.p_equals(d)}" if d else "-")
        rows.append((f"{b}, {words.size(models[0].cards[b])}", *cells))
    head = (
        "pass@1 of k samples (greedy)",
        *(m.label for m in models),
        f"{models[-1].label} - {models[0].label}, paired",
    )
    first, last = models[0].cards[results.overall], models[-1].cards[results.overall]
    tokens = " -> ".join(f"{m.cards[results.overall].tokens_mean:.0f}" for m in models)
    scorers = {
        "official": (first.mean, last.mean),
        "first result": (first.first_result, last.first_result),
        "last number": (first.last_number, last.last_number),
    }
    manifest = results.manifests[list(results.at)[-1]]
    machine, versions = manifest["machine"], manifest["versions"]
    return [
        "",
        *_table(head, rows),
        "",
        f"One run, seed {recipe['seed']}, scores of dev problems. {NO_SEEDS}; p: sign-flip test of the mean. "
        f"T={asked['temperature']:g}, top-p {asked['top_p']:g}. "
        f"{machine['cores']} cores of {machine['cpu']}, {machine['gpu'] or 'no GPU'}, "
        f"{seconds / 60:.1f} minutes for all stages; "
        f"torch {versions['torch']}, {results.metrics('eval-0-answers')['engine']}. "
        f"Raw: [`bench/results/{name}.json`](../bench/results/{name}.json).",
        "",
        f"Mean answer length: {tokens} tokens. By three scorers of the same answers: "
        + "; ".join(f"{label} {a:.3f} -> {b:.3f}" for label, (a, b) in scorers.items())
        + f". {_revised(last, models[-1].label)}",
        "",
        f"![pass@1 by phase](../bench/results/{name}.svg)",
        "",
    ]


def _cell(card: Card) -> str:
    score = words.interval(card) if card.n >= words.FEWEST_IN_PROSE else f"{card.mean:.3f}"
    return score + ("" if card.greedy is None else f" ({card.greedy:.2f})")


def _change(of: Difference) -> str:
    return words.change(of) if of.n >= words.FEWEST_IN_PROSE else f"{of.mean:+.3f}"


def _revised(card: Card, label: str) -> str:
    """What the second thoughts inside an answer did."""
    to_right, to_wrong = (round(share * card.revised) for share in (card.wrong_to_right, card.right_to_wrong))
    return (
        f"Of {label}'s answers, {card.revised} revise a first attempt: {to_right} become right, "
        f"{to_wrong} become wrong."
    )


def example(cases: Sequence[Kept]) -> list[str]:
    """One kept dialogue, drawn by a hash of its id, with how many there are of each kind."""
    by_id = {case.id: case for case in cases}
    case = by_id[by_hash(by_id, 1)[0]]
    counts = Counter(c.kind for c in cases)
    kinds = "; ".join(f"{counts[kind]} {kind} ({KIND_WORDS[kind]})" for kind in KINDS if counts[kind])
    lines = [
        "",
        f"One of phase 1's {len(cases)} kept dialogues, drawn by a hash of its id, unedited "
        f"({case.id}, {case.kind.replace('_', ' ')}).",
        f"Of all {len(cases)}: {kinds.replace('_', ' ')}.",
        "",
    ]
    for i, turn in enumerate(case.dialogue.turns):
        lines += [">"] if i else []
        lines += [f"> **{turn.instruction}:** {one_line(turn.prompt)}<br>", f"> **model:** {one_line(turn.text)}"]
    return [*lines, ""]


def one_line(text: str) -> str:
    """Text as one Markdown line; what a model wrote cannot become markup."""
    escaped = re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", text.strip())
    return escaped.replace("\n", " ⏎ ")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--redraw"]:
        redraw(Path(sys.argv[2]))
    elif len(sys.argv) == 3 and sys.argv[1].endswith(".json"):
        publish_comparison(Path(sys.argv[1]), sys.argv[2])
    elif len(sys.argv) > 1 and not any(argument.endswith(".json") for argument in sys.argv[1:]):
        for argument in sys.argv[1:]:
            publish(Path(argument))
    else:
        sys.exit(__doc__)
