"""Planted attempts, checks and redraws with a scripted model: what is asked, read, counted; killed and resumed."""

from dataclasses import replace
from itertools import islice

import pytest
import staging
from places import SMOKE_MODEL
from scripted import ScriptedEngine
from staging import OneEngine

from dpr_mini import tasks
from dpr_mini.chat.asking import Asking
from dpr_mini.chat.template import Template
from dpr_mini.files.rows import read_rows, write_rows
from dpr_mini.recipe import EvaluateConfig, GraderConfig, PlantedConfig, RedrawConfig, prompts
from dpr_mini.scoring.graded import grade
from dpr_mini.scoring.redraw import Check, read_check, redraw
from dpr_mini.stages import checks, planted, redrawn
from dpr_mini.stages.evaluate import CardsSettings, cards
from dpr_mini.store import Work
from dpr_mini.types import Dialogue, Graded, Problem, Turn, UserError, from_row, to_row

BRIDGES = {"verify": " Check: "}
TASK = tasks.make("missing_factor", {})
PROBLEMS = [
    Problem(f"p{i}", "factor", item.statement, item.answer, split="one", verifier="missing_factor",
            statement=item.statement)
    for i, item in enumerate(islice(TASK.items(0, "dev"), 4))
]  # fmt: skip
ASKED = EvaluateConfig(samples=4, greedy=False, max_new_tokens=60, template="question", temperature=1.0)
REDRAW = RedrawConfig(at_most=2, samples=2)


@pytest.fixture(scope="module")
def template():
    return Template.load(SMOKE_MODEL)


def asking(splits=None):
    return Asking(ASKED, prompts.TEMPLATES, (), staging.generation(0), splits)


def plain(problem, right):
    return f"Answer: {problem.answer if right else int(problem.answer) + 1}"


def turn(text, instruction="question", finish="stop"):
    return Turn(instruction, "?", tuple(range(len(text))), text, finish)


def write_answers(folder, template, rights, finish="stop"):
    """An answers stage's rows: problem number -> whether each of its samples is right."""
    folder.mkdir(exist_ok=True)
    rows = []
    for p, each in zip(PROBLEMS, rights, strict=True):
        for i, right in enumerate(each):
            text = plain(p, right)
            said = Turn("question", p.text, template.encode(text), text, finish)
            rows.append(Dialogue(f"{p.id}#{i}", p.id, i, (said,), "scripted", 7))
    write_rows(folder / "rows.jsonl", map(to_row, rows))
    return folder


def work(folder, name, settings, engine, template, **inputs):
    folder.mkdir(exist_ok=True)
    inputs |= {"problems": staging.problems_folder(folder, PROBLEMS)}
    return Work(name, folder, settings, inputs, OneEngine(engine, template))


def checked(text):
    """A check of the last answer in a prompt, worked out and with the true verdict, and a retry after a wrong one."""
    statement = next(p.statement for p in PROBLEMS if p.statement in text)
    answer = text.rpartition("Answer: ")[2].split()[0].split("<")[0]
    right = TASK.right(statement, answer)
    lines = ", ".join(TASK.steps(statement, answer))
    return f"{lines}. " + ("Right." if right else "Wrong. Answer: 2")


# ---------------------------------------------------------------- planted


def plant(folder, template, rights, fn, config=None):
    settings = planted.PlantedSettings(config or PlantedConfig(), asking(), BRIDGES)
    answered = write_answers(folder.with_name(f"{folder.name}-answers"), template, rights)
    with ScriptedEngine(fn, template.tokenizer, window=3) as engine:
        told = planted.run(work(folder, "eval-0-planted", settings, engine, template, answers=answered))
    return told, engine


RIGHTS = [(True, False, False, True), (False,) * 4, (True,) * 4, (True, False, True, True)]


