"""What bench/operators.py measures: the inputs of each operator, the least work it takes, and who computes it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import dpr_kernels
import torch
import torch.nn.functional as F
from dpr_kernels import attention, backends, reference
from torch import Tensor
from torch.autograd.function import once_differentiable

Shape = dict[str, Any]
Function = Callable[..., tuple[Tensor, ...]]


class Missing(Exception):
    """Why a provider cannot take part here."""


@dataclass(frozen=True)
class Problem:
    args: dict[str, Any]
    trained: tuple[str, ...]
    grads: tuple[Tensor, ...]

    def tensors(self) -> Iterator[Tensor]:
        yield from (x for x in (*self.args.values(), *self.grads) if isinstance(x, Tensor))

    def copied(self, dtype: torch.dtype | None = None) -> Problem:
        """Independent tensors; floating ones in `dtype` where given."""

        def one(x: Any) -> Any:
            if not isinstance(x, Tensor):
                return x
            y = x.detach().clone().to(dtype if dtype and x.is_floating_point() else x.dtype)
            return y.requires_grad_(x.requires_grad)

        return Problem({k: one(v) for k, v in self.args.items()}, self.trained, tuple(map(one, self.grads)))

    def gradients(self, outs: tuple[Tensor, ...]) -> tuple[Tensor | None, ...]:
        leaves = [self.args[n] for n in self.trained]
        return torch.autograd.grad(outs, leaves, self.grads[: len(outs)], allow_unused=True)


def problem(op: str, shape: Shape, device: torch.device, dtype: torch.dtype) -> Problem:
    seed = int(hashlib.sha256(json.dumps([op, shape]).encode()).hexdigest()[:8], 16)
    g = torch.Generator(device).manual_seed(seed)

    def normal(*size: int, scale: float = 1.0) -> Tensor:
        return torch.randn(size, generator=g, device=device, dtype=dtype).mul_(scale)

    s = SimpleNamespace(**shape)
    if op in ("rms_norm", "add_rms_norm"):
        args = {"x": normal(s.rows, s.width), "weight": 1 + normal(s.width, scale=0.1)}
        if op == "add_rms_norm":
            args = {"x": args["x"], "residual": normal(s.rows, s.width), "weight": args["weight"]}
        grads = tuple(normal(s.rows, s.width) for _ in range(len(args) - 1))
        trained = tuple(args)
    elif op == "swiglu":
        args, trained = {"gate": normal(s.rows, s.width), "up": normal(s.rows, s.width)}, ("gate", "up")
        grads = (normal(s.rows, s.width),)
    elif op == "rope":  # the transposed views that attention layers make
        q, k, dq, dk = (normal(1, s.tokens, h, s.head).transpose(1, 2) for h in (s.heads, s.kv_heads) * 2)
        angles = (torch.rand(1, s.tokens, s.head // 2, generator=g, device=device) * 6.2832).repeat(1, 1, 2)
        args = {"q": q, "k": k, "cos": angles.cos().to(dtype), "sin": angles.sin().to(dtype)}
        trained, grads = ("q", "k"), (dq, dk)
    elif op == "linear_cross_entropy":
        targets = torch.randint(s.vocab, (s.rows,), generator=g, device=device)
        targets[: int(s.rows * s.ignored)] = -100  # a prompt that is not trained on
        args = {"hidden": normal(s.rows, s.width), "weight": normal(s.vocab, s.width, scale=s.width**-0.5)}
        args |= {"targets": targets, "count": max(1, s.rows - int(s.rows * s.ignored))}
        trained = ("hidden",) if s.frozen else ("hidden", "weight")
        grads = (torch.ones((), device=device),)
    else:
        args = {n: normal(s.tokens, h, s.head) for n, h in (("q", s.heads), ("k", s.kv_heads), ("v", s.kv_heads))}
        trained, grads = ("q", "k", "v"), (normal(s.tokens, s.heads, s.head),)
        ends = [*range(0, s.tokens, s.document), s.tokens]
        args |= {"cu": torch.tensor(ends, dtype=torch.int32, device=device), "longest": min(s.document, s.tokens)}
    for name in trained:
        args[name].requires_grad_()
    return Problem(args, trained, grads)


def work(op: str, shape: Shape, item: int) -> dict[str, tuple[float, float]]:
    """mode -> least (bytes, FLOP)."""
    s = SimpleNamespace(**shape)
    if op == "linear_cross_entropy":
        mhv = (s.rows - int(s.rows * s.ignored)) * s.width * s.vocab
        return {"forward": (0.0, 2.0 * mhv), "full": (0.0, (4.0 if s.frozen else 6.0) * mhv)}
    if op == "attention":
        squares = (s.tokens // s.document) * s.document**2 + (s.tokens % s.document) ** 2
        forward, backward = ((0.0, f * squares * s.head * s.heads) for f in (2.0, 5.0))
    elif op == "rope":
        each = s.tokens * s.head * (2.0 * (s.heads + s.kv_heads) + 2) * item
        forward, backward = (each, 0.0), (each, 0.0)
    else:
        values = {"rms_norm": (2, 3), "add_rms_norm": (4, 4), "swiglu": (3, 5)}[op]
        forward, backward = ((float(v * s.rows * s.width * item), 0.0) for v in values)
    return {"forward": forward, "backward": backward, "full": (forward[0] + backward[0], forward[1] + backward[1])}


def smaller(op: str, shape: Shape) -> Shape:
    """The problem on which fp64 is affordable: the same widths, fewer tokens."""
    if op == "attention":
        return {**shape, "tokens": min(shape["tokens"], 4096), "document": min(shape["document"], 1536)}
    tokens = "tokens" if op == "rope" else "rows"
    return {**shape, tokens: min(shape[tokens], 2048)}


def _norm(x: Tensor, weight: Tensor) -> Tensor:
    wide = x.float()
    return weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)).to(x.dtype)


def _half_turn(x: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    return torch.cat((-b, a), -1)


def _rms_norm(x: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
    return (_norm(x, weight),)


def _add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
    total = x + residual
    return _norm(total, weight), total


def _swiglu(gate: Tensor, up: Tensor) -> tuple[Tensor, ...]:
    return (F.silu(gate) * up,)


def _rope(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, ...]:
    c, s = cos.unsqueeze(1), sin.unsqueeze(1)
    return q * c + _half_turn(q) * s, k * c + _half_turn(k) * s


def _linear_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor, count: int) -> tuple[Tensor, ...]:
    return (F.cross_entropy((hidden @ weight.T).float(), targets, reduction="sum") / count,)


def _attention(q: Tensor, k: Tensor, v: Tensor, cu: Tensor, longest: int) -> tuple[Tensor, ...]:
    """A packed row in transformers' SDPA: a dense mask, and key heads repeated."""
    at = torch.arange(len(q), device=q.device)
    document = torch.bucketize(at, cu[1:].long(), right=True)
    mask = (document[:, None] == document) & (at[:, None] >= at)
    repeats = q.shape[1] // k.shape[1]
    heads = (x.transpose(0, 1)[None] for x in (q, k.repeat_interleave(repeats, 1), v.repeat_interleave(repeats, 1)))
    return (F.scaled_dot_product_attention(*heads, attn_mask=mask)[0].transpose(0, 1),)


