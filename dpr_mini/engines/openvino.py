"""OpenVINO GenAI's continuous batching on the CPU, fed with the F16 GGUF that models/gguf.py writes.

`add_request(id, token ids, config)` + `step()`: every conversation advances on its own, and a prompt whose
beginning was seen before is not computed again (blocks of 32 tokens). Two things it does not do are done here:
n samples of one new prompt that arrive together would each compute it, so they wait one step for the first; and
it does not report what it took from its cache, so a model of its block cache says what it is expected to take.
"""

from __future__ import annotations

import ctypes
import sys
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from dpr_mini.engines.base import Completion, EngineError, Request, RequestError
from dpr_mini.engines.decode import Decoder
from dpr_mini.models.folder import ModelError
from dpr_mini.models.gguf import gguf_for, why_not_exportable

# `import openvino` reports itself to an analytics service and writes to the home folder, unasked; with this entry
# its own import of the telemetry package fails, and it takes its stub.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

BLOCK = 32  # tokens in a block of the CPU plugin's cache


class BlockCache:
    """Which blocks of tokens the engine's prefix cache holds, by what it was given. Least recently used go first.

    An *expected* value: the engine reports none. It knows whole blocks only, so it never promises more than the
    engine finds, except where the engine evicts in another order. tests/engines/test_engines.py checks it against the
    prefill steps that the engine then needs.
    """

    def __init__(self, blocks: int) -> None:
        self.capacity = blocks
        self.held: OrderedDict[int, bool] = OrderedDict()  # chained hash of a block -> computed (else scheduled)

    @staticmethod
    def chain(ids: Iterable[int], size: int = BLOCK) -> list[int]:
        """Hash of every whole block of `ids`, each including all that came before it."""
        ids, out, last = tuple(ids), [], 0
        for at in range(0, len(ids) - size + 1, size):
            last = hash((last, ids[at : at + size]))
            out.append(last)
        return out

    def hit(self, ids: tuple[int, ...]) -> int:
        """Prompt tokens that the cache is expected to give: whole blocks, and never the last token."""
        n = 0
        for block in self.chain(ids):
            if not self.held.get(block):
                break
            n += BLOCK
        return min(n, len(ids) - 1)

    def waits(self, ids: tuple[int, ...]) -> bool:
        """Whether the first block that is not computed yet is being computed for another request."""
        for block in self.chain(ids):
            computed = self.held.get(block)
            if not computed:
                return computed is False
        return False

    def add(self, ids: tuple[int, ...], computed: bool) -> None:
        for block in self.chain(ids):
            self.held[block] = computed or self.held.get(block, False)
            self.held.move_to_end(block)
        while len(self.held) > self.capacity:
            self.held.popitem(last=False)


@dataclass(slots=True)
class _Running:
    request: Request
    handle: Any
    cached: int
    ids: list[int]


