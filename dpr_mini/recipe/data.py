"""What becomes training data: the filter's rules and the packing."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from dpr_mini.recipe.base import Options, PositiveShare, Problems, Section, SomeLine, SomeText, Switch, Tokens, Total

# A way that answers may go from the first to the last (selection.case.KINDS).
Trajectory = Literal["single_right", "confirmed", "corrected", "spoiled", "never_right"]


class FilterConfig(Section):
    """Rules in order; a rule is a name, or a name with options. The first that objects is the one recorded."""

    rules: tuple[SomeLine | dict[SomeLine, Options], ...] = ("answer_correct",)
    # Rules that read text (those with an option `turns`) pass over a wrong first attempt that is masked from the loss.
    # None: as the phase's `pack.mask_wrong_first` says.
    trained_turns: Switch | None = None
    # keep at most this many in all, chosen by hash; or as many as that stage of `like` kept (for matched controls)
    limit: Problems | Literal["filter-1", "filter-2"] | None = None
    # After the rules, draw by hash so that the kinds have these shares (they add up to 1), as many as can be had.
    mix: Annotated[dict[Trajectory, PositiveShare], Field(min_length=1)] | None = None
    prefixes: Switch = False  # right first turns of dialogues that the rules drop are samples of their own

    @field_validator("mix")
    @classmethod
    def _whole(cls, value: dict[str, float] | None) -> dict[str, float] | None:
        if value is not None and abs(sum(value.values()) - 1) > 1e-6:
            raise ValueError(f"the shares add up to {sum(value.values()):.6g}, not to 1")
        return value

    @model_serializer(mode="wrap")
    def _what_is_chosen(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the newer options where they are off: stage keys from before them stay."""
        return _without(plain(self), mix=None, prefixes=False)


def _without(row: dict[str, Any], **defaults: Any) -> dict[str, Any]:
    return {k: v for k, v in row.items() if k not in defaults or v != defaults[k]}


class FillerConfig(Section):
    """Length control: later turns keep their number of tokens and the answer, and lose their words."""

    text: SomeText = " ."  # repeated; as in the empty chains of arXiv 2503.01307
    answer: SomeText = "\n{answer}"  # how the turn ends


class PackConfig(Section):
    tokens_per_row: Tokens = 8192
    # Do not train on a first attempt that was wrong (arXiv 2502.19613): a first turn, or the text before a bridge.
    mask_wrong_first: Switch = True
    # Trained tokens of all epochs together, to within one sample: samples are chosen by hash, and repeated where there
    # are too few. A number, or the training stages of `like` whose tokens are added up (for matched controls).
    trained_tokens: Total | tuple[Literal["train-1", "train-2"], ...] | None = None
    # Rows, and so optimiser steps of an epoch: chosen and repeated in the same way, to fill so many. A number, or those
    # of a packing stage of `like`.
    rows: Problems | Literal["pack-1", "pack-2"] | None = None
    filler: FillerConfig | None = None
    # For tasks: do not train on any wrong attempt that another follows, wherever it stands, nor on the working before
    # it; its check is trained on.
    mask_wrong_attempts: Switch = False
    # Controls for tasks. none: verdicts without the check before them. coin: verdicts right or wrong by a fair coin.
    checks: Literal["own", "none"] = "own"
    verdicts: Literal["own", "coin"] = "own"

    @property
    def executed(self) -> str | None:
        """The option that needs a task's chains; None where none is set."""
        options = {"mask_wrong_attempts": False, "checks": "own", "verdicts": "own"}
        return next((name for name, default in options.items() if getattr(self, name) != default), None)

    @field_validator("trained_tokens", mode="before")
    @classmethod
    def _one(cls, value: Any) -> Any:
        names = [value] if isinstance(value, str) else value
        if isinstance(names, list | tuple) and (
            not names or any(names.count(n) > 1 or n not in ("train-1", "train-2") for n in names)
        ):
            raise ValueError("write a number of tokens, or training stages of `like`, each once: train-1, train-2")
        return tuple(names) if isinstance(names, list) else names

    @field_validator("rows", mode="before")
    @classmethod
    def _number_or_packing(cls, value: Any) -> Any:
        if isinstance(value, str) and value not in ("pack-1", "pack-2"):
            raise ValueError("write a number of rows, or a packing stage of `like`: pack-1 or pack-2")
        return value

    @model_validator(mode="after")
    def _words_are_there(self) -> PackConfig:
        if self.filler and self.executed:
            raise ValueError(f"{self.executed} works on words that filler takes out: choose one of them")
        if self.rows and self.trained_tokens:
            raise ValueError("rows and trained_tokens are two budgets: choose one of them")
        return self

    @model_serializer(mode="wrap")
    def _what_is_chosen(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the newer options where they are off: stage keys from before them stay."""
        return _without(plain(self), rows=None, mask_wrong_attempts=False, checks="own", verdicts="own")
