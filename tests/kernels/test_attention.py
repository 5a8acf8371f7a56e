"""Packed attention: right against fp64, nothing leaks, and what it cannot do it refuses."""

import gc
import inspect
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from dpr_kernels import attention, varlen_attention

BOUNDS = [[0, 17], [0, 1, 2, 9, 17], [*range(18)], [0, 16, 17]]
HEADS = [(4, 4), (6, 2), (3, 1)]


def inputs(total=17, heads=(6, 2), width=8, dtype=torch.float64, device="cpu", grad=True):
    g = torch.Generator().manual_seed(1)
    hq, hk = heads
    made = [torch.randn(total, h, width, generator=g, dtype=torch.float64) for h in (hq, hk, hk, hq)]
    *qkv, up = (x.to(device, dtype) for x in made)
    return [x.requires_grad_(grad) for x in qkv], up


def ends(bounds, device="cpu"):
    return torch.tensor(bounds, dtype=torch.int32, device=device)


def eager(q, k, v, bounds, scale=None, window=None):
    """Softmax over an explicit block-diagonal causal mask, in the inputs' precision."""
    t, groups = q.shape[0], q.shape[1] // k.shape[1]
    at = torch.arange(t, device=q.device)
    document = torch.bucketize(at, torch.tensor(bounds[1:], device=q.device), right=True)
    allowed = (document[:, None] == document[None]) & (at[:, None] >= at[None])
    if window is not None:
        allowed &= at[:, None] - at[None] < window
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    scores = torch.einsum("qhd,khd->hqk", q, k) * (q.shape[2] ** -0.5 if scale is None else scale)
    return torch.einsum("hqk,khd->qhd", scores.masked_fill(~allowed, float("-inf")).softmax(-1), v)


