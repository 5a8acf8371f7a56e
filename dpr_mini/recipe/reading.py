"""Recipes with `extends:`, `like:` and `key=value` overrides, and where each value came from, for messages.

Every problem is one `RecipeError` line: file, line, what was seen, what to write instead.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError

from dpr_mini.messages import HIDDEN, gives_secret
from dpr_mini.recipe import document
from dpr_mini.recipe.base import OVERRIDE, FileName, Places, RecipeError
from dpr_mini.recipe.messages import in_words
from dpr_mini.recipe.sections import Recipe
from dpr_mini.types import nearest

SETS = ("held_out", "dev", "test")  # of `problems`: mappings whose names are the user's
CHAIN = 20  # recipes that extend or are measured by one another (ours)
PARTS = 20  # of an override's key


def read(path: Path, children: tuple[str, ...] = ()) -> tuple[dict[str, Any], Places]:
    """A recipe's mapping, merged into the one that it extends, and where each key came from."""
    try:
        text = document.text_of(path)
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such recipe{_neighbours(path)}") from None
    raw, lines = document.read(text, lambda line: f"{path}:{line}")
    if not isinstance(raw, dict):
        raise RecipeError(f"{path}: a recipe is a mapping with sections such as 'problems:' and 'train:'")
    places = Places({key: f"{path}:{line}" for key, line in lines.items()}, [path])
    if "extends" not in raw:
        return raw, places
    where = places[("extends",)]
    chain = (*children, os.path.realpath(path))
    parent = _target(path, "extends", raw.pop("extends"), where)
    if os.path.realpath(parent) in chain:
        raise RecipeError(f"{where}: {path} extends itself")
    if len(chain) >= CHAIN:
        raise RecipeError(f"{where}: more than {CHAIN} recipes extend one another; make them fewer")
    below, theirs = read(parent, chain)
    gone = set(_replaced(below, raw))
    kept = {key: where for key, where in theirs.items() if not any(key[:n] in gone for n in range(len(key)))}
    return _leave_out(_merge(below, raw), below), Places(kept | places, theirs.files | places.files)


def _target(path: Path, key: str, value: Any, where: str) -> Path:
    """The other recipe that a key of this one names. Raises RecipeError for what is none, or is not there."""
    try:
        target = path.parent / TypeAdapter(FileName).validate_python(value)
    except ValidationError:
        raise RecipeError(f"{where}: {key}: write the name of a recipe's file (got {value!r:.60})") from None
    if not os.path.exists(target):  # False for a name that the system refuses, too
        raise RecipeError(f"{where}: {key}: {target}: no such recipe{_neighbours(target)}")
    return target


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


