"""bench/train.py runs at tiny sizes without a GPU, goes on where it stopped, and its arms train one model."""

from __future__ import annotations

import importlib
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
from places import BENCH, ROOT

from dpr_mini import recipe

CPU = torch.device("cpu")


def script(*command: Any, status: int = 0) -> str:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}"}
    command = [sys.executable, *map(str, command)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout + done.stderr


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
        train = recipe.TrainConfig(**row["train"])
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
