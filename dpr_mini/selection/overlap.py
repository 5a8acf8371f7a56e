"""Do two texts overlap? N-gram contamination of training problems, and near duplicates.

`NGram` answers whether a training problem stands in an evaluation set: 13-grams over lower-case words and numbers, as
for GPT-3 (arXiv 2005.14165, appendix C), counted as a share of one evaluation problem's own 13-grams. A single shared
13-gram says little in mathematics ("where m and n are relatively prime positive integers. Find m + n").
`NearDuplicates` finds texts whose word 3-grams are mostly the same: MinHash LSH proposes (Broder 1997; datasketch),
the exact Jaccard similarity decides.
"""

from __future__ import annotations

import re
import zlib
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dpr_mini.files.aside import Table, Texts

NUM_PERM, SEED = 128, 1
SHINGLE = 3  # words in a shingle
_SMALLEST = 1024  # texts of the first part of an index
_MISS = 1e-4  # LSH may pass over a pair at the threshold with this chance
_OPERATORS = frozenset("+-*/^=<>\u00d7\u00f7\u22c5\u00b7\u2212")
_PIECES = re.compile(r"[a-z0-9]+|[-+*/^=<>()\[\]\u00d7\u00f7\u22c5\u00b7\u2212]")


def tokens(text: str) -> list[str]:
    """Words and numbers, lower case: [a-z0-9]+. Signs and LaTeX's backslashes are no part of it."""
    return re.findall(r"[a-z0-9]+", text.lower())


def formula(text: str) -> tuple[str, ...]:
    """The tokens and the operators between them. Brackets and a sign behind a bracket or operator are layout.

    So "3 + 4?" differs from "3 * 4?", which `tokens` alone cannot tell apart.
    """
    pieces, before = [], ""
    for piece in _PIECES.findall(text.lower()):
        operand = before not in _OPERATORS and before not in {"", "(", "["}
        if piece.isalnum() or (piece in _OPERATORS and operand):
            pieces.append(piece)
        before = piece
    return tuple(pieces)


@dataclass(frozen=True)
class Overlap:
    """What a text shares with the nearest indexed one. `share` is in [0, 1]."""

    name: str
    share: float


@dataclass
class NGram:
    """An index of texts by their distinct n-grams of `tokens`.

    index = NGram(); index.add("test-1", problem); hit = index.best(training_problem)
    """

    n: int = 13
    _sizes: dict[str, int] = field(default_factory=dict, init=False)
    _places: dict[str, int] = field(default_factory=dict, init=False)  # order of arrival
    _by_gram: dict[tuple[str, ...], list[str]] = field(default_factory=lambda: defaultdict(list), init=False)
    _short: dict[tuple[str, ...], str] = field(default_factory=dict, init=False)  # texts without a single n-gram

    def grams(self, text: str) -> set[tuple[str, ...]]:
        words = tokens(text)
        return {tuple(words[i : i + self.n]) for i in range(len(words) - self.n + 1)}

    def add(self, name: str, text: str) -> None:
        """Index one text; names are unique. A text without a token is never found."""
        grams = self.grams(text)
        self._sizes[name], self._places[name] = len(grams), len(self._places)
        for gram in grams:
            self._by_gram[gram].append(name)
        if not grams and (whole := formula(text)):
            self._short.setdefault(whole, name)

    def best(self, text: str) -> Overlap | None:
        """The indexed text of whose n-grams `text` has the largest share; the first added wins a tie.

        A text of fewer than n tokens overlaps only with one that has the same `formula`: share 1.
        """
        grams = self.grams(text)
        if not grams:
            name = self._short.get(formula(text))
            return Overlap(name, 1.0) if name is not None else None
        counts = Counter(name for gram in grams for name in self._by_gram.get(gram, ()))
        hits = [Overlap(name, count / self._sizes[name]) for name, count in counts.items()]
        return min(hits, key=lambda h: (-h.share, self._places[h.name]), default=None)


def shingles(text: str) -> frozenset[tuple[str, ...]]:
    """Distinct runs of SHINGLE pieces (words, numbers, operators); a shorter text is one shingle, an empty one none."""
    return runs(formula(text))


def runs(pieces: Sequence[str]) -> frozenset[tuple[str, ...]]:
    """The same of a text's `formula`."""
    if len(pieces) < SHINGLE:
        return frozenset([tuple(pieces)] if pieces else [])
    return frozenset(zip(*(pieces[i:] for i in range(SHINGLE)), strict=False))


def jaccard(a: frozenset[Any], b: frozenset[Any]) -> float:
    """Shared members over all members, in [0, 1]; 0 where both are empty."""
    return len(a & b) / len(a | b) if a or b else 0.0


