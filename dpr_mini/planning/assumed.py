"""What `plan` takes for granted where nothing was measured: cards, speeds, lengths of answers, what is kept.

All of it is assumed and printed as such; a measured rate in bench/results/*.json takes the place of an assumed one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from dpr_mini.planning.capacity import GIB, Card, Serving
from dpr_mini.planning.memory import Job


@dataclass(frozen=True)
class Spec:
    """A card as its maker's data sheet states it."""

    name: str
    gib: float
    flops: float  # FLOP/s of dense bfloat16 matmuls with float32 sums
    bandwidth: float  # bytes/s of its memory


SPECS = (  # by name; where only a size is known, the first of the nearest size stands for it
    Spec("RTX 4060", 8, 30e12, 0.272e12),
    Spec("RTX 4070", 12, 58e12, 0.504e12),
    Spec("RTX 4080", 16, 97e12, 0.717e12),
    Spec("RTX 4090", 24, 165e12, 1.008e12),
    Spec("L40S", 48, 362e12, 0.864e12),
    Spec("H100", 80, 989e12, 3.35e12),
    Spec("A100", 80, 312e12, 2.04e12),
    Spec("H200", 141, 989e12, 4.8e12),
)
# Training: this share of the data sheet's peak, recomputation counted as work, by mode. Measured on one H100 with a
# 7B model (bench/results/2026-11-27-h100); assumed of every other card and size.
PEAK_SHARE = {"full": 0.59, "lora": 0.39, "qlora": 0.42}
# Decoding: a step reads the weights and the cache of all conversations in flight at half of the bandwidth, and takes
# STEP seconds besides. Public figures of servers come out within a third: an A100 with Llama-3.1-8B at 4.3 to 5 k
# tokens/s (lmsys, 2024), a laptop's RTX 4070 with Qwen3-0.6B at 1.4 k (nano-vllm's README).
BANDWIDTH_SHARE = 0.5
STEP = {"sglang": 0.004, "hf": 0.025}
IN_FLIGHT = 256  # conversations decoded at once for which that holds: SGLang's CUDA graphs end there
START = 300.0  # seconds: a server's start, or loading and saving around a training

QUESTION = 135  # tokens of a question with its template
ANSWERS = {  # tokens of one answer (a turn) of a Qwen2.5 instruction model, mean
    "openai/gsm8k": 300,
    "DigitalLearningGmbH/MATH-lighteval": 480,
    "HuggingFaceH4/MATH-500": 480,
    "HuggingFaceH4/aime_2024": 1200,
}
HARDER = 1.4  # times as long are the answers drawn after the probe, most of them to hard problems
PASSED = 0.89  # share of the dialogues with right answers that the other rules of the filter let through


def spec(card: Card) -> Spec | None:
    """The data sheet of a card by its name, else that of a card of about its size; None without a GPU."""
    if card.bytes is None:
        return None
    named = [s for s in SPECS if s.name in card.name]
    size = card.bytes / GIB
    return named[0] if named else min(SPECS, key=lambda s: abs(math.log(s.gib / size)))


def training_rate(job: Job, document: float, card: Spec) -> float:
    """Tokens/s of training on documents of that many tokens, of which all but the question are predicted.

    FLOP a token and weight: 2 forward, 2 for the input's gradient, 2 for the weight's where it is trained, 2 for the
    layers computed again; attention as in training/flops.py. Not counted: adapters, unpacking of 4-bit weights.
    """
    shape, full, again = job.shape, job.full, job.train.gradient_checkpointing
    layers = shape.parameters("linear") * (4 + 2 * full + 2 * again)
    attention = shape.layers * shape.q_width * document * (6 + 2 * again)
    head = shape.head * max(0.0, 1 - QUESTION / document) * (6 if full else 4)
    return PEAK_SHARE[job.train.mode] * card.flops / (layers + attention + head)


def generation_rate(engine: Serving, length: float, card: Spec) -> float | None:
    """Tokens/s of conversations that end at `length` tokens, as many in flight as the engine's window and cache hold.

    None for an engine without a figure.
    """
    if engine.kind not in STEP:
        return None
    rows = max(1.0, min(engine.window, IN_FLIGHT, engine.cache / engine.token / length))
    read = engine.weights + rows * engine.token * (QUESTION + length) / 2  # half-way, a conversation's mean
    return rows / (STEP[engine.kind] + read / (BANDWIDTH_SHARE * card.bandwidth))


def told(card: Spec, expected: bool) -> list[str]:
    """All of the above in words; without `expected` only what rates are made of."""
    shares = ", ".join(f"{share:.0%} {mode}" for mode, share in PEAK_SHARE.items())
    speed = f"{card.flops / 1e12:.0f} TFLOP/s and {card.bandwidth / 1e12:.2f} TB/s"
    lines = [
        f"assumed, not measured: {card.name} ({speed} by its data sheet), of the one {shares} in training,",
        f"  {BANDWIDTH_SHARE:.0%} of the other in decoding, of {IN_FLIGHT} conversations where the cache holds them; "
        f"{START / 60:.0f} min a start",
    ]
    if expected:
        lengths = ", ".join(f"{name.rpartition('/')[2]} {n}" for name, n in ANSWERS.items())
        lines += [
            f"  tokens: question {QUESTION}; answer of {lengths}; times the turns once phase 1",
            f"  has taught them, times {HARDER:g} after the probe; pass rates: a 7B model's on GSM8K and MATH; "
            f"{PASSED:.0%} of the dialogues",
            "  with right answers pass the other rules",
        ]
    return lines
