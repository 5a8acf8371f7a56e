"""The bench scripts run at tiny sizes without a GPU, go on where they stopped, and count work as their text says."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dpr_mini import recipe

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


# --- bench/train.py ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def arms() -> Iterator[tuple[ModuleType, ModuleType]]:
    """(train_arms, train_child) of bench/."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(BENCH), *sys.path])
        yield importlib.import_module("train_arms"), importlib.import_module("train_child")
        for name in ("train_arms", "train_child"):
            patch.delitem(sys.modules, name)


@pytest.fixture(scope="module")
def tiny(arms: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Any]]:
    """measure(arm, mode, tokens, **job) of the tiny model, here and now."""
    models = tmp_path_factory.mktemp("models")
    arms[1].make_model("tiny", models, CPU)

    def measure(arm: str, mode: str, tokens: int = 160, **changes: Any) -> dict[str, Any]:
        job = {"arm": arm, "mode": mode, "model": "tiny", "models": str(models), "tokens": [tokens], "document": 48}
        job |= {"tile": 64, "steps": 2, "row_seconds": 60, "optimiser": "adamw8bit"}
        return arms[1].attempt(job | changes, tokens, CPU)

    return measure


@pytest.mark.parametrize("mode", ["full32", "full", "lora", "qlora"])
def test_arms_train_one_model_on_one_row(arms: Any, tiny: Any, mode: str) -> None:
    if "q" in mode:
        pytest.importorskip("bitsandbytes")
    some = arms[0].LADDER if mode == "full32" else ("plain", "ours", "ours+offload+tiled")
    rows = {arm: tiny(arm, mode) for arm in some}
    first = rows["plain"]["first_loss"]
    assert abs(first - tiny("plain", mode, document=160)["first_loss"]) > 0.02, "documents make no difference"
    for arm, row in rows.items():
        assert row["status"] == "ok" and row["documents"] == 4 and row["labelled"] == 156, row
        # bfloat16 keeps 8 bits of every intermediate
        assert row["first_loss"] == pytest.approx(first, **({"rel": 5e-3} if mode == "full" else {"abs": 2e-5})), arm
        assert row["last_loss"] < row["first_loss"] and row["steps"] == 2
        assert row["tokens_per_s"] == pytest.approx(160 / row["step_s"], rel=1e-3)
        assert row["mfu"] == pytest.approx(row["flop"] / row["step_s"] / row["matmul_flop_per_s"], rel=1e-2, abs=1e-4)
        assert row["flop"] == rows["plain"]["flop"]
        assert row["attention"] == ("sdpa" if arm == "plain" else "dpr_varlen (reference)")
        train = recipe.Train(**row["train"])
        assert train.gradient_checkpointing and train.max_grad_norm is None
        assert train.offload_checkpoints == ("offload" in arm) and train.tiled_mlp == (3 if "tiled" in arm else None)
        assert train.backend == ("plain" if "plain" in arm else "dpr_kernels")
        own = mode == "full" and arm in arms[0].OURS
        assert train.update_in_backward == own and train.optimiser == ("adamw8bit" if own else "adamw")
        assert ("stochastically" in row["updates"]) == own and row["dtype"] == (
            "bfloat16" if mode == "full" else "float32"
        )


def test_flop_of_a_row(tiny: Any) -> None:
    layer = 64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 128  # q and o, k and v, MLP
    attention = 6 * 2 * 64 * (48**2 * 3 + 16**2)
    assert tiny("ours", "full32")["flop"] == 6 * (160 * 2 * layer + 156 * 256 * 64) + attention


