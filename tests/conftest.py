"""Shared fixtures: the embedded 135M model, and tiny random models that need no download."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest


def has_gpu(dev: Path = Path("/dev")) -> bool:
    """Whether torch has a CUDA device. Only where a driver's file is there torch is loaded to tell.

    The driver's tool says neither: containers lack it on machines with a GPU, CUDA_VISIBLE_DEVICES means nothing to it.
    """
    if not any(any(dev.glob(name)) for name in ("nvidia[0-9]*", "nvhost-gpu", "dxg")):
        return False
    import torch

    return torch.cuda.is_available()


def refuse_interpreter(gpu: bool) -> None:
    """Ends the session, in one line, where GPU tests would pass on a CPU: in Triton's interpreter."""
    if not gpu:
        return
    from dpr_kernels.backends import INTERPRETED, ON_COPIES

    if INTERPRETED:
        raise pytest.UsageError(f"torch has a GPU, but {ON_COPIES}, or hide the GPU with CUDA_VISIBLE_DEVICES=''")


def fix_interpreter() -> None:
    """Triton 3.6's interpreter makes an int of an array of one value, which numpy 2.4 refuses: every kernel with a loop
    over programs fails. 3.8 has the line below; with 3.6 on a GPU nothing is interpreted and nothing is wrong."""
    try:
        triton, numpy = (tuple(map(int, metadata.version(n).split(".")[:2])) for n in ("triton", "numpy"))
    except metadata.PackageNotFoundError:
        return
    if triton >= (3, 8) or numpy < (2, 4):
        return
    from triton.runtime import interpreter

    patch = interpreter._patch_lang_tensor

    def patched(tensor: type, scope: interpreter._LangPatchScope) -> None:
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.squeeze()))

    interpreter._patch_lang_tensor = patched


os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: spinning threads ruin shared cores
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # hundreds of child processes would each compile the package again
HAS_GPU = has_gpu()
if not HAS_GPU:  # before dpr_kernels: its Triton kernels run in the interpreter
    os.environ.setdefault("TRITON_INTERPRET", "1")
    fix_interpreter()

# A shell's background job has SIGINT ignored, its children inherit that, and every test of Ctrl-C would fail.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parents[1]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="session")
def embedded_model() -> Path:
    """SmolLM2-135M-Instruct as a Hugging Face folder (converted once, into the cache folder)."""
    from dpr_mini.models.resolve import EMBEDDED, resolve_model

    return resolve_model(EMBEDDED)


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smoke model with another rotary base: trained, so its logits are decisive, and not transformers' default."""
    folder = tmp_path_factory.mktemp("small") / "model"
    shutil.copytree(ROOT / "recipes" / "smoke-model", folder, ignore=shutil.ignore_patterns("*.gguf"))
    config = json.loads((folder / "config.json").read_text())
    config["rope_parameters"]["rope_theta"] = 500_000.0
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def find_sglang() -> str | None:
    """Interpreter of SGLang's own environment: DPR_MINI_SGLANG, or the one that `make test-sglang` builds."""
    usual = (ROOT / ".sglang" / "bin" / name for name in ("sglang-python", "python"))
    if named := os.environ.get("DPR_MINI_SGLANG"):
        if not shutil.which(named):
            raise pytest.UsageError(f"DPR_MINI_SGLANG: no interpreter {named!r}")
        return str(Path(named).absolute())
    return next((str(p) for p in usual if p.exists()), None)


@pytest.fixture(scope="session")
def sglang_python() -> str:
    if (found := find_sglang()) is None:
        pytest.skip("no SGLang environment here; `make test-sglang` builds one and runs these tests")
    return found


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


@pytest.fixture(scope="session")
def unsloth_python() -> str:
    """Interpreter of Unsloth's own environment: DPR_MINI_UNSLOTH, or the one that `make test-unsloth` builds."""
    usual = ROOT / ".unsloth" / "bin" / "python"
    if not (found := os.environ.get("DPR_MINI_UNSLOTH") or (str(usual) if usual.exists() else "")):
        pytest.skip("no Unsloth environment here; `make test-unsloth` builds one and runs these tests")
    return found


