"""The MLP's forward that apply() puts in: its backward writes over gate and up where nobody else can hold them."""

import pytest
import torch
from dpr_kernels import apply_layers as layers
from dpr_kernels.apply import apply
from tiny_models import FAMILIES, batch, build, close, identical, step
from torch import nn

MLP = {**dict.fromkeys(("rms_norm", "add_rms_norm", "rope", "attention")), "swiglu": "triton"}


@pytest.fixture
def reused(monkeypatch):
    """Calls of swiglu through apply(): (gate, up, as they were, whether they may be written over)."""
    calls, real = [], layers.swiglu_op

    def spy(gate, up, *, reuse_inputs, impl):
        calls.append((gate, up, gate.detach().clone(), up.detach().clone(), reuse_inputs))
        return real(gate, up, reuse_inputs=reuse_inputs, impl=impl)

    monkeypatch.setattr(layers, "swiglu_op", spy)
    return calls


def written(calls):
    """For each call whether gate and up hold something else now; that must be what was allowed."""
    found = [not a.detach().equal(c) and not b.detach().equal(d) for a, b, c, d, _ in calls]
    untouched = [a.detach().equal(c) and b.detach().equal(d) for a, b, c, d, _ in calls]
    assert all(f != u for f, u in zip(found, untouched, strict=True))
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_gate_and_up_are_written_over_and_gradients_are_the_same(family, device, reused):
    model, inputs = build(family, device), batch(device)
    with apply(model, **MLP, reuse_inputs=False):
        want = step(model, **inputs)
        assert written(reused) == [False] * 2
    reused.clear()
    with apply(model, **MLP):
        assert identical(step(model, **inputs), want)
        assert written(reused) == [True] * 2
        reused.clear()
        with torch.autocast(device.type, torch.bfloat16):
            step(model, **inputs)
        assert written(reused) == [True] * 2
        reused.clear()
        with torch.no_grad():
            model(**inputs)
        assert written(reused) == [False] * 2
    with apply(model, **{**MLP, "swiglu": "reference"}):  # it never writes over anything
        reused.clear()
        step(model, **inputs)
        assert written(reused) == [False] * 2


def test_reuse_in_tiles_and_under_checkpoints(device, reused):
    model, inputs = build("llama", device), batch(device)
    want = step(model, **inputs)
    for keys in ({}, {"tiled_mlp": 3}):
        with apply(model, **MLP, **keys):
            for reentrant in (True, False):
                model.gradient_checkpointing_enable({"use_reentrant": reentrant})
                reused.clear()
                close(f"{keys} reentrant {reentrant}", step(model, **inputs), want)
                assert any(written(reused))
            model.gradient_checkpointing_disable()
            reused.clear()
            close(f"{keys}", step(model, **inputs), want)
            assert sum(written(reused)) == (6 if keys else 2)  # each tile's, when it is done again


@pytest.mark.parametrize("when", ["before", "after"])
def test_reuse_with_adapters_and_their_inner_hooks(when, device, reused):
    """LoRA's sums are fresh; the base layer's output is not where adapters are off, and its hook may keep it."""
    peft = pytest.importorskip("peft")
    lora = peft.LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    model, inputs = build("qwen2", device), batch(device)
    applied = apply(model, **MLP) if when == "before" else None
    model = peft.get_peft_model(model, lora).train()
    applied = applied or apply(model, **MLP)
    step(model, **inputs)
    assert written(reused) == [True] * 2
    base = model.get_submodule("base_model.model.model.layers.1.mlp.up_proj.base_layer")
    kept = []
    hook = base.register_forward_hook(lambda m, x, y: kept.append((y, y.detach().clone())))
    reused.clear()
    step(model, **inputs)
    assert written(reused) == [True, False] and kept[0][0].equal(kept[0][1])
    hook.remove()
    applied.undo()


def keeping(register):
    def change(mlp, kept):
        register(mlp.gate_proj, lambda m, x, y: kept.append((y, y.detach().clone())))

    return change


def backward_hook(mlp, kept):
    mlp.up_proj.register_full_backward_hook(lambda m, x, y: None)