def _replaced(below: dict[str, Any], above: dict[str, Any], at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Key paths of what the recipe above replaces as a whole."""
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(below.get(key), dict):
            yield from _replaced(below[key], value, (*at, key))
        else:
            yield (*at, key)


def _neighbours(path: Path) -> str:
    paths = sorted(p.as_posix() for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.as_posix(), paths, 1, 0.5)
    return f"; did you mean {near[0]}?" if near else ""


def override(raw: dict[str, Any], text: str, places: Places) -> None:
    """Set one `section.key=value` in `raw`, and note in `places` that it came from there.

    A number is the place in a list that is there, from 0: problems.train.0.count=5.
    """
    where = _named(text)
    key, equals, value = text.partition("=")
    parts = key.split(".")
    if not equals or not all(parts) or len(parts) > PARTS:
        raise RecipeError(f"{where}: write it as section.key=value, e.g. train.epochs=1")
    at: Any = raw
    path: tuple[Any, ...] = ()
    for part in parts:
        if path:
            at = at[path[-1]] if isinstance(at, list) else at.setdefault(path[-1], {})
        above = f"{where}: {'.'.join(map(str, path))}"
        if not isinstance(at, list | dict):
            raise RecipeError(f"{above} is a value, not a section")
        path = (*path, _place(part, at, above) if isinstance(at, list) else part)
    last = path[-1]
    before = at[last] if isinstance(at, list) else at.get(last)
    at[last], lines = document.read(value, lambda line: where, path)
    for old_path in [k for k in places if k[: len(path)] == path]:
        del places[old_path]
    if at[last] is None and before is not None and path[:-1] in [("problems", group) for group in SETS]:
        del at[last]  # a held-out set is left out, as a recipe leaves out one of the recipe below it
    places |= dict.fromkeys((path, *lines), where)


def _named(text: str) -> str:
    """An override as messages name it: without its value where that gives a secret."""
    if gives_secret(text):
        text = re.split(r"[^\w.-]", text, maxsplit=1)[0] + f"={HIDDEN}"
    return f"{OVERRIDE}{text!r:.200}"


def _place(part: str, elements: list[Any], where: str) -> int:
    """The place in a list that a part of an override's key names. Raises RecipeError where there is none."""
    if not (part.isascii() and part.isdigit() and len(part) < 10 and int(part) < len(elements)):
        there = f"0 to {len(elements) - 1}" if elements else "none, it is empty"
        raise RecipeError(f"{where} is a list and has no element {part!r:.60}; there are: {there}")
    return int(part)


INHERIT = {"filter_2": "filter", "pack_2": "pack", "train_2": "train"}


def load(path: str | Path, overrides: Iterable[str] = (), _above: tuple[str, ...] = ()) -> Recipe:
    """Read and validate a recipe. Raises RecipeError, one line, for anything wrong in it.

    `extends: other.yaml` takes that recipe and changes only what this one says (sections are merged key by key,
    lists are replaced). Relative names of files and models start from the folder of the recipe that is run.
    `like: other.yaml` is read the same way, with the same overrides.
    """
    raw, places = read(Path(path))
    overrides = list(overrides)
    for text in overrides:
        override(raw, text, places)
    if (other := raw.get("like")) is not None:
        where = places.get(("like",), str(path))
        target = _target(Path(path), "like", other, where)
        if os.path.realpath(target) in (chain := (*_above, os.path.realpath(path))):
            raise RecipeError(f"{where}: {target} is measured against itself")
        if len(chain) >= CHAIN:
            raise RecipeError(f"{where}: more than {CHAIN} recipes are measured against one another; make them fewer")
        raw["like"] = load(target, [o for o in overrides if not o.startswith(("like=", "name="))], chain)
    return parse(raw, str(path), places)


def parse(raw: dict[str, Any], name: str, places: Places | None = None) -> Recipe:
    """Validate a recipe that is already a mapping. `places` says where each key path comes from, for messages."""
    places = Places() if places is None else places
    for section, parent in INHERIT.items():
        if isinstance(raw.get(parent, {}), dict) and isinstance(raw.get(section, {}), dict):
            raw[section] = {**raw.get(parent, {}), **raw.get(section, {})}
    try:
        recipe = Recipe.model_validate(raw)
        recipe._places = places
        return recipe
    except ValidationError as error:
        raise RecipeError(_explain(error, raw, places, name)) from None


@contextmanager
def placed(recipe: Recipe, *section: str) -> Iterator[None]:
    """A mistake of the recipe that is seen while a section of it is used names file and line too."""
    try:
        yield
    except RecipeError as error:
        loc = (*section, *error.loc) if error.loc else ()
        where = recipe._places.of(_inherited(loc, {key[:2] for key in recipe._places})) if loc else None
        raise RecipeError(f"{where}: {error}") if where else error from None


def _explain(error: ValidationError, raw: Mapping[str, Any], places: Places, recipe: str) -> str:
    known = {key[:n] for key in places for n in range(len(key) + 1)}
    errors = [(_inherited(_path_of(e, raw), known), e) for e in error.errors()]
    strange = (e for e in errors if e[1]["type"] == "extra_forbidden")  # a misspelt key explains one that is missing
    loc, first = next(strange, errors[0]) if errors[0][1]["type"] == "missing" else errors[0]
    more = len({p for p, _ in errors if p[: len(loc)] != loc})
    # A value that may be of several kinds has an error of each: those that read furthest.
    loc = max((p for p, _ in errors if p[: len(loc)] == loc), key=len)
    kinds = [e for p, e in errors if p == loc]
    first = first if first in kinds else kinds[0]
    inside = (where for key, where in places.items() if loc and loc not in places and key[: len(loc)] == loc)
    where, name = next(inside, None) or places.of(loc) or recipe, ".".join(map(str, loc))
    rest = f" (and {more} more)" if more else ""
    if first["type"] == "extra_forbidden":
        return f"{where}: unknown key {name!r}; {nearest(str(loc[-1]), _fields_at(loc[:-1]))}{rest}"
    if first["type"] == "missing":
        return f"{where}: {name!r} is missing{rest}"
    return f"{where}: {name or 'recipe'}: {in_words(kinds)}{rest}"


def _inherited(loc: tuple[Any, ...], known: Set[tuple[Any, ...]]) -> tuple[Any, ...]:
    """A section inherited by phase 2 repeats its parent's mistake: point at the parent's line."""
    return (INHERIT[loc[0]], *loc[1:]) if loc and loc[0] in INHERIT and loc[:2] not in known else loc


def _path_of(error: Mapping[str, Any], raw: Mapping[str, Any]) -> tuple[Any, ...]:
    """Key path of an error: pydantic's, without the names of the kinds that it tried a value as."""
    cause = error.get("ctx", {}).get("error")
    if place := getattr(cause, "loc", ()):  # () of a RecipeError that leaves it to pydantic
        return place  # a validator of the whole recipe says where by itself
    path: list[Any] = []
    at: Any = raw
    for number, part in enumerate(error["loc"], 1):
        named = number == len(error["loc"]) and error["type"] in ("missing", "extra_forbidden")
        if part in at if isinstance(at, dict) else isinstance(at, list | tuple) and part in range(len(at)):
            at = at[part]
        elif isinstance(part, str) and not named:
            continue
        path.append(part)
    return tuple(path)


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
