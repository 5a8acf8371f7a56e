"""What is wrong with values, in our words for every kind of error that pydantic knows of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from dpr_mini.messages import HIDDEN, gives_secret

ErrorDetails = Mapping[str, Any]  # of pydantic: type, loc, input, ctx

MAPPING, LIST = "must be a mapping, e.g. {key: value}", "must be a list, e.g. [a, b]"
# Kind of error -> what is said, from the error's own figures. A test walks the recipe's schema for kinds that lack.
WORDS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "int_type": lambda c: "must be a whole number",
    "float_type": lambda c: "must be a number",
    "finite_number": lambda c: "must be a finite number",
    "bool_type": lambda c: "must be true or false",
    "string_type": lambda c: "must be text",
    "string_too_short": lambda c: "must not be empty",
    "string_too_long": lambda c: f"must have at most {c['max_length']} characters",
    "string_unicode": lambda c: "must be text without halves of surrogate pairs",
    "greater_than": lambda c: f"must be above {_number(c['gt'])}",
    "greater_than_equal": lambda c: f"must be at least {_number(c['ge'])}",
    "less_than": lambda c: f"must be below {_number(c['lt'])}",
    "less_than_equal": lambda c: f"must be at most {_number(c['le'])}",
    "literal_error": lambda c: f"must be {c['expected']}",
    "none_required": lambda c: "must be null",
    "tuple_type": lambda c: LIST,
    "list_type": lambda c: LIST,
    "dict_type": lambda c: MAPPING,
    "model_type": lambda c: MAPPING,
    "model_attributes_type": lambda c: MAPPING,
    "too_short": lambda c: f"must have at least {c['min_length']} of them, it has {c['actual_length']}",
    "too_long": lambda c: f"must have at most {c['max_length']} of them",
    "missing": lambda c: "is missing",
    "extra_forbidden": lambda c: "is unknown",
    "invalid_key": lambda c: "a key must be text: put it in quotes",
    "recursion_loop": lambda c: "must not hold itself",
    "value_error": lambda c: str(c["error"]),
    "assertion_error": lambda c: str(c["error"]),
}
NUMBER = re.compile(r"[-+]?[0-9]+(?:\.[0-9]*)?")
EXPONENT = re.compile(r"([-+]?[0-9]+)[eE]([0-9]+)")


def in_words(errors: Sequence[ErrorDetails]) -> str:
    """What the errors of one value say, one for each kind that it may be; what to write, and what was seen."""
    said = list(dict.fromkeys(_said(error) for error in errors))
    if all(words.startswith("must be ") for words in said):
        said[1:] = [words.removeprefix("must be ") for words in said[1:]]
    return ", or ".join(said) + _got(errors[0])


def _said(error: ErrorDetails) -> str:
    said = WORDS.get(error["type"], lambda c: f"is not what can stand here ({error['type']})")(error.get("ctx", {}))
    return said + _fix(error["type"], error.get("input"))


def _got(error: ErrorDetails) -> str:
    """What was seen, where it helps: a mapping has its place in the file."""
    value = error.get("input")
    if isinstance(value, dict | BaseModel):
        return ", not a mapping" if error["type"] in ("int_type", "float_type", "bool_type") else ""
    return f" (got {_shown(value)})"


def _shown(value: Any) -> str:
    """The value in YAML's words, cut: true for True, null for None."""
    words = {None: "null", True: "true", False: "false"}
    if value is None or isinstance(value, bool):
        return words[value]
    if isinstance(value, int) and abs(value) >= 10**80:
        return "a number of more than 80 digits"
    shown = f"{value!r:.80}"
    return HIDDEN if gives_secret(shown) else shown


def _fix(kind: str, value: Any) -> str:
    if kind == "int_type" and isinstance(value, float) and value.is_integer():
        return f": write {value:.0f}"
    if kind in ("int_type", "float_type") and isinstance(value, str):
        if match := EXPONENT.fullmatch(value):
            short = kind == "int_type" and len(match[2]) == 1
            digits = match[1] + "0" * int(match[2]) if short else f"{match[1]:.20}.0e+{match[2]:.20}"
            return f"; YAML reads {value:.40} as text: write {digits}"
        return "; take it out of the quotes" if NUMBER.fullmatch(value) else ""
    if kind == "bool_type" and str(value).lower() in ("true", "false", "yes", "no", "on", "off", "0", "1"):
        return ", without quotes" if isinstance(value, str) else ""
    if kind == "string_type" and isinstance(value, bool | int | float):
        return f'; put it in quotes: "{_shown(value)}"'
    if kind == "string_type" and isinstance(value, dict):
        return "; to YAML { begins a mapping: put it in quotes"
    if kind == "tuple_type" and isinstance(value, dict) and value and all(str(key).isdigit() for key in value):
        return "; there is none yet whose elements could be changed: give the whole list"
    return ""


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.15g}"