class Driver:
    """A stub for NVIDIA's driver: a tool called nvidia-smi that prints these cards, and an nvcc beside it."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "driver-bin"
        self.bin.mkdir()
        self.cards, self.slices = self.bin / "cards", self.bin / "slices"
        cat = "/bin/cat"  # also where a test leaves nothing else on PATH
        self.program("nvidia-smi", f'case "$1" in --query-gpu=*) {cat} {self.cards};; -L) {cat} {self.slices};; esac')
        self.program("nvcc", "exit 1")

    def program(self, name: str, text: str) -> Path:
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return path

    def show(self, *free: float | str, total: float | str = 81920, mig: str = "Disabled") -> None:
        """One card for each number of free MiB; the first is GPU-a0, then GPU-b1 ..."""
        rows = [f"GPU-{chr(97 + i)}{i}, NVIDIA Test Card, {total}, {f}, 580.1, 9.0, {mig}" for i, f in enumerate(free)]
        whole = self.bin / "cards.new"  # a reader sees the old ones or the new ones
        whole.write_text("".join(row + "\n" for row in rows))
        whole.replace(self.cards)


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Driver:
    """A driver with one free card of 80 GiB, first on PATH."""
    made = Driver(tmp_path)
    made.show(81920)
    monkeypatch.setenv("PATH", str(made.bin), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return made


@pytest.fixture
def run_stand_in() -> Iterator[Callable[[Any], Any]]:
    """start(what) -> a stub for a server or a router that answers on a port; all of them end with the test."""
    from stand_in import Running

    made: list[Any] = []

    def start(what: Any) -> Any:
        made.append(Running(what))
        return made[-1]

    yield start
    for one in made:
        one.end()


@pytest.fixture
def training_folder() -> Callable[..., Path]:
    """make(parent, packs) -> parent/out, beside parent/packs with these packs, or with so many of the smoke model's.

    The latter count up in its tokens, two documents a row, of which the first half is not trained on.
    """
    from dpr_mini.files.rows import write_rows
    from dpr_mini.types import Pack, to_row

    def counting(r: int, length: int = 24) -> Pack:
        ids = tuple(5 + (r + d * 11 + i) % 40 for d in range(2) for i in range(length))
        trained = tuple(i >= length // 2 for _ in range(2) for i in range(length))
        return Pack((f"doc-{r}-0", f"doc-{r}-1"), ids, trained, (0, length))

    def make(parent: Path, packs: int | list[Pack]) -> Path:
        rows = [counting(r) for r in range(packs)] if isinstance(packs, int) else packs
        (parent / "packs").mkdir(parents=True)
        write_rows(parent / "packs" / "rows.jsonl", ({"id": f"row-{i}"} | to_row(p) for i, p in enumerate(rows)))
        (parent / "out").mkdir()
        return parent / "out"

    return make


class Outcomes:
    """Writes what each test of a session came to, and with which server, to a file that is kept as evidence."""

    def __init__(self, out: Path) -> None:
        self.out, self.tests = out, {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        row = self.tests.setdefault(report.nodeid, {"outcome": "passed", "seconds": 0.0})
        row["seconds"] = round(row["seconds"] + report.duration, 2)  # with what it had to wait for, e.g. a server
        if report.outcome != "passed":
            row["outcome"] = report.outcome if report.when == "call" else f"{report.outcome} in {report.when}"
        row |= dict(report.user_properties)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        from dpr_mini.engines.sglang import launch
        from dpr_mini.machine.facts import facts

        python, ours = find_sglang(), facts()
        if python is None or not self.tests:
            return
        found = {
            "server": launch.versions(python),
            "client": ours["versions"],
            "commit": ours["commit"],
            "machine": ours["machine"],
            "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "command": " ".join(["python -m pytest", *session.config.invocation_params.args]),
            "passed": sum(row["outcome"] == "passed" for row in self.tests.values()),
            "of": len(self.tests),
            "tests": self.tests,
        }
        self.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help="only tests that load no torch and take no second")


def pytest_configure(config: pytest.Config) -> None:
    refuse_interpreter(HAS_GPU)  # here also where tests are spread over processes
    if config.getoption("--fast"):
        from fast import Fast

        config.pluginmanager.register(Fast())
    if out := os.environ.get("DPR_MINI_CONFORMANCE_OUT"):
        config.pluginmanager.register(Outcomes(config.rootpath / out))


# Files that take longest begin first, in this order, so that no process is left with one of them at the end.
LONGEST = [
    *(
        "conformance",
        "train_modes",
        "resume",
        "resume_countdown",
        "gpu_script",
        "pipeline",
        "train",
        "process",
        "sglang_own_server",
    ),
    *("linear_cross_entropy", "plan", "memory_trace", "bench", "cli", "mutations", "bench_kernels", "compile"),
    *("grade_hostile", "server_process", "memory", "simulate", "gguf", "interrupt"),
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem.removeprefix("test_"), len(place)))  # files stay together


def pytest_collection_finish() -> None:
    torch = sys.modules.get("torch")
    refuse_interpreter(torch is not None and torch.cuda.is_available())  # a GPU that no file in /dev told of
