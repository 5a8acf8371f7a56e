"""RoPE: values and gradients against fp64 and transformers, any strides, packed positions, no partial embedding."""

import sys

import pytest
import torch
from dpr_kernels import backends, rope

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
IMPLS = ["reference", "triton"]
# batch, query heads, key heads, tokens, head width: GQA, MQA, odd counts, half not a power of two, one token
SHAPES = [(1, 4, 2, 9, 16), (2, 3, 1, 5, 20), (1, 1, 1, 1, 2), (2, 14, 2, 3, 64), (1, 2, 5, 4, 6), (1, 9, 3, 11, 8)]


def eager(q, k, cos, sin):
    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)

    def rotate_half(x):
        a, b = x.chunk(2, -1)
        return torch.cat((-b, a), -1)

    return q * cos + rotate_half(q) * sin, k * cos + rotate_half(k) * sin


def angles(positions, d, dtype, device):
    """cos and sin (B, T, d) at `positions` (B, T), as Llama makes them: float32, then the model's dtype."""
    freqs = positions[..., None].float() * 10000.0 ** (-torch.arange(0, d, 2).float() / d)
    both = torch.cat((freqs, freqs), -1)
    return both.cos().to(dtype).to(device), both.sin().to(dtype).to(device)


def draw(shape, dtype, device, seed=0):
    """Transposed views, as an attention layer makes them."""
    b, hq, hk, t, d = shape
    g = torch.Generator().manual_seed(seed)
    q, k, dq, dk = (torch.randn(b, t, h, d, generator=g).to(dtype).to(device).transpose(1, 2) for h in (hq, hk) * 2)
    return q.requires_grad_(), k.requires_grad_(), dq, dk


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("free", [False, True])
def test_against_fp64(impl, dtype, shape, free, device, against_fp64):
    """`free`: cos and sin a different draw for each sequence, halves unequal, so that every term is told apart."""
    q, k, dq, dk = draw(shape, dtype, device)
    if free:
        cos, sin = torch.randn(2, shape[0], shape[3], shape[4], generator=torch.Generator().manual_seed(7)).to(q)
    else:
        cos, sin = angles(torch.arange(shape[3])[None] + 3, shape[4], dtype, device)
    exact = [x.detach().double().requires_grad_() for x in (q, k)]
    results = []
    for outs, xs in (
        (rope(q, k, cos, sin, impl=impl), (q, k)),
        (eager(q, k, cos, sin), (q, k)),
        (eager(*exact, cos.double(), sin.double()), exact),
    ):
        results.append((*outs, *torch.autograd.grad(outs, xs, [g.to(outs[0].dtype) for g in (dq, dk)])))
    for name, *values in zip(("q", "k", "dq", "dk"), *results, strict=True):
        against_fp64(name, *values)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_equals_transformers(impl, family, device):
    import importlib

    from transformers import AutoConfig

    module = importlib.import_module(f"transformers.models.{family}.modeling_{family}")
    config = AutoConfig.for_model(family, hidden_size=32, num_attention_heads=4, num_key_value_heads=2, head_dim=8)
    embedding = next(getattr(module, n) for n in dir(module) if n.endswith("RotaryEmbedding"))(config).to(device)
    q, k, dq, dk = draw((2, 4, 2, 10, 8), torch.float32, device)
    positions = torch.tensor([[0, 1, 2, 0, 1, 2, 3, 4, 5, 6], list(range(90, 100))], device=device)
    cos, sin = embedding(q, positions)
    got, want = rope(q, k, cos, sin, impl=impl), module.apply_rotary_pos_emb(q, k, cos, sin)
    got += torch.autograd.grad(got, (q, k), (dq, dk))
    want += torch.autograd.grad(want, (q, k), (dq, dk))
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("impl", IMPLS)
def test_backward_is_the_rotation_back(impl, device):
    q, k, *_ = draw((1, 4, 2, 7, 16), torch.float32, device)
    cos, sin = angles(torch.arange(7)[None] * 11, 16, torch.float32, device)
    outs = rope(q, k, cos, sin, impl=impl)
    for back in (torch.autograd.grad(outs, (q, k), outs), rope(*outs, cos, -sin, impl=impl)):
        torch.testing.assert_close(back, (q, k))  # lengths are kept: the gradient of |out|^2 / 2 is the input