# What transformers' Llama does, written out.
EAGER: dict[str, Function] = {
    "rms_norm": _rms_norm,
    "add_rms_norm": _add_rms_norm,
    "swiglu": _swiglu,
    "rope": _rope,
    "linear_cross_entropy": _linear_cross_entropy,
    "attention": _attention,
}


def adapted(op: str, impl: str, **options: Any) -> Function:
    """An implementation behind our own operator."""
    if op == "linear_cross_entropy":

        def run(hidden: Tensor, weight: Tensor, targets: Tensor, count: int) -> tuple[Tensor, ...]:
            return (dpr_kernels.linear_cross_entropy(hidden, weight, targets, normaliser=count, impl=impl, **options),)
    elif op == "attention":

        def run(q: Tensor, k: Tensor, v: Tensor, cu: Tensor, longest: int) -> tuple[Tensor, ...]:
            return (dpr_kernels.varlen_attention(q, k, v, cu, max_length=longest, impl=impl),)
    else:
        call = getattr(dpr_kernels, op)

        def run(*args: Tensor, **named: Tensor) -> tuple[Tensor, ...]:
            out = call(*args, **named, impl=impl)
            return out if isinstance(out, tuple) else (out,)

    return run


def exact(op: str) -> Function:
    """The operator's definition in plain PyTorch, to be called in fp64: of attention one SDPA a document, of the loss
    all logits at once."""
    if op == "attention":
        return adapted(op, "reference")
    call = getattr(reference, op)
    if op == "linear_cross_entropy":
        return lambda hidden, weight, targets, count: call(hidden, weight, targets, normaliser=count)[:1]

    def run(**args: Tensor) -> tuple[Tensor, ...]:
        out = call(**args)
        return out if isinstance(out, tuple) else (out,)

    return run


