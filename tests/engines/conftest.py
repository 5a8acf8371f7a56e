"""What the tests of SGLang's client share: a tiny model, and stubs of servers that serve it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def stub_model(tiny_model: Callable[..., Path]) -> Path:
    return tiny_model()


@pytest.fixture
def serve(stub_model: Path, run_stand_in: Callable[[Any], Any]) -> Callable[..., Any]:
    """start(on_generate=None, **info) -> a running stub of a server of `stub_model`."""
    from stand_in import Stand

    return lambda on_generate=None, **info: run_stand_in(Stand(str(stub_model), on_generate, **info))
