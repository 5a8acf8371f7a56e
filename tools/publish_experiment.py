"""Publish the countdown experiment: its comparison, the rows that every number comes from, one figure.

    dpr-mini compare runs/a/countdown runs/b/countdown
    python tools/publish_experiment.py runs/a/countdown runs/b/countdown --out bench/results/DATE-countdown
    python tools/publish_experiment.py --check bench/results/DATE-countdown

Takes comparison.json, .md and .svg from the first folder (where `compare` writes them; else --comparison FOLDER) and
test-opened.jsonl from all; writes rows/ (dpr_mini/reporting/published.py has the layout), experiment.svg and README.md
into --out, checks the rows, and fills `<!-- experiment -->` of docs/experiment.md and README.md. --check computes every
arm's scores and the hypotheses from rows/ alone, with no store, and ends with 1 where one differs from comparison.json.
Publishing again changes nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dpr_mini.files.rows import read_json, read_rows, write_rows, write_text
from dpr_mini.recipe import Hypothesis
from dpr_mini.reporting import comparison as words
from dpr_mini.reporting import inside, ladder, published
from dpr_mini.reporting.arms import arrange, collect
from dpr_mini.reporting.document import Table
from dpr_mini.reporting.hypotheses import examine
from dpr_mini.reporting.ladder import Panel, Rung
from dpr_mini.reporting.measured import measured
from dpr_mini.runs import OPENED
from dpr_mini.types import UserError

ROOT = Path(__file__).resolve().parent.parent
PAGE, README, MARK = "docs/experiment.md", "README.md", "experiment"
LIMIT = 2_000_000  # bytes of rows/ and what is copied: more is no part of a repository
COPIED = ("comparison.json", "comparison.md", "comparison.svg")

PANELS = (
    Panel(
        "Countdown",
        "countdown",
        (
            Rung("base", "countdown-base"),
            Rung("plain", "countdown-plain"),
            Rung("plain, majority at equal tokens", "countdown-plain", "maj@tokens"),
            Rung("plain, redrawn until the base's check accepts", "countdown-plain", "redraw"),
            Rung("base, asked turn by turn", "countdown-base-turns"),
            Rung("dialogue: first answer", "countdown-dialogue", "first"),
            Rung("dialogue: final answer", "countdown-dialogue"),
            Rung("control: right and confirmed alone", "countdown-confirmed", control=True),
            Rung("control: verdicts without checks", "countdown-no-check", control=True),
            Rung("control: verdicts by a coin", "countdown-coin", control=True),
            Rung("two rounds of plain", "countdown-plain-2"),
            Rung("both phases", "countdown"),
        ),
    ),
    Panel(
        "Sums, where checking is computing again",
        "sums",
        (Rung("plain", "countdown-plain"), Rung("dialogue", "countdown-dialogue"), Rung("both phases", "countdown")),
    ),
)

HEADLINE = (
    Rung("base model", "countdown-base"),
    Rung("base model, asked turn by turn", "countdown-base-turns"),
    Rung("plain rejection tuning", "countdown-plain"),
    Rung("the same, redrawn until the base model's check accepts", "countdown-plain", "redraw"),
    Rung("phase 1, first answer of a chain", "countdown-dialogue", "first"),
    Rung("phase 1, final answer", "countdown-dialogue"),
    Rung("both phases", "countdown"),
)


# ---------------------------------------------------------------- publish


def publish(runs: Sequence[Path], out: Path, source: Path | None = None, root: Path | None = None) -> list[str]:
    """Write everything into `out`, and into the pages of `root`; the lines of its check.

    Raises UserError where rows do not fit, or a file lacks.
    """
    source = source or runs[0]
    if lack := [name for name in COPIED if not (source / name).exists()]:
        raise UserError(f"{source} has no {', '.join(lack)}: dpr-mini compare {' '.join(map(str, runs))}")
    numbers = read_json(source / "comparison.json")
    if "measured" not in numbers:
        raise UserError(f"{source / 'comparison.json'} is from before it had `measured`: run dpr-mini compare again")
    scored = numbers["arms"][numbers["baseline"]]["scores"]
    if lack := [panel.on for panel in PANELS if panel.on not in scored]:
        raise UserError(f"comparison.json has no scores on {', '.join(lack)}: every run must have opened the test sets")
    comparison = arrange(collect(runs), numbers["baseline"])
    files, left_out = published.files(comparison), ()
    room = LIMIT - sum((source / name).stat().st_size for name in COPIED)
    if size(files) > room and (left_out := published.not_tested(comparison)):
        print(f"rows: {size(files):,} bytes with {', '.join(left_out)}; left out, so that test rows fit")
        files = published.files(comparison, left_out)
    if size(files) > room:
        raise UserError(f"rows take {size(files):,} bytes, and {room:,} are left of {LIMIT:,}")
    out.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        write_text(out / name, (source / name).read_text(encoding="utf-8"))
    opened = sorted(openings(runs), key=lambda row: row["opened"])
    write_rows(out / OPENED, opened)
    rows = out / published.ROWS
    rows.mkdir(exist_ok=True)
    for old in rows.iterdir():
        if old.name not in files:
            old.unlink()
    for name, content in files.items():
        (rows / name).write_bytes(content)
    write_text(out / "experiment.svg", ladder.figure(numbers, PANELS))
    write_text(out / "README.md", readme(numbers, out.name, files, left_out, opened))
    print(f"{out}: {size(files):,} bytes of rows, {len(opened)} lines of {OPENED}")
    if root:
        fill(root / PAGE, block(numbers, out.name))
        fill(root / README, headline(numbers, out.name))
    del comparison  # a gigabyte of answers, which the check reads again from the rows
    return check(out)


def size(files: Mapping[str, bytes]) -> int:
    return sum(map(len, files.values()))


def openings(runs: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """When test sets were opened, of every store."""
    for folder in runs:
        if (folder / OPENED).exists():
            yield from read_rows(folder / OPENED)
        else:
            print(f"{folder}: no {OPENED}: no test set was opened there")


def readme(
    numbers: Mapping[str, Any],
    name: str,
    files: Mapping[str, bytes],
    left_out: Sequence[str],
    opened: Sequence[Mapping[str, Any]],
) -> str:
    """What lies in the folder, and what a column is."""
    by_seeds: dict[str, list[str]] = {}
    for arm, of in numbers["arms"].items():
        by_seeds.setdefault(", ".join(map(str, of["seeds"])), []).append(arm)
    arms = "\n".join(f"* seeds {seeds}: {', '.join(sorted(of))}" for seeds, of in by_seeds.items())
    first = f"the first at {opened[0]['opened']}, commit {opened[0]['commit']}" if opened else "none"
    lack = (
        f"Left out, so that the rest fits in {LIMIT / 1e6:.0f} MB: {', '.join(left_out)}; with them the slices of "
        "comparison.json that are over all benchmarks or by difficulty cannot be computed again."
        if left_out
        else "No benchmark is left out."
    )
    return f"""# {name}

