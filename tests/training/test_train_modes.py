"""Every way of training that a CPU can run: it learns, resumes to the same bits, and says what it cannot do."""

import sys
from dataclasses import asdict

import dpr_kernels
import pytest
import torch
from safetensors.torch import load_file
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config, Qwen3Config

from dpr_mini import recipe
from dpr_mini.files.rows import read_rows, write_rows
from dpr_mini.training import TrainError, build, loop, optimiser
from dpr_mini.training.checkpoints import checkpoints
from dpr_mini.training.flops import Flops
from dpr_mini.types import Pack

CPU = torch.device("cpu")
# wide enough for what bitsandbytes packs: 8-bit moments from 4096 values on, 4-bit blocks of 64
SIZE = {
    "vocab_size": 64,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
CONFIGS = {
    "llama": LlamaConfig(**SIZE),
    "qwen2": Qwen2Config(**SIZE, tie_word_embeddings=True),
    "qwen3": Qwen3Config(**SIZE, head_dim=16),
}
WAYS = {
    "float32": {},
    "float32, 8-bit moments": {"optimiser": "adamw8bit"},
    "bfloat16": {"weights": "bfloat16", "dtype": "auto"},
    "bfloat16, 8-bit moments, update in backward": {
        "weights": "bfloat16", "dtype": "auto", "optimiser": "adamw8bit",
        "update_in_backward": True, "rows_per_step": 1, "max_grad_norm": None,
    },
    "lora": {"mode": "lora", "lora_rank": 16},
    "qlora": {"mode": "qlora", "lora_rank": 16},
    "qlora, 8-bit moments": {"mode": "qlora", "lora_rank": 16, "optimiser": "adamw8bit"},
}  # fmt: skip
SWITCHES = {
    "plain": {"backend": "plain"},
    "checkpoints": {"gradient_checkpointing": True},
    "offloaded": {"gradient_checkpointing": True, "offload_checkpoints": True},
    "tiled": {"tiled_mlp": 3},
    "tiled plain": {"backend": "plain", "tiled_mlp": 3},
    "loss in chunks": {"loss_chunk": 5},
    "all": {"gradient_checkpointing": True, "offload_checkpoints": True, "tiled_mlp": 3, "loss_chunk": 5},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {}
    for name, config in CONFIGS.items():
        torch.manual_seed(0)
        made[name] = tmp_path_factory.mktemp(name)
        AutoModelForCausalLM.from_config(config).save_pretrained(made[name])
    return made


def rows(count, documents=3, length=12):
    """Counting sequences mod 64; their first third is not trained on."""
    made = []
    for r in range(count):
        firsts = [(r * documents + d) * 7 % 64 for d in range(documents)]
        ids = tuple((first + i) % 64 for first in firsts for i in range(length))
        trained = tuple(i >= length // 3 for _ in firsts for i in range(length))
        names = tuple(f"doc-{r}-{d}" for d in range(documents))
        made.append(Pack(names, ids, trained, tuple(range(0, documents * length, length))))
    return made


def settings(**keys):
    base = {"epochs": 3, "learning_rate": 5e-3, "rows_per_step": 2, "save_steps": 4}
    return recipe.TrainConfig(**{**base, "dtype": "float32", "save_dtype": "float32", **keys})


def go(folder, model, packs, **keys):
    folder.mkdir(exist_ok=True)
    written = folder.parent / "packs"
    written.mkdir(exist_ok=True)
    write_rows(written / "rows.jsonl", ({"id": f"row-{i}", **asdict(r)} for i, r in enumerate(packs)))
    return loop.run(folder, written, model, settings(**keys), seed=7)


def weights(folder):
    return load_file(folder / "model" / "model.safetensors")


def log(folder, key="loss"):
    return [r[key] for r in read_rows(folder / "metrics.jsonl")]


def loss_and_gradients(model_dir, **keys):
    torch.manual_seed(1)
    config = settings(**keys)
    model = build.load(model_dir, config, torch.float32, CPU)
    loss = loop.row_loss(model, loop.Row.of(rows(1, 4)[0]), 10, config)
    loss.backward()
    return loss, {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("way", WAYS)
def test_it_learns(folders, tmp_path, way):
    # adapters between an embedding and a head that stay random can do less than all weights
    rate, share, epochs = (3e-2, 0.92, 24) if "lora" in way else (1e-2, 0.5, 10)
    metrics = go(tmp_path / "out", folders["llama"], rows(8), epochs=epochs, learning_rate=rate, **WAYS[way])
    assert metrics["last_loss"] < share * metrics["first_loss"], metrics
    assert metrics["mfu"] > 0 and metrics["mode"] == WAYS[way].get("mode", "full")
    # anybody's transformers reads the result, and it is the model that was trained
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "model", attn_implementation="eager")
    assert "quantization_config" not in (tmp_path / "out" / "model" / "config.json").read_text()
    assert loaded.state_dict().keys() == AutoModelForCausalLM.from_config(CONFIGS["llama"]).state_dict().keys()
    pack = rows(8)[0]
    ids = torch.tensor(pack.ids[:12])[None]
    loss = loaded(input_ids=ids, labels=ids.masked_fill(~torch.tensor(pack.trained[:12])[None], -100)).loss
    assert loss < (share + 0.05) * metrics["first_loss"]


class Killed(Exception):
    """Stands for a kill: nothing of the trainer may catch it."""


@pytest.mark.parametrize("way", [w for w in WAYS if w not in ("float32", "lora")])  # those: test_train.py
def test_resumed_run_ends_with_the_same_bits(folders, tmp_path, monkeypatch, way):
    keys, packs = {**WAYS[way], "weight_decay": 0.1}, rows(7)
    go(tmp_path / "whole", folders["qwen2"], packs, **keys)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        real = loop.learning_rate

        def dies(step, *rest):
            if step == 7:
                raise Killed
            return real(step, *rest)

        patch.setattr(loop, "learning_rate", dies)
        go(tmp_path / "partial", folders["qwen2"], packs, **keys)
    assert [p.name for p in checkpoints(tmp_path / "partial")] == ["checkpoint-4"]
    go(tmp_path / "partial", folders["qwen2"], packs, **keys)
    assert log(tmp_path / "partial") == log(tmp_path / "whole")
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "partial")
    assert one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize("mode", ["full", "lora"])
@pytest.mark.parametrize("switch", SWITCHES)
def test_a_switch_changes_no_gradient(folders, family, mode, switch):
    loss, gradients = loss_and_gradients(folders[family], backend="plain", mode=mode)
    other, others = loss_and_gradients(folders[family], mode=mode, **SWITCHES[switch])
    torch.testing.assert_close(other, loss, atol=1e-5, rtol=1e-5)
    assert others.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(others[name], gradient, atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("keys", [{}, {"gradient_checkpointing": True}, {"tiled_mlp": 2}], ids=str)
def test_updates_inside_backward_are_the_same_updates(folders, tmp_path, keys):
    """Also where one weight is embedding and head: its two gradients must be complete before it changes."""
    keys |= {"rows_per_step": 1, "max_grad_norm": None, "weight_decay": 0.1}
    go(tmp_path / "after", folders["qwen2"], rows(4), **keys)
    go(tmp_path / "inside", folders["qwen2"], rows(4), update_in_backward=True, **keys)
    after, inside = weights(tmp_path / "after"), weights(tmp_path / "inside")
    assert all(torch.equal(after[k], inside[k]) for k in after)
    assert log(tmp_path / "inside", "grad_norm") == pytest.approx(log(tmp_path / "after", "grad_norm"), rel=1e-5)


def test_updates_inside_backward_leave_no_gradient_behind(folders):
    config = settings(update_in_backward=True, rows_per_step=1, max_grad_norm=None)
    model = build.load(folders["llama"], config, torch.float32, CPU)
    updates = optimiser.Optimiser(list(model.named_parameters()), config, 0)
    updates.update_in_backward()
    updates.begin(0, 1e-3)
    alive = []
    for p in model.parameters():
        p.register_post_accumulate_grad_hook(lambda p: alive.append(p.grad is not None))
    loop.row_loss(model, loop.Row.of(rows(1)[0]), 10, config).backward()
    assert len(alive) == len(list(model.parameters())) and not any(alive)


def test_a_bad_loss_stops_before_any_weight_changes(folders, tmp_path, monkeypatch):
    config = {"update_in_backward": True, "rows_per_step": 1, "max_grad_norm": None}
    monkeypatch.setattr(loop, "row_loss", lambda model, *_: next(model.parameters()).sum() * float("nan"))
    monkeypatch.setattr(optimiser.Optimiser, "update", lambda *_: pytest.fail("a weight was changed"))
    with pytest.raises(TrainError, match=r"step 0: loss is nan; row of samples doc-\d-0, doc-\d-1, doc-\d-2$"):
        go(tmp_path / "out", folders["llama"], rows(2), **config)


def test_rounding_is_unbiased_and_leaves_bfloat16_alone():
    generator = torch.Generator().manual_seed(0)
    exact = torch.tensor([1.0, -0.15625, 3e-8, 0.0]).bfloat16().float()
    assert torch.equal(optimiser.round_stochastically(exact.clone(), generator).float(), exact)
    x = torch.tensor([1.001, -0.3337, 2e-7])
    drawn = torch.stack([optimiser.round_stochastically(x.clone(), generator).float() for _ in range(4000)])
    step = 2.0**-7 * x.abs()  # of bfloat16 there, at most
    assert ((drawn - x).abs() <= step).all() and all(len(column.unique()) == 2 for column in drawn.T)
    assert ((drawn.mean(0) - x).abs() < 4 * step / 4000**0.5).all()


def test_updates_too_small_for_bfloat16_are_not_lost():
    """Rounded to nearest, a thousand updates of 1e-5 would leave a weight of 0.5 where it was."""
    weight = torch.nn.Parameter(torch.full((64, 64), 0.5, dtype=torch.bfloat16))
    updates = optimiser.Optimiser([("w", weight)], settings(weights="bfloat16", dtype="auto"), 0)
    for step in range(1000):
        updates.begin(step, 1e-5)
        weight.grad = torch.ones_like(weight)
        updates.step()
    assert weight.grad is None
    assert weight.float().mean().item() == pytest.approx(0.49, abs=2e-4)


@pytest.mark.parametrize("library", ["adamw", "adamw8bit"])
def test_slices_of_a_weight_are_updated_like_the_whole(monkeypatch, library):
    """8-bit moments have a scale every 256 values, so slices of a multiple of that change nothing."""
    monkeypatch.setattr(optimiser, "round_stochastically", lambda x, _: x.bfloat16())
    made = []
    for size in (1 << 24, 4096):
        monkeypatch.setattr(optimiser, "SLICE", size)
        generator = torch.Generator().manual_seed(0)
        weight = torch.nn.Parameter(torch.randn(96, 128, generator=generator).bfloat16())
        config = settings(weights="bfloat16", dtype="auto", optimiser=library, weight_decay=0.1)
        updates = optimiser.Optimiser([("w", weight)], config, 0)
        assert len(updates.parts[weight]) == (1 if size > 96 * 128 else 3)
        for step in range(5):
            updates.begin(step, 1e-2)
            weight.grad = torch.randn(96, 128, generator=generator).bfloat16()
            updates.step()
        made.append(weight)
    assert torch.equal(*made)


def test_moments_take_the_memory_that_is_promised(folders):
    sizes = {}
    for library in ("adamw", "adamw8bit"):
        config = settings(optimiser=library)
        model = build.load(folders["llama"], config, torch.float32, CPU)
        updates = optimiser.Optimiser(list(model.named_parameters()), config, 0)
        updates.begin(0, 1e-3)
        loop.row_loss(model, loop.Row.of(rows(1)[0]), 10, config).backward()
        updates.step()
        weight = model.model.layers[0].mlp.gate_proj.weight
        (part,) = updates.parts[weight]
        state = part.optimiser.state[weight]
        per_value = ("exp_avg", "exp_avg_sq", "state1", "state2")
        sizes[library] = sum(state[k].nbytes for k in per_value if k in state) / weight.numel()
    assert sizes == {"adamw": 8.0, "adamw8bit": 2.0}


def test_a_checkpoint_of_another_optimiser_is_refused(folders, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Killed):

        def stop(*_):
            raise Killed

        patch.setattr(loop, "save_model", stop)
        go(tmp_path / "out", folders["llama"], rows(7))
    with pytest.raises(TrainError, match=r"the checkpoint's optimiser is another one's: .* is in one of them only"):
        go(tmp_path / "out", folders["llama"], rows(7), weights="bfloat16", dtype="auto")


def test_qlora_trains_over_four_bits_and_merges_what_it_trained(folders, tmp_path):
    config = settings(mode="qlora", lora_rank=4)
    model = build.load(folders["llama"], config, torch.float32, CPU)
    names = {n for n, p in model.named_parameters() if p.dtype == torch.uint8}
    assert len(names) == 2 * 7 and model.lm_head.weight.dtype == torch.float32
    with torch.no_grad():
        for i, (_, p) in enumerate(loop.trainable(model)):
            p.normal_(std=0.05, generator=torch.Generator().manual_seed(i))
    row = loop.Row.of(rows(1)[0])
    before = loop.row_loss(model, row, 10, config)
    loop.save_model(tmp_path / "model", model, folders["llama"], torch.float32)
    merged = build.load(tmp_path / "model", settings(), torch.float32, CPU)
    torch.testing.assert_close(loop.row_loss(merged, row, 10, settings()), before, atol=1e-4, rtol=1e-4)
    base = load_file(folders["llama"] / "model.safetensors")
    key = "model.layers.0.mlp.up_proj.weight"
    assert (load_file(tmp_path / "model" / "model.safetensors")[key] - base[key]).abs().max() > 1e-3


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize("mode", ["full", "lora"])
def test_flop_are_those_that_torch_counts(folders, family, mode):
    """Linear layers and head; attention, whose masked half torch counts too, is checked against its formula."""
    config = settings(mode=mode, lora_rank=8, backend="plain")
    model = build.load(folders[family], config, torch.float32, CPU)
    row = loop.Row.of(rows(1, documents=8, length=4)[0])
    counter = FlopCounterMode(display=False)
    with counter:
        loop.row_loss(model, row, 10, config).backward()
    counted = {str(op): n for op, n in counter.get_flop_counts()["Global"].items()}
    linear = sum(n for op, n in counted.items() if "attention" not in op)
    flops = Flops(model)
    flops.attention = 0
    # the first layer's input needs no gradient where the embedding is frozen: torch leaves those products out
    assert linear == pytest.approx(flops.of(row.starts, len(row.positions)), rel=0.001 if mode == "full" else 0.08)
    lengths = row.starts.diff().double()
    assert Flops(model).of(row.starts, 0) - flops.of(row.starts, 0) == 6 * 2 * 64 * lengths.square().sum().item()


def test_what_cannot_run_says_what_to_do(folders, tmp_path, monkeypatch):
    with pytest.raises(TrainError, match=r"train.backend=liger: .*liger.*cannot run here.*train.backend=plain"):
        go(tmp_path / "a", folders["llama"], rows(1), backend="liger")
    with pytest.raises(TrainError, match=r"train.weights is bfloat16 and train.dtype float32"):
        go(tmp_path / "b", folders["llama"], rows(1), weights="bfloat16")
    for name in ("bitsandbytes.optim", "tensorboard", "torch.utils.tensorboard", "trackio", "wandb"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(TrainError, match=r"adamw8bit.*pip install 'dpr-mini\[qlora\]'"):
        go(tmp_path / "c", folders["llama"], rows(1), optimiser="adamw8bit")
    for kind in ("tensorboard", "trackio", "wandb"):
        with pytest.raises(TrainError, match=rf"train.report_to is {kind}.*pip install {kind}"):
            go(tmp_path / kind, folders["llama"], rows(1), report_to=kind)


@pytest.mark.parametrize("backend", ["dpr_kernels", "plain"])
def test_a_gpu_does_not_train_in_tritons_interpreter(backend, tmp_path, monkeypatch):
    """The variable left set: one line, before the model is read (there is none)."""
    monkeypatch.setattr(dpr_kernels.backends, "INTERPRETED", True)
    with pytest.raises(TrainError, match=r"^[^\n]*TRITON_INTERPRET is set[^\n]*: unset it$"):
        build.load(tmp_path / "none", settings(backend=backend), torch.bfloat16, torch.device("cuda"))


def test_switches_that_do_not_fit_are_refused_in_the_recipe():
    for keys, why in (
        ({"offload_checkpoints": True}, "offload_checkpoints needs gradient_checkpointing"),
        ({"update_in_backward": True}, "rows_per_step: 1 and max_grad_norm: null"),
        ({"update_in_backward": True, "max_grad_norm": None, "rows_per_step": 4}, "rows_per_step: 1"),
        ({"mode": "lora", "weights": "bfloat16"}, "for mode: full"),
        ({"backend": "liger", "tiled_mlp": 4}, "tiled_mlp is for backend"),
        ({"python": "x"}, "python is for backend: unsloth"),
    ):
        with pytest.raises(ValueError, match=why):
            recipe.TrainConfig(**keys)


def test_tensorboard_has_the_curve(folders, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    go(tmp_path / "out", folders["llama"], rows(4), report_to="tensorboard")
    events = EventAccumulator(str(tmp_path / "out" / "tensorboard"))
    events.Reload()
    seen = events.Scalars("loss")
    assert [e.step for e in seen] == list(range(6))
    assert [e.value for e in seen] == pytest.approx(log(tmp_path / "out"))


@pytest.mark.parametrize("kind", ["trackio", "wandb"])
def test_trackers_with_wandbs_calls_are_opened_fed_and_closed(folders, tmp_path, monkeypatch, kind):
    """A stub for the library: what we call and when; the libraries themselves are not run here."""
    calls = []

    class Library:
        init = staticmethod(lambda **options: calls.append(("init", options)))
        log = staticmethod(lambda row, step: calls.append(("log", step, row)))
        finish = staticmethod(lambda: calls.append(("finish",)))

    monkeypatch.setitem(sys.modules, kind, Library)
    go(tmp_path / "out", folders["llama"], rows(4), report_to=kind)
    assert calls[0][1]["project"] == "dpr-mini" and calls[0][1]["config"]["mode"] == "full"
    assert ("dir" in calls[0][1]) == (kind == "wandb")
    assert [c[1] for c in calls[1:-1]] == list(range(6)) and calls[-1] == ("finish",)
    assert [c[2]["loss"] for c in calls[1:-1]] == log(tmp_path / "out")


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.parametrize("way", ["float32", "bfloat16, 8-bit moments, update in backward", "lora", "qlora"])
def test_the_135m_model_trains_in_every_way(embedded_model, tmp_path, way):
    """Two steps of the real model in bfloat16 matmuls, memory switches on: finite, changed, and whole on disk."""
    draw = torch.Generator().manual_seed(0)
    ids = tuple(torch.randint(100, 40000, (48,), generator=draw).tolist())
    packs = [Pack(("a", "b"), ids, tuple(i % 24 > 4 for i in range(48)), (0, 24))] * 2
    keys = {"gradient_checkpointing": True, "offload_checkpoints": True, "tiled_mlp": 2, **WAYS[way]}
    keys |= {"epochs": 1, "rows_per_step": 1, "dtype": "auto", "learning_rate": 1e-4}
    metrics = go(tmp_path / "out", embedded_model, packs, **keys)
    assert metrics["steps"] == 2 and 3 < metrics["last_loss"] < metrics["first_loss"]
    before, after = load_file(embedded_model / "model.safetensors"), weights(tmp_path / "out")
    key = "model.layers.0.mlp.up_proj.weight"
    assert after.keys() == before.keys() and not torch.equal(after[key], before[key].float())
