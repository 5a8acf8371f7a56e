"""The kernels compile for an H100 on any machine (Triton brings its assembler): the interpreter takes more than it."""

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("triton", reason="triton is not installed")

SCRIPT = r"""
import importlib, json, re
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

norm, swiglu, rope = (importlib.import_module("dpr_kernels." + n) for n in ("rms_norm", "swiglu", "rope"))
WIDE = re.compile(r"(?:ld|st)\.global\S*\.v4\.|cp\.async\S*[^;]*, 0x10|cp\.async\S*[^;]*, 16")


def build(kernel, warps, dtype, floats=("rstd_ptr", "dw_ptr"), **constants):
    names = kernel.arg_names
    kinds = {
        n: "constexpr" if n in constants else "*fp32" if n in floats else "*" + dtype if n.endswith("_ptr") else "i32"
        for n in names
    }
    at = {(names.index(n),): v for n, v in constants.items()}
    even = {(i,): [["tt.divisibility", 16]] for i, n in enumerate(names) if n not in constants}
    source = ASTSource(fn=kernel, signature=kinds, constexprs=at, attrs=even)
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": warps})
    ptx = made.asm["ptx"]
    return {"wide": len(WIDE.findall(ptx)), "async": ptx.count("cp.async.c"), "shared": made.metadata.shared}


out = {}
for h in (128, 3584, 4096, 16384):
    r, block, warps = norm._launch(h, False)
    one = dict(H=h, OFFSET=0.0, ADD=True, BLOCK_H=block)
    out[f"norm forward {h}"] = build(norm._forward, warps, "bf16", EPS=1e-6, BLOCK_R=r, **one)
    r, block, warps = norm._launch(h, True)
    out[f"norm backward {h}"] = build(norm._backward, warps, "bf16", NEED_DW=True, BLOCK_R=r, STAGES=3, **one)
block, warps = swiglu._launch()
for dtype in ("bf16", "fp32"):
    for name in ("_forward", "_backward"):
        out[f"swiglu {name} {dtype}"] = build(getattr(swiglu, name), warps, dtype, BLOCK=block)
for hq, hk, d in ((32, 8, 128), (14, 2, 64)):
    q, k, half = (triton.next_power_of_2(n) for n in (hq, hk, d // 2))
    block, warps = rope._launch(max(q, k), half)
    sizes = dict(HQ=hq, HK=hk, HALF=d // 2, BLOCK_T=block, BLOCK_Q=q, BLOCK_K=k, BLOCK_HALF=half)
    for backward in (False, True):
        out[f"rope {hq} {d} {backward}"] = build(rope._kernel, warps, "bf16", BACKWARD=backward, **sizes)
print(json.dumps(out))
"""


def test_compiles_for_sm_90(tmp_path):
    env = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | {"TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    built = json.loads(done.stdout.splitlines()[-1])
    for name, what in built.items():
        print(name, what)
        assert what["wide"], f"{name}: no 16-byte accesses"
        assert what["shared"] <= 227 * 1024, f"{name}: more shared memory than an SM has"
        assert bool(what["async"]) == name.startswith("norm backward"), f"{name}: prefetching is off"
