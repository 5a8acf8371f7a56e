"""Operators for long-sequence fine-tuning on one device. They depend on torch alone; triton is needed for the kernels,
transformers for `apply` and `attention.register`, another library only where `impl=` names it.

    linear_cross_entropy      loss of a linear head without the (M, V) logits; its parts: head_loss (options, checks,
                              which rows count), head_kernels (Triton), head_chunked (plain PyTorch),
                              head_libraries
    rms_norm, add_rms_norm    RMSNorm, alone and with the residual addition before it
    swiglu                    silu(gate) * up
    rope                      rotary position embedding of query and key in one launch
    varlen_attention          causal attention over packed documents; attention.register makes it known to transformers
    tiled_mlp                 an MLP over slices of tokens
    offload_checkpoints       gradient checkpoints that wait in host memory
    apply                     these inside one transformers model, and out of it again

`backends.OPS` lists the implementations of the first five names, `attention.IMPLS` those of varlen_attention. The
definitions of the first five, to be checked by eye, are in `reference`.
"""

from dpr_kernels import custom_ops
from dpr_kernels.apply import apply
from dpr_kernels.attention import varlen_attention
from dpr_kernels.linear_cross_entropy import linear_cross_entropy
from dpr_kernels.offload import offload_checkpoints, offloaded_checkpoint
from dpr_kernels.rms_norm import add_rms_norm, rms_norm
from dpr_kernels.rope import rope
from dpr_kernels.swiglu import swiglu
from dpr_kernels.tiled_mlp import tiled_mlp

__all__ = [
    "add_rms_norm",
    "apply",
    "linear_cross_entropy",
    "offload_checkpoints",
    "offloaded_checkpoint",
    "rms_norm",
    "rope",
    "swiglu",
    "tiled_mlp",
    "varlen_attention",
]
