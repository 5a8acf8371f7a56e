"""Models of two layers for the tests of dpr_kernels.apply, their rows, and the comparison of two training steps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

FAMILIES = ["llama", "qwen2", "qwen3"]
LENGTHS = [7, 1, 9, 4]


def build(family, device="cpu", seed=0, **keys):
    """Two layers, GQA, weights far from 0 and 1 so that each of them matters."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = {
        "vocab_size": 61, "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64, "tie_word_embeddings": False,
    }  # fmt: skip
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **{**config, **keys}))
    for name, p in model.named_parameters():
        nn.init.normal_(p, 1.0 if "norm" in name else 0.0, 0.2)
    return model.to(device).train()


def batch(device="cpu", rows=2):
    g = torch.Generator().manual_seed(3)
    ids = torch.randint(61, (rows, sum(LENGTHS)), generator=g).to(device)
    labels = ids.clone()
    labels[:, :3] = -100
    return {"input_ids": ids, "labels": labels, "use_cache": False}


def packed(device="cpu"):
    """One row of four documents, and the same documents alone."""
    ids = batch(device, 1)["input_ids"]
    parts = ids.split(LENGTHS, 1)
    labels = torch.cat([F.pad(p[:, 1:], (1, 0), value=-100) for p in parts], 1)
    ends = torch.tensor([0, *torch.tensor(LENGTHS).cumsum(0).tolist()], dtype=torch.int32, device=device)
    row = {
        "input_ids": ids,
        "labels": labels,
        "position_ids": torch.cat([torch.arange(n, device=device) for n in LENGTHS])[None],
        "cu_seq_lens_q": ends,
        "cu_seq_lens_k": ends,
        "max_length_q": max(LENGTHS),
        "max_length_k": max(LENGTHS),
        "use_cache": False,
    }
    return row, parts


def step(model, **inputs):
    model.zero_grad(set_to_none=True)
    loss = model(**inputs).loss
    loss.backward()
    return loss.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def alone(model, parts):
    """Loss and gradients of the documents one by one, as a token mean over all of them."""
    model.zero_grad(set_to_none=True)
    count, total = sum(p.shape[1] - 1 for p in parts), 0.0
    for part in parts:
        logits = model(part, use_cache=False).logits[0, :-1]
        total = total + F.cross_entropy(logits.float(), part[0, 1:], reduction="sum") / count
    total.backward()
    return total.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def close(name, got, want, tolerance=1e-6):
    """Loss to `tolerance`; every gradient to `tolerance` of its largest value. Printed."""
    worst = 0.0
    if got[0].device.type == "cuda" and got[0].dtype == torch.float32:
        tolerance *= 10  # cuBLAS adds a packed row and a lone document up in another order
    assert got[1].keys() == want[1].keys() and got[1]
    for key, b in want[1].items():
        worst = max(worst, ((got[1][key] - b).abs().max() / b.abs().max().clamp(min=1e-3)).item())
    loss = (got[0] - want[0]).abs().item()
    print(f"{name}: loss {want[0]:.6f} off by {loss:.1e}, gradients by {worst:.1e}")
    assert loss <= tolerance * max(1.0, want[0].item()) and worst <= 5 * tolerance


def identical(a, b):
    """To the last bit; on a GPU, where some backward kernels add in any order, gradients to 1e-5."""
    same = torch.equal if a[0].device.type == "cpu" else lambda x, y: torch.allclose(x, y, rtol=1e-5, atol=1e-5)
    return a[0].equal(b[0]) and a[1].keys() == b[1].keys() and all(same(a[1][k], b[1][k]) for k in a[1])


def every(impl, **keys):
    return {"rms_norm": impl, "swiglu": impl, "rope": impl, **keys}
