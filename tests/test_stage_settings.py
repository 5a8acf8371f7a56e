"""A stage is handed the object that its key hashes: a setting changes the key, or is listed as changing no result."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from places import RECIPES
from pydantic import BaseModel

from dpr_mini import pipeline
from dpr_mini.pipeline import build
from dpr_mini.recipe import load
from dpr_mini.store import Kind, Settings, Stage, Work

# (stage without its number, setting): it changes no result of the stage. Each with its reason.
NO_RESULT = {
    ("problems", "base"): "where files lie; their content is in `files`",
    ("problems", "scale"): "already in the counts; hashed where a source has none",
    ("eval-answers", "config.preset"): "a name for the values that follow",
    ("eval-answers", "config.grader.timeout_s"): "asking does not grade",
    ("eval-answers", "config.grader.memory_mib"): "asking does not grade",
    ("eval-answers", "config.grader.closed_forms"): "asking does not grade",
    ("eval-answers", "config.grader.last_number"): "asking does not grade",
    ("eval-answers", "config.examples"): "what is shown is `examples`",
    ("eval-answers", "config.planted"): "a stage behind the answers reads it",
    ("eval-answers", "config.redraw"): "stages behind the answers read it",
    ("dialogue", "config.templates"): "those that are used are `templates`",
    ("dialogue", "config.bridges"): "join turns later, in pack and eval; those that conditions read are `bridges`",
    ("dialogue", "grader.timeout_s"): "no turn of the demo is asked by what the grader says",
    ("dialogue", "grader.memory_mib"): "no turn of the demo is asked by what the grader says",
    ("dialogue", "grader.closed_forms"): "no turn of the demo is asked by what the grader says",
    ("dialogue", "grader.last_number"): "no turn of the demo is asked by what the grader says",
    ("pack", "epochs"): "hashed where there is a budget of trained tokens",
    ("train", "config.save_steps"): "how often to save",
    ("train", "config.report_to"): "who is shown the metrics",
    ("train", "config.python"): "which interpreter",
    ("train", "gpu"): "refuses to start without one",
    ("train", "tokens_per_row"): "only foresees memory; the rows' key has it",
    ("report", "recipe"): "all stages are its inputs; its name is hashed",
}


def demo() -> dict[str, Stage]:
    path = RECIPES / "smollm2-cpu.yaml"
    return build(load(path), path.parent)


def kind_of(name: str) -> str:
    return "-".join(part for part in name.split("-") if not part.isdigit())


def leaves(value: Any, at: str = "") -> Iterator[str]:
    """Dotted names of all settings below an object; a mapping or a list is one."""
    if isinstance(value, BaseModel):
        names = list(type(value).model_fields)
    elif is_dataclass(value):
        names = [f.name for f in fields(value)]
    else:
        yield at
        return
    for name in names:
        yield from leaves(getattr(value, name), f"{at}.{name}" if at else name)


def another(value: Any) -> Any:
    """A value of the same sort that is another one."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, Path):
        return value / "x"
    if isinstance(value, Mapping):
        return {**value, "x": "x"}
    if isinstance(value, tuple | list):
        return (*value, "x") if not value or isinstance(value[0], str) else tuple(value)[:-1]
    assert value is None, value
    return "x"


def changed(settings: Any, path: str) -> Any:
    """The settings with one leaf changed. Sections are copied without validation: only the key is asked."""
    name, _, rest = path.partition(".")
    if rest:
        value = changed(getattr(settings, name), rest)
    elif name == "examples" and not getattr(settings, name):
        value = EXAMPLES
    else:
        value = another(getattr(settings, name))
    if isinstance(settings, BaseModel):
        return settings.model_copy(update={name: value})
    copy = object.__new__(type(settings))  # FilterSettings refuses rules that do not exist
    copy.__dict__.update({f.name: getattr(settings, f.name) for f in fields(settings)} | {name: value})
    return copy


DEMO = demo()
EXAMPLES = load(RECIPES / "smollm2-cpu.yaml").dialogue.examples[:1]
CASES = [(stage.name, leaf) for stage in DEMO.values() for leaf in leaves(stage.settings)]


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize(("name", "leaf"), CASES)
def test_every_setting_is_in_the_key_or_changes_no_result(name, leaf):
    stage = DEMO[name]
    other = Stage(name, stage.kind, changed(stage.settings, leaf), stage.inputs)
    if (kind_of(name), leaf) in NO_RESULT:
        assert other.key == stage.key, f"{leaf} is in the key: take it off the list"
    else:
        assert other.key != stage.key, f"{leaf} is read by {name} but not in its key"


def test_the_list_of_settings_that_change_no_result_has_no_dead_line():
    assert NO_RESULT.keys() <= {(kind_of(name), leaf) for name, leaf in CASES}


def test_a_raised_version_changes_the_key_of_its_stage_and_of_all_that_follow():
    for stage in DEMO.values():
        raised = Kind(stage.kind.version + 1, stage.kind.run)
        assert Stage(stage.name, raised, stage.settings, stage.inputs).key != stage.key
    first = DEMO["dialogue-1"]
    later = Stage(first.name, Kind(first.kind.version + 1, first.kind.run), first.settings, first.inputs)
    follows = Stage("filter-1", DEMO["filter-1"].kind, DEMO["filter-1"].settings, {"dialogues": later})
    assert follows.key != DEMO["filter-1"].key


def test_a_stage_is_a_function_of_its_work_alone():
    """No stage takes a recipe, an engine or a folder besides: what is not in `Work` cannot be read."""
    kinds = {id(stage.kind): stage.kind for stage in DEMO.values()}.values()
    assert len(kinds) == 10
    for kind in kinds:
        (only,) = inspect.signature(kind.run).parameters.values()
        assert only.annotation in ("Work", Work), kind.run
        assert kind.run.__closure__ is None, "nothing is captured"


def test_a_setting_that_is_not_in_the_settings_is_not_reachable():
    """Neither the settings nor the machine lead to the recipe; the report's recipe is plain data."""
    for stage in DEMO.values():
        assert isinstance(stage.settings, Settings)
        for leaf in leaves(stage.settings):
            value = stage.settings
            for name in leaf.split("."):
                value = getattr(value, name)
            assert type(value).__name__ != "Recipe", (stage.name, leaf)
    machine = pipeline.Machine.of(load(RECIPES / "smoke.yaml"), RECIPES)
    assert {f.name for f in fields(machine)} == {"model", "engine", "base", "logs", "_open"}
    assert {f.name for f in fields(Work)} == {"name", "folder", "settings", "inputs", "machine"}


def test_a_frozen_setting_cannot_be_changed_under_its_key():
    with pytest.raises(AttributeError):
        DEMO["train-1"].settings.seed = 3
    assert replace(DEMO["train-1"].settings, seed=3).key() != DEMO["train-1"].config


def test_build_reads_top_to_bottom():
    """No function is nested in `build`, and it fits on a screen and a half."""
    tree = ast.parse(inspect.getsource(pipeline.build)).body[0]
    assert not [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.Lambda) and n is not tree]
    assert tree.end_lineno <= 70
