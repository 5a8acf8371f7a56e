"""A recipe whose problems are in files beside it, for a machine that can neither download nor generate them.

    python tools/offline_recipe.py [RECIPE ...] [--out build/carried/data]       (default: smoke and smollm2-cpu)

Runs the recipe's `problems` stage here, writes a JSONL file for each source of it, and a recipe of the same file name
that extends the one given and reads them: the same problems in the same order, with their ids, answers and levels.
bench/gpu.sh takes the folder as DATA. Sources keep their counts, so that `scale` shrinks them as it did.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from dpr_mini import recipe as recipes
from dpr_mini.files.rows import read_rows, write_rows, write_text

ROOT = Path(__file__).resolve().parents[1]
USUAL = [ROOT / "recipes" / name for name in ("smoke.yaml", "smollm2-cpu.yaml")]
HEAD = "# Made by tools/offline_recipe.py from {}: its problems are in files beside this one.\n"


def problem_rows(recipe: Path) -> list[dict[str, Any]]:
    """The rows of the recipe's problems stage, run now. Ends the program with its last line where it fails."""
    with tempfile.TemporaryDirectory(prefix="dpr-offline-") as runs:
        command = [sys.executable, "-m", "dpr_mini.cli", "run", str(recipe), "--until", "problems", "--runs", runs]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"offline_recipe.py: {recipe}: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
        (rows,) = Path(runs).glob("*/problems-*/rows.jsonl")
        return list(read_rows(rows))


def write(recipe: Path, rows: Iterable[Mapping[str, Any]], out: Path) -> Path:
    """The recipe that reads `rows` from files in `out`; it has the file name of the one it extends."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["split"], row["source"]), []).append(row)
    splits: dict[str, list[dict[str, Any]]] = {}
    for number, ((split, _), group) in enumerate(groups.items()):
        file = f"{recipe.stem}-{number}.jsonl"
        write_rows(
            out / file,
            (
                {"problem": r["text"], "answer": r["answer"], "level": r["level"], "subject": r["subject"]}
                for r in group
            ),
        )
        splits.setdefault(split, []).append({"file": file, "count": len(group)})
    asked = recipes.load(recipe)
    content: dict[str, Any] = {"extends": os.path.relpath(recipe.resolve(), out.resolve())}
    if (folder := recipe.parent / asked.model.name).is_dir():  # beside the recipe, and so not beside this one
        content["model"] = {"name": os.path.relpath(folder.resolve(), out.resolve())}
    content["problems"] = {"train": splits.pop("train"), "held_out": splits}
    write_text(out / recipe.name, HEAD.format(recipe.name) + yaml.safe_dump(content, sort_keys=False))
    return out / recipe.name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", type=Path, default=USUAL)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "carried" / "data")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    for recipe in chosen.recipes:
        rows = problem_rows(recipe)
        print(f"{write(recipe, rows, chosen.out)}: {len(rows)} problems")


if __name__ == "__main__":
    main()
