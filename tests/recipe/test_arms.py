"""Experiments as recipes: which arms share which stages, budgets measured by another run, several runs in one store."""

from __future__ import annotations

from pathlib import Path

import pytest
import staging
from places import ROOT
from rows import RIGHT, graded, kept
from scripted import ScriptedEngine
from staging import OneEngine, plain_stage

from dpr_mini import pipeline, recipe, runs
from dpr_mini.chat.template import Template
from dpr_mini.commands import run as runner
from dpr_mini.files.rows import StoreError, read_rows, write_rows
from dpr_mini.pipeline import build
from dpr_mini.recipe import RecipeError, load
from dpr_mini.scoring.card import score
from dpr_mini.stages import pack
from dpr_mini.store import Stage
from dpr_mini.types import Dialogue, Problem, Turn, to_row

DEMO = ROOT / "recipes" / "smollm2-cpu.yaml"
ABLATIONS = ROOT / "recipes" / "ablations"
EVAL_0 = ("eval-0-answers", "eval-0")
PHASE_1 = ("dialogue-1", "filter-1", "pack-1", "train-1", "eval-1-answers", "eval-1")
PHASE_2 = ("probe-2", "sample-2", "filter-2", "pack-2", "train-2", "eval-2-answers", "eval-2")
# What each arm has of the demo's run without running it again, besides `problems`; and what it runs itself.
SHARED = {
    "base": (EVAL_0, ()),
    "prompting": ((), EVAL_0),
    "few-shot": ((), EVAL_0),
    "no-examples": (EVAL_0, (*PHASE_1, *PHASE_2)),
    "rejection-1": (EVAL_0, PHASE_1),
    "rejection-1-tokens": (EVAL_0, PHASE_1),
    "rejection-2": (EVAL_0, PHASE_1),
    "rejection-2-tokens": (EVAL_0, PHASE_1),
    "two-rounds": (EVAL_0, (*PHASE_1, *PHASE_2)),
    "phase-1": ((*EVAL_0, *PHASE_1), ()),
    "phase-2-only": (EVAL_0, PHASE_2),
    "uniform": ((*EVAL_0, *PHASE_1, "probe-2"), PHASE_2[1:]),
    "prop2diff": ((*EVAL_0, *PHASE_1, *PHASE_2), ()),
    **dict.fromkeys(("verify", "backtrack", "subgoals", "backward"), (EVAL_0, PHASE_1)),
    "trained-first": ((*EVAL_0, "dialogue-1", "filter-1"), PHASE_1[2:]),
    "format-only": ((*EVAL_0, "dialogue-1"), PHASE_1[1:]),
    "length-matched": ((*EVAL_0, "dialogue-1", "filter-1"), PHASE_1[2:]),
}


def keys(path: Path, *overrides: str) -> dict[str, str]:
    asked = load(path, overrides)
    return {name: stage.key for name, stage in build(asked, path.parent).items() if name != "report"}


def arm(name: str, *overrides: str) -> dict[str, str]:
    return keys(ABLATIONS / f"smollm2-{name}.yaml", *overrides)


@pytest.mark.slow
def test_every_ablation_says_what_it_isolates_and_shares_the_demos_store():
    assert {p.stem.removeprefix("smollm2-") for p in ABLATIONS.glob("smollm2-*.yaml")} == set(SHARED)
    for path in ABLATIONS.glob("smollm2-*.yaml"):
        assert path.read_text().startswith("# ") and load(path).name == path.stem
        assert load(path).folder == load(DEMO).folder == "smollm2-cpu"
    for path in (ROOT / "recipes" / "countdown").glob("countdown*.yaml"):
        assert path.read_text().startswith("# ") and load(path).name == path.stem and load(path).folder == "countdown"