@pytest.mark.parametrize("impl", IMPLS)
def test_packed_is_the_documents_apart(impl, device):
    lengths = [1, 4, 6]
    positions = torch.cat([torch.arange(n) for n in lengths])[None]
    q, k, *_ = draw((1, 4, 2, 11, 16), torch.float32, device)
    packed = rope(q, k, *angles(positions, 16, torch.float32, device), impl=impl)
    parts = [
        rope(a, b, *angles(torch.arange(n)[None], 16, torch.float32, device), impl=impl)
        for a, b, n in zip(q.split(lengths, 2), k.split(lengths, 2), lengths, strict=True)
    ]
    for whole, *apart in zip(packed, *parts, strict=True):
        torch.testing.assert_close(whole, torch.cat(apart, 2), rtol=0, atol=1e-6)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("layout", ["heads first", "fused qkv", "strided lanes", "expanded"])
def test_any_strides(impl, layout, device):
    fused = torch.randn(2, 7, 8, 32, device=device)
    q, k = fused[:, :, :4, :16].transpose(1, 2), fused[:, :, 4:6, 16:].transpose(1, 2)
    if layout == "heads first":
        q, k = q.contiguous(), k.contiguous()
    elif layout == "strided lanes":
        q, k = fused[..., ::2].transpose(1, 2)[:, :4], fused[..., 1::2].transpose(1, 2)[:, 4:6]
    elif layout == "expanded":
        q = q[:1].expand(2, -1, -1, -1)
    q, k = q.detach().requires_grad_(), k.detach().requires_grad_()
    cos, sin = (x.expand(2, -1, -1) for x in angles(torch.arange(7)[None], 16, torch.float32, device))
    if layout == "fused qkv":  # and of cos and sin, each its own strides
        cos, sin = torch.cat((cos, cos), -1)[..., :16], torch.cat((sin, sin, sin), 1)[:, 7:14]
        sin = sin.repeat_interleave(2, 1)[:, ::2]
    got, want = rope(q, k, cos, sin, impl=impl), eager(q, k, cos, sin)
    grads = [torch.randn(7, 16, 2, h, device=device).permute(2, 3, 0, 1) for h in (4, 2)]
    ones = [torch.ones(1, device=device).expand(x.shape) for x in got]
    for up in (grads, ones):
        a = got + torch.autograd.grad(got, (q, k), up, retain_graph=True)
        for x, y in zip(a, want + torch.autograd.grad(want, (q, k), up, retain_graph=True), strict=True):
            torch.testing.assert_close(x, y)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_overlapping_inputs_against_fp64(impl, dtype, device, against_fp64):
    """Values that lie in several places of q at once: the order of its dimensions in memory says nothing then."""
    store, other = torch.randn(2, 4096, generator=torch.Generator().manual_seed(3)).to(dtype).to(device)
    cos, sin = angles(torch.arange(16)[None], 64, dtype, device)
    for q, k in (
        (store.as_strided((1, 4, 16, 64), (0, 1, 64, 1)), other.as_strided((1, 2, 16, 64), (0, 3, 2, 1))),
        (store.as_strided((1, 4, 16, 64), (0, 0, 0, 1)), other.as_strided((1, 2, 16, 64), (0, 0, 0, 0))),
    ):
        q, k = q.detach().requires_grad_(), k.detach().requires_grad_()
        exact = [x.detach().double().requires_grad_() for x in (q, k)]
        ups = [x.detach() for x in (q, k)]  # gradients that overlap too
        results = []
        for outs, xs in (
            (rope(q, k, cos, sin, impl=impl), (q, k)),
            (eager(q, k, cos, sin), (q, k)),
            (eager(*exact, cos.double(), sin.double()), exact),
        ):
            results.append((*outs, *torch.autograd.grad(outs, xs, [up.to(outs[0].dtype) for up in ups])))
        for name, *values in zip(("q", "k", "dq", "dk"), *results, strict=True):
            against_fp64(name, *values)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("context", ["autocast", "inference"])
def test_autocast_and_inference_change_nothing(impl, context, device):
    """Under autocast q and k are bfloat16 and the angles float32: results have the dtypes of q and k."""
    for dtype in (torch.bfloat16, torch.float32):
        q, k, dq, dk = draw((2, 4, 2, 5, 16), dtype, device)
        cos, sin = angles(torch.arange(5)[None], 16, torch.float32, device)
        want = rope(q, k, cos, sin, impl=impl)
        inside = torch.autocast(device.type, torch.bfloat16) if context == "autocast" else torch.inference_mode()
        with inside:
            got, ref = rope(q, k, cos, sin, impl=impl), rope(q, k, cos, sin, impl="reference")
        assert all(t.dtype == dtype for t in (*got, *ref))
        assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))
        for a, b in zip(got, ref, strict=True):  # the interpreter cuts bfloat16 off
            torch.testing.assert_close(a, b, **({} if dtype == torch.float32 else {"rtol": 2**-6, "atol": 2e-2}))
        if context == "autocast":
            grads = [torch.autograd.grad(outs, (q, k), (dq, dk)) for outs in (got, want)]
            assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))
        else:
            assert all(t.is_inference() for t in got)


