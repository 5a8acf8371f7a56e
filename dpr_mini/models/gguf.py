"""A Hugging Face folder as one F16 GGUF: what OpenVINO GenAI, llama.cpp and Ollama read.

Everything is written from the folder itself (config.json, tokenizer.json, *.safetensors). Layout after
llama.cpp's convert_hf_to_gguf.py: matrices in F16, vectors (norms, biases) in F32, q and k rows of the llama
architecture permuted from transformers' half-split rotary order to the interleaved one.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dpr_mini.files import durable
from dpr_mini.models import tokenizer as tokens
from dpr_mini.models.check import HEAD, IGNORED, check, read_config
from dpr_mini.models.folder import ModelError, read_object, weight_files
from dpr_mini.models.resolve import cache_dir, model_digest

NAME = "model-f16.gguf"
DIGEST_KEY = "dpr_mini.source_digest"
ARCHITECTURES = {"llama": "llama", "qwen2": "qwen2"}
QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)


class ExportError(ModelError):
    """A folder that this exporter cannot write as a GGUF. One line that says why."""


def why_not_exportable(model_dir: Path) -> str:
    """ "" when `write_gguf` can write this folder, else the reason in a few words. Reads headers and JSON files."""
    try:
        _exportable(Path(model_dir))
    except ModelError as error:
        return str(error)
    return ""


def _exportable(model_dir: Path) -> dict[str, Any]:
    """config.json of a folder that can be written. Raises ModelError, ExportError."""
    config = read_config(model_dir)
    _architecture(config)
    tokens.load(model_dir)  # its file has the form that is read on
    tokenizer = read_object(model_dir / tokens.FILE)
    _pre_tokenizer(tokenizer)
    if tokens.options(model_dir).get("eos_token") not in _vocabulary(tokenizer).values():
        raise ExportError(f"{model_dir / tokens.OPTIONS}: no eos_token that the tokenizer knows")
    check(model_dir)
    return config


def _vocabulary(tokenizer: Mapping[str, Any]) -> dict[int, str]:
    """Every token's text by its id, added ones included."""
    added = {token["id"]: token["content"] for token in tokenizer.get("added_tokens", [])}
    return {i: text for text, i in tokenizer["model"]["vocab"].items()} | added


