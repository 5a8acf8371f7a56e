"""The forwards that `apply` puts into modules of a transformers model, each beside the one that it stands for.

They are the three families' own, statement for statement, around our operators. All are functions of the module, so
that a bound one (a partial) is copied and pickled with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import module as every_module

from dpr_kernels.linear_cross_entropy import linear_cross_entropy as linear_cross_entropy_op
from dpr_kernels.rms_norm import add_rms_norm as add_rms_norm_op
from dpr_kernels.rms_norm import rms_norm as rms_norm_op
from dpr_kernels.rope import rope as rope_op
from dpr_kernels.swiglu import swiglu as swiglu_op
from dpr_kernels.tiled_mlp import tiled_mlp as in_tiles

LIBRARIES = ("torch", "peft", "bitsandbytes")  # whose layers keep no reference to what they return
SHARDED = "leave lm_head (and an embedding tied to it) to the root model's fully_shard, which gathers it"
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def runs(module: object, kind: type) -> bool:
    """Whether `module` is a `kind`, or of a subclass (FSDP2's fully_shard makes one) that runs its forward.

    From transformers 5.24 on every subclass of a decoder layer gets a forward of its own around the inherited one,
    for checkpointing: the same code each time, and looked through here.
    """
    own, wanted = getattr(type(module), "forward", None), kind.forward  # type: ignore[attr-defined]
    while own is not wanted and getattr(own, "__code__", None) is wanted.__code__ and hasattr(own, "__wrapped__"):
        own = own.__wrapped__  # type: ignore[union-attr]
    return isinstance(module, kind) and own is wanted


def hooked(module: nn.Module) -> bool:
    """Whether a call of `module` runs more than its forward: hooks of its own, or those of all modules."""
    everywhere = (getattr(every_module, f"_global{name}") for name in HOOKS)
    return any(everywhere) or any(getattr(module, name) for name in HOOKS)


def norm(module: Any, hidden_states: Tensor, *, impl: str) -> Tensor:
    return rms_norm_op(hidden_states, module.weight, module.variance_epsilon, impl=impl)


# --- the MLP ----------------------------------------------------------------------------------------------------------


def mlp(module: Any, x: Tensor, *, impl: str, reuse: bool) -> Tensor:
    gate, up = module.gate_proj(x), module.up_proj(x)
    reuse = reuse and _only_ours(module.gate_proj, gate) and _only_ours(module.up_proj, up) and _apart(gate, up)
    return module.down_proj(swiglu_op(gate, up, reuse_inputs=reuse, impl=impl))


def _only_ours(projection: nn.Module, out: Tensor) -> bool:
    """Whether nobody but the caller can hold `out`, which `projection` has just returned, nor autograd need it.

    Looked at anew at each call: a hook may come later, and peft wraps or switches its adapters off at any time. A layer
    of another library may return anything, so that only known ones count.
    """
    if torch.compiler.is_compiling():  # nothing of this can be asked there, and the compiler plans memory itself
        return False
    if type(projection).forward is not nn.Linear.forward and _library(projection) == "torch":
        return False  # a Sequential may end in an activation, which saves what it returns
    for part in projection.modules():  # an adapter's base layer too: without active adapters its output is `out`
        if hooked(part) or "forward" in part.__dict__ or _library(part) not in LIBRARIES:
            return False
    wraps = hasattr(out, "__tensor_flatten__")  # a DTensor, a quantised tensor: not memory of its own
    return not wraps and out.is_contiguous() and not out.is_leaf


def _library(module: nn.Module) -> str:
    if type(module).forward is nn.Linear.forward:
        return "torch"
    return type(module).__module__.partition(".")[0]


def _apart(gate: Tensor, up: Tensor) -> bool:
    """Whether they are two storages; empty ones have no address to tell."""
    return gate.numel() > 0 and gate.untyped_storage()._cdata != up.untyped_storage()._cdata


def tiled(plain: Callable[[Tensor], Tensor], module: nn.Module, tiles: int, x: Tensor) -> Tensor:
    return in_tiles(plain, x, tiles, parameters=module.parameters())


# --- the decoder layer ------------------------------------------------------------------------------------------------


def decoder_layer(layer: nn.Module, *args: Any, impl: str, kind: type, names: tuple[str, ...], **options: Any) -> Any:
    """The layer's own forward with its middle sum and the norm behind it in one. `kind`: the family's norm; `names`:
    what the layer's own forward calls its arguments after the first."""
    fused = _made[0] if _made else _fused_layer()
    return fused(layer, impl, kind, names).forward(*args, **options)


_made: list[type[_Layer]] = []  # once, and no functools.cache: torch.compile would look through that and break there


def _fused_layer() -> type[_Layer]:
    """Our forward with whatever transformers puts around a layer's: from 5.24 on that is the decision to checkpoint,
    which a forward of the instance's own would go past (before, it stands in __call__, and here is nothing)."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    class Wrapped(GradientCheckpointingLayer):
        forward = _layer_forward

    _made[:] = [type("FusedDecoderLayer", (_Layer,), {"forward": Wrapped.forward})]
    return _made[0]


class _Layer:
    """What stands for `self` in that forward: the layer, with three things that our forward wants to know."""

    forward: Callable[..., Any]

    def __init__(self, layer: nn.Module, impl: str, kind: type, names: tuple[str, ...]) -> None:
        self.layer, self.impl, self.kind, self.names = layer, impl, kind, names

    def __getattr__(self, name: str) -> Any:
        return getattr(self.layer, name)


def _layer_forward(self: _Layer, hidden_states: Tensor, *args: Any, **options: Any) -> Tensor:
    given = dict(zip(self.names, args, strict=False))
    options = {"attention_mask": None, "position_embeddings": None} | given | options
    out, _ = self.self_attn(hidden_states=self.input_layernorm(hidden_states), **options)
    after = self.post_attention_layernorm
    # float32 masters under autocast add bfloat16 to float32: torch does that in one pass, ours would widen it first
    if out.dtype == hidden_states.dtype and _is_plain_norm(after, self.kind):
        weight, eps = after.weight, after.variance_epsilon
        normed, total = add_rms_norm_op(out, hidden_states, weight, eps, impl=self.impl)
    else:
        total = hidden_states + out
        normed = after(total)
    return total + self.mlp(normed)


def _is_plain_norm(module: nn.Module, kind: type) -> bool:
    """Whether calling `module` would run the norm and nothing else; asked at each call, since that may change."""
    own = module.__dict__.get("forward")
    return runs(module, kind) and not hooked(module) and (own is None or getattr(own, "func", None) is norm)


# --- attention and loss -----------------------------------------------------------------------------------------------


def attention(
    module: Any,
    hidden_states: Tensor,
    position_embeddings: tuple[Tensor, Tensor],
    attention_mask: Tensor | None = None,
    past_key_values: Any = None,
    *,
    cache: Any = None,
    eager: Callable[..., Any],
    impl: str,
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    """The attention layer of the three families around our rope; which attention runs is still the config's choice.

    `cache` is what transformers calls `past_key_values` from 5.24 on.
    """
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    heads = (*hidden_states.shape[:-1], -1, module.head_dim)
    q, k, v = (p(hidden_states).view(heads) for p in (module.q_proj, module.k_proj, module.v_proj))
    if hasattr(module, "q_norm"):  # Qwen3
        q, k = module.q_norm(q), module.k_norm(k)
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    q, k = rope_op(q, k, *position_embeddings, impl=impl)
    if cache is None:
        cache = past_key_values
    if cache is not None:
        k, v = cache.update(k, v, module.layer_idx)
    if hasattr(module, "sliding_window"):  # Qwen2 and Qwen3; None in layers that see everything
        options["sliding_window"] = module.sliding_window
    attend = ALL_ATTENTION_FUNCTIONS.get_interface(module.config._attn_implementation, eager)
    dropout = module.attention_dropout if module.training else 0.0
    out, weights = attend(module, q, k, v, attention_mask, dropout=dropout, scaling=module.scaling, **options)
    return module.o_proj(out.flatten(-2)), weights


def causal_lm(
    core: Any,
    input_ids: Tensor | None = None,
    attention_mask: Tensor | None = None,
    position_ids: Tensor | None = None,
    past_key_values: Any = None,
    inputs_embeds: Tensor | None = None,
    labels: Tensor | None = None,
    use_cache: bool | None = None,
    logits_to_keep: int | Tensor = 0,
    *,
    impl: str,
    cache: Any = None,
    num_items_in_batch: int | Tensor | None = None,
    shift_labels: Tensor | None = None,
    ignore_index: int = -100,
    return_dict: bool | None = None,
    **options: Any,
) -> Any:
    """The model's own forward; with labels, the loss straight from hidden states and head."""
    from transformers.modeling_outputs import CausalLMOutputWithPast

    name = "cache" if "cache" in CausalLMOutputWithPast.__dataclass_fields__ else "past_key_values"  # 5.24; before
    inputs = {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "position_ids": position_ids,
        name: past_key_values if cache is None else cache,
        "inputs_embeds": inputs_embeds,
        "use_cache": use_cache,
    }
    if labels is None:
        return type(core).forward(core, **inputs, logits_to_keep=logits_to_keep, return_dict=return_dict, **options)
    if not isinstance(logits_to_keep, int) or logits_to_keep:
        raise ValueError("linear_cross_entropy makes no logits: labels and logits_to_keep cannot go together")
    out = core.model(**inputs, return_dict=True, **options)
    if shift_labels is None:
        shift_labels = F.pad(labels, (0, 1), value=ignore_index)[..., 1:]
    hidden, targets = out.last_hidden_state.flatten(0, 1), shift_labels.flatten().to(out.last_hidden_state.device)
    if num_items_in_batch is None:
        num_items_in_batch = (targets != ignore_index).sum().clamp(min=1)
    elif isinstance(num_items_in_batch, Tensor):
        num_items_in_batch = num_items_in_batch.to(hidden.device)
    loss = linear_cross_entropy_op(
        hidden, head_weight(core), targets, normaliser=num_items_in_batch, ignore_index=ignore_index, impl=impl
    )
    result = CausalLMOutputWithPast(
        loss=loss,
        logits=None,
        **{name: getattr(out, name)},
        hidden_states=out.hidden_states,
        attentions=out.attentions,
    )
    as_object = core.config.return_dict if return_dict is None else return_dict
    return result if as_object else result.to_tuple()


def check_head(core: Any) -> None:
    """Raises ValueError for a head that the loss cannot read."""
    head, name = core.lm_head, type(core.lm_head).__name__
    if any(k.__name__ == "FSDPModule" for k in type(head).__mro__):
        raise ValueError(f"linear_cross_entropy reads the head's weight without calling the head, so {SHARDED}")
    if type(head) is not nn.Linear or head.bias is not None:
        raise ValueError(f"linear_cross_entropy needs a plain linear head, got {name}")


def head_weight(core: Any) -> Tensor:
    """The head's weight, whole."""
    check_head(core)
    if type(core.lm_head.weight).__name__ == "DTensor":  # a shard: the tied embedding was sharded on its own
        raise ValueError(f"linear_cross_entropy needs the head's weight whole, not a shard: {SHARDED}")
    return core.lm_head.weight
