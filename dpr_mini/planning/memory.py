"""Bytes that training on one packed row needs, counted from the model's shape and the recipe: no torch, no device.

A step goes through moments: the loss (every activation is there), the backward of the last layer and of the first (few
gradients and many activations, then the other way round), the embedding's gradient, the update. What lives at each is
added up, and the largest sum is the peak. Activations are counted tensor by tensor: what dpr_kernels' operators give
to save_for_backward, what transformers' own layers save (backend plain), and what their backwards allocate.
tests/planning/test_memory.py holds all this against counted bytes within 10 %, tests/bench/test_memory_trace.py the
shipped recipes against the real loop on fake CUDA tensors within 5 %.

Not counted tensor by tensor but taken from their sources: FlashAttention's backward (dq summed in float32, dk and dv a
query head each where heads share keys: flash-attn's mha_varlen_bwd), bitsandbytes' 4-bit layers, Unsloth (as Liger).

Widths in bytes: `weight` of a stored weight, `low` of what matmuls read, `stream` of the residual stream, which has the
weights' dtype. q and kv: the widths of all query heads together and of all key heads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cached_property

from dpr_mini.models.shapes import Shape
from dpr_mini.recipe import TrainConfig

SLICE = 1 << 24  # values of bfloat16 weights that are updated at a time
SLICE_BYTES = 16  # float32 temporaries of an update, a value
SMALL = 4096  # values below which a tensor keeps float32 moments with adamw8bit
NF4 = (
    0.5 + 1 / 64 + 4 / (64 * 256)
)  # a value: 4 bits, a byte a block of 64, a float32 a 256 of those (arXiv 2305.14314)
# What dpr_kernels.linear_cross_entropy holds of logits, for a trained and a frozen head: bytes; on a card of LARGE
# bytes and more up to so many rows within so many bytes.
LOGITS = {True: 1 << 30, False: 1 << 28}
LARGE, LARGE_LOGITS = 64 << 30, {True: (8192, 5 << 29), False: (4096, 5 << 28)}
IN_FLIGHT = 2  # offloaded inputs that are still, or already again, on the device


@dataclass(frozen=True)
class Moment:
    """Bytes that live at one moment of a step."""

    name: str
    weights: float  # with autocast's copies of them
    gradients: float  # with the temporaries of an update
    optimiser: float
    activations: float  # what the layers saved, and what the backward under way makes
    loss: float  # hidden states that the head reads, logits, dW

    @property
    def total(self) -> float:
        return sum(getattr(self, f.name) for f in fields(self) if f.name != "name")


@dataclass(frozen=True)
class Part:
    """Bytes a token of a layer, or of half of one."""

    saved: float  # from its forward to its backward
    backward: float  # most that lives in its backward, what it saved included


@dataclass(frozen=True)
class Job:
    """Training on rows of `tokens` tokens of which the head reads `labelled` (None: all, the most that there can be).

    gpu: kernels and flash attention; else the plain-PyTorch twins. bf16: what the recipe's dtype `auto` stands for.
    large: the card has LARGE memory, so that the loss holds more logits.
    """

    shape: Shape
    train: TrainConfig
    tokens: int
    labelled: int | None = None
    gpu: bool = True
    bf16: bool = True
    large: bool = False

    # --- what kind of training ----------------------------------------------------------------------------------------

    @property
    def full(self) -> bool:
        return self.train.mode == "full"

    @property
    def low(self) -> int:
        if self.train.weights == "bfloat16":
            return 2
        return {"bfloat16": 2, "float32": 4, "auto": 2 if self.bf16 else 4}[self.train.dtype]

    @property
    def weight(self) -> int:
        """float32 masters, bfloat16 weights, or frozen ones in the matmuls' dtype."""
        if self.full:
            return 4 if self.train.weights == "float32" else 2
        return self.low

    stream = weight

    @property
    def copies(self) -> bool:
        """Whether every linear map keeps a copy of its input. Autocast rounds a float32 input once for each map that
        reads it. peft widens a bfloat16 input to its adapter's float32 and autocast rounds it again; not in 4 bits."""
        return self.low < self.stream if self.full else self.train.mode == "lora" and self.low < 4

    @property
    def style(self) -> str:
        """fused: kernels. eager: transformers' own operators. reference: ours in plain PyTorch, float32 inside."""
        if self.train.backend == "plain":
            return "eager"
        return "fused" if self.gpu or self.train.backend != "dpr_kernels" else "reference"

    @property
    def flash(self) -> bool:
        return self.gpu and self.train.attention != "reference"

    # --- weights, gradients, optimiser --------------------------------------------------------------------------------

    def adapters(self) -> Iterator[int]:
        """Values of each LoRA matrix: rank x inputs and outputs x rank at every linear map but the head."""
        for _ in range(0 if self.full else self.shape.layers):
            for inputs, outputs in self.shape.linears().values():
                yield from (self.train.lora_rank * inputs, self.train.lora_rank * outputs)

    @cached_property
    def trained(self) -> list[int]:
        """Values of every trained tensor."""
        return [n for _, n in self.shape.tensors()] if self.full else list(self.adapters())

    def stored(self) -> float:
        """Weights as they are kept: all, and the adapters in float32."""
        values, linear = self.shape.parameters(), self.shape.parameters("linear")
        if self.train.mode == "qlora":
            return (values - linear) * self.weight + linear * NF4 + 4.0 * sum(self.trained)
        return values * self.weight + (0.0 if self.full else 4.0 * sum(self.trained))

    def weight_copies(self) -> float:
        """Low-precision weight copies that autocast caches during a step, without the head, which the loss casts
        itself; bytes."""
        if self.low == 4 or (self.full and self.weight == 2):
            return 0.0
        return 2.0 * (self.shape.parameters("linear", "bias") if self.full else sum(self.trained))

    def optimiser(self) -> float:
        """AdamW's two moments: float32, or 8 bits and a float32 a block of 256 values (arXiv 2110.02861)."""
        values = sum(self.trained)
        large = sum(n for n in self.trained if n >= SMALL) if self.train.optimiser == "adamw8bit" else 0
        return 8.0 * (values - large) + (2 + 8 / 256) * large

    def update(self) -> float:
        """Temporaries of an update: bfloat16 weights go through float32 in slices, the others are changed in place."""
        sliced = self.full and self.weight == 2
        return float(SLICE_BYTES * min(SLICE, max(self.trained))) if sliced else 0.0

    def gradients(self) -> dict[str, float]:
        """Bytes of the gradients at each moment of a step.

        The backward makes them from the head down, and they stay over all rows of a step. With update_in_backward each
        is freed at once, but a tied head's waits for the embedding's.
        """
        shape, every = self.shape, float(sum(self.trained)) * (self.weight if self.full else 4)
        head = float(self.weight * shape.head) if self.full else 0.0  # the embedding's is dense, and as large
        if self.train.update_in_backward:
            waits = self.update() + (head if shape.tied else 0.0)
            return {"loss": 0.0, "last": waits, "first": waits, "embedding": waits + head, "update": 0.0}
        lone = 0.0 if shape.tied else head
        # A later row's gradients are added up one by one, but a tied head's waits for the embedding's.
        kept_bytes = every + (head if shape.tied else 0.0) if self.train.rows_per_step > 1 else 0.0
        last = max(kept_bytes, head + (every - head - lone) / shape.layers)
        first = max(kept_bytes, every - lone)
        return {
            "loss": every if kept_bytes else 0.0,
            "last": last,
            "first": first,
            "embedding": first + head,
            "update": every + self.update(),
        }

    def within(self) -> float:
        """Bytes that a layer's backward makes once, not a token: the largest weight's gradient in low precision and
        as it is kept; in tiles those of the MLP's three weights, and their float32 sums; a 4-bit weight unpacked."""
        sizes = {name: i * o for name, (i, o) in self.shape.linears().items()}
        if self.train.mode == "qlora":
            return float(self.low * max(sizes.values()))
        if not self.full:
            return 0.0
        one = max(sizes.values()) * (self.weight + (self.low if self.low < self.weight else 0))
        tiled = (4 + self.weight) * (sizes["gate"] + sizes["up"] + sizes["down"]) if self.train.tiled_mlp else 0
        return float(max(one, tiled))

    # --- activations --------------------------------------------------------------------------------------------------

    def norm(self, width: int, rows: int, x: int) -> float:
        """What a norm saves a token: `rows` rows of together `width` values of `x` bytes. Fused: its input. Else the
        input in float32, and the normalised values where the weight is trained. A float32 a row in any case."""
        if self.style == "fused":
            return x * width + 4 * rows
        return (4 + (x if self.full else 0)) * width + 4 * rows

    def attention(self) -> Part:
        """Norm, q, k, v, rotation (which saves cos and sin, once for all layers), attention, o."""
        shape, low = self.shape, self.low
        q, kv = shape.q_width, shape.kv_width
        saved = self.norm(shape.hidden, 1, self.stream) + low * shape.hidden * (3 if self.copies else 1)
        if shape.family == "qwen3":
            saved += self.norm(q + kv, shape.heads + shape.kv_heads, low)
        saved += low * (2 * q + 2 * kv) + 4 * shape.heads  # q, k, v, the output, its log-sum-exp
        saved += 0 if self.full else 4 * low * self.train.lora_rank
        if not self.flash or (self.copies and not self.full):
            saved += low * q  # o reads a copy: the documents' outputs put together, or peft's
        backward_bytes = low * (2 * q + 2 * kv)  # gradients of the output and of q, k, v
        if self.flash:
            backward_bytes += 4 * q + (2 * low * q if shape.heads != shape.kv_heads else 0)
        else:
            backward_bytes += low * (q + 2 * kv)  # those of the documents, before they are put together
        return Part(saved, saved + backward_bytes)

    def mlp(self) -> Part:
        """Norm, gate, up, SwiGLU, down. In tiles the norm's output is kept and the rest lives a tile at a time."""
        shape, low, inner = self.shape, self.low, self.shape.intermediate
        norm = self.norm(shape.hidden, 1, self.stream)
        inputs = low * shape.hidden * (2 if self.copies else 1)
        inputs += 0 if self.full else 3 * low * self.train.lora_rank
        wide = 4 if self.style == "reference" else low
        # gate and up; eager: the activation's output too
        kept_bytes = (2 if self.style == "fused" else 3) * wide * inner
        product = low * inner
        if self.copies and not self.full:
            # down runs: its output; peft's copies of its input
            backward_bytes = 4 * low * inner + 2 * low * shape.hidden
        elif self.style == "fused":
            # down runs: its input and that one's gradient; then gate's and up's are written over gate and up
            backward_bytes = 2 * low * inner
        else:
            backward_bytes = 3 * wide * inner
        if tiles := self.train.tiled_mlp:
            tile = -(-self.tokens // tiles) / self.tokens
            saved = norm + self.stream * shape.hidden
            tiled = tile * (inputs + kept_bytes + backward_bytes)
            return Part(saved, saved + (low + self.stream) * shape.hidden + tiled)
        return Part(norm + inputs + kept_bytes + product, norm + inputs + kept_bytes + backward_bytes)

    @cached_property
    def layer(self) -> Part:
        attention, mlp = self.attention(), self.mlp()
        return Part(attention.saved + mlp.saved, max(attention.saved + mlp.backward, attention.backward))

    @property
    def checkpoint(self) -> float:
        """Bytes a token of a layer's input."""
        return self.stream * self.shape.hidden

    def kept(self, layers: int) -> float:
        """Bytes a token that finished layers keep on the device for their backward."""
        if not self.train.gradient_checkpointing:
            return layers * self.layer.saved
        return (min(layers, IN_FLIGHT) if self.train.offload_checkpoints else layers) * self.checkpoint

    def host(self) -> float:
        """Checkpoints in host memory. PyTorch rounds a pinned block up to a power of two."""
        if not self.train.offload_checkpoints:
            return 0.0
        return float(self.shape.layers * (1 << (int(self.checkpoint * self.tokens) - 1).bit_length()))

    # --- loss ---------------------------------------------------------------------------------------------------------

    @property
    def rows(self) -> int:
        """Rows that the head reads."""
        return self.tokens if self.labelled is None else self.labelled

    def chunk(self) -> int:
        """Rows of logits that live at a time: on a GPU linear_cross_entropy's own choice, which goes by all rows of the
        hidden states, so that its buffer has one size; 1024 in its plain-PyTorch twin."""
        if not self.gpu:
            return min(self.train.loss_chunk or 1024, self.rows)
        if self.train.loss_chunk:
            return min(self.train.loss_chunk, self.tokens)
        row, width = self.shape.vocab * self.low, self.shape.hidden
        fits = max(128, LOGITS[self.full] // row // 128 * 128)
        if self.large:
            most, size = LARGE_LOGITS[self.full]
            fits = max(fits, min(most, size // row // 128 * 128))
        if self.full and self.weight == 2 and self.tokens <= width + max(fits, width):
            return self.tokens  # one chunk needs no float32 sum of dW, and no more memory than that
        return min(fits, self.tokens)

    def loss(self) -> float:
        """Most bytes while the head runs: the hidden states and their gradient, and either the buffer of logits, a
        chunk's labelled rows and their gradient, the head in the matmuls' dtype and dW, or dW and its rounded copy."""
        shape, chunk, head = self.shape, self.chunk(), self.shape.head
        hidden = 2 * self.stream * shape.hidden * self.tokens
        copy = self.low * head if self.low != self.weight else 0
        exact = self.gpu and self.weight == 2 and chunk >= self.rows  # dW comes in the weight's dtype at once
        dw = (2 if exact else 4) * head if self.full else 0
        rounded = 2 * head if self.full and self.weight == 2 and not exact else 0
        if self.gpu:
            padded = -(-shape.vocab // 64) * 64
            picked = min(chunk, self.rows) * shape.hidden * (2 * self.low + (self.stream if copy else 0))
            picked += 24 * self.rows  # their numbers, targets, masks and losses
            return hidden + dw + max(copy + chunk * self.low * padded + picked, rounded)
        logits = 8 * chunk * shape.vocab  # float32, and as much again while they are summed up
        part = self.low * head if self.full else 0  # a chunk's dW
        return hidden + dw + max(copy + logits + part, dw + rounded)  # dW is scaled in a copy

    # --- moments ------------------------------------------------------------------------------------------------------

    def moments(self) -> list[Moment]:
        """What is in memory when, in a step after the first: the optimiser's state is there already."""
        shape, tokens, gradients, optimiser = self.shape, self.tokens, self.gradients(), self.optimiser()
        weights = self.stored() + self.weight_copies()
        always = (2 * self.stream * shape.head_dim + 24) * tokens  # cos and sin; ids, positions, targets
        saved = (self.kept(shape.layers) + self.norm(shape.hidden, 1, self.stream)) * tokens + always
        flow = self.checkpoint * tokens + always  # the gradient of the residual stream
        running = self.layer.backward * tokens + self.within() + flow
        if self.train.gradient_checkpointing and self.style != "fused" and self.stream == 2:
            running += self.checkpoint * tokens  # its norm saves the input in float32: the checkpoint is one more
        others = (self.checkpoint if self.train.offload_checkpoints else self.kept(shape.layers - 1)) * tokens
        backward = weights
        if self.train.gradient_checkpointing:  # the first recomputation to end empties autocast's cache
            backward -= self.weight_copies() * (1 - 1 / shape.layers)
        moments = [
            Moment("loss", weights, gradients["loss"], optimiser, saved, self.loss()),
            Moment("backward of the last layer", backward, gradients["last"], optimiser, others + running, 0.0),
            Moment("backward of the first layer", backward, gradients["first"], optimiser, running, 0.0),
            Moment("the embedding's gradient", weights, gradients["embedding"], optimiser, flow, 0.0),
            Moment("update", self.stored(), gradients["update"], optimiser, 0.0, 0.0),
        ]
        if self.train.gradient_checkpointing:
            again = others + self.layer.saved * tokens + flow
            moments.append(Moment("the last layer once more", weights, gradients["last"], optimiser, again, 0.0))
        return moments

    def peak(self) -> Moment:
        return max(self.moments(), key=lambda m: m.total)
