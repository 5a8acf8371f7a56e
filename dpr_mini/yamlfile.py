"""YAML files with `extends:` and `key=value` overrides, and where each value came from, for messages.

Every problem is one `RecipeError` line: file, line, what was seen, what to write instead.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import yaml

from dpr_mini.types import UserError

Origin = dict[tuple[Any, ...], str]  # key path -> "file:line" or the override that set it


class RecipeError(UserError, ValueError):
    """A mistake in a recipe or an override: one line that names file, line and mend."""


def read(path: Path, children: tuple[Path, ...] = ()) -> tuple[dict[str, Any], Origin]:
    """A recipe's mapping, merged into the one that it extends, and where each key came from."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such recipe{_neighbours(path)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read as text: {error}") from None
    try:
        raw, lines = yaml.safe_load(text), _lines(yaml.compose(text, Loader=yaml.SafeLoader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise RecipeError(f"{where}: not valid YAML: {getattr(error, 'problem', error)}") from None
    if not isinstance(raw, dict):
        raise RecipeError(f"{path}: a recipe is a mapping with sections such as 'problems:' and 'train:'")
    origin = {key: f"{path}:{line}" for key, line in lines.items()}
    if "extends" not in raw:
        return raw, origin
    parent = path.parent / str(raw.pop("extends"))
    if parent.resolve() in {p.resolve() for p in (*children, path)}:
        raise RecipeError(f"{origin[('extends',)]}: {path} extends itself")
    below, theirs = read(parent, (*children, path))
    return _merge(below, raw), theirs | origin


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    both = {k: _merge(below[k], v) for k, v in above.items() if isinstance(v, dict) and isinstance(below.get(k), dict)}
    return {**below, **above, **both}


def _neighbours(path: Path) -> str:
    found = sorted(p.as_posix() for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.as_posix(), found, 1, 0.5)
    return f"; did you mean {near[0]}?" if near else ""


def _lines(node: yaml.Node | None, at: tuple[Any, ...] = ()) -> dict[tuple[Any, ...], int]:
    """Key path -> line number (from 1) of every node in the file."""
    if node is None:
        return {}
    found = {at: node.start_mark.line + 1}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            found |= _lines(value, (*at, key.value))
            found[(*at, key.value)] = key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            found |= _lines(value, (*at, i))
    return found


def override(raw: dict[str, Any], text: str, origin: Origin) -> None:
    """Set one `section.key=value` in `raw`, and note in `origin` that it came from there."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise RecipeError(f"override {text!r}: write it as section.key=value, e.g. train.epochs=1")
    *parents, last = path = tuple(key.split("."))
    at = raw
    for part in parents:
        at = at.setdefault(part, {})
        if not isinstance(at, dict):
            raise RecipeError(f"override {text!r}: {part!r} is a value, not a section")
    try:
        at[last] = yaml.safe_load(value)
    except yaml.YAMLError:
        raise RecipeError(f"override {text!r}: the value is not valid YAML") from None
    for known in [k for k in origin if k[: len(path)] == path]:
        del origin[known]
    origin[path] = f"override {text!r}"
