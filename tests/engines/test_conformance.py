"""One set of promises (engines/base.py), kept by every engine: embedded ones, the scripted one, a real SGLang server.

All run on the same small model, so that their greedy answers can be compared token for token; the embedded engines
also on SmolLM2. What an engine cannot do (seeds, a prefix cache) is asserted as such. `make test-sglang` builds what
the SGLang cases need and runs them.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest
from scripted import ScriptedEngine, fan_out
from tokenizers import Tokenizer

from dpr_mini.engines import open_engine
from dpr_mini.engines.base import Completion, Engine, EngineError, Request, SamplingParams, generate
from dpr_mini.engines.decode import Decoder
from dpr_mini.engines.sglang.process import title
from dpr_mini.machine import guard
from dpr_mini.recipe import ServerConfig

GREEDY = SamplingParams(24, temperature=0.0)
HOT = SamplingParams(
    12, temperature=3.0, top_p=0.95
)  # the small model is sure of itself: at 1 two samples may be equal
BABBLE = SamplingParams(300, temperature=4.0)  # close to uniform: end tokens are rare, so requests run for seconds
ASK = "<|im_start|>user\nWhat is 2+3?<|im_end|>\n<|im_start|>assistant\n"
AGAIN = "<|im_end|>\n<|im_start|>user\nCheck it another way.<|im_end|>\n<|im_start|>assistant\n"
RULES = "Work in small steps. Check each one against the question. End with the number alone. "
PROMPTS = (ASK, RULES * 3, "two apples and three more make", "The sum of 17 + 25 is")


def babble(request: Request) -> str:
    """A text that depends on what a sample depends on: the prompt, and the seed unless greedy."""
    draw = random.Random(repr((request.ids, request.seed if request.sampling.temperature else 0)))
    return " ".join(draw.choice(["two", "five", "apples", "is", "so", "3"]) for _ in range(64))


@dataclass
class Case:
    """An open engine, the model it serves, and the processes that opening it started."""

    kind: str
    engine: Engine
    folder: Path
    make: Callable[[], Engine]  # another one of the kind, not opened
    started: list[int]

    def __post_init__(self) -> None:
        self.decoder = Decoder(self.folder)

    @property
    def hot(self) -> SamplingParams:
        """Half as many tokens of the large model: they differ as soon."""
        return HOT if self.decoder.context < 2048 else replace(HOT, max_new_tokens=6)

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(self.decoder.tokenizer.encode(text).ids)

    def words(self, seed: int, n: int) -> tuple[int, ...]:
        """A prompt of n tokens that no other test begins with."""
        draw = random.Random(seed)
        return tuple(draw.randrange(4, 400) for _ in range(n))


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("hf", id="hf", marks=pytest.mark.slow),
        pytest.param("openvino", id="openvino", marks=pytest.mark.slow),
        pytest.param("scripted", id="scripted"),
        pytest.param("sglang", id="sglang", marks=pytest.mark.sglang),
        pytest.param("hf smollm2", id="hf-smollm2", marks=pytest.mark.model),
        pytest.param("openvino smollm2", id="openvino-smollm2", marks=pytest.mark.model),
    ],
)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    kind, _, large = request.param.partition(" ")
    folder = request.getfixturevalue("embedded_model" if large else "small_model")
    window = 8 if large else 64
    if kind == "openvino":
        pytest.importorskip("openvino_genai")
    python = request.getfixturevalue("sglang_python") if kind == "sglang" else None

    def make() -> Engine:
        if kind == "scripted":
            return ScriptedEngine(babble, Tokenizer.from_file(str(folder / "tokenizer.json")))
        if kind == "sglang":
            server = ServerConfig(python=python, arguments={"dtype": "float32"}, start_timeout=280)
            return open_engine(kind, folder, window=window, server=server, logs=tmp_path_factory.mktemp("logs"))
        return open_engine(kind, folder, window=window, precision="f32")

    before = offspring()
    with make() as engine:
        started = sorted(offspring() - before)
        yield Case(kind, engine, folder, make, started)
        seen = offspring() - before
    assert not [pid for pid in {*started, *seen} if guard.lives(pid)], "an engine leaves no process behind"


def offspring() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


def draw(engine: Engine, *requests: Request) -> dict[str, Completion]:
    out = list(generate(engine, requests))
    assert sorted(c.id for c in out) == sorted(r.id for r in requests), "each request is answered exactly once"
    return {c.id: c for c in out}


# --- answers ----------------------------------------------------------------------------------------------------


def test_one_turn(case):
    done = draw(case.engine, Request("a", case.encode(ASK), replace(GREEDY, max_new_tokens=40), 1))["a"]
    assert done.text and done.text == case.decoder.text(done.ids)
    assert done.finish in ("stop", "length") and not done.error
    assert not set(done.ids) & set(case.decoder.eos), "the end token is no part of the answer"
    assert done.prompt_tokens == len(case.encode(ASK))
    assert case.engine.poll() == [], "nothing in flight"


@cache
def plain_model(folder: Path) -> Any:
    """In float32; read once for all prompts."""
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@cache
def plain_greedy(folder: Path, prompt: tuple[int, ...], n: int) -> tuple[tuple[int, ...], float]:
    """Greedy answer by the model's whole forward pass for each token, in float32; the least lead of a chosen token."""
    import torch

    model, ids, lead = plain_model(folder), [*prompt], []
    with torch.inference_mode():
        for _ in range(n):
            best = model(torch.tensor([ids])).logits[0, -1].topk(2)
            lead.append((best.values[0] - best.values[1]).item())
            ids.append(best.indices[0].item())
            if ids[-1] in Decoder(folder).eos:
                return tuple(ids[len(prompt) : -1]), min(lead)
    return tuple(ids[len(prompt) :]), min(lead)


