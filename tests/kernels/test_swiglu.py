"""SwiGLU: values and gradients against fp64 and transformers' MLP, and the promise about reused buffers."""

import sys
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from dpr_kernels import backends, swiglu
from torch.utils.checkpoint import checkpoint

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
IMPLS = ["reference", "triton"]
# one value, less than a block, a block and one more, several blocks, wide rows
SHAPES = [(1, 1), (3, 5, 7), (1, 1025), (9, 300), (2, 2500)]


def eager(gate, up):
    return F.silu(gate) * up


def draw(shape, dtype, device, seed=0):
    g = torch.Generator().manual_seed(seed)
    gate, up, dout = ((torch.randn(shape, generator=g) * s).to(dtype).to(device) for s in (3, 1, 1))
    return gate.requires_grad_(), up.requires_grad_(), dout


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_against_fp64(impl, dtype, shape, device, against_fp64):
    gate, up, dout = draw(shape, dtype, device)
    exact = [t.detach().double().requires_grad_() for t in (gate, up)]
    results = []
    for out, xs in ((swiglu(gate, up, impl=impl), (gate, up)), (eager(gate, up), (gate, up)), (eager(*exact), exact)):
        results.append((out, *torch.autograd.grad(out, xs, dout.to(out.dtype))))
    for name, *values in zip(("out", "dgate", "dup"), *results, strict=True):
        against_fp64(name, *values)


@pytest.mark.filterwarnings("ignore:overflow encountered in exp")  # the interpreter's numpy; 1 / (1 + inf) is right
@pytest.mark.parametrize("impl", IMPLS)
def test_far_out_values(impl, device):
    """Nothing overflows where the sigmoid saturates, and silu's gradient has its small negative tail."""
    gate = torch.tensor([-200.0, -90.0, -20.0, -2.4, 0.0, 20.0, 90.0, 200.0], device=device, requires_grad=True)
    up = torch.full_like(gate, 2.0, requires_grad=True)
    for got, want in zip(
        torch.autograd.grad(swiglu(gate, up, impl=impl).sum(), (gate, up)),
        torch.autograd.grad(eager(gate.double(), up.double()).sum(), (gate, up)),
        strict=True,
    ):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("layout", ["fused", "transposed", "mixed", "strided columns"])
def test_any_strides(impl, layout, device):
    base, other = torch.randn(2, 6, 5, 40, device=device)
    base.requires_grad_()
    gate, up = {
        "fused": base.chunk(2, -1),
        "transposed": (base.transpose(0, 1), other.transpose(0, 1)),
        "mixed": (base[..., :20], other[..., 20:].contiguous()),
        "strided columns": (base[..., ::2], base[..., 1::2]),
    }[layout]
    dout = torch.randn(gate.shape[::-1], device=device).permute(2, 1, 0)
    out, want = swiglu(gate, up, impl=impl), eager(gate, up)
    torch.testing.assert_close(out, want)
    slab = torch.randn(*out.shape[:-1], 50, device=device)[..., 3 : 3 + out.shape[-1]]  # rows apart, as from a cat
    for up_grad in (dout, torch.ones(1, device=device).expand(out.shape), slab):
        got = torch.autograd.grad(out, base, up_grad, retain_graph=True)[0]
        torch.testing.assert_close(got, torch.autograd.grad(want, base, up_grad, retain_graph=True)[0])


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["one row many times", "one column many times", "rows that overlap"])
def test_overlapping_inputs_against_fp64(impl, dtype, layout, device, against_fp64):
    base, other, dout = draw((7, 60), dtype, device)
    gate, up, dout = {
        "one row many times": lambda: (base[:1].expand(7, -1), other, dout[:1].expand(7, -1)),
        "one column many times": lambda: (base, other[:, :1].expand(-1, 60), dout[:, :1].expand(-1, 60)),
        "rows that overlap": lambda: tuple(t.as_strided((7, 60), (3, 1)) for t in (base, other, dout)),
    }[layout]()
    gate, up = gate.detach().requires_grad_(), up.detach().requires_grad_()
    exact = [t.detach().double().requires_grad_() for t in (gate, up)]
    results = []
    for out, xs in ((swiglu(gate, up, impl=impl), (gate, up)), (eager(gate, up), (gate, up)), (eager(*exact), exact)):
        results.append((out, *torch.autograd.grad(out, xs, dout.to(out.dtype))))
    for name, *values in zip(("out", "dgate", "dup"), *results, strict=True):
        against_fp64(name, *values)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("context", ["autocast", "inference"])
def test_autocast_and_inference_change_nothing(impl, context, device):
    for dtype in (torch.bfloat16, torch.float32):
        gate, up, dout = draw((4, 70), dtype, device)
        want = swiglu(gate, up, impl=impl)
        inside = torch.autocast(device.type, torch.bfloat16) if context == "autocast" else torch.inference_mode()
        with inside:
            got, ref = swiglu(gate, up, impl=impl), swiglu(gate, up, impl="reference")
        assert got.dtype == ref.dtype == dtype and torch.equal(got, want)
        torch.testing.assert_close(got, ref, **({} if dtype == torch.float32 else {"rtol": 2**-6, "atol": 2e-2}))
        if context == "autocast":
            grads = [torch.autograd.grad(out, (gate, up), dout) for out in (got, want)]
            assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))
        else:
            assert got.is_inference()


