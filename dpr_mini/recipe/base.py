"""What every section of a recipe is built on: types with their bounds, and the errors for a mistake.

Every type is strict: `true` is no 1, "3" in quotes no 3, 3.0 no 3; a whole number stands for a float. All bounds are
ours: beyond what anybody runs, and low enough that a plan computed from them ends, in finite numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from dpr_mini.types import UserError

LONGEST_TEXT = 100_000  # characters of a prompt, an example, any text
LONGEST_LINE = 200  # of a label or a column's name
LONGEST_NAME = 64  # of a held-out set, a template
LONGEST_FOLDER = 200  # of a run: names of files and folders are made of it, and those may have 255
LONGEST_FILE = 1_024  # of a file's name with its folders
LONGEST_PART = 255  # bytes of one part of it: file systems take no more
LONGEST_CONTEXT = 1 << 20  # tokens of a row or an answer
MOST_DRAWS = 10_000  # samples a problem
OVERRIDE = "override "  # how the place of a key begins that the command line set


def whole(least: int, most: int) -> Any:
    """A whole number within bounds."""
    return Annotated[int, Field(ge=least, le=most, strict=True)]


def real(least: float, most: float) -> Any:
    """A finite number within bounds."""
    return Annotated[float, Field(ge=least, le=most, strict=True)]


def above(low: float, most: float) -> Any:
    """A finite number above `low`, at most `most`."""
    return Annotated[float, Field(gt=low, le=most, strict=True)]


Switch = Annotated[bool, Field(strict=True)]
Seed = whole(-(2**63), 2**63 - 1)  # what torch takes
Problems = whole(1, 10_000_000)  # problems, training rows, samples kept
Draws = whole(1, MOST_DRAWS)  # samples a problem
NotNegative = whole(0, MOST_DRAWS)  # the same, or none
Tries = whole(1, 100_000)  # draws a problem before it is left, correct answers of it that are wanted
Tokens = whole(1, LONGEST_CONTEXT)
Total = whole(1, 10_000_000_000)  # draws or trained tokens of a whole run
Epochs = whole(1, 1_000)
Slices = whole(1, LONGEST_CONTEXT)  # parts that a row of tokens is computed in, or tokens of one
Rank = whole(1, 16_384)
Steps = whole(1, 1_000_000_000)
Window = whole(1, 100_000)  # requests in flight
Memory = whole(512, 1 << 20)  # MiB
Words = whole(1, 1_000)  # of an n-gram
Share = real(0, 1)
PositiveShare = above(0, 1)
Probability = Annotated[float, Field(gt=0, lt=1, strict=True)]
Decay = Annotated[float, Field(ge=0, lt=1, strict=True)]  # of a running mean
Scale = real(1e-6, 1)
LearningRate = real(1e-12, 1)
WeightDecay = real(0, 10)
Norm = above(0, 1_000_000)
Gib = real(0, 100_000)
Seconds = above(0, 86_400)
Patience = real(0, 86_400)  # seconds
Margin = above(0, 1_000_000)  # a difference of a measure: a share, or tokens


def _greedy_or_warm(value: float) -> float:
    if 0 < value < 0.01:
        raise ValueError("must be 0, which is greedy, or at least 0.01: below it logits overflow")
    return value


Temperature = Annotated[real(0, 4), AfterValidator(_greedy_or_warm)]
TopP = PositiveShare


def literal(words: str, *values: int) -> BeforeValidator:
    """For a Literal of whole numbers, which would take True and 1.0 for 1; `words` name what else there may be."""

    def exactly(value: Any) -> Any:
        if isinstance(value, bool | float):
            raise ValueError(f"must be {words}{' or '.join(map(str, values))}")
        return value

    return BeforeValidator(exactly)


def of_form(form: Callable[[str], Any], words: str) -> AfterValidator:
    """Text must have the form; else ValueError with the words for it."""

    def checked(value: str) -> str:
        if not form(value):
            raise ValueError(words)
        return value

    return AfterValidator(checked)


def like(pattern: str, words: str) -> Any:
    """Text that a regular expression matches as a whole, in ASCII."""
    return Annotated[str, Field(strict=True), of_form(lambda v: re.fullmatch(pattern, v, re.ASCII), words)]


def is_name(value: Any) -> bool:
    """Whether it is a name: letters, digits, single blanks, . _ + -. It is no path, no option, and has no blank end."""
    form = r"[^\W_](?:[\w.+-]| (?=[\w.+-]))*"
    return isinstance(value, str) and len(value) <= LONGEST_NAME and re.fullmatch(form, value) is not None


def _is_file(value: str) -> bool:
    parts = value.encode("utf-8", "surrogatepass").split(b"/")
    plain = value.strip() and value.isprintable() and not value.startswith("-")
    return bool(plain) and len(value) <= LONGEST_FILE and max(map(len, parts)) <= LONGEST_PART


def _is_label(value: str) -> bool:
    return value == value.strip() and value.isprintable() and 0 < len(value) <= LONGEST_NAME


NAME = f"must begin with a letter or digit, go on with those, single blanks or . _ + -; at most {LONGEST_NAME} in all"
LABEL = f"must be printable text of 1 to {LONGEST_NAME} characters, without blanks at its ends"
FILE = f"must be a file's name: at most {LONGEST_FILE} printable characters, {LONGEST_PART} bytes a part, no - first"

Text = Annotated[str, Field(max_length=LONGEST_TEXT, strict=True)]
SomeText = Annotated[str, Field(min_length=1, max_length=LONGEST_TEXT, strict=True)]
Line = Annotated[
    str, Field(max_length=LONGEST_LINE, strict=True), of_form(str.isprintable, "must be one line of printable text")
]
SomeLine = Annotated[Line, of_form(str.strip, "must not be empty")]
Name = Annotated[str, Field(strict=True), of_form(is_name, NAME)]
# A name that the recipe alone uses, of a template or a bridge: it becomes no file's and no table's.
Label = Annotated[str, Field(strict=True), of_form(_is_label, LABEL)]
FileName = Annotated[str, Field(strict=True), of_form(_is_file, FILE)]
FolderName = like(
    rf"[A-Za-z0-9][A-Za-z0-9._-]{{,{LONGEST_FOLDER - 1}}}",
    f"is the name of a folder: at most {LONGEST_FOLDER} of A-Z a-z 0-9 . _ -, a letter or digit first",
)
HubName = like(
    r"(?!.*(?:--|\.\.))[A-Za-z0-9][\w.-]{,95}(?:/[A-Za-z0-9][\w.-]{,95})?", "must be a name of the hub, as owner/name"
)
Revision = like(r"(?!.*\.\.)[A-Za-z0-9][\w./-]{,127}", "must be a commit, tag or branch of the hub")
Identifier = like(r"[A-Za-z]\w{,63}", "must be a name of letters, digits and _, at most 64")

LARGEST_OPTION = 1_000_000_000  # size of a number among the options of a rule, a generator or a task
COUNTED = ("digits", "terms", "words", "decimals", "numbers", "examples", "steps", "vars", "times", "tokens")


def _bounded(value: Any) -> Any:
    """Options as they are, once all that is in them is bounded; else ValueError, which names the option."""
    waiting = [("", value)] if isinstance(value, dict) else []
    while waiting:
        name, inner = waiting.pop()
        if isinstance(inner, dict):
            if odd := [key for key in inner if not isinstance(key, str)]:
                raise ValueError(f"option {odd[0]!r:.40}: a key must be text")
            waiting += inner.items()
        elif isinstance(inner, list | tuple):
            waiting += [(name, each) for each in inner]
        elif isinstance(inner, bool) or inner is None:
            continue
        elif isinstance(inner, int | float):
            if not -LARGEST_OPTION <= inner <= LARGEST_OPTION:  # nor is it nan then
                raise ValueError(f"option {name}: must be a finite number of at most {LARGEST_OPTION} in size")
            if name.rpartition("_")[2] in COUNTED and inner < 0:
                raise ValueError(f"option {name}: counts something and cannot be negative (got {inner})")
        elif not isinstance(inner, str) or len(inner) > LONGEST_TEXT:
            raise ValueError(f"option {name}: must be a number, true, false, null, text, a list or a mapping of these")
    return value


Options = Annotated[dict[Annotated[str, Field(strict=True)], Any], BeforeValidator(_bounded)]


class RecipeError(UserError, ValueError):
    """A mistake in a recipe or an override: one line that names file, line and fix.

    loc: its place in the recipe, where it is seen by a validator of more than that, or by code that only has a
    section; the reader, or `placed`, adds file and line. (): not known, or told already.
    """

    def __init__(self, message: str, *loc: str | int) -> None:
        super().__init__(message)
        self.loc = loc


class Places(dict[tuple[Any, ...], str]):
    """Where a recipe's keys stand: key path -> "file:line" or the override that set it; `files`: all that were read.

    Equal to any other: two recipes are the same that say the same.
    """

    def __init__(self, places: Mapping[tuple[Any, ...], str] | None = None, files: Iterable[Path] = ()) -> None:
        super().__init__(places or {})
        self.files = set(files)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Places)

    def __ne__(self, other: object) -> bool:  # a dict's own compares the keys
        return not self == other

    def of(self, loc: tuple[Any, ...]) -> str | None:
        """Where a key stands, or the nearest above it; None where none is known."""
        return next((self[loc[:n]] for n in range(len(loc), -1, -1) if loc[:n] in self), None)


class Section(BaseModel):
    """Frozen, and no key that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