@pytest.mark.parametrize("name", SHARED)
def test_an_arm_shares_the_stages_it_has_in_common_with_the_demo(name):
    shared, own = SHARED[name]
    demo, mine = keys(DEMO), arm(name)
    assert set(mine) == {"problems", *shared, *own}
    assert [s for s in mine if mine[s] == demo.get(s)] == [s for s in mine if s in ("problems", *shared)]


def test_arms_share_with_each_other_and_seeds_share_the_problems():
    for tokens, plain in (("rejection-1-tokens", "rejection-1"), ("rejection-2-tokens", "rejection-2")):
        one, other = arm(tokens), arm(plain)
        assert [s for s in one if one[s] == other[s]] == ["problems", *EVAL_0, "dialogue-1", "filter-1"]
    one, two = arm("rejection-1-tokens"), arm("two-rounds")
    assert [s for s in one if one[s] == two[s]] == ["problems", *EVAL_0, *PHASE_1], "its first round is that arm"
    first, second = keys(DEMO), keys(DEMO, "seed=1")
    assert [s for s in first if first[s] == second[s]] == ["problems"]
    assert arm("uniform", "seed=1")["probe-2"] == second["probe-2"], "a seed is shared like everything else"


def test_a_budget_measured_by_another_run_is_in_the_key(tmp_path):
    text = f"extends: {DEMO}\nname: one\nphases: [2]\nlike: {DEMO}\npack_2: {{trained_tokens: train-1}}\n"
    one = write(tmp_path, text)
    before = keys(one)
    after = keys(one, "train.learning_rate=1e-3", "train_2.learning_rate=5e-5")
    assert [s for s in before if before[s] != after[s]] == ["pack-2", "train-2", "eval-2-answers", "eval-2"], (
        "it follows train-1"
    )
    after = keys(one, "dialogue.samples=2")
    assert [s for s in before if before[s] != after[s]] == ["pack-2", "train-2", "eval-2-answers", "eval-2"]
    after = keys(one, "train_2.epochs=5")
    assert before["pack-2"] != after["pack-2"], "the budget is that of all epochs together"
    before, after = arm("format-only"), arm("format-only", "dialogue.temperature=0.5")
    assert before["filter-1"] != after["filter-1"]
    assert arm("format-only") == arm("format-only", "train_2.epochs=9"), "only what it is measured by"


# ---------------------------------------------------------------- recipes

GOOD = "name: test\nproblems: {train: [{generate: chain_sum, count: 10}], held_out: {b: [{generate: lcm, count: 3}]}}\n"


def write(folder: Path, text: str, name: str = "r.yaml") -> Path:
    (folder / name).write_text(text)
    return folder / name


@pytest.mark.parametrize(
    ("value", "phases"), [("1", (1,)), ("2", (1, 2)), ("[1, 2]", (1, 2)), ("[1]", (1,)), ("[2]", (2,)), ("[]", ())]
)
def test_phases(tmp_path, value, phases):
    path = write(tmp_path, GOOD + f"phases: {value}\n")
    assert load(path).phases == phases
    made = keys(path)
    assert ("train-1" in made, "train-2" in made, "eval-0" in made) == (1 in phases, 2 in phases, True)


