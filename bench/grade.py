r"""Grading: dpr-mini's Grader on all cores against math-verify called serially, on the same pairs in one run.

    python bench/grade.py --data DIR [--limit 5] [--out bench/results/grade.json]

(a) every gold answer of GSM8K and MATH in DIR (JSONL or JSONL.gz with an "answer"; eval_gsm8k, eval_math500,
eval_math_test4500, train_gsm8k, train_math) boxed, against itself and against its neighbour; of each set every
`--limit`-th gold answer is taken, for both graders. (b) DIR/verify_examples.jsonl: {gold, pred, equal, tier}; once more
with closed forms accepted, as other graders do. (c) tests/grading/sets: ours, seen by now (their first scores stand in
the README there). `slowest_ms` is one verdict's, `to_math_verify` how many needed a worker; `peak_rss_mib` of this
process and of its largest worker so far.
math-verify runs with its defaults, as its documentation calls it (`verify(parse("$gold$"), parse(pred))`), in the main
thread of a process of its own, after its import. The Grader's workers are started before its clock too; both starts
are reported. Truth in (a): a pair of equal strings is equal; a pair of plain numbers is equal where the numbers are;
others have none.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import subprocess
import sys
import time
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from typing import Any

from dpr_mini.files.rows import write_json
from dpr_mini.grading.grader import Grader

OWN = Path(__file__).resolve().parents[1] / "tests" / "grading" / "sets"
ACCEPTED = "b: examples, all, closed forms accepted"
SETS = ("eval_gsm8k", "eval_math500", "eval_math_test4500", "train_gsm8k", "train_math")
SERIAL = """
import json, sys, time
begun = time.perf_counter()
from math_verify import parse, verify
import logging
logging.disable(logging.CRITICAL)
verify(parse("$x+1$"), parse("$1+x$"))
out, start = [], time.perf_counter() - begun
begun = time.perf_counter()
for gold, pred in json.load(sys.stdin):
    once = time.perf_counter()
    ok = bool(verify(parse(f"${gold}$"), parse(pred)))
    out.append([ok, time.perf_counter() - once])
