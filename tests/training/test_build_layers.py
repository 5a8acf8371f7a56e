"""Which operators of dpr_kernels each training backend puts into the model."""

import dpr_kernels
import pytest
import torch
from transformers import LlamaConfig

from dpr_mini import recipe
from dpr_mini.training import build

OPS = ("rms_norm", "add_rms_norm", "swiglu", "rope")


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "impl"), [("dpr_kernels", "auto"), ("liger", "liger"), ("plain", None)])
def test_the_backends_layers(backend, impl, monkeypatch):
    """Liger has a fused sum of its own; a plain model keeps transformers' layers."""
    seen, real = [], dpr_kernels.apply

    def spy(model, **ops):
        seen.append({op: ops[op] for op in OPS})
        return real(model, **{op: "reference" if at == "liger" else at for op, at in ops.items()})

    monkeypatch.setattr(dpr_kernels, "apply", spy)
    tiny = LlamaConfig(hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, vocab_size=40)
    model = build.make(tiny, recipe.TrainConfig(backend=backend), torch.float32, torch.device("cpu"))
    assert seen == ([dict.fromkeys(OPS, impl)] if impl else [])
    assert all(impl in (None, "auto", *dpr_kernels.backends.OPS[op]) for op in OPS)
    ours = [name for name, module in model.named_modules() if "forward" in module.__dict__]
    assert ("model.layers.0" in ours) == (impl is not None) and bool(ours) == (impl is not None)
