"""What the documentation names is there: links, files, commands, recipe keys."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from places import RECIPES, ROOT
from typer.main import get_command

from dpr_mini.cli import app
from dpr_mini.recipe import parse

README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md")), ROOT / "kernels/README.md", RECIPES / "smoke-model/README.md"]
FOLDERS = (ROOT, ROOT / "dpr_mini", ROOT / "kernels/dpr_kernels", ROOT / "bench", ROOT / "tests/kernels")


def names(text: str) -> set[str]:
    """Files in code marks or in code blocks: what has a folder or a known ending, and stands for itself."""
    words = re.findall(r"[\w./*{},-]*\.(?:py|sh|yaml|md|json|jsonl|svg|lock)\b|\b[\w.-]+(?:/[\w.-]+)+/?", text)
    return {w.removeprefix("./") for w in words if not re.search(r"[*{}]|NAME|<", w)}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert links or page.parent.name in ("smoke-model",)
    assert not [link for link in links if "://" not in link and not (page.parent / link).exists()]


def test_files_that_the_readme_names_are_there() -> None:
    text = README.read_text(encoding="utf-8")
    text = text.split("## Your own data")[0] + text.split("## Map")[1]
    made = {"runs", "venv"}  # by a run, by make
    named = [name for name in names(text) if "/" in name and name.split("/")[0] not in made]
    assert len(named) > 15
    assert not [name for name in named if not any((folder / name).exists() for folder in FOLDERS)]


def test_commands_that_the_readme_shows_exist() -> None:
    text = README.read_text(encoding="utf-8")
    shown = set(re.findall(r"^(?:\.venv/bin/)?dpr-mini ([a-z]+)", text, re.MULTILINE))
    assert shown == set(get_command(app).commands)
    targets = set(re.findall(r"`?make ([a-z-]+)`?", text)) - {"it"}
    for target in targets:
        subprocess.run(["make", "-n", target], cwd=ROOT, check=True, capture_output=True)
    assert {"demo", "check", "test"} <= targets


def test_the_readmes_recipe_is_valid() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    recipe = parse(yaml.safe_load(block), "README.md")
    assert recipe.name == "mine" and set(recipe.problems.held_out) == {"mine", "aime24"}


def test_the_readme_is_one_for_people() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 170 and len(text.split()) <= 1200


def test_files_that_code_and_docs_name_are_there() -> None:
    """A path in a comment survives a move without a complaint."""
    pattern = re.compile(r"(?<![\w/.-])(?:tests|dpr_mini|tools|bench|docs)/[\w/.-]+\.(?:py|sh|md|lock)\b")
    folders = ("dpr_mini", "kernels", "bench", "tools", "recipes", "docs")
    files = [p for folder in folders for p in (ROOT / folder).rglob("*")]
    sources = [p for p in files if p.suffix in (".py", ".sh", ".md", ".yaml") and p.name != "LOG.md"]
    sources += [ROOT / name for name in ("README.md", "Makefile", "pyproject.toml", ".ci/run")]
    assert len(sources) > 150
    assert not [
        f"{source.relative_to(ROOT)}: {name}"
        for source in sources
        for name in pattern.findall(source.read_text(encoding="utf-8"))
        if "NAME" not in name and not (ROOT / name).exists()
    ]
