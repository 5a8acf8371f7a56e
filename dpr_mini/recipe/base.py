"""What every section of a recipe is built on, and the error for a mistake in one."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from dpr_mini.types import UserError

Share = Annotated[float, Field(ge=0, le=1)]
# Strict: `true` is no 1, "3" in quotes no 3.
Whole = Annotated[int, Field(strict=True)]
Positive = Annotated[int, Field(ge=1, strict=True)]
NotNegative = Annotated[int, Field(ge=0, strict=True)]
Switch = Annotated[bool, Field(strict=True)]
Temperature = Annotated[float, Field(ge=0, le=4)]
TopP = Annotated[float, Field(gt=0, le=1)]


class RecipeError(UserError, ValueError):
    """A mistake in a recipe or an override: one line that names file, line and fix."""


class Misplaced(ValueError):
    """What is wrong in one section, seen by a validator of the whole recipe: `loc` is its place, for the message."""

    def __init__(self, message: str, *loc: str | int) -> None:
        super().__init__(message)
        self.loc = loc


class Section(BaseModel):
    """Frozen, and no key that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
