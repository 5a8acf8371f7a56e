"""What is asked: a recipe's sections, where problems come from, prompts, benchmarks, and how a file is read."""

from dpr_mini.recipe.problems import (
    Columns,
    Decontaminate,
    Positive,
    Problems,
    Section,
    Share,
    Source,
    shrunk,
)
from dpr_mini.recipe.reading import INHERIT, Origin, RecipeError, load, parse
from dpr_mini.recipe.sections import (
    NUMERIC,
    Dialogue,
    EngineSection,
    Evaluate,
    Example,
    Filler,
    Filter,
    Grading,
    Model,
    Needs,
    Pack,
    Probe,
    Recipe,
    Sampling,
    Server,
    Train,
)
