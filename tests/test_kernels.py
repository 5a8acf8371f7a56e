"""The reference operators: exact gradients, the same answer at every chunk size, no leak between documents."""

import pytest
import torch
import torch.nn.functional as F
from dpr_kernels import attention, linear_cross_entropy, varlen_attention


def inputs(m=13, h=6, v=11, dtype=torch.float64, ignored=(0, 5, 12)):
    g = torch.Generator().manual_seed(0)
    hidden = torch.randn(m, h, generator=g, dtype=dtype, requires_grad=True)
    weight = torch.randn(v, h, generator=g, dtype=dtype, requires_grad=True)
    targets = torch.randint(v, (m,), generator=g)
    targets[list(ignored)] = -100
    return hidden, weight, targets


def gradients(loss, *tensors):
    return torch.autograd.grad(loss, tensors)


@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_gradcheck(chunk):
    hidden, weight, targets = inputs()

    def loss(h, w):
        return 3 * linear_cross_entropy(h, w, targets, normaliser=7.0, chunk=chunk)

    assert torch.autograd.gradcheck(loss, (hidden, weight))


@pytest.mark.parametrize("chunk", [1, 3, 1024])
@pytest.mark.parametrize("normaliser", [10, torch.tensor(10.0)])
def test_matches_torch(chunk, normaliser):
    hidden, weight, targets = inputs()
    want = F.cross_entropy(hidden @ weight.T, targets, reduction="sum") / 10
    loss, nll = linear_cross_entropy(hidden, weight, targets, normaliser=normaliser, chunk=chunk, return_nll=True)
    torch.testing.assert_close(loss, want)
    torch.testing.assert_close(nll, F.cross_entropy(hidden @ weight.T, targets, reduction="none").detach())
    assert not nll.requires_grad
    for a, b in zip(gradients(loss, hidden, weight), gradients(want, hidden, weight), strict=True):
        torch.testing.assert_close(a, b)


def test_nothing_labelled_is_zero_not_nan():
    hidden, weight, targets = inputs(ignored=range(13))
    loss = linear_cross_entropy(hidden, weight, targets, normaliser=0)
    assert loss.item() == 0
    assert all(g.abs().max() == 0 for g in gradients(loss, hidden, weight))


def test_ignored_rows_cost_nothing_and_may_hold_anything():
    hidden, weight, targets = inputs()
    dirty = hidden.detach().clone()
    dirty[targets == -100] = float("nan")
    dirty.requires_grad_()
    loss = linear_cross_entropy(dirty, weight, targets, normaliser=10)
    torch.testing.assert_close(loss, linear_cross_entropy(hidden, weight, targets, normaliser=10))
    dx, dw = gradients(loss, dirty, weight)
    assert dx.isfinite().all() and dw.isfinite().all() and dx[targets == -100].abs().max() == 0


def test_frozen_head_gets_no_gradient():
    hidden, weight, targets = inputs()
    weight = weight.detach()
    linear_cross_entropy(hidden, weight, targets, normaliser=10).backward()
    assert weight.grad is None and hidden.grad.abs().max() > 0


def test_bf16_autocast_accumulates_in_float32():
    """Error against fp64 no worse than twice that of eager bf16 logits with a float32 loss; dW float32."""
    hidden, weight, targets = inputs(400, 64, 300, torch.float32, ())
    exact = F.cross_entropy((hidden.double() @ weight.double().T), targets, reduction="mean")
    want = gradients(exact, hidden, weight)
    with torch.autocast("cpu", torch.bfloat16):
        eager = F.cross_entropy((hidden @ weight.T).float(), targets, reduction="mean")
        ours = linear_cross_entropy(hidden, weight, targets, normaliser=400, chunk=64)
    assert ours.dtype == torch.float32
    for a, b, w in zip(gradients(ours, hidden, weight), gradients(eager, hidden, weight), want, strict=True):
        assert a.dtype == torch.float32
        assert (a - w).norm() <= 2 * (b - w).norm()


