"""Training steps of a model built from its config with random weights: tokens/s, MFU, peak memory, longest row.

    python bench/train.py [--model 0.5B] [--backends ours plain liger] [--mode full lora] [--tokens 8192 32768]
                          [--document 4096] [--longest] [--budget-seconds N] [--out FILE]

Without an install: PYTHONPATH=.:kernels. One packed row a step: documents of `--document` random tokens, the first of
each without a label. Every backend runs in a process of its own (Liger patches modules) with expandable_segments, in
bf16 on a GPU and float32 on a CPU, checkpointing every layer, AdamW on the trained weights in their own dtype:
  ours            dpr_kernels.apply: packed attention, norms, SwiGLU, RoPE, linear cross-entropy (reference on a CPU)
  ours+offload    and checkpoints on the host; ours+offload+tiled  and the MLP in tiles of 4096 tokens
  plain           transformers as it is: SDPA with the packed row's dense mask (flash_attention_2 where installed)
  liger           the same with Liger's patches and its linear cross-entropy
Time is the median of `--steps` steps after two. `first_loss` is the loss before any step: equal weights and data, so it
must agree between backends. Peak memory: the allocator's maximum over the timed steps, weights and all.
MFU = FLOP a step / time / matmul rate measured in the same process (8192^3 bf16 on a GPU), with
  FLOP = 6 N T + 6 layers Hq D sum(L^2) for full training of rows of T tokens; 4 N + 6 N_lora in place of 6 N for LoRA,
N the weights that multiply (the head, not the embedding table's look-up), L the documents' lengths, attention causal:
2 L^2 forward + 4 L^2 backward a head and value; what checkpointing or a kernel computes again is not counted.
`--longest`: from the largest of `--tokens` doubling until memory is out, two steps each; `document` stays, as a row of
more documents. Run again, it goes on: rows measured under equal conditions are kept.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: spinning threads ruin the times of shared cores

import dpr_kernels
import torch
from dpr_kernels import backends

from dpr_mini.facts import facts, installed
from dpr_mini.store import write_json

# bench/kernels.py has the name of the Hugging Face package that transformers looks for on sys.path.
sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != Path(__file__).resolve().parent]

MODELS = {  # family, vocabulary, hidden, intermediate, layers, heads, key heads, tied
    "tiny": ("llama", 256, 64, 128, 2, 4, 2, True),
    "135M": ("llama", 49152, 576, 1536, 30, 9, 3, True),
    "0.5B": ("qwen2", 151936, 896, 4864, 24, 14, 2, True),
    "1.5B": ("qwen2", 151936, 1536, 8960, 28, 12, 2, True),
    "7B": ("qwen2", 152064, 3584, 18944, 28, 28, 4, False),
}
BACKENDS = ("ours", "plain", "liger", "ours+offload", "ours+offload+tiled")
LIBRARIES = ("torch", "triton", "transformers", "peft", "liger-kernel", "flash-attn")


def child(job: dict[str, Any]) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    backend, mode = job["backend"], job["mode"]
    if reason := missing(backend, mode, device):
        tell({"status": "missing", "reason": reason})
        return
    rate = matmul_rate(device)
    lengths = list(job["tokens"])
    while lengths:
        tokens = lengths.pop(0)
        try:
            row = measure(job, tokens, device, steps=2 if tokens in job["doubled"] else job["steps"])
            row["mfu"] = round(row["flop"] / row["step_s"] / rate, 4)
            tell({"tokens": tokens, "status": "ok", **row, "matmul_flop_per_s": rate})
        except torch.OutOfMemoryError as error:
            tell({"tokens": tokens, "status": "oom", "reason": str(error).splitlines()[0][:200]})
            return
        if job["longest"] and not lengths and tokens < job["most"]:
            lengths = [2 * tokens]
            job["doubled"] += lengths


def tell(row: dict[str, Any]) -> None:
    print("ROW " + json.dumps(row), flush=True)


def missing(backend: str, mode: str, device: torch.device) -> str:
    if mode == "lora" and find_spec("peft") is None:
        return "peft is not installed (pip install peft)"
    return backends.why_not("liger", device) if backend == "liger" else ""


def matmul_rate(device: torch.device) -> float:
    side, dtype = (8192, torch.bfloat16) if device.type == "cuda" else (1024, torch.float32)
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    out, times = torch.empty_like(a), []
    for _ in range(12):
        sync(device)
        begun = time.perf_counter()
        for _ in range(4):
            torch.mm(a, b, out=out)
        sync(device)
        times.append((time.perf_counter() - begun) / 4)
    return 2 * side**3 / statistics.median(times[2:])


def sync(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def build(job: dict[str, Any], tokens: int, device: torch.device) -> tuple[Any, str]:
    """The model, ready to train, and which attention it runs."""
    from transformers import AutoConfig, AutoModelForCausalLM

    family, vocab, hidden, inner, layers, heads, kv_heads, tied = MODELS[job["model"]]
    ours = job["backend"].startswith("ours")
    attention = "flash_attention_2" if find_spec("flash_attn") and device.type == "cuda" and not ours else "sdpa"
    config = AutoConfig.for_model(
        family, vocab_size=vocab, hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=kv_heads, tie_word_embeddings=tied,
        max_position_embeddings=1 << 20,
    )  # fmt: skip
    torch.manual_seed(0)
    with torch.device(device):
        dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=attention)
    if job["backend"] == "liger":
        from liger_kernel.transformers import _apply_liger_kernel_to_instance

        _apply_liger_kernel_to_instance(model=model)
    if job["mode"] == "lora":
        from peft import LoraConfig, get_peft_model

        model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"))
        model.enable_input_require_grads()
    if ours:
        tiles = -(-tokens // 4096) if "tiled" in job["backend"] else None
        print(dpr_kernels.apply(model, linear_cross_entropy="auto", tiled_mlp=tiles), flush=True)
        attention = "dpr_varlen"
    if "offload" in job["backend"]:
        dpr_kernels.offload_checkpoints(model)
    else:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model.train(), attention


def batch(job: dict[str, Any], tokens: int, device: torch.device) -> tuple[dict[str, Any], list[int]]:
    each = min(job["document"], tokens)
    ends = [*range(0, tokens, each), tokens]
    lengths = [b - a for a, b in pairwise(ends)]
    ids = torch.randint(MODELS[job["model"]][1], (1, tokens), generator=torch.Generator().manual_seed(1))
    labels = ids.clone()
    labels[0, ends[:-1]] = -100
    row = {"input_ids": ids, "labels": labels, "position_ids": torch.cat([torch.arange(n) for n in lengths])[None]}
    row = {name: x.to(device) for name, x in row.items()} | {"use_cache": False}
    if job["backend"].startswith("ours"):
        bounds = torch.tensor(ends, dtype=torch.int32, device=device)
        row |= {"cu_seq_lens_q": bounds, "cu_seq_lens_k": bounds, "max_length_q": each, "max_length_k": each}
    return row, lengths


def flop(job: dict[str, Any], model: Any, lengths: list[int]) -> float:
    _, vocab, hidden, _, layers, _, _, _ = MODELS[job["model"]]
    linear = {n: p.numel() for n, p in model.named_parameters() if p.ndim == 2 and "embed_tokens" not in n}
    lora = sum(v for n, v in linear.items() if "lora_" in n)
    head = 0 if any("lm_head" in n for n in linear) else vocab * hidden  # tied: listed as the embedding only
    base = sum(linear.values()) - lora + head
    attention = 6.0 * layers * hidden * sum(n * n for n in lengths)  # hidden = Hq D in all of MODELS
    return ((4.0 if lora else 6.0) * base + 6.0 * lora) * sum(lengths) + attention


def measure(job: dict[str, Any], tokens: int, device: torch.device, steps: int) -> dict[str, Any]:
    gc.collect()  # a patched model is a cycle, and the one before must be gone
    if device.type == "cuda":
        torch.cuda.empty_cache()
    model, attention = build(job, tokens, device)
    row, lengths = batch(job, tokens, device)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5, fused=device.type == "cuda")
    times, losses = [], []
    for step in range(2 + steps):
        if device.type == "cuda" and step == 2:
            torch.cuda.reset_peak_memory_stats()
        sync(device)
        begun = time.perf_counter()
        loss = model(**row).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        sync(device)
        times.append(time.perf_counter() - begun)
        losses.append(loss.item())
    seconds = statistics.median(times[2:])
    found = {
        "attention": attention,
        "steps": steps,
        "step_s": float(f"{seconds:.5g}"),
        "tokens_per_s": float(f"{tokens / seconds:.5g}"),
        "flop": flop(job, model, lengths),
        "first_step_s": round(times[0], 2),
        "first_loss": losses[0],
        "last_loss": losses[-1],
    }
    if device.type == "cuda":
        found["peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 3)
    return found


def run(job: dict[str, Any], seconds: float) -> list[dict[str, Any]]:
    """The child's rows; one that ends badly adds a row that says so, one too late leaves the rest to the next run."""
    command = [sys.executable, __file__, "--child", json.dumps(job)]
    environment = {"PYTORCH_ALLOC_CONF": "expandable_segments:True", **os.environ}
    rows, tail = [], []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        late = threading.Timer(seconds, process.kill)
        late.start()
        for line in process.stdout:
            if line.startswith("ROW "):
                rows.append(json.loads(line[4:]))
                print(job["backend"], job["mode"], rows[-1], flush=True)
            else:
                tail = [*tail[-20:], line]
        code = process.wait()
        stopped = late.finished.is_set()
        late.cancel()
    if code and stopped:
        print(f"{job['backend']} {job['mode']}: stopped at the budget", flush=True)
    elif code:
        rows.append({"status": "failed", "reason": ("".join(tail).strip().splitlines() or [f"exit {code}"])[-1][:300]})
    return rows


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="0.5B")
    parser.add_argument("--backends", nargs="*", choices=BACKENDS, default=BACKENDS[:3])
    parser.add_argument("--mode", nargs="*", choices=["full", "lora"], default=["full", "lora"])
    parser.add_argument("--tokens", nargs="*", type=int, default=[8192, 32768])
    parser.add_argument("--document", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--longest", action="store_true")
    parser.add_argument("--most", type=int, default=1 << 20, help="where doubling ends")
    parser.add_argument("--budget-seconds", type=float, default=1e6)
    parser.add_argument("--resume", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--out", type=Path, help="default: bench/results/train-<device>.json")
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    begun, chosen = time.monotonic(), options()
    if chosen.child:
        child(chosen.child)
        return
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    out = chosen.out or Path(__file__).parent / "results" / f"train-{(gpu or 'cpu').lower().replace(' ', '-')}.json"
    code = b"".join(f.read_bytes() for f in (*sorted(Path(dpr_kernels.__file__).parent.glob("*.py")), Path(__file__)))
    source = hashlib.sha256(code).hexdigest()[:12]
    machine = {"device": gpu or f"cpu, {facts()['machine']['cpu']}", "versions": installed(LIBRARIES), "source": source}
    rows: list[dict[str, Any]] = []
    if chosen.resume and out.exists() and (old := json.loads(out.read_text()))["conditions"] == machine:
        rows = old["rows"]
    for mode in chosen.mode:
        for backend in chosen.backends:
            key = {"model": chosen.model, "mode": mode, "backend": backend, "document": chosen.document}
            had = [r for r in rows if key.items() <= r.items()]
            ended = any(r["status"] != "ok" for r in had)  # out of memory, missing or failed: longer rows are too
            lengths = [n for n in sorted(chosen.tokens) if all(r.get("tokens") != n for r in had)]
            if chosen.longest and not lengths and (last := max(r["tokens"] for r in had)) < chosen.most and not ended:
                lengths = [2 * last]
            left = chosen.budget_seconds - (time.monotonic() - begun)
            if ended or not lengths or left <= 0:
                continue
            how = {"tokens": lengths, "steps": chosen.steps, "longest": chosen.longest, "most": chosen.most}
            doubled = [n for n in lengths if n not in chosen.tokens]
            rows += [{**key, **row} for row in run({**key, **how, "doubled": doubled}, left)]
            out.parent.mkdir(parents=True, exist_ok=True)
            note = {} if gpu else {"cannot_show": "No GPU: PyTorch's reference kernels; no speed or memory of a GPU."}
            write_json(out, {"how": __doc__.strip(), **note, "conditions": machine, "facts": facts(), "rows": rows})
    print(f"\n{'':34}{'tokens':>8}{'tok/s':>10}{'MFU':>7}{'peak GiB':>10}{'first loss':>12}")
    for r in rows:
        name = f"{r['model']} {r['mode']} {r['backend']}"
        if r["status"] != "ok":
            print(f"{name:34}{r.get('tokens', ''):>8} {r['status']}: {r['reason'][:90]}")
            continue
        peak = r.get("peak_gib", "")
        print(f"{name:34}{r['tokens']:>8}{r['tokens_per_s']:>10}{r['mfu']:>7.1%}{peak:>10}{r['first_loss']:>12.5f}")
    print(out if gpu else f"{out}\nNo GPU here: these rows show that it runs, nothing of a GPU's speed or memory.")


if __name__ == "__main__":
    main()
