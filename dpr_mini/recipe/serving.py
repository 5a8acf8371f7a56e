"""What a recipe may tell an SGLang server: arguments by an allow-list, addresses without secrets.

SGLang has 340 (0.5.9) to 560 (0.5.23) arguments. Many load code or weights, write or read files, open further ports, or
say who may ask; releases add more. So what is not known to do none of these is refused.
"""

from __future__ import annotations

import difflib
import re
from typing import Any
from urllib.parse import urlsplit

from dpr_mini.messages import redacted

AUTH = "DPR_MINI_SGLANG_AUTH"  # variable of the environment: a key, or user:password, for the servers of engine.urls

# Arguments of SGLang 0.5.9, 0.5.23 or both (add_cli_args of their server_args.py), by their whole names. They choose
# kernels, number formats, sizes, the order of work or what is logged, by a number, a word or a switch.
ARGUMENTS = frozenset(
    re.findall(
        r"\w+",
        """
    attention_backend decode_attention_backend prefill_attention_backend sampling_backend grammar_backend
    bf16_gemm_backend fp4_gemm_backend fp8_gemm_backend moe_runner_backend mm_attention_backend
    dtype kv_cache_dtype quantization torchao_config enable_fp32_lm_head mamba_ssm_dtype
    triton_attention_num_kv_splits triton_attention_reduce_in_fp32 triton_attention_split_tile_size
    disable_flashinfer_autotune flashinfer_mla_disable_ragged enable_flashinfer_allreduce_fusion
    enable_fused_qk_norm_rope disable_shared_experts_fusion enable_torch_compile torch_compile_max_bs
    enable_deterministic_inference random_seed enable_nan_detection

    mem_fraction_static max_total_tokens max_running_requests max_queued_requests max_prefill_tokens
    chunked_prefill_size prefill_max_requests enable_mixed_chunk enable_dynamic_chunking page_size context_length
    schedule_policy schedule_conservativeness num_continuous_decode_steps stream_interval scheduler_recv_interval
    disable_overlap_schedule disable_radix_cache disable_chunked_prefix_cache radix_eviction_policy retraction_policy
    enable_hierarchical_cache hicache_ratio hicache_size hicache_write_policy hicache_io_backend hicache_mem_layout
    swa_full_tokens_ratio disable_hybrid_swa_memory max_mamba_cache_size mamba_full_memory_ratio cpu_offload_gb
    enable_memory_saver enable_two_batch_overlap enable_single_batch_overlap

    cuda_graph_bs cuda_graph_max_bs cuda_graph_bs_decode cuda_graph_max_bs_decode cuda_graph_bs_prefill
    cuda_graph_max_bs_prefill cuda_graph_backend_decode cuda_graph_backend_prefill disable_cuda_graph
    disable_cuda_graph_padding disable_decode_cuda_graph disable_prefill_cuda_graph enable_cudagraph_gc
    enable_piecewise_cuda_graph piecewise_cuda_graph_max_tokens

    device tp_size tensor_parallel_size dp_size data_parallel_size pp_size pipeline_parallel_size ep ep_size
    expert_parallel_size base_gpu_id gpu_id_step numa_node load_balance_method enable_p2p_check
    disable_custom_all_reduce enable_nccl_nvls enable_symm_mem enable_torch_symm_mem enable_mscclpp

    log_level log_level_http decode_log_interval show_time_cost enable_metrics enable_cache_report watchdog_timeout
    soft_watchdog_timeout dist_timeout sleep_on_idle skip_server_warmup gc_warning_threshold_secs
    weight_loader_disable_mmap weight_loader_prefetch_checkpoints weight_loader_prefetch_num_threads
    weight_loader_drop_cache_after_load
    """,
    )
)
_WORDS = re.compile(
    r".*(?:_backend(?:_\w+)?|dtype|_policy|_layout|_method|_level(?:_http)?)|quantization|device|torchao_config"
)
_LARGEST = 10**12  # of a number: tokens, bytes or seconds beyond it are a slip (ours)
_WORD = re.compile(r"[A-Za-z0-9_][\w.:+-]{0,99}", re.ASCII)  # no option, no path, no JSON


def arguments(given: dict[str, Any]) -> dict[str, Any]:
    """A recipe's `engine.arguments` by SGLang's own names, with _ for -.

    Raises ValueError for one that a recipe may not set, under another name than its whole one, twice, or to what is no
    number, word or switch. Its value is not repeated: it may be a secret.
    """
    out: dict[str, Any] = {}
    for spelling, value in given.items():
        name = spelling.replace("-", "_")
        if name not in ARGUMENTS:
            near = difflib.get_close_matches(name, ARGUMENTS, 1, 0.8)
            raise ValueError(
                f"{spelling.partition('=')[0]!r:.80} is not to be set here: only kernels, formats, sizes, schedule, "
                "GPUs and log level are, by SGLang's whole names" + (f"; did you mean {near[0]!r}?" if near else "")
            )
        if name in out:
            raise ValueError(f"{name!r} is there twice, with - and with _")
        if isinstance(value, str) and not _WORD.fullmatch(value):
            raise ValueError(f"{name!r} takes a number, a word such as fp8_e5m2, true or false")
        if _WORDS.fullmatch(name) and not isinstance(value, str | None):
            raise ValueError(f"{name!r} takes a word, such as auto")
        if name == "mem_fraction_static" and not (value is None or (isinstance(value, int | float) and 0 < value < 1)):
            raise ValueError(f"{name!r} takes a share of the card's memory, between 0 and 1")
        if isinstance(value, int | float) and not -1 <= value <= _LARGEST:  # -1 switches some of them off
            raise ValueError(f"{name!r} takes a number from -1 to {_LARGEST:,}")
        out[name] = value
    return out


def address(url: str) -> str:
    """A server's address, http(s)://host[:port][/path]. Raises ValueError for any other, and for one with a secret."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(f"{redacted(url)!r:.80} is no address; write http://host:port") from None
    if "@" in parts.netloc:
        raise ValueError(f"no user and password in an address: it is written to reports; set ${AUTH} to user:password")
    if parts.query or parts.fragment or {"?", "#"} & set(url):
        raise ValueError(f"no ? and # in an address; a server's key goes into ${AUTH}")
    if not url.isprintable() or " " in url or parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ValueError(f"{redacted(url)!r:.80} is no address; write http://host:port")
    return url
