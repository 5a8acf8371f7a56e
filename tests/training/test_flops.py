"""MFU: never above 1, whatever the matmul rate was measured beside; and one ceiling for a whole training."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from dpr_mini import recipe
from dpr_mini.files.rows import read_rows, write_rows
from dpr_mini.training import flops, loop
from dpr_mini.training.flops import Ceiling, matmul_rate, overall
from dpr_mini.types import Pack

CPU = torch.device("cpu")


def rates(monkeypatch, *values: float) -> list[float]:
    """Stand in for the measurement: these rates, one a call. Returns those that are left."""
    left = list(values)
    monkeypatch.setattr(flops, "matmul_rate", lambda device, dtype: left.pop(0))
    return left


def test_a_step_above_the_ceiling_has_it_measured_again(monkeypatch):
    left = rates(monkeypatch, 100.0, 400.0, 90.0)
    ceiling = Ceiling(CPU, torch.float32)
    assert ceiling.share(50.0) == 0.5 and len(left) == 2, "below it nothing is measured"
    assert ceiling.share(151.0) == 151 / 400, "the first rate was taken beside other work"
    assert ceiling.share(300.0) == 0.75 and len(left) == 1
    assert ceiling.share(500.0) == 1.0 and ceiling.rate == 500.0, "still faster than any matmul seen: it counts itself"
    assert ceiling.share(400.0) == 0.8, "a worse measurement does not lower it"


def test_the_rate_is_the_best_of_several(monkeypatch):
    """Two disturbed matmuls, a cold first one, three good ones: what disturbs only takes time."""
    durations, now = iter([9.0, 1.0, 5.0, 0.5, 1.0, 4.0]), [0.0, False]

    def clock():
        if now[1]:
            now[0] += next(durations)
        now[1] = not now[1]
        return now[0]

    monkeypatch.setattr(flops.time, "perf_counter", clock)
    assert matmul_rate(CPU, torch.float32) == 2 * 512**3 / 0.5


def test_a_whole_training_is_held_against_its_best_ceiling():
    rows = [
        {"mfu": 1.0, "matmul_flop_per_s": 100.0, "seconds": 1.0},  # 100 FLOP
        {"mfu": 0.5, "matmul_flop_per_s": 400.0, "seconds": 3.0},  # 600 FLOP
    ]
    assert overall(rows) == pytest.approx(700 / 4 / 400)
    assert overall([{"mfu": 1.51, "seconds": 9.0}, *rows]) == overall(rows), "written before rows said their ceiling"
    assert overall([{"mfu": 1.51, "seconds": 9.0}]) == 0


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    sizes = {"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 64}
    config = LlamaConfig(hidden_size=32, intermediate_size=32, **sizes)
    folder = tmp_path_factory.mktemp("model")
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def test_no_row_and_no_training_reads_over_100_percent_also_when_it_is_resumed(model, tmp_path, monkeypatch):
    packs, out = tmp_path / "packs", tmp_path / "out"
    packs.mkdir(), out.mkdir()
    ids = tuple(range(16))
    rows = (Pack((f"s{i}",), ids, (True,) * 16, (0,)) for i in range(6))
    write_rows(packs / "rows.jsonl", ({"id": f"row-{i}", **asdict(r)} for i, r in enumerate(rows)))
    config = recipe.TrainConfig(epochs=1, save_steps=3, dtype="float32")
    real = loop.learning_rate

    def dies(step, *rest):
        if step == 3:
            raise KeyboardInterrupt
        return real(step, *rest)

    rates(monkeypatch, *[1.0] * 20)  # far too low: every step beats it
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "learning_rate", dies)
        loop.run(out, packs, model, config, 0)
    first = list(read_rows(out / "metrics.jsonl"))
    assert len(first) == 3 and all(0 < r["mfu"] <= 1 for r in first) and first[0]["mfu"] == 1
    rates(monkeypatch, 1e15)  # the process that goes on measures a good one
    metrics = loop.run(out, packs, model, config, 0)
    steps = list(read_rows(out / "metrics.jsonl"))
    assert len(steps) == 6 and all(r["mfu"] <= 1 for r in steps) and steps[:3] == first
    assert metrics["mfu"] < 0.01, "the first three rows' 100 % were of a ceiling that was none"
