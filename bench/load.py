"""Rows a second and peak memory of everything that reads rows, as the rows grow.

    python bench/load.py [--what "filter;pack"] [--sizes 1000,100000,1000000] [--folder FOLDER] [--out FILE]

Each size of each thing is a process of its own, under a limit on its address space; inputs are made first and not
counted. Seconds are the processor's, of the process and its children. Writes bench/results/load.json and load.md after
each measurement; what stands in the file and is not asked for again stays. Rows are made: problems of 25 words with a
number, four dialogues a problem, half of them of two turns of 45 words, a third of the answers wrong, 60 token ids a
turn; no two texts are equal. Real dialogues are longer: read MB a second, not rows, across from here.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dpr_mini import recipe
from dpr_mini.files.rows import Rows, read_json, read_rows, write_json, write_rows, write_text
from dpr_mini.machine.facts import facts
from dpr_mini.store import Work

BENCH = Path(__file__).parent
RESULTS = BENCH / "results" / "load.json"
SMOKE_MODEL = BENCH.parent / "recipes" / "smoke-model"
TEXT = "a train leaves the station with apples and Alice buys seven boxes of pens for her class then gives half away"
RULES = ("answered", "answer_correct", "not_truncated", "false_arithmetic", "repetition", "duplicate")
GIB = 6  # address space of a measurement


def words(rng: random.Random, count: int) -> str:
    return " ".join(rng.choices(TEXT.split(), k=count))


# ---------------------------------------------------------------- inputs


def sources(count: int) -> Iterator[dict[str, Any]]:
    """Problems as a user's file has them."""
    rng = random.Random(1)
    return ({"problem": f"{words(rng, 25)} {i}?", "answer": str(i), "level": "x"} for i in range(count))


