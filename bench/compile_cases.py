"""What bench/compile_check.py compiles: every operator of dpr_kernels, called as a training step calls it.

The tensors are fake CUDA tensors: no memory, no GPU. A case calls the operator's own autograd function, so block sizes,
warps, stages and signatures stand nowhere but in its launcher.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch

from dpr_mini import recipe
from dpr_mini.models.resolve import EMBEDDED
from dpr_mini.models.shapes import SHAPES, Shape, read_shape, shape_of

BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32
TOKENS = 8192  # times a vocabulary: beyond 2^31 values
ALL_RESIDENT = ("rms_norm._backward",)  # kernels that start no more programs than a GPU holds at once
ROOT = Path(__file__).resolve().parents[1]
OTHERS = {"llama-3.1-70b": Shape("llama", 128256, 8192, 28672, 80, 64, 8, 128, False, 131072)}  # the widest usual rows
EDGE_TABLES = ((1, 1, 32, 8, 128), (1, 1, 1, 1, 2), (2, 33, 3, 1, 6), (4, 1000, 9, 3, 64), (1, 65, 40, 8, 80))


class Case(NamedTuple):
    name: str
    call: Callable[[], None]
    kind: str = "usual"  # "rare": no model has it, its spills are reported; "edge": odd inputs, likewise


def shapes_of_recipes() -> dict[str, Shape]:
    """Name -> shape of every model that a recipe in recipes/ trains."""
    shapes = {}
    for path in sorted((ROOT / "recipes").glob("*.yaml")):
        model = recipe.load(path).model.name
        folder = path.parent / model
        name = "smollm2-135m" if model == EMBEDDED else model.rpartition("/")[2].lower()
        shape = read_shape(folder) if (folder / "config.json").exists() else shape_of(name)
        if shape is None:
            raise SystemExit(f"compile_check.py: {path}: the shape of {model} is not known (dpr_mini/models/shapes.py)")
        shapes[name] = shape
    return shapes


def known_shapes() -> dict[str, Shape]:
    return {**shapes_of_recipes(), **SHAPES, **OTHERS}


def cases(ops: SimpleNamespace, shapes: Iterable[Shape], odd: bool) -> Iterator[Case]:
    """`ops` has the modules of dpr_kernels by name; `odd`: rare and edge cases too."""
    shapes = list(shapes)
    widths = {s.hidden for s in shapes} | {s.head_dim for s in shapes if s.family == "qwen3"}
    yield from norms(ops.rms_norm._RMSNorm, sorted(widths))
    yield from gates(ops.swiglu._SwiGLU, sorted({s.intermediate for s in shapes}))
    yield from rotations(ops.rope._RoPE, sorted({(s.heads, s.kv_heads, s.head_dim) for s in shapes}))
    yield from heads(ops, sorted({(s.hidden, s.vocab) for s in shapes}))
    if odd:
        yield from odd_norms(ops.rms_norm._RMSNorm)
        yield from odd_gates(ops.swiglu._SwiGLU)
        yield from odd_rotations(ops.rope._RoPE)
        yield from odd_heads(ops)


# --- calling an operator ----------------------------------------------------------------------------------------------


class Context:
    """What autograd hands to a Function; here in place of autograd, which refuses CUDA tensors in a CPU build."""

    def __init__(self, needs: tuple[bool, ...]) -> None:
        self.needs_input_grad = needs

    def save_for_backward(self, *tensors: Any) -> None:
        self.saved_tensors = tensors

    def mark_non_differentiable(self, *_: Any) -> None: ...
    def set_materialize_grads(self, _: bool) -> None: ...
    def mark_dirty(self, *_: Any) -> None: ...


def step(function: Any, *args: Any, needs: tuple[bool, ...] | None = None, backward: bool = True) -> None:
    """Forward, then backward with gradients like the outputs."""
    context = Context(needs or tuple(isinstance(a, torch.Tensor) for a in args))
    outs = function.forward(context, *args)
    if backward:
        outs = outs if isinstance(outs, tuple) else (outs,)
        function.backward(context, *(None if o is None else torch.empty_like(o) for o in outs))


def empty(*size: int, dtype: torch.dtype = BF16) -> torch.Tensor:
    return torch.empty(size, dtype=dtype, device="cuda")


def short(dtype: torch.dtype) -> str:
    return {BF16: "bf16", FP16: "fp16", FP32: "fp32"}[dtype]


# --- the operators ----------------------------------------------------------------------------------------------------


def norms(op: Any, widths: Iterable[int], kind: str = "usual") -> Iterator[Case]:
    """bfloat16; float32, which the residual is under autocast; and a head's own norm under autocast, which is mixed."""
    frozen = (True, False, False, False, False)
    for h in widths:
        for x, w in ((BF16, BF16), (FP32, FP32), *[(BF16, FP32)] * (h in (128, 4096))):
            name = f"H {h} {short(x)}" + ("" if x == w else f" weight {short(w)}")
            a, r, weight = empty(TOKENS, h, dtype=x), empty(TOKENS, h, dtype=x), empty(h, dtype=w)
            yield Case(f"rms_norm {name}", lambda a=a, w=weight: step(op, a, None, w, 1e-6, 0.0), kind)
            yield Case(f"add_rms_norm {name}", lambda a=a, r=r, w=weight: step(op, a, r, w, 1e-6, 0.0), kind)
            if x == w:  # adapters: the weight is frozen
                call = lambda a=a, w=weight: step(op, a, None, w, 1e-6, 0.0, needs=frozen)  # noqa: E731
                yield Case(f"rms_norm {name} frozen", call, kind)
                call = lambda a=a, r=r, w=weight: step(op, a, r, w, 1e-6, 0.0, needs=frozen)  # noqa: E731
                yield Case(f"add_rms_norm {name} frozen", call, kind)


