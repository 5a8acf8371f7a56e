"""Does this harness meet the scores that others published? Published answers are graded again and set beside them.

    python bench/calibrate.py example_model_solutions.jsonl      # from github.com/openai/grade-school-math, MIT

That file has the answers of four models (6B and 175B, fine-tuned and with a verifier; Cobbe et al., arXiv 2110.14168)
to GSM8K's test problems, and for each whether its authors counted it right. Writes results/calibration.json: per model
the published and our share of right answers, and every answer on which the two verdicts differ.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from dpr_mini.files.foreign import foreign_rows
from dpr_mini.files.rows import write_json
from dpr_mini.grading.grader import Grader
from dpr_mini.machine.facts import facts
from dpr_mini.types import digest

OUT = Path(__file__).parent / "results" / "calibration.json"


def final(solution: str) -> str:
    """A reference solution's answer, behind its last "A:"."""
    return solution.rpartition("A:")[2].strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    rows = [row for _, row in foreign_rows(args.file)]
    models = [name for name in rows[0] if name not in ("question", "ground_truth")]
    cases = {
        (i, name): (final(row["ground_truth"]), row[name]["solution"])
        for i, row in enumerate(rows)
        for name in models
        if name in row
    }
    with Grader() as grader:
        verdicts = dict(grader.grade_many((key, gold, text) for key, (gold, text) in cases.items()))
    found, differing = {}, []
    for name in models:
        mine = {i: v for (i, model), v in verdicts.items() if model == name}
        published = {i: bool(rows[i][name]["is_correct"]) for i in mine}
        table = Counter((published[i], v.ok) for i, v in mine.items())
        found[name] = {
            "answers": len(mine),
            "published": sum(published.values()) / len(mine),
            "ours": sum(v.ok for v in mine.values()) / len(mine),
            "right there, wrong here": table[True, False],
            "wrong there, right here": table[False, True],
        }
        differing += [
            {"model": name, "gold": cases[i, name][0], "end": cases[i, name][1][-160:], "published": published[i]}
            | {"verdict": v.status, "read": v.extracted, "how": v.how}
            for i, v in sorted(mine.items())
            if v.ok is not published[i]
        ]
        print(f"{name}: published {found[name]['published']:.4f}, ours {found[name]['ours']:.4f}, {dict(table)}")
    source = {"file": args.file.name, "sha256": digest(args.file.read_text(encoding="utf-8"))}
    write_json(args.out, {"source": source, "models": found, "differing": differing, **facts()})


if __name__ == "__main__":
    main()
