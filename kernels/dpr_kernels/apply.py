"""This package's operators inside one transformers model, and out of it again.

Only this instance changes: modules get a `forward` of their own in their `__dict__`, the model a copy of its config.
No class, no module of transformers and no other model is touched; parameters stay the objects that they were, under
their names, so optimisers, state dicts and peft (before or after) see nothing.

add_rms_norm is not used here: the sums it would fuse lie in the decoder layer's forward, half of them across two
layers, and a decoder layer's forward also does transformers' checkpointing.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dpr_kernels import attention as packed
from dpr_kernels import backends
from dpr_kernels.linear_cross_entropy import linear_cross_entropy as linear_cross_entropy_op
from dpr_kernels.rms_norm import rms_norm as rms_norm_op
from dpr_kernels.rope import rope as rope_op
from dpr_kernels.swiglu import swiglu as swiglu_op
from dpr_kernels.tiled_mlp import tiled_mlp as in_tiles

FAMILIES = {"llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3"}  # model_type -> how its classes begin
ABSENT = object()


def apply(
    model: nn.Module,
    *,
    rms_norm: str | None = "auto",
    swiglu: str | None = "auto",
    rope: str | None = "auto",
    attention: str | None = "auto",
    linear_cross_entropy: str | None = None,
    tiled_mlp: int | None = None,
) -> Applied:
    """Run this Llama, Qwen2 or Qwen3 (transformers, bare or inside peft) on our operators; returns the handle.

    Each argument is an `impl` ("auto" chooses by device at every call) or None to leave that part alone:
    rms_norm: all norms, Qwen3's of query and key too. swiglu: the product in the MLPs. rope: the rotation in the
    attention layers. attention: packed and exact, see `attention.register`; it refuses padding and generation with a
    cache, so undo before generating. linear_cross_entropy: a call with labels gives the loss without logits
    (`logits` is None) as transformers' loss would be, mean over the labelled tokens or sum / num_items_in_batch; with
    no labelled token it is 0, not NaN. tiled_mlp: number of slices of tokens.

    Move the model to its device first: an impl that cannot run there is refused here. Settings changed on
    `model.config` while applied are gone after `undo()`.
    Raises ValueError for other model families, an activation that is not SiLU, a loss or forward that somebody has
    already replaced, or a head that is not a plain linear layer; RuntimeError for an impl that cannot run here.
    Nothing is changed when it raises.
    """
    core, parts, prefix = _family(model)
    config, first = core.config, next(core.parameters())
    device = first.device
    ops = {"rms_norm": rms_norm, "swiglu": swiglu, "rope": rope, "linear_cross_entropy": linear_cross_entropy}
    for op, impl in ops.items():
        if impl is not None:
            backends.pick(op, impl, device)
    if attention is not None:
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        # float32 weights may be masters that autocast makes bf16: their dtype is judged in the call
        packed.pick(attention, device, torch.bfloat16 if first.dtype == torch.float32 else first.dtype, width)
    if swiglu is not None and config.hidden_act not in ("silu", "swish"):
        raise ValueError(f"swiglu needs the activation silu, this model has {config.hidden_act!r}")
    if tiled_mlp is not None and tiled_mlp < 1:
        raise ValueError(f"tiled_mlp must be at least 1 slice, got {tiled_mlp}")

    applied = Applied()
    try:
        for name, module in model.named_modules():
            kind = type(module)
            if rms_norm is not None and kind is getattr(parts, f"{prefix}RMSNorm"):
                applied.rebind("rms_norm", rms_norm, name, module, partial(_norm, module, impl=rms_norm))
            elif kind is getattr(parts, f"{prefix}MLP") and (swiglu or tiled_mlp):
                plain = partial(_mlp, module, impl=swiglu) if swiglu else partial(kind.forward, module)
                forward = partial(_tiled, plain, module, tiled_mlp) if tiled_mlp else plain
                applied.rebind("swiglu" if swiglu else "tiled_mlp", swiglu or tiled_mlp, name, module, forward)
                if swiglu and tiled_mlp:
                    applied.note("tiled_mlp", tiled_mlp, name)
            elif kind is getattr(parts, f"{prefix}Attention"):
                if rope is not None:
                    forward = partial(_attention, module, eager=parts.eager_attention_forward, impl=rope)
                    applied.rebind("rope", rope, name, module, forward)
                if attention is not None:
                    applied.note("attention", attention, name)
            elif linear_cross_entropy is not None and module is core:
                _check_head(core, parts, prefix)
                forward = partial(_causal_lm, core, impl=linear_cross_entropy)
                applied.rebind("linear_cross_entropy", linear_cross_entropy, name, core, forward)
        if attention is not None:
            own = copy.copy(config)  # configs are often shared between models
            for module in model.modules():
                if module.__dict__.get("config") is config:
                    applied.set(module, "config", own)
            core.set_attn_implementation(
                packed.register("dpr_varlen" if attention == "auto" else f"dpr_varlen_{attention}", attention)
            )
    except BaseException:
        applied.undo()
        raise
    return applied


class Applied:
    """What `apply` changed. `replaced` maps an operator to the names of the modules that now run it, `impls` to how.

    `undo()`, or leaving the `with` block, gives the model back as it was. print() says what was replaced.
    """

    def __init__(self) -> None:
        self.replaced: dict[str, list[str]] = {}
        self.impls: dict[str, str | int] = {}
        self._before: list[tuple[nn.Module, str, Any, Any]] = []  # module, attribute, what it was, what we put

    def note(self, op: str, impl: str | int, name: str) -> None:
        self.replaced.setdefault(op, []).append(name)
        self.impls[op] = impl

    def rebind(self, op: str, impl: str | int, name: str, module: nn.Module, forward: Callable[..., Any]) -> None:
        if "forward" in module.__dict__:
            raise ValueError(f"{name or type(module).__name__} has a forward of its own already: undo that first")
        self.set(module, "forward", forward)
        self.note(op, impl, name)

    def set(self, module: nn.Module, attribute: str, value: Any) -> None:
        self._before.append((module, attribute, module.__dict__.get(attribute, ABSENT), value))
        setattr(module, attribute, value)

    def undo(self) -> None:
        """Put everything back; safe to call again. Raises RuntimeError, changing nothing, where somebody has since
        replaced what we had put: undo that first."""
        for module, attribute, _, ours in self._before:
            if module.__dict__.get(attribute) is not ours:
                raise RuntimeError(f"{type(module).__name__}.{attribute} was replaced after apply(): undo that first")
        for module, attribute, was, _ in reversed(self._before):
            if was is ABSENT:
                delattr(module, attribute)
            else:
                setattr(module, attribute, was)
        self._before = []

    def __enter__(self) -> Applied:
        return self

    def __exit__(self, *_: object) -> None:
        self.undo()

    def __str__(self) -> str:
        return ", ".join(f"{op} ({self.impls[op]}) in {len(names)}" for op, names in self.replaced.items()) or "nothing"


def _family(model: nn.Module) -> tuple[Any, Any, str]:
    """The transformers model in `model`, its modelling module, and how that module's classes begin."""
    from transformers import PreTrainedModel

    core = next((m for m in model.modules() if isinstance(m, PreTrainedModel)), None)
    kind = getattr(getattr(core, "config", None), "model_type", None)
    if kind not in FAMILIES or not type(core).__name__.startswith(FAMILIES[kind]):
        name = type(core or model).__name__
        raise ValueError(f"apply() knows the families {', '.join(FAMILIES.values())} of transformers, not {name}")
    return core, import_module(f"transformers.models.{kind}.modeling_{kind}"), FAMILIES[kind]


