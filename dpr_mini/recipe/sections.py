"""A recipe: one strict section a stage. Unknown keys are refused with the nearest valid one named.

`load(path, overrides)` reads YAML, applies `section.key=value` overrides, validates, and returns a frozen `Recipe`.
Every problem is one `RecipeError` line: file, line, what was seen, what to write instead.
What the paper (arXiv 2601.05616) leaves open is our choice; those fields say "ours" in their comment.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, field_validator, model_validator

from dpr_mini import tasks
from dpr_mini.recipe import benchmarks, serving
from dpr_mini.recipe.base import (
    Decay,
    Draws,
    Epochs,
    FileName,
    FolderName,
    Gib,
    LearningRate,
    Norm,
    Patience,
    Places,
    Probability,
    Rank,
    RecipeError,
    Revision,
    Scale,
    Seconds,
    Section,
    Seed,
    Share,
    Slices,
    Steps,
    Switch,
    Temperature,
    Tokens,
    TopP,
    Total,
    Tries,
    WeightDecay,
    Window,
    literal,
)
from dpr_mini.recipe.data import FilterConfig, PackConfig
from dpr_mini.recipe.dialogue import DialogueConfig
from dpr_mini.recipe.evaluation import EvaluateConfig, GraderConfig
from dpr_mini.recipe.hypotheses import Hypothesis
from dpr_mini.recipe.problems import ProblemsConfig, Source, shrunk
from dpr_mini.recipe.turns import adaptive, longest
from dpr_mini.types import ALL, EASY, HARD, nearest, seed_for


class NeedsConfig(Section):
    """What the machine must have; checked before anything starts."""

    gpu_gib: Gib = 0  # memory of one GPU; 0 = runs without
    instead: FileName = "recipes/smollm2-cpu.yaml"  # what to run where it is missing


class ModelConfig(Section):
    name: FileName = "smollm2-135m-instruct"  # the embedded model, a local folder, or a hub name
    revision: Revision | None = None  # hub only: a commit, so that "main" cannot move under a run


# SGLang's arguments that change what a model answers, beyond rounding
NUMERIC = ("dtype", "quantization", "kv_cache_dtype", "torchao_config")


class ServerConfig(Section):
    """kind: sglang. A server that is started with SGLang's own interpreter, or running ones."""

    python: FileName | None = None  # interpreter of SGLang's environment; none = .sglang/bin/python
    urls: tuple[str, ...] = ()  # running servers instead: replicas of one model, or a router, whose workers are asked
    arguments: dict[str, bool | int | float | str | None] = Field({})  # those of SGLang's in serving.ARGUMENTS, with _
    deterministic: Switch = False  # seeds count; needs a GPU and costs speed
    check_cache: Switch = True  # prove at the start that a second turn is cached
    start_timeout: Seconds = 900  # seconds until the server must answer
    request_timeout: Seconds = 3600  # seconds for one answer, before it is asked again
    patience: Patience = 300  # seconds in which a failing request is asked again
    health_every: Seconds = 30  # seconds without any answer before the server is asked how it is

    @field_validator("urls", mode="before")
    @classmethod
    def _one(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("arguments")
    @classmethod
    def _own_names(cls, value: dict[str, Any]) -> dict[str, Any]:
        return serving.arguments(value)

    @model_validator(mode="before")
    @classmethod
    def _no_secrets(cls, value: Any) -> Any:
        """Looks at names and addresses before anything else does: messages about their types would repeat them."""
        arguments, urls = (value.get(key) for key in ("arguments", "urls")) if isinstance(value, dict) else (None, None)
        for name in arguments if isinstance(arguments, dict) else ():
            if isinstance(name, str):
                try:
                    serving.arguments({name: None})
                except ValueError as error:
                    raise RecipeError(str(error), "engine", "arguments", *(() if "=" in name else (name,))) from None
        for url in [urls] if isinstance(urls, str) else urls if isinstance(urls, list | tuple) else ():
            if isinstance(url, str):
                try:
                    serving.address(url)
                except ValueError as error:
                    raise RecipeError(str(error), "engine", "urls") from None
        return value


class EngineConfig(ServerConfig):
    kind: Literal["auto", "openvino", "hf", "sglang"] = "auto"
    window: Window | None = None  # requests in flight; none = the engine's own choice, for sglang its server's

    @model_validator(mode="after")
    def _server_or_urls(self) -> EngineConfig:
        server_keys = [name for name in ServerConfig.model_fields if name in self.model_fields_set]
        if server_keys and self.kind != "sglang":
            raise ValueError(f"{server_keys[0]} is for kind: sglang, not {self.kind}")
        if self.python and self.urls:
            raise ValueError("give python or urls, not both")
        return self

    def changes_samples(self) -> Any:
        """What of this section a sample depends on, for stage keys: not where or how fast it is drawn."""
        numeric = {name: self.arguments[name] for name in NUMERIC if name in self.arguments}
        if self.deterministic:
            numeric["deterministic"] = True
        return {"kind": self.kind, **numeric} if numeric else self.kind


class TrainConfig(Section):
    mode: Literal["full", "lora", "qlora"] = "full"  # qlora: the frozen weights in 4 bits (arXiv 2305.14314)
    backend: Literal["dpr_kernels", "liger", "unsloth", "plain"] = "dpr_kernels"  # what runs the layers
    attention: Literal["auto", "reference", "torch", "flash_attn", "flex"] = "auto"  # packed; auto: torch's on a GPU
    weights: Literal["float32", "bfloat16"] = "float32"  # full: what is updated; bfloat16 has no float32 masters
    optimiser: Literal["adamw", "adamw8bit"] = "adamw"  # adamw8bit: moments in 8 bits (arXiv 2110.02861)
    update_in_backward: Switch = False  # each weight as soon as its gradient is there: gradients never all live at once
    epochs: Epochs = 2
    learning_rate: LearningRate = 1e-5
    warmup_ratio: Share = 0.05
    min_lr_ratio: Share = 0.1  # where the cosine ends, as a share of the peak
    weight_decay: WeightDecay = 0.0
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    max_grad_norm: Norm | None = 1.0  # null: no clipping
    rows_per_step: Draws = 1  # packed rows accumulated into one optimiser step
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"  # of the matmuls
    gradient_checkpointing: Switch = False  # keep each layer's input alone and compute the layer again in backward
    offload_checkpoints: Switch = False  # those inputs wait in host memory
    tiled_mlp: Slices | None = None  # slices of a row in which the MLP is computed
    loss_chunk: Slices | None = None  # rows of logits that live at a time; none = chosen by the vocabulary
    save_dtype: Literal["bfloat16", "float32"] = "bfloat16"  # of the finished weights
    lora_rank: Rank = 64
    save_steps: Steps = 50  # optimiser steps between checkpoints
    report_to: Literal["none", "tensorboard", "trackio", "wandb"] = "none"  # besides metrics.jsonl in the run folder
    python: FileName | None = None  # backend unsloth: interpreter of its own environment
    init: Literal["continue", "restart"] = "continue"  # phase 2: from phase 1, or from the base (ours)

    @model_validator(mode="after")
    def _fits_together(self) -> TrainConfig:
        if self.offload_checkpoints and not self.gradient_checkpointing:
            raise ValueError("offload_checkpoints needs gradient_checkpointing: true")
        if self.mode != "full" and (self.weights != "float32" or self.update_in_backward):
            raise ValueError(f"weights and update_in_backward are for mode: full, not {self.mode}: adapters are small")
        if self.update_in_backward and (self.rows_per_step > 1 or self.max_grad_norm is not None):
            raise ValueError(
                "update_in_backward takes rows_per_step: 1 and max_grad_norm: null: "
                "a weight is changed before the other gradients are known"
            )
        if self.tiled_mlp and self.backend not in ("dpr_kernels", "plain"):
            raise ValueError(f"tiled_mlp is for backend: dpr_kernels or plain, not {self.backend}")
        if self.python and self.backend != "unsloth":
            raise ValueError(f"python is for backend: unsloth, not {self.backend}")
        return self

    def changes_weights(self) -> dict[str, Any]:
        """What of this section the trained weights depend on, for stage keys: not what is saved or shown on the way."""
        return self.model_dump(mode="json", exclude={"save_steps", "report_to", "python"})


class ProbeConfig(Section):
    """Phase 2: samples that estimate a problem's pass rate. They are kept as training candidates."""

    samples: Draws = 8
    temperature: Temperature = 1.0
    top_p: TopP = 1.0
    max_new_tokens: Tokens = 1024


class SamplingConfig(Section):
    """Phase 2: how many correct samples each problem should end up with. Formulas and sources: budgets.py."""

    target: Literal["prop2diff", "uniform", "vrt", "cap", "boundary", "gvm"] = "prop2diff"
    quota: Tries = 8  # correct samples: of the hardest problem (prop2diff), of each (uniform), at most (cap)
    max_tries: Tries = 64  # draws a problem, the probe's included
    budget: Total | None = None  # draws in all, the probe's included (times `scale`); null: no such limit
    dynamic: Switch = True  # pass rates, and so targets, estimated anew every round (our reading); false: the probe's
    give_up: Probability | None = None  # stop where one more right answer is less likely (ours)

    @model_validator(mode="after")
    def _something_to_share(self) -> SamplingConfig:
        if self.target in ("boundary", "gvm") and self.budget is None:
            raise ValueError(f"target: {self.target} shares out a number of draws: give sample.budget")
        return self

    def scaled(self, scale: float) -> SamplingConfig:
        """The same for `scale` times as many problems."""
        budget = self.budget if self.budget is None else max(1, round(self.budget * scale))
        return self.model_copy(update={"budget": budget})


class Recipe(Section):
    name: FolderName
    store: FolderName | None = None  # folder of its stages, for recipes that share some; none = the recipe's name
    seed: Seed = 0
    scale: Scale = 1.0  # the one dial: share of the problems (see Source.count)
    # also 1 = [1] and 2 = [1, 2]; [2] starts from the base, [] scores it
    phases: tuple[Annotated[Literal[1, 2], literal("", 1, 2)], ...] = (1, 2)
    like: Recipe | None = None  # the recipe whose run `filter.limit` and `pack.trained_tokens` name stages of
    needs: NeedsConfig = NeedsConfig()
    model: ModelConfig = ModelConfig()
    engine: EngineConfig = EngineConfig()
    problems: ProblemsConfig
    dialogue: DialogueConfig = DialogueConfig()
    filter: FilterConfig = FilterConfig()
    pack: PackConfig = PackConfig()
    train: TrainConfig = TrainConfig()
    probe: ProbeConfig = ProbeConfig()
    sample: SamplingConfig = SamplingConfig()
    grader: GraderConfig = GraderConfig()  # what is right while sampling and filtering; `evaluate` has its own
    filter_2: FilterConfig = FilterConfig()  # phase 2; keys not given are those of `filter`
    pack_2: PackConfig = PackConfig()  # phase 2; keys not given are those of `pack`
    train_2: TrainConfig = TrainConfig()  # phase 2; keys not given are those of `train`
    evaluate: EvaluateConfig = EvaluateConfig()
    hypotheses: tuple[Hypothesis, ...] = ()  # registered for `compare`; they change no stage
    _places: Places = PrivateAttr(default_factory=Places)  # for messages

    @property
    def files(self) -> set[Path]:
        """The recipe and those that it extends or is measured by; empty for one that was no file."""
        return self._places.files | (self.like.files if self.like else set())

    @model_validator(mode="before")
    @classmethod
    def _rules_read_what_is_trained_on(cls, value: Any) -> Any:
        value = dict(value) if isinstance(value, dict) else {}
        for rules, packing in (("filter", "pack"), ("filter_2", "pack_2")):
            section, packs = value.get(rules, {}), value.get(packing, {})
            masks = packs.get("mask_wrong_first", True) if isinstance(packs, dict) else packs
            if isinstance(section, dict) and section.get("trained_turns") is None and isinstance(masks, bool):
                value[rules] = {**section, "trained_turns": masks}
        return value

    @model_validator(mode="after")
    def _samples_of_what_is_there(self) -> Recipe:
        names = {*self.problems.never_trained_on, *benchmarks.BENCHMARKS}
        if unknown := sorted(self.evaluate.samples_of.keys() - names):
            raise RecipeError(
                f"no benchmark {unknown[0]!r}; there are: {', '.join(sorted(names))}", "evaluate", "samples_of"
            )
        return self

    @model_validator(mode="after")
    def _hypotheses_are_about_what_is_there(self) -> Recipe:
        names = {*self.problems.never_trained_on, ALL, HARD, EASY}
        for number, hypothesis in enumerate(self.hypotheses):
            if hypothesis.benchmark not in names:
                fix = nearest(hypothesis.benchmark, sorted(names))
                raise RecipeError(f"no benchmark {hypothesis.benchmark!r}; {fix}", "hypotheses", number, "benchmark")
        return self

    @model_validator(mode="after")
    def _problems_for_what_is_done(self) -> Recipe:
        if self.phases and not self.problems.train:
            raise RecipeError("nothing to train on; only phases: [] does without", "problems", "train")
        if not self.phases and not self.problems.never_trained_on:
            raise RecipeError("phases: [] only scores the base model, and problems.held_out has none", "problems")
        return self

    @model_validator(mode="after")
    def _templates_are_there(self) -> Recipe:
        templates = self.dialogue.words().templates
        uses = [("dialogue", "turns", name) for turn in self.dialogue.longest for name in turn]
        uses += [("evaluate", "turns", name) for turn in longest(self.evaluate.turns or ()) for name in turn]
        uses += [("evaluate", "redraw", self.evaluate.redraw.turn)] if self.evaluate.redraw else []
        for section, key, name in [*uses, ("evaluate", "template", self.evaluate.template)]:
            if name not in templates:
                raise RecipeError(f"no template {name!r}; there are: {', '.join(sorted(templates))}", section, key)
        first = [("dialogue", "turns", name) for name in self.dialogue.longest[0]]
        first += [("evaluate", "turns", name) for name in longest(self.evaluate.turns or ((),))[0]]
        for section, key, name in [*first, ("evaluate", "template", self.evaluate.template)]:
            if "{problem}" not in templates[name]:
                raise RecipeError(f"template {name!r} asks first and must hold the question: {{problem}}", section, key)
        for section, turns in (("dialogue", self.dialogue.longest), ("evaluate", self.evaluate.longest)):
            if not all(turns):
                raise RecipeError("every turn needs at least one template", section, "turns")
        return self

    @model_validator(mode="after")
    def _bridges_say_no_verdict(self) -> Recipe:
        """A bridge of ours that reads as a verdict would be taken for the model's own."""
        bridges = self.dialogue.words().bridges
        sources = (self.problems.train, *self.problems.held_out.values())
        names = sorted({s.task for group in sources for s in group if s.task})
        for section, turns in (("dialogue", self.dialogue.turns), ("evaluate", self.evaluate.turns or ())):
            used = [name for turn in longest(turns) for name in turn if name in bridges] if adaptive(turns) else []
            for task, name in product(names, used):
                if (trace := tasks.read(tasks.named(task), f"Answer: {bridges[name]}")).reviews or trace.attempts[1:]:
                    message = f"bridge {name!r} would be read as an answer or a verdict of the model: {bridges[name]!r}"
                    raise RecipeError(message, section, "turns")
        return self

    @model_validator(mode="after")
    def _examples_fit(self) -> Recipe:
        if self.evaluate.examples and not self.dialogue.examples:
            raise RecipeError("there are none; give dialogue.examples", "evaluate", "examples")
        names = {name for turn in self.dialogue.longest for name in turn}
        for number, example in enumerate(self.dialogue.examples, 1):
            if example.template not in (None, *names):
                raise RecipeError(f"no turn has example {number}'s {example.template!r}", "dialogue", "examples")
        return self

    @field_validator("phases", mode="before")
    @classmethod
    def _up_to(cls, value: Any) -> Any:
        return tuple(range(1, value + 1)) if type(value) is int and value in (1, 2) else value

    @field_validator("phases")
    @classmethod
    def _in_order(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if list(value) != sorted(set(value)):
            raise ValueError("each phase once, in order: [1, 2], [1], [2] or []")
        return value

    @model_validator(mode="after")
    def _measured_against(self) -> Recipe:
        budgets = [("filter", "limit"), ("pack", "rows"), ("pack", "trained_tokens")]
        budgets += [(f"{section}_2", key) for section, key in budgets]
        named = [b for b in budgets if not isinstance(getattr(getattr(self, b[0]), b[1]), int | None)]
        if self.like is None:
            if named:
                raise RecipeError("names a stage of another run; say of which recipe: like: other.yaml", *named[0])
            return self
        for key in ("folder", "model", "engine", "seed", "scale"):  # one store, and one engine for both
            mine, theirs = getattr(self, key), getattr(self.like, key)
            if mine != theirs:
                key = "store" if key == "folder" else key
                raise RecipeError(f"{self.like.name} must have the same {key}, it has {theirs!s:.60}", "like")
        return self

    @property
    def folder(self) -> str:
        """Name of the folder that holds this recipe's stages."""
        return self.store or self.name

    def scaled_problems(self) -> ProblemsConfig:
        """The problems section with the counts that `scale` leaves."""

        def shrink(sources: tuple[Source, ...]) -> tuple[Source, ...]:
            return tuple(s.model_copy(update={"count": self.count(s), "seed": self.drawn_by(s)}) for s in sources)

        groups = {
            group: {name: shrink(sources) for name, sources in getattr(self.problems, group).items()}
            for group in ("held_out", "dev", "test")
        }
        return self.problems.model_copy(update={"train": shrink(self.problems.train), **groups})

    def drawn_by(self, source: Source) -> int:
        """The seed of a source; a "run" source has another one for each seed of the recipe."""
        return seed_for(self.seed, "problems") if source.seed == "run" else source.seed

    def count(self, source: Source, holds: int | None = None) -> int | None:
        """Problems to take from a source once `scale` has shrunk them: of its `count`, or of the `holds` it has."""
        whole = holds if source.count is None else source.count
        return whole if whole is None else shrunk(whole, self.scale)