def test_rows_more_than_int32_apart(device):
    """Offsets beyond 2^31; in int32 they would wrap to memory that is not the tensor's."""
    gate, up, dout = (t.detach() for t in draw((3, 40), torch.float16, device))
    launches = sys.modules["dpr_kernels.swiglu"]
    want = launches._run_forward(gate, up), *launches._run_backward(dout, gate, up, False)
    apart = 2**30 + 64
    try:
        store = torch.empty(2 * apart + 200, dtype=torch.float16, device=device)
    except RuntimeError as error:
        pytest.skip(f"no 4 GiB of address space: {error}")
    views = [store[at:].as_strided((3, 40), (apart, 1), at) for at in (0, 48, 96)]  # what is not written is not taken
    for view, x in zip(views, (gate, up, dout), strict=True):
        view.copy_(x)
    gate, up, dout = views
    got = launches._run_forward(gate, up), *launches._run_backward(dout, gate, up, False)
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


@pytest.mark.parametrize("impl", IMPLS)
def test_zero_rows(impl, device):
    gate, up, dout = draw((0, 7), torch.float32, device)
    out = swiglu(gate, up, impl=impl)
    assert out.shape == (0, 7)
    assert all(g.shape == (0, 7) for g in torch.autograd.grad(out, (gate, up), dout))


