"""Types are strict and every number has bounds: what a section takes is what was written, and no nonsense."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
from places import RECIPES
from pydantic import BaseModel

from dpr_mini.recipe import Recipe, RecipeError, load, messages, parse, reading

SCHEMA = Recipe.__pydantic_core_schema__
ELSEWHERE = {"urls", "arguments"}  # of a server: validated by rules of their own
NUMBERS = ("int", "float")


def nodes(schema: Any, at: tuple[str, ...] = ()):
    """Every node of a core schema with the names of the fields that lead to it."""
    if isinstance(schema, dict):
        if isinstance(schema.get("type"), str):
            yield at, schema
        for key, inner in schema.items():
            if key == "fields":
                for name, field in inner.items():
                    yield from nodes(field, (*at, name))
            elif key not in ("metadata", "serialization", "function"):
                yield from nodes(inner, at)
    elif isinstance(schema, list | tuple):
        for inner in schema:
            yield from nodes(inner, at)


ALL = [(at, node) for at, node in nodes(SCHEMA) if not ELSEWHERE & set(at)]


def test_every_number_text_and_switch_is_strict_and_bounded():
    assert {node["type"] for _, node in ALL} >= {"int", "float", "bool", "str", "literal"}
    for at, node in ALL:
        if node["type"] in (*NUMBERS, "bool", "str"):
            assert node.get("strict"), f"{at}: {node}"
        if node["type"] in NUMBERS:
            low, high = node.get("ge", node.get("gt")), node.get("le", node.get("lt"))
            assert None not in (low, high) and math.isfinite(low) and math.isfinite(high), f"{at}: {node}"


# What pydantic raises of each type of a schema, as its documentation lists them.
KINDS = {
    "int": {"int_type", "greater_than", "greater_than_equal", "less_than", "less_than_equal"},
    "float": {"float_type", "finite_number", "greater_than", "greater_than_equal", "less_than", "less_than_equal"},
    "bool": {"bool_type"},
    "str": {"string_type", "string_unicode", "string_too_short", "string_too_long"},
    "literal": {"literal_error"},
    "tuple": {"tuple_type", "too_short", "too_long", "missing"},
    "list": {"list_type"},
    "dict": {"dict_type", "too_short", "invalid_key"},
    "model": {"model_type"},
    "model-fields": {"model_attributes_type", "missing", "extra_forbidden"},
    "model-field": set(),
    "function-before": {"value_error", "assertion_error"},
    "function-after": {"value_error", "assertion_error"},
    "nullable": {"none_required"},
    "default": set(), "union": set(), "tagged-union": set(), "any": set(),
    "definitions": {"recursion_loop"}, "definition-ref": {"recursion_loop"},
}  # fmt: skip


def test_every_kind_of_error_has_our_words():
    types = {node["type"] for _, node in ALL}
    assert types <= KINDS.keys(), f"say which errors these raise: {types - KINDS.keys()}"
    assert set().union(*(KINDS[t] for t in types)) <= messages.WORDS.keys()


RAW = reading.read(RECIPES / "smoke.yaml")[0]
NASTY = [
    True,
    "4",
    "0.5",
    "yes",
    "1e5",
    -1,
    -0.5,
    1.5,
    2.0,
    10**12,
    10**400,
    1e308,
    math.nan,
    math.inf,
    -math.inf,
    b"b",
]
NASTY += [None, "", "x" * 10**6, "\x00", "a\nb", "../..", "-x", [], [1], [[]], {}, {"a": 1}, {1: 2}, "solve", 0, 7]


def fields(model: type[BaseModel], at: tuple[str, ...] = ()):
    for name, field in model.model_fields.items():
        if name not in (*ELSEWHERE, "like"):
            yield (*at, name)
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel) and inner is not Recipe:
            yield from fields(inner, (*at, name))


@pytest.mark.parametrize("path", list(fields(Recipe)), ids=".".join)
def test_what_a_field_takes_is_what_was_written(path):
    for value in NASTY:
        raw = copy.deepcopy(RAW)
        at = raw
        for part in path[:-1]:
            at[part] = at[part] if isinstance(at.get(part), dict) else {}
            at = at[part]
        at[path[-1]] = value
        try:
            took: Any = parse(raw, "r.yaml")
        except RecipeError as error:
            message = str(error)
            assert message.startswith("r.yaml: ") and message.isprintable() and len(message) <= 2000
            raw_words = ("Input should", "Value error", "[type=", "valid integer", "unable to parse")
            assert not any(words in message for words in raw_words), message
            continue
        for part in path:
            took = getattr(took, part)
        if isinstance(value, bool | str | bytes) or (isinstance(value, int | float) and isinstance(took, int | float)):
            assert took == value and isinstance(took, type(value) if type(value) is not int else int | float)
        if isinstance(value, int | float) and not isinstance(value, bool):
            assert math.isfinite(value) and (path == ("seed",) or 0 <= value < 10**12)
        assert not isinstance(value, bytes) and took != "x" * 10**6


def refused(*overrides: str) -> str:
    with pytest.raises(RecipeError) as error:
        load(RECIPES / "smoke.yaml", overrides)
    return str(error.value)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("train.epochs=4.0", "must be a whole number: write 4 (got 4.0)"),
        ('train.epochs="4"', "take it out of the quotes (got '4')"),
        ("train.learning_rate=1e5", "YAML reads 1e5 as text: write 1.0e+5"),
        ("train.epochs=1e3", "YAML reads 1e3 as text: write 1000 (got"),
        (r'dialogue.templates={"a\u202eb": x}', "must be printable text of 1 to"),
        ('dialogue.templates={" a": x}', "of 1 to 64 characters, without blanks at its ends (got ' a')"),
        ("evaluate.template=''", "must be printable text of 1 to"),
        ("dialogue.templates.solve={problem}", "must be text; to YAML { begins a mapping: put it in quotes"),
        ("evaluate.preset=x", "override 'evaluate.preset=x': evaluate.preset: no preset 'x'"),
        ("evaluate.greedy=1", "must be true or false (got 1)"),
        ('evaluate.greedy="yes"', "must be true or false, without quotes"),
        ("evaluate.system=5", 'must be text; put it in quotes: "5" (got 5)'),
        ("train.epochs={a: 1}", "must be a whole number, not a mapping"),
        ("train.betas=[0.9]", "'train.betas.1' is missing"),
        ("train.betas=[0.9, 1]", "train.betas.1: must be below 1 (got 1)"),
        ("filter.limit=some", "filter.limit: must be a whole number, or 'filter-1' or 'filter-2' (got 'some')"),
        ("dialogue.turns.5=[solve]", "has no element '5'"),
        ("problems.train.0.cuont=5", "unknown key 'problems.train.0.cuont'; did you mean 'count'"),
        ("problems.train.01.count=5.5", "problems.train.1.count: must be a whole number"),
        ("problems.train.-1.count=5", "has no element '-1'"),
        ("train.epochs.x=1", "train.epochs"),
        ("train_2.epochs.x=1", "train_2.epochs: must be a whole number, not a mapping"),
        ("sample.give_up.0=1", "sample.give_up: must be a number, not a mapping"),
        ("train..epochs=1", "write it as section.key=value"),
        ("phases=[1, true]", "phases.1: must be 1 or 2 (got true)"),
        ("phases=[1.0]", "phases.0: must be 1 or 2 (got 1.0)"),
        ("dialogue.temperature=0.001", "must be 0, which is greedy, or at least 0.01"),
        ("dialogue.templates.solve=no place", "template 'solve' asks first and must hold the question: {problem}"),
        ("evaluate.template=verify", "template 'verify' asks first"),
        ("name=" + "a" * 300, "name: is the name of a folder: at most 200"),
        ('problems.train=[{hub: "--help"}]', "train.0.hub: must be a name of the hub"),
        ("problems.train=[{hub: ../data}]", "train.0.hub: must be a name of the hub"),
        ("problems.held_out.Train=[{generate: chain_sum, count: 2}]", "cannot be named 'Train', the split"),
        ("problems.held_out.a/b=[{generate: chain_sum, count: 2}]", "cannot be named 'a/b'"),
        ("problems.train.0.options.min_terms=-1", "option min_terms: counts something and cannot be negative"),
        ("problems.train.0.options.seed=10000000000", "option seed: must be a finite number"),
        ("filter.rules=[{length: 5}]", "filter.rules.0.length: must be a mapping"),
        ("filter.rules=[{length: {min_tokens: 20000000000}}]", "option min_tokens: must be a finite number"),
        ("dialogue.branches={right: 9999, wrong: 1}", "dialogues a problem; at most 10000"),
    ],
)
def test_a_mistake_is_told_with_its_fix(override, says):
    assert says in refused(override)


def test_an_element_of_a_list_can_be_set():
    recipe = load(RECIPES / "smoke.yaml", ["problems.train.0.count=5", "problems.train.1.options.min_terms=3"])
    assert recipe.problems.train[0].count == 5 and recipe.problems.train[1].options["min_terms"] == 3
    assert recipe.problems.train[1].count == load(RECIPES / "smoke.yaml").problems.train[1].count


def test_a_whole_number_stands_for_a_float_in_the_same_words():
    """Stage keys hash the JSON: 1 and 1.0 must be one key."""
    one, other = (load(RECIPES / "smoke.yaml", [f"train.max_grad_norm={n}"]) for n in ("1", "1.0"))
    assert one.model_dump_json() == other.model_dump_json()
