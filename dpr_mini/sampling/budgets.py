"""Phase 2's arithmetic: which strategy wants how many correct samples of a problem, and what is drawn next for it.

No model, no engine: the sampling stage and the simulator (simulate.py) both go by `step`, so what is simulated is
what is run. A strategy is a function in TARGETS; p is a problem's pass rate, right / tried. All arrays have one entry
a problem, shape (n,).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from dpr_mini.recipe import SamplingConfig
from dpr_mini.types import Stop, UserError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
RATES = "rates.jsonl"  # the probe's pass rates, in its folder: Difficulty rows with rate, interval and tokens
BINS = (0.0, 0.25, 0.5, 0.75, 1.0)  # pass-rate bins of the report; 0 and 1 themselves are bins of their own
ALPHA = 1e-3  # GVM's regulariser (arXiv 2505.02391)
# Share of problems in percent by pass rate. Made (ours) so that DART-Math's published costs on GSM8K and MATH with a
# 7B model come out: arXiv 2407.13690 and its authors' notes; the simulator's test has the figures.
ASSUMED = {0.005: 3, 0.01: 3, 0.015: 4, 0.03: 3, 0.06: 3, 0.1: 2, 0.2: 2, 0.4: 3, 0.6: 4, 0.8: 8, 0.9: 15, 0.98: 50}


class BudgetError(UserError):
    """A budget that cannot be kept."""


@dataclass(frozen=True)
class Counts:
    """Draws of n problems so far, the probe's included: int64 arrays of shape (n,).

    `asked` counts the draws, `tried` the answers that came (an engine may fail a draw), `right` the correct ones.
    """

    asked: Ints
    tried: Ints
    right: Ints

    @classmethod
    def of(cls, asked: Sequence[int], tried: Sequence[int], right: Sequence[int]) -> Counts:
        return cls(*(np.asarray(x, dtype=np.int64) for x in (asked, tried, right)))

    @property
    def rate(self) -> Floats:
        """Pass rate; 0 where nothing was tried."""
        return self.right / np.maximum(self.tried, 1)

    def plus(self, asked: Ints, tried: Ints, right: Ints) -> Counts:
        return Counts(self.asked + asked, self.tried + tried, self.right + right)


@dataclass(frozen=True)
class Target:
    """What a strategy wants: at most `wanted` correct samples of each problem (>= 1).

    Without `weight` a problem is drawn until it has them; with it, all draws are shared out in proportion to it.
    """

    wanted: Ints
    weight: Floats | None = None


@dataclass(frozen=True)
class Step:
    """The next round: how many `draws` each problem gets, and why a problem that gets none has stopped."""

    wanted: Ints
    draws: Ints
    stop: NDArray[np.str_]


def vrt(counts: Counts, config: SamplingConfig) -> Target:
    """Every correct answer of equally many draws M: E[kept_i] = M p_i, so easy problems dominate.

    Rejection-sampling fine-tuning (arXiv 2308.01825: M = 100), the "vanilla" baseline of DART-Math (arXiv 2407.13690:
    M = 52). M is max_tries, or what an equal share of the budget comes to.
    """
    return Target(np.full_like(counts.asked, config.max_tries), np.ones(len(counts.asked)))


def cap(counts: Counts, config: SamplingConfig) -> Target:
    """At most `quota` correct answers of equally many draws M: E[kept_i] = E[min(Binomial(M, p_i), quota)].

    ReST-EM (arXiv 2312.06585) keeps 10 of 32 draws of a MATH problem. As there, all M are drawn even where the quota
    is met before: the filter's rules choose among more. `uniform` with the same numbers stops early.
    """
    return Target(np.full_like(counts.asked, config.quota), np.ones(len(counts.asked)))


def uniform(counts: Counts, config: SamplingConfig) -> Target:
    """`quota` correct answers of every problem: about quota / p_i draws. DARS-Uniform (arXiv 2407.13690: 40)."""
    return Target(np.full_like(counts.asked, config.quota))


def prop2diff(counts: Counts, config: SamplingConfig) -> Target:
    """max(1, ceil(quota d_i / max_j d_j)) correct answers, d_i = 1 - p_i: in proportion to difficulty, at least one.

    DARS-Prop2Diff (arXiv 2407.13690, section 2.2: 192 for the hardest); the division by the maximum is our reading.
    """
    fail = 1 - counts.rate
    hardest = fail.max(initial=0.0) or 1.0
    return Target(np.maximum(1, np.ceil(config.quota * fail / hardest - 1e-9)).astype(np.int64))


def boundary(counts: Counts, config: SamplingConfig) -> Target:
    """All draws left after the probe, in equal shares, to problems at the edge of what the model can do.

    HS-STaR (arXiv 2505.19866) finds that edge with a process reward model beside the accuracy of the pre-draws.
    Without one, the edge is 0 < p < 1 (ours). Every correct answer is kept. What is drawn later never changes who is
    at the edge.
    """
    return Target(np.full_like(counts.asked, config.max_tries), ((counts.rate > 0) & (counts.rate < 1)).astype(float))


def gvm(counts: Counts, config: SamplingConfig) -> Target:
    """All draws left after the probe, in proportion to 1 / sqrt(p + alpha / p), alpha = 1e-3; none where p = 0.

    GVM-RAFT (arXiv 2505.02391, its beta = 2) multiplies this by the norm of the gradient of the accepted pilots, which
    would cost a backward pass: here that norm is 1 (ours). The weight peaks at p = sqrt(alpha): hard but solvable.
    Every correct answer is kept.
    """
    p = counts.rate
    weight = np.zeros(len(p))
    np.divide(1, np.sqrt(p + ALPHA / np.maximum(p, ALPHA)), out=weight, where=p > 0)
    return Target(np.full_like(counts.asked, config.max_tries), weight)


TARGETS: dict[str, Callable[[Counts, SamplingConfig], Target]] = {
    f.__name__: f for f in (prop2diff, uniform, vrt, cap, boundary, gvm)
}


def step(probe: Counts, now: Counts, config: SamplingConfig) -> Step:
    """The next round of draws: a function of what was drawn before and of nothing else.

    A problem stops when it has what is `wanted` ("met"), when its tries or the draws in all are used up ("spent"),
    when one more correct answer is too unlikely ("gave_up", see `patience`), or when the engine answered none of the
    probe's draws ("unanswered": asking on would fail again). Raises BudgetError where the probe alone cost more than
    the budget.
    """
    if config.budget is not None and config.budget < probe.asked.sum():
        raise BudgetError(
            f"sample.budget: {config.budget:,} draws in all, but the probe alone takes {probe.asked.sum():,}: "
            f"raise it, or lower probe.samples"
        )
    target = TARGETS[config.target](now if config.dynamic else probe, config)
    left = None if config.budget is None else int(config.budget - now.asked.sum())
    if target.weight is None:
        quotas, tries = target.wanted, np.maximum(config.max_tries - now.asked, 0)
        lacking = np.maximum(quotas - now.right, 0)
        # as many as are expected to give what is lacking, by Laplace's estimate (right + 1) / (tried + 2)
        draws = np.minimum(-(-lacking * (now.tried + 2) // (now.right + 1)), tries)
    else:
        draws = tries = _due(target.weight, probe, now, config)
        quotas = np.minimum(target.wanted, now.asked + tries)
    unanswered = probe.tried == 0
    draws = np.where(unanswered, 0, draws)
    gave_up = np.zeros(len(draws), dtype=bool)
    if config.give_up is not None:
        patient = patience(now.right, now.tried, tries, config.give_up)
        gave_up = (draws > 0) & (patient == 0)
        draws = np.minimum(draws, patient)
    if left is not None:
        # GVM re-estimates its weights every round, so a round spends at most half of the remaining budget
        waits = config.target == "gvm" and config.dynamic and left > np.count_nonzero(draws)
        draws = share(-(-left // 2) if waits else left, np.maximum(draws, 0) if waits else np.ones(len(draws)), draws)
    stop = np.select([unanswered, now.right >= quotas, gave_up], ["unanswered", "met", "gave_up"], "spent")
    return Step(quotas, draws, stop)


def play(p: Floats, probe: Counts, config: SamplingConfig, rng: np.random.Generator) -> tuple[Counts, Ints]:
    """All rounds, with binomial draws at pass rates `p` of shape (n,) in place of a model.

    Returns the final counts, and how many correct samples of each problem were wanted in the last round. Raises
    BudgetError as `step` does.
    """
    now = probe
    while (next_ := step(probe, now, config)).draws.any():
        now = now.plus(next_.draws, next_.draws, rng.binomial(next_.draws, p))
    return now, next_.wanted


def assumed(problems: int) -> Floats:
    """`problems` pass rates, distributed as in ASSUMED: shape (problems,)."""
    shares = np.array(list(ASSUMED.values()), dtype=np.float64)
    return np.repeat(list(ASSUMED), share(problems, shares, np.full(len(shares), problems)))


def _due(weight: Floats, probe: Counts, now: Counts, config: SamplingConfig) -> Ints:
    """Draws that each problem still has to get of its share of all that come after the probe."""
    room = np.maximum(config.max_tries - probe.asked, 0)
    after = int(room.sum() if config.budget is None else config.budget - probe.asked.sum())
    return np.maximum(probe.asked + share(after, weight, room) - now.asked, 0)


def share(total: int, weight: Floats, limit: Ints) -> Ints:
    """`total` draws in proportion to `weight`, at most `limit` each: integers that sum to the total.

    What one cannot take goes to the others; where all with a weight are full the sum is less. Fractions are rounded by
    largest remainder, ties by a fixed shuffle, so that no source of problems wins them all.
    """
    draws = np.zeros(len(weight), dtype=np.int64)
    takes = (weight > 0) & (limit > 0)
    left = min(total, int(limit[takes].sum()))
    while left and takes.any():
        ideal = np.where(takes, weight, 0.0) * (left / weight[takes].sum())
        if (full := takes & (ideal >= limit)).any():
            draws[full] = limit[full]
            left -= int(limit[full].sum())
            takes &= ~full
            continue
        whole = np.floor(ideal).astype(np.int64)
        ties = np.random.default_rng(0).permutation(len(weight))
        first = np.lexsort((ties, whole - ideal))[: left - int(whole.sum())]
        whole[first] += 1
        return draws + whole
    return draws


def chance(right: Ints, tried: Ints, more: Ints) -> Floats:
    """Chance of at least one correct answer in `more` tries, after `right` of `tried`.

    Posterior predictive with Jeffreys' prior Beta(1/2, 1/2) for the pass rate, r = right, t = tried, m = more:
    1 - B(r + 1/2, t - r + 1/2 + m) / B(r + 1/2, t - r + 1/2). With nothing right: about 1 - sqrt(t / (t + m)).
    """
    most = int((tried + more).max(initial=0)) + 1
    whole, half = _log_gammas(1 << most.bit_length())
    wrong = tried - right
    return -np.expm1(half[wrong + more] - half[wrong] - whole[tried + more] + whole[tried])


@lru_cache(maxsize=2)
def _log_gammas(most: int) -> tuple[Floats, Floats]:
    """log Gamma(n + 1), and log Gamma(n + 1/2) - log Gamma(1/2), for n from 0 to `most`."""
    n = np.arange(most)
    return tuple(np.concatenate([[0.0], np.cumsum(np.log(n + shift))]) for shift in (1, 0.5))


def patience(right: Ints, tried: Ints, tries: Ints, give_up: float) -> Ints:
    """Wrong answers in a row after which a problem stops early; 0: now. `tries`: how many it may still have.

    It stops where `chance` of one more correct answer within the tries that then remain is below `give_up` (ours).
    A round never draws past that point. With nothing right of t, it comes when t exceeds about (1 - give_up)^2 of all
    tries: 0.05 gives up after 90 % of them, 0.3 after half.
    """
    low, high = np.zeros_like(tries), tries.copy()  # the chance falls with every wrong answer, to 0 with no tries
    while (low < high).any():
        middle = (low + high) // 2
        hopeless = chance(right, tried + middle, tries - middle) < give_up
        low, high = np.where(hopeless, low, middle + 1), np.where(hopeless, middle, high)
    return high


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a manifest says of budgets.jsonl: outcomes, stop reasons, what the never-solved cost, counts by bin.

    A problem has `met` its quota, was `spent` with some right, or was `never_solved`; `stops` says why each stopped.
    """
    never = [r for r in rows if r["right"] == 0]
    stops = Counter(r["stop"] for r in rows)
    return {
        "met": sum(r["right"] >= r["wanted"] for r in rows),
        "spent": sum(0 < r["right"] < r["wanted"] for r in rows),
        "never_solved": len(never),
        "never_solved_cost": {name: sum(r[name] for r in never) for name in ("asked", "drawn", "tokens")},
        "stops": {reason: stops[reason] for reason in get_args(Stop)},
        "bins": bins(rows),
    }


def bins(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """Per bin of the probe's pass rate, hardest first: problems, and sums over them.

    `wanted` correct samples; draws `asked` and answers `drawn`, the probe's included; `right` ones, of which `usable`
    are within what is wanted; generated `tokens`.
    """
    table: dict[str, dict[str, int]] = {}
    names = ("wanted", "asked", "drawn", "right", "tokens")
    for row in sorted(rows, key=lambda r: r["rate"]):
        into = table.setdefault(bin_of(row["rate"]), dict.fromkeys(("problems", *names, "usable"), 0))
        into["problems"] += 1
        into["usable"] += min(row["right"], row["wanted"])
        for name in names:
            into[name] += row[name]
    return table


def bin_of(rate: float) -> str:
    """Name of the bin that a pass rate is in: "0", "1", or "a-b" for a < rate <= b (and below 1)."""
    if rate in (0.0, 1.0):
        return f"{rate:.0f}"
    low = max(b for b in BINS if b < rate)
    return f"{low:g}-{low + 0.25:g}"
