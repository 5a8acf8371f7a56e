"""bench/operators.py runs at tiny sizes without a GPU, goes on where it stopped, and counts work as its text says."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from places import BENCH, ROOT

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
    spec = importlib.util.spec_from_file_location("bench_kernels", BENCH / "operators.py")
    kernels = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "bench_kernels", kernels)
    spec.loader.exec_module(kernels)
    return providers, kernels


def setting(kernels: ModuleType) -> Any:
    roofline = {"bytes_per_s": 1e9, "flop_per_s": 1e9, "spec": None}
    return kernels.Setting(CPU, torch.float32, kernels.Clock(CPU, 0.001), roofline)


def test_kernels_and_plot(tmp_path: Path) -> None:
    out = tmp_path / "kernels-x.json"
    how = (BENCH / "operators.py", "--preset", "tiny", "--call-seconds", 0.002, "--out", out)
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
    operators = ("attention", "linear_cross_entropy", "rms_norm")
    assert {p.stem for p in pictures} == {f"kernels-x-{op}{what}" for op in operators for what in ("", "-rate")}
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
        kernels.add_errors("rms_norm", shape, [row], at)
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


def test_unsloth_is_called_as_its_sources_say(modules: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a stub that computes what unsloth/kernels/*.py computes, in place where that is in place."""
    providers = modules[0]

    def gated_backward(dout: Any, gate: Any, up: Any) -> Any:
        s = gate.sigmoid()
        out, dup, dgate = gate * s * up, dout * gate * s, dout * up * s * (1 + gate * (1 - s))
        for x, value in zip((dout, gate, up), (out, dup, dgate), strict=True):
            x.copy_(value)
        return dout, gate, up

    def turned(q: Any, k: Any, cos: Any, sin: Any, index: Any) -> Any:
        c, s = cos.squeeze()[index], sin.squeeze()[index]
        assert index.dtype == torch.int32 and len(index) == q.shape[2]
        return tuple(x * c + providers._half_turn(x) * s for x in (q, k))

    def lost(trainer: Any, x: Any, weight: Any, bias: Any, labels: Any, n_items: Any, shift_labels: bool) -> Any:
        assert trainer is None and bias is None and not shift_labels and x.ndim == 3 and labels.ndim == 2
        return torch.nn.functional.cross_entropy((x @ weight.T)[0], labels[0], reduction="sum") / n_items

    stubs = {
        "unsloth": {},
        "unsloth.kernels": {
            "swiglu_fg_kernel": lambda gate, up: torch.nn.functional.silu(gate) * up,
            "swiglu_DWf_DW_dfg_kernel": gated_backward,
            "fast_rms_layernorm": lambda layer, x: providers._norm(x, layer.weight),
            "fast_rope_embedding": turned,
        },
        "unsloth_zoo": {},
        "unsloth_zoo.fused_losses": {},
        "unsloth_zoo.fused_losses.cross_entropy_loss": {"unsloth_fused_ce_loss": lost},
    }
    for name, functions in stubs.items():
        stub = ModuleType(name)
        stub.__dict__.update(functions)
        monkeypatch.setitem(sys.modules, name, stub)
    monkeypatch.setattr(providers, "find_spec", lambda name: object())
    shapes = dict(reversed(modules[1].plan("tiny")))  # the first of each operator
    ops = [op for op, names in providers.PROVIDERS.items() if "unsloth" in names]
    assert set(ops) == set(providers.UNSLOTH)
    for op in ops:
        case = providers.problem(op, shapes[op], CPU, torch.float32)
        function, _ = providers.provider(op, "unsloth", torch.device("cuda"))
        outs, want = function(**case.args), providers.exact(op)(**case.args)
        got = (*outs, *case.gradients(outs))
        for a, b in zip(got, (*want, *case.gradients(want)), strict=True):
            if a is not None:  # the norm has no gradient for its weight
                torch.testing.assert_close(a, b)
        assert (got[-1] is None) == (op == "rms_norm")


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