def compare(against_fp64, name, heads, bounds, dtype, device, impl, width=8, scale=0.3, window=None, max_length=None):
    """Output and all gradients of `impl` and of eager attention in the same dtype against fp64."""
    results = []
    for kind in (dtype, dtype, torch.float64):
        qkv, up = inputs(bounds[-1], heads, width, dtype, device)
        qkv = [x.detach().to(kind).requires_grad_() for x in qkv]
        if not results:
            out = varlen_attention(
                *qkv, ends(bounds, device), scale=scale, window=window, max_length=max_length, impl=impl
            )
        else:
            out = eager(*qkv, bounds, scale, window)
        results.append([out, *torch.autograd.grad(out, qkv, up.to(kind))])
    for part, *three in zip(("out", "dq", "dk", "dv"), *results, strict=True):
        if three[2].abs().max() < 1e-9:  # a token that sees only itself: dq and dk are 0, to rounding
            assert three[0].abs().max() < 5e-6  # on an H100 1.5e-6 was seen
        else:
            # 8 ulps: torch's SDPA sums in an order of its own, by processor; a leak is off by a thousand times more
            against_fp64(f"{impl} {name} {part}", *three, ulps=8.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
def test_reference(heads, bounds, dtype, device, against_fp64):
    compare(against_fp64, f"{heads} {dtype}", heads, bounds, dtype, device, "reference")


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
def test_reference_in_fp64(heads, bounds, device):
    qkv, up = inputs(17, heads, device=device)
    out, want = varlen_attention(*qkv, ends(bounds, device), scale=0.3), eager(*qkv, bounds, 0.3)
    torch.testing.assert_close(out, want, atol=1e-13, rtol=0)
    for a, b in zip(*(torch.autograd.grad(x, qkv, up) for x in (out, want)), strict=True):
        torch.testing.assert_close(a, b, atol=1e-13, rtol=0)
    torch.testing.assert_close(varlen_attention(*qkv, ends(bounds, device)), eager(*qkv, bounds), atol=1e-13, rtol=0)


@pytest.mark.parametrize("window", [1, 3, 8, 100])
def test_reference_window(window, device, against_fp64):
    compare(against_fp64, f"window {window}", (6, 2), BOUNDS[1], torch.float32, device, "reference", window=window)


def test_gradcheck():
    (q, k, v), _ = inputs(7, (4, 2), 4)
    cu = ends([0, 1, 5, 7])
    assert torch.autograd.gradcheck(lambda *x: varlen_attention(*x, cu), (q, k, v))
    assert torch.autograd.gradcheck(lambda *x: varlen_attention(*x, cu, window=2), (q, k, v))


def test_views_of_any_stride(device):
    """Layers hand over transposed views; and the fused projection's slices are not contiguous."""
    (q, k, v), _ = inputs(device=device)
    cu = ends(BOUNDS[1], device)
    want = varlen_attention(q, k, v, cu)
    spread = [x.detach().transpose(0, 1).contiguous().transpose(0, 1) for x in (q, k, v)]
    assert not spread[0].is_contiguous()
    torch.testing.assert_close(varlen_attention(*spread, cu), want, atol=1e-12, rtol=0)


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("bounds", [[0, 17], [0, 1, 2, 9, 17], [0, 1, 130, 300]], ids=str)
def test_flex_forward(heads, bounds, window):
    """On a CPU flex runs uncompiled and forward only; its document mask is what is tested here."""
    (q, k, v), _ = inputs(bounds[-1], heads, 16, torch.float32, grad=False)
    cu = ends(bounds)
    out = varlen_attention(q, k, v, cu, window=window, impl="flex")
    torch.testing.assert_close(out, eager(q, k, v, bounds, window=window), atol=2e-6, rtol=1e-5)
    assert cu._dpr_row.masks.keys() == {window}  # the mask is made once a tensor of boundaries
    made = cu._dpr_row.masks[window]
    varlen_attention(q, k, v, cu, window=window, impl="flex")
    assert cu._dpr_row.masks[window] is made


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what a machine without a GPU says")
def test_what_a_cpu_cannot_do_is_said():
    (q, k, v), _ = inputs(dtype=torch.bfloat16)
    with pytest.raises(RuntimeError, match="no backward on a CPU"):
        varlen_attention(q, k, v, ends([0, 17]), impl="flex")
    with pytest.raises(RuntimeError, match="'torch' cannot run here: needs a GPU"):
        varlen_attention(q, k, v, ends([0, 17]), impl="torch")
    if attention.why_not("flash_attn", torch.device("cpu")) == "needs a GPU":
        pytest.fail("flash-attn is installed on a machine without a GPU; this test expects it absent")
    with pytest.raises(RuntimeError, match="flash-attn is not installed"):
        varlen_attention(q, k, v, ends([0, 17]), impl="flash_attn")
    with pytest.raises(ValueError, match="no impl 'fast'"):
        varlen_attention(q, k, v, ends([0, 17]), impl="fast")
    assert attention.pick("auto", q.device, torch.bfloat16, 64) == "reference"


def test_flash_attn_4_is_not_flash_attn(monkeypatch):
    """FA4 installs the same import name; only the distribution's name tells them apart."""
    attention.why_not.cache_clear()
    for installed, missing in ([("flash-attn-4", "flash-linear")], True), ([("Flash_Attn",)], False):
        found = [SimpleNamespace(metadata={"Name": n}) for n in installed[0]]
        monkeypatch.setattr(attention.metadata, "distributions", lambda found=found: found)
        assert ("not installed" in attention.why_not("flash_attn", torch.device("cpu"))) is missing
        attention.why_not.cache_clear()


# --- the adapter to torch's and flash-attn's functions, whose kernels need a GPU: their calls are checked here --------


def run_kernel(monkeypatch, function, impl, heads=(6, 2), window=None, max_length=8):
    """The keyword arguments that `impl` gives to a stub for the kernel, with its output checked."""
    seen = {}

    def spy(*args, **kwargs):
        names = ("q", "k", "v", "cu_seq_q", "cu_seq_k", "max_q", "max_k")
        seen.update(zip(names, args, strict=True), **kwargs)
        return function(*args, **kwargs)

    spy.__signature__ = inspect.signature(function)
    if impl == "torch":
        import torch.nn.attention.varlen as module

        monkeypatch.setattr(module, "varlen_attn", spy)
    else:
        module = ModuleType("flash_attn")
        module.flash_attn_varlen_func = spy
        monkeypatch.setitem(sys.modules, "flash_attn", module)
    monkeypatch.setattr(attention, "why_not", lambda *_: "")
    attention._torch_varlen.cache_clear()
    (q, k, v), _ = inputs(heads=heads, dtype=torch.bfloat16)
    try:
        varlen_attention(q, k, v, ends(BOUNDS[1]), scale=0.3, window=window, max_length=max_length, impl=impl)
    finally:
        attention._torch_varlen.cache_clear()
    assert seen.pop("cu_seq_q") is seen.pop("cu_seq_k") and all(seen.pop(n) is not None for n in "qkv")
    return seen


def varlen_2_11(q, k, v, cu_q, cu_k, max_q, max_k, *, return_aux=None, scale=None, window_size=(-1, -1)):
    return q


def varlen_2_13(
    q, k, v, cu_q, cu_k, max_q, max_k, *, return_aux=None, scale=None, window_size=(-1, -1), enable_gqa=False
):
    if not enable_gqa and q.shape[1] != k.shape[1]:
        raise ValueError("unequal heads")
    return q


def varlen_2_10(q, k, v, cu_q, cu_k, max_q, max_k, is_causal=False, return_aux=None, *, scale=None):
    return q


def flash(q, k, v, cu_q, cu_k, max_q, max_k, dropout_p=0.0, softmax_scale=None, causal=False, window_size=(-1, -1)):
    return q


def test_torch_varlen_signatures(monkeypatch):
    base = {"scale": 0.3, "max_q": 8, "max_k": 8}
    assert run_kernel(monkeypatch, varlen_2_11, "torch") == {**base, "window_size": (-1, 0)}
    assert run_kernel(monkeypatch, varlen_2_11, "torch", window=3) == {**base, "window_size": (2, 0)}
    assert run_kernel(monkeypatch, varlen_2_11, "torch", window=8) == {**base, "window_size": (-1, 0)}
    gqa = {**base, "window_size": (-1, 0), "enable_gqa": True}
    assert run_kernel(monkeypatch, varlen_2_13, "torch") == gqa
    assert isinstance(run_kernel(monkeypatch, varlen_2_13, "torch")["window_size"], tuple)
    assert run_kernel(monkeypatch, varlen_2_13, "torch", heads=(4, 4)) == {**base, "window_size": (-1, 0)}
    assert run_kernel(monkeypatch, varlen_2_10, "torch") == {**base, "is_causal": True}
    with pytest.raises(RuntimeError, match="no window_size"):
        run_kernel(monkeypatch, varlen_2_10, "torch", window=3)
    # without max_length the longest document is found
    assert run_kernel(monkeypatch, varlen_2_11, "torch", max_length=None)["max_q"] == 8


def test_installed_torch_is_one_of_these():
    """A torch that renames its arguments must fail here and not on somebody's GPU."""
    known = attention._torch_varlen()[1]
    assert {"window_size", "scale"} <= known


def test_flash_attn_call(monkeypatch):
    base = {"softmax_scale": 0.3, "causal": True, "max_q": 8, "max_k": 8}
    assert run_kernel(monkeypatch, flash, "flash_attn") == {**base, "window_size": (-1, -1)}
    assert run_kernel(monkeypatch, flash, "flash_attn", window=3) == {**base, "window_size": (2, 0)}


def test_flash_kernels_take_half_precision_only(monkeypatch):
    monkeypatch.setattr(attention, "why_not", lambda *_: "")
    gpu = torch.device("cuda")
    assert attention.pick("auto", gpu, torch.bfloat16, 128) == "torch"
    for dtype, width in ((torch.float32, 128), (torch.bfloat16, 512), (torch.bfloat16, 20)):
        assert attention.pick("auto", gpu, dtype, width) == "reference"
        with pytest.raises(ValueError, match="bf16 or fp16"):
            attention.pick("torch", gpu, dtype, width)


# --- inputs that do not fit -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bounds", [[0, 9], [1, 17], [0, 5, 5, 17], [0, 9, 4, 17], [17], [0], [], [0, 20, 17], [0, 18]], ids=str
)
def test_wrong_boundaries_are_refused(bounds):
    x = torch.zeros(17, 2, 8)
    for impl in ("reference", "flex"):
        with pytest.raises(ValueError, match="cu_seqlens"):
            varlen_attention(x, x, x, ends(bounds), impl=impl)
    with pytest.raises(ValueError, match="int32"):
        varlen_attention(x, x, x, torch.tensor([0, 17]))
    with pytest.raises(ValueError, match="int32"):
        varlen_attention(x, x, x, ends([[0, 17]]))


