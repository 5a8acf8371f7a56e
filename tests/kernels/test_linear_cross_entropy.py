"""linear_cross_entropy: every option against its formula in fp64; what must not change the result; no waiting host."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from dpr_kernels import backends, head_chunked, head_libraries, head_loss, linear_cross_entropy
from dpr_kernels.reference import linear_cross_entropy as formula
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

MODULE = sys.modules["dpr_kernels.linear_cross_entropy"]  # the function has hidden the module's name
BOTH = pytest.mark.parametrize("impl", ["reference", "triton"])
EXTRAS: dict[str, dict[str, float]] = {
    "plain": {},
    "softcap": {"softcap": 2.0},
    "smoothing": {"label_smoothing": 0.2},
    "z_loss": {"z_loss": 0.05},
    "all": {"softcap": 3.0, "label_smoothing": 0.1, "z_loss": 0.02},
}


def inputs(device: torch.device, m: int = 13, h: int = 6, v: int = 11, dtype: torch.dtype = torch.float32) -> Any:
    """hidden and weight with gradients, targets with rows 0, 5 and m - 1 ignored."""
    g = torch.Generator().manual_seed(m + h + v)
    hidden = torch.randn(m, h, generator=g).to(device, dtype).requires_grad_()
    weight = torch.randn(v, h, generator=g).to(device, dtype).requires_grad_()
    targets = torch.randint(v, (m,), generator=g)
    if m > 6:
        targets[[0, 5, m - 1]] = -100
    return hidden, weight, targets.to(device)


def gradients(loss: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(loss, tensors)


def weights_for(targets: Tensor) -> Tensor:
    """Weights with zeros and one negative, as a policy gradient has."""
    w = torch.linspace(0.2, 2.0, len(targets))
    w[1::4], w[2] = 0.0, -0.7
    return w.to(targets.device)


@BOTH
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("extras", EXTRAS.values(), ids=EXTRAS.keys())
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_against_fp64(
    impl: str,
    dtype: torch.dtype,
    extras: dict[str, float],
    weighted: bool,
    device: torch.device,
    against_fp64: Callable[..., None],
) -> None:
    hidden, weight, targets = inputs(device, 37, 24, 300, dtype)
    how = dict(extras, normaliser=19.0, token_weights=weights_for(targets) if weighted else None)
    exact, exact_nll = formula(hidden.detach().double(), weight.detach().double(), targets, **how)
    plain, plain_nll = formula(hidden, weight, targets, **how)
    loss, nll = linear_cross_entropy(hidden, weight, targets, chunk=16, return_nll=True, impl=impl, **how)
    against_fp64(f"{impl} loss", loss[None], plain[None], exact[None])
    against_fp64(f"{impl} nll", nll, plain_nll, exact_nll)
    assert not nll.requires_grad
    got, eager = gradients(3 * loss, hidden, weight), gradients(3 * plain, hidden, weight)
    h64, w64 = (x.detach().double().requires_grad_() for x in (hidden, weight))
    want = gradients(3 * formula(h64, w64, targets, **how)[0], h64, w64)
    for name, a, b, w in zip(("dX", "dW"), got, eager, want, strict=True):
        # the reference subtracts the rounded lse, eager the largest logit: an eps of the logits' size, about 16
        against_fp64(f"{impl} {name}", a, b, w, ulps=16 if impl == "reference" and dtype == torch.float32 else 2)


@pytest.mark.parametrize("chunk", [1, 4, 100])
@pytest.mark.parametrize("extras", EXTRAS.values(), ids=EXTRAS.keys())
def test_gradcheck_of_the_reference(extras: dict[str, float], chunk: int) -> None:
    hidden, weight, targets = inputs(torch.device("cpu"), dtype=torch.float64)
    how = dict(extras, normaliser=7.0, token_weights=weights_for(targets), chunk=chunk)

    def loss(h: Tensor, w: Tensor) -> Tensor:
        return 3 * linear_cross_entropy(h, w, targets, impl="reference", **how)

    assert torch.autograd.gradcheck(loss, (hidden, weight))
    want, _ = formula(hidden, weight, targets, **{k: v for k, v in how.items() if k != "chunk"})
    torch.testing.assert_close(loss(hidden, weight), 3 * want)


@BOTH
@pytest.mark.parametrize("shape", [(1, 8, 64), (7, 3, 1), (9, 16, 129), (5, 5, 9000)], ids=str)
def test_odd_shapes(impl: str, shape: tuple[int, int, int], device: torch.device) -> None:
    """One row, one token in the vocabulary, vocabularies that are no multiple of any block, more than one block."""
    hidden, weight, targets = inputs(device, *shape)
    targets[0] = shape[2] - 1  # the last column, beside the padding
    want, want_nll = formula(hidden, weight, targets, normaliser=3.0, **EXTRAS["all"])
    loss, nll = linear_cross_entropy(
        hidden, weight, targets, normaliser=3.0, return_nll=True, impl=impl, **EXTRAS["all"]
    )
    torch.testing.assert_close(loss, want, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(nll, want_nll, rtol=1e-5, atol=1e-5)
    for a, b in zip(gradients(loss, hidden, weight), gradients(want, hidden, weight), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@BOTH
@pytest.mark.parametrize("rows", [None, "all", "tensor"])
@pytest.mark.parametrize("normaliser", [0, 4.0, "tensor"])
def test_nothing_labelled_is_zero_not_nan(impl: str, rows: Any, normaliser: Any, device: torch.device) -> None:
    hidden, weight, targets = inputs(device)
    targets[:] = -100
    rows = torch.arange(3) if rows == "tensor" else rows
    normaliser = torch.zeros((), device=device) if normaliser == "tensor" else normaliser
    loss = linear_cross_entropy(hidden, weight, targets, normaliser=normaliser, rows=rows, impl=impl)
    assert loss.item() == 0
    assert all(g.abs().max() == 0 for g in gradients(loss, hidden, weight))


@BOTH
def test_no_rows_at_all(impl: str, device: torch.device) -> None:
    _, weight, _ = inputs(device)
    hidden = torch.zeros(0, 6, device=device, requires_grad=True)
    targets = torch.zeros(0, dtype=torch.int64, device=device)
    loss, nll = linear_cross_entropy(hidden, weight, targets, normaliser=1, return_nll=True, impl=impl)
    dx, dw = gradients(loss, hidden, weight)
    assert loss.item() == 0 and nll.shape == (0,) and dx.shape == (0, 6) and dw.abs().max() == 0


@BOTH
@pytest.mark.parametrize("rows", [None, "all", "tensor"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_rows_that_do_not_count_may_hold_anything(
    impl: str, rows: Any, dtype: torch.dtype, device: torch.device
) -> None:
    """NaN in ignored rows and in rows of weight 0 reaches nothing; weight 0 is ignore_index."""
    hidden, weight, targets = inputs(device, dtype=dtype)
    token_weights = torch.ones(13, device=device)
    token_weights[3] = 0
    ignored = targets.clone()
    ignored[3] = -100
    want = linear_cross_entropy(hidden, weight, ignored, normaliser=10, impl=impl, chunk=4)
    dirty = hidden.detach().clone()
    dirty[ignored == -100] = float("nan")
    dirty.requires_grad_()
    rows = torch.arange(13) if rows == "tensor" else rows  # named, though some do not count
    how = {"normaliser": 10, "token_weights": token_weights, "rows": rows, "chunk": 4, "impl": impl}
    loss, nll, hit = linear_cross_entropy(dirty, weight, targets, return_nll=True, return_accuracy=True, **how)
    torch.testing.assert_close(loss, want)
    assert nll[ignored == -100].abs().max() == 0 and not hit[ignored == -100].any()
    dx, dw = gradients(loss, dirty, weight)
    want_dx, want_dw = gradients(want, hidden, weight)
    assert dx[ignored == -100].abs().max() == 0
    atol = 1e-5 if dtype == torch.float32 else 1e-3  # other rows share a chunk: sums are rounded elsewhere
    torch.testing.assert_close(dx, want_dx, rtol=1e-3, atol=atol)
    torch.testing.assert_close(dw, want_dw, rtol=1e-3, atol=atol)


@BOTH
@pytest.mark.parametrize("rows", [None, "all", "tensor"])
@pytest.mark.parametrize("chunk", [1, 3, 8, 1024, None])
def test_neither_chunk_nor_rows_changes_the_result(impl: str, chunk: int | None, rows: Any, device: Any) -> None:
    hidden, weight, targets = inputs(device, v=70)
    how = dict(EXTRAS["all"], normaliser=10.0, token_weights=weights_for(targets))
    want, _ = formula(hidden, weight, targets, **how)
    rows = (targets != -100).nonzero().squeeze(1).cpu() if rows == "tensor" else rows
    loss = linear_cross_entropy(hidden, weight, targets, chunk=chunk, rows=rows, impl=impl, **how)
    torch.testing.assert_close(loss, want, rtol=1e-5, atol=1e-6)
    for a, b in zip(gradients(loss, hidden, weight), gradients(want, hidden, weight), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@BOTH
def test_many_chunks_of_bf16_lose_nothing_in_dw(impl: str, device: torch.device) -> None:
    """dW summed in float32: 64 chunks are as near to fp64 as one. Summed in bfloat16 they would be further."""
    hidden, weight, targets = inputs(device, 128, 32, 64, torch.bfloat16)
    h64, w64 = (x.detach().double().requires_grad_() for x in (hidden, weight))
    (want,) = gradients(formula(h64, w64, targets, normaliser=128.0)[0], w64)

    def error(**how: Any) -> float:
        loss = linear_cross_entropy(hidden, weight, targets, normaliser=128.0, impl=impl, **how)
        return ((gradients(loss, weight)[0] - want).norm() / want.norm()).item()

    one, many, coarse = error(chunk=128), error(chunk=2), error(chunk=2, accumulate="weight")
    print(f"{impl}: dW error, 1 chunk {one:.2e}, 64 chunks {many:.2e}, 64 summed in bf16 {coarse:.2e}")
    assert many <= 1.2 * one < coarse


@BOTH
def test_micro_batches_are_one_batch(impl: str, device: torch.device) -> None:
    hidden, weight, targets = inputs(device, 12)
    token_weights = weights_for(targets)
    normaliser = torch.tensor(9, device=device)
    how = {"normaliser": normaliser, "impl": impl, "z_loss": 0.1}
    whole = linear_cross_entropy(hidden, weight, targets, token_weights=token_weights, **how)
    parts = [
        linear_cross_entropy(h, weight, t, token_weights=w, **how)
        for h, t, w in zip(hidden.split(5), targets.split(5), token_weights.split(5), strict=True)
    ]
    torch.testing.assert_close(sum(parts), whole)
    got, want = gradients(sum(parts), hidden, weight), gradients(whole, hidden, weight)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b)


@BOTH
@pytest.mark.parametrize("frozen", ["weight", "hidden", "both"])
def test_what_needs_no_gradient_gets_none(impl: str, frozen: str, device: torch.device) -> None:
    hidden, weight, targets = inputs(device)
    want = gradients(formula(hidden, weight, targets, normaliser=10.0)[0], hidden, weight)
    for name, x in (("hidden", hidden), ("weight", weight)):
        x.requires_grad_(frozen not in (name, "both"))
    made: list[tuple[int, ...]] = []

    class Made(TorchDispatchMode):
        """Shapes of what is not one of the inputs."""

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **kwargs or {})
            given = {x.untyped_storage().data_ptr() for x in (hidden, weight)}
            if isinstance(out, Tensor) and out.untyped_storage().data_ptr() not in given:
                made.append((*out.shape,))
            return out

    with Made():
        loss = linear_cross_entropy(hidden, weight, targets, normaliser=10.0, impl=impl, rows="all", chunk=4)
    assert loss.requires_grad == (frozen != "both")
    assert ((11, 6) in made) == (frozen == "hidden")  # a frozen head: no dW, not even for a moment
    if frozen != "both":
        loss.backward()
    for x, g, name in ((hidden, want[0], "hidden"), (weight, want[1], "weight")):
        if frozen in (name, "both"):
            assert x.grad is None
        else:
            torch.testing.assert_close(x.grad, g)


@BOTH
def test_no_grad_makes_no_gradients(impl: str, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, weight, targets = inputs(device)
    want, _ = formula(hidden, weight, targets, normaliser=10.0)
    seen: list[bool] = []
    real = head_chunked._LinearCrossEntropy if impl == "reference" else MODULE._LinearCrossEntropy
    forward = real.forward
    monkeypatch.setattr(real, "forward", lambda ctx, *a: (seen.extend(a[2].needs), forward(ctx, *a))[1])
    with torch.no_grad():
        loss = linear_cross_entropy(hidden, weight, targets, normaliser=10.0, impl=impl)
    assert seen == [False, False]
    torch.testing.assert_close(loss, want.detach())


@BOTH
def test_strided_inputs_and_a_broadcast_gradient(impl: str, device: torch.device) -> None:
    _, _, targets = inputs(device)
    wide = torch.randn(13, 12, device=device)[:, ::2].requires_grad_()
    turned = torch.randn(6, 22, device=device).T[::2].requires_grad_()
    spread = torch.stack([targets, targets], 1)[:, 0]
    assert not (wide.is_contiguous() or turned.is_contiguous() or spread.is_contiguous())
    how = {"normaliser": 10.0, "token_weights": weights_for(targets).repeat_interleave(2)[::2]}
    want, _ = formula(wide, turned, spread, **how)
    for rows in (None, "all"):
        loss = linear_cross_entropy(wide, turned, spread, rows=rows, chunk=5, impl=impl, **how)
        got = gradients(loss.expand(3).sum(), wide, turned)
        for a, b in zip(got, gradients(3 * want, wide, turned), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
        want, _ = formula(wide, turned, spread, **how)


@BOTH
@pytest.mark.parametrize("vocab", [200, 8300], ids=["one block", "two"])
def test_accuracy(impl: str, vocab: int, device: torch.device) -> None:
    hidden, weight, targets = inputs(device, 40, 8, vocab)
    best = (hidden @ weight.T).argmax(1)
    targets = torch.where(torch.arange(40, device=device) % 3 == 0, best, targets)
    targets[7] = -100
    how = {"normaliser": 1.0, "impl": impl, "return_accuracy": True}
    _, hit = linear_cross_entropy(hidden, weight, targets, chunk=16, **how)
    assert hit.dtype == torch.bool and hit.tolist() == ((best == targets) & (targets != -100)).tolist()
    _, nll, hit = linear_cross_entropy(hidden, weight, targets, return_nll=True, **how)
    assert nll.dtype == torch.float32 and hit.dtype == torch.bool
    flat = torch.zeros_like(hidden)  # all logits equal: only the first is the largest
    _, hit = linear_cross_entropy(flat, weight, targets.clamp(min=0) % 2, **how)
    assert hit.tolist() == (targets.clamp(min=0) % 2 == 0).tolist()


@BOTH
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast(impl: str, dtype: torch.dtype, device: torch.device, against_fp64: Callable[..., None]) -> None:
    """Low-precision matmuls, float32 loss, float32 gradients for float32 inputs."""
    hidden, weight, targets = inputs(device, 100, 32, 90)
    h64, w64 = (x.detach().double().requires_grad_() for x in (hidden, weight))
    exact, _ = formula(h64, w64, targets, normaliser=97.0)
    with torch.autocast(device.type, dtype):
        eager, _ = formula(hidden, weight, targets, normaliser=97.0)
        ours = linear_cross_entropy(hidden, weight, targets, normaliser=97.0, chunk=32, impl=impl)
    against_fp64("loss", ours[None], eager[None], exact[None], ulps=64)  # a rounded loss can be right by luck
    got, plain, want = (gradients(*x) for x in ((ours, hidden, weight), (eager, hidden, weight), (exact, h64, w64)))
    for name, a, b, w in zip(("dX", "dW"), got, plain, want, strict=True):
        assert a.dtype == torch.float32
        against_fp64(name, a, b, w, ulps=16)


@BOTH
def test_float32_logits_are_nearer(impl: str, device: torch.device) -> None:
    hidden, weight, targets = inputs(device, 30, 64, 100, torch.bfloat16)
    _, want = formula(hidden.detach().double(), weight.detach().double(), targets, normaliser=1.0)

    def error(logits: Any) -> float:
        loss, nll = linear_cross_entropy(
            hidden, weight, targets, normaliser=1.0, logits=logits, return_nll=True, impl=impl, chunk=8
        )
        assert all(g.isfinite().all() for g in gradients(loss, hidden, weight))
        return (nll - want).abs().max().item()

    assert error("float32") < 0.01 * error("matmul")


@BOTH
def test_float16_gradients_survive_a_large_normaliser(impl: str, device: torch.device) -> None:
    """p / 1e6 is nothing in float16; a loss scaler multiplies what is there, so it must still be there."""
    hidden, weight, targets = inputs(device, dtype=torch.float16)
    loss = linear_cross_entropy(hidden, weight, targets, normaliser=1e6, impl=impl, chunk=4)
    small = linear_cross_entropy(hidden, weight, targets, normaliser=1.0, impl=impl, chunk=4)
    got, want = gradients(1e6 * loss, hidden, weight), gradients(small, hidden, weight)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("rows", ["all", "tensor"])
def test_the_host_never_waits(rows: Any, overlap: bool, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `rows` given nothing reads a value back. The CPU's check of targets is no part of the GPU's path."""
    monkeypatch.setattr(head_loss, "check_targets", lambda *_: None)
    if device.type == "cpu":
        monkeypatch.setattr(MODULE, "_Beside", Early)
        monkeypatch.setattr(head_loss, "_check_rows", lambda *_: None)
    waits = {"aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero", "aten::equal", "aten::masked_select"}
    seen: list[str] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(func._schema.name)
            to = (kwargs or {}).get("device")
            assert func._schema.name != "aten::_to_copy" or to is None or torch.device(to).type != "cpu"
            return func(*args, **kwargs or {})

    hidden, weight, targets = inputs(device)
    rows = torch.arange(11, device=device) if rows == "tensor" else rows
    how = dict(EXTRAS["all"], token_weights=weights_for(targets), normaliser=torch.tensor(7.0, device=device))
    with Watch():
        loss, _, _ = linear_cross_entropy(
            hidden, weight, targets, rows=rows, overlap=overlap, chunk=4, impl="triton", return_nll=True,
            return_accuracy=True, **how,
        )  # fmt: skip
        loss.backward()
    assert seen and not waits & set(seen)
    seen.clear()
    with Watch():
        linear_cross_entropy(hidden, weight, targets, impl="triton", **how)
    assert [s for s in seen if s in waits] == ["aten::nonzero"]  # without `rows`: one