class NearDuplicates:
    """An index that finds texts of Jaccard similarity >= threshold over `shingles`. Deterministic.

    Some 400 bytes of memory a text; the texts themselves are on disk.
    """

    def __init__(self, threshold: float = 0.8, num_perm: int = NUM_PERM) -> None:
        """Raises ValueError for a threshold outside (0, 1]."""
        from datasketch import MinHash

        if not 0 < threshold <= 1:
            raise ValueError(f"threshold must be in (0, 1], got {threshold}")
        self.threshold, self.num_perm = threshold, num_perm
        self._empty = MinHash(num_perm=num_perm, seed=SEED)  # drawing its permutations takes longer than a sketch
        self._bands, self._rows = _bands(threshold, num_perm)
        self._parts: list[_Part] = []
        self._names, self._texts, self._places = Table(), Texts(), array("Q")
        self._last: tuple[str, frozenset[tuple[str, ...]], list[int]] = ("", frozenset(), [])

    def add(self, name: str, text: str) -> None:
        """Index one text. Raises ValueError for a name that is there already."""
        if name in self._names:
            raise ValueError(f"{name!r} is indexed already")
        self._names.add(name)
        if not self._parts or self._parts[-1].full:
            first = len(self._places)
            self._parts.append(_Part(first, max(_SMALLEST, first), self._bands))
        self._parts[-1].add(self._keys(text)[1])
        self._places.append(self._texts.add(f"{name}\n{' '.join(formula(text))}"))

    def find(self, text: str) -> Overlap | None:
        """The most similar indexed text at or above the threshold; the first added wins a tie."""
        mine, keys = self._keys(text)
        best: Overlap | None = None
        for number in sorted({n for part in self._parts for n in part.find(keys)} if mine else ()):
            name, _, pieces = self._texts.at(self._places[number]).decode().rpartition("\n")
            share = jaccard(mine, runs(pieces.split()))
            if share >= self.threshold and (best is None or share > best.share):
                best = Overlap(name, share)
        return best

    def _keys(self, text: str) -> tuple[frozenset[tuple[str, ...]], list[int]]:
        """The shingles, and a key for each band of their MinHash; none where there are no shingles."""
        if text != self._last[0]:  # what is looked for is often added next
            mine = shingles(text)
            self._last = (text, mine, self._sketch(mine) if mine else [])
        return self._last[1:]

    def _sketch(self, of: frozenset[tuple[str, ...]]) -> list[int]:
        sketch, rows = self._empty.copy(), self._rows
        sketch.update_batch([" ".join(s).encode() for s in sorted(of)])
        values = sketch.hashvalues
        return [zlib.crc32(values[i * rows : (i + 1) * rows].tobytes(), i) for i in range(self._bands)]


class _Part:
    """Which of `room` texts, numbered from `first`, have a key of 32 bits in a band: a hash table with chains.

    A key that two texts share by chance only adds a text to be compared. A further part is made when one is full, twice
    as large, so that nothing is ever copied.
    """

    def __init__(self, first: int, room: int, bands: int) -> None:
        self._first, self._bands = first, bands
        self._mask = (1 << (room * bands - 1).bit_length()) - 1
        self._heads = memoryview(np.zeros(self._mask + 1, dtype=np.uint32))  # entry + 1; its pages come when written
        self._entries = room * bands
        self._keys, self._next = array("I"), array("I")

    @property
    def full(self) -> bool:
        return len(self._keys) >= self._entries

    def add(self, keys: Sequence[int]) -> None:
        """The next text's key in each band; no keys: it is never found."""
        for key in keys or [0] * self._bands:
            bucket = key & self._mask
            self._keys.append(key)
            self._next.append(self._heads[bucket])
            if keys:
                self._heads[bucket] = len(self._keys)

    def find(self, keys: Sequence[int]) -> Iterator[int]:
        """Numbers of texts that have the same key in a band."""
        for band, key in enumerate(keys):
            entry = self._heads[key & self._mask]
            while entry:
                if self._keys[entry - 1] == key and (entry - 1) % self._bands == band:
                    yield self._first + (entry - 1) // self._bands
                entry = self._next[entry - 1]


def _bands(threshold: float, num_perm: int) -> tuple[int, int]:
    """(bands, rows): as many rows as keep the chance of missing a pair at the threshold below _MISS."""
    fits = (r for r in range(num_perm // 2, 0, -1) if (1 - threshold**r) ** (num_perm // r) <= _MISS)
    rows = next(fits, 1)
    return num_perm // rows, rows
