"""How a model talks with itself: turns, templates, bridges, examples."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dpr_mini.recipe import prompts
from dpr_mini.recipe.base import Positive, Section, Temperature, TopP
from dpr_mini.recipe.prompts import Words


class Example(Section):
    """A few-shot example: a dialogue written by hand, before the question while phase 1 samples, never trained on."""

    problem: str
    answers: Annotated[tuple[str, ...], Field(min_length=1)]  # one answer per turn
    level: str | None = None  # for problems of this level; none = for all
    template: str | None = None  # for dialogues that have this template; none = for all


class DialogueConfig(Section):
    """Phase 1. Number of turns and every template are data: two turns are a limit the paper states.

    One turn is no dialogue but plain rejection sampling, for controls.
    """

    samples: Positive = 4  # dialogues a problem (ours)
    turns: Annotated[tuple[tuple[str, ...], ...], Field(min_length=1)] = (
        ("solve",),
        ("verify", "backtrack", "subgoals", "backward"),
    )  # candidate templates of each turn; samples rotate through them (ours)
    templates: dict[str, str] = Field({})  # name -> text, over the ones in prompts.py
    bridges: dict[str, str] = Field({})  # name -> sentence that joins a turn to what came before
    examples: tuple[Example, ...] = ()  # before every question, in order; STaR's few-shot sampling (arXiv 2203.14465)
    temperature: Temperature = 0.8
    top_p: TopP = 0.95
    max_new_tokens: Positive = 512  # a turn

    def words(self) -> Words:
        """Our templates and bridges with this section's over them."""
        return prompts.words(self.templates, self.bridges)
