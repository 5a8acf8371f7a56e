"""The tiled MLP is the plain one: same output, same gradients, once each, and never the whole intermediate."""

import copy

import pytest
import torch
import torch.nn.functional as F
from dpr_kernels.tiled_mlp import tiled_mlp
from torch import nn
from torch.utils.checkpoint import checkpoint


class Mlp(nn.Module):
    def __init__(self, hidden=8, wide=24, bias=True, dropout=0.0):
        super().__init__()
        self.gate, self.up = (nn.Linear(hidden, wide, bias=bias) for _ in range(2))
        self.down = nn.Linear(wide, hidden, bias=bias)
        self.dropout = nn.Dropout(dropout)
        self.widest = 0

    def forward(self, x):
        wide = F.silu(self.gate(x)) * self.up(x)
        self.widest = max(self.widest, wide.numel() // wide.shape[-1])
        return self.down(self.dropout(wide))


def pair(shape=(2, 13, 8), dtype=torch.float64, device="cpu", **keys):
    torch.manual_seed(0)
    mlp = Mlp(shape[-1], **keys).to(device, dtype)
    x = torch.randn(shape, dtype=torch.float64).to(device, dtype).requires_grad_()
    return mlp, x, torch.randn(shape, dtype=torch.float64).to(device, dtype)


def gradients(out, x, mlp, up):
    return torch.autograd.grad(out, [x, *mlp.parameters()], up)


@pytest.mark.parametrize("shape", [(2, 13, 8), (1, 26, 8), (5, 8), (1, 1, 8), (2, 3, 4, 8)], ids=str)
@pytest.mark.parametrize("tiles", [1, 2, 4, 100])
def test_is_the_plain_mlp(shape, tiles, device):
    mlp, x, up = pair(shape, device=device)
    want = mlp(x)
    out = tiled_mlp(mlp, x, tiles)
    torch.testing.assert_close(out, want, atol=1e-12, rtol=0)
    for a, b in zip(gradients(out, x, mlp, up), gradients(want, x, mlp, up), strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=0)


def test_gradcheck():
    mlp, x, _ = pair((5, 8), wide=6)
    tensors = [x, *mlp.parameters()]
    assert torch.autograd.gradcheck(lambda x, *_: tiled_mlp(mlp, x, 3), tensors)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_error_against_fp64(dtype, device, against_fp64):
    mlp, x, up = pair((1, 96, 32), dtype, device, wide=80)
    exact, x64 = copy.deepcopy(mlp).double(), x.detach().double().requires_grad_()
    ours, eager, want = tiled_mlp(mlp, x, 4), mlp(x), exact(x64)
    against_fp64("tiled out", ours, eager, want)
    found = gradients(ours, x, mlp, up), gradients(eager, x, mlp, up), gradients(want, x64, exact, up.double())
    for name, *three in zip(["x", *(n for n, _ in mlp.named_parameters())], *found, strict=True):
        against_fp64(f"tiled {dtype} d{name}", *three)


def test_weight_gradients_are_summed_in_float32():
    """64 tiles of bfloat16: a sum kept in bfloat16 would lose the small tiles behind the large first one."""
    mlp, x, up = pair((1, 256, 16), torch.bfloat16, wide=16)
    exact, x64 = copy.deepcopy(mlp).double(), x.detach().double().requires_grad_()
    want = gradients(exact(x64), x64, exact, up.double())
    ours = gradients(tiled_mlp(mlp, x, 64), x, mlp, up)
    sums = [torch.zeros_like(p) for p in mlp.parameters()]
    for part, u in zip(x.split(4, 1), up.split(4, 1), strict=True):
        for total, grad in zip(sums, torch.autograd.grad(mlp(part), list(mlp.parameters()), u), strict=True):
            total += grad
    for a, naive, b in zip(ours[1:], sums, want[1:], strict=True):
        assert a.dtype == torch.bfloat16
        assert (a - b).norm() < 0.6 * (naive - b).norm()


def test_grad_is_filled_once_and_added_to():
    mlp, x, up = pair()
    mlp(x).backward(up)
    want = [p.grad.clone() for p in mlp.parameters()]
    mlp.zero_grad(set_to_none=True)
    calls = []
    for p in mlp.parameters():
        p.register_post_accumulate_grad_hook(lambda p: calls.append(p))
    tiled_mlp(mlp, x, 4).backward(up)
    assert len(calls) == len(want)  # once a parameter, not once a tile
    for p, w in zip(mlp.parameters(), want, strict=True):
        torch.testing.assert_close(p.grad, w)
    tiled_mlp(mlp, x, 3).backward(up)
    for p, w in zip(mlp.parameters(), want, strict=True):
        torch.testing.assert_close(p.grad, 2 * w)


def test_only_a_tile_is_wide():
    """In forward and in backward; and between them autograd holds x and nothing of the MLP."""
    mlp, x, up = pair((1, 40, 8))
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.numel()) or t, lambda t: t):
        out = tiled_mlp(mlp, x, 5)
    assert saved == [x.numel()] and mlp.widest == 8
    out.backward(up)
    assert mlp.widest == 8


