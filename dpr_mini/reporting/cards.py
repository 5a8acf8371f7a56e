"""Model and data cards: the README.md that goes with what `export` writes, made from a run's manifests alone.

Every score in it has its n, k and interval, every stage its key. The body is made of the report's blocks; the YAML on
top is what the Hugging Face hub reads. Folders of this machine do not get in: a path is cut to its last part.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from dpr_mini.files.rows import read_as
from dpr_mini.models.resolve import EMBEDDED
from dpr_mini.recipe import prompts
from dpr_mini.reporting.document import Block, Fold, Points, Section, Table, Text, legible, render
from dpr_mini.reporting.words import brackets, change, flat, full_cell, p_value, size
from dpr_mini.runs import beside
from dpr_mini.scoring.scores import Card
from dpr_mini.scoring.stats import compare, subset
from dpr_mini.store import MANIFEST, read_manifest, verified
from dpr_mini.types import ALL, Graded

EMBEDDED_ON_HUB, EMBEDDED_LICENCE = "HuggingFaceTB/SmolLM2-135M-Instruct", "apache-2.0"
TAGS = ("dpr-mini", "self-training", "rejection-sampling", "reasoning", "math", "arxiv:2601.05616")
METHOD = "dpr-mini (the method of arXiv 2601.05616, with our own prompts, rules and settings)"

Manifest = Mapping[str, Any]


@dataclass(frozen=True)
class Lineage:
    """A stage and all that it was made from. `latest` is the run's latest.json, `root` the folder that holds it."""

    root: Path
    latest: Mapping[str, Any]
    ends: tuple[str, ...]  # the exported stages' names

    @property
    def recipe(self) -> Mapping[str, Any]:
        return self.latest["recipe"]

    def folder(self, stage: str) -> Path:
        return self.root / self.latest["stages"][stage]

    @cached_property
    def stages(self) -> dict[str, Manifest]:
        """Folder name -> manifest, inputs before what was made from them."""
        manifests: dict[str, Manifest] = {}

        def visit(folder: Path) -> None:
            if folder.name not in manifests:
                manifest = read_manifest(folder)
                for role, name in manifest["inputs"].items():
                    if not role.startswith("like "):  # another run's stage, of which only a count was read
                        visit(beside(folder, name))
                manifests[folder.name] = manifest

        for stage in self.ends:
            visit(self.folder(stage))
        return manifests

    @cached_property
    def base(self) -> tuple[str | None, str]:
        """The base model's name on the hub (None: it has none) and what it is, in words."""
        name, revision = self.recipe["model"]["name"], self.recipe["model"]["revision"]
        identity = next((str(m["config"]["base"]) for m in self.stages.values() if "base" in m["config"]), "")
        if name == EMBEDDED:
            return EMBEDDED_ON_HUB, f"{EMBEDDED_ON_HUB}, its weights dequantised from the GGUF of {identity}"
        if identity == f"{name}@{revision}":
            return name, f"{name} at revision {revision or '(not pinned)'}"
        return None, f"the local model {Path(name).name} (sha256 of its files: {identity[:16]})"

    @property
    def licence(self) -> str | None:
        """The base model's, where we know it."""
        return EMBEDDED_LICENCE if self.recipe["model"]["name"] == EMBEDDED else None

    @cached_property
    def evaluations(self) -> dict[str, Path]:
        """ "base" or a training stage's name -> the folder of its evaluation, for what this lineage is made of."""
        folders = {}
        for path in (self.root / folder for folder in self.latest["stages"].values()):
            if not (path / MANIFEST).exists() or "cards" not in (manifest := verified(path))["metrics"]:
                continue
            answers = read_manifest(beside(path, manifest["inputs"]["answers"]))
            model = answers["inputs"].get("model")
            if model is None or model in self.stages:
                folders["base" if model is None else self.stages[model]["stage"]] = path
        return folders


# ---------------------------------------------------------------- the two cards


def model_card(lineage: Lineage, library: str) -> str:
    """README.md of a trained model; `library` is what loads it: "transformers" or "gguf"."""
    from huggingface_hub import ModelCardData

    recipe, stage = lineage.recipe, lineage.ends[0]
    name = f"{recipe['name']} {stage}"
    front = ModelCardData(
        model_name=name if (results := list(_results(lineage, stage))) else None,
        base_model=lineage.base[0],
        license=lineage.licence,
        datasets=_hub_sets(recipe) or None,
        library_name=library,
        pipeline_tag="text-generation",
        tags=list(TAGS),
        eval_results=results or None,
    )
    lead = (
        f"A model trained on text that it wrote itself: dialogues that rules kept, by {METHOD}. Stage {stage} of the "
        f"recipe {recipe['name']}, seed {recipe['seed']}, scale {recipe['scale']:g}; it began as {lineage.base[1]}."
    )
    template = prompts.words(recipe["dialogue"]["templates"], {}).templates[recipe["dialogue"]["turns"][0][0]]
    wording = Text("It was trained on questions in this wording, as the user's turn of its own chat template:")
    sections = [
        Section("Scores", _scores(lineage, stage)),
        Section("How to ask it", [wording, Fold("Prompt", template)]),
        Section("How it was made", [_stages(lineage)]),
        Section("Data", _data(lineage)),
        Section("Limits", [_limits(lineage, "model")]),
        Section("Conditions", _conditions(lineage)),
    ]
    return f"---\n{legible(front.to_yaml().strip())}\n---\n\n{render('report.md', name, lead, sections).lstrip()}"


