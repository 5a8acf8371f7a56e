"""Test sets stay closed until `--test` opens them: never trained on, never asked about, and their opening is noted."""

import re
import shutil

import pytest
import staging
import yaml
from places import SMOKE_MODEL
from scripted import ScriptedEngine

from dpr_mini import engines, pipeline
from dpr_mini.chat.template import Template
from dpr_mini.commands.run import run
from dpr_mini.files.rows import read_json, read_rows
from dpr_mini.recipe import RecipeError, load, parse
from dpr_mini.runs import RunError, evaluations

TASK = {"task": "missing_factor", "count": 5}
RECIPE = {
    "name": "opened",
    "phases": [],
    "model": {"name": "model"},
    "problems": {
        "dev": {"small": [{**TASK, "part": "dev"}]},
        "test": {"final": [{**TASK, "part": "test"}]},
        "decontaminate": None,
    },
    "dialogue": {"templates": {"solve": "{problem}", "verify": "Check it."}, "bridges": {"verify": " Check: "}},
    "evaluate": {"samples": 4, "max_new_tokens": 40, "planted": {}, "redraw": {"at_most": 2, "samples": 2}},
}
ASKED = ["answers", "planted", "checks"]


class Lab:
    """Recipes in a folder, run with a scripted model; `seen` has the text of every request so far."""

    def __init__(self, folder, monkeypatch, capsys):
        self.folder, self.capsys, self.seen = folder, capsys, []
        shutil.copytree(SMOKE_MODEL, folder / "model", ignore=shutil.ignore_patterns("*.gguf"))
        self.stop_after, self.recipe = None, RECIPE

        def open_engine(kind, model, **options):
            template = Template.load(model)

            def answer(request):
                if self.stop_after is not None and len(self.seen) >= self.stop_after:
                    raise KeyboardInterrupt
                self.seen.append(template.decode(request.ids, special=True))
                return "3*4=12. Wrong. Answer: 7" if "Check it." in self.seen[-1] else f"Answer: {request.seed % 9 + 2}"

            return ScriptedEngine(answer, template.tokenizer)

        monkeypatch.setattr(engines, "open_engine", open_engine)

    def run(self, **options):
        """(what was printed, texts of the requests of this run)."""
        path = self.folder / "recipe.yaml"
        path.write_text(yaml.safe_dump(self.recipe))
        before = len(self.seen)
        run([path], [], self.folder / "runs", **options)
        return self.capsys.readouterr().out, self.seen[before:]

    @property
    def root(self):
        return self.folder / "runs" / "opened"

    def stages(self):
        return {n: self.root / f for n, f in read_json(self.root / "latest.json")["stages"].items()}

    def statements(self, split):
        return [p["statement"] for p in read_rows(self.stages()["problems"] / "rows.jsonl") if p["split"] == split]

    def lines(self):
        return list(read_rows(self.root / "test-opened.jsonl"))


@pytest.fixture
def lab(tmp_path, monkeypatch, capsys):
    return Lab(tmp_path, monkeypatch, capsys)


def about(texts, statements):
    return sum(any(s in text for s in statements) for text in texts)


@pytest.mark.slow
def test_without_the_flag_no_stage_asks_about_test(lab):
    told, texts = lab.run()
    assert about(texts, lab.statements("small")) == len(texts) > 20
    assert not about(texts, lab.statements("final")) and len(lab.statements("final")) == 5
    assert not (lab.root / "test-opened.jsonl").exists() and "opened" not in told.replace("runs/opened", "")
    names = list(lab.stages())
    assert names == ["problems", "eval-0-answers", "eval-0", "eval-0-planted", "eval-0-checks", "eval-0-redrawn",
                     "report"]  # fmt: skip
    text = (lab.root / "report.md").read_text()
    for title in ("First and final answers", "Planted first attempts", "Drawn until a check accepts", "The checker"):
        assert title in text
    assert "Test sets" not in text


