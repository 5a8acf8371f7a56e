"""Kept dialogues -> packed training rows. Best-fit decreasing (packing.py): nothing is cut, nothing is padded.

A sample is never split over rows, so the model sees every chain whole. A sample that is too long for a row, that has
nothing to learn from, or whose wrong attempts cannot be masked, gets a line in drops.jsonl. Every row that is written
has targets: no 0/0 in the loss. For controls, samples can be cut or repeated to a budget of trained tokens, later turns
emptied of their words, and for a task's problems checks taken out or verdicts drawn by a coin.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import islice
from typing import Any

from dpr_mini import recipe
from dpr_mini.chat import template as chat
from dpr_mini.files.aside import Table, Texts
from dpr_mini.files.rows import StoreError, dumps, read_as, write_lines, write_rows
from dpr_mini.selection.controls import controlled, wrong_spans
from dpr_mini.selection.masking import wrong_first
from dpr_mini.selection.packing import Samples, fit, lay, spend, targets
from dpr_mini.store import Kind, Settings, Work
from dpr_mini.types import Dialogue, Drop, Kept, Sample, Turn, UserError, hashed

EDITS = 2  # raised when what is masked or edited of a task's chains changes: other packings keep their keys


def trained_text(sample: Sample, template: chat.Template) -> str:
    """What the sample is trained on."""
    return template.decode([i for i, on in zip(sample.ids, sample.trained, strict=True) if on])


def hollow(dialogue: Dialogue, answer: str, template: chat.Template, filler: recipe.FillerConfig) -> Dialogue:
    """The dialogue with the words of every later turn replaced by filler that ends in `answer`.

    A turn keeps its number of tokens, or gets those that its answer alone needs.
    """
    end = template.encode(filler.answer.replace("{answer}", answer))
    word = template.encode(filler.text)

    def emptied(turn: Turn) -> Turn:
        ids = (*(word * len(turn.ids))[: max(0, len(turn.ids) - len(end))], *end)
        return replace(turn, ids=ids, text=template.decode(ids))

    first, *later = dialogue.turns
    return replace(dialogue, turns=(first, *map(emptied, later)))


def first_tokens(turn: Turn, text: str, template: chat.Template) -> int | None:
    """How many tokens of a turn hold the text that it begins with; None where the tokens say something else."""
    return len(turn.ids) if text == turn.text else chat.spelled(turn.ids, text, template)


@dataclass(frozen=True)
class PackSettings(Settings):
    config: recipe.PackConfig
    bridges: Mapping[str, str]
    tokenizer: str  # identity of the model whose tokenizer and template are used
    epochs: int  # of the training that follows: a budget of tokens is that of all epochs together

    def key(self) -> dict[str, Any]:
        own = {**self.config.model_dump(mode="json"), "bridges": dict(self.bridges), "tokenizer": self.tokenizer}
        own |= {"edits": EDITS} if self.config.executed else {}
        return own | ({"epochs": self.epochs} if self.config.trained_tokens else {})


def run(work: Work) -> dict[str, Any]:
    """Read the rows of the input `kept`, write rows.jsonl (asdict(Pack) with an id) and drops.jsonl (asdict(Drop)).

    Metrics count rows, samples, tokens, trained tokens (targets), the share of row space that is filled and drops;
    `samples` counts a repeated one each time, `contents` the distinct texts that are trained on. Raises StoreError
    where no sample is left to train on, UserError for an option that needs a task's problems on another.
    """
    settings: PackSettings = work.settings
    folder, kept_folder, config = work.folder, work.inputs["kept"], settings.config
    template, bridges = work.machine.template(work.machine.base_model()), settings.bridges
    measured = isinstance(config.trained_tokens, tuple)
    total = work.measured("trained_tokens") if measured else config.trained_tokens
    budget = math.ceil(total / settings.epochs) if total else None  # trained tokens of one epoch
    longest = 0
    with Samples(folder) as samples, Texts(folder) as drops:

        def drop(name: str, rule: str, evidence: str) -> None:
            drops.add(dumps(asdict(Drop(name, rule, evidence))))

        for case in read_as(Kept, kept_folder / "rows.jsonl"):
            if config.executed and not case.verifier:
                raise UserError(
                    f"pack.{config.executed} reads a task's chains; the problem of {case.id} has no verifier"
                )
            dialogue = case.dialogue
            if case.verifier:
                dialogue = controlled(dialogue, case.verifier, config.checks, config.verdicts, template, bridges)
            wrong = wrong_first(dialogue, case.verdicts, case.attempt, bridges) if config.mask_wrong_first else None
            masked = 0 if wrong is None else first_tokens(dialogue.turns[0], wrong, template)
            if config.filler:
                dialogue = hollow(dialogue, case.verdicts[-1].extracted, template, config.filler)
            spans = wrong_spans(dialogue, case.verifier, case.wrong, bridges) if config.mask_wrong_attempts else []
            try:
                sample = chat.to_sample(dialogue, template, bridges, masked or 0, spans)
            except chat.Unspelled as error:
                drop(case.id, "mask", f"its tokens do not spell the wrong attempt {str(error)[:100]!r}")
                continue
            longest = max(longest, len(sample.ids))
            if masked is None:
                drop(sample.id, "mask", f"its tokens do not spell the wrong first attempt {wrong[:100]!r}")
            elif not targets(sample):
                drop(sample.id, "no_targets", f"0 of {len(sample.ids)} tokens to train on")
            elif len(sample.ids) > config.tokens_per_row:
                evidence = f"{len(sample.ids)} tokens, pack.tokens_per_row is {config.tokens_per_row}"
                drop(sample.id, "too_long", evidence)
            else:
                samples.add(sample)
        write_lines(folder / "drops.jsonl", drops)
        dropped = len(drops)
        if not len(samples):
            raise StoreError(
                f"{folder.name}: no sample left to train on: {kept_folder.name} kept {dropped}, "
                f"dropped here {dropped} (longest {longest} tokens, pack.tokens_per_row {config.tokens_per_row})"
            )
        used = spend(samples, samples.targets, budget) if budget else range(len(samples))
        if most := work.measured("rows") if isinstance(config.rows, str) else config.rows:
            used = spend(samples, samples.lengths, most * config.tokens_per_row)
        # They may need one row more than `most`, as none is quite full.
        rows = islice(fit(samples.lengths_of(used), config.tokens_per_row), most or None)
        packed = _Packed(samples, template)
        write_rows(folder / "rows.jsonl", (packed.row([used[i] for i in row]) for row in rows))
    return packed.metrics(config.tokens_per_row) | {"dropped": dropped, "longest": longest}


class _Packed:
    """Lays the rows and counts what is in them."""

    def __init__(self, samples: Samples, template: chat.Template) -> None:
        self._samples, self._template = samples, template
        self._rows = self._count = self._tokens = self._trained = 0
        self._seen, self._contents = bytearray(len(samples)), Table()

    def row(self, numbers: Sequence[int]) -> dict[str, Any]:
        """A line of rows.jsonl with the samples of these numbers."""
        samples = [self._samples[n] for n in numbers]
        for number, sample in zip(numbers, samples, strict=True):
            self._count += 1
            self._tokens += len(sample.ids)
            self._trained += targets(sample)
            if not self._seen[number]:
                self._seen[number] = 1
                self._contents.add(hashed(trained_text(sample, self._template)))
        pack = lay(samples)
        row = {"id": f"row-{self._rows:06d}", **{f.name: getattr(pack, f.name) for f in fields(pack)}}
        self._rows += 1
        return row

    def metrics(self, tokens_per_row: int) -> dict[str, Any]:
        return {
            "rows": self._rows,
            "samples": self._count,
            "distinct_samples": self._seen.count(1),
            "contents": len(self._contents),
            "tokens": self._tokens,
            "trained_tokens": self._trained,
            "fill": round(self._tokens / (self._rows * tokens_per_row), 4),
        }


PACK = Kind(version=2, run=run)