@pytest.mark.parametrize("bad", [11, -1, -101])
def test_target_out_of_range(bad):
    hidden, weight, targets = inputs()
    targets[1] = bad
    with pytest.raises(ValueError, match="targets must lie in"):
        linear_cross_entropy(hidden, weight, targets, normaliser=1)


def test_shapes_are_checked():
    hidden, weight, targets = inputs()
    with pytest.raises(ValueError, match="hidden"):
        linear_cross_entropy(hidden, weight, targets[1:], normaliser=1)
    with pytest.raises(ValueError, match="chunk"):
        linear_cross_entropy(hidden, weight, targets, normaliser=1, chunk=0)


def eager_attention(q, k, v, bounds, scale):
    """Softmax over an explicit block-diagonal causal mask, in the inputs' precision."""
    t, groups = q.shape[0], q.shape[1] // k.shape[1]
    document = torch.bucketize(torch.arange(t), torch.tensor(bounds[1:]), right=True)
    allowed = (document[:, None] == document[None]) & (torch.arange(t)[:, None] >= torch.arange(t)[None])
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    scores = torch.einsum("qhd,khd->hqk", q, k) * scale
    return torch.einsum("hqk,khd->qhd", scores.masked_fill(~allowed, float("-inf")).softmax(-1), v)


@pytest.mark.parametrize("heads", [(4, 4), (6, 2), (3, 1)])
@pytest.mark.parametrize("bounds", [[0, 17], [0, 1, 2, 9, 17]])
def test_varlen_attention(heads, bounds):
    g = torch.Generator().manual_seed(1)
    hq, hk = heads
    q, k, v = (torch.randn(17, h, 8, generator=g, dtype=torch.float64, requires_grad=True) for h in (hq, hk, hk))
    out = varlen_attention(q, k, v, torch.tensor(bounds, dtype=torch.int32), scale=0.3)
    want = eager_attention(q, k, v, bounds, 0.3)
    torch.testing.assert_close(out, want)
    up = torch.randn(out.shape, generator=g, dtype=torch.float64)
    got, expected = gradients((out * up).sum(), q, k, v), gradients((want * up).sum(), q, k, v)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("bounds", [[0, 9], [1, 17], [0, 5, 5, 17], [0, 9, 4, 17], [17]])
def test_wrong_boundaries_are_refused(bounds):
    x = torch.zeros(17, 2, 8)
    with pytest.raises(ValueError, match="cu_seqlens"):
        varlen_attention(x, x, x, torch.tensor(bounds, dtype=torch.int32))
    with pytest.raises(ValueError, match="int32"):
        varlen_attention(x, x, x, torch.tensor([0, 17]))


@pytest.fixture(scope="module")
def tiny():
    from transformers import AutoModelForCausalLM, LlamaConfig

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention.register())


def test_model_without_boundaries_or_with_a_mask_is_refused(tiny):
    ids, cu = torch.arange(10)[None], torch.tensor([0, 4, 10], dtype=torch.int32)
    assert tiny(ids, cu_seq_lens_q=cu, use_cache=False).logits.isfinite().all()
    with pytest.raises(ValueError, match="needs cu_seq_lens_q"):
        tiny(ids, use_cache=False)
    for mask in (torch.ones(1, 10), torch.ones(1, 1, 10, 10)):  # padding to ignore; a ready-made 4D mask
        with pytest.raises(ValueError, match="no attention mask"):
            tiny(ids, attention_mask=mask, cu_seq_lens_q=cu, use_cache=False)
    with pytest.raises(ValueError, match="one packed row"):
        tiny(ids.expand(2, -1), cu_seq_lens_q=cu, use_cache=False)


def test_documents_cannot_see_each_other(tiny):
    """Changing one document leaves every other one's logits the same to the last bit, also with a cache asked for."""
    cu = torch.tensor([0, 4, 10], dtype=torch.int32)
    ids, places = torch.arange(10)[None], torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3, 4, 5]])
    other = ids.clone()
    other[0, :4] = 50
    for cache in (False, True):
        a, b = (tiny(x, position_ids=places, cu_seq_lens_q=cu, use_cache=cache).logits[0] for x in (ids, other))
        assert torch.equal(a[4:], b[4:]) and not torch.equal(a[:4], b[:4])
