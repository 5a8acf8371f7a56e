r"""Generation: SGLang through our client with and without its prefix cache, its own bench client, the embedded engines.

    python bench/generate.py --python .sglang/bin/sglang-python [--model DIR] [--out bench/results/generate.json]

All on one machine in one run, on the same model. Two workloads, every answer cut at the same length:
  client: one turn, fresh random prompts, `--in-flight` at once, our client and `sglang.bench_serving` (without
    streaming, token ids in, greedy) in turns on one running server: what our client costs is 1 - ours / theirs, by the
    median of the pairs.
  dialogues: two turns, the second continuing the first's token list: every engine; tokens per second, share of the
    prompt tokens that was cached (per turn), most requests in flight.
Without --model a small random Llama is made whose end token is never drawn, so that all answers have the same length.
On a CPU the figures say how the parts compare there, nothing about a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from dpr_mini.engines.base import Completion, Engine, Request, SamplingParams, generate
from dpr_mini.files.rows import write_json
from dpr_mini.machine.facts import facts
from dpr_mini.recipe import ServerConfig

HERE = Path(__file__).parent


def main() -> None:
    args = options()
    with tempfile.TemporaryDirectory() as scratch:
        bench(args, Path(scratch))


def bench(args: argparse.Namespace, scratch: Path) -> None:
    from dpr_mini.engines.sglang.engine import SglangEngine

    model = args.model or random_model(scratch / "model")
    vocabulary = json.loads((model / "config.json").read_text())["vocab_size"]
    work = Workload(vocabulary - 1, args)
    rows: list[dict[str, Any]] = []
    pairs: list[dict[str, float]] = []
    server: dict[str, Any] = {}

    for cache in (True, False):
        config = ServerConfig(python=args.python, arguments={**args.arguments, "disable_radix_cache": not cache})
        with SglangEngine(model, window=args.in_flight, config=config, logs=scratch / "logs") as engine:
            list(generate(engine, work.single("warm up")))
            for repeat in range(args.repeats):
                if cache:
                    pairs.append(client_pair(engine, work, repeat, args, scratch))
                rows.append(dialogues("sglang" if cache else "sglang, prefix cache off", engine, work, repeat))
            server = server or engine.facts()
    for kind in args.embedded:
        from dpr_mini.engines import open_engine

        with open_engine(kind, model, window=args.in_flight) as engine:
            list(generate(engine, work.single("warm up")))
            rows += [dialogues(kind, engine, work, repeat) for repeat in range(args.repeats)]

    cost = statistics.median(1 - p["ours_tokens_per_s"] / p["raw_tokens_per_s"] for p in pairs)
    result = {
        "conditions": {
            **{k: v for k, v in facts().items() if k != "peak_rss_gib"},
            "load_average_at_end": round(os.getloadavg()[0], 2),
            "server": server,
            "model": args.model.name if args.model else "random Llama, 4 layers, hidden 256, vocabulary 512, float32",
            **{k: vars(args)[k] for k in ("in_flight", "requests", "prompt", "answer", "follow_up", "repeats")},
        },
        "client": {
            "pairs": pairs,
            "ours_tokens_per_s": statistics.median(p["ours_tokens_per_s"] for p in pairs),
            "raw_tokens_per_s": statistics.median(p["raw_tokens_per_s"] for p in pairs),
            "our_cpu_ms_per_request": statistics.median(p["our_cpu_ms_per_request"] for p in pairs),
            "cost": round(cost, 4),
        },
        "dialogues": rows,
    }
    write_json(args.out, result)
    table(result)


class Workload:
    """Random prompts of equal length; `seed` makes them fresh, so that nothing of an earlier repeat is cached."""

    def __init__(self, tokens: int, args: argparse.Namespace) -> None:
        self.tokens, self.args = tokens, args
        self.sampling = SamplingParams(args.answer, temperature=0.0)

    def ids(self, *seed: Any) -> tuple[int, ...]:
        draw = random.Random(repr(seed))
        return tuple(draw.randrange(4, self.tokens) for _ in range(self.args.prompt))

    def single(self, seed: str) -> list[Request]:
        return [Request(str(i), self.ids(seed, i), self.sampling, i) for i in range(self.args.requests)]

    def next_turn(self, request: Request, done: Completion) -> Request:
        said = self.ids("follow-up", request.id)[: self.args.follow_up]
        return Request(request.id, (*request.ids, *done.ids, *said), self.sampling, request.seed)


def dialogues(name: str, engine: Engine, work: Workload, repeat: int) -> dict[str, Any]:
    """Two turns of every prompt, no barrier between conversations, as dpr_mini/chat/conversation.py drives them."""
    waiting, open_, first = work.single(f"{name} {repeat}"), dict[str, Request](), {}
    turns: list[list[Completion]] = [[], []]
    begun = time.perf_counter()
    while waiting or open_:
        while waiting and len(open_) < engine.window:
            request = waiting.pop()
            open_[request.id] = first[request.id] = request
            engine.submit(request)
        for done in engine.poll():
            assert done.finish == "length" and len(done.ids) == work.args.answer, done
            if done.id in first:
                turns[0].append(done)
                open_[done.id] = work.next_turn(first.pop(done.id), done)
                engine.submit(open_[done.id])
            else:
                turns[1].append(done)
                del open_[done.id]
    seconds = time.perf_counter() - begun
    shares = [sum(c.cached_tokens for c in t) / sum(c.prompt_tokens for c in t) for t in turns]
    row = {
        "engine": name,
        "version": engine.name,
        "tokens_per_s": round(sum(len(c.ids) for t in turns for c in t) / seconds, 1),
        "seconds": round(seconds, 2),
        "cached_share_by_turn": [round(s, 4) for s in shares],
        "in_flight": min(engine.facts().get("most_in_flight", engine.window), work.args.requests),
    }
    print(row, file=sys.stderr, flush=True)
    return row


def client_pair(engine: Any, work: Workload, repeat: int, args: argparse.Namespace, scratch: Path) -> dict[str, float]:
    """The same number of equal requests by our client and by SGLang's own, in alternating order.

    Also the processor time that our client used for a request: what it takes from a server on the same cores.
    """
    cpu: list[float] = []

    def ours() -> float:
        begun, used = time.perf_counter(), time.process_time()
        drawn = sum(len(c.ids) for c in generate(engine, work.single(f"client {repeat}")))
        cpu.append(time.process_time() - used)
        return drawn / (time.perf_counter() - begun)

    def raw() -> float:
        out = scratch / f"raw-{repeat}.jsonl"
        command = [
            args.python, "-m", "sglang.bench_serving", "--backend", "sglang", "--dataset-name", "random-ids",
            "--base-url", engine.fleet.replicas[0].url, "--model", str(engine.logs / "sglang-model"),
            "--random-input-len", str(args.prompt), "--random-output-len", str(args.answer),
            "--random-range-ratio", "1", "--num-prompts", str(args.requests),
            "--max-concurrency", str(args.in_flight), "--tokenize-prompt",
            "--disable-stream", "--disable-tqdm", "--seed", str(repeat), "--output-file", str(out),
        ]  # fmt: skip
        environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if done.returncode or not out.exists():
            sys.exit(f"sglang.bench_serving failed: {done.stdout[-500:]}{done.stderr[-1500:]}")
        found = json.loads(out.read_text().splitlines()[-1])
        assert found["completed"] == args.requests, found["completed"]
        return found["total_output_tokens"] / found["duration"]

    order: Sequence[str] = ("ours", "raw") if repeat % 2 == 0 else ("raw", "ours")
    speeds = {f"{who}_tokens_per_s": round({"ours": ours, "raw": raw}[who](), 1) for who in order}
    speeds["our_cpu_ms_per_request"] = round(1000 * cpu[0] / args.requests, 3)
    print(speeds, file=sys.stderr, flush=True)
    return dict(sorted(speeds.items()))


def random_model(folder: Path) -> Path:
    """A Llama of random weights with the smoke model's tokenizer; token 511, its end token, is never drawn."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    shutil.copytree(HERE.parent / "recipes" / "smoke-model", folder, ignore=shutil.ignore_patterns("*.safetensors"))
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(
        LlamaConfig(
            vocab_size=512, hidden_size=256, intermediate_size=704, num_hidden_layers=4, num_attention_heads=8,
            num_key_value_heads=4, max_position_embeddings=4096, tie_word_embeddings=False, initializer_range=0.2,
            bos_token_id=1, eos_token_id=511, pad_token_id=0,
        )
    )  # fmt: skip
    with torch.no_grad():
        model.lm_head.weight[[1, 2, 511]] = 0.0  # logit 0, far below the largest of 500 random ones
    model.save_pretrained(folder)
    return folder


