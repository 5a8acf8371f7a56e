"""`dpr-mini report`: write a run's report again from what is there."""

from __future__ import annotations

import re
from pathlib import Path

from dpr_mini import store
from dpr_mini.runs import RunError, foreign, lock, publish, read_latest, store_of


def report(root: Path) -> None:
    """Write a run's report again from what is there. Raises RunError beside a run at work there."""
    from dpr_mini.stages import report as reporting

    with foreign(root):
        latest = read_latest(root)
    with lock(store_of(root)), foreign(root):
        folders = {name: root / folder for name, folder in latest["stages"].items() if name != "report"}
        complete = {name: folder for name, folder in folders.items() if (folder / store.MANIFEST).exists()}
        if not any(re.fullmatch(r"eval-\d", name) for name in complete):
            raise RunError(f"{root}: nothing to report yet; run {latest['recipe']['name']} again")
        folder = root / latest["stages"]["report"]
        folder.mkdir(exist_ok=True)
        manifest = store.read_manifest(folder) if (folder / store.MANIFEST).exists() else None
        (folder / store.MANIFEST).unlink(missing_ok=True)  # not complete while its files change
        reporting.write(folder, complete, latest["recipe"])
        if manifest:
            store.write_manifest(folder, manifest)
        publish(root, folder)
