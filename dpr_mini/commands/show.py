"""`dpr-mini show`: counts, drops by rule and random rows, because data that nobody has read is wrong."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from dpr_mini import store
from dpr_mini.files.rows import read_as, read_rows
from dpr_mini.messages import printable, redacted
from dpr_mini.runs import RunError, foreign, read_latest
from dpr_mini.types import Dialogue, Drop, Kept, Verdict, from_row


def say(text: str) -> None:
    """Print what models and files say: the terminal shows it and obeys none of it."""
    print(printable(redacted(text, wording=True), keep="\n\t"))


def show_run(root: Path) -> None:
    """One line a stage: state, rows, seconds and what its metrics say first."""
    with foreign(root):
        for name, folder in read_latest(root)["stages"].items():
            path = root / folder
            if not (path / store.MANIFEST).exists():
                say(f"{name:15} {'incomplete' if path.exists() else 'not run'}")
                continue
            manifest = store.read_manifest(path)
            facts = {k: v for k, v in manifest["metrics"].items() if not isinstance(v, dict | list)}
            say(f"{name:15} {manifest['seconds']:8.1f} s  " + "  ".join(f"{k}={v}" for k, v in facts.items()))


def show_stage(root: Path, name: str, count: int, seed: int | None) -> None:
    """Metrics, drops by rule and `count` random rows of one stage."""
    with foreign(root):
        stages = read_latest(root)["stages"]
    if name not in stages:
        raise RunError(f"no stage {name!r}; there are: {', '.join(stages)}")
    with foreign(root):
        _show(name, root / stages[name], count, random.Random(seed))


def _show(name: str, folder: Path, count: int, choose: random.Random) -> None:
    if (folder / store.MANIFEST).exists():
        say(json.dumps(store.verified(folder)["metrics"], indent=1, ensure_ascii=False))
    else:
        say(f"{name} is not complete")
    if (folder / "drops.jsonl").exists():
        drops = list(read_as(Drop, folder / "drops.jsonl"))
        say(f"drops by rule: {dict(Counter(d.rule for d in drops).most_common())}")
        for drop in choose.sample(drops, min(count, len(drops))):
            say(f"  dropped {drop.dialogue_id} by {drop.rule}: {drop.evidence}")
    if (folder / "rows.jsonl").exists():
        rows = list(read_rows(folder / "rows.jsonl"))
        say(f"{len(rows)} rows")
        for row in choose.sample(rows, min(count, len(rows))):
            say("-" * 80)
            say(_readable(row))


def _readable(row: dict[str, Any]) -> str:
    """A dialogue as a conversation, with its verdicts where the rules kept it; anything else as JSON."""
    if "dialogue" in row:
        case: Kept = from_row(Kept, row)
        shown = ", ".join(f"{name} {n}" for name, n in case.behaviours.items() if n) or "none"
        return "\n".join([*_turns(case.dialogue, case.verdicts), f"[kind] {case.kind}", f"[behaviours] {shown}"])
    if "turns" in row:
        return "\n".join(_turns(from_row(Dialogue, row)))
    short = {k: v if len(str(v)) < 300 else f"({len(v)} items)" for k, v in row.items()}
    return json.dumps(short, indent=1, ensure_ascii=False)


def _turns(dialogue: Dialogue, verdicts: Sequence[Verdict] = ()) -> list[str]:
    lines = [f"{dialogue.id} ({dialogue.engine}, seed {dialogue.seed})"]
    for turn, verdict in zip_longest(dialogue.turns, verdicts):
        lines += [f"[{turn.instruction}] {turn.prompt}", f"[model, {len(turn.ids)} tokens, {turn.finish}] {turn.text}"]
        lines += [f"[graded] {verdict.status}: {verdict.extracted or 'no answer'} ({verdict.how})"] if verdict else []
    return lines