`comparison.json`, `.md`, `.svg`: what `dpr-mini compare` wrote. `experiment.svg`: the figure, from `comparison.json`.
`test-opened.jsonl`: when which run first asked about the test sets ({len(opened)} lines; {first}).
Arms:

{arms}

`rows/` ({size(files):,} bytes) has every graded answer. {lack}
Its own check, which needs no run: `python tools/publish_experiment.py --check bench/results/{name}`.

* `index.json`: arms with their seeds; `baseline` and `base` (whose greedy answers make the bins); benchmarks.
* `problems.jsonl.gz`: a line a problem, in the order of every column: `problem` (its id), `benchmark`, `votes`: the
  answers that anyone gave to it, the most common first.
* `ARM.jsonl.gz`: the first line has `shapes`; then a line for each `seed`, `benchmark` and `kind` (`sampled`; `greedy`;
  `redrawn`: drawn until the base's check accepts, `tokens` of all draws and checks together). `samples` are the sample
  numbers of each problem. A column has one value an answer, by problem and by sample within it:
  * `shape`: a number in `shapes`, where `right` is the final answer, `first` the first one (the answer itself where
    there is one alone), `finish` stop, length or error; `attempts`: whether each is right; `reviews`: of each
    [which attempt, whether it is accepted, whether the check is true].
  * `tokens`: generated.
  * `vote`: a number in the problem's `votes`, the answer's text; -1 where none was found, and of greedy answers.
"""


def block(numbers: Mapping[str, Any], name: str) -> list[str]:
    """The result for docs/experiment.md: figure, hypotheses, arms on the test sets, what responses are made of."""
    at = f"../bench/results/{name}"
    lines = [f"![rates of the arms on the test problems]({at}/experiment.svg)"]
    titled = [("Registered hypotheses", words.hypotheses(numbers))]
    titled += [(f"Arms on {panel.on} (exploratory)", words.arms(numbers, panel.on)) for panel in PANELS]
    made_of = inside.tables(numbers.get("inside", {}), PANELS[0].on)
    titled += [(f"{table.title}, {PANELS[0].on}, all seeds together (exploratory)", table) for table in made_of]
    for title, table in titled:
        lines += ["", f"**{title}**", "", *_markdown(table), "", *([table.note] if table.note else [])]
    more = f"dev, tokens sampled and trained, conditions: [comparison.md]({at}/comparison.md)."
    return ["", *lines, "", f"Rows: [`bench/results/{name}`]({at}/README.md); {more}", ""]


def headline(numbers: Mapping[str, Any], name: str) -> list[str]:
    """The README's figure and first table: rates on both test sets, and the tokens of an answer on the first."""
    tests, rows = [panel.on for panel in PANELS], []
    for rung in HEADLINE:
        found = [ladder.value(numbers, rung, on) for on in tests]
        rates = (f"{v.mean:.3f} [{v.low:.3f}, {v.high:.3f}]" if v else "-" for v in found)
        counted = found[0] is not None and found[0].tokens_mean is not None
        rows.append((rung.label, *rates, f"{found[0].tokens_mean:.0f}" if counted else "-"))
    head = ("pass@1", *tests, "tokens")
    lines = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
    figure = f"![rates of the arms on the test problems](bench/results/{name}/experiment.svg)"
    return ["", figure, "", *lines, ""]


def _markdown(table: Table) -> list[str]:
    rows = [[cell.replace("\n", "<br>").replace("|", r"\|") for cell in row] for row in (table.head, *table.rows)]
    return ["| " + " | ".join(row) + " |" for row in (rows[0], ["---"] * len(table.head), *rows[1:])]


def fill(page: Path, lines: Sequence[str], mark: str = MARK) -> None:
    """Put lines between the page's markers. Raises UserError where it has none."""
    marked = re.compile(rf"(<!-- {mark} -->\n).*?(<!-- end {mark} -->)", re.DOTALL)
    text = page.read_text(encoding="utf-8")
    if not marked.search(text):
        raise UserError(f"{page}: no <!-- {mark} --> and <!-- end {mark} --> to fill between")
    write_text(page, marked.sub(lambda m: "\n".join([m[1].rstrip(), *lines, m[2]]), text))
    print(f"{page}: <!-- {mark} -->")


# ---------------------------------------------------------------- check


def check(folder: Path) -> list[str]:
    """What differs between comparison.json and what its rows give, a line each; [] where all is equal."""
    numbers, rows = read_json(folder / "comparison.json"), published.read(folder / published.ROWS)
    wrong: list[str] = []
    if lone := numbers["arms"].keys() ^ rows.arms.keys():
        return [f"arms that comparison.json or the rows have alone: {', '.join(sorted(lone))}"]
    slices = [s for s in rows.complete_slices if s in next(iter(numbers["arms"].values()))["scores"]]
    for name, arm in numbers["arms"].items():
        for on in slices:
            wrong += _unlike(arm["scores"][on], asdict(rows.scores(name, on)), f"{name} on {on}")
    asked = [hypothesis(row) for row in numbers["hypotheses"]]
    usable = [i for i, h in enumerate(asked) if h.benchmark in slices or numbers["hypotheses"][i]["missing"]]
    for i, tested in enumerate(examine(rows, asked)):
        if i in usable:  # why one is missing is said by the store; that it is missing must agree
            before, now = (
                {k: v for k, v in r.items() if k != "missing"} for r in (numbers["hypotheses"][i], asdict(tested))
            )
            wrong += _unlike(before, now, f"{tested.name}, {tested.claim}")
    mine = {(m.arm, m.measure, m.on): asdict(m) for m in measured(rows, asked)}
    shown = [m for m in numbers["measured"] if m["on"] in slices]
    for row in shown:
        key = row["arm"], row["measure"], row["on"]
        wrong += _unlike(row, mine.get(key), " ".join(key))
    pairs = [d for d in numbers["differences"] if d["on"] in slices]
    for row in pairs:
        found = rows.difference(row["arm"], row["baseline"], row["on"], row["measure"] == "greedy")
        keys = {k: row[k] for k in ("arm", "baseline", "on", "measure")}
        wrong += _unlike(row, found and keys | asdict(found), "{arm} - {baseline} on {on}, {measure}".format(**keys))
    print(
        f"{folder}: from its rows alone {len(numbers['arms'])} arms on {', '.join(slices)}; {len(usable)} of "
        f"{len(asked)} hypotheses; {len(shown)} other rates; {len(pairs)} of {len(numbers['differences'])} "
        "differences: "
        + (f"{len(wrong)} numbers differ from comparison.json" if wrong else "all equal those of comparison.json")
    )
    if left := [s for s in next(iter(numbers["arms"].values()))["scores"] if s not in slices]:
        print(f"not in the rows, not checked: {', '.join(left)}")
    return wrong


def hypothesis(row: Mapping[str, Any]) -> Hypothesis:
    """A registered hypothesis from what comparison.json says of it."""

    def side(text: str) -> dict[str, str] | int:
        arm, measure = re.fullmatch(r"(.*?)(?: \(([^()]*)\))?", text).groups()
        return {"arm": arm, **({"measure": measure} if measure else {})} if text != "0" else 0

    fields = {"name": row["name"], "claim": row["claim"], "benchmark": row["on"], "family": row["family"]}
    fields |= {"margin": row["margin"], "equivalent": row["equivalent"], "than": side(row["than"])}
    fields["of" if row["equivalent"] else "greater"] = side(row["side"])
    return Hypothesis.model_validate(fields)


def _unlike(before: Any, now: Any, where: str) -> list[str]:
    """Where two values differ by more than how sums are rounded; numbers as JSON has them."""
    now = json.loads(json.dumps(now))
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [*before, *(k for k in now if k not in before)]
        return [line for k in keys for line in _unlike(before.get(k), now.get(k), f"{where}: {k}")]
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        return [
            line for i, (a, b) in enumerate(zip(before, now, strict=True)) for line in _unlike(a, b, f"{where}[{i}]")
        ]
    numeric = all(isinstance(x, int | float) and not isinstance(x, bool) for x in (before, now))
    same = math.isclose(before, now, rel_tol=1e-9, abs_tol=1e-12) if numeric else before == now
    return [] if same else [f"{where}: {before} published, {now} from the rows"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUNS", help="the experiment's folders")
    parser.add_argument("--out", type=Path, help="bench/results/DATE-countdown")
    parser.add_argument("--comparison", type=Path, help="folder of comparison.json; the first of RUNS by default")
    parser.add_argument("--check", type=Path, metavar="DIR", help="compute the numbers of a published folder again")
    asked = parser.parse_args()
    if bool(asked.check) is bool(asked.runs) or bool(asked.runs) is not bool(asked.out):
        parser.error("give RUNS and --out, or --check DIR")
    try:
        wrong = check(asked.check) if asked.check else publish(asked.runs, asked.out, asked.comparison, ROOT)
    except UserError as error:
        sys.exit(f"publish_experiment: {error}")
    for line in wrong:
        print(line)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
