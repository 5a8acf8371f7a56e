"""What `eval` does: any model on benchmarks by name or on files, kept and resumed like any run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dpr_mini import pipeline
from dpr_mini import recipe as recipes
from dpr_mini.recipe import Evaluate, reading
from dpr_mini.recipe.benchmarks import BENCHMARKS, BenchmarkError
from dpr_mini.runs import lock


def evaluate(
    model: str,
    on: Sequence[str],
    runs: Path,
    data: Path | None = None,
    limit: int | None = None,
    engine: str = "auto",
    overrides: Sequence[str] = (),
    **settings: Any,
) -> None:
    """Score one model on named benchmarks (from the hub, or from the folder `data`) or local files, and print it.

    `settings` are keys of a recipe's `evaluate` section (None: not given), `overrides` any `section.key=value`. The
    same command again asks nothing twice; with another `evaluate.grader` it grades the answers that are there.
    Raises UserError for whatever the user can mend.
    """
    asked = {
        "name": "eval-" + re.sub(r"[^A-Za-z0-9._-]+", "-", model).strip("-."),
        "model": {"name": model},
        "engine": {"kind": engine},
        "phases": [],
        "problems": {"held_out": held_out(on, data, limit)},
        "evaluate": {key: value for key, value in settings.items() if value is not None},
    }
    origin: reading.Origin = {}
    for override in overrides:
        reading.override(asked, override, origin)
    recipe = recipes.parse(asked, "eval", origin)
    root = runs / recipe.name
    stages = pipeline.build(recipe, Path())
    with pipeline.Machine.of(recipe, Path(), root / "logs") as machine, lock(root):
        pipeline.run(stages, root, machine, until="eval-0")
    for card in stages["eval-0"].manifest(root)["metrics"]["cards"].values():
        print("\n".join(lines(card, recipe.evaluate)))
    for stage, file in (("eval-0-answers", "rows.jsonl"), ("eval-0", "graded.jsonl")):
        print(f"{'answers' if stage != 'eval-0' else 'grades'}: {stages[stage].folder(root) / file}")


def held_out(on: Sequence[str], data: Path | None, limit: int | None) -> dict[str, list[dict[str, Any]]]:
    """Benchmark -> its recipe sources. Raises BenchmarkError for what is not there."""
    found: dict[str, list[dict[str, Any]]] = {}
    for name in on:
        title = name if name in BENCHMARKS else Path(name).name.split(".")[0]
        if title in found:
            raise BenchmarkError(f"--on names {title!r} twice; give files different names")
        found[title] = [{**_source(name, data), "count": limit}]
    return found


def _source(name: str, data: Path | None) -> dict[str, Any]:
    if name not in BENCHMARKS:
        if not Path(name).is_file():
            raise BenchmarkError(
                f"no benchmark {name!r}: give {', '.join(BENCHMARKS)} or a JSONL file of {{problem, answer}}"
            )
        return {"file": name}
    if data is None:
        return {"benchmark": name}
    if not (file := data / BENCHMARKS[name].file).is_file():
        raise BenchmarkError(f"{file}: no such file; {name} is looked for there under this name (without --data: hub)")
    return {"benchmark": name, "folder": str(data)}


def lines(card: Mapping[str, Any], asked: Evaluate) -> Iterator[str]:
    """A score card in words: every score with its n, k and 95 % interval over problems."""
    k = str(card["k"]) if card["k"] == card["k_most"] else f"{card['k']}-{card['k_most']}"
    yield (
        f"{card['benchmark']}: n={card['n']} k={k}, T={asked.temperature:g}, top-p {asked.top_p:g}, "
        f"at most {asked.max_new_tokens} tokens, preset {asked.preset}"
    )
    yield f"  pass@1      {_estimate(card)}"
    at = card["pass_at"] or {}
    for name, found in (
        (f"maj@{k}", card["maj"] if card["k"] > 1 else None),
        (f"pass@{k}", at.get(str(card["k"])) if card["k"] > 1 else None),
        ("greedy, k=1", card["greedy_estimate"]),
    ):
        if found:
            yield f"  {name:11} {_estimate(found)}"
    by = ", ".join(f"{name} {of['mean']:.0f}" for name, of in card["lengths"].items() if of)
    yield (
        f"  tokens      mean {card['tokens_mean']:.0f} ({by}), median {card['tokens_median']:.0f}, "
        f"p90 {card['tokens_p90']:.0f}; truncated {card['truncated']:.1%}, unparsed {card['unparsed']:.1%}"
    )
    for kind in ("level", "subject"):
        for name, found in card[f"by_{kind}"].items():
            yield f"  {kind} {name}: n={found['n']} k={k} {_estimate(found)}, {found['tokens_mean']:.0f} tokens"


def _estimate(found: Mapping[str, Any]) -> str:
    error = "" if found["se"] is None else f" s.e. {found['se']:.3f}"
    return f"{found['mean']:.3f} [{found['low']:.3f}, {found['high']:.3f}]{error}"
