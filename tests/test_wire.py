"""What is sent to SGLang's /generate, and every shape of reply that its releases and routers are known to give."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from dpr_mini.engines import wire
from dpr_mini.engines.base import EngineError, Request, Sampling
from dpr_mini.engines.decode import Decoder

EOS = 2


@pytest.fixture(scope="module")
def decoder(tiny_model) -> Decoder:
    return Decoder(tiny_model())


@pytest.fixture(scope="module")
def words(decoder):
    return lambda text: tuple(decoder.tokenizer.encode(text).ids)


def request(**sampling) -> Request:
    return Request("r", (5, 6, 7, 8), Sampling(20, **sampling), 77)


def reply(ids, reason, **meta):
    return {"text": "x", "output_ids": list(ids), "meta_info": {"finish_reason": reason, "cached_tokens": 3, **meta}}


# --- the call -----------------------------------------------------------------------------------------------------


def test_every_setting_is_said():
    """Nothing is left to a default: max_new_tokens would be 128, and a model's folder may change the others."""
    body = wire.payload(request(temperature=0.7, top_p=0.9, stop=("\n\n",)), 17, (2, 9), "abc")
    assert body["rid"] == "abc" and body["input_ids"] == [5, 6, 7, 8] and body["stream"] is False
    assert body["sampling_params"] == {
        "max_new_tokens": 17,
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": -1,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "frequency_penalty": 0.0,
        "presence_penalty": 0.0,
        "stop": ["\n\n"],
        "stop_token_ids": [2, 9],
        "skip_special_tokens": False,
        "no_stop_trim": True,
        "sampling_seed": 77,
    }
    assert not {"n", "return_logprob", "text"} & (body.keys() | body["sampling_params"].keys())


def test_greedy_is_one_candidate_whatever_else_is_asked():
    params = wire.payload(request(temperature=0.0, top_p=0.3), 5, (), "x")["sampling_params"]
    assert (params["temperature"], params["top_k"], params["top_p"]) == (0.0, 1, 1.0)


# --- the reply ----------------------------------------------------------------------------------------------------


def test_an_answer_that_ended(decoder, words):
    ids = words("the cat")
    done = wire.completion(request(), reply((*ids, EOS), {"type": "stop", "matched": EOS}), decoder)
    assert (done.id, done.ids, done.text, done.finish, done.error) == ("r", ids, "the cat", "stop", "")
    assert (done.prompt_tokens, done.cached_tokens) == (4, 3)


@pytest.mark.parametrize(
    "shape",
    [
        lambda r: r,
        lambda r: [r],  # a list of one: some releases and routers
        lambda r: {"text": "", "meta_info": r["meta_info"] | {"output_ids": r["output_ids"]}},
        lambda r: {k: v for k, v in r.items() if k != "text"},
        lambda r: r | {"meta_info": {k: v for k, v in r["meta_info"].items() if k != "cached_tokens"}},
        lambda r: r | {"meta_info": r["meta_info"] | {"cached_tokens": None, "total_retractions": None}},
        lambda r: r | {"meta_info": r["meta_info"] | {"finish_reason": "stop"}},  # words: before 0.3
        lambda r: r | {"meta_info": r["meta_info"] | {"finish_reason": {"type": "stop"}}},
        lambda r: r | {"meta_info": r["meta_info"] | {"finish_reason": {"type": "stop", "matched": None}}},
        lambda r: r | {"meta_info": r["meta_info"] | {"finish_reason": {"type": "stop", "matched": EOS}, "new": {}}},
    ],
)
def test_every_known_shape_reads_the_same(decoder, words, shape):
    ids = words("the cat")
    done = wire.completion(request(), shape(reply((*ids, EOS), {"type": "stop", "matched": EOS})), decoder)
    assert (done.ids, done.finish, done.error) == (ids, "stop", "")


@pytest.mark.parametrize("reason", ["length", {"type": "length", "length": 20}])
def test_an_answer_at_its_limit(decoder, words, reason):
    done = wire.completion(request(), reply(words("the cat"), reason), decoder)
    assert (done.finish, done.text, done.error) == ("length", "the cat", "")


def test_an_end_token_at_the_limit_is_an_end(decoder, words):
    done = wire.completion(request(), reply((*words("the"), EOS), {"type": "length", "length": 2}), decoder)
    assert done.finish == "stop"


def test_a_stop_string_is_cut_here_as_for_every_engine(decoder, words):
    ids = words("the cat sat on")
    done = wire.completion(request(stop=(" sat",)), reply(ids, {"type": "stop", "matched": " sat"}), decoder)
    assert (done.text, done.finish) == ("the cat", "stop")


