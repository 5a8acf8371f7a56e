"""What each operator moves, tensor by tensor, and multiplies: a second pass over memory fails here.

A pass is a read or a write of a whole tensor. "Little" is what does not grow with the rows times the width: 4 bytes a
row, a weight for each tile or program, partial sums.
"""

import sys

import dpr_kernels
import pytest
import torch
from dpr_kernels.head_loss import HeadJob, HeadLoss, Labelled
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from traffic import Traffic, counted

pytest.importorskip("triton", reason="triton is not installed")
head = sys.modules["dpr_kernels.linear_cross_entropy"]  # the package has a function of that name
pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="counted where the interpreter loads and stores")
ROWS, WIDTH = 40, 72  # neither a multiple of a tile
READ, WRITTEN, LEFT = (1.0, 0.0), (0.0, 1.0), (0.0, 0.0)


def bf16(*size, grad=True):
    g = torch.Generator().manual_seed(sum(size))
    return torch.randn(size, generator=g).bfloat16().requires_grad_(grad)


def forward_and_backward(monkeypatch, call, inputs):
    """(traffic of the forward, outputs, traffic of the backward, gradients that came in, gradients)."""
    with counted(monkeypatch) as before:
        outs = call(*inputs)
        outs = outs if isinstance(outs, tuple) else (outs,)
    grads = [bf16(*o.shape, grad=False).as_strided(o.shape, o.stride()) for o in outs]
    with counted(monkeypatch) as after:
        result = torch.autograd.grad(outs, [x for x in inputs if x.requires_grad], grads)
    return before, outs, after, grads, result


@pytest.mark.parametrize("frozen", [False, True])
def test_rms_norm_forward_2_backward_3_passes(monkeypatch, frozen):
    x, w = bf16(ROWS, WIDTH), bf16(WIDTH, grad=not frozen)
    norm = lambda x, w: dpr_kernels.rms_norm(x, w, impl="triton")  # noqa: E731
    before, (y,), after, (dy,), (dx, *_) = forward_and_backward(monkeypatch, norm, (x, w))
    found = before.passes(x=x, y=y, w=w)
    assert found.pop("scratch") == (0, 4 * ROWS)  # rstd
    assert found.pop("w")[1] == 0  # read by each tile, out of L2
    assert found == {"x": READ, "y": WRITTEN} and not before.operations
    found = after.passes(x=x, dy=dy, dx=dx, w=w)
    reads, writes = found.pop("scratch")
    programs = 0 if frozen else 3
    assert (reads, writes) == (4 * ROWS + 4 * programs * WIDTH, 4 * programs * WIDTH + (not frozen) * 2 * WIDTH)
    assert found.pop("w") == (3.0, 0.0)  # once a program
    assert found == {"x": READ, "dy": READ, "dx": WRITTEN} and not after.operations
    assert after.kernels == ({"_backward": 1} if frozen else {"_backward": 1, "_finish": 1})


def test_add_rms_norm_forward_4_backward_4_passes(monkeypatch):
    x, r, w = bf16(ROWS, WIDTH), bf16(ROWS, WIDTH), bf16(WIDTH)
    norm = lambda x, r, w: dpr_kernels.add_rms_norm(x, r, w, impl="triton")  # noqa: E731
    before, (y, total), after, (dy, dsum), (dx, dr, _) = forward_and_backward(monkeypatch, norm, (x, r, w))
    found = before.passes(x=x, r=r, y=y, total=total, w=w)
    assert found.pop("scratch") == (0, 4 * ROWS) and found.pop("w")[1] == 0
    assert found == {"x": READ, "r": READ, "y": WRITTEN, "total": WRITTEN} and not before.operations
    found = after.passes(x=x, total=total, dy=dy, dsum=dsum, dx=dx, w=w)
    del found["scratch"], found["w"]
    assert found == {"x": LEFT, "total": READ, "dy": READ, "dsum": READ, "dx": WRITTEN} and not after.operations
    assert dx.data_ptr() == dr.data_ptr()  # one tensor for both


