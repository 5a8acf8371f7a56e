"""Precision and recall of the marker counters on hand-labelled text.

    python bench/behaviours.py            # prints a table, writes bench/results/behaviours.json

The text is tests/data/behaviours.jsonl: snippets of our own, labelled by the definitions in
dpr_mini/selection/behaviours.py. Patterns were tuned on the dev half only (odd ids); test is the even ids, of which
only totals were looked at. A snippet is predicted to show a behaviour where its count is above 0. Intervals are Wilson
95 % over snippets. One author wrote snippets, labels and patterns, so the test half measures new sentences of the same
author, not text of a model.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dpr_mini import store
from dpr_mini.selection import behaviours
from dpr_mini.types import Difficulty

ROOT = Path(__file__).parent.parent
DATA = ROOT / "tests" / "data" / "behaviours.jsonl"


def score(rows: Sequence[Mapping[str, Any]], counts: Sequence[Mapping[str, int]], name: str) -> dict[str, Any]:
    """Confusion counts of one behaviour, precision, recall and F1 with [low, high] of the first two."""
    pairs = [(bool(row[name]), count[name] > 0) for row, count in zip(rows, counts, strict=True)]
    right = sum(label and found for label, found in pairs)
    found, labelled = sum(f for _, f in pairs), sum(label for label, _ in pairs)
    hits = Difficulty(name, found, right), Difficulty(name, labelled, right)
    return {
        "n": len(pairs),
        "labelled": labelled,
        "hard_negatives": sum(name in row["near"] for row in rows),
        "found": found,
        "both": right,
        "precision": round(hits[0].rate, 4),
        "precision_interval": [round(v, 4) for v in hits[0].interval],
        "recall": round(hits[1].rate, 4),
        "recall_interval": [round(v, 4) for v in hits[1].interval],
        "f1": round(2 * right / max(found + labelled, 1), 4),
    }


def halves(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    return {"dev": [r for r in rows if r["id"] % 2], "test": [r for r in rows if not r["id"] % 2]}


def main() -> None:
    rows = list(store.read_rows(DATA))
    table = {
        half: {name: score(of, [behaviours.count(r["text"]) for r in of], name) for name in behaviours.NAMES}
        for half, of in halves(rows).items()
    }
    print(f"{'half':5} {'behaviour':13} {'n':>4} {'pos':>4} {'near':>4}  precision            recall               F1")
    for half, scores in table.items():
        for name, s in scores.items():
            shown = "  ".join(
                f"{s[k]:.2f} [{s[f'{k}_interval'][0]:.2f}, {s[f'{k}_interval'][1]:.2f}]   "
                for k in ("precision", "recall")
            )
            print(f"{half:5} {name:13} {s['n']:4} {s['labelled']:4} {s['hard_negatives']:4}  {shown} {s['f1']:.2f}")
    text = "\n".join(r["text"] for r in rows)
    begun = time.process_time()
    behaviours.count(text)
    speed = len(text) / (time.process_time() - begun)
    print(f"{speed / 1e6:.2f} million characters a second of CPU time, one thread")
    conditions = {
        "data": DATA.relative_to(ROOT).as_posix(),
        "snippets": len(rows),
        "halves": "dev: odd ids, patterns tuned on it; test: even ids, only its totals were looked at",
        "intervals": "Wilson 95 % over snippets",
        "author": "snippets, labels and patterns by one author; no text of a model among them",
        "characters_per_cpu_second": round(speed),
    }
    store.write_json(ROOT / "bench" / "results" / "behaviours.json", {"conditions": conditions, "halves": table})


if __name__ == "__main__":
    main()
