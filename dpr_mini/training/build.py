"""The model as the training loop wants it, and as a Hugging Face folder again.

full: every weight is trained, in float32 (masters; matmuls under autocast) or in bfloat16 alone. lora (arXiv
2106.09685): frozen weights in the matmuls' dtype, float32 adapters on every linear layer but the head. qlora (arXiv
2305.14314): the same over frozen weights in 4-bit NF4 with doubly quantised scales, through bitsandbytes.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import dpr_kernels
import torch
from dpr_kernels.attention import register
from torch import Tensor, nn

from dpr_mini import recipe
from dpr_mini.files import durable
from dpr_mini.files.rows import compare, read_sealed, write_sealed
from dpr_mini.machine import progress
from dpr_mini.models.check import CODE, check_weights
from dpr_mini.models.folder import ModelError
from dpr_mini.models.loading import load_causal_lm, not_finite
from dpr_mini.training import TrainError
from dpr_mini.training.checkpoints import disk_errors

LISTING = "model-files.json"  # beside the saved model: its files with size and sha256
TOKENIZER = [
    "tokenizer*.json", "tokenizer.model", "special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt",
    "merges.txt", "chat_template*", "additional_chat_templates/*.jinja",
]  # fmt: skip
LAYERS = {"dpr_kernels": "auto", "liger": "liger", "plain": None}  # backend -> whose norms, MLPs and rotations
ADAPTER = "default"  # peft's name for the only one


def load(model_dir: Path, config: recipe.TrainConfig, dtype: torch.dtype, device: torch.device) -> nn.Module:
    """The causal LM in `model_dir` on `device`, in training mode, with our packed attention and the recipe's switches.

    `dtype` is that of the matmuls. Raises TrainError for a folder that is not whole, a head that is not a plain linear
    layer, a library that is missing, or a backend that cannot run here or does not know the model.
    """
    progress.quiet_transformers()
    _kernels_run(device)
    options = {"attn_implementation": _attention(config)}
    if config.mode == "qlora":
        options |= {"quantization_config": _four_bits(dtype), "device_map": {"": device}}
    try:
        model = load_causal_lm(model_dir, dtype=_stored(config, dtype), **options)
    except ModelError as error:
        raise TrainError(str(error)) from error
    _check_head(model, model_dir)
    return _prepared(model, config, device)


def make(shape: Any, config: recipe.TrainConfig, dtype: torch.dtype, device: torch.device) -> nn.Module:
    """The same from a transformers configuration `shape`: random weights, drawn on `device`, nothing read or written.

    In mode qlora they are drawn in `dtype` and quantised there, so the card must hold them once. Raises TrainError.
    """
    from transformers import AutoModelForCausalLM

    _kernels_run(device)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(
            shape, dtype=_stored(config, dtype), attn_implementation=_attention(config)
        )
    if config.mode == "qlora":
        _quantise(model, dtype)
    return _prepared(model, config, device)


def _kernels_run(device: torch.device) -> None:
    """Raises TrainError where the loss's kernel, which every backend uses, must not run on `device`."""
    try:
        dpr_kernels.backends.pick("linear_cross_entropy", "auto", device)
    except RuntimeError as error:
        raise TrainError(str(error)) from None


def _attention(config: recipe.TrainConfig) -> str:
    name = "dpr_varlen" if config.attention == "auto" else f"dpr_varlen_{config.attention}"
    return register(name, config.attention)


def _stored(config: recipe.TrainConfig, dtype: torch.dtype) -> torch.dtype:
    return getattr(torch, config.weights) if config.mode == "full" else dtype


def _prepared(model: nn.Module, config: recipe.TrainConfig, device: torch.device) -> nn.Module:
    if config.mode != "full":
        model = _with_adapters(model, config)
    if config.mode != "qlora":
        model = model.to(device)
    _switch(model, config)
    return model.train()


def _switch(model: nn.Module, config: recipe.TrainConfig) -> None:
    """Layers, tiles and checkpoints as the recipe says; on this instance only."""
    layers = LAYERS[config.backend]
    if layers or config.tiled_mlp:
        try:
            ops = dict.fromkeys(("rms_norm", "add_rms_norm", "swiglu", "rope"), layers)
            dpr_kernels.apply(model, **ops, attention=None, tiled_mlp=config.tiled_mlp)
        except (ValueError, RuntimeError) as error:
            raise TrainError(f"train.backend={config.backend}: {error}; train.backend=plain takes any model") from None
    if config.offload_checkpoints:
        dpr_kernels.offload_checkpoints(model)
    elif config.gradient_checkpointing:
        # transformers' new name for it, which 5.17 does not have yet
        enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
        enable({"use_reentrant": False})


def _check_head(model: nn.Module, model_dir: Path) -> None:
    head, settings = model.get_output_embeddings(), model.config
    changers = ("final_logit_softcapping", "logits_scaling", "logit_scale")
    odd = [k for k in changers if getattr(settings, k, None) not in (None, 1.0)]
    if head is None or getattr(head, "bias", None) is not None or odd:
        raise TrainError(f"{model_dir}: the head is not a plain linear layer ({', '.join(odd) or type(head).__name__})")


def _four_bits(dtype: torch.dtype) -> object:
    from importlib.util import find_spec

    if missing := [name for name in ("bitsandbytes", "accelerate") if find_spec(name) is None]:
        raise TrainError(f"train.mode is qlora, but {missing[0]} is not installed: pip install 'dpr-mini[qlora]'")
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )


