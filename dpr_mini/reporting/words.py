"""Numbers in words: cards, differences, p-values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def card(card: Mapping[str, float], greedy: bool) -> str:
    """A card as a cell of three lines."""
    text = f"{card['mean']:.3f}\n[{card['low']:.3f}, {card['high']:.3f}]"
    return f"{text}\ngreedy {card['greedy']:.3f}" if greedy else text


def difference(found: Mapping[str, float] | None, between: str = " ") -> str:
    return f"{found['mean']:+.3f}{between}[{found['low']:+.3f}, {found['high']:+.3f}]" if found else "-"


def p_value(found: Mapping[str, float]) -> str:
    return "< 0.001" if found["p_sign"] < 0.001 else f"{found['p_sign']:.3f}"


def flat(value: Any) -> str:
    return ", ".join(f"{k} {v}" for k, v in value.items() if v != "") if isinstance(value, Mapping) else str(value)
