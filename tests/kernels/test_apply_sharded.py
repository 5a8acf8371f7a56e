"""apply() before and after torch's fully_shard (FSDP2), on one process and on two: what the unsharded model gives."""

import copy
from itertools import product

import pytest
import torch
import torch.distributed as dist
from dpr_kernels.apply import apply
from dpr_kernels.offload import offload_checkpoints
from tiny_models import batch, build, close, every, step
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Shard, distribute_tensor

pytestmark = pytest.mark.slow
HEAD = {"linear_cross_entropy": "reference"}
CASES = {  # name -> family, operators, whether layers are checkpointed, and what else the model has
    "llama": ("llama", every("reference"), None, {}),
    "qwen3": ("qwen3", every("reference", tiled_mlp=2), None, {}),
    "kernels": ("qwen3", every("triton", **HEAD), None, {}),
    "head": ("llama", every("reference", **HEAD), "transformers", {}),
    "tied": ("qwen3", every("reference", **HEAD), "ours", {"tie_word_embeddings": True}),
}


def sharded(model, mesh):
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def work(rank, world, path):
    """One process: every case, each with a row of its own, so that gradients are means over the processes."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=world)
    try:
        mesh = init_device_mesh("cpu", (world,))
        rows = [{k: v[r : r + 1] if torch.is_tensor(v) else v for k, v in batch().items()} for r in range(world)]
        runs = list(product(CASES, (True, False)))
        for name, before in runs if world == 1 else runs[::3]:
            family, ops, checkpoints, keys = CASES[name]
            model = build(family, **keys)
            plain = copy.deepcopy(model)
            if before:
                applied = apply(model, **ops)
                sharded(model, mesh)
            else:
                sharded(model, mesh)
                applied = apply(model, **ops)
            assert len(applied.replaced["add_rms_norm"]) == len(applied.replaced["attention"]) == 2
            if checkpoints == "transformers":
                model.gradient_checkpointing_enable({"use_reentrant": False})
            elif checkpoints:
                offload_checkpoints(model, min_bytes=0)
            found, gradients = step_of(model, rows[rank])
            steps = [step(plain, **row) for row in rows]
            mean = {n: sum(s[1][n] for s in steps) / world for n in steps[0][1]}
            close(f"{name} {world} {before}", (found, gradients), (steps[rank][0], mean))
            applied.undo()
    finally:
        dist.destroy_process_group()


def step_of(model, row):
    loss, gradients = step(model, **row)
    return loss, {name: g.full_tensor() for name, g in gradients.items()}


def test_one_process(tmp_path):
    work(0, 1, tmp_path / "store")


def test_two_processes(tmp_path):
    torch.multiprocessing.spawn(work, (2, tmp_path / "store"), nprocs=2)


def test_a_head_that_is_sharded_on_its_own_is_refused_with_the_remedy(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        mesh, said = init_device_mesh("cpu", (1,)), "leave lm_head .* to the root model's fully_shard"
        model = build("llama")
        fully_shard(model.lm_head, mesh=mesh)
        with pytest.raises(ValueError, match=said):
            apply(sharded(model, mesh), **HEAD)
        assert not any("forward" in m.__dict__ for m in model.modules())
        apply(model)  # without the head it may be
        assert model(**batch()).loss.isfinite()

        later = build("llama")
        apply(later, **HEAD)
        fully_shard(later.lm_head, mesh=mesh)
        with pytest.raises(ValueError, match=said):
            sharded(later, mesh)(**batch())

        tied = build("llama", tie_word_embeddings=True)
        fully_shard([tied.model.embed_tokens, tied.lm_head], mesh=mesh)
        with pytest.raises(ValueError, match=said):
            apply(sharded(tied, mesh), **HEAD)

        split = build("llama")
        split.lm_head.weight = nn.Parameter(distribute_tensor(split.lm_head.weight.data, mesh, [Shard(0)]))
        apply(split, **HEAD)
        with pytest.raises(ValueError, match=said):
            split(**batch())
    finally:
        dist.destroy_process_group()


def test_norms_and_projections_that_are_sharded_on_their_own_keep_their_hooks(tmp_path):
    """Such a norm's weight is whole only inside its call, so the sum before it is not fused."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        mesh, model = init_device_mesh("cpu", (1,)), build("qwen3")
        want = step(copy.deepcopy(model), **batch())
        apply(model, **every("triton"))
        for layer in model.model.layers:
            for part in (layer.post_attention_layernorm, layer.mlp.gate_proj, layer.mlp.up_proj):
                fully_shard(part, mesh=mesh)
        close("parts", step_of(sharded(model, mesh), batch()), want)
    finally:
        dist.destroy_process_group()
