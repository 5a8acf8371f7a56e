"""SGLang's server with a key that only its owner can read. Runs in SGLang's interpreter and imports nothing of ours.

    DPR_MINI_SGLANG_KEY=... python -u server.py ARGUMENT ...      (those of `python -m sglang.launch_server`)

SGLang takes its key as --api-key alone, and every user of a machine sees every command line; the environment of a
process is for its owner. SGLang also logs its settings at the start, so the key is a text that does not show itself.
Its parser takes any beginning of an argument's name for the name; here it takes whole names only.
"""

from __future__ import annotations

import argparse
import os
import runpy
import sys
from typing import Any

VARIABLE = "DPR_MINI_SGLANG_KEY"


class Key(str):
    """Text that repr, and so a log of settings, does not show. Other processes of the server get plain text."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"

    def __copy__(self) -> Key:
        return self

    def __deepcopy__(self, memo: Any) -> Key:
        return self

    def __reduce__(self) -> Any:
        return str, (self[:],)


def whole_names() -> None:
    """Every parser that is made from now on takes whole names only."""
    make = argparse.ArgumentParser.__init__

    def made(self: argparse.ArgumentParser, *args: Any, **options: Any) -> None:
        make(self, *args, **options | {"allow_abbrev": False})

    argparse.ArgumentParser.__init__ = made


def main() -> None:
    key = Key(os.environ.pop(VARIABLE))
    # the folder of this file holds modules of other names than SGLang's, which must not be found before its own
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if os.path.abspath(path) != here]
    whole_names()
    from sglang.srt import server_args

    prepare = server_args.prepare_server_args

    def keyed(argv: list[str]) -> Any:
        settings = prepare(argv)
        settings.api_key = key
        return settings

    server_args.prepare_server_args = keyed
    runpy.run_module("sglang.launch_server", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