def _check_head(core: Any, parts: Any, prefix: str) -> None:
    from transformers.loss.loss_utils import ForCausalLMLoss

    if type(core) is not getattr(parts, f"{prefix}ForCausalLM") or core.loss_function is not ForCausalLMLoss:
        raise ValueError(f"linear_cross_entropy needs a {prefix}ForCausalLM with its own loss")
    _head_weight(core)


def _head_weight(core: Any) -> Tensor:
    if type(core.lm_head) is not nn.Linear or core.lm_head.bias is not None:
        raise ValueError(f"linear_cross_entropy needs a plain linear head, got {type(core.lm_head).__name__}")
    return core.lm_head.weight


def _norm(module: Any, hidden_states: Tensor, *, impl: str) -> Tensor:
    return rms_norm_op(hidden_states, module.weight, module.variance_epsilon, impl=impl)


def _mlp(module: Any, x: Tensor, *, impl: str) -> Tensor:
    return module.down_proj(swiglu_op(module.gate_proj(x), module.up_proj(x), impl=impl))


def _tiled(plain: Callable[[Tensor], Tensor], module: nn.Module, tiles: int, x: Tensor) -> Tensor:
    return in_tiles(plain, x, tiles, parameters=module.parameters())


def _attention(
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


def _causal_lm(
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
        hidden, _head_weight(core), targets, normaliser=num_items_in_batch, ignore_index=ignore_index, impl=impl
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
