"""The decoder layer's forward that apply() puts in: the sum fused with its norm, and when not; and which models."""

import copy
import importlib

import pytest
import torch
from dpr_kernels import apply_layers as layers
from dpr_kernels.apply import apply
from dpr_kernels.offload import offload_checkpoints
from tiny_models import FAMILIES, batch, build, close, every, identical, step
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

NORM = "post_attention_layernorm"
OFF = dict.fromkeys(("rms_norm", "add_rms_norm", "swiglu", "rope", "attention"))


@pytest.fixture
def sums(monkeypatch):
    """The calls of add_rms_norm: the shapes of the sums."""
    calls, real = [], layers.add_rms_norm_op
    monkeypatch.setattr(layers, "add_rms_norm_op", lambda x, *a, **k: calls.append(x.shape) or real(x, *a, **k))
    return calls


# --- the sum and its norm ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_fused_sum_is_the_sum_and_its_norm_to_the_last_bit(family, dtype, sums):
    model, inputs = build(family).to(dtype), batch()
    with apply(model, **every("reference", add_rms_norm=None)):
        want = step(model, **inputs)
        assert not sums
    with apply(model, **every("reference")) as applied:
        assert applied.replaced["add_rms_norm"] == ["model.layers.0", "model.layers.1"]
        assert identical(step(model, **inputs), want) and len(sums) == 2
    with apply(model, **{**OFF, "add_rms_norm": "reference"}):  # the layer alone, around transformers' own parts
        step(model, **inputs)
    assert len(sums) == 4


def test_the_default_of_the_sum_is_what_the_norms_have(device):
    model = build("llama", device)
    for rms_norm, impl in ((None, None), ("torch", None), ("reference", "reference"), ("auto", "auto")):
        with apply(model, rms_norm=rms_norm) as applied:
            assert applied.impls.get("add_rms_norm") == impl
            assert ("add_rms_norm" in str(applied)) == (impl is not None)


@pytest.mark.parametrize("family", FAMILIES)
def test_checkpoints_are_still_transformers_own(family, sums):
    """The layer is run again in the backward, by whatever checkpoints; a cache is left out as ever."""
    model, inputs = build(family), batch()
    with apply(model, **every("reference")):
        want = step(model, **inputs)
        for reentrant in (True, False):
            model.gradient_checkpointing_enable({"use_reentrant": reentrant})
            sums.clear()
            assert identical(step(model, **inputs), want)
            assert len(sums) == 4, f"reentrant {reentrant}"
            sums.clear()
            with torch.no_grad():
                model(**inputs)
            assert len(sums) == 2
        with offload_checkpoints(model, min_bytes=0) as handle:
            sums.clear()
            assert identical(step(model, **inputs), want)
            assert len(sums) == 4 and handle.offloader.moved_bytes
    options = {"input_ids": inputs["input_ids"], "use_cache": True}
    cached = []
    for ops in (OFF, every("reference", attention=None)):
        with apply(model, **ops):
            out = model(**options)
            cache = out.cache if hasattr(out, "cache") else out.past_key_values
            cached.append(0 if cache is None else cache.get_seq_length())
    assert cached[0] == cached[1]
    model.gradient_checkpointing_disable()


def test_hooks_on_the_norm_fire_and_are_announced(device, sums):
    model, inputs = build("qwen3", device), batch(device)
    norm, seen = model.model.layers[1].get_submodule(NORM), []
    with apply(model, **every("reference")):
        want = step(model, **inputs)
        for register in (
            lambda: norm.register_forward_hook(lambda m, x, y: seen.append(y.shape)),
            lambda: norm.register_forward_pre_hook(lambda m, x: seen.append(x[0].shape)),
            lambda: norm.register_full_backward_hook(lambda m, x, y: seen.append(y[0].shape)),
            lambda: register_module_forward_hook(lambda m, x, y: seen.append(y.shape) if m is norm else None),
        ):
            sums.clear(), seen.clear()
            hook = register()
            got = step(model, **inputs)
            hook.remove()
            close("hooked", got, want)
            assert len(seen) == 1 and len(sums) in (0, 1), (seen, sums)  # a hook of all modules: no sum is fused
        sums.clear()
        assert identical(step(model, **inputs), want) and len(sums) == 2
    hook = norm.register_forward_hook(lambda m, x, y: seen.append(y.shape))
    with apply(model, **every("reference")) as applied:
        assert applied.replaced["add_rms_norm"] == ["model.layers.0"]
        assert applied.skipped == {"add_rms_norm": ["model.layers.1"]}
        assert "add_rms_norm not in 1, whose norm has hooks" in str(applied)
    hook.remove()


