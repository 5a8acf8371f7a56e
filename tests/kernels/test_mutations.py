"""The tests can fail: a kernel broken in one place, in a copy of the package, fails its tests; whole, it passes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import dpr_kernels
import pytest

pytest.importorskip("triton", reason="triton is not installed")
pytestmark = pytest.mark.timeout(600)

HERE = Path(__file__).parent
# One process loads what takes seconds, and is forked for each copy: the package is imported after that, from the
# copy's folder.
FORKS = """\
import gc, json, os, sys
import hypothesis, pytest, torch, torch._dynamo.testing, triton, triton.language
for family in ("llama", "qwen2", "qwen3"):
    __import__(f"transformers.models.{family}.modeling_{family}")
assert "dpr_kernels" not in sys.modules
gc.freeze()  # a child's collector would touch, and so copy, all that is loaded
for folder, arguments in json.loads(sys.argv[1]):
    if not (child := os.fork()):
        sys.path.insert(0, folder)
        with open(f"{folder}/said", "wb") as file:
            os.dup2(file.fileno(), 1), os.dup2(file.fileno(), 2)
        code = pytest.main(arguments)
        sys.stdout.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
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
        "head_kernels", "tl.where(cols < vocab, z, float", "tl.where(cols <= vocab, z, float", EXACT,
        "linear_cross_entropy",
    ),
    "gradient without the normaliser": Mutant(
        "head_kernels", "share = factor\n", "share = tl.full((), 1.0, tl.float32)\n", EXACT, "linear_cross_entropy"
    ),
    "dW of the last chunk only": Mutant(
        "linear_cross_entropy", "dw, add=i > 0)", "dw, add=False)", "neither_chunk and triton and 3"
    ),
    "label of the second pass off by one": Mutant(
        "head_kernels", "cols == at_label, g", "cols == at_label + 1, g", EXACT, "linear_cross_entropy"
    ),
    "buffer by the number of labels": Mutant(
        "linear_cross_entropy", "_rows_at_once(len(hidden),", "_rows_at_once(count,",
        "the_buffer and trained and large", "head_memory",
    ),
    "dX of named rows in the first rows": Mutant(
        "linear_cross_entropy", "dx.index_copy_(0, part.rows[at], (g @ w).to(dx.dtype))", "dx[at] = g @ w",
        "neither_chunk and triton and 3 and tensor",
    ),
    "overlap: the row kernel not waited for": Mutant(
        "linear_cross_entropy", "with _Beside(device, partial(by_rows, i)):",
        "_Beside(device, partial(by_rows, i)).__enter__()\n                if True:",
        "half_the_chunk and Late and not gpu", "head_memory",
    ),
    "overlap: the side stream does not wait": Mutant(
        "linear_cross_entropy", "self.side.wait_stream(self.main)\n", "pass\n", "the_side_stream", "head_memory"
    ),
    "overlap: the main stream does not wait": Mutant(
        "linear_cross_entropy", "self.main.wait_stream(self.side)\n", "pass\n", "the_side_stream", "head_memory"
    ),
    "overlap: the next chunk into the same half": Mutant(
        "linear_cross_entropy", "i % halves", "0", "half_the_chunk and not gpu", "head_memory"
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
    "rms_norm's dW without the last partial sum": Mutant(
        "rms_norm", "mask=(rows < n_partials) &", "mask=(rows < n_partials - 1) &",
        "dw_of_any_number_of_programs and dtype0",
    ),
    "rms_norm's dW of the first tile of partial sums": Mutant(
        "rms_norm", "tl.range(0, n_partials, BLOCK_P,", "tl.range(0, BLOCK_P, BLOCK_P,",
        "dw_of_any_number_of_programs and dtype0",
    ),
    "rms_norm's programs leave rows out": Mutant(
        "rms_norm", "tl.num_programs(0), num_stages", "tl.num_programs(0) + 1, num_stages",
        "frozen_weight_against_fp64 and dtype0",
    ),
    "rms_norm frozen: the residual's gradient lost": Mutant(
        "rms_norm", "ADD=dsum is not None, NEED_DW", "ADD=dsum is not None and need_dw, NEED_DW",
        "frozen_weight_against_fp64 and dtype0",
    ),
    "rope leaves out the last token": Mutant(
        "rope", "live = (times < n_times) &", "live = (times < n_times - 1) &", "against_fp64 and triton and dtype0"
    ),
    "rope: an odd head left out": Mutant(
        "rope", "tl.range(0, HEADS, BLOCK_HEADS", "tl.range(0, HEADS - 1, BLOCK_HEADS",
        "against_fp64 and triton and shape5",
    ),
    "rope turned the wrong way back": Mutant(
        "rope", "second = b * cos2 - a * sin1", "second = b * cos2 + a * sin1", "against_fp64 and triton and False"
    ),
    "swiglu without up": Mutant(
        "swiglu", "out = gate * tl.sigmoid(gate) * up", "out = gate * tl.sigmoid(gate)", "against_fp64 and triton"
    ),
    "a layer normalises the residual, not the sum": Mutant(
        "apply_layers", "normed, total = add_rms_norm_op(out, hidden_states, weight, eps, impl=impl)",
        "normed, total = norm(after, hidden_states, impl=impl), hidden_states + out",
        "to_the_last_bit and llama",
    ),
    "a norm's hooks passed by": Mutant(
        "apply_layers", "any(getattr(module, name) for name in HOOKS)", "False", "hooks_on_the_norm_fire"
    ),
    "a layer past its checkpoint": Mutant(
        "apply_layers", "if not (checkpoints and", "if not (False and",
        "checkpoints_are_still_transformers_own and llama",
    ),
    "gate and up not written over": Mutant(
        "apply_layers", "reuse_inputs=reuse,", "reuse_inputs=False,",
        "gate_and_up_are_written_over and llama", "apply_reuse",
    ),
    "a subclass's own forward passed by": Mutant(
        "apply_layers", "isinstance(module, kind) and own is wanted", "isinstance(module, kind)",
        "a_class_counts and MLP",
    ),
    "attention's window one too wide": Mutant(
        "attention", "triu(1 - window)", "triu(-window)", "test_reference_window"
    ),
    "swiglu: one column many times read as a row": Mutant(
        "_rows", "rows if rows.stride(1) == 1 or rows.shape[1] == 1 else rows.contiguous()", "rows",
        "overlapping_inputs_against_fp64 and triton and column and dtype0", "swiglu",
    ),
    "rms_norm reads its rows twice": Mutant(
        "rms_norm", "    wide = x.to(tl.float32)\n    rstd",
        "    wide = tl.load(x_ptr + at * x_stride + cols, mask=live, other=0.0).to(tl.float32)\n    rstd",
        "rms_norm_forward_2 and False", "traffic",
    ),
    "swiglu copies what it is given": Mutant(
        "swiglu", "rows = [x.reshape(1, -1) for x in tensors]", "rows = [x.clone().reshape(1, -1) for x in tensors]",
        "swiglu_forward_3", "traffic",
    ),
    "compiled: dX without the residual's gradient": Mutant(
        "reference_backward", "dx = dx + dsum.to(exact)", "dx = dx", "sums_what_arrives", "custom_ops"
    ),
    "compiled: attention's dS without its row's sum": Mutant(
        "reference_backward", "ds = p * (dp - (dp * p).sum(-1, keepdim=True)) * scale", "ds = p * dp * scale",
        "autograd_in_fp64 and varlen", "custom_ops",
    ),
    "compiled: float16's gradients not divided": Mutant(
        "custom_ops", "by, scale = dloss * factor,", "by, scale = dloss,", "float16_gradients", "custom_ops"
    ),
    "attention sees ahead": Mutant(
        "attention", "is_causal=band is None", "is_causal=False", "test_reference_in_fp64"
    ),
}  # fmt: skip
WHOLE = "nothing broken"