def _quantise(model: nn.Module, dtype: torch.dtype) -> None:
    """Every linear layer but the head in 4 bits, as `_four_bits` loads them; one after the other, on their device."""
    _four_bits(dtype)  # says so where bitsandbytes is missing
    from bitsandbytes.nn import Linear4bit, Params4bit

    head = model.get_output_embeddings()
    for name, layer in list(model.named_modules()):
        if not isinstance(layer, nn.Linear) or layer is head:
            continue
        small = Linear4bit(
            layer.in_features, layer.out_features, layer.bias is not None, compute_dtype=dtype, quant_type="nf4",
            device="meta",
        )  # fmt: skip
        weight = Params4bit(layer.weight.data, requires_grad=False, compress_statistics=True, quant_type="nf4")
        small.weight, small.bias = weight.to(layer.weight.device), layer.bias
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, small)
    model.is_loaded_in_4bit = True  # what peft asks for


def _with_adapters(model: nn.Module, config: recipe.TrainConfig) -> nn.Module:
    """Adapters of alpha = 2 x rank; everything else is frozen."""
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ModuleNotFoundError as error:
        raise TrainError(
            f"train.mode is {config.mode}, but {error.name} is not installed: pip install 'peft>=0.21'"
        ) from None
    lora = LoraConfig(
        r=config.lora_rank, lora_alpha=2 * config.lora_rank, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    model.requires_grad_(False)
    model = inject_adapter_in_model(lora, model)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return model


def merge_adapters(model: nn.Module, dtype: torch.dtype) -> None:
    """Put plain layers of `dtype` in host memory where adapters are: weight + adapter, added up in float32.

    A 4-bit weight is dequantised first, so that the merged model is the one that was trained, up to `dtype`.
    """
    layers = [(name, m) for name, m in model.named_modules() if hasattr(m, "lora_A")]
    for name, layer in layers:
        base = layer.get_base_layer()
        weight = _dequantised(base.weight).float() + layer.get_delta_weight(ADAPTER).float()
        plain = nn.Linear(base.in_features, base.out_features, base.bias is not None, device="meta")
        plain.weight = nn.Parameter(weight.to("cpu", dtype), requires_grad=False)
        if base.bias is not None:
            plain.bias = nn.Parameter(base.bias.detach().to("cpu", dtype), requires_grad=False)
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, plain)
    if getattr(model, "is_quantized", False):  # it is not any more, and must not be saved as if it were
        del model.config.quantization_config, model.hf_quantizer, model.quantization_method
        model.is_quantized = model.is_loaded_in_4bit = False


def _dequantised(weight: Tensor) -> Tensor:
    if not hasattr(weight, "quant_state"):
        return weight.detach()
    from bitsandbytes.functional import dequantize_4bit

    return dequantize_4bit(weight.detach(), weight.quant_state)


def save_model(path: Path, model: nn.Module, source: Path, dtype: torch.dtype) -> None:
    """A complete Hugging Face folder at `path`, or nothing: it is written beside, synced and moved in one step.

    A listing of its files stands beside it: `saved` holds the folder against that. Raises TrainError for weights that
    are not finite, and where what was written is not a whole model.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    if temporary.exists():
        shutil.rmtree(temporary)
    merge_adapters(model, dtype)
    if odd := not_finite(model.to(dtype)):
        raise TrainError(f"{path}: {odd} is not finite (NaN or infinite) in {dtype}; lower train.learning_rate")
    for name in CODE:  # it is not in the folder that is written
        if hasattr(model.config, name):
            delattr(model.config, name)
    with disk_errors():
        model.save_pretrained(temporary)
    for file in temporary.glob("*.safetensors"):  # written for nobody else to read, unlike all other files
        file.chmod((temporary / "config.json").stat().st_mode)
    for pattern in TOKENIZER:
        for file in filter(Path.is_file, source.glob(pattern)):
            (temporary / file.relative_to(source)).parent.mkdir(exist_ok=True)
            shutil.copy2(file, temporary / file.relative_to(source))
    try:
        check_weights(temporary)
    except ModelError as error:
        raise TrainError(f"the trained model was not written whole: {error}") from error
    write_sealed(path.with_name(LISTING), {"files": durable.seal(temporary)})
    os.replace(temporary, path)
    durable.sync_folder(path.parent)


def saved(path: Path) -> bool:
    """Whether `save_model` has finished. Raises StoreError where the folder is not what it left."""
    if not path.exists():
        return False
    again = f"delete {path} to train it again"
    listing = path.with_name(LISTING)
    if listing.exists():
        compare(path, read_sealed(listing, again).get("files", {}), again)
    return True


def choose_dtype(config: recipe.TrainConfig, device: torch.device) -> tuple[torch.dtype, str]:
    """The dtype of the matmuls and why. "auto" is bfloat16 only where the machine multiplies it in hardware.

    Raises TrainError for float32 matmuls of bfloat16 weights.
    """
    if config.weights == "bfloat16":
        if config.dtype == "float32":
            raise TrainError("train.weights is bfloat16 and train.dtype float32: leave train.dtype out")
        return torch.bfloat16, "the weights are"
    if config.dtype != "auto":
        return getattr(torch, config.dtype), "the recipe says so"
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability()
        fast = major >= 8
        return (torch.bfloat16 if fast else torch.float32), f"auto: the GPU is sm{major}{minor}"
    cpuinfo = Path("/proc/cpuinfo")
    flags = set(cpuinfo.read_text(encoding="utf-8").split()) if cpuinfo.exists() else set()
    extensions = sorted(flags & {"avx512_bf16", "amx_bf16"})
    if extensions:
        return torch.bfloat16, f"auto: the CPU has {' and '.join(extensions)}"
    return torch.float32, "auto: the CPU has neither avx512_bf16 nor amx_bf16"