def table(result: dict[str, Any]) -> None:
    client = result["client"]
    ours, raw, cpu = (client[k] for k in ("ours_tokens_per_s", "raw_tokens_per_s", "our_cpu_ms_per_request"))
    print(f"\none turn, {result['conditions']['in_flight']} in flight, medians of {len(client['pairs'])} pairs:")
    print(f"  our client {ours:.0f} tok/s ({cpu:.2f} ms of CPU a request), sglang.bench_serving {raw:.0f} tok/s")
    print(f"  cost of our client: {client['cost']:.1%} (median over pairs)\n")
    print(f"{'two turns':26}{'median tok/s':>16}{'min':>8}{'max':>8}{'cached: turn 1':>16}{'turn 2':>8}{'flying':>11}")
    for name in dict.fromkeys(r["engine"] for r in result["dialogues"]):
        mine = [r for r in result["dialogues"] if r["engine"] == name]
        speed = [r["tokens_per_s"] for r in mine]
        one, two = mine[-1]["cached_share_by_turn"]
        print(
            f"{name:26}{statistics.median(speed):16.0f}{min(speed):8.0f}{max(speed):8.0f}{one:16.1%}{two:8.1%}"
            f"{mine[-1]['in_flight']:11}"
        )


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", required=True, help="interpreter of SGLang's environment")
    parser.add_argument("--model", type=Path, help="a model folder whose answers do not end by themselves")
    parser.add_argument("--arguments", type=json.loads, default={}, help="SGLang's own, as JSON")
    parser.add_argument("--embedded", nargs="*", default=["openvino", "hf"])
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--requests", type=int, default=128)
    parser.add_argument("--prompt", type=int, default=192, help="tokens")
    parser.add_argument("--answer", type=int, default=64, help="tokens")
    parser.add_argument("--follow-up", type=int, default=8, help="tokens")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "generate.json")
    return parser.parse_args()


if __name__ == "__main__":
    main()
