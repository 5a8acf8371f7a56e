"""Labelled answers written before anybody looked at what the grader does with them, and attempts to cheat it.

tests/grading/sets/README.md has what each file is and its first score.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dpr_mini.grading.grader import Grader

pytestmark = pytest.mark.slow  # 3,379 texts, some of them through workers
SETS = Path(__file__).parent / "sets"
ROUNDS = ("styles", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
FILES = [f"{name}_{n}" for name in ROUNDS for n in (1, 2, 3)] + ["attacks", "attacks_2", "kept"]
# Right answers that are refused, and why.
REFUSED = {
    "u1-081": "'25% of the questions wrong': a sentence that says wrong is taken for a doubt",
    "u3-099": "digits of other scripts are not read",
    "u3-104": "digits of other scripts are not read",
    **dict.fromkeys(("f1-009", "x1-010"), "no answer is named, and its sentence has two numbers"),
    **dict.fromkeys(("x1-017", "x1-019", "x3-011"), "the answer stands before sentences that state something else"),
    **dict.fromkeys(("x3-100", "x3-109", "y1-089"), "a name, in a sentence that does not end in it"),
    "f3-092": "a fraction, or its percentage: two answers",
    **dict.fromkeys(("x3-054", "z3-064"), "x + y + z = 19 is no value for who does not know what was asked"),
    "x3-070": "a ratio in words",
    "y2-010": "a plus-minus sign within a pair is two pairs",
}


def rows(name: str) -> list[dict]:
    return [json.loads(line) for line in (SETS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def found():
    cases = [((name, r["id"]), r["gold"], r["text"]) for name in FILES for r in rows(name)]
    with Grader(workers=2, timeout_s=20) as grader:
        return dict(grader.grade_many(cases))


def test_the_sets_are_large_and_balanced():
    for name in FILES[:-3]:
        labels = [r["equal"] for r in rows(name)]
        assert len(labels) >= 100 and 0.4 < sum(labels) / len(labels) < 0.6, name
    for name in ("attacks", "attacks_2"):
        assert len(rows(name)) >= {"attacks": 200, "attacks_2": 89}[name] and not any(r["equal"] for r in rows(name))
    assert len(rows("kept")) >= 417
    texts = [(r["gold"], r["text"]) for name in FILES for r in rows(name)]
    assert len(texts) == len(set(texts))


@pytest.mark.parametrize("name", FILES)
def test_nothing_wrong_is_accepted(found, name):
    assert not [(r, found[name, r["id"]]) for r in rows(name) if found[name, r["id"]].ok and not r["equal"]]


@pytest.mark.parametrize("name", FILES)
def test_what_is_right_is_accepted(found, name):
    refused = {r["id"]: found[name, r["id"]] for r in rows(name) if r["equal"] and not found[name, r["id"]].ok}
    assert {k: v for k, v in refused.items() if k not in REFUSED} == {}
