"""apply(): the same model in other kernels. Same loss and gradients, this instance only, and undone to the last bit."""

import copy
import importlib
import math
import pickle

import pytest
import torch
import torch.nn.functional as F
from dpr_kernels.apply import apply
from tiny_models import FAMILIES, LENGTHS, alone, batch, build, close, every, identical, packed, step
from torch import nn
from transformers import DynamicCache

OURS = ["reference", "triton"]  # triton in the interpreter where there is no GPU


def snapshot(model):
    return {n: (type(m), dict(m.__dict__)) for n, m in model.named_modules()}


@pytest.mark.parametrize("impl", OURS)
@pytest.mark.parametrize("family", FAMILIES)
def test_same_loss_and_gradients(family, impl, device):
    model = build(family, device)
    inputs, (row, parts) = batch(device), packed(device)
    want, want_packed = step(model, **inputs), alone(model, parts)
    for keys in ({}, {"linear_cross_entropy": impl}, {"tiled_mlp": 3}):
        with apply(model, **every(impl, **keys)) as applied:
            print(applied)
            close(f"{family} {impl} {keys} batch", step(model, **inputs), want)
            close(f"{family} {impl} {keys} packed", step(model, **row), want_packed)
            if not keys:
                del row["cu_seq_lens_q"], row["cu_seq_lens_k"]  # then from the positions
                close(f"{family} {impl} by position", step(model, **row), want_packed)
                row = packed(device)[0]
    assert identical(step(model, **inputs), want)


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_is_separate_documents(family, device):
    """In fp64, where no rounding of float32 hides a difference; also for the loss without logits."""
    model, (row, parts) = build(family, device).double(), packed(device)
    rest = {"attention": "reference", "linear_cross_entropy": "reference", "tiled_mlp": 3}
    with apply(model, **every("reference", **rest)):
        loss, grads = step(model, **row)
        count, total, sums = sum(p.shape[1] - 1 for p in parts), 0.0, {}
        for part in parts:
            one = step(model, input_ids=part, labels=part, num_items_in_batch=count, use_cache=False)
            total, sums = total + one[0], {n: sums.get(n, 0) + g for n, g in one[1].items()}
    close(f"{family} fp64", (loss, grads), (total, sums), 1e-12)


@pytest.mark.parametrize(
    "op", ["rms_norm", "add_rms_norm", "swiglu", "rope", "attention", "linear_cross_entropy", "tiled_mlp"]
)
@pytest.mark.parametrize("family", FAMILIES)
def test_each_alone_and_what_it_says(family, op, device):
    """One operator at a time over the model's own SDPA; the handle names exactly the modules."""
    model = build(family, device)
    inputs = batch(device)
    want = step(model, **inputs)
    off = dict.fromkeys(("rms_norm", "add_rms_norm", "swiglu", "rope", "attention"))
    with apply(model, **{**off, op: 2 if op == "tiled_mlp" else "reference"}) as applied:
        close(f"{family} {op}", step(model, **inputs), want)
        layers = [f"model.layers.{i}" for i in range(2)]
        inside = ["self_attn.q_norm", "self_attn.k_norm"] if family == "qwen3" else []
        names = {
            "add_rms_norm": layers,
            "rms_norm": ["model.norm"]
            + [f"{at}.{n}" for at in layers for n in ("input_layernorm", "post_attention_layernorm", *inside)],
            "swiglu": [f"{at}.mlp" for at in layers],
            "tiled_mlp": [f"{at}.mlp" for at in layers],
            "rope": [f"{at}.self_attn" for at in layers],
            "attention": [f"{at}.self_attn" for at in layers],
            "linear_cross_entropy": [""],
        }
        assert {k: sorted(v) for k, v in applied.replaced.items()} == {op: sorted(names[op])}
        assert f"{op} (" in str(applied)


