"""An MLP computed over slices of tokens, so that its wide intermediate never lives whole.

The idea is TiledMLP of ALST (arXiv 2506.13996): a token's MLP needs no other token, so forward and backward run slice
by slice and each slice's forward is done again in the backward. Here the tiles' parameter gradients are summed in
float32 and reach autograd as one gradient a parameter, which `.grad`, torch.autograd.grad and hooks see once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.autograd.graph import saved_tensors_hooks

Mlp = nn.Module | Callable[[Tensor], Tensor]


def tiled_mlp(mlp: Mlp, x: Tensor, tiles: int, *, parameters: Iterable[Tensor] | None = None) -> Tensor:
    """`mlp(x)` in `tiles` slices of tokens, in forward and backward: a tile's intermediates are all that ever lives.

    x (..., T, H) floating; `mlp` maps (..., H) to (..., O) token by token and gets slices with as many dimensions as x,
    (1, n, H) for a 3D x. Returns (..., O), equal to `mlp(x)` up to rounding of the matmuls; parameter gradients are
    summed over tiles in float32 (float64 for float64) and cast once to the parameter's dtype. Costs one more forward.
    `mlp` is a module, a bound method of one, or any callable with its trained tensors in `parameters`: a gradient
    that would go anywhere else is an error in the backward, not lost. LoRA layers work, autocast and random state
    are those of the forward (but dropout draws other numbers than untiled).
    Raises ValueError for tiles < 1, a callable without `parameters`, or an output that is not one row a token;
    RuntimeError, in the backward, for a tensor that needs a gradient and is not among the parameters.
    """
    if tiles < 1:
        raise ValueError(f"tiles must be at least 1, got {tiles}")
    if x.ndim < 2 or not x.is_floating_point():
        raise ValueError(f"x must be floating and (..., tokens, H), got {(*x.shape,)} {x.dtype}")
    if parameters is None:
        owner = mlp if isinstance(mlp, nn.Module) else getattr(mlp, "__self__", None)
        if not isinstance(owner, nn.Module):
            raise ValueError("tiled_mlp: give a module, a method of one, or its trained tensors in `parameters`")
        parameters = owner.parameters()
    trained = [p for p in parameters if p.requires_grad]
    return _Tiled.apply(mlp, tiles, x, *trained)


def _slices(x: Tensor, tiles: int) -> list[Tensor]:
    """Views of x (..., H) as at most `tiles` runs of tokens (1, ..., n, H); none where x has no token."""
    rows = x.reshape(*(1,) * (x.ndim - 2), -1, x.shape[-1])
    size = -(-rows.shape[-2] // tiles)
    return list(rows.split(size, -2)) if size else []


class _Tiled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, mlp: Mlp, tiles: int, x: Tensor, *trained: Tensor) -> Tensor:
        device = x.device.type
        ctx.mlp, ctx.tiles, ctx.random = mlp, tiles, _random_state(x.device)
        ctx.autocast = (torch.get_autocast_dtype(device), torch.is_autocast_enabled(device))
        ctx.save_for_backward(x)
        # As they are: a checkpoint around this would hand back detached copies of saved parameters.
        ctx.trained, ctx.versions = trained, [p._version for p in trained]
        out: Tensor | None = None
        done = 0
        with ExitStack() as stack:
            if ctx.autocast[1]:
                # Autocast keeps the low-precision weights it makes; made here without a graph, an older torch would
                # use them again where gradients are due, and lose those (pytorch issue 112583, PR 165068). The hooks
                # keep those of others (a checkpoint's, an offloader's) off this graph, which dies with its tile.
                stack.enter_context(torch.enable_grad())
                stack.enter_context(saved_tensors_hooks(_same, _same))
            for part in _slices(x.detach(), tiles) or [x.detach()]:
                y = mlp(part)
                if not isinstance(y, Tensor) or y.shape[:-1] != part.shape[:-1]:
                    got = (*y.shape,) if isinstance(y, Tensor) else type(y).__name__
                    raise ValueError(f"tiled_mlp: the MLP must map {(*part.shape,)} to (..., O), it gave {got}")
                y = y.detach()
                if out is None:
                    out = y.new_empty(*x.shape[:-1], y.shape[-1])
                rows, count = out.view(-1, y.shape[-1]), y.numel() // max(1, y.shape[-1])
                rows[done : done + count] = y.reshape(-1, y.shape[-1])
                done += count
        assert out is not None
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        (x,), trained = ctx.saved_tensors, ctx.trained
        if [p._version for p in trained] != ctx.versions:
            raise RuntimeError("tiled_mlp: a parameter was written to between forward and backward")
        need_dx, need = ctx.needs_input_grad[2], ctx.needs_input_grad[3:]
        needing_grad = [p for p, n in zip(trained, need, strict=True) if n]
        totals: list[Tensor | None] = [None] * len(needing_grad)
        dx = torch.empty_like(x, memory_format=torch.contiguous_format) if need_dx else None
        parts = zip(
            _slices(x, ctx.tiles), _slices(dy, ctx.tiles), _slices(dx if need_dx else x, ctx.tiles), strict=True
        )
        dtype, autocast = ctx.autocast
        with _replayed(x.device, ctx.random), torch.autocast(x.device.type, dtype, enabled=autocast):
            for number, (part, up, target) in enumerate(parts):
                part = part.detach().requires_grad_(need_dx)
                with torch.enable_grad():
                    y = ctx.mlp(part)
                if not y.requires_grad:  # it uses neither x nor a parameter
                    if need_dx:
                        target.zero_()
                    continue
                if number == 0:
                    _refuse_strangers(y, {id(t) for t in (part, *trained)})
                inputs = [part, *needing_grad] if need_dx else needing_grad
                grads = list(torch.autograd.grad(y, inputs, up, allow_unused=True))
                del y
                if need_dx:
                    one = grads.pop(0)
                    target.copy_(one) if one is not None else target.zero_()
                for i, grad in enumerate(grads):
                    if grad is not None:
                        totals[i] = _add(totals[i], grad)
        sums = iter(t if t is None else t.to(p.dtype) for t, p in zip(totals, needing_grad, strict=True))
        return None, None, dx, *(next(sums) if n else None for n in need)


def _add(total: Tensor | None, grad: Tensor) -> Tensor:
    exact = torch.promote_types(grad.dtype, torch.float32)
    if total is None:
        return grad.to(exact, copy=True)  # autograd may hand out one tensor twice
    return total.add_(grad)


def _refuse_strangers(y: Tensor, allowed: set[int]) -> None:
    """Every leaf of y's graph must be one whose gradient is collected."""
    todo, visited_nodes = [y.grad_fn], set()
    while todo:
        node = todo.pop()
        if node is None or node in visited_nodes:
            continue
        visited_nodes.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None and id(leaf) not in allowed:
            raise RuntimeError(
                f"tiled_mlp: a tensor {(*leaf.shape,)} that needs a gradient is not among the MLP's parameters: "
                "give it in `parameters`"
            )
        todo.extend(n for n, _ in node.next_functions)


def _same(tensor: Tensor) -> Tensor:
    return tensor


def _random_state(device: torch.device) -> tuple[Tensor, Tensor | None]:
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


@contextmanager
def _replayed(device: torch.device, state: tuple[Tensor, Tensor | None]) -> Iterator[None]:
    """Inside, random numbers are those that followed `state`; outside nothing has changed."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.set_rng_state(state[0])
        if state[1] is not None:
            torch.cuda.set_rng_state(state[1], device)
        yield
