"""Put the spread of the seeds into published comparisons that have summaries only, and find the claims made from them.

    python tools/recompute_comparisons.py [--root DIR]     # writes bench/results/recomputed.json and recomputed.md

A comparison.json from before crossed intervals has a difference's standard error over problems and its value for each
seed. se^2 = se_problems^2 + sd_seeds^2 / S with Satterthwaite's degrees of freedom (scoring/crossed.py, `joined`) is a
little wide: the sd of the seeds has the drawing in it, which se_problems has too. One seed gives nothing to put in.
A claim is a place in README.md, docs/ or bench/LOG.md where a difference stands with its old interval, in either
direction. It no longer holds where the old interval excluded zero and the new one does not.
"""

from __future__ import annotations

import argparse
import bisect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import stdev
from typing import Any

from dpr_mini.files.rows import read_json, write_json, write_text
from dpr_mini.scoring.crossed import interval, joined, two_sided

ROOT = Path(__file__).resolve().parent.parent
ROUNDED = 0.00051  # what a number of three places may differ from its own
PAGES = ("README.md", "docs/*.md", "bench/LOG.md")


def recomputed(difference: Mapping[str, Any]) -> dict[str, Any]:
    """A published difference with its interval over problems and seeds."""
    each = list(difference["per_seed"].values())
    row = {name: difference[name] for name in ("arm", "baseline", "on", "measure", "n", "mean", "se")}
    row |= {"seeds": len(each), "problems_low": difference["low"], "problems_high": difference["high"]}
    row["p_sign"] = difference["p_sign"]
    if len(each) < 2 or not difference["se"]:
        return row | {"sd_seeds": None, "low": None, "high": None, "p": None, "df": None}
    sd = stdev(each)
    se, df = joined(difference["se"], difference["n"], sd, len(each))
    low, high = interval(difference["mean"], se, df)
    return row | {"sd_seeds": sd, "low": low, "high": high, "p": two_sided(difference["mean"], se, df), "df": df}


def excludes_zero(low: float, high: float) -> bool:
    return low > 0 or high < 0


def fell(row: Mapping[str, Any]) -> bool:
    """Whether zero was outside the old interval and is inside the new one."""
    old = excludes_zero(row["problems_low"], row["problems_high"])
    return old and row["low"] is not None and not excludes_zero(row["low"], row["high"])


def stated(text: str) -> Iterator[tuple[int, tuple[float, float, float]]]:
    """(line, (mean, low, high)) of every signed difference with an interval in a page."""
    number = r"([-+]?\d\.\d{3})"
    starts = [0, *(m.end() for m in re.finditer("\n", text))]
    for match in re.finditer(rf"([-+]\d\.\d{{3}})\*{{0,2}}\s+\[{number},\s+{number}\]", text):
        yield bisect.bisect_right(starts, match.start()), tuple(map(float, match.groups()))


def claims(row: Mapping[str, Any], pages: Mapping[str, str]) -> Iterator[str]:
    """file:line of every place where the difference stands with its old interval, in either direction."""
    values = row["mean"], row["problems_low"], row["problems_high"]
    for wanted in (values, (-values[0], -values[2], -values[1])):
        for name, text in pages.items():
            for line, said in stated(text):
                if all(abs(x - y) < ROUNDED for x, y in zip(said, wanted, strict=True)):
                    yield f"{name}:{line}"


def table(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| claimed at | difference | on | n, seeds | over problems (as published) | with seeds | p | |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for r in rows:
        old = f"{r['mean']:+.3f} [{r['problems_low']:+.3f}, {r['problems_high']:+.3f}], p {r['p_sign']:.3f}"
        new = "one seed" if r["low"] is None else f"[{r['low']:+.3f}, {r['high']:+.3f}]"
        p = "-" if r["p"] is None else f"{r['p']:.3f}"
        said = "**no longer holds**" if fell(r) else ""
        what = f"{r['arm']} - {r['baseline']}, {r['measure']}"
        cells = (", ".join(r["claims"]), what, r["on"], f"{r['n']}, {r['seeds']}", old, new, p, said)
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def recompute(root: Path) -> dict[str, Any]:
    """All differences of the published comparisons; those that a page states have their `claims`."""
    pages = {p.relative_to(root).as_posix(): p.read_text("utf-8") for form in PAGES for p in sorted(root.glob(form))}
    files = {}
    for file in sorted((root / "bench" / "results").glob("*/comparison*.json")):
        differences = read_json(file)["differences"]
        if any("p_sign" not in d for d in differences):
            continue  # its intervals are over problems and seeds already
        rows = [recomputed(d) for d in differences]
        for row in rows:
            row["claims"] = sorted(set(claims(row, pages)), key=lambda at: (at.split(":")[0], len(at), at))
        files[file.relative_to(root).as_posix()] = rows
    every = [row for rows in files.values() for row in rows]
    found = {at for row in every for at in row["claims"]}
    return {
        "what": "published differences with the spread of their seeds in the interval: tools/recompute_comparisons.py",
        "differences": len(every),
        "excluded_zero": sum(excludes_zero(r["problems_low"], r["problems_high"]) for r in every),
        "no_longer": sum(map(fell, every)),
        "unmatched": [
            at
            for name, text in pages.items()
            for at in dict.fromkeys(f"{name}:{n}" for n, _ in stated(text))
            if at not in found
        ],
        "files": files,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=ROOT)
    root = parser.parse_args().root
    found = recompute(root)
    shown = {}  # a pair of arms once, in whichever direction it comes first
    for file, rows in found["files"].items():
        for row in rows:
            if row["claims"]:
                shown.setdefault((file, frozenset((row["arm"], row["baseline"])), row["on"], row["measure"]), row)
    claimed = sorted(shown.values(), key=lambda r: (not fell(r), r["claims"]))
    lines = [
        "# Published comparisons with the spread of their seeds",
        "",
        f"By `tools/recompute_comparisons.py`: of {found['differences']} differences {found['excluded_zero']} had "
        f"an interval without zero, {found['no_longer']} of these have one with it now. Below are those that a page "
        "states, with file and line as of this writing. All intervals are 95 %.",
        "",
        *table(claimed),
        "",
        "Differences with an interval that stand in none of these files: of one run, whose interval is about that one "
        f"training, or of comparisons that are not kept here: {', '.join(found['unmatched'])}.",
    ]
    out = root / "bench" / "results"
    write_json(out / "recomputed.json", found)
    write_text(out / "recomputed.md", "\n".join(lines) + "\n")
    print("\n".join(lines[2:]))


if __name__ == "__main__":
    main()
