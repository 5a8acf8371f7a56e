"""Packed attention with the heads of real models, over rows of several blocks of queries: windows and documents."""

from itertools import pairwise

import pytest
import torch
from dpr_kernels import attention, varlen_attention
from dpr_kernels.apply import apply
from tiny_models import alone, build, close, every, packed, step

HEADS = {  # query heads, key heads, width
    "qwen2.5-7b": (28, 4, 128),
    "qwen3-0.6b": (16, 8, 128),
    "qwen3-8b, llama-3.1-8b": (32, 8, 128),
    "qwen3-32b, llama-3.1-70b": (64, 8, 128),
    "llama-3.2-1b": (32, 8, 64),
    "llama-3.2-3b": (24, 8, 128),
}
BOUNDS = [0, 130, 131, 150, 310]  # blocks of 64 and of 128 queries begin inside of documents, borders inside of blocks
WINDOWS = [None, 70, 150]  # within a block of 128, and over more than one; both reach over a border where they may


def ends(bounds, device="cpu"):
    return torch.tensor(bounds, dtype=torch.int32, device=device)


def inputs(heads, total, dtype=torch.float64, device="cpu"):
    g = torch.Generator().manual_seed(1)
    query, key, width = heads
    made = [torch.randn(total, n, width, generator=g, dtype=torch.float64) for n in (query, key, key, query)]
    *qkv, up = (x.to(device, dtype) for x in made)
    return [x.requires_grad_() for x in qkv], up


def dense(q, k, v, bounds, window):
    """Softmax over the whole square of scores, in the inputs' precision; who may see whom is written out."""
    total = q.shape[0]
    document = torch.zeros(total, dtype=torch.long, device=q.device)
    for border in bounds[1:-1]:
        document[border:] += 1
    i, j = torch.meshgrid(*(torch.arange(total, device=q.device),) * 2, indexing="ij")
    seen = (document[i] == document[j]) & (j <= i) & (i - j < (window or total))
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
    scores = torch.einsum("qhd,khd->hqk", q, k) * q.shape[2] ** -0.5
    return torch.einsum("hqk,khd->qhd", scores.masked_fill(~seen, float("-inf")).softmax(-1), v)


def compare(against_fp64, heads, bounds, window, dtype, device, impl):
    """Output and gradients of `impl`, and of the dense formula in the same dtype, against the dense one in fp64."""
    results = []
    for kind, ours in ((dtype, True), (dtype, False), (torch.float64, False)):
        qkv, up = inputs(heads, bounds[-1], dtype, device)
        qkv = [x.detach().to(kind).requires_grad_() for x in qkv]
        if ours:
            longest = max(b - a for a, b in pairwise(bounds))
            out = varlen_attention(*qkv, ends(bounds, device), window=window, max_length=longest, impl=impl)
        else:
            out = dense(*qkv, bounds, window)
        results.append([out.detach(), *torch.autograd.grad(out, qkv, up.to(kind))])
    for part, *three in zip(("out", "dq", "dk", "dv"), *results, strict=True):
        against_fp64(f"{impl} {heads} {window} {part}", *three, ulps=8.0)


@pytest.mark.parametrize(
    ("name", "window"), [(n, 70) for n in HEADS] + [("qwen2.5-7b", None), ("qwen3-0.6b", 150), ("llama-3.2-1b", None)]
)
def test_long_rows(name, window, device, against_fp64):
    compare(against_fp64, HEADS[name], BOUNDS, window, torch.float32, device, "reference")


def test_long_rows_in_bfloat16(device, against_fp64):
    compare(against_fp64, HEADS["qwen3-0.6b"], BOUNDS, 150, torch.bfloat16, device, "reference")


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("name", ["qwen2.5-7b", "llama-3.2-1b"])
def test_long_rows_through_flex(name, window):
    """On a CPU its forward, uncompiled: the mask is what is tested."""
    qkv = [x.detach() for x in inputs(HEADS[name], BOUNDS[-1], torch.float32)[0]]
    out = varlen_attention(*qkv, ends(BOUNDS), window=window, impl="flex")
    torch.testing.assert_close(out, dense(*qkv, BOUNDS, window), atol=5e-6, rtol=1e-5)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("impl", ["reference", "flex"])
def test_a_window_does_not_reach_over_a_border(impl, window):
    """Other tokens in the long first document move no bit behind it, though the window is longer than what is there."""
    (q, k, v), up = inputs(HEADS["qwen2.5-7b"], BOUNDS[-1], torch.float32)
    border, noise = BOUNDS[1], torch.randn(BOUNDS[1], 1, 1)
    with torch.no_grad():
        out = varlen_attention(q.detach(), k.detach(), v.detach(), ends(BOUNDS), window=window, impl=impl)
        other = [torch.cat([x[:border] + noise, x[border:]]) for x in (q, k, v)]
        changed = varlen_attention(*other, ends(BOUNDS), window=window, impl=impl)
    assert changed[border:].equal(out[border:]) and not changed[:border].equal(out[:border])
    if impl == "reference":
        out = varlen_attention(q, k, v, ends(BOUNDS), window=window)
        for gradient in torch.autograd.grad(out[border:], (q, k, v), up[border:]):
            assert not gradient[:border].any() and gradient[border:].any()


def test_layers_that_slide_see_their_window_of_their_document(device):
    """A Qwen2 whose second layer has a window of 3: packed as one by one, and not as it is without."""
    keys = {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 1}
    (row, parts), model = packed(device), build("qwen2", device, **keys)
    assert [layer.self_attn.sliding_window for layer in model.model.layers] == [None, 3]
    want = alone(model, parts)
    with apply(model, **every("reference")):
        close("sliding", step(model, **row), want)
    assert abs(want[0] - alone(build("qwen2", device), parts)[0]) > 1e-3


def test_tensors_on_different_devices_are_refused_by_name():
    (q, k, v), _ = inputs((4, 2, 8), 17, torch.float32)
    cu, away = ends([0, 17]), torch.device("meta")
    said = []
    for impl in ("auto", "reference", "flex"):
        for three in ((k.to(away), v, cu), (k, v.to(away), cu), (k, v, cu.to(away)), (k.to(away), v.to(away), cu)):
            with pytest.raises(ValueError, match="all must be on one device") as raised:
                varlen_attention(q, *three, impl=impl)
            said.append(str(raised.value))
    assert said[:3] == [
        f"attention: {n} is on meta, q on cpu: all must be on one device" for n in ("k", "v", "cu_seqlens")
    ]
    assert said[:4] * 3 == said


@pytest.mark.gpu
@pytest.mark.parametrize("window", [None, 100, 1000])
@pytest.mark.parametrize("impl", ["torch", "flash_attn", "flex"])
@pytest.mark.parametrize("name", HEADS)
def test_kernels_at_full_shapes(name, impl, window, against_fp64):
    if reason := attention.why_not(impl, torch.device("cuda")):
        pytest.skip(reason)
    compare(against_fp64, HEADS[name], [0, 900, 901, 2048], window, torch.bfloat16, "cuda", impl)
