"""Which interpreter runs the SGLang server, with which arguments, on which files.

SGLang pins its own torch, so it lives in an environment of its own; the recipe's `engine.python` names its
interpreter. Nothing is imported across: the two meet on the model's files and on a port of 127.0.0.1.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from dpr_mini.engines.base import EngineError
from dpr_mini.machine import requirements
from dpr_mini.models.check import CODE, passed_on
from dpr_mini.models.folder import read_object
from dpr_mini.recipe import EngineConfig, serving

USUAL = (".sglang/bin/sglang-python", ".sglang/bin/python")  # where it is looked for if the recipe names none
RELEASE = "0.5.23"  # for GPUs
INSTALL = "tools/install_sglang.sh .sglang"  # every version as tools/sglang-0.5.23.lock has it
INSTALL_CPU = "tools/install_sglang_cpu.sh .sglang"
PACKAGES = ("sglang", "sgl-kernel", "sglang-kernel", "torch", "transformers", "triton", "flashinfer-python")

# A waiting prompt that shares its beginning with another one lets that go first and then finds it cached.
FLAGS: dict[str, Any] = {"schedule_policy": "lpm", "log_level_http": "warning"}
# No GPU: what SGLang needs to serve at all (slow: for tests). float32 as the other engines compute on a CPU.
CPU_FLAGS: dict[str, Any] = {
    "device": "cpu",
    "attention_backend": "torch_native",
    "sampling_backend": "pytorch",
    "grammar_backend": "none",
    "disable_overlap_schedule": True,
    "dtype": "float32",
    "mem_fraction_static": 0.3,
    "max_total_tokens": 65536,
}
CPU_ENVIRONMENT = {"SGLANG_USE_CPU_ENGINE": "1"}
# SGLang refuses a prompt of its last 7 places of a context and does not draw the last 2 tokens: it gets so many more.
CONTEXT_SLACK = 8
LONGER_CONTEXT = {"SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN": "1"}
BEYOND_PROMPT = 4  # tokens that prompt and answer together may have over max_req_input_len (0.5.9, 0.5.23)
# Flags that later releases call something else: (in the recipe, the first release that knows the new name, new name).
RENAMED = (("cuda_graph_max_bs", (0, 5, 16), "cuda_graph_max_bs_decode"),)
# Requests in flight, where engine.window is not given: what the server decodes together, and this share of its cache
# for each (a question, two turns of 512 tokens and room). Fewer than LEAST only starve it, since tokens in flight are
# bounded by the cache anyway; far beyond the 256 rows of its CUDA graphs a step only gets longer.
EACH, LEAST, MOST = 2048, 128, 512
RUNNING = 2048  # requests that SGLang decodes together at the least where max_running_requests is not given
MEM_FRACTION = 0.85  # a card's share for weights and cache where the recipe names none, about SGLang's own default
SERVER = Path(__file__).with_name("server.py")  # what SGLang's interpreter runs


def find_python(named: str | None, gpu: bool) -> str:
    """The interpreter to start the server with. Raises EngineError, with the command that installs one, for none."""
    install = INSTALL if gpu else INSTALL_CPU
    if named is None:
        named = next((p for p in USUAL if Path(p).exists()), None)
        if named is None:
            raise EngineError(f"no SGLang here: engine.python names no interpreter and there is no .sglang; {install}")
    path = shutil.which(named)
    if path is None:
        raise EngineError(f"engine.python: no interpreter {named!r}; make one: {install}")
    # absolute, but not resolved: a virtual environment's python is a link whose place says which environment
    return str(Path(path).absolute())


@cache
def versions(python: str) -> dict[str, str]:
    """Versions of PACKAGES that this interpreter has. Raises EngineError if it does not start or has no SGLang."""
    code = (
        "import json, importlib.metadata as m\n"
        f"names = {PACKAGES!r}\n"
        "releases = {(d.metadata['Name'] or '').lower().replace('_', '-'): d.version for d in m.distributions()}\n"
        "print(json.dumps({n: releases[n] for n in names if n in releases}))"
    )
    try:
        done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=False, timeout=120)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:  # ValueError: what it prints is no text
        raise EngineError(f"engine.python: {python} does not run: {error}") from None
    if done.returncode:
        raise EngineError(f"engine.python: {python} does not run: {(done.stderr.splitlines() or ['no message'])[-1]}")
    try:
        releases = json.loads(done.stdout)
    except (ValueError, RecursionError):
        releases = None
    if not isinstance(releases, dict):
        raise EngineError(f"engine.python: {python} is no Python interpreter: it said {done.stdout!r:.60}")
    if "sglang" not in releases:
        raise EngineError(f"engine.python: {python} has no sglang; run: {python} -m pip install sglang=={RELEASE}")
    return dict(releases)


def missing(config: EngineConfig) -> list[str]:
    """A line for each thing that a server of our own lacks on a GPU: its interpreter, packages, compilers."""
    if config.kind != "sglang" or config.urls:
        return []
    try:
        python = find_python(config.python, gpu=True)
        versions(python)
    except EngineError as error:
        return [str(error), *filter(None, [requirements.cuda_compiler()])]
    return list(filter(None, [requirements.cuda_compiler(cuda_home(python))]))


def number(release: str) -> tuple[int, ...]:
    """(0, 5, 15) of "0.5.15.post1"; () of what is no release."""
    return tuple(map(int, re.findall(r"\d+", release)[:3]))


def window(pool: int, running: int = RUNNING) -> int:
    """Requests in flight that keep a server busy: `pool` tokens of cache, `running` requests decoded together."""
    return min(running, MOST, max(LEAST, pool // EACH))


def command(
    python: str,
    model: Path,
    port: int,
    arguments: Mapping[str, Any],
    *,
    gpu: bool,
    deterministic: bool,
    release: str = RELEASE,
) -> list[str]:
    """The server's command line. `arguments` are SGLang's own, with _ or -; they override ours.

    An argument that was renamed is passed by the name that `release` has for it. Raises EngineError for one that a
    recipe may not set (serving.ARGUMENTS). The server's key is not in it: other users see command lines (server.py).
    """
    try:
        options = serving.arguments(dict(arguments))
    except ValueError as error:
        raise EngineError(f"engine.arguments: {error}") from None
    for old, since, new in RENAMED:
        now, other = (new, old) if number(release) >= since else (old, new)
        if other in options:
            options.setdefault(now, options.pop(other))
    flags = FLAGS | ({} if gpu else CPU_FLAGS) | ({"enable_deterministic_inference": True} if deterministic else {})
    flags |= options
    out = [python, "-u", str(SERVER), "--model-path", str(model), "--host", "127.0.0.1", "--port", str(port)]
    for name, value in flags.items():
        flag = "--" + name.replace("_", "-")
        if value is True:
            out.append(flag)
        elif value is not False and value is not None:
            out += [flag, str(value)]
    return out


def cuda_home(python: str) -> Path | None:
    """The CUDA toolkit that came into SGLang's environment by pip, where tools/install_sglang.sh has made it usable."""
    for home in Path(python).parent.parent.glob("lib/python3.*/site-packages/nvidia/cu*"):
        if (home / "bin/nvcc").is_file() and (home / "lib64/libcudart.so").exists():
            return home
    return None