def test_the_model_goes_on_from_a_first_attempt_of_another_sample(tmp_path, template):
    def goes_on(request):
        said = template.decode(request.ids, special=True)
        problem = next(p for p in PROBLEMS if p.statement in said)
        return "" if said.endswith(plain(problem, True)) else f" Wrong. {plain(problem, problem.id != 'p3')}"

    told, engine = plant(tmp_path / "s", template, RIGHTS, goes_on)
    chosen = {row["id"]: row for row in read_rows(tmp_path / "s" / "plants.jsonl")}
    assert {i: p["prefix"] for i, p in chosen.items()} == {
        "p0#0": "wrong", "p0#1": "right", "p1#0": "wrong", "p2#1": "right", "p3#0": "wrong", "p3#1": "right"
    }  # fmt: skip
    by_id = {p.id: p for p in PROBLEMS}
    for request in engine.seen:
        p = by_id[request.id[:2]]
        text = plain(p, chosen[request.id]["prefix"] == "right")
        assert request.ids == (*template.opening(p.text), *template.encode(text)), "exactly that text, nothing else"
        sample = int(chosen[request.id]["source"].rpartition("#")[2])
        assert RIGHTS[int(p.id[1])][sample] == (chosen[request.id]["prefix"] == "right")
    one = told["planted"]["one"]
    assert one["wrong"]["ends_right"] == {"n": 2, "of": 3, "share": 0.6667}
    assert one["right"]["ends_right"] == {"n": 3, "of": 3, "share": 1.0}
    assert (one["wrong"]["without"], one["right"]["without"], one["wrong"]["problems"]) == (1, 1, 4)
    assert (one["wrong"]["goes_on"]["n"], one["right"]["goes_on"]["n"]) == (3, 0)
    rows = {row["id"]: from_row(Dialogue, row) for row in read_rows(tmp_path / "s" / "rows.jsonl")}
    assert all(d.turns[0].text.startswith(chosen[i]["text"]) for i, d in rows.items())
    went_on = sum(len(template.encode(f" Wrong. {plain(p, p.id != 'p3')}")) for p in PROBLEMS if p.id != "p2")
    assert told["tokens"] == went_on, "what was planted costs nothing"


def test_more_than_one_plant_is_of_other_samples_and_none_is_asked_of_no_prefix(tmp_path, template):
    told, engine = plant(tmp_path / "s", template, RIGHTS, lambda r: "", PlantedConfig(wrong=3, right=0))
    chosen = list(read_rows(tmp_path / "s" / "plants.jsonl"))
    assert len({p["source"] for p in chosen}) == len(chosen) == len(engine.seen) == 2 + 3 + 1
    assert told["planted"]["one"].keys() == {"wrong"}


def test_a_killed_planting_resumes_with_the_same_rows(tmp_path, template):
    def fn(request):
        return f" {request.seed % 7}"

    plant(tmp_path / "whole", template, RIGHTS, fn)
    given = []

    def killed(request):
        if len(given) == 2:
            raise KeyboardInterrupt
        given.append(request.id)
        return fn(request)

    with pytest.raises(KeyboardInterrupt):
        plant(tmp_path / "partial", template, RIGHTS, killed)
    _, engine = plant(tmp_path / "partial", template, RIGHTS, fn)
    assert len(engine.seen) == 6 - 2

    def texts(name):
        return {r["id"]: r["turns"][0]["text"] for r in read_rows(tmp_path / name / "rows.jsonl")}

    assert texts("partial") == texts("whole")


def test_problems_without_a_verifier_have_nothing_to_plant(tmp_path, template):
    settings = planted.PlantedSettings(PlantedConfig(), asking(), BRIDGES)
    folder = tmp_path / "s"
    job = work(folder, "eval-0-planted", settings, None, template, answers=tmp_path)
    staging.problems_folder(folder, [replace(p, verifier="", statement="") for p in PROBLEMS])
    with pytest.raises(UserError, match=r"evaluate.planted: no problem here is of a task"):
        planted.run(job)


# ---------------------------------------------------------------- checks


def ask_checks(folder, template, rights, fn=None, finish="stop", config=REDRAW):
    settings = checks.ChecksSettings(config, asking(), "Check it.", BRIDGES)
    answered = write_answers(folder.with_name(f"{folder.name}-answers"), template, rights, finish)
    fn = fn or (lambda request: checked(template.decode(request.ids, special=True)))
    with ScriptedEngine(fn, template.tokenizer, window=3) as engine:
        told = checks.run(work(folder, "eval-0-checks", settings, engine, template, answers=answered))
    return told, engine, answered


