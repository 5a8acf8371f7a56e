"""Problems in one normalised form: from local files, hub data sets or reasoning-gym generators.

Held-out problems are taken first and a training problem that equals one of them (same text up to case and white
space) or has half of its 13-grams is dropped, as is any repetition; every drop is in `drops.jsonl`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import compress, islice
from pathlib import Path
from typing import Any

import numpy as np

from dpr_mini import tasks
from dpr_mini.files.aside import Sorted, Table, Texts
from dpr_mini.files.foreign import Numeral, foreign_rows
from dpr_mini.files.rows import StoreError, dumps, write_lines
from dpr_mini.grading.golds import gold_text, optional, text_field
from dpr_mini.models.resolve import file_digest
from dpr_mini.recipe import ProblemsConfig, Recipe, Source
from dpr_mini.recipe.problems import shrunk
from dpr_mini.selection.overlap import NearDuplicates, NGram
from dpr_mini.store import Kind, Settings, Work
from dpr_mini.types import Drop, Problem, UserError, digest, identity, to_row

_OVERDRAW = 20  # a generator may be asked for this many times its count before it counts as exhausted


@dataclass(frozen=True)
class ProblemsSettings(Settings):
    """Sources with final (scaled) counts, and the content digests of local files: a changed file is a changed input."""

    sources: ProblemsConfig
    files: Mapping[str, str]
    base: Path  # folder that relative file names start from; not in the key
    scale: float = 1.0  # share that is taken of a training source without a count

    @classmethod
    def of(cls, recipe: Recipe, base: Path) -> ProblemsSettings:
        sources = recipe.scaled_problems()
        origins = [*sources.train, *(s for group in sources.never_trained_on.values() for s in group)]
        files = {s.file: file_digest(base / s.file) for s in origins if s.file and (base / s.file).is_file()}
        return cls(sources, files, base, recipe.scale)

    def key(self) -> dict[str, Any]:
        scaled = self.scale < 1 and any(s.count is None for s in self.sources.train)  # else the counts say it
        data = {"sources": self.sources.model_dump(mode="json"), "files": dict(self.files)}
        return data | ({"scale": self.scale} if scaled else {})


def run(work: Work) -> dict[str, Any]:
    """Write `rows.jsonl` (Problem rows, held-out splits first) and `drops.jsonl`.

    Raises UserError for a source that cannot be read, StoreError where nothing is left to train on.
    """
    settings: ProblemsSettings = work.settings
    folder, config, base, scale = work.folder, settings.sources, settings.base, settings.scale
    guard = _Guard(config)
    taken, dropped = Counter[tuple[str, str]](), Counter[str]()  # by split and source; by rule
    shares: dict[str, list[int]] = {}  # source -> taken, of how many
    groups = [*config.never_trained_on.items(), *([("train", config.train)] if config.train else [])]
    with Texts(folder) as drops:

        def lines() -> Iterator[str | bytes]:
            for split, sources in groups:
                for source in sources:
                    fresh = _fresh(_read(source, base), source, split, guard, drops, dropped)
                    if scale < 1 and split == "train" and source.count is None:
                        chosen = share(fresh, scale, source.seed, folder, told := [])
                    else:
                        chosen, told = (dumps(to_row(p)) for p in islice(fresh, source.count)), None
                    for line in chosen:
                        taken[split, label(source)] += 1
                        yield line
                    if told:
                        shares[f"{split}/{label(source)}"] = told
            _refuse_empty(dict(groups), taken, dropped)

        write_lines(folder / "rows.jsonl", lines())
        write_lines(folder / "drops.jsonl", drops)
    short = {
        f"{split}/{label(s)}": [taken[split, label(s)], s.count]
        for split, sources in groups
        for s in sources
        if s.count and taken[split, label(s)] < s.count
    }
    for name, (got, limit) in short.items():
        print(f"problems: {name} has only {got} distinct problems of the {limit} asked for")
    for name, (got, of) in shares.items():
        print(f"problems: {got} of the {of} of {name}, chosen by hash (scale {scale:g})")
    counts = Counter[str]()
    for (split, _), n in taken.items():
        counts[split] += n
    return {
        "splits": dict(counts),
        "sources": {f"{split}/{name}": n for (split, name), n in taken.items()},
        "dropped": dict(dropped),
        "short_of": short,
        **({"share_of": shares} if shares else {}),
    }


def _refuse_empty(groups: Iterable[str], taken: Mapping[tuple[str, str], int], dropped: Counter[str]) -> None:
    """Raises StoreError where a split has no problem."""
    if empty := next((split for split in groups if split not in {there for there, _ in taken}), None):
        reasons = f" ({', '.join(f'{name} {n}' for name, n in dropped.items())})" if dropped else ""
        fix = "add a source" + ("; or set problems.decontaminate to null" if dropped["decontaminated"] else "")
        raise StoreError(
            f"problems: nothing left in {empty!r}: {dropped.total()} dropped as repeated or held out{reasons}; {fix}"
        )


def share(fresh: Iterable[Problem], scale: float, seed: int, folder: Path, told: list[int]) -> Iterator[bytes]:
    """`scale` of the problems, as rows in their order, chosen by a hash of their text: data sets are sorted by subject.

    A larger scale takes all that a smaller one does. What is not chosen was held against repetitions all the same, so
    that what the choice is made from does not depend on the scale. `told` gets how many are taken, and of how many.
    """
    with Texts(folder) as rows, Sorted(folder) as ranked:
        for number, problem in enumerate(fresh):
            rows.add(dumps(to_row(problem)))
            ranked.add(digest(seed, problem.id), str(number))
        chosen = bytearray(len(ranked))
        for number in islice(ranked, shrunk(len(ranked), scale)):
            chosen[int(number)] = 1
        told += [chosen.count(1), len(chosen)]
        yield from compress(rows, chosen)


def label(source: Source) -> str:
    """A source's name in rows and reports; with its level where it has one."""
    name = source.task or source.generate or source.hub or Path(str(source.file)).name.split(".")[0]
    return f"{name}-{source.level}" if source.level else name


