"""A run made by hand and its report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from run_by_hand import make

from dpr_mini.files.rows import read_json
from dpr_mini.stages import report


@pytest.fixture
def made(tmp_path: Path) -> tuple[dict[str, Path], dict[str, Any]]:
    return make(tmp_path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report")
    report.write(out, *make(tmp_path_factory.mktemp("run")))
    return out


@pytest.fixture(scope="module")
def written(folder: Path) -> tuple[str, str, dict[str, Any]]:
    """report.html, report.md, scorecards.json."""
    return *((folder / n).read_text() for n in ("report.html", "report.md")), read_json(folder / "scorecards.json")
