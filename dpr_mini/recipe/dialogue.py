"""How a model talks with itself: turns, templates, bridges, examples."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_serializer, model_validator

from dpr_mini.recipe import prompts, turns
from dpr_mini.recipe.base import MOST_DRAWS, Draws, Label, Line, Section, SomeText, Temperature, Text, Tokens, TopP
from dpr_mini.recipe.prompts import Words
from dpr_mini.recipe.turns import MOST, TurnSpec


class Example(Section):
    """A few-shot example: a dialogue written by hand, before the question while phase 1 samples, never trained on."""

    problem: SomeText
    answers: Annotated[tuple[SomeText, ...], Field(min_length=1)]  # one answer per turn
    level: Line | None = None  # for problems of this level; none = for all
    template: Label | None = None  # for dialogues that have this template; none = for all


class Branches(Section):
    """Sequential sampling: how many ways each first turn is continued, by what the grader says of it."""

    right: Draws
    wrong: Draws  # also where no answer was found

    @property
    def most(self) -> int:
        return max(self.right, self.wrong)


class DialogueConfig(Section):
    """Phase 1. Number of turns and every template are data: two turns are a limit the paper states.

    One turn is no dialogue but plain rejection sampling, for controls.
    """

    samples: Draws = 4  # dialogues a problem (ours); with `branches` first turns a problem
    turns: Annotated[tuple[TurnSpec, ...], Field(min_length=1, max_length=MOST)] = (
        ("solve",),
        ("verify", "backtrack", "subgoals", "backward"),
    )  # candidate templates of each turn; samples rotate through them (ours)
    branches: Branches | None = None  # null: every dialogue has a first turn of its own
    templates: dict[Label, SomeText] = Field({})  # name -> text, over the ones in prompts.py
    bridges: dict[Label, Text] = Field({})  # name -> sentence that joins a turn to what came before
    examples: tuple[Example, ...] = ()  # before every question, in order; STaR's few-shot sampling (arXiv 2203.14465)
    temperature: Temperature = 0.8
    top_p: TopP = 0.95
    max_new_tokens: Tokens = 512  # a turn

    @model_validator(mode="after")
    def _turns_fit(self) -> DialogueConfig:
        turns.check(self.turns)
        if self.branches and self.most_dialogues > MOST_DRAWS:
            raise ValueError(f"samples x branches are {self.most_dialogues} dialogues a problem; at most {MOST_DRAWS}")
        if self.branches and len(self.turns) < 2:
            raise ValueError("branches continue a first turn: give turns two or more")
        return self

    @model_serializer(mode="wrap")
    def _what_is_chosen(self, plain: Any) -> dict[str, Any]:
        """Without `branches` where there are none: stage keys from before them stay."""
        return {k: v for k, v in plain(self).items() if k != "branches" or v is not None}

    @property
    def longest(self) -> tuple[tuple[str, ...], ...]:
        """Candidates of each turn of the longest dialogue."""
        return turns.longest(self.turns)

    @property
    def grades(self) -> bool:
        """Whether what is asked depends on the grader."""
        return self.branches is not None or turns.graded(self.turns)

    @property
    def most_dialogues(self) -> int:
        """Dialogues a problem, at most."""
        return self.samples * (self.branches.most if self.branches else 1)

    @property
    def most_answers(self) -> int:
        """Turns generated for a problem, at most."""
        return self.samples + self.most_dialogues * (len(self.longest) - 1)

    def words(self) -> Words:
        """Our templates and bridges with this section's over them."""
        return prompts.words(self.templates, self.bridges)
