"""What a stage leaves behind, for a comparison of two runs of it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from dpr_mini.files.rows import read_rows

# what belongs to a moment, not to the work
MOMENTARY = ("seconds", "cached_tokens", "tokens_per_second", "mfu", "matmul_flop_per_s")


def rows(folder: Path) -> dict[str, list[str]]:
    """All that a stage wrote as rows, sorted, without what belongs to a moment."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items() if k not in MOMENTARY}
        return [plain(v) for v in value] if isinstance(value, list) else value

    return {f.name: sorted(str(plain(r)) for r in read_rows(f)) for f in sorted(folder.glob("*.jsonl"))}


def weights(folder: Path) -> str:
    """Digest of a training stage's model."""
    return hashlib.sha256((folder / "model" / "model.safetensors").read_bytes()).hexdigest()
