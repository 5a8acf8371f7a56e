"""Dialogues whose next turn depends on what was answered: conditions, verdicts, given turns, no room."""

import pytest
from scripted import ScriptedEngine

from dpr_mini.chat.conversation import Conversation, Failure, converse, out_of_room, run_dialogues, usage
from dpr_mini.chat.script import Adaptive, Judge, says
from dpr_mini.chat.template import Template, standing_text
from dpr_mini.engines.base import RequestError, SamplingParams
from dpr_mini.grading.grader import Grader
from dpr_mini.recipe import AskedTurn
from dpr_mini.types import Dialogue, Problem, Turn

SAMPLING = SamplingParams(60)
TASK = Problem("t", "made", "? * 7 = 91", "13", verifier="missing_factor", statement="? * 7 = 91")
TEXT = Problem("x", "made", "6 + 7?", "13")
TEMPLATES = {"solve": "{problem}", "verify": "Check it.", "backtrack": "Go back.", "again": "Once more."}
BRIDGES = {"verify": " Check: ", "backtrack": " Check: ", "again": " Again: "}
UNTIL = AskedTurn(of=("verify", "backtrack"), until="verified", at_most=3)


@pytest.fixture(scope="module")
def template(tiny_model):
    return Template.load(tiny_model())


@pytest.fixture(scope="module")
def judge():
    with Grader(workers=1) as grader:
        yield Judge(BRIDGES, grader)


def said(*texts):
    return [Turn("solve" if i == 0 else "verify", "?", (1,), t, "stop") for i, t in enumerate(texts)]


def asked(judge, turns, *texts, problem=TASK, turn_of=0):
    """The template that is asked after these answers."""
    ask = Adaptive(turns, TEMPLATES, problem, turn_of, judge)(said(*texts))
    return ask and ask.instruction


def play(template, script, answers, limit=None, **fields):
    """One conversation whose answers come in order; `limit`: the longest prompt that the model has room for."""

    class Small(ScriptedEngine):
        def submit(self, request):
            if limit is not None and len(request.ids) > limit:
                raise RequestError(f"request {request.id}: no room")
            super().submit(request)

    texts = iter(answers)
    with Small(lambda r: next(texts), template.tokenizer) as engine:
        talk = Conversation("t", 0, script, SAMPLING, 7, **fields)
        (ended,) = converse(engine, template, [talk])
    return ended, engine.seen, talk


# ---------------------------------------------------------------- verdicts


@pytest.mark.parametrize(
    ("text", "accepts"),
    [
        ("6+7=13. Right.", True),
        ("That is wrong. 6+7=13, so it is correct!", True),
        ("Correct? 6+7=12. This is wrong.", False),
        ("This is not right.", False),
        ("It isn't correct, I fear", False),
        ("not entirely correct.", False),
        ("nothing wrong here", None),  # no end of a clause
        ("That is wrong. The correct answer is 13.", False),  # names an answer
        ("The right answer: 13.", None),
        ("Is that right?", None),
        ("**Correct**\nSo 13", True),
        ("Incorrect", False),
        ("copyright.", None),
        ("", None),
    ],
)
def test_a_verdict_in_free_text_is_the_last_one_that_ends_a_clause(text, accepts):
    assert says(text) is accepts


def test_a_tasks_verdict_counts_on_its_last_attempt_only(judge):
    first, bad = "Answer: 12", "12*7=84. Wrong. Answer: 13"
    assert not judge.accepted(TASK, said(first))
    assert not judge.accepted(TASK, said(first, "12*7=84. Right. Answer: 13"))  # nobody looked at 13
    assert judge.accepted(TASK, said(first, bad, "13*7=91. Right."))
    assert judge.accepted(TASK, said(first, "Right.")), "the model's own verdict, true or not"
    assert judge.accepted(TEXT, said("6+7=12", "That is correct. The answer is 12"))


def test_what_is_judged_is_the_text_that_stands(judge):
    turns = said("Answer: 12", "12*7=84. Wrong. Answer: 13")
    assert judge.wrong(TASK, turns[:1]) and not judge.wrong(TASK, turns)
    talk = Dialogue("t#0", "t", 0, tuple(turns), "made", 0)
    assert ("t", standing_text(talk, BRIDGES, 1)) in judge.verdicts
    assert judge.wrong(TEXT, said("6+7=12. Answer: 12")) and judge.wrong(TEXT, said("no idea"))
    assert not judge.wrong(TEXT, said("6+7=12. Answer: 12", "Answer: 13"))
    with pytest.raises(ValueError, match="needs a grader"):
        Judge(BRIDGES).wrong(TEXT, said("13"))


