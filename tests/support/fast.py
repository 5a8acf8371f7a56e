"""`pytest --fast`, which `make check` runs: the tests that load no torch and take no second.

Left out are files that import torch, or what loads it, at their head (they are not even imported); tests with a model
that torch makes; tests marked slow, model, browser, sglang or unsloth. What is not left out is held to it: a test that
loads torch, or that takes more than LIMIT seconds of the processor with its fixtures and its child processes, fails and
says what to do.
"""

from __future__ import annotations

import re
import resource
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

LIMIT = 5.0  # the marker says one: beside other work a test of one second was seen to take three
OURS = r"dpr_mini\.engines\.hf|dpr_mini\.machine import mkl|dpr_mini\.training import .*\bloop"
HEAVY = re.compile(rf"^(?:import|from) (?:torch|transformers|dpr_kernels|triton|{OURS})\b", re.MULTILINE)
MARKERS = ("slow", "model", "browser", "sglang", "unsloth")
FIXTURES = {"tiny_model", "embedded_model"}  # torch makes or converts these models


class Fast:
    """The hooks; registered only where --fast is given."""

    def __init__(self) -> None:
        self.begun = 0.0
        self.loaded = False  # whether torch was there before the test

    def pytest_ignore_collect(self, collection_path: Path) -> bool | None:
        if collection_path.is_dir():  # its tests all share what the folder's conftest imports
            head = collection_path / "conftest.py"
        else:
            head = collection_path if collection_path.name.startswith("test_") else None
        return True if head and head.is_file() and HEAVY.search(head.read_text(encoding="utf-8")) else None

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self, collector: pytest.Collector) -> Generator[None, object, object]:
        before = "torch" in sys.modules
        report = yield
        if "torch" in sys.modules and not before:
            raise pytest.UsageError(f"--fast: {collector.nodeid} loads torch at its head; add it to HEAVY of fast.py")
        return report

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        chosen, rest = [], []
        for item in items:
            slow = any(map(item.get_closest_marker, MARKERS)) or FIXTURES & set(getattr(item, "fixturenames", ()))
            (rest if slow else chosen).append(item)
        config.hook.pytest_deselected(items=rest)
        items[:] = chosen

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self) -> None:
        self.begun, self.loaded = cpu_seconds(), "torch" in sys.modules

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> Generator[None, object, object]:
        result = yield
        if "torch" in sys.modules and not self.loaded:
            pytest.fail("loads torch, which `pytest --fast` has no time for: mark it slow", pytrace=False)
        if (spent := cpu_seconds() - self.begun) > LIMIT:
            pytest.fail(f"took {spent:.1f} s of the processor, more than {LIMIT:g}: mark it slow", pytrace=False)
        return result


def cpu_seconds() -> float:
    """Of this process and of its children that have ended."""
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