@pytest.mark.gpu
@pytest.mark.parametrize("rows", ["all", "tensor"])
def test_the_host_never_waits_on_a_gpu(rows: Any, device: torch.device) -> None:
    hidden, weight, targets = inputs(device)
    how = dict(EXTRAS["all"], token_weights=weights_for(targets), normaliser=7.0, chunk=4, impl="triton")
    rows = torch.arange(11) if rows == "tensor" else rows
    for mode in ("default", "error"):  # the first compiles
        torch.cuda.set_sync_debug_mode(mode)
        try:
            linear_cross_entropy(hidden, weight, targets, rows=rows, **how).backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
def test_more_than_2_31_logits_in_one_chunk(device: torch.device) -> None:
    m, v = 17408, 128256
    hidden, weight, targets = inputs(device, m, 64, v, torch.bfloat16)
    how = {"normaliser": float(m), "chunk": m, "return_nll": True, "impl": "triton"}
    loss, nll = linear_cross_entropy(hidden, weight, targets, **how)
    dx, _ = gradients(loss, hidden, weight)
    tail = slice(m - 64, m)
    want_loss, want = formula(hidden[tail], weight, targets[tail], normaliser=float(m))
    torch.testing.assert_close(nll[tail], want, rtol=1e-3, atol=1e-2)
    (want_dx,) = gradients(want_loss, hidden)
    torch.testing.assert_close(dx[tail], want_dx[tail], rtol=2e-2, atol=1e-7)