def test_device_side_check_sees_the_same_faults():
    for bounds, longest in ([0, 9], 9), ([1, 17], 17), ([0, 5, 5, 17], 17), ([0, 20, 17], 20), ([0, 8, 17], 8):
        with pytest.raises(RuntimeError, match="cu_seqlens must rise"):
            attention._assert_on_device(ends(bounds), 17, longest)
    attention._assert_on_device(ends([0, 8, 17]), 17, 9)


def test_boundaries_are_checked_again_after_a_change():
    """The verdict is kept on the tensor; writing into it, or using it for another row, ends that."""
    x, cu = torch.randn(17, 2, 8), ends([0, 9, 17])
    first = varlen_attention(x, x, x, cu)
    assert varlen_attention(x, x, x, cu).equal(first)
    cu[1] = 4
    assert torch.allclose(varlen_attention(x, x, x, cu), eager(x, x, x, [0, 4, 17]), atol=1e-6)
    cu[1] = 0
    with pytest.raises(ValueError, match="rise from 0"):
        varlen_attention(x, x, x, cu)
    good = ends([0, 17])
    varlen_attention(x, x, x, good)
    with pytest.raises(ValueError, match="rise from 0 to 16"):
        varlen_attention(x[:16], x[:16], x[:16], good)
    with pytest.raises(ValueError, match="longer than max_length"):
        varlen_attention(x, x, x, good, max_length=16)
    with torch.inference_mode():  # tensors without versions are looked at every time
        other = ends([0, 17])
        varlen_attention(x, x, x, other)
        other[0] = 3
        with pytest.raises(ValueError, match="rise from 0"):
            varlen_attention(x, x, x, other)


