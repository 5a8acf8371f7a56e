"""Causal attention over packed documents, told where they lie by explicit `cu_seqlens`: it cannot leak.

transformers builds its packed SDPA mask only in some settings (`use_cache=False`, no attention mask) and otherwise
lets documents attend to each other without a word; here the boundaries are an argument, and its absence an error.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def varlen_attention(q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, *, scale: float | None = None) -> Tensor:
    """Causal self-attention inside each document of a packed row: one SDPA per document.

    q (T, Hq, D); k and v (T, Hk, D) with Hq a multiple of Hk; cu_seqlens (B+1,) int32 = (0, ..., T), strictly
    rising, document b being tokens cu_seqlens[b] : cu_seqlens[b+1]. `scale` defaults to 1/sqrt(D).
    Returns (T, Hq, D) in q's dtype. Raises ValueError for shapes or boundaries that do not fit.
    """
    if q.ndim != 3 or k.shape != v.shape or k.shape[0] != q.shape[0] or q.shape[1] % k.shape[1]:
        raise ValueError(f"q (T, Hq, D), k and v (T, Hk, D): got {(*q.shape,)}, {(*k.shape,)}, {(*v.shape,)}")
    bounds = cu_seqlens.tolist()
    if (
        cu_seqlens.dtype != torch.int32
        or len(bounds) < 2
        or bounds[0] != 0
        or bounds[-1] != q.shape[0]
        or any(a >= b for a, b in pairwise(bounds))
    ):
        raise ValueError(f"cu_seqlens must be int32 and rise from 0 to {q.shape[0]}, got {cu_seqlens.dtype} {bounds}")
    lengths = [b - a for a, b in pairwise(bounds)]
    out = []
    # split, not slices: the backward of a slice writes a whole row of zeros, once a document
    for one in zip(*(x.split(lengths) for x in (q, k, v)), strict=True):
        heads_first = (x.transpose(0, 1).unsqueeze(0) for x in one)
        done = F.scaled_dot_product_attention(
            *heads_first, is_causal=True, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
        )
        out.append(done.squeeze(0).transpose(0, 1))
    return torch.cat(out)


def register(name: str = "dpr_varlen") -> str:
    """Make `attn_implementation=name` known to transformers; returns the name. Safe to call again.

    The model must then be called with one packed row (1, T), no attention mask, and `cu_seq_lens_q` (B+1,) int32.
    """
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(name, _attend)
    AttentionMaskInterface.register(name, _no_mask)
    return name


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    cu_seq_lens_q: Tensor | None = None,
    cu_seq_lens_k: Tensor | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface: query (1, Hq, T, D), key and value (1, Hk, T, D) -> (1, T, Hq, D)."""
    if cu_seq_lens_q is None:
        raise ValueError("dpr_varlen attention needs cu_seq_lens_q, the offsets at which documents begin and end")
    if attention_mask is not None:
        raise ValueError("dpr_varlen attention takes no attention mask: leave padding out, give cu_seq_lens_q")
    if query.shape[0] != 1 or key.shape[2] != query.shape[2]:
        raise ValueError(f"dpr_varlen attention takes one packed row without a cache, got query {(*query.shape,)}")
    if cu_seq_lens_k is not None and cu_seq_lens_k is not cu_seq_lens_q and not cu_seq_lens_k.equal(cu_seq_lens_q):
        raise ValueError("dpr_varlen attention is self-attention: cu_seq_lens_k must equal cu_seq_lens_q")
    window = options.get("sliding_window")
    if window is not None and int(cu_seq_lens_q.diff().max()) > window:
        raise ValueError(f"dpr_varlen attention has no sliding window, and a document is longer than {window} tokens")
    unknown = [o for o in ("softcap", "s_aux", "position_bias") if options.get(o) is not None]
    if dropout or unknown or not getattr(module, "is_causal", True):
        raise ValueError(f"dpr_varlen attention is causal, without dropout and {', '.join(unknown) or 'extras'}")
    q, k, v = (x.squeeze(0).transpose(0, 1) for x in (query, key, value))
    return varlen_attention(q, k, v, cu_seq_lens_q, scale=scaling).unsqueeze(0), None


def _no_mask(*_: Any, attention_mask: Tensor | None = None, **__: Any) -> None:
    if attention_mask is not None:
        raise ValueError("dpr_varlen attention takes no attention mask: leave padding out, give cu_seq_lens_q")
