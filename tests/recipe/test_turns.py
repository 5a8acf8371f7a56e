"""Turns with conditions in a recipe: what is refused, and that a plain list stays what it was, in keys too."""

import pytest
from places import RECIPES

from dpr_mini.pipeline import build
from dpr_mini.planning.capacity import conversation
from dpr_mini.recipe import AskedTurn, DialogueConfig, RecipeError, load
from dpr_mini.recipe.turns import longest

UNTIL = "dialogue.turns=[[solve], {of: [verify, backtrack], until: verified, at_most: 4}]"
WRONG = "dialogue.turns=[[solve], {of: [verify], when: wrong}]"
SMOKE = RECIPES / "smoke.yaml"


def keys(*overrides):
    return {name: stage.key for name, stage in build(load(SMOKE, overrides), RECIPES).items()}


def test_a_condition_is_a_mapping_in_a_list_of_lists():
    turns = load(SMOKE, [UNTIL]).dialogue.turns
    assert turns == (("solve",), AskedTurn(of=("verify", "backtrack"), until="verified", at_most=4))
    assert load(SMOKE, [WRONG]).dialogue.turns[1].when == "wrong"


def test_only_what_was_given_is_written_down():
    def row(*overrides):
        return load(SMOKE, overrides).dialogue.model_dump(mode="json")

    assert row(UNTIL)["turns"] == [["solve"], {"of": ["verify", "backtrack"], "until": "verified", "at_most": 4}]
    assert row(WRONG)["turns"] == [["solve"], {"of": ["verify"], "when": "wrong"}]
    assert "branches" not in row()
    assert row("dialogue.branches={right: 2, wrong: 4}")["branches"] == {"right": 2, "wrong": 4}
    assert DialogueConfig(**row(UNTIL)).turns == load(SMOKE, [UNTIL]).dialogue.turns


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("dialogue.turns=[[solve],{of: [verify]}]", "dialogue.turns.1: give when or until"),
        ("dialogue.turns=[[solve],{of: [verify], when: wrong, at_most: 2}]", "at_most is for until: verified"),
        ("dialogue.turns=[[solve],{of: [], when: wrong}]", r"dialogue.turns.1.of: .*at least 1"),
        ("dialogue.turns=[[solve],{of: [verify], until: done}]", "dialogue.turns.1.until: .*'verified'"),
        ("dialogue.turns=[[solve],{of: [verify], whenn: wrong}]", r"unknown key 'dialogue.turns.1.whenn'.*'when'"),
        ("dialogue.turns=[[solve],{of: [chek], when: wrong}]", "no template 'chek'"),
        ("dialogue.turns=[{of: [solve], until: verified}]", "the first turn is asked in any case"),
        ("dialogue.turns=[[solve],[]]", "every turn needs at least one template"),
        ("dialogue.turns=[solve]", r"dialogue.turns.0: must be a list.* \(got 'solve'\)"),
        ("evaluate.turns=[[solve],{of: [verify], when: wrong}]", "evaluate.turns: when: wrong reads the expected"),
        ("evaluate.turns=[[solve],{of: [chek], until: verified}]", "no template 'chek'"),
        ("evaluate.turns=[{of: [solve], until: verified},[verify]]", "the first turn is asked in any case"),
        ("dialogue={turns: [[solve]], branches: {right: 1, wrong: 2}}", "give turns two or more"),
        ("dialogue.branches={right: 1}", "'dialogue.branches.wrong' is missing"),
    ],
)
def test_a_mistake_is_one_line(override, message):
    with pytest.raises(RecipeError, match=message) as caught:
        load(SMOKE, [override])
    assert "\n" not in str(caught.value)


def test_a_bridge_that_reads_as_a_verdict_is_refused_where_a_verdict_decides(tmp_path):
    """Of a task the chain is read, bridges and all; "Is that right?" of ours would end every dialogue."""
    path = tmp_path / "task.yaml"
    path.write_text("name: t\nproblems: {train: [{task: missing_factor, count: 9}]}\n")
    bridge = 'dialogue.bridges={verify: "Is that right? "}'
    plain = load(path, [bridge])
    assert plain.dialogue.bridges
    turns = "dialogue.turns=[[solve],{of: [verify], until: verified}]"
    with pytest.raises(RecipeError, match="bridge 'verify' would be read as an answer or a verdict of the model"):
        load(path, [bridge, turns])
    with pytest.raises(RecipeError, match=r"evaluate.turns: bridge 'verify'"):
        load(path, [bridge, turns.replace("dialogue", "evaluate")])
    assert load(path, [turns]) and load(SMOKE, [UNTIL]), "free text is read turn by turn"


def test_every_condition_changes_the_key_of_the_dialogues():
    others = [
        UNTIL,
        UNTIL.replace("4", "3"),
        WRONG,
        WRONG.replace("wrong", "rejected"),
        "dialogue.turns=[[solve],[verify]]",
        "dialogue.branches={right: 2, wrong: 4}",
        "dialogue.branches={right: 1, wrong: 4}",
    ]
    found = [keys(), *(keys(o) for o in others)]
    assert len({k["dialogue-1"] for k in found}) == len(found)
    assert len({k["eval-0-answers"] for k in found}) == 1


def test_bridges_and_the_grader_are_in_the_key_only_where_they_decide_what_is_asked():
    bridge, grader = 'dialogue.bridges={verify: "So: "}', "grader.timeout_s=9"
    assert keys()["dialogue-1"] == keys(bridge, grader)["dialogue-1"]
    assert keys(UNTIL)["dialogue-1"] != keys(UNTIL, bridge)["dialogue-1"]
    assert keys(UNTIL)["dialogue-1"] == keys(UNTIL, grader)["dialogue-1"]
    assert keys(WRONG)["dialogue-1"] != keys(WRONG, grader)["dialogue-1"]
    branches = "dialogue.branches={right: 2, wrong: 4}"
    assert keys(branches)["dialogue-1"] != keys(branches, grader)["dialogue-1"]
    scored = UNTIL.replace("dialogue", "evaluate")
    assert keys(scored)["eval-0-answers"] != keys(scored, bridge)["eval-0-answers"]
    assert (
        keys("evaluate.turns=[[solve],[verify]]")["eval-0-answers"]
        == (keys("evaluate.turns=[[solve],[verify]]", bridge)["eval-0-answers"])
    )


def test_plans_reckon_with_the_longest_dialogue():
    plain = load(SMOKE)
    until = load(SMOKE, [UNTIL])
    assert len(longest(until.dialogue.turns)) == 5 and conversation(until) > conversation(plain)
    assert plain.dialogue.most_answers == 3 * 2 and until.dialogue.most_answers == 3 * 5
    branched = load(SMOKE, ["dialogue.branches={right: 2, wrong: 4}"]).dialogue
    assert (branched.most_dialogues, branched.most_answers) == (12, 3 + 12)