def test_the_kept_verdict_dies_with_its_tensor():
    import weakref

    x, cu = torch.randn(17, 2, 16), ends([0, 9, 17])
    varlen_attention(x, x, x, cu, impl="flex")
    row = weakref.ref(cu._dpr_row)
    del cu
    gc.collect()
    assert row() is None


def test_shapes_and_dtypes_are_checked():
    (q, k, v), _ = inputs()
    cu = ends([0, 17])
    bad = [
        (q[:16], k, v),
        (q, k[..., :4], v[..., :4]),  # heads of another width would broadcast nowhere
        (q, k, v[:, :1]),
        (q[:, :5], k, v),
        (q[None], k[None], v[None]),
    ]
    for one in bad:
        with pytest.raises(ValueError, match="q \\(T, Hq, D\\)"):
            varlen_attention(*one, cu)
    with pytest.raises(ValueError, match="one dtype"):
        varlen_attention(q.float(), k, v, cu)
    with pytest.raises(ValueError, match="window"):
        varlen_attention(q, k, v, cu, window=0)
    with pytest.raises(ValueError, match="Python int"):
        varlen_attention(q, k, v, cu, max_length=torch.tensor(17))


def test_autocast_makes_one_dtype_of_what_a_rope_left_in_float32():
    (q, k, v), _ = inputs(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        out = varlen_attention(q, k, v.bfloat16(), ends([0, 9, 17]))
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), eager(q, k, v, [0, 9, 17]), atol=3e-2, rtol=3e-2)


# --- inside transformers --------------------------------------------------------------------------------------------


def tiny_llama(name):
    from transformers import AutoModelForCausalLM, LlamaConfig

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, initializer_range=0.3,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config, attn_implementation=name)


@pytest.fixture(scope="module")
def tiny():
    return tiny_llama(attention.register())


CU = ends([0, 4, 10])
IDS = torch.arange(10)[None]
PLACES = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3, 4, 5]])


def test_masks_and_batches_are_refused(tiny):
    assert tiny(IDS, cu_seq_lens_q=CU, use_cache=False).logits.isfinite().all()
    padded = torch.ones(1, 10, dtype=torch.long)
    padded[0, 0] = 0
    with pytest.raises(ValueError, match="no attention mask with padding"):
        tiny(IDS, attention_mask=padded, cu_seq_lens_q=CU, use_cache=False)
    with pytest.raises(ValueError, match="no attention mask"):  # a ready-made 4D mask
        tiny(IDS, attention_mask=torch.ones(1, 1, 10, 10), cu_seq_lens_q=CU, use_cache=False)
    with pytest.raises(ValueError, match="one packed row"):
        tiny(IDS.expand(2, -1), cu_seq_lens_q=CU, use_cache=False)
    with pytest.raises(ValueError, match="cu_seq_lens_k must equal"):
        tiny(IDS, cu_seq_lens_q=CU, cu_seq_lens_k=ends([0, 5, 10]), use_cache=False)
    tiny(IDS, cu_seq_lens_q=CU, cu_seq_lens_k=CU.clone(), max_length_q=6, use_cache=False)


