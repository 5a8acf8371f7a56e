"""What is sent to SGLang's /generate, and every shape of reply that its releases and routers are known to give."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from dpr_mini.engines.base import EngineError, Request, SamplingParams
from dpr_mini.engines.decode import Decoder
from dpr_mini.engines.sglang import wire

EOS = 2


@pytest.fixture(scope="module")
def decoder(tiny_model) -> Decoder:
    return Decoder(tiny_model())


@pytest.fixture(scope="module")
def words(decoder):
    return lambda text: tuple(decoder.tokenizer.encode(text).ids)


def request(**sampling) -> Request:
    return Request("r", (5, 6, 7, 8), SamplingParams(20, **sampling), 77)


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
        lambda r: r | {"meta_info": r["meta_info"] | {"prompt_tokens": 4, "completion_tokens": 3}},
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


def test_a_stop_that_nobody_sees_is_an_error_and_not_half_an_answer(decoder, words):
    for reason in ("stop", {"type": "stop"}, {"type": "stop", "matched": None}):
        done = wire.completion(request(), reply(words("the cat"), reason), decoder)
        assert (done.finish, done.error) == ("error", "the server stopped without an end token or a stop string here")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"output_ids": [5, 10**6]}, "1000000 is no token of a vocabulary of"),
        ({"output_ids": [5, -1]}, "-1 is no token"),
        ({"output_ids": [1.0, 2.0]}, r"1\.0 is no token"),
        ({"output_ids": [True, False]}, "True is no token"),
        ({"output_ids": [5, None]}, "None is no token"),
        ({"output_ids": [[5], 6]}, r"\[5\] is no token"),
        ({"output_ids": ["5"]}, "'5' is no token"),
        ({"output_ids": "hello"}, "output_ids are no list: 'hello'"),
        ({"output_ids": {"0": 5}}, "output_ids are no list"),
        ({"output_ids": [5] * 5000}, "5000 tokens came back where 20 were asked for"),
        ({"output_ids": [5] * 21}, "21 tokens came back where 20"),
        ({"meta_info": {"cached_tokens": -1}}, "cached_tokens is -1, no count"),
        ({"meta_info": {"cached_tokens": "many"}}, "cached_tokens is 'many', no count"),
        ({"meta_info": {"cached_tokens": float("nan")}}, "cached_tokens is nan, no count"),
        ({"meta_info": {"cached_tokens": True}}, "cached_tokens is True, no count"),
        ({"meta_info": {"prompt_tokens": 3}}, "the server read 3 prompt tokens of 4"),  # it cut the prompt
        ({"meta_info": {"prompt_tokens": [4]}}, "prompt_tokens is .4., no count"),
    ],
)
def test_a_sample_that_is_not_what_was_asked_for_is_refused_in_one_line(decoder, change, says):
    good = reply([5, 6], {"type": "length"})
    odd = good | change | {"meta_info": good["meta_info"] | change.get("meta_info", {})}
    with pytest.raises(EngineError, match=f"request r: .*{says}") as caught:
        wire.completion(request(), odd, decoder)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 300


def test_no_more_tokens_than_the_servers_context_left_room_for(decoder):
    with pytest.raises(EngineError, match="3 tokens came back where 2 were asked for"):
        wire.completion(request(), reply([5, 6, 7], "length"), decoder, 2)
    assert wire.completion(request(), reply([5, 6], "length"), decoder, 2).ids == (5, 6)


def test_an_answer_to_another_request_is_no_sample(decoder):
    good = reply([5, 6], "length", id="mine")
    assert wire.completion(request(), good, decoder, 2, "mine").finish == "length"
    for theirs in ("yours", 7, ["mine"]):
        with pytest.raises(EngineError, match="the answer is another request's"):
            wire.completion(request(), reply([5, 6], "length", id=theirs), decoder, 2, "mine")


def test_ids_as_they_were_drawn_keep_their_end_token(decoder):
    assert wire.drawn(request(), [reply([5, EOS], "stop")], decoder, 2) == (5, EOS)
    with pytest.raises(EngineError, match="no token"):
        wire.drawn(request(), reply([5, 2**40], "stop"), decoder, 2)


def test_what_a_server_says_is_shown_on_one_line(decoder):
    escapes = "\x1b[2J\x1b]0;title\x07 two\nlines " + "x" * 5000
    for reason in ({"type": "abort", "message": escapes}, escapes, {"type": "abort", "message": [escapes] * 9}):
        error = wire.completion(request(), reply([5], reason), decoder).error
        assert error.isprintable() and 5 < len(error) <= 250, error
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    assert wire.shown(deep) == "something nested too deep to show"


def test_a_request_that_was_taken_back_says_so_in_every_release():
    for name in ("num_retractions", "total_retractions"):
        assert wire.retractions(request(), reply([5], "length", **{name: 2})) == 2
    for none in ({}, {"num_retractions": None}, {"num_retractions": 0, "total_retractions": None}):
        assert wire.retractions(request(), reply([5], "length", **none)) == 0
    with pytest.raises(EngineError, match="num_retractions is 'often', no count"):
        wire.retractions(request(), reply([5], "length", num_retractions="often"))


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


def test_info_of_0_5_23():
    """As a real 0.5.23 server on a CPU gave them at /server_info; those of no use here are left out."""
    info = wire.Info.read(
        {
            "version": "0.5.23",
            "model_path": "runs/x/logs/sglang-model",
            "dtype": "float32",
            "attention_backend": "torch_native",
            "context_length": None,
            "max_total_num_tokens": 65536,
            "max_req_input_len": 1018,
            "max_total_tokens": 65536,
            "max_running_requests": None,
            "page_size": 1,
            "disable_radix_cache": False,
            "schedule_policy": "lpm",
            "enable_deterministic_inference": False,
            "internal_states": [{"effective_max_running_requests_per_dp": 4096, "max_running_requests": None}],
        }
    )
    assert (info.version, info.pool, info.longest, info.running, info.page) == ("0.5.23", 65536, 1018, 4096, 1)
    assert (info.prefix_cache, info.deterministic, info.window) == (True, False, 128)


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


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"max_total_num_tokens": -5}, "max_total_num_tokens is -5, not a number above 0"),
        ({"max_total_num_tokens": float("nan")}, "is nan, not a number above 0"),
        ({"max_total_num_tokens": True}, "is True, not a number"),
        ({"max_total_num_tokens": [1]}, "is .1., not a number"),
        ({"max_total_num_tokens": 1e5}, "is 100000.0, not a number"),
        ({"internal_states": [5]}, "max_total_num_tokens"),
        ({"internal_states": 5}, "max_total_num_tokens"),
        ({"internal_states": {"0": 1}}, "max_total_num_tokens"),
        ({"max_total_num_tokens": 9, "max_req_input_len": -1}, "max_req_input_len is -1"),
        ({"max_total_num_tokens": 9, "max_running_requests": 0}, "max_running_requests is 0"),
        ({"max_total_num_tokens": 9, "page_size": "64"}, "page_size is '64'"),
        ({"max_total_num_tokens": 9, "disable_radix_cache": "false"}, "disable_radix_cache is 'false', neither"),
    ],
)
def test_info_that_is_none_is_refused_in_one_line(told, says):
    with pytest.raises(EngineError, match=says) as caught:
        wire.Info.read(told)
    assert str(caught.value).isprintable()


def test_what_a_server_calls_itself_is_short_and_printable():
    info = wire.Info.read({"max_total_num_tokens": 9, "version": "\x1b[2J" + "v" * 100_000, "dtype": {"a": "\n"}})
    assert info.version.isprintable() and len(info.version) <= 60 and info.dtype.isprintable()


# --- a router's workers -----------------------------------------------------------------------------------------------


def test_workers_of_a_gateway_and_of_older_routers():
    one = {"id": "3f", "url": "http://10.0.0.7:30000/", "model_id": "m", "worker_type": "regular", "is_healthy": True}
    one["connection_mode"] = "Http"
    told = {"workers": [one, one | {"url": "https://host/base"}, one], "total": 3, "stats": {"regular_count": 3}}
    assert wire.workers("http://r", told) == ("http://10.0.0.7:30000", "https://host/base")
    assert wire.workers("http://r", {"urls": ["http://a:1", "http://[::1]:2"]}) == ("http://a:1", "http://[::1]:2")


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"workers": []}, "the router at http://r has no workers"),
        ([], "does not name its workers"),
        (None, "does not name its workers"),
        ({"workers": {"a": 1}}, "does not name its workers"),
        ({"workers": ["http://a"] * 5000}, "does not name its workers"),
        ({"workers": [{"id": 1}]}, "None, which cannot be asked over HTTP"),
        ({"workers": [{"url": "grpc://a:1"}]}, "'grpc://a:1', which cannot be asked over HTTP"),
        ({"workers": [{"url": "http://a:30000@1"}]}, "which cannot be asked over HTTP"),  # a rank of data parallelism
        ({"urls": ["http://user:secret@a:1"]}, "which cannot be asked over HTTP"),
        ({"urls": ["file:///etc/passwd"]}, "which cannot be asked over HTTP"),
        ({"urls": ["http://"]}, "which cannot be asked over HTTP"),
        ({"urls": ["http://a:99999"]}, "which cannot be asked over HTTP"),
        ({"urls": ["http://a\r\nX: y"]}, "which cannot be asked over HTTP"),
        ({"urls": [7]}, "7, which cannot be asked over HTTP"),
        ({"workers": [{"url": "http://a:1", "worker_type": "prefill"}]}, "for 'prefill' alone"),
    ],
)
def test_workers_that_cannot_be_asked_are_one_line(told, says):
    with pytest.raises(EngineError, match=says) as caught:
        wire.workers("http://r", told)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 300


def test_decoder_room_refuses_what_would_end_a_server(decoder, tmp_path: Path):
    for ids in ((5, decoder.vocabulary), (-1, 5)):
        with pytest.raises(EngineError, match="outside the model's vocabulary"):
            decoder.room(Request("r", ids, SamplingParams(4), 0))
