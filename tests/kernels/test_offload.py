"""Offloaded checkpoints: the gradients of a plain checkpoint to the last bit, and no layer input left on the device."""

import gc
import weakref

import pytest
import torch
from dpr_kernels import offload
from dpr_kernels.offload import Offloader, offload_checkpoints, offloaded_checkpoint
from torch import nn
from torch.utils.checkpoint import checkpoint

LAYERS = 4


def blocks(device="cpu", dropout=0.0):
    torch.manual_seed(0)
    one = [nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Dropout(dropout), nn.Linear(32, 16)) for _ in range(LAYERS)]
    return nn.ModuleList(one).to(device)


def run(layers, x, call):
    h = x
    for layer in layers:
        h = call(layer, h) + h
    return h


def plain_checkpoint(function, *args):
    return checkpoint(function, *args, use_reentrant=False)


def results(layers, call, device="cpu", seed=5):
    torch.manual_seed(1)
    x = torch.randn(6, 16, device=device, requires_grad=True)
    torch.manual_seed(seed)
    out = run(layers, x, call)
    return [out.detach(), *torch.autograd.grad(out.square().sum(), [x, *layers.parameters()])]


def same(a, b):
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("autocast", [False, True])
def test_gradients_are_those_of_a_checkpoint(dropout, autocast, device):
    layers = blocks(device, dropout)
    with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
        want = results(layers, plain_checkpoint, device)
        assert same(results(layers, offloaded_checkpoint, device), want)
        for in_flight in (0, 1, 2, 100):
            keeper = Offloader(min_bytes=0, in_flight=in_flight)
            assert same(results(layers, keeper.checkpoint, device), want)
            assert keeper.moved_bytes == LAYERS * 6 * 16 * 4 and keeper.kept_bytes == 0
    if not dropout and not autocast:
        for a, b in zip(results(layers, lambda f, x: f(x), device), want, strict=True):
            torch.testing.assert_close(a, b)


def inputs_alive(layers, call):
    """How many layer inputs live between forward and backward; the first one is the caller's."""
    alive = []

    def remember(_, args):
        if len(alive) < LAYERS:
            alive.append(weakref.ref(args[0].untyped_storage()))

    hooks = [layer.register_forward_pre_hook(remember) for layer in layers]
    x = torch.randn(6, 16, requires_grad=True)
    h, sizes = x, []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
        for layer in layers:
            h = call(layer, h) * 2.0  # its own input is not needed again
    gc.collect()
    count = sum(a() is not None for a in alive)
    for hook in hooks:
        hook.remove()
    h.sum().backward()
    return count, sizes


def test_nothing_but_small_tensors_stays():
    """A weak reference to each layer's input: a plain checkpoint keeps all of them, the offloading one none."""
    layers = blocks()
    keeper = Offloader(min_bytes=0)
    assert inputs_alive(layers, plain_checkpoint)[0] == LAYERS
    count, sizes = inputs_alive(layers, keeper.checkpoint)
    assert count == 1  # x itself, which the caller holds
    assert sum(sizes) == 0  # and nothing was saved past the offloader
    assert keeper.moved_bytes == LAYERS * 6 * 16 * 4
    small = Offloader(min_bytes=6 * 16 * 4 + 1)
    assert inputs_alive(layers, small.checkpoint)[0] == LAYERS
    assert small.kept_bytes == LAYERS * 6 * 16 * 4 and small.moved_bytes == 0


def test_an_empty_tensor_is_not_moved():
    """torch 2.11's checkpoint saves one a layer; fetched ahead, it would take the place of the next layer's input."""
    keeper, empty = Offloader(min_bytes=0), torch.empty(0, 16)
    assert keeper._pack(empty) is empty and keeper._unpack(empty) is empty
    assert keeper.moved_bytes == 0 and keeper._last() is None


def test_the_host_copy_dies_with_its_use():
    layers = blocks()
    keeper = Offloader(min_bytes=0)
    made = []
    real = offload._Away.__init__

    def spy(self, *args):
        real(self, *args)
        made.append(weakref.ref(self))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(offload._Away, "__init__", spy)
        results(layers, keeper.checkpoint)
        out = run(layers, torch.randn(6, 16, requires_grad=True), keeper.checkpoint)
        del out  # a forward without a backward
    gc.collect()
    assert len(made) == 2 * LAYERS and not any(m() for m in made)


