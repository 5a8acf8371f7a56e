"""How answers are graded, and how a model is asked for them when it is scored."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_serializer, model_validator

from dpr_mini.recipe import benchmarks, turns
from dpr_mini.recipe.base import (
    Draws,
    Label,
    Memory,
    Name,
    NotNegative,
    RecipeError,
    Seconds,
    Section,
    Switch,
    Temperature,
    Text,
    Tokens,
    TopP,
)
from dpr_mini.recipe.turns import MOST, TurnSpec


class GraderConfig(Section):
    """Arguments of the grader. Another value grades the same answers again."""

    timeout_s: Seconds = 5.0  # of one answer that needs computer algebra; longer is the verdict "timeout"
    memory_mib: Memory = 2048  # address space of a worker
    # Is a number right as a closed form that nobody worked out? A benchmark may say so; training should not learn it.
    closed_forms: Literal["refuse", "accept"] = "refuse"
    # Where no answer is named, is the last number that a sentence states one?
    last_number: Literal["accept", "refuse"] = "accept"

    @model_serializer(mode="wrap")
    def _what_is_chosen(self, plain: Any) -> dict[str, Any]:
        """Without the two switches where they have their defaults: stage keys from before them stay."""
        defaults = {("closed_forms", "refuse"), ("last_number", "accept")}
        return {k: v for k, v in plain(self).items() if (k, v) not in defaults}

    def key(self) -> dict[str, Any]:
        """For the keys of stages that are older than their grader's section: nothing where it has its defaults."""
        return {} if self == GraderConfig() else {"grader": self.model_dump(mode="json")}


class PlantedConfig(Section):
    """Responses that are made to begin with a first attempt of another one: right and wrong ones a problem."""

    right: NotNegative = 1
    wrong: NotNegative = 1

    @model_validator(mode="after")
    def _something(self) -> PlantedConfig:
        if not self.right and not self.wrong:
            raise ValueError("plant a right or a wrong attempt, or leave it out")
        return self


class RedrawConfig(Section):
    """Plain answers, drawn again until a model's check accepts one: the control for what dialogues do in sequence."""

    checker: Literal["base", "self"] = "base"  # the recipe's base model, or the one that answered
    turn: Label = "verify"  # the template that asks for the check
    at_most: Draws = 4  # answers drawn for a response; the last one stands unchecked
    samples: Draws = 4  # responses a problem


class EvaluateConfig(Section):
    preset: Name = "ours"  # the field's settings by name (benchmarks.py); keys given here win over the preset's
    samples: Draws = 4  # k draws a problem at `temperature`
    samples_of: dict[Name, Draws] = Field({})  # benchmark name -> its own k
    greedy: Switch = True  # one greedy answer besides
    temperature: Temperature = 0.7
    top_p: TopP = 0.95
    max_new_tokens: Tokens = 1024
    examples: Switch = False  # few-shot prompting: `dialogue.examples` before every question, as in phase 1
    template: Label = "solve"  # how the question is asked, before and after training
    system: Text = ""  # the system turn; none = what the chat template puts there by itself
    # Prompting at test time: a dialogue as in `dialogue.turns`, whose last answer counts. None: one turn, `template`.
    # No turn may ask `when: wrong`: that reads the expected answer.
    turns: Annotated[tuple[TurnSpec, ...], Field(min_length=2, max_length=MOST)] | None = None
    grader: GraderConfig = GraderConfig()
    planted: PlantedConfig | None = None  # the causal test; null: it is not made
    redraw: RedrawConfig | None = None  # null: it is not made

    @model_validator(mode="after")
    def _answers_enough(self) -> EvaluateConfig:
        if (r := self.redraw) is None:
            return self
        if self.turns:
            raise ValueError("redraw is for a model that answers in one turn: leave out evaluate.turns")
        if (least := min([self.samples, *self.samples_of.values()])) < r.samples * r.at_most:
            raise ValueError(
                f"redraw takes {r.samples} x {r.at_most} answers a problem: samples must be {r.samples * r.at_most} "
                f"or more, not {least}"
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, value: Any) -> Any:
        try:
            return benchmarks.preset(value) if isinstance(value, dict) else value
        except RecipeError as error:
            raise RecipeError(str(error), "evaluate", "preset") from None

    @field_validator("turns")
    @classmethod
    def _without_the_answer(cls, value: tuple[TurnSpec, ...] | None) -> tuple[TurnSpec, ...] | None:
        turns.check(value or ())
        if turns.graded(value or ()):
            raise ValueError("when: wrong reads the expected answer, which a test must not; take when: rejected")
        return value

    @property
    def asked(self) -> tuple[TurnSpec, ...]:
        """The turns of an answer."""
        return self.turns or ((self.template,),)

    @property
    def longest(self) -> tuple[tuple[str, ...], ...]:
        """Candidates of each turn of the longest answer."""
        return turns.longest(self.asked)

    def k(self, benchmark: str) -> int:
        return self.samples_of.get(benchmark, self.samples)

    def changes_answers(self) -> dict[str, Any]:
        """What of this section an answer depends on, for stage keys; which examples it is shown, the caller adds."""
        return self.model_dump(mode="json", exclude={"preset", "grader", "examples", "planted", "redraw"})
