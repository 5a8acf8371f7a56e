"""The model judge: what is asked, what is read, and that an unreadable answer is never a zero.

Nothing here says how well a model judges: the engine is scripted.
"""

import pytest

from dpr_mini import behaviours, judge
from dpr_mini.chat import Template
from dpr_mini.engines.scripted import ScriptedEngine

TEXTS = ["3 + 4 = 7. Check: 7 - 4 = 3.", "Wait, that is wrong. It is 8.", "The answer is 9."]


@pytest.fixture(scope="module")
def template(tiny_model):
    return Template.load(tiny_model())


def asked(template, request):
    """(index in TEXTS, behaviour) of a request, from its prompt's text."""
    prompt = template.decode(request.ids)
    [text] = [i for i, t in enumerate(TEXTS) if t in prompt]
    [name] = [n for n, meaning in judge.MEANINGS.items() if meaning in prompt]
    return text, name


@pytest.mark.parametrize(
    ("answer", "count"),
    [
        ("Two tests of the result. <count>2</count>", 2),
        ("<count> 0 </count>", 0),
        ("<COUNT>12</COUNT>", 12),
        ("<count>3 times</count>", 3),
        ("<count>about 4</count>", 4),
        ("<count>5", 5),  # cut off right behind the number
        ("I end with <count>N</count>. So <count>1</count> and not <count>6</count>", 1),
        ("", None),
        ("There are 2 of them.", None),
        ("<count>two</count>", None),
        ("<count></count> 3", None),
        ("<count>none</count>", None),
        ("<count>-1</count>", None),
        ("<count>1.5</count>", None),
        ("<count>123456789</count>", None),
    ],
)
def test_read_count(answer, count):
    assert judge.read_count(answer) == count


def test_every_count_lands_at_its_text_and_behaviour(template):
    """The engine ends requests in a shuffled order."""
    wanted = [{n: 10 * i + j for j, n in enumerate(behaviours.NAMES)} for i in range(len(TEXTS))]

    def answer(request):
        i, name = asked(template, request)
        return f"I see some. <count>{wanted[i][name]}</count>"

    for seed in range(5):
        with ScriptedEngine(answer, template.tokenizer, window=3, seed=seed) as engine:
            counter = judge.Judge(engine, template)
            assert counter.count_many(TEXTS) == wanted
            assert not counter.unread.total()
            assert len(engine.seen) == 4 * len(TEXTS)


def test_an_unread_answer_is_none_and_counted(template):
    def answer(request):
        i, name = asked(template, request)
        return "It happens twice." if (i, name) in {(0, "backward"), (2, "backward"), (1, "subgoals")} else "<count>0"

    with ScriptedEngine(answer, template.tokenizer) as engine:
        counter = judge.Judge(engine, template)
        counts = counter.count_many(TEXTS)
        assert [c["backward"] for c in counts] == [None, 0, None]
        assert counts[1]["subgoals"] is None and counts[0]["verification"] == 0
        assert counter.unread == {"backward": 2, "subgoals": 1, "verification": 0, "backtracking": 0}
        counter.count_many(TEXTS[1:2])
        assert counter.unread.total() == 4  # it goes on counting


def test_an_answer_cut_off_before_its_number_is_unread(template):
    with ScriptedEngine(lambda r: "so many words " * 20 + "<count>3</count>", template.tokenizer) as engine:
        counter = judge.Judge(engine, template, max_new_tokens=30)
        assert counter.count_many(TEXTS[:1]) == [dict.fromkeys(behaviours.NAMES)]
        assert counter.unread.total() == 4


def test_the_four_questions_share_the_text_as_a_prefix(template):
    with ScriptedEngine(lambda r: "<count>0</count>", template.tokenizer) as engine:
        judge.Judge(engine, template).count_many(["a long text of numbers 1 2 3 4 " * 20])
        first, *others = [r.ids for r in engine.seen]
        for ids in others:
            same = next(i for i, (a, b) in enumerate(zip(first, ids, strict=False)) if a != b)
            assert same > 0.7 * len(first)


def test_same_question_same_seed(template):
    def seeds():
        with ScriptedEngine(lambda r: "<count>1</count>", template.tokenizer) as engine:
            judge.Judge(engine, template, temperature=0.7, seed=5).count_many(TEXTS)
            return [r.seed for r in engine.seen]

    assert seeds() == seeds() and len(set(seeds())) == 12


def test_text_goes_in_as_it_is_and_is_never_cut():
    text = "A set {meaning} and {text} with <count>9</count> and {0}."
    for name in behaviours.NAMES:
        question = judge.ask(name, text)
        assert text in question and question.count(judge.MEANINGS[name]) == 1
    with pytest.raises(ValueError, match="at most 24,000"):
        judge.ask("backward", "x" * 24_001)


def test_too_long_a_text_stops_before_anything_is_asked(template):
    with ScriptedEngine(lambda r: "<count>0</count>", template.tokenizer) as engine:
        with pytest.raises(ValueError, match="characters"):
            judge.Judge(engine, template).count_many([TEXTS[0], "x" * 24_001])
        assert not engine.seen


def test_nothing_to_judge(template):
    with ScriptedEngine(lambda r: "", template.tokenizer) as engine:
        assert judge.Judge(engine, template).count_many([]) == []


def test_patterns_and_judge_share_an_interface(template):
    with ScriptedEngine(lambda r: "<count>2</count>", template.tokenizer) as engine:
        for counter in (behaviours, judge.Judge(engine, template)):
            counts = counter.count_many(TEXTS)
            assert len(counts) == len(TEXTS) and all(tuple(c) == behaviours.NAMES for c in counts)
