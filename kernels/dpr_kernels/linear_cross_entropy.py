"""Cross-entropy of a linear head without the (M, V) logits: chunks of rows, cuBLAS matmuls, one Triton kernel between.

For a chunk of rows: logits = x W^T into one reused buffer; a program a row reads it twice (log-sum-exp, then gradient,
written over the logits); dX = G W; dW += G^T X in float32. So 6MHV FLOP with a trained head, 4MHV with a frozen one,
2MHV without gradients, and 3 passes over each logit. Backward only scales. See `_rows_at_once` for the memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dpr_kernels import head_chunked, head_libraries
from dpr_kernels._rows import check_kernel_dtypes
from dpr_kernels.backends import as_custom_operator, pick
from dpr_kernels.head_kernels import _rescale_kernel, _row_kernel, launch
from dpr_kernels.head_loss import Computed, HeadJob, HeadLoss, Labelled, results


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    normaliser: float | Tensor,
    token_weights: Tensor | None = None,
    ignore_index: int = -100,
    softcap: float | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    rows: Tensor | Literal["all"] | None = None,
    chunk: int | None = None,
    overlap: bool = False,
    accumulate: Literal["float32", "weight"] = "float32",
    logits: Literal["matmul", "float32"] = "matmul",
    return_nll: bool = False,
    return_accuracy: bool = False,
    impl: str = "auto",
) -> Tensor | tuple[Tensor, ...]:
    """Cross-entropy of `hidden @ weight.T` against `targets`, without holding all logits at once.

    hidden (M, H) and weight (V, H) floating (Triton: float32, bfloat16, float16), targets (M,) int64, token_weights
    (M,) floating. Returns the float32 scalar (float64 for float64 inputs, which the reference takes)

        sum_i token_weights_i * l_i / normaliser,   l_i = lse - (1 - e) s_y - e mean(s) + z_loss * lse^2

    with s = softcap * tanh(logits / softcap), or the logits; lse = logsumexp(s); e = label_smoothing (arXiv
    1512.00567, uniform over V); the z-loss of arXiv 2204.02311. It is 0 with zero gradients where no row is labelled.
    `normaliser` (a number, or a tensor of one) and token_weights get no gradient: give the number of trained tokens
    of the *whole* accumulated step, and summing over micro-batches is the token mean.

    With `return_nll` also the nll lse - s_y of each row, (M,) detached, without weight and extras; with
    `return_accuracy` then (M,) bool: the target is the largest logit (of equal ones the first). Both are 0 at ignored
    rows. A tuple in this order.

    Rows whose target is `ignore_index` or whose weight is 0 take no part, whatever they hold. `rows` says where the
    others are: None looks with one nonzero(), a host synchronisation; a (K,) int64 tensor, rising and without
    doubles, names rows that the host knows, and no other is computed; "all" computes every row. With the latter two
    nothing is synchronised (the copy of `rows` or `normaliser` from a CPU's unpinned memory apart, which may wait), and
    rows that do not count are masked.

    `chunk` rows of logits live at a time (None: chosen, see `_rows_at_once`). Matmuls run in autocast's dtype where
    autocast is on, else in hidden's, and so do the logits, as in an eager model; logits="float32" keeps them in
    float32 for 3 times the buffer (2 without gradients). `overlap`: the buffer is two halves, and while the row kernel
    of one works on a side stream, the next chunk's logits are multiplied into the other; the result is bitwise that of
    chunks of half as many rows without it. What would have been one chunk is two, so a trained head's dW takes a
    float32 sum beside it. Triton on a GPU only. Predicted to save 4 %, unmeasured, so off until a GPU has shown it.
    dW is summed over chunks in float32, or with accumulate="weight" in the weight's dtype (never in float16); a frozen
    head gets none.
    The Triton backward scales its gradients in place: a second backward through one forward raises RuntimeError.

    hidden, weight, targets and token_weights are on one device; rows and normaliser may be on the CPU too. A DTensor is
    refused: call this where the parameters are gathered.

    Raises ValueError for shapes, dtypes, devices or options that do not fit, and on a CPU for a target outside [0, V).
    On a GPU nobody waits for the answer: such a row makes the loss and the gradients NaN. RuntimeError where `impl`
    cannot run. impl: auto, reference, triton; liger, cce (cut-cross-entropy), torch (2.13's): each of these
    raises ValueError for an option it does not have, and is called as it is: what is said above of ignored rows,
    host synchronisation and targets outside [0, V) holds for the first three.
    """
    if as_custom_operator(impl):
        grad, kind = torch.is_grad_enabled(), hidden.device.type
        matmul = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
        tensor = isinstance(normaliser, Tensor)
        loss, nll, hit, *_ = torch.ops.dpr_kernels.linear_cross_entropy(
            hidden, weight, targets, normaliser if tensor else None, 0.0 if tensor else normaliser, token_weights,
            rows if isinstance(rows, Tensor) else None, rows == "all" if isinstance(rows, str) else False, ignore_index,
            softcap, label_smoothing, z_loss, chunk, accumulate, logits, overlap, matmul,
            grad and hidden.requires_grad, grad and weight.requires_grad, return_nll, return_accuracy, impl,
        )  # fmt: skip
        return (loss, *[nll] * return_nll, *[hit] * return_accuracy) if return_nll or return_accuracy else loss
    loss = HeadLoss(ignore_index, softcap, label_smoothing, z_loss, chunk, accumulate, logits, overlap)
    job = HeadJob.of(hidden, weight, targets, normaliser, token_weights, rows, loss)
    chosen = pick("linear_cross_entropy", impl, hidden.device)
    check_overlap(overlap, chosen)
    return LOSSES[chosen](job, return_nll, return_accuracy)


def check_overlap(overlap: bool, chosen: str) -> None:
    """Raises ValueError for an implementation without side streams."""
    if overlap and chosen != "triton":
        raise ValueError(f"linear_cross_entropy: overlap is for impl 'triton' on a GPU, not for {chosen!r}")


def _run(job: HeadJob, return_nll: bool, return_accuracy: bool) -> Tensor | tuple[Tensor, ...]:
    check_kernel_dtypes("linear_cross_entropy", job.hidden, job.weight)
    part = job.labelled()
    total, nll, hit = _LinearCrossEntropy.apply(job.hidden, job.weight, job, part, return_nll, return_accuracy)
    return results(total, nll, hit, part.rows, job.targets.shape)


# implementation -> the loss of a job; the flags are return_nll and return_accuracy
LOSSES: Mapping[str, Callable[[HeadJob, bool, bool], Tensor | tuple[Tensor, ...]]] = {
    "reference": head_chunked.run,
    "triton": _run,
    **{impl: partial(head_libraries.run, impl) for impl in head_libraries.LACKS},
}


LARGE = 64 << 30  # bytes of a card from which on more logits are held: 80 GB cards have it, 48 GB cards do not


@cache
def _large(device: torch.device) -> bool:
    """Whether `device` is a GPU of LARGE memory: all of it, not what is free, which would change from run to run."""
    if device.type != "cuda" or not torch.cuda.is_available():
        return False
    return torch.cuda.get_device_properties(device).total_memory >= LARGE


def _rows_at_once(rows: int, vocab: int, width: int, logit_bytes: int, trained: bool, direct: bool, large: bool) -> int:
    """How many rows of logits to hold for a `hidden` of `rows` rows: what keeps the matmuls busy.

    `trained`: dW is summed in float32, which costs 8VH bytes of traffic a chunk. `direct`: a single chunk needs no such
    sum, and is taken where it needs no more memory than sum and chunk would: up to H rows more than fit (3.4 GiB at
    H 3584 on a large card). `large`: see `_large`.

    1 GiB for a trained head and 256 MiB otherwise (V 152064 in bfloat16: 3456 and 768 rows) on a CPU and on a GPU that
    is not large; on a large one up to 8192 and 4096 rows, within 2.5 and 1.25 GiB. Measured on an H100 (32,768 rows;
    bench/results/2026-11-27-h100/head-chunks.json), ms: trained, H 3584, V 152064: 176.1 with 3328 rows, 168.1 with
    8192, 167.2 with 16384; H 4096, V 128256: 163.1 with 4096, 159.3 with 8192, 159.6 with 16384. Frozen, H 1536,
    V 151936: 59.6 with 768, 55.7 with 4096, 53.7 with 8192; H 3584: 116.7, 116.0, 112.1. No gradient, H 1536: 28.5 with
    768, 27.7 with 4096; H 3584: 57.8, 57.3. On smaller cards nothing is measured.

    Neither what is free on the card nor the number of labels has a say: results are the same from run to run, and a
    buffer of one size is found in the allocator's cache again.
    """
    row = vocab * logit_bytes
    small, much, most = (1 << 30, 5 << 29, 8192) if trained else (1 << 28, 5 << 28, 4096)
    fits = max(128, small // row // 128 * 128)
    if large:
        fits = max(fits, min(most, much // row // 128 * 128))
    if trained and direct and rows * logit_bytes <= 2 * width + max(fits * logit_bytes, 2 * width):
        return max(rows, 1)
    return max(1, min(fits, rows))


def _slices(count: int, chunk: int, even: bool) -> list[slice]:
    """`count` rows in pieces of at most `chunk`; `even`: of about the same length, multiples of 128."""
    if even and count > chunk:
        pieces = (count - 1) // chunk + 1
        chunk = min(chunk, ((count - 1) // pieces // 128 + 1) * 128)
    return [slice(start, min(start + chunk, count)) for start in range(0, count, chunk)]


class _Beside:
    """Runs `work` on a side stream, after all that the current stream has to do so far; the current stream goes on
    meanwhile and, on leaving, waits for it. Events alone: the host waits for nothing, and a CUDA graph can hold it.

    All that `work` touches must live until then; memory that is freed afterwards needs no record_stream.
    """

    def __init__(self, device: torch.device, work: Callable[[], None]) -> None:
        if device.type != "cuda":
            raise ValueError(f"linear_cross_entropy: overlap needs the streams of a GPU, not of {device}")
        self.main, self.side, self.work = torch.cuda.current_stream(device), _side_stream(device), work

    def __enter__(self) -> None:
        self.side.wait_stream(self.main)
        with torch.cuda.stream(self.side):
            self.work()

    def __exit__(self, *_: object) -> None:
        self.main.wait_stream(self.side)


@cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)


@cache
def _float32_out(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a matmul of `dtype` can write float32 there: NVIDIA only, torch 2.10 and newer.

    2.8 and 2.9 have the overloads and refuse a float32 sum of bfloat16 operands (pytorch#167931).
    """
    writes = tuple(int(n) for n in torch.__version__.split(".")[:2]) >= (2, 10)
    half = dtype in (torch.bfloat16, torch.float16)
    return writes and half and device.type == "cuda" and torch.version.hip is None


def _multiply(a: Tensor, b: Tensor, out: Tensor, *, add: bool = False) -> None:
    """out = a @ b, or out += a @ b, rounded once, to out's dtype; nothing of out's size is made beside it.

    Without a matmul that writes float32 (a CPU) the operands are widened.
    """
    if a.dtype != out.dtype and out.dtype == torch.float32 and _float32_out(a.device, a.dtype):
        if add:
            torch.addmm(out, a, b, out_dtype=torch.float32, out=out)
        else:
            torch.mm(a, b, out_dtype=torch.float32, out=out)
        return
    a, b = a.to(out.dtype), b.to(out.dtype)
    if add:
        out.addmm_(a, b)
    else:
        torch.mm(a, b, out=out)


def _compute(hidden: Tensor, weight: Tensor, job: HeadJob, part: Labelled, with_nll: bool, with_hit: bool) -> Computed:
    """The loss and, where `job.needs` them, its gradients, without autograd: nothing here looks at a value on a GPU."""
    device, (vocab, width), count = hidden.device, weight.shape, len(part.targets)
    loss, matmul, normaliser = job.loss, job.matmul, job.normaliser
    # float16 would lose gradients divided by a large count: that is left to the backward pass
    late = matmul == torch.float16
    kept, need_dx, need_dw = part.kept, *job.needs
    if isinstance(normaliser, Tensor):
        scale = normaliser.detach().to(device, torch.float32, non_blocking=True).reshape(()).reciprocal()
    else:
        scale = torch.full((), 1 / normaliser if normaliser else float("inf"), dtype=torch.float32, device=device)
    if kept is not None:
        scale = scale.masked_fill(~kept.any(), 0)
    direct = matmul == weight.dtype and not late  # a sum of undivided gradients overflows float16
    targets = part.targets.contiguous()
    weights = None if part.weights is None else part.weights.contiguous()
    logit_dtype = torch.float32 if loss.logits == "float32" else matmul
    apart = (need_dx or need_dw) and logit_dtype != matmul  # the gradient needs a buffer of its own
    each = logit_dtype.itemsize + matmul.itemsize * apart
    trained = need_dw and loss.accumulate == "float32"
    held = min(loss.chunk or len(hidden), max(1, len(hidden)))  # rows of the buffer, whatever number is labelled
    if loss.chunk is None:
        once = direct and weight.itemsize == 2 and not loss.overlap
        held = _rows_at_once(len(hidden), vocab, width, each, trained, once, _large(device))
    halves = 2 if loss.overlap and held > 1 else 1
    held //= halves
    parts = _slices(count, held, even=loss.chunk is None)
    whole = direct and (len(parts) < 2 or loss.accumulate == "weight")
    padded = -(-vocab // 64) * 64
    both = torch.empty(halves, held, padded, dtype=logit_dtype, device=device)
    both[:, :, vocab:].zero_()
    buffers = both.unbind(0)
    half = lambda i: buffers[i % halves]  # noqa: E731
    # the row kernel of a chunk starts when the matmuls of the last one have read its gradient: one is enough
    gradient = torch.empty(held, padded, dtype=matmul, device=device) if apart else None
    dx = dw = None
    if need_dx:
        dx = (torch.empty_like if part.rows is None else torch.zeros_like)(
            hidden, memory_format=torch.contiguous_format
        )
    if need_dw:
        make = torch.empty if count else torch.zeros
        dw = make(vocab, width, dtype=weight.dtype if whole else torch.float32, device=device)
    losses = torch.empty(count, dtype=torch.float32, device=device)
    nll = torch.empty_like(losses) if with_nll else None
    hit = torch.empty_like(losses, dtype=torch.bool) if with_hit else None
    options = {
        "IGNORE": loss.ignore_index,
        "SOFTCAP": float(loss.softcap or 0.0),
        "SMOOTHING": float(loss.label_smoothing),
        "Z_LOSS": float(loss.z_loss),
        "WEIGHTED": weights is not None,
        "NLL": with_nll,
        "HIT": with_hit,
        "GRAD": need_dx or need_dw,
        "SCALED": not late,
        **launch(vocab, wide=with_hit or loss.label_smoothing > 0),
    }

    def to_logits(i: int) -> Tensor:
        """The logits of chunk i into its buffer. Returns its rows of hidden, as the matmuls read them."""
        at = parts[i]
        x = hidden.detach()[at] if part.rows is None else hidden.detach().index_select(0, part.rows[at])
        x = x.to(matmul)
        if kept is not None:  # such a row may hold NaN, and 0 x NaN is NaN
            x = (x.masked_fill if part.rows is None else x.masked_fill_)(~kept[at, None], 0)
        _multiply(x, w.t(), half(i)[: len(x), :vocab])
        return x

    def by_rows(i: int) -> None:
        """From the logits of chunk i the losses of its rows, and their gradient."""
        at, source = parts[i], half(i)
        into = source if gradient is None else gradient
        _row_kernel[(at.stop - at.start,)](
            source,
            into,
            targets[at],
            losses if weights is None else weights[at],
            scale,
            losses[at],
            losses if nll is None else nll[at],
            losses if hit is None else hit[at],
            vocab,
            padded,
            source.stride(0),
            into.stride(0),
            **options,
        )

    with torch.autocast(device.type, enabled=False), torch.cuda.device_of(hidden):
        w = weight.detach().to(matmul)
        following = to_logits(0) if halves == 2 and parts else None
        for i, at in enumerate(parts):
            if following is None:
                x = to_logits(i)
                by_rows(i)
            else:
                x = following
                with _Beside(device, partial(by_rows, i)):
                    following = to_logits(i + 1) if i + 1 < len(parts) else x
            n = at.stop - at.start
            g = (half(i) if gradient is None else gradient)[:n, :vocab]
            if dx is not None and part.rows is None and dx.dtype in (matmul, torch.float32):
                _multiply(g, w, dx[at])
            elif dx is not None and part.rows is None:
                dx[at] = g @ w
            elif dx is not None:
                dx.index_copy_(0, part.rows[at], (g @ w).to(dx.dtype))
            if dw is not None:
                _multiply(g.t(), x, dw, add=i > 0)
    return Computed(losses.sum(), nll, hit, dx, dw, scale if late else None)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, job: HeadJob, part: Labelled, with_nll: bool, with_hit: bool
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        out = _compute(hidden, weight, job, part, with_nll, with_hit)
        ctx.done, ctx.dtypes = False, (hidden.dtype, weight.dtype)
        ctx.save_for_backward(out.dx, out.dw, out.late_scale)
        ctx.mark_non_differentiable(*(t for t in (out.nll, out.hit) if t is not None))
        return out.loss, out.nll, out.hit

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.done:
            raise RuntimeError("linear_cross_entropy: a second backward, but the first scaled the gradients in place")
        ctx.done = True
        dx, dw, scale = ctx.saved_tensors
        factor = grad_loss.float() if scale is None else grad_loss.float() * scale
        dx, dw = (_rescaled(d, factor, t) for d, t in zip((dx, dw), ctx.dtypes, strict=True))
        return dx, dw, *[None] * 4


def _rescaled(x: Tensor | None, factor: Tensor, dtype: torch.dtype) -> Tensor | None:
    """x * factor in `dtype`: in place where x has it, else in one pass of multiplying and rounding."""
    if x is None or not x.numel():
        return x if x is None else x.to(dtype)
    if x.dtype != dtype:
        return torch.mul(x, factor, out=torch.empty_like(x, dtype=dtype))
    block = 8192
    with torch.cuda.device_of(x):
        _rescale_kernel[(-(-x.numel() // block),)](x, factor, x.numel(), BLOCK=block)
    return x