def test_greedy_answers_are_those_of_the_plain_forward_pass(case):
    """Token for token, so that a rotary base, a norm or a scale that an engine reads wrongly shows."""
    n = 24 if case.decoder.context < 2048 else 4
    requests = [Request(str(i), case.encode(p), replace(GREEDY, max_new_tokens=n), i) for i, p in enumerate(PROMPTS)]
    out = draw(case.engine, *requests)
    for request in requests:
        if case.kind == "scripted":  # it has no model: what it says is the script's
            assert babble(request).startswith(out[request.id].text.rstrip("\ufffd"))
            continue
        ids, lead = plain_greedy(case.folder, request.ids, n)
        assert lead > 1e-3, "so close that rounding would decide: take another prompt"
        assert out[request.id].ids == ids, request.id


@pytest.mark.slow
def test_the_small_model_would_answer_otherwise_with_transformers_default_rotary_base(small_model, tmp_path):
    """What makes the test above a test: transformers 4 overlooks the base where version 5 writes it."""
    other = Path(shutil.copytree(small_model, tmp_path / "other"))
    config = json.loads((other / "config.json").read_text())
    assert config["rope_parameters"].pop("rope_theta") != 10000.0
    config["rope_parameters"]["rope_theta"] = 10000.0
    (other / "config.json").write_text(json.dumps(config))
    encode = Decoder(small_model).tokenizer.encode
    for prompt in PROMPTS:
        ids = tuple(encode(prompt).ids)
        assert plain_greedy(small_model, ids, 24)[0] != plain_greedy(other, ids, 24)[0], prompt


# --- the prefix cache -------------------------------------------------------------------------------------------


def test_second_turn_continues_the_token_list(case):
    first = Request("1", case.encode(RULES * 4 + ASK), GREEDY, 1)
    one = draw(case.engine, first)["1"]
    second = Request("2", (*first.ids, *one.ids, *case.encode(AGAIN)), GREEDY, 2)
    two = draw(case.engine, second)["2"]
    assert two.prompt_tokens == one.prompt_tokens + len(one.ids) + len(case.encode(AGAIN))
    assert two.text
    known = one.prompt_tokens + len(one.ids)
    if case.kind == "hf":
        assert two.cached_tokens == 0, "hf keeps nothing: a number other than 0 would be a lie"
    elif case.kind == "openvino":
        assert known - 32 <= two.cached_tokens <= known  # whole blocks of 32
    else:
        # the end of turn that follows an answer may be what the model drew itself, and so be known as well
        assert known - 1 <= two.cached_tokens <= known + 1


