"""Every kernel compiles for GPUs that are not here (Triton brings its assembler): the interpreter takes more than it.

bench/compile_check.py does it in a process of its own, for here the kernels are those of the interpreter.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="triton is not installed")
ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / "bench"
TARGETS = (90, 120)  # all six, and every shape: bench/results/compile.json
# of Qwen2.5-7B what recipes/qwen7b.yaml launches, and the rows that take the most shared memory
CASES = r"norm H 3584 bf16( frozen)?$|add_rms_norm H 8192 fp32|I 18944 bf16$|28/4 x 128 bf16$|V 152064( no gradient)?$"
SHAPES = ("qwen2.5-7b", "llama-3.1-70b")
BROKEN = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import compile_check
rms_norm, results = compile_check.modules()["rms_norm"], {}
for name, code, arguments in json.loads(sys.argv[2]):
    kept = dict(vars(rms_norm))
    cases = compile_check.compile_cases.cases
    exec(code)
    sys.argv[1:] = [*arguments, "--out", "broken.json"]
    status = compile_check.main()
    vars(rms_norm).update(kept)
    compile_check.compile_cases.cases = cases
    results[name] = {"status": status, **json.loads(Path("broken.json").read_text())["not_well"]}
Path("results.json").write_text(json.dumps(results))
"""


COUNT = """
import json, sys
from types import SimpleNamespace
sys.path.insert(0, sys.argv[1])
import compile_cases as cases, compile_check as check, torch
ops, recorder = SimpleNamespace(**check.modules()), check.Recorder()
check.stand_in(recorder, ops)
recorder.capability = 90
check.driver.set_active(check.Card(90))
norm, rope = ops.rms_norm._RMSNorm, ops.rope._RoPE
with check.FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
    for n in map(int, sys.argv[2:]):
        x, w = cases.empty(n, 896), cases.empty(896)
        for name, call in (
            ("norm", lambda: cases.step(norm, x, None, w, 1e-6, 0.0)),
            ("add", lambda: cases.step(norm, x, x, w, 1e-6, 0.0)),
            ("rope", cases.rotation(rope, 1, n, 14, 2, 64)),
        ):
            recorder.compile(cases.Case(f"{name} {n}", call), False)
print(json.dumps(recorder.rows))
"""


def start(folder: Path, *command: str) -> subprocess.Popen[str]:
    """A process in `folder` where kernels are not those of the interpreter."""
    env = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    env |= {"PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}", "CUDA_VISIBLE_DEVICES": "", "PYTHONDONTWRITEBYTECODE": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, *command], env=env, cwd=folder, stdout=pipe, stderr=pipe, text=True)


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """(exit status, what it printed)."""
    out, err = process.communicate()
    assert process.returncode in (0, 1) and "Traceback" not in err, out[-500:] + err[-2000:]
    return process.returncode, out


@pytest.mark.slow
def test_every_kernel_compiles_for_two_architectures_without_spills_and_within_shared_memory(tmp_path):
    arguments = (str(BENCH / "compile_check.py"), "--shapes", *SHAPES, "--only", CASES, "--target")
    halves = {"a.json": TARGETS[:1], "b.json": TARGETS[1:]}  # two processes: half the time
    started = [start(tmp_path, *arguments, *(f"sm_{n}" for n in t), "--out", out) for out, t in halves.items()]
    ends = [finish(process) for process in started]
    results = [json.loads((tmp_path / out).read_text()) for out in halves]
    for (status, text), result in zip(ends, results, strict=True):
        assert status == 0 and not any(result["not_well"].values()), text[-3000:]
        assert "nothing was run" in result["conditions"]["gpu"]
    rows = [row for result in results for row in result["cubins"]]
    kernels = {
        "rms_norm._forward",
        "rms_norm._backward",
        "rms_norm._finish",
        "swiglu._forward",
        "swiglu._backward",
        "rope._kernel",
    }
    kernels |= {"head_kernels._row_kernel", "head_kernels._rescale_kernel"}
    for target in TARGETS:
        assert {r["kernel"] for r in rows if r["target"] == target} == kernels, target
    for row in rows:
        assert row["loads"].keys() & {"16"} or row["async"].keys() & {"16"}, f"{row}: no 16-byte accesses"
        prefetched = row["kernel"] == "rms_norm._backward" and " fp32" not in row["case"]
        assert not prefetched or row["async"], f"{row}: prefetching is off"
        assert not row["atomics"] and not row["tf32"], row


@pytest.mark.slow
def test_rows_and_tokens_of_any_number_are_one_cubin(tmp_path):
    """Where Triton specialises an argument, 1, multiples of 16 and others are three kernels, each a pause."""
    status, said = finish(start(tmp_path, "-c", COUNT, str(BENCH), "1", "15", "16"))
    rows = json.loads(said.splitlines()[-1])
    assert status == 0 and not [r for r in rows if "error" in r], rows
    for case, launches in (("norm", 3), ("add", 3), ("rope", 2)):
        of = [[r for r in rows if r["case"] == f"{case} {n}"] for n in (1, 15, 16)]
        assert [len(found) for found in of] == [launches] * 3
        assert not [r for found in of[1:] for r in found if not r["repeats"]], (
            f"{case}: compiled anew for another number"
        )


@pytest.mark.slow
def test_what_cannot_be_compiled_or_launched_or_has_no_case_is_named(tmp_path):
    """The launcher of rms_norm is broken on purpose, once in each way that the check is there for."""
    one = ("--target", "sm_89", "--shapes", *SHAPES, "--only")
    broken = [
        ("registers", "rms_norm._launch = lambda *_, **__: (1, 4096, 2)", (*one, "^rms_norm H 3584 bf16$")),
        ("resident", "rms_norm._residency = lambda *_: (1000, 1 << 15)", (*one, "^rms_norm H 3584 fp32$")),
        ("shared", "rms_norm._residency = lambda *_: (132, 1 << 20)", (*one, "add_rms_norm H 8192 fp32")),
        ("launcher", "rms_norm._launch = None", (*one, "^rms_norm H 3584 bf16$")),
        ("no case", "compile_check.compile_cases.cases = lambda *_, **__: []", ("--target", "sm_89")),
    ]
    finish(start(tmp_path, "-c", BROKEN, str(BENCH), json.dumps(broken)))
    results = json.loads((tmp_path / "results.json").read_text())
    sentences = {
        "registers": "spill in a usual case",
        "resident": "start more programs than fit, though each walks over all rows",
        "shared": "cannot be launched",
        "launcher": "failed to compile", "no case": "have no case here",
    }  # fmt: skip
    for name, sentence in sentences.items():
        assert results[name]["status"] == 1 and results[name][sentence], (name, results[name])
        assert any("rms_norm._backward" in kernel or "launcher" in kernel for kernel in results[name][sentence]), name
    assert "swiglu._forward" in results["no case"]["have no case here"]  # rms_norm has one of the same name


def test_the_published_table_is_of_the_kernels_as_they_are(tmp_path):
    """bench/results/compile.json is compiled anew where a kernel has changed: 17 minutes on two cores."""
    code = "import sys; sys.path.insert(0, sys.argv[1]); import compile_check; print(compile_check.digest())"
    _, said = finish(start(tmp_path, "-c", code, str(BENCH)))
    published = json.loads((BENCH / "results" / "compile.json").read_text())
    assert published["conditions"]["kernels"] == said.strip()
    assert not any(published["not_well"].values())
    assert {row["target"] for row in published["cubins"]} == {80, 86, 89, 90, 100, 120}
