"""`dpr-mini verify`: hold every file of a run against size and sha256 of when its stage was complete."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dpr_mini import store
from dpr_mini.files.rows import StoreError
from dpr_mini.machine import progress
from dpr_mini.runs import RunError, read_latest


def verify(root: Path) -> None:
    """Print a line for each stage of a run. Raises RunError where a file is not what its stage left."""
    stages = read_latest(root)["stages"]
    files = size = 0
    damaged, bare = [], []
    with progress.bar(total=len(stages), unit="stage", desc="verify") as bar:
        for name, folder in stages.items():
            if not (root / folder / store.MANIFEST).exists():
                said = "incomplete" if (root / folder).exists() else "not run"
            else:
                listing = _checked(root / folder)
                said = _said(listing)
                if not listing:
                    (damaged if listing is None else bare).append(name)
                else:
                    files, size = files + len(listing), size + sum(each[0] for each in listing.values())
            bar.write(f"{name:20} {said}")
            bar.update()
    if damaged:
        raise RunError(f"{root}: {len(damaged)} of {len(stages)} stages are damaged: {', '.join(damaged)} (above)")
    older = f"; {len(bare)} of an older version list no files: not compared" if bare else ""
    print(f"{files} files, {_bytes(size)}: all as they were when their stages were complete{older}")


def _checked(folder: Path) -> dict[str, Any] | None:
    """The listing of a stage's files, all compared; None where there is a difference, which is printed."""
    try:
        manifest = store.read_manifest(folder)
        store.check(folder, manifest, lambda file: True)
    except StoreError as error:
        print(error)
        return None
    return manifest.get("files", {})


def _said(listing: dict[str, Any] | None) -> str:
    if listing is None:
        return "DAMAGED"
    if not listing:
        return "no list of files (older version)"
    return f"ok  {len(listing)} files, {_bytes(sum(each[0] for each in listing.values()))}"


def _bytes(size: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