def test_the_next_input_is_fetched_ahead():
    """Double buffering: when a layer takes its input, the one below it is already under way, and only that one."""
    layers, keeper, log = blocks(), Offloader(min_bytes=0), []
    real = offload._Away.fetch
    order = {}

    def fetch(self):
        if self.here is None:
            log.append(("fetch", order.setdefault(id(self), len(order))))
        real(self)

    def take(self, real=offload._Away.take):
        log.append(("take", order.setdefault(id(self), len(order))))
        return real(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(offload._Away, "fetch", fetch)
        patch.setattr(offload._Away, "take", take)
        results(layers, keeper.checkpoint)
    assert log == [
        ("take", 0), ("fetch", 0), ("fetch", 1), ("take", 1), ("fetch", 2), ("take", 2), ("fetch", 3), ("take", 3)
    ]  # fmt: skip


def test_two_backwards_and_interleaved_graphs():
    layers, keeper = blocks(), Offloader(min_bytes=0)
    x = torch.randn(6, 16, requires_grad=True)

    def grads(call, order):
        outs = [run(layers, x * s, call).square().sum() for s in (1.0, 2.0)]
        return [torch.autograd.grad(outs[i], [x, *layers.parameters()], retain_graph=True) for i in order]

    for order in ([0, 1], [1, 0], [0, 0, 1, 0]):
        for a, b in zip(grads(keeper.checkpoint, order), grads(plain_checkpoint, order), strict=True):
            assert same(a, b)


def test_arguments_that_are_not_activations():
    """Parameters stay; flags, integers and tensors without a gradient pass."""
    keeper = Offloader(min_bytes=0)
    weight = nn.Parameter(torch.randn(16, 16))
    x = torch.randn(6, 16, requires_grad=True)
    index = torch.tensor([3, 1, 0])

    def layer(x, weight, index, double, nothing):
        return (x[index] @ weight).tanh() * (2 if double else 1)

    out = keeper.checkpoint(layer, x, weight, index, True, None)
    want = layer(x, weight, index, True, None)
    assert same(torch.autograd.grad(out.sum(), [x, weight]), torch.autograd.grad(want.sum(), [x, weight]))
    assert keeper.kept_bytes == weight.numel() * 4 and keeper.moved_bytes == x.numel() * 4 + index.numel() * 8
    with torch.no_grad():
        assert keeper.checkpoint(layer, x, weight, index, True, None).equal(want)


def test_writing_into_an_input_that_is_leaving_is_an_error():
    lane = offload._Lane(torch.device("cpu"))
    x = torch.randn(4)
    away = offload._Away(x, lane, lambda: None)
    x.add_(1)
    with pytest.raises(RuntimeError, match="written to"):
        away.let_go()
    with pytest.raises(RuntimeError, match="written to"):
        away.take()


def test_bad_settings():
    with pytest.raises(ValueError, match="negative"):
        Offloader(in_flight=-1)
    with pytest.raises(ValueError, match="no layer that transformers can checkpoint"):
        offload_checkpoints(blocks())


# --- a transformers model ---------------------------------------------------------------------------------------------


def tiny(seed=0):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
            num_key_value_heads=2,
        )
    ).train()  # fmt: skip


IDS = torch.arange(20).view(2, 10)


def step(model):
    model.zero_grad()
    out = model(IDS, labels=IDS, use_cache=False)
    out.loss.backward()
    return [out.loss.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]


def test_on_a_model_and_off_again():
    model, other = tiny(), tiny()
    before = {n: dict(m.__dict__) for n, m in model.named_modules()}
    want = step(model)
    with offload_checkpoints(model, min_bytes=0) as handle:
        assert handle.layers == 3 and model.is_gradient_checkpointing
        for a, b in zip(step(model), want, strict=True):
            torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)
        moved = handle.offloader.moved_bytes
        assert moved == 3 * IDS.numel() * 32 * 4  # each layer's input, not masks, not cos and sin
        assert not other.is_gradient_checkpointing and same(step(other), want)
        model.eval()  # a layer that is not training is not checkpointed
        model(IDS, use_cache=False)
        assert handle.offloader.moved_bytes == moved
        model.train()
    handle.undo()
    assert not model.is_gradient_checkpointing and same(step(model), want)
    assert {n: dict(m.__dict__) for n, m in model.named_modules()}.keys() == before.keys()
    for name, module in model.named_modules():
        assert module.__dict__.keys() == before[name].keys()


def test_checkpointing_that_was_on_is_on_again():
    model = tiny()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    was = model.model.layers[0]._gradient_checkpointing_func
    want = step(model)
    with offload_checkpoints(model, min_bytes=0):
        assert same(step(model), want)
        assert model.model.layers[0]._gradient_checkpointing_func is not was
    assert model.model.layers[0]._gradient_checkpointing_func is was and model.is_gradient_checkpointing


def test_inside_peft():
    peft = pytest.importorskip("peft")
    lora = peft.LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    torch.manual_seed(0)
    model = peft.get_peft_model(tiny(), lora).train()
    want = step(model)
    with offload_checkpoints(model, min_bytes=0) as handle:
        got = step(model)
        assert handle.layers == 3 and handle.offloader.moved_bytes > 0
    assert len(got) == len(want) > 1
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


# --- what only a GPU can show -----------------------------------------------------------------------------------------


@pytest.mark.gpu
def test_device_memory():
    """16 inputs of 32 MiB: between forward and backward a few are left, and the gradients are a checkpoint's."""
    torch.manual_seed(0)
    layers = nn.ModuleList(nn.Sequential(nn.Linear(512, 512), nn.Tanh()) for _ in range(16)).cuda()
    size = 16384 * 512 * 4

    def measure(call):
        x = torch.randn(16384, 512, device="cuda", generator=torch.Generator("cuda").manual_seed(1))
        x.requires_grad_()
        before, h = torch.cuda.memory_allocated(), x
        for layer in layers:
            h = call(layer, h)
        held = torch.cuda.memory_allocated() - before
        return held, torch.autograd.grad(h.sum(), [x, *layers.parameters()])

    kept, want = measure(plain_checkpoint)
    for _ in range(3):  # the second and third reuse pinned memory and race more
        held, got = measure(Offloader(min_bytes=0).checkpoint)
        assert kept > 15 * size and held < 5 * size
        assert same(got, want)
