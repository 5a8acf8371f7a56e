"""What an experiment's responses are made of, over all seeds: counts that add up, and where they are shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from experiment import stage
from published import SEEDS, SETS, publishable
from rows import graded

from dpr_mini.files.rows import read_json, write_json
from dpr_mini.reporting import comparison as words
from dpr_mini.reporting.arms import arrange, collect
from dpr_mini.reporting.inside import inside, repeats, tables
from dpr_mini.reporting.numbers import summary
from dpr_mini.types import Graded, Traced

PLANTED = {"countdown": {"wrong": {"ends_right": (3, 8), "goes_on": (6, 8), "without": (4, 12)}}}


def chain(*attempts: tuple[str, bool], accepts: bool = False) -> Graded:
    """A response whose every attempt but the last is rejected, or accepted where `accepts`."""
    reviews = tuple((i, accepts, True, True) for i in range(len(attempts) - 1))
    trace = Traced(attempts, reviews, distinct=1, size=1, deflated=1)
    return graded("a", 0, attempts[-1][1], attempt=attempts[0][1], trace=trace)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The experiment of the publishing tests; the dialogue arm has planted attempts, of every seed the same counts."""
    store = publishable(tmp_path_factory.mktemp("runs"))
    for seed in SEEDS:
        latest = read_json(at := store / "arms" / f"countdown-dialogue-seed{seed}" / "latest.json")
        for name, planted in (("eval-1-planted", {}), ("eval-1-test-planted", PLANTED)):
            parts = {
                b: {p: {k: {"n": n, "of": of} for k, (n, of) in by.items()} for p, by in each.items()}
                for b, each in planted.items()
            }
            for prefixes in parts.values():
                for of in prefixes.values():
                    of |= {"problems": of["without"]["of"], "without": of["without"]["n"]}
            latest["stages"][name] = f"../../{stage(store, name, {'planted': parts})}"
        write_json(at, latest)
    return store


@pytest.fixture(scope="module")
def found(store: Path) -> dict:
    return json.loads(json.dumps(inside(arrange(collect([store])))))


def test_an_attempt_that_was_rejected_before_is_counted() -> None:
    of = repeats([
        chain(("1+2", False), ("1 + 2", False), ("2*2", True)),
        chain(("3", False), ("4", False), ("3", False)),
        chain(("5", True), ("5", True), accepts=True),
        graded("b", 0, True),
    ])  # fmt: skip
    assert (of.n, of.of) == (2, 4), (
        "the same but for a space, and one from two attempts before; what was accepted is none"
    )


def test_counts_are_of_all_seeds_together(found: dict) -> None:
    assert set(found["anatomy"]) == {"countdown-base", "countdown-plain", "countdown-dialogue"}
    for arm, samples in (("countdown-dialogue", 4), ("countdown-plain", 16)):
        for benchmark, problems in SETS.items():
            of = found["anatomy"][arm][benchmark]
            assert of["responses"] == of["kept"] + of["spoiled"] + of["mended"] + of["lost"]
            assert of["responses"] == len(SEEDS) * samples * problems, "greedy answers are none of them"
    assert found["anatomy"]["countdown-dialogue"]["countdown"]["mended"] > 0
    assert found["anatomy"]["countdown-plain"]["countdown"]["mended"] == 0


def test_planted_attempts_add_up_over_seeds_and_are_of_all_or_not_there(store: Path, found: dict) -> None:
    of = found["planted"]["countdown-dialogue"]["countdown"]["wrong"]
    assert {k: (v["n"], v["of"]) for k, v in of.items()} == {
        k: (len(SEEDS) * n, len(SEEDS) * total) for k, (n, total) in PLANTED["countdown"]["wrong"].items()
    }
    assert set(found["planted"]) == {"countdown-dialogue"}
    comparison = arrange(collect([store]))
    del comparison.arms["countdown-dialogue"].runs[SEEDS[-1]].stages["eval-1-test-planted"]
    assert inside(comparison)["planted"] == {}, "two seeds of three would pass for all"


def test_comparison_shows_them_and_a_page_can_have_one_benchmark(store: Path, found: dict) -> None:
    assert {row[0] for table in tables(found, "countdown") for row in table.rows} == {"countdown"}
    assert [table.title for table in tables(found)] == [
        "First and final answers", "Verdicts and checks", "Second attempts", "Planted first attempts",
    ]  # fmt: skip
    text = words.page(summary(arrange(collect([store]))))
    assert "Attempts and checks (exploratory)" in text and "9 of 24" in text
    assert tables({}) == [], "files from before have none"
