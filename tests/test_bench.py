"""The bench scripts run at tiny sizes without a GPU, go on where they stopped, and count work as their text says."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
BENCH = ROOT / "bench"
CPU = torch.device("cpu")
# what a bare GPU machine may lack
ABSENT = (
    "pydantic",
    "yaml",
    "typer",
    "tqdm",
    "math_verify",
    "psutil",
    "aiohttp",
    "tenacity",
    "datasketch",
    "matplotlib",
)
BARE = (
    "import runpy, sys; sys.modules.update(dict.fromkeys({absent!r})); sys.path.insert(0, {bench!r});"
    "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
)


def script(*command: Any, bare: bool = False, status: int = 0) -> str:
    start = ["-c", BARE.format(absent=ABSENT, bench=str(BENCH))] if bare else []
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}"}
    done = subprocess.run(
        [sys.executable, *start, *map(str, command)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout + done.stderr


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> tuple[ModuleType, ModuleType]:
    """(providers, kernels) of bench/; the second under another name, since its own is that of a package."""
    monkeypatch.setattr(sys, "path", [str(BENCH), *sys.path])
    monkeypatch.delitem(sys.modules, "providers", raising=False)
    import providers

    monkeypatch.setitem(sys.modules, "providers", providers)
    spec = importlib.util.spec_from_file_location("bench_kernels", BENCH / "kernels.py")
    kernels = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "bench_kernels", kernels)
    spec.loader.exec_module(kernels)
    return providers, kernels


def setting(kernels: ModuleType) -> Any:
    roofline = {"bytes_per_s": 1e9, "flop_per_s": 1e9, "spec": None}
    return kernels.Setting(CPU, torch.float32, kernels.Clock(CPU, 0.001), roofline)


def test_kernels_and_plot(tmp_path: Path) -> None:
    out = tmp_path / "kernels-x.json"
    how = (BENCH / "kernels.py", "--preset", "tiny", "--call-seconds", 0.002, "--out", out)
    some = (*how, "--ops", "rms_norm", "linear_cross_entropy", "attention")
    said = script(*some, "--budget-seconds", 0, bare=True)
    assert "stopped at the budget of 0 s" in said and json.loads(out.read_text())["rows"] == []
    said = script(*some, bare=True)
    result = json.loads(out.read_text())
    assert "show nothing of a GPU" in result["cannot_show"] and "show nothing of a GPU" in said
    rows = {(r["op"], r["provider"]): r for r in result["rows"] if r["shape"].get("ignored", 0) == 0}
    for op, modes in {"rms_norm": 3, "linear_cross_entropy": 2, "attention": 3}.items():
        for who in ("reference", "eager"):
            row = rows[op, who]
            assert row["status"] == "ok" and len(row["modes"]) == modes and row["cosine"] > 0.9999
            assert max(row["error"].values()) < 1e-5
            for m in row["modes"].values():
                assert 0 < m["p20"] <= m["ms"] <= m["p80"] and m["share"] > 0 and "peak_mib" not in m
    assert rows["rms_norm", "ours"]["status"] == "missing" and "interpreter" in rows["rms_norm", "ours"]["reason"]
    assert rows["attention", "torch"]["reason"] == "needs a GPU"
    assert set(result["runs"][-1]["roofline"]) >= {"bytes_per_s", "flop_per_s"} and "torch" in str(result["conditions"])

    # equal conditions: nothing is measured again, but for rows of our own code that has changed since
    result["rows"][:] = [
        {**r, "source": r["source"] and "older"} if r["op"] == "rms_norm" else r for r in result["rows"]
    ]
    out.write_text(json.dumps(result))
    again = [line for line in script(*some).splitlines() if " s  " in line and "{" in line]
    assert [line.split()[-1] for line in again] == ["ours", "reference"] and all("rms_norm" in a for a in again), again
    after = json.loads(out.read_text())
    assert len(after["rows"]) == len(result["rows"]) and len(after["runs"]) == 3

    said = script(BENCH / "plot.py", out)
    pictures = sorted(tmp_path.glob("*.png"))
    assert [p.stem for p in pictures] == [f"kernels-x-{op}" for op in ("attention", "linear_cross_entropy", "rms_norm")]
    assert all(p.read_bytes()[:4] == b"\x89PNG" for p in pictures) and str(pictures[0]) in said
    assert "matplotlib is not installed" in script(BENCH / "plot.py", out, bare=True, status=1)


def test_least_work(modules: Any) -> None:
    """By hand: reference/kernels.md section 6."""
    work, plan = modules[0].work, modules[1].plan("h100")
    norm = work("rms_norm", {"rows": 32768, "width": 4096}, 2)
    assert norm["forward"] == (32768 * 4096 * 2 * 2, 0) and norm["backward"] == (32768 * 4096 * 3 * 2, 0)
    gated = work("swiglu", {"rows": 32768, "width": 14336}, 2)
    assert gated["forward"][0] == 6 * 32768 * 14336 and gated["full"][0] == 16 * 32768 * 14336
    turned = work("rope", {"tokens": 10, "heads": 32, "kv_heads": 8, "head": 128}, 2)
    assert turned["forward"][0] == 10 * (4 * 128 * 40 + 2 * 2 * 128)
    shape = {"rows": 32768, "width": 4096, "vocab": 128256, "frozen": False, "ignored": 0.0}
    assert work("linear_cross_entropy", shape, 2)["full"][1] == pytest.approx(103.3e12, rel=1e-3)
    assert work("linear_cross_entropy", {**shape, "frozen": True}, 2)["full"][1] == pytest.approx(68.9e12, rel=1e-3)
    assert work("linear_cross_entropy", {**shape, "ignored": 0.5}, 2)["full"][1] == pytest.approx(51.6e12, rel=1e-3)
    packed = {"tokens": 10, "document": 4, "heads": 2, "kv_heads": 1, "head": 8}
    assert work("attention", packed, 2)["full"] == (0, 7 * (16 + 16 + 4) * 2 * 8)
    assert {op for op, _ in plan} == set(modules[0].PROVIDERS) and plan[0][0] == "linear_cross_entropy"


def test_what_a_provider_does_is_in_its_row(modules: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    providers, kernels = modules
    shape, at = {"rows": 4, "width": 8}, setting(modules[1])

    def measured(eager: Any) -> dict[str, Any]:
        monkeypatch.setitem(providers.EAGER, "rms_norm", eager)
        row = kernels.measure("rms_norm", "eager", shape, at)
        kernels.judge("rms_norm", shape, [row], at)
        return row

    def no_memory(x: Any, weight: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    def wrong(x: Any, weight: Any) -> Any:
        return (x * weight,)

    def broken(x: Any, weight: Any) -> Any:
        return (x.no_such_method(),)

    row = measured(no_memory)
    assert row["status"] == "oom" and row["modes"]["full"]["status"] == "oom" and "2 GiB" in row["check_failed"]
    row = measured(broken)
    assert row["status"] == "failed" and "no_such_method" in row["modes"]["forward"]["reason"]
    row = measured(wrong)
    assert row["status"] == "ok" and row["error"]["out0"] > 0.1 and row["cosine"] < 0.99
    for who in ("unsloth", "liger", "ours"):  # nor is anybody timed in Triton's interpreter
        row = kernels.measure("rms_norm", who, shape, at)
        assert row["status"] == "missing" and row["reason"]
    shape = {"rows": 4, "width": 8, "vocab": 9, "frozen": False, "ignored": 0.0}
    assert "interpreter" in kernels.measure("linear_cross_entropy", "liger", shape, at)["reason"]


def test_a_provider_that_writes_over_its_inputs_gets_them_back(modules: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = modules[1]
    seen = []

    def in_place(gate: Any, up: Any) -> Any:
        seen.append(gate.detach().clone())
        out = gate * up
        gate.data.zero_()
        return (out,)

    monkeypatch.setattr(kernels, "provider", lambda op, name, device: (in_place, True))
    row = kernels.measure("swiglu", "liger", {"rows": 2, "width": 3}, setting(kernels))
    assert row["status"] == "ok" and len(seen) > 10 and all(x.equal(seen[0]) and x.any() for x in seen)


def test_train(tmp_path: Path) -> None:
    out = tmp_path / "t.json"
    how = ("--model", "tiny", "--mode", "full", "--tokens", 48, "--document", 32, "--steps", 1, "--out", out)
    how += ("--backends", "ours", "plain", "liger", "--longest", "--most", 96)
    script(BENCH / "train.py", *how, bare=True)
    result = json.loads(out.read_text())
    rows = {(r["backend"], r.get("tokens")): r for r in result["rows"]}
    assert rows["liger", None]["status"] == "missing" and "GPU" in result["cannot_show"]
    for tokens in (48, 96):  # the second by doubling
        ours, plain = rows["ours", tokens], rows["plain", tokens]
        assert ours["first_loss"] == pytest.approx(plain["first_loss"], abs=1e-5)
        assert ours["last_loss"] < ours["first_loss"] and ours["attention"] == "dpr_varlen"
        assert ours["tokens_per_s"] == pytest.approx(tokens / ours["step_s"], rel=1e-3) and 0 < ours["mfu"] < 1.5
    layer = 64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 128  # q and o, k and v, MLP
    assert rows["ours", 48]["flop"] == 6 * 48 * (2 * layer + 256 * 64) + 6 * 2 * 64 * (32**2 + 16**2)


def test_transformers_is_not_misled_by_the_name_of_kernels_py() -> None:
    """Beside bench/kernels.py, as every script in bench/ starts; transformers looks for a package of that name."""
    code = f"import sys; sys.path.insert(0, {str(BENCH)!r}); from transformers import LlamaForCausalLM; print('well')"
    assert "well" in script("-c", code)


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what a machine without a GPU says")
def test_gpu_script_says_what_is_missing(tmp_path: Path) -> None:
    def run(*parts: str, **more: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHON": sys.executable, "OUT": str(tmp_path), **more}
        return subprocess.run(
            ["bash", BENCH / "gpu.sh", *parts], env=environment, capture_output=True, text=True, check=False
        )

    done = run("tests")
    assert done.returncode == 1 and "finds no GPU" in done.stderr
    done = run("nonsense", FORCE_CPU="1")
    assert done.returncode == 2 and "no part 'nonsense'" in done.stderr
    done = run("kernels", FORCE_CPU="1")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "kernels-cpu.json").exists() and (tmp_path / "kernels-cpu-rope.png").exists()
