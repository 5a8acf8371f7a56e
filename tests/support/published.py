"""A small countdown experiment by hand: stores of which the answers, chains and redraws are known."""

from __future__ import annotations

import random
from pathlib import Path

import rows
from experiment import make
from places import RECIPES

from dpr_mini.files.rows import append_row, read_json, write_rows
from dpr_mini.recipe import load
from dpr_mini.types import Graded, Traced, Verdict

SETS = {"countdown-dev": 4, "countdown": 12, "sums": 6}
DEV = ("countdown-dev",)
SEEDS = (0, 1, 2)


def answer(benchmark: str, n: int, sample: int | None, first: bool, last: bool, tokens: int) -> Graded:
    """One to problem n; a chain of two attempts where the first is not what counts."""
    texts = ("3*7", "7*3") if last else ("3+7", "7-3")
    verdict = Verdict("correct" if last else "wrong", texts[n % 2], "answer/executed")
    attempts = ((texts[0], first), (texts[1], last)) if first is not last else ((texts[0], last),)
    reviews = tuple((i, ok, True, i == 0) for i, (_, ok) in enumerate(attempts))
    vote = None if sample is None else verdict.extracted
    more = {"attempt": first, "vote": vote, "verdict": verdict, "behaviours": None, "tokens": tokens}
    trace = Traced(attempts, reviews, distinct=5, size=20, deflated=18)
    return rows.graded(f"{benchmark}{n:03d}", sample, last, benchmark, first=first, trace=trace, **more)


def answers(draw: random.Random, sets: tuple[str, ...], samples: int, first: float, mends: float) -> list[Graded]:
    """Answers right at first with one chance, mended with another; the longer the later they are right."""
    out = []
    for benchmark in sets:
        for n in range(SETS[benchmark]):
            for sample in (*range(samples), None):
                begun = draw.random() < first
                ended = begun or draw.random() < mends
                out.append(
                    answer(benchmark, n, sample, begun, ended, 8 + 6 * (ended and not begun) + draw.randrange(3))
                )
    return sorted(out, key=lambda a: a.id)


def publishable(runs: Path, seeds: tuple[int, ...] = SEEDS, extra: tuple[str, ...] = ()) -> Path:
    """An experiment's folder with the base, the plain arm (sixteen answers, redraws) and the dialogue arm."""
    hypotheses = [h.model_dump(mode="json") for h in load(RECIPES / "countdown" / "countdown.yaml").hypotheses]
    test = tuple(s for s in SETS if s not in DEV)
    arms = {"countdown-base": (4, 0.3, 0.0, 0), "countdown-plain": (16, 0.4, 0.0, 1)}
    arms |= dict.fromkeys(("countdown-dialogue", *extra), (4, 0.4, 0.3, 1))
    for name, (samples, first, mends, phase) in arms.items():
        for seed in seeds:
            draw = random.Random(f"{name} {seed}")
            at = f"eval-{phase}"
            evaluations = {n: answers(draw, s, samples, first, mends) for n, s in ((at, DEV), (f"{at}-test", test))}
            if phase:
                evaluations = {"eval-0": answers(draw, DEV, 4, 0.3, 0.0), **evaluations}
            more = {"phases": [phase] if phase else [], "hypotheses": hypotheses, "evaluate": {"samples": samples}}
            home = make(runs, name, seed, evaluations, **more)
            if samples > 4:
                for title, graded in evaluations.items():
                    drawn = [a for a in graded if a.sample in range(4)]
                    folder = home / read_json(home / "latest.json")["stages"][title]
                    write_rows(folder / "redrawn.jsonl", (a.to_row() for a in drawn))
    store = runs / "exp"
    line = {"opened": f"2026-01-0{seeds[0] + 1}T00:00:00Z", "recipe": "countdown-base", "seed": seeds[0]}
    append_row(store / "test-opened.jsonl", {**line, "commit": "abc", "sets": list(test), "problems": "0"})
    return store