# ---------------------------------------------------------------- conditions


def test_until_asks_at_least_once_and_ends_with_the_verdict(judge):
    turns = (("solve",), UNTIL)
    assert asked(judge, turns) == "solve"
    assert asked(judge, turns, "Answer: 12 Check: 12*7=84. Right.") == "verify", "once in any case"
    assert asked(judge, turns, "Answer: 12", "Right.") is None
    assert asked(judge, turns, "Answer: 12", "Wrong. Answer: 13") == "backtrack"
    assert asked(judge, turns, "Answer: 12", "Wrong. Answer: 13", "Right.") is None
    assert asked(judge, turns, "Answer: 12", "Wrong. Answer: 1", "Wrong. Answer: 2", "Wrong.") is None, "at most 3"


def test_candidates_rotate_over_dialogues_and_over_the_times_that_a_turn_is_asked(judge):
    turns = (("solve",), UNTIL)
    answers = ("Answer: 12", "Wrong. Answer: 1", "Wrong. Answer: 2")
    assert [asked(judge, turns, *answers[:n]) for n in (1, 2, 3)] == ["verify", "backtrack", "verify"]
    assert [asked(judge, turns, *answers[:n], turn_of=5) for n in (1, 2, 3)] == ["backtrack", "verify", "backtrack"]


def test_what_follows_an_until_turn_comes_after_its_last_time(judge):
    turns = (("solve",), UNTIL, ("again",))
    assert asked(judge, turns, "Answer: 13", "Right.") == "again"
    assert asked(judge, turns, "Answer: 13", "Right.", "Answer: 13") is None
    assert asked(judge, turns, "Answer: 1", "Wrong.", "Wrong.", "Wrong.") == "again"


def test_when_wrong_asks_where_the_grader_says_so(judge):
    turns = (("solve",), AskedTurn(of=("verify",), when="wrong"), ("again",))
    assert asked(judge, turns, "Answer: 12") == "verify"
    assert asked(judge, turns, "Answer: 13") == "again", "passed over"
    assert asked(judge, turns, "Answer: 12", "Wrong. Answer: 13") == "again", "once"
    assert asked(judge, turns, "so 12", problem=TEXT) == "verify"


def test_when_rejected_asks_where_the_models_own_verdict_does_not_accept(judge):
    turns = (("solve",), AskedTurn(of=("verify",), when="rejected"))
    assert asked(judge, turns, "Answer: 12") == "verify", "no verdict accepts nothing"
    assert asked(judge, turns, "Answer: 12 Check: Right.") is None


def test_when_decides_whether_until_begins(judge):
    turns = (("solve",), AskedTurn(of=("verify",), when="wrong", until="verified", at_most=2))
    assert asked(judge, turns, "Answer: 13") is None
    assert asked(judge, turns, "Answer: 12", "Wrong. Answer: 13") == "verify", "goes on until it is accepted"
    assert asked(judge, turns, "Answer: 12", "Wrong. Answer: 13", "Wrong.") is None


def test_a_list_of_templates_is_asked_whatever_was_said(judge):
    turns = (("solve",), ("verify", "backtrack"))
    assert asked(judge, turns, "Right.", turn_of=3) == "backtrack"
    assert asked(judge, turns, "Right.", "Wrong.") is None


# ---------------------------------------------------------------- conversations


def test_a_conversation_is_as_long_as_its_verdicts_make_it(template, judge):
    script = Adaptive((("solve",), UNTIL), TEMPLATES, TASK, 0, judge)
    short, seen, _ = play(template, script, ["Answer: 13", "13*7=91. Right."])
    assert [t.instruction for t in short.turns] == ["solve", "verify"] and len(seen) == 2
    whole, seen, _ = play(template, script, ["Answer: 12", "Wrong. Answer: 1", "Wrong. Answer: 13", "Right."])
    assert [t.instruction for t in whole.turns] == ["solve", "verify", "backtrack", "verify"]
    for before, after, turn in zip(seen, seen[1:], whole.turns, strict=False):
        assert after.ids[: len(before.ids) + len(turn.ids)] == (*before.ids, *turn.ids), "one list, never told again"
    assert len({r.seed for r in seen}) == 4
    told = usage([short, whole], 2)
    assert [t["answers"] for t in told["turns"]] == [2, 2, 1, 1]
    assert [t.get("cached_of_known") for t in told["turns"]] == [None, 1.0, 1.0, 1.0]


