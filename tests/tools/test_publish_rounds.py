"""tools/publish_rounds.py: the table of rounds says what the comparison says, whichever way round it was compared."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
from places import ROOT

from dpr_mini.files.rows import read_json, write_json
from dpr_mini.types import UserError


@pytest.fixture(scope="module")
def tool():
    """The script as a module, beside the one that it takes from."""
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        spec = importlib.util.spec_from_file_location("publish_rounds", ROOT / "tools" / "publish_rounds.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(ROOT / "tools"))
    return module


@pytest.fixture
def numbers(tool) -> dict:
    """A made-up comparison: every round is 0.1 above the one before, compared forwards and backwards in turn."""
    arms, differences = {}, []
    for names in tool.LINES.values():
        for number, arm in enumerate(names):
            score = {
                "mean": number / 10,
                "low": number / 10 - 0.01,
                "high": number / 10 + 0.01,
                "tokens_mean": 40 + number,
            }
            arms[arm] = {"seeds": [0, 1] if "round" in arm else [0, 1, 2], "scores": {"countdown": score}}
            if number % 2:
                pair = {"arm": arm, "baseline": names[number - 1], "mean": 0.1, "low": 0.08, "high": 0.13}
            elif number:
                pair = {"arm": names[number - 1], "baseline": arm, "mean": -0.1, "low": -0.13, "high": -0.08}
            else:
                continue
            differences += [{**pair, "on": on, "measure": "pass@1"} for on in ("countdown", "sums")]
            differences.append({**pair, "on": "countdown", "measure": "greedy", "mean": 9, "low": 9, "high": 9})
    return {"arms": arms, "differences": differences}


@pytest.mark.slow
def test_every_round_has_its_rate_its_change_and_its_seeds(tool, numbers, tmp_path: Path) -> None:
    page = tmp_path / "docs" / "experiment.md"
    page.parent.mkdir()
    page.write_text("before\n<!-- rounds -->\nold\n<!-- end rounds -->\nafter\n")
    write_json(tmp_path / "comparison.json", numbers)
    out = tmp_path / "made-countdown"
    out.mkdir()
    tool.publish(tmp_path / "comparison.json", out, tmp_path)
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    rows = [line for line in text.splitlines() if line.startswith("| the method | ")]
    assert rows[0] == "| the method | none | 0.000 [-0.010, 0.010] | - | 40 | 3 |"
    assert rows[2] == "| the method | 2 | 0.200 [0.190, 0.210] | +0.100 [+0.080, +0.130] | 42 | 3 |"
    assert rows[4] == "| the method | 4 | 0.400 [0.390, 0.410] | +0.100 [+0.080, +0.130] | 44 | 2 |"
    assert text.count("| plain rejection tuning | ") == len(rows) == 5
    assert read_json(out / "rounds.json") == numbers


@pytest.mark.slow
def test_what_lacks_is_named(tool, numbers) -> None:
    differences = [d for d in numbers["differences"] if "countdown-round-4" not in (d["arm"], d["baseline"])]
    with pytest.raises(UserError, match="no difference of countdown-round-4 and countdown-round-3 on countdown"):
        tool.block({**numbers, "differences": differences}, "made")
    del numbers["arms"]["countdown-plain-round-3"]
    with pytest.raises(UserError, match=r"no countdown-plain-round-3: it is not of bench/rounds\.sh"):
        tool.block(numbers, "made")
    for not_one in ({}, []):
        with pytest.raises(UserError, match=r"no countdown-base, .* it is not of bench/rounds"):
            tool.block(not_one, "made")


@pytest.mark.slow
def test_a_file_or_folder_that_is_not_there_is_one_line_and_nothing_is_made(tool, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.json: not there"):
        tool.publish(tmp_path / "none.json", tmp_path, tmp_path)
    write_json(tmp_path / "comparison.json", {})
    with pytest.raises(UserError, match="made: not there"):
        tool.publish(tmp_path / "comparison.json", tmp_path / "made", tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["comparison.json"]
