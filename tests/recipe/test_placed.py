"""A mistake that only a stage can see names the recipe's file and line as one does that the reader sees."""

from __future__ import annotations

from pathlib import Path

import pytest
from places import RECIPES, SMOKE_MODEL
from staging import plain_stage

from dpr_mini import pipeline
from dpr_mini.commands import run as runner
from dpr_mini.commands.filter import filter_file
from dpr_mini.pipeline import build, refuse_missing_model
from dpr_mini.recipe import Places, RecipeError, load, placed
from dpr_mini.types import UserError

RECIPE = """\
name: mine
problems:
  train: [{generate: chain_sum, count: 4}]
model:
  name: nowhere
filter:
  rules:
    - answered
    - length: {min: 3}
"""


@pytest.fixture
def mine(tmp_path) -> Path:
    (tmp_path / "below.yaml").write_text(RECIPE)
    (tmp_path / "mine.yaml").write_text("extends: below.yaml\nname: above\n")
    return tmp_path / "mine.yaml"


def refused(path: Path, *overrides: str) -> str:
    with pytest.raises(RecipeError) as error:
        build(load(path, ["model.name=smollm2-135m-instruct", *overrides]), path.parent)
    return str(error.value)


def test_a_rules_mistake_names_the_file_and_line_of_the_rule(mine):
    below = mine.parent / "below.yaml"
    assert refused(mine).startswith(f"{below}:9: filter.rules: length has no option 'min'; valid: min_tokens")
    assert refused(mine, "filter.rules=[answered, x]").startswith("override 'filter.rules=[answered, x]': filter.rules")


def test_phase_2_names_its_own_rules_or_those_that_it_takes_over(mine):
    mine.write_text("extends: below.yaml\nfilter: {rules: [answered]}\nfilter_2:\n  rules:\n  - answerd\n")
    assert refused(mine).startswith(f"{mine}:5: filter.rules: no rule 'answerd'; did you mean 'answered'?")
    mine.write_text("extends: below.yaml\nphases: [2]\nfilter_2: {limit: 5}\n")
    assert refused(mine).startswith(f"{mine.parent / 'below.yaml'}:9: ")
    whole = "filter_2={rules: [x]}"
    assert refused(mine, "filter.rules=[answered]", whole).startswith(f"override '{whole}': filter.rules: no rule 'x'")


def test_the_filter_command_names_it_too(mine, tmp_path):
    (tmp_path / "in.jsonl").write_text('{"id": 1, "text": "The answer is 3.", "gold": "3"}\n')
    with pytest.raises(RecipeError, match=r"below\.yaml:9: filter\.rules"):
        filter_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl", recipe=mine)


@pytest.mark.parametrize("name", ["mine.yaml", "below.yaml"])
def test_no_recipe_that_is_read_is_written_over(mine, tmp_path, name):
    (tmp_path / "in.jsonl").write_text('{"id": 1, "text": "The answer is 3.", "gold": "3"}\n')
    before = (tmp_path / name).read_text()
    with pytest.raises(UserError, match="--out is a file that is read"):
        filter_file(tmp_path / "in.jsonl", tmp_path / name, recipe=mine)
    assert (tmp_path / name).read_text() == before


@pytest.mark.parametrize("name", ["mine.yaml", "between.yaml", "below.yaml", "other.yaml", "under.yaml"])
def test_nor_one_of_which_no_key_is_left(mine, tmp_path, name):
    """`between` says nothing that `mine` does not say, and `under` nothing that `other` does not."""
    (tmp_path / "in.jsonl").write_text('{"id": 1, "text": "The answer is 3.", "gold": "3"}\n')
    (tmp_path / "between.yaml").write_text("extends: below.yaml\nname: between\n")
    (tmp_path / "under.yaml").write_text("extends: below.yaml\nname: under\n")
    (tmp_path / "other.yaml").write_text("extends: under.yaml\nname: other\n")
    mine.write_text("extends: between.yaml\nname: above\nstore: other\nlike: other.yaml\n")
    before = (tmp_path / name).read_text()
    with pytest.raises(UserError, match="--out is a file that is read"):
        filter_file(tmp_path / "in.jsonl", tmp_path / name, recipe=mine)
    assert (tmp_path / name).read_text() == before


