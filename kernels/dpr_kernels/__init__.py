"""Operators for long-sequence fine-tuning on one device, each beside its plain-PyTorch twin. Depends on torch only."""

from dpr_kernels.attention import varlen_attention
from dpr_kernels.reference import linear_cross_entropy

__all__ = ["linear_cross_entropy", "varlen_attention"]
