"""The dialogue state machine, against an engine that a function plays; and the tokens it makes, as text."""

import random
from collections import Counter

import pytest
import staging
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import ScriptedEngine, fan_out

from dpr_mini.chat.conversation import FAILED, FAILURES, Conversation, Failure, converse, run_dialogues, usage
from dpr_mini.chat.template import Template, attempts, first_attempt, join_text, spelled, to_sample
from dpr_mini.engines.base import EngineError, RequestError, SamplingParams
from dpr_mini.files.rows import read_rows
from dpr_mini.stages import dialogue as stage
from dpr_mini.types import Dialogue, Problem, Turn, UserError

SAMPLING = SamplingParams(40)
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


def fails(*ids, turn=0):
    """An engine's answers, where it fails some dialogues for good at their `turn`."""
    seen = Counter()

    def answer(request):
        seen[request.id] += 1
        return ("out of memory", "error") if request.id in ids and seen[request.id] == turn + 1 else "ok"

    return answer


@pytest.mark.parametrize("turn", [0, 2])
def test_a_failed_turn_ends_its_own_dialogue_only(template, turn):
    out, engine = play(template, fails("p1#0", turn=turn), talk(6))
    assert [x for x in out if isinstance(x, Failure)] == [Failure("p1#0", turn, "out of memory")]
    kept = [x for x in out if isinstance(x, Dialogue)]
    assert {d.id for d in kept} == {f"p{i}#0" for i in range(6)} - {"p1#0"}
    assert all(len(d.turns) == 3 for d in kept)
    assert sum(r.id == "p1#0" for r in engine.seen) == turn + 1, "nothing is asked about an answer that is not there"


def test_leaving_early_drops_what_is_under_way(template):
    with ScriptedEngine(lambda r: "ok", template.tokenizer, window=4) as engine:
        held = converse(engine, template, talk(20))
        next(held)
        held.close()
        assert engine.poll() == []


def test_a_lost_server_stops_the_stage_and_keeps_what_was_done(template, tmp_path):
    class Lost(ScriptedEngine):
        def poll(self):
            if len(self.seen) > 20:
                raise EngineError("the server died 6 times in a row")
            return super().poll()

    with Lost(lambda r: "ok", template.tokenizer, window=4) as engine:
        with pytest.raises(EngineError, match="6 times"):
            run_dialogues(tmp_path / "rows.jsonl", engine, template, talk(20), "test")
        assert engine._waiting == []
    kept = len(list(read_rows(tmp_path / "rows.jsonl")))
    assert 0 < kept < 20
    with ScriptedEngine(lambda r: "ok", template.tokenizer) as engine:
        assert len(run_dialogues(tmp_path / "rows.jsonl", engine, template, talk(20), "test")) == 20
    assert len({r.id for r in engine.seen}) == 20 - kept


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
        whole = run_dialogues(path, engine, template, talk(8), "test")
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:3]) + lines[3][:20])  # killed while the fourth was being written
    path.with_name("rows.jsonl.sum").unlink()  # and before the first sync
    with ScriptedEngine(lambda r: f"say {r.seed % 100}", template.tokenizer, seed=5) as engine:
        again = run_dialogues(path, engine, template, talk(8), "test")
    assert texts(again) == texts(whole)  # what was cached differs: the engine is a new one
    assert len({r.id for r in engine.seen}) == 5
    assert sorted(r["id"] for r in read_rows(path)) == sorted(whole)


def held(template, folder, answer, n=100, **options):
    folder.mkdir(exist_ok=True)
    with ScriptedEngine(answer, template.tokenizer) as engine:
        return run_dialogues(folder / "rows.jsonl", engine, template, talk(n, SCRIPT[:1]), "test", **options), engine


def failure_log(folder):
    return [(r["id"], r["turn"], r["error"]) for r in read_rows(folder / FAILURES)]


def test_a_few_failures_are_a_log_and_the_stage_goes_on(template, tmp_path):
    assert FAILED == 0.02
    got, _ = held(template, tmp_path, fails("p7#0", "p9#0"))
    assert set(got) == {f"p{i}#0" for i in range(100)} - {"p7#0", "p9#0"}
    assert sorted(failure_log(tmp_path)) == [("p7#0", 0, "out of memory"), ("p9#0", 0, "out of memory")]
    assert sorted(r["id"] for r in read_rows(tmp_path / "rows.jsonl")) == sorted(got), "no half row among the good"
    told = usage(got.values(), 100)
    assert (told["dialogues"], told["failed"]) == (98, 2)


