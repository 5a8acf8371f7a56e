"""Benchmarks and presets by name: what they stand for, what wins over them, and what is refused."""

import json
from pathlib import Path

import pytest
import staging
from places import SHARED_DATA, SMOKE_MODEL

from dpr_mini import pipeline
from dpr_mini.commands.eval import evaluate, held_out
from dpr_mini.files.rows import read_rows
from dpr_mini.recipe import EvaluateConfig, ProblemsConfig, RecipeError, load, parse, prompts
from dpr_mini.recipe.benchmarks import BENCHMARKS, BOXED, PRESETS
from dpr_mini.types import UserError

SIZES = {"gsm8k": 1319, "math500": 500, "aime24": 30, "aime25": 30, "olymmath": 200}


def recipe(held, **evaluate):
    return parse(
        {"name": "r", "problems": {"train": [{"file": "t.jsonl"}], "held_out": held}, "evaluate": evaluate}, "made"
    )


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_name_is_the_benchmarks_sources_on_the_hub_or_its_file(name):
    held = recipe({"b": [{"benchmark": name, "count": 7}]}).problems.held_out["b"]
    assert [s.hub for s in held] == [h["hub"] for h in BENCHMARKS[name].hub]
    assert all(s.count == 7 and s.file is None for s in held)
    (local,) = recipe({"b": [{"benchmark": name, "folder": "../data"}]}).problems.held_out["b"]
    assert local.file == f"../data/{BENCHMARKS[name].file}" and local.hub is None


def test_what_a_recipe_says_itself_wins_and_a_resolved_recipe_reads_the_same():
    asked = recipe({"g": [{"benchmark": "gsm8k", "revision": "abc"}, {"file": "own.jsonl"}]}, preset="long-cot")
    assert asked.problems.held_out["g"][0].revision == "abc" and asked.problems.held_out["g"][1].file == "own.jsonl"
    for section in (asked.problems, asked.evaluate):
        assert type(section).model_validate(section.model_dump(mode="json")) == section


@pytest.mark.parametrize(
    "held, line",
    [
        ([{"benchmark": "gsm9k"}], "no benchmark 'gsm9k'; did you mean 'gsm8k'?"),
        ([{"benchmark": "aime24", "cuont": 3}], "unknown key 'problems.held_out.b.0.cuont'; did you mean 'count'?"),
        ([{"benchmark": "aime24", "file": "x"}], "give exactly one of file, hub, generate"),
    ],
)
def test_a_wrong_name_or_key_is_one_line(held, line):
    with pytest.raises(RecipeError) as told:
        recipe({"b": held})
    assert line in str(told.value) and "\n" not in str(told.value)


def test_a_wrong_name_in_a_file_names_its_line_and_key(tmp_path):
    path = tmp_path / "r.yaml"
    head = "name: r\nproblems:\n  train: [{file: t}]\n"
    for text, where in (
        ("  held_out:\n    g: [{benchmark: gsm9k}]\n", "4: problems.held_out: no benchmark 'gsm9k'; did you mean"),
        ("  test:\n    g: [{benchmark: gsm8k, folder: 5}]\n", "4: problems.test: benchmark gsm8k: folder: write"),
        ("evaluate:\n  preset: lnog-cot\n", "5: evaluate.preset: no preset 'lnog-cot'; did you mean 'long-cot'?"),
    ):
        path.write_text(head + text)
        with pytest.raises(RecipeError) as told:
            load(path)
        assert str(told.value).startswith(f"{path}:{where}")


def test_a_benchmark_is_never_trained_on():
    with pytest.raises(RecipeError, match="a benchmark is held out, never trained on"):
        parse({"name": "r", "problems": {"train": [{"benchmark": "gsm8k"}]}}, "made")


# ---------------------------------------------------------------- presets


@pytest.mark.parametrize("name", PRESETS)
def test_a_presets_words_exist(name):
    evaluate = EvaluateConfig(preset=name)
    assert evaluate.template in prompts.TEMPLATES and "{problem}" in prompts.TEMPLATES[evaluate.template]


def test_presets_are_the_fields_settings():
    qwen, long, ours = (EvaluateConfig(preset=n) for n in ("qwen-math", "long-cot", "ours"))
    assert (qwen.temperature, qwen.samples, qwen.greedy, qwen.max_new_tokens) == (0, 1, False, 2048)
    assert qwen.system == BOXED and prompts.fill(prompts.TEMPLATES[qwen.template], "1 + 1?") == "1 + 1?"
    assert (long.temperature, long.top_p, long.max_new_tokens) == (0.6, 0.95, 32768)
    assert [long.k(b) for b in ("aime24", "aime25", "math500", "gsm8k")] == [64, 64, 4, 4]
    assert ours == EvaluateConfig()


def test_explicit_keys_win_over_the_preset():
    own = EvaluateConfig(preset="long-cot", temperature=1.0, samples_of={"aime24": 8})
    assert (own.temperature, own.top_p, own.k("aime24"), own.k("aime25")) == (1.0, 0.95, 8, 4)
    assert EvaluateConfig(preset="long-cot", samples=2).k("aime24") == 2, "--k counts for every benchmark"


def test_a_presets_name_does_not_change_a_key_but_its_settings_do():
    spelled = EvaluateConfig(samples=1, greedy=False, temperature=0.0, top_p=1.0, max_new_tokens=2048,
                             template="question", system=BOXED)  # fmt: skip
    assert spelled.changes_answers() == EvaluateConfig(preset="qwen-math").changes_answers()
    assert EvaluateConfig(grader={"timeout_s": 9}).changes_answers() == EvaluateConfig().changes_answers()
    assert EvaluateConfig(system="Be brief.").changes_answers() != EvaluateConfig().changes_answers()


