"""tools/offline_recipe.py: the recipe that it writes has the problems of the one it extends, read from files."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import staging
from places import ROOT

from dpr_mini import recipe
from dpr_mini.files.rows import read_rows
from dpr_mini.models.resolve import identity


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("offline_recipe", ROOT / "tools" / "offline_recipe.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows_of(path: Path, folder: Path) -> list[dict]:
    folder.mkdir()
    staging.problems(folder, recipe.load(path).problems, path.parent)
    return list(read_rows(folder / "rows.jsonl"))


@pytest.mark.parametrize("name", ["smoke.yaml", "smollm2-cpu.yaml"])
def test_the_same_problems_in_the_same_order_without_a_generator(tool: ModuleType, tmp_path: Path, name: str) -> None:
    pytest.importorskip("reasoning_gym")
    base = ROOT / "recipes" / name
    wanted = rows_of(base, tmp_path / "generated")
    (out := tmp_path / "data").mkdir()
    path = tool.write(base, wanted, out)
    assert path == out / name and "generate" not in path.read_text()
    read = rows_of(path, tmp_path / "read")
    fields = ("id", "split", "text", "answer", "level", "subject")
    assert [[r[f] for f in fields] for r in read] == [[r[f] for f in fields] for r in wanted]

    asked, offline = recipe.load(base), recipe.load(path)
    for key in ("name", "seed", "dialogue", "filter", "train", "evaluate"):
        assert getattr(offline, key) == getattr(asked, key), key
    assert identity(offline.model.name, None, path.parent) == identity(asked.model.name, None, base.parent)
    shrunk = recipe.load(path, ["scale=0.1"])
    count = sum(shrunk.count(s) for s in shrunk.problems.train)
    assert 0 < count < sum(r["split"] == "train" for r in wanted) / 5
