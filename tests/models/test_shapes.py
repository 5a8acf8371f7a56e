"""Published shapes: their counts are transformers' and those that the models' authors state."""

import json
from dataclasses import replace

import pytest

from dpr_mini.models.folder import ModelError
from dpr_mini.models.shapes import SHAPES, config_for, from_config, read_shape, shape_of

# Billions of parameters, in all and without embeddings, as the model cards state them (rounded or cut there).
PUBLISHED = {
    "smollm2-135m": (0.135, None),
    "smollm2-360m": (0.36, None),
    "smollm2-1.7b": (1.71, None),
    "qwen2.5-0.5b": (0.49, 0.36),
    "qwen2.5-1.5b": (1.54, 1.31),
    "qwen2.5-3b": (3.09, 2.77),
    "qwen2.5-7b": (7.61, 6.53),
    "qwen3-0.6b": (0.6, 0.44),
    "qwen3-1.7b": (1.7, 1.4),
    "qwen3-4b": (4.0, 3.6),
    "qwen3-8b": (8.2, 6.95),
    "llama-3.2-1b": (1.23, None),
    "llama-3.2-3b": (3.21, None),
    "llama-3.1-8b": (8.03, None),
}
EXACT = {"qwen2.5-7b": 7_615_616_512, "llama-3.2-1b": 1_235_814_400}  # of the repositories' safetensors metadata


@pytest.mark.parametrize("name", PUBLISHED)
def test_counts_are_the_published_ones(name):
    shape, (total, without) = SHAPES[name], PUBLISHED[name]
    assert shape.parameters() / 1e9 == pytest.approx(total, abs=0.03 if total > 1.6 else 0.01)
    if without:
        rest = shape.parameters() - shape.parameters("embedding", "head")
        assert rest / 1e9 == pytest.approx(without, abs=0.04 if without > 1.35 else 0.01)
    assert shape.parameters() == EXACT.get(name, shape.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SHAPES))
def test_counts_are_those_of_transformers(name):
    """On the meta device, with two layers: the others are alike."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    short = replace(SHAPES[name], layers=2)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**short.config()))
    found = {n: p.numel() for n, p in model.named_parameters()}
    assert sum(found.values()) == short.parameters()
    assert sorted(found.values()) == sorted(n for _, n in short.tensors())
    linear = sum(
        m.weight.numel() for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and n != "lm_head"
    )
    assert linear == short.parameters("linear")


def test_a_name_finds_its_shape_in_any_spelling():
    assert shape_of("Qwen/Qwen2.5-7B-Instruct") is SHAPES["qwen2.5-7b"] is shape_of("qwen2.5-7b")
    assert shape_of("meta-llama/Meta-Llama-3.1-8B-Instruct") is SHAPES["llama-3.1-8b"]
    assert shape_of("Qwen/Qwen3-8B-Base") is SHAPES["qwen3-8b"]
    assert shape_of("somebody/Qwen2.5-7B-Instruct") is None  # another's model of that name may be anything
    assert shape_of("Qwen/Qwen2.5-14B") is None and config_for("Qwen/Qwen2.5-14B") is None


def test_a_config_says_its_shape(tmp_path):
    for shape in SHAPES.values():
        assert from_config(shape.config() | {"head_dim": shape.head_dim}) == shape
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mamba"}))
    assert read_shape(tmp_path) is None


@pytest.mark.parametrize(
    "told",
    [
        "[]",
        "5",
        "[" * 9000,
        '{"model_type": "llama", "vocab_size": "x", "hidden_size": 8, '
        '"intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}',
        '{"model_type": "llama", "vocab_size": 8, "hidden_size": 8, '
        '"intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 0}',
        '{"model_type": "llama", "vocab_size": 8, "hidden_size": "8", '
        '"intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}',
    ],
)
def test_what_states_no_shape_names_the_file(tmp_path, told):
    (tmp_path / "config.json").write_text(told)
    with pytest.raises(ModelError, match=r"config\.json: "):
        read_shape(tmp_path)
