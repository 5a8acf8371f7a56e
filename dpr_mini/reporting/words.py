"""Numbers in words: the only place that formats an interval, a difference, a p-value or a score card."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from dpr_mini.recipe import EvaluateConfig
from dpr_mini.scoring.scores import Card, Estimate
from dpr_mini.scoring.stats import Difference

FEWEST_IN_PROSE = 50  # problems: below, a sentence says n and the rate alone (arXiv 2503.01747 advises the same)


class Interval(Protocol):
    """A mean over n problems with its 95 % interval: an Estimate, a Card, an arm's score."""

    @property
    def n(self) -> int: ...
    @property
    def mean(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


def interval(of: Interval, between: str = " ") -> str:
    """ "0.469 [0.411, 0.529]"; `between` stands between the mean and the bracket."""
    return f"{of.mean:.3f}{between}{brackets(of)}"


def brackets(of: Interval) -> str:
    return f"[{of.low:.3f}, {of.high:.3f}]"


def estimate(of: Estimate) -> str:
    """ "0.469 [0.411, 0.529] s.e. 0.030" """
    return interval(of) + ("" if of.se is None else f" s.e. {of.se:.3f}")


def change(of: Difference | None, between: str = " ", places: int = 3) -> str:
    """ "+0.326 [+0.276, +0.377]", "-" where nothing was compared."""
    if of is None:
        return "-"
    mean, low, high = (f"{value:+.{places}f}" for value in (of.mean, of.low, of.high))
    return f"{mean}{between}[{low}, {high}]"


def said(of: Interval) -> str:
    """`interval` in a sentence: "0.469 (n=40)" where there are few problems."""
    return interval(of) if of.n >= FEWEST_IN_PROSE else f"{of.mean:.3f} (n={of.n})"


def said_change(of: Difference | None, places: int = 3) -> str:
    """`change` in a sentence: "+0.326 (n=40)" where there are few problems."""
    few = of is not None and of.n < FEWEST_IN_PROSE
    return f"{of.mean:+.{places}f} (n={of.n})" if few else change(of, places=places)


def p_value(of: Difference | float | None) -> str:
    """ "< 0.001", "0.034"; "-" where there is none."""
    value = of.p if isinstance(of, Difference) else of
    if value is None:
        return "-"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def p_equals(of: Difference | float | None) -> str:
    """ "p < 0.001", "p = 0.034" """
    value = p_value(of)
    return f"p {value}" if value.startswith("<") else f"p = {value}"


def up_and_down(of: Difference) -> str:
    """ "52 up, 22 down": problems whose rate rose and fell."""
    return f"{of.up} up, {of.down} down"


def tested(of: Difference | None) -> str:
    """ "p < 0.001, 52 up, 22 down", "-" where nothing was compared."""
    return f"{p_equals(of)}, {up_and_down(of)}" if of else "-"


# ---------------------------------------------------------------- score cards


def draws(card: Card) -> str:
    """The k of a card: "4", "1 to 4" over benchmarks that differ."""
    return str(card.k) if card.k == card.k_most else f"{card.k} to {card.k_most}"


def size(card: Card) -> str:
    """ "n=240, k=4" """
    return f"n={card.n}, k={draws(card)}"


def cell(card: Card, greedy: bool) -> str:
    """pass@1 as a cell of two lines, and a third with greedy accuracy."""
    return interval(card, "\n") + (f"\ngreedy {card.greedy:.3f}" if greedy else "")


def full_cell(card: Card | None) -> str:
    """pass@1, greedy, length and truncation as a cell; "-" where there is no card."""
    if card is None:
        return "-"
    greedy = f"\ngreedy {interval(card.greedy_estimate)}" if card.greedy_estimate else ""
    return f"{interval(card)}{greedy}\n{card.tokens_mean:.0f} tokens, {card.truncated:.1%} truncated"


def lines(card: Card, config: EvaluateConfig) -> Iterator[str]:
    """A score card for a terminal: every score with its n, k and 95 % interval over problems."""
    yield (
        f"{card.benchmark}: {size(card)}, T={config.temperature:g}, top-p {config.top_p:g}, "
        f"at most {config.max_new_tokens} tokens, preset {config.preset}"
    )
    yield f"  pass@1      {estimate(card.estimate)}"
    several = card.k > 1
    for name, score in (
        (f"maj@{draws(card)}", card.maj if several else None),
        (f"pass@{draws(card)}", (card.pass_at or {}).get(str(card.k)) if several else None),
        ("greedy, k=1", card.greedy_estimate),
    ):
        if score:
            yield f"  {name:11} {estimate(score)}"
    by = ", ".join(f"{name} {of.mean:.0f}" for name, of in card.lengths.items() if of)
    yield (
        f"  tokens      mean {card.tokens_mean:.0f} ({by}), median {card.tokens_median:.0f}, "
        f"p90 {card.tokens_p90:.0f}; truncated {card.truncated:.1%}, unparsed {card.unparsed:.1%}"
    )
    for kind, labels in (("level", card.by_level), ("subject", card.by_subject)):
        for name, of in labels.items():
            yield f"  {kind} {name}: n={of.n}, k={draws(card)}, {estimate(of)}, {of.tokens_mean:.0f} tokens"


# ---------------------------------------------------------------- anything else


def flat(value: Any) -> str:
    """JSON in words: {"cores": 2, "gpu": None, "cpu": ""} is "cores 2"; members of a list stand between semicolons."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {flat(v)}" for name, v in value.items() if v not in ("", None))
    return "; ".join(map(flat, value)) if isinstance(value, list | tuple) else str(value)
