"""What an arm cost: what was asked, read, kept, trained on, and how long it took, as if it had been run alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from dpr_mini.chat.template import attempts
from dpr_mini.files.rows import read_as, read_rows
from dpr_mini.reporting.arms import Arm, Run
from dpr_mini.types import Kept, digest

SAMPLING = ("dialogue-1", "probe-2", "sample-2")
TRAINING = ("train-1", "train-2")
TRAINED_ON = (("filter-1", "pack-1"), ("filter-2", "pack-2"))  # where kept dialogues lie, and which of them were packed


def costs(arm: Arm) -> dict[str, float]:
    """What the arm's stages asked, kept, trained and took; means over seeds."""
    each = [_costs(run, arm.stage) for run in arm.runs.values()]
    return {name: fmean(c[name] for c in each) for name in each[0]}


def _costs(run: Run, evaluation: str) -> dict[str, float]:
    """Of the stages that lead to `evaluation`.

    Tokens: `sampled_tokens` generated, `prompt_tokens` read for that (the cached ones too), `trained_tokens` of all
    epochs. `contents`: distinct texts trained on. Seconds by what they were spent on.
    """
    upto = list(run.stages)[: list(run.stages).index(evaluation) + 1]
    both = (f"{evaluation}-answers", evaluation)
    manifests = {n: run.manifest(n) for n in upto if not n.startswith("eval-") or n in both}
    sampling, training = ([manifests[n]["metrics"] for n in names if n in manifests] for names in (SAMPLING, TRAINING))

    def seconds(names: Sequence[str]) -> float:
        return sum(m["seconds"] for n, m in manifests.items() if n in names)

    return {
        "sampled_answers": sum(t["answers"] for m in sampling for t in m["turns"]),
        "sampled_tokens": sum(m["tokens"] for m in sampling),
        "prompt_tokens": sum(t["prompt_tokens"] for m in sampling for t in m["turns"]),
        "kept": sum(m["metrics"]["kept"] for n, m in manifests.items() if n.startswith("filter-")),
        "contents": contents(run, manifests),
        "trained_tokens": sum(m["trained_tokens"] for m in training),
        "steps": sum(m["steps"] for m in training),
        "seconds_sampling": seconds(SAMPLING),
        "seconds_training": seconds(TRAINING),
        "seconds_evaluation": seconds(both),
    }


def contents(run: Run, manifests: Mapping[str, Mapping[str, Any]]) -> int:
    """Distinct texts that were trained on: what the model wrote, without case, layout, our bridges and questions.

    The same line under four templates is one; the rule `duplicate` tells texts of one problem apart in the same way.
    """
    seen = set()
    for kept, packed in TRAINED_ON:
        if kept not in manifests:
            continue
        bridges = manifests[kept]["config"]["bridges"]
        used = None
        if packed in manifests:
            used = {i for row in read_rows(run.stages[packed] / "rows.jsonl") for i in row["samples"]}
        for case in read_as(Kept, run.stages[kept] / "rows.jsonl"):
            if used is None or case.id in used:
                parts = [part for turn in case.dialogue.turns for part in attempts(turn.text, bridges)]
                seen.add((case.problem_id, digest(" ".join(" ".join(parts).lower().split()))))
    return len(seen)
