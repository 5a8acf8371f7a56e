"""Problems in one normalised form: from local files, hub data sets or reasoning-gym generators.

Held-out problems are taken first and a training problem that equals one of them (same text up to case and white
space) or has half of its 13-grams is dropped, as is any repetition; every drop is in `drops.jsonl`. A benchmark stays
whole: what it has depends on its own sources alone, also where another one has the same problem.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import compress, islice
from pathlib import Path
from typing import Any

from dpr_mini.files import durable
from dpr_mini.files.aside import Sorted, Table, Texts
from dpr_mini.files.foreign import is_regular
from dpr_mini.files.rows import StoreError, dumps, write_lines
from dpr_mini.messages import printable
from dpr_mini.recipe import ProblemsConfig, Recipe, Source
from dpr_mini.recipe.problems import shrunk
from dpr_mini.selection.overlap import NearDuplicates, NGram
from dpr_mini.selection.sources import Raw, label, read
from dpr_mini.store import Kind, Settings, Work
from dpr_mini.types import SHARED, Drop, Problem, digest, identity, to_row

_FORMULA = re.compile(r"(\$+|\\[()\[\]])")  # where a formula begins or ends


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
        files = {s.file: durable.sha256(base / s.file) for s in origins if s.file and is_regular(base / s.file)}
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
    with Texts(folder) as drops, Texts(folder) as held_out:

        def lines() -> Iterator[str | bytes]:
            for split, sources in groups:
                if split == "train":
                    yield from guard.named_apart(held_out)
                for source in sources:
                    fresh = _fresh(_told(read(source, base), source), source, split, guard, drops, dropped)
                    if scale < 1 and split == "train" and source.count is None:
                        chosen = share(fresh, scale, source.seed, folder, told := [])
                    else:
                        chosen, told = (dumps(to_row(p)) for p in islice(fresh, source.count)), None
                    for line in chosen:
                        taken[split, label(source)] += 1
                        if split == "train":
                            yield line
                        else:
                            held_out.add(line)  # until all benchmarks are known
                    if told:
                        shares[f"{split}/{label(source)}"] = told
            if not config.train:
                yield from guard.named_apart(held_out)
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
        print(printable(f"problems: {name} has only {got} distinct problems of the {limit} asked for"))
    for name, (got, of) in shares.items():
        print(printable(f"problems: {got} of the {of} of {name}, chosen by hash (scale {scale:g})"))
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


class _Guard:
    """What has been taken so far, and why a problem may not be: (rule, evidence).

    A problem's key is its text up to case and layout; its spelling tells apart those in which case says something.
    """

    def __init__(self, config: ProblemsConfig) -> None:
        self.taken = Table()  # by key: the first one's split, its spelling, and how it begins, for evidence
        self.more = Table()  # split, key and spelling of those that share their key with the first one
        self.owners = Table()  # by id of a held-out problem: the first by name of the benchmarks that have it
        self.apart = False  # whether any of them has several
        self.share = config.decontaminate.share if config.decontaminate else None
        self.held_out = NGram(config.decontaminate.ngram) if config.decontaminate else None
        self.near = NearDuplicates(config.near_duplicates) if config.near_duplicates else None

    def objection(self, key: str, text: str, split: str, spelling: str) -> tuple[str, str] | None:
        if taken := self.taken.get(key):
            before, first, _ = taken.split("\n", 2)
            if split == "train" != before:
                return "held_out", f"already in {before}"
            if (before, first) == (split, spelling) or f"{split}\n{key}\n{spelling}" in self.more:
                return "duplicate", f"already in {split}"
        if split != "train":
            return None  # a benchmark stays whole
        if self.held_out and (hit := self.held_out.best(text)) and hit.share >= self.share:
            return "decontaminated", f"{hit.share:.0%} of the {self.held_out.n}-grams of {self._known(hit.name)}"
        if self.near and (hit := self.near.find(text)):
            return "near_duplicate", f"similarity {hit.share:.2f} to {self._known(hit.name)}"
        return None

    def take(self, key: str, text: str, split: str, spelling: str) -> str:
        """The problem's id: its key, and behind it its spelling where its split has the key in another one."""
        name = key
        if taken := self.taken.get(key):
            if taken.startswith(f"{split}\n") or f"{split}\n{key}" in self.more:
                name = f"{key}-{spelling}"
            self.more.add(f"{split}\n{key}")
            self.more.add(f"{split}\n{key}\n{spelling}")
        else:
            self.taken[key] = f"{split}\n{spelling}\n{text[:80]}"
            if self.held_out and split != "train":
                self.held_out.add(key, text)
            if self.near:
                self.near.add(key, text)
        if split != "train":
            owner = self.owners.get(name, split)
            self.apart |= owner != split
            self.owners[name] = min(owner, split)
        return name

    def named_apart(self, rows: Iterable[bytes]) -> Iterator[str | bytes]:
        """Rows of held-out problems; where several benchmarks have one, all but one of its ids name the benchmark."""
        for line in rows:
            row = json.loads(line) if self.apart else {}
            if row and self.owners[row["id"]] != row["split"]:
                yield dumps(row | {"id": f"{row['id']}{SHARED}{row['split']}"})
            else:
                yield line

    def _known(self, key: str) -> str:
        """Where a problem stands and what it says."""
        split, _, text = self.taken[key].split("\n", 2)
        return f"{split} {key} ({text!r})"


def _told(raw: Iterable[Raw], source: Source) -> Iterator[Raw]:
    """The same; says so where there are none."""
    empty = True
    for each in raw:
        empty = False
        yield each
    if empty:
        print(printable(f"problems: {source.file or label(source)} has no rows"))


def _spelling(text: str, split: str) -> str:
    """What tells problems of one key apart: the case of letters; in training problems of those in formulas alone."""
    if split == "train":
        if not any(mark in text for mark in ("$", r"\(", r"\[")):
            return ""
        parts, inside = [], False
        for i, part in enumerate(_FORMULA.split(text)):
            if i % 2:
                inside = part[-1] in "([" or (part[0] == "$" and not inside)
            parts.append(part if inside else part.lower())
        text = "".join(parts)
    return digest(" ".join(text.split()))[:8]


def _fresh(
    raw: Iterable[Raw], source: Source, split: str, guard: _Guard, drops: Texts, dropped: Counter[str]
) -> Iterator[Problem]:
    """What may be taken of a source; why the rest may not goes to `drops`, and its rule is counted."""
    for r in raw:
        key, spelling = identity(r.text), _spelling(r.text, split)
        if r.key:
            key, spelling = digest(r.verifier, r.key)[:16], ""
        if objection := guard.objection(key, r.text, split, spelling):
            evidence = f"{label(source)} in {split}, {objection[1]}: {r.text[:120]}"
            drops.add(dumps(to_row(Drop(key, objection[0], evidence))))
            dropped[objection[0]] += 1
            continue
        name = guard.take(key, r.text, split, spelling)
        level = source.level or r.level
        yield Problem(name, label(source), r.text, r.answer.strip(), level, split, r.subject, r.verifier, r.statement)


PROBLEMS = Kind(version=3, run=run)
