"""The dialogue stage with conditions and branches: what is asked, killed and resumed to the same rows."""

from collections import Counter
from dataclasses import replace

import pytest
import staging
from places import RECIPES, SMOKE_MODEL
from scripted import ScriptedEngine

from dpr_mini.chat.template import Template
from dpr_mini.files.rows import read_rows
from dpr_mini.grading.grader import Grader
from dpr_mini.recipe import AskedTurn, DialogueConfig, EvaluateConfig, load, prompts
from dpr_mini.stages import dialogue as stage
from dpr_mini.store import Work
from dpr_mini.types import Dialogue, Problem, from_row, seed_for

TASKS = [
    Problem(f"t{i}", "made", f"? * 7 = {7 * i}", str(i), verifier="missing_factor", statement=f"? * 7 = {7 * i}")
    for i in range(10, 16)
]
UNTIL = AskedTurn(of=("verify", "backtrack"), until="verified", at_most=3)
TEMPLATES = dict(prompts.TEMPLATES)
BRIDGES = {"verify": " Check: ", "backtrack": " Check: "}
BRANCHED = DialogueConfig(samples=3, branches={"right": 1, "wrong": 3}, max_new_tokens=60)


@pytest.fixture(scope="module")
def template():
    return Template.load(SMOKE_MODEL)


def answer(request):
    """A model whose answers depend on the request alone: right or wrong, accepting or not, by the seed."""
    before, after = ("Right.", "Wrong.")[request.seed % 2], ("Right.", "")[request.seed % 5 > 2]
    return f"{before} Answer: {10 + request.seed % 3} {after}"


def held(folder, template, config, problems=TASKS, fn=answer, kill=None):
    """`kill`: after so many answers."""
    given = []

    def until_killed(request):
        if len(given) == kill:
            raise KeyboardInterrupt
        given.append(request.id)
        return fn(request)

    settings = stage.DialogueSettings(config, TEMPLATES, staging.generation(5), bridges=BRIDGES)
    inputs = {"problems": staging.problems_folder(folder, problems)}
    with ScriptedEngine(until_killed, template.tokenizer, window=4, seed=kill or 0) as engine:
        told = stage.run(Work("dialogue-1", folder, settings, inputs, staging.OneEngine(engine, template)))
    return told, engine


def rows(folder, name="rows.jsonl"):
    """Dialogues by id, without what a cache had of them: the engine of a resumed run is another one."""
    found = [from_row(Dialogue, row) for row in read_rows(folder / name)]
    assert len({d.id for d in found}) == len(found)
    return {d.id: replace(d, turns=tuple(replace(t, cached_tokens=0) for t in d.turns)) for d in found}


def right(dialogue, turn=0):
    with Grader(workers=1) as grader:
        problem = next(p for p in TASKS if p.id == dialogue.problem_id)
        return grader.grade(problem.gold, dialogue.turns[turn].text).ok


# ---------------------------------------------------------------- conditions


def test_dialogues_end_with_their_verdict(tmp_path, template):
    config = DialogueConfig(samples=4, turns=(("solve",), UNTIL), max_new_tokens=60)
    told, engine = held(tmp_path, template, config)
    lengths = Counter(len(d.turns) for d in rows(tmp_path).values())
    assert set(lengths) == {2, 3, 4} and lengths.total() == 24
    assert len(engine.seen) == sum(n * times for n, times in lengths.items())
    assert [t["answers"] for t in told["turns"]] == [24, 24, lengths[3] + lengths[4], lengths[4]]
    assert all(t["cached_of_known"] > 0.9 for t in told["turns"][1:])
    assert told["out_of_room"] == 0 and "grader" not in told


def test_only_wrong_answers_are_revised(tmp_path, template):
    config = DialogueConfig(samples=4, turns=(("solve",), AskedTurn(of=("verify",), when="wrong")), max_new_tokens=60)
    told, _ = held(tmp_path, template, config)
    found = rows(tmp_path).values()
    assert {(len(d.turns), right(d)) for d in found} == {(1, True), (2, False)}
    assert told["grader"] == {"timeout": 0, "crashed": 0}


@pytest.mark.parametrize("kill", [0, 3, 17, 40])
def test_a_killed_run_of_adaptive_dialogues_ends_with_the_same_rows(tmp_path, template, kill):
    config = DialogueConfig(samples=4, turns=(("solve",), UNTIL), max_new_tokens=60)
    held(tmp_path / "whole", template, config)
    with pytest.raises(KeyboardInterrupt):
        held(tmp_path / "part", template, config, kill=kill)
    held(tmp_path / "part", template, config)
    assert rows(tmp_path / "part") == rows(tmp_path / "whole")


# ---------------------------------------------------------------- branches


