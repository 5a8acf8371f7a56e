"""Causal attention over packed documents, told where they lie by explicit boundaries: it cannot leak.

transformers builds its packed SDPA mask only in some settings (`use_cache=False`, no attention mask) and otherwise
lets documents attend to each other without a word; here the boundaries are an argument, and its absence an error.

One adapter, four implementations:
  reference   one exact SDPA a document; any device and dtype; wants the lengths on the host
  torch       torch.nn.attention.varlen (the FlashAttention-2 kernels inside torch, and FA3/FA4 after
              torch.nn.attention.activate_flash_attention_impl): CUDA, bf16 or fp16
  flash_attn  the package flash-attn (FlashAttention-2): CUDA, bf16 or fp16
  flex        torch's flex_attention with a document mask: CUDA compiled; on a CPU forward only, torch has no backward
`auto` is torch on a GPU where dtype and head width allow it, else the reference: torch's kernels are always there and
follow a switch to FA3 or FA4, flash-attn has to be asked for.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import metadata
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

IMPLS = ("reference", "torch", "flash_attn", "flex")
NEEDS = "dpr_varlen attention needs"
TAKES = "dpr_varlen attention takes"


def varlen_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    *,
    scale: float | None = None,
    window: int | None = None,
    max_length: int | None = None,
    impl: str = "auto",
) -> Tensor:
    """Causal self-attention inside each document of a packed row (FlashAttention-2: arXiv 2307.08691).

    q (T, Hq, D); k and v (T, Hk, D) with Hq a multiple of Hk (GQA: query head h uses key head h // (Hq / Hk));
    cu_seqlens (B+1,) int32 = (0, ..., T), strictly rising, document b being tokens cu_seqlens[b] : cu_seqlens[b+1].
    `scale` defaults to 1/sqrt(D). `window` W lets a token see itself and the W - 1 tokens before it. `max_length`
    is a bound on the longest document. Returns (T, Hq, D) in q's dtype, under autocast in autocast's.

    Under torch.compile impl is auto, reference, or on a GPU torch: RuntimeError for the others.

    Boundaries are checked once a tensor, not once a layer: values on the host where the host has or needs them; on a
    GPU with `max_length` given by an assertion on the device, so that nothing waits. Without `max_length`, or with the
    reference, a GPU's boundaries are copied to the host once. Do not write into cu_seqlens' memory past autograd.
    Raises ValueError for shapes, dtypes, devices or boundaries that do not fit and for an unknown `impl`, RuntimeError
    for one that cannot run here.
    """
    _check_inputs(q, k, v, cu_seqlens)
    if q.ndim != 3 or k.shape != v.shape or k.shape[::2] != q.shape[::2] or not k.shape[1] or q.shape[1] % k.shape[1]:
        raise ValueError(f"q (T, Hq, D), k and v (T, Hk, D): got {(*q.shape,)}, {(*k.shape,)}, {(*v.shape,)}")
    if window is not None and window < 1:
        raise ValueError(f"window must be at least 1, got {window}")
    device = q.device
    if torch.is_autocast_enabled(device.type) and q.dtype != torch.float64:  # as SDPA does; a rope leaves float32
        q, k, v = (x.to(torch.get_autocast_dtype(device.type)) for x in (q, k, v))
    if not q.dtype == k.dtype == v.dtype:
        raise ValueError(f"q, k and v must be of one dtype, got {q.dtype}, {k.dtype}, {v.dtype}")
    if torch.compiler.is_compiling():
        return _traced(q, k, v, cu_seqlens, scale, window, max_length, impl)
    chosen = pick(impl, device, q.dtype, q.shape[2])
    row = _row(cu_seqlens, q.shape[0], max_length, on_host=chosen == "reference")
    if window is not None and window >= row.longest:
        window = None
    if chosen == "reference":
        return _reference(q, k, v, row.lengths, scale, window)
    if cu_seqlens.device != device:
        raise ValueError(f"cu_seqlens is on {cu_seqlens.device}, q on {device}")
    return ADAPTERS[chosen](q, k, v, cu_seqlens, row, scale, window)


def _check_inputs(q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor) -> None:
    """Raises ValueError unless all are on q's device: a kernel would read elsewhere, or say less clearly why not."""
    for name, x in (("k", k), ("v", v), ("cu_seqlens", cu_seqlens)):
        if x.device != q.device:
            raise ValueError(f"attention: {name} is on {x.device}, q on {q.device}: all must be on one device")


def pick(impl: str, device: torch.device, dtype: torch.dtype, width: int) -> str:
    """The implementation that runs for heads of `width` values: `impl`, or what `auto` stands for there.

    Raises ValueError for an unknown one or a dtype or width it does not take, RuntimeError if it cannot run here.
    """
    flash = dtype in (torch.bfloat16, torch.float16) and width <= 256 and width % 8 == 0
    if impl == "auto":
        return "torch" if flash and not why_not("torch", device) else "reference"
    if impl not in IMPLS:
        raise ValueError(f"attention has no impl {impl!r}; it has auto, {', '.join(IMPLS)}")
    if reason := why_not(impl, device):
        raise RuntimeError(f"attention: impl {impl!r} cannot run here: {reason}")
    if impl in ("torch", "flash_attn") and not flash:
        raise ValueError(
            f"impl {impl!r} takes bf16 or fp16 and heads of a multiple of 8 up to 256, got {dtype} {width}"
        )
    return impl


@cache
def why_not(impl: str, device: torch.device) -> str:
    """Why `impl` cannot run on `device`; "" where it can."""
    if impl in ("reference", "flex"):
        return ""
    if impl == "flash_attn" and not any(_canonical(d) == "flash-attn" for d in metadata.distributions()):
        return "flash-attn is not installed (pip install flash-attn)"  # flash-attn-4 has the same import name
    if device.type != "cuda":
        return "needs a GPU"
    major, minor = torch.cuda.get_device_capability(device)
    return "" if major >= 8 else f"needs an Ampere GPU (sm80) or newer, this one is sm{major}{minor}"


def _canonical(distribution: metadata.Distribution) -> str:
    return (distribution.metadata["Name"] or "").lower().replace("_", "-")


@dataclass(eq=False)
class _Row:
    """What is known of one tensor of boundaries; it hangs on that tensor, so a model's layers share it."""

    key: tuple[Any, ...]
    longest: int
    lengths: list[int] | None  # None: only the device has seen them
    masks: dict[int | None, Any] = field(default_factory=dict)  # flex: window -> block mask
    keys: Tensor | None = None  # a second tensor of boundaries, found equal


def _row(cu_seqlens: Tensor, total: int, max_length: int | None, *, on_host: bool) -> _Row:
    if cu_seqlens.dtype != torch.int32 or cu_seqlens.ndim != 1 or len(cu_seqlens) < 2:
        raise ValueError(f"cu_seqlens must be (B+1,) int32, got {(*cu_seqlens.shape,)} {cu_seqlens.dtype}")
    if max_length is not None and not isinstance(max_length, int):
        raise ValueError(f"max_length must be a Python int, got {type(max_length).__name__}: it would stall the GPU")
    on_host = on_host or max_length is None or cu_seqlens.device.type != "cuda"
    remembers = not cu_seqlens.is_inference()  # those count no versions
    key = (cu_seqlens._version if remembers else None, total, max_length)
    cached_row: _Row | None = getattr(cu_seqlens, "_dpr_row", None) if remembers else None
    if cached_row is not None and cached_row.key == key and (cached_row.lengths is not None or not on_host):
        return cached_row
    if on_host:
        bounds = cu_seqlens.tolist()
        lengths = [b - a for a, b in pairwise(bounds)]
        if bounds[0] != 0 or bounds[-1] != total or min(lengths) < 1:
            raise ValueError(f"cu_seqlens must be int32 and rise from 0 to {total}, got {cu_seqlens.dtype} {bounds}")
        if max_length is not None and max(lengths) > max_length:
            raise ValueError(f"a document of {max(lengths)} tokens is longer than max_length {max_length}")
        row = _Row(key, max(lengths), lengths)
    else:
        _assert_on_device(cu_seqlens, total, max_length)
        row = _Row(key, max_length, None)
    if remembers:
        cu_seqlens._dpr_row = row  # type: ignore[attr-defined]
    return row


def _assert_on_device(cu_seqlens: Tensor, total: int, longest: int) -> None:
    """Stop the process on wrong boundaries rather than leak or read elsewhere; the host does not wait for it."""
    lengths = cu_seqlens.diff()
    good = (cu_seqlens[0] == 0) & (cu_seqlens[-1] == total) & (lengths > 0).all() & (lengths <= longest).all()
    torch._assert_async(good, f"cu_seqlens must rise from 0 to {total} in steps of at most {longest}")


def _on_gpu(x: Tensor) -> bool:
    return x.device.type == "cuda"


def _traced(
    q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, scale: float | None, window: int | None,
    max_length: int | None, impl: str,
) -> Tensor:  # fmt: skip
    """Under torch.compile: a custom operator of ours or torch's, so without a graph break.

    The reference checks boundaries when it runs, as outside. torch's kernels need max_length, and each layer asserts
    its boundaries on the device; without max_length the longest document is taken to be the whole row.
    """
    gpu = _on_gpu(q)
    if impl == "auto":  # `pick` asks the device, which is not for a trace; torch's kernels refuse an old GPU themselves
        flash = q.dtype in (torch.bfloat16, torch.float16) and q.shape[2] <= 256 and q.shape[2] % 8 == 0
        impl = "torch" if gpu and flash else "reference"
    if impl == "reference":
        width = q.shape[2] ** -0.5 if scale is None else scale
        return torch.ops.dpr_kernels.varlen_attention(q, k, v, cu_seqlens, width, window, max_length)
    if impl != "torch" or not gpu:
        raise RuntimeError(f"attention: under torch.compile impl is auto, reference, or on a GPU torch, not {impl!r}")
    longest = q.shape[0] if max_length is None else max_length
    _assert_on_device(cu_seqlens, q.shape[0], longest)
    return _torch(q, k, v, cu_seqlens, _Row((), longest, None), scale, window)


def _reference(q: Tensor, k: Tensor, v: Tensor, lengths: list[int], scale: float | None, window: int | None) -> Tensor:
    out, grouped = [], q.shape[1] != k.shape[1]
    # split, not slices: the backward of a slice writes a whole row of zeros, once a document
    for one in zip(*(x.split(lengths) for x in (q, k, v)), strict=True):
        heads_first = [x.transpose(0, 1).unsqueeze(0) for x in one]
        length, band = one[0].shape[0], None
        if window is not None and length > window:
            band = torch.ones(length, length, dtype=torch.bool, device=q.device).tril().triu(1 - window)
        done = F.scaled_dot_product_attention(
            *heads_first, attn_mask=band, is_causal=band is None, scale=scale, enable_gqa=grouped
        )
        out.append(done.squeeze(0).transpose(0, 1))
    return torch.cat(out)


@cache
def _torch_varlen() -> tuple[Callable[..., Tensor], frozenset[str]]:
    from torch.nn.attention.varlen import varlen_attn

    return varlen_attn, frozenset(inspect.signature(varlen_attn).parameters)


def _torch(
    q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, row: _Row, scale: float | None, window: int | None
) -> Tensor:
    """torch's varlen attention, by the arguments that its signature has.

    2.10 has is_causal. 2.11 has window_size, where (-1, 0) is causal, and takes fewer key heads as they are; 2.12 needs
    enable_gqa for them.
    """
    call, parameters = _torch_varlen()
    options: dict[str, Any] = {} if scale is None else {"scale": scale}
    if "window_size" in parameters:
        options["window_size"] = (-1 if window is None else window - 1, 0)  # a tuple: 2.11 compares with ==
    elif "is_causal" in parameters and window is None:
        options["is_causal"] = True
    else:
        raise RuntimeError(f"torch {torch.__version__}: varlen_attn takes no window_size; use another impl")
    if q.shape[1] != k.shape[1] and "enable_gqa" in parameters:
        options["enable_gqa"] = True
    return call(q, k, v, cu_seqlens, cu_seqlens, row.longest, row.longest, **options)


def _flash_attn(
    q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, row: _Row, scale: float | None, window: int | None
) -> Tensor:
    from flash_attn import flash_attn_varlen_func

    sight = (-1, -1) if window is None else (window - 1, 0)
    ends = (cu_seqlens, cu_seqlens, row.longest, row.longest)
    return flash_attn_varlen_func(q, k, v, *ends, softmax_scale=scale, causal=True, window_size=sight)


@cache
def _flex_calls(compiled: bool) -> tuple[Callable[..., Tensor], Callable[..., Any]]:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    if compiled:  # uncompiled, both hold a T x T matrix
        return torch.compile(flex_attention), torch.compile(create_block_mask)
    return flex_attention, create_block_mask


def _flex(
    q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, row: _Row, scale: float | None, window: int | None
) -> Tensor:
    on_gpu, total = q.device.type == "cuda", q.shape[0]
    if not on_gpu and torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad):
        raise RuntimeError("attention: impl 'flex' cannot train here: torch's flex_attention has no backward on a CPU")
    attend, make_mask = _flex_calls(on_gpu)
    if window not in row.masks:
        document = torch.bucketize(
            torch.arange(total, dtype=torch.int32, device=q.device), cu_seqlens[1:], right=True, out_int32=True
        )

        def visible(_b: Tensor, _h: Tensor, i: Tensor, j: Tensor) -> Tensor:
            mask = (document[i] == document[j]) & (i >= j)
            return mask if window is None else mask & (i - j < window)

        row.masks[window] = make_mask(visible, None, None, total, total, device=q.device)
    q, k, v = (x.transpose(0, 1).unsqueeze(0) for x in (q, k, v))
    grouped = q.shape[1] != k.shape[1]
    out = attend(q, k, v, block_mask=row.masks[window], scale=scale, enable_gqa=grouped)
    return out.squeeze(0).transpose(0, 1)


