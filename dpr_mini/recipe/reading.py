"""YAML files with `extends:` and `key=value` overrides, and where each value came from, for messages.

Every problem is one `RecipeError` line: file, line, what was seen, what to write instead.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from dpr_mini.recipe.base import RecipeError
from dpr_mini.recipe.sections import Recipe
from dpr_mini.types import nearest

SETS = ("held_out", "dev", "test")  # of `problems`: mappings whose names are the user's
LARGEST = 100_000  # values of a file, what aliases stand for included (ours)
Origin = dict[tuple[Any, ...], str]  # key path -> "file:line" or the override that set it


def read(path: Path, children: tuple[Path, ...] = ()) -> tuple[dict[str, Any], Origin]:
    """A recipe's mapping, merged into the one that it extends, and where each key came from."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such recipe{_neighbours(path)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read as text: {error}") from None
    try:
        node = _composed(text, lambda line: f"{path}:{line}")
        raw, lines = yaml.safe_load(text), _lines(node)
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
    return _leave_out(_merge(below, raw), below), theirs | origin


def _leave_out(recipe: dict[str, Any], below: dict[str, Any]) -> dict[str, Any]:
    """The recipe without the held-out sets that it takes from the one below and names null."""
    theirs, mine = below.get("problems"), recipe.get("problems")
    if not isinstance(theirs, dict) or not isinstance(mine, dict):
        return recipe
    gone = {
        group: {name: of for name, of in mine[group].items() if of is not None or name not in theirs[group]}
        for group in SETS
        if isinstance(mine.get(group), dict) and isinstance(theirs.get(group), dict)
    }
    return {**recipe, "problems": {**mine, **gone}}


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    both = {k: _merge(below[k], v) for k, v in above.items() if isinstance(v, dict) and isinstance(below.get(k), dict)}
    return {**below, **above, **both}


def _neighbours(path: Path) -> str:
    paths = sorted(p.as_posix() for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.as_posix(), paths, 1, 0.5)
    return f"; did you mean {near[0]}?" if near else ""


def _lines(node: yaml.Node | None, at: tuple[Any, ...] = ()) -> dict[tuple[Any, ...], int]:
    """Key path -> line number (from 1) of every node in the file."""
    if node is None:
        return {}
    lines = {at: node.start_mark.line + 1}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            lines |= _lines(value, (*at, key.value))
            lines[(*at, key.value)] = key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            lines |= _lines(value, (*at, i))
    return lines


