"""What `eval` does: any model on benchmarks by name or on files, kept and resumed like any run."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dpr_mini import pipeline
from dpr_mini import recipe as recipes
from dpr_mini.files.foreign import foreign_rows
from dpr_mini.messages import printable
from dpr_mini.recipe import Places, reading
from dpr_mini.recipe.base import LONGEST_FOLDER
from dpr_mini.recipe.benchmarks import BENCHMARKS
from dpr_mini.reporting.words import lines
from dpr_mini.runs import lock
from dpr_mini.scoring.scores import Card
from dpr_mini.selection.sources import ANSWERS, OWN, QUESTIONS
from dpr_mini.selection.sources import names as fields
from dpr_mini.types import UserError, digest


def evaluate(
    model: str,
    on: Sequence[str],
    runs: Path,
    data: Path | None = None,
    limit: int | None = None,
    engine: str = "auto",
    overrides: Sequence[str] = (),
    **settings: Any,
) -> None:
    """Score one model on named benchmarks (from the hub, or from the folder `data`) or local files, and print it.

    `settings` are keys of a recipe's `evaluate` section (None: not given), `overrides` any `section.key=value`. The
    same command again resumes, or reuses every stage; with another `evaluate.grader` it re-grades the saved answers.
    Raises UserError for whatever the user can fix.
    """
    name = "eval-" + re.sub(r"[^A-Za-z0-9._-]+", "-", model).strip("-.")
    if len(name) > LONGEST_FOLDER:
        name = f"{name[: LONGEST_FOLDER - 9]}-{digest(name)[:8]}"
    raw = {
        "name": name,
        "model": {"name": model},
        "engine": {"kind": engine},
        "phases": [],
        "problems": {"held_out": held_out(on, data, limit)},
        "evaluate": {key: value for key, value in settings.items() if value is not None},
    }
    places = Places()
    for override in overrides:
        reading.override(raw, override, places)
    recipe = recipes.parse(raw, "eval", places)
    pipeline.refuse_missing_model(recipe, Path())  # before a benchmark is fetched
    root = runs / recipe.name
    stages = pipeline.build(recipe, Path())
    with pipeline.Machine.of(recipe, Path(), root / "logs") as machine, lock(root):
        pipeline.run(stages, root, machine, until="eval-0", recipe=recipe)
    for card in stages["eval-0"].manifest(root)["metrics"]["cards"].values():
        print(printable("\n".join(lines(Card.from_row(card), recipe.evaluate)), keep="\n"))
    for stage, file in (("eval-0-answers", "rows.jsonl"), ("eval-0", "graded.jsonl")):
        print(f"{'answers' if stage != 'eval-0' else 'grades'}: {stages[stage].folder(root) / file}")


def held_out(on: Sequence[str], data: Path | None, limit: int | None) -> dict[str, list[dict[str, Any]]]:
    """Benchmark -> its recipe sources. Raises UserError for what is not there, or has no question or no answer."""
    sources: dict[str, list[dict[str, Any]]] = {}
    for name in on:
        title = name if name in BENCHMARKS else Path(name).name.split(".")[0]
        if title in sources:
            raise UserError(f"--on names {title!r} twice; give files different names")
        if not title:
            raise UserError(f"--on names {name!r}; a benchmark is called as its file is, and this has no name")
        sources[title] = [{**_source(name, data), "count": limit}]
    return sources


def _columns(path: Path) -> dict[str, dict[str, str]]:
    """How a file names question and answer, by its first row: {} for our names and verl's. Raises UserError."""
    where, row = next(iter(foreign_rows(path)), ("", {}))
    if not where:
        raise UserError(f"{path}: no rows")
    text, answer = (next((n for n in of if row.get(n) is not None), "") for of in (QUESTIONS, ANSWERS))
    if fields(row, *OWN) != OWN or (text, answer) == OWN:
        return {}
    if not text or not answer:
        lacks = " and ".join(" or ".join(of) for of, n in ((QUESTIONS, text), (ANSWERS, answer)) if not n)
        have = ", ".join(map(str, row)) or "nothing"
        raise UserError(f"{where}: no {lacks} (the row has: {have:.300}); rename the field, or write a recipe")
    return {"columns": {"text": text, "answer": answer}}


def _source(name: str, data: Path | None) -> dict[str, Any]:
    if name not in BENCHMARKS:
        if not os.path.exists(name):  # False for a name that the system refuses, too
            raise UserError(
                f"no benchmark {name!r}: give {', '.join(BENCHMARKS)} or a JSONL file of {{problem, answer}}"
            )
        return {"file": name, **_columns(Path(name))}
    if data is None:
        return {"benchmark": name}
    if not (file := data / BENCHMARKS[name].file).is_file():
        raise UserError(f"{file}: no such file; {name} is looked for there under this name (without --data: hub)")
    return {"benchmark": name, "folder": str(data)}