class OpenVinoEngine:
    """Engine (see base.py) on OpenVINO GenAI. Speaks token ids only; templates are the caller's.

    model_dir: Hugging Face folder; its F16 GGUF is written on entering if need be.
    window: requests in flight that keep two cores busy. cache_gib: memory of the prefix cache, in GiB.
    precision: "f32" or "bf16", the type the CPU computes in. threads: cores to use, None for all.
    prefill_tokens: tokens a step computes at most.
    Raises EngineError where OpenVINO is missing, the folder cannot be exported, or a request does not fit.
    """

    def __init__(
        self,
        model_dir: Path,
        *,
        window: int = 64,
        cache_gib: float = 2.0,
        precision: str = "f32",
        threads: int | None = None,
        prefill_tokens: int = 512,
    ) -> None:
        try:
            import openvino
            import openvino_genai
        except ImportError as error:
            raise EngineError(f"the openvino engine needs {error.name}; run: pip install 'dpr-mini[cpu]'") from None
        self._ov, self._genai = openvino, openvino_genai
        self.name = f"openvino {openvino_genai.__version__.split('-')[0]} {precision}"
        self.model_dir, self.window = Path(model_dir), window
        self.reproducible = precision == "f32"  # bf16 rounds with the batch
        self.decoder = Decoder(self.model_dir)
        if reason := why_not_exportable(self.model_dir):
            raise EngineError(f"the openvino engine cannot read {self.model_dir}: {reason}")
        config = self.decoder.config
        heads = config["num_attention_heads"]
        kv_heads = config.get("num_key_value_heads") or heads
        head_dim = config.get("head_dim") or config["hidden_size"] // heads
        token_bytes = 2 * config["num_hidden_layers"] * kv_heads * head_dim * (4 if precision == "f32" else 2)
        self._scheduler = openvino_genai.SchedulerConfig()
        self._scheduler.enable_prefix_caching = True
        self._scheduler.max_num_seqs = window
        self._scheduler.max_num_batched_tokens = prefill_tokens
        self._scheduler.num_kv_blocks = int(cache_gib * 2**30) // (token_bytes * BLOCK)
        self._properties: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": precision,
            "KV_CACHE_PRECISION": precision,
        }
        if threads is not None:
            self._properties["INFERENCE_NUM_THREADS"] = threads
        self._pipe: Any = None

    def __enter__(self) -> Self:
        try:
            gguf = gguf_for(self.model_dir)
        except ModelError as error:
            raise EngineError(f"the openvino engine cannot read {self.model_dir}: {error}") from error
        self._stack = signal_stack()
        try:
            self._pipe = self._genai.ContinuousBatchingPipeline(str(gguf), self._scheduler, "CPU", self._properties)
        except (RuntimeError, ValueError) as error:  # all that its bindings raise
            signal_stack(self._stack)
            raise EngineError(f"the openvino engine cannot load {gguf}: {error}; delete it and try again") from error
        self._blocks_held = BlockCache(self._scheduler.num_kv_blocks)
        self._queue: deque[tuple[Request, Any]] = deque()
        self._running: dict[int, _Running] = {}
        self._next = 0
        return self

    def __exit__(self, *exc: object) -> None:
        self.cancel()
        self._pipe = None
        signal_stack(self._stack)

    def cancel(self) -> None:
        """Drop what is queued, and end what is running."""
        for running in self._running.values():
            running.handle.cancel()
        self._running = {}
        self._queue.clear()
        while self._pipe is not None and self._pipe.has_non_finished_requests():
            self._pipe.step()  # it gives back the blocks of what was ended

    def facts(self) -> dict[str, Any]:
        return {"cache_tokens": self._scheduler.num_kv_blocks * BLOCK}

    def submit(self, request: Request) -> None:
        """Queue one request. Raises EngineError for an empty prompt or one that leaves no room to answer."""
        if self._pipe is None:
            raise EngineError("the openvino engine is not open; use it in a with block")
        room = self.decoder.room(request)
        fits = self._scheduler.num_kv_blocks * BLOCK
        if len(request.ids) + room > fits:
            raise RequestError(f"request {request.id}: {len(request.ids)} + {room} tokens, the cache holds {fits}")
        s, config = request.sampling, self._genai.GenerationConfig()
        config.max_new_tokens = room
        config.apply_chat_template = False
        config.set_eos_token_id(self.decoder.eos[0])
        config.stop_token_ids = set(self.decoder.eos)
        if s.temperature > 0:
            config.do_sample = True
            config.temperature = s.temperature
            config.top_p = s.top_p
            config.rng_seed = request.seed  # its default is one for all requests: n equal samples
        self._queue.append((request, config))

    def poll(self) -> list[Completion]:
        """Step until at least one request has finished; [] only when nothing is in flight."""
        done: list[Completion] = []
        while not done and (self._queue or self._running):
            self._admit()
            self._pipe.step()
            for key, running in list(self._running.items()):
                if self._read(running):
                    done.append(self._complete(running))
                    del self._running[key]
        return done

    def _admit(self) -> None:
        """Hand over what is queued, except requests whose prompt another one is computing in this step."""
        import numpy as np

        later: deque[tuple[Request, Any]] = deque()
        while self._queue and len(self._running) < self.window:
            request, config = self._queue.popleft()
            if self._blocks_held.waits(request.ids):
                later.append((request, config))
                continue
            cached = self._blocks_held.hit(request.ids)
            self._blocks_held.add(request.ids, computed=False)
            ids = self._ov.Tensor(np.asarray([request.ids], dtype=np.int64))
            handle = self._pipe.add_request(self._next, ids, config)
            self._running[self._next] = _Running(request, handle, cached, [])
            self._next += 1
        self._queue.extendleft(reversed(later))

    def _read(self, running: _Running) -> bool:
        """Take what was drawn; True when the request has ended."""
        status = self._genai.GenerationStatus
        if not running.ids:
            first = running.handle.can_read()
        else:
            first = False
        while running.handle.can_read():
            for output in running.handle.read().values():
                running.ids.extend(output.generated_ids)
        if first:
            self._blocks_held.add(running.request.ids, computed=True)  # its prompt is in the cache from here on
        if self._said(running):
            running.handle.stop()
            return True
        return running.handle.get_status() != status.RUNNING

    def _said(self, running: _Running) -> bool:
        """Whether the newest tokens end a stop string. OpenVINO's own search drops tokens that hold only its end."""
        stops = running.request.sampling.stop
        if not stops:
            return False
        tail = self.decoder.text(running.ids[-max(map(len, stops)) - 4 :])  # a character is at most four byte tokens
        return any(stop in tail for stop in stops)

    def _complete(self, running: _Running) -> Completion:
        request = running.request
        ids, text, ended = self.decoder.cut(running.ids, request.sampling.stop)
        finished = ended or running.handle.get_status() == self._genai.GenerationStatus.FINISHED
        # the last drawn token was never fed back, so its place in the cache is empty
        self._blocks_held.add((*request.ids, *running.ids[:-1]), computed=True)
        return Completion(
            id=request.id,
            ids=ids,
            text=text,
            finish=("stop" if ended else "length") if finished else "error",
            prompt_tokens=len(request.ids),
            cached_tokens=running.cached,
            error="" if finished else "the engine dropped the request: its cache is too small for the window",
        )


class SignalStack(ctypes.Structure):
    """stack_t of signal.h."""

    _fields_ = [("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]


def signal_stack(new: SignalStack | None = None) -> SignalStack:
    """The stack that this thread's signals are handled on; sets `new` if given.

    OpenVINO puts one of its own in place and frees it when a pipeline ends: the next signal, e.g. Ctrl-C while a
    trainer works, would end the process with a segmentation fault.
    """
    old = SignalStack()
    ctypes.CDLL(None).sigaltstack(ctypes.byref(new) if new else None, ctypes.byref(old))
    return old