def test_all_ones_mask_changes_nothing(tiny):
    a = tiny(IDS, position_ids=PLACES, cu_seq_lens_q=CU, use_cache=False).logits
    b = tiny(IDS, position_ids=PLACES, attention_mask=torch.ones(1, 10), cu_seq_lens_q=CU, use_cache=False).logits
    assert a.equal(b)


def test_a_cached_step_is_refused(tiny):
    """One new token sees keys of an earlier call: that is no self-attention inside a row."""
    past = tiny(IDS, use_cache=True).past_key_values
    with pytest.raises(ValueError, match=r"without a cache"):
        tiny(IDS[:, :1], past_key_values=past)


def test_a_model_that_sees_ahead_is_refused(tiny):
    tiny.config.is_causal = False
    try:
        with pytest.raises(ValueError, match="causal"):
            tiny(IDS, cu_seq_lens_q=CU, use_cache=False)
    finally:
        del tiny.config.is_causal
    with pytest.raises(ValueError, match="causal"):
        attention._mask(use_vmap=True)


@pytest.mark.parametrize("how", ["cu_seq_lens_q", "position_ids"])
def test_documents_cannot_see_each_other(tiny, how):
    """Changing one document leaves every other one's logits the same to the last bit, also with a cache asked for."""
    told = {"position_ids": PLACES, **({"cu_seq_lens_q": CU} if how == "cu_seq_lens_q" else {})}
    other = IDS.clone()
    other[0, :4] = 50
    for keep in (False, True):
        a, b = (tiny(x, **told, use_cache=keep).logits[0] for x in (IDS, other))
        assert torch.equal(a[4:], b[4:]) and not torch.equal(a[:4], b[:4])
    later = IDS.clone()
    later[0, 4:] = 50
    a, b = (tiny(x, **told, use_cache=False).logits[0] for x in (IDS, later))
    assert torch.equal(a[:4], b[:4])


