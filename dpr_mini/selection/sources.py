"""Where problems come from: local files, hub data sets, reasoning-gym generators and tasks, each as `Raw` problems."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpr_mini import tasks
from dpr_mini.files.foreign import Rows, border, foreign_rows, narrow_floats, spelled
from dpr_mini.grading.golds import FieldError, field, gold_text, optional, question_text, text_field
from dpr_mini.recipe import Source
from dpr_mini.types import UserError

_OVERDRAW = 20  # a generator may be asked for this many times its count before it counts as exhausted
OWN = ("problem", "answer")  # our names of the question's and the answer's field
QUESTIONS, ANSWERS = ("problem", "question", "prompt"), ("answer", "gold", "solution")  # what `eval` looks for
VERL = ("prompt", "reward_model.ground_truth")  # verl's: messages, and the gold inside an object


@dataclass(frozen=True)
class Raw:
    """A problem as its source has it. Those of a task have a `key`, which twins in another order share."""

    text: str
    answer: str
    level: str = ""
    subject: str = ""
    verifier: str = ""
    statement: str = ""
    key: str = ""


def label(source: Source) -> str:
    """A source's name in rows and reports; with its level where it has one."""
    name = source.task or source.generate or source.hub or Path(str(source.file)).name.split(".")[0]
    return f"{name}-{source.level}" if source.level else name


def read(source: Source, base: Path) -> Iterator[Raw]:
    """The problems of a source, in its own order. `base` is the folder that a file's name starts from.

    Raises UserError, naming file and row, for a source or a row that cannot be read.
    """
    if source.task:
        return _of_task(source)
    if source.generate:
        name = f"generate: {source.generate}"
        rows = border(lambda: _items(source, name), name, "made", "look at its options")
        return (_generated(row, source, where) for where, row in rows)
    if source.file:
        path = base / source.file
        if not os.path.exists(path):  # False for a name that the system refuses, too
            raise UserError(f"{path}: no such file; 'file' is relative to the recipe's folder")
        rows = foreign_rows(path)
    else:
        name = f"{source.hub}[{source.split}]"
        rows = border(lambda: _hub(source, name), name, "had from the hub", "name a local file instead")
    return (_fields(row, source, where) for where, row in rows)


def _of_task(source: Source) -> Iterator[Raw]:
    for item in tasks.make(str(source.task), source.options).items(int(source.seed), source.part):
        text = _worded(source.wording, {"text": item.statement})
        yield Raw(text, item.answer, item.level, "", str(source.task), item.statement, item.key)


def _fields(row: dict[str, Any], source: Source, where: str) -> Raw:
    columns, (asked, expected) = source.columns, names(row, source.columns.text, source.columns.answer)
    for name in (asked, expected):
        value = field(row, name)
        if value is None or (isinstance(value, str) and not value.strip()):
            have = ", ".join(map(str, row)) or "nothing"
            empty = value is not None or name in row  # verl's gold is in an object, not in the row
            fix = "it is empty: fill it, or take the row out" if empty else "name the right field under 'columns'"
            raise FieldError(f"{where}: no {name!r} (the row has: {have:.300}); {fix}")
    text = _worded(source.wording, {"text": question_text(field(row, asked), where, asked).strip()})
    level, subject = (optional(field(row, name), where, name) for name in (columns.level, columns.subject))
    return Raw(text, gold_text(field(row, expected), where, expected), level, subject)


def names(row: Mapping[str, Any], *own: str) -> tuple[str, ...]:
    """Names of the question's and the answer's field: `own`; verl's where a row has these and neither of ours."""
    if own == OWN and not row.keys() & set(OWN) and all(field(row, name) is not None for name in VERL):
        return VERL
    return own


def _worded(wording: str, values: Mapping[str, Any]) -> str:
    """`wording` with {name} replaced, once, by plain substitution: questions are full of braces."""
    asked = set(re.findall(r"\{([a-z_]+)\}", wording))
    if unknown := asked - values.keys():
        raise UserError(f"wording: no {{{min(unknown)}}} here; there are: {', '.join(sorted(values))}")
    return re.sub(r"\{([a-z_]+)\}", lambda m: str(values[m[1]]), wording)


def _hub(source: Source, name: str) -> Rows:
    from datasets import load_dataset

    data = load_dataset(source.hub, source.subset, split=source.split, revision=source.revision)
    narrow = narrow_floats(data.features.arrow_schema)
    for number, row in enumerate(data):
        yield f"{name} row {number}", spelled(row, narrow)


def _items(source: Source, name: str) -> Rows:
    """A generator's items. A generator that has too few different ones is asked a bounded number of times."""
    import reasoning_gym

    size = (source.count or 1) * _OVERDRAW
    data = reasoning_gym.create_dataset(source.generate, size=size, seed=source.seed, **source.options)
    for number, item in enumerate(data):
        yield f"{name}, item {number}", item


def _generated(item: Mapping[str, Any], source: Source, where: str) -> Raw:
    values = {k: v for k, v in item["metadata"].items() if isinstance(v, str | int)}
    text = text_field(item["question"], where, "question").strip()
    return Raw(_worded(source.wording, {**values, "text": text}), gold_text(item["answer"], where, "answer"))
