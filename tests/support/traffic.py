"""Counts what an operator moves: bytes that kernels and torch's own operations read and write, and FLOP.

Kernels are counted where Triton's interpreter loads and stores, lane by lane, masked lanes left out; between them every
operation of torch that is not a view, an allocation or the interpreter's own. So a second pass over memory shows,
whether a kernel makes it or a line of PyTorch.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

PICKS = ("aten.index_select", "aten.index.Tensor", "aten.gather")  # read as much as they return
SCATTERS = ("aten.index_copy_",)  # write as much as they are given
ONLY_WRITE = ("aten.zeros_like", "aten.ones_like", "aten.full_like")
NOTHING_MOVES = ("aten.empty", "aten.new_empty", "aten.set_", "aten.promote_types", "aten._local_scalar_dense")


class Traffic(TorchDispatchMode):
    """Bytes by storage while it is on. `name` tells storages apart in `passes`; all others are "scratch"."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: Counter[int] = Counter()  # address of a storage -> bytes
        self.writes: Counter[int] = Counter()
        self.seen: dict[int, Tensor] = {}  # kept alive, so that no address is used twice
        self.operations: Counter[str] = Counter()
        self.kernels: Counter[str] = Counter()
        self.in_kernel = False

    def address(self, x: Tensor) -> int:
        at = x.untyped_storage().data_ptr()
        if at:  # an empty tensor has no storage
            self.seen.setdefault(at, x)
        return at

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        for x in tree_leaves((args, kwargs, out)):
            if isinstance(x, Tensor):
                self.address(x)
        name = str(func).removesuffix(".default")
        if self.in_kernel or func.is_view or str(func).startswith(NOTHING_MOVES):
            return out
        self.operations[name] += 1
        given = dict(zip((a.name for a in func._schema.arguments), args, strict=False)) | kwargs
        for argument in func._schema.arguments:
            writes = argument.alias_info is not None and argument.alias_info.is_write
            for x in tree_leaves(given.get(argument.name)):
                if not isinstance(x, Tensor):
                    continue
                if writes:
                    self.writes[self.address(x)] += size(given["source"] if name in SCATTERS else x)
                if name not in ONLY_WRITE and not (
                    writes and (argument.is_out or name.endswith(("zero_", "fill_.Scalar", "copy_")))
                ):
                    self.reads[self.address(x)] += size(out if name in PICKS and x is args[0] else x)
        for x, returned in zip(tree_leaves(out), func._schema.returns, strict=False):
            if isinstance(x, Tensor) and returned.alias_info is None:
                self.writes[self.address(x)] += size(x)
        return out

    def load(self, pointers: np.ndarray, mask: np.ndarray, itemsize: int, counter: Counter[int]) -> None:
        live = pointers[np.broadcast_to(mask, pointers.shape).astype(bool)]
        for at, x in self.seen.items():
            storage = x.untyped_storage()
            begin = storage.data_ptr()
            counter[at] += itemsize * int(((live >= begin) & (live < begin + storage.nbytes())).sum())

    def passes(self, **named: Tensor | None) -> dict[str, tuple[float, float]]:
        """name -> how many times its storage was read and written, rounded to 0.01; "scratch": bytes of all others."""
        result: dict[str, tuple[float, float]] = {}
        known = set()
        for name, x in named.items():
            if x is None:
                continue
            at, nbytes = x.untyped_storage().data_ptr(), size(x)
            known.add(at)
            result[name] = round(self.reads[at] / nbytes, 2), round(self.writes[at] / nbytes, 2)
        result["scratch"] = tuple(sum(n for at, n in c.items() if at not in known) for c in (self.reads, self.writes))
        return result


def size(x: Tensor) -> int:
    """Bytes that a pass over x touches: of an expanded tensor its storage alone."""
    return min(x.numel() * x.element_size(), x.untyped_storage().nbytes())


@contextlib.contextmanager
def counted(monkeypatch: Any) -> Iterator[Traffic]:
    """Everything inside is counted; Triton's kernels must be those of the interpreter."""
    from triton.runtime import interpreter

    traffic = Traffic()
    builder, executor = interpreter.InterpreterBuilder, interpreter.GridExecutor
    load, store, call = builder.create_masked_load, builder.create_masked_store, executor.__call__

    def loading(self: Any, ptrs: Any, mask: Any, *rest: Any) -> Any:
        value = load(self, ptrs, mask, *rest)
        traffic.load(ptrs.data, mask.data, value.data.itemsize, traffic.reads)
        return value

    def storing(self: Any, ptrs: Any, value: Any, mask: Any, *rest: Any) -> Any:
        traffic.load(ptrs.data, mask.data, value.data.itemsize, traffic.writes)
        return store(self, ptrs, value, mask, *rest)

    def calling(self: Any, *args: Any, **options: Any) -> Any:
        for x in args:
            if isinstance(x, Tensor):
                traffic.address(x)
        traffic.kernels[self.fn.__name__] += 1
        traffic.in_kernel = True
        try:
            return call(self, *args, **options)
        finally:
            traffic.in_kernel = False

    with monkeypatch.context() as patch:
        patch.setattr(builder, "create_masked_load", loading)
        patch.setattr(builder, "create_masked_store", storing)
        patch.setattr(executor, "__call__", calling)
        with traffic:
            yield traffic