def odd_norms(op: Any) -> Iterator[Case]:
    yield from norms(op, (64, 256, 512, 5120), "rare")
    inputs = {
        "strided": empty(TOKENS, 3 * 4096)[:, :4096], "off by one": empty(TOKENS * 4096 + 1)[1:].view(TOKENS, 4096),
        "4100 wide": empty(63, 4100), "one row": empty(1, 4096), "one value": empty(1, 1), "1 wide": empty(9, 1),
    }  # fmt: skip
    for name, x in inputs.items():
        w = empty(x.shape[1])
        yield Case(f"rms_norm bf16 {name}", lambda x=x, w=w: step(op, x, None, w, 1e-6, 0.0), "edge")
        yield Case(f"add_rms_norm bf16 {name}", lambda x=x, w=w: step(op, x, x, w, 1e-6, 1.0), "edge")


def gates(op: Any, widths: Iterable[int]) -> Iterator[Case]:
    for width in widths:
        for dtype in (BF16, FP32):
            gate, up = empty(TOKENS, width, dtype=dtype), empty(TOKENS, width, dtype=dtype)
            for reuse in (False, True) if dtype == BF16 else (False,):
                name = f"swiglu I {width} {short(dtype)}" + " reused" * reuse
                yield Case(name, lambda g=gate, u=up, reuse=reuse: step(op, g, u, reuse))
        halves = empty(TOKENS, 2 * width).chunk(2, -1)
        yield Case(f"swiglu I {width} bf16 halves of one", lambda h=halves: step(op, *h, False))


def odd_gates(op: Any) -> Iterator[Case]:
    yield Case("swiglu bf16 one value", lambda: step(op, empty(1, 1), empty(1, 1), False), "edge")
    yield Case("swiglu bf16 beyond 2^31", lambda: step(op, *[empty(150000, 14336)] * 2, False), "edge")
    yield Case("swiglu bf16 7 wide strided", lambda: step(op, *empty(9, 14).chunk(2, -1), False), "edge")


def rotations(op: Any, groups: Iterable[tuple[int, int, int]]) -> Iterator[Case]:
    for hq, hk, d in groups:
        for dtype, table in ((BF16, BF16), (BF16, FP32), *[(FP32, FP32)] * (hq == 32)):  # under autocast: mixed
            name = f"rope {hq}/{hk} x {d} {short(dtype)}" + ("" if dtype == table else f" table {short(table)}")
            yield Case(name, rotation(op, 1, TOKENS, hq, hk, d, dtype, table))