@pytest.mark.slow
def test_opening_asks_about_test_alone_and_is_noted_once_before_anything_is_asked(lab):
    lab.run()
    before = lab.stages()
    lab.stop_after = len(lab.seen)
    with pytest.raises(KeyboardInterrupt):
        lab.run(test=True)
    (line,) = lab.lines()
    told = lab.capsys.readouterr().out
    assert f"test opened {line['opened']}" in told and "final by opened, seed 0" in told
    assert line["sets"] == ["final"] and lab.stages()["problems"].name == f"problems-{line['problems']}"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", line["opened"])
    lab.stop_after = None
    told, texts = lab.run(test=True)
    assert about(texts, lab.statements("final")) == len(texts) > 20 and not about(texts, lab.statements("small"))
    assert "test opened" not in told and lab.lines() == [line]
    after = lab.stages()
    assert {n: after[n] for n in before if n != "report"} == {n: f for n, f in before.items() if n != "report"}
    assert {f"eval-0-test-{n}" for n in ASKED} | {"eval-0-test"} <= after.keys()
    assert evaluations(after, "eval-0") == ["eval-0", "eval-0-test"] and evaluations(before, "eval-0") == ["eval-0"]
    cards = read_json(after["eval-0-test"] / "stage.json")["metrics"]["cards"]
    assert cards.keys() == {"final"} and cards["final"]["n"] == 5
    for name in ("report.md", "report.html"):
        text = (lab.root / name).read_text()
        assert "Test sets" in text and f"test opened {line['opened']}" in text
    assert lab.run(test=True)[1] == []


def test_another_seed_and_other_problems_are_opened_for_themselves(lab):
    lab.run(test=True, until="eval-0-test")
    lab.run(test=True, until="eval-0-test", seeds=[0, 1])
    more = {"final": [{**TASK, "count": 6, "part": "test"}]}
    lab.recipe = {**RECIPE, "problems": {**RECIPE["problems"], "test": more}}
    lab.run(test=True, until="eval-0-test")
    assert [line["seed"] for line in lab.lines()] == [0, 1, 0]
    assert len({line["problems"] for line in lab.lines()}) == 2


def test_up_to_a_stage_before_the_test_nothing_is_opened(lab):
    lab.run(test=True, until="eval-0")
    assert not (lab.root / "test-opened.jsonl").exists()


def test_there_must_be_something_to_open(lab):
    lab.recipe = {**RECIPE, "problems": {"dev": RECIPE["problems"]["dev"]}}
    with pytest.raises(RunError, match=r"recipe.yaml has no problems.test to open"):
        lab.run(test=True)


def recipe(**problems):
    return parse({"name": "r", "phases": [], "problems": problems}, "made")


def test_names_are_names_of_one_set_and_are_never_training_data():
    one = [{**TASK, "part": "dev"}]
    with pytest.raises(RecipeError, match=r"'a' is a set of dev and of test: name them apart"):
        recipe(dev={"a": one}, test={"a": one})
    with pytest.raises(RecipeError, match="cannot be named 'train'"):
        recipe(test={"train": one})
    with pytest.raises(RecipeError, match="seed: run is for training problems"):
        recipe(dev={"a": [{**TASK, "seed": "run"}]})
    found = recipe(held_out={"h": one}, dev={"d": one}, test={"t": one}).problems
    assert (list(found.evaluated), list(found.never_trained_on)) == (["h", "d"], ["h", "d", "t"])


def test_a_recipe_without_dev_and_test_says_nothing_of_them():
    found = recipe(held_out={"h": [TASK]})
    assert found.problems.model_dump(mode="json").keys() & {"dev", "test"} == set()
    whole = recipe(held_out={"h": [TASK]}, dev={}, test={})
    assert whole.problems.model_dump(mode="json") == found.problems.model_dump(mode="json")


def test_test_problems_are_held_out_of_training(tmp_path):
    asked = parse(
        {
            "name": "r",
            "problems": {
                "train": [{**TASK, "count": 2000}],
                "test": {"t": [{**TASK, "count": 30}]},
                "decontaminate": None,
            },
        },
        "made",
    )
    (tmp_path / "p").mkdir()
    staging.problems(tmp_path / "p", asked.problems, tmp_path)
    rows = list(read_rows(tmp_path / "p" / "rows.jsonl"))
    train, test = ({r["id"] for r in rows if r["split"] == split} for split in ("train", "t"))
    assert len(test) == 30 and len(train) > 100 and not train & test