def test_half_an_answer_ends_a_dialogue_whatever_it_says(template, judge):
    script = Adaptive((("solve",), UNTIL), TEMPLATES, TASK, 0, judge)
    ended, seen, talk = play(template, script, ["Answer: 12", "12*7=84. " * 40])
    assert ended.finish == "length" and len(seen) == 2 and talk.over


def test_an_until_turn_without_room_ends_the_dialogue_and_is_counted(template, judge):
    script = Adaptive((("solve",), UNTIL), TEMPLATES, TASK, 0, judge)
    answers = ["Answer: 12", "Wrong. Answer: 1", "Wrong. Answer: 13", "Right."]
    whole, seen, talk = play(template, script, answers)
    assert out_of_room([talk], {talk.id: whole}) == 0
    kept, some, talk = play(template, script, answers, limit=len(seen[2].ids) - 1)
    assert isinstance(kept, Dialogue) and len(kept.turns) == len(some) == 2
    assert out_of_room([talk], {talk.id: kept}) == 1
    plain = Adaptive((("solve",), ("verify",)), TEMPLATES, TASK, 0, judge)
    lost, _, _ = play(template, plain, answers, limit=len(seen[1].ids) - 1)
    assert isinstance(lost, Failure) and lost.refused and lost.turn == 1, "a turn that belongs to it does not"
    lost, _, _ = play(template, script, answers, limit=1)
    assert isinstance(lost, Failure) and lost.turn == 0


def test_given_turns_are_seen_and_not_generated(template, judge):
    script = (("solve", "? * 7 = 91"), ("verify", "Check it."))
    whole, (first, second), _ = play(template, script, ["Answer: 12", "Wrong. Answer: 13"])
    ended, seen, _ = play(template, script, ["Wrong. Answer: 13"], given=whole.turns[:1])
    assert [(r.ids, r.seed) for r in seen] == [(second.ids, second.seed)] and first.ids != second.ids
    assert ended.turns[0] == whole.turns[0] and ended.turns[1].text == whole.turns[1].text
    told = usage([ended], 1, given=1)
    assert [t["answers"] for t in told["turns"]] == [1] and told["tokens"] == len(ended.turns[1].ids)
    assert told["turns"][0]["known_tokens"] == len(first.ids) + len(whole.turns[0].ids)


def test_a_conversation_that_is_over_before_it_begins_asks_nothing(template, tmp_path):
    given = tuple(said("Answer: 13"))
    with ScriptedEngine(lambda r: "no", template.tokenizer) as engine:
        talks = [Conversation("t", 0, (("solve", "?"),), SAMPLING, 7, given=given)]
        done = run_dialogues(tmp_path / "rows.jsonl", engine, template, talks, "test")
    assert done["t#0"].turns == given and engine.seen == []


def test_a_prefill_begins_the_answer_and_is_counted_apart(template):
    script = (("solve", "? * 7 = 91"), ("verify", "Check it."))
    ended, (first, second), _ = play(template, script, [" 13", "Right."], prefill="Answer:")
    ids = template.encode("Answer:")
    assert first.ids == (*template.opening("? * 7 = 91"), *ids)
    turn = ended.turns[0]
    assert turn.text == "Answer: 13" and turn.ids[: len(ids)] == ids and turn.given == len(ids)
    assert second.ids == (*template.opening("? * 7 = 91"), *turn.ids, *template.follow_up("Check it."))
    assert ended.turns[1].given == 0 and ended.turns[1].text == "Right.", "one answer begins so"
    assert turn.prompt_tokens == len(first.ids) - len(ids)
    told = usage([ended], 1)
    assert told["turns"][0]["tokens"] == len(turn.ids) - len(ids) and told["turns"][0]["given_tokens"] == len(ids)
    assert told["turns"][1]["cached_of_known"] == 1.0 and "given_tokens" not in told["turns"][1]
