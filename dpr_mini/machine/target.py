"""A file that a command is to write: what would end the command after its work is said before it."""

from __future__ import annotations

import os
from pathlib import Path

from dpr_mini.types import UserError


def writable(out: Path, *inputs: Path) -> None:
    """Raises UserError where `out` cannot be written, is no plain file, or is one of the files that are read."""
    if not out.parent.is_dir():
        raise UserError(f"{out.parent}: no such folder; --out is a file in one that exists")
    if out.exists() and not out.is_file():
        raise UserError(f"{out}: --out must be a file, and this is {'a folder' if out.is_dir() else 'none'}")
    for path in inputs:
        if out.resolve() == path.resolve() or (out.exists() and path.exists() and out.samefile(path)):
            raise UserError(f"{out}: --out is a file that is read, and would be lost; name another one")
    if not os.access(out.parent, os.W_OK | os.X_OK):
        raise UserError(f"{out.parent}: no permission to write in this folder; --out needs another one")
