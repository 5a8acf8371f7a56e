"""Shapes of models that are known without a download: what memory, FLOP and a model of random weights need.

The numbers are those of the published config.json files; `parameters()` counts them, and a test compares the counts
with transformers' models on the meta device and with the counts that the models' authors publish.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpr_mini.models.check import FAMILIES, read_config

OWNERS = ("HuggingFaceTB", "Qwen", "meta-llama")  # whose repositories of these names have these shapes
VARIANTS = ("-instruct", "-base")  # the same shape as the name without


@dataclass(frozen=True)
class Shape:
    """A decoder of one of transformers' families Llama, Qwen2 and Qwen3.

    In each layer: norm, attention (q heads x head_dim, k and v kv_heads x head_dim, rotary, o), norm, SwiGLU MLP.
    Qwen2 has biases in q, k, v; Qwen3 a norm a head over q and k. `context` is the longest sequence in its config.
    """

    family: str  # transformers' model_type: llama, qwen2, qwen3
    vocab: int
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    tied: bool  # one matrix is both the embedding and the head
    context: int

    @property
    def q_width(self) -> int:
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        return self.kv_heads * self.head_dim

    def linears(self) -> dict[str, tuple[int, int]]:
        """Name -> (inputs, outputs) of the linear maps of one layer."""
        h, q, kv, i = self.hidden, self.q_width, self.kv_width, self.intermediate
        return {"q": (h, q), "k": (h, kv), "v": (h, kv), "o": (q, h), "gate": (h, i), "up": (h, i), "down": (i, h)}

    def tensors(self) -> Iterator[tuple[str, int]]:
        """(kind, values) of every parameter, in the model's order. Kinds: embedding, linear, bias, norm, head."""
        yield "embedding", self.vocab * self.hidden
        for _ in range(self.layers):
            for name, (inputs, outputs) in self.linears().items():
                yield "linear", inputs * outputs
                if self.family == "qwen2" and name in "qkv":
                    yield "bias", outputs
            if self.family == "qwen3":
                yield from [("norm", self.head_dim)] * 2
            yield from [("norm", self.hidden)] * 2
        yield "norm", self.hidden
        if not self.tied:
            yield "head", self.vocab * self.hidden

    def parameters(self, *kinds: str) -> int:
        """How many values the parameters of these kinds have; of all without kinds. A tied head counts once."""
        return sum(values for kind, values in self.tensors() if not kinds or kind in kinds)

    @property
    def head(self) -> int:
        return self.vocab * self.hidden

    def config(self) -> dict[str, Any]:
        """Arguments of transformers' AutoConfig.for_model, for a model of random weights. Rotary base and norm eps are
        the family's defaults, not the published model's: they change no shape."""
        arguments = {
            "model_type": self.family,
            "vocab_size": self.vocab,
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "max_position_embeddings": self.context,
            "tie_word_embeddings": self.tied,
        }
        return arguments if self.family == "qwen2" else arguments | {"head_dim": self.head_dim}


SHAPES = {
    # name: family, vocabulary, hidden, intermediate, layers, heads, kv heads, head width, tied, context
    "smollm2-135m": Shape("llama", 49152, 576, 1536, 30, 9, 3, 64, True, 8192),
    "smollm2-360m": Shape("llama", 49152, 960, 2560, 32, 15, 5, 64, True, 8192),
    "smollm2-1.7b": Shape("llama", 49152, 2048, 8192, 24, 32, 32, 64, True, 8192),
    "qwen2.5-0.5b": Shape("qwen2", 151936, 896, 4864, 24, 14, 2, 64, True, 32768),
    "qwen2.5-1.5b": Shape("qwen2", 151936, 1536, 8960, 28, 12, 2, 128, True, 32768),
    "qwen2.5-3b": Shape("qwen2", 151936, 2048, 11008, 36, 16, 2, 128, True, 32768),
    "qwen2.5-7b": Shape("qwen2", 152064, 3584, 18944, 28, 28, 4, 128, False, 32768),
    "qwen2.5-math-1.5b": Shape("qwen2", 151936, 1536, 8960, 28, 12, 2, 128, True, 4096),
    "qwen2.5-math-7b": Shape("qwen2", 152064, 3584, 18944, 28, 28, 4, 128, False, 4096),
    "qwen3-0.6b": Shape("qwen3", 151936, 1024, 3072, 28, 16, 8, 128, True, 40960),
    "qwen3-1.7b": Shape("qwen3", 151936, 2048, 6144, 28, 16, 8, 128, True, 40960),
    "qwen3-4b": Shape("qwen3", 151936, 2560, 9728, 36, 32, 8, 128, True, 40960),
    "qwen3-8b": Shape("qwen3", 151936, 4096, 12288, 36, 32, 8, 128, False, 40960),
    "llama-3.2-1b": Shape("llama", 128256, 2048, 8192, 16, 32, 8, 64, True, 131072),
    "llama-3.2-3b": Shape("llama", 128256, 3072, 8192, 28, 24, 8, 128, True, 131072),
    "llama-3.1-8b": Shape("llama", 128256, 4096, 14336, 32, 32, 8, 128, False, 131072),
}


def shape_of(name: str) -> Shape | None:
    """The shape of a model by its hub name (owner/name) or bare name, in any case; None for one not known here."""
    owner, _, last = name.rpartition("/")
    if owner and owner.lower() not in {o.lower() for o in OWNERS}:
        return None
    bare = last.lower().removeprefix("meta-")
    for variant in VARIANTS:
        bare = bare.removesuffix(variant)
    return SHAPES.get(bare)


def config_for(name: str) -> dict[str, Any] | None:
    """Arguments of transformers' AutoConfig.for_model for a model of that name's shape; None for one not known."""
    shape = shape_of(name)
    return shape.config() if shape else None


def read_shape(folder: Path) -> Shape | None:
    """The shape that a model folder's config.json states; None for a family that is not known here.

    Raises ModelError for what is no configuration.
    """
    return from_config(read_config(folder))


def from_config(config: Mapping[str, Any]) -> Shape | None:
    family, heads = config.get("model_type"), config.get("num_attention_heads", 0)
    if family not in FAMILIES:
        return None
    return Shape(
        family,
        config["vocab_size"],
        config["hidden_size"],
        config["intermediate_size"],
        config["num_hidden_layers"],
        heads,
        config.get("num_key_value_heads") or heads,
        config.get("head_dim") or config["hidden_size"] // heads,
        bool(config.get("tie_word_embeddings", False)),
        config.get("max_position_embeddings", 0),
    )
