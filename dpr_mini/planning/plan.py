"""What `dpr-mini plan` says below the stages: memory against the card, engine, host, disk, tokens, what would fit.

Counting is in memory.py (a training step), capacity.py (everything else), ladder.py (the nearest recipe that fits) and
forecast.py (tokens and hours); here it is put into words. No torch, no network.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import psutil

from dpr_mini.machine import facts, gpus
from dpr_mini.machine.facts import cpu
from dpr_mini.models.shapes import SHAPES, Shape, read_shape, shape_of
from dpr_mini.planning import assumed, capacity, forecast, ladder
from dpr_mini.planning.capacity import GIB, Card, Serving, Training
from dpr_mini.planning.memory import Job
from dpr_mini.recipe import Recipe, TrainConfig
from dpr_mini.runs import TEST


def pick_card(recipe: Recipe, gib: float | None) -> Card:
    """The card of that size, or the one that is here, or the one that the recipe asks for, or none: the CPU."""
    if gib is not None:
        return Card(gib * GIB, "")
    if (here := gpus.first()) and here.total is not None:
        return Card(here.total * GIB, here.name)
    if recipe.needs.gpu_gib:
        return Card(recipe.needs.gpu_gib * GIB, "")
    return Card(None, f"cpu {cpu()}, cores {len(os.sched_getaffinity(0))}")


def find_shape(name: str, folder: Path | None) -> Shape | None:
    """The shape of a model in a folder, or by its name. Raises ModelError for a config.json that does not say it."""
    return shape_of(name) if folder is None else read_shape(folder)


def training_gib(config: TrainConfig, tokens_per_row: int, folder: Path) -> float | None:
    """GiB that a training takes of the GPU here at its peak, without slack; None where the shape is not known."""
    shape, here = find_shape("", folder), gpus.first()
    large = Card((here.total if here and here.total else 0.0) * GIB, "").large
    return Job(shape, config, tokens_per_row, large=large).peak().total / GIB if shape else None


@dataclass(frozen=True)
class Plan:
    """A recipe against a card. `base`: where its file names start; `folder`: the model's own, None for one by name."""

    recipe: Recipe
    card: Card
    base: Path
    folder: Path | None

    @cached_property
    def shape(self) -> Shape | None:
        return find_shape(self.recipe.model.name, self.folder)

    @cached_property
    def trainings(self) -> list[Training]:
        bf16 = self.card.gpu or facts.cpu_has_bf16()
        card = self.card
        return capacity.trainings(self.recipe, self.shape, card.gpu, bf16, card.large) if self.shape else []

    @cached_property
    def worst(self) -> Training | None:
        """None where nothing is trained."""
        return max(self.trainings, key=lambda t: t.total, default=None)

    @cached_property
    def engine(self) -> Serving | None:
        """None where it runs elsewhere."""
        return (
            capacity.serving(self.recipe, self.shape, self.card) if self.shape and not self.recipe.engine.urls else None
        )

    @cached_property
    def work(self) -> list[forecast.Work] | None:
        return forecast.work(self.recipe, self.base)

    @cached_property
    def opening(self) -> list[forecast.Work]:
        """What `run --test` asks besides."""
        both = forecast.work(self.recipe, self.base, test=True) if self.recipe.problems.test else None
        return [w for w in both or () if TEST in w.stage]

    def lack(self) -> str:
        """Why it does not fit the card; "" where it does, where there is none, and where the shape is not known."""
        if self.card.bytes is None or self.shape is None:
            return ""
        size = f"does not fit {_gib(self.card.bytes)} GiB"
        if self.worst and self.worst.total > self.card.bytes:
            return f"{size}: training needs {_gib(self.worst.total)} GiB ({self.worst.peak.name})"
        if self.engine and not self.engine.fits:
            return f"{size}: the engine needs {_gib(self.engine.need)} of its {_gib(self.engine.room)} GiB"
        return ""

    def fixes(self, load: Callable[[list[str]], Recipe]) -> list[str]:
        """Overrides that make it fit, one set a line; the first is the nearest. `load` gives the recipe with them."""
        if not self.lack() or self.card.bytes is None:
            return []
        size = self.card.bytes / GIB
        needs = float(int(size * 10) / 10) if self.recipe.needs.gpu_gib > size else None
        if self.worst and self.worst.total > self.card.bytes:
            fixes = ladder.fixes(self.trainings, self.card.bytes)
        else:
            fixes = [ladder.Fix(0, {})]
        sets = [ladder.overrides(fix, self.recipe, needs, load) for fix in fixes]
        if self.engine and not self.engine.fits:
            if not (window := self.engine.window_that_fits()):
                return []
            sets = [[*one, f"engine.window={window}"] for one in sets]
        return [" ".join(one) for one in sets]

    # --- words --------------------------------------------------------------------------------------------------------

    def lines(self, stages: Mapping[str, str]) -> list[str]:
        """The whole text. `stages`: the folder's name of every stage that has still to run."""
        if self.shape is None:
            choices = f"known are a folder with a config.json of llama, qwen2 or qwen3, and {', '.join(SHAPES)}"
            return [f"memory   not planned: no shape is known for {self.recipe.model.name}; {choices}"]
        return [*self.table(), self.serving(), *self.storage(), *self.tokens(stages)]

    def table(self) -> list[str]:
        """A column for each training that differs: what lives at its peak, the sum, the longest row."""
        if not self.trainings:
            return ["memory   nothing is trained"]
        peaks, tokens = [t.peak for t in self.trainings], self.recipe.pack.tokens_per_row
        titles = "".join(f"{t.section:>10}" for t in self.trainings)
        lines = [f"memory of training in GiB{titles}   rows of {tokens} tokens, each one a target (the most)"]
        names = [f.name for f in fields(peaks[0]) if f.name != "name"]
        lines += [_row(name, [getattr(p, name) for p in peaks]) for name in names]
        fixed = f"assumed: {_gib(capacity.CONTEXT)} CUDA context, {capacity.SLACK:.0%} of the rest for the allocator"
        fixed = fixed if self.card.gpu else "assumed: Python and torch"
        lines.append(_row("fixed", [t.fixed for t in self.trainings], fixed))
        room, place = self.card.bytes, "the card"
        if room is None:
            room, place = float(psutil.virtual_memory().total), "this machine's memory"
        when = "; ".join(dict.fromkeys(p.name for p in peaks))
        lines.append(_row("sum", [t.total for t in self.trainings], f"of {_gib(room)} of {place}; most at: {when}"))
        longest = "".join(f"{t.longest_row(room):10d}" for t in self.trainings)
        return [*lines, f"  {'longest row':23}{longest}   tokens that fit"]

    def serving(self) -> str:
        """One line on the engine, which has the card to itself in its own phases."""
        e = self.engine
        if e is None:
            return "engine   runs at engine.urls: its memory is its own"
        room = "" if e.room is None else f" of {_gib(e.room)}"
        return (
            f"engine   {e.kind}: weights {_gib(e.weights)}{room} GiB, cache {_gib(e.cache)} GiB for {e.at_once} "
            f"conversations of at most {e.conversation} tokens (question: {capacity.PROMPT} assumed), "
            f"{e.window} wanted at once"
        )

    def disk(self) -> dict[str, float]:
        """Bytes on disk, at most, by what they are for."""
        assert self.shape
        generated = sum(w.tokens for w in (*(self.work or ()), *self.opening) if w.kind == "generate")
        download = self.folder is None and "/" in self.recipe.model.name
        return capacity.disk(self.recipe, self.shape, self.trainings, generated, download)

    def storage(self) -> list[str]:
        """Host memory beside a card; disk."""
        parts = self.disk()
        breakdown = ", ".join(f"{name} {_gib(size)}" for name, size in parts.items() if size)
        lines = [f"disk     at most {_gib(sum(parts.values()))} GiB: {breakdown}"]
        if self.card.gpu and self.trainings:
            most = max(self.trainings, key=Training.host)
            away = f"checkpoints {_gib(most.job.host())}, " if most.job.host() else ""
            why = f"{away}weights on their way {_gib(most.loading)}; assumed: process {_gib(capacity.PROCESS[True])}"
            here = f" of {_gib(float(psutil.virtual_memory().total))} here" if self.card.name else ""
            lines.insert(0, f"host     {_gib(most.host())} GiB{here}: {why}")
        return lines

    def tokens(self, stages: Mapping[str, str]) -> list[str]:
        """What the stages that still have to run take, at most and as expected: number, tokens, time."""
        if self.work is None:
            return ["tokens   not known before the problems are read: a source does not say how many it has"]
        waiting = [w for w in self.work if w.stage in stages]
        if not waiting:
            return self.tested()
        measured = forecast.results()
        earlier_seconds = forecast.same_stage(stages, self.card, measured)
        lines = ["tokens   at most: every answer at its limit, everything kept"]
        if likely := all(w.expected for w in waiting):
            lines = [f"{lines[0]:68}expected: by assumed lengths and pass rates"]
        sums = {"generate": _Sum(), "train": _Sum()}
        timed, sources = 0, set()
        wide = max(15, *(len(w.stage) + 1 for w in waiting))
        for w in waiting:
            mean = w.expected.tokens if w.expected else None
            took, (slow, _) = earlier_seconds.get(w.stage), self.rate(w, measured, w.length)
            rate, source = self.rate(w, measured, w.expected.length if w.expected else w.length)
            text = f"  {w.stage:{wide}}{w.items:10d} {'answers' if w.kind == 'generate' else 'samples'}"
            if took:
                seconds, how = (took, took), f"took {_time(took)} on such a machine"
            elif rate and slow:
                seconds = (w.tokens / slow, None if mean is None else mean / rate)
                how = f"at {rate:.0f} tokens/s {'as ' if source == 'measured' else ''}{source}"
                sources.add(source)
            else:
                seconds, how = (None, None), ""
            shown = (None, None) if took else seconds
            text += _amount(w.tokens, shown[0])
            text += f"{w.expected.items:12.0f}{_amount(mean, shown[1])}" if likely and w.expected else ""
            lines.append(f"{text}   {how}".rstrip())
            sums[w.kind].add(w.tokens, mean, *seconds)
            timed += seconds[0] is not None
        for words, total in zip(("generated", "trained"), sums.values(), strict=True):
            lines.append(f"  {words:{wide + 18}}{total.told(likely)}".rstrip())
        if timed < len(waiting):
            what = "this card" if self.card.gpu else "this machine"
            lines.append(f"  {'for the others no' if timed else 'no'} measured rate for {what} in bench/results")
        elif self.card.gpu:
            starts = assumed.START * self.starts(stages)
            whole = sums["generate"].plus(sums["train"], starts)
            lines.append(
                f"  {f'all, with {_time(starts)} of starts':{wide + 18}}{whole.told(likely, tokens=False)}".rstrip()
            )
        if "assumed" in sources and (card := assumed.spec(self.card)):
            lines += [f"  {line}" for line in assumed.told(card, likely)]
        return lines + self.tested() + self.shares()

    def tested(self) -> list[str]:
        """What opening the test sets takes besides, in one line."""
        if not self.opening:
            return []
        items, tokens = (sum(getattr(w, name) for w in self.opening) for name in ("items", "tokens"))
        return [f"  run --test asks for {items} answers more, of at most {tokens / 1e6:.1f} M tokens"]

    def shares(self) -> list[str]:
        """What `scale` shrinks."""
        if self.recipe.scale == 1:
            return []
        whole = [n for n, group in self.recipe.problems.never_trained_on.items() if any(s.count is None for s in group)]
        share = f"scale={self.recipe.scale:g}"
        lines = [f"  {share}: so much of the training problems, chosen by hash where a source has no count"]
        return lines + ([f"  whole all the same, so that scores compare: {', '.join(whole)}"] if whole else [])

    def starts(self, stages: Mapping[str, str]) -> int:
        """Trainings, and servers: one before the first training and one after each."""
        trainings = sum(f"train-{phase}" in stages for phase in self.recipe.phases)
        return 2 * trainings + 1

    def rate(self, w: forecast.Work, measured: list[dict], length: float) -> tuple[float | None, str]:
        """Tokens a second of a stage where its conversations or samples have `length` tokens; measured or assumed."""
        card = assumed.spec(self.card)
        if w.kind == "train":
            section = "train" if w.stage == "train-1" else "train_2"
            mine = next((t for t in self.trainings if t.section == section), self.trainings[0])
            if rate := forecast.training_rate(mine, self.card, measured):
                return rate, "measured"
            return (assumed.training_rate(mine.job, length, card) if card else None), "assumed"
        kind = self.engine.kind if self.engine else "sglang"
        if rate := forecast.generation_rate(self.recipe.model.name, kind, self.card, measured):
            return rate, "measured"
        if card is None or self.engine is None:  # on a CPU, or on another machine: nothing is assumed
            return None, "assumed"
        return assumed.generation_rate(self.engine, length, card), "assumed"