@pytest.mark.parametrize("family", FAMILIES)
def test_our_operators_really_run(family, device, monkeypatch):
    """Counts the calls: a replacement that is never reached would pass every comparison."""
    module = importlib.import_module("dpr_kernels.apply_layers")
    calls = {}

    def count(name, where=module):
        real = getattr(where, name)
        monkeypatch.setattr(where, name, lambda *a, **k: calls.update({name: calls.get(name, 0) + 1}) or real(*a, **k))

    for name in ("rms_norm_op", "add_rms_norm_op", "swiglu_op", "rope_op", "linear_cross_entropy_op", "in_tiles"):
        count(name)
    count("varlen_attention", importlib.import_module("dpr_kernels.attention"))
    model = build(family, device)
    with apply(model, **every("reference", linear_cross_entropy="reference", tiled_mlp=2)):
        model(**batch(device))
    norms = 7 if family == "qwen3" else 3  # without the two behind a sum
    assert calls == {
        "rms_norm_op": norms, "add_rms_norm_op": 2, "swiglu_op": 4, "rope_op": 2, "linear_cross_entropy_op": 1,
        "in_tiles": 2, "varlen_attention": 2,
    }  # fmt: skip
    calls.clear()
    model(**batch(device))
    assert not calls


def own(kind: type) -> dict[str, object]:
    """A class's attributes without what Python's copy and transformers 5.17 look up once and keep there."""
    return {n: v for n, v in vars(kind).items() if n != "__slotnames__" and not n.endswith("_cached_value")}


@pytest.mark.parametrize("family", FAMILIES)
def test_this_instance_only_and_undone(family, device):
    """Even a model that shares the config object; no class, no attribute of transformers' modules changes."""
    from transformers import AutoModelForCausalLM

    parts = importlib.import_module(f"transformers.models.{family}.modeling_{family}")
    kinds = [v for v in vars(parts).values() if isinstance(v, type)]
    classes, names = [own(k) for k in kinds], dict(vars(parts))
    model = build(family, device)
    twin = AutoModelForCausalLM.from_config(model.config).to(device).train()
    twin.config = model.config
    for m in twin.modules():
        if "config" in m.__dict__:
            m.config = model.config  # from_config copies; a shared one is the hard case
    twin.load_state_dict(model.state_dict())
    inputs = batch(device)
    want, before, settings = step(model, **inputs), snapshot(model), model.config.to_dict()
    parameters = [(n, id(p)) for n, p in model.named_parameters()]
    optimiser = torch.optim.SGD(model.parameters(), lr=0.0)
    twins = snapshot(twin)

    applied = apply(model, **every("reference", linear_cross_entropy="reference", tiled_mlp=2))
    assert [(n, id(p)) for n, p in model.named_parameters()] == parameters
    assert model.state_dict().keys() == twin.state_dict().keys()
    step(model, **inputs)
    optimiser.step()
    assert identical(step(twin, **inputs), want) and snapshot(twin) == twins
    assert dict(vars(parts)) == names and [own(k) for k in kinds] == classes
    assert model.config._attn_implementation == "dpr_varlen" and twin.config._attn_implementation != "dpr_varlen"

    applied.undo()
    applied.undo()
    model.zero_grad(set_to_none=True)
    after = snapshot(model)
    assert after == before  # the same objects, under the same names
    assert model.config is twin.config and model.config.to_dict() == settings
    assert identical(step(model, **inputs), want)


@pytest.mark.parametrize("impl", OURS)
@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_leaks_between_documents(family, impl, device):
    """A change in the first document moves no bit of the later ones, nor a change in the last one of the earlier."""
    model, row = build(family, device).eval(), packed(device)[0]
    del row["labels"]
    first, last = row["input_ids"].clone(), row["input_ids"].clone()
    first[0, : LENGTHS[0]] = 5
    last[0, -LENGTHS[-1] :] = 5
    with apply(model, **every(impl)), torch.no_grad():
        base, a, b = (model(**{**row, "input_ids": x}).logits[0] for x in (row["input_ids"], first, last))
    assert a[LENGTHS[0] :].equal(base[LENGTHS[0] :]) and not a[: LENGTHS[0]].equal(base[: LENGTHS[0]])
    assert b[: -LENGTHS[-1]].equal(base[: -LENGTHS[-1]]) and not b[-LENGTHS[-1] :].equal(base[-LENGTHS[-1] :])


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("family", FAMILIES)
def test_lora(family, when, device):
    peft = pytest.importorskip("peft")
    lora = peft.LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    keys = every("reference", linear_cross_entropy="reference", tiled_mlp=2)

    def wrapped(model):
        torch.manual_seed(1)
        return peft.get_peft_model(model, lora).train()

    inputs = batch(device)
    want = step(wrapped(build(family, device)), **inputs)
    assert all("lora" in n for n in want[1])
    if when == "before":
        model = build(family, device)
        applied = apply(model, **keys)
        model = wrapped(model)
    else:
        model = wrapped(build(family, device))
        applied = apply(model, **keys)
    close(f"{family} LoRA {when}", step(model, **inputs), want)
    applied.undo()
    assert identical(step(model, **inputs), want)