def test_tokens_more_than_int32_apart(device):
    """Offsets beyond 2^31; in int32 they would wrap to memory that is not the tensor's."""
    q, k, *_ = draw((1, 2, 1, 3, 16), torch.float16, device)
    cos, sin = angles(torch.arange(3)[None], 16, torch.float16, device)
    want = rope(q, k, cos, sin, impl="triton")
    apart = 2**30 + 64
    try:
        store = torch.empty(2 * apart + 64, dtype=torch.float16, device=device)
    except RuntimeError as error:
        pytest.skip(f"no 4 GiB of address space: {error}")
    far = store.as_strided((1, 2, 3, 16), (0, 16, apart, 1))  # memory that is not written is not taken
    far.copy_(q.detach())
    launches = sys.modules["dpr_kernels.rope"]
    rotated = torch.empty_like(q)
    launches_dense, launches._dense = launches._dense, lambda x: (x, rotated if x is far else torch.empty_like(x))
    try:  # an output like `far` would be as far apart: that is tried on a GPU
        got = rope(far, k, cos, sin, impl="triton")
    finally:
        launches._dense = launches_dense
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


def test_keeps_the_memory_order_and_the_inputs(device):
    q, k, dq, dk = draw((2, 4, 2, 5, 16), torch.float32, device)
    kept = [x.detach().clone() for x in (q, k, dq, dk)]
    cos, sin = angles(torch.arange(5)[None], 16, torch.float32, device)
    outs = rope(q, k, cos, sin, impl="triton")
    grads = torch.autograd.grad(outs, (q, k), (dq, dk))
    for x, *ours in zip((q, k), outs, grads, strict=True):
        assert all(o.stride() == x.stride() for o in ours)  # o.transpose(1, 2).flatten(2) stays a view
    assert all(torch.equal(a, b) for a, b in zip((q, k, dq, dk), kept, strict=True))


@pytest.mark.parametrize("impl", IMPLS)
def test_one_output_used_and_no_tokens(impl, device):
    q, k, dq, _ = draw((1, 4, 2, 5, 16), torch.float32, device)
    cos, sin = angles(torch.arange(5)[None], 16, torch.float32, device)
    got = torch.autograd.grad(rope(q, k, cos, sin, impl=impl)[0], (q, k), dq, allow_unused=True)
    torch.testing.assert_close(got[0], torch.autograd.grad(eager(q, k, cos, sin)[0], q, dq)[0])
    assert got[1] is None or not got[1].any()
    outs = rope(q[:, :, :0], k[:, :, :0], cos[:, :0], sin[:, :0], impl=impl)
    assert [x.shape for x in outs] == [(1, 4, 0, 16), (1, 2, 0, 16)]


def test_gradcheck():
    q, k, *_ = draw((2, 2, 1, 3, 4), torch.float64, "cpu")
    cos, sin = torch.randn(2, 1, 3, 4, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda q, k: rope(q, k, cos, sin, impl="reference"), (q, k))


def test_refusals(device):
    q, k, *_ = draw((2, 4, 2, 5, 16), torch.float32, device)
    cos, sin = angles(torch.arange(5)[None], 16, torch.float32, device)
    half = cos[..., :8], sin[..., :8]
    with pytest.raises(ValueError, match="partial"):
        rope(q, k, *half)
    with pytest.raises(ValueError, match="cos and sin must be"):
        rope(q, k, cos[:, :4], sin[:, :4])
    with pytest.raises(ValueError, match="cos and sin must be"):
        rope(q, k, cos.expand(3, -1, -1), sin.expand(3, -1, -1))
    with pytest.raises(ValueError, match=r"k \(B, Hk, T, D\)"):
        rope(q, k[:, :, :4], cos, sin)
    with pytest.raises(ValueError, match="D even"):
        rope(q[..., :15], k[..., :15], cos[..., :15], sin[..., :15])
    with pytest.raises(ValueError, match="no gradient"):
        rope(q, k, cos.clone().requires_grad_(), sin)
    with pytest.raises(ValueError, match="float64"):
        rope(q.double(), k.double(), cos, sin, impl="triton")
    for name, inputs in (("k", (q, k.to("meta"), cos, sin)), ("sin", (q, k, cos, sin.to("meta")))):
        with pytest.raises(ValueError, match=f"^rope: {name} is on meta, q on {q.device}"):
            rope(*inputs)


