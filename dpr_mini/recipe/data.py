"""What becomes training data: the filter's rules and the packing."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import field_validator

from dpr_mini.recipe.base import Positive, Section


class FilterConfig(Section):
    """Rules in order; a rule is a name, or a name with options. The first that objects is the one recorded."""

    rules: tuple[str | dict[str, dict[str, Any]], ...] = ("answer_correct",)
    # Rules that read text (those with an option `turns`) pass over a wrong first attempt that is masked from the loss.
    # None: as the phase's `pack.mask_wrong_first` says.
    trained_turns: bool | None = None
    # keep at most this many in all, chosen by hash; or as many as that stage of `like` kept (for matched controls)
    limit: Positive | Literal["filter-1", "filter-2"] | None = None


class FillerConfig(Section):
    """Length control: later turns keep their number of tokens and the answer, and lose their words."""

    text: str = " ."  # repeated; as in the empty chains of arXiv 2503.01307
    answer: str = "\n{answer}"  # how the turn ends

    @field_validator("text", "answer")
    @classmethod
    def _not_empty(cls, value: str) -> str:
        if not value:
            raise ValueError("must not be empty")
        return value


class PackConfig(Section):
    tokens_per_row: Positive = 8192
    # Do not train on a first attempt that was wrong (arXiv 2502.19613): a first turn, or the text before a bridge.
    mask_wrong_first: bool = True
    # Trained tokens of all epochs together, to within one sample: samples are chosen by hash, and repeated where there
    # are too few. A number, or the training stages of `like` whose tokens are added up (for matched controls).
    trained_tokens: Positive | tuple[Literal["train-1", "train-2"], ...] | None = None
    filler: FillerConfig | None = None

    @field_validator("trained_tokens", mode="before")
    @classmethod
    def _one(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value
