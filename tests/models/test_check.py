"""A model folder looked at before it is used: each kind of damage is one line that names the file. Without torch."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from places import SMOKE_MODEL
from safetensors.numpy import load_file, save_file

from dpr_mini.engines.base import EngineError
from dpr_mini.engines.decode import Decoder
from dpr_mini.messages import LONGEST
from dpr_mini.models import check as checking
from dpr_mini.models import tokenizer
from dpr_mini.models.check import check, check_weights
from dpr_mini.models.folder import ModelError, finite, tensors, weight_files
from dpr_mini.models.gguf import gguf_digest, why_not_exportable
from dpr_mini.models.resolve import model_digest, resolve_model

EMBEDDING, HEAD, NORM = "model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the smoke model."""
    folder = tmp_path / "m"
    shutil.copytree(SMOKE_MODEL, folder, ignore=shutil.ignore_patterns("*.gguf", "README.md"))
    return folder


def put(path: Path, **values: object) -> None:
    """Set keys of a JSON file; ... removes one."""
    told = json.loads(path.read_text()) | values
    path.write_text(json.dumps({k: v for k, v in told.items() if v is not ...}))


def change(folder: Path, by: Callable[[dict], object]) -> None:
    found = load_file(folder / "model.safetensors")
    by(found)
    save_file(found, folder / "model.safetensors", {"format": "pt"})


def header(folder: Path, by: Callable[[dict], object]) -> None:
    """Write the header anew as `by` changes it."""
    data = (folder / "model.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    told = json.loads(data[8 : 8 + length])
    by(told)
    text = json.dumps(told).encode()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])


def refused(folder: Path, *words: str) -> str:
    """The one line that refuses the folder, for an engine, for a hub's or a user's model, and where it is not read."""
    with pytest.raises(ModelError) as caught:
        check(folder)
    said = str(caught.value)
    assert said.isprintable() and len(said) <= LONGEST
    assert str(folder) in said and all(word in said for word in words), said
    with pytest.raises(EngineError):
        Decoder(folder)
    with pytest.raises(ModelError):
        resolve_model(str(folder))
    assert why_not_exportable(folder)
    return said


def shards(folder: Path) -> dict[str, str]:
    """Split the weights in two; the index's weight_map."""
    found, where = load_file(folder / "model.safetensors"), {}
    (folder / "model.safetensors").unlink()
    for number, names in enumerate((sorted(found)[::2], sorted(found)[1::2]), 1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({name: found[name] for name in names}, folder / file, {"format": "pt"})
        where |= dict.fromkeys(names, file)
    index(folder, where)
    return where


def index(folder: Path, where: dict[str, object]) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))


def test_the_smoke_model_and_its_shards_are_whole(model):
    check(model)
    before = {name: tensor.shape for name, (_, tensor) in tensors(model).items()}
    shards(model)
    check(model)
    assert {name: tensor.shape for name, (_, tensor) in tensors(model).items()} == before


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda t: t.pop(NORM), [NORM, "missing"]),
        (lambda t: [t.pop(k) for k in [*t][:5]], ["and 4 others", "missing"]),
        (lambda t: t.update({"model.layers.3.input_layernorm.weight": t[NORM]}), ["layers.3", "no place"]),
        (lambda t: t.update({NORM: np.ones(7, np.float32)}), [NORM, "shape [7]", "[128]"]),
        (lambda t: t.update({k: v.astype(np.int8) for k, v in t.items()}), ["I8", "floating"]),
        (lambda t: t.update({NORM: np.ones(128, bool)}), [NORM, "BOOL"]),
    ],
)
def test_tensors_that_are_missing_unexpected_or_odd(model, damage, words):
    change(model, damage)
    refused(model, "model.safetensors", *words)