def test_what_takes_the_norms_place_is_not_passed_by(device, sums):
    class Twice(nn.Module):
        def __init__(self, norm):
            super().__init__()
            self.norm = norm

        def forward(self, x):
            return 2 * self.norm(x)

    model, inputs = build("llama", device), batch(device)
    layer = model.model.layers[0]
    twin = copy.deepcopy(model)
    twin.model.layers[0].post_attention_layernorm = Twice(twin.model.layers[0].post_attention_layernorm)
    want = model(**inputs).loss, twin(**inputs).loss
    with apply(model, **every("reference")):
        kept = layer.post_attention_layernorm
        layer.post_attention_layernorm = Twice(kept)
        assert torch.allclose(model(**inputs).loss, want[1], rtol=1e-5) and len(sums) == 1
        layer.post_attention_layernorm = kept
        ours = kept.forward
        kept.forward = lambda x: 2 * ours(x)
        assert torch.allclose(model(**inputs).loss, want[1], rtol=1e-5) and len(sums) == 2
        kept.forward = ours
        assert torch.allclose(model(**inputs).loss, want[0], rtol=1e-5) and len(sums) == 4
    assert not torch.allclose(*want, rtol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_hidden_states_tuples_and_arguments_by_place(family, device):
    model, inputs = build(family, device).eval(), batch(device)
    with torch.no_grad():
        want = model(**inputs, output_hidden_states=True)
        with apply(model, **every("reference")):
            got = model(**inputs, output_hidden_states=True)
            as_tuple = model(**inputs, output_hidden_states=True, return_dict=False)
        assert len(got.hidden_states) == len(want.hidden_states) == 3
        for a, b, c in zip(got.hidden_states, want.hidden_states, as_tuple[-1], strict=True):
            torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-5)
            assert a.equal(c)
        x, at = want.hidden_states[0], torch.arange(want.hidden_states[0].shape[1], device=device)[None]
        turns, layer = model.model.rotary_emb(x, at), model.model.layers[0]
        alone = layer(x, None, at, position_embeddings=turns)
        with apply(model, **every("reference", attention=None)):
            torch.testing.assert_close(layer(x, None, at, None, False, turns), alone, atol=2e-5, rtol=1e-5)


def test_float32_masters_under_autocast_are_left_to_torch(device, sums):
    """The sum is of bfloat16 and float32: one dtype comes out wrong, or an error, if it were fused."""
    model, inputs = build("llama", device), batch(device)
    with torch.autocast(device.type, torch.bfloat16), apply(model, **every("reference")):
        assert model(**inputs).loss.isfinite() and not sums
    with torch.autocast(device.type, torch.bfloat16), apply(model.bfloat16(), **every("reference")):
        assert model(**inputs).loss.isfinite() and len(sums) == 2


@pytest.mark.parametrize("impl", ["reference", "triton"])
@pytest.mark.parametrize("family", FAMILIES)
def test_inference_mode_and_autocast(family, impl, device):
    model, inputs = build(family, device).eval(), batch(device)
    half = torch.autocast(device.type, torch.bfloat16)
    with torch.inference_mode():
        want, exact = model(**inputs), copy.deepcopy(model).double()(**inputs)
        with half:
            low = model(**inputs)
        with apply(model, **every(impl)):
            got = model(**inputs)
            with half:
                ours = model(**inputs)
    torch.testing.assert_close(got.logits, want.logits, atol=1e-4, rtol=1e-4)
    off = [(x.logits.double() - exact.logits).square().mean().sqrt().item() for x in (ours, low)]
    print(f"{family} {impl}: under autocast off by {off[0]:.2e}, transformers by {off[1]:.2e}")
    assert 0 < off[0] <= 1.5 * off[1]


# --- which models -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["RMSNorm", "MLP", "Attention", "DecoderLayer", "ForCausalLM"])
def test_a_class_counts_by_the_forward_that_it_runs(name):
    """A subclass is as good as its class until it overrides forward; transformers wraps a decoder layer's each time."""
    kind = getattr(importlib.import_module("transformers.models.qwen3.modeling_qwen3"), f"Qwen3{name}")
    model = build("qwen3")
    module = next(m for m in model.modules() if isinstance(m, kind))
    assert layers.runs(module, kind) and not layers.runs(nn.Linear(1, 1), kind)
    for base in (kind, type("Sharded", (kind,), {})):
        module.__class__ = type("Deeper", (base,), {})
        assert layers.runs(module, kind)
        with apply(model, linear_cross_entropy="reference") as applied:
            assert len(applied.replaced["add_rms_norm"]) == len(applied.replaced["swiglu"]) == 2
    module.__class__ = type("Foreign", (kind,), {"forward": lambda self, *a, **k: a[0]})
    assert layers.runs(module, kind) is False
    with pytest.raises(ValueError, match=f"Foreign.* forward of its own.* {kind.__name__}'s"):
        apply(model)
    assert not any("forward" in m.__dict__ for m in model.modules())


SMALL = {
    "vocab_size": 61, "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 1, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64, "pad_token_id": 0,
}  # fmt: skip
ROUTED = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
OTHERS = {
    "qwen2_moe": (ROUTED | {"shared_expert_intermediate_size": 16}, "Qwen2MoeForCausalLM.*experts behind a router"),
    "qwen3_moe": (ROUTED, "Qwen3MoeForCausalLM.*experts behind a router"),
    "mixtral": ({"num_local_experts": 4}, "MixtralForCausalLM.*experts behind a router"),
    "olmoe": (ROUTED, "OlmoeForCausalLM.*experts behind a router"),
    "gemma": ({}, "GemmaForCausalLM.*1 \\+ weight in float32.*GELU"),
    "gemma2": ({}, "Gemma2ForCausalLM.*1 \\+ weight in float32.*GELU"),
    "gemma3_text": ({}, "Gemma3ForCausalLM.*1 \\+ weight in float32.*GELU"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_families_are_refused_by_name_with_the_reason(kind):
    from transformers import AutoConfig, AutoModelForCausalLM

    keys, said = OTHERS[kind]
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SMALL, **keys))
    with pytest.raises(ValueError, match=f"families Llama, Qwen2, Qwen3 of transformers, not {said}"):
        apply(model)
    assert not any("forward" in m.__dict__ for m in model.modules())
