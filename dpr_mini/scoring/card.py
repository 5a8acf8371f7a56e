"""Graded answers to a score card: one model on one benchmark."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from dpr_mini.scoring.scores import Card, Estimate, LabelEstimate
from dpr_mini.scoring.stats import estimate, lengths, majority, official, pass_at_k, pass_rates, subset
from dpr_mini.selection import behaviours
from dpr_mini.types import ALL, Graded


def score_all(answers: Sequence[Graded], benchmarks: Sequence[str]) -> dict[str, Card]:
    """A card for each benchmark in this order and, where there are several, the one over ALL of them."""
    return {name: score(answers, name) for name in (*benchmarks, *([ALL] if len(benchmarks) > 1 else []))}


def score(answers: Sequence[Graded], benchmark: str = ALL) -> Card:
    """The card of one benchmark, from the answers to it among those given; they come from `grade`, with their votes.

    Every score is an `estimate` over problems. Raises ValueError where there is no sampled answer.
    """
    sampled, greedy = (subset(answers, benchmark, greedy) for greedy in (False, True))
    by = _by_problem(sampled)
    k, k_most = min(map(len, by)), max(map(len, by))
    main, length = estimate(list(pass_rates(sampled).values())), lengths([a.tokens for a in sampled])
    alone = estimate(list(pass_rates(greedy).values())) if greedy else None
    revised, talked = ([a for a in sampled if getattr(a, name) is not None] for name in ("attempt", "joined"))
    kinds = {"right": [a for a in sampled if a.right], "wrong": [a for a in sampled if not a.right]}
    return Card(
        benchmark=benchmark,
        n=main.n,
        k=k,
        mean=main.mean,
        low=main.low,
        high=main.high,
        greedy=alone and alone.mean,
        truncated=share(a.finish == "length" for a in sampled),
        tokens_mean=length.mean,
        tokens_median=length.median,
        tokens_p90=length.p90,
        se=main.se,
        k_most=k_most,
        greedy_estimate=alone,
        pass_at=_pass_at(by, k) if k == k_most else None,
        maj=_maj(by) if k == k_most else None,
        lengths={kind: lengths([a.tokens for a in of]) for kind, of in kinds.items()},
        by_level=_by_label("level", sampled) if benchmark != ALL else {},
        by_subject=_by_label("subject", sampled) if benchmark != ALL else {},
        first_result=share(a.first for a in sampled),
        last_number=share(a.last for a in sampled),
        unparsed=share(a.verdict.status == "unparsed" for a in sampled),
        timeouts=sum(a.verdict.status == "timeout" for a in (*sampled, *greedy)),
        behaviours=_behaviours(sampled),
        joined=share(a.joined for a in talked) if talked else None,
        revised=len(revised),
        wrong_to_right=share(not a.attempt and a.right for a in revised),
        right_to_wrong=share(a.attempt and not a.right for a in revised),
    )


def _behaviours(answers: Sequence[Graded]) -> dict[str, float]:
    counts = [a.behaviours for a in answers if a.behaviours is not None]
    return {name: share(of[name] > 0 for of in counts) for name in behaviours.NAMES} if counts else {}


def _by_problem(answers: Sequence[Graded]) -> list[list[Graded]]:
    by: dict[str, list[Graded]] = {}
    for answer in answers:
        by.setdefault(answer.problem_id, []).append(answer)
    return list(by.values())


def _pass_at(by: Sequence[Sequence[Graded]], k: int) -> dict[str, Estimate]:
    """pass@1, 2, 4 ... and pass@k, from all k draws of each problem."""
    counts = sorted({*(2**i for i in range(k.bit_length())), k})
    return {str(j): estimate([pass_at_k(len(of), sum(map(official, of)), j) for of in by]) for j in counts}


def _maj(by: Sequence[Sequence[Graded]]) -> Estimate:
    return estimate([majority([a.vote for a in of], [a.right for a in of]) for of in by])


def _by_label(label: Literal["level", "subject"], answers: Sequence[Graded]) -> dict[str, LabelEstimate]:
    """pass@1 and mean length of the problems of each level or subject; {} where the data has no such labels."""
    by: dict[str, list[Graded]] = {}
    for answer in answers:
        by.setdefault(getattr(answer, label), []).append(answer)
    estimates = {}
    for name in sorted(by.keys() - {""}):
        main, length = estimate(list(pass_rates(by[name]).values())), lengths([a.tokens for a in by[name]])
        estimates[name] = LabelEstimate(main.n, main.mean, main.low, main.high, main.se, tokens_mean=length.mean)
    return estimates


def share(flags: Iterable[bool]) -> float:
    """Share of true flags, to four digits; 0 of none is 0."""
    flags = list(flags)
    return round(sum(flags) / len(flags), 4) if flags else 0.0