@pytest.mark.parametrize("autocast", [False, True])
def test_under_a_checkpoint_and_autocast(autocast):
    """A layer's checkpoint around it, and autocast's weight cache: gradients must not get lost in either."""
    mlp, x, up = pair((1, 40, 8), torch.float32)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = []
        for run in (lambda x: mlp(x), lambda x: tiled_mlp(mlp, x, 5)):
            for wrap in (lambda f, x: f(x), lambda f, x: checkpoint(f, x, use_reentrant=False)):
                out = wrap(run, x)
                with torch.autocast("cpu", enabled=False):  # as the trainer does: the cache outlives the forward
                    found.append([out, *gradients(out, x, mlp, up.to(out.dtype))])
    want, *others = found
    assert want[0].dtype == (torch.bfloat16 if autocast else torch.float32)
    for other in others:
        for a, b in zip(other, want, strict=True):
            assert a.dtype == b.dtype
            torch.testing.assert_close(a, b, atol=2e-2 if autocast else 1e-5, rtol=2e-2 if autocast else 1e-5)


def test_autocast_cache_is_not_poisoned():
    """After a tiled forward, plain use of the same weights in the same autocast region still trains them."""
    mlp, x, _ = pair((1, 8, 8), torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        tiled_mlp(mlp, x, 2)
        mlp(x).sum().backward()
    assert all(p.grad is not None for p in mlp.parameters())


def test_frozen_parts():
    mlp, x, up = pair()
    for frozen in (["gate.weight", "down.bias"], [n for n, _ in mlp.named_parameters()]):
        for name, p in mlp.named_parameters():
            p.requires_grad_(name not in frozen)
            p.grad = None
        for one in (x, x.detach()):
            out = tiled_mlp(mlp, one, 4)
            trained = [p for p in mlp.parameters() if p.requires_grad]
            assert out.requires_grad == bool(trained or one.requires_grad)
            if not out.requires_grad:
                continue
            want = torch.autograd.grad(mlp(one), [*([x] if one is x else []), *trained], up)
            got = torch.autograd.grad(out, [*([x] if one is x else []), *trained], up)
            for a, b in zip(got, want, strict=True):
                torch.testing.assert_close(a, b)


def test_a_frozen_parameter_gets_no_gradient():
    mlp, x, up = pair()
    mlp.gate.weight.requires_grad_(False)
    tiled_mlp(mlp, x, 4).backward(up)
    assert mlp.gate.weight.grad is None and mlp.up.weight.grad is not None


def test_lora():
    peft = pytest.importorskip("peft")
    mlp, x, up = pair(dtype=torch.float32)
    lora = peft.LoraConfig(r=2, target_modules=["gate", "up", "down"], lora_dropout=0.0, init_lora_weights=False)
    mlp = peft.inject_adapter_in_model(lora, mlp)
    trained = {n: p for n, p in mlp.named_parameters() if p.requires_grad}
    assert len(trained) == 6 and all("lora" in n for n in trained)
    want = torch.autograd.grad(mlp(x), [x, *trained.values()], up)
    got = torch.autograd.grad(tiled_mlp(mlp, x, 4), [x, *trained.values()], up)
    for name, a, b in zip(["x", *trained], got, want, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4, msg=name)


def test_dropout_is_replayed():
    """The backward uses the forward's masks (else the difference quotient is off) and disturbs nobody's numbers."""
    mlp, x, up = pair((4, 8), dropout=0.5)

    def loss(x):
        torch.manual_seed(3)
        return (tiled_mlp(mlp, x, 2) * up).sum()

    out = loss(x)
    after = torch.get_rng_state()
    (grad,) = torch.autograd.grad(out, x)
    assert torch.get_rng_state().equal(after)
    step = torch.randn_like(x) * 1e-6
    with torch.no_grad():
        quotient = loss(x + step) - loss(x - step)
    torch.testing.assert_close(quotient, 2 * (grad * step).sum(), rtol=1e-4, atol=1e-13)


def test_without_gradients_and_without_tokens():
    mlp, x, _ = pair()
    with torch.no_grad():
        out = tiled_mlp(mlp, x, 4)
    assert not out.requires_grad
    torch.testing.assert_close(out, mlp(x).detach())
    empty = x.detach()[:, :0].requires_grad_()
    out = tiled_mlp(mlp, empty, 4)
    assert out.shape == (2, 0, 8)
    out.sum().backward()
    assert empty.grad.shape == (2, 0, 8)


def test_views_and_broadcast_gradients():
    mlp = pair()[0]
    wide = torch.randn(13, 2, 8, dtype=torch.float64, requires_grad=True)
    view = wide.transpose(0, 1)
    (a,) = torch.autograd.grad(tiled_mlp(mlp, view, 3).sum(), wide)
    (b,) = torch.autograd.grad(mlp(view).sum(), wide)
    torch.testing.assert_close(a, b)


def test_methods_and_functions():
    mlp, x, up = pair()
    want = gradients(mlp(x), x, mlp, up)
    for call, keys in ((mlp.forward, {}), (lambda x: mlp(x), {"parameters": mlp.parameters()})):
        for a, b in zip(gradients(tiled_mlp(call, x, 4, **keys), x, mlp, up), want, strict=True):
            torch.testing.assert_close(a, b)


def test_what_does_not_fit_is_refused():
    mlp, x, up = pair()
    with pytest.raises(ValueError, match="tiles"):
        tiled_mlp(mlp, x, 0)
    with pytest.raises(ValueError, match="give a module"):
        tiled_mlp(lambda x: x, x, 2)
    with pytest.raises(ValueError, match="floating"):
        tiled_mlp(mlp, torch.ones(2, 3, 8, dtype=torch.long), 2)
    with pytest.raises(ValueError, match="must map"):
        tiled_mlp(nn.Flatten(0), x, 2)
    with pytest.raises(ValueError, match="it gave tuple"):
        tiled_mlp(lambda x: (x, x), x, 2, parameters=[])
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    for stranger in (scale, scale * 2):  # would get no gradient, in silence
        out = tiled_mlp(lambda x, s=stranger: mlp(x) * s, x, 2, parameters=mlp.parameters())
        with pytest.raises(RuntimeError, match="not among the MLP's parameters"):
            out.backward(up)
    out = tiled_mlp(mlp, x, 2)
    with torch.no_grad():
        mlp.gate.weight.mul_(2)
    with pytest.raises(RuntimeError, match="written to between"):
        out.backward(up)


@pytest.mark.gpu
def test_memory_and_no_waiting():
    """Peak memory of forward and backward stays below one whole intermediate."""
    torch.manual_seed(0)
    mlp = Mlp(256, 4096, bias=False).to("cuda", torch.bfloat16)
    x = torch.randn(1, 32768, 256, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    tiled_mlp(mlp, x, 16).sum().backward()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    torch.cuda.set_sync_debug_mode("error")
    try:
        tiled_mlp(mlp, x, 16).sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.cuda.max_memory_allocated() - before < 32768 * 4096 * 2