def test_the_same_command_asks_for_the_failed_ones_again_only(template, tmp_path):
    held(template, tmp_path, fails("p7#0", "p9#0"))
    got, engine = held(template, tmp_path, fails("p9#0"))
    assert sorted(r.id for r in engine.seen) == ["p7#0", "p9#0"]
    assert len(got) == 99
    assert len(failure_log(tmp_path)) == 3, "the log says what happened, each time it did"
    got, engine = held(template, tmp_path, fails())
    assert [r.id for r in engine.seen] == ["p9#0"] and len(got) == 100
    _, engine = held(template, tmp_path, fails())
    assert engine.seen == [], "nothing is missing any more"


def test_many_failures_stop_the_stage_with_an_example_and_keep_the_rest(template, tmp_path):
    match = r"test: 3 of 100 failed \(.*failed\.jsonl\), e\.g\. p\d#0: out of memory; what was done is kept"
    with pytest.raises(EngineError, match=match) as caught:
        held(template, tmp_path, fails("p7#0", "p8#0", "p9#0"))
    assert "\n" not in str(caught.value)
    assert len(list(read_rows(tmp_path / "rows.jsonl"))) == 97 and len(failure_log(tmp_path)) == 3
    got, engine = held(template, tmp_path, fails())
    assert len(got) == 100 and len(engine.seen) == 3


def test_where_every_answer_counts_one_failure_stops(template, tmp_path):
    """An evaluation: a score over the answers that came would not be the benchmark's."""
    with pytest.raises(EngineError, match="1 of 100 failed"):
        held(template, tmp_path / "whole", fails("p5#0"), whole=True)
    got, _ = held(template, tmp_path / "rest", fails("p5#0"))
    assert len(got) == 99


def test_a_partial_log_is_fixed(template, tmp_path):
    held(template, tmp_path, fails("p7#0", "p9#0"))
    text = (tmp_path / FAILURES).read_text()
    (tmp_path / FAILURES).write_text(text + text[:20])  # killed while it was written
    held(template, tmp_path, fails("p7#0"))
    assert len(failure_log(tmp_path)) == 3


def test_usage_counts_what_was_cached(template):
    dialogues, _ = play(template, lambda r: "ok", talk(5))
    told = usage(dialogues, 5)
    assert told["dialogues"] == 5 and told["failed"] == 0 and len(told["turns"]) == 3
    assert told["tokens"] == sum(d.tokens for d in dialogues)
    first, second = told["turns"][:2]
    assert first["known_tokens"] == 0 and "cached_of_known" not in first
    assert second["cached_share"] > 0.5
    known = sum(d.turns[0].prompt_tokens + len(d.turns[0].ids) for d in dialogues)
    assert second["known_tokens"] == known and second["cached_of_known"] == 1.0, "the scripted engine forgets nothing"


def test_a_turn_without_room_is_a_line_of_the_log_and_stops_nobody_else(template, tmp_path):
    """A second turn that outgrows the context is refused before it is sent; the dialogue is not kept."""

    class Small(ScriptedEngine):
        def submit(self, request):
            if request.id in {f"p{i}#0" for i in range(30)} and len(request.ids) > 30:
                raise RequestError(f"request {request.id}: no room")
            super().submit(request)

    with Small(lambda r: "ok " * 3, template.tokenizer, window=8) as engine:
        got = run_dialogues(tmp_path / "rows.jsonl", engine, template, talk(100), "test")
    assert len(got) == 70
    lost = list(read_rows(tmp_path / FAILURES))
    assert {row["id"] for row in lost} == {f"p{i}#0" for i in range(30)}
    assert all(row["refused"] and row["turn"] == 1 for row in lost)
    with Small(lambda r: "ok " * 3, template.tokenizer) as engine, pytest.raises(EngineError, match="30 of 40"):
        run_dialogues(tmp_path / "more.jsonl", engine, template, talk(40), "test")