def provider(op: str, name: str, device: torch.device) -> tuple[Function, bool]:
    """The function, and whether it writes over its inputs. Raises Missing, ImportError where a library is not there."""
    if name not in PROVIDERS[op]:
        raise Missing(f"{op} has no provider {name}")
    if name == "eager":
        return EAGER[op], False
    if name == "compile":
        return torch.compile(EAGER[op], dynamic=False), False
    if name in ("quack", "fa4"):
        return library(name, op), False
    if name == "unsloth":
        return unsloth(op, device), op in ("rms_norm", "rope")
    if name == "liger-cute":
        return liger_cute(op, device), op != "linear_cross_entropy"  # perhaps: it says so of none
    base = name.removesuffix("-fp32")
    impl = {"ours": "triton"}.get(base, base)
    if base in ("ours", "liger") and device.type == "cpu":
        raise Missing("needs a GPU: Triton's interpreter has no time worth measuring")
    if op == "attention":
        if reason := attention.why_not(impl, device):
            raise Missing(reason)
        if impl == "flex" and device.type == "cpu":
            raise Missing("torch's flex_attention has no backward on a CPU")
        return adapted(op, impl), False
    if reason := backends.why_not(impl, device, op):
        raise Missing(reason)
    if op == "linear_cross_entropy":
        ours = base in ("ours", "reference") or name.endswith("-fp32")
        return adapted(op, impl, accumulate="float32" if ours else "weight"), False
    if base == "liger":
        return liger(op), True
    return adapted(op, impl), False


def liger(op: str) -> Function:
    """As its own modules call it, in place; our adapters would hand it copies."""
    from liger_kernel import ops

    if op == "rms_norm":
        return lambda x, weight: (ops.LigerRMSNormFunction.apply(x, weight, 1e-6, 0.0, "llama", True, None),)
    if op == "add_rms_norm":
        call = ops.LigerFusedAddRMSNormFunction.apply
        return lambda x, residual, weight: call(x, residual, weight, 1e-6, 0.0, "llama", True)
    if op == "swiglu":
        return lambda gate, up: (ops.LigerSiLUMulFunction.apply(gate, up),)
    return lambda q, k, cos, sin: ops.LigerRopeFunction.apply(q, k, cos, sin)


def liger_cute(op: str, device: torch.device) -> Function:
    """Liger's CuTe DSL kernels by their own entries, which fall back to Triton for shapes that they do not take (they
    warn, but for the rotation). Of the loss the one that never stores all logits, for sm_90 alone; untried here."""
    if device.type != "cuda":
        raise Missing("needs a GPU")
    if reason := backends.why_not("liger", device):
        raise Missing(reason)
    if find_spec("cutlass") is None:
        raise Missing("nvidia-cutlass-dsl is not installed (pip install 'liger-kernel[cutedsl]')")
    if op == "linear_cross_entropy":
        from liger_kernel.ops.cutedsl.ops.fused_linear_cross_entropy_sm90 import liger_fused_linear_cross_entropy_sm90

        return lambda hidden, weight, targets, count: (
            liger_fused_linear_cross_entropy_sm90(hidden, weight, targets, reduction="sum") / count,
        )
    name = {"add_rms_norm": "fused_add_rms_norm"}.get(op, op)
    call = getattr(import_module(f"liger_kernel.ops.backends._cutedsl.{name}"), f"{name}_cutedsl")
    if op == "rms_norm":
        return lambda x, weight: (call(x, weight, 1e-6),)
    if op == "add_rms_norm":
        return lambda x, residual, weight: call(x, residual, weight, 1e-6)
    if op == "swiglu":
        return lambda gate, up: (call(gate, up),)
    return lambda q, k, cos, sin: call(q, k, cos, sin)