def test_phase_2_alone_draws_from_and_trains_the_base_model(tmp_path):
    asked = load(write(tmp_path, GOOD + "phases: [2]\n"))
    stages = build(asked, tmp_path)
    for name in ("probe-2", "sample-2", "train-2"):
        assert "model" not in stages[name].inputs and "base" in stages[name].config
    assert stages["eval-2-answers"].inputs["model"] is stages["train-2"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("phases: [2, 1]\n", r"r\.yaml:3: phases: .*each phase once, in order"),
        ("phases: 3\n", r"r\.yaml:3: phases"),
        ("phases: []\nproblems: {train: [{generate: lcm, count: 1}]}\n", "held_out has none"),
        (
            "filter: {limit: filter-1}\n",
            r"filter\.limit: names a stage of another run; say of which recipe: like: other\.yaml",
        ),
        ("pack: {trained_tokens: train-1}\n", r"pack\.trained_tokens: names a stage of another run"),
        ("pack: {trained_tokens: train-3}\nlike: o.yaml\n", r"r\.yaml:3: pack\.trained_tokens"),
        ("pack: {filler: {text: ''}}\n", "must not be empty"),
        ("like: r.yaml\n", r"r\.yaml:3: .*r\.yaml is measured against itself"),
        ("like: nowhere.yaml\n", r"r\.yaml:3: like: .*nowhere\.yaml: no such recipe"),
        ("like: o.yaml\n", "like: other must have the same store, it has other"),
        ("like: o.yaml\nstore: s\nseed: 3\n", "like: other must have the same seed, it has 0"),
        ("like: o.yaml\nstore: s\nengine: {kind: hf}\n", "like: other must have the same engine"),
        (
            "like: o.yaml\nstore: s\nfilter_2: {limit: filter-2}\n",
            r"r\.yaml:5: filter_2: other has no stage 'filter-2'; did you mean 'filter-1'",
        ),
        ("evaluate: {turns: [[solve], [chek]]}\n", "no template 'chek'"),
        ("evaluate: {turns: [[solve], []]}\n", "every turn needs at least one template"),
    ],
)
def test_a_mistake_in_an_experiment_is_one_line(tmp_path, more, message):
    other = GOOD.replace("test", "other") + "phases: 1\n"
    write(tmp_path, other + ("store: s\n" if "store" in more else ""), "o.yaml")
    with pytest.raises(RecipeError, match=message) as caught:
        keys(write(tmp_path, ("name: test\n" if "problems:" in more else GOOD) + more))
    assert "\n" not in str(caught.value)


def test_overrides_reach_the_run_that_budgets_come_from(tmp_path):
    write(tmp_path, GOOD.replace("test", "other") + "store: s\n", "o.yaml")
    path = write(tmp_path, GOOD + "store: s\nlike: o.yaml\npack: {trained_tokens: [train-1, train-2]}\n")
    asked = load(path, ["seed=4", "train.epochs=7", "name=mine"])
    assert (asked.name, asked.like.name, asked.like.seed, asked.like.train.epochs) == ("mine", "other", 4, 7)
    assert asked.pack_2.trained_tokens == ("train-1", "train-2"), "pack_2 inherits pack"
    like = keys(tmp_path / "o.yaml", "seed=4", "train.epochs=7")
    stages = build(asked, tmp_path)
    assert {s.name: s.key for role, s in stages["pack-1"].inputs.items() if role.startswith("like")} == {
        name: like[name] for name in ("train-1", "train-2")
    }


# ---------------------------------------------------------------- budgets


class Letters:
    """A template of one id a letter."""

    end = 0

    def encode(self, text):
        return tuple(map(ord, text))

    def decode(self, ids):
        return "".join(map(chr, ids))

    def opening(self, text):
        return (1, *map(ord, text), 2)


@pytest.mark.parametrize(("said", "left"), [("so it is 12 again", "......... So: 12."), ("12", " So: 12.")])
def test_an_emptied_turn_keeps_its_length_and_its_answer(said, left):
    turns = tuple(Turn(n, "q", tuple(map(ord, t)), t, "stop") for n, t in (("solve", "12"), ("verify", said)))
    filler = recipe.FillerConfig(text=".", answer=" So: {answer}.")
    emptied = pack.hollow(Dialogue("d", "p", 0, turns, "e", 0), "12", Letters(), filler)
    assert [t.text for t in emptied.turns] == ["12", left]
    assert len(emptied.turns[1].ids) == max(len(said), len(" So: 12."))


