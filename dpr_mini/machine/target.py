"""What a command is to write: what would end the command after its work is said before it."""

from __future__ import annotations

import os
from pathlib import Path

from dpr_mini.types import UserError


def writable(out: Path, *inputs: Path) -> None:
    """Raises UserError where `out` cannot be written, is no plain file, or is one of the files that are read.

    That it can be written is tried: a file of the sort that is written first, beside it, is made and taken away.
    """
    try:
        if not out.parent.is_dir():
            raise UserError(f"{out.parent}: no such folder; --out is a file in one that exists")
        if out.name in ("", "..") or out.is_dir():
            raise UserError(f"{out}: --out must be a file, and this is a folder")
        if out.exists() and not out.is_file():
            raise UserError(f"{out}: --out must be a file, and this is none")
        for path in inputs:
            if out.resolve() == path.resolve() or (out.exists() and path.exists() and out.samefile(path)):
                raise UserError(f"{out}: --out is a file that is read, and would be lost; name another one")
        if out.exists() and not os.access(out, os.W_OK):
            raise UserError(f"{out}: no permission to write; --out needs another file")
        beside = out.with_name(f".{out.name}.{os.getpid()}")  # as files.durable names what it writes first
        beside.touch(exist_ok=True)
        beside.unlink()
    except PermissionError:
        raise UserError(f"{out.parent}: no permission to write in this folder; --out needs another one") from None
    except (OSError, ValueError, RuntimeError) as error:  # a name too long, with a NUL, a ring of links, a full disk
        raise UserError(f"{out!s:.300}: --out cannot be written: {getattr(error, 'strerror', None) or error}") from None


def folder(out: Path) -> None:
    """Raises UserError where `out` is neither a folder that can be written in nor can become one."""
    try:
        there = next(p for p in (out, *out.absolute().parents) if p.exists())
        if not there.is_dir():
            raise UserError(f"{there}: --out must be a folder, and this is a file")
        if not os.access(there, os.W_OK | os.X_OK):
            raise UserError(f"{there}: no permission to write in this folder; --out needs another one")
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"{out!s:.300}: --out cannot be written: {getattr(error, 'strerror', None) or error}") from None
