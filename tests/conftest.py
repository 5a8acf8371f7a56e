"""Shared fixtures: the embedded 135M model, and tiny random models that need no download."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: spinning threads ruin shared cores

from collections.abc import Callable
from pathlib import Path

import pytest

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="session")
def embedded_model() -> Path:
    """SmolLM2-135M-Instruct as a Hugging Face folder (converted once, into the cache folder)."""
    from dpr_mini.model import EMBEDDED, resolve_model

    return resolve_model(EMBEDDED)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """make(model_type="llama", tied=True, **config) -> folder of a random two-layer model, seeded, pad == eos.

    Its tokenizer is a byte-level BPE of 300 tokens with SmolLM2's pre-tokenizer.
    """

    def make(model_type: str = "llama", tied: bool = True, **config: object) -> Path:
        import torch
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
        from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

        folder = tmp_path_factory.mktemp(model_type)
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
        tokenizer.decoder = decoders.ByteLevel()
        special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
        trainer = trainers.BpeTrainer(
            vocab_size=300, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
        )
        tokenizer.train_from_iterator(["the cat sat on the mat and then the other cat sat there"], trainer)
        PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            bos_token=special[1],
            eos_token=special[2],
            pad_token=special[2],
            unk_token=special[0],
            chat_template=TEMPLATE,
        ).save_pretrained(folder)
        shape = {
            "vocab_size": tokenizer.get_vocab_size(),
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 256,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 2,
            "tie_word_embeddings": tied,
            "initializer_range": 0.3,  # far from uniform, so that greedy has no near ties
        }
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **(shape | config)))
        for name, value in model.named_parameters():  # biases and norms start as 0 and 1: make them matter
            if value.ndim == 1:
                torch.nn.init.normal_(value, 1.0 if "norm" in name else 0.0, 0.2)
        model.save_pretrained(folder)
        return folder

    return make
