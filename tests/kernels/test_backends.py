"""Which implementation runs: the one asked for, `auto` as promised, and otherwise an error that says why."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from dpr_kernels import _triton, backends

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """What was found out under a monkeypatch is not remembered."""
    for f in (backends.why_not, backends.warn_once):
        f.cache_clear()
    yield
    for f in (backends.why_not, backends.warn_once):
        f.cache_clear()


@pytest.mark.parametrize("op", backends.OPS)
def test_auto(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "INTERPRETED", False)
    assert backends.pick(op, "auto", CPU) == "reference"
    if backends.triton is not None:
        assert backends.pick(op, "auto", GPU) == "triton"


def test_auto_without_triton_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "triton", None)
    monkeypatch.setattr(backends, "INTERPRETED", False)
    with pytest.warns(UserWarning, match=r"auto.*reference.*triton is not installed"):
        assert backends.pick("swiglu", "auto", GPU) == "reference"
    assert backends.why_not("liger", GPU) == "triton is not installed (pip install triton)"
    with pytest.raises(RuntimeError, match="cannot run here: triton is not installed"):
        backends.pick("swiglu", "triton", CPU)


@pytest.mark.parametrize("op", backends.OPS)
def test_unknown_names_are_refused_with_the_known_ones(op: str) -> None:
    with pytest.raises(ValueError, match=f"{op} has no impl 'fastest'; it has auto, reference, triton"):
        backends.pick(op, "fastest", CPU)
    for impl in set(backends.IMPLS) - {"auto", *backends.OPS[op]}:
        with pytest.raises(ValueError, match="has no impl"):
            backends.pick(op, impl, CPU)


def test_what_cannot_run_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    if backends.triton is None:
        pytest.skip("triton is not installed")
    monkeypatch.setattr(backends, "INTERPRETED", False)
    with pytest.raises(RuntimeError, match="needs a GPU, or TRITON_INTERPRET=1"):
        backends.pick("rope", "triton", CPU)
    monkeypatch.setattr(backends, "find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match="pip install liger-kernel"):
        backends.pick("rope", "liger", GPU)
    monkeypatch.setattr(backends, "find_spec", lambda name: object())
    with pytest.raises(RuntimeError, match="liger-kernel needs a GPU"):
        backends.pick("rope", "liger", CPU)


def test_the_answer_depends_on_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(F, "linear_cross_entropy", raising=False)
    monkeypatch.setattr(backends, "INTERPRETED", False)
    assert "F.linear_cross_entropy" in backends.why_not("torch", CPU, "linear_cross_entropy")
    assert backends.why_not("torch", CPU, "rms_norm") == ""
    if backends.triton is None:
        return
    monkeypatch.setattr(backends, "find_spec", lambda name: object())
    monkeypatch.setattr(backends, "which", lambda name: None)
    assert "finds no compiler" in backends.why_not("cce", CPU, "linear_cross_entropy")
    assert backends.why_not("cce", GPU, "linear_cross_entropy") == ""


@pytest.mark.parametrize("op", backends.OPS)
def test_nothing_passes_for_a_gpu_kernel_in_the_interpreter(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if backends.triton is None:
        pytest.skip("triton is not installed")
    monkeypatch.setattr(backends, "INTERPRETED", True)
    monkeypatch.setattr(backends, "find_spec", lambda name: object())
    for impl in set(backends.OPS[op]) - {"reference", "torch"}:
        assert "TRITON_INTERPRET is set" in backends.why_not(impl, GPU, op)
        with pytest.raises(RuntimeError, match=f"{op}: impl '{impl}' cannot run here: TRITON_INTERPRET .* unset it"):
            backends.pick(op, impl, GPU)
    with pytest.raises(RuntimeError, match=f"{op}: impl 'auto' cannot run here: TRITON_INTERPRET .* unset it"):
        backends.pick(op, "auto", GPU)
    assert backends.pick(op, "reference", GPU) == "reference"
    assert backends.pick(op, "triton", CPU) == "triton"


@pytest.mark.parametrize(
    ("value", "interpreted"), [("1", True), ("true", True), ("on", True), ("0", False), ("", False)]
)
def test_the_interpreter_is_on_where_triton_says_so(
    value: str, interpreted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if backends.triton is None:
        pytest.skip("triton is not installed")
    monkeypatch.setenv("TRITON_INTERPRET", value)
    spec = spec_from_file_location("again", _triton.__file__)
    assert spec is not None and spec.loader is not None
    again = module_from_spec(spec)
    spec.loader.exec_module(again)

    def kernel() -> None:
        pass

    assert again.INTERPRETED is interpreted
    assert type(again.jit(kernel)).__name__ == ("InterpretedFunction" if interpreted else "JITFunction")


@pytest.fixture
def root_conftest(request: pytest.FixtureRequest) -> ModuleType:
    plugin = request.config.pluginmanager.get_plugin(str(Path(__file__).parents[1] / "conftest.py"))
    assert isinstance(plugin, ModuleType)
    return plugin


@pytest.mark.parametrize("file", ["nvidia0", "nvidia3", "dxg", None])
@pytest.mark.parametrize("cuda", [False, True])
def test_tests_ask_torch_for_the_gpu_and_not_the_drivers_tool(
    root_conftest: ModuleType, file: str | None, cuda: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container without nvidia-smi has a GPU; a machine with it whose GPU is hidden has none."""
    (tmp_path / "nvidiactl").touch()  # there without any card too
    if file:
        (tmp_path / file).touch()
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    assert root_conftest.has_gpu(tmp_path) == (cuda and file is not None)