def test_pack_spends_its_budget_and_says_how_many_samples_that_are(tmp_path):
    turn = Turn("solve", "q", tuple(map(ord, "abc")), "abc", "stop")
    rows = [to_row(kept(Dialogue(n, "p", 0, (turn,), "e", 0), RIGHT)) for n in "xy"]
    (tmp_path / "kept").mkdir()
    (tmp_path / "out").mkdir()
    write_rows(tmp_path / "kept" / "rows.jsonl", rows)
    settings = recipe.PackConfig(tokens_per_row=50)
    metrics = staging.pack(tmp_path / "out", tmp_path / "kept", settings, Letters(), {}, budget=20)
    assert (metrics["samples"], metrics["distinct_samples"], metrics["trained_tokens"]) == (5, 2, 20)


# ---------------------------------------------------------------- running several


def fake(name: str, config: dict, log: list, metrics: dict | None = None, **inputs: Stage) -> Stage:
    def run(folder, at):
        log.append(name)
        assert all((path / "stage.json").exists() for path in at.values())
        return metrics or {}

    return plain_stage(name, 1, config, run, inputs)


def test_a_stage_of_another_run_is_brought_to_completion_before_the_stage_that_reads_it(tmp_path):
    log, told = [], []
    other = fake("train-1", {}, log, problems=fake("problems", {"other": 1}, log))
    stages = {"problems": fake("problems", {}, log)}
    stages["pack-2"] = plain_stage(
        "pack-2", 1, {}, lambda folder, at: log.append("pack-2") or {}, {"like train-1": other}
    )
    assert (
        pipeline.run(stages, tmp_path, OneEngine(), tell=told.append)
        == log
        == ["problems", "problems", "train-1", "pack-2"]
    )
    assert told[1:3] == ["[for train-1] problems: running", "[for pack-2] train-1: running"]
    assert pipeline.run(stages, tmp_path, OneEngine()) == [], "nothing twice"


@pytest.fixture
def arms(tmp_path, monkeypatch):
    """Two recipes with one store whose stages only leave a note; what ran, in order."""
    log: list[str] = []

    def stages(asked, folder, test=False):
        problems = fake("problems", {}, log)
        report = plain_stage("report", 1, {"name": asked.name, "seed": asked.seed}, write, {"problems": problems})
        return {"problems": problems, "report": report}

    def write(folder, at):
        log.append("report")
        for name in ("report.html", "report.md", "scorecards.json"):
            (folder / name).write_text("{}")
        return {}

    monkeypatch.setattr(pipeline, "build", stages)
    a = write_recipe(tmp_path, "a", "")
    return log, a, write_recipe(tmp_path, "b", "store: a\n")


def write_recipe(folder: Path, name: str, more: str) -> Path:
    return write(folder, GOOD.replace("test", name) + more, f"{name}.yaml")


def test_several_recipes_and_seeds_share_one_store(arms, tmp_path, capsys):
    log, a, b = arms
    runner.run([a, b], [], tmp_path / "runs", seeds=[0, 1])
    root = tmp_path / "runs" / "a"
    assert log == ["problems", "report", "report", "report", "report"], "problems once"
    names = sorted(p.name for p in (root / "arms").iterdir())
    assert names == ["a-seed0", "a-seed1", "b-seed0", "b-seed1"]
    for name in names:
        latest = runs.read_latest(root / "arms" / name)
        assert f"{latest['recipe']['name']}-seed{latest['recipe']['seed']}" == name
        assert all((root / "arms" / name / folder / "stage.json").exists() for folder in latest["stages"].values())
        assert (root / "arms" / name / "report.html").exists()
    assert f"compare them: dpr-mini compare {root}" in capsys.readouterr().out
    assert not (root / "latest.json").exists()


def test_one_recipe_alone_is_found_where_it_always_was(arms, tmp_path):
    _, a, b = arms
    runner.run([a], ["seed=3"], tmp_path / "runs")
    root = tmp_path / "runs" / "a"
    assert (root / "report.html").exists() and not (root / "arms").exists()
    assert all("/" not in folder for folder in runs.read_latest(root)["stages"].values())
    runner.run([b], [], tmp_path / "runs")
    assert (root / "arms" / "b-seed0" / "report.html").exists(), "a guest in the store of another"
    assert runs.read_latest(root)["recipe"]["name"] == "a"


