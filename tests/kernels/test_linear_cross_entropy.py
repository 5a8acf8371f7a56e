"""linear_cross_entropy: every option against its formula in fp64; what must not change the result; no waiting host."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from dpr_kernels import backends, head_chunked, head_libraries, head_loss, linear_cross_entropy
from dpr_kernels.reference import linear_cross_entropy as formula
from head_inputs import EXTRAS, gradients, inputs, weights_for
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

MODULE = sys.modules["dpr_kernels.linear_cross_entropy"]  # the function has hidden the module's name
BOTH = pytest.mark.parametrize("impl", ["reference", "triton"])


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
    hidden, weight, targets = inputs(device, 64, 32, 64, torch.bfloat16)
    h64, w64 = (x.detach().double().requires_grad_() for x in (hidden, weight))
    (want,) = gradients(formula(h64, w64, targets, normaliser=64.0)[0], w64)

    def error(**how: Any) -> float:
        loss = linear_cross_entropy(hidden, weight, targets, normaliser=64.0, impl=impl, **how)
        return ((gradients(loss, weight)[0] - want).norm() / want.norm()).item()

    one, many, coarse = error(chunk=64), error(chunk=1), error(chunk=1, accumulate="weight")
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
