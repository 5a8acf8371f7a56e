"""Samples into training rows: laid aside on disk by number, chosen to a budget, packed by best-fit decreasing.

In memory is what the arithmetic needs, a few bytes for each sample: how long it is and how much of it is trained.
"""

from __future__ import annotations

import heapq
import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Self

import numpy as np

from dpr_mini.files.aside import Sorted, Texts
from dpr_mini.types import Pack, Sample, digest


def targets(sample: Sample) -> int:
    """Tokens of the sample that are predicted: trained ones, except a first token, which nothing comes before."""
    return sum(sample.trained[1:])


class Samples:
    """Training samples on disk, by number from 0. `lengths` and `targets` have the tokens of each.

    with Samples(folder) as samples: samples.add(sample); samples[0]
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.lengths, self.targets, self._places = array("I"), array("I"), array("Q")
        self.folder = folder
        self._texts, self._names = Texts(folder), Texts(folder)

    @classmethod
    def of(cls, samples: Iterable[Sample]) -> Samples:
        """All of these."""
        aside = cls()
        for sample in samples:
            aside.add(sample)
        return aside

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._texts.close()
        self._names.close()

    def __len__(self) -> int:
        return len(self.lengths)

    def add(self, sample: Sample) -> None:
        """Raises ValueError for one without tokens or without targets: it would make a row that has no loss."""
        length, trained = len(sample.ids), targets(sample)
        if not trained:
            raise ValueError(f"sample {sample.id}: {length} tokens, {trained} of them to train on")
        self.lengths.append(length)
        self.targets.append(trained)
        told = f"{length} {json.dumps(sample.id)}\n".encode() + array("I", sample.ids).tobytes() + bytes(sample.trained)
        self._places.append(self._texts.add(told))
        self._names.add(sample.id)

    def __getitem__(self, number: int) -> Sample:
        head, _, told = self._texts.at(self._places[number]).partition(b"\n")
        length, _, name = head.decode().partition(" ")
        ids = array("I")
        ids.frombytes(told[: -int(length)])
        return Sample(json.loads(name), tuple(ids), tuple(map(bool, told[-int(length) :])))

    def names(self) -> Iterator[str]:
        """Their ids, by number, without their tokens."""
        return (name.decode("utf-8", "surrogatepass") for name in self._names)

    def lengths_of(self, numbers: Sequence[int]) -> np.ndarray:
        """Tokens of the samples of these numbers."""
        if isinstance(numbers, range) and numbers == range(len(self)):
            return np.frombuffer(self.lengths, dtype=np.uint32)
        return np.frombuffer(self.lengths, dtype=np.uint32)[np.asarray(numbers, dtype=np.int64)]

    def __iter__(self) -> Iterator[Sample]:
        return (self[number] for number in range(len(self)))


def spend(samples: Samples, sizes: Sequence[int], budget: int) -> Sequence[int]:
    """Numbers of the samples that add up to `budget`, at most half a sample over or under it, but at least one sample.

    `sizes` says what each counts: its trained tokens, or all of them. They are taken in an order that is a hash of
    their id; where all of them are too few, they are taken again, in another order. Each whole pass over them is like
    one more epoch. The order is laid aside where the samples are.
    """
    taken, total, turn = array("I"), 0, 0
    while True:
        with Sorted(samples.folder) as order:
            for number, name in enumerate(samples.names()):
                order.add(digest(turn, name), str(number))
            for number in map(int, order):
                if taken and total + sizes[number] / 2 > budget:
                    return taken
                taken.append(number)
                total += sizes[number]
        turn += 1


def fit(lengths: Sequence[int], tokens_per_row: int) -> Iterator[Sequence[int]]:
    """Which of these lengths share a row of at most `tokens_per_row`: each goes into the fullest that still takes it.

    Longest first, ties in the given order, so equal input gives equal rows. Best-fit decreasing uses at most 11/9 of
    the optimal number of rows (Johnson 1973). Raises ValueError for a length that no row takes.
    """
    sizes = np.asarray(lengths, dtype=np.uint32)
    if not sizes.size:
        return
    longest, shortest = int(sizes.max()), int(sizes.min())
    if longest > tokens_per_row:
        raise ValueError(f"{longest} tokens do not fit into a row of {tokens_per_row}")
    order = np.argsort(longest - sizes, kind="stable").astype(np.uint32)
    row_of = np.empty(sizes.size, dtype=np.uint32)
    free: dict[int, list[int]] = {}  # tokens left -> the rows, the first one on top
    there = 0  # bit n: a row has n tokens left
    rows = 0
    for place, length in enumerate(memoryview(sizes[order])):
        if enough := there >> length:
            left = length + (enough & -enough).bit_length() - 1
            row = heapq.heappop(free[left])
            if not free[left]:
                del free[left]
                there ^= 1 << left
        else:
            left, row, rows = tokens_per_row, rows, rows + 1
        row_of[place] = row
        left -= length
        if left >= shortest:  # nothing fits into less
            heapq.heappush(free.setdefault(left, []), row)
            there |= 1 << left
    del sizes, free  # from here on it is these that grow with the samples: order, row_of, and what sorts them
    counts = np.bincount(row_of).astype(np.uint32)
    together = np.argsort(row_of, kind="stable").astype(np.uint32)
    del row_of
    begin = 0
    for count in memoryview(counts):
        yield order[together[begin : begin + count]].tolist()
        begin += count


def lay(samples: Sequence[Sample]) -> Pack:
    """One row of these samples, end to end. Nothing is cut, nothing is padded."""
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
