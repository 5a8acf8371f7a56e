"""Where problems come from, as a recipe says it: files, hub data sets, generators, and benchmarks by name."""

from __future__ import annotations

import itertools
import re
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from dpr_mini import tasks
from dpr_mini.recipe import benchmarks
from dpr_mini.recipe.base import (
    NAME,
    FileName,
    HubName,
    Identifier,
    Line,
    Name,
    Options,
    PositiveShare,
    Problems,
    Revision,
    Section,
    Seed,
    SomeLine,
    SomeText,
    Words,
    is_name,
)
from dpr_mini.types import ALL, EASY, HARD, UserError

# Names of held-out sets that would be taken for something else downstream.
RESERVED = {"train": "the split that is trained on", ALL: "the card over all benchmarks"}
RESERVED |= dict.fromkeys((HARD, EASY), "a bin of `compare`")


def shrunk(whole: int, scale: float) -> int:
    """`scale` of `whole` problems, at least one."""
    return max(1, round(whole * scale))


class Columns(Section):
    """Which fields of a row hold what."""

    text: SomeLine = "problem"
    answer: SomeLine = "answer"
    level: SomeLine = "level"
    subject: SomeLine = "subject"


class Source(Section):
    """Problems from exactly one of: a local file, a hub data set, a reasoning-gym generator, a task with a verifier."""

    file: FileName | None = None  # .jsonl, .jsonl.gz or .parquet; relative to the recipe
    hub: HubName | None = None  # a data set on the Hugging Face hub
    generate: Identifier | None = None  # a reasoning-gym task
    task: Identifier | None = None  # a task of our own whose answers are executed (tasks/)
    part: Identifier | None = None  # task: a part that its problems fall into by hash (tasks.PARTS); none = all
    revision: Revision | None = None  # hub: commit
    subset: SomeLine | None = None  # hub: configuration name
    split: SomeLine = "train"  # hub: split
    columns: Columns = Columns()
    options: Options = Field({})  # generate, task: the task's own options
    # How the question is put: {text} is the source's own; a generator's metadata has names too, e.g. {expression}.
    # Of a task {text} is the statement that its verifier reads.
    wording: SomeText = "{text}"
    level: Line = ""  # difficulty label for the report where rows have none
    # Problems to take (times `scale`). None = all of a file or data set; of training problems `scale` then takes its
    # share, chosen by hash, while held-out ones stay whole, so that scores at any scale are of the same benchmark.
    count: Problems | None = None
    # generate, task: the task's seed; else the hash's by which `scale` chooses. "run": another draw for each seed of
    # the recipe, for training problems.
    seed: Seed | Literal["run"] = 0

    @field_validator("seed", mode="before")
    @classmethod
    def _number_or_run(cls, value: Any) -> Any:
        if value != "run" and (isinstance(value, bool) or not isinstance(value, int)):
            raise ValueError("write a whole number, or run: another draw for each seed of the recipe")
        return value

    @model_validator(mode="after")
    def _one_origin(self) -> Source:
        if sum(x is not None for x in (self.file, self.hub, self.generate, self.task)) != 1:
            raise ValueError("give exactly one of file, hub, generate, task")
        if (self.generate or self.task) and self.count is None:
            raise ValueError(f"{'generate' if self.generate else 'task'} needs a count")
        if self.part is not None and not self.task:
            raise ValueError("part is for a task")
        if self.task:
            for key in ("revision", "subset", "split", "columns"):
                if key in self.model_fields_set and getattr(self, key) is not None:
                    raise ValueError(f"{key} is for a hub or a file, a task has none" + "; part?" * (key == "split"))
            if unknown := sorted({*re.findall(r"\{([a-z_]+)\}", self.wording)} - {"text"}):
                raise ValueError(f"wording: a task has no {{{unknown[0]}}}; write {{text}}")
            try:
                tasks.make(self.task, self.options)
            except UserError as error:
                raise ValueError(str(error)) from None  # so that the message names file and line
            if self.part is not None and self.part not in tasks.PARTS:
                raise ValueError(f"no part {self.part!r}; there are: {', '.join(tasks.PARTS)}")
        if "{" not in self.wording:
            raise ValueError("wording must say where the question goes, e.g. {text}")
        return self

    @model_serializer(mode="wrap")
    def _without_new_names(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the keys of a task where there is none: stage keys from before them stay."""
        return {k: v for k, v in plain(self).items() if v is not None or k not in ("task", "part")}


class DecontaminateConfig(Section):
    """A training problem with this share of a held-out problem's n-grams is dropped (13: arXiv 2005.14165)."""

    ngram: Words = 13
    share: PositiveShare = 0.5  # ours


class ProblemsConfig(Section):
    train: tuple[Source, ...] = ()  # empty only where nothing is trained (phases: [])
    # benchmark name -> its sources; never trained on. {benchmark: aime24, folder: DIR} is one by name (benchmarks.py).
    # null leaves out one of the recipe that is extended.
    held_out: dict[Name, tuple[Source, ...]] = Field({})
    dev: dict[Name, tuple[Source, ...]] = Field({})  # the same, for choices while an experiment is made
    test: dict[Name, tuple[Source, ...]] = Field({})  # no model is asked about these but by `run --test`
    decontaminate: DecontaminateConfig | None = DecontaminateConfig()  # null: only equal problems are dropped
    near_duplicates: PositiveShare | None = None  # Jaccard similarity at which a training problem is dropped

    @property
    def evaluated(self) -> dict[str, tuple[Source, ...]]:
        """What every run asks the models about, by name."""
        return {**self.held_out, **self.dev}

    @property
    def never_trained_on(self) -> dict[str, tuple[Source, ...]]:
        """All held-out sets by name, those of `test` too."""
        return {**self.evaluated, **self.test}

    @model_validator(mode="after")
    def _parts_apart(self) -> ProblemsConfig:
        """Problems of one part can be known from one another: equal ones are dropped, alike ones are not."""
        for name, sources in self.never_trained_on.items():
            for held, source in itertools.product(sources, self.train):
                if held.task and held.task == source.task and held.part and held.part == source.part:
                    of = f"part {held.part!r} of {held.task}"
                    raise ValueError(f"{of} is in {name!r} and in train: give train another part")
        return self

    @model_validator(mode="after")
    def _each_name_once(self) -> ProblemsConfig:
        groups = {name: getattr(self, name) for name in ("held_out", "dev", "test")}
        for one, other in itertools.combinations(groups, 2):
            if twice := groups[one].keys() & groups[other].keys():
                raise ValueError(f"{min(twice)!r} is a set of {one} and of {other}: name them apart")
        return self

    @model_serializer(mode="wrap")
    def _without_empty_groups(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without dev and test where there are none: stage keys from before them stay."""
        return {k: v for k, v in plain(self).items() if v or k not in ("dev", "test")}

    @field_validator("held_out", "dev", "test", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if odd := [name for name in value if not is_name(name)]:
            raise ValueError(f"a held-out set cannot be named {odd[0]!r:.80}: a name {NAME}")
        if taken := [name for name in value if name.casefold() in RESERVED]:
            what = RESERVED[taken[0].casefold()]
            raise ValueError(f"a held-out set cannot be named {taken[0]!r}, {what}: rename it, or its file")
        groups = [group for group in value.values() if isinstance(group, list)]
        if any(isinstance(s, dict) and s.get("seed") == "run" for group in groups for s in group):
            raise ValueError("seed: run is for training problems; held-out ones are the same for every seed")
        return {
            name: [s for source in group for s in benchmarks.sources(source)] if isinstance(group, list) else group
            for name, group in value.items()
        }

    @field_validator("train", mode="before")
    @classmethod
    def _never_trained_on(cls, value: Any) -> Any:
        if isinstance(value, list) and any(isinstance(s, dict) and "benchmark" in s for s in value):
            raise ValueError("a benchmark is held out, never trained on; name a file, hub data set or generator")
        return value