def test_a_check_is_a_turn_behind_the_models_own_tokens_and_stops_at_its_verdict(tmp_path, template):
    told, engine, _ = ask_checks(tmp_path / "s", template, RIGHTS)
    assert sorted(r.id for r in engine.seen) == [f"p{i}#{j}" for i in range(4) for j in (0, 2)], "the last is unchecked"
    for request in engine.seen:
        p = PROBLEMS[int(request.id[1])]
        own = template.encode(plain(p, RIGHTS[int(p.id[1])][int(request.id[-1])]))
        assert request.ids == (*template.opening(p.text), *own, *template.follow_up("Check it."))
        assert request.sampling.stop == ("Answer:",)
    read = {row["id"]: from_row(Check, row) for row in read_rows(tmp_path / "s" / "verdicts.jsonl")}
    for i, each in enumerate(RIGHTS):
        for j in (0, 2):
            check = read[f"p{i}#{j}"]
            assert check.right == check.accepts == each[j] and check.read and check.true
            text = f"{TASK.steps(PROBLEMS[i].statement, plain(PROBLEMS[i], each[j])[8:])[0]}. "
            text += "Right" if each[j] else "Wrong"
            assert check.tokens == len(template.encode(text)), "without what follows the verdict"
    counts = told["checks"]["one"]
    assert counts["accept_right"] == {"n": 5, "of": 5, "share": 1.0}
    assert counts["accept_wrong"] == {"n": 0, "of": 3, "share": 0.0}
    assert told["dialogues"] == 8 and told["tokens"] < 8 * 20, "the answers are not counted again"


@pytest.mark.parametrize(
    ("reply", "accepts", "read"),
    [
        ("13*7=91. Right.", True, True),
        ("13*7=91. Not right. Right.", False, True),
        ("", False, False),
        ("Hm, 13*7=91.", False, False),
        ("Answer: 14 Check: 14*7=98. Wrong.", False, False),  # of another answer
        ("Answer: 13 Right.", False, False),
    ],
)
def test_a_reply_without_a_verdict_on_the_answer_rejects_it(template, reply, accepts, read):
    problem = Problem("p", "factor", "?", "13", split="one", verifier="missing_factor", statement="? * 7 = 91")
    ids = template.encode(reply)
    talk = Dialogue("p#0", "p", 0, (turn("Answer: 13"), Turn("verify", "?", ids, reply, "stop")), "e", 0)
    found = read_check(talk, problem, BRIDGES, template)
    assert (found.accepts, found.read, found.right) == (accepts, read, True)
    assert found.tokens <= len(ids) and (read or found.tokens == len(ids))


def test_an_answers_own_verdict_is_not_the_checkers(template):
    problem = Problem("p", "factor", "?", "13", split="one", verifier="missing_factor", statement="? * 7 = 91")
    said = "Answer: 14 Check: 14*7=98. Wrong. Answer: 13 Check: 13*7=91. Right."
    reply = "13*7=99. Wrong."
    talk = Dialogue("p#0", "p", 0, (turn(said), Turn("verify", "?", template.encode(reply), reply, "stop")), "e", 0)
    found = read_check(talk, problem, BRIDGES, template)
    assert (found.accepts, found.read, found.right, found.true) == (False, True, True, False)


def test_answers_that_were_cut_off_are_not_asked_about(tmp_path, template):
    told, engine, _ = ask_checks(tmp_path / "s", template, RIGHTS, finish="length")
    assert not engine.seen and told["checks"]["one"]["read"] == {"n": 0, "of": 8, "share": 0.0}
    assert told["checks"]["one"]["tokens"] == 0


# ---------------------------------------------------------------- redrawn


def answer(problem, sample, right, tokens):
    (row,) = grade([Dialogue(f"{problem.id}#{sample}", problem.id, sample,
                    (Turn("question", "?", tuple(range(tokens)), plain(problem, right), "stop"),), "e", 0)],
                   [problem], BRIDGES)  # fmt: skip
    return row


