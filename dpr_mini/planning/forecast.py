"""Tokens that each stage may take and is expected to take, and rates that were measured on the same device.

Bounds: every answer at its limit, everything kept. Measured rates come from bench/results/*.json and nowhere else: the
seconds that the same stage (the same key) took there, bench/train.py's and bench/generate.py's rows.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dpr_mini.files.foreign import count_rows
from dpr_mini.models.shapes import SHAPES
from dpr_mini.planning.capacity import PROMPT, Card, Training
from dpr_mini.planning.expected import Expected, at_most, expected
from dpr_mini.recipe import EvaluateConfig, FilterConfig, PackConfig, Recipe, Source, TrainConfig
from dpr_mini.recipe.problems import shrunk
from dpr_mini.runs import TEST

RESULTS = Path(__file__).parents[2] / "bench" / "results"  # of a checkout; an installed package has none
PUBLISHED = {  # rows of data sets that the recipes name, as their cards state
    ("openai/gsm8k", "train"): 7473,
    ("openai/gsm8k", "test"): 1319,
    ("DigitalLearningGmbH/MATH-lighteval", "train"): 7500,
    ("DigitalLearningGmbH/MATH-lighteval", "test"): 5000,
    ("HuggingFaceH4/MATH-500", "test"): 500,
    ("HuggingFaceH4/aime_2024", "train"): 30,
}


@dataclass(frozen=True)
class Work:
    """What one stage does at most, and what is expected of it (None: a source whose answers' length nobody assumed)."""

    stage: str
    kind: str  # generate, train
    items: int  # answers, or samples trained on in an epoch
    tokens: int
    length: int  # tokens of the longest conversation or sample
    expected: Expected | None = None


def count(source: Source, recipe: Recipe, base: Path, train: bool) -> int | None:
    """Problems of a source, at most; None where that is known only when it is read.

    Raises StoreError for a file that is damaged or too large.
    """
    rows = PUBLISHED.get((source.hub or "", source.split))
    path = base / source.file if source.file else None
    if path and path.is_file() and path.name.endswith((".jsonl", ".jsonl.gz")):
        rows = count_rows(path)
    if source.count is None:
        return recipe.count(source, rows) if train else rows
    limit = shrunk(source.count, recipe.scale)
    return limit if rows is None else min(rows, limit)


def work(recipe: Recipe, base: Path, test: bool = False) -> list[Work] | None:
    """Every stage that generates or trains, with `test` those of the test sets too; None where a source's size is not
    known."""
    sets = {"": recipe.problems.evaluated, TEST: recipe.problems.test if test else {}}
    groups = {None: recipe.problems.train, **sets[""], **sets[TEST]}
    sizes = {name: [count(s, recipe, base, name is None) for s in group] for name, group in groups.items()}
    if any(None in counts for counts in sizes.values()):
        return None
    problems, dialogue, probe = sum(filter(None, sizes[None])), recipe.dialogue, recipe.probe
    turns = len(dialogue.longest)

    def evaluation(number: int) -> list[Work]:
        each = {
            end: {n: list(zip(group, sizes[n], strict=True)) for n, group in of.items()} for end, of in sets.items()
        }
        return [w for end, of in each.items() for w in _evaluation(f"eval-{number}{end}", recipe.evaluate, of)]

    stages = evaluation(0)
    if 1 in recipe.phases:
        answers = problems * dialogue.most_answers
        kept_samples, whole = (
            _kept(recipe.filter, problems, dialogue.most_dialogues),
            turns * dialogue.max_new_tokens + PROMPT,
        )
        stages.append(Work("dialogue-1", "generate", answers, answers * dialogue.max_new_tokens, whole))
        stages += [_training("train-1", recipe.train.epochs, kept_samples, whole, recipe.pack), *evaluation(1)]
    if 2 in recipe.phases:
        probed, budget = problems * probe.samples, recipe.sample.scaled(recipe.scale).budget
        draws = max(0, recipe.sample.max_tries - probe.samples) * problems
        draws = draws if budget is None else max(0, min(draws, budget - probed))
        kept_samples, whole = _kept(recipe.filter_2, problems, recipe.sample.quota), probe.max_new_tokens + PROMPT
        stages.append(Work("probe-2", "generate", probed, probed * probe.max_new_tokens, whole))
        stages.append(Work("sample-2", "generate", draws, draws * probe.max_new_tokens, whole))
        stages += [_training("train-2", recipe.train_2.epochs, kept_samples, whole, recipe.pack_2), *evaluation(2)]
    like = work(recipe.like, base) if recipe.like else None
    likely = expected(recipe, sizes, {w.stage: w.expected for w in like or () if w.expected}, test)
    return [replace(w, expected=likely.get(w.stage)) for w in stages if w.items]


def _evaluation(
    name: str, config: EvaluateConfig, sets: Mapping[str, Sequence[tuple[Source, int | None]]]
) -> list[Work]:
    """What one evaluation asks: answers, planted attempts, checks of answers; a redraw itself asks nothing.

    `sets`: each benchmark's sources with their number of problems.
    """
    turns, limit = len(config.longest), config.max_new_tokens
    answers = sum((n or 0) * (config.k(of) + config.greedy) for of, group in sets.items() for _, n in group) * turns
    asked = [("answers", answers, turns)]
    executed = sum(n or 0 for group in sets.values() for source, n in group if source.task)
    if planted := config.planted:  # it is of a task's problems alone
        asked.append(("planted", executed * (planted.right + planted.wrong) * turns, turns))
    if redraw := config.redraw:  # the last that may be drawn is not checked
        asked.append(("checks", executed * redraw.samples * (redraw.at_most - 1), 2))
    return [Work(f"{name}-{what}", "generate", n, n * limit, PROMPT + long * limit) for what, n, long in asked]


def _kept(rules: FilterConfig, problems: int, each: int) -> int:
    """Samples that can pass the filter."""
    passed = problems * at_most(rules, each)
    return min(passed, rules.limit) if isinstance(rules.limit, int) else passed


def _training(stage: str, epochs: int, samples: int, tokens: int, packing: PackConfig) -> Work:
    """A budget of another run's tokens is known only once that run is there; it is taken for no limit here."""
    most = packing.trained_tokens if isinstance(packing.trained_tokens, int) else None
    return Work(stage, "train", samples, most or epochs * samples * tokens, tokens)


def results(folder: Path = RESULTS) -> list[dict[str, Any]]:
    """Every result file of `folder`, by name: the JSON objects that say their conditions."""
    contents = (json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json")))
    return [r for r in contents if isinstance(r, dict) and isinstance(r.get("conditions"), dict)]


def same_stage(folders: Mapping[str, str], card: Card, measured: list[dict[str, Any]]) -> dict[str, float]:
    """Stage -> seconds that the same stage took in a published run on such a card or CPU.

    `folders`: stage -> its folder's name, which has the stage's key: equal keys are equal work.
    """
    seconds: dict[str, float] = {}
    for run in measured:
        machine = str(run["conditions"].get("machine"))
        if card.name and card.name in machine and "stages" in run:
            taken = {folder: run["seconds"][role] for role, folder in run["stages"].items() if role in run["seconds"]}
            seconds |= {stage: taken[folder] for stage, folder in folders.items() if folder in taken}
    return seconds


def training_rate(training: Training, card: Card, measured: list[dict[str, Any]]) -> float | None:
    """Tokens a second of bench/train.py on that card: same shape, mode and backend, the row length nearest to ours."""
    job, rows = training.job, []
    for result in measured:
        if result["conditions"].get("device") != card.name or not card.name:
            continue
        rows += [r for r in result.get("rows", []) if r.get("status") == "ok" and _alike(r, training)]
    nearest = min(rows, key=lambda r: abs(math.log(r["tokens"] / job.tokens)), default=None)
    return nearest and float(nearest["tokens_per_s"])


def _alike(row: Mapping[str, Any], training: Training) -> bool:
    """Whether a row of bench/train.py is that training: the same shape, mode and backend."""
    ran = TrainConfig.model_validate(row.get("train", {}))
    same = (ran.mode, ran.backend) == (training.job.train.mode, training.job.train.backend)
    return same and SHAPES.get(str(row.get("model"))) == training.job.shape


def generation_rate(model: str, kind: str, card: Card, measured: list[dict[str, Any]]) -> float | None:
    """Tokens a second of bench/generate.py on that card: same model and engine."""
    rates = []
    for result in measured:
        machine = result["conditions"].get("machine")
        same = isinstance(machine, dict) and card.name and machine.get("gpu") == card.name
        if same and str(result["conditions"].get("model", "")).lower() == model.rpartition("/")[2].lower():
            rates += [r["tokens_per_s"] for r in result.get("dialogues", []) if r["engine"].split()[0] == kind]
    return statistics.median(rates) if rates else None
