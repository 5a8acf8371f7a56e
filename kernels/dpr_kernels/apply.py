"""This package's operators inside one transformers model, and out of it again.

Only this instance changes: modules get a `forward` of their own in their `__dict__`, the model a copy of its config.
No class, no module of transformers and no other model is touched; parameters stay the objects that they were, under
their names, so optimisers, state dicts and peft (before or after) see nothing.

add_rms_norm takes the sum in the middle of a layer with the norm behind it (residual + attention, then
post_attention_layernorm). The sum at a layer's end with the next layer's norm is left: the layer would have to return
two tensors, through transformers' checkpoint, which gives back one, and past hooks and recorded hidden states, which
expect one. So half of the sums are fused, for half of what fusing all would gain (unmeasured).
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import nn

from dpr_kernels import apply_layers as layers
from dpr_kernels import attention as packed
from dpr_kernels import backends

FAMILIES = {"llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3"}  # model_type -> how its classes begin
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
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
    add_rms_norm: str | None = "auto",
    reuse_inputs: bool = True,
) -> Applied:
    """Run this Llama, Qwen2 or Qwen3 (transformers, bare or inside peft) on our operators; returns the handle.

    Each argument is an `impl` ("auto" chooses by device at every call) or None to leave that part alone:
    rms_norm: all norms, Qwen3's of query and key too. swiglu: the product in the MLPs. rope: the rotation in the
    attention layers. attention: packed and exact, see `attention.register`; it refuses padding and generation with a
    cache, so undo before generating. linear_cross_entropy: a call with labels gives the loss without logits
    (`logits` is None) as transformers' loss would be, mean over the labelled tokens or sum / num_items_in_batch; with
    no labelled token it is 0, not NaN. tiled_mlp: number of slices of tokens.
    add_rms_norm: the sum in the middle of each layer, in one with post_attention_layernorm; "auto" is what `rms_norm`
    says, so nothing where that is None or has no fused form (torch). Where a call finds hooks on that norm, another
    module or forward in its place, or a sum of two dtypes (autocast over float32 masters), sum and norm run one by one
    and hooks fire; a norm that has hooks already is in `skipped`.
    reuse_inputs: the backward of swiglu writes over the outputs of gate_proj and up_proj, where nobody else can hold
    them: each is a Linear, or an adapter or 4-bit layer around one, without hooks inside; looked at in each call. A
    second backward through one graph (retain_graph=True) then raises autograd's RuntimeError about an inplace
    operation: pass False for that. The reference never writes over its inputs.

    FSDP2: before or after fully_shard, of the layers and the root. For linear_cross_entropy the head must belong to
    the root's fully_shard, not to one of its own.

    Move the model to its device first: an impl that cannot run there is refused here. Settings changed on
    `model.config` while applied are gone after `undo()`.
    Raises ValueError for other model families, subclasses with a forward of their own, an activation that is not SiLU,
    a loss or forward that somebody has already replaced, or a head that is not a plain linear layer; RuntimeError for
    an impl that cannot run here.
    Nothing is changed when it raises.
    """
    core, parts, prefix = _family(model)
    config, first = core.config, next(core.parameters())
    device = first.device
    if add_rms_norm == "auto":
        add_rms_norm = rms_norm if rms_norm in ("auto", *backends.OPS["add_rms_norm"]) else None
    ops = {"rms_norm": rms_norm, "swiglu": swiglu, "rope": rope, "linear_cross_entropy": linear_cross_entropy}
    ops["add_rms_norm"] = add_rms_norm
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

    kinds = {name: getattr(parts, f"{prefix}{name}") for name in ("RMSNorm", "MLP", "Attention", "DecoderLayer")}
    wanted = {
        "RMSNorm": rms_norm is not None,
        "MLP": swiglu is not None or tiled_mlp is not None,
        "Attention": rope is not None or attention is not None,
        "DecoderLayer": add_rms_norm is not None,
    }
    applied = Applied()
    try:
        if linear_cross_entropy is not None:
            _check_head(core, parts, prefix)
        for name, module in model.named_modules():
            what = next((k for k, kind in kinds.items() if isinstance(module, kind)), "")
            if module is core and linear_cross_entropy is not None:
                forward = partial(layers.causal_lm, core, impl=linear_cross_entropy)
                applied.rebind("linear_cross_entropy", linear_cross_entropy, name, core, forward)
            if not wanted.get(what):
                continue
            if not layers.runs(module, kinds[what]):
                own = f"{type(module).__name__} with a forward of its own, not {kinds[what].__name__}'s"
                raise ValueError(f"{name or 'the model'} is a {own}: apply() would replace that")
            if what == "RMSNorm":
                applied.rebind("rms_norm", rms_norm, name, module, partial(layers.norm, module, impl=rms_norm))
            elif what == "MLP":
                plain = partial(kinds[what].forward, module)
                if swiglu is not None:
                    plain = partial(layers.mlp, module, impl=swiglu, reuse=reuse_inputs)
                forward = partial(layers.tiled, plain, module, tiled_mlp) if tiled_mlp else plain
                for op, impl in (("swiglu", swiglu), ("tiled_mlp", tiled_mlp)):
                    if impl is not None:
                        applied.note(op, impl, name)
                applied.rebind(None, "", name, module, forward)
            elif what == "Attention":
                if rope is not None:
                    forward = partial(layers.attention, module, eager=parts.eager_attention_forward, impl=rope)
                    applied.rebind("rope", rope, name, module, forward)
                if attention is not None:
                    applied.note("attention", attention, name)
            elif layers.hooked(module.post_attention_layernorm):
                applied.skipped.setdefault("add_rms_norm", []).append(name)
            else:
                names = tuple(inspect.signature(kinds[what].forward).parameters)[2:]
                options = {"impl": add_rms_norm, "kind": kinds["RMSNorm"], "names": names}
                options["checkpoints"] = layers.checkpoints_in_forward()
                forward = partial(layers.decoder_layer, module, **options)
                applied.rebind("add_rms_norm", add_rms_norm, name, module, forward)
        if attention is not None:
            own = copy.copy(config)  # configs are often shared between models
            for module in model.modules():
                if module.__dict__.get("config") is config:
                    applied.set(module, "config", own)
            ours = packed.register("dpr_varlen" if attention == "auto" else f"dpr_varlen_{attention}", attention)
            core.set_attn_implementation(ours)
            if core.config._attn_implementation != ours:  # transformers only warns
                raise ValueError(f"{type(core).__name__} does not let its attention be chosen")
    except BaseException:
        applied.undo()
        raise
    return applied


class Applied:
    """What `apply` changed. `replaced` maps an operator to the names of the modules that now run it, `impls` to how.
    `skipped` maps an operator to modules left alone because hooks on them would not fire.

    `undo()`, or leaving the `with` block, gives the model back as it was. print() says what was replaced.
    """

    def __init__(self) -> None:
        self.replaced: dict[str, list[str]] = {}
        self.impls: dict[str, str | int] = {}
        self.skipped: dict[str, list[str]] = {}
        self._before: list[tuple[nn.Module, str, Any, Any]] = []  # module, attribute, what it was, what we put

    def note(self, op: str, impl: str | int, name: str) -> None:
        self.replaced.setdefault(op, []).append(name)
        self.impls[op] = impl

    def rebind(self, op: str | None, impl: str, name: str, module: nn.Module, forward: Callable[..., Any]) -> None:
        if "forward" in module.__dict__:
            raise ValueError(f"{name or type(module).__name__} has a forward of its own already: undo that first")
        self.set(module, "forward", forward)
        if op is not None:
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
        said = [f"{op} ({self.impls[op]}) in {len(names)}" for op, names in self.replaced.items()]
        said += [f"{op} not in {len(names)}, whose norm has hooks" for op, names in self.skipped.items()]
        return ", ".join(said) or "nothing"


def _family(model: nn.Module) -> tuple[Any, Any, str]:
    """The transformers model in `model`, its modelling module, and how that module's classes begin."""
    from transformers import PreTrainedModel

    core = next((m for m in model.modules() if isinstance(m, PreTrainedModel)), None)
    config = getattr(core, "config", None)
    kind, name = getattr(config, "model_type", None), type(core or model).__name__
    supported = f"apply() knows the families {', '.join(FAMILIES.values())} of transformers, not {name}"
    if kind in FAMILIES:
        parts, prefix = import_module(f"transformers.models.{kind}.modeling_{kind}"), FAMILIES[kind]
        if isinstance(core, getattr(parts, f"{prefix}PreTrainedModel")):
            own = next(c for c in type(core).__mro__ if c.__module__ == parts.__name__)
            if not layers.runs(core, own):
                raise ValueError(f"{supported}, which has a forward of its own in place of {own.__name__}'s")
            return core, parts, prefix
    if kind is not None and any(getattr(config, key, None) for key in EXPERTS):
        raise ValueError(f"{supported}: its MLPs are experts behind a router, which no operator here covers")
    if kind is not None and "gemma" in kind:
        reason = "its norms multiply by 1 + weight in float32 before they round, and its MLPs have GELU, not SiLU"
        raise ValueError(f"{supported}: {reason}")
    raise ValueError(supported)


def _check_head(core: Any, parts: Any, prefix: str) -> None:
    from transformers.loss.loss_utils import ForCausalLMLoss

    if not layers.runs(core, getattr(parts, f"{prefix}ForCausalLM")) or core.loss_function is not ForCausalLMLoss:
        raise ValueError(f"linear_cross_entropy needs a {prefix}ForCausalLM with its own loss")
    layers.check_head(core)