def library(name: str, op: str) -> Function:
    """quack and FlashAttention 4, called from their published signatures; untried where this was written."""
    if name == "fa4":
        from flash_attn.cute import flash_attn_varlen_func

        def attend(q: Tensor, k: Tensor, v: Tensor, cu: Tensor, longest: int) -> tuple[Tensor, ...]:
            out = flash_attn_varlen_func(
                q, k, v, cu_seqlens_q=cu, cu_seqlens_k=cu, max_seqlen_q=longest, max_seqlen_k=longest, causal=True
            )
            return (out[0] if isinstance(out, tuple) else out,)

        return attend
    if op == "linear_cross_entropy":
        from quack.linear_cross_entropy import chunked_linear_cross_entropy as call

        return lambda hidden, weight, targets, count: (call(hidden, weight, targets, reduction="sum") / count,)
    from quack import rmsnorm

    if op == "rms_norm":
        return lambda x, weight: (rmsnorm(x, weight, eps=1e-6),)
    return lambda x, residual, weight: tuple(rmsnorm(x, weight, residual=residual, eps=1e-6, prenorm=True))


def unsloth(op: str, device: torch.device) -> Function:
    """Unsloth's kernels, called as their published sources want it; untried where this was written.

    Its norm has no gradient for the weight and writes dX over dY. Its rotation writes over q and k where they are
    contiguous, and over their gradients.
    """
    if device.type != "cuda":
        raise Missing("needs a GPU")
    if find_spec("unsloth") is None:
        raise Missing("unsloth is not installed (pip install unsloth)")
    return UNSLOTH[op]


def _unsloth_loss(hidden: Tensor, weight: Tensor, targets: Tensor, count: int) -> tuple[Tensor, ...]:
    import unsloth  # noqa: F401  (unsloth_zoo refuses to be imported first)
    from unsloth_zoo.fused_losses.cross_entropy_loss import unsloth_fused_ce_loss

    batch = hidden[None], weight, None, targets[None]
    return (unsloth_fused_ce_loss(None, *batch, n_items=count, shift_labels=False),)


def _unsloth_norm(x: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
    from unsloth.kernels import fast_rms_layernorm

    return (fast_rms_layernorm(SimpleNamespace(weight=weight.detach(), variance_epsilon=1e-6), x),)


def _unsloth_rope(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, ...]:
    from unsloth.kernels import fast_rope_embedding

    index = torch.arange(q.shape[2], dtype=torch.int32, device=q.device)  # each token's row of the table
    return fast_rope_embedding(q, k, cos, sin, index)


class _UnslothSwiGLU(torch.autograd.Function):
    """Two kernels that Unsloth calls in its LoRA MLP; the second turns (dout, gate, up) into (out, dup, dgate)."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        from unsloth.kernels import swiglu_fg_kernel

        ctx.save_for_backward(gate, up)
        return swiglu_fg_kernel(gate[None], up[None])[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor, Tensor]:
        from unsloth.kernels import swiglu_DWf_DW_dfg_kernel

        _, dup, dgate = swiglu_DWf_DW_dfg_kernel(*(x.clone() for x in (dout, *ctx.saved_tensors)))
        return dgate, dup


UNSLOTH: dict[str, Function] = {
    "linear_cross_entropy": _unsloth_loss,
    "rms_norm": _unsloth_norm,
    "rope": _unsloth_rope,
    "swiglu": lambda gate, up: (_UnslothSwiGLU.apply(gate, up),),
}


PROVIDERS = {  # in the order in which they are measured
    "linear_cross_entropy": (
        *("ours", "liger", "eager", "torch", "cce", "compile"),
        *("liger-fp32", "liger-cute", "torch-fp32", "quack", "unsloth", "reference"),
    ),
    "rms_norm": ("ours", "liger", "liger-cute", "eager", "compile", "torch", "quack", "unsloth", "reference"),
    "add_rms_norm": ("ours", "liger", "liger-cute", "eager", "compile", "quack", "reference"),
    "swiglu": ("ours", "liger", "liger-cute", "eager", "compile", "unsloth", "reference"),
    "rope": ("ours", "liger", "liger-cute", "eager", "compile", "unsloth", "reference"),
    "attention": ("torch", "flash_attn", "fa4", "flex", "reference", "eager"),
}