def test_with_checkpointing(device):
    from dpr_kernels.offload import offload_checkpoints

    model, inputs = build("qwen3", device), batch(device)
    want = step(model, **inputs)
    with apply(model, **every("reference", tiled_mlp=2)):
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        close("checkpoint", step(model, **inputs), want)
        with offload_checkpoints(model, min_bytes=0) as handle:
            close("offload", step(model, **inputs), want)
        assert handle.offloader.moved_bytes
    model.gradient_checkpointing_disable()


@pytest.mark.parametrize("family", FAMILIES)
def test_autocast_over_float32_masters(family, device):
    """The trainer's way. Against fp64, no worse than 1.5 times transformers' own autocast run."""
    model, inputs = build(family, device), batch(device)
    exact = step(copy.deepcopy(model).double(), **inputs)

    def error(run):
        return math.sqrt(sum((run[1][n].double() - g).square().sum().item() for n, g in exact[1].items()))

    with torch.autocast(device.type, torch.bfloat16):
        eager = error(step(model, **inputs))
        with apply(model, **every("reference", linear_cross_entropy="reference", tiled_mlp=2)):
            ours = error(step(model, **inputs))
    print(f"{family}: error of all gradients {ours:.2e}, transformers {eager:.2e}")
    assert 0 < ours <= 1.5 * eager


def test_loss_as_transformers_counts_it(device):
    """num_items_in_batch, ready-shifted labels, tuples; without labels the logits come as ever."""
    model, inputs = build("llama", device), batch(device)
    shifted = F.pad(inputs["labels"], (0, 1), value=-100)[:, 1:].contiguous()
    calls = [
        {**inputs, "num_items_in_batch": 50},
        {**inputs, "num_items_in_batch": torch.tensor(50)},
        {**inputs, "shift_labels": shifted},
    ]
    want = [step(model, **c) for c in calls]
    logits = model(inputs["input_ids"], logits_to_keep=2, use_cache=False).logits
    nothing = {**inputs, "labels": torch.full_like(inputs["labels"], -100)}
    off = dict.fromkeys(("rms_norm", "swiglu", "rope", "attention"))
    with apply(model, **off, linear_cross_entropy="auto"):
        for call, expected in zip(calls, want, strict=True):
            close("loss", step(model, **call), expected)
        assert model(**inputs).logits is None
        assert torch.equal(model(**inputs, return_dict=False)[0], model(**inputs).loss)
        assert model(inputs["input_ids"], logits_to_keep=2, use_cache=False).logits.equal(logits)
        assert model(**nothing).loss == 0
        with pytest.raises(ValueError, match="logits_to_keep"):
            model(**inputs, logits_to_keep=1)


def test_copies_pickles_and_saves(device, tmp_path):
    """An applied model is still a model: a deep copy is independent, and what is saved is plain."""
    from transformers import AutoModelForCausalLM

    model, inputs = build("qwen3", device), batch(device)
    want = step(model, **inputs)
    with apply(model, **every("reference", linear_cross_entropy="reference", tiled_mlp=2)):
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            close("copy", step(twin, **inputs), want)
            norm = twin.model.norm
            assert norm.forward.args[0] is norm  # bound to the copy's own module
        model.save_pretrained(tmp_path)
    assert "dpr_varlen" not in (tmp_path / "config.json").read_text()
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path).to(device).train()
    assert identical(step(loaded, **inputs), want)