@BOTH
@pytest.mark.parametrize("bad", [11, -1, -101])
def test_target_out_of_range_is_never_silent(impl: str, bad: int, device: torch.device) -> None:
    """A CPU raises; a GPU is not asked, and the loss and the gradients are NaN."""
    hidden, weight, targets = inputs(device)
    targets[1] = bad
    if device.type == "cpu":
        with pytest.raises(ValueError, match=r"targets must lie in \[0, 11\)"):
            linear_cross_entropy(hidden, weight, targets, normaliser=1, impl=impl)
    else:
        loss = linear_cross_entropy(hidden, weight, targets, normaliser=1, impl=impl)
        assert loss.isnan() and all(g.isnan().any() for g in gradients(loss, hidden, weight))


@pytest.mark.parametrize("bad", [11, -1, 2**40])
def test_the_kernel_makes_nan_of_a_target_out_of_range(
    bad: int, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head_loss, "check_targets", lambda *_: None)
    hidden, weight, targets = inputs(device)
    targets[1] = bad
    loss, nll = linear_cross_entropy(hidden, weight, targets, normaliser=1, return_nll=True, impl="triton")
    dx, dw = gradients(loss, hidden, weight)
    assert loss.isnan() and nll.isnan().tolist() == [i == 1 for i in range(13)]
    assert dx[1].isnan().all() and dx[2:].isfinite().all() and dw.isnan().any()


