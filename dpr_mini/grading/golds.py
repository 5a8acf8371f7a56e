r"""Golds, and the other fields of a user's row, as text: what a value plainly says is read, anything else is refused.

    gold_text("They pay 5 each.\n#### 1,234", "cases.jsonl:7")      # "1,234"
    gold_text(None, "cases.jsonl:7")                                # FieldError: cases.jsonl:7: gold must be ...

Every command and every stage reads golds here. A number says what the file says of it (`foreign.Numeral` keeps its
spelling), written out where a power of ten stands behind it. Nothing is ever Python's `str` of a value: null, NaN,
booleans, lists and objects end in one line that names file, row and field, not in a verdict against the model.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from dpr_mini.files.foreign import Numeral
from dpr_mini.grading.reading import extract
from dpr_mini.types import UserError

WRITTEN_OUT = 400  # digits: a longer number keeps its power of ten
# What is left of a field in which nobody wrote a value: an empty box, marks, blanks, characters without a width.
_NOTHING = re.compile(r"(?:\\f?boxed\s*\{\s*\}|\\[,;:! ]|[\s$#*.,;:\u00ad\u200b-\u200f\u2060\ufeff])*")
_HALF_PAIR = re.compile("[\ud800-\udfff]")


class FieldError(UserError):
    """A field of a user's row holds no value that it could mean: one line with file, row and field."""


def gold_text(value: Any, where: str, name: str = "gold") -> str:
    r"""The gold answer that a field holds: its text or number; of a whole solution the answer alone (see `opened`).

    A list of one text or number is read as that. Raises FieldError for anything else, and where there is no value.
    """
    text = opened(plain(value[0] if isinstance(value, list) and len(value) == 1 else value, where, name)).strip()
    if _NOTHING.fullmatch(text):
        raise FieldError(f"{where}: {name} holds no value, got {text!r:.60}")
    return text


def opened(gold: str) -> str:
    r"""The final answer alone, where the gold is a whole solution: GSM8K's after "####", MATH's last \boxed{}."""
    if r"\boxed" not in gold and "####" not in gold:
        return gold
    result, how = extract(gold)
    return result if how in ("hashes", "boxed") else gold


def plain(value: Any, where: str, name: str) -> str:
    """A field that is a text or a number, as text. Raises FieldError for anything else."""
    match value:
        case str():
            return whole(value, where, name)
        case Numeral() if re.search("[0-9]", value.spelling):
            return _written_out(value.spelling)
        case bool():
            pass
        case int():
            return str(value)
        case float() | Decimal() if math.isfinite(value):
            return _written_out(str(value))
    raise FieldError(f"{where}: {name} must be a string or a number, got {_seen(value)}")


def text_field(value: Any, where: str, name: str) -> str:
    """A field that is a text. Raises FieldError for anything else."""
    if not isinstance(value, str):
        raise FieldError(f"{where}: {name} must be a string, got {_seen(value)}")
    return whole(value, where, name)


def field(row: Mapping[str, Any], name: str) -> Any:
    """The value of a row's field; of "a.b", where no field has that name, of field b in the object a. None: absent."""
    value: Any = row
    for part in (name,) if name in row else name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def question_text(value: Any, where: str, name: str) -> str:
    """The question that a field holds: its text, or what the user says in a list of messages {role, content}.

    A system message before it is another project's prompt: ours comes from the recipe. Raises FieldError for anything
    else, such as messages with an answer among them.
    """
    if not isinstance(value, list) or not value or not all(isinstance(m, Mapping) and "role" in m for m in value):
        return text_field(value, where, name)
    roles = [m["role"] for m in value]
    if roles not in (["user"], ["system", "user"]):
        raise FieldError(f"{where}: {name} must be one message of a user, got {', '.join(map(str, roles)):.60}")
    return text_field(value[-1].get("content"), where, f"{name}: content")


def optional(value: Any, where: str, name: str) -> str:
    """A field that may be absent, which null and NaN (as data frames write it) are too: "". Else as `plain`."""
    absent = value is None or (isinstance(value, float) and math.isnan(value))
    return "" if absent else plain(value, where, name)


def row_id(value: Any, where: str) -> str | int | float:
    """A row's id as it can be written again. Raises FieldError for what is no text or number, or too large a one."""
    plain(value, where, "id")
    if isinstance(value, float) and not math.isfinite(value):
        raise FieldError(f"{where}: id is a number that is too large to be written again; make it a string")
    return value


def whole(text: str, where: str, name: str) -> str:
    """The text, where a file can hold it. Raises FieldError for half a surrogate pair, which JSON can spell."""
    if _HALF_PAIR.search(text):
        raise FieldError(f"{where}: {name} has half of a surrogate pair: {text!a:.60}")
    return text


def mended(text: str) -> str:
    """A model's text as a file can hold it: half a surrogate pair, of a character cut in two, becomes U+FFFD."""
    return _HALF_PAIR.sub("\ufffd", text)


def _written_out(spelling: str) -> str:
    """3.5e-4 is 0.00035. What has no power of ten, or one that is too large to be written out, stays as it is."""
    _, mark, power = spelling.lower().partition("e")
    if not mark or len(power) > 5 or abs(int(power)) + len(spelling) > WRITTEN_OUT:
        return spelling
    return format(Decimal(spelling), "f")


def _seen(value: Any) -> str:
    """What a value is, in JSON's words."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case float() if not isinstance(value, Numeral) and not math.isfinite(value):
            return "NaN" if math.isnan(value) else "Infinity"
        case str():
            return "a string"
        case int() | float():
            return "a number"
        case list():
            return f"a list of {len(value)}"
        case dict():
            return "an object"
    return f"a value of the type {type(value).__name__}"