def test_a_session_on_a_gpu_is_refused_with_the_interpreter_on(
    root_conftest: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "INTERPRETED", True)
    root_conftest.refuse_interpreter(False)
    with pytest.raises(pytest.UsageError, match=r"torch has a GPU, but TRITON_INTERPRET is set.*unset it"):
        root_conftest.refuse_interpreter(True)
    monkeypatch.setattr(root_conftest, "HAS_GPU", True)
    with pytest.raises(pytest.UsageError, match="TRITON_INTERPRET is set"):
        root_conftest.pytest_configure(None)
    monkeypatch.setattr(backends, "INTERPRETED", False)
    root_conftest.refuse_interpreter(True)


def test_such_a_session_ends_red_in_one_line() -> None:
    """A real pytest, on a torch that says it has a GPU."""
    if backends.triton is None:
        pytest.skip("triton is not installed")
    code = "import sys, pytest, torch; torch.cuda.is_available = lambda: True; sys.exit(pytest.main(sys.argv[1:]))"
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code, "-q", "-p", "no:cacheprovider", f"{__file__}::test_available"],
        env=os.environ | {"TRITON_INTERPRET": "1"}, cwd=root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == pytest.ExitCode.USAGE_ERROR, done.stdout + done.stderr
    errors = done.stderr.split("\n")
    assert len([e for e in errors if e]) == 1 and errors[0].startswith("ERROR: torch has a GPU, but TRITON_INTERPRET")
    assert "passed" not in done.stdout


def test_available() -> None:
    here = backends.available("cpu")
    assert {op: (*reasons,) for op, reasons in here.items()} == dict(backends.OPS)
    assert all(reasons["reference"] == "" for reasons in here.values())
    for op, reasons in here.items():
        for impl, reason in reasons.items():
            if reason:
                with pytest.raises(RuntimeError):
                    backends.pick(op, impl, CPU)
            else:
                assert backends.pick(op, impl, CPU) == impl


def test_versions_name_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = backends.versions()
    assert versions["torch"] == torch.__version__
    assert ("liger-kernel" in versions) == (find_spec("liger_kernel") is not None)
    monkeypatch.setattr(torch, "__version__", "2.11.0+cu130")  # PyPI's wheel, whose metadata say 2.11.0
    assert backends.versions()["torch"] == "2.11.0+cu130"