def test_a_second_backward_is_refused_by_triton_and_done_by_the_reference(device: torch.device) -> None:
    hidden, weight, targets = inputs(device)
    for impl in ("reference", "triton"):
        loss = linear_cross_entropy(hidden, weight, targets, normaliser=1, impl=impl)
        (first,) = torch.autograd.grad(2 * loss, weight, retain_graph=True)
        if impl == "triton":
            with pytest.raises(RuntimeError, match="second backward"):
                torch.autograd.grad(loss, weight)
        else:
            torch.testing.assert_close(2 * torch.autograd.grad(loss, weight)[0], first)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"chunk": 0}, "chunk"),
        ({"softcap": 0.0}, "softcap"),
        ({"label_smoothing": 1.5}, "label_smoothing"),
        ({"z_loss": -1.0}, "z_loss"),
        ({"accumulate": "bf16"}, "accumulate"),
        ({"logits": "half"}, "logits"),
        ({"rows": "some"}, "rows"),
        ({"rows": torch.tensor([3, 2])}, "rise"),
        ({"rows": torch.tensor([3, 13])}, "rise"),
        ({"rows": torch.tensor([3], dtype=torch.int32)}, "int64"),
        ({"token_weights": torch.ones(12)}, "token_weights"),
        ({"token_weights": torch.ones(13, requires_grad=True)}, "detach"),
        ({"normaliser": torch.ones(2)}, "normaliser"),
        ({"normaliser": torch.ones((), requires_grad=True)}, "detach"),
        ({"impl": "quack"}, "no impl 'quack'"),
    ],
)
def test_wrong_options_are_refused(how: dict[str, Any], message: str) -> None:
    hidden, weight, targets = inputs(torch.device("cpu"))
    with pytest.raises(ValueError, match=message):
        linear_cross_entropy(hidden, weight, targets, **({"normaliser": 1} | how))


