"""What is asked: a recipe's sections, where problems come from, prompts, benchmarks, and how a file is read."""

from dpr_mini.recipe.base import Places, RecipeError, Section
from dpr_mini.recipe.data import FillerConfig, FilterConfig, PackConfig
from dpr_mini.recipe.dialogue import Branches, DialogueConfig, Example
from dpr_mini.recipe.evaluation import EvaluateConfig, GraderConfig, PlantedConfig, RedrawConfig
from dpr_mini.recipe.hypotheses import Hypothesis, Side
from dpr_mini.recipe.problems import Columns, DecontaminateConfig, ProblemsConfig, Source, shrunk
from dpr_mini.recipe.reading import INHERIT, load, parse, placed
from dpr_mini.recipe.sections import (
    NUMERIC,
    EngineConfig,
    ModelConfig,
    NeedsConfig,
    ProbeConfig,
    Recipe,
    SamplingConfig,
    ServerConfig,
    TrainConfig,
)
from dpr_mini.recipe.turns import AskedTurn, TurnSpec
