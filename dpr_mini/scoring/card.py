"""Graded answers to a score card: one model on one benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dpr_mini.scoring.stats import GREEDY, Row, estimate, lengths, majority, official, pass_at_k, pass_rates
from dpr_mini.selection import behaviours
from dpr_mini.types import ScoreCard, to_row


def score(benchmark: str, rows: Sequence[Row]) -> dict[str, Any]:
    """A ScoreCard of graded rows and what stands beside it: pass@k, maj@k, other scorers, behaviours, lengths.

    Every score is an `estimate` over problems. `k` is the smallest number of samples a problem, `k_most` the largest
    (they differ only over several benchmarks); pass@k and maj@k need one k, so they are None where the two differ.
    """
    sampled = [r for r in rows if r["sample"] != GREEDY]
    greedy = [r for r in rows if r["sample"] == GREEDY]
    by = _by_problem(sampled)
    draws = [len(of) for of in by]
    main, length = estimate(list(pass_rates(sampled).values())), lengths([r["tokens"] for r in sampled])
    revised = [r for r in sampled if r["attempt_ok"] is not None]
    alone = estimate(list(pass_rates(greedy).values())) if greedy else None
    talked = [r for r in sampled if r.get("joined_ok") is not None]
    card = ScoreCard(
        benchmark=benchmark,
        n=main["n"],
        k=min(draws),
        mean=main["mean"],
        low=main["low"],
        high=main["high"],
        greedy=alone and alone["mean"],
        truncated=share(r["finish"] == "length" for r in sampled),
        tokens_mean=length["mean"],
        tokens_median=length["median"],
        tokens_p90=length["p90"],
        se=main["se"],
    )
    return {
        **to_row(card),
        "k_most": max(draws),
        "greedy_estimate": alone,
        "pass_at": _pass_at(by, min(draws)) if min(draws) == max(draws) else None,
        "maj": _maj(by) if min(draws) == max(draws) else None,
        "lengths": {name: lengths([r["tokens"] for r in sampled if official(r) is ok])
                    for name, ok in (("right", True), ("wrong", False))},
        "by_level": _by_label("level", sampled) if benchmark != "all" else {},
        "by_subject": _by_label("subject", sampled) if benchmark != "all" else {},
        "first_result": share(r["first_ok"] for r in sampled),
        "last_number": share(r["last_ok"] for r in sampled),
        "unparsed": share(r["status"] == "unparsed" for r in sampled),
        "timeouts": sum(r["status"] == "timeout" for r in rows),
        "behaviours": {
            name: share(r["behaviours"][name] > 0 for r in sampled) for name in behaviours.NAMES
        },
        **({"joined": share(r["joined_ok"] for r in talked)} if talked else {}),
        "revised": len(revised),
        "wrong_to_right": share(not r["attempt_ok"] and r["status"] == "correct" for r in revised),
        "right_to_wrong": share(r["attempt_ok"] and r["status"] != "correct" for r in revised),
    }  # fmt: skip


def _by_problem(rows: Sequence[Row]) -> list[list[Row]]:
    by: dict[str, list[Row]] = {}
    for row in rows:
        by.setdefault(row["problem_id"], []).append(row)
    return list(by.values())


def _pass_at(by: Sequence[Sequence[Row]], k: int) -> dict[str, dict[str, Any]]:
    """pass@1, 2, 4 ... and pass@k, from all k draws of each problem."""
    chosen = sorted({*(2**i for i in range(k.bit_length())), k})
    return {str(j): estimate([pass_at_k(len(of), sum(map(official, of)), j) for of in by]) for j in chosen}


def _maj(by: Sequence[Sequence[Row]]) -> dict[str, Any] | None:
    """None where the rows carry no votes (graded before version 4)."""
    if not all("vote" in r for of in by for r in of):
        return None
    return estimate([majority([r["vote"] for r in of], [official(r) for r in of]) for of in by])


def _by_label(label: str, rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """pass@1 and mean length of the problems of each level or subject; {} where the rows have none."""
    names = sorted({r[label] for r in rows if r.get(label)})
    inside = {name: [r for r in rows if r.get(label) == name] for name in names}
    return {
        name: {**estimate(list(pass_rates(of).values())), "tokens_mean": lengths([r["tokens"] for r in of])["mean"]}
        for name, of in inside.items()
    }


def share(flags: Any) -> float:
    """Share of true flags; 0 of none is 0."""
    flags = list(flags)
    return round(sum(flags) / len(flags), 4) if flags else 0.0
