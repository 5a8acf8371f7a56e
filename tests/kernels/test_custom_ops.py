"""torch.compile meets each operator as one node of its graph: no graph break, the same values, the same gradients."""

import shutil
from functools import partial

import dpr_kernels
import pytest
import torch
from dpr_kernels import attention, reference
from dpr_kernels.apply import apply
from tiny_models import build, packed
from torch._dynamo.testing import CompileCounterWithBackend
from torch.library import opcheck
from torch.nn import functional as F

OURS = ["reference", "triton"]  # triton in the interpreter where there is no GPU
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
pytestmark = pytest.mark.slow  # tracing takes seconds


@pytest.fixture(autouse=True)
def fresh():
    """No graph of another test is used again."""
    torch._dynamo.reset()


def normal(*size, dtype=torch.float32, seed=0):
    g = torch.Generator().manual_seed(seed + sum(size))
    return torch.randn(size, generator=g).to(DEVICE, dtype)


def attention_inputs(dtype):
    q, k, v = normal(11, 4, 8, dtype=dtype), normal(11, 2, 8, dtype=dtype), normal(11, 2, 8, dtype=dtype, seed=1)
    return q, k, v, torch.tensor([0, 4, 11], dtype=torch.int32, device=DEVICE)


def inputs(op, dtype=torch.float32):
    """(tensors that are trained, the operator of them alone)."""
    if op in ("rms_norm", "add_rms_norm"):
        tensors = [normal(3, 5, 24, dtype=dtype, seed=n) for n in range(1 + (op == "add_rms_norm"))]
        return [*tensors, normal(24, dtype=dtype)], partial(getattr(dpr_kernels, op), eps=1e-5, offset=0.5)
    if op == "swiglu":
        return [normal(3, 5, 24, dtype=dtype, seed=n) for n in (1, 2)], dpr_kernels.swiglu
    if op == "rope":
        q, k = normal(2, 6, 3, 8, dtype=dtype).transpose(1, 2), normal(2, 6, 1, 8, dtype=dtype).transpose(1, 2)
        cos, sin = normal(1, 6, 8, dtype=dtype, seed=1), normal(1, 6, 8, dtype=dtype, seed=2)
        return [q, k], lambda q, k, impl="auto": dpr_kernels.rope(q, k, cos, sin, impl=impl)
    if op == "linear_cross_entropy":
        targets = torch.tensor([3, -100, 0, 9, 4, -100, 2], device=DEVICE)
        token_weights = torch.tensor([1, 1, 0.5, 0, 2, 1, 1], device=DEVICE)
        loss = partial(
            dpr_kernels.linear_cross_entropy, targets=targets, normaliser=torch.tensor(5, device=DEVICE),
            token_weights=token_weights, z_loss=1e-2, label_smoothing=0.1, softcap=20.0, chunk=3,
        )  # fmt: skip
        return [normal(7, 16, dtype=dtype), normal(11, 16, dtype=dtype)], loss
    *qkv, bounds = attention_inputs(dtype)
    return qkv, lambda q, k, v, impl="auto": dpr_kernels.varlen_attention(q, k, v, bounds, window=3, impl=impl)


OPERATORS = ["rms_norm", "add_rms_norm", "swiglu", "rope", "linear_cross_entropy", "varlen_attention"]


def order(x):
    """Strides of the dimensions that have more than one place."""
    return [stride for stride, n in zip(x.stride(), x.shape, strict=True) if n > 1]


def values_and_gradients(call, tensors):
    leaves = [x.clone(memory_format=torch.preserve_format).requires_grad_() for x in tensors]
    outs = call(*leaves)
    outs = outs if isinstance(outs, tuple) else (outs,)
    sum((o.double() * normal(*o.shape, seed=n)).sum() for n, o in enumerate(outs)).backward()
    return [o.detach() for o in outs], [x.grad for x in leaves]