def test_redraws_need_their_answers_and_one_turn():
    more = {"redraw": {"at_most": 4, "samples": 4}}

    def asked(**section):
        return parse({"name": "r", "phases": [], "problems": {"dev": {"d": [TASK]}}, "evaluate": section}, "made")

    with pytest.raises(RecipeError, match=r"redraw takes 4 x 4 answers a problem: samples must be 16 or more, not 15"):
        asked(samples=15, **more)
    with pytest.raises(RecipeError, match="16 or more, not 3"):
        asked(samples=16, samples_of={"d": 3}, **more)
    with pytest.raises(RecipeError, match=r"redraw is for a model that answers in one turn"):
        asked(samples=16, turns=[["solve"], ["verify"]], **more)
    with pytest.raises(RecipeError, match=r"no template 'chekc'"):
        asked(samples=16, redraw={"turn": "chekc"})
    with pytest.raises(RecipeError, match="plant a right or a wrong attempt"):
        asked(planted={"right": 0, "wrong": 0})
    assert asked(samples=16, **more).evaluate.redraw.checker == "base"


def test_who_checks_is_the_base_or_the_model_itself(tmp_path):
    plain = {**RECIPE, "phases": [1], "problems": {**RECIPE["problems"], "train": [{**TASK, "part": "train"}]}}

    def stages(checker):
        section = {**plain["evaluate"], "redraw": {"at_most": 2, "samples": 2, "checker": checker}}
        (tmp_path / "r.yaml").write_text(yaml.safe_dump({**plain, "evaluate": section}))
        (tmp_path / "model").mkdir(exist_ok=True)
        (tmp_path / "model" / "config.json").write_text("{}")
        return pipeline.build(load(tmp_path / "r.yaml"), tmp_path, test=True)

    base, own = stages("base"), stages("self")
    for name in ("eval-1-checks", "eval-1-test-checks"):
        assert "model" not in base[name].inputs and base[name].config["base"]
        assert own[name].inputs["model"].name == "train-1" and "base" not in own[name].config
    assert base["eval-1-answers"].key == own["eval-1-answers"].key
    assert base["eval-1-planted"].inputs["model"].name == "train-1"


@pytest.mark.slow
def test_a_real_small_engine_goes_on_from_a_plant_and_checks(tmp_path):
    """The smoke model knows no task: what counts is that requests, rows and counts fit together with a real engine."""
    shutil.copytree(SMOKE_MODEL, tmp_path / "model", ignore=shutil.ignore_patterns("*.gguf"))
    sums = {"task": "sums", "part": "dev", "count": 6, "wording": "{text} ="}
    section = {**RECIPE["evaluate"], "max_new_tokens": 24, "temperature": 1.0, "greedy": False}
    made = {**RECIPE, "engine": {"kind": "hf", "window": 16}, "evaluate": section}
    made["problems"] = {"dev": {"d": [sums]}, "decontaminate": None}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(made))
    run([tmp_path / "recipe.yaml"], [], tmp_path / "runs")
    root = tmp_path / "runs" / "opened"
    stages = {n: root / f for n, f in read_json(root / "latest.json")["stages"].items()}
    template = Template.load(SMOKE_MODEL)
    chosen = {p["id"]: p["text"] for p in read_rows(stages["eval-0-planted"] / "plants.jsonl")}
    talks = {row["id"]: row["turns"][0] for row in read_rows(stages["eval-0-planted"] / "rows.jsonl")}
    assert chosen and chosen.keys() == talks.keys()
    for name, turn in talks.items():
        assert turn["text"].startswith(chosen[name]) and template.decode(turn["ids"], special=True) == turn["text"]
    answers = {row["id"]: row["turns"][0] for row in read_rows(stages["eval-0-answers"] / "rows.jsonl")}
    for row in read_rows(stages["eval-0-checks"] / "rows.jsonl"):
        assert row["turns"][0] == answers[row["id"]] and "Answer:" not in row["turns"][1]["text"]
        assert row["turns"][1]["prompt_tokens"] > row["turns"][0]["prompt_tokens"] + len(row["turns"][0]["ids"])
    assert len(list(read_rows(stages["eval-0-redrawn"] / "redrawn.jsonl"))) == 6 * 2