def test_what_an_arm_lacks_is_its_row(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("bitsandbytes.optim", "peft"):
        monkeypatch.setitem(sys.modules, module, None)
    row = tiny("ours", "full")
    assert row["status"] == "missing" and "bitsandbytes" in row["reason"]
    assert tiny("ours", "full", optimiser="adamw")["status"] == "ok"
    assert tiny("plain", "full")["status"] == "ok"
    row = tiny("plain", "lora")
    assert row["status"] == "missing" and "peft" in row["reason"]


NO_MEMORY = ("CUDA out of memory. Tried", "Triton Error [CUDA]: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


def test_no_memory_is_a_row_and_other_errors_are_not(arms: Any, tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise (torch.OutOfMemoryError if "Tried" in said else RuntimeError)(said)

    monkeypatch.setattr(arms[1], "ours", fails)
    for said in NO_MEMORY:
        row = tiny("ours", "full32")
        assert row["status"] == "oom" and said in row["reason"]
    said = "an illegal memory access"
    with pytest.raises(RuntimeError, match="illegal"):
        tiny("ours", "full32")


def test_a_cap_leaves_out_what_the_context_takes(arms: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shares, gib = [], 2**30
    monkeypatch.setattr(torch, "zeros", lambda *_, **__: None)
    for name, value in {
        "mem_get_info": (77.5 * gib, 80 * gib),
        "memory_reserved": 2 * gib,
        "synchronize": None,
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda value=value: value)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", shares.append)
    assert arms[1].capped(24)["context_gib"] == 0.5
    assert shares == [pytest.approx(23.5 / 80)]


def test_a_clock_stops_after_steps_or_seconds(arms: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for each, most, expected in ((1.0, 100.0, 2 + 5), (4.0, 10.0, 2 + 3), (50.0, 10.0, 2 + 1)):
        now = iter(i * each / 2 for i in range(1, 100))  # asked for twice a step
        monkeypatch.setattr(arms[1].time, "perf_counter", lambda now=now: next(now))
        clock = arms[1].Clock(CPU, 2, 5, most * 0.5)
        with pytest.raises(arms[1].Enough):
            for _ in range(10):
                clock({"loss": 1.0})
        assert len(clock.times) == expected, each


@given(
    limit=st.integers(0, 400_000), asked=st.sets(st.sampled_from([2048, 8192, 32768, 131072]), min_size=1),
    longest=st.booleans(), cut=st.integers(0, 20),
)  # fmt: skip
def test_the_search_ends_beside_the_longest_row(
    arms: Any, limit: int, asked: set[int], longest: bool, cut: int
) -> None:
    """For a card that takes rows of up to `limit` tokens; begun again after `cut` rows it does the same."""
    most = 1 << 18

    def search(done: dict[int, str], rows: int) -> dict[int, str]:
        for _ in range(rows):
            if (n := arms[0].following(done, asked, longest, most)) is None:
                break
            assert n not in done and not any(s == "oom" and m <= n for m, s in done.items()), (n, done)
            done[n] = "ok" if n <= limit else "oom"
        return done

    done = search({}, 99)
    assert search(search({}, cut), 99) == done and len(done) < 20
    fits, fails = ([n for n, s in done.items() if s == status] for status in ("ok", "oom"))
    assert all(n in done or n > min(fails) for n in asked)
    if not longest:
        assert done.keys() <= asked
    elif not fits:
        assert min(fails) // 2 < 1024
    elif fails:
        assert max(fits) <= limit < min(fails) < 2 * max(fits)
    else:
        assert 2 * max(fits) > most


def test_train(tmp_path: Path) -> None:
    out = tmp_path / "t.json"
    how = (BENCH / "train.py", "--mode", "full32", "--tokens", 48, "--document", 32, "--steps", 1, "--out", out)
    how += ("--longest", "--most", 96, "--unsloth")
    said = script(*how, "/bin/false", "--arms", "unsloth", "ours")
    result = json.loads(out.read_text())
    assert "nothing of a GPU" in result["cannot_show"] and "nothing of a GPU" in said
    failed, first, second = result["rows"]
    assert failed["arm"] == "unsloth" and failed["status"] == "failed" and failed["reason"].startswith("exit 1")
    assert (first["tokens"], second["tokens"]) == (48, 96) and first["status"] == second["status"] == "ok"
    assert (first["steps"], first["warm_up"], second["steps"], second["warm_up"]) == (1, 2, 1, 1)
    assert first["model"] == "tiny" and "torch" in first["versions"]

    # Again, it goes on: what is there stays, what was missing is tried again, a late budget starts nothing
    result["rows"].append({**failed, "mode": "lora", "status": "missing", "reason": "no GPU then"})
    out.write_text(json.dumps(result))
    said = script(*how, "/no/such", "--arms", "unsloth", "ours", "--mode", "full32", "lora", "--budget-seconds", 0)
    assert "stopped at the budget of 0 s" in said and json.loads(out.read_text()) == result
    said = script(*how, "/no/such", "--arms", "unsloth", "--mode", "full32", "lora")
    again = json.loads(out.read_text())["rows"]
    assert again[:-1] == result["rows"][:-1] and "no interpreter '/no/such'" in again[-1]["reason"]
    result["conditions"]["source"] = "older"
    out.write_text(json.dumps(result))
    said = script(*how, "/no/such", "--arms", "unsloth")
    assert "measured under other conditions" in said and len(json.loads(out.read_text())["rows"]) == 1
    assert "--cap holds the allocator of a GPU" in script(*how, "/no/such", "--cap", 24, status=1)


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
