"""Wrong values of the keys of dialogues, controls and experiments: each is one line that names the key."""

from __future__ import annotations

import pytest
from places import RECIPES

from dpr_mini.recipe import RecipeError, load

COUNTDOWN = RECIPES / "countdown" / "countdown.yaml"
TRAIN = "problems.train=[{{task: countdown, part: train, count: 5, {}}}]"
ASKED = "dialogue.turns=[[solve], {{of: [verify], {}}}]"
CLAIM = "hypotheses=[{{name: H, greater: {{arm: a}}, {}}}]"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "dialogue.branches={right: true, wrong: 2}",
            r"dialogue\.branches\.right: must be a whole number \(got true\)",
        ),
        (
            'dialogue.branches={right: "2", wrong: 2}',
            r"dialogue\.branches\.right: must be a whole number; take it out of the quotes \(got '2'\)",
        ),
        ("dialogue.branches={rigth: 1, wrong: 2}", r"'dialogue\.branches\.rigth'; did you mean 'right'"),
        ("dialogue.branches=3", r"dialogue\.branches: must be a mapping"),
        (
            ASKED.format("until: verified, at_most: 1000000000"),
            r"turns\.1\.at_most: must be at most 64 \(got 1000000000\)",
        ),
        (
            ASKED.format('until: verified, at_most: "3"'),
            r"turns\.1\.at_most: must be a whole number; take it out of the quotes \(got '3'\)",
        ),
        (ASKED.format("until: verified, at_most: true"), r"turns\.1\.at_most: must be a whole number \(got true\)"),
        (ASKED.format("when: right"), r"turns\.1\.when: .*'wrong' or 'rejected' \(got 'right'\)"),
        ("dialogue.turns=[[solve], {of: verify, until: verified}]", r"turns\.1\.of: must be a list"),
        ("filter.mix={confirmed: true}", r"filter\.mix\.confirmed: must be a number \(got true\)"),
        ("filter.prefixes=1", r"filter\.prefixes: must be true or false \(got 1\)"),
        ("pack.mask_wrong_attempts=1", r"pack\.mask_wrong_attempts: must be true or false \(got 1\)"),
        ("pack.trained_tokens=[]", r"pack\.trained_tokens: write a number of tokens, or training stages"),
        ("pack.trained_tokens=[train-1, train-1]", r"pack\.trained_tokens: .*each once"),
        ("pack.rows=train-1", r"pack\.rows: write a number of rows, or a packing stage .*\(got 'train-1'\)"),
        ("evaluate.planted={right: true}", r"evaluate\.planted\.right: must be a whole number \(got true\)"),
        ("evaluate.planted={rigth: 1}", r"'evaluate\.planted\.rigth'; did you mean 'right'"),
        (CLAIM.format("than: false"), r"hypotheses\.0\.than: must be an arm, as \{arm: NAME\}, or 0 \(got false\)"),
        (CLAIM.format("than: {arm: a}"), r"hypotheses\.0: both sides are a"),
        (CLAIM.format("than: {arm: b}, benchmark: nowhere"), r"hypotheses\.0\.benchmark: no benchmark 'nowhere'"),
        (CLAIM.format("than: {arm: b}, on: countdown"), r"hypotheses\.0.*YAML reads on, off.* in quotes"),
        (
            CLAIM.format('than: {arm: b}, margin: "0.05"'),
            r"hypotheses\.0\.margin: .*number; take it out of the quotes \(got '0\.05'\)",
        ),
        (
            "problems.train=[{task: countdown, part: train, count: true}]",
            r"train\.0\.count: must be a whole number \(got true\)",
        ),
        (TRAIN.format("seed: true"), r"train\.0\.seed: write a whole number, or run.*\(got true\)"),
        (TRAIN.format("seed: runs"), r"train\.0\.seed: write a whole number, or run.*\(got 'runs'\)"),
        (TRAIN.format("split: dev"), r"train\.0: split is for a hub or a file, a task has none; part\?"),
        (TRAIN.format("columns: {text: q}"), r"train\.0: columns is for a hub or a file"),
        (TRAIN.format('wording: "{problem}"'), r"train\.0: wording: a task has no \{problem\}; write \{text\}"),
        (TRAIN.format("options: {largest: 0}"), r"countdown: largest: must be a number, at least 1, not 0"),
        (TRAIN.format("options: {largest: true}"), r"countdown: largest: must be a number, at least 1, not True"),
        (TRAIN.format("options: {lowest: 90, highest: 10}"), r"countdown: lowest 90 is above highest 10"),
        ("problems.train=[{task: countdown, part: test, count: 5}]", r"part 'test' of countdown is in 'countdown'"),
        ("problems.test.countdown=[{task: countdown, part: train, count: 5}]", r"part 'train' .*another part"),
        ("like=5", r"like: write the name of a recipe's file \(got 5\)"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_its_key(override, message):
    with pytest.raises(RecipeError, match=message) as found:
        load(COUNTDOWN, [override])
    assert "\n" not in str(found.value)


def test_a_key_that_is_there_twice_is_refused_where_it_stands(tmp_path):
    """YAML takes the last one: an arm would be run without half of what it says."""
    path = tmp_path / "twice.yaml"
    path.write_text("name: a\npack: {checks: none}\nproblems:\n  train: []\npack: {verdicts: coin}\n")
    with pytest.raises(RecipeError, match=r"twice\.yaml:5: 'pack' is there twice"):
        load(path)
    path.write_text("name: a\nproblems:\n  train:\n    - {task: sums, count: 3, count: 5}\n")
    with pytest.raises(RecipeError, match=r"twice\.yaml:4: problems\.train\.0: 'count' is there twice"):
        load(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\nproblems: &x [*x]\n", r":2: problems\.0: aliases .* grow beyond"),
        (
            "a: &a0 [1]\n" + "".join(f"b{i}: &a{i + 1} [{', '.join([f'*a{i}'] * 10)}]\n" for i in range(9)),
            "write them out",
        ),
        ("a: " + "[" * 5000 + "]" * 5000, "nested too deep"),
    ],
    ids=["holds itself", "grows", "deep"],
)
def test_yaml_that_never_ends_is_one_line(tmp_path, text, message):
    path = tmp_path / "endless.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=message) as found:
        load(path)
    assert "\n" not in str(found.value)


def test_an_override_is_read_as_a_file_is():
    with pytest.raises(RecipeError, match=r"pack: 'checks' is there twice"):
        load(COUNTDOWN, ["pack={checks: none, checks: own}"])
