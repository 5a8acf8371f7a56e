"""What is masked from the loss is not judged by rules that read text: no shipped recipe throws self-correction away."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import chains
import pytest
from places import RECIPES
from staging import judge

from dpr_mini.recipe import Recipe, load
from dpr_mini.recipe.prompts import fill
from dpr_mini.selection import judging
from dpr_mini.selection.rules import Case, build_rules, objections
from dpr_mini.types import Dialogue, Problem, Turn

PATHS = sorted(RECIPES.rglob("*.yaml"))
PROBLEM = Problem("p", "made", "What is 5 * 9?", "45")
WRONG, RIGHT = "5 * 9 = 55\nAnswer: 55", "5 * 9 = 45\nAnswer: 45"
BRIDGES = {"verify": "\nLet me check: ", "backtrack": "\n\nWait, let me go back.\n"}

load = cache(load)


def talk(*turns: tuple[str, str], asked: str = "") -> Dialogue:
    """(template, text) of each turn; a word is a token."""
    made = (Turn(name, asked, tuple(range(len(text.split()))), text, "stop") for name, text in turns)
    return Dialogue("p#0", "p", 0, tuple(made), "scripted", 0)


def judged(dialogue: Dialogue, bridges=BRIDGES, masking: bool = True) -> Case:
    (case,) = judge([dialogue], {"p": PROBLEM}, bridges, masking)
    return case


def names(case: Case, *rules) -> list[str]:
    return [name for name, _ in objections(case, build_rules(rules))]


def second_turns(recipe: Recipe) -> list[str]:
    """Templates that may follow the first turn; those of other recipes where this one has a single turn."""
    return [name for turn in recipe.dialogue.turns[1:] for name in turn] or ["verify", "backtrack"]


def about_tasks(path: Path) -> bool:
    return any(source.task for source in load(path).problems.train)


@pytest.mark.parametrize("path", [p for p in PATHS if not about_tasks(p)], ids=lambda p: p.stem)
@pytest.mark.parametrize("section", ["filter", "filter_2"])
def test_every_shipped_recipe_keeps_an_answer_that_was_corrected(path, section):
    recipe = load(path)
    config, words = getattr(recipe, section), recipe.dialogue.words()
    ask = recipe.dialogue.turns[0][0]
    asked = fill(words.templates[ask], PROBLEM.text)
    masking = config.trained_turns
    for name in second_turns(recipe):
        two = judged(talk((ask, WRONG), (name, RIGHT), asked=asked), words.bridges, masking)
        assert two.kind == "corrected" and names(two, *config.rules) == []
        chain = judged(talk((ask, WRONG + words.bridges[name] + RIGHT), asked=asked), words.bridges, masking)
        assert chain.kind == "single_right" and chain.masked == WRONG
        # Phase 1 of these recipes wants dialogues of two turns; what phase 2 draws passes.
        dialogues_only = any(isinstance(r, dict) and "trajectory" in r for r in config.rules)
        assert names(chain, *config.rules) == (["trajectory"] if dialogues_only else [])


@pytest.mark.parametrize("path", [p for p in PATHS if about_tasks(p)], ids=lambda p: p.stem)
@pytest.mark.parametrize("section", ["filter", "filter_2"])
def test_every_shipped_recipe_of_a_task_keeps_one_that_was_mended_unless_it_is_the_control(path, section):
    recipe = load(path)
    rules, bridges = getattr(recipe, section).rules, recipe.dialogue.words().bridges
    kept = {}
    for kind, texts in (("corrected", chains.CORRECTED), ("confirmed", chains.CONFIRMED), ("spoiled", chains.SPOILED)):
        (case,) = judge([chains.talk(*texts)], {"c": chains.PROBLEM}, bridges)
        assert case.kind == kind
        kept[kind] = not names(case, *rules)
    assert kept == {"corrected": path.stem != "countdown-confirmed", "confirmed": True, "spoiled": False}


READ = ["false_arithmetic", {"repetition": {"n": 3}}, "language", "template_leak"]
FLAWS = {
    "false_arithmetic": "5 * 9 = 54",
    "repetition": "so we add them " * 4,
    "language": "\u043f\u044f\u0442\u044c \u0440\u0430\u0437 \u0434\u0435\u0432\u044f\u0442\u044c",
    "template_leak": "As you asked, I multiply.",
}


@pytest.mark.parametrize(("rule", "flaw"), FLAWS.items())
def test_a_flaw_counts_where_it_is_trained_on(rule, flaw):
    flawed = f"{flaw}\nAnswer: 54"
    for chain in (
        talk(("solve", flawed), ("verify", RIGHT)),
        talk(("solve", flawed + BRIDGES["verify"] + RIGHT)),
    ):
        assert names(judged(chain), *READ) == []
        assert names(judged(chain, masking=False), *READ) == [rule], "nothing is masked"
        everything = [{r if isinstance(r, str) else "repetition": {"turns": "all"}} for r in READ]
        everything[1]["repetition"]["n"] = 3
        assert names(judged(chain), *everything) == [rule]
    right_first = f"{flaw}\nAnswer: 45"  # right, so trained on
    assert names(judged(talk(("solve", right_first), ("verify", RIGHT))), *READ) == [rule]
    assert names(judged(talk(("solve", right_first + BRIDGES["verify"] + RIGHT))), *READ) == [rule]
    last = f"{flaw}\nAnswer: 45"
    assert names(judged(talk(("solve", WRONG), ("verify", last))), *READ) == [rule]
    assert names(judged(talk(("solve", WRONG + BRIDGES["backtrack"] + last))), *READ) == [rule]


def test_last_is_the_last_attempt():
    chain = judged(talk(("solve", f"5 * 9 = 44, or 45. Answer: 45{BRIDGES['verify']}{RIGHT}")))
    assert names(chain, "false_arithmetic") == ["false_arithmetic"]
    assert names(chain, {"false_arithmetic": {"turns": "last"}}) == []


def test_a_chain_does_not_state_two_answers_because_its_first_attempt_had_another():
    assert names(judged(talk(("solve", WRONG + BRIDGES["verify"] + RIGHT))), "one_answer") == []
    assert names(judged(talk(("solve", WRONG + "\n" + RIGHT))), "one_answer") == ["one_answer"]


def test_a_loop_over_our_bridges_is_still_a_loop():
    loop = RIGHT + (BRIDGES["verify"] + "nine fives are counted one by one, " + RIGHT) * 4
    assert names(judged(talk(("solve", loop))), "repetition") == ["repetition"]


def test_duplicates_are_compared_without_our_bridges():
    rules = build_rules(["duplicate", {"near_duplicate": {"threshold": 1.0}}])
    first = judged(talk(("solve", RIGHT), ("verify", RIGHT)))
    for _, rule in rules:
        rule.keep(first)
    others = (
        talk(("solve", RIGHT), ("backtrack", RIGHT)),
        talk(("solve", RIGHT + BRIDGES["backtrack"] + RIGHT)),
    )
    for same in others:
        assert [name for name, _ in objections(judged(same), rules)] == ["duplicate", "near_duplicate"]
    assert not list(objections(judged(talk(("solve", RIGHT), ("verify", "9 * 5 = 45\nAnswer: 45"))), rules))


def test_turns_is_one_of_three():
    from dpr_mini.recipe import RecipeError

    with pytest.raises(RecipeError, match=r"false_arithmetic.turns: .*'trained', 'last' or 'all'"):
        build_rules([{"false_arithmetic": {"turns": "first"}}])


def test_long_texts_are_graded_a_few_at_a_time_whatever_their_tokens_say(monkeypatch):
    """A user's row may say that it has no tokens."""
    monkeypatch.setattr(judging, "CHARACTERS", 100)
    made = talk(("solve", "x" * 60))
    silent = [replace(made, turns=(replace(made.turns[0], ids=()),))] * 5
    assert [len(some) for some in judging._portions(silent)] == [2, 2, 1]
    assert [len(some) for some in judging._portions([talk(("solve", RIGHT))] * 5)] == [5]
