"""Unsloth's layers under our loop, in an environment of its own.

Unsloth patches transformers, peft and torch's checkpointing when it is imported and takes other versions of
transformers than the rest of this project, so `train.python` names the interpreter of its environment, in which
`training/process.py` runs the same stage on the same folders.

Unsloth is told the lengths of a row's documents (`packed_seq_lengths`) and their positions; with anything less, or
with a mask besides, its layers let documents see each other (seen with 2026.10.9), and a row that is longer than the
length it was loaded for is cut off with a warning only. So both are always given and the length is checked.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dpr_mini import recipe
from dpr_mini.models.check import check_weights
from dpr_mini.models.folder import ModelError, finite
from dpr_mini.training import TrainError


def load(model_dir: Path, config: recipe.TrainConfig, dtype: Any, longest: int) -> Any:
    """The causal LM of `model_dir` as Unsloth makes it, adapters inside, for rows of up to `longest` tokens.

    Raises TrainError for a folder that is not whole: Unsloth's loader makes up what is missing.
    """
    try:
        check_weights(model_dir)
        finite(model_dir)
    except ModelError as error:
        raise TrainError(str(error)) from error
    from unsloth import FastLanguageModel

    checkpoints: str | bool = "unsloth" if config.offload_checkpoints else config.gradient_checkpointing
    full = config.mode == "full"
    model, _ = FastLanguageModel.from_pretrained(
        str(model_dir),
        max_seq_length=longest,
        dtype=dtype,
        load_in_4bit=config.mode == "qlora",
        load_in_16bit=config.mode == "lora",
        full_finetuning=full,
        use_gradient_checkpointing=checkpoints,
        local_files_only=True,
        use_exact_model_name=True,
        trust_remote_code=False,
    )
    if not full:
        model = FastLanguageModel.get_peft_model(
            model,
            r=config.lora_rank,
            lora_alpha=2 * config.lora_rank,
            lora_dropout=0.0,
            bias="none",
            target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
            use_gradient_checkpointing=checkpoints,
        )
    FastLanguageModel.for_training(model)
    model = model if full else model.get_base_model()
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float() if not full or config.weights == "float32" else parameter.data
    return model
