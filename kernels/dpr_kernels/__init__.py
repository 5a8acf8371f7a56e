"""Operators for long-sequence fine-tuning on one device, each beside its plain-PyTorch twin. Depends on torch only."""

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