def test_the_first_answer_that_is_accepted_stands_and_all_that_was_drawn_is_paid():
    p = PROBLEMS[0]
    config = RedrawConfig(at_most=3, samples=2)
    given = [answer(p, i, right, 10 + i) for i, right in enumerate([False, True, True, False, False, True])]
    accepted = {0: False, 1: True, 3: True, 4: False}
    read = {f"{p.id}#{i}": Check(f"{p.id}#{i}", "one", False, a, True, True, 100 + i) for i, a in accepted.items()}
    three = redraw(given, read, config, 3)
    assert [(a.id, a.sample, a.right, a.tokens) for a in three] == [
        ("p0#0", 0, True, 10 + 100 + 11 + 101),
        ("p0#1", 1, False, 13 + 103),
    ]
    two = redraw(given, read, config, 2)
    assert [(a.right, a.tokens) for a in two] == [(True, 10 + 100 + 11), (False, 13 + 103)], "the last is unchecked"
    one = redraw(given, read, config, 1)
    assert [(a.right, a.tokens) for a in one] == [(False, 10), (False, 13)]


def test_the_last_one_drawn_stands_where_none_is_accepted():
    p = PROBLEMS[0]
    given = [answer(p, i, i == 1, 10) for i in range(2)]
    read = {"p0#0": Check("p0#0", "one", False, False, True, True, 5)}
    (only,) = redraw(given, read, RedrawConfig(at_most=2, samples=1), 2)
    assert only.right and only.tokens == 25


def test_redrawn_rows_are_graded_rows_and_metrics_go_from_one_draw_on(tmp_path, template):
    _, _, answered = ask_checks(tmp_path / "s", template, RIGHTS)
    (graded := tmp_path / "graded").mkdir()
    staging.cards(graded, answered, PROBLEMS, BRIDGES, GraderConfig())
    inputs = {"graded": graded, "checks": tmp_path / "s"}
    (tmp_path / "r").mkdir()
    told = redrawn.run(Work("eval-0-redrawn", tmp_path / "r", redrawn.RedrawnSettings(REDRAW), inputs, OneEngine()))
    rows = list(read_rows(tmp_path / "r" / "redrawn.jsonl"))
    assert {row["at_most"] for row in rows} == {2} and len(rows) == 4 * 2
    assert sum(Graded.from_row(row).right for row in rows) == 2 + 0 + 2 + 2, "one of two right is enough for a checker"
    by = told["redrawn"]["one"]
    assert (by["1"]["mean"], by["2"]["mean"]) == (5 / 8, 6 / 8)
    assert by["1"]["tokens_mean"] < by["2"]["tokens_mean"] and told["cards"]["one"]["mean"] == 6 / 8
    assert by["2"]["tokens_mean"] == pytest.approx(sum(r["tokens"] for r in rows) / 8)


# ---------------------------------------------------------------- keys


def test_what_these_stages_read_is_in_their_keys():
    other = asking(("one",))
    plants = planted.PlantedSettings(PlantedConfig(), asking(), BRIDGES)
    for more in ({"planted": PlantedConfig(wrong=2)}, {"asking": other}, {"bridges": {}}):
        assert replace(plants, **more).key() != plants.key()
    check = checks.ChecksSettings(REDRAW, asking(), "Check it.", BRIDGES)
    self = REDRAW.model_copy(update={"checker": "self"})
    for more in ({"redraw": self}, {"asking": other}, {"instruction": "Check."}, {"bridges": {}}):
        assert replace(check, **more).key() != check.key()
    drawn = redrawn.RedrawnSettings(REDRAW)
    assert drawn.key() != redrawn.RedrawnSettings(RedrawConfig(at_most=3, samples=2)).key()
    assert asking().key() != other.key()


def test_cards_of_some_sets_alone(tmp_path, template):
    both = [*PROBLEMS, replace(PROBLEMS[0], id="q", split="two")]
    answered = write_answers(tmp_path / "a", template, RIGHTS)
    folder = staging.problems_folder(tmp_path / "c", both)
    (tmp_path / "c").mkdir()
    settings = CardsSettings(GraderConfig(), BRIDGES, ("one",))
    told = cards(Work("eval-0", tmp_path / "c", settings, {"problems": folder, "answers": answered}, OneEngine()))
    assert told["cards"].keys() == told["anatomy"].keys() == {"one"}
    assert told["cards"]["one"]["behaviours"] == {}, "no words are counted in answers to tasks"
