"""Precision and recall of the marker counters on hand-labelled text.

    python bench/behaviours.py [FILE]     # prints a table, writes bench/results/behaviours.json

FILE is a JSON Lines file whose rows have "problem", "answer" and a "solution" that a person wrote (GSM8K's training
split): in how many of them each behaviour is found bounds the false alarms on plain text. Without FILE the earlier
counts stay.

The text is tests/data/behaviours.jsonl: snippets of our own, labelled by the definitions in
dpr_mini/selection/behaviours.py. Patterns were tuned on the dev half only (odd ids); test is the even ids, of which
only totals were looked at. A snippet is predicted to show a behaviour where its count is above 0. Intervals are Wilson
95 % over snippets. One author wrote snippets, labels and patterns, so the test half measures new sentences of the same
author, not text of a model.

tests/selection/held_back.jsonl holds further snippets for backtracking and backward reasoning, in the styles of several
reasoning models. Those of round 1 were written before the patterns were widened; half of them, by a hash of the text,
were not looked at while tuning ("untouched"). Rounds 2 to 9 were each met once (FIRST_CONTACT) and then tuned on, so
they are wholly tuning. Round 5 is by another author than the patterns and is nearest to what new text meets; rounds 6
to 9 are by the author of the patterns by kind, written to miss them. Round 10 was written and dealt together with round
5 and is not tuned on: what new text meets, where its writer avoids the common cues.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dpr_mini.files.rows import read_json, read_rows, write_json
from dpr_mini.selection import behaviours, checks
from dpr_mini.types import Difficulty, digest

ROOT = Path(__file__).parent.parent
DATA = ROOT / "tests" / "data" / "behaviours.jsonl"
HELD_BACK = ROOT / "tests" / "selection" / "held_back.jsonl"
RESULTS = ROOT / "bench" / "results" / "behaviours.json"
REVISED = ("backtracking", "backward")  # the behaviours that HELD_BACK is about
# Snippets, labelled, near misses, found, both: the patterns of commit 6c8d11f on round 1, before they were widened.
BEFORE = {
    "tuning": {"backtracking": (116, 32, 32, 16, 12), "backward": (116, 27, 25, 6, 6)},
    "untouched": {"backtracking": (117, 30, 26, 14, 10), "backward": (117, 30, 31, 8, 6)},
}
# The same of each later round on the day it was written: the patterns had been tuned on all rounds before it.
FIRST_CONTACT = {
    "round 2": {"backtracking": (47, 29, 18, 20, 13), "backward": (36, 23, 13, 15, 12)},
    "round 3": {"backtracking": (40, 25, 15, 11, 9), "backward": (37, 24, 13, 10, 8)},
    "round 4": {"backtracking": (30, 12, 18, 12, 5), "backward": (19, 10, 9, 8, 7)},
    "round 5": {"backtracking": (150, 41, 24, 20, 16), "backward": (150, 35, 22, 12, 11)},
    "round 6": {"backtracking": (103, 36, 18, 19, 13), "backward": (103, 26, 22, 8, 5)},
    "round 7": {"backtracking": (88, 31, 13, 12, 11), "backward": (88, 23, 14, 11, 10)},
    "round 8": {"backtracking": (55, 20, 7, 7, 6), "backward": (55, 15, 10, 6, 6)},
    "round 9": {"backtracking": (35, 20, 0, 10, 10), "backward": (35, 15, 0, 10, 9)},
    "round 10": {"backtracking": (150, 41, 24, 21, 17), "backward": (150, 35, 22, 17, 16)},
}


def score(rows: Sequence[Mapping[str, Any]], counts: Sequence[Mapping[str, int]], name: str) -> dict[str, Any]:
    """Confusion counts of one behaviour, precision, recall and F1 with [low, high] of the first two."""
    pairs = [(bool(row[name]), count[name] > 0) for row, count in zip(rows, counts, strict=True)]
    right = sum(label and found for label, found in pairs)
    found, labelled = sum(f for _, f in pairs), sum(label for label, _ in pairs)
    return shares(name, len(pairs), labelled, sum(name in row["near"] for row in rows), found, right)


def shares(name: str, n: int, labelled: int, near: int, found: int, right: int) -> dict[str, Any]:
    """What `score` returns, from the counts."""
    hits = Difficulty(name, found, right), Difficulty(name, labelled, right)
    return {
        "n": n,
        "labelled": labelled,
        "hard_negatives": near,
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


def held_back(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Round 1 in two halves by a hash of the text; the later rounds; of them round 10 alone was not tuned on."""
    first = [r for r in rows if r["round"] == 1]
    return {
        "tuning": [r for r in first if int(digest(r["text"])[:8], 16) % 2],
        "untouched": [r for r in first if not int(digest(r["text"])[:8], 16) % 2],
        "later rounds": [r for r in rows if 1 < r["round"] < 5],
        "rounds by kind": [r for r in rows if 5 <= r["round"] < 10],
        "round 10": [r for r in rows if r["round"] == 10],
    }