def rotation(
    op: Any, b: int, t: int, hq: int, hk: int, d: int, dtype: torch.dtype = BF16, table: torch.dtype = FP32
) -> Callable[[], None]:
    q, k = (empty(b, t, n, d, dtype=dtype).transpose(1, 2) for n in (hq, hk))  # as attention layers make them
    angles = empty(1, t, d, dtype=table), empty(1, t, d, dtype=table)
    return lambda: step(op, q, k, *angles)


def odd_rotations(op: Any) -> Iterator[Case]:
    q, k = (empty(1, n, TOKENS, 128) for n in (32, 8))
    table = empty(1, TOKENS, 128, dtype=FP32), empty(1, TOKENS, 128, dtype=FP32)
    yield Case("rope 32/8 x 128 bf16 heads first, table fp32", lambda: step(op, q, k, *table), "edge")
    for b, t, hq, hk, d in EDGE_TABLES:
        name = f"rope {b} x {t} tokens, {hq}/{hk} x {d} bf16, table fp32"
        yield Case(name, rotation(op, b, t, hq, hk, d), "edge")


HEADS: dict[str, dict[str, Any]] = {
    "": {}, " frozen": {"needs": (True, False)}, " no gradient": {"needs": (False, False)},
    " weighted, nll, hit": {"weighted": True, "nll": True, "hit": True}, " softcap": {"softcap": 30.0},
    " smoothing, z-loss": {"label_smoothing": 0.1, "z_loss": 1e-4}, " logits fp32": {"logits": "float32"},
    " dW in bf16": {"accumulate": "weight"}, " fp32": {"dtype": FP32}, " fp16": {"dtype": FP16},
    " master fp32": {"weight": FP32},
    " no gradient, nll, hit": {"needs": (False, False), "nll": True, "hit": True},
}  # fmt: skip


def heads(ops: SimpleNamespace, sizes: Iterable[tuple[int, int]]) -> Iterator[Case]:
    for h, v in sizes:
        for name, options in HEADS.items():
            call = lambda h=h, v=v, o=options: head(ops, TOKENS, h, v, **o)  # noqa: E731
            yield Case(f"linear_cross_entropy H {h} V {v}{name}", call)


def odd_heads(ops: SimpleNamespace) -> Iterator[Case]:
    everything = {"weighted": True, "nll": True, "hit": True}
    for t, v, more in ((1, 1, {}), (1, 11, {}), (333, 127, {"chunk": 100}), (40, 128256, {"chunk": 1})):
        call = lambda t=t, v=v, o=everything | more: head(ops, t, 64, v, **o)  # noqa: E731
        yield Case(f"linear_cross_entropy {t} x 64 V {v}", call, "edge")


def head(
    ops: SimpleNamespace, tokens: int, width: int, vocab: int, *, dtype: torch.dtype = BF16, weight: Any = None,
    needs: tuple[bool, bool] = (True, True), weighted: bool = False, nll: bool = False, hit: bool = False, **more: Any,
) -> None:  # fmt: skip
    plain = {"ignore_index": -100, "softcap": None, "label_smoothing": 0.0, "z_loss": 0.0, "chunk": None}
    plain |= {"accumulate": "float32", "logits": "matmul"}
    targets = torch.empty(tokens, dtype=torch.int64, device="cuda")
    x, w = empty(tokens, width, dtype=dtype), empty(vocab, width, dtype=weight or dtype)
    token_weights = empty(tokens, dtype=FP32) if weighted else None
    loss = ops.head_loss.HeadLoss(**{**plain, **more})
    job = ops.head_loss.HeadJob(x, w, targets, 1.0, token_weights, None, loss, needs)
    part = ops.head_loss.Labelled(None, targets, token_weights, None)  # every row counts
    step(ops.linear_cross_entropy._LinearCrossEntropy, x, w, job, part, nll, hit, backward=any(needs))