def test_a_budget_of_one_provider_has_a_row_of_ours_for_every_case(modules: Any) -> None:
    providers, kernels = modules
    cases = kernels.plan("h100")
    rounds = kernels.rounds(cases)
    ours = [("torch" if op == "attention" else "ours") for op, _ in cases]
    assert rounds[0] == [(op, shape, who) for (op, shape), who in zip(cases, ours, strict=True)]
    tasks = [task for tasks in rounds for task in tasks]
    order = list(dict.fromkeys(who for op, _, who in tasks if op == "linear_cross_entropy"))
    assert order[:5] == ["ours", "eager", "liger", "torch", "cce"]
    for op, names in providers.PROVIDERS.items():  # nobody is forgotten, and nobody measured twice
        shapes = [shape for o, shape in cases if o == op]
        for who in names:
            expected = shapes[:1] if who == "compile" else shapes
            assert [shape for o, shape, w in tasks if (o, w) == (op, who)] == expected, (op, who)
    some = kernels.rounds(cases, ["eager", "liger"])
    assert {who for tasks in some for _, _, who in tasks} == {"eager", "liger"}


def test_torch_compile_compiles_each_operator_once_for_a_mode_with_and_one_without_gradients(
    modules: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from torch._dynamo.testing import CompileCounter

    kernels, counter, compile_ = modules[1], CompileCounter(), torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, **more: compile_(f, **more, backend=counter))
    out = tmp_path / "kernels.json"
    arguments = ["--preset", "tiny", "--ops", "rms_norm", "linear_cross_entropy", "--providers", "compile", "eager"]
    monkeypatch.setattr(sys, "argv", ["operators.py", *arguments, "--call-seconds", "0.001", "--out", str(out)])
    kernels.main()
    assert counter.frame_count == 3  # the head's forward is measured without gradients, and that is another graph
    rows = [r for r in json.loads(out.read_text())["rows"] if r["provider"] == "compile"]
    assert [r["op"] for r in rows] == ["linear_cross_entropy", "rms_norm"]
    assert all(r["status"] == "ok" and r["error"] == {} and "compile once more" in r["unchecked"] for r in rows)


def test_launches_of_the_host_are_outside_the_interval(modules: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a stub for CUDA: flush, pause, first event, the call, second event."""
    kernels, calls = modules[1], []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            calls.append("event")

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "_sleep", lambda cycles: calls.append(f"pause {cycles >= 1_000_000}"))
    clock = kernels.Clock(CPU, 0.001)
    clock.cuda, clock.flush = True, SimpleNamespace(zero_=lambda: calls.append("flush"))
    clock.once(lambda _: calls.append("call"), None)
    assert calls == ["flush", "pause True", "event", "call", "event"]

    # the host's part is another measurement: each call on an idle GPU, nothing before it
    del calls[:]
    monkeypatch.setattr(clock, "wait", lambda: calls.append("idle"))
    took = clock.host_us(lambda _: (calls.append("call"), time.sleep(0.01)), lambda: calls.append("inputs"))
    assert calls == [*["inputs", "idle", "call"] * 5, "idle"] and 1e4 <= took < 1e6
    monkeypatch.setattr(clock, "milliseconds", lambda *_: [3.0, 2.0, 4.0])
    row = clock.row(lambda _: None)
    assert row["ms"] == 3.0 and 0 <= row["host_us"] < 1e4
    assert "host_us" not in kernels.Clock(CPU, 0.001).row(lambda _: None)


def test_a_row_of_cce_says_that_it_skips_most_of_its_backward(
    modules: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    providers, kernels = modules
    monkeypatch.setattr(kernels, "provider", lambda op, name, device: (providers.EAGER[op], False))
    shape = {"rows": 4, "width": 8, "vocab": 9, "frozen": False, "ignored": 0.0}
    rows = [kernels.measure("linear_cross_entropy", who, shape, setting(kernels)) for who in ("cce", "liger")]
    assert "skips tiles" in rows[0]["note"] and "note" not in rows[1]
    kernels.table(rows)
    assert "cce: its backward skips" in capsys.readouterr().out
