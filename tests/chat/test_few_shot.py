"""Few-shot examples before the question: who is shown which, and that nothing of them is trained on."""

import json
from itertools import product

import pytest
import staging
from places import RECIPES
from scripted import ScriptedEngine

from dpr_mini.chat.conversation import examples
from dpr_mini.chat.template import Template, to_sample
from dpr_mini.files.rows import read_rows
from dpr_mini.grading.grader import Grader
from dpr_mini.pipeline import build
from dpr_mini.planning.capacity import shown
from dpr_mini.recipe import DialogueConfig, EvaluateConfig, Example, RecipeError, load, prompts
from dpr_mini.types import Dialogue, Problem, from_row, identity

EASY, HARD = Problem("p0", "t", "the cat?", "1", "easy"), Problem("p1", "t", "the mat?", "2", "hard")
TEMPLATES = {"solve": "say {problem}", "verify": "check {problem}", "backward": "back {problem}"}
TURNS = (("solve",), ("verify", "backward"))
TO_ALL = Example(problem="a hat?", answers=("zebra",))
TO_HARD = Example(problem="a bat?", answers=("yak",), level="hard")
TO_VERIFY = Example(problem="a rat?", answers=("xylo", "walrus"), template="verify")


@pytest.fixture(scope="module")
def template(tiny_model):
    return Template.load(tiny_model())


def ask(template, folder, problems, *examples, answer="ok"):
    """(rows, first requests by dialogue id) of a stage with two dialogues a problem: one verifies, one goes back."""
    config = DialogueConfig(samples=2, turns=TURNS, examples=examples)
    with ScriptedEngine(lambda r: answer, template.tokenizer) as engine:
        staging.dialogue(folder, problems, engine, template, config, prompts.TEMPLATES | TEMPLATES, seed=1)
    asked = {}
    for request in engine.seen:
        asked.setdefault(request.id, request.ids)
    return list(read_rows(folder / "rows.jsonl")), asked


def test_an_example_is_said_turn_by_turn_before_the_question(template, tmp_path):
    _, asked = ask(template, tmp_path, [EASY], TO_VERIFY, TO_ALL)
    talk = ["say a rat?", "xylo", "check a rat?", "walrus", "say a hat?", "zebra", "say the cat?"]
    roles = ["user", "assistant"] * 4
    whole = template.render([{"role": r, "content": c} for r, c in zip(roles, talk, strict=False)])
    (verified,) = [ids for ids in asked.values() if "walrus" in template.decode(ids)]
    assert verified == template.encode(whole)


def test_who_is_shown_what(template, tmp_path):
    rows, asked = ask(template, tmp_path, [EASY, HARD], TO_ALL, TO_HARD, TO_VERIFY)
    for row in rows:
        said = template.decode(asked[row["id"]])
        assert "zebra" in said
        assert ("yak" in said) == (row["problem_id"] == "p1"), "of its level only"
        assert ("walrus" in said) == (row["turns"][1]["instruction"] == "verify"), "of its turns only"


def test_a_problem_is_not_shown_its_own_answer(template, tmp_path):
    own = Example(problem="The  CAT?", answers=("vole",))
    rows, asked = ask(template, tmp_path, [EASY, HARD], own)
    assert {("vole" in template.decode(asked[r["id"]]), r["problem_id"]) for r in rows} == {(False, "p0"), (True, "p1")}


def test_what_is_trained_on_is_as_without_examples(template, tmp_path):
    """Same answers, same training samples: questions and chains have nothing of what was shown."""
    (tmp_path / "with").mkdir(), (tmp_path / "without").mkdir()
    shown, _ = ask(template, tmp_path / "with", [EASY, HARD], TO_ALL, TO_HARD, TO_VERIFY)
    bare, _ = ask(template, tmp_path / "without", [EASY, HARD])
    assert {t["prompt_tokens"] for r in shown for t in r["turns"]} != {
        t["prompt_tokens"] for r in bare for t in r["turns"]
    }
    samples = [
        {s.id: s for s in (to_sample(from_row(Dialogue, r), template, {}) for r in rows)} for rows in (shown, bare)
    ]
    assert samples[0] == samples[1] and len(samples[0]) == 4


def test_later_turns_continue_behind_the_examples(template, tmp_path):
    rows, asked = ask(template, tmp_path, [EASY], TO_ALL)
    for row in rows:
        first, second = row["turns"]
        follow = template.follow_up(second["prompt"])
        assert second["prompt_tokens"] == len(asked[row["id"]]) + len(first["ids"]) + len(follow)
        assert second["cached_tokens"] >= len(asked[row["id"]])


def test_an_example_that_nobody_is_shown_is_refused_before_anything_is_asked(template, tmp_path):
    lost = TO_ALL.model_copy(update={"level": "hrad"})
    with pytest.raises(RecipeError, match=r"no problem is shown example 2 \('a hat\?'\); levels: easy, hard"):
        ask(template, tmp_path, [EASY, HARD], TO_HARD, lost)
    assert not (tmp_path / "rows.jsonl").exists()


