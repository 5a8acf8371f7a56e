"""The shape of the project: imports point one way, the data half needs no torch, the command line is frozen."""

import ast
import resource
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from typer.main import get_command

from dpr_mini.cli import app

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "dpr_mini").rglob("*.py"))
DATA_HALF = ["types", "recipe", "store", "grade", "behaviours", "chat", "conversation", "pipeline", "runner"]
DATA_HALF += ["outside", "overlap", "evaluation", "release", "cards", "benchmarks", "budgets", "simulate", "compare"]
DATA_HALF += ["plan"]
DATA_HALF += [f"stages.{name}" for name in ("problems", "dialogue", "filters", "difficulty", "pack", "evaluate")]
# a module may import from its own layer and from those after it
LAYERS = [
    ["cli"],
    ["runner", "show", "outside", "evaluation", "release", "compare"],
    ["preflight", "rehearsal", "train_process"],
    ["pipeline"],
    ["stages"],
    ["conversation", "rules", "reporting", "cards", "simulate"],
    ["plan"],
    ["engines", "grade", "behaviours", "chat", "export", "doctor", "stats", "budgets", "planning"],
    ["grading", "training"],
    ["model", "facts", "requirements", "mkl", "prompts", "progress", "overlap"],
    ["recipe", "store", "shapes", "gpus", "guard"],
    ["yamlfile", "benchmarks", "sources"],
    ["types"],
]


def imports(path: Path) -> set[str]:
    """Modules of dpr_mini that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert not node.level, f"{path}: relative import"
            found |= {node.module} | {f"{node.module}.{a.name}" for a in node.names}
    return found


def unit(module: str) -> str:
    """dpr_mini.stages.pack -> stages"""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def layer(name: str) -> int:
    return next((i for i, names in enumerate(LAYERS) if name in names), -1)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_imports_point_one_way(path):
    parts = path.relative_to(ROOT / "dpr_mini").with_suffix("").parts
    if parts == ("__init__",):
        return
    assert layer(parts[0]) >= 0, f"{path.name} is in no layer: add it to LAYERS"
    names = {p.stem for p in FILES} | {p.name for p in (ROOT / "dpr_mini").iterdir() if p.is_dir()}
    for module in imports(path):
        if module.startswith("dpr_mini.") and unit(module) in names:
            assert layer(unit(module)) >= layer(parts[0]), f"{path.name} imports {module}, which is above it"


@pytest.mark.parametrize("path", sorted((ROOT / "dpr_mini/stages").glob("*.py")), ids=lambda p: p.stem)
def test_a_stage_imports_no_other_stage(path):
    assert not [m for m in imports(path) if m.startswith("dpr_mini.stages")]


def test_kernels_import_nothing_of_dpr_mini():
    for path in (ROOT / "kernels").rglob("*.py"):
        assert not [m for m in imports(path) if m.startswith("dpr_mini")], path


def test_kernels_folder_is_no_package():
    # A kernels/__init__.py shadows the Hugging Face package "kernels"; transformers then loses it without a word.
    assert not list((ROOT / "kernels").glob("*.py"))


def test_no_script_has_the_name_of_a_package():
    """A script's own folder comes first on sys.path: beside bench/kernels.py transformers took it for the package."""
    packages = {name.lower() for name in [*packages_distributions(), *sys.stdlib_module_names, "kernels"]}
    scripts = [p for folder in ("bench", "tools") for p in (ROOT / folder).glob("*.py")]
    assert scripts and not [p for p in scripts if p.stem.lower() in packages]


def test_data_half_does_not_load_torch():
    code = "import sys\n" + "".join(f"import dpr_mini.{m}\n" for m in DATA_HALF)
    code += "print([m for m in ('torch', 'transformers', 'openvino', 'matplotlib') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_command_line_is_frozen():
    """New settings go into the recipe, not into options."""
    commands = get_command(app).commands
    options = {
        name: sorted(o for p in command.params for o in p.opts if o.startswith("--"))
        for name, command in commands.items()
    }
    assert options == {
        "run": ["--dry-run", "--runs", "--seeds", "--until"],
        "plan": ["--gpu", "--runs"],
        "show": ["--rows", "--seed"],
        "grade": ["--out"],
        "filter": ["--out", "--recipe", "--rules"],
        "eval": [
            "--data",
            "--engine",
            "--k",
            "--limit",
            "--max-new-tokens",
            "--on",
            "--preset",
            "--runs",
            "--temperature",
        ],
        "compare": ["--baseline", "--out"],
        "report": [],
        "export": ["--format", "--out", "--push", "--stage"],
        "doctor": [],
    }


def test_help_is_quick():
    seconds = []
    for _ in range(3):
        begun = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "dpr_mini.cli", "--help"], capture_output=True, check=True)
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append((ended.ru_utime + ended.ru_stime) - (begun.ru_utime + begun.ru_stime))
    # of the processor, not of the clock: other work on the machine makes the clock say anything
    assert min(seconds) < 0.4, seconds