def test_boundaries_from_positions_are_those_given(tiny):
    a = tiny(IDS, position_ids=PLACES, cu_seq_lens_q=CU, use_cache=False).logits
    assert a.equal(tiny(IDS, position_ids=PLACES, use_cache=False).logits)
    whole = tiny(IDS, use_cache=False).logits  # no positions: transformers counts one document
    assert whole.equal(tiny(IDS, cu_seq_lens_q=ends([0, 10]), use_cache=False).logits)
    assert not whole.allclose(a, atol=1e-3)
    rows = tiny(IDS.view(2, 5), use_cache=False).logits  # a batch: every row begins a document
    alone = torch.cat([tiny(r[None], use_cache=False).logits for r in IDS.view(2, 5)])
    torch.testing.assert_close(rows, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("wrong", [[1, 2, 3, 4], [0, 1, 3, 4], [0, 1, 2, 2], [0, 2, 1, 0], [0, 1, 5, 6]], ids=str)
def test_positions_that_tell_no_boundaries_are_refused(tiny, wrong):
    with pytest.raises(ValueError, match="count 0, 1, 2"):
        tiny(IDS[:, :4], position_ids=torch.tensor([wrong]), use_cache=False)


def test_positions_are_read_again_after_a_change():
    places = PLACES.clone()
    cu, longest = attention._from_positions(places, 1, 10)
    assert cu.tolist() == [0, 4, 10] and longest == 6 and cu.dtype == torch.int32
    assert attention._from_positions(places, 1, 10)[0] is cu
    places[0, 3:5] = torch.tensor([0, 1])
    places[0, 5:] = torch.arange(2, 7)
    assert attention._from_positions(places, 1, 10)[0].tolist() == [0, 3, 10]
    assert attention._from_positions(torch.zeros(2, 3, dtype=torch.long), 2, 3)[0].tolist() == [*range(7)]
    with pytest.raises(ValueError, match="must be"):
        attention._from_positions(places[None].expand(3, 1, 10), 1, 10)  # one axis an image dimension


def test_without_boundaries_and_positions_it_raises(tiny):
    q = torch.randn(1, 4, 10, 8)
    with pytest.raises(ValueError, match="needs cu_seq_lens_q"):
        attention._attend(tiny, q, q, q, None)
    for extra in ({"softcap": 30.0}, {"dropout": 0.1}, {"s_aux": torch.ones(4)}, {"is_causal": False}):
        with pytest.raises(ValueError, match="is causal, without dropout"):
            attention._attend(tiny, q, q, q, None, cu_seq_lens_q=CU, **extra)


def test_sliding_window_is_that_of_transformers():
    """A Qwen2 with sliding layers, one document longer than the window, against its own eager attention."""
    from transformers import AutoModelForCausalLM, Qwen2Config

    config = {
        "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1,
        "initializer_range": 0.3,
    }  # fmt: skip
    name, logits = attention.register(), []
    for kind in (name, "eager"):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(Qwen2Config(**config), attn_implementation=kind)
        assert "sliding_attention" in model.config.layer_types
        logits.append(model(IDS, use_cache=False).logits)
    torch.testing.assert_close(*logits, atol=1e-5, rtol=1e-5)


def test_registration():
    assert attention.register() == attention.register("dpr_varlen", "auto") == "dpr_varlen"
    assert attention.register("dpr_varlen_reference", "reference") == "dpr_varlen_reference"
    with pytest.raises(ValueError, match="already registered with impl 'auto'"):
        attention.register("dpr_varlen", "flex")
    with pytest.raises(ValueError, match="already registered"):
        attention.register("sdpa")
    with pytest.raises(ValueError, match="no impl"):
        attention.register("dpr_varlen_other", "other")


@pytest.mark.parametrize("impl", ["reference", "flex"])
def test_registered_impl_is_the_one_that_runs(impl):
    model, plain = tiny_llama(attention.register(f"dpr_varlen_{impl}", impl)), tiny_llama(attention.register())
    calls = []
    real = attention._reference
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(attention, "_reference", lambda *a: calls.append(1) or real(*a))
        got = model(IDS, position_ids=PLACES, use_cache=False).logits
    assert len(calls) == (2 if impl == "reference" else 0)
    torch.testing.assert_close(got, plain(IDS, position_ids=PLACES, use_cache=False).logits, atol=1e-5, rtol=1e-5)


# --- what only a GPU can show ---------------------------------------------------------------------------------------


def usable(impl):
    if reason := attention.why_not(impl, torch.device("cuda")):
        pytest.skip(reason)


@pytest.mark.gpu
@pytest.mark.parametrize("impl", ["torch", "flash_attn", "flex"])
@pytest.mark.parametrize("heads", [(8, 8), (8, 2)])
@pytest.mark.parametrize("window", [None, 100])
def test_kernels(impl, heads, window, against_fp64):
    """Also that torch 2.11's op takes fewer key heads than query heads, forward and backward."""
    usable(impl)
    bounds = [0, 1, 2, 300, 511, 1024]
    compare(against_fp64, f"{heads}", heads, bounds, torch.bfloat16, "cuda", impl, 64, window=window, max_length=513)


@pytest.mark.gpu
@pytest.mark.parametrize("impl", ["torch", "flash_attn", "flex"])
def test_kernels_do_not_wait_and_do_not_leak(impl):
    usable(impl)
    (q, k, v), up = inputs(1024, (8, 2), 64, torch.bfloat16, "cuda")
    cu = ends([0, 300, 1024], "cuda")
    first = varlen_attention(q, k, v, cu, max_length=724, impl=impl)  # compiles flex
    fresh = cu.clone()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        varlen_attention(q, k, v, fresh, max_length=724, impl=impl)
        out = varlen_attention(q, k, v, fresh, max_length=724, impl=impl)
        out.backward(up)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert out.equal(first)
    noise = torch.randn_like(q[:300])
    with torch.no_grad():
        changed = [x.clone() for x in (q, k, v)]
        for x in changed:
            x[:300] += noise[:, : x.shape[1]]
        other = varlen_attention(*changed, fresh, max_length=724, impl=impl)
    assert other[300:].equal(out[300:]) and not other[:300].equal(out[:300])
