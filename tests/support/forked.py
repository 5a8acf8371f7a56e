"""The command line in a process that is forked from one which has imported everything: a start costs no imports.

The process is real in all that a test of kills needs: its own id, its own exit status, files and children of its own.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

# What a run imports on its way. Loaded by the fork server, once; none of them starts a thread.
PRELOADED = [
    "dpr_mini.cli",
    "dpr_mini.pipeline",
    "dpr_mini.engines.hf",
    "dpr_mini.reporting.document",
    "transformers.models.auto.modeling_auto",
    "transformers.models.llama.modeling_llama",  # six seconds, which opening a model else takes in every process
]


def context() -> ForkServerContext:
    fork_server = multiprocessing.get_context("forkserver")
    fork_server.set_forkserver_preload(PRELOADED)
    return fork_server


def start(
    arguments: list[str], said: Path, prepare: Callable[..., None] | None = None, *more: Any
) -> ForkServerProcess:
    """`dpr-mini ARGUMENTS`; what it prints goes to `said`. Its id is known on return.

    `prepare(*more)` is called in the process first.
    """
    process = context().Process(target=_command, args=(arguments, said, prepare, more))
    process.start()
    return process


def _command(arguments: list[str], said: Path, prepare: Callable[..., None] | None, more: tuple[Any, ...]) -> None:
    sys.stdout.flush()
    with said.open("wb") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    from dpr_mini import cli

    if prepare:
        prepare(*more)
    cli.main(arguments)
