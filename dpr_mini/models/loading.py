"""Weights into memory through transformers: one way for the engine and the trainer, and a second look afterwards.

transformers fills what a checkpoint lacks with random numbers and only warns. Here its loading report is asked for, and
what is not whole, tied as it says, floating and finite is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dpr_mini.models.check import CODE, check_weights, read_config
from dpr_mini.models.folder import AGAIN, ModelError, finite
from dpr_mini.types import UserError


def load_causal_lm(folder: Path, **options: Any) -> Any:
    """The causal language model in `folder`, complete and finite; `options` are from_pretrained's.

    With a `quantization_config` among them the weights are read once more as they lie in the files. Raises ModelError;
    torch's OutOfMemoryError passes.
    """
    import torch

    folder = Path(folder)
    check_weights(folder)
    try:
        model, report = _from_pretrained(folder, **options)
    except (torch.OutOfMemoryError, UserError):
        raise
    except Exception as error:  # the border to transformers: whatever it raises over a folder is one line
        raise ModelError(f"cannot load {folder}: {type(error).__name__}: {error}") from error
    verify(model, report, folder)
    if "quantization_config" in options:
        finite(folder)  # in memory they are packed
    else:
        verify_values(model, folder)
    return model


def _from_pretrained(folder: Path, **options: Any) -> tuple[Any, dict[str, Any]]:
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    told = read_config(folder)
    kind = told["model_type"]
    if kind not in CONFIG_MAPPING:
        raise ModelError(f"{folder / 'config.json'}: transformers knows no model_type {kind!r}")
    config = CONFIG_MAPPING[kind].from_dict({k: v for k, v in told.items() if k not in CODE})
    return AutoModelForCausalLM.from_pretrained(
        folder,
        config=config,
        use_safetensors=True,
        trust_remote_code=False,
        local_files_only=True,
        output_loading_info=True,
        **options,
    )


def verify(model: Any, report: dict[str, Any], folder: Path) -> None:
    """Raises ModelError for missing, unexpected or mismatched tensors in transformers' loading report, and for a head
    that config.json ties to the embedding and that is another one."""
    for kind, what in (
        ("missing_keys", "is missing, and was made up of random numbers"),
        ("mismatched_keys", "has another shape than config.json needs"),
        ("unexpected_keys", "has no place in the model of config.json"),
        ("error_msgs", "could not be read"),
        ("conversion_errors", "could not be read"),
    ):
        if found := sorted(map(_name, report.get(kind) or ())):
            more = f" (and {len(found) - 1} others)" if len(found) > 1 else ""
            raise ModelError(f"{folder}: tensor {found[0]}{more} {what}; {AGAIN}")
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    tied = getattr(model.config.get_text_config(), "tie_word_embeddings", False)
    if tied and head is not None and head.weight is not embedding.weight:
        raise ModelError(
            f"{folder}: config.json ties the head to the embedding, but the weights have a head of its own: engines "
            'would read two models; if the head is right, say "tie_word_embeddings": false'
        )


def _name(key: Any) -> str:
    return str(key[0] if isinstance(key, tuple) else key)


def verify_values(model: Any, folder: Path) -> None:
    """Raises ModelError for the first parameter or buffer with a value that is no finite number, and for a parameter
    that is not floating."""
    for name, tensor in model.named_parameters():
        if not tensor.is_floating_point():
            raise ModelError(f"{folder}: tensor {name} is {tensor.dtype}, where weights are floating-point numbers")
    if odd := not_finite(model):
        raise ModelError(
            f"{folder}: {odd} holds values that are not finite (NaN or infinite) in {model.dtype}; {AGAIN}"
        )


def not_finite(model: Any) -> str:
    """Name of the first floating parameter or buffer with a value that is not finite; "" where there is none."""
    import torch

    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point() and tensor.numel():
            ends = torch.stack(tensor.detach().aminmax())  # without a copy; NaN passes into both
            if not ends.isfinite().all():
                return name
    return ""
