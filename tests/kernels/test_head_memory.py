"""linear_cross_entropy: how many logits it holds, what runs beside the matmuls, and that no host waits for a device."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from dpr_kernels import head_loss, linear_cross_entropy
from dpr_kernels.reference import linear_cross_entropy as formula
from head_inputs import EXTRAS, gradients, inputs, weights_for
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

MODULE = sys.modules["dpr_kernels.linear_cross_entropy"]  # the function has hidden the module's name


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
