"""Kept dialogues -> packed training rows. Best-fit decreasing: nothing is cut, nothing is padded.

A sample is never split over rows, so the model sees every chain whole. A sample that is too long for a row, or that
has nothing to learn from, gets a line in drops.jsonl. Every row that is written has targets: no 0/0 in the loss.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dpr_mini import chat, recipe, store
from dpr_mini.types import Dialogue, Drop, Pack, Sample, from_row

VERSION = 1


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


def run(
    folder: Path, kept: Path, config: recipe.Pack, template: chat.Template, bridges: Mapping[str, str]
) -> dict[str, Any]:
    """Read `kept`/rows.jsonl, write rows.jsonl (asdict(Pack) with an id) and drops.jsonl (asdict(Drop)).

    Metrics count rows, samples, tokens, trained tokens (targets), the share of row space that is filled, and drops.
    Raises StoreError where no sample is left to train on.
    """
    samples, drops, longest = [], [], 0
    for row in store.read_rows(kept / "rows.jsonl"):
        dialogue = from_row(Dialogue, row["dialogue"])
        wrong_first = len(dialogue.turns) > 1 and row["verdicts"][0]["status"] != "correct"
        masked = frozenset({0}) if config.mask_wrong_first and wrong_first else frozenset()
        sample = chat.to_sample(dialogue, template, bridges, masked)
        longest = max(longest, len(sample.ids))
        if not targets(sample):
            drops.append(Drop(sample.id, "no_targets", f"0 of {len(sample.ids)} tokens to train on"))
        elif len(sample.ids) > config.tokens_per_row:
            evidence = f"{len(sample.ids)} tokens, pack.tokens_per_row is {config.tokens_per_row}"
            drops.append(Drop(sample.id, "too_long", evidence))
        else:
            samples.append(sample)
    store.write_rows(folder / "drops.jsonl", [asdict(d) for d in drops])
    if not samples:
        raise store.StoreError(
            f"{folder.name}: no sample left to train on: {kept.name} kept {len(drops)}, dropped here {len(drops)} "
            f"(longest {longest} tokens, pack.tokens_per_row {config.tokens_per_row})"
        )
    packs, _ = best_fit(samples, config.tokens_per_row)
    store.write_rows(folder / "rows.jsonl", ({"id": f"row-{i:06d}", **asdict(p)} for i, p in enumerate(packs)))
    tokens = sum(len(p.ids) for p in packs)
    return {
        "rows": len(packs),
        "samples": len(samples),
        "tokens": tokens,
        "trained_tokens": sum(targets(s) for s in samples),
        "fill": round(tokens / (len(packs) * config.tokens_per_row), 4),
        "dropped": len(drops),
        "longest": longest,
    }