class _Guard:
    """What has been taken so far, and why a problem may not be: (rule, evidence)."""

    def __init__(self, config: ProblemsConfig) -> None:
        self.taken = Table()  # by identity: the split, and how the text begins, for evidence
        self.share = config.decontaminate.share if config.decontaminate else None
        self.held_out = NGram(config.decontaminate.ngram) if config.decontaminate else None
        self.near = NearDuplicates(config.near_duplicates) if config.near_duplicates else None

    def objection(self, key: str, text: str, split: str) -> tuple[str, str] | None:
        if taken := self.taken.get(key):
            before, _, _ = taken.partition("\n")
            return "duplicate" if before == split else "held_out", f"already in {before}"
        if split != "train":
            return None  # a benchmark stays whole
        if self.held_out and (hit := self.held_out.best(text)) and hit.share >= self.share:
            return "decontaminated", f"{hit.share:.0%} of the {self.held_out.n}-grams of {self._known(hit.name)}"
        if self.near and (hit := self.near.find(text)):
            return "near_duplicate", f"similarity {hit.share:.2f} to {self._known(hit.name)}"
        return None

    def take(self, key: str, text: str, split: str) -> None:
        self.taken[key] = f"{split}\n{text[:80]}"
        if self.held_out and split != "train":
            self.held_out.add(key, text)
        if self.near:
            self.near.add(key, text)

    def _known(self, key: str) -> str:
        """Where a problem stands and what it says."""
        split, _, text = self.taken[key].partition("\n")
        return f"{split} {key} ({text!r})"


def _fresh(
    raw: Iterable[_Raw], source: Source, split: str, guard: _Guard, drops: Texts, dropped: Counter[str]
) -> Iterator[Problem]:
    """What may be taken of a source; why the rest may not goes to `drops`, and its rule is counted."""
    for r in raw:
        key = digest(r.verifier, r.key)[:16] if r.key else identity(r.text)
        if objection := guard.objection(key, r.text, split):
            evidence = f"{label(source)} in {split}, {objection[1]}: {r.text[:120]}"
            drops.add(dumps(to_row(Drop(key, objection[0], evidence))))
            dropped[objection[0]] += 1
            continue
        guard.take(key, r.text, split)
        level = source.level or r.level
        yield Problem(key, label(source), r.text, r.answer.strip(), level, split, r.subject, r.verifier, r.statement)


@dataclass(frozen=True)
class _Raw:
    """A problem as its source has it. Those of a task have a `key`, which twins in another order share."""

    text: str
    answer: str
    level: str = ""
    subject: str = ""
    verifier: str = ""
    statement: str = ""
    key: str = ""


def _read(source: Source, base: Path) -> Iterator[_Raw]:
    """The problems of a source, in its own order."""
    if source.task:
        return _of_task(source)
    if source.file:
        path = base / source.file
        if not path.exists():
            raise UserError(f"{path}: no such file; 'file' is relative to the recipe's folder")
        if path.suffix == ".parquet":
            return _parquet(path, source)
        return (_fields(row, source, where) for where, row in foreign_rows(path))
    return _hub(source) if source.hub else _generated(source)


