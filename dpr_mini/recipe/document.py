"""YAML text to plain values and the line of each: how a recipe's file and an override's value are read.

A document has what JSON has: mappings with text keys, lists, text, finite numbers, true, false, null; aliases (&, *)
and merge keys (<<) besides. What YAML 1.1 takes for something else than its reader meant (010 is 8, 1:30 is 90, yes is
true, 2024-05-01 a date) is refused with what to write instead; so are tags (!!int) and keys that are there twice.
Bytes, values and nesting are bounded (ours), whatever aliases stand for included.
"""

from __future__ import annotations

import math
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import yaml

from dpr_mini.recipe.base import RecipeError

BYTES = 1 << 20  # of a file
VALUES = 20_000  # of a document, what aliases stand for included
DEPTH = 50  # levels of it
DIGITS = 40  # of a number
LONG = 100  # characters; what is longer is not looked at as a number, which takes time

Where = Callable[[int], str]  # line, from 1 -> how a message begins
Lines = dict[tuple[Any, ...], int]  # key path -> line, from 1

NULL, TRUE, FALSE = ("", "~", "null", "Null", "NULL"), ("true", "True", "TRUE"), ("false", "False", "FALSE")
INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
# Also 1e-5, which is text to YAML 1.1 and a number to everybody else; 12e3 may be a commit, and stays text.
FLOAT = re.compile(r"[-+]?(?:(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+][0-9]+)")
QUOTED = 'for text put it in quotes: "{}"'
# Plain text that YAML 1.1 does not take for what is written there, and what to write.
SURPRISES = [
    (re.compile(form), words)
    for form, words in (
        ("(?i:yes|on)", "is a truth value to YAML: write true, or " + QUOTED),
        ("(?i:no|off)", "is a truth value to YAML: write false, or " + QUOTED),
        (r"[-+]?0[0-9_]+", "has a leading 0, octal to YAML: write it without, or " + QUOTED),
        (
            r"[-+]?0[xX][0-9a-fA-F_]+|[-+]?0[bB][01_]+|[-+]?0[oO][0-7_]+",
            "is not decimal: write the digits, or " + QUOTED,
        ),
        (r"[-+]?[0-9][0-9_]*_[0-9_]*(?:\.[0-9_]*)?", "is a number to YAML: write it without _, or " + QUOTED),
        (r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?", "is base 60 to YAML: write the number, or " + QUOTED),
        (r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt \t].*)?", "is a date to YAML: " + QUOTED),
        (r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "is not a finite number: write one, or null where none is meant"),
    )
]
# What the terminal obeys and no tokeniser is to see; line ends and tabs are text.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def text_of(path: Path) -> str:
    """The text of a recipe's file. Raises RecipeError for what is no regular file, is too large or is no UTF-8."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise RecipeError(f"{path}: not a regular file; a recipe is a YAML file")
        with path.open("rb") as file:
            data = file.read(BYTES + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, RecipeError | FileNotFoundError):
            raise
        raise RecipeError(f"{path}: cannot be read as text: {error}") from None
    if len(data) > BYTES:
        raise RecipeError(f"{path}: more than {BYTES >> 20} MiB; a recipe is a few pages of YAML")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise RecipeError(f"{path}:{line}: cannot be read as text: save the file as UTF-8 ({error.reason})") from None


def read(text: str, where: Where, at: tuple[Any, ...] = ()) -> tuple[Any, Lines]:
    """The text's value, and the line of every key path in it; `at` is its own place in the recipe.

    The one border to YAML's reader: whatever it raises, an exception of Python's own included, becomes one RecipeError.
    """
    if len(text) > BYTES:
        raise RecipeError(f"{where(1)}: more than {BYTES >> 20} MiB")
    try:
        top = _Composer(text, where).get_single_node()
        reader = _Reader(where)
        return (None if top is None else reader.value(top, at)), reader.lines
    except RecipeError:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise RecipeError(f"{where(mark.line + 1 if mark else 1)}: not valid YAML: {error.problem}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise RecipeError(
            f"{where(line)}: not valid YAML: the character {error.character:#x} cannot be there"
        ) from None
    except (
        yaml.YAMLError,
        ValueError,
        TypeError,
        AttributeError,
        LookupError,
        ArithmeticError,
        RecursionError,
    ) as error:
        raise RecipeError(f"{where(1)}: not valid YAML: {error}") from None


class _Composer(yaml.SafeLoader):
    """YAML's nodes, no more of them and no deeper than may be; it reads only as far as that."""

    yaml_implicit_resolvers: ClassVar = {}  # what plain text means is for `_Reader` to say

    def __init__(self, text: str, where: Where) -> None:
        super().__init__(text)
        self.where, self.number, self.depth = where, 0, 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        line = event.start_mark.line + 1
        self.number, self.depth = self.number + 1, self.depth + 1
        if self.number > 2 * VALUES:  # keys are nodes, too
            raise RecipeError(f"{self.where(line)}: more than {VALUES:,} values; a recipe is a few pages of YAML")
        if self.depth > DEPTH:
            raise RecipeError(f"{self.where(line)}: nested too deep, more than {DEPTH} levels")
        if tag := getattr(event, "tag", None):
            fix = "write the value itself, text in quotes"
            raise RecipeError(f"{self.where(line)}: tags are not read (got {tag!r:.60}): {fix}")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Reader:
    """Nodes to values. A merge key gives what its mapping does not say itself; of several the first wins."""

    def __init__(self, where: Where) -> None:
        self.where, self.lines = where, Lines()
        self.number = self.depth = self.characters = 0

    def refuse(self, node: yaml.Node, at: tuple[Any, ...], why: str) -> RecipeError:
        name = f"{'.'.join(map(str, at))}: " if at else ""
        return RecipeError(f"{self.where(node.start_mark.line + 1)}: {name:.200}{why}")

    def value(self, node: yaml.Node, at: tuple[Any, ...]) -> Any:
        self.number, self.depth = self.number + 1, self.depth + 1
        if self.number > VALUES or self.depth > DEPTH:
            grown = f"aliases (*name) grow beyond {VALUES:,} values or {DEPTH} levels; write them out"
            raise self.refuse(node, at[:2], grown)
        self.lines[at] = node.start_mark.line + 1
        if isinstance(node, yaml.ScalarNode):
            value = self.scalar(node, at)
        elif isinstance(node, yaml.SequenceNode):
            value = [self.value(each, (*at, number)) for number, each in enumerate(node.value)]
        else:
            value = self.mapping(node, at)
        self.depth -= 1
        return value

    def mapping(self, node: yaml.MappingNode, at: tuple[Any, ...]) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        merges = [value for key, value in node.value if _is_merge(key)]
        if len(merges) > 1:
            raise self.refuse(merges[1], at, "'<<' is there twice; make a list of them")
        for source in (s for value in merges for s in reversed(_sources(value))):
            if not isinstance(source, yaml.MappingNode):
                raise self.refuse(source, at, "<<: takes a mapping, or a list of mappings")
            merged |= self.value(source, at)
        for key_node, value in node.value:
            if _is_merge(key_node):
                continue
            key = self.key(key_node, at)
            if key in own:
                raise self.refuse(key_node, at, f"{key!r:.60} is there twice; make one of them")
            own[key] = self.value(value, (*at, key))
            self.lines[(*at, key)] = key_node.start_mark.line + 1
        self.lines[at] = node.start_mark.line + 1
        return merged | own

    def key(self, node: yaml.Node, at: tuple[Any, ...]) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise self.refuse(node, at, "a key must be text, not a list or a mapping")
        if (node.style is None and _surprise(node.value)) or not isinstance(key := self.scalar(node, at), str):
            why = "YAML reads on, off, yes, no, numbers, dates and null as something else"
            raise self.refuse(node, at, f"a key must be text; {why}: put it in quotes (got {node.value:.40})")
        return key

    def scalar(self, node: yaml.ScalarNode, at: tuple[Any, ...]) -> Any:
        text = node.value
        self.characters += len(text)
        if self.characters > BYTES:  # without aliases there are no more than the document has
            raise self.refuse(node, at[:2], f"aliases (*name) grow beyond {BYTES >> 20} MiB of text; write it out")
        if odd := CONTROL.search(text):
            raise self.refuse(node, at, f"text must not hold the control character {odd[0]!r}")
        if node.style is not None:  # in quotes, or a block
            return text
        if text in NULL:
            return None
        if text in TRUE or text in FALSE:
            return text in TRUE
        if INTEGER.fullmatch(text):
            if len(text) > DIGITS:
                raise self.refuse(node, at, f"a number of {len(text)} digits; at most {DIGITS} are read")
            return int(text)
        if FLOAT.fullmatch(text):
            if not math.isfinite(number := float(text)):
                raise self.refuse(node, at, f"{text:.40} is not a finite number")
            return number
        if words := _surprise(text):
            raise self.refuse(node, at, f"{text:.40} {words.replace('{}', text[:40])}")
        return text


def _surprise(text: str) -> str | None:
    """What YAML 1.1 takes the plain text for; None for what is text to it, too. Long ones are nobody's numbers."""
    return next((words for form, words in SURPRISES if form.fullmatch(text)), None) if len(text) <= LONG else None


def _is_merge(key: yaml.Node) -> bool:
    return isinstance(key, yaml.ScalarNode) and key.style is None and key.value == "<<"


def _sources(node: yaml.Node) -> list[yaml.Node]:
    return node.value if isinstance(node, yaml.SequenceNode) else [node]
