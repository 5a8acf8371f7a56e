"""Which implementation runs: the one asked for, `auto` as promised, and otherwise an error that says why."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import pytest
import torch
import torch.nn.functional as F
from dpr_kernels import backends

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """What was found out under a monkeypatch is not remembered."""
    for f in (backends.why_not, backends._warn):
        f.cache_clear()
    yield
    for f in (backends.why_not, backends._warn):
        f.cache_clear()


@pytest.mark.parametrize("op", backends.OPS)
def test_auto(op: str) -> None:
    assert backends.pick(op, "auto", CPU) == "reference"
    if backends.triton is not None:
        assert backends.pick(op, "auto", GPU) == "triton"


def test_auto_without_triton_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "triton", None)
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
    assert "F.linear_cross_entropy" in backends.why_not("torch", CPU, "linear_cross_entropy")
    assert backends.why_not("torch", CPU, "rms_norm") == ""
    if backends.triton is None:
        return
    monkeypatch.setattr(backends, "find_spec", lambda name: object())
    monkeypatch.setattr(backends, "which", lambda name: None)
    assert "finds no compiler" in backends.why_not("cce", CPU, "linear_cross_entropy")
    assert backends.why_not("cce", GPU, "linear_cross_entropy") == ""


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
    assert all(reasons.get("unsloth", "none") for reasons in here.values())


def test_versions_name_what_is_installed() -> None:
    versions = backends.versions()
    assert versions["torch"] == torch.__version__
    assert ("liger-kernel" in versions) == (find_spec("liger_kernel") is not None)