def main() -> None:
    rows = list(read_rows(DATA))
    table = {
        half: {name: score(of, [behaviours.count(r["text"]) for r in of], name) for name in behaviours.NAMES}
        for half, of in halves(rows).items()
    }
    more = list(read_rows(HELD_BACK))
    after = {
        part: {name: score(of, [behaviours.count(r["text"]) for r in of], name) for name in REVISED}
        for part, of in held_back(more).items()
    }
    print(f"{'half':14} {'behaviour':13} {'n':>4} {'pos':>4} {'near':>4}  precision            recall               F1")
    for half, scores in (table | after).items():
        for name, s in scores.items():
            shown = "  ".join(
                f"{s[k]:.2f} [{s[f'{k}_interval'][0]:.2f}, {s[f'{k}_interval'][1]:.2f}]   "
                for k in ("precision", "recall")
            )
            print(f"{half:14} {name:13} {s['n']:4} {s['labelled']:4} {s['hard_negatives']:4}  {shown} {s['f1']:.2f}")
    text = "\n".join(r["text"] for r in rows)
    begun = time.process_time()
    behaviours.count(text)
    speed = len(text) / (time.process_time() - begun)
    print(f"{speed / 1e6:.2f} million characters a second of CPU time, one thread")
    conditions = {
        "data": DATA.relative_to(ROOT).as_posix(),
        "snippets": len(rows),
        "halves": "dev: odd ids, patterns tuned on it; test: even ids, only its totals were looked at",
        "test half before widening": "backtracking found 17 of 23, all right; backward 14 of 22, all right",
        "intervals": "Wilson 95 % over snippets",
        "author": "snippets, labels and patterns by one author; no text of a model among them",
        "characters_per_cpu_second": round(speed),
    }
    written = {
        "conditions": {
            "data": HELD_BACK.relative_to(ROOT).as_posix(),
            "snippets": len(more),
            "halves": "round 1 by the parity of a hash of the text; of untouched only totals were looked at: before, "
            "after the widening, after two later rounds, which did not change them, and after the patterns by kind",
            "before": "patterns of commit 6c8d11f; round 1 was written before they were changed",
            "author": "snippets, labels and patterns by one author in one sitting, who had read the old patterns; so "
            "untouched says more of the author's wording than of a model's. first_contact_of_later_rounds is what "
            "newly written wording met each time, and is lower",
            "later rounds": "after says how they are met now that they were tuned on",
        },
        "before": _written(BEFORE),
        "after": after,
        "first_contact_of_later_rounds": _written(FIRST_CONTACT),
    }
    people = plain(Path(sys.argv[1])) if len(sys.argv) > 1 else read_json(RESULTS).get("people")
    results = {"conditions": conditions, "halves": table, "held_back": written, "people": people}
    write_json(RESULTS, results)


def plain(path: Path) -> dict[str, Any]:
    """In how many solutions that people wrote each behaviour and an executed check is found; <<...>> marks are cut."""
    rows = [r | {"solution": re.sub(r"<<[^>\n]{0,200}>>", "", r["solution"])} for r in read_rows(path)]
    counts = [behaviours.count(r["solution"]) for r in rows]
    done = [checks.count(r["solution"], r["answer"], r["problem"]) for r in rows]
    found = {n: sum(c[n] > 0 for c in counts) for n in behaviours.NAMES}
    executed = {n: sum(c[n] > 0 for c in done) for n in ("executed", "chained")}
    return {"file": path.name, "solutions": len(rows)} | found | executed


def _written(counts: Mapping[str, Mapping[str, tuple[int, int, int, int, int]]]) -> dict[str, dict[str, Any]]:
    return {part: {name: shares(name, *n) for name, n in of.items()} for part, of in counts.items()}


if __name__ == "__main__":
    main()