@BOTH
def test_wrong_shapes_and_dtypes_are_refused(impl: str, device: torch.device) -> None:
    hidden, weight, targets = inputs(device)
    for args in ((hidden, weight, targets[1:]), (hidden[None], weight, targets), (hidden, weight[:, 1:], targets)):
        with pytest.raises(ValueError, match="hidden"):
            linear_cross_entropy(*args, normaliser=1, impl=impl)
    with pytest.raises(ValueError, match="int64"):
        linear_cross_entropy(hidden, weight, targets.int(), normaliser=1, impl=impl)
    if impl == "triton":
        with pytest.raises(ValueError, match="float64"):
            linear_cross_entropy(hidden.double(), weight.double(), targets, normaliser=1, impl=impl)


def test_the_definition_leaves_out_rows_that_do_not_count() -> None:
    """NaN and a target outside the vocabulary in rows of weight 0, and NaN in ignored ones, reach nothing."""
    hidden, weight, targets = inputs(torch.device("cpu"), dtype=torch.float64)
    token_weights = weights_for(targets)
    out = (targets == -100) | (token_weights == 0)
    want, want_nll = formula(hidden[~out], weight, targets[~out], normaliser=7.0, token_weights=token_weights[~out])
    dirty, beyond = hidden.detach().clone(), targets.clone()
    dirty[out], beyond[token_weights == 0] = float("nan"), 99
    dirty.requires_grad_()
    loss, nll = formula(dirty, weight, beyond, normaliser=7.0, token_weights=token_weights)
    torch.testing.assert_close(loss, want)
    torch.testing.assert_close(nll, torch.zeros_like(nll).masked_scatter(~out, want_nll))
    for a, b in zip(gradients(loss, dirty, weight), gradients(want, hidden, weight), strict=True):
        torch.testing.assert_close(a, b)


def test_every_implementation_that_can_be_picked_is_dispatched_to() -> None:
    assert set(MODULE.LOSSES) == set(backends.OPS["linear_cross_entropy"])


def test_rows_at_once() -> None:
    """The sizes the docstring promises: 1 GiB and 256 MiB on a small card, 8192 and 4096 rows on a large one."""
    at_once = MODULE._rows_at_once
    for trained, small, large in ((True, (3456, 4096), 8192), (False, (768, 1024), 4096)):
        for (width, vocab), few in zip(((3584, 152064), (4096, 128256)), small, strict=True):
            assert at_once(32768, vocab, width, 2, trained, True, False) == few
            assert at_once(32768, vocab, width, 2, trained, True, True) == large
    assert at_once(8192, 128256, 4096, 2, True, True, False) == 8192  # no float32 sum: the memory is the logits'
    assert at_once(8192, 128256, 4096, 2, True, False, False) == 4096
    assert at_once(65536, 32000, 4096, 2, True, False, True) == at_once(65536, 32000, 4096, 2, True, False, False)
    assert at_once(5, 1 << 24, 4096, 4, True, False, False) == 5 and at_once(0, 8, 8, 2, True, True, True) == 1
    for large, most in ((False, 1 << 30), (True, 5 << 29)):
        for rows in (1, 127, 129, 5000, 100_000):
            held = at_once(rows, 151_936, 2048, 2, True, False, large)
            assert held == rows or (held % 128 == 0 and held * 151_936 * 2 <= most)


