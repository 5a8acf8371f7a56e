"""Activation checkpointing whose saved layer inputs wait in host memory.

A checkpointed layer keeps its input (tokens x hidden) until the backward; over all layers of a long row that is what
fills the device (ALST, arXiv 2506.13996, section 3.3). Here each input is copied to pinned host memory on a side
stream while the layer runs, and fetched back one layer ahead of its use. The recomputation is torch's own checkpoint,
so gradients are those of torch.utils.checkpoint to the last bit. On a CPU the same steps run without streams.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint


class Offloader:
    """Keeps the inputs of checkpointed functions on the host; one per model, so that it knows what comes next.

    `min_bytes`: smaller tensors stay where they are, empty ones always. `in_flight`: how many copies to the host may
    be under way before the computation waits for the oldest; as many inputs still live on the device. `kept_bytes` and
    `moved_bytes` count what has been saved on the device and on the host since the start.
    """

    def __init__(self, *, min_bytes: int = 1 << 20, in_flight: int = 2) -> None:
        if min_bytes < 0 or in_flight < 0:
            raise ValueError(f"min_bytes and in_flight must not be negative, got {min_bytes} and {in_flight}")
        self.min_bytes, self.in_flight = min_bytes, in_flight
        self.moved_bytes = self.kept_bytes = 0
        self._lanes: dict[torch.device, _Lane] = {}
        self._leaving: deque[_Away] = deque()
        self._last: Callable[[], _Away | None] = lambda: None

    def checkpoint(self, function: Callable[..., Any], *args: Any) -> Any:
        """`function(*args)`, whose tensors among `args` are saved on the host and whose inside is computed again in
        the backward. Tensors that `function` closes over are kept as they are. Nothing may write into an input."""
        with saved_tensors_hooks(self._pack, self._unpack):
            return checkpoint(function, *args, use_reentrant=False)

    def _pack(self, x: Tensor) -> Tensor | _Away:
        size = x.numel() * x.element_size()
        # torch 2.11's checkpoint also saves an empty tensor a layer: moved, it would stand between two layers' inputs
        if not size or size < self.min_bytes or isinstance(x, nn.Parameter):
            self.kept_bytes += size
            return x
        self.moved_bytes += size
        if x.device not in self._lanes:
            self._lanes[x.device] = _Lane(x.device)
        away = _Away(x, self._lanes[x.device], self._last)
        self._last = weakref.ref(away)
        self._leaving.append(away)
        while len(self._leaving) > (self.in_flight if away.lane.stream else 0):
            self._leaving.popleft().let_go()
        return away

    def _unpack(self, saved: Tensor | _Away) -> Tensor:
        if not isinstance(saved, _Away):
            return saved
        self._leaving.clear()  # the forward is over; what has not left yet is used from where it is
        x = saved.take()
        before = saved.before()
        if before is not None:  # the layer below is next
            before.fetch()
        return x


class _Lane:
    """The side stream of a device that copies to and from the host; on a CPU there is none and a copy is a copy."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def copy(self, target: Tensor, source: Tensor) -> torch.cuda.Event | None:
        """Start the copy after everything the computation has queued so far; returns the event of its end."""
        if self.stream is None:
            target.copy_(source)
            return None
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.stream):
            target.copy_(source, non_blocking=True)
            return self.stream.record_event()

    def wait(self, event: torch.cuda.Event | None) -> None:
        """What the computation queues from here on comes after `event`; the host does not wait."""
        if event is not None:
            torch.cuda.current_stream(self.device).wait_event(event)


class _Away:
    """One saved tensor: on its way to the host, there, or on its way back."""

    def __init__(self, x: Tensor, lane: _Lane, before: Callable[[], _Away | None]) -> None:
        self.lane, self.before = lane, before
        self.here: Tensor | None = x.detach()  # on the device: until the copy has left, and again once fetched
        self.version: int | None = x._version  # None: it has left
        self.host = torch.empty_like(x, device="cpu", pin_memory=lane.stream is not None, requires_grad=False)
        self.event = lane.copy(self.host, self.here)

    def let_go(self) -> None:
        """Free the device's copy; memory is used again only by what comes after the copy's end."""
        self._check()
        self.lane.wait(self.event)
        self.here, self.version, self.event = None, None, None

    def fetch(self) -> None:
        """Start the copy back, unless the tensor is here."""
        if self.here is None:
            self.here = torch.empty_like(self.host, device=self.lane.device)
            if self.lane.stream is not None:  # should it die unused, its memory waits for the copy into it
                self.here.record_stream(self.lane.stream)
            self.event = self.lane.copy(self.here, self.host)

    def take(self) -> Tensor:
        """The tensor, on the device; the next use fetches it again."""
        if self.version is not None:  # never left
            self._check()
            assert self.here is not None
            return self.here
        self.fetch()
        self.lane.wait(self.event)
        x, self.here, self.event = self.here, None, None
        assert x is not None
        return x

    def _check(self) -> None:
        assert self.here is not None
        if self.here._version != self.version:
            raise RuntimeError("offload: a checkpointed input was written to while it was copied to the host")


_shared = Offloader(min_bytes=0)


def offloaded_checkpoint(function: Callable[..., Any], *args: Any, offloader: Offloader | None = None) -> Any:
    """`function(*args)`, recomputed in the backward from inputs that wait on the host: see `Offloader.checkpoint`.

    For use outside a model: `torch.utils.checkpoint.checkpoint(function, *args)` with the tensors among `args` moved,
    whatever their size. Gradients are the same to the last bit.
    """
    return (offloader or _shared).checkpoint(function, *args)


class Offloading:
    """What `offload_checkpoints` switched on; `undo()`, or leaving the `with` block, puts it back."""

    def __init__(self, offloader: Offloader, layers: int, before: list[tuple[nn.Module, dict[str, Any]]]) -> None:
        self.offloader, self.layers = offloader, layers
        self._before = before

    def undo(self) -> None:
        """Every module has the checkpointing that it had before. Safe to call again."""
        for module, attributes in self._before:
            for name in SWITCHES:
                module.__dict__.pop(name, None)
            module.__dict__.update(attributes)
        self._before = []

    def __enter__(self) -> Offloading:
        return self

    def __exit__(self, *_: object) -> None:
        self.undo()


SWITCHES = ("gradient_checkpointing", "_gradient_checkpointing_func")  # transformers' own, looked up on the instance


def offload_checkpoints(model: nn.Module, *, min_bytes: int = 1 << 20, in_flight: int = 2) -> Offloading:
    """Checkpoint every decoder layer of this transformers model, its input kept on the host; returns the handle.

    Sets what `gradient_checkpointing_enable` sets, on this instance's modules only, so it takes effect in training
    mode. Gradient checkpointing that is already on is replaced, and is on again after `undo()`. Works around peft.
    Raises ValueError for a model without checkpointable layers.
    """
    offloader = Offloader(min_bytes=min_bytes, in_flight=in_flight)
    # the class has the switch (a layer) or the instance (a model); hasattr alone would also ask through peft's wrapper
    modules = [m for m in model.modules() if hasattr(type(m), SWITCHES[0]) or SWITCHES[0] in m.__dict__]
    layers = sum(hasattr(type(m), SWITCHES[0]) for m in modules)
    if not layers:
        raise ValueError(f"{type(model).__name__} has no layer that transformers can checkpoint")
    before = []
    for module in modules:
        before.append((module, {n: module.__dict__[n] for n in SWITCHES if n in module.__dict__}))
        module.gradient_checkpointing = True
        module._gradient_checkpointing_func = offloader.checkpoint
    return Offloading(offloader, layers, before)
