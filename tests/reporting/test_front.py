"""The first screen: one sentence and at most three findings, each with its interval and what it does not show."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from run_by_hand import RIGHT, make

from dpr_mini.reporting import results as results_module
from dpr_mini.reporting.figures import nowhere
from dpr_mini.reporting.front import findings, front, lead
from dpr_mini.reporting.results import Results

INTERVAL = r"(?:\[[-+]?\d+\.\d+, [-+]?\d+\.\d+\]|\(n=\d+\))"  # in a sentence about few problems their number
BENCHMARKS = ("aime24", "olymmath-hard-en", "minerva_math", "math500", "gsm8k")
GAIN = {"one": 4}, {"one": 9}, {"one": 16}


def run(root: Path, *right: Mapping[str, int], phases: tuple[int, ...] = (1, 2)) -> tuple[Results, dict[str, Any]]:
    """A run that gets so many of 20 problems right: before training, and after each of `phases` that it has come to."""
    by_role = dict(zip(("eval-0", *(f"eval-{i}" for i in phases)), right, strict=False))
    at, recipe = make(root, {role: by_role.get(role, right[0]) for role in RIGHT})

    def complete(role: str) -> bool:
        if role.startswith("eval"):
            return role.removesuffix("-answers") in by_role
        return role == "problems" or int(role[-1]) in phases

    return Results({role: folder for role, folder in at.items() if complete(role)}), {**recipe, "phases": list(phases)}


def points(results: Results) -> dict[str, str]:
    """The findings by topic; none without an interval and without what it does not show."""
    found = findings(results)
    assert len(found) <= 3
    assert all(re.search(INTERVAL, text) and text.count("Not shown: ") == 1 for _, text in found)
    return dict(found)


def test_the_sentence_says_what_was_done_and_what_came_of_it(tmp_path: Path) -> None:
    results, recipe = run(tmp_path, *GAIN)
    text = lead(results, recipe)
    assert text.startswith("smollm2-135m-instruct was trained in two phases on text of its own that rules kept: its ")
    assert "on the 20 problems of one went from 0.200 to 0.800, a paired difference of +0.600 (n=20)" in text
    assert re.search(rf"{INTERVAL}: improved\.$", text)


def test_a_loss_reads_as_a_gain_does_with_the_signs_turned(tmp_path: Path) -> None:
    """What a gain is said with is said with a loss: topics, order, intervals, what is not shown."""
    turned = {"improved": "got worse", "got worse": "improved", "gain": "loss", "loss": "gain"}

    def mirrored(text: str) -> str:
        text = re.sub(rf"\b({'|'.join(turned)})\b", lambda m: turned[m[0]], text)
        text = re.sub(r"(\d+) up, (\d+) down", r"\2 up, \1 down", text)
        text = re.sub(r"from ([\d.]+) to ([\d.]+)", r"from \2 to \1", text)
        text = re.sub(r"[-+](?=\d+\.)", lambda m: "-" if m[0] == "+" else "+", text)
        text = re.sub(r"\[([-+][\d.]+), ([-+][\d.]+)\]", r"[\2, \1]", text)
        return text.replace("-0.000", "+0.000")

    for i, phases in enumerate([(1, 2), (1,)]):
        (root := tmp_path / str(i)).mkdir()
        (up := root / "up").mkdir(), (down := root / "down").mkdir()
        rates = GAIN if len(phases) == 2 else GAIN[::2]
        gain, recipe = run(up, *rates, phases=phases)
        loss, _ = run(down, *(({"one": 20 - r["one"]}) for r in rates), phases=phases)
        assert [topic for topic, _ in findings(gain)] == [topic for topic, _ in findings(loss)]
        texts = ([lead(r, recipe).split(" went from ")[1].split(", ", 1)[1], *points(r).values()] for r in (gain, loss))
        for said, other in zip(*texts, strict=True):
            rough = (re.sub(r"\.\d+", "", text) for text in (mirrored(said), other))  # a bootstrap is no mirror
            assert next(rough) == next(rough)


@pytest.mark.parametrize(
    ("before", "after", "word", "missing"),
    [(4, 16, "improved", "that the model can do more, not only says more often what it could say before"),
     (16, 4, "got worse", "that the model can do less, not only says less often what it could say before")],
)  # fmt: skip
def test_sampled_answers_alone_that_changed_are_no_change_of_what_the_model_can_do(
    tmp_path: Path, before: int, after: int, word: str, missing: str
) -> None:
    results, _ = run(tmp_path, {"one": before}, {"one": after}, phases=(1,))
    base, trained = results.models
    trained.graded[:] = [*trained.answers(), *base.answers(greedy=True)]
    said = points(results)["Sampled and greedy"]
    assert "(no change shown); sampled ones" in said and said.endswith(f"({word}). Not shown: {missing}.")


def test_without_greedy_answers_nothing_is_said_of_them(tmp_path: Path) -> None:
    results, _ = run(tmp_path, *GAIN)
    for model in results.models:
        model.graded[:] = model.answers()
    assert list(points(results)) == ["By phase", "Format or arithmetic"]


def test_benchmarks_that_do_not_agree_are_the_first_finding(tmp_path: Path) -> None:
    """Over all problems this run shows no change: one benchmark rose and the other fell."""
    results, recipe = run(tmp_path, *RIGHT.values())
    assert re.search(
        rf"from 0.350 to 0.425, a paired difference of \+0.075 {INTERVAL}: no change shown\.", lead(results, recipe)
    )
    said = points(results)
    assert list(said) == ["By benchmark", "Sampled and greedy", "Length"]
    ends = rf"from -0.400 {INTERVAL} \(got worse\) on hard to \+0.550 {INTERVAL} \(improved\) on easy\. Not shown: how"
    assert re.search(ends, said["By benchmark"])
    assert "from 20 to 40 tokens, +20.0 (n=40)" in said["Length"]


def test_five_benchmarks_name_those_without_a_change(tmp_path: Path) -> None:
    before, after = (dict(zip(BENCHMARKS, counts, strict=True)) for counts in ((0, 1, 2, 6, 9), (0, 2, 9, 14, 18)))
    said = points(run(tmp_path, before, after, phases=(1,))[0])
    assert list(said) == ["By benchmark", "Sampled and greedy", "Format or arithmetic"]
    assert re.search(rf"\+0.000 {INTERVAL} \(no change shown\) on aime24 to \+0.450", said["By benchmark"])
    assert "Not shown: a change on aime24 and olymmath-hard-en; how another seed" in said["By benchmark"]


def test_a_null_is_a_null_on_the_first_screen(tmp_path: Path) -> None:
    results, recipe = run(tmp_path, {"one": 9}, {"one": 9}, phases=(2,))
    assert "(phase 2 alone): its accuracy" in lead(results, recipe)
    assert re.search(
        rf"from 0.450 to 0.450, a paired difference of \+0.000 {INTERVAL}: no change", lead(results, recipe)
    )
    said = points(results)
    assert list(said) == ["By problem", "Sampled and greedy", "Length"]
    assert "0 up, 0 down of 20, sign-flip test p = 1.000. Not shown: a change; " in said["By problem"]
    assert "Not shown: a change of either." in said["Sampled and greedy"]
    assert "no change in accuracy is shown" in said["Length"]
    assert not re.search("improved|got worse", "".join(said.values()))


def test_a_change_of_one_phase_is_not_the_others(tmp_path: Path) -> None:
    said = points(run(tmp_path, {"one": 4}, {"one": 15}, {"one": 15})[0])
    assert re.search(
        rf"phase 1, against base, \+0.550 {INTERVAL} \(improved\); phase 2, against phase 1", said["By phase"]
    )
    assert "Not shown: a change by phase 2; how another seed" in said["By phase"]


def test_few_problems_claim_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results_module, "FEWEST", 21)
    results, recipe = run(tmp_path, *GAIN)
    assert "problems, nothing is claimed." in lead(results, recipe)
    assert not re.search("improved|got worse", lead(results, recipe) + "".join(points(results).values()))


def test_the_base_alone_is_measured_and_not_compared(tmp_path: Path) -> None:
    results, recipe = run(tmp_path, RIGHT["eval-0"], phases=())
    assert re.search(rf"was measured as it is, untrained: .* on all 40 held-out problems is 0.350 {INTERVAL}\.$",
                     lead(results, recipe))  # fmt: skip
    said = points(results)
    assert list(said) == ["By benchmark", "Greedy"]
    assert all(text.endswith("Not shown: what training would change.") for text in said.values())


def test_a_run_under_way_says_so(tmp_path: Path) -> None:
    results, recipe = run(tmp_path, GAIN[0], GAIN[1])
    assert "kept (phase 1 so far): its accuracy" in lead(results, recipe)
    assert front(results, recipe, nowhere).blocks[-1].text.endswith("Not evaluated: phase 2.")


@pytest.mark.parametrize(
    ("phases", "done"),
    [((1, 2), "was trained in two phases"),
     ((1,), "was trained on dialogues with itself that rules kept (phase 1 alone)"),
     ((2,), "was trained on answers of its own that rules kept (phase 2 alone)"), ((), "as it is, untrained")],
)  # fmt: skip
def test_without_held_out_problems_nothing_is_claimed(tmp_path: Path, phases: tuple[int, ...], done: str) -> None:
    at, recipe = make(tmp_path)
    results = Results({role: f for role, f in at.items() if not role.startswith("eval")})
    recipe |= {"phases": list(phases)}
    assert done in lead(results, recipe) and "Nothing was evaluated: the recipe has no held-out" in lead(
        results, recipe
    )
    assert findings(results) == []
    assert [block.kind for block in front(results, recipe, nowhere).blocks] == ["text"]


def test_a_local_model_is_named_without_its_folder(tmp_path: Path) -> None:
    results, recipe = run(tmp_path, *GAIN)
    recipe["model"] = {**recipe["model"], "name": "/somewhere/of/mine/my-model"}
    assert lead(results, recipe).startswith("my-model was trained")
