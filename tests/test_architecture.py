"""The shape of the project: imports point one way, the data half needs no torch, the command line is frozen."""

import ast
import resource
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from places import ROOT
from typer.main import get_command

from dpr_mini.cli import app

FILES = sorted((ROOT / "dpr_mini").rglob("*.py"))
MODULES = {".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for p in FILES}
NO_TORCH = ("torch", "transformers", "openvino", "matplotlib")
# A unit is a module on top or a package. It imports from the rows after its own, and from itself.
LAYERS = [
    ["__main__"],
    ["cli"],
    ["commands"],
    ["pipeline"],
    ["stages"],
    ["reporting"],
    ["scoring"],
    ["selection"],
    ["chat"],
    ["planning"],
    ["training", "engines"],
    ["runs", "sampling", "grading", "models"],
    ["machine"],
    ["store", "recipe"],
    ["files", "tasks"],
    ["types"],
    ["messages"],
]
# Packages whose own modules know nothing of each other.
APART = ("commands", "stages")
# All but training, the engines' own modules and the figures: described without loading torch.
DATA_HALF = sorted(
    m
    for m in MODULES
    if not m.startswith(
        ("dpr_mini.training.", "dpr_mini.engines.", "dpr_mini.reporting.figures", "dpr_mini.machine.mkl")
    )
    and not m.endswith("__main__")
)


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


def imported_modules(path: Path) -> set[str]:
    """Modules of dpr_mini that a file imports; `from dpr_mini.x import y` is module x.y where there is one, else x."""
    modules = set()
    for name in imports(path):
        while name not in MODULES and "." in name:
            name = name.rpartition(".")[0]
        modules |= {name} & MODULES
    return modules - {"dpr_mini"}


def unit(module: str) -> str:
    """dpr_mini.stages.pack -> stages"""
    return module.split(".")[1]


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def layer(name: str) -> int:
    return next((i for i, names in enumerate(LAYERS) if name in names), -1)


def test_every_unit_stands_in_one_row():
    units = [unit(m) for m in MODULES if m != "dpr_mini"]
    assert sorted(set(units)) == sorted(name for names in LAYERS for name in names)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_imports_point_one_way(path):
    if name_of(path) == "dpr_mini":
        return
    own = unit(name_of(path))
    for other in map(unit, imported_modules(path)):
        assert other == own or layer(other) > layer(own), f"{path.name} imports {other}, which is not below it"


def test_no_module_imports_itself_in_a_circle():
    """Within a package, too; a package's menu may name its modules, which do not name it."""
    below = {name_of(p): imported_modules(p) for p in FILES}
    for menu in [m for m in below if any(other.startswith(f"{m}.") for other in MODULES)]:
        below[menu] = set()
    done: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, " -> ".join((*above, module))
        if module not in done:
            for other in below[module]:
                visit(other, (*above, module))
            done.add(module)

    for module in below:
        visit(module, ())


@pytest.mark.parametrize("package", APART)
def test_a_stage_imports_no_stage_and_a_command_no_command(package):
    for path in (ROOT / "dpr_mini" / package).glob("*.py"):
        assert not [m for m in imported_modules(path) if m.startswith(f"dpr_mini.{package}.")], path


def test_no_module_has_the_name_of_a_package_beside_it():
    """`plan` beside `planning`, or a module that is called as another package, is looked for in the wrong place."""
    packages = {unit(m) for m in MODULES if m.count(".") > 1}
    assert not packages & {unit(m) for m in MODULES if m.count(".") == 1 and not (ROOT / m.replace(".", "/")).is_dir()}


def test_the_command_line_does_not_load_the_recipe():
    assert "dpr_mini.recipe" not in imported_at_start("dpr_mini.cli", ("dpr_mini.recipe", "pydantic"))


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


def imported_at_start(module: str, names: tuple[str, ...]) -> str:
    """Which of `names` importing some modules (comma-separated) loads, in a fresh process."""
    code = f"import sys\nimport {module}\nprint([m for m in {names!r} if m in sys.modules])"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


RUNS_CODE = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_nothing_that_is_read_can_run(path):
    """No reader that runs code, not even of files of our own; no evaluation of text; no shell."""
    tree = ast.parse(path.read_text())
    names = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    names |= {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module}
    assert not {name.partition(".")[0] for name in names} & RUNS_CODE
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call)]
    assert not {n.func.id for n in calls if isinstance(n.func, ast.Name)} & {"eval", "exec"}
    assert not [k for n in calls for k in n.keywords if k.arg == "shell"]


def test_data_half_does_not_load_torch():
    assert len(DATA_HALF) > 60
    assert imported_at_start(", ".join(DATA_HALF), NO_TORCH) == "[]"


def test_command_line_is_frozen():
    """New settings go into the recipe, not into options."""
    commands = get_command(app).commands
    options = {
        name: sorted(o for p in command.params for o in p.opts if o.startswith("--"))
        for name, command in commands.items()
    }
    assert options == {
        "run": ["--dry-run", "--runs", "--seeds", "--test", "--until"],
        "plan": ["--gpu", "--runs"],
        "show": ["--rows", "--seed"],
        "grade": ["--closed-forms", "--out"],
        "filter": ["--out", "--recipe", "--rules"],
        "eval": [
            "--closed-forms",
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
        "compare": ["--baseline", "--hypotheses", "--out"],
        "report": [],
        "verify": [],
        "export": ["--format", "--out", "--push", "--stage"],
        "doctor": [],
    }


def test_help_is_quick():
    seconds = []
    for _ in range(3):
        begun = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "dpr_mini", "--help"], capture_output=True, check=True)
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append((ended.ru_utime + ended.ru_stime) - (begun.ru_utime + begun.ru_stime))
    # of the processor, not of the clock: other work on the machine makes the clock say anything
    assert min(seconds) < 0.3, seconds