def test_gradcheck():
    gate, up, _ = draw((3, 4), torch.float64, "cpu")
    assert torch.autograd.gradcheck(lambda *a: swiglu(*a, impl="reference"), (gate, up))


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_equals_transformers_mlp(impl, family, device):
    from transformers import AutoConfig, AutoModelForCausalLM

    size = {"hidden_size": 16, "intermediate_size": 40, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = AutoConfig.for_model(family, **size, num_key_value_heads=1, vocab_size=8, head_dim=8)
    mlp = AutoModelForCausalLM.from_config(config).model.layers[0].mlp.to(device)
    x = torch.randn(3, 7, 16, device=device, requires_grad=True)
    want = mlp(x)
    for reuse in (False, True):
        got = mlp.down_proj(swiglu(mlp.gate_proj(x), mlp.up_proj(x), reuse_inputs=reuse, impl=impl))
        torch.testing.assert_close(got, want)
        ours = torch.autograd.grad(got.square().sum(), (x, *mlp.parameters()))
        theirs = torch.autograd.grad(want.square().sum(), (x, *mlp.parameters()), retain_graph=True)
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("impl", IMPLS)
def test_inputs_and_gradient_are_left_alone_by_default(impl, device):
    gate, up, dout = draw((4, 300), torch.float32, device)
    kept = [t.detach().clone() for t in (gate, up, dout)]
    out = swiglu(gate * 1, up * 1, impl=impl)
    first = torch.autograd.grad(out, (gate, up), dout, retain_graph=True)
    again = torch.autograd.grad(out, (gate, up), dout)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert all(torch.equal(a, b) for a, b in zip((gate, up, dout), kept, strict=True))
    both = swiglu(gate, gate, impl=impl)  # one tensor in both places
    torch.testing.assert_close(
        torch.autograd.grad(both, gate, dout)[0], torch.autograd.grad(eager(gate, gate), gate, dout)[0]
    )


def test_reused_buffers_hold_the_gradients_and_autograd_knows(device):
    gate, up, dout = draw((4, 300), torch.float32, device)
    want = torch.autograd.grad(eager(gate, up), (gate, up), dout)
    for grad in (dout, dout.t().contiguous().t()):
        a, b = gate * 1, up * 1
        out = swiglu(a, b, reuse_inputs=True, impl="triton")
        got = torch.autograd.grad(out, (a, b), grad, retain_graph=True)
        for buffer, g, w in zip((a, b), got, want, strict=True):
            torch.testing.assert_close(g, w)
            assert g.data_ptr() == buffer.data_ptr()  # the memory is what it is for
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            torch.autograd.grad(out, (a, b), grad)


def test_reuse_is_caught_when_another_node_needs_gate(device):
    """Without the version counter this would give a wrong gradient and no error."""
    gate, up, dout = draw((4, 300), torch.float32, device)
    a, b = gate * 1, up * 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        ((a * b).sum() + (swiglu(a, b, reuse_inputs=True, impl="triton") * dout).sum()).backward()


def test_refusals(device):
    gate, up, _ = draw((4, 6), torch.float32, device)
    with pytest.raises(ValueError, match="one shape"):
        swiglu(gate, up[:1])
    with pytest.raises(ValueError, match="dtype"):
        swiglu(gate, up.bfloat16())
    with pytest.raises(ValueError, match="float64"):
        swiglu(gate.double(), up.double(), impl="triton")
    with pytest.raises(ValueError, match=f"^swiglu: up is on meta, gate on {gate.device}"):
        swiglu(gate, up.to("meta"))
    with pytest.raises(ValueError, match="leaf"):
        swiglu(gate, up, reuse_inputs=True, impl="triton")
    with pytest.raises(ValueError, match="contiguous"):
        swiglu(gate.t() * 1, up.t() * 1, reuse_inputs=True, impl="triton")
    one = (torch.stack((gate, up)) * 1).unbind()
    with pytest.raises(ValueError, match="separate storages"):
        swiglu(*one, reuse_inputs=True, impl="triton")
    with torch.no_grad():  # no backward, nothing to reuse: evaluation takes the same call
        assert torch.equal(swiglu(gate, up, reuse_inputs=True, impl="triton"), swiglu(gate, up, impl="triton"))


@pytest.mark.gpu
@pytest.mark.parametrize("reuse", [False, True])
def test_liger(reuse, device):
    if reason := backends.why_not("liger", device):
        pytest.skip(reason)
    gate, up, dout = draw((2, 60, 512), torch.bfloat16, device)
    kept = dout.clone()
    a, b = gate * 1, up * 1
    got = torch.autograd.grad(swiglu(a, b, reuse_inputs=reuse, impl="liger"), (a, b), dout)
    for x, y in zip(got, torch.autograd.grad(eager(gate, up), (gate, up), dout), strict=True):
        torch.testing.assert_close(x, y, rtol=2**-5, atol=2e-2)
    assert torch.equal(dout, kept)
    assert reuse or (torch.equal(a, gate) and torch.equal(b, up))


@pytest.mark.gpu
@pytest.mark.parametrize("reuse", [False, True])
def test_cuda_graph(reuse, device):
    """Whatever synchronises raises while it is captured."""
    gate, up, dout = draw((300, 1000), torch.bfloat16, device)

    def run():
        out = swiglu(gate * 1, up * 1, reuse_inputs=reuse, impl="triton")
        return [out, *torch.autograd.grad(out, (gate, up), dout)]

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        run()  # compiles
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = run()
    with torch.no_grad():  # other values than those captured
        for t in (gate, up, dout):
            t.copy_(torch.randn_like(t))
    graph.replay()
    assert all(torch.equal(a, b) for a, b in zip(results, run(), strict=True))


@pytest.mark.gpu
def test_just_below_int32(device):
    """So many values that adding a block to their number would wrap around."""
    gate = torch.zeros(2**31 - 1000, dtype=torch.bfloat16, device=device)
    gate[-3:] = torch.tensor([1.0, 2.0, 3.0], device=device)
    out = swiglu(gate, gate, impl="triton")
    want = eager(gate[-3:].float(), gate[-3:].float())
    torch.testing.assert_close(out[-3:].float(), want, rtol=2**-7, atol=1e-3)
    assert not out[:-3].any()


@pytest.mark.gpu
@pytest.mark.parametrize("fused", [False, True])
def test_beyond_int32(fused, device):
    """More than 2^31 values: an int32 offset would wrap around."""
    rows, width = 2**31 // 16384 + 5, 16384
    both = torch.zeros(rows, 2 * width if fused else width, dtype=torch.bfloat16, device=device)
    both[-3:] = torch.randn(3, both.shape[1], device=device)
    gate, up = both.chunk(2, -1) if fused else (both, both)
    tails = [x[-3:].detach().clone().requires_grad_() for x in (gate, up)]
    out = swiglu(gate.requires_grad_(), up, impl="triton")
    want = eager(*(t.float() for t in tails))
    torch.testing.assert_close(out[-3:].float(), want, rtol=2**-7, atol=1e-3)
    dgate = torch.autograd.grad(out, gate, torch.ones_like(out))[0]
    if fused:
        expected = torch.autograd.grad(want.sum(), tails[0])[0]
        torch.testing.assert_close(dgate[-3:], expected, rtol=2**-6, atol=1e-2)


@pytest.mark.parametrize("hooks", [False, True])
def test_a_second_backward_through_reused_memory_is_refused(hooks, device):
    """Autograd looks at the version of what it saved, but not of what comes through saved-tensor hooks."""
    gate, up = (torch.randn(3, 40, device=device).requires_grad_() for _ in range(2))
    through = torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: x) if hooks else nullcontext()
    with through:
        out = swiglu(gate.clone(), up.clone(), reuse_inputs=True, impl="triton").sum()
    out.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="second backward" if hooks else "modified by an inplace operation"):
        out.backward()


def test_a_recomputed_layer_may_run_its_backward_again(device):
    """Checkpointing makes gate and up anew for each backward: other memory, even where it lies at the same address."""
    x = torch.randn(3, 40, device=device, requires_grad=True)

    def layer(x):
        return swiglu(x * 2, x * 3, reuse_inputs=True, impl="triton")

    out = checkpoint(layer, x, use_reentrant=False).sum()
    out.backward(retain_graph=True)
    first = x.grad.clone()
    out.backward()
    torch.testing.assert_close(x.grad, 2 * first)