def memory_share(arguments: Mapping[str, Any]) -> float:
    """The share of a card that the server takes for weights and cache; `arguments` as a recipe's section has them."""
    share = arguments.get("mem_fraction_static")
    return MEM_FRACTION if share is None else share


def serving_folder(model: Path, into: Path) -> Path:
    """A folder of links to `model` whose JSON files also speak to transformers 4, which SGLang 0.5.9 pins (0.5.23: 5).

    transformers 5 writes `rope_parameters`, which 4 overlooks: it would take its default base, and answer nonsense
    without a word. And it names tokenizer classes that 4 does not have, and lists tokens where 4 wants a mapping.
    Raises EngineError for rotary parameters that differ by layer: 4 has no words for them.
    """
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    for file in passed_on(model):  # what else lies there would be taken for the model, too
        os.symlink(file.resolve(), into / file.name)
    config = {key: value for key, value in read_object(model / "config.json").items() if key not in CODE}
    rope = config.get("rope_parameters") or {}
    if any(isinstance(value, dict) for value in rope.values()):
        raise EngineError(f"{model}: its rotary parameters differ by layer type, which cannot be told to SGLang 0.5.9")
    if "rope_theta" in rope:
        config.setdefault("rope_theta", rope["rope_theta"])
        if rope.get("rope_type", "default") != "default":
            config.setdefault("rope_scaling", {k: v for k, v in rope.items() if k != "rope_theta"})
    if "dtype" in config:
        config.setdefault("torch_dtype", config["dtype"])
    _put(into / "config.json", config)
    options = model / "tokenizer_config.json"
    if options.is_file():
        written = read_object(options)
        tokenizer = dict(written)
        if tokenizer.get("tokenizer_class") == "TokenizersBackend":
            tokenizer["tokenizer_class"] = "PreTrainedTokenizerFast"
        if isinstance(tokenizer.get("extra_special_tokens"), list):
            tokenizer.setdefault("additional_special_tokens", tokenizer.pop("extra_special_tokens"))
        if tokenizer != written:
            _put(into / options.name, tokenizer)
    return into


def _put(path: Path, value: Any) -> None:
    path.unlink(missing_ok=True)
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