def gguf_for(model_dir: Path) -> Path:
    """The folder's F16 GGUF, written now if there is none or it was made from other weights.

    It lies in the folder as model-f16.gguf, or under cache_dir() where the folder cannot be written.
    Raises ModelError for a folder that is not whole, and ExportError.
    """
    model_dir = Path(model_dir)
    check(model_dir)
    digest = model_digest(model_dir)
    inside = model_dir / NAME
    if inside.is_file() and gguf_digest(inside) == digest:
        return inside
    out = inside if os.access(model_dir, os.W_OK) else cache_dir() / "gguf" / digest[:16] / NAME
    if out.is_file() and gguf_digest(out) == digest:
        return out
    start = time.monotonic()
    write_gguf(model_dir, out)
    print(f"wrote {out} in {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    return out


def gguf_digest(path: Path) -> str:
    """The source digest in a GGUF that we wrote, "" in any other. Reads the first 4 KiB only."""
    with path.open("rb") as f:
        head = f.read(4096)
    at = head.find(DIGEST_KEY.encode())
    if at < 0:
        return ""
    at += len(DIGEST_KEY) + 4  # key, then u32 value type, u64 length, bytes
    try:
        (length,) = struct.unpack_from("<Q", head, at)
    except struct.error:  # cut off
        return ""
    return head[at + 8 : at + 8 + min(length, len(head))].decode("utf-8", "replace")


def write_gguf(model_dir: Path, out: Path) -> Path:
    """Write `model_dir` as an F16 GGUF at `out` (through a temporary file). Returns `out`.

    Raises ModelError for a folder that is not whole, ExportError for an architecture, rotary scaling or tokenizer that
    it does not know, for weights beyond F16 and for a place that cannot be written; OSError for a full disk.
    """
    try:
        from gguf import GGUFWriter
    except ImportError as error:
        raise ExportError("writing a GGUF needs the gguf package; run: pip install 'dpr-mini[cpu]'") from error

    model_dir, out = Path(model_dir), Path(out)
    config = _exportable(model_dir)
    arch = _architecture(config)
    temp = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        durable.sweep_beside(out)
        writer = GGUFWriter(temp, arch)
        writer.add_string(DIGEST_KEY, model_digest(model_dir))  # first, so that 4 KiB are enough to find it
        _add_config(writer, arch, config)
        _add_tokenizer(writer, model_dir, config)
        _add_tensors(writer, arch, model_dir, config)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        durable.sync(temp)
        os.replace(temp, out)
        durable.sync_folder(out.parent)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ExportError(f"{out} cannot be written: {error.strerror or error}") from error
    finally:
        if temp.exists():
            temp.unlink()
    return out


def _rope_theta(config: dict[str, Any]) -> float:
    """transformers 5 keeps it in rope_parameters, 4 beside rope_scaling."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise ExportError(f"rotary scaling {kind} is not supported by the GGUF exporter")
    return float(rope.get("rope_theta", config.get("rope_theta", 10000.0)))


def _architecture(config: dict[str, Any]) -> str:
    kind = str(config.get("model_type"))
    if kind not in ARCHITECTURES:
        raise ExportError(f"architecture {kind} is not one the GGUF exporter writes ({', '.join(ARCHITECTURES)})")
    if config.get("use_sliding_window"):
        raise ExportError("sliding-window attention is not supported by the GGUF exporter")
    if config.get("layer_types") and set(config["layer_types"]) != {"full_attention"}:
        raise ExportError("layers of different attention are not supported by the GGUF exporter")
    if config.get("attention_bias") and kind == "llama":
        raise ExportError("llama attention with biases is not supported by the GGUF exporter")
    if config.get("mlp_bias"):
        raise ExportError("an MLP with biases is not supported by the GGUF exporter")
    if config.get("hidden_act", "silu") != "silu":
        raise ExportError(f"the activation {config['hidden_act']} is not supported by the GGUF exporter")
    _rope_theta(config)
    return ARCHITECTURES[kind]


def _add_config(writer: Any, arch: str, config: dict[str, Any]) -> None:
    from gguf import LlamaFileType

    heads = config["num_attention_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    writer.add_name(Path(str(config.get("_name_or_path", ""))).name or arch)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads") or heads)
    writer.add_rope_freq_base(_rope_theta(config))
    writer.add_rope_dimension_count(head_dim)
    if head_dim * heads != config["hidden_size"]:
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)
    writer.add_layer_norm_rms_eps(config.get("rms_norm_eps", 1e-6))
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(LlamaFileType.MOSTLY_F16)


def _pre_tokenizer(tokenizer: dict[str, Any]) -> str:
    """llama.cpp's name of the tokenizer's pre-tokenizer, read from its structure."""
    if tokenizer.get("model", {}).get("type") != "BPE":
        raise ExportError(f"a {tokenizer.get('model', {}).get('type')} tokenizer cannot be written as a GGUF here")
    pre = tokenizer.get("pre_tokenizer") or {}
    parts = pre.get("pretokenizers", [pre])
    kinds = [p.get("type") for p in parts]
    if kinds == ["Digits", "ByteLevel"] and parts[0]["individual_digits"] and parts[1].get("use_regex", True):
        return "smollm"
    if kinds == ["ByteLevel"] and parts[0].get("use_regex", True):
        return "gpt-2"
    if kinds == ["Split", "ByteLevel"] and parts[0]["pattern"].get("Regex") == QWEN2_SPLIT:
        return "qwen2"
    raise ExportError(f"the tokenizer's pre-tokenizer ({'+'.join(map(str, kinds))}) has no GGUF name known here")


def _add_tokenizer(writer: Any, model_dir: Path, config: dict[str, Any]) -> None:
    from gguf import TokenType

    tokenizer = read_object(model_dir / tokens.FILE)
    options = tokens.options(model_dir)
    pre = _pre_tokenizer(tokenizer)
    names = _vocabulary(tokenizer)
    types = dict.fromkeys(names, TokenType.NORMAL)
    for token in tokenizer.get("added_tokens", []):
        types[token["id"]] = TokenType.CONTROL if token["special"] else TokenType.USER_DEFINED
    size = config["vocab_size"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list([names.get(i, f"[PAD{i}]") for i in range(size)])
    writer.add_token_types([types.get(i, TokenType.UNUSED) for i in range(size)])
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in tokenizer["model"]["merges"]])
    ids = {text: i for i, text in names.items()}
    for role, add in (
        ("bos", writer.add_bos_token_id),
        ("eos", writer.add_eos_token_id),
        ("unk", writer.add_unk_token_id),
        ("pad", writer.add_pad_token_id),
    ):
        text = options.get(f"{role}_token")
        if text in ids:  # one that the vocabulary lacks has no id to give
            add(ids[text])
    writer.add_add_bos_token(bool(options.get("add_bos_token", False)))
    writer.add_add_space_prefix(False)
    if text := tokens.chat_template(model_dir):
        writer.add_chat_template(text)


def _add_tensors(writer: Any, arch: str, model_dir: Path, config: dict[str, Any]) -> None:
    import torch
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map
    from safetensors import safe_open

    kind = next(k for k, v in MODEL_ARCH_NAMES.items() if v == arch)
    names = get_tensor_name_map(kind, config["num_hidden_layers"])
    heads = config["num_attention_heads"]
    kv_heads = config.get("num_key_value_heads") or heads
    for shard in weight_files(model_dir):
        with safe_open(shard, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118  safe_open is no mapping
                if (key == HEAD and config.get("tie_word_embeddings")) or IGNORED.search(key):
                    continue
                name = names.get_name(key, try_suffixes=(".weight", ".bias"))
                if name is None:
                    raise ExportError(f"tensor {key} of {shard.name} has no place in a {arch} GGUF")
                tensor = file.get_tensor(key).to(torch.float32)
                if arch == "llama" and key.endswith(("q_proj.weight", "k_proj.weight")):
                    n = heads if "q_proj" in key else kv_heads
                    tensor = tensor.view(n, 2, -1, tensor.shape[1]).transpose(1, 2).reshape(tensor.shape)
                if not torch.isfinite(tensor).all():
                    raise ExportError(f"{shard}: tensor {key} holds values that are not finite (NaN or infinite)")
                if tensor.ndim > 1:
                    tensor = tensor.to(torch.float16)
                    if not torch.isfinite(tensor).all():
                        raise ExportError(f"tensor {key} does not fit F16 (beyond 65504)")
                writer.add_tensor(name, tensor.contiguous().numpy())
