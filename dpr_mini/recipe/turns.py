"""What is asked in a turn: candidate templates, and on which condition and how often they are asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_serializer, model_validator

from dpr_mini.recipe.base import Label, Section, whole

MOST = 64  # turns, and times that one may be asked (ours): no chain is that long


class AskedTurn(Section):
    """A turn with a condition. What reads a verdict, and how, is in chat/script.py.

    `when` decides once, before the turn, whether it is asked at all. With `until` it is asked at least once, then again
    with the next candidate, until the model's own last verdict accepts its last attempt or `at_most` is reached.
    """

    of: Annotated[tuple[Label, ...], Field(min_length=1)]  # candidate templates
    until: Literal["verified"] | None = None
    at_most: whole(1, MOST) = 4  # times, for `until` (ours)
    # wrong: the grader says so of the answer that stands; rejected: the model's own verdict does not accept it
    when: Literal["wrong", "rejected"] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> AskedTurn:
        if self.until is None and "at_most" in self.model_fields_set:
            raise ValueError("at_most is for until: verified")
        if self.until is None and self.when is None:
            raise ValueError("give when or until; a turn that is always asked once is a list of templates")
        return self

    @model_serializer(mode="wrap")
    def _what_is_chosen(self, plain: Any) -> dict[str, Any]:
        """Without what was not asked for: a condition that is added later leaves stage keys alone."""
        unused = {"at_most"} if self.until is None else set()
        return {k: v for k, v in plain(self).items() if v is not None and k not in unused}


def _kind(value: Any) -> str:
    return "dict[turn]" if isinstance(value, Mapping | AskedTurn) else "str list"  # tags that no message shows


# A list of candidate templates, of which one is asked, or a mapping.
TurnSpec = Annotated[
    Annotated[tuple[Label, ...], Tag("str list")] | Annotated[AskedTurn, Tag("dict[turn]")], Discriminator(_kind)
]


def names_of(turn: Sequence[str] | AskedTurn) -> tuple[str, ...]:
    """The candidate templates of a turn."""
    return turn.of if isinstance(turn, AskedTurn) else tuple(turn)


def times(turn: Sequence[str] | AskedTurn) -> int:
    """How often a turn is asked at most."""
    return turn.at_most if isinstance(turn, AskedTurn) and turn.until else 1


def chosen(turn: Sequence[str] | AskedTurn, number: int, time: int = 0) -> str:
    """The candidate that dialogue `number` is asked, modulo their number; asked again, the next one each `time`."""
    candidates = names_of(turn)
    return candidates[(number + time) % len(candidates)]


def longest(turns: Sequence[Sequence[str] | AskedTurn]) -> tuple[tuple[str, ...], ...]:
    """Candidates of every turn of the longest dialogue that there can be: all conditions hold, none is accepted."""
    return tuple(names_of(turn) for turn in turns for _ in range(times(turn)))


def adaptive(turns: Sequence[Sequence[str] | AskedTurn]) -> bool:
    """Whether what is asked depends on what was answered."""
    return any(isinstance(turn, AskedTurn) for turn in turns)


def graded(turns: Sequence[Sequence[str] | AskedTurn]) -> bool:
    """Whether a turn is asked by what the grader says: it reads the expected answer."""
    return any(isinstance(turn, AskedTurn) and turn.when == "wrong" for turn in turns)


def check(turns: Sequence[Sequence[str] | AskedTurn]) -> None:
    """Raises ValueError where the first turn has a condition: there is nothing yet that it could depend on."""
    if turns and isinstance(turns[0], AskedTurn):
        raise ValueError("the first turn is asked in any case: give it as a list of templates")