def test_wrong_first_turns_are_continued_in_more_ways(tmp_path, template):
    _, engine = held(tmp_path, template, BRANCHED)
    firsts, found = rows(tmp_path, "firsts.jsonl"), rows(tmp_path)
    assert firsts.keys() == {f"{p.id}#{i}" for p in TASKS for i in range(3)}
    assert all(len(d.turns) == 1 for d in firsts.values()) and all(len(d.turns) == 2 for d in found.values())
    ways = Counter(name.rpartition(".")[0] for name in found)
    assert ways == {name: 1 if right(first) else 3 for name, first in firsts.items()}
    for name, d in found.items():
        assert d.turns[0] == firsts[name.rpartition(".")[0]].turns[0]
    assert len({(d.problem_id, d.sample) for d in found.values()}) == len(found), "a sample number each"
    assert len(engine.seen) == len(firsts) + len(found), "a first turn is generated once"
    assert len({r.seed for r in engine.seen}) == len(engine.seen)


def test_seeds_are_a_first_turns_own_and_its_ways(tmp_path, template):
    _, engine = held(tmp_path / "branched", template, BRANCHED)
    held(tmp_path / "plain", template, DialogueConfig(samples=3, max_new_tokens=60))
    firsts, plain = rows(tmp_path / "branched", "firsts.jsonl"), rows(tmp_path / "plain")
    assert {n: d.turns[0] for n, d in firsts.items()} == {n: d.turns[0] for n, d in plain.items()}
    seeds = {r.id: r.seed for r in engine.seen}
    wrong = next(n for n, d in firsts.items() if not right(d))
    problem, sample = wrong.split("#")
    assert seeds[f"{wrong}.2"] == seed_for(seed_for(5, "dialogue-1", problem, int(sample), 2), 1)


def test_the_ways_from_a_first_turn_take_the_candidates_in_turn(tmp_path, template):
    held(tmp_path, template, BRANCHED)
    found = rows(tmp_path)
    wrong = next(n.rpartition(".")[0] for n in found if n.endswith(".2"))
    names = [found[f"{wrong}.{way}"].turns[1].instruction for way in range(3)]
    at = BRANCHED.turns[1].index(names[0])
    assert names == [BRANCHED.turns[1][(at + way) % 4] for way in range(3)]


def test_a_shared_first_turn_is_counted_once_and_said_so(tmp_path, template):
    told, engine = held(tmp_path, template, BRANCHED)
    firsts, found = rows(tmp_path, "firsts.jsonl").values(), rows(tmp_path).values()
    generated = sum(d.tokens for d in firsts) + sum(len(d.turns[1].ids) for d in found)
    assert told["tokens"] == generated < sum(d.tokens for d in found)
    assert [t["answers"] for t in told["turns"]] == [len(firsts), len(found)]
    assert sum(t["prompt_tokens"] for t in told["turns"]) == sum(len(r.ids) for r in engine.seen)
    known = sum(d.turns[0].prompt_tokens + len(d.turns[0].ids) for d in found)
    assert told["turns"][1]["known_tokens"] == known and told["turns"][1]["cached_of_known"] == 1.0
    first = told["first_turns"]
    assert first["right"] == sum(map(right, firsts)) and first["right"] + first["wrong"] == len(firsts)
    assert (first["tokens"], first["tokens_in_rows"]) == (
        sum(d.tokens for d in firsts),
        sum(len(d.turns[0].ids) for d in found),
    )


def test_nothing_is_asked_twice_about_a_first_turn_that_ends_its_dialogue(tmp_path, template):
    """A first answer that was cut off, or that no condition holds for, is one dialogue, not several equal ones."""

    def cut(request):
        return "Answer: 10 " * 30 if request.id == "t11#0" else answer(request)

    config = BRANCHED.model_copy(update={"turns": (("solve",), AskedTurn(of=("verify",), when="wrong"))})
    told, _ = held(tmp_path, template, config.model_copy(update={"branches": stage_branches(2, 3)}), fn=cut)
    found = rows(tmp_path)
    assert found["t11#0.0"].finish == "length" and "t11#0.1" not in found
    alone = [n for n, d in found.items() if right(d)]
    assert alone and all(n.endswith(".0") and len(found[n].turns) == 1 for n in alone)
    assert told["out_of_room"] == 0 and told["dialogues"] == len(found)


def stage_branches(right, wrong):
    return DialogueConfig(branches={"right": right, "wrong": wrong}).branches


def test_branches_and_conditions_go_together(tmp_path, template):
    config = BRANCHED.model_copy(update={"turns": (("solve",), UNTIL)})
    told, _ = held(tmp_path, template, config)
    assert {len(d.turns) for d in rows(tmp_path).values()} == {2, 3, 4}
    assert len(told["turns"]) == 4 and all(t["cached_of_known"] > 0.9 for t in told["turns"][1:])