def test_what_replaces_a_list_or_a_mapping_is_told_by_its_own_lines(mine):
    claim = "hypotheses: [{name: H, greater: {arm: a}, than: {arm: b}}]\n"
    (mine.parent / "below.yaml").write_text(RECIPE + claim + "pack: {rows: 5}\n")
    for text, says in (
        ("hypotheses:\n  - name: H\n    greater: {arm: a}\n", ":3: 'hypotheses.0.than' is missing"),
        ("hypotheses:\n  - 5\n", ":3: hypotheses.0: must be a mapping"),
        ("pack: 5\n", ":2: pack: must be a mapping"),
    ):
        mine.write_text("extends: below.yaml\n" + text)
        with pytest.raises(RecipeError) as error:
            load(mine)
        assert str(error.value).startswith(f"{mine}{says}")


def test_a_model_that_is_nowhere_names_its_line(mine):
    below = mine.parent / "below.yaml"
    with pytest.raises(RecipeError, match="no model folder nowhere") as error:
        refuse_missing_model(load(mine), mine.parent)
    assert str(error.value).startswith(f"{below}:5: model.name: ")


@pytest.mark.parametrize(("whose", "line"), [("mine", 7), ("other", 10), ("third", 12)])
def test_a_mistake_that_a_stage_finds_is_told_by_the_recipe_of_that_stage(mine, monkeypatch, whose, line):
    example = "dialogue:\n  examples: [{problem: '1 + 1?', answers: ['2'], level: hard}]\n"
    names = ["mine", "other", "third"]
    for number, name in enumerate(names):
        like = "".join(f"like: {other}.yaml\n" for other in names[number + 1 : number + 2])
        extra = f"extends: below.yaml\nname: {name}\nstore: shared\nmodel: {{name: {SMOKE_MODEL}}}\n{like}"
        mine.with_name(f"{name}.yaml").write_text(extra + "# as long as it is far\n" * 3 * number + example)

    def wrong(folder, at):
        raise RecipeError("dialogue.examples: no problem is shown it", "dialogue", "examples", 0)

    def stages(recipe, folder, test=False):
        """Of each recipe one stage, measured by that of the next; nothing is wrong but in that of `whose`."""
        run = wrong if recipe.name == whose else lambda folder, at: {}
        inputs = {"like dialogue-1": stages(recipe.like, folder)["dialogue-1"]} if recipe.like else {}
        return {"dialogue-1": plain_stage("dialogue-1", 1, {"of": recipe.name}, run, inputs)}

    monkeypatch.setattr(pipeline, "build", stages)
    with pytest.raises(RecipeError) as error:
        runner.run([mine], [], mine.parent / "runs")
    assert str(error.value) == f"{mine.with_name(whose)}.yaml:{line}: dialogue.examples: no problem is shown it"


def test_places_change_no_comparison_and_no_dump(mine):
    other = mine.with_name("other.yaml")
    other.write_text("name: above\nextends: below.yaml\n")
    one, two = load(mine), load(other)
    assert dict(one._places) != dict(two._places) and one == two and one.model_dump() == two.model_dump()
    assert one._places == two._places and (one._places != two._places) is False and one._places != {}
    assert one != load(mine, ["seed=5"])
    for copy in (one.model_copy(update={"seed": 3}), one.model_copy(deep=True)):
        assert copy.files == {mine, mine.parent / "below.yaml"}


def test_a_recipe_that_was_no_file_says_what_it_can():
    recipe = load(RECIPES / "smoke.yaml").model_copy()
    recipe._places.clear()
    with pytest.raises(RecipeError, match=r"^wrong$"), placed(recipe):
        raise RecipeError("wrong", "filter", "rules")
    assert Places().of(("filter",)) is None


def test_a_stage_that_the_other_run_lacks_names_the_section_that_asks_for_it(mine):
    mine.write_text("extends: below.yaml\nfilter: {rules: [answered]}\nname: shared\nphases: [1]\n")
    more = mine.with_name("more.yaml")
    more.write_text(
        "extends: mine.yaml\nstore: shared\nphases: [1, 2]\nlike: mine.yaml\nfilter_2:\n  limit: filter-2\n"
    )
    assert refused(more) == f"{more}:5: filter_2: shared has no stage 'filter-2'; did you mean 'filter-1'?"