@pytest.mark.parametrize("impl", OURS)
@pytest.mark.parametrize("op", OPERATORS)
def test_compiled_and_plain_give_the_same(op, impl):
    if op == "varlen_attention" and impl == "triton":
        pytest.skip("attention has no Triton kernel")
    tensors, call = inputs(op)
    call = partial(call, impl=impl)
    want = values_and_gradients(call, tensors)
    got = values_and_gradients(torch.compile(call, fullgraph=True, backend="aot_eager"), tensors)
    for some, others in zip(got, want, strict=True):
        for a, b in zip(some, others, strict=True):
            assert a.shape == b.shape and a.dtype == b.dtype and order(a) == order(b)
            torch.testing.assert_close(a, b, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("op", OPERATORS)
def test_gradients_written_out_are_those_of_autograd_in_fp64(op):
    tensors, call = inputs(op, torch.float64)
    want = values_and_gradients(partial(call, impl="reference"), tensors)
    got = values_and_gradients(torch.compile(partial(call, impl="reference"), fullgraph=True, backend="eager"), tensors)
    for some, others in zip(got, want, strict=True):
        for a, b in zip(some, others, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def operands(op, dtype, impl, transposed):
    """(overload, arguments) as the public functions give them, forward and backward."""
    ops = torch.ops.dpr_kernels
    tensors, _ = inputs(op, dtype)
    if transposed:  # the last two dimensions in the other order in memory
        tensors = [x.mT.contiguous().mT if x.ndim > 1 else x for x in tensors]
    leaves = [x.requires_grad_() for x in tensors]
    plain = [x.detach() for x in tensors]
    if op == "linear_cross_entropy":
        targets, rest = (
            torch.tensor([3, -100, 0, 9, 4, -100, 2], device=DEVICE),
            (None, 0.0, 0.0, 3, "float32", "matmul", False, dtype),
        )
        for nll, rows, whole in (
            (False, None, False),
            (True, torch.tensor([0, 2, 4], device=DEVICE), False),
            (True, None, True),
        ):
            wants = (True, not nll, nll, nll, impl)
            yield ops.linear_cross_entropy, (*leaves, targets, None, 5.0, None, rows, whole, -100, *rest, *wants)
        normaliser = torch.tensor([5], dtype=torch.float64, device=DEVICE)
        wants = (True, True, False, False, impl)
        yield ops.linear_cross_entropy, (*leaves, targets, normaliser, 0.0, None, None, True, -100, *rest, *wants)
        yield ops.scaled, (plain[0], torch.tensor(0.5, device=DEVICE), torch.float32, impl)
        yield ops.scaled, (plain[0], torch.tensor(0.5, device=DEVICE), dtype, impl)
    elif op == "varlen_attention":
        bounds = attention_inputs(dtype)[-1]
        yield ops.varlen_attention, (*leaves, bounds, 0.3, None, 7)
        yield ops.varlen_attention_backward, (plain[0], *plain, bounds, 0.3, 3)
    elif op == "rope":
        cos, sin = normal(1, 6, 8), normal(1, 6, 8, seed=1)
        yield ops.rope, (*leaves, cos, sin, False, impl)
        yield ops.rope, (*plain, cos, sin, True, impl)
    elif op == "swiglu":
        yield ops.swiglu, (*leaves, impl)
        yield ops.swiglu_backward, (plain[0], *plain, impl)
    else:
        yield getattr(ops, op), (*leaves, 1e-6, 0.0, impl)
        rstd = torch.ones(15, dtype=torch.float64 if dtype == torch.float64 else torch.float32, device=DEVICE)
        for dsum, need_dw in ((None, True), (plain[0], False)):
            yield ops.rms_norm_backward, (op, plain[0], dsum, plain[0], plain[-1], rstd, 0.0, need_dw, impl)


KINDS = [(torch.float32, i, t) for i in OURS for t in (False, True)]
KINDS += [(d, "reference", False) for d in (torch.bfloat16, torch.float16, torch.float64)]
KINDS += [(torch.float16, "triton", False), (torch.bfloat16, "triton", True)]


@pytest.mark.parametrize(("dtype", "impl", "transposed"), KINDS)
@pytest.mark.parametrize("op", OPERATORS)
def test_torch_finds_schema_fake_and_gradient_in_order(op, dtype, impl, transposed):
    """Dtypes, shapes and strides of the fakes are those of the operators, and no output is an input."""
    if op == "varlen_attention" and impl == "triton":
        pytest.skip("attention has no Triton kernel")
    for overload, arguments in operands(op, dtype, impl, transposed):
        opcheck(overload, arguments, test_utils=("test_schema", "test_autograd_registration", "test_faketensor"))


def test_rope_takes_what_eager_attention_hands_back():
    """The gradient of k then has its lanes apart."""
    q, k, cos = normal(1, 2, 8, 4), normal(1, 2, 8, 4, seed=1), normal(1, 8, 4)

    def scores(q, k):
        a, b = dpr_kernels.rope(q, k, cos, cos, impl="triton")
        return a.matmul(b.transpose(2, 3))

    want = values_and_gradients(scores, [q, k])
    got = values_and_gradients(torch.compile(scores, fullgraph=True, backend="aot_eager"), [q, k])
    for some, others in zip(got, want, strict=True):
        for a, b in zip(some, others, strict=True):
            torch.testing.assert_close(a, b, rtol=2e-6, atol=2e-6)


def test_a_second_derivative_is_refused_as_outside():
    x, w, targets = normal(7, 16).requires_grad_(), normal(11, 16), torch.arange(7, device=DEVICE)
    call = torch.compile(
        lambda x: dpr_kernels.linear_cross_entropy(x, w, targets, normaliser=7.0) ** 2, fullgraph=True, backend="eager"
    )
    (first,) = torch.autograd.grad(call(x), x, create_graph=True)
    with pytest.raises(RuntimeError, match="scaled"):
        torch.autograd.grad(first.sum(), x)


def test_only_the_sum_of_add_rms_norm_is_used():
    x, r, w = (normal(4, 24, seed=n).requires_grad_() for n in range(3))
    w = normal(24).requires_grad_()
    call = torch.compile(lambda *a: dpr_kernels.add_rms_norm(*a)[1], fullgraph=True, backend="eager")
    dx, dr, dw = torch.autograd.grad(call(x, r, w).sum(), [x, r, w], allow_unused=True)
    assert dw is None and torch.equal(dx, torch.ones_like(x)) and torch.equal(dr, dx)


def test_what_the_kernels_do_not_take_is_refused_compiled_too():
    q, cos = normal(1, 2, 4, 8, dtype=torch.float64), normal(1, 4, 8, dtype=torch.float64)
    call = torch.compile(lambda q: dpr_kernels.rope(q, q, cos, cos, impl="triton"), fullgraph=True, backend="aot_eager")
    with pytest.raises(ValueError, match="takes float32, bfloat16 or float16"):
        call(q)


def test_float16_gradients_are_divided_last():
    """1 / 70,000 is no float16: the sum over chunks is kept undivided, and autograd divides it."""
    x, w = normal(40, 16, dtype=torch.float16), normal(11, 16, dtype=torch.float16)
    targets = torch.arange(40, device=DEVICE) % 11
    call = partial(dpr_kernels.linear_cross_entropy, targets=targets, normaliser=70000.0, chunk=16, impl="reference")
    want = values_and_gradients(call, [x, w])
    got = values_and_gradients(torch.compile(call, fullgraph=True, backend="aot_eager"), [x, w])
    assert all(g.abs().max() > 0 for g in got[1])
    for a, b in zip(got[1], want[1], strict=True):
        torch.testing.assert_close(a, b, rtol=2e-3, atol=2**-24)


def test_the_loss_compiled_gives_all_that_it_gives_plain():
    x, w = normal(7, 16), normal(11, 16)
    targets, rows = (
        torch.tensor([3, -100, 0, 9, 4, -100, 2], device=DEVICE),
        torch.tensor([0, 2, 3, 4, 6], device=DEVICE),
    )

    def call(x, w, where):
        return dpr_kernels.linear_cross_entropy(
            x, w, targets, normaliser=5.0, rows=where, return_nll=True, return_accuracy=True
        )

    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    for where in (None, rows, "all"):
        for a, b in zip(compiled(x, w, where), call(x, w, where), strict=True):
            assert a.dtype == b.dtype
            torch.testing.assert_close(a, b)
    assert torch.compile(lambda: dpr_kernels.linear_cross_entropy(x, w, targets, normaliser=5.0), fullgraph=True,
                         backend="aot_eager")().shape == ()  # fmt: skip


def test_autocast_reaches_the_compiled_loss():
    """At run time no autocast is on any more: the dtype of the matmuls is an argument of the operator."""
    x, w, targets = normal(7, 16).requires_grad_(), normal(11, 16).requires_grad_(), torch.arange(7, device=DEVICE)

    def call():
        with torch.autocast(DEVICE.type, torch.bfloat16):
            return dpr_kernels.linear_cross_entropy(x, w, targets, normaliser=7)

    want = [call(), *torch.autograd.grad(call(), [x, w])]
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    got = [compiled(), *torch.autograd.grad(compiled(), [x, w])]
    exact = F.cross_entropy((x.double() @ w.double().T), targets)
    assert want[0] != exact.float()  # bfloat16 was there at all
    for a, b in zip(got, want, strict=True):
        assert a.dtype == b.dtype == torch.float32
        torch.testing.assert_close(a, b, rtol=1e-2 if a.ndim else 0, atol=1e-4 if a.ndim else 0)


def test_bad_input_is_refused_when_the_graph_runs():
    q, k, v, bounds = attention_inputs(torch.float32)
    attend = torch.compile(lambda b: dpr_kernels.varlen_attention(q, k, v, b), fullgraph=True, backend="aot_eager")
    assert attend(bounds).shape == q.shape
    with pytest.raises(ValueError, match="rise from 0 to 11"):
        attend(torch.tensor([0, 4, 10], dtype=torch.int32, device=DEVICE))
    x, w = normal(3, 16), normal(11, 16)
    loss = torch.compile(
        lambda y: dpr_kernels.linear_cross_entropy(x, w, y, normaliser=3),
        fullgraph=True, backend="aot_eager",
    )  # fmt: skip
    if DEVICE.type == "cuda":  # there nobody waits for the answer
        assert loss(torch.tensor([1, 2, 11], device=DEVICE)).isnan()
        return
    with pytest.raises(ValueError, match=r"targets must lie in \[0, 11\)"):
        loss(torch.tensor([1, 2, 11], device=DEVICE))


def test_attention_on_a_gpu_is_traced_as_torchs_own_operator(monkeypatch):
    """Traced with a stand-in for the device; it does not run here."""
    seen = []

    def graph(module, _):
        seen.extend(str(node.target) for node in module.graph.nodes if node.op == "call_function")
        return module.forward

    monkeypatch.setattr(attention, "_on_gpu", lambda _: True)
    q, k, v, bounds = (x.to("meta") for x in attention_inputs(torch.bfloat16))
    torch.compile(
        lambda q, k, v, b: attention._traced(q, k, v, b, None, 3, 7, "auto"),
        fullgraph=True, backend=graph,
    )(q, k, v, bounds)  # fmt: skip
    assert any("torch_attn._varlen_attn" in name for name in seen), seen
    assert any("_assert_async" in name for name in seen), seen


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_a_whole_model_is_one_graph_forward_and_backward(family):
    plain, model = build(family, DEVICE), build(family, DEVICE)
    row, _ = packed(DEVICE)
    results = []
    for m in (plain, model):
        with apply(m, linear_cross_entropy="auto"):
            call = torch.compile(m, fullgraph=True, backend="aot_eager") if m is model else m
            loss = call(**row).loss
            loss.backward()
        results.append([loss.detach(), *(p.grad for p in m.parameters())])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_rows_of_any_length_are_one_graph():
    model, (row, _) = build("llama", DEVICE, num_hidden_layers=1), packed(DEVICE)
    counter, graphs = CompileCounterWithBackend("aot_eager"), []
    with apply(model, linear_cross_entropy="auto"):
        call = torch.compile(model, fullgraph=True, backend=counter, dynamic=True)
        for length in (21, 17):
            ends = torch.tensor([0, 7, 8, length], dtype=torch.int32, device=DEVICE)
            one = {
                k: torch.tensor(v[:, :length].tolist(), device=DEVICE) if getattr(v, "ndim", 1) == 2 else v
                for k, v in row.items()
            }
            one |= {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends, "max_length_q": 21, "max_length_k": 21}
            loss = call(**one).loss
            loss.backward()
            assert torch.isclose(loss, model(**one).loss, rtol=1e-5)
            graphs.append(counter.frame_count)  # the first call may begin its trace anew
    assert graphs[0] and len(set(graphs)) == 1


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile's default backend needs g++ on a CPU")
@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_the_default_backend_runs_a_whole_model(family):
    plain, model = (build(family, DEVICE, num_hidden_layers=1) for _ in range(2))
    row, _ = packed(DEVICE)
    with apply(plain, linear_cross_entropy="auto"), apply(model, linear_cross_entropy="auto"):
        loss, want = torch.compile(model, fullgraph=True)(**row).loss, plain(**row).loss
        loss.backward(), want.backward()
    torch.testing.assert_close(loss, want, rtol=1e-5, atol=0)
    for a, b in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-6)


def test_reference_backward_sums_what_arrives_on_the_residual():
    """In a compiled model add_rms_norm's two outputs both get gradients."""
    x, r, w = (
        normal(4, 24, dtype=torch.float64),
        normal(4, 24, dtype=torch.float64, seed=1),
        normal(24, dtype=torch.float64),
    )
    leaves = [t.requires_grad_() for t in (x, r, w)]
    y, total = reference.add_rms_norm(*leaves)
    (y.square().sum() + total.pow(3).sum()).backward()
    call = torch.compile(dpr_kernels.add_rms_norm, fullgraph=True, backend="aot_eager")
    others = [t.detach().clone().requires_grad_() for t in leaves]
    y, total = call(*others)
    (y.square().sum() + total.pow(3).sum()).backward()
    for a, b in zip(others, leaves, strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-12, atol=1e-12)