def test_an_unknown_preset_and_an_unknown_benchmark_of_samples_of():
    with pytest.raises(RecipeError, match=r"evaluate.preset: no preset 'long_cot'; did you mean 'long-cot'\?"):
        recipe({}, preset="long_cot")
    with pytest.raises(RecipeError, match="samples_of: no benchmark 'amie24'"):
        recipe({}, samples_of={"amie24": 64})
    assert recipe({"own": [{"file": "x"}]}, samples_of={"own": 2}).evaluate.k("own") == 2


def test_a_preset_can_be_an_override(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("name: r\nproblems: {train: [{file: t}]}\nevaluate: {temperature: 0.9}\n")
    found = load(path, ["evaluate.preset=long-cot"]).evaluate
    assert (found.temperature, found.max_new_tokens) == (0.9, 32768)


def test_an_evaluations_preset_does_not_change_how_phase_2_asks():
    """Phase 2 samples what training will use, so it asks as phase 1 did."""
    model = {"name": str(SMOKE_MODEL)}
    asked = {"problems": {"train": [{"file": "t"}], "held_out": {"b": [{"file": "b"}]}}, "model": model}
    recipes = [parse({"name": "r", **asked, "evaluate": {"preset": p}}, "made") for p in ("ours", "qwen-math")]
    built = [pipeline.build(r, Path()) for r in recipes]
    keys = [{name: stage.key for name, stage in stages.items()} for stages in built]
    assert {n for n in keys[0] if keys[0][n] != keys[1][n]} == {
        *(f"eval-{i}{part}" for i in range(3) for part in ("-answers", "")), "report",
    }  # fmt: skip
    assert built[1]["eval-0-answers"].config["templates"] == {"question": "{problem}"}
    assert built[1]["probe-2"].config["question"] == prompts.TEMPLATES["solve"]


# ---------------------------------------------------------------- eval's --on and --data


def test_names_and_files_side_by_side(tmp_path):
    own = tmp_path / "own.test.jsonl"
    own.write_text('{"problem": "1 + 1?", "answer": "2"}\n')
    found = held_out(["aime24", str(own)], None, 5)
    assert found == {"aime24": [{"benchmark": "aime24", "count": 5}], "own": [{"file": str(own), "count": 5}]}


def test_a_model_that_is_nowhere_is_told_before_a_benchmark_is_fetched(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "run", lambda *stages, **how: pytest.fail("nothing is to run"))
    for model in ("./nowhere", "nowhere", str(tmp_path)):
        with pytest.raises(RecipeError, match=r"^model\.name: .*(no model folder|config\.json)"):
            evaluate(model, ["aime24"], tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_files_may_name_question_and_answer_as_others_do(tmp_path):
    own = tmp_path / "own.jsonl"
    for row, columns in (
        ({"question": "1 + 1?", "answer": "2"}, {"text": "question", "answer": "answer"}),
        ({"problem": "1 + 1?", "gold": 2, "answer": None}, {"text": "problem", "answer": "gold"}),
        ({"question": "no", "problem": "1 + 1?", "answer": "2"}, None),
        ({"prompt": [{"role": "user", "content": "1 + 1?"}], "reward_model": {"ground_truth": "2"}}, None),
    ):
        own.write_text(json.dumps(row) + "\n")
        (source,) = held_out([str(own)], None, None)["own"]
        assert source.get("columns") == columns
        asked = ProblemsConfig(held_out={"own": [source]})
        assert staging.problems(tmp_path, asked, Path(), train=False)["splits"] == {"own": 1}
    for text, says in (
        (
            '{"input": "1 + 1?", "answer": 2}',
            r"own\.jsonl:1: no problem or question or prompt \(the row has: input, answer",
        ),
        ('{"question": "1 + 1?"}', "no answer or gold or solution .*; rename the field"),
        ("", "no rows"),
    ):
        own.write_text(text)
        with pytest.raises(UserError, match=says) as caught:
            held_out([str(own)], None, None)
        assert "columns" not in str(caught.value), "which eval has no way to name"


def test_a_missing_file_is_one_clear_line(tmp_path):
    with pytest.raises(UserError, match=r"eval_aime24.jsonl: no such file; aime24 is looked for there under this name"):
        held_out(["aime24"], tmp_path, None)
    with pytest.raises(UserError, match="no benchmark 'gsm9k': give gsm8k, math500"):
        held_out(["gsm9k"], None, None)
    with pytest.raises(UserError, match="--on names 'aime24' twice"):
        held_out(["aime24", "aime24"], None, None)
    with pytest.raises(UserError, match=r"eval_aime24.jsonl: no such file"):  # in a recipe
        named = recipe({"aime24": [{"benchmark": "aime24", "folder": "nowhere"}]}).problems
        staging.problems(tmp_path, named, tmp_path, train=False)


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="no shared/data beside this checkout")
def test_the_local_files_are_whole_and_labelled(tmp_path):
    asked = ProblemsConfig(train=[{"file": "none"}], held_out=held_out(list(BENCHMARKS), SHARED_DATA, None))
    told = staging.problems(tmp_path, asked, Path(), train=False)
    assert told["splits"] == SIZES and told["dropped"] == {}
    rows = list(read_rows(tmp_path / "rows.jsonl"))
    levels = {b: sorted({r["level"] for r in rows if r["split"] == b}) for b in SIZES}
    assert levels["math500"] == list("12345") and levels["olymmath"] == ["easy", "hard"] and levels["aime24"] == [""]
    assert len({r["subject"] for r in rows if r["split"] == "math500"}) == 7
