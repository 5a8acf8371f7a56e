"""RMSNorm, alone and with the residual addition: values and every gradient against fp64, transformers and torch."""

import re
import sys
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from dpr_kernels import add_rms_norm, backends, reference, rms_norm

launches = sys.modules["dpr_kernels.rms_norm"]  # the package's name for it is the operator
run_forward, run_backward, residency = launches._run_forward, launches._run_backward, launches._residency

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


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "h"), [(1, 33), (37, 40), (5, 700), (53, 24)])
@pytest.mark.parametrize("add", [False, True])
def test_frozen_weight_against_fp64(dtype, rows, h, add, device, against_fp64):
    """The backward without dW has a layout of its own; inputs and gradients here are slices of wider rows."""
    x, r, w, dy, ds = draw((rows,), h + 6, dtype, device)
    x, r, dy, ds = (t[:, 3:-3] for t in (x, r, dy, ds))
    x, r, w = x.detach().requires_grad_(), r.detach().requires_grad_(add), w.detach()[:h].clone()

    def plain(x, r, w):
        return (eager(x + r, w, 1e-5), x + r) if add else (eager(x, w, 1e-5),)

    def ours(x, r, w):
        return add_rms_norm(x, r, w, 1e-5, impl="triton") if add else (rms_norm(x, w, 1e-5, impl="triton"),)

    results = []
    for f, (a, b, weight) in ((ours, (x, r, w)), (plain, (x, r, w)), (plain, [*wide(x, r), w.double()])):
        outs = f(a, b, weight)
        ups = [up.to(out.dtype) for out, up in zip(outs, (dy, ds), strict=False)]
        results.append(torch.autograd.grad(outs, (a, b) if add else (a,), ups))
    for name, *values in zip(("dx", "dres"), *results, strict=False):
        against_fp64(name, *values)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("programs", "rows", "h"), [(1, 37, 40), (2, 37, 33), (11, 53, 72)])
def test_dw_of_any_number_of_programs_against_fp64(programs, rows, h, dtype, device, against_fp64, monkeypatch):
    """Each program has partial sums, and one launch adds them: in tiles, the last of which is not full."""
    monkeypatch.setattr(sys.modules["dpr_kernels.rms_norm"], "_residency", lambda *_: (programs, 0))
    x, _, w, dy, _ = draw((rows,), h, dtype, device)
    got = [torch.autograd.grad(rms_norm(x, w, impl="triton"), w, dy)[0] for _ in range(2)]
    assert torch.equal(*got)
    xs = wide(x, w)
    near, exact = eager(x, w, 1e-6), eager(*xs, 1e-6)
    exact = torch.autograd.grad(exact, xs[1], dy.double())[0]
    against_fp64("dw", got[0], torch.autograd.grad(near, w, dy)[0], exact)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("context", ["autocast", "inference"])
def test_autocast_and_inference_change_nothing(impl, context, device):
    """Under autocast rows may be bfloat16 or float32 and the weight is float32: the result has what both promote to."""
    w = torch.randn(40, device=device)
    for dtype in (torch.bfloat16, torch.float32):
        x, r, _, dy, ds = draw((9,), 40, dtype, device)
        want = (*add_rms_norm(x, r, w, impl=impl), rms_norm(x, w, impl=impl))
        inside = torch.autocast(device.type, torch.bfloat16) if context == "autocast" else torch.inference_mode()
        with inside:
            got = (*add_rms_norm(x, r, w, impl=impl), rms_norm(x, w, impl=impl))
            ref = (*add_rms_norm(x, r, w, impl="reference"), rms_norm(x, w, impl="reference"))
        assert [t.dtype for t in got] == [t.dtype for t in ref] == [torch.float32, dtype, torch.float32]
        assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))
        for a, b in zip(got, ref, strict=True):  # the interpreter cuts bfloat16 off
            torch.testing.assert_close(a, b, **({} if dtype == torch.float32 else {"rtol": 2**-6, "atol": 2e-2}))
        if context == "autocast":
            ups = dy.float(), ds, dy.float()
            for a, b in zip(torch.autograd.grad(got, (x, r), ups), torch.autograd.grad(want, (x, r), ups), strict=True):
                assert torch.equal(a, b)
        else:
            assert all(t.is_inference() for t in got)


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
    away = re.escape(f"weight is on meta, x on {x.device}")
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


