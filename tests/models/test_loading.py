"""What is seen only once the weights are in memory, by the engine and the trainer alike; and what a training leaves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from dpr_mini.engines.base import EngineError
from dpr_mini.engines.hf import HfEngine
from dpr_mini.models.check import check, expected, read_config
from dpr_mini.models.folder import ModelError, tensors
from dpr_mini.models.gguf import ExportError, write_gguf
from dpr_mini.models.loading import load_causal_lm
from dpr_mini.recipe import TrainConfig
from dpr_mini.training import TrainError
from dpr_mini.training.build import load, save_model

GEMMA = {"head_dim": 16}  # a family whose tensors models/check.py does not know


@pytest.fixture
def copied(tiny_model, tmp_path):
    """copy(kind, tied, **config) -> a folder of its own, to be damaged."""

    def copy(*args: object, **config: object) -> Path:
        folder = tmp_path / "m"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(tiny_model(*args, **config), folder)
        return folder

    return copy


def change(folder: Path, by) -> None:
    found = load_file(folder / "model.safetensors")
    by(found)
    save_file(found, folder / "model.safetensors", {"format": "pt"})


def put(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def refused(folder: Path, match: str) -> None:
    """By the engine and by the trainer, in one line."""
    with pytest.raises(EngineError, match=match), HfEngine(folder):
        pass
    with pytest.raises(TrainError, match=match):
        load(folder, TrainConfig(dtype="float32"), torch.float32, torch.device("cpu"))


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("llama", {}),
        ("llama", {"attention_bias": True, "mlp_bias": True}),
        ("qwen2", {}),
        ("qwen3", {"head_dim": 32}),
        ("qwen3", {"attention_bias": True, "head_dim": 16}),
    ],
)
@pytest.mark.parametrize("tied", [True, False])
def test_the_known_families_are_those_of_transformers(tiny_model, kind, config, tied):
    folder = tiny_model(kind, tied, **config)
    check(folder)
    assert dict(expected(read_config(folder))) == {name: tensor.shape for name, (_, tensor) in tensors(folder).items()}


def test_a_family_that_is_not_known_is_checked_by_transformers_report(copied):
    folder = copied("gemma", True, **GEMMA)
    load_causal_lm(folder, dtype=torch.float32)
    change(folder, lambda t: t.pop("model.norm.weight"))
    refused(folder, "model.norm.weight is missing")
    folder = copied("gemma", True, **GEMMA)
    change(folder, lambda t: t.update({"model.more": torch.ones(2)}))
    refused(folder, "model.more has no place")
    folder = copied("gemma", True, **GEMMA)
    change(folder, lambda t: t.update({"model.norm.weight": torch.ones(3)}))
    refused(folder, "model.norm.weight|cannot load")
    folder = copied("gemma", True, **GEMMA)
    change(folder, lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"] + 1}))
    refused(folder, "a head of its own")
    folder = copied("gemma", True, **GEMMA)
    put(folder, num_hidden_layers=10**6)
    refused(folder, "num_hidden_layers is 1000000")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite(copied, tmp_path, value):
    folder = copied()
    change(folder, lambda t: t["model.norm.weight"].fill_(value))
    refused(folder, "model.norm.weight holds values that are not finite")
    with pytest.raises(ExportError, match=r"model\.norm\.weight"):
        write_gguf(folder, tmp_path / "m.gguf")
    assert not list(tmp_path.glob("*.gguf*"))


def test_values_that_the_dtype_cannot_hold(copied):
    folder = copied()
    change(folder, lambda t: t["model.norm.weight"].fill_(1e30))
    load_causal_lm(folder, dtype=torch.float32)
    with pytest.raises(ModelError, match=r"not finite .* in torch\.float16"):
        load_causal_lm(folder, dtype=torch.float16)


def test_whatever_transformers_raises_is_one_line(copied):
    for values, match in (
        ({"model_type": "nosuch"}, "nosuch"),
        ({"model_type": "t5"}, "cannot load"),
        ({"hidden_act": "nosuch"}, "cannot load"),
        ({"pad_token_id": 10**6}, "cannot load"),
        ({"_attn_implementation": "nosuch"}, "cannot load"),
    ):
        folder = copied()
        put(folder, **values)
        with pytest.raises(ModelError, match=match) as caught:
            load_causal_lm(folder, dtype=torch.float32)
        assert str(caught.value).isprintable()


def test_code_beside_the_weights_is_not_run_and_not_passed_on(copied, tmp_path):
    folder = copied()
    (folder / "evil.py").write_text(
        f"open({str(tmp_path / 'pwned')!r}, 'w')\nfrom transformers import LlamaConfig as C\n"
    )
    (folder / "tokenizer_more.pt").write_bytes(b"a pickle")
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "rag.jinja").write_text("r")
    put(folder, auto_map={"AutoConfig": "evil.C"})
    model = load(folder, TrainConfig(dtype="float32"), torch.float32, torch.device("cpu"))
    save_model(tmp_path / "out", model, folder, torch.float32)
    assert not (tmp_path / "pwned").exists()
    assert "auto_map" not in json.loads((tmp_path / "out" / "config.json").read_text())
    written = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*")}
    assert "additional_chat_templates/rag.jinja" in written and not {"evil.py", "tokenizer_more.pt"} & written
    check(tmp_path / "out")
    assert len({p.stat().st_mode for p in (tmp_path / "out").iterdir() if p.suffix in (".json", ".safetensors")}) == 1


def test_a_model_that_is_not_finite_is_not_saved(copied, tmp_path):
    folder = copied()
    model = load(folder, TrainConfig(dtype="float32"), torch.float32, torch.device("cpu"))
    with torch.no_grad():
        model.model.norm.weight.fill_(1e30)
    with pytest.raises(TrainError, match=r"norm\.weight is not finite .* in torch\.float16"):
        save_model(tmp_path / "out", model, folder, torch.float16)
    assert not (tmp_path / "out").exists()