def test_a_template_that_no_turn_has_is_refused():
    with pytest.raises(RecipeError, match="no turn has example 1's 'verfiy'"):
        load(RECIPES / "smoke.yaml", ["dialogue.examples=[{problem: 1 + 1, answers: ['2'], template: verfiy}]"])


def test_a_dialogue_of_fewer_turns_is_shown_as_many(template, tmp_path):
    rows, asked = ask(template, tmp_path, [EASY], TO_ALL.model_copy(update={"answers": ("one", "two", "three")}))
    for row in rows:
        talk = ["say a hat?", "one", f"{row['turns'][1]['prompt'].split()[0]} a hat?", "two", "say the cat?"]
        whole = template.render([{"role": ("user", "assistant")[i % 2], "content": c} for i, c in enumerate(talk)])
        assert asked[row["id"]] == template.encode(whole)


def test_an_example_without_an_answer_is_refused():
    with pytest.raises(RecipeError, match="answers"):
        load(RECIPES / "smoke.yaml", ["dialogue.examples=[{problem: 1 + 1, answers: []}]"])


def keys(*overrides):
    recipe = load(RECIPES / "smoke.yaml", overrides)
    return {name: s.key for name, s in build(recipe, RECIPES).items()}


def test_examples_redo_phase_1_and_what_follows_and_no_evaluation_of_the_base():
    before, after = keys(), keys("dialogue.examples=[{problem: 1 + 1, answers: ['2']}]")
    same = {name for name in before if before[name] == after[name]}
    assert same == {"problems", "eval-0-answers", "eval-0"}


def test_the_demos_examples_are_right_and_not_held_out(tmp_path):
    recipe = load(RECIPES / "smollm2-cpu.yaml")
    staging.problems(tmp_path, recipe.problems, RECIPES)
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").open()]
    held_out = {r["id"] for r in rows if r["split"] != "train"}
    with Grader() as grader:
        for i, example in enumerate(recipe.dialogue.examples):
            assert identity(example.problem) not in held_out, example
            question = example.problem.removeprefix("What is ").removesuffix("?")
            for _, verdict in grader.grade_many((f"{i}.{n}", question, said) for n, said in enumerate(example.answers)):
                assert verdict.ok, (example, verdict)


def test_the_planner_counts_what_a_dialogue_is_shown(embedded_model):
    """No fewer tokens than the real tokenizer says, and not twice as many; one level's examples, not all levels'."""
    dialogue = load(RECIPES / "smollm2-cpu.yaml").dialogue
    template, templates = Template.load(embedded_model), prompts.TEMPLATES | dialogue.templates
    alone = len(template.opening("x"))
    levels = {e.level for e in dialogue.examples}
    counted = []
    for level, names in product(levels, (("solve", second) for second in dialogue.turns[1])):
        said = examples(dialogue.examples, Problem("p", "t", "x", "1", level), names, templates)
        counted.append(len(template.opening("x", turns=said)) - alone)
    assert max(counted) <= shown(dialogue) <= 2 * max(counted)
    assert shown(dialogue.model_copy(update={"examples": ()})) == 0


# ---- at test time: few-shot prompting


def test_an_evaluation_shows_them_only_where_it_says_so(template, tmp_path):
    templates = prompts.TEMPLATES | TEMPLATES
    for on in (False, True):
        (tmp_path / str(on)).mkdir()
        asked = EvaluateConfig(samples=1, greedy=False, examples=on)
        with ScriptedEngine(lambda r: "ok", template.tokenizer) as engine:
            known = (TO_ALL, TO_HARD, TO_VERIFY)
            staging.answers(tmp_path / str(on), [EASY, HARD], engine, template, asked, templates, 1, known=known)
        said = {r.id: template.decode(r.ids) for r in engine.seen}
        assert ["zebra" in said["p0#0"], "zebra" in said["p1#0"], "yak" in said["p1#0"]] == [on] * 3
        assert not any("yak" in said["p0#0"] or "walrus" in text for text in said.values())


def test_few_shot_evaluations_have_keys_of_their_own():
    given = "dialogue.examples=[{problem: 1 + 1, answers: ['2']}]"
    bare, shown = keys(given), keys(given, "evaluate.examples=true")
    other = keys(given.replace("'2'", "'two'"), "evaluate.examples=true")
    assert bare["dialogue-1"] == shown["dialogue-1"] and bare["eval-0"] != shown["eval-0"] != other["eval-0"]


def test_showing_examples_that_are_not_there_is_refused():
    with pytest.raises(RecipeError, match="examples: there are none"):
        keys("dialogue.examples=[]", "evaluate.examples=true")


def test_an_evaluation_whose_problems_are_shown_none_is_refused(template, tmp_path):
    asked = EvaluateConfig(samples=1, greedy=False, examples=True)
    with ScriptedEngine(lambda r: "ok", template.tokenizer) as engine, pytest.raises(RecipeError, match="levels: easy"):
        staging.answers(tmp_path, [EASY], engine, template, asked, prompts.TEMPLATES, 1, known=(TO_HARD,))
