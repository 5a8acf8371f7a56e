"""The tests can fail: a kernel broken in one place, in a copy of the package, fails its tests; whole, it passes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import dpr_kernels
import pytest

pytest.importorskip("triton", reason="triton is not installed")

HERE = Path(__file__).parent
PLUGIN = "def pytest_sessionfinish():\n    import dpr_kernels\n    print('package:', dpr_kernels.__file__)\n"


class Mutant(NamedTuple):
    module: str
    was: str
    becomes: str
    tests: str  # the -k expression of the tests, in the module's own file, that must see it
    file: str = ""  # where the module has no test file of its own: that of the operator

    @property
    def path(self) -> str:
        return str(HERE / f"test_{self.file or self.module}.py")


EXACT = "against_fp64 and triton and not bfloat16 and not float16"
MUTANTS = {
    "padding of the vocabulary counted": Mutant(
        "linear_cross_entropy", "tl.where(cols < vocab, z, float", "tl.where(cols <= vocab, z, float", EXACT
    ),
    "gradient without the normaliser": Mutant(
        "linear_cross_entropy", "share = factor\n", "share = tl.full((), 1.0, tl.float32)\n", EXACT
    ),
    "dW of the last chunk only": Mutant(
        "linear_cross_entropy", "dw, add=start > 0)", "dw, add=False)", "neither_chunk and triton and 3"
    ),
    "chunks: gradient without the smoothing": Mutant(
        "head_chunked", "grad.sub_(loss.label_smoothing / z.shape[1])", "grad",
        "neither_chunk and reference and 3", "linear_cross_entropy",
    ),
    "definition: rows of weight 0 not masked": Mutant(
        "reference", "hidden.where(counts[:, None], 0) @", "hidden @", "definition_leaves_out", "linear_cross_entropy"
    ),
    "rms_norm's gradient without the mean": Mutant(
        "rms_norm", "dx = (g - normed * mean[:, None]) * rstd", "dx = g * rstd", "test_rms_norm_against_fp64 and triton"
    ),
    "rms_norm without eps": Mutant("rms_norm", "/ H + EPS)", "/ H)", "test_eps_and_offset_matter and triton"),
    "rope turned the wrong way back": Mutant(
        "rope", "second = b * cos2 - a * sin1", "second = b * cos2 + a * sin1", "against_fp64 and triton and False"
    ),
    "swiglu without up": Mutant(
        "swiglu", "out = gate * tl.sigmoid(gate) * up", "out = gate * tl.sigmoid(gate)", "against_fp64 and triton"
    ),
    "attention sees ahead": Mutant(
        "attention", "is_causal=band is None", "is_causal=False", "test_reference_in_fp64"
    ),
}  # fmt: skip
WHOLE = "nothing broken"


def outcome(folder: Path, name: str) -> tuple[int, str]:
    """pytest's exit status and output, over a copy of the package in `folder` broken as `name` says."""
    copy = folder / "dpr_kernels"
    shutil.copytree(Path(dpr_kernels.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "which_package.py").write_text(PLUGIN)
    chosen = [MUTANTS[name]] if name != WHOLE else list(MUTANTS.values())
    if name != WHOLE:
        path = copy / f"{chosen[0].module}.py"
        source = path.read_text()
        assert source.count(chosen[0].was) == 1, f"{name}: {chosen[0].was!r} is not there exactly once"
        path.write_text(source.replace(chosen[0].was, chosen[0].becomes))
    files = sorted({m.path for m in chosen})
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "which_package"]
    command += ["-k", " or ".join(f"({m.tests})" for m in chosen), *files] + (["-x"] if name != WHOLE else [])
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command, cwd=HERE.parents[1], env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert f"package: {copy}" in done.stdout, f"not the copy was tested:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.returncode, done.stdout


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[tuple[int, str]]]]:
    """All of them, a few at a time: most of each is the import of torch."""
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        names = [WHOLE, *MUTANTS]
        yield {n: pool.submit(outcome, tmp_path_factory.mktemp("copy"), n) for n in names}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_kernel_fails_its_tests(name: str, outcomes: dict[str, Future[tuple[int, str]]]) -> None:
    status, said = outcomes[name].result()
    assert status == 1, f"{name} went unnoticed:\n{said[-2000:]}"
    assert re.search(r"^E +(AssertionError|assert )", said, re.M), f"{name} failed for another reason:\n{said[-3000:]}"


def test_the_whole_copy_passes(outcomes: dict[str, Future[tuple[int, str]]]) -> None:
    status, said = outcomes[WHOLE].result()
    assert status == 0, said[-3000:]
    ran = int(re.search(r"(\d+) passed", said)[1])
    assert ran >= len(MUTANTS), said[-500:]