def arguments(folder: Path, name: str) -> list[str]:
    """pytest's, for a copy of the package in `folder` broken as `name` says."""
    copy = folder / "dpr_kernels"
    shutil.copytree(Path(dpr_kernels.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "which_package.py").write_text(PLUGIN)
    chosen = [MUTANTS[name]] if name != WHOLE else list({m.path: m for m in MUTANTS.values()}.values())  # one a file
    if name != WHOLE:
        path = copy / f"{chosen[0].module}.py"
        source = path.read_text()
        assert source.count(chosen[0].was) == 1, f"{name}: {chosen[0].was!r} is not there exactly once"
        path.write_text(source.replace(chosen[0].was, chosen[0].becomes))
    files = sorted({m.path for m in chosen})
    options = ["-q", "-p", "no:cacheprovider", "-p", "which_package"]
    options += ["-k", " or ".join(f"({m.tests})" for m in chosen), *files]
    return options + (["-x"] if name != WHOLE else [])


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, tuple[int, str]]:
    """pytest's exit status and output, for the whole copy and for each broken one."""
    folders = {name: tmp_path_factory.mktemp("copy") for name in [WHOLE, *MUTANTS]}
    jobs = json.dumps([(str(folder), arguments(folder, name)) for name, folder in folders.items()])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTHONPATH", None)  # nor may the package be found where it is whole
    done = subprocess.run(
        [sys.executable, "-c", FORKS, jobs], cwd=HERE.parents[1], env=environment, capture_output=True, text=True,
        timeout=540, check=True,
    )  # fmt: skip
    said = {name: (folder / "said").read_text() for name, folder in folders.items()}
    for name, folder in folders.items():
        assert f"package: {folder / 'dpr_kernels'}" in said[name], f"not the copy was tested:\n{said[name][-2000:]}"
    return {n: (int(status), said[n]) for n, status in zip(folders, done.stdout.split(), strict=True)}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_kernel_fails_its_tests(name: str, outcomes: Mapping[str, tuple[int, str]]) -> None:
    status, said = outcomes[name]
    assert status == 1, f"{name} went unnoticed:\n{said[-2000:]}"
    assert re.search(r"^E +(AssertionError|assert )", said, re.M), f"{name} failed for another reason:\n{said[-3000:]}"


def test_the_whole_copy_passes(outcomes: Mapping[str, tuple[int, str]]) -> None:
    status, said = outcomes[WHOLE]
    assert status == 0, said[-3000:]
    ran = int(re.search(r"(\d+) passed", said)[1])
    assert ran >= len({m.path for m in MUTANTS.values()}), said[-500:]
