"""Publish rounds 1 to 4 of the countdown experiment: what `bench/rounds.sh` compared, as one table.

    python tools/publish_rounds.py runs/countdown-all/rounds/comparison.json --out bench/results/DATE-countdown

Copies the comparison to rounds.json of --out and fills `<!-- rounds -->` of docs/experiment.md. Rounds 3 and 4 may have
fewer seeds than 1 and 2: every row says its own, and a change is over the seeds that both rounds have.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from publish_experiment import PAGE, ROOT, fill

from dpr_mini.files.rows import read_json, write_text
from dpr_mini.types import UserError

MARK, ON = "rounds", "countdown"
LINES = {
    "the method": ("countdown-base", "countdown-dialogue", "countdown", "countdown-round-3", "countdown-round-4"),
    "plain rejection tuning": (
        *("countdown-base", "countdown-plain", "countdown-plain-2"),
        *("countdown-plain-round-3", "countdown-plain-round-4"),
    ),
}
HEAD = ("training", "round", "pass@1", "change on the round before", "tokens", "seeds")


def block(numbers: Mapping[str, Any], name: str) -> list[str]:
    """The table by line of training and round. Raises UserError where `bench/rounds.sh` did not compare an arm."""
    arms = numbers.get("arms", {}) if isinstance(numbers, dict) else {}
    if lack := [arm for line in LINES.values() for arm in line if arm not in arms]:
        raise UserError(f"comparison.json has no {', '.join(lack)}: it is not of bench/rounds.sh")
    rows = []
    for line, names in LINES.items():
        for number, arm in enumerate(names):
            score = arms[arm]["scores"][ON]
            rate = f"{score['mean']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"
            moved = change(numbers["differences"], arm, names[number - 1]) if number else "-"
            seeds = f"{len(arms[arm]['seeds'])}"
            rows.append((line, str(number) if number else "none", rate, moved, f"{score['tokens_mean']:.0f}", seeds))
    table = ["| " + " | ".join(row) + " |" for row in (HEAD, ["---"] * len(HEAD), *rows)]
    said = (
        "On the test problems of countdown; brackets are 95 % over problems and seeds, changes over the seeds that "
        "both rounds have. Exploratory: nothing of it was registered, and the two lines do not train on equal tokens. "
        "Rounds 3 and 4 begin with the same seed's training problems again. "
        f"[rounds.json](../bench/results/{name}/rounds.json)"
    )
    return ["", *table, "", said, ""]


def change(differences: Sequence[Mapping[str, Any]], arm: str, before: str) -> str:
    """pass@1 of an arm minus that of another, whichever way round it was compared."""
    asked = [d for d in differences if d["on"] == ON and d["measure"] == "pass@1"]
    for sign, pair in ((1, (arm, before)), (-1, (before, arm))):
        for d in asked:
            if (d["arm"], d["baseline"]) == pair:
                low, high = sorted((sign * d["low"], sign * d["high"]))
                return f"{sign * d['mean']:+.3f} [{low:+.3f}, {high:+.3f}]"
    raise UserError(f"comparison.json has no difference of {arm} and {before} on {ON}")


def publish(comparison: Path, out: Path, root: Path = ROOT) -> None:
    """Write rounds.json into the published folder `out`, and the table into the page of `root`."""
    if not comparison.is_file() or not out.is_dir():
        raise UserError(
            f"{out if comparison.is_file() else comparison}: not there; bench/rounds.sh writes the first, "
            "tools/publish_experiment.py the folder"
        )
    numbers = read_json(comparison)
    lines = block(numbers, out.name)
    write_text(out / "rounds.json", comparison.read_text(encoding="utf-8"))
    fill(root / PAGE, lines, MARK)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("comparison", type=Path, help="comparison.json of bench/rounds.sh")
    parser.add_argument("--out", type=Path, required=True, help="bench/results/DATE-countdown")
    asked = parser.parse_args()
    try:
        publish(asked.comparison, asked.out)
    except UserError as error:
        sys.exit(f"publish_rounds: {error}")


if __name__ == "__main__":
    main()
