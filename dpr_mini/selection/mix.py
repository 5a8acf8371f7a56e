"""A declared mix of trajectory kinds: the most cases that have these shares, chosen by a hash of their ids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from dpr_mini.files.rows import StoreError
from dpr_mini.selection.case import Case
from dpr_mini.types import Drop, digest


@dataclass(frozen=True)
class Mix:
    """`kept` has the shares, `dropped` the rest. `wanted` is their number by kind, `there` what was to choose from.

    `limits` names what kept the total from growing: kinds, or "limit".
    """

    kept: list[Case]
    dropped: list[Drop]
    wanted: Mapping[str, int]
    there: Mapping[str, int]
    limits: tuple[str, ...]

    def metrics(self) -> dict[str, Any]:
        """For the manifest: {total, kept, there, limited_by}."""
        counts = {"kept": dict(self.wanted), "there": dict(self.there)}
        return {"total": len(self.kept), **counts, "limited_by": list(self.limits)}


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


def draw(cases: Sequence[Case], shares: Mapping[str, float], limit: int | None = None) -> Mix:
    """As many of the cases as have these shares of kinds, at most `limit`. Kinds without a share are dropped.

    Raises StoreError where a kind of the mix has none.
    """
    there = {**dict.fromkeys(shares, 0), **Counter(c.kind for c in cases)}
    if lacking := [kind for kind in shares if not there[kind]]:
        counts = ", ".join(f"{kind} {n}" for kind, n in there.items())
        raise StoreError(
            f"filter.mix wants {lacking[0]} and none passed the rules ({counts}); loosen them or draw more"
        )
    most = largest(there, shares)
    total = most if limit is None else min(most, limit)
    wanted = quotas(total, shares)
    short = tuple(kind for kind, n in quotas(most + 1, shares).items() if n > there[kind])
    taken: Counter[str] = Counter()
    kept, dropped = [], []
    for case in sorted(cases, key=lambda c: digest(c.dialogue.id)):
        kind = case.kind
        if taken[kind] < wanted.get(kind, 0):
            taken[kind] += 1
            kept.append(case)
        else:
            why = f"{wanted[kind]} of {there[kind]} {kind}" if kind in wanted else f"{kind} is not in the mix"
            dropped.append(Drop(case.dialogue.id, "mix", f"{why}, {total} in all"))
    by_id = sorted(kept, key=lambda c: c.dialogue.id)
    return Mix(
        by_id, sorted(dropped, key=lambda d: d.dialogue_id), wanted, there, short if total == most else ("limit",)
    )