@pytest.mark.parametrize("kill", [0, 5, 18, 19, 30])
def test_a_killed_run_of_branches_ends_with_the_same_rows(tmp_path, template, kill):
    """Within the first turns (18 of them), at their end, and within what follows."""
    told, _ = held(tmp_path / "whole", template, BRANCHED)
    with pytest.raises(KeyboardInterrupt):
        held(tmp_path / "part", template, BRANCHED, kill=kill)
    there = 0
    for name in ("firsts.jsonl", "rows.jsonl"):
        if (path := tmp_path / "part" / name).exists():
            there += len(rows(tmp_path / "part", name))
            with path.open("a") as file:
                file.write('{"id": "t10#')  # half a line
    again, engine = held(tmp_path / "part", template, BRANCHED)
    assert rows(tmp_path / "part") == rows(tmp_path / "whole")
    assert rows(tmp_path / "part", "firsts.jsonl") == rows(tmp_path / "whole", "firsts.jsonl")
    assert len(engine.seen) == 18 + told["dialogues"] - there and there > kill - 4
    assert {k: again[k] for k in ("dialogues", "failed", "tokens", "first_turns")} == {
        k: told[k] for k in ("dialogues", "failed", "tokens", "first_turns")
    }


def test_a_first_turn_that_fails_is_asked_again_with_all_that_follows_it(tmp_path, template):
    many = [replace(TASKS[0], id=f"t{i}") for i in range(18)]

    def fails(request):
        return ("out of memory", "error") if request.id == "t7#1" else answer(request)

    told, _ = held(tmp_path, template, BRANCHED, problems=many, fn=fails)
    assert told["failed"] == 1 and not [n for n in rows(tmp_path) if n.startswith("t7#1")]
    told, engine = held(tmp_path, template, BRANCHED, problems=many)
    assert told["failed"] == 0 and {r.id.partition(".")[0] for r in engine.seen} == {"t7#1"}


# ---------------------------------------------------------------- an evaluation


def test_an_evaluation_goes_on_until_the_models_own_verdict(tmp_path, template):
    config = EvaluateConfig(samples=3, turns=(("solve",), UNTIL), max_new_tokens=60)
    with ScriptedEngine(answer, template.tokenizer, window=4) as engine:
        told = staging.answers(tmp_path, TASKS, engine, template, config, prompts.TEMPLATES, 0)
    lengths = Counter(len(d.turns) for d in rows(tmp_path).values())
    assert set(lengths) == {2, 3, 4} and told["out_of_room"] == 0 and told["dialogues"] == 24


# ---------------------------------------------------------------- a real model


@pytest.mark.slow
@pytest.mark.parametrize("kill", [4, 12])
def test_a_real_models_branches_are_resumed_to_the_same_rows(tmp_path, kill):
    """The hf engine with the smoke model: sampled, in batches that the break cuts otherwise."""
    from dpr_mini.engines.hf import HfEngine

    changes = ("samples=2", "max_new_tokens=24", "branches={right: 1, wrong: 2}")
    config = load(RECIPES / "smoke.yaml", [f"dialogue.{change}" for change in changes]).dialogue
    twice = AskedTurn(of=("verify", "backtrack"), until="verified", at_most=2)
    config = config.model_copy(update={"turns": (("solve",), twice), "examples": ()})
    pairs = [(7, 6), (58, 27), (69, 73), (88, 45)]
    question = "State the final answer to the following arithmetic problem: {} + {} ="
    problems = [Problem(f"p{a}", "made", question.format(a, b), str(a + b), "1 digit") for a, b in pairs]
    words = config.words()
    settings = stage.DialogueSettings(config, words.used(config.longest), staging.generation(3))
    template = Template.load(SMOKE_MODEL)

    class Killed(HfEngine):
        left = 10**9

        def poll(self):
            if self.left <= 0:
                raise KeyboardInterrupt
            done = super().poll()
            self.left -= len(done)
            return done

    def run(folder, left=10**9):
        inputs = {"problems": staging.problems_folder(folder, problems)}
        with Killed(SMOKE_MODEL, window=4) as engine:
            engine.left = left
            return stage.run(Work("dialogue-1", folder, settings, inputs, staging.OneEngine(engine, template)))

    told = run(tmp_path / "whole")
    assert told["first_turns"]["wrong"] and told["dialogues"] > 8
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "part", kill)
    again = run(tmp_path / "part")
    assert rows(tmp_path / "part") == rows(tmp_path / "whole")
    assert again["tokens"] == told["tokens"] and again["turns"] == told["turns"]