@pytest.mark.parametrize("reuse", [False, True])
def test_swiglu_forward_3_backward_5_passes(monkeypatch, reuse):
    leaves = bf16(ROWS, WIDTH), bf16(ROWS, 2 * WIDTH)[:, :WIDTH].contiguous().detach().requires_grad_()
    gate, up = (x.clone() for x in leaves)
    with counted(monkeypatch) as before:
        out = dpr_kernels.swiglu(gate, up, impl="triton", reuse_inputs=reuse)
    assert before.passes(gate=gate, up=up, out=out) == {"gate": READ, "up": READ, "out": WRITTEN, "scratch": (0, 0)}
    dout = bf16(*out.shape, grad=False)
    with counted(monkeypatch) as after:
        dgate, dup = torch.autograd.grad(out, leaves, dout)
    assert not before.operations and not after.operations
    if reuse:  # where gate and up lay
        found = after.passes(dout=dout, dgate=dgate, dup=dup)
        assert found == {"dout": READ, "dgate": (1.0, 1.0), "dup": (1.0, 1.0), "scratch": (0, 0)}
    else:
        found = after.passes(dout=dout, gate=gate, up=up, dgate=dgate, dup=dup)
        wanted = {"dout": READ, "gate": READ, "up": READ, "dgate": WRITTEN, "dup": WRITTEN, "scratch": (0, 0)}
        assert found == wanted


def test_rope_2_passes_over_q_and_k_each_way_and_one_over_its_table(monkeypatch):
    q, k = (bf16(1, 24, heads, 16).transpose(1, 2) for heads in (6, 2))
    cos, sin = bf16(1, 24, 16, grad=False), bf16(1, 24, 16, grad=False)
    turn = lambda q, k: dpr_kernels.rope(q, k, cos, sin, impl="triton")  # noqa: E731
    before, (qo, ko), after, (dq, dk), (q_grad, k_grad) = forward_and_backward(monkeypatch, turn, (q, k))
    once = {"cos": READ, "sin": READ, "scratch": (0, 0)}
    found = before.passes(q=q, k=k, qo=qo, ko=ko, cos=cos, sin=sin)
    assert found == {"q": READ, "k": READ, "qo": WRITTEN, "ko": WRITTEN, **once} and not before.operations
    found = after.passes(dq=dq, dk=dk, q=q_grad, k=k_grad, cos=cos, sin=sin)
    assert found == {"dq": READ, "dk": READ, "q": WRITTEN, "k": WRITTEN, **once} and not after.operations


# --- linear_cross_entropy ---------------------------------------------------------------------------------------------


def largest(traffic: Traffic, shape: tuple[int, int, int]) -> torch.Tensor:
    """The buffer of logits: the tensor of that shape which is no input."""
    found = [x for x in traffic.seen.values() if x.shape == shape]
    assert len(found) == 1, [tuple(x.shape) for x in traffic.seen.values()]
    return found[0]


@pytest.mark.parametrize("frozen", [False, True])
def test_the_head_in_one_chunk(monkeypatch, frozen):
    """Logits: written by a matmul, read twice and written once by the row kernel, read by one or two matmuls."""
    m, h, v, padded = 40, 72, 100, 128
    x, w, y = bf16(m, h), bf16(v, h, grad=not frozen), torch.arange(m)
    with counted(monkeypatch) as traffic:
        loss = dpr_kernels.linear_cross_entropy(x, w, y, normaliser=m, impl="triton")
        grads = torch.autograd.grad(loss, (x,) if frozen else (x, w))
    logits = largest(traffic, (1, m, padded))
    found = traffic.passes(x=x, w=w, dx=grads[0], dw=None if frozen else grads[1])
    used, gap, itemsize = m * v, m * (padded - v), 2
    at = logits.untyped_storage().data_ptr()
    matmuls = 1 if frozen else 2
    assert traffic.reads[at] == itemsize * (2 * m * padded + m + matmuls * used)  # + m: each target's own logit
    assert traffic.writes[at] == itemsize * (m * padded + used + gap)  # the gap is zeroed once
    assert found["x"] == (1.0 if frozen else 2.0, 0.0)  # logits, and dW
    assert found["w"] == (2.0, 0.0) and found["dx"] == WRITTEN
    assert frozen or found["dw"] == WRITTEN
    little = sum(traffic.reads.values()) + sum(traffic.writes.values())
    for name, tensor in {"x": x, "w": w, "dx": grads[0], **({} if frozen else {"dw": grads[1]})}.items():
        little -= sum(found[name]) * tensor.numel() * itemsize
    little -= traffic.reads[at] + traffic.writes[at]
    assert little <= 100 * m, f"{little} bytes, {dict(traffic.operations)}"


