"""Training on a GPU that is not there: fake CUDA tensors, whose live bytes are counted storage by storage.

torch's fake tensors have shapes, dtypes and devices, but no values. Every operator runs down to its allocations; what
it computes is left out. `start()` must come before torch is imported: without a GPU autograd has no device to run on,
so bench/fake_gpu.cpp is compiled and gives it one that does nothing (g++, some seconds). Only in a process of its own:
the device stays. Seen with torch 2.11 and 2.14 (builds for CUDA 13) and 2.13 (for the CPU).

Left out are launches and waits: Triton's (their outputs are allocated in Python), bitsandbytes' update (it writes in
place), CUDA's streams. A number that the loop reads back is 1, and no row is without a label.
Not counted, because it is inside a kernel: FlashAttention's scratch, cuBLAS' workspace, the context, the allocator's
rounding and its holes. Counted too much: autograd adds up two gradients of one tensor in place, but not fake ones, so
that a tied head's takes its size once more for a moment, at the embedding's gradient.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

# An H100 of 80 GB: the kernels' launches ask for it.
GPU = {"capability": (9, 0), "multiprocessors": 132, "shared": 232448}


def start() -> None:
    """Give torch a CUDA device that does nothing, in place of any other. Raises RuntimeError without a compiler."""
    if "torch" in sys.modules:
        raise RuntimeError("fake_gpu.start() comes before torch is imported")
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    home = Path(importlib.util.find_spec("torch").origin).parent
    with tempfile.TemporaryDirectory(prefix="dpr-mini-fake-gpu-") as folder:
        built, source = Path(folder) / "fake_gpu.so", Path(__file__).with_suffix(".cpp")
        command = [os.environ.get("CXX", "g++"), "-shared", "-fPIC", "-O0", "-std=c++20", f"-I{home / 'include'}"]
        command += [str(source), "-o", str(built), f"-L{home / 'lib'}", "-lc10", "-ltorch_cpu"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            raise RuntimeError(f"no compiler {command[0]!r}: apt install g++, or set CXX") from None
        if done.returncode:
            raise RuntimeError(f"{source.name} does not compile against this torch:\n{done.stderr}")
        # After torch's libraries, of whose device it takes the place; before torch, which asks once, when it starts.
        for name in ("libc10.so", "libtorch_cpu.so", "libc10_cuda.so", "libtorch_cuda.so"):
            if (home / "lib" / name).exists():
                ctypes.CDLL(str(home / "lib" / name), mode=ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(built))


class Live:
    """Bytes that live on the fake device, by weak references to storages: now, and the most of each moment."""

    def __init__(self) -> None:
        self.now = self.host = self.host_peak = 0
        self.moment = ""
        self.peaks: dict[str, int] = {}
        self._known: dict[int, weakref.ref[Any]] = {}

    @property
    def peak(self) -> int:
        return max(self.peaks.values())

    def at(self, moment: str) -> None:
        self.moment = moment
        self._mark()

    def see(self, tensor: Any) -> None:
        storage = tensor.untyped_storage()
        key, size, gpu = storage._cdata, storage.nbytes(), tensor.device.type == "cuda"
        if key in self._known:
            return

        def gone(_: object) -> None:
            del self._known[key]
            self._add(-size, gpu)

        self._known[key] = weakref.ref(storage, gone)
        self._add(size, gpu)

    def _add(self, size: int, gpu: bool) -> None:
        if gpu:
            self.now += size
            self._mark()
        else:
            self.host += size
            self.host_peak = max(self.host_peak, self.host)

    def _mark(self) -> None:
        self.peaks[self.moment] = max(self.peaks.get(self.moment, 0), self.now)


@contextmanager
def fake_gpu(live: Live) -> Iterator[None]:
    """Inside, "cuda" is the fake device, what is made there is counted in `live`, and the CPU computes as ever."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily

    aten, device_of = torch.ops.aten, torch.ops.prim.device.default
    into = (aten.mm.dtype_out, aten.addmm.dtype_out)

    class Counting(FakeTensorMode):
        inside = False  # an operator's own operators on fake tensors are not those of its kernel

        @classmethod
        def _should_skip_dynamo(cls) -> bool:
            return False  # its guard around each operator takes as long as the operator

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            if func is device_of:
                return torch.device("meta") if self.in_kernel_invocation else args[0].fake_device
            if self.inside:
                return self.dispatch(func, types, args, kwargs)
            if FakeTensor not in types:
                device = kwargs.get("device")
                if device is None or torch.device(device).type == "cpu":
                    with unset_fake_temporarily():
                        return func(*args, **kwargs)
            elif func is aten._local_scalar_dense.default:  # .item()
                return 1.0 if args[0].is_floating_point() else 1
            elif func is aten.nonzero.default:
                return args[0].new_empty((args[0].numel(), 1), dtype=torch.int64)
            elif func in into:  # torch 2.11 cannot decompose these; they write into `out` and make nothing
                return kwargs["out"]
            elif func is aten.embedding_dense_backward.default:
                live.at("embedding")
            self.inside = True
            try:
                out = self.dispatch(func, types, args, kwargs)
            finally:
                self.inside = False
            for x in (out,) if isinstance(out, FakeTensor) else out if isinstance(out, (tuple, list)) else ():
                if isinstance(x, FakeTensor):
                    live.see(x)
            return out

    with ExitStack() as stack:
        _without_launches(stack)
        stack.enter_context(Counting(allow_non_fake_inputs=True))
        yield


