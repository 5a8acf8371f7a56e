"""What is particular to each engine. The promises that all of them keep are in test_conformance.py."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest
from scripted import ScriptedEngine, fan_out
from tokenizers import Tokenizer

from dpr_mini.engines import choose, open_engine
from dpr_mini.engines.base import Completion, Engine, EngineError, Request, SamplingParams, generate

GREEDY = SamplingParams(24, temperature=0.0)


def draw(engine: Engine, *requests: Request) -> dict[str, Completion]:
    return {c.id: c for c in generate(engine, requests)}


# --- OpenVINO ---------------------------------------------------------------------------------------------------


class Counted:
    """The pipeline, counting its steps: a prompt that is computed 32 tokens a step shows what was not cached."""

    def __init__(self, pipe):
        self.pipe, self.steps = pipe, 0

    def step(self):
        self.steps += 1
        self.pipe.step()

    def __getattr__(self, name):
        return getattr(self.pipe, name)


@pytest.fixture(scope="module")
def counted(tiny_model):
    pytest.importorskip("openvino_genai")
    from dpr_mini.engines.openvino import OpenVinoEngine

    folder = tiny_model(max_position_embeddings=4096)
    with OpenVinoEngine(folder, window=8, prefill_tokens=32, cache_gib=0.002) as opened:
        opened._pipe = Counted(opened._pipe)
        yield opened


def steps_for(engine, *requests: Request) -> tuple[int, dict[str, Completion]]:
    engine._pipe.steps = 0
    out = draw(engine, *requests)
    return engine._pipe.steps, out


def tokens(seed: int, n: int) -> tuple[int, ...]:
    words = random.Random(seed)
    return tuple(words.randrange(3, 250) for _ in range(n))


def test_openvino_cached_tokens_are_those_not_computed(counted):
    """With one new token, a prompt takes ceil(computed / 32) steps: a measured count to hold the expected one to."""
    one = SamplingParams(1, temperature=0.0)
    ids = tokens(0, 300)
    steps, out = steps_for(counted, Request("cold", ids, one, 0))
    assert (steps, out["cold"].cached_tokens) == (10, 0)
    for name, prompt, cached in (
        ("again", ids, 288),
        ("continued", (*ids, *tokens(1, 80)), 288),
        ("forked", (*ids[:100], *tokens(2, 120)), 96),
        ("other", (ids[-1], *ids), 0),
    ):
        steps, out = steps_for(counted, Request(name, prompt, one, 0))
        assert out[name].cached_tokens == cached, name
        assert steps <= -(-(len(prompt) - cached) // 32), f"{name}: more was computed than the log expects"
        assert steps >= -(-(len(prompt) - cached - 31) // 32), f"{name}: the engine cached more than a partial block"


def test_openvino_answer_is_cached_for_the_next_turn(counted):
    one, ids = SamplingParams(1, temperature=0.0), tokens(3, 64)
    counted.decoder.eos, eos = (999,), counted.decoder.eos  # random weights would end anywhere
    first = draw(counted, Request("1", ids, SamplingParams(97, temperature=0.0), 0))["1"]
    steps, out = steps_for(counted, Request("2", (*ids, *first.ids, *tokens(4, 30)), one, 0))
    counted.decoder.eos = eos
    assert out["2"].cached_tokens == 160  # 64 + 96 of 97: the last token drawn was never fed back
    assert steps == 1, "31 tokens are left to compute"


def test_openvino_samples_of_a_new_prompt_share_its_computation(counted):
    steps, out = steps_for(counted, *fan_out(Request("n", tokens(5, 256), SamplingParams(1), 3), 8))
    assert [out[f"n.{i}"].cached_tokens for i in range(8)] == [0] + [255] * 7
    assert steps <= 8 + 1, "8 steps for the first, one for the other seven; each on its own would take 64"


def test_openvino_forgets_as_its_cache_fills(counted):
    """More tokens than the cache holds: the log must not promise what was evicted."""
    one, old = SamplingParams(1, temperature=0.0), tokens(6, 256)
    draw(counted, Request("old", old, one, 0))
    capacity = counted._scheduler.num_kv_blocks * 32
    assert capacity < 10_000
    for i in range(capacity // 512 + 2):
        draw(counted, Request(f"fill{i}", tokens(100 + i, 512), one, 0))
    steps, out = steps_for(counted, Request("old", old, one, 0))
    assert (steps, out["old"].cached_tokens) == (8, 0)


def test_openvino_stays_off_the_network_and_out_of_the_home_folder(tmp_path):
    """Left alone, `import openvino` sends a usage event and writes an id under the home folder."""
    pytest.importorskip("openvino_genai")
    code = (
        "import socket, sys\n"
        "def no(*a, **k): raise SystemExit('a connection was tried')\n"
        "socket.getaddrinfo = socket.socket.connect = no\n"
        "import dpr_mini.engines.openvino, openvino, openvino_genai, openvino.tools.ovc\n"
        "assert not any(m.startswith('openvino_telemetry.') for m in sys.modules)\n"
    )
    env = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


# --- transformers -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_hf_draws_from_the_softmax():
    import torch

    from dpr_mini.engines.hf import _Draw, _Waiting

    logits = torch.tensor([2.0, 1.0, 0.5, 0.0, -1.0, -2.0])
    for temperature, top_p in ((1.0, 1.0), (0.5, 1.0), (1.0, 0.7)):
        n = 6000
        cpu = torch.device("cpu")
        batch = [_Waiting.of(Request("", (1,), SamplingParams(1, temperature, top_p), s), 1, cpu) for s in range(n)]
        picks = _Draw(batch, 6, cpu)(None, logits.expand(n, 6)).argmax(-1)
        wanted = (logits / temperature).softmax(-1)
        if top_p < 1:
            wanted = torch.where(wanted.cumsum(-1) - wanted < top_p, wanted, 0)
            wanted /= wanted.sum()
        got = picks.bincount(minlength=6) / n
        assert (got - wanted).abs().max() < 0.03, (temperature, top_p, got, wanted)  # 4.6 standard errors


@pytest.mark.slow
@pytest.mark.parametrize("spread", [0.05, 1.0, 5.0])  # 0.05: flatter than the 1024 tokens looked at first
def test_hf_nucleus_is_the_smallest_set_that_reaches_p(spread):
    import torch

    from dpr_mini.engines.hf import nucleus

    logits = torch.randn(4, 3000, generator=torch.Generator().manual_seed(0)) * spread
    top_p = torch.tensor([[0.9], [0.5], [1.0], [1e-6]])
    kept = nucleus(logits, top_p) > -torch.inf
    for row, p, keep in zip(logits.double().softmax(-1), top_p[:, 0].tolist(), kept, strict=True):
        mass, weakest = row[keep].sum().item(), row[keep].min().item()
        assert mass >= min(p, 1 - 1e-6) - 1e-6
        assert p == 1 or mass - weakest < p + 1e-6, "one token fewer would not reach p"
        assert keep.sum() >= 1 and row[keep].min() >= row[~keep].max() if (~keep).any() else keep.all()


def test_hf_ignores_the_folders_own_generation_settings(tiny_model):
    """Qwen's folders carry repetition_penalty: transformers would merge it into our settings in silence."""
    import json

    from dpr_mini.engines.hf import HfEngine

    folder = tiny_model()
    request = Request("a", tuple(range(5, 25)), SamplingParams(20, 0.0), 0)
    with HfEngine(folder) as engine:
        plain = draw(engine, request)["a"]
    path = folder / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "repetition_penalty": 9.0, "min_new_tokens": 20}))
    with HfEngine(folder) as engine:
        assert draw(engine, request)["a"] == plain


