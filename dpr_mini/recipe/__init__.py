"""What is asked: a recipe's sections, where problems come from, prompts, benchmarks, and how a file is read."""

from dpr_mini.recipe.base import Positive, RecipeError, Section, Share
from dpr_mini.recipe.hypotheses import Hypothesis, Side
from dpr_mini.recipe.problems import Columns, DecontaminateConfig, ProblemsConfig, Source, shrunk
from dpr_mini.recipe.reading import INHERIT, Origin, load, parse
from dpr_mini.recipe.sections import (
    NUMERIC,
    DialogueConfig,
    EngineConfig,
    EvaluateConfig,
    Example,
    FillerConfig,
    FilterConfig,
    GraderConfig,
    ModelConfig,
    NeedsConfig,
    PackConfig,
    ProbeConfig,
    Recipe,
    SamplingConfig,
    ServerConfig,
    TrainConfig,
)
