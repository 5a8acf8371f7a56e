"""Hypotheses that a recipe registers before its experiment is run: what `dpr-mini compare` tests, all else explores.

    hypotheses:
      - {name: H1, greater: {arm: dialogue}, than: {arm: plain}, margin: 0.05}
      - {name: H3, greater: {arm: dialogue, measure: mended}, than: 0}
      - {name: H3, greater: {arm: dialogue, measure: mended}, than: {arm: confirmed-only, measure: mended}}
      - {name: H6, equivalent: 0.05, of: {arm: dialogue}, than: {arm: plain}, benchmark: sums, family: control}

A hypothesis of several parts is several lines of one name; each is tested on its own and counts in its family. An arm
is a recipe's name, or "base" for the untouched model where no recipe scores that alone. They change no stage.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import model_validator

from dpr_mini.recipe.base import Line, Margin, Section, SomeLine, literal
from dpr_mini.types import ALL


class Side(Section):
    """A measure of an arm, by problem and seed.

    first: the first answer of a response; mended: right at the end less right at first; log_tokens: of right answers;
    maj@tokens: a majority vote of as many answers as cost the tokens of one of the other side's; redraw: answers drawn
    until the base's own check accepts one.
    """

    arm: SomeLine
    measure: Literal["pass@1", "greedy", "first", "mended", "tokens", "log_tokens", "maj@tokens", "redraw"] = "pass@1"

    def __str__(self) -> str:
        return self.arm if self.measure == "pass@1" else f"{self.arm} ({self.measure})"


class Hypothesis(Section):
    """`greater` is above `than` (tested two-sided), or `of` differs from `than` by less than `equivalent` (TOST)."""

    name: SomeLine
    claim: Line = ""  # in words, for the pages
    greater: Side | None = None
    of: Side | None = None
    equivalent: Margin | None = None
    # 0: a measure within the arm against zero
    than: Annotated[Side | Literal[0], literal("an arm, as {arm: NAME}, or ", 0)]
    benchmark: SomeLine = ALL  # one, all of them together, or a bin
    family: SomeLine = "main"  # of p values that Holm's step-down adjusts together
    margin: Margin | None = None  # the smallest difference of interest

    @model_validator(mode="after")
    def _one_sense(self) -> Hypothesis:
        if (self.greater is None) is (self.of is None) or (self.of is None) is not (self.equivalent is None):
            raise ValueError("give `greater` and `than`, or `equivalent`, `of` and `than`")
        if self.equivalent and self.margin:
            raise ValueError("`margin` is of `greater`; `equivalent` is a margin itself")
        if self.side == self.than:
            raise ValueError(f"both sides are {self.side}: a measure is not compared with itself")
        voted = [side for side in (self.side, self.than) if side and side.measure == "maj@tokens"]
        if voted and (len(voted) == 2 or not self.than):
            raise ValueError("maj@tokens takes the tokens of the other side: that must be another measure of an arm")
        return self

    @property
    def side(self) -> Side:
        """The side that `than` is taken from."""
        return self.greater or self.of

    @property
    def words(self) -> str:
        """ "dialogue over plain", "dialogue (mended) over 0", "a and b within 0.05"; `claim` where there is one."""
        if self.claim:
            return self.claim
        return f"{self.side} and {self.than} within {self.equivalent:g}" if self.of else f"{self.side} over {self.than}"