def test_hf_runs_any_number_of_requests_in_small_batches(tiny_model):
    from dpr_mini.engines.hf import HfEngine

    words = random.Random(1)
    requests = [
        Request(str(i), tuple(words.randrange(3, 200) for _ in range(words.randint(1, 30))), SamplingParams(9), i)
        for i in range(23)
    ]
    folder = tiny_model()
    with HfEngine(folder, window=5) as small, HfEngine(folder, window=64) as large:
        assert draw(small, *requests) == draw(large, *requests)


# --- choosing ---------------------------------------------------------------------------------------------------


def test_auto_says_what_it_takes_and_why(tiny_model, capsys, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    pytest.importorskip("openvino_genai")
    kind, why = choose("auto", tiny_model())
    assert (kind, "no GPU" in why) == ("openvino", True)
    odd = tiny_model()
    (odd / "config.json").write_text((odd / "config.json").read_text().replace('"llama"', '"gemma"'))
    kind, why = choose("auto", odd)
    assert kind == "hf" and "gemma" in why
    assert choose("hf", odd)[0] == "hf"
    engine = open_engine("hf", tiny_model(), window=3)
    assert engine.window == 3
    assert "engine hf" in capsys.readouterr().err
    with pytest.raises(EngineError, match="auto, openvino, hf"):
        choose("vllm", odd)
    with pytest.raises(EngineError, match="f32, bf16"):
        open_engine("hf", odd, precision="int3")
    assert "bf16" in open_engine("openvino", tiny_model(), precision="bf16").name
    assert "bfloat16" in open_engine("hf", tiny_model(), precision="bf16").name


# --- scripted ---------------------------------------------------------------------------------------------------


def test_scripted_shuffles_and_counts_its_cache(tiny_model):
    tokenizer = Tokenizer.from_file(str(tiny_model() / "tokenizer.json"))
    engine = ScriptedEngine(lambda r: ("the cat", "length") if r.id == "9" else "the cat sat", tokenizer, window=10)
    out = list(generate(engine, [Request(str(i), (5, 6, 7, 8, 100 + i), SamplingParams(50), i) for i in range(10)]))
    assert sorted(c.id for c in out) == [str(i) for i in range(10)] != [c.id for c in out]
    assert {c.id: c.finish for c in out}["9"] == "length"
    assert [c.cached_tokens for c in sorted(out, key=lambda c: c.id)] == [0] + [4] * 9
    answer = out[0]
    ids = (5, 6, 7, 8, 100 + int(answer.id), *answer.ids, 50)
    assert draw(engine, Request("x", ids, SamplingParams(5), 0))["x"].cached_tokens == len(ids) - 1


# ---------------------------------------------------------------- hf: batches that are left early


@pytest.mark.slow
@pytest.mark.parametrize("stop", [(), ("7",)])
def test_hf_answers_are_those_of_one_at_a_time_where_a_batch_is_left_with_few(stop):
    """A batch of 24 is left with two unfinished ones; they take their noise along."""
    from places import RECIPES

    from dpr_mini.chat.template import Template
    from dpr_mini.engines.hf import HfEngine

    model = RECIPES / "smoke-model"
    template = Template.load(model)
    prompts = [template.opening(f"{i} + {3 * i} =") for i in range(24)]
    limits = [12 + i % 4 if i < 22 else 60 for i in range(24)]  # two go on for long, if they do not end by themselves
    sampling = [SamplingParams(n, 3.0 * (i % 5 > 0), 1.0, stop) for i, n in enumerate(limits)]
    asked = [Request(str(i), ids, how, i) for i, (ids, how) in enumerate(zip(prompts, sampling, strict=True))]

    def answers(window):
        batches, found = 0, {}
        with HfEngine(model, window=window) as engine:
            inner = engine._batch

            def counted():
                nonlocal batches
                batches += 1
                return inner()

            engine._batch = counted
            for request in asked:
                engine.submit(request)
            while done := engine.poll():
                found |= {c.id: (c.ids, c.text, c.finish) for c in done}
        return found, batches

    alone, _ = answers(1)
    together, batches = answers(24)
    assert together == alone and len(together) == 24
    assert batches > 1, "no answer was left"
    assert max(len(ids) for ids, _, _ in alone.values()) > 24