def data_card(lineage: Lineage, files: Mapping[str, int]) -> str:
    """README.md of the kept dialogues; `files` are the exported ones and how many rows each has."""
    from huggingface_hub import DatasetCardData

    recipe, rows = lineage.recipe, sum(files.values())
    name = f"{recipe['name']}: dialogues kept for training"
    front = DatasetCardData(
        pretty_name=name,
        task_categories=["text-generation"],
        size_categories=_size(rows),
        source_datasets=_hub_sets(recipe) or None,
        tags=[*TAGS, "synthetic"],
        configs=[{"config_name": Path(f).stem, "data_files": f} for f in files],
    )
    lead = (
        f"{rows} chains of thought that a model wrote about problems with known answers and that rules kept, by "
        f"{METHOD}. Recipe {recipe['name']}, seed {recipe['seed']}, scale {recipe['scale']:g}; the model is "
        f"{lineage.base[1]}, or what it became in phase 1."
    )
    fields = [
        ("messages", "the question and the one long answer, as trained on: the turns joined by bridge sentences"),
        ("problem, answer, source, level, subject", "the problem as its source has it"),
        ("statuses", "the grader's verdict on each turn; where the recipe says so, a wrong first turn is not trained"),
        ("kind", "what happened over the turns, e.g. confirmed or corrected"),
        ("id, problem_id, stage", "where it comes from"),
    ]
    sections = [
        Section("Files", [Table(("file", "rows"), [(f, str(n)) for f, n in files.items()], "the files themselves")]),
        Section("Fields", [Points([("", f"{name}: {what}") for name, what in fields])]),
        Section("How it was made", [_stages(lineage)]),
        Section("Selection", _data(lineage)),
        Section("Limits", [_limits(lineage, "data")]),
        Section("Conditions", _conditions(lineage)),
    ]
    return f"---\n{legible(front.to_yaml().strip())}\n---\n\n{render('report.md', name, lead, sections).lstrip()}"


# ---------------------------------------------------------------- scores


def _scores(lineage: Lineage, stage: str) -> list[Block]:
    evaluations, config = lineage.evaluations, lineage.recipe["evaluate"]
    cards = {label: _cards(folder) for label, folder in evaluations.items()}
    if stage not in cards:
        return [Text("This model was not evaluated in its run: nothing is claimed about it.")]
    rows = [(f"{b}\n{size(c)}", *(full_cell(of.get(b)) for of in cards.values())) for b, c in cards[stage].items()]
    note = (
        f"pass@1: mean over n problems of the share of k samples that are right (T={config['temperature']:g}, top-p "
        f"{config['top_p']:g}, at most {config['max_new_tokens']} new tokens); in brackets the 95 % interval "
        "over problems. Greedy: one answer at T=0."
    )
    source = ", ".join(folder.name for folder in evaluations.values())
    blocks: list[Block] = [Table(("benchmark", *cards), rows, source, note=note)]
    if "base" in evaluations and stage != "base":
        before, after = (list(read_as(Graded, evaluations[x] / "graded.jsonl")) for x in ("base", stage))
        pairs = []
        for b in cards[stage]:
            for kind, greedy in (("sampled", False), ("greedy", True)):
                answers = [subset(of, b, greedy) for of in (before, after)]
                if any(answers):
                    d = compare(*answers, names=("base", stage))
                    pairs.append((b, kind, str(d.n), change(d), p_value(d), f"{d.up} / {d.down}"))
        head = ("benchmark", "answers", "n", f"{stage} - base", "p", "up / down")
        note = "On the same problems, 95 % t interval over problems; p: two-sided sign-flip test of the mean. One seed."
        blocks.append(Table(head, pairs, source, "Paired differences", note))
    return blocks


def _cards(evaluation: Path) -> dict[str, Card]:
    """The score cards of an evaluation's folder, by benchmark."""
    cards = read_manifest(evaluation)["metrics"]["cards"]
    return {name: Card.from_row(card) for name, card in cards.items()}


def _results(lineage: Lineage, stage: str) -> Iterator[Any]:
    """The scores as the hub's model-index has them, each with n, k and interval beside it."""
    from huggingface_hub import EvalResult

    if stage in lineage.evaluations:
        for name, card in _cards(lineage.evaluations[stage]).items():
            if name != ALL:
                yield EvalResult(
                    task_type="text-generation",
                    dataset_type=name,
                    dataset_name=name,
                    metric_type="pass@1",
                    metric_name=f"pass@1, {size(card)}, 95 % {brackets(card)}",
                    metric_value=round(card.mean, 4),
                )


