"""The dialogue state machine, against an engine that a function plays; and the tokens it makes, as text."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpr_mini.chat import ChatError, Template, join_text, to_sample
from dpr_mini.conversation import Conversation, converse, hold, usage
from dpr_mini.engines.base import EngineError, Sampling, fan_out
from dpr_mini.engines.scripted import ScriptedEngine
from dpr_mini.stages import dialogue as stage
from dpr_mini.store import read_rows
from dpr_mini.types import Dialogue, Problem, Turn

SAMPLING = Sampling(40)
SCRIPT = (("solve", "the cat sat?"), ("verify", "check it"), ("backward", "go back"))


@pytest.fixture(scope="module")
def template(tiny_model):
    return Template.load(tiny_model())


def talk(n, script=SCRIPT):
    return [Conversation(f"p{i}", 0, script, SAMPLING, i) for i in range(n)]


def play(template, answer, conversations, window=4, seed=0):
    with ScriptedEngine(answer, template.tokenizer, window=window, seed=seed) as engine:
        return list(converse(engine, template, conversations)), engine


def test_every_turn_continues_the_token_list_and_hits_the_cache(template):
    dialogues, engine = play(template, lambda r: f"answer {len(r.ids)}", talk(9))
    assert len(dialogues) == 9 and all(len(d.turns) == 3 for d in dialogues)
    requests = {}
    for request in engine.seen:
        requests.setdefault(request.id, []).append(request.ids)
    for dialogue in dialogues:
        first, second, third = requests[dialogue.id]
        assert first == template.opening("the cat sat?")
        assert second == (*first, *dialogue.turns[0].ids, *template.follow_up("check it"))
        assert third == (*second, *dialogue.turns[1].ids, *template.follow_up("go back"))
        for before, turn in zip((first, second), dialogue.turns[1:], strict=True):
            assert turn.cached_tokens >= len(before)  # all that was there before, and the answer
        # what the model saw is what the template would have said of the same conversation
        spoken = [("user", SCRIPT[0][1]), ("assistant", dialogue.turns[0].text), ("user", SCRIPT[1][1])]
        whole = template.render([{"role": r, "content": c} for r, c in spoken])
        assert template.decode(second, special=True) == whole


def test_there_is_no_barrier_between_conversations(template):
    """One conversation whose first turn is slow does not hold up the others' later turns."""

    class Slow(ScriptedEngine):
        def poll(self):
            rest = [x for x in self._waiting if x[0].id != "p0#0"]
            if not rest:
                return super().poll()
            self._waiting.remove(rest[0])
            return [self._answer(*rest[0])]

    with Slow(lambda r: "ok", template.tokenizer, window=3) as engine:
        ended = [d.id for d in converse(engine, template, talk(6))]
    assert ended[-1] == "p0#0" and len(ended) == 6


def test_the_window_is_never_exceeded(template):
    most = 0

    class Watched(ScriptedEngine):
        def poll(self):
            nonlocal most
            most = max(most, len(self._waiting))
            return super().poll()

    with Watched(lambda r: "ok", template.tokenizer, window=5) as engine:
        list(converse(engine, template, talk(23)))
    assert most == 5


def test_a_broken_off_answer_ends_the_dialogue(template):
    dialogues, _ = play(template, lambda r: "the cat sat on the mat " * 9 if r.id == "p1#0" else "ok", talk(3))
    by_id = {d.id: d for d in dialogues}
    assert [len(by_id[f"p{i}#0"].turns) for i in range(3)] == [3, 1, 3]
    assert by_id["p1#0"].finish == "length"


def test_a_failed_request_stops_with_its_name(template):
    with pytest.raises(EngineError, match=r"p1#0: out of memory; what was done is kept"):
        play(template, lambda r: ("out of memory", "error") if r.id == "p1#0" else "ok", talk(3))


def test_seeds_differ_by_problem_sample_and_turn_and_repeat(template):
    def seeds():
        _, engine = play(template, lambda r: "ok", talk(4), seed=random.randint(0, 99))
        return {(r.id, len(r.ids)): r.seed for r in engine.seen}

    assert seeds() == seeds()
    assert len(set(seeds().values())) == 12


def test_fan_out_gives_every_sample_its_own_seed_and_id(template):
    first = talk(1)[0].request(template)
    assert len({(r.id, r.seed) for r in fan_out(first, 5)}) == 5


def texts(dialogues):
    return {i: [(t.prompt, t.ids, t.text) for t in d.turns] for i, d in dialogues.items()}


def test_hold_resumes_with_the_missing_dialogues_only(template, tmp_path):
    path = tmp_path / "rows.jsonl"
    with ScriptedEngine(lambda r: f"say {r.seed % 100}", template.tokenizer) as engine:
        whole = hold(path, engine, template, talk(8), "test")
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:3]) + lines[3][:20])  # killed while the fourth was being written
    with ScriptedEngine(lambda r: f"say {r.seed % 100}", template.tokenizer, seed=5) as engine:
        again = hold(path, engine, template, talk(8), "test")
    assert texts(again) == texts(whole)  # what was cached differs: the engine is a new one
    assert len({r.id for r in engine.seen}) == 5
    assert sorted(r["id"] for r in read_rows(path)) == sorted(whole)