def far_apart(rows, device):
    """Rows (3, H) as they are, but 2^30 values and more apart; memory that is not written is not taken."""
    apart = 2**30 + 64
    try:
        store = torch.empty(2 * apart + rows.shape[1], dtype=rows.dtype, device=device)
    except RuntimeError as error:
        pytest.skip(f"no 4 GiB of address space: {error}")
    far = store.as_strided(rows.shape, (apart, 1))
    far.copy_(rows)
    return far


def test_rows_more_than_int32_apart(device):
    """Offsets beyond 2^31 in each input; in int32 they would wrap to memory that is not the tensor's."""
    x, r, w, dy, ds = draw((3,), 40, torch.float16, device)
    want = add_rms_norm(x, r, w, impl="triton")
    want += torch.autograd.grad(want, (x, r, w), (dy, ds))
    a, b = (far_apart(t.detach(), device).requires_grad_() for t in (x, r))
    got = add_rms_norm(a, b, w, impl="triton")
    # autograd gives gradients on as they are only where their layout is what it expects, so by hand
    _, _, rstd = run_forward(a, b, w, 1e-6, 0.0)
    total = far_apart(got[1].detach(), device)
    dx, dw = run_backward(far_apart(dy, device), far_apart(ds, device), total, w, rstd, 0.0, True)
    for name, ours, near in zip(("y", "sum", "dx", "dres", "dw"), (*got, dx, dx, dw), want, strict=True):
        assert torch.equal(ours, near), name


def captured(run):
    """What `run` returns, from a CUDA graph of it, and the graph: whatever synchronises raises while it is captured."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        run()  # compiles
    torch.cuda.current_stream().wait_stream(side)
    residency.cache_clear()  # what is asked of the device is asked while capturing
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = run()
    return results, graph


@pytest.mark.gpu
@pytest.mark.parametrize("frozen", [False, True])
def test_cuda_graph(frozen, device):
    x, r, w, dy, ds = draw((300,), 1024, torch.bfloat16, device)
    xs = (x, r) if frozen else (x, r, w)
    weight = w.detach() if frozen else w

    def run():
        outs = (*add_rms_norm(x, r, weight, impl="triton"), rms_norm(x, weight, impl="triton"))
        return [*outs, *torch.autograd.grad(outs, xs, (dy, ds, dy))]

    results, graph = captured(run)
    with torch.no_grad():  # other values than those captured
        for t in (x, r, w, dy, ds):
            t.copy_(torch.randn_like(t))
    graph.replay()
    assert all(torch.equal(a, b) for a, b in zip(results, run(), strict=True))


@pytest.mark.gpu
@pytest.mark.parametrize("h", [128, 576, 2048, 3584, 4096, 8192])
@pytest.mark.parametrize("rows", [1, 333, 2051])
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_layouts_of_a_gpu_against_fp64(h, rows, frozen, dtype, device, against_fp64):
    """The interpreter has one layout for all; these are those that training launches."""
    x, r, w, dy, ds = draw((rows,), h, dtype, device)
    results = []
    for kind in ("ours", "eager", "exact"):
        a, b, c = wide(x, r, w) if kind == "exact" else (x, r, w)
        weight = c.detach() if frozen else c
        sums = a + b
        outs = add_rms_norm(a, b, weight, impl="triton") if kind == "ours" else (eager(sums, weight, 1e-6), sums)
        ups = [up.to(outs[0].dtype) for up in (dy, ds)]
        results.append((*outs, *torch.autograd.grad(outs, (a, b) if frozen else (a, b, c), ups)))
    for name, *values in zip(("y", "sum", "dx", "dres", "dw")[: 4 if frozen else 5], *results, strict=True):
        against_fp64(name, *values)


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


@pytest.mark.parametrize("op", [rms_norm, add_rms_norm])
def test_auto_is_the_reference_for_rows_that_the_kernels_do_not_hold(op, monkeypatch):
    """As on a GPU, where auto would be the kernels; said once."""
    module = sys.modules["dpr_kernels.rms_norm"]
    monkeypatch.setattr(module, "pick", lambda op, impl, device: "triton")
    backends.warn_once.cache_clear()
    x, w = torch.randn(2, 8193, generator=torch.Generator().manual_seed(0)), torch.ones(8193)
    inputs = (x, w) if op is rms_norm else (x, x, w)
    with pytest.warns(UserWarning, match="'auto' is the reference for rows of 8193, above 8192"):
        out = op(*inputs)
    want = getattr(reference, op.__name__)(*inputs)
    torch.testing.assert_close(out, want, rtol=0, atol=0)
    with pytest.raises(ValueError, match="takes rows up to 8192, got 8193"):
        op(*inputs, impl="triton")