def test_the_head_in_chunks_reads_the_weight_for_each_and_adds_dw_in_float32(monkeypatch):
    m, h, v, chunk = 48, 72, 128, 16
    x, w, y = bf16(m, h), bf16(v, h), torch.arange(m)
    with counted(monkeypatch) as traffic:
        loss = dpr_kernels.linear_cross_entropy(x, w, y, normaliser=m, impl="triton", chunk=chunk)
        dx, _ = torch.autograd.grad(loss, (x, w))
    found, chunks, at = traffic.passes(x=x, w=w, dx=dx), m // chunk, largest(traffic, (1, chunk, v)).data_ptr()
    assert traffic.reads[at] == 2 * (2 * m * v + m + 2 * m * v) and traffic.writes[at] == 2 * 2 * m * v
    assert found["w"] >= (2.0 * chunks, 0.0) and found["x"][0] >= 2.0 and found["dx"] == WRITTEN
    sums = [a for a, t in traffic.seen.items() if t.dtype == torch.float32 and t.shape == (v, h)]
    # on a CPU operands are widened for it, and dW is rounded once in the end
    assert sum(traffic.writes[a] for a in sums) >= 4 * v * h * chunks


def test_rows_that_are_named_are_read_and_no_others(monkeypatch):
    """What the trainer does: no copy of all labelled rows, no search for them, no scattered addition."""
    m, h, v = 64, 72, 128
    x, w, rows = bf16(m, h), bf16(v, h, grad=False), torch.arange(0, m, 4)
    with counted(monkeypatch) as traffic:
        loss = dpr_kernels.linear_cross_entropy(x, w, torch.arange(m), normaliser=16, rows=rows, impl="triton")
        torch.autograd.grad(loss, x)
    assert traffic.passes(x=x)["x"] == (0.25, 0.0)
    assert not any(name in " ".join(traffic.operations) for name in ("nonzero", "index_put", "index_add"))


@pytest.mark.parametrize("grad", [False, True])
def test_attention_multiplies_inside_documents_alone(grad):
    """Of documents of 32 and 64 tokens 32^2 + 64^2 pairs, not 96^2; forward and backward, as SDPA is asked."""
    q, k, v = (bf16(96, heads, 16, grad=grad) for heads in (4, 2, 2))
    pairs: list[int] = []

    class Pairs(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if "scaled_dot_product" in str(func):
                first = args[1 if "backward" in str(func) else 0]  # the backward's own first is the gradient
                pairs.append(first.shape[-2] ** 2)
            return func(*args, **(kwargs or {}))

    with Pairs():
        out = dpr_kernels.varlen_attention(q, k, v, torch.tensor([0, 32, 96], dtype=torch.int32), impl="reference")
        if grad:
            out.sum().backward()
    assert sorted(pairs) == sorted([32**2, 64**2] * (2 if grad else 1))


class Nothing:
    """A kernel that is launched, and does nothing."""

    def __getitem__(self, _):
        return lambda *_, **__: None


@pytest.mark.parametrize(("needs", "factor"), [((True, True), 6), ((True, False), 4), ((False, False), 2)])
def test_flop_of_a_7b_head(monkeypatch, needs, factor):
    """On fake tensors: 32,768 rows, H 4096, V 128256; what its matmuls multiply, and what moves between them."""
    rows, width, vocab = 32768, 4096, 128256
    monkeypatch.setattr(head, "_row_kernel", Nothing())
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        x, w = (torch.empty(n, width, dtype=torch.bfloat16) for n in (rows, vocab))
        y = torch.empty(rows, dtype=torch.int64)
    loss = HeadLoss(-100, None, 0.0, 0.0, None, "float32", "matmul", False)
    job = HeadJob(x, w, y, 1.0, None, "all", loss, needs)
    in_place = {torch.ops.aten.addmm_: lambda _, a, b, **__: 2 * a[0] * a[1] * b[1]}  # the counter lacks it
    with mode, FlopCounterMode(display=False, custom_mapping=in_place) as flops:
        head._compute(x, w, job, Labelled(None, y, None, None), False, False)
    assert flops.get_total_flops() == factor * rows * width * vocab