def _of_task(source: Source) -> Iterator[_Raw]:
    for item in tasks.make(str(source.task), source.options).items(int(source.seed), source.part):
        text = _worded(source.wording, {"text": item.statement})
        yield _Raw(text, item.answer, item.level, "", str(source.task), item.statement, item.key)


def _fields(row: dict[str, Any], source: Source, where: str) -> _Raw:
    columns = source.columns
    for name in (columns.text, columns.answer):
        value = row.get(name)
        if value is None or (isinstance(value, str) and not value.strip()):
            have = ", ".join(map(str, row)) or "nothing"
            raise UserError(f"{where}: no {name!r} (the row has: {have}); name the right field under 'columns'")
    text = _worded(source.wording, {"text": text_field(row[columns.text], where, columns.text).strip()})
    level, subject = (optional(row.get(name), where, name) for name in (columns.level, columns.subject))
    return _Raw(text, gold_text(row[columns.answer], where, columns.answer), level, subject)


def _worded(wording: str, values: Mapping[str, Any]) -> str:
    """`wording` with {name} replaced, once, by plain substitution: questions are full of braces."""
    names = set(re.findall(r"\{([a-z_]+)\}", wording))
    if unknown := names - values.keys():
        raise UserError(f"wording: no {{{min(unknown)}}} here; there are: {', '.join(sorted(values))}")
    return re.sub(r"\{([a-z_]+)\}", lambda m: str(values[m[1]]), wording)


def _parquet(path: Path, source: Source) -> Iterator[_Raw]:
    try:
        import pyarrow.parquet
    except ImportError:
        raise UserError(f"{path}: reading parquet needs pyarrow: pip install 'dpr-mini[data]'") from None
    table = pyarrow.parquet.read_table(path)
    narrow = _narrow(table.schema)
    for number, row in enumerate(table.to_pylist(), 1):
        yield _fields(_spelled(row, narrow), source, f"{path}: row {number}")


def _narrow(schema: Any) -> dict[str, type[np.floating]]:
    """Columns of floats that are narrower than Python's, and their type, of an arrow schema."""
    types = {"float": np.float32, "halffloat": np.float16}
    return {field.name: types[str(field.type)] for field in schema if str(field.type) in types}


def _spelled(row: Mapping[str, Any], narrow: Mapping[str, type[np.floating]]) -> dict[str, Any]:
    """The row with narrow floats as their own type spells them: 0.1, which Python's float has as 0.10000000149."""
    return {n: Numeral(str(narrow[n](v))) if n in narrow and v is not None else v for n, v in row.items()}


def _hub(source: Source) -> Iterator[_Raw]:
    try:
        from datasets import load_dataset
    except ImportError:
        raise UserError(f"{source.hub}: hub data sets need datasets: pip install 'dpr-mini[data]'") from None
    try:
        data = load_dataset(source.hub, source.subset, split=source.split, revision=source.revision)
    except (OSError, ValueError) as error:  # no network, no such data set, subset, split or revision
        why = (str(error).strip().splitlines() or [""])[0][:200]
        raise UserError(
            f"{source.hub}: cannot be had from the hub ({type(error).__name__}: {why}); name a local file instead"
        ) from error
    narrow = _narrow(data.features.arrow_schema)
    for number, row in enumerate(data):
        yield _fields(_spelled(row, narrow), source, f"{source.hub}[{source.split}] row {number}")


def _generated(source: Source) -> Iterator[_Raw]:
    try:
        import reasoning_gym
    except ImportError:
        raise UserError(f"{source.generate}: generators need reasoning-gym: pip install 'dpr-mini[cpu]'") from None
    size = (source.count or 1) * _OVERDRAW
    try:
        data = reasoning_gym.create_dataset(source.generate, size=size, seed=source.seed, **source.options)
    except (ValueError, TypeError, AssertionError) as error:
        raise UserError(f"generate: {source.generate}: {error}") from None
    for number, item in enumerate(data):
        values = {k: v for k, v in item["metadata"].items() if isinstance(v, str | int)}
        answer = gold_text(item["answer"], f"generate: {source.generate}, item {number}", "answer")
        yield _Raw(_worded(source.wording, {**values, "text": item["question"].strip()}), answer)


PROBLEMS = Kind(version=3, run=run)
