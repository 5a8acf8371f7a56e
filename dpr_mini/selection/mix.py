"""A declared mix of trajectory kinds: the most cases that have these shares, chosen by a hash of their ids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from dpr_mini.files.rows import StoreError


@dataclass(frozen=True)
class Mix:
    """How many are `wanted` of each kind so that they have the shares, `total` in all, and what is `there` by kind.

    `limits` names what kept the total from growing: kinds, or "limit".
    """

    total: int
    wanted: Mapping[str, int]
    there: Mapping[str, int]
    limits: tuple[str, ...]

    def metrics(self) -> dict[str, Any]:
        """For the manifest: {total, kept, there, limited_by}."""
        counts = {"kept": dict(self.wanted), "there": dict(self.there)}
        return {"total": self.total, **counts, "limited_by": list(self.limits)}

    def draw(self) -> Callable[[str], str | None]:
        """Begin to take cases. What it returns says of the next one, by its kind, why it is not taken; None: it is.

        Cases come in the order of a hash.
        """
        taken: Counter[str] = Counter()

        def objection(kind: str) -> str | None:
            if taken[kind] < self.wanted.get(kind, 0):
                taken[kind] += 1
                return None
            few = f"{self.wanted[kind]} of {self.there[kind]} {kind}" if kind in self.wanted else ""
            return f"{few or f'{kind} is not in the mix'}, {self.total} in all"

        return objection


def quotas(total: int, shares: Mapping[str, float]) -> dict[str, int]:
    """`total` shared out to whole numbers by largest remainders: each is its share rounded up or down."""
    whole = sum(Fraction(str(share)) for share in shares.values())
    exact = {kind: total * Fraction(str(share)) / whole for kind, share in shares.items()}
    counts = {kind: int(x) for kind, x in exact.items()}
    most = sorted(exact, key=lambda kind: (counts[kind] - exact[kind], kind))
    for kind in most[: total - sum(counts.values())]:
        counts[kind] += 1
    return counts


def largest(there: Mapping[str, int], shares: Mapping[str, float]) -> int:
    """The most cases whose quotas are all there."""
    total = sum(there[kind] for kind in shares)
    while any(n > there[kind] for kind, n in quotas(total, shares).items()):
        total -= 1
    return total


def plan(counts: Mapping[str, int], shares: Mapping[str, float], limit: int | None = None) -> Mix:
    """As many of the cases, counted by kind, as have these shares, at most `limit`. Kinds without a share are dropped.

    Raises StoreError where a kind of the mix has none.
    """
    there = {**dict.fromkeys(shares, 0), **counts}
    if lacking := [kind for kind in shares if not there[kind]]:
        told = ", ".join(f"{kind} {n}" for kind, n in there.items())
        raise StoreError(f"filter.mix wants {lacking[0]} and none passed the rules ({told}); loosen them or draw more")
    most = largest(there, shares)
    total = most if limit is None else min(most, limit)
    short = tuple(kind for kind, n in quotas(most + 1, shares).items() if n > there[kind])
    return Mix(total, quotas(total, shares), there, short if total == most else ("limit",))
