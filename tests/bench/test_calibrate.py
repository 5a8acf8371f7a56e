"""bench/calibrate.py sets our verdicts beside published ones, and names every answer on which they differ."""

import importlib.util
import json
import sys

import pytest
from places import BENCH


@pytest.fixture
def calibrate():
    spec = importlib.util.spec_from_file_location("calibrate", BENCH / "calibrate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def row(gold, **models):
    told = {
        name: {"solution": f"So it is 2 * 3 = <<2*3=6>>6.\nA: {said}", "is_correct": ok}
        for name, (said, ok) in models.items()
    }
    return {"question": "?", "ground_truth": f"It is.\nA: {gold}", **told}


def test_shares_and_differences_are_by_model(tmp_path, monkeypatch, calibrate, capsys):
    rows = [row("18", small=("26", False), large=("18", True)), row("1,000", small=("1000", True), large=("7", True))]
    file = tmp_path / "solutions.jsonl"
    file.write_text("".join(json.dumps(r) + "\n" for r in rows))
    monkeypatch.setattr(sys, "argv", ["calibrate.py", str(file), "--out", str(tmp_path / "out.json")])
    calibrate.main()
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["models"]["small"] == {
        "answers": 2,
        "published": 0.5,
        "ours": 0.5,
        "right there, wrong here": 0,
        "wrong there, right here": 0,
    }
    assert (found["models"]["large"]["published"], found["models"]["large"]["ours"]) == (1.0, 0.5)
    (differs,) = found["differing"]
    assert (differs["model"], differs["gold"], differs["read"]) == ("large", "1,000", "7")
    assert "large: published 1.0000, ours 0.5000" in capsys.readouterr().out
