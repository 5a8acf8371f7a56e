#!/usr/bin/env bash
# What only a GPU can show, in fifteen minutes on a machine with one and without a network. What matters most comes first:
#
#   bench/gpu.sh                        recipe tests smoke qlora arms others smollm2 kernels chunks, in TOTAL_SECONDS
#   bench/gpu.sh recipe tests           these, in this order; `bench/gpu.sh --help` says what each shows
#   FORCE_CPU=1 bench/gpu.sh            the same at tiny sizes without a GPU, to try this script: what runs there has run here
#
# Needs torch, triton and transformers; the rest is used where it is there (pydantic, pyyaml, typer, peft, accelerate,
# bitsandbytes, liger-kernel, pytest, pytest-xdist). Nothing is installed but WHEELS, into a folder of this run.
#   TOTAL_SECONDS=560   shared out over the parts asked for; what one leaves goes to the next ones
#   OUT=folder          results (bench/results; with FORCE_CPU a folder under /tmp), written anew after every part
#   MODELS=folder       models of random weights (18 GB), Triton's cache and runs, kept for the next call (/tmp/dpr-gpu)
#   WHEELS=folder       wheels of what is missing, with parts of large ones: `python tools/offline_wheels.py gather`
#   DATA=folder         recipes whose problems are in files: `python tools/offline_recipe.py` (else they are generated)
#   COMMIT=id           for the results, of a tree whose own .git does not say what it holds
#   PYTHON=python3
set -uo pipefail
export DPR_BENCH_BEGAN=$EPOCHREALTIME
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
work=${MODELS:-/tmp/dpr-gpu${FORCE_CPU:+-trial}}
mkdir -p "$work"
export OUT=${OUT:-$([ -n "${FORCE_CPU:-}" ] && echo "/tmp/dpr-gpu-trial/results" || echo bench/results)} MODELS="$work"
export PYTHONPATH="$PWD:$PWD/kernels${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1
export OMP_WAIT_POLICY=passive TRITON_CACHE_DIR="$work/triton"
if [ -n "${WHEELS:-}" ]; then
    # its own folder for each state of WHEELS: installed once, and a second call with more of them installs those
    timeout -k 10 120 "$python" tools/offline_wheels.py install "$WHEELS" --site "$work/site" || exit 1
    export PYTHONPATH="$PYTHONPATH:$work/site"
fi
if [ -n "${FORCE_CPU:-}" ]; then
    export CUDA_VISIBLE_DEVICES="" TRITON_INTERPRET=1
fi
exec "$python" bench/gpu_parts.py "$@"
