"""RMSNorm, alone and with the residual addition: values and every gradient against fp64, transformers and torch."""

import re
import sys
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from dpr_kernels import add_rms_norm, backends, reference, rms_norm

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
IMPLS = ["reference", "triton"]
# (rows shape, H): one row, short rows (several a tile), odd widths, several tiles a program, H above the tile
SHAPES = [((1,), 33), ((2, 3), 64), ((37,), 40), ((53,), 24), ((5,), 700), ((4, 1, 7), 128), ((3,), 1)]


def eager(x, w, eps, offset=0.0):
    """Plain autograd in the inputs' dtype; float32 inside where x is shorter than that."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return (offset + w) * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)).to(x.dtype)


def draw(shape, h, dtype, device, seed=0, scale=1.0):
    g = torch.Generator().manual_seed(seed)
    x, r, dy, ds = (torch.randn(*shape, h, generator=g) for _ in range(4))
    w = torch.randn(h, generator=g)
    x, r, w, dy, ds = ((t * s).to(dtype).to(device) for t, s in ((x, scale), (r, scale), (w, 1), (dy, 1), (ds, 1)))
    return x.requires_grad_(), r.requires_grad_(), w.requires_grad_(), dy, ds


def wide(*tensors):
    return [t.detach().double().requires_grad_() for t in tensors]


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "h"), SHAPES)
def test_rms_norm_against_fp64(impl, dtype, shape, h, device, against_fp64):
    x, _, w, dy, _ = draw(shape, h, dtype, device)
    results = []
    for f, xs, grad in (
        (lambda x, w: rms_norm(x, w, 1e-5, impl=impl), (x, w), dy),
        (lambda x, w: eager(x, w, 1e-5), (x, w), dy),
        (lambda x, w: eager(x, w, 1e-5), wide(x, w), dy.double()),
    ):
        y = f(*xs)
        results.append((y, *torch.autograd.grad(y, xs, grad)))
    for name, *values in zip(("y", "dx", "dw"), *results, strict=True):
        against_fp64(name, *values)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "h"), [((1,), 33), ((41,), 40), ((2, 3), 700)])
@pytest.mark.parametrize("used", ["both", "norm", "sum"])
def test_add_rms_norm_against_fp64(impl, dtype, shape, h, used, device, against_fp64):
    x, r, w, dy, ds = draw(shape, h, dtype, device)

    def plain(x, r, w):
        total = x + r
        return eager(total, w, 1e-5), total

    results = []
    for f, xs, grads in (
        (lambda *a: add_rms_norm(*a, 1e-5, impl=impl), (x, r, w), (dy, ds)),
        (plain, (x, r, w), (dy, ds)),
        (plain, wide(x, r, w), (dy.double(), ds.double())),
    ):
        outs = f(*xs)
        pick = {"both": [0, 1], "norm": [0], "sum": [1]}[used]
        grads = torch.autograd.grad([outs[i] for i in pick], xs, [grads[i] for i in pick], allow_unused=True)
        results.append((*outs, *grads))
    for name, ours, near, exact in zip(("y", "sum", "dx", "dres", "dw"), *results, strict=True):
        if near is None:
            assert ours is None or not ours.any(), name
        else:
            against_fp64(name, ours, near, exact)
    if dtype != torch.bfloat16 or device.type == "cuda":  # the interpreter cuts bfloat16 off instead of rounding
        assert torch.equal(results[0][1], x + r)


@pytest.mark.parametrize("impl", IMPLS)
def test_eps_and_offset_matter(impl, device, against_fp64):
    """Rows as small as eps' root, one of them zero: a dropped or misplaced eps is far outside the tolerance."""
    x, r, w, dy, _ = draw((9,), 48, torch.float32, device, scale=0.02)
    x.data[3], r.data[3] = 0, 0
    exact = wide(x, w)
    for eps, offset in ((1e-3, 0.0), (1e-3, 1.0), (0.5, -0.25)):
        results = []
        for y, xs in (
            (rms_norm(x, w, eps, offset=offset, impl=impl), (x, w)),
            (eager(x, w, eps, offset), (x, w)),
            (eager(*exact, eps, offset), exact),
        ):
            results.append((y, *torch.autograd.grad(y, xs, dy.to(y.dtype))))
        for name, *values in zip(("y", "dx", "dw"), *results, strict=True):
            against_fp64(f"{name} eps {eps} offset {offset}", *values)
        both = add_rms_norm(x, r, w, eps, offset=offset, impl=impl)[0]
        torch.testing.assert_close(both, eager(x + r, w, eps, offset))


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_equals_transformers(impl, dtype, device):
    from transformers.models.llama.modeling_llama import LlamaRMSNorm
    from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

    x, _, w, dy, _ = draw((2, 11), 96, dtype, device)
    # the interpreter cuts bfloat16 off where a GPU rounds: one unit in the last place, twice
    exact = impl == "reference" or dtype == torch.float32
    close = {} if exact else {"rtol": 2**-6, "atol": 1e-2}
    for layer in (LlamaRMSNorm, Qwen3RMSNorm):
        norm = layer(96, eps=1e-5).to(device, dtype)
        norm.weight.data.copy_(w.data)
        want, got = norm(x), rms_norm(x, w, 1e-5, impl=impl)
        if impl == "reference":
            assert torch.equal(got, want)
        torch.testing.assert_close(got, want, **close)
        expected = torch.autograd.grad(want, (x, norm.weight), dy)
        for a, b in zip(torch.autograd.grad(got, (x, w), dy), expected, strict=True):
            torch.testing.assert_close(a, b, **({} if dtype == torch.float32 else {"rtol": 2**-5, "atol": 0.1}))


