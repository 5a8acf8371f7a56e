"""Which claims of the method a run's report says are not supported by it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from run_by_hand import RIGHT, make

from dpr_mini.reporting import claims
from dpr_mini.reporting.figures import nowhere
from dpr_mini.reporting.front import front
from dpr_mini.reporting.results import Results


@pytest.fixture
def run(tmp_path: Path) -> tuple[Results, dict[str, Any]]:
    at, recipe = make(tmp_path, RIGHT)
    dialogue = {**recipe["dialogue"], "turns": [["solve"], ["verify"]]}
    return Results(at), {**recipe, "phases": [1, 2], "dialogue": dialogue}


def went_on(results: Results, mends: int, spoils: int) -> None:
    """Of the last model's problems so many are right at last after a wrong first attempt, and the other way round."""
    last = results.models[-1]
    problems = sorted({a.problem_id for a in last.graded})
    attempts = dict.fromkeys(problems[:mends], False) | dict.fromkeys(problems[mends : mends + spoils], True)
    ends = {problem: not attempt for problem, attempt in attempts.items()}
    right = next(a.verdict for a in last.graded if a.right)
    wrong = next(a.verdict for a in last.graded if not a.right)
    last.graded[:] = [
        replace(a, attempt=attempts.get(a.problem_id), verdict=right if ends.get(a.problem_id) else wrong)
        for a in last.graded
    ]


def test_no_run_alone_shows_that_the_method_beats_plain_rejection_tuning(run) -> None:
    results, recipe = run
    assert claims.PLAIN in claims.unsupported(results, recipe)
    went_on(results, 12, 0)
    assert claims.unsupported(results, recipe) == [claims.PLAIN], "what it mends is shown: only the other is not"


@pytest.mark.parametrize(("mends", "spoils"), [(0, 0), (4, 4), (5, 0), (0, 12), (9, 6)])
def test_self_correction_is_not_supported_where_as_much_is_spoiled(run, mends: int, spoils: int) -> None:
    """Five problems alone are no evidence either: a sign test of them is at 0.0625."""
    results, recipe = run
    went_on(results, mends, spoils)
    (claim,) = claims.unsupported(results, recipe)[1:]
    answers = len(results.models[-1].answers())
    assert f"of {answers} answers {2 * mends} end right after a wrong first attempt, {2 * spoils} wrong" in claim


def test_the_first_screen_says_it(run) -> None:
    results, recipe = run
    said = [block for block in front(results, recipe, nowhere).blocks if block.kind == "points"][-1]
    ((topic, text),) = said.points
    assert "does not support" in topic and text.startswith(claims.PLAIN)


def test_a_run_without_dialogues_or_without_training_claims_nothing(run) -> None:
    results, recipe = run
    single = {**recipe, "dialogue": {**recipe["dialogue"], "turns": [["solve"]]}}
    assert claims.unsupported(results, single) == []
    assert claims.unsupported(results, {**recipe, "phases": [2]}) == []
    results.models[:] = results.models[:1]
    assert claims.unsupported(results, recipe) == []
