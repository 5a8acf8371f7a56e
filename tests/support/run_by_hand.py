"""A run made by hand, stage folder by stage folder, that a report can be written on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rows import graded as answer

from dpr_mini import recipe as recipes
from dpr_mini.files.rows import write_json, write_rows
from dpr_mini.scoring.card import score_all
from dpr_mini.types import Graded

EVIL = "<script>alert('x')</script> & ```` | \\boxed{7} <img src=x onerror=y>"
N, K = 20, 2
# How many of a benchmark's N problems all samples get right, per evaluation.
Right = Mapping[str, Mapping[str, int]]
RIGHT = {
    "eval-0": {"easy": 4, "hard": 10},
    "eval-1": {"easy": 14, "hard": 10},
    "eval-2": {"easy": 15, "hard": 2},
}


def stage(root: Path, role: str, metrics: dict[str, Any], files: dict[str, list[dict[str, Any]]]) -> Path:
    folder = root / f"{role.replace('_', '-')}-0a1b2c3d"
    folder.mkdir()
    for name, rows in files.items():
        write_rows(folder / f"{name}.jsonl", rows)
    manifest = {
        "stage": role, "key": "0a1b2c3d", "config": {}, "inputs": {}, "metrics": metrics,
        "seconds": 2.0, "finished": "2026-01-01T00:00:00Z", "versions": {"python": "3.11"}, "commit": "abc",
        "machine": {"cpu": "two cores", "cores": 2}, "peak_rss_gib": 1.0,
    }  # fmt: skip
    write_json(folder / "stage.json", manifest)
    return folder


def turns(count: int) -> dict[str, Any]:
    one = {"answers": 10, "prompt_tokens": 100, "cached_tokens": 25, "tokens": 80, "truncated": 1, "cached_share": 0.25}
    return {"dialogues": 10, "tokens": 80 * count, "turns": [one] * count, "engine": "scripted"}


def graded(role: str, right_of: Right = RIGHT) -> list[Graded]:
    """Phase 1 gains on "easy" by format alone: the last number was right before. "hard" falls in phase 2."""
    answers = []
    for benchmark, count in right_of[role].items():
        for p in range(N):
            for sample in (None, *range(K)):
                right = p < count
                answers.append(answer(
                    f"{benchmark}{p:02d}", sample, right, benchmark, tokens=10 * (1 + int(role[-1])) + p,
                    finish="length" if p == 19 else "stop", first=False, last=p < 14 if benchmark == "easy" else right,
                    attempt=False if p == 0 else None,
                    behaviours={"verification": int(p < 5), "backtracking": 0, "subgoals": 0, "backward": 0},
                ))  # fmt: skip
    return answers


def dialogue(name: str, texts: tuple[str, ...]) -> dict[str, Any]:
    said = [{"instruction": "solve", "prompt": f"What is 3 + 4? {EVIL}", "ids": [1, 2, 3], "text": t, "finish": "stop",
             "prompt_tokens": 5, "cached_tokens": 0} for t in texts]  # fmt: skip
    return {"id": name, "problem_id": name.split("#")[0], "sample": 0, "turns": said, "engine": "scripted", "seed": 1}


def kept(name: str, kind: str, texts: tuple[str, ...]) -> dict[str, Any]:
    right = {"status": "correct", "extracted": "7", "how": "boxed/exact"}
    return {"id": name, "problem_id": name.split("#")[0], "kind": kind, "verdicts": [right] * len(texts),
            "behaviours": {}, "dialogue": dialogue(name, texts)}  # fmt: skip


def filtering(kept_count: int, drops: list[dict[str, str]]) -> dict[str, Any]:
    shares = dict.fromkeys(("verification", "backtracking", "subgoals", "backward"), 0.5)
    kinds = {"single_right": 0, "confirmed": 1, "corrected": 1, "spoiled": 2, "never_right": 3}
    return {
        "dialogues": kept_count + len(drops), "kept": kept_count, "drops": Counter(d["rule"] for d in drops),
        "kinds": kinds, "kept_kinds": kinds, "statuses_by_turn": [{"correct": 4, "wrong": 6}], "acc@t1": 0.4,
        "acc@last": 0.4, "wrong_to_right": 1, "right_to_wrong": 2, "behaviours": shares, "kept_behaviours": shares,
        "problems": 4, "problems_covered": 2,
    }  # fmt: skip


def make(root: Path, right: Right = RIGHT) -> tuple[dict[str, Path], dict[str, Any]]:
    """Every stage of a run of two phases (role -> folder), and its recipe."""
    benchmarks = tuple(right["eval-0"])
    recipe = recipes.parse({"name": "by-hand", "problems": {"train": [{"file": "none"}]}}, "made")
    drops = [{"dialogue_id": "p1#0", "rule": "false_arithmetic", "evidence": f"1+1=3 {EVIL}"},
             {"dialogue_id": "p2#0", "rule": "false_arithmetic", "evidence": "2+2=5"},
             {"dialogue_id": "p3#0", "rule": "answered", "evidence": "no answer"}]  # fmt: skip
    talks = [dialogue(f"p{i}#0", (f"turn one of {i} {EVIL}", "turn two")) for i in range(4)]
    problems = [{"id": f"p{i}", "source": "made", "text": "3 + 4", "answer": "7"} for i in range(4)]
    loss = [{"step": i, "loss": 2.0 - i / 20, "lr": 1e-5, "grad_norm": 1.0, "tokens": 9, "seconds": 0.1}
            for i in range(20)]  # fmt: skip
    packed = {"rows": 3, "samples": 5, "tokens": 1234, "trained_tokens": 1000, "fill": 0.9, "dropped": 0, "longest": 9}
    trained = {"steps": 20, "tokens": 180, "trained_tokens": 90, "first_loss": 2.0, "last_loss": 1.05,
               "tokens_per_second": 90.0, "dtype": "float32"}  # fmt: skip
    budgets = [
        {"problem_id": f"p{i}", "tried": 4, "correct": c, "rate": c / 4, "wanted": w, "drawn": d, "right": r}
        for i, (c, w, d, r) in enumerate([(0, 4, 16, 0), (0, 4, 16, 2), (2, 2, 4, 2), (4, 1, 4, 4)])
    ]
    bins = dict.fromkeys(("0", "0.25-0.5", "1"))
    sampled = turns(1) | {"target": "prop2diff", "met": 2, "spent": 1, "never_solved": 1, "bins": bins}
    keep = [kept("p1#0", "single_right", (f"seven {EVIL}",)), kept("p2#1", "single_right", ("x",))]
    talk = [kept("p0#0", "confirmed", ("a", "b")), kept("p4#0", "corrected", ("MENDED", "b"))]
    asked = {role: (turns(1), {"rows": [dialogue(a.id, (f"{role} {EVIL}",)) for a in graded(role, right)]})
             for role in right}  # fmt: skip
    evals = {
        role: (
            {"cards": {b: card.to_row() for b, card in score_all(graded(role, right), benchmarks).items()}},
            {"graded": [a.to_row() for a in graded(role, right)]},
        )
        for role in right
    }
    probed = [dialogue(name, (f"drawn {EVIL}",)) for name in ("p0#0", "p1#0", "p2#0", "p3#0")]
    stages: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "problems": (
            {"splits": {"train": 4, **dict.fromkeys(benchmarks, N)}, "sources": {"train/made": 4},
             "dropped": {"duplicate": 1}},
            {"rows": problems},
        ),
        "eval-0-answers": asked["eval-0"],
        "eval-0": evals["eval-0"],
        "dialogue-1": (turns(2), {"rows": talks}),
        "filter-1": (filtering(2, drops), {"rows": talk, "drops": drops}),
        "pack-1": (packed, {}),
        "train-1": (trained, {"metrics": loss}),
        "eval-1-answers": asked["eval-1"],
        "eval-1": evals["eval-1"],
        "probe-2": (turns(1), {"rows": probed}),
        "sample-2": (sampled, {"budgets": budgets, "rows": [dialogue("p2#1", ("x",))]}),
        "filter-2": (filtering(2, drops[:1]), {"rows": keep, "drops": drops[:1]}),
        "pack-2": (packed, {}),
        "train-2": (trained, {"metrics": loss}),
        "eval-2-answers": asked["eval-2"],
        "eval-2": evals["eval-2"],
    }  # fmt: skip
    return {r: stage(root, r, m, f) for r, (m, f) in stages.items()}, recipe.model_dump(mode="json")