# ---------------------------------------------------------------- where it comes from


def _stages(lineage: Lineage) -> Table:
    rows = [
        (m["stage"], m["key"], str(m["version"]), f"{m['seconds']:,.1f}", _outcome(m["metrics"]), m["finished"])
        for m in lineage.stages.values()
    ]
    note = "A key hashes the stage's version, its part of the recipe and the keys of its inputs."
    head = ("stage", "key", "version", "seconds", "what came of it", "finished (UTC)")
    return Table(head, rows, "stage.json of each", note=note, prose=True)


def _outcome(metrics: Mapping[str, Any]) -> str:
    """A stage's outcome in a few words: the counts that its metrics have, by their own names."""
    names = ("splits", "dialogues", "kept", "rows", "samples", "trained_tokens", "steps", "first_loss", "last_loss")
    outcome = {name: metrics[name] for name in names if name in metrics}
    if "engine" in metrics:
        outcome |= {"engine": metrics["engine"], "reproducible": metrics["engine_facts"]["reproducible"]}
    return ", ".join(f"{name} {flat(value)}" for name, value in outcome.items())


def _data(lineage: Lineage) -> list[Block]:
    """What problems there were, what was dropped so that nothing held out is trained on, what the rules dropped."""
    blocks: list[Block] = []
    for folder, m in lineage.stages.items():
        if m["stage"] == "problems":
            rows = [(name, str(n)) for name, n in m["metrics"]["sources"].items()]
            blocks.append(Table(("problems (split/source)", "n"), rows, f"{folder}/{MANIFEST}"))
            rule, config = "equal to a held-out one", lineage.recipe["problems"]["decontaminate"]
            if config:
                rule += f", or with {config['share']:.0%} of its {config['ngram']}-grams,"
            groups = (lineage.recipe["problems"].get(group, {}) for group in ("held_out", "dev", "test"))
            held_out = sorted(name for group in groups for name in group)
            dropped = flat(m["metrics"]["dropped"]) or "none"
            text = f"Held out: {', '.join(held_out) or 'nothing'}. A training problem {rule} is dropped."
            blocks.append(Text(f"{text} Dropped, by rule: {dropped}."))
        elif "drops" in m["metrics"]:
            share = f"{m['stage']}: {m['metrics']['kept']} of {m['metrics']['dialogues']} dialogues kept"
            blocks.append(Text(f"{share}. Dropped, by rule: {flat(m['metrics']['drops']) or 'none'}."))
    return blocks


def _limits(lineage: Lineage, what: str) -> Points:
    facts = [
        "The answers were written by a model and chosen by rules: a right final answer does not make its steps right.",
        "Behaviours such as verification are found by word patterns.",
    ]
    if what == "model":
        facts += [
            "The scores above are all that was measured. They hold for these prompts and settings, and for one seed.",
            "The model was trained on problems with short final answers; nothing else was looked at, safety included.",
            "Licence: "
            + (f"{lineage.licence}, as its base model." if lineage.licence else f"that of {lineage.base[1]}."),
        ]
    else:
        facts.append("The problems keep the licences of their sources; the texts fall under the model's terms.")
    return Points([("", fact) for fact in facts])


def _conditions(lineage: Lineage) -> list[Block]:
    def of(name: str) -> str:
        return "; ".join(dict.fromkeys(flat(m[name]) for m in lineage.stages.values())) or "none (not a checkout)"

    rows = [(name, of(name)) for name in ("machine", "versions", "commit")]
    dumped = yaml.safe_dump(without_paths(lineage.recipe), sort_keys=False, allow_unicode=True, width=110)
    return [
        Table(("what", "value"), rows, "stage.json of each stage", prose=True),
        Fold("The recipe, resolved", dumped),
    ]


def without_paths(value: Any) -> Any:
    """A recipe without what only this machine knows: paths are cut to their last part, servers' addresses left out."""
    if isinstance(value, Mapping):
        return {k: without_paths(v) for k, v in value.items() if k not in ("python", "urls")}
    if isinstance(value, list | tuple):
        return [without_paths(v) for v in value]
    if isinstance(value, str) and value.startswith(("/", "~", "../", "./")) and "\n" not in value:
        return Path(value).name
    return value


def _hub_sets(recipe: Mapping[str, Any]) -> list[str]:
    """Hub data sets that were trained on, each once."""
    return list(dict.fromkeys(s["hub"] for s in recipe["problems"]["train"] if s["hub"]))


def _size(rows: int) -> str:
    """The hub's word for a number of rows."""
    steps: Sequence[tuple[int, str]] = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"))
    return next((word for most, word in steps if rows < most), "100K<n<1M" if rows < 1_000_000 else "n>1M")
