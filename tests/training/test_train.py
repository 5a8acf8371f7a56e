"""The training loop on two-layer models: packing, accumulation and resuming change nothing; learning happens."""

import json
import math
import random
import shutil
from dataclasses import asdict
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from dpr_kernels import head_loss
from safetensors.torch import load_file
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config

from dpr_mini import recipe
from dpr_mini.files.rows import read_rows, write_rows
from dpr_mini.training import build, loop
from dpr_mini.types import Pack

SIZE = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
CONFIGS = {"llama": LlamaConfig(**SIZE), "qwen2-tied": Qwen2Config(**SIZE, tie_word_embeddings=True)}


@pytest.fixture(scope="module", params=CONFIGS)
def model_dir(request, tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp(request.param)
    AutoModelForCausalLM.from_config(CONFIGS[request.param]).save_pretrained(folder)
    (folder / "tokenizer.json").write_text("{}")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    return folder


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("llama")
    AutoModelForCausalLM.from_config(CONFIGS["llama"]).save_pretrained(folder)
    return folder


def documents(count, seed=0):
    """Counting sequences: (ids, trained), the first third not trained on."""
    draw = random.Random(seed)
    for _ in range(count):
        start, length = draw.randrange(64), draw.randint(5, 12)
        yield [(start + i) % 64 for i in range(length)], [i >= length // 3 for i in range(length)]


def rows_of(count, per_row=3, seed=0):
    docs, rows = list(documents(count * per_row, seed)), []
    for at in range(0, len(docs), per_row):
        part = docs[at : at + per_row]
        starts = [sum(len(d[0]) for d in part[:i]) for i in range(per_row)]
        names = tuple(f"doc-{at + i}" for i in range(per_row))
        ids, trained = (tuple(x for d in part for x in d[k]) for k in (0, 1))
        rows.append(Pack(names, ids, trained, tuple(starts)))
    return rows


def write(folder, rows):
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / "rows.jsonl", ({"id": f"row-{i}", **asdict(r)} for i, r in enumerate(rows)))
    return folder


def settings(**keys):
    base = {"epochs": 3, "learning_rate": 5e-3, "rows_per_step": 2, "save_steps": 4}
    return recipe.TrainConfig(**{**base, "dtype": "float32", "save_dtype": "float32", **keys})


def go(folder, model_dir, rows, **keys):
    folder.mkdir(exist_ok=True)
    packs = write(folder.parent / "packs", rows)
    return loop.run(folder, packs, model_dir, settings(**keys), seed=7)


def weights(folder):
    return load_file(folder / "model" / "model.safetensors")


def losses(folder):
    return [r["loss"] for r in read_rows(folder / "metrics.jsonl")]


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_packed_row_equals_separate_documents(model_dir):
    """Loss and every gradient of a packed row are those of its documents run alone through transformers' eager path."""
    row = rows_of(1, per_row=4)[0]
    packed = loop.load(model_dir, settings(), torch.float32, torch.device("cpu"))
    loss = loop.row_loss(packed, loop.Row.of(row), 10, settings())
    loss.backward()

    alone = AutoModelForCausalLM.from_pretrained(model_dir, attn_implementation="eager", dtype=torch.float32)
    total = 0.0
    for start, end in zip(row.starts, [*row.starts[1:], len(row.ids)], strict=True):
        ids, trained = torch.tensor(row.ids[start:end]), torch.tensor(row.trained[start:end])
        logits = alone(ids[None], use_cache=False).logits[0, :-1]
        total = total + F.cross_entropy(logits, ids[1:].masked_fill(~trained[1:], -100), reduction="sum")
    (total / 10).backward()

    torch.testing.assert_close(loss, total / 10, atol=1e-5, rtol=1e-5)
    want = dict(alone.named_parameters())
    for name, parameter in packed.named_parameters():
        torch.testing.assert_close(parameter.grad, want[name].grad, atol=1e-5, rtol=1e-4, msg=name)


def test_first_token_of_a_document_is_never_a_target():
    row = loop.Row.of(Pack(("a", "b"), (5, 6, 7, 8), (True, True, True, True), (0, 2)))
    assert row.positions.tolist() == [0, 2] and row.targets.tolist() == [6, 8]
    assert row.position_ids.tolist() == [0, 1, 0, 1] and row.starts.tolist() == [0, 2, 4]


def test_row_without_targets_is_refused(llama, tmp_path):
    with pytest.raises(loop.TrainError, match=r"no token to train on; samples a, b"):
        go(tmp_path / "out", llama, [Pack(("a", "b"), (1, 2, 3), (True, False, True), (0, 2))])
    with pytest.raises(loop.TrainError, match="no rows"):
        go(tmp_path / "out", llama, [])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_accumulated_rows_equal_one_row(llama, tmp_path, dtype):
    """Two rows of unequal target counts in one step = one row that holds all: a mean of means would differ."""
    a, b = rows_of(2, per_row=2)
    a = Pack(a.samples, a.ids, tuple(t and i > 12 for i, t in enumerate(a.trained)), a.starts)
    whole = Pack(
        a.samples + b.samples, a.ids + b.ids, a.trained + b.trained, a.starts + tuple(len(a.ids) + s for s in b.starts)
    )
    keys = {"epochs": 1, "learning_rate": 1e-3, "dtype": dtype}
    two = go(tmp_path / "two", llama, [a, b], rows_per_step=2, **keys)
    one = go(tmp_path / "one", llama, [whole], rows_per_step=1, **keys)
    assert two["steps"] == one["steps"] == 1 and two["trained_tokens"] == one["trained_tokens"]
    tight = 1e-5 if dtype == "float32" else 2e-2
    first, second = (next(iter(read_rows(tmp_path / k / "metrics.jsonl"))) for k in ("two", "one"))
    assert first["loss"] == pytest.approx(second["loss"], rel=tight)
    assert first["grad_norm"] == pytest.approx(second["grad_norm"], rel=tight)
    if dtype == "float32":
        for key, value in weights(tmp_path / "one").items():
            torch.testing.assert_close(weights(tmp_path / "two")[key], value, atol=2e-5, rtol=1e-4)


def test_it_learns_and_the_model_loads(model_dir, tmp_path):
    metrics = go(tmp_path / "out", model_dir, rows_of(16), epochs=12, learning_rate=1e-2, save_dtype="bfloat16")
    assert metrics["steps"] == 96 and metrics["last_loss"] < 0.3 * metrics["first_loss"]
    assert metrics["first_loss"] == pytest.approx(math.log(64), rel=0.1)
    assert metrics["dtype"] == "float32" and metrics["tokens_per_second"] > 0 and metrics["peak_rss_gib"] > 0
    out = tmp_path / "out" / "model"
    assert (out / "tokenizer.json").exists() and (out / "chat_template.jinja").exists()
    model = AutoModelForCausalLM.from_pretrained(out)  # with its own attention, by somebody who has not our package
    assert model.dtype == torch.bfloat16 and "dpr_varlen" not in (out / "config.json").read_text()
    answer = model.generate(torch.tensor([[20, 21, 22, 23]]), max_new_tokens=3, do_sample=False, pad_token_id=0)
    assert answer[0, 4:].tolist() == [24, 25, 26]


def test_finished_folder_is_not_trained_again(llama, tmp_path, monkeypatch):
    first = go(tmp_path / "out", llama, rows_of(4))
    monkeypatch.setattr(loop, "fit", None)
    again = go(tmp_path / "out", llama, rows_of(4))
    assert {**again, "peak_rss_gib": 0} == {**first, "peak_rss_gib": 0}


def stop_at(monkeypatch, step):
    real = loop.learning_rate

    def dies(now, *rest):
        if now == step:
            raise KeyboardInterrupt
        return real(now, *rest)

    monkeypatch.setattr(loop, "learning_rate", dies)


@pytest.mark.parametrize("stop", [2, 4, 7, 11])  # before any checkpoint, right on one, between, at the last step
@pytest.mark.parametrize("mode", ["full", "lora"])
def test_resumed_run_ends_with_the_same_bits(llama, tmp_path, monkeypatch, stop, mode):
    if mode == "lora":
        pytest.importorskip("peft")
    rows, keys = rows_of(7), {"mode": mode, "weight_decay": 0.1}
    go(tmp_path / "whole", llama, rows, **keys)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(patch, stop)
        go(tmp_path / "partial", llama, rows, **keys)
    out = tmp_path / "partial"
    assert not (out / "model").exists()
    # what a kill may leave behind: half a checkpoint, half a model, half a line
    (out / "checkpoint-999").mkdir()
    (out / "checkpoint-999" / "model.safetensors").write_bytes(b"half")
    (out / ".model.tmp").mkdir()
    with (out / "metrics.jsonl").open("a") as file:
        file.write('{"step": 99, "lo')
    metrics = go(out, llama, rows, **keys)
    assert metrics["steps"] == 12
    assert losses(out) == losses(tmp_path / "whole")
    assert same(weights(out), weights(tmp_path / "whole"))
    assert [p.name for p in out.iterdir() if "checkpoint" in p.name or p.name.startswith(".")] == []


def test_only_the_newest_checkpoint_is_kept(llama, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(patch, 9)
        go(tmp_path / "out", llama, rows_of(8))
    assert [p.name for p in loop.checkpoints(tmp_path / "out")] == ["checkpoint-8"]
    assert json.loads((tmp_path / "out" / "checkpoint-8" / "trainer.json").read_text())["step"] == 8


def test_data_order_depends_on_seed_and_epoch_only():
    plan = list(loop.schedule(10, settings(rows_per_step=4), seed=1))
    assert plan == list(loop.schedule(10, settings(rows_per_step=4), seed=1))
    epochs = [[i for e, batch in plan for i in batch if e == epoch] for epoch in range(3)]
    assert all(sorted(e) == list(range(10)) for e in epochs) and epochs[0] != epochs[1] != epochs[2]
    assert [len(b) for e, b in plan if e == 0] == [4, 4, 2]
    assert plan != list(loop.schedule(10, settings(rows_per_step=4), seed=2))


def test_learning_rate_warms_up_peaks_and_ends_low():
    keys = settings(learning_rate=1.0, warmup_ratio=0.1, min_lr_ratio=0.2)
    rates = [loop.learning_rate(s, 40, keys) for s in range(40)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0] and rates[4] == 1.0 and rates[-1] == pytest.approx(0.2)
    assert all(a >= b for a, b in pairwise(rates[4:]))
    assert loop.learning_rate(0, 1, keys) == 1.0


def test_non_finite_loss_stops_and_names_the_samples(llama, tmp_path, monkeypatch):
    monkeypatch.setattr("dpr_mini.models.loading.verify_values", lambda *_: None)  # it would refuse these weights
    broken = tmp_path / "broken"
    shutil.copytree(llama, broken)
    model = AutoModelForCausalLM.from_pretrained(broken)
    with torch.no_grad():
        model.model.embed_tokens.weight[63] = float("nan")
    model.save_pretrained(broken)
    rows = [
        Pack(("good",), (1, 2, 3), (False, True, True), (0,)),
        Pack(("bad",), (1, 63, 3), (False, True, True), (0,)),
    ]
    with pytest.raises(loop.TrainError, match=r"loss is nan; row of samples bad$"):
        go(tmp_path / "out", broken, rows, rows_per_step=1, learning_rate=1e-6)
    assert not (tmp_path / "out" / "model").exists()


def test_a_step_reads_the_device_once_and_copies_no_labelled_rows(llama, tmp_path, monkeypatch):
    """Two rows accumulated: nothing picks rows out of hidden states, and the step's numbers are read back together."""
    # both read what lies on the CPU: the rows' numbers always, the targets only where the model is there too
    monkeypatch.setattr(head_loss, "check_targets", lambda *_: None)
    monkeypatch.setattr(head_loss, "_check_rows", lambda *_: None)
    seen, read = [], []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append((func._schema.name, args[0].dtype if args and isinstance(args[0], torch.Tensor) else None))
            return func(*args, **kwargs or {})

    class Read(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            reads = getattr(func, "__name__", "") in ("item", "tolist", "__bool__", "__float__", "__int__", "numpy")
            if reads and args[0].dtype.is_floating_point:  # the rows' lengths are whole numbers of the CPU
                read.append((func.__name__, tuple(args[0].shape)))
            return func(*args, **kwargs or {})

    config = settings(epochs=1, rows_per_step=2)
    model = loop.load(llama, config, torch.float32, torch.device("cpu"))
    updates = loop.Optimiser(loop.trainable(model), config, 7)
    update = updates.step

    def step():
        assert read == [("tolist", (3,))], "two losses and the gradient norm, before any weight is changed"
        names = {name for name, _ in seen}
        assert not names & {"aten::index_put_", "aten::index_put", "aten::_index_put_impl_", "aten::nonzero"}
        assert not [dtype for name, dtype in seen if name == "aten::index" and dtype.is_floating_point]
        assert not [dtype for name, dtype in seen if name == "aten::_local_scalar_dense" and dtype.is_floating_point]
        assert "aten::index_copy_" in names, "the loss was watched"
        update()

    monkeypatch.setattr(updates, "step", step)
    rows, log = [loop.Row.of(r) for r in rows_of(2)], tmp_path / "metrics.jsonl"
    monkeypatch.setattr(loop, "Ceiling", lambda *_: SimpleNamespace(rate=1.0, share=lambda rate: 0.0))
    with Watch(), Read():
        loop.fit(tmp_path, log, rows, model, updates, config, 7, torch.float32, 0, lambda row: None)
    assert len(losses(tmp_path)) == 1


def test_a_bad_row_of_several_is_named_before_any_weight_changes(llama, tmp_path, monkeypatch):
    real = loop.row_loss
    spoil = lambda model, row, *rest: real(model, row, *rest) * (math.nan if row.samples[0] == "doc-3" else 1.0)  # noqa: E731
    monkeypatch.setattr(loop, "row_loss", spoil)
    monkeypatch.setattr(loop.Optimiser, "step", lambda *_: pytest.fail("a weight was changed"))
    with pytest.raises(loop.TrainError, match=r"step 0: loss is nan; row of samples doc-3, doc-4, doc-5$"):
        go(tmp_path / "out", llama, rows_of(3), rows_per_step=3)


def test_gradient_checkpointing_changes_nothing(llama, tmp_path):
    for name, on in (("off", False), ("on", True)):
        go(tmp_path / name, llama, rows_of(2), gradient_checkpointing=on)
    assert losses(tmp_path / "on") == pytest.approx(losses(tmp_path / "off"), rel=1e-5)


def test_merged_lora_equals_base_plus_adapters(llama, tmp_path):
    pytest.importorskip("peft")
    config = settings(mode="lora", lora_rank=4)
    model = loop.load(llama, config, torch.float32, torch.device("cpu"))
    names = [n for n, _ in loop.trainable(model)]
    assert len(names) == 2 * 7 * 2 and all("lora_" in n for n in names)  # A and B of 7 linear layers, 2 layers
    with torch.no_grad():
        for i, (_, parameter) in enumerate(loop.trainable(model)):
            parameter.normal_(std=0.05, generator=torch.Generator().manual_seed(i))
    row = loop.Row.of(rows_of(1)[0])
    before = loop.row_loss(model, row, 10, settings())
    loop.save_model(tmp_path / "model", model, llama, torch.float32)
    merged = loop.load(tmp_path / "model", settings(), torch.float32, torch.device("cpu"))
    plain = loop.load(llama, settings(), torch.float32, torch.device("cpu"))
    torch.testing.assert_close(loop.row_loss(merged, row, 10, settings()), before, atol=1e-5, rtol=1e-5)
    assert (loop.row_loss(plain, row, 10, settings()) - before).abs() > 1e-3
    assert weights(tmp_path).keys() == load_file(llama / "model.safetensors").keys()


def test_lora_trains_adapters_only_and_learns(llama, tmp_path):
    pytest.importorskip("peft")
    metrics = go(tmp_path / "out", llama, rows_of(8), mode="lora", lora_rank=8, epochs=12, learning_rate=2e-2)
    assert metrics["last_loss"] < 0.9 * metrics["first_loss"]
    before, after = load_file(llama / "model.safetensors"), weights(tmp_path / "out")
    changed = {k for k in before if not torch.equal(before[k], after[k])}
    assert changed == {k for k in before if "_proj" in k}


def test_lora_without_peft_says_what_to_install(llama, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(loop.TrainError, match=r"not installed: pip install 'peft"):
        go(tmp_path / "out", llama, rows_of(1), mode="lora")


def test_dtype_and_its_reason(monkeypatch):
    cpu = torch.device("cpu")
    assert build.choose_dtype(settings(), cpu) == (torch.float32, "the recipe says so")
    for text, dtype in (("flags : avx2 avx512_bf16 fma", torch.bfloat16), ("flags : avx2 fma", torch.float32)):
        monkeypatch.setattr(build.Path, "read_text", lambda *_, text=text, **__: text)
        monkeypatch.setattr(build.Path, "exists", lambda *_: True)
        assert build.choose_dtype(settings(dtype="auto"), cpu)[0] == dtype


def test_bf16_masters_stay_float32(llama):
    model = loop.load(llama, settings(dtype="bfloat16"), torch.bfloat16, torch.device("cpu"))
    with torch.autocast("cpu", torch.bfloat16):
        loop.row_loss(model, loop.Row.of(rows_of(1)[0]), 10, settings()).backward()
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in model.parameters())


@pytest.mark.model
def test_trained_tokens_decode_to_the_assistants_text(tmp_path):
    """With the real tokenizer: what the loop's targets say, read as text, is what the assistant said."""
    from dpr_mini.chat import template as chat
    from dpr_mini.models import resolve as model
    from dpr_mini.selection import packing
    from dpr_mini.types import Dialogue, Turn

    template = chat.Template.load(model.resolve_model("smollm2-135m-instruct"))
    bridges = {"verify": "\n\nLet me verify this.\n"}
    texts = [("7 + 5 = 12, so \\boxed{12}.", "12 - 5 = 7. \\boxed{12}"), ("Ünï → \\frac{1}{2}", "Yes.")]
    samples = []
    for i, pair in enumerate(texts):
        turns = [
            Turn(name, "What is it?", template.encode(text), text, "stop")
            for name, text in zip(("solve", "verify"), pair, strict=True)
        ]
        samples.append(chat.to_sample(Dialogue(str(i), "p", i, tuple(turns), "x", 0), template, bridges))
    packed = packing.lay(samples)
    row = loop.Row.of(packed)
    order = [int(s) for s in packed.samples]
    end = template.decode([template.end], special=True)
    want = "".join(texts[i][0] + bridges["verify"] + texts[i][1] + end for i in order)
    assert template.decode(row.targets.tolist(), special=True) == want
    assert torch.equal(row.ids[row.positions + 1], row.targets)
