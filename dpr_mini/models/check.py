"""A model folder looked at before it is used, without torch: whole, plain, and read alike by everybody.

`check` is called before any engine, trainer, GGUF or export sees a folder. For the families in `names` it knows every
tensor by name and shape; of any other it knows that its files are whole and its numbers floating, and
models/loading.py asks transformers for the rest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from dpr_mini.models import tokenizer
from dpr_mini.models.folder import (
    AGAIN,
    INDEX,
    WEIGHTS,
    ModelError,
    Tensor,
    equal_bytes,
    read_object,
    tensors,
    there,
    weight_files,
)

GENERATION = "generation_config.json"
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
# Buffers that old checkpoints hold and that every reader makes anew, in the words of transformers.
IGNORED = re.compile(r"rotary_emb\.inv_freq$|(^|\.)position_ids$")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.msgpack")
SIZES = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")  # what families call it
# Keys of config.json that name code beside or outside the folder. It is never run, and must not be passed on.
CODE = ("auto_map", "custom_pipelines")
LARGEST = 2**31 - 1  # of a size in config.json: what a GGUF and an index of 32 bits hold
UNREAD = ("*.safetensors", "*.gguf", "*.py")
READ = ("*.json", "*.jinja", "*.safetensors", "tokenizer.model", "additional_chat_templates/*.jinja")


def check(folder: Path) -> None:
    """Raises ModelError, naming the file, for a folder that is not to be loaded, trained, converted or passed on.

    Reads JSON files and headers, not weights (but a head beside an embedding that it should equal). A second look at
    an unchanged folder only asks for the files' times.
    """
    check_weights(folder)
    _check_tokens(Path(folder), stamps(Path(folder)))


def check_weights(folder: Path) -> None:
    """The same without the tokenizer and the end token, for whoever only computes. Raises ModelError."""
    _check_weights(Path(folder), stamps(Path(folder)))


def stamps(folder: Path) -> tuple[tuple[str, ...], ...]:
    """Name, size, times and inode of every file that `check` reads: other content, other stamps."""
    found = []
    for path in sorted({p for pattern in READ for p in folder.glob(pattern)}):
        try:
            found.append((path.name, *stamp(path)))
        except OSError:  # a link that leads nowhere
            found.append((path.name,))
    return tuple(found)


def stamp(path: Path) -> tuple[str, ...]:
    """Size, modification time, change time (nanoseconds) and inode of a file. A user can set all but the last two."""
    stat = path.stat()
    return tuple(map(str, (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)))


@lru_cache(maxsize=32)
def _check_weights(folder: Path, at: tuple[tuple[str, ...], ...]) -> None:
    config = read_config(folder)
    _plain(folder, config)
    if there(path := folder / GENERATION):
        read_object(path)
    try:
        weight_files(folder)
    except ModelError:
        if pickles := sorted(p.name for pattern in PICKLES for p in folder.glob(pattern)):
            raise ModelError(
                f"{folder} holds {pickles[0]}, a pickle, which can run code on loading; "
                "save it again with model.save_pretrained(folder), which writes safetensors"
            ) from None
        raise
    found = tensors(folder)
    _floating(found)
    _whole(folder, config, found)


@lru_cache(maxsize=32)
def _check_tokens(folder: Path, at: tuple[tuple[str, ...], ...]) -> None:
    config = read_config(folder)
    end_ids(folder, config)
    token_ids(folder, config)


def passed_on(folder: Path) -> list[Path]:
    """The files that a reader by other rules may see: the weights, and all that is neither weights nor code."""
    weights = set(weight_files(folder))
    others = {p for pattern in (*PICKLES, *UNREAD) for p in folder.glob(pattern)} - weights
    if folder / WEIGHTS in weights:
        others.add(folder / INDEX)
    return [p for p in sorted(folder.iterdir()) if p.is_file() and p not in others]


# ---- config.json


def read_config(folder: Path) -> dict[str, Any]:
    """config.json, its sizes looked at. Raises ModelError."""
    path = folder / "config.json"
    if not path.exists():
        raise ModelError(f"{folder} has no config.json: not a Hugging Face model folder")
    config = read_object(path)
    if not isinstance(config.get("model_type"), str):
        raise ModelError(f"{path}: model_type is {_shown(config.get('model_type'))}, where a name is needed; {AGAIN}")
    text = text_part(config, path)
    known = config["model_type"] in FAMILIES
    if known and text is not config:
        raise ModelError(f"{path}: a text_config in a {config['model_type']}, which has one part only; {AGAIN}")
    for key in dict.fromkeys((*SIZES, *LAYERS, "max_position_embeddings", "num_key_value_heads", "head_dim")):
        if text.get(key) is not None or (known and key in SIZES):
            size(path, text, key)
    if known:
        _known(path, text)
    _tie(path, config)
    return config


def size(path: Path, config: Mapping[str, Any], key: str) -> int:
    """A size in `path`, the file that `config` was read from. Raises ModelError for what is none."""
    value = config.get(key)
    if type(value) is not int or not 0 < value <= LARGEST:
        seen = f"is {_shown(value)}" if key in config else "is missing"
        raise ModelError(f"{path}: {key} {seen}, where a whole number from 1 is needed; {AGAIN}")
    return value


def text_part(config: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The language model's part of a configuration: the whole of it but for models of several parts."""
    part = config.get("text_config") or config
    if not isinstance(part, dict):
        raise ModelError(f"{path}: text_config is {_shown(part)}, where an object is needed; {AGAIN}")
    return part