def test_one_arm_that_fails_does_not_stop_the_others(arms, tmp_path, monkeypatch, capsys):
    log, a, b = arms
    good = pipeline.build

    def build(asked, folder, test=False):
        if asked.name == "a":
            raise StoreError("no dialogue was kept")
        return good(asked, folder)

    monkeypatch.setattr(pipeline, "build", build)
    with pytest.raises(runs.RunError, match=r"1 of 2 runs are not complete: a, seed 0 \("):
        runner.run([a, b], [], tmp_path / "runs")
    assert "a, seed 0: no dialogue was kept" in capsys.readouterr().out
    assert log == ["problems", "report"]
    with pytest.raises(StoreError, match="no dialogue was kept"):
        runner.run([a], [], tmp_path / "runs")


def test_runs_that_would_overwrite_each_other_are_refused_before_anything_starts(arms, tmp_path):
    log, a, b = arms
    for paths, overrides, seeds, message in (
        ([a, a], [], None, "are both a with seed 0; name them apart"),
        ([a], [], [1, 1], "are both a with seed 1"),
        ([a, b], ["name=x"], None, "are both x with seed 0"),
        ([a], ["seed=1"], [0], "give --seeds or seed=, not both"),
        ([], [], None, "no recipe given"),
    ):
        if "name=x" in overrides:
            overrides = ["name=x", "store=a"]
        with pytest.raises(runs.RunError, match=message):
            runner.run(paths, overrides, tmp_path / "runs", seeds=seeds)
    assert not log


# ---------------------------------------------------------------- prompting alone


def test_an_evaluation_can_hold_a_dialogue_and_scores_its_last_turn(tmp_path):
    """Turn 1 answers 5, turn 2 answers 4 (right) for "a" and 6 for "b"; turn 2's templates take turns."""
    template = Template.load(ROOT / "recipes" / "smoke-model")
    said: list[str] = []

    def answer(request):
        text = template.decode(list(request.ids))
        said.append(text)
        return "Answer: 5" if "again" not in text else "Answer: 4" if "?a" in text else "Answer: 6"

    templates = {"solve": "{problem}", "x": "again x", "y": "again y"}
    problems = [Problem(i, "made", f"2+2?{i}", "4", split="sums") for i in "ab"]
    settings = recipe.EvaluateConfig(samples=2, greedy=True, turns=(("solve",), ("x", "y")), max_new_tokens=32)
    with ScriptedEngine(answer, template.tokenizer) as engine:
        staging.answers(tmp_path, problems, engine, template, settings, templates, 0)
    metrics = staging.cards(tmp_path, tmp_path, problems, {}, settings.grader)
    rows = list(read_rows(tmp_path / "graded.jsonl"))
    assert {r["problem_id"]: r["status"] for r in rows} == {"a": "correct", "b": "wrong"}
    assert all(r["attempt_ok"] is False for r in rows)
    answers = {r["id"]: r for r in read_rows(tmp_path / "rows.jsonl")}
    for row in rows:
        turns = answers[row["id"]]["turns"]
        assert row["tokens"] == sum(len(t["ids"]) for t in turns) and len(turns) == 2
    used = {i: r["turns"][1]["instruction"] for i, r in answers.items()}
    assert used["a#0"] != used["a#1"] and used["a#0"] != used["b#0"]
    card = metrics["cards"]["sums"]
    assert (card["mean"], card["joined"], card["revised"], card["wrong_to_right"]) == (0.5, 0.5, 4, 0.5)


def test_one_turn_has_no_joined_score():
    assert "joined" not in score([graded("a", 0, True)]).to_row()
    assert score([graded("a", 0, True, joined=True), graded("b", 0, True, joined=False)]).to_row()["joined"] == 0.5