@dataclass
class _Sum:
    """Tokens and seconds of several stages, at most and expected; None once one of them is not known."""

    most: float = 0
    mean: float | None = 0
    longest: float | None = 0
    seconds: float | None = 0

    def add(self, most: float, mean: float | None, longest: float | None, seconds: float | None) -> None:
        self.most += most
        self.mean = None if None in (self.mean, mean) else self.mean + mean
        self.longest = None if None in (self.longest, longest) else self.longest + longest
        self.seconds = None if None in (self.seconds, seconds) else self.seconds + seconds

    def plus(self, other: _Sum, more: float) -> _Sum:
        """Both together, and `more` seconds."""
        both = _Sum()
        for s in (self, other, _Sum(0, 0, more, more)):
            both.add(s.most, s.mean, s.longest, s.seconds)
        return both

    def told(self, likely: bool, tokens: bool = True) -> str:
        columns = ((self.most, self.longest), (self.mean, self.seconds))
        return f"{'':12}".join(_amount(n if tokens else None, s) for n, s in columns[: 1 + likely])


def _amount(tokens: float | None, seconds: float | None) -> str:
    """Millions of tokens and a time, in columns."""
    text = f"{'':17}" if tokens is None else f"{tokens / 1e6:8.1f} M tokens"
    return f"{text}{'' if seconds is None else _time(seconds):>10}"


def _gib(size: float) -> str:
    return f"{size / GIB:.1f}"


def _time(seconds: float) -> str:
    units = ((3600, "h"), (60, "min"), (1, "s"))
    size, unit = next(((n, u) for n, u in units if seconds >= n), units[-1])
    return f"{seconds / size:.{0 if seconds >= 100 * size else 1}f} {unit}"


def _row(name: str, sizes: list[float], note: str = "") -> str:
    return f"  {name:23}{''.join(f'{_gib(s):>10}' for s in sizes)}   {note}".rstrip()