def _known(path: Path, config: Mapping[str, Any]) -> None:
    """Values that give no error where they are wrong, only another model."""
    heads, kv_heads = config["num_attention_heads"], config.get("num_key_value_heads")
    if kv_heads is None and config["model_type"] != "llama":
        raise ModelError(f"{path}: num_key_value_heads is missing: readers take different numbers for it")
    if heads % (kv_heads or heads):
        raise ModelError(f"{path}: {heads} heads cannot share {kv_heads} num_key_value_heads evenly; {AGAIN}")
    if config.get("head_dim") is None and config["hidden_size"] % heads:
        raise ModelError(f"{path}: hidden_size {config['hidden_size']} is no multiple of {heads} heads; {AGAIN}")
    _positive(path, "rms_norm_eps", config.get("rms_norm_eps", 1e-6))
    for key in ("rope_parameters", "rope_scaling"):
        if (rope := config.get(key)) is None:
            continue
        if not isinstance(rope, dict):
            raise ModelError(f"{path}: {key} is {_shown(rope)}, where an object is needed; {AGAIN}")
        _positive(path, f"{key}.rope_theta", rope.get("rope_theta", 1.0))
    _positive(path, "rope_theta", config.get("rope_theta", 1.0))
    if not isinstance(config.get("hidden_act", "silu"), str):
        raise ModelError(f"{path}: hidden_act is {_shown(config['hidden_act'])}, where a name is needed; {AGAIN}")