def test_samples_of_a_new_prompt_differ_and_share_its_computation(case):
    n = 160 if case.decoder.context < 2048 else 64
    ids = case.words(11, n)
    out = draw(case.engine, *fan_out(Request("n", ids, case.hot, 3), 8))
    assert len({c.ids for c in out.values()}) == 8
    cached = sorted(c.cached_tokens for c in out.values())
    if case.kind == "hf":
        assert cached == [0] * 8
    else:
        # the SGLang client computes it ahead of all that it knows of
        assert cached[0] <= 4 or (case.kind == "sglang" and cached[0] == n - 1), "one of them has to compute it"
        assert cached[1] == cached[7] == n - 1, "all but the last token, which is computed for its answer"


# --- sampling ---------------------------------------------------------------------------------------------------


def test_equal_seeds_draw_equal_samples_only_where_the_engine_says_so(case):
    samples = fan_out(Request("s", case.encode(RULES), case.hot, 7), 6)
    first, again = draw(case.engine, *samples), draw(case.engine, *reversed(samples))
    alone = draw(case.engine, samples[2])[samples[2].id]
    assert len({c.ids for c in first.values()}) == 6, "n samples must differ"
    same = [first[key].ids == again[key].ids for key in first]
    if case.engine.reproducible:
        assert all(same) and alone.ids == first[alone.id].ids
    else:  # SGLang reads seeds in deterministic mode alone, and says nothing otherwise
        assert case.kind == "sglang" and not case.engine.facts()["reproducible"]
        assert not all(same), "this server draws by seed without deterministic mode: `reproducible` should say so"


def test_greedy_ignores_the_seed(case):
    out = draw(case.engine, *(Request(str(s), case.encode(ASK), GREEDY, s) for s in range(3)))
    assert len({c.ids for c in out.values()}) == 1


def test_an_answer_does_not_depend_on_its_neighbours(case):
    """Different lengths, limits, temperatures and orders; in one batch and alone, in float32."""
    mixed = [
        Request("short", case.encode(ASK), replace(HOT, temperature=0.9), 1),
        Request("long", case.encode(RULES * 3 + ASK), replace(HOT, max_new_tokens=16), 2),
        Request("greedy", case.encode(ASK), replace(GREEDY, max_new_tokens=8), 3),
        Request("free", case.encode("The sea"), replace(HOT, top_p=1.0, stop=("\n",)), 4),
        Request("more", case.encode(RULES), replace(GREEDY, max_new_tokens=14), 5),
    ]
    together = draw(case.engine, *mixed)
    for request in reversed(mixed):
        alone = draw(case.engine, request)[request.id]
        if case.engine.reproducible or not request.sampling.temperature:
            assert (alone.ids, alone.finish) == (together[request.id].ids, together[request.id].finish), request.id


# --- where answers end ------------------------------------------------------------------------------------------


def test_stop_string_ends_the_answer_and_is_no_part_of_it(case):
    """One that is a token, one of several tokens, and one that begins inside a token and ends inside the next."""
    ask = Request("a", case.encode(RULES * 3), replace(GREEDY, max_new_tokens=20), 1)
    plain = draw(case.engine, ask)["a"]
    if case.kind == "scripted":
        plain = replace(plain, text=plain.text.rstrip("\ufffd"))
    pieces = [case.decoder.text([token]) for token in plain.ids]
    halves = [a[-1] + b[0] for a, b in pairwise(pieces) if len(a) > 1 and len(b) > 1]
    stops = {
        "token": max(pieces[4:12], key=len),
        "tokens": "".join(pieces[6:10]),
        "across": next(s for s in halves if s not in pieces),
    }
    requests = [Request(k, ask.ids, replace(ask.sampling, stop=("never said", s)), 1) for k, s in stops.items()]
    out = draw(case.engine, *requests)
    for name, stop in stops.items():
        done, at = out[name], plain.text.index(stop)
        assert done.finish == "stop", (name, stop, plain.text)
        assert stop not in done.text
        assert plain.text.startswith(done.text) and len(done.text) <= at
        assert len(done.text) > at - max(map(len, pieces)), "nothing goes but the token in which it begins"
        if case.kind != "scripted":  # whose ids are its text's, whatever was cut
            assert done.ids == plain.ids[: len(done.ids)] and len(done.ids) < len(plain.ids)