def test_buffers_that_every_reader_makes_anew_are_no_matter(model):
    change(model, lambda t: t.update({"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(16, np.float32)}))
    check(model)


@pytest.mark.parametrize(
    "content",
    [
        lambda b: b"",
        lambda b: b[:7],
        lambda b: b[:-1000],
        lambda b: b + b"x",
        lambda b: (2**60).to_bytes(8, "little") + b"{}",
        lambda b: (2).to_bytes(8, "little") + b"[]",
        lambda b: (2).to_bytes(8, "little") + b"\xff\xff",
        lambda b: b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 2\n",
        lambda b: b"\x80\x04\x95 a pickle" * 9,
    ],
)
def test_files_that_are_torn_or_no_safetensors(model, content):
    path = model / "model.safetensors"
    path.write_bytes(content(path.read_bytes()))
    refused(model, "model.safetensors")


@pytest.mark.parametrize(
    "damage",
    [
        lambda h: h[NORM].update(data_offsets=[0, 512]),
        lambda h: h[NORM].update(data_offsets=[5]),
        lambda h: h[NORM].update(data_offsets=[-512, 0]),
        lambda h: h[NORM].update(shape=[2**70]),
        lambda h: h[NORM].update(shape=[True]),
        lambda h: h[NORM].update(shape="x"),
        lambda h: h[NORM].update(dtype=5),
        lambda h: h.update({NORM: None}),
    ],
)
def test_headers_that_lie(model, damage):
    header(model, damage)
    refused(model, "model.safetensors", "tensor ")


@pytest.mark.parametrize(
    "kind", [os.mkfifo, Path.mkdir, lambda p: p.symlink_to("/nowhere"), lambda p: p.symlink_to("/dev/zero")]
)
@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors", "tokenizer_config.json"])
def test_what_is_no_regular_file_is_not_waited_for(model, file, kind):
    (model / file).unlink()
    kind(model / file)
    refused(model, file)


def test_a_tie_flag_and_the_file_say_the_same(model):
    put(model / "config.json", tie_word_embeddings=...)
    refused(model, HEAD, '"tie_word_embeddings": true')
    put(model / "config.json", tie_word_embeddings=True)
    change(model, lambda t: t.update({HEAD: t[EMBEDDING].copy()}))
    check(model)  # a copy of the embedding is no other head
    change(model, lambda t: t[HEAD].__setitem__((0, 0), 7))
    refused(model, HEAD, "differs", '"tie_word_embeddings": false')
    put(model / "config.json", tie_word_embeddings=False)
    check(model)
    put(model / "config.json", tie_word_embeddings="yes")
    refused(model, "tie_word_embeddings", "yes")


def test_a_second_copy_of_the_weights_is_overlooked_by_all(model):
    single = model / "model.safetensors"
    shutil.copy(single, model / "consolidated.safetensors")
    assert weight_files(model) == [single]
    check(model)
    where = shards(model)
    assert [p.name for p in weight_files(model)] == sorted(set(where.values()))
    check(model)


def test_an_index_leads_nowhere_else(model):
    where = shards(model)
    file = next(iter(where.values()))
    for odd in ("w.bin", "../m/" + file, "/etc/passwd", "sub/" + file, "w.safetensors.bin", 5, None, "..safetensors/x"):
        (model / "w.bin").write_bytes(b"pickle")
        index(model, where | {"model.x": odd})
        assert "pickle" in refused(model)
        (model / "w.bin").unlink()
        assert "only *.safetensors files of the folder" in refused(model, "index.json", "model.x")
    index(model, where | {"model.x": "gone.safetensors"})
    refused(model, "gone.safetensors", "not there")
    index(model, where | {"model.x": file})
    refused(model, "model.x", "is not in")
    for content in ("[]", "{}", '{"weight_map": []}', '{"weight_map": {}}', "{", "\xff"):
        (model / "model.safetensors.index.json").write_text(content, encoding="latin-1")
        refused(model, "index.json")


@pytest.mark.parametrize("file", ["config.json", "generation_config.json", "tokenizer_config.json"])
@pytest.mark.parametrize(
    "content", [b"", b"null", b"[]", b"5", b"{", b"[" * 9000, b"\xff\xfe{}", b'{"a": ' + b"1" * 9000 + b"}"]
)
def test_json_that_is_none(model, file, content):
    (model / file).write_bytes(content)
    refused(model, file)


def test_a_byte_order_mark_is_read_over(model):
    for file in ("config.json", "tokenizer_config.json", "tokenizer.json"):
        (model / file).write_bytes(b"\xef\xbb\xbf" + (model / file).read_bytes())
    check(model)


@pytest.mark.parametrize(
    ("key", "values"),
    {
        "vocab_size": [0, -1, 10**9, "x", 5, None, 410.0, True],
        "hidden_size": [0, 10**9, 65, ...],
        "num_hidden_layers": [-1, 10**6, 10**12, 99, 2],
        "num_attention_heads": [0, 7],
        "num_key_value_heads": [0, 3],
        "max_position_embeddings": [0, "x", ..., 10**12],
        "model_type": [None, 5, ...],
        "rms_norm_eps": ["x", -1, 1e999],
        "rope_parameters": [5, {"rope_theta": -1}, {"rope_theta": "x"}],
        "hidden_act": [5],
        "text_config": [[1], json.loads((SMOKE_MODEL / "config.json").read_text())],
        "eos_token_id": [10**9, [], [1, None], -1, "x"],
    }.items(),
)
def test_values_that_make_no_model(model, key, values):
    put(model / "generation_config.json", eos_token_id=...)
    for value in values:
        shutil.copy(SMOKE_MODEL / "config.json", model)
        put(model / "config.json", **{key: value})
        with pytest.raises(EngineError, match=r"(config\.json|tensor)"):
            Decoder(model)


def test_code_and_weights_from_elsewhere(model):
    for values in (
        {"_attn_implementation": "org/kernel"},
        {"attn_implementation": {"": "org/kernel"}},
        {"_attn_implementation_internal": "org/kernel@v1:f"},
        {"sub": [{"_experts_implementation": "org/kernel"}]},
        {"quantization_config": {"quant_method": "x"}},
        {"quantization_config": 5},
        {"transformers_weights": "other.safetensors"},
    ):
        shutil.copy(SMOKE_MODEL / "config.json", model)
        put(model / "config.json", **values)
        refused(model, "config.json", next(reversed(values)) if "sub" not in values else "_experts")
    shutil.copy(SMOKE_MODEL / "config.json", model)
    put(model / "config.json", auto_map={"AutoConfig": "evil.C"}, _attn_implementation="sdpa", quantization_config=None)
    check(model)  # known to transformers: nobody reads auto_map
    (model / "adapter_config.json").write_text("{}")
    refused(model, "adapter_config.json", "merge")


def test_pickles_are_named_where_there_is_nothing_else(model):
    (model / "pytorch_model.bin").write_bytes(b"")
    check(model)
    (model / "model.safetensors").unlink()
    refused(model, "pytorch_model.bin", "pickle")


# ---- tokenizers


def test_a_tokenizer_that_is_not_the_models(model):
    told = json.loads((model / "tokenizer.json").read_text())
    one = told["added_tokens"][0]
    told["added_tokens"].append(one | {"id": 410, "content": "<new>"})
    (model / "tokenizer.json").write_text(json.dumps(told))
    refused(model, "tokenizer.json", "'<new>'", "410")
    check_weights(model)
    for content in ("", "[]", "x", "{}", "null", '{"model": {}}'):
        (model / "tokenizer.json").write_text(content)
        refused(model, "tokenizer.json")
    (model / "tokenizer.json").unlink()
    refused(model, "tokenizer.json")
    (model / "tokenizer.model").write_bytes(b"x")
    refused(model, "tokenizer.model", "save_pretrained")


def test_truncation_and_padding_of_the_file_are_switched_off(model):
    told = json.loads((model / "tokenizer.json").read_text())
    told["truncation"] = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    told["padding"] = {
        "strategy": {"Fixed": 10**6}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0,
        "pad_token": "x",
    }  # fmt: skip
    (model / "tokenizer.json").write_text(json.dumps(told))
    usual = tokenizer.load(SMOKE_MODEL).encode("2 + 2 = 4").ids
    assert tokenizer.load(model).encode("2 + 2 = 4").ids == usual and len(usual) > 2


@pytest.mark.parametrize(
    "normaliser",
    [
        {"type": "Sequence", "normalizers": [{"type": "Replace", "pattern": {"Regex": "."}, "content": "a" * 100}] * 4},
        {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 2000},
        {"type": "Prepend", "prepend": "a" * 10**6},
    ],
)
def test_a_normaliser_that_multiplies_text_is_refused_before_it_does(model, normaliser):
    told = json.loads((model / "tokenizer.json").read_text())
    (model / "tokenizer.json").write_text(json.dumps(told | {"normalizer": normaliser}))
    refused(model, "tokenizer.json", "normaliser")


def test_a_decoder_that_multiplies_text_is_refused_before_it_does(model):
    told = json.loads((model / "tokenizer.json").read_text())
    one = {"type": "Replace", "pattern": {"Regex": "."}, "content": "a" * 1000}
    for decoder in (one | {"content": "a" * 2000}, {"type": "Sequence", "decoders": [one, one]}):
        (model / "tokenizer.json").write_text(json.dumps(told | {"decoder": decoder}))
        refused(model, "tokenizer.json", "decoder")
    for decoder in (
        None,
        {"type": "Fuse"},
        {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
    ):
        (model / "tokenizer.json").write_text(json.dumps(told | {"decoder": decoder}))
        check(model)


def test_the_usual_normalisers_pass(model):
    told = json.loads((model / "tokenizer.json").read_text())
    for kind in (
        {"type": "NFC"},
        {"type": "NFKC"},
        {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "_"}, {"type": "Lowercase"}]},
        {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
    ):
        (model / "tokenizer.json").write_text(json.dumps(told | {"normalizer": kind}))
        check(model)


def test_special_tokens_are_texts_and_come_from_where_transformers_takes_them(model):
    path = model / "tokenizer_config.json"
    put(path, eos_token={"content": "<|im_end|>", "special": True})
    assert tokenizer.options(model)["eos_token"] == "<|im_end|>"
    for odd in ({}, 5, ["x"], {"content": 5}):
        put(path, eos_token=odd)
        refused(model, "tokenizer_config.json", "eos_token")
    put(path, eos_token=...)
    before = model_digest(model)
    (model / "special_tokens_map.json").write_text('{"eos_token": "<|im_end|>"}')
    assert tokenizer.options(model)["eos_token"] == "<|im_end|>"
    assert model_digest(model) != before, "what is read counts"
    put(path, added_tokens_decoder={})
    assert tokenizer.options(model).get("eos_token") is None


# ---- values, and what is remembered


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_values_that_are_not_finite_are_found_in_the_file(model, value, dtype):
    change(model, lambda t: t.update({k: v.astype(dtype) for k, v in t.items()}))
    finite(model)
    change(model, lambda t: t[EMBEDDING].__setitem__((-1, -1), value))
    with pytest.raises(ModelError, match=r"embed_tokens.* not finite"):
        finite(model)


def test_bfloat16_is_looked_at_as_bits(model):
    def halved(head: dict) -> None:
        at = 0
        for entry in (e for k, e in head.items() if k != "__metadata__"):
            size = (entry["data_offsets"][1] - entry["data_offsets"][0]) // 2
            entry |= {"dtype": "BF16", "data_offsets": [at, at + size]}
            at += size

    path = model / "model.safetensors"
    header(model, halved)
    length = 8 + int.from_bytes(path.read_bytes()[:8], "little")
    size = sum(tensor.size for _, tensor in _tensors_of(path).values())
    for bits, fine in ((b"\x80\x3f", True), (b"\x7f\x7f", True), (b"\x80\x7f", False), (b"\xc0\xff", False)):
        path.write_bytes(path.read_bytes()[:length] + bits * (size // 2))
        if fine:
            finite(model)
        else:
            with pytest.raises(ModelError, match="not finite"):
                finite(model)


def _tensors_of(path: Path) -> dict:
    """The header's entries, of a file whose size may not be right yet."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    end = max(e["data_offsets"][1] for k, e in json.loads(data[8 : 8 + length]).items() if k != "__metadata__")
    path.write_bytes(data[: 8 + length + end])
    return tensors(path.parent)


def test_a_second_look_reads_nothing_and_a_change_is_seen(model, monkeypatch):
    check(model)
    with monkeypatch.context() as patch:
        patch.setattr(checking, "tensors", lambda *_: pytest.fail("read an unchanged folder again"))
        check(model)
    times = (model / "model.safetensors").stat()
    header(model, lambda h: h.pop(NORM))
    os.utime(model / "model.safetensors", ns=(times.st_atime_ns, times.st_mtime_ns))
    refused(model)


def test_a_gguf_that_is_none_has_no_digest(tmp_path):
    path = tmp_path / "x.gguf"
    for content in (b"", b"dpr_mini.source_digest", b"dpr_mini.source_digest" + b"\xff" * 12, b"\xff" * 5000):
        path.write_bytes(content)
        assert len(gguf_digest(path)) < 4096


def test_what_another_reader_may_see_is_the_model_and_no_more(model):
    single = {p.name for p in model.iterdir()}
    for name in ("consolidated.safetensors", "pytorch_model.bin", "evil.py", "m.gguf", "model.safetensors.index.json"):
        (model / name).write_bytes(b"x")
    assert {p.name for p in checking.passed_on(model)} == single
    (model / "model.safetensors.index.json").unlink()
    where = shards(model)
    passed = {p.name for p in checking.passed_on(model)}
    assert passed == single - {"model.safetensors"} | set(where.values()) | {"model.safetensors.index.json"}