@pytest.mark.parametrize("matched", ["</s>", 151643])
def test_a_foreign_stop_is_an_error_and_not_half_an_answer(decoder, words, matched):
    done = wire.completion(request(), reply(words("the cat"), {"type": "stop", "matched": matched}), decoder)
    assert done.finish == "error" and repr(str(matched)) in done.error


@pytest.mark.parametrize(
    ("reason", "says"),
    [
        ({"type": "abort", "message": "Abort before prefill", "status_code": 503}, "Abort before prefill"),
        ({"type": "abort"}, "abort"),
        ("abort", "abort"),
        (None, "None"),
    ],
)
def test_an_abort_is_an_error_that_says_why_with_or_without_tokens(decoder, words, reason, says):
    for answer in (reply(words("the"), reason), {"meta_info": {"finish_reason": reason}}):
        done = wire.completion(request(), answer, decoder)
        assert done.finish == "error" and says in done.error


def test_an_answer_without_token_ids_is_refused(decoder):
    """Encoding its text again would give other tokens than those that were drawn."""
    with pytest.raises(EngineError, match=r"request r: the reply has no output_ids"):
        wire.completion(request(), {"text": "the cat", "meta_info": {"finish_reason": {"type": "stop"}}}, decoder)


@pytest.mark.parametrize("odd", [None, [], "ok", {}, {"error": {"message": "no"}}, {"meta_info": None}, [{}, {}]])
def test_what_is_no_reply_is_refused(decoder, odd):
    with pytest.raises(EngineError, match=r"request r: the server's reply is none of SGLang's"):
        wire.completion(request(), odd, decoder)


def test_more_cached_than_asked_is_no_share_above_one(decoder, words):
    done = wire.completion(request(), reply(words("the"), "length", cached_tokens=99), decoder)
    assert done.cached_tokens == 4


def test_random_answers_come_back_whole(decoder):
    draw = random.Random(0)
    for _ in range(200):
        ids = tuple(draw.randrange(3, decoder.vocabulary) for _ in range(draw.randrange(1, 20)))
        done = wire.completion(request(), reply((*ids, EOS), {"type": "stop", "matched": EOS}), decoder)
        assert done.ids == ids and done.text == decoder.text(ids)


# --- what a server says of itself ----------------------------------------------------------------------------------


def test_info_of_0_5_9():
    """Names and values as a real 0.5.9 server on a CPU gave them; those of no use here are left out."""
    info = wire.Info.read(
        {
            "version": "0.5.9",
            "model_path": "runs/x/logs/sglang-model",
            "dtype": "float32",
            "attention_backend": "torch_native",
            "context_length": None,
            "max_total_num_tokens": 65536,
            "max_req_input_len": 8186,
            "max_total_tokens": 65536,
            "max_running_requests": None,
            "page_size": 1,
            "disable_radix_cache": False,
            "schedule_policy": "lpm",
            "enable_deterministic_inference": False,
            "internal_states": [{"effective_max_running_requests_per_dp": 2048, "memory_usage": {}}],
        }
    )
    assert (info.version, info.dtype, info.attention) == ("0.5.9", "float32", "torch_native")
    assert (info.pool, info.longest, info.running, info.page) == (65536, 8186, 2048, 1)
    assert (info.prefix_cache, info.deterministic) == (True, False)


def test_info_where_the_scheduler_alone_knows():
    info = wire.Info.read(
        {
            "version": "0.4.6",
            "max_total_tokens": None,
            "disable_radix_cache": True,
            "schedule_policy": "fcfs",
            "internal_states": [{"max_total_num_tokens": 20000, "page_size": 64}],
        }
    )
    assert (info.pool, info.longest, info.page) == (20000, 20000, 64)
    assert not info.prefix_cache


def test_info_of_a_deterministic_server():
    told = {"max_total_num_tokens": 9, "max_req_input_len": 5, "enable_deterministic_inference": True}
    assert wire.Info.read(told).deterministic
    assert not wire.Info.read(told | {"enable_deterministic_inference": None}).deterministic


@pytest.mark.parametrize("told", [{}, {"internal_states": []}, {"internal_states": [{}]}, {"max_total_num_tokens": 0}])
def test_info_without_a_size_is_refused(told):
    with pytest.raises(EngineError, match="max_total_num_tokens"):
        wire.Info.read(told)


def test_decoder_room_refuses_what_would_end_a_server(decoder, tmp_path: Path):
    for ids in ((5, decoder.vocabulary), (-1, 5)):
        with pytest.raises(EngineError, match="outside the model's vocabulary"):
            decoder.room(Request("r", ids, Sampling(4), 0))