@pytest.mark.parametrize("even", [False, True])
@pytest.mark.parametrize(("count", "held"), [(0, 4), (1, 4), (4, 4), (9, 4), (9000, 4096), (4097, 4096), (300, 200)])
def test_slices_cover_every_row_once(count: int, held: int, even: bool) -> None:
    slices = MODULE._slices(count, held, even)
    assert [i for s in slices for i in range(s.start, s.stop)] == list(range(count))
    sizes = [s.stop - s.start for s in slices]
    assert all(0 < n <= held for n in sizes) and len(sizes) == -(-count // held)
    assert not even or not sizes or max(sizes) - min(sizes) < 256


def test_what_is_free_on_the_card_has_no_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """The chunk is the order of a sum: on one card it is always the same."""
    cuda = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for total, large in ((24 << 30, False), (int(47.5 * 2**30), False), (int(79.1 * 2**30), True)):
        card = SimpleNamespace(total_memory=total)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device, card=card: card)
        assert MODULE._large.__wrapped__(cuda) is large
    assert MODULE._large.__wrapped__(torch.device("cpu")) is False


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("large", [False, True], ids=["small card", "large card"])
@pytest.mark.parametrize("needs", [(True, True), (True, False)], ids=["trained", "frozen"])
def test_the_buffer_does_not_follow_the_number_of_labels(
    needs: tuple[bool, bool], large: bool, overlap: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 32,768 rows 4,200 to 20,000 are labelled: one buffer, of one size, which a caching allocator has kept."""
    vocab, width = 151_936, 16
    monkeypatch.setattr(MODULE, "_large", lambda device: large)
    monkeypatch.setattr(MODULE, "_row_kernel", Silent())
    monkeypatch.setattr(MODULE, "_multiply", lambda *_, **__: None)
    monkeypatch.setattr(MODULE, "_Beside", Early)
    loss = head_loss.HeadLoss(-100, None, 0.0, 0.0, None, "float32", "matmul", overlap)
    made: list[int] = []

    class Made(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **kwargs or {})
            if func is torch.ops.aten.empty.memory_format and out.shape[-1:] == (vocab,):
                made.append(out.numel() // vocab)
            return out

    with FakeTensorMode(), Made():
        hidden, weight = (torch.empty(n, width, dtype=torch.bfloat16) for n in (32768, vocab))
        for count in (4200, 9000, 14_001, 20_000):
            rows, targets = torch.empty(count, dtype=torch.int64), torch.empty(count, dtype=torch.int64)
            job = head_loss.HeadJob(hidden, weight, targets, 1.0, None, rows, loss, needs)
            MODULE._compute(hidden, weight, job, head_loss.Labelled(rows, targets, None, None), False, False)
    held = MODULE._rows_at_once(32768, vocab, width, 2, needs[1], True, large)
    assert len(made) == 4 and set(made) == {held}


class Silent:
    """A Triton kernel whose launch does nothing."""

    def __getitem__(self, grid: object) -> Callable[..., None]:
        return lambda *args, **options: None


class Early:
    """In place of the side stream: its work is done as soon as it may begin."""

    def __init__(self, device: torch.device, work: Callable[[], None]) -> None:
        self.work = work

    def __enter__(self) -> None:
        self.work()

    def __exit__(self, *_: object) -> None: ...


class Late(Early):
    """Its work is done when it is waited for, and not before."""

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        self.work()


def test_the_side_stream_begins_after_and_ends_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """On stand-ins for streams; a real side stream is for the GPU tests."""
    order: list[str] = []

    class Stream:
        def __init__(self, name: str) -> None:
            self.name = name

        def wait_stream(self, other: Stream) -> None:
            order.append(f"{self.name} waits for {other.name}")

    @contextmanager
    def on(stream: Stream) -> Iterator[None]:
        order.append(f"to {stream.name}")
        yield
        order.append(f"from {stream.name}")

    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: Stream("main"))
    monkeypatch.setattr(torch.cuda, "stream", on)
    monkeypatch.setattr(MODULE, "_side_stream", lambda _: Stream("side"))
    with MODULE._Beside(torch.device("cuda"), lambda: order.append("row kernel")):
        order.append("logits")
    begin = ["side waits for main", "to side", "row kernel", "from side"]
    assert order == [*begin, "logits", "main waits for side"]


def test_overlap_on_a_cpu_is_refused_in_one_line() -> None:
    hidden, weight, targets = inputs(torch.device("cpu"))
    with pytest.raises(ValueError, match="overlap needs the streams of a GPU, not of cpu"):
        linear_cross_entropy(hidden, weight, targets, normaliser=1.0, overlap=True, impl="triton")
    with pytest.raises(ValueError, match="overlap is for impl 'triton' on a GPU, not for 'reference'"):
        linear_cross_entropy(hidden, weight, targets, normaliser=1.0, overlap=True)


@pytest.mark.parametrize("side", [Early, Late])
@pytest.mark.parametrize("more", [{"rows": "tensor"}, {"rows": "all", "logits": "float32"}, {}], ids=str)
@pytest.mark.parametrize(("chunk", "half"), [(7, 3), (8, 4), (40, 6)])  # there are 13 rows
def test_overlap_gives_the_bits_of_half_the_chunk(
    side: type[Early], more: dict[str, Any], chunk: int, half: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However late the row kernel comes, or early, within what the waits allow."""
    monkeypatch.setattr(MODULE, "_Beside", side)
    hidden, weight, targets = inputs(torch.device("cpu"), v=70, dtype=torch.bfloat16)
    how: dict[str, Any] = {"normaliser": 10.0, "token_weights": weights_for(targets), "impl": "triton"}
    how |= more | {"return_nll": True}
    if how.get("rows") == "tensor":
        how["rows"] = (targets != -100).nonzero().squeeze(1)
    found = []
    for chunked in ({"chunk": chunk, "overlap": True}, {"chunk": half}):
        loss, nll = linear_cross_entropy(hidden, weight, targets, **how, **chunked)
        found.append((loss, nll, *gradients(loss, hidden, weight)))
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("rows", ["all", "tensor"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("side", [Early, Late])
def test_overlap_against_fp64(
    side: type[Early], dtype: torch.dtype, rows: Any, against_fp64: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MODULE, "_Beside", side)
    hidden, weight, targets = inputs(torch.device("cpu"), 37, 24, 300, dtype)
    rows = (targets != -100).nonzero().squeeze(1) if rows == "tensor" else rows
    h64, w64 = (x.detach().double().requires_grad_() for x in (hidden, weight))
    loss = linear_cross_entropy(
        hidden, weight, targets, normaliser=34.0, rows=rows, chunk=16, overlap=True, impl="triton"
    )
    plain, exact = (formula(*x, targets, normaliser=34.0)[0] for x in ((hidden, weight), (h64, w64)))
    against_fp64("loss", loss[None], plain[None], exact[None])
    found = gradients(loss, hidden, weight), gradients(plain, hidden, weight), gradients(exact, h64, w64)
    for name, ours, eager, want in zip(("dX", "dW"), *found, strict=True):
        against_fp64(name, ours, eager, want)


@pytest.mark.parametrize("impl", ["reference", "liger", "cce", "torch"])
def test_only_triton_overlaps(impl: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODULE, "pick", lambda op, impl, device: impl)  # nothing is called: it need not be installed
    with pytest.raises(ValueError, match=f"overlap is for impl 'triton' on a GPU, not for '{impl}'"):
        linear_cross_entropy(*inputs(torch.device("cpu")), normaliser=1, overlap=True, impl=impl)


@pytest.mark.gpu
@pytest.mark.parametrize("chunk", [256, 1000, None])
def test_overlap_on_a_gpu_gives_the_bits_of_half_the_chunk(chunk: int | None, device: torch.device) -> None:
    hidden, weight, targets = inputs(device, 4096, 256, 32000, torch.bfloat16)
    held = chunk or MODULE._rows_at_once(4096, 32000, 256, 2, True, False, MODULE._large(device))
    found = []
    for how in ({"chunk": chunk, "overlap": True}, {"chunk": held // 2}):
        loss = linear_cross_entropy(hidden, weight, targets, normaliser=4093.0, impl="triton", **how)
        found.append((loss, *gradients(loss, hidden, weight)))
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)


@pytest.mark.gpu
@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("normaliser", [9.0, "tensor"])
def test_a_cuda_graph_holds_forward_and_backward(normaliser: Any, overlap: bool, device: torch.device) -> None:
    hidden, weight, targets = inputs(device, 64, 32, 300, torch.bfloat16)
    normaliser = torch.tensor(9.0, device=device) if normaliser == "tensor" else normaliser
    how: Any = {"normaliser": normaliser, "rows": "all", "chunk": 16, "overlap": overlap, "impl": "triton"}

    def step() -> tuple[Tensor, ...]:
        loss = linear_cross_entropy(hidden, weight, targets, **how)
        return loss, *gradients(loss, hidden, weight)

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step()  # compiles
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    with torch.no_grad():
        hidden.mul_(0.5)
        targets.copy_(targets.roll(1))
    graph.replay()
    for a, b in zip(captured, step(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(("version", "writes"), [("2.8.0", False), ("2.9.1+cu128", False), ("2.10.0", True)])
def test_float32_sums_of_bfloat16_operands_need_torch_2_10(
    version: str, writes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "__version__", version)
    monkeypatch.setattr(torch.version, "hip", None)
    asked = MODULE._float32_out.__wrapped__
    assert asked(torch.device("cuda"), torch.bfloat16) is writes
    assert asked(torch.device("cuda"), torch.float32) is False and asked(torch.device("cpu"), torch.bfloat16) is False


@pytest.mark.parametrize("name", ["weight", "targets", "token_weights", "rows", "normaliser"])
def test_a_tensor_on_another_device_is_named(name: str) -> None:
    hidden, weight, targets = inputs(torch.device("cpu"))
    given: Any = {"weight": weight, "targets": targets, "token_weights": torch.ones(13), "rows": torch.arange(3)}
    given["normaliser"] = torch.ones(())
    given[name] = given[name].detach().to("meta")
    with pytest.raises(ValueError, match=f"{name} is on meta, hidden on cpu"):
        linear_cross_entropy(hidden, **given)


def test_rows_and_normaliser_may_stay_on_the_cpu() -> None:
    hidden, weight, targets = (x.to("meta") for x in inputs(torch.device("cpu")))
    loss = head_loss.HeadLoss(-100, None, 0.0, 0.0, None, "float32", "matmul")
    job = head_loss.HeadJob.of(hidden, weight, targets, torch.ones(()), None, torch.arange(3), loss)
    assert job.rows.device.type == job.normaliser.device.type == "cpu"


@pytest.mark.parametrize("name", ["hidden", "weight"])
def test_a_sharded_tensor_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Sharded(Tensor):
        pass

    monkeypatch.setitem(sys.modules, "torch.distributed.tensor", SimpleNamespace(DTensor=Sharded))
    hidden, weight, targets = inputs(torch.device("cpu"))
    given = {"hidden": hidden, "weight": weight}
    given[name] = given[name].as_subclass(Sharded)
    with pytest.raises(ValueError, match=rf"{name} is a DTensor.*where the parameters are gathered"):
        linear_cross_entropy(**given, targets=targets, normaliser=1)


LIBRARIES = [name for name in backends.OPS["linear_cross_entropy"] if name not in ("reference", "triton")]


@pytest.mark.parametrize("extras", [{}, {"softcap": 3.0}, {"label_smoothing": 0.1}, {"z_loss": 0.02}], ids=str)
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("impl", LIBRARIES)
def test_libraries(impl: str, weighted: bool, extras: dict[str, float], device: torch.device) -> None:
    """Each does what the formula says, or says which option it does not have."""
    if reason := backends.why_not(impl, device, "linear_cross_entropy"):
        pytest.skip(reason)
    if device.type == "cpu" and impl == "liger" and "softcap" in extras:
        pytest.skip("Liger's softcap casts a float argument, which Triton's interpreter refuses")
    if device.type == "cpu" and impl == "cce" and not (weighted and "softcap" in extras):
        pytest.skip("on a CPU cce compiles each case anew, for seconds: one is enough")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32  # cce's kernel takes no float32
    hidden, weight, targets = inputs(device, 48, 64, 96, dtype)
    how = dict(extras, normaliser=19.0, token_weights=weights_for(targets) if weighted else None)
    options = {name for name in how if name in extras or (name == "token_weights" and weighted)}
    keep: Any = "weight" if impl == "cce" else "float32"
    if lacking := options & head_libraries.LACKS[impl]:
        with pytest.raises(ValueError, match=f"impl '{impl}' has no .*{min(lacking)}"):
            linear_cross_entropy(hidden, weight, targets, impl=impl, accumulate=keep, **how)
        return
    loss = linear_cross_entropy(hidden, weight, targets, impl=impl, accumulate=keep, **how)
    h64, w64 = (x.detach().double().requires_grad_() for x in (hidden, weight))
    exact, _ = formula(h64, w64, targets, **how)
    close = {"rtol": 2e-2, "atol": 2e-2} if device.type == "cuda" else {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(loss, exact.float(), **close)
    for a, b in zip(gradients(loss, hidden, weight), gradients(exact, h64, w64), strict=True):
        torch.testing.assert_close(a.double(), b, **close)


@pytest.mark.parametrize("impl", ["liger", "torch"])
def test_libraries_rows_and_nll(impl: str, device: torch.device) -> None:
    if reason := backends.why_not(impl, device, "linear_cross_entropy"):
        pytest.skip(reason)
    hidden, weight, targets = inputs(device)
    want, want_nll = formula(hidden, weight, targets, normaliser=10.0)
    rows = (targets != -100).nonzero().squeeze(1)[1:].cpu()
    _, nll = linear_cross_entropy(hidden, weight, targets, normaliser=10.0, rows=rows, return_nll=True, impl=impl)
    want_nll[(targets != -100).nonzero()[0]] = 0
    torch.testing.assert_close(nll, want_nll)
    loss = linear_cross_entropy(hidden, weight, targets, normaliser=10.0, rows="all", impl=impl)
    torch.testing.assert_close(loss, want)


@pytest.mark.parametrize("impl", LIBRARIES)
@pytest.mark.parametrize("option", ["return_accuracy", "logits='float32'", "chunk", "accumulate='float32'"])
def test_libraries_name_what_they_lack(impl: str, option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODULE, "pick", lambda op, impl, device: impl)  # nothing is called: it need not be installed
    if option not in head_libraries.LACKS[impl]:
        pytest.skip(f"{impl} has {option}")
    how: Any = {"accumulate": "weight"}
    how |= {
        "return_accuracy": {"return_accuracy": True},
        "logits='float32'": {"logits": "float32"},
        "chunk": {"chunk": 4},
        "accumulate='float32'": {"accumulate": "float32"},
    }[option]
    with pytest.raises(ValueError, match=f"impl '{impl}' has no {option}"):
        linear_cross_entropy(*inputs(torch.device("cpu"), dtype=torch.bfloat16), normaliser=1, impl=impl, **how)