def test_limit_is_exact_for_each_request(case):
    limits = {str(n): n for n in (1, 3, 7)}  # the small model's whole answer has 8
    out = draw(
        case.engine,
        *(Request(k, case.encode(ASK), replace(GREEDY, max_new_tokens=n), 1) for k, n in limits.items()),
    )
    assert {k: len(c.ids) for k, c in out.items()} == limits
    assert {c.finish for c in out.values()} == {"length"}


def test_context_is_used_to_its_last_token(case):
    """A prompt that leaves room for 1, 2, 7 or 20 tokens gets just so many, and ends with "length"."""
    if case.kind == "scripted":  # it has no context: only the limit ends an answer
        long = Request("long", case.encode(RULES) * 1000, replace(GREEDY, max_new_tokens=5), 1)
        assert len(draw(case.engine, long)["long"].ids) == 5
        return
    if case.decoder.context > 4096:
        pytest.skip("minutes of prompt on two cores; the same code on the small model shows it")
    text = case.encode(RULES) * 40
    rooms = {str(n): n for n in (1, 2, 7, 20)}
    out = draw(
        case.engine,
        *(Request(k, text[: case.decoder.context - n], SamplingParams(64, 4.0), 1) for k, n in rooms.items()),
    )
    # drawn without seeds, one of the thirty tokens may be the end token
    ended = {k for k, c in out.items() if c.finish == "stop"} if not case.engine.reproducible else set()
    assert len(ended) <= 1 and all(len(out[k].ids) < rooms[k] for k in ended)
    wanted = {k: ("length", "", n) for k, n in rooms.items() if k not in ended}
    assert {k: (c.finish, c.error, len(c.ids)) for k, c in out.items() if k not in ended} == wanted


# --- what is refused --------------------------------------------------------------------------------------------


def test_refuses_what_cannot_be_answered_and_goes_on(case):
    """Before anything is sent: a token id outside the vocabulary ends a real server."""
    ask, context = case.encode(ASK), case.decoder.context
    refused = {
        "empty": Request("empty", (), GREEDY, 1),
        "max_new_tokens": Request("none", ask, replace(GREEDY, max_new_tokens=0), 1),
        f"context of {context}": Request("long", (5,) * context, GREEDY, 1),
        "outside the model's vocabulary": Request("id", (*ask, case.decoder.vocabulary), GREEDY, 1),
        "outside the model's": Request("negative", (-1, *ask), GREEDY, 1),
    }
    if case.kind == "scripted":  # no model, so neither a context nor a vocabulary
        refused = dict(list(refused.items())[:2])
    before = case.engine.facts()
    for words, request in refused.items():
        with pytest.raises(EngineError, match=words):
            case.engine.submit(request)
    assert case.engine.poll() == [], "a refused request is not in flight"
    assert case.engine.facts() == before, "nothing was sent, so nothing was retried or started again"
    assert draw(case.engine, Request("after", ask, GREEDY, 1))["after"].text


def test_an_engine_that_is_not_open_says_so(case):
    engine = case.make()
    if case.kind == "scripted":  # it has nothing to open
        assert draw(engine, Request("a", case.encode(ASK), GREEDY, 0))["a"].text
        return
    with pytest.raises(EngineError, match="with block"):
        engine.submit(Request("a", case.encode(ASK), GREEDY, 0))
    if case.kind != "sglang":  # test_sglang.py closes a server
        with engine:
            pass
        with pytest.raises(EngineError, match="with block"):
            engine.submit(Request("a", case.encode(ASK), GREEDY, 0))