def _positive(path: Path, key: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e30:
        raise ModelError(f"{path}: {key} is {_shown(value)}, where a number above 0 is needed; {AGAIN}")


def _tie(path: Path, config: Mapping[str, Any]) -> None:
    for part in (config, text_part(config, path)):
        if not isinstance(part.get("tie_word_embeddings", False), bool):
            raise ModelError(f"{path}: tie_word_embeddings is {_shown(part['tie_word_embeddings'])}, not true or false")


def _plain(folder: Path, config: Mapping[str, Any]) -> None:
    """What makes a reader fetch, run or read something else than the folder's own weights."""
    path = folder / "config.json"
    for key, value in _pairs(config):
        if "_implementation" in key and any("/" in text or ":" in text for text in _texts(value)):
            raise ModelError(
                f"{path}: {key} names code from elsewhere ({_shown(value)}), which is never run; remove it"
            )
        if key in ("quantization_config", "compression_config") and value is not None:
            kind = value.get("quant_method") if isinstance(value, dict) else value
            raise ModelError(
                f"{path}: {key} ({_shown(kind)}): quantised weights are not read alike by all engines and cannot be "
                "trained on; give the model in bfloat16 or float32"
            )
        if key == "transformers_weights" and value is not None:
            raise ModelError(f"{path}: {key} leads to other weights ({_shown(value)}); remove it")
    if there(folder / "adapter_config.json"):
        raise ModelError(
            f"{folder / 'adapter_config.json'}: an adapter, which is read on top of another model; "
            "merge it into its base model and save that"
        )


def _pairs(value: Any) -> Iterator[tuple[str, Any]]:
    """All keys of a JSON value, at any depth, with what they hold."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key, inner
            yield from _pairs(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _pairs(inner)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


# ---- weights


def _floating(found: Mapping[str, tuple[Path, Tensor]]) -> None:
    for name, (path, tensor) in found.items():
        if not tensor.floating and not IGNORED.search(name):
            raise ModelError(f"{path}: tensor {name} is {tensor.dtype}, where weights are floating-point numbers")


def _whole(folder: Path, config: Mapping[str, Any], found: Mapping[str, tuple[Path, Tensor]]) -> None:
    """Missing, unexpected and mismatched tensors, as far as the family is known."""
    path = folder / "config.json"
    text = text_part(config, path)
    for key in LAYERS:
        if (text.get(key) or 0) > len(found):  # before anything counts up to it
            raise ModelError(f"{path}: {key} is {text[key]}, but the weights have only {len(found)} tensors; {AGAIN}")
    if config["model_type"] not in FAMILIES:
        return
    wanted, where = dict(expected(config)), weight_files(folder)[0]
    if missing := [name for name in wanted if name not in found]:
        fix = AGAIN
        if missing == [HEAD] and "tie_word_embeddings" not in config:
            fix = 'if the embedding is the head as well, say so in config.json: "tie_word_embeddings": true'
        more = f" and {len(missing) - 1} others" if len(missing) > 1 else ""
        raise ModelError(
            f"{where}: tensor {missing[0]}{more} is missing, which would be made up of random numbers; {fix}"
        )
    for name, (file, tensor) in found.items():
        if name == HEAD and HEAD not in wanted:
            if not equal_bytes((file, tensor), found[EMBEDDING]):
                raise ModelError(
                    f"{file}: {HEAD} differs from the embedding, but config.json ties them: engines would read two "
                    'models; if the head is right, say "tie_word_embeddings": false'
                )
        elif name not in wanted:
            if not IGNORED.search(name):
                raise ModelError(f"{file}: tensor {name} has no place in the model of config.json; {AGAIN}")
        elif tensor.shape != wanted[name]:
            seen, need = list(tensor.shape), list(wanted[name])
            raise ModelError(f"{file}: tensor {name} has shape {seen}, where config.json needs {need}; {AGAIN}")


def expected(config: Mapping[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """(name, shape) of every tensor of a model of one of FAMILIES, without a tied head."""
    kind, width, inner = config["model_type"], config["hidden_size"], config["intermediate_size"]
    heads = config["num_attention_heads"]
    each = config.get("head_dim") or width // heads
    q, kv = heads * each, (config.get("num_key_value_heads") or heads) * each
    biased = {"llama": "qkvo", "qwen3": "qkvo", "qwen2": "qkv"}[kind]
    if kind != "qwen2" and not config.get("attention_bias"):
        biased = ""
    yield EMBEDDING, (config["vocab_size"], width)
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}"
        for name, out, into in (("q", q, width), ("k", kv, width), ("v", kv, width), ("o", width, q)):
            yield f"{at}.self_attn.{name}_proj.weight", (out, into)
            if name in biased:
                yield f"{at}.self_attn.{name}_proj.bias", (out,)
        if kind == "qwen3":
            yield f"{at}.self_attn.q_norm.weight", (each,)
            yield f"{at}.self_attn.k_norm.weight", (each,)
        for name, out, into in (("gate", inner, width), ("up", inner, width), ("down", width, inner)):
            yield f"{at}.mlp.{name}_proj.weight", (out, into)
            if kind == "llama" and config.get("mlp_bias"):
                yield f"{at}.mlp.{name}_proj.bias", (out,)
        yield f"{at}.input_layernorm.weight", (width,)
        yield f"{at}.post_attention_layernorm.weight", (width,)
    yield "model.norm.weight", (width,)
    if not config.get("tie_word_embeddings", False):
        yield HEAD, (config["vocab_size"], width)


FAMILIES = ("llama", "qwen2", "qwen3")


# ---- tokens


def end_ids(folder: Path, config: Mapping[str, Any]) -> tuple[int, ...]:
    """Ids of the tokens that end an answer, each in the vocabulary. Raises ModelError."""
    path = folder / GENERATION
    told = read_object(path) if there(path) else {}
    source, ends = path, told.get("eos_token_id")
    if "eos_token_id" not in told:
        source, text = folder / "config.json", text_part(config, folder / "config.json")
        ends = config.get("eos_token_id", text.get("eos_token_id"))
    if ends is None:
        raise ModelError(f"{source} names no eos_token_id: the model's answers would never end")
    listed = ends if isinstance(ends, list) else [ends]
    known = vocabulary(folder, config)
    if not listed or not all(type(i) is int and 0 <= i < known for i in listed):
        raise ModelError(
            f"{source}: eos_token_id is {_shown(ends)}, where ids of the {known} tokens are needed; {AGAIN}"
        )
    return tuple(listed)


def vocabulary(folder: Path, config: Mapping[str, Any]) -> int:
    """How many tokens the model has an embedding for. Raises ModelError."""
    path = folder / "config.json"
    return size(path, text_part(config, path), "vocab_size")


def context(folder: Path, config: Mapping[str, Any]) -> int:
    """Tokens of the longest sequence that the model is made for. Raises ModelError."""
    path = folder / "config.json"
    return size(path, text_part(config, path), "max_position_embeddings")


def token_ids(folder: Path, config: Mapping[str, Any]) -> None:
    """Raises ModelError for a tokenizer that cannot be read, or that gives ids beyond the model's vocabulary."""
    last, token = tokenizer.highest(folder)
    if last >= (known := vocabulary(folder, config)):
        raise ModelError(
            f"{folder / tokenizer.FILE}: token {token!r} has id {last}, beyond the model's {known} embeddings; "
            "take the tokenizer that belongs to the model"
        )
    tokenizer.options(folder)


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True)[:120]