def own_forward(mlp, kept):
    ours = mlp.gate_proj.forward

    def forward(x):
        y = ours(x)
        kept.append((y, y.detach().clone()))
        return y

    mlp.gate_proj.forward = forward


class Keeper(nn.Linear):
    def forward(self, x):
        self.last = super().forward(x)
        return self.last


def foreign_layer(mlp, kept):
    mlp.gate_proj.__class__ = Keeper


def an_activation_that_saves_what_it_returns(mlp, kept):
    mlp.gate_proj = nn.Sequential(mlp.gate_proj, nn.Tanh())


def one_storage(mlp, kept):
    mlp.up_proj = mlp.gate_proj
    mlp.gate_proj.forward = lambda x, ours=mlp.gate_proj.forward: ours(x)


@pytest.mark.parametrize(
    "change",
    [keeping(nn.Module.register_forward_hook), backward_hook, own_forward, foreign_layer,
     an_activation_that_saves_what_it_returns, one_storage],
    ids=["forward hook", "backward hook", "forward", "subclass", "activation", "shared"],
)  # fmt: skip
def test_not_where_somebody_else_may_hold_them(change, device, reused):
    """Changed after apply(), for each call looks anew: what was kept is as it was after the backward."""
    model, inputs, kept = build("llama", device), batch(device), []
    with apply(model, **MLP):
        change(model.model.layers[0].mlp, kept)
        loss, _ = step(model, **inputs)
        assert loss.isfinite() and written(reused) == [False, True]
        assert all(y.detach().equal(was) for y, was in kept)


def test_not_where_a_gate_is_a_leaf_or_empty(device, reused):
    """Only up_proj is trained and nothing before it: gate needs no gradient. And a row of no tokens has no address."""
    model = build("llama", device).requires_grad_(False)
    mlp = model.model.layers[0].mlp
    mlp.up_proj.weight.requires_grad_()
    x = torch.randn(3, 32, device=device)
    want = torch.autograd.grad(mlp(x).sum(), mlp.up_proj.weight)[0]
    with apply(model, **MLP):
        got = torch.autograd.grad(mlp(x).sum(), mlp.up_proj.weight)[0]
        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)
        mlp.gate_proj.weight.requires_grad_()
        empty = mlp(x[:0].requires_grad_())
        assert empty.shape == (0, 32)
        empty.sum().backward()
    assert [call[-1] for call in reused] == [False, False]


def test_4_bit_layers(device, reused):
    bnb = pytest.importorskip("bitsandbytes")
    model = build("llama", device, hidden_size=64, intermediate_size=128).bfloat16()
    mlp = model.model.layers[0].mlp
    x = torch.randn(2, 5, 64, device=device, dtype=torch.bfloat16, requires_grad=True)
    for name in ("gate_proj", "up_proj"):
        layer = bnb.nn.Linear4bit(64, 128, bias=False, compute_dtype=torch.bfloat16, quant_type="nf4")
        layer.weight = bnb.nn.Params4bit(getattr(mlp, name).weight.data, requires_grad=False, quant_type="nf4")
        setattr(mlp, name, layer.to(device))
    grads = []
    for reuse in (False, True):
        reused.clear()
        with apply(model, **MLP, reuse_inputs=reuse):
            grads.append(torch.autograd.grad(mlp(x).sum(), x)[0])
            assert written(reused) == [reuse]
    assert grads[0].equal(grads[1])


def test_a_second_backward_is_an_error_unless_reuse_is_off(device):
    model, inputs = build("llama", device), batch(device)
    with apply(model, **MLP):
        loss = model(**inputs).loss
        loss.backward(retain_graph=True)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()
    model.zero_grad()
    with apply(model, **MLP, reuse_inputs=False):
        loss = model(**inputs).loss
        loss.backward(retain_graph=True)
        once = model.model.layers[0].mlp.gate_proj.weight.grad.clone()
        loss.backward()
        torch.testing.assert_close(model.model.layers[0].mlp.gate_proj.weight.grad, 2 * once)
