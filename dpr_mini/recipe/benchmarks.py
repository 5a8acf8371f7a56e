r"""Benchmarks and ways to ask, by name: plain data, no model and no download.

A recipe names a benchmark under `problems.held_out`: `{benchmark: aime24}` takes it from the hub,
`{benchmark: aime24, folder: ../data}` from a local folder that holds the files named below, JSON Lines of
{problem, answer} and, where known, {level, subject}. It names a preset as `evaluate: {preset: long-cot}`; keys that
the recipe gives itself win over the preset's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dpr_mini.recipe.base import RecipeError
from dpr_mini.types import nearest


@dataclass(frozen=True, slots=True)
class Benchmark:
    """`file` is its name in a local folder; `hub` its recipe sources on the Hugging Face hub, pinned where we can."""

    file: str
    hub: tuple[Mapping[str, Any], ...]


# Revisions as other projects pin them; OlymMATH's is not known to us: `revision` in a recipe pins it.
BENCHMARKS: dict[str, Benchmark] = {
    # arXiv 2110.14168, 1,319 problems; the answer stands after "####" of the hub's solution
    "gsm8k": Benchmark(
        "eval_gsm8k.jsonl",
        (
            {
                "hub": "openai/gsm8k",
                "subset": "main",
                "split": "test",
                "revision": "740312add88f781978c0658806c59bc2815b9866",
                "columns": {"text": "question"},
            },
        ),
    ),
    # 500 of MATH's test problems (arXiv 2103.03874), chosen by arXiv 2305.20050; levels 1 to 5
    "math500": Benchmark(
        "eval_math500.jsonl",
        (
            {
                "hub": "HuggingFaceH4/MATH-500",
                "split": "test",
                "revision": "6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be",
            },
        ),
    ),
    # American Invitational Mathematics Examination, I and II: 30 problems a year
    "aime24": Benchmark(
        "eval_aime24.jsonl",
        (
            {
                "hub": "HuggingFaceH4/aime_2024",
                "split": "train",
                "revision": "2fe88a2f1091d5048c0f36abc874fb997b3dd99a",
            },
        ),
    ),
    "aime25": Benchmark(
        "eval_aime25.jsonl",
        ({"hub": "math-ai/aime25", "split": "test", "revision": "563bb8404243c5f09de6ec262f2db674fe5bce9b"},),
    ),
    # arXiv 2503.21380, English: 100 easy and 100 hard problems
    "olymmath": Benchmark(
        "eval_olymmath_en.jsonl",
        tuple(
            {"hub": "RUC-AIBOX/OlymMATH", "subset": f"en-{level}", "split": "test", "level": level}
            for level in ("easy", "hard")
        ),
    ),
}

BOXED = r"Please reason step by step, and put your final answer within \boxed{}."

# What a preset sets of a recipe's `evaluate` section; the templates are in prompts.py.
PRESETS: dict[str, dict[str, Any]] = {
    "ours": {},  # the section's own defaults
    # Qwen2.5-Math's evaluation code (github.com/QwenLM/Qwen2.5-Math, evaluation/): prompt type qwen25-math-cot, greedy,
    # one answer, 2,048 new tokens for every set. That is short for AIME: look at the share of truncated answers.
    "qwen-math": {
        "samples": 1,
        "greedy": False,  # the one sample is the greedy answer
        "temperature": 0.0,
        "top_p": 1.0,
        "max_new_tokens": 2048,
        "template": "question",
        "system": BOXED,
    },
    # The same code's prompt type qwen-boxed, for instruction models that are not made for mathematics.
    "qwen-boxed": {
        "samples": 1,
        "greedy": False,
        "temperature": 0.0,
        "top_p": 1.0,
        "max_new_tokens": 2048,
        "template": "boxed",
        "system": "You are a helpful assistant.",
    },
    # DeepSeek-R1 (arXiv 2501.12948): T 0.6, top-p 0.95, 32,768 tokens, request in the user's turn, no system turn.
    # Draws as open-r1's README has them: 64 for AIME, 4 for MATH-500 (for all others, ours).
    "long-cot": {
        "samples": 4,
        "samples_of": {"aime24": 64, "aime25": 64},
        "greedy": False,
        "temperature": 0.6,
        "top_p": 0.95,
        "max_new_tokens": 32_768,
        "template": "boxed",
        "system": "",
    },
}


def sources(source: Any) -> list[Any]:
    """The recipe sources that `{benchmark: NAME, folder: DIR, ...}` stands for; any other source is left as it is.

    Further keys of the source (count, revision, columns ...) win over the benchmark's own.
    Raises RecipeError for a name that does not exist.
    """
    if not isinstance(source, Mapping) or "benchmark" not in source:
        return [source]
    overrides = {k: v for k, v in source.items() if k not in ("benchmark", "folder")}
    name = known("benchmark", str(source["benchmark"]), BENCHMARKS)
    if (folder := source.get("folder")) is not None:
        if not isinstance(folder, str) or not folder:
            raise RecipeError(f"benchmark {name}: folder: write the name of a folder (got {folder!r:.60})")
        return [{"file": f"{folder}/{BENCHMARKS[name].file}", **overrides}]
    return [{**each, **overrides} for each in BENCHMARKS[name].hub]


def preset(section: Mapping[str, Any]) -> dict[str, Any]:
    """An `evaluate` section on top of the preset that it names: the section's own keys win.

    `samples` in the section holds for every benchmark. Raises RecipeError for a name that does not exist.
    """
    chosen = PRESETS[known("preset", str(section.get("preset", "ours")), PRESETS)]
    if "samples" in section:
        chosen = {k: v for k, v in chosen.items() if k != "samples_of"}
    return {**chosen, **section}


def known(kind: str, name: str, names: Iterable[str]) -> str:
    """`name`, where it is one of `names`; else RecipeError with the nearest, or with all."""
    names = list(names)
    if name not in names:
        raise RecipeError(f"no {kind} {name!r}; {nearest(name, names)}")
    return name