ADAPTERS: dict[str, Callable[..., Tensor]] = {"torch": _torch, "flash_attn": _flash_attn, "flex": _flex}
_registered: dict[str, str] = {}  # our names in transformers' registries -> impl


def register(name: str = "dpr_varlen", impl: str = "auto") -> str:
    """Make `attn_implementation=name` known to transformers, running on `impl`; returns the name.

    Safe to call again with the same `impl`. The model is then called with one packed row (1, T) and `cu_seq_lens_q`
    (B+1,) int32, on a GPU also `max_length_q` (an int); or without boundaries, when they come from `position_ids`:
    every 0 begins a document, every row of a batch too, and anything but a run 0, 1, 2, ... is refused. (That copies
    the positions to the host once a call; transformers counts them from 0 where it is given none.) An attention mask
    may only be all ones. Raises ValueError for an unknown impl, or a name already bound to another one.
    """
    from transformers import AttentionInterface, AttentionMaskInterface

    if impl not in ("auto", *IMPLS):
        raise ValueError(f"attention has no impl {impl!r}; it has auto, {', '.join(IMPLS)}")
    if _registered.get(name, impl) != impl or (name not in _registered and name in AttentionInterface()):
        raise ValueError(f"attention {name!r} is already registered with impl {_registered.get(name, 'of its own')!r}")
    if name not in _registered:
        AttentionInterface.register(name, partial(_attend, impl=impl))
        AttentionMaskInterface.register(name, _mask)
        _registered[name] = impl
    return name


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    *,
    impl: str = "auto",
    cu_seq_lens_q: Tensor | None = None,
    cu_seq_lens_k: Tensor | None = None,
    max_length_q: int | None = None,
    position_ids: Tensor | None = None,
    sliding_window: int | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface: query (B, Hq, T, D), key and value (B, Hk, T, D) -> (B, T, Hq, D)."""
    rows, _, length, _ = query.shape
    if attention_mask is not None:
        raise ValueError(f"{TAKES} no attention mask: leave padding out, give cu_seq_lens_q")
    if key.shape[2] != length or (cu_seq_lens_q is not None and rows != 1):
        raise ValueError(f"{TAKES} one packed row without a cache, got query {(*query.shape,)}, key {(*key.shape,)}")
    unknown = [o for o in ("softcap", "s_aux", "position_bias") if options.get(o) is not None]
    causal = getattr(module, "is_causal", True) and options.get("is_causal") in (None, True)
    if dropout or unknown or not causal:
        raise ValueError(f"dpr_varlen attention is causal, without dropout and {', '.join(unknown) or 'extras'}")
    if cu_seq_lens_q is None:
        if position_ids is None:
            raise ValueError(f"{NEEDS} cu_seq_lens_q, the offsets at which documents begin and end, or position_ids")
        cu_seq_lens_q, max_length_q = _from_positions(position_ids, rows, length)
    elif cu_seq_lens_k is not None and cu_seq_lens_k is not cu_seq_lens_q:
        _check_equal(cu_seq_lens_q, cu_seq_lens_k, length, max_length_q)
    q, k, v = (x.transpose(1, 2).flatten(0, 1) for x in (query, key, value))
    out = varlen_attention(
        q, k, v, cu_seq_lens_q, scale=scaling, window=sliding_window, max_length=max_length_q, impl=impl
    )
    return out.unflatten(0, (rows, length)), None


def _from_positions(position_ids: Tensor, rows: int, length: int) -> tuple[Tensor, int]:
    """Boundaries (B+1,) int32 and the longest length of rows of documents that each count from 0."""
    cached_entry = getattr(position_ids, "_dpr_bounds", None)
    remembers = not position_ids.is_inference()
    key = (position_ids._version if remembers else None, rows, length)
    if remembers and cached_entry is not None and cached_entry[0] == key:
        return cached_entry[1]
    if position_ids.ndim != 2 or position_ids.shape[0] not in (1, rows) or position_ids.shape[1] != length:
        raise ValueError(f"position_ids must be ({rows}, {length}), got {(*position_ids.shape,)}")
    places = position_ids.detach().cpu()
    begins = places == 0
    if not begins[:, 0].all() or not (begins[:, 1:] | (places.diff() == 1)).all():
        raise ValueError(f"{NEEDS} position_ids that count 0, 1, 2, ... in every document, or cu_seq_lens_q")
    starts = begins.expand(rows, length).flatten().nonzero().squeeze(1)
    bounds = torch.cat([starts, torch.tensor([rows * length])]).int()
    result = bounds.to(position_ids.device), int(bounds.diff().max())
    if remembers:
        position_ids._dpr_bounds = (key, result)  # type: ignore[attr-defined]
    return result


def _check_equal(q_bounds: Tensor, k_bounds: Tensor, total: int, longest: int | None) -> None:
    """cu_seq_lens_k must say what cu_seq_lens_q says; compared once a pair on a GPU, there without waiting."""
    if q_bounds.device.type != "cuda":
        equal = k_bounds.equal(q_bounds)
    elif equal := k_bounds.shape == q_bounds.shape:
        row = _row(q_bounds, total, longest, on_host=False)
        if row.keys is not k_bounds:
            torch._assert_async((k_bounds == q_bounds).all(), "cu_seq_lens_k must equal cu_seq_lens_q")
            row.keys = k_bounds
    if not equal:
        raise ValueError("dpr_varlen attention is self-attention: cu_seq_lens_k must equal cu_seq_lens_q")


def _mask(*_: Any, attention_mask: Tensor | None = None, use_vmap: bool = False, config: Any = None, **__: Any) -> None:
    """transformers' mask interface, asked once a call: lets nothing through that the attention would ignore."""
    if attention_mask is not None and not attention_mask.all():
        raise ValueError(f"{TAKES} no attention mask with padding: leave padding out, give cu_seq_lens_q")
    if use_vmap or not getattr(config, "is_causal", True):  # a mask function of the model's own
        raise ValueError("dpr_varlen attention is causal and cannot run a model that changes its mask")