def test_liger_gets_copies(device):
    """Liger rotates in place; its RoPE also runs in the interpreter, so the adapter is tried here without a GPU."""
    pytest.importorskip("liger_kernel", reason="liger-kernel is not installed")
    adapter = sys.modules["dpr_kernels.rope"]._liger  # pick() sends no CPU tensor to Liger
    q, k, dq, dk = draw((2, 4, 2, 5, 16), torch.float32, device)
    kept = [x.detach().clone() for x in (q, k, dq, dk)]
    cos, sin = angles(torch.arange(5)[None], 16, torch.float32, device)
    got, want = adapter(q, k, cos, sin), eager(q, k, cos, sin)
    got += torch.autograd.grad(got, (q, k), (dq, dk))
    for a, b in zip(got, want + torch.autograd.grad(want, (q, k), (dq, dk)), strict=True):
        torch.testing.assert_close(a, b)
    assert all(torch.equal(a, b) for a, b in zip((q, k, dq, dk), kept, strict=True))


@pytest.mark.gpu
def test_liger(device):
    if reason := backends.why_not("liger", device):
        pytest.skip(reason)
    q, k, dq, dk = draw((2, 8, 2, 33, 64), torch.bfloat16, device)
    kept = [x.detach().clone() for x in (q, k, dq, dk)]
    cos, sin = angles(torch.stack((torch.arange(33), torch.arange(33) + 7)), 64, torch.bfloat16, device)
    got, want = rope(q, k, cos, sin, impl="liger"), eager(q, k, cos, sin)
    got += torch.autograd.grad(got, (q, k), (dq, dk))
    for a, b in zip(got, want + torch.autograd.grad(want, (q, k), (dq, dk)), strict=True):
        torch.testing.assert_close(a, b, rtol=2**-5, atol=5e-2)
    assert all(torch.equal(a, b) for a, b in zip((q, k, dq, dk), kept, strict=True))


@pytest.mark.gpu
@pytest.mark.parametrize("heads", [(32, 8), (28, 4), (9, 3)])
def test_cuda_graph(heads, device):
    """Whatever synchronises raises while it is captured."""
    q, k, dq, dk = draw((2, *heads, 301, 64), torch.bfloat16, device)
    cos, sin = angles(torch.arange(301)[None], 64, torch.float32, device)

    def run():
        outs = rope(q, k, cos, sin, impl="triton")
        return [*outs, *torch.autograd.grad(outs, (q, k), (dq, dk))]

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        run()  # compiles
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = run()
    with torch.no_grad():  # other values than those captured
        for t in (q, k, dq, dk):
            t.copy_(torch.randn_like(t))
    graph.replay()
    assert all(torch.equal(a, b) for a, b in zip(results, run(), strict=True))


@pytest.mark.gpu
@pytest.mark.parametrize("heads", [(32, 8), (28, 4), (12, 2), (9, 3), (40, 8), (64, 8)])
@pytest.mark.parametrize("width", [64, 80, 128])
def test_layouts_of_a_gpu_against_fp64(heads, width, device, against_fp64):
    """The interpreter has tiles of its own; these are those that training launches."""
    q, k, dq, dk = draw((2, *heads, 133, width), torch.bfloat16, device)
    cos, sin = torch.randn(2, 2, 133, width, device=device)
    exact = [x.detach().double().requires_grad_() for x in (q, k)]
    results = []
    for outs, xs in (
        (rope(q, k, cos, sin, impl="triton"), (q, k)),
        ([x.bfloat16() for x in eager(q.float(), k.float(), cos, sin)], (q, k)),
        (eager(*exact, cos.double(), sin.double()), exact),
    ):
        results.append((*outs, *torch.autograd.grad(outs, xs, [g.to(outs[0].dtype) for g in (dq, dk)])))
    for name, *values in zip(("q", "k", "dq", "dk"), *results, strict=True):
        against_fp64(name, *values)


@pytest.mark.gpu
def test_beyond_int32(device):
    """q of more than 2^31 values, in both memory orders: an int32 offset would wrap around."""
    heads, d = 32, 128
    t = 2**31 // (heads * d) + 7
    cos, sin = angles(torch.arange(t)[None], d, torch.bfloat16, device)
    for order in ((1, t, heads, d), (1, heads, t, d)):
        q = torch.zeros(order, dtype=torch.bfloat16, device=device)
        q = q.transpose(1, 2) if order[1] == t else q
        q[:, :, -3:] = torch.randn(1, heads, 3, d, device=device)
        k = q[:, :2]
        got = rope(q, k, cos, sin, impl="triton")
        want = eager(*(x[:, :, -3:].float() for x in (q, k)), cos[:, -3:].float(), sin[:, -3:].float())
        for a, b in zip(got, want, strict=True):
            torch.testing.assert_close(a[:, :, -3:].float(), b, rtol=2**-7, atol=1e-2)