def test_what_it_refuses(device):
    from transformers import AutoConfig, AutoModelForCausalLM

    gpt = AutoModelForCausalLM.from_config(
        AutoConfig.for_model("gpt2", vocab_size=61, n_embd=32, n_layer=1, n_head=2, n_positions=64)
    )
    for other in (gpt, nn.Linear(2, 2)):
        with pytest.raises(ValueError, match="Llama, Qwen2, Qwen3"):
            apply(other)
    model = build("llama", device)
    before = snapshot(model)
    with pytest.raises(ValueError, match="no impl 'fast'"):
        apply(model, rms_norm="fast")
    with pytest.raises(ValueError, match="no impl 'fast'"):
        apply(model, attention="fast")
    with pytest.raises(ValueError, match="at least 1"):
        apply(model, tiled_mlp=0)
    with pytest.raises(ValueError, match="silu"):
        apply(build("llama", device, hidden_act="gelu"))
    if device.type == "cpu":
        with pytest.raises(RuntimeError, match="needs a GPU"):
            apply(model, attention="torch")
        with pytest.raises(RuntimeError, match="cannot run here"):
            apply(model, rms_norm="liger")
    with pytest.raises(ValueError, match="ForCausalLM"):
        apply(model.model, linear_cross_entropy="reference")
    model.loss_function = lambda **_: None
    with pytest.raises(ValueError, match="its own loss"):
        apply(model, linear_cross_entropy="reference")
    del model._loss_function
    assert snapshot(model) == before  # none of these changed anything

    applied = apply(model)
    with pytest.raises(ValueError, match="forward of its own"):
        apply(model)
    applied.undo()
    assert snapshot(model) == before
    applied = apply(model)
    ours = model.model.norm.forward
    model.model.norm.forward = lambda x: x
    with pytest.raises(RuntimeError, match="replaced after apply"):
        applied.undo()
    model.model.norm.forward = ours
    applied.undo()
    assert snapshot(model) == before


def test_padding_is_refused_while_applied(device):
    model, inputs = build("qwen2", device), batch(device)
    padding = torch.ones_like(inputs["input_ids"])
    want = step(model, **inputs, attention_mask=padding)
    with apply(model, **every("reference")):
        close("all ones", step(model, **inputs, attention_mask=padding), want)
        padding[0, -1] = 0
        with pytest.raises(ValueError, match="padding"):
            model(**inputs, attention_mask=padding)


def test_generation_with_attention_left_alone(device):
    """Without the attention part everything else serves a cache, too."""
    model = build("qwen3", device).eval()
    ids = batch(device)["input_ids"][:1, :5]
    keys = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    want = model.generate(ids, **keys)
    with apply(model, **every("reference", attention=None)):
        assert model.generate(ids, **keys).equal(want)


@pytest.mark.parametrize("name", ["past_key_values", "cache"])
def test_a_cache_under_its_old_and_its_new_name_is_filled(name, device):
    """transformers 5.24 renamed it; one that is passed by would give other words and no error."""
    model = build("qwen3", device).eval()
    hidden = torch.randn(1, 5, model.config.hidden_size, device=device)
    turns = model.model.rotary_emb(hidden, torch.arange(5, device=device)[None])
    with apply(model, **every("reference", attention=None)):
        kept = DynamicCache(config=model.config)
        model.model.layers[0].self_attn(hidden, turns, None, **{name: kept})
        assert kept.get_seq_length() == 5
        kept = DynamicCache(config=model.config)
        out = model(batch(device)["input_ids"][:1], **{name: kept})
        assert kept.get_seq_length() == out.logits.shape[1] > 0


@pytest.mark.gpu
@pytest.mark.parametrize("family", FAMILIES)
def test_bfloat16_with_the_kernels(family):
    """Triton and torch's varlen attention together, bf16, against fp64: no worse than 1.5 times transformers."""
    model = build(family, "cuda").bfloat16()
    row, parts = packed("cuda")
    exact = alone(copy.deepcopy(model).double(), parts)

    def error(run):
        return math.sqrt(sum((run[1][n].double() - g).square().sum().item() for n, g in exact[1].items()))

    eager = error(alone(model, parts))
    with apply(model, attention="torch", linear_cross_entropy="triton", tiled_mlp=2) as applied:
        ours = error(step(model, **row))
    print(f"{applied}: {ours:.2e} against {eager:.2e}")
    assert 0 < ours <= 1.5 * eager