def test_templates_take_turns_over_problems_and_samples():
    turns = (("solve",), ("verify", "backtrack", "subgoals", "backward"))
    texts = {name: f"{name} {{problem}}" for turn in turns for name in turn}
    names = [stage.script(turns, texts, "1+1", p + s)[1][0] for p in range(4) for s in range(4)]
    assert {names.count(n) for n in turns[1]} == {4}
    assert stage.script(turns, texts, "\\frac{1}{2}", 0)[0][1] == "solve \\frac{1}{2}"


def test_dialogue_stage_holds_every_sample_of_every_problem(template, tmp_path):
    from dpr_mini.recipe import DialogueConfig, prompts

    problems = [Problem(f"p{i}", "t", f"{i} and {i}", str(i)) for i in range(3)]
    with ScriptedEngine(lambda r: "ok", template.tokenizer) as engine:
        told = staging.dialogue(
            tmp_path, problems, engine, template, DialogueConfig(samples=4), prompts.TEMPLATES, seed=1
        )
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
    dialogue = spoken(template, "3+4=8", "3+4=7")
    sample = to_sample(dialogue, template, BRIDGES, masked=len(dialogue.turns[0].ids))
    trained = [i for i, t in zip(sample.ids, sample.trained, strict=True) if t]
    assert template.decode(trained, special=True) == "\nLet me check: 3+4=7<|im_end|>"
    whole = template.decode(sample.ids, special=True)
    assert whole.endswith("3+4=8\nLet me check: 3+4=7<|im_end|>")


def test_a_chain_is_split_at_its_bridges():
    text = "3+4=8\nLet me check: 3+4=6 \n\nBackward:\n3+4=7. Let me check: yes"
    assert attempts(text, BRIDGES) == ["3+4=8", "3+4=6", "3+4=7.", "yes"]
    assert first_attempt(text, BRIDGES) == "3+4=8"
    whole = "\nLet me check: 3+4=7"  # nothing came before it
    assert attempts(whole, BRIDGES) == [whole] and first_attempt(whole, BRIDGES) is None
    assert attempts("3+4\nLet me  check: 7", BRIDGES) == ["3+4", "7"], "white space does not matter"
    assert attempts("Also 3. So 4", {"a": "So", "b": "\n\n", "c": ""}) == ["Also 3.", "4"], "words are whole"
    assert attempts("3 Let me check: 4", {"a": "Let me", "b": "Let me check:"}) == ["3", "4"], "the longer one"
    assert attempts("", BRIDGES) == [""]


@given(
    st.text("the cat sat on \u00e9\U0001f40d0123456789=+.\n", max_size=30), st.text("0123456789=+ cat.", max_size=20)
)
@settings(max_examples=60, deadline=None)
def test_the_tokens_of_a_first_attempt(template, before, after):
    """The fewest that spell it: one less does not, and none of it is left behind them."""
    ids = template.encode(before + after)
    n = spelled(ids, before, template)
    assert template.decode(ids[:n]).startswith(before)
    assert n == 0 or not template.decode(ids[: n - 1]).startswith(before)
    assert spelled(ids, before + after + "!", template) is None


def test_one_turn_is_masked_as_two_turns_are(template):
    two = spoken(template, "3+4=8", "3+4=7")
    text = join_text(two, BRIDGES)
    ids = (*two.turns[0].ids, *template.encode(BRIDGES["verify"]), *two.turns[1].ids)
    one = Dialogue("p#0", "p", 0, (Turn("solve", "what?", ids, text, "stop"),), "test", 0)
    masked = spelled(ids, first_attempt(text, BRIDGES), template)
    assert to_sample(one, template, BRIDGES, masked) == to_sample(two, template, BRIDGES, len(two.turns[0].ids))


def test_a_cut_off_chain_does_not_learn_to_stop(template):
    sample = to_sample(spoken(template, "3+4", finish="length"), template, BRIDGES)
    assert sample.ids[-1] != template.end


@pytest.mark.parametrize("missing", ["tokenizer.json", "chat_template.jinja"])
def test_a_model_without_tokenizer_or_template_is_refused(tiny_model, tmp_path, missing):
    import shutil

    folder = tmp_path / "model"
    shutil.copytree(tiny_model(), folder)
    (folder / missing).unlink()
    with pytest.raises(UserError, match=missing):
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