def test_usage_counts_what_was_cached(template):
    dialogues, _ = play(template, lambda r: "ok", talk(5))
    told = usage(dialogues)
    assert told["dialogues"] == 5 and len(told["turns"]) == 3
    assert told["tokens"] == sum(d.tokens for d in dialogues)
    assert told["turns"][1]["cached_share"] > 0.5


def test_templates_take_turns_over_problems_and_samples():
    turns = (("solve",), ("verify", "backtrack", "subgoals", "backward"))
    texts = {name: f"{name} {{problem}}" for turn in turns for name in turn}
    names = [stage.script(turns, texts, "1+1", p + s)[1][0] for p in range(4) for s in range(4)]
    assert {names.count(n) for n in turns[1]} == {4}
    assert stage.script(turns, texts, "\\frac{1}{2}", 0)[0][1] == "solve \\frac{1}{2}"


def test_dialogue_stage_holds_every_sample_of_every_problem(template, tmp_path):
    from dpr_mini import prompts
    from dpr_mini.recipe import Dialogue as Section

    problems = [Problem(f"p{i}", "t", f"{i} and {i}", str(i)) for i in range(3)]
    with ScriptedEngine(lambda r: "ok", template.tokenizer) as engine:
        told = stage.run(tmp_path, problems, engine, template, Section(samples=4), prompts.TEMPLATES, seed=1)
    rows = list(read_rows(tmp_path / "rows.jsonl"))
    assert told["dialogues"] == len(rows) == 12
    assert len({(r["problem_id"], r["turns"][1]["instruction"]) for r in rows}) == 12


# ---- training samples: what is trained on is what the assistant said


def spoken(template, *texts, finish="stop"):
    names = ["solve", "verify", "backward"]
    turns = tuple(
        Turn(names[i], "what?", template.encode(t), t, "stop" if i < len(texts) - 1 else finish)
        for i, t in enumerate(texts)
    )
    return Dialogue("p#0", "p", 0, turns, "test", 0)


BRIDGES = {"verify": "\nLet me check: ", "backward": "\nBackward: "}


@given(st.lists(st.text("the cat sat on 0123456789=+\n", min_size=1, max_size=30), min_size=1, max_size=3))
@settings(max_examples=60, deadline=None)
def test_trained_tokens_decode_to_the_assistants_text(template, texts):
    dialogue = spoken(template, *texts)
    sample = to_sample(dialogue, template, BRIDGES)
    trained = [i for i, t in zip(sample.ids, sample.trained, strict=True) if t]
    assert template.decode(trained, special=True) == join_text(dialogue, BRIDGES) + "<|im_end|>"
    asked = [i for i, t in zip(sample.ids, sample.trained, strict=True) if not t]
    assert tuple(asked) == template.opening("what?")


def test_a_wrong_first_attempt_can_be_masked(template):
    sample = to_sample(spoken(template, "3+4=8", "3+4=7"), template, BRIDGES, masked=frozenset({0}))
    trained = [i for i, t in zip(sample.ids, sample.trained, strict=True) if t]
    assert template.decode(trained, special=True) == "\nLet me check: 3+4=7<|im_end|>"
    whole = template.decode(sample.ids, special=True)
    assert whole.endswith("3+4=8\nLet me check: 3+4=7<|im_end|>")


def test_a_cut_off_chain_does_not_learn_to_stop(template):
    sample = to_sample(spoken(template, "3+4", finish="length"), template, BRIDGES)
    assert sample.ids[-1] != template.end


@pytest.mark.parametrize("missing", ["tokenizer.json", "chat_template.jinja"])
def test_a_model_without_tokenizer_or_template_is_refused(tiny_model, tmp_path, missing):
    import shutil

    folder = tmp_path / "model"
    shutil.copytree(tiny_model(), folder)
    (folder / missing).unlink()
    with pytest.raises(ChatError, match=missing):
        Template.load(folder)


@pytest.mark.model
def test_the_real_template_equals_transformers_own(embedded_model):
    from transformers import AutoTokenizer

    theirs, ours = AutoTokenizer.from_pretrained(embedded_model), Template.load(embedded_model)
    said = [("user", "What is 2 + 3?"), ("assistant", "2 + 3 = 5"), ("user", "Sure?")]
    messages = [{"role": r, "content": c} for r, c in said]
    for some in (messages[:1], messages):
        text = theirs.apply_chat_template(some, add_generation_prompt=True, tokenize=False)
        assert ours.render(some) == text
        assert list(ours.encode(text)) == theirs(text, add_special_tokens=False)["input_ids"]
    joined = (*ours.opening("What is 2 + 3?"), *ours.encode("2 + 3 = 5"), *ours.follow_up("Sure?"))
    assert ours.decode(joined, special=True) == ours.render(messages)
