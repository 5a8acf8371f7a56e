"""Runs of an experiment by hand: evaluations whose answers are known, and what training needs before them."""

from __future__ import annotations

from pathlib import Path

import rows

from dpr_mini import recipe as recipes
from dpr_mini.files.rows import write_json, write_rows
from dpr_mini.scoring.card import score_all
from dpr_mini.types import Dialogue, Graded, Kept, Turn, to_row

PROBLEMS = [f"{b}{i:02d}" for b in ("one", "two") for i in range(10)]


def graded(problem: str, sample: int | None, right: bool) -> Graded:
    return rows.graded(problem, sample, right, problem[:3], tokens=10 + 5 * right)


def kept(name: str, *texts: str) -> Kept:
    turns = tuple(Turn("solve", "How many?", (1,), text, "stop") for text in texts)
    return rows.kept(Dialogue(name, name[0], int(name[-1]), turns, "made", 0), *[rows.RIGHT] * len(turns))


# The second says what the first does, behind a bridge; the last was kept and not packed.
KEPT = [
    kept("a#0", "It is 7.", "it is 7."),
    kept("a#1", "It is 7. Let me check. It is 7."),
    kept("b#0", "It is 7."),
    kept("c#0", "8"),
]


def stage(store: Path, name: str, metrics: dict, graded: list[Graded] | None = None) -> str:
    folder = store / f"{name}-{len(list(store.iterdir())):08x}"
    folder.mkdir(parents=True)
    if graded is not None:
        write_rows(folder / "graded.jsonl", (a.to_row() for a in graded))
    facts = {"machine": {"cpu": "made", "cores": 2}, "versions": {"python": "3.11"}, "commit": "abc"}
    config = {"bridges": {"verify": "Let me check."}}
    write_json(folder / "stage.json", {"metrics": metrics, "config": config, "seconds": 2.0, **facts})
    return folder.name


def answers(rates: dict[str, list[int]], greedy: bool = True) -> list[Graded]:
    """Problem -> right or wrong of each sample; the first is the greedy one's too."""
    sampled = [graded(p, i, bool(right)) for p, each in rates.items() for i, right in enumerate(each)]
    return sampled + [graded(p, None, bool(each[0])) for p, each in rates.items() if greedy]


def cards(graded: list[Graded]) -> dict:
    scored = score_all(graded, list(dict.fromkeys(a.benchmark for a in graded)))
    return {"engine": "scripted", "cards": {name: card.to_row() for name, card in scored.items()}}


def make(runs: Path, name: str, seed: int, evaluations: dict[str, list[Graded]], **more) -> Path:
    """A run of an experiment in `runs`/exp: its evaluations, and what training needs before them."""
    store = runs / "exp"
    store.mkdir(parents=True, exist_ok=True)
    asked = {"name": name, "store": "exp", "seed": seed, **more}
    benchmarks = {"one", *(a.benchmark for graded in evaluations.values() for a in graded)}
    sets = {benchmark: [{"file": "none"}] for benchmark in sorted(benchmarks)}
    asked["problems"] = {"train": [{"file": "none"}], "held_out": sets}
    made = recipes.parse(asked, "made").model_dump(mode="json")
    stages = {"problems": stage(store, "problems", {})}
    for title, graded in evaluations.items():
        if title == "eval-1":
            each = [{"answers": 40, "prompt_tokens": 900}, {"answers": 38, "prompt_tokens": 1100}]
            stages["dialogue-1"] = stage(store, "dialogue-1", {"turns": each, "tokens": 500})
            stages["filter-1"] = stage(store, "filter-1", {"kept": 20 + seed})
            write_rows(store / stages["filter-1"] / "rows.jsonl", map(to_row, KEPT))
            stages["pack-1"] = stage(store, "pack-1", {})
            write_rows(store / stages["pack-1"] / "rows.jsonl", [{"samples": ["a#0", "a#1"]}, {"samples": ["b#0"]}])
            stages["train-1"] = stage(store, "train-1", {"trained_tokens": 1000 + 100 * seed, "steps": 7})
        stages[title] = stage(store, title, cards(graded), graded)
    home = store / "arms" / f"{name}-seed{seed}"
    home.mkdir(parents=True)
    write_json(home / "latest.json", {"recipe": made, "stages": {n: f"../../{f}" for n, f in stages.items()}})
    return home