def problems(count: int) -> Iterator[dict[str, Any]]:
    """The problems of `count` dialogues."""
    rng = random.Random(2)
    for i in range((count + 3) // 4):
        text = f"{words(rng, 25)} {i}?"
        yield {"id": f"p{i}", "source": "s", "text": text, "answer": str(i), "level": "x", "split": "train"}


def dialogues(count: int) -> Iterator[dict[str, Any]]:
    rng = random.Random(3)
    for i in range(count):
        answer, name = i // 4, f"p{i // 4}#{i % 4}"
        text = f"{words(rng, 40)}. {i} + 1 = {i + 1}. Answer: {answer if i % 3 else answer + 1}"
        ids = [rng.randrange(3, 60) for _ in range(60)]
        turn = {"instruction": "solve", "prompt": words(rng, 25), "ids": ids, "text": text, "finish": "stop"}
        turns = [turn] * (1 + i % 2)
        yield {"id": name, "problem_id": f"p{answer}", "sample": i % 4, "turns": turns, "engine": "x", "seed": i}


def kept(count: int) -> Iterator[dict[str, Any]]:
    """Rows as a filter leaves them."""
    right = {"status": "correct", "extracted": "1", "how": "marker/value"}
    for told in dialogues(count):
        row = {"id": told["id"], "problem_id": told["problem_id"], "kind": "single_right", "behaviours": {}}
        yield row | {"verdicts": [right] * len(told["turns"]), "dialogue": told}


def answers(count: int) -> Iterator[dict[str, Any]]:
    """Rows for the filter command."""
    rng = random.Random(4)
    for i in range(count):
        text = f"{words(rng, 40)}. {i} + 1 = {i + 1}. Answer: {i // 4}"
        yield {"id": i, "problem_id": f"p{i // 4}", "gold": str(i // 4), "text": text}


def cases(count: int) -> Iterator[dict[str, Any]]:
    """Rows for the grade command."""
    return ({"id": i, "gold": str(i), "pred": f"so \\boxed{{{i + (i % 3 == 0)}}}"} for i in range(count))


MADE: Mapping[str, Callable[[int], Iterator[dict[str, Any]]]] = {
    f.__name__: f for f in (sources, problems, dialogues, kept, answers, cases)
}


def made(folder: Path, name: str, count: int) -> Path:
    """Folder of rows.jsonl with `count` rows of a kind, made where it is missing."""
    path = folder / f"{name}-{count}"
    if not (path / "rows.jsonl").exists():
        path.mkdir(parents=True, exist_ok=True)
        write_rows(path / "rows.jsonl", MADE[name](count))
    return path


def held_out(count: int) -> Iterator[dict[str, Any]]:
    """The same problems, and as many that are held out."""
    for row in problems(count):
        yield row
        yield {**row, "id": f"h{row['id']}", "split": "bench"}


def asked(count: int) -> Iterator[dict[str, Any]]:
    """Answers to the held-out problems: greedy ones and three samples of each."""
    for row in dialogues(count):
        sample = -1 if row["sample"] == 3 else row["sample"]
        name = f"h{row['problem_id']}"
        yield {**row, "id": f"{name}#{sample}", "problem_id": name, "sample": sample, "turns": row["turns"][:1]}


def a_run(folder: Path, count: int) -> dict[str, Path]:
    """Stages by name of a run that drew and filtered `count` dialogues and was asked for as many answers."""
    from dpr_mini.stages import evaluate, filter

    root = folder / f"run-{count}"
    at = {
        name: root / f"{name}-00000000" for name in ("problems", "eval-0-answers", "eval-0", "dialogue-1", "filter-1")
    }
    if (root / "at.json").exists():
        return at
    for path in at.values():
        path.mkdir(parents=True, exist_ok=True)
    for name, rows in (("problems", held_out), ("eval-0-answers", asked), ("dialogue-1", dialogues)):
        write_rows(at[name] / "rows.jsonl", rows(count))
    turn = {"answers": count, "prompt_tokens": 1, "cached_tokens": 0, "tokens": 60 * count, "truncated": 0}
    drawn = {"dialogues": count, "tokens": 60 * count, "turns": [turn | {"cached_share": 0.0}], "engine": "made"}
    made_of = {"train": count // 4, "bench": count // 4}
    grading = evaluate.CardsSettings(recipe.GraderConfig(), {})
    metrics = {
        "problems": {"splits": made_of, "sources": {"train/s": count // 4}, "dropped": {}},
        "eval-0-answers": drawn,
        "dialogue-1": drawn,
        "eval-0": _stage(evaluate.cards, at["eval-0"], grading, problems=at["problems"], answers=at["eval-0-answers"]),
        "filter-1": _stage(
            filter.run,
            at["filter-1"],
            filter.FilterSettings(recipe.FilterConfig(rules=RULES), {}),
            problems=at["problems"],
            dialogues=at["dialogue-1"],
        ),
    }
    for name, told in metrics.items():
        manifest = {"stage": name, "key": "00000000", "config": {}, "inputs": {}, "metrics": told, "seconds": 1.0}
        write_json(at[name] / "stage.json", manifest | {"finished": "2026-01-01T00:00:00Z", "versions": {}, **facts()})
    write_json(root / "at.json", {name: str(path) for name, path in at.items()})
    return at


# ---------------------------------------------------------------- what is measured


class Machine:
    """What the pack stage asks of the machine: the smoke model's template."""

    def base_model(self) -> Path:
        return SMOKE_MODEL

    def template(self, model: Path) -> Any:
        from dpr_mini.chat.template import Template

        return Template.load(model)


def _stage(run: Callable[[Work], Any], folder: Path, settings: Any, **inputs: Path) -> Any:
    return run(Work("load", folder, settings, inputs, Machine()))


def _problems(folder: Path, out: Path, count: int, near: float | None = None) -> None:
    from dpr_mini.stages.problems import ProblemsSettings, run

    file = f"sources-{count}/rows.jsonl"
    told = {"train": [{"file": file}], "held_out": {"bench": [{"file": file, "count": 200}]}}
    config = recipe.ProblemsConfig.model_validate({**told, "near_duplicates": near})
    _stage(run, out, ProblemsSettings(config, {}, folder))


def _filter(folder: Path, out: Path, count: int, *more: str) -> None:
    from dpr_mini.stages.filter import FilterSettings, run

    settings = FilterSettings(recipe.FilterConfig(rules=(*RULES, *more)), {})
    _stage(run, out, settings, dialogues=folder / f"dialogues-{count}", problems=folder / f"problems-{count}")


def _filter_command(folder: Path, out: Path, count: int) -> None:
    from dpr_mini.commands.filter import filter_file

    filter_file(folder / f"answers-{count}" / "rows.jsonl", out / "out.jsonl")


def _pack(folder: Path, out: Path, count: int) -> None:
    from dpr_mini.stages.pack import PackSettings, run

    settings = PackSettings(recipe.PackConfig(tokens_per_row=512), {}, "smoke-model", 1)
    _stage(run, out, settings, kept=folder / f"kept-{count}")


def _grade_command(folder: Path, out: Path, count: int) -> None:
    from dpr_mini.commands.grade import grade_file

    grade_file(folder / f"cases-{count}" / "rows.jsonl", out / "out.jsonl")


def _read(folder: Path, out: Path, count: int) -> None:
    assert sum(1 for _ in read_rows(folder / f"dialogues-{count}" / "rows.jsonl")) == count


def _write(folder: Path, out: Path, count: int) -> None:
    write_rows(out / "rows.jsonl", read_rows(folder / f"dialogues-{count}" / "rows.jsonl"))


def _add(folder: Path, out: Path, count: int) -> None:
    for begin, end in ((0, count // 2), (count // 2, count)):  # half, and the rest when it is opened again
        with Rows(out / "rows.jsonl") as rows:
            for i in range(begin, end):
                rows.add({"id": f"p{i // 4}#{i % 4}", "text": "x" * 300})


def _report(folder: Path, out: Path, count: int) -> None:
    from dpr_mini.stages.report import write

    told = {"name": "load", "problems": {"train": [{"file": "sources.jsonl"}]}}
    write(out, a_run(folder, count), recipe.parse(told, "load").model_dump(mode="json"))


# name -> (what runs, the rows it needs)
MEASURED: Mapping[str, tuple[Callable[[Path, Path, int], None], tuple[str, ...]]] = {
    "problems": (_problems, ("sources",)),
    "problems, near duplicates": (lambda *a: _problems(*a, near=0.8), ("sources",)),
    "filter": (_filter, ("dialogues", "problems")),
    "filter, near duplicates": (lambda *a: _filter(*a, "near_duplicate"), ("dialogues", "problems")),
    "filter command": (_filter_command, ("answers",)),
    "pack": (_pack, ("kept",)),
    "grade command": (_grade_command, ("cases",)),
    "read_rows": (_read, ("dialogues",)),
    "write_rows": (_write, ("dialogues",)),
    "Rows.add": (_add, ()),
    "report": (_report, ()),
}


def _measure(what: str, folder: Path, count: int) -> dict[str, float]:
    """One measurement, in this process: processor seconds and the peak of its memory in MiB."""
    resource.setrlimit(resource.RLIMIT_AS, (GIB << 30, GIB << 30))
    out = folder / "out" / f"{what.replace(', ', '-').replace(' ', '-')}-{count}"
    out.mkdir(parents=True, exist_ok=True)
    for path in out.iterdir():
        path.unlink()
    begun = time.monotonic()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        MEASURED[what][0](folder, out, count)
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {
        "rows": count,
        "cpu_s": round(sum(u.ru_utime + u.ru_stime for u in used), 2),
        "wall_s": round(time.monotonic() - begun, 2),
        "peak_mib": round(used[0].ru_maxrss / 1024, 1),
    }


def _fresh(what: str, folder: Path, count: int) -> dict[str, float]:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--one", what, "--sizes", str(count), "--folder", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{what}, {count} rows: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    return json.loads(done.stdout)


# ---------------------------------------------------------------- the table


def table(measured: Mapping[str, list[dict[str, float]]]) -> str:
    sizes = sorted({one["rows"] for of in measured.values() for one in of})
    head = ["", *(f"{n:,} rows: rows/s" for n in sizes), *(f"{n:,}: peak MiB" for n in sizes), "bytes a row"]
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    for what, of in measured.items():
        by = {one["rows"]: one for one in of}
        speeds = [f"{n / max(by[n]['cpu_s'], 0.01):,.0f}" if n in by else "-" for n in sizes]
        peaks = [f"{by[n]['peak_mib']:,.0f}" if n in by else "-" for n in sizes]
        *_, small, large = [None, None, *sorted(of, key=lambda one: one["rows"])]
        grown = (large["peak_mib"] - small["peak_mib"]) * 2**20 / (large["rows"] - small["rows"]) if small else 0
        lines.append([what, *speeds, *peaks, f"{grown:,.0f}" if small else "-"])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", help=f"of {'; '.join(MEASURED)}, with semicolons between; default: all")
    parser.add_argument("--sizes", default="1000,100000,1000000")
    parser.add_argument("--folder", type=Path, default=Path("runs/load"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    sizes = [int(n) for n in given.sizes.split(",")]
    if given.one:
        print(json.dumps(_measure(given.one, given.folder.resolve(), sizes[0])))
        return
    told = read_json(given.out) if given.out.exists() else {}
    measured: dict[str, list[dict[str, float]]] = told.get("measured", {})
    for count in sizes:
        for what in given.what.split(";") if given.what else MEASURED:
            for name in MEASURED[what][1]:
                made(given.folder, name, count)
            if what == "report":
                a_run(given.folder, count)
            one = _fresh(what, given.folder, count)
            print(f"{what:26} {count:>9,} rows {one['cpu_s']:9.1f} s {one['peak_mib']:8.0f} MiB", flush=True)
            of = [x for x in measured.get(what, []) if x["rows"] != count] + [one]
            measured[what] = sorted(of, key=lambda x: x["rows"])
            ordered = {what: measured[what] for what in MEASURED if what in measured}
            about = "processor seconds and peak memory (resident set) of one process a measurement"
            write_json(given.out, {"what": about, "limit_gib": GIB, "measured": ordered, **facts()})
            write_text(given.out.with_suffix(".md"), table(ordered))


if __name__ == "__main__":
    main()