# --- many at once, none of them, and faults ---------------------------------------------------------------------


def crowd(case: Case, n: int) -> list[Request]:
    """n requests that share nothing but the engine: lengths, limits, temperatures, stop strings."""
    words, limit = random.Random(n), 24 if case.decoder.context < 2048 else 3
    return [
        Request(
            f"r{i}",
            case.words(1000 + i, words.randint(1, 120 if limit == 24 else 24)),
            SamplingParams(
                words.randint(1, limit), words.choice([0.0, 0.7, 1.0]), words.choice([0.9, 1.0]), ("0.",)[: i % 2]
            ),
            i,
        )
        for i in range(n)
    ]


def test_a_crowd_of_different_requests_gets_one_answer_each(case):
    """More than the window takes (64, or 8 for the large model), handed over at once."""
    requests = crowd(case, 80 if case.decoder.context < 2048 else 24)
    for request in requests:
        case.engine.submit(request)
    done: list[Completion] = []
    while more := case.engine.poll():
        done += more
    assert sorted(c.id for c in done) == sorted(r.id for r in requests)
    by_id = {c.id: c for c in done}
    for request in requests:
        c = by_id[request.id]
        assert c.prompt_tokens == len(request.ids) and len(c.ids) <= request.sampling.max_new_tokens
        assert c.finish in ("stop", "length") and not c.error
        assert c.finish == "stop" or len(c.ids) == request.sampling.max_new_tokens
    if case.kind == "sglang":
        assert case.engine.facts()["most_in_flight"] == case.engine.window


def test_cancel_drops_everything_and_the_engine_goes_on(case):
    limit = 300 if case.decoder.context < 2048 else 12
    for i in range(40):
        case.engine.submit(Request(f"c{i}", case.words(2000 + i, 20), replace(BABBLE, max_new_tokens=limit), i))
    case.engine.submit(Request("short", case.words(1999, 20), replace(BABBLE, max_new_tokens=1), 0))
    got = {c.id for c in case.engine.poll()}  # so they are under way
    assert got
    if case.kind == "sglang":
        assert not idle(case), "an empty server would show nothing"
    case.engine.cancel()
    assert case.engine.poll() == []
    after = draw(case.engine, Request("after", case.encode(ASK), GREEDY, 1))
    assert set(after) == {"after"} and after["after"].text
    if case.kind == "sglang":
        deadline = time.monotonic() + 5  # what was cancelled would keep it busy for longer
        while not idle(case) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert idle(case), "the server still works on what was cancelled"


def idle(case: Case) -> bool:
    """Whether the server has nothing to do: only then does it agree to empty its cache."""
    try:
        with urllib.request.urlopen(case.engine.fleet.replicas[0].url + "/flush_cache", timeout=30) as answer:
            return answer.status == 200
    except urllib.error.HTTPError as error:
        assert error.code == 400
        return False


@pytest.mark.timeout(600)
@pytest.mark.parametrize("victim", ["server", "sglang::scheduler", "sglang::detokenizer"])
def test_a_process_killed_mid_run_costs_no_request(case, victim):
    if case.kind != "sglang":
        assert case.started == [], "it lives in our own process: there is nothing that could be killed"
        return
    process, restarts = case.engine.fleet.process, case.engine.facts()["restarts"]
    members = process.pids()
    pid = process.pid if victim == "server" else next(p for p in members if title(p).startswith(victim))
    requests = [Request(f"k{i}", case.words(3000 + i, 20), BABBLE, i) for i in range(96)]
    for request in requests:
        case.engine.submit(request)
    done = case.engine.poll()
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    at_kill = len(done)
    while more := case.engine.poll():
        done += more
    assert at_kill < 64, "killed while requests were in flight"
    assert sorted(c.id for c in done) == sorted(r.id for r in requests), "each exactly once"
    assert not [c for c in done if c.error]
    assert case.engine.facts()["restarts"] == restarts + 1
    assert not [p for p in members if guard.lives(p)], "nothing of the old server is left"
    assert case.engine.fleet.process.alive()
