"""Recipes are strict: one line that names file, line and fix for every mistake."""

import pytest
from places import RECIPES

from dpr_mini.pipeline import build
from dpr_mini.recipe import RecipeError, load, prompts

FILES = sorted(RECIPES.rglob("*.yaml"))
GOOD = """\
name: test
problems:
  train:
    - {generate: chain_sum, count: 10}
train:
  epochs: 2
"""


def write(tmp_path, text):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_every_recipe_of_the_project_is_valid_and_describes_its_stages(path):
    recipe = load(path)
    stages = build(recipe, path.parent)
    assert next(iter(stages)) == "problems" and list(stages)[-1] == "report"
    assert len({s.key for s in stages.values()}) == len(stages)


def test_there_are_recipes():
    assert {"smoke", "smollm2-cpu", "qwen7b"} <= {p.stem for p in FILES}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD.replace("epochs", "epoch"), r"r\.yaml:6: unknown key 'train.epoch'; did you mean 'epochs'\?"),
        (GOOD + "dialog: {samples: 1}\n", r"r\.yaml:7: unknown key 'dialog'; did you mean 'dialogue'\?"),
        (GOOD.replace("count: 10", "cout: 10"), r"r\.yaml:4: .*count"),
        (GOOD.replace("epochs: 2", "epochs: 0"), r"r\.yaml:6: train.epochs: must be at least 1 \(got 0\)"),
        (GOOD.replace("epochs: 2", "epochs: two"), r"r\.yaml:6: train.epochs: must be a whole number \(got 'two'\)"),
        (GOOD.replace("generate: chain_sum, count: 10", "count: 10"), r"r\.yaml:4: .*exactly one of file, hub"),
        (GOOD.replace("name: test\n", ""), r"'name' is missing"),
        (
            GOOD.replace("train:\n    -", "held_out: {train: [{file: a}]}\n  train:\n    -"),
            r"r\.yaml:3: problems.held_out: a held-out set cannot be named 'train', the split that is trained on",
        ),
        (
            GOOD.replace("train:\n    -", "held_out: {all: [{file: a}]}\n  train:\n    -"),
            r"r\.yaml:3: problems.held_out: a held-out set cannot be named 'all', the card over all benchmarks: rename",
        ),
        (
            GOOD.replace("train:\n    -", "held_out: {hard for base: [{file: a}]}\n  train:\n    -"),
            r"r\.yaml:3: problems.held_out: a held-out set cannot be named 'hard for base', a bin of `compare`: rename",
        ),
        (
            GOOD.replace("train:\n    -", "held_out: {' train': [{file: a}]}\n  train:\n    -"),
            r"r\.yaml:3: problems.held_out: a held-out set cannot be named ' train': a name must begin with a letter",
        ),
        (GOOD.replace("train:\n    -", "held_out: {'': [{file: a}]}\n  train:\n    -"), r"r\.yaml:3: .*named ''"),
        (GOOD + "dialogue:\n  turns: []\n", r"r\.yaml:8: dialogue.turns: .*at least 1"),
        (GOOD + "x: [1\n", r"r\.yaml:\d+: not valid YAML"),
        ("- just\n- a list\n", "a recipe is a mapping"),
        (GOOD + "train_2: {lr: 1}\n", r"r\.yaml:7: unknown key 'train_2.lr'"),
        (GOOD + "engine: {kind: sglangs}\n", r"r\.yaml:7: engine.kind: .*'sglang'.*'sglangs'"),
        (GOOD + "engine: {kind: sglang, pyton: x}\n", r"r\.yaml:7: unknown key 'engine.pyton'; did you mean 'python'"),
        (GOOD + "engine: {kind: hf, urls: [http://x:1]}\n", r"r\.yaml:7: engine: .*urls is for kind: sglang, not hf"),
        (GOOD + "engine:\n  python: x\n", r"r\.yaml:7: engine: .*python is for kind: sglang, not auto"),
        (
            GOOD + "engine: {kind: sglang, python: x, urls: 'http://y:1'}\n",
            r"r\.yaml:7: engine: .*python or urls, not both",
        ),
        (GOOD + "engine: {kind: sglang, start_timeout: 0}\n", r"r\.yaml:7: engine.start_timeout: must be above 0"),
        (GOOD + "engine: {kind: sglang, arguments: {x: [1]}}\n", r"r\.yaml:7: engine.arguments.*"),
    ],
)
def test_a_mistake_is_one_line_with_file_line_and_fix(tmp_path, text, message):
    with pytest.raises(RecipeError, match=message) as caught:
        load(write(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_missing_recipe_names_its_neighbour(tmp_path):
    write(tmp_path, GOOD)
    with pytest.raises(RecipeError, match=r"no such recipe; did you mean .*r\.yaml\?"):
        load(tmp_path / "rr.yaml")


def test_overrides_win_and_are_named_in_errors(tmp_path):
    path = write(tmp_path, GOOD)
    assert load(path, ["train.epochs=5", "dialogue.samples=7", "scale=0.5"]).train.epochs == 5
    assert load(path, ["dialogue.samples=7"]).dialogue.samples == 7
    with pytest.raises(RecipeError, match=r"override 'train.epochs=0': train.epochs"):
        load(path, ["train.epochs=0"])
    with pytest.raises(RecipeError, match=r"override 'train.epocs=1': unknown key .*'epochs'"):
        load(path, ["train.epocs=1"])
    with pytest.raises(RecipeError, match=r"section\.key=value"):
        load(path, ["epochs"])
    with pytest.raises(RecipeError, match="a value, not a section"):
        load(path, ["name.x=1"])


def test_null_leaves_out_a_held_out_set_of_the_recipe_below_and_nothing_else(tmp_path):
    sets = "  {group}: {{a: [{{task: sums, part: test, count: 9}}], b: [{{task: sums, part: dev, count: 9}}]}}\n"
    for group in ("held_out", "dev", "test"):
        write(tmp_path, GOOD.replace("problems:\n", "problems:\n" + sets.format(group=group)))
        child = tmp_path / "child.yaml"
        child.write_text(f"extends: r.yaml\nname: child\nproblems: {{{group}: {{b: null}}}}\n")
        assert "b" not in load(child).problems.never_trained_on
        assert "a" in load(child).problems.never_trained_on, "what is not named stays"
        child.write_text(f"extends: r.yaml\nname: child\nproblems: {{{group}: {{c: null}}}}\n")
        with pytest.raises(RecipeError, match=rf"child\.yaml:3: problems\.{group}\.c: must be a list"):
            load(child)
    write(tmp_path, GOOD.replace("problems:\n", "problems:\n" + sets.format(group="held_out")))
    assert set(load(tmp_path / "r.yaml", ["problems.held_out.b=null"]).problems.held_out) == {"a"}
    with pytest.raises(RecipeError, match=r"problems\.held_out\.c=null': problems\.held_out\.c: must be a list"):
        load(tmp_path / "r.yaml", ["problems.held_out.c=null"])
    alone = write(tmp_path, GOOD.replace("problems:\n", "problems:\n  dev: {b: null}\n"))
    with pytest.raises(RecipeError, match=r"problems\.dev\.b: must be a list"):
        load(alone)


def test_a_recipe_extends_another_and_says_only_what_differs(tmp_path):
    write(tmp_path, GOOD + "filter:\n  rules: [answered, answer_correct]\n  limit: 9\n")
    child = tmp_path / "child.yaml"
    child.write_text("extends: r.yaml\nname: child\nfilter:\n  rules: [answered]\n")
    recipe = load(child, ["filter.limit=4"])
    assert (recipe.name, recipe.filter.rules, recipe.filter.limit, recipe.train.epochs) == (
        "child",
        ("answered",),
        4,
        2,
    )
    child.write_text("extends: r.yaml\ntrain:\n  epoch: 3\n")
    with pytest.raises(RecipeError, match=r"child\.yaml:3: unknown key 'train.epoch'"):
        load(child)
    child.write_text("extends: r.yaml\nname: child\n")
    write(tmp_path, GOOD.replace("epochs", "epoch"))
    with pytest.raises(RecipeError, match=r"r\.yaml:6: unknown key 'train.epoch'"):
        load(child)
    child.write_text("extends: child.yaml\n")
    with pytest.raises(RecipeError, match=r"child\.yaml:1: .*extends itself"):
        load(child)
    child.write_text("name: child\nextends: chidl.yaml\n")
    with pytest.raises(
        RecipeError, match=r"child\.yaml:2: extends: .*chidl\.yaml: no such recipe; did you mean .*child"
    ):
        load(child)


def test_phase_2_inherits_phase_1_and_may_differ(tmp_path):
    recipe = load(write(tmp_path, GOOD + "train_2: {learning_rate: 0.5}\n"))
    assert (recipe.train_2.epochs, recipe.train_2.learning_rate) == (2, 0.5)
    assert recipe.train.learning_rate != 0.5


def test_scale_shrinks_problems_to_at_least_one(tmp_path):
    recipe = load(write(tmp_path, GOOD), ["scale=0.01"])
    assert recipe.count(recipe.problems.train[0]) == 1
    assert load(write(tmp_path, GOOD), ["scale=0.5"]).count(recipe.problems.train[0]) == 5


def test_scale_is_in_the_problems_key_where_it_changes_what_is_taken(tmp_path):
    """Counts are scaled in the key itself; a file's share is not known there. A benchmark without one stays whole."""

    def key(text, scale):
        recipe = load(write(tmp_path, f"name: r\nproblems: {{{text}}}\n"), [f"scale={scale}"])
        return build(recipe, tmp_path)["problems"]

    whole, counted = "train: [{file: a.jsonl}]", "train: [{file: a.jsonl, count: 10}]"
    assert key(whole, 1).config.keys() == {"sources", "files"}, "as it was"
    assert len({key(whole, scale).key for scale in (0.2, 0.5, 1)}) == 3
    assert (
        len({key(counted, scale).key for scale in (0.2, 0.201, 0.5)}) == 2 and "scale" not in key(counted, 0.2).config
    )
    assert key(f"{counted}, held_out: {{b: [{{file: b.jsonl}}]}}", 0.2).key == (
        key(f"{counted}, held_out: {{b: [{{file: b.jsonl}}]}}", 0.201).key
    )


def test_unknown_template_and_rule_are_refused_before_anything_runs(tmp_path):
    for override, message in [
        ("dialogue.turns=[[solve],[chek]]", "no template 'chek'"),
        ("filter.rules=[answer_corect]", "answer_correct"),
    ]:
        with pytest.raises(RecipeError, match=message):
            build(load(write(tmp_path, GOOD), [override]), tmp_path)


def keys(path, *overrides):
    recipe = load(path, overrides)
    return {name: stage.key for name, stage in build(recipe, path.parent).items()}


def changed(path, *overrides):
    before, after = keys(path), keys(path, *overrides)
    return [name for name in before if before[name] != after[name]]


def test_rules_read_what_the_same_phase_trains_on(tmp_path):
    path = write(tmp_path, GOOD)

    def trained_turns(*overrides):
        recipe = load(path, overrides)
        return recipe.filter.trained_turns, recipe.filter_2.trained_turns

    assert trained_turns() == (True, True)
    assert trained_turns("pack.mask_wrong_first=false") == (False, False)
    assert trained_turns("pack_2.mask_wrong_first=false") == (True, False)
    assert trained_turns("pack.mask_wrong_first=false", "pack_2.mask_wrong_first=true") == (False, True)
    assert trained_turns("pack.mask_wrong_first=false", "filter.trained_turns=true") == (True, True)
    assert trained_turns("filter_2.trained_turns=false") == (True, False)


def test_a_changed_filter_option_changes_filter_and_what_follows_only(tmp_path):
    path = write(tmp_path, GOOD.replace("train:\n    -", "held_out: {b: [{generate: lcm, count: 3}]}\n  train:\n    -"))
    after = changed(path, "filter.limit=5")
    assert after[0] == "filter-1"
    assert not {"problems", "eval-0", "dialogue-1"} & set(after)
    assert {"filter-1", "pack-1", "train-1", "eval-1", "probe-2", "filter-2", "eval-2", "report"} <= set(after)
    assert changed(path, "filter_2.limit=5")[0] == "filter-2"
    again = [f"eval-{i}{part}" for i in range(3) for part in ("-answers", "")]
    assert changed(path, "evaluate.samples=9") == [*again, "report"]
    assert changed(path, "evaluate.grader.timeout_s=9") == ["eval-0", "eval-1", "eval-2", "report"]
    assert changed(path, "evaluate.grader.closed_forms=accept") == ["eval-0", "eval-1", "eval-2", "report"]
    assert changed(path, "evaluate.grader.closed_forms=refuse", "grader.closed_forms=refuse") == []
    for override in ("grader.closed_forms=accept", "grader.timeout_s=9"):
        after = changed(path, override)  # what is trained on, not how it is scored
        assert {"probe-2", "sample-2"} <= set(after) and not {"problems", "dialogue-1", "eval-0"} & set(after)
    assert changed(path, "train.save_steps=7") == []  # where checkpoints fall changes no result
    assert changed(path, "engine.window=3") == []


def test_a_changed_prompt_changes_the_stages_that_use_it(tmp_path, monkeypatch):
    path = write(tmp_path, GOOD)
    before = keys(path)
    monkeypatch.setitem(prompts.TEMPLATES, "verify", "Check.")
    after = keys(path)
    assert before["dialogue-1"] != after["dialogue-1"]
    assert before["problems"] == after["problems"]


def test_the_sglang_section(tmp_path):
    path = write(tmp_path, GOOD + "engine: {kind: sglang, urls: 'http://a:1', window: 9}\n")
    engine = load(path).engine
    assert engine.urls == ("http://a:1",) and engine.window == 9, "one address needs no list"
    engine = load(path, ["engine.urls=[http://a:1,http://b:2]", "engine.check_cache=false"]).engine
    assert engine.urls == ("http://a:1", "http://b:2") and not engine.check_cache
    own = "engine:\n  kind: sglang\n  python: .sglang/bin/python\n  arguments: {tp_size: 2, enable_metrics: true}\n"
    engine = load(write(tmp_path, GOOD + own), ["engine.arguments.dtype=bfloat16"]).engine
    assert engine.arguments == {"tp_size": 2, "enable_metrics": True, "dtype": "bfloat16"}


def test_where_and_how_a_server_runs_changes_no_stage_but_the_kind_of_engine_does(tmp_path):
    path = write(tmp_path, GOOD + "engine: {kind: sglang}\n")
    for override in ("urls=http://a:1", "python=x", "window=3", "request_timeout=9", "arguments.tp_size=2"):
        assert changed(path, f"engine.{override}") == [], override
    for override in ("kind=hf", "arguments.dtype=bfloat16", "arguments.kv-cache-dtype=fp8_e5m2", "deterministic=true"):
        assert "dialogue-1" in changed(path, f"engine.{override}"), override
