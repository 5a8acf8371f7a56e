"""Claims of the method that a single run does not support, said on its report's first screen.

Both are checked by rule, for every run alike: that the method is better than plain rejection tuning, which no run can
show by itself, and that trained answers correct themselves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from dpr_mini.reporting.results import Results
from dpr_mini.scoring.measures import mended

LEVEL = 0.05
PLAIN = "that it is better than plain rejection tuning at equal tokens (one run has no such arm)"


def unsupported(results: Results, recipe: Mapping[str, Any]) -> list[str]:
    """The claims, as clauses that begin with "that"; none where no training on dialogues was evaluated."""
    if len(results.models) < 2 or len(recipe["dialogue"]["turns"]) < 2 or 1 not in recipe["phases"]:
        return []
    return [PLAIN, *_corrections(results)]


def _corrections(results: Results) -> list[str]:
    """Empty where the last model mends more problems than it spoils: exact sign test over problems."""
    from scipy.stats import binomtest  # a second to import, which no run that reuses its report should pay

    answers = results.models[-1].answers()
    right, wrong = (sum(mended(a) == change for a in answers) for change in (1, -1))
    net: Counter[str] = Counter()
    for answer in answers:
        net[answer.problem_id] += int(mended(answer))
    up, down = sum(n > 0 for n in net.values()), sum(n < 0 for n in net.values())
    if up > down and binomtest(up, up + down).pvalue < LEVEL:
        return []
    counts = (
        f"of {len(answers):,} answers {right} end right after a wrong first attempt, {wrong} wrong after a right one"
    )
    return [f"that it corrects itself ({counts})"]
