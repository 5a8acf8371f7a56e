"""Do two texts overlap? N-gram contamination of training problems, and near duplicates.

`NGram` answers whether a training problem stands in an evaluation set: 13-grams over lower-case words and numbers, as
for GPT-3 (arXiv 2005.14165, appendix C), counted as a share of one evaluation problem's own 13-grams. A single shared
13-gram says little in mathematics ("where m and n are relatively prime positive integers. Find m + n").
`NearDuplicates` finds texts whose word 3-grams are mostly the same: MinHash LSH proposes (Broder 1997; datasketch),
the exact Jaccard similarity decides.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

NUM_PERM, SEED = 128, 1
SHINGLE = 3  # words in a shingle
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
    """An index that finds texts of Jaccard similarity >= threshold over `shingles`. Deterministic."""

    def __init__(self, threshold: float = 0.8, num_perm: int = NUM_PERM) -> None:
        """Raises ValueError for a threshold outside (0, 1]."""
        from datasketch import MinHashLSH

        if not 0 < threshold <= 1:
            raise ValueError(f"threshold must be in (0, 1], got {threshold}")
        self.threshold, self.num_perm = threshold, num_perm
        self._lsh = MinHashLSH(num_perm=num_perm, params=_bands(threshold, num_perm))
        self._known: dict[str, frozenset[tuple[str, ...]]] = {}
        self._places: dict[str, int] = {}  # order of arrival

    def add(self, name: str, text: str) -> None:
        """Index one text. Raises ValueError for a name that is there already."""
        if name in self._known:
            raise ValueError(f"{name!r} is indexed already")
        self._known[name], self._places[name] = shingles(text), len(self._places)
        if self._known[name]:
            self._lsh.insert(name, self._sketch(self._known[name]))

    def find(self, text: str) -> Overlap | None:
        """The most similar indexed text at or above the threshold; the first added wins a tie."""
        mine = shingles(text)
        near = set(self._lsh.query(self._sketch(mine))) if mine else set()
        hits = [Overlap(name, jaccard(mine, self._known[name])) for name in near]
        best = min(hits, key=lambda h: (-h.share, self._places[h.name]), default=None)
        return best if best and best.share >= self.threshold else None

    def _sketch(self, of: frozenset[tuple[str, ...]]) -> Any:
        from datasketch import MinHash

        sketch = MinHash(num_perm=self.num_perm, seed=SEED)
        sketch.update_batch([" ".join(s).encode() for s in sorted(of)])
        return sketch


def _bands(threshold: float, num_perm: int) -> tuple[int, int]:
    """(bands, rows): as many rows as keep the chance of missing a pair at the threshold below _MISS."""
    fits = (r for r in range(num_perm // 2, 0, -1) if (1 - threshold**r) ** (num_perm // r) <= _MISS)
    rows = next(fits, 1)
    return num_perm // rows, rows