@pytest.mark.parametrize("impl", IMPLS)
def test_float32_weight_on_bfloat16_rows_promotes_as_transformers_does(impl, device):
    x, _, _, dy, _ = draw((6,), 32, torch.bfloat16, device)
    w = torch.randn(32, device=device, requires_grad=True)
    y = rms_norm(x, w, impl=impl)
    assert y.dtype == eager(x, w, 1e-6).dtype == torch.float32
    dx, dw = torch.autograd.grad(y, (x, w), dy.float())
    assert dx.dtype == torch.bfloat16 and dw.dtype == torch.float32
    torch.testing.assert_close(y, eager(x, w, 1e-6), rtol=2**-7, atol=1e-3)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("layout", ["transposed rows", "slice", "strided columns", "expanded"])
def test_any_strides(impl, layout, device):
    base = torch.randn(6, 5, 80, device=device)
    x = {
        "transposed rows": base.transpose(0, 1)[..., :40],
        "slice": base[:, 2, 16:56],
        "strided columns": base[..., ::2],
        "expanded": base[:, :1, :40].expand(6, 5, 40),
    }[layout].requires_grad_()
    w = torch.randn(80, device=device)[::2].requires_grad_()
    dy = torch.randn(40, *x.shape[:-1], device=device).movedim(0, -1)  # gradients come with strides too
    y, want = rms_norm(x, w, impl=impl), eager(x, w, 1e-6)
    torch.testing.assert_close(y, want)
    for a, b in zip(torch.autograd.grad(y, (x, w), dy), torch.autograd.grad(want, (x, w), dy), strict=True):
        torch.testing.assert_close(a, b)
    res = torch.randn(*x.shape[:-1], 100, device=device)[..., 30:70]
    outs, sums = add_rms_norm(x, res, w, impl=impl), x + res
    want = eager(sums, w, 1e-6), sums
    slab = torch.randn(*x.shape[:-1], 100, device=device)  # rows apart, as from a cat
    for ups in ((dy, torch.ones(1, device=device).expand(x.shape)), (slab[..., 3:43], slab[..., 50:90])):
        got = torch.autograd.grad(outs, (x, w), ups, retain_graph=True)
        for a, b in zip(got, torch.autograd.grad(want, (x, w), ups, retain_graph=True), strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("impl", IMPLS)
def test_broadcast_gradient_zero_rows_and_frozen_weight(impl, device):
    x, _, w, *_ = draw((7,), 40, torch.float32, device)
    (got,) = torch.autograd.grad(rms_norm(x, w, impl=impl).sum(), x)
    torch.testing.assert_close(got, torch.autograd.grad(eager(x, w, 1e-6).sum(), x)[0])

    none = torch.zeros(0, 3, 40, device=device, requires_grad=True)
    y, total = add_rms_norm(none, none, w, impl=impl)
    dx, dw = torch.autograd.grad(y.sum() + total.sum(), (none, w))
    assert y.shape == total.shape == dx.shape == (0, 3, 40) and dw.shape == (40,) and not dw.any()

    frozen = w.detach()
    rms_norm(x, frozen, impl=impl).sum().backward()
    assert frozen.grad is None
    torch.testing.assert_close(x.grad, got)


@pytest.mark.parametrize("impl", IMPLS)
def test_inputs_and_gradients_are_left_alone(impl, device):
    """A gradient tensor may be shared, x and residual belong to the caller, and x = residual is allowed."""
    x, r, w, dy, ds = draw((19,), 40, torch.float32, device)
    kept = [t.detach().clone() for t in (x, r, w, dy, ds)]
    outs = add_rms_norm(x, r, w, impl=impl)
    first = torch.autograd.grad(outs, (x, r, w), (dy, ds), retain_graph=True)
    again = torch.autograd.grad(outs, (x, r, w), (dy, ds))
    assert all(torch.equal(a, b) for a, b in zip((x, r, w, dy, ds), kept, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))  # also: the same from run to run
    torch.autograd.backward(add_rms_norm(x, x, w, impl=impl), (dy, ds))
    want = torch.autograd.grad((eager(x + x, w, 1e-6), x + x), x, (dy, ds))[0]
    torch.testing.assert_close(x.grad, want)


def test_writing_over_the_input_before_backward_is_noticed(device):
    x, _, w, *_ = draw((4,), 40, torch.float32, device)
    moved = x * 1
    y = rms_norm(moved, w, impl="triton")
    moved += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_gradcheck():
    x, r, w, *_ = draw((3,), 7, torch.float64, "cpu")
    assert torch.autograd.gradcheck(lambda x, w: rms_norm(x, w, 1e-2, offset=0.5, impl="reference"), (x, w))
    assert torch.autograd.gradcheck(lambda *a: add_rms_norm(*a, 1e-2, impl="reference"), (x, r, w))


def test_torch_impl(device):
    x, _, w, *_ = draw((9,), 40, torch.float32, device)
    got, want = rms_norm(x, w, 1e-3, offset=1.0, impl="torch"), F.rms_norm(x, (40,), w + 1, 1e-3)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(got, reference.rms_norm(x, w, 1e-3, offset=1.0))


def test_refusals(device):
    x, r, w, *_ = draw((3,), 8, torch.float32, device)
    with pytest.raises(ValueError, match="weight"):
        rms_norm(x, w[:7])
    with pytest.raises(ValueError, match="one shape and dtype"):
        add_rms_norm(x, r[:2], w)
    with pytest.raises(ValueError, match="one shape and dtype"):
        add_rms_norm(x, r.bfloat16(), w)
    with pytest.raises(ValueError, match="floating"):
        rms_norm(torch.ones(3, 8, dtype=torch.int64, device=device), w)
    with pytest.raises(ValueError, match="H > 0"):
        rms_norm(x[:, :0], w[:0])
    with pytest.raises(ValueError, match="float64"):
        rms_norm(x.double(), w, impl="triton")
    with pytest.raises(ValueError, match="rows up to 8192, got 8193"):
        rms_norm(torch.zeros(1, 8193, device=device), torch.zeros(8193, device=device), impl="triton")
    with pytest.raises(ValueError, match="has no impl"):
        add_rms_norm(x, r, w, impl="torch")


@pytest.mark.parametrize("impl", ["auto", *IMPLS])
def test_tensors_on_two_devices_are_refused(impl, device):
    x, r, w, *_ = draw((3,), 8, torch.float32, device)
    away = re.escape(f"weight is on meta, the first input on {x.device}")
    with pytest.raises(ValueError, match=f"^rms_norm: {away}"):
        rms_norm(x, w.to("meta"), impl=impl)
    with pytest.raises(ValueError, match=f"^add_rms_norm: {away}"):
        add_rms_norm(x, r, w.to("meta"), impl=impl)
    with pytest.raises(ValueError, match="residual is on meta"):
        add_rms_norm(x, r.to("meta"), w, impl=impl)


def test_a_sharded_weight_is_refused_with_a_word_of_where_it_is_whole(device, monkeypatch):
    """In place of a process group: whatever the loaded torch.distributed.tensor calls DTensor."""

    class DTensor(torch.Tensor): ...

    monkeypatch.setitem(sys.modules, "torch.distributed.tensor", SimpleNamespace(DTensor=DTensor))
    x, r, w, *_ = draw((3,), 8, torch.float32, device)
    for call in (lambda w: rms_norm(x, w), lambda w: add_rms_norm(x, r, w)):
        with pytest.raises(ValueError, match=r"weight is a DTensor.*inside the forward of the module that fully_sh"):
            call(w.detach().as_subclass(DTensor))
        call(w)


@pytest.mark.gpu
def test_liger(device, against_fp64):
    if reason := backends.why_not("liger", device):
        pytest.skip(reason)
    x, r, w, dy, ds = draw((300,), 512, torch.bfloat16, device)
    kept = dy.clone()
    y = rms_norm(x, w, impl="liger")
    got = (y, *torch.autograd.grad(y, (x, w), dy))
    assert torch.equal(dy, kept)
    y = eager(x, w, 1e-6)
    near = (y, *torch.autograd.grad(y, (x, w), dy))
    xs = wide(x, w)
    y = eager(*xs, 1e-6)
    exact = (y, *torch.autograd.grad(y, xs, dy.double()))
    for name, *values in zip(("y", "dx", "dw"), got, near, exact, strict=True):
        against_fp64(name, *values, slack=2.0)
    ours = torch.autograd.grad(add_rms_norm(x, r, w, impl="triton"), (x, r, w), (dy, ds))
    theirs = torch.autograd.grad(add_rms_norm(x, r, w, impl="liger"), (x, r, w), (dy, ds))
    for a, b in zip(theirs, ours, strict=True):
        torch.testing.assert_close(a, b, rtol=2**-5, atol=0.2)


@pytest.mark.gpu
def test_rows_times_columns_beyond_int32(device):
    """2^31 values and more: an int32 offset would wrap to the first rows."""
    h = 4096
    n = 2**31 // h + 9
    x = torch.zeros(n, h, dtype=torch.bfloat16, device=device)
    x[-5:] = torch.randn(5, h, device=device)
    w = torch.randn(h, dtype=torch.bfloat16, device=device, requires_grad=True)
    y = rms_norm(x.requires_grad_(), w, impl="triton")
    exact = wide(x[-5:], w)  # in bfloat16 the plain formula itself is off by a few hundredths where rows cancel
    want = eager(*exact, 1e-6)
    torch.testing.assert_close(y[-5:].double(), want, rtol=2**-6, atol=1e-3)
    dy = torch.zeros_like(x)
    dy[-5:] = 1
    dx, dw = torch.autograd.grad(y, (x, w), dy)
    expected = torch.autograd.grad(want, exact, dy[-5:].double())
    torch.testing.assert_close(dx[-5:].double(), expected[0], rtol=2**-7, atol=1e-2)
    torch.testing.assert_close(dw.double(), expected[1], rtol=2**-7, atol=1e-3)
