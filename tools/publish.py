"""Put a finished run's numbers where the README shows them, so that no number is typed by hand.

    python tools/publish.py runs/smollm2-cpu [more runs ...]
    python tools/publish.py runs/smollm2-cpu/comparison.json      (what `dpr-mini compare` wrote)

Copies each run's scorecards.json (numbers with their conditions) and its accuracy figure to bench/results/<name>.*,
and rewrites the README between the markers `<!-- <name> -->` and `<!-- end <name> -->` where it has them. Of a
comparison: comparison.json and its figure, and the table of arms.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dpr_mini import store
from dpr_mini.reporting import comparison, figures
from dpr_mini.reporting.results import Results
from dpr_mini.runs import read_latest
from dpr_mini.types import Dialogue, from_row

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results"


def publish(run: Path) -> None:
    latest = read_latest(run)
    name = latest["recipe"]["name"]
    folders = {role: run / f for role, f in latest["stages"].items() if role != "report"}
    results = Results({role: f for role, f in folders.items() if (f / store.MANIFEST).exists()})
    seconds = {role: manifest["seconds"] for role, manifest in results.manifests.items()}
    store.write_json(
        RESULTS / f"{name}.json",
        {**store.read_json(run / "scorecards.json"), "seconds": seconds},
    )
    (drawn,) = figures.accuracy({m.label: m.cards for m in results.models})
    alone = drawn.replace(
        "<svg ", '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" ', 1
    )
    store.write_text(RESULTS / f"{name}.svg", alone.replace("currentColor", "#6b7280"))
    told = into_readme(name, lambda: summary(results, latest["recipe"], sum(seconds.values())))
    print(f"{name}: bench/results/{name}.json, .svg{told}")


def into_readme(name: str, block: Callable[[], str]) -> str:
    """Put a block between its markers; what to say of it."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    marked = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- end {re.escape(name)} -->)", re.DOTALL)
    if not marked.search(readme):
        return ""
    text = block()
    store.write_text(ROOT / "README.md", marked.sub(lambda m: m[1] + text + m[2], readme))
    return ", README.md"


def publish_comparison(file: Path) -> None:
    numbers, name = store.read_json(file), file.stem
    store.write_json(RESULTS / f"{name}.json", numbers)
    store.write_text(RESULTS / f"{name}.svg", file.with_suffix(".svg").read_text(encoding="utf-8"))

    def block() -> str:
        table = comparison.arms(numbers)
        rows = [table.head, ("---",) * len(table.head), *table.rows]
        lines = ["| " + " | ".join(cell.replace("\n", " ") for cell in row) + " |" for row in rows]
        return "\n".join(["", *lines, "", f"![difference to the baseline](bench/results/{name}.svg)", "", ""])

    print(f"{name}: bench/results/{name}.json, .svg{into_readme(name, block)}")


def summary(results: Results, recipe: dict[str, Any], seconds: float) -> str:
    """Table, conditions, what the numbers say, figure, one dialogue: the README's first screen."""
    models = results.models
    lines = [
        f"| pass@1 of k samples (greedy) | {' | '.join(m.label for m in models)} | {models[-1].label} - base, paired |",
        "| --- |" + " --- |" * (len(models) + 1),
    ]
    for b in results.benchmarks:
        first = models[0].cards[b]
        cells = [
            f"{m.cards[b]['mean']:.3f} [{m.cards[b]['low']:.3f}, {m.cards[b]['high']:.3f}] ({m.cards[b]['greedy']:.2f})"
            for m in models
        ]
        d = results.difference("base", models[-1].label, b)
        cells.append(f"{d['mean']:+.3f} [{d['low']:+.3f}, {d['high']:+.3f}], p = {d['p_sign']:.2g}")
        lines.append(f"| {b}, n={first['n']}, k={first['k']} | " + " | ".join(cells) + " |")
    tokens = [m.cards[results.overall]["tokens_mean"] for m in models]
    manifest = results.manifests[list(results.at)[-1]]
    machine, versions = manifest["machine"], manifest["versions"]
    scorers = [
        f"{label} {models[0].cards[results.overall][key]:.3f} -> {models[-1].cards[results.overall][key]:.3f}"
        for label, key in (("official", "mean"), ("first result", "first_result"), ("last number", "last_number"))
    ]
    example = next(r for r in results.rows("filter-1") if r["kind"] == "corrected")
    talk: Dialogue = from_row(Dialogue, example["dialogue"])
    said = [f"> **{t.instruction}:** {one_line(t.prompt)}<br>\n> **model:** {one_line(t.text)}" for t in talk.turns]
    name = recipe["name"]
    return "\n".join(
        [
            "",
            *lines,
            "",
            f"One run, seed {recipe['seed']}; intervals: 95 % bootstrap over problems; p: exact sign test. "
            f"T={recipe['evaluate']['temperature']:g}, top-p {recipe['evaluate']['top_p']:g}. "
            f"{machine['cores']} cores of {machine['cpu']}, no GPU, {seconds / 60:.1f} minutes for all stages; "
            f"torch {versions['torch']}, {results.metrics('eval-0-answers')['engine']}. "
            f"Raw: [`bench/results/{name}.json`](bench/results/{name}.json).",
            "",
            f"Mean answer length: {' -> '.join(f'{t:.0f}' for t in tokens)} tokens. "
            f"By three scorers of the same answers: {'; '.join(scorers)}. "
            + changed_minds(models[-1].cards[results.overall], models[-1].label),
            "",
            f"![pass@1 by phase](bench/results/{name}.svg)",
            "",
            f"A dialogue of the base model with itself that the rules kept, unedited ({talk.id}):",
            "",
            "\n>\n".join(said),
            "",
            "",
        ]
    )


def changed_minds(card: dict[str, Any], label: str) -> str:
    """What the second thoughts inside an answer did."""
    n = card["revised"]
    mended, spoiled = (round(card[k] * n) for k in ("wrong_to_right", "right_to_wrong"))
    return (
        f"Of {label}'s {n} answers that go on after a first attempt, {mended} turn from wrong to right, {spoiled} back."
    )


def one_line(text: str) -> str:
    """Text as one Markdown line; what a model wrote cannot become markup."""
    escaped = re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", text.strip())
    return escaped.replace("\n", " ⏎ ")


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        publish_comparison(path) if path.suffix == ".json" else publish(path)