class _Silent:
    """A Triton kernel whose launch does nothing."""

    def __getitem__(self, grid: object) -> Callable[..., None]:
        return lambda *args, **options: None


class _Nothing:
    """A stream or an event: whatever is asked of it is nothing, or another one."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    wait_stream = wait_event = lambda self, other: None

    def record_event(self) -> _Nothing:
        return _Nothing()


def _without_launches(stack: ExitStack) -> None:
    import torch
    from dpr_kernels import attention
    from triton.runtime.jit import KernelInterface

    def put(owner: Any, name: str, value: Any) -> None:
        stack.callback(setattr, owner, name, getattr(owner, name))
        setattr(owner, name, value)

    for module in [m for name, m in sys.modules.items() if name.startswith("dpr_kernels.")]:
        for name in [n for n, value in vars(module).items() if isinstance(value, KernelInterface)]:
            put(module, name, _Silent())  # every kernel, wherever it is called
    resident = lambda device, warps: _residency(warps)  # noqa: E731
    put(sys.modules["dpr_kernels.rms_norm"], "_residency", resident)
    put(sys.modules["dpr_kernels.linear_cross_entropy"], "_large", lambda device: True)
    put(attention, "why_not", lambda impl, device: "")

    class Generator(torch.Generator):
        def __new__(cls, device: object = "cpu") -> Generator:
            return super().__new__(cls, "cpu")

    for name, value in {
        "device_of": lambda x: nullcontext(),
        "Stream": _Nothing,
        "current_stream": _Nothing,
        "stream": lambda s: nullcontext(),
        "synchronize": lambda *_: None,
        "get_device_capability": lambda *_: GPU["capability"],
        "get_rng_state": lambda *_: torch.get_rng_state(),
        "set_rng_state": lambda *_: None,
        "is_bf16_supported": lambda *_: True,
    }.items():
        put(torch.cuda, name, value)
    put(torch.Tensor, "record_stream", lambda x, stream: None)
    put(torch.utils, "swap_tensors", _same)
    put(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    put(torch, "Generator", Generator)
    if importlib.util.find_spec("bitsandbytes"):
        import bitsandbytes.functional as functional
        from bitsandbytes.optim import optimizer

        maps = {signed: functional.create_dynamic_map(signed=signed) for signed in (True, False)}
        put(functional, "create_dynamic_map", lambda signed: maps[signed])
        for name in ("optimizer_update_8bit_blockwise", "optimizer_update_32bit"):
            put(functional, name, lambda *args, **options: None)
        put(optimizer, "sync_gpu", lambda x: None)


def _same(a: Any, b: Any) -> None:
    """Module.to() swaps fake parameters, which cannot be; to the device that they are on there is nothing to do."""
    if a.untyped_storage()._cdata != b.untyped_storage()._cdata:
        raise RuntimeError(f"a fake parameter cannot move from {a.device} {a.dtype} to {b.device} {b.dtype}")


def _residency(warps: int) -> tuple[int, int]:
    """What dpr_kernels.rms_norm._residency finds on that GPU."""
    each = max(1, 16 // warps)
    return GPU["multiprocessors"] * each, (GPU["shared"] - 8192) // each