print(json.dumps({"start": start, "seconds": time.perf_counter() - begun, "found": out}))
"""
ROUNDS = ("styles", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")


def rows(path: Path) -> list[dict[str, Any]]:
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def pairs(data: Path, step: int) -> list[tuple[str, str, bool | None]]:
    """(gold, pred, equal or None where nobody said) of (a)."""
    found = []
    for name in SETS:
        (path,) = data.glob(f"{name}.jsonl*")
        golds = [str(r["answer"]) for r in rows(path)]
        for at, gold in list(enumerate(golds))[::step]:
            for other in (gold, golds[(at + 1) % len(golds)]):
                found.append((gold, rf"\boxed{{{other}}}", truth(gold, other)))
    return found


def truth(gold: str, other: str) -> bool | None:
    if gold == other:
        return True
    try:
        return Fraction(gold) == Fraction(other)
    except ValueError:
        return None


def ours(cases: list[tuple[str, str]], closed_forms: str = "refuse") -> dict[str, Any]:
    begun = time.perf_counter()
    with Grader(closed_forms=closed_forms) as grader:
        warm = [(i, rf"\sin({2 * i}x)", rf"\boxed{{2\sin({i}x)\cos({i}x)}}") for i in range(2, 2 + 4 * grader.limit)]
        assert all(v.ok for _, v in grader.grade_many(warm))
        start, begun = time.perf_counter() - begun, time.perf_counter()
        timed = {i: (v, ms) for i, v, ms in grader._many((i, g, p) for i, (g, p) in enumerate(cases))}
        seconds = time.perf_counter() - begun
    found = {i: v for i, (v, _) in timed.items()}
    return {
        "start": start,
        "seconds": seconds,
        "ok": [found[i].ok for i in range(len(cases))],
        "timeouts": sum(v.status == "timeout" for v in found.values()),
        "slowest_ms": round(max(ms for _, ms in timed.values()), 1),
        "to_math_verify": sum(v.how.endswith(("/math-verify", "/killed", "/crashed")) for v in found.values()),
        "peak_rss_mib": [getrusage(who).ru_maxrss >> 10 for who in (RUSAGE_SELF, RUSAGE_CHILDREN)],
        "workers": grader.limit,
    }


def serial(cases: list[tuple[str, str]]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", SERIAL], input=json.dumps(cases), capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    return {"start": found["start"], "seconds": found["seconds"], "ok": [ok for ok, _ in found["found"]]}


def row(result: dict[str, Any], labels: list[bool | None]) -> dict[str, Any]:
    known = [(ok, label) for ok, label in zip(result["ok"], labels, strict=True) if label is not None]
    return {
        "pairs": len(labels),
        "labelled": len(known),
        "start_s": round(result["start"], 2),
        "seconds": round(result["seconds"], 3),
        "per_second": round(len(labels) / result["seconds"], 1),
        **{k: result[k] for k in ("timeouts", "slowest_ms", "to_math_verify", "peak_rss_mib") if k in result},
        "accuracy": round(sum(ok == label for ok, label in known) / len(known), 5),
        "wrong_accepts": sum(ok and not label for ok, label in known),
        "wrong_rejects": sum(label and not ok for ok, label in known),
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--data", type=Path, required=True, help="folder of the JSONL files")
    arguments.add_argument("--limit", type=int, default=5, help="take every n-th gold answer of (a)")
    arguments.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "grade.json")
    chosen = arguments.parse_args()
    gold = pairs(chosen.data, chosen.limit)
    examples = rows(chosen.data / "verify_examples.jsonl")
    tasks = {
        f"a: gold answers, every {chosen.limit}. of each set": gold,
        **{
            f"b: examples, {tier}": [(r["gold"], r["pred"], r["equal"]) for r in examples if tier in ("all", r["tier"])]
            for tier in ("all", "core", "policy", "cas")
        },
        ACCEPTED: [(r["gold"], r["pred"], r["equal"]) for r in examples],
    }
    for name in (*ROUNDS, "attacks", "attacks_2", "kept"):
        some = [r for path in sorted(OWN.glob(f"{name}*.jsonl")) for r in rows(path)]
        tasks[f"c: {name}"] = [(r["gold"], r["text"], r["equal"]) for r in some]
    results = {}
    print(f"{'':44}{'pairs/s':>10}{'accuracy':>10}{'wrong acc.':>11}{'wrong rej.':>11}{'seconds':>9}")
    for name, cases in tasks.items():
        asked, labels = [(g, p) for g, p, _ in cases], [label for *_, label in cases]
        mine, theirs = ours(asked, "accept" if name == ACCEPTED else "refuse"), serial(asked)
        results[name] = {"dpr-mini": row(mine, labels), "math-verify": row(theirs, labels)}
        results[name]["speed_up"] = round(theirs["seconds"] / mine["seconds"], 1)
        differ = sum(a != b for a, b in zip(mine["ok"], theirs["ok"], strict=True))
        results[name]["verdicts_that_differ"] = differ
        for who in ("dpr-mini", "math-verify"):
            r = results[name][who]
            print(
                f"{name[:30] + ' ' + who:44}{r['per_second']:>10}{r['accuracy']:>10}"
                f"{r['wrong_accepts']:>11}{r['wrong_rejects']:>11}{r['seconds']:>9}"
            )
        print(f"{'':30} {results[name]['speed_up']} times as fast; {differ} verdicts differ")
    conditions = {
        "cores": os.cpu_count(),
        "load_average_at_end": os.getloadavg()[0],
        "python": platform.python_version(),
        "machine": platform.machine(),
        "workers": mine["workers"],
        "timeout_s": 5.0,
        **{name: version(name) for name in ("dpr-mini", "math-verify", "latex2sympy2_extended", "sympy")},
        "clock": "wall time of the pairs; imports and worker starts are in start_s of both",
        "limit": chosen.limit,
    }
    write_json(chosen.out, {"conditions": conditions, "results": results})


if __name__ == "__main__":
    main()
