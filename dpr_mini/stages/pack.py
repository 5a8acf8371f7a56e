"""Kept dialogues -> packed training rows. Best-fit decreasing: nothing is cut, nothing is padded.

A sample is never split over rows, so the model sees every chain whole. A sample that is too long for a row, that has
nothing to learn from, or whose wrong attempts cannot be masked, gets a line in drops.jsonl. Every row that is written
has targets: no 0/0 in the loss. For controls, samples can be cut or repeated to a budget of trained tokens, later turns
emptied of their words, and for a task's problems checks taken out or verdicts drawn by a coin.
"""

from __future__ import annotations

import bisect
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from dpr_mini import recipe
from dpr_mini.chat import template as chat
from dpr_mini.files.rows import StoreError, read_rows, write_rows
from dpr_mini.selection.controls import controlled, wrong_spans
from dpr_mini.selection.masking import wrong_first
from dpr_mini.store import Kind, Settings, Work
from dpr_mini.types import Dialogue, Drop, Kept, Pack, Sample, Turn, UserError, digest, from_row

EDITS = 2  # raised when what is masked or edited of a task's chains changes: other packings keep their keys


def targets(sample: Sample) -> int:
    """Tokens of the sample that are predicted: trained ones, except a first token, which nothing comes before."""
    return sum(sample.trained[1:])


def best_fit(samples: Sequence[Sample], tokens_per_row: int) -> tuple[list[Pack], list[str]]:
    """Pack samples into rows of at most `tokens_per_row` tokens, each into the fullest row that still takes it.

    Longest first, ties in the given order, so equal input gives equal rows. Returns the rows and the ids of samples
    longer than a row. Best-fit decreasing uses at most 11/9 of the optimal number of rows (Johnson 1973).
    Raises ValueError for a sample without tokens or without targets: it would make a row that has no loss.
    """
    for sample in samples:
        if len(sample.ids) != len(sample.trained) or not targets(sample):
            raise ValueError(f"sample {sample.id}: {len(sample.ids)} tokens, {targets(sample)} of them to train on")
    rows: list[list[Sample]] = []
    free: list[tuple[int, int]] = []  # (tokens left, row), sorted: the first that is large enough fits best
    too_long = [s.id for s in samples if len(s.ids) > tokens_per_row]
    for sample in sorted((s for s in samples if len(s.ids) <= tokens_per_row), key=lambda s: -len(s.ids)):
        at = bisect.bisect_left(free, (len(sample.ids), 0))
        left, row = free.pop(at) if at < len(free) else (tokens_per_row, len(rows))
        if row == len(rows):
            rows.append([])
        rows[row].append(sample)
        bisect.insort(free, (left - len(sample.ids), row))
    return [_lay(row) for row in rows], too_long


def _lay(samples: Sequence[Sample]) -> Pack:
    starts, at = [], 0
    for sample in samples:
        starts.append(at)
        at += len(sample.ids)
    return Pack(
        samples=tuple(s.id for s in samples),
        ids=tuple(i for s in samples for i in s.ids),
        trained=tuple(t for s in samples for t in s.trained),
        starts=tuple(starts),
    )


def trained_text(sample: Sample, template: chat.Template) -> str:
    """What the sample is trained on."""
    return template.decode([i for i, on in zip(sample.ids, sample.trained, strict=True) if on])


def spend(samples: Sequence[Sample], budget: int, size: Callable[[Sample], int] = targets) -> list[Sample]:
    """Samples of `budget` trained tokens in all, at most half a sample over or under it, but at least one sample.

    Another `size` counts something else than trained tokens.
    They are taken in an order that is a hash of their id; where all of them are too few, they are taken again, in
    another order. Each whole pass over them is like one more epoch.
    """
    taken, total, turn = [], 0, 0
    while True:
        for sample in sorted(samples, key=lambda s: digest(turn, s.id)):
            if taken and total + size(sample) / 2 > budget:
                return taken
            taken.append(sample)
            total += size(sample)
        turn += 1


def in_rows(samples: Sequence[Sample], packs: Sequence[Pack]) -> list[Sample]:
    """Of these samples those that stand in the rows, as often as they do."""
    left = Counter(name for pack in packs for name in pack.samples)
    kept = []
    for sample in samples:
        if left[sample.id] > 0:
            left[sample.id] -= 1
            kept.append(sample)
    return kept


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
    samples, drops, longest = [], [], 0
    for row in read_rows(kept_folder / "rows.jsonl"):
        case: Kept = from_row(Kept, row)
        if config.executed and not case.verifier:
            raise UserError(f"pack.{config.executed} reads a task's chains; the problem of {case.id} has no verifier")
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
            drops.append(Drop(case.id, "mask", f"its tokens do not spell the wrong attempt {str(error)[:100]!r}"))
            continue
        longest = max(longest, len(sample.ids))
        if masked is None:
            drops.append(Drop(sample.id, "mask", f"its tokens do not spell the wrong first attempt {wrong[:100]!r}"))
        elif not targets(sample):
            drops.append(Drop(sample.id, "no_targets", f"0 of {len(sample.ids)} tokens to train on"))
        elif len(sample.ids) > config.tokens_per_row:
            evidence = f"{len(sample.ids)} tokens, pack.tokens_per_row is {config.tokens_per_row}"
            drops.append(Drop(sample.id, "too_long", evidence))
        else:
            samples.append(sample)
    write_rows(folder / "drops.jsonl", [asdict(d) for d in drops])
    if not samples:
        raise StoreError(
            f"{folder.name}: no sample left to train on: {kept_folder.name} kept {len(drops)}, "
            f"dropped here {len(drops)} (longest {longest} tokens, pack.tokens_per_row {config.tokens_per_row})"
        )
    used = spend(samples, budget) if budget else samples
    if rows := work.measured("rows") if isinstance(config.rows, str) else config.rows:
        used = spend(samples, rows * config.tokens_per_row, lambda s: len(s.ids))
    packs, _ = best_fit(used, config.tokens_per_row)
    if rows:
        packs = packs[:rows]  # they may need one more, as none is quite full
        used = in_rows(used, packs)
    write_rows(folder / "rows.jsonl", ({"id": f"row-{i:06d}", **asdict(p)} for i, p in enumerate(packs)))
    tokens = sum(len(p.ids) for p in packs)
    return {
        "rows": len(packs),
        "samples": len(used),
        "distinct_samples": len({s.id for s in used}),
        "contents": len({trained_text(s, template) for s in used}),
        "tokens": tokens,
        "trained_tokens": sum(targets(s) for s in used),
        "fill": round(tokens / (len(packs) * config.tokens_per_row), 4),
        "dropped": len(drops),
        "longest": longest,
    }


PACK = Kind(version=2, run=run)
