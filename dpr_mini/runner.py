"""What the commands `run`, `plan`, `eval`, `report` and `export` do with the pipeline."""

from __future__ import annotations

import fcntl
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dpr_mini import doctor, pipeline, store
from dpr_mini import plan as planner
from dpr_mini import recipe as recipes
from dpr_mini.recipe import Recipe, RecipeError
from dpr_mini.store import Stage
from dpr_mini.types import UserError

LATEST = "latest.json"  # which stage folders the newest `run` of this recipe is made of


class RunError(UserError):
    """A run that cannot start, or a run folder that is none."""


def run(path: Path, overrides: Sequence[str], runs: Path, until: str | None) -> None:
    """Do what is missing and print where the report is."""
    recipe = recipes.load(path, overrides)
    if lack := doctor.missing_for(recipe.needs, None):
        raise RunError(f"{path} {lack}; without one, run: dpr-mini run {recipe.needs.instead}")
    root = runs / recipe.name
    with pipeline.Owner(recipe, path.parent, root / "logs") as owner:
        stages = pipeline.build(recipe, owner)
        if until is not None and until not in stages:
            raise RunError(f"no stage {until!r}; there are: {', '.join(stages)}")
        with lock(root):
            remember(root, recipe, stages)
            begun = time.monotonic()
            ran = pipeline.run(stages, root, until)
    done = [name for name, stage in stages.items() if stage.state(root) == "reuse"]
    if not ran:
        print(f"nothing to do: {len(done)} of {len(stages)} stages of {root} are complete")
    else:
        print(f"{len(ran)} stages in {_time(time.monotonic() - begun)}, {len(done) - len(ran)} reused")
    if "report" in done:
        publish(root, stages["report"])


def plan(path: Path, overrides: Sequence[str], runs: Path, gpu: str | None) -> None:
    """Print each stage with reuse / resume / run and which value changed, then what the run needs of a card of size
    `gpu`, of the one here, or of the CPU; fail, with the nearest recipe that fits, where that is not enough."""
    recipe = recipes.load(path, overrides)
    with pipeline.Owner(recipe, path.parent) as owner:
        stages = pipeline.build(recipe, owner)
        planned = planner.Plan(recipe, planner.pick_card(recipe, _gib(gpu)), path.parent, owner.local())
    root = runs / recipe.name
    for name, stage in stages.items():
        state = stage.state(root)
        print(f"{state:7} {name:11} {stage.folder(root)}")
        if state != "reuse":
            for change in _readable(store.changes(stage, root)):
                print(f"        {'':11} {change}")
    waiting = {name: stage.folder(root).name for name, stage in stages.items() if stage.state(root) != "reuse"}
    print("\n".join(planned.lines(waiting)))
    mends = planned.mends(lambda more: recipes.load(path, [*overrides, *more]))
    for number, mend in enumerate(mends):
        print(f"{'fits' if not number else 'or':8} {mend}")
    if lack := doctor.missing_for(recipe.needs, _gib(gpu)):
        raise RunError(f"{path} {lack}; without one, run: dpr-mini run {recipe.needs.instead}")
    if short := planned.lack():
        nothing = "no switch helps: take a smaller model, or engine.urls where the engine is too large"
        raise RunError(f"{path} {short}; " + (f"the nearest that does: {mends[0]}" if mends else nothing))


def evaluate(
    model: str,
    on: Sequence[str],
    k: int,
    limit: int | None,
    max_new_tokens: int,
    temperature: float,
    engine: str,
    runs: Path,
) -> None:
    """Score one model on named benchmarks or local files; kept and resumed like any run."""
    held_out = {Path(name).name.split(".")[0]: [benchmark(name, limit)] for name in on}
    asked = {
        "name": "eval-" + re.sub(r"[^A-Za-z0-9._-]+", "-", model).strip("-."),
        "model": {"name": model},
        "engine": {"kind": engine},
        # A recipe needs training problems; an evaluation has none and never gets to that stage.
        "problems": {"train": [{"file": "none"}], "held_out": held_out},
        "evaluate": {"samples": k, "max_new_tokens": max_new_tokens, "temperature": temperature},
    }
    recipe = recipes.parse(asked, "eval")
    root = runs / recipe.name
    with pipeline.Owner(recipe, Path(), root / "logs") as owner:
        stages = pipeline.evaluation_only(recipe, owner)
        with lock(root):
            pipeline.run(stages, root)
    metrics = stages["eval-0"].manifest(root)["metrics"]
    for card in metrics["cards"].values():
        print(
            f"{card['benchmark']:10} n={card['n']} k={card['k']} T={temperature:g}  "
            f"pass@1 {card['mean']:.3f} [{card['low']:.3f}, {card['high']:.3f}]  greedy {card['greedy']:.3f}  "
            f"tokens mean {card['tokens_mean']:.0f}, truncated {card['truncated']:.1%}, unparsed {card['unparsed']:.1%}"
        )
    print(f"samples: {stages['eval-0'].folder(root) / 'graded.jsonl'}")