def _composed(text: str, where: Callable[[int], str]) -> yaml.Node | None:
    """The text as YAML's nodes; `where` names a line in an error.

    Raises RecipeError for a key that its mapping has twice (YAML would take the last and say nothing), for aliases that
    hold themselves or grow beyond LARGEST values, and for nesting that YAML's own reader cannot follow; YAMLError.
    """
    try:
        top = yaml.compose(text, Loader=yaml.SafeLoader)
    except RecursionError:
        raise RecipeError(f"{where(1)}: nested too deep to be read") from None
    waiting, number = [top], 0
    while waiting:
        node, number = waiting.pop(), number + 1
        if number > LARGEST:
            line = node.start_mark.line + 1
            raise RecipeError(f"{where(line)}: aliases (*name) grow beyond {LARGEST:,} values; write them out")
        if isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
                if key.value in seen:
                    line = key.start_mark.line + 1
                    raise RecipeError(f"{where(line)}: {key.value!r} is there twice; make one of them")
                seen.add(key.value)
            waiting += [value for _, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value
    return top


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
        _composed(value, lambda line: f"override {key}")
        before, at[last] = at.get(last), yaml.safe_load(value)
    except yaml.YAMLError:
        raise RecipeError(f"override {text!r}: the value is not valid YAML") from None
    for old_path in [k for k in origin if k[: len(path)] == path]:
        del origin[old_path]
    if at[last] is None and before is not None and path[:-1] in [("problems", group) for group in SETS]:
        del at[last]  # a held-out set is left out, as a recipe leaves out one of the recipe below it
    origin[path] = f"override {text!r}"


INHERIT = {"filter_2": "filter", "pack_2": "pack", "train_2": "train"}


def load(path: str | Path, overrides: Iterable[str] = (), _above: tuple[Path, ...] = ()) -> Recipe:
    """Read and validate a recipe. Raises RecipeError, one line, for anything wrong in it.

    `extends: other.yaml` takes that recipe and changes only what this one says (sections are merged key by key,
    lists are replaced). Relative names of files and models start from the folder of the recipe that is run.
    `like: other.yaml` is read the same way, with the same overrides.
    """
    raw, origin = read(Path(path))
    overrides = list(overrides)
    for text in overrides:
        override(raw, text, origin)
    if isinstance(other := raw.get("like"), str):
        if (target := Path(path).parent / other).resolve() in (recipe_chain := (*_above, Path(path).resolve())):
            raise RecipeError(f"{origin[('like',)]}: {target} is measured against itself")
        raw["like"] = load(target, [o for o in overrides if not o.startswith(("like=", "name="))], recipe_chain)
    elif other is not None:
        raise RecipeError(f"{origin.get(('like',), path)}: like: write the name of a recipe's file (got {other!r:.60})")
    return parse(raw, str(path), origin)


def parse(raw: dict[str, Any], name: str, origin: Origin | None = None) -> Recipe:
    """Validate a recipe that is already a mapping. `origin` says where each key path comes from, for messages."""
    for section, parent in INHERIT.items():
        if isinstance(raw.get(parent, {}), dict) and isinstance(raw.get(section, {}), dict):
            raw[section] = {**raw.get(parent, {}), **raw.get(section, {})}
    try:
        return Recipe.model_validate(raw)
    except ValidationError as error:
        raise RecipeError(_explain(error, origin or {}, name)) from None


SAID = {  # what pydantic calls otherwise, by its name for the error
    "tuple_type": "must be a list, e.g. [a, b]",
    "model_type": "must be a mapping, e.g. {key: value}",
    "dict_type": "must be a mapping, e.g. {key: value}",
    "invalid_key": "a key must be text; YAML reads on, off, yes and no as truth values: put it in quotes",
}


def _explain(error: ValidationError, origin: Origin, recipe: str) -> str:
    errors = error.errors()
    strange = (e for e in errors if e["type"] == "extra_forbidden")  # a misspelt key explains the one that is missing
    first = next(strange, errors[0]) if errors[0]["type"] == "missing" else errors[0]
    # A section inherited by phase 2 repeats its parent's mistake: point at the parent's line.
    cause = first.get("ctx", {}).get("error")
    place = getattr(cause, "loc", first["loc"])  # a validator of the whole recipe says where by itself
    loc = tuple(
        p for p in place if not (isinstance(p, str) and p.startswith(("str", "dict[", "constrained-", "tuple[")))
    )
    if loc and loc not in origin and loc[0] in INHERIT:
        loc = (INHERIT[loc[0]], *loc[1:])
    prefix = next((loc[:n] for n in range(len(loc), -1, -1) if loc[:n] in origin), ())
    where, name = origin.get(prefix, recipe), ".".join(map(str, loc))
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        valid = _fields_at(loc[:-1])
        return f"{where}: unknown key {name!r}; {nearest(str(loc[-1]), valid)}{more}"
    if first["type"] == "missing":
        return f"{where}: {name!r} is missing{more}"
    message = SAID.get(first["type"], first["msg"]).removeprefix("Value error, ")
    got = "" if isinstance(first["input"], dict | BaseModel) else f" (got {first['input']!r:.80})"
    return f"{where}: {name or 'recipe'}: {message}{got}{more}"


def _inner(annotation: Any) -> list[Any]:
    """What an annotation is made of: the types among its arguments, without None."""
    return [a for a in get_args(annotation) if a is not type(None) and (isinstance(a, type) or get_args(a))]


def _fields_at(loc: tuple[Any, ...]) -> list[str]:
    """Names of the valid keys at a place in the recipe."""
    here: Any = Recipe
    for part in loc:
        if isinstance(here, type) and issubclass(here, BaseModel):
            here = here.model_fields[part].annotation
        elif args := _inner(here):
            here = args[-1]
    while args := _inner(here):
        here = args[-1]
    return list(here.model_fields) if isinstance(here, type) and issubclass(here, BaseModel) else []