# Where the field's benchmarks live on the hub, pinned by revision where we could read one.
BENCHMARKS: dict[str, dict[str, Any]] = {
    "gsm8k": {"hub": "openai/gsm8k", "subset": "main", "split": "test", "columns": {"text": "question"}},
    "math500": {"hub": "HuggingFaceH4/MATH-500", "split": "test"},
    "aime24": {"hub": "HuggingFaceH4/aime_2024", "split": "train"},
}


def benchmark(name: str, limit: int | None) -> dict[str, Any]:
    """A benchmark's source: by name from the hub, or a local file."""
    if name in BENCHMARKS:
        return {**BENCHMARKS[name], "count": limit}
    if not Path(name).is_file():
        raise RunError(f"no benchmark {name!r}: give {', '.join(BENCHMARKS)} or a JSONL file of {{problem, answer}}")
    return {"file": name, "count": limit}


def report(root: Path) -> None:
    """Write a run's report again from what is there."""
    from dpr_mini.stages import report as reporting

    latest = read_latest(root)
    folders = {n.replace("-", "_"): root / f for n, f in latest["stages"].items() if n != "report"}
    complete = {role: f for role, f in folders.items() if (f / store.MANIFEST).exists()}
    if not any(role.startswith("eval") for role in complete):
        raise RunError(f"{root}: nothing to report yet; run: dpr-mini run {latest['path']}")
    folder = root / latest["stages"]["report"]
    folder.mkdir(exist_ok=True)
    reporting.run(folder, complete, latest["recipe"])
    _publish(root, folder)


def export(root: Path, out: Path, format: str, stage: str | None) -> None:
    """Copy a trained model out of a run as a Hugging Face folder or as an F16 GGUF."""
    latest = read_latest(root)
    trained = [n for n, f in latest["stages"].items() if n.startswith("train") and (root / f / "stage.json").exists()]
    if stage is None and not trained:
        raise RunError(f"{root}: no trained model yet; run: dpr-mini run {latest['path']}")
    stage = stage or trained[-1]
    if stage not in trained:
        raise RunError(f"{root}: no trained {stage!r}; there are: {', '.join(trained)}")
    model = root / latest["stages"][stage] / "model"
    if out.exists():
        raise RunError(f"{out} exists; give another --out")
    if format == "hf":
        shutil.copytree(model, out, ignore=shutil.ignore_patterns("*.gguf"))
    elif format == "gguf":
        from dpr_mini.export import write_gguf

        write_gguf(model, out)
    else:
        raise RunError(f"unknown format {format!r}; there are: hf, gguf")
    print(f"{stage} of {root} -> {out}")


@contextmanager
def lock(root: Path) -> Iterator[None]:
    """One run at a time in a folder. The system releases the lock of a killed process."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(f"{root}: another dpr-mini is at work there; wait for it, or give another --runs") from None
        yield


def remember(root: Path, recipe: Recipe, stages: Mapping[str, Stage]) -> None:
    """Note which folders this recipe's stages are, for `show`, `report` and `export`."""
    folders = {name: stage.folder(root).name for name, stage in stages.items()}
    latest = {"recipe": recipe.model_dump(mode="json"), "stages": folders}
    if not (root / LATEST).exists() or store.read_json(root / LATEST) != latest:
        store.write_json(root / LATEST, latest)


def read_latest(root: Path) -> dict[str, Any]:
    if not (root / LATEST).exists():
        raise RunError(f"{root} is not a run's folder; look under runs/")
    return store.read_json(root / LATEST)


def publish(root: Path, stage: Stage) -> None:
    _publish(root, stage.folder(root))


def _publish(root: Path, folder: Path) -> None:
    """Put the newest report where it is easy to find, and say where."""
    for name in ("report.html", "report.md", "scorecards.json"):
        store.write_text(root / name, (folder / name).read_text(encoding="utf-8"))
    print(f"report: {root / 'report.html'} (also report.md, scorecards.json)")


def _readable(changes: list[str]) -> list[str]:
    """Changed values of the stage itself, then the stages before it that changed, in one line."""
    own = [f"changed: {c}" for c in changes if not c.startswith("inputs.")]
    before = sorted({c.rpartition('"')[0].rpartition('"')[2].rpartition("-")[0] for c in changes} - {""})
    names = [n for n in before if any(c.startswith("inputs.") and f'"{n}-' in c for c in changes)]
    return own + ([f"follows: {', '.join(names)}"] if names else [])


def _gib(text: str | None) -> float | None:
    if text is None:
        return None
    if not (match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:GiB|GB|G)?", text.strip(), re.IGNORECASE)):
        raise RecipeError(f"--gpu {text!r}: write it as 24GiB")
    return float(match[1])


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds / 60:.1f} min"
