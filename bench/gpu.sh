#!/usr/bin/env bash
# Everything that only a GPU can show, on a machine with one: GPU tests, kernel bench, training bench.
#
#   bench/gpu.sh                 all three parts, one after the other
#   bench/gpu.sh tests           one part; each ends within 8 minutes and goes on where it stopped when run again
#
# Needs no network and no install, only torch, triton and transformers (tests also pytest, train also pydantic); uses
# what else is there: peft, accelerate, liger-kernel; bitsandbytes for 8-bit AdamW and QLoRA; DPR_MINI_UNSLOTH=PYTHON.
#   OUT=folder        results (bench/results); earlier ones in bench/results are copied there and extended
#   WHEELS=folder     wheels of what is missing, installed into a temporary folder of this run
#   PYTHON=python3    SECONDS_EACH=460    FORCE_CPU=1: the same at tiny sizes without a GPU, to try this script (OUT: /tmp/dpr-gpu-trial)
set -uo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
limit=${SECONDS_EACH:-460}
tiny=${FORCE_CPU:+1}
out=${OUT:-${tiny:+/tmp/dpr-gpu-trial}}
out=${out:-bench/results}
mkdir -p "$out"

site=$(mktemp -d)
models=$(mktemp -d)  # models of random weights, 18 GB in all
trap 'rm -rf "$site" "$models"' EXIT
if [ -n "${WHEELS:-}" ]; then
    "$python" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --target "$site" "$WHEELS"/*.whl || exit 1
fi
export PYTHONPATH="$PWD:$PWD/kernels:$site${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1
export OMP_WAIT_POLICY=passive
if [ -n "$tiny" ]; then
    export CUDA_VISIBLE_DEVICES="" TRITON_INTERPRET=1
fi
if ! device=$("$python" -c '
import torch
print(torch.cuda.get_device_name().lower().replace(" ", "-") if torch.cuda.is_available() else "cpu")'); then
    echo "gpu.sh: $python cannot import torch" >&2
    exit 1
fi
if [ "$device" = cpu ] && [ -z "$tiny" ]; then
    echo "gpu.sh: torch finds no GPU here (FORCE_CPU=1 tries this script without one)" >&2
    exit 1
fi

# what remains of its limit, at least 1
left() { echo $((limit - (SECONDS - begun) > 1 ? limit - (SECONDS - begun) : 1)); }

resumable() {
    [ -e "$out/$1" ] || [ ! -e "bench/results/$1" ] || cp "bench/results/$1" "$out/$1"
}

tests() {
    if ! "$python" -c 'import pytest' 2>/dev/null; then
        echo "gpu.sh: tests: pytest is not installed (WHEELS=folder with pytest, pluggy, iniconfig)" >&2
        return 1
    fi
    local what=(tests/kernels --ignore tests/kernels/test_mutations.py)  # that one is about the tests, not the GPU
    [ -z "$tiny" ] || what=(tests/kernels/test_backends.py)
    timeout -k 10 "$(left)" "$python" -m pytest -q -p no:cacheprovider --durations 5 "${what[@]}" 2>&1 |
        tee "$out/tests-$device.log"
    return "${PIPESTATUS[0]}"
}

kernels() {
    local file="kernels-$device.json" tries=0 sizes=()
    [ -z "$tiny" ] || sizes=(--preset tiny --call-seconds 0.01)
    resumable "$file"
    # A kernel that destroys the CUDA context ends the process; its row then says so and the next start passes it by.
    until timeout -k 10 "$(left)" "$python" bench/kernels.py "${sizes[@]}" --budget-seconds $(($(left) * 9 / 10)) \
        --out "$out/$file"; do
        tries=$((tries + 1))
        if [ "$tries" -ge 4 ] || [ "$(left)" -lt 30 ]; then
            echo "gpu.sh: kernels: ended early; what was measured is in $out/$file" >&2
            return 1
        fi
    done
    "$python" bench/plot.py "$out/$file" || echo "gpu.sh: kernels: no pictures" >&2
}

train() {
    if ! "$python" -c 'import pydantic, yaml' 2>/dev/null; then
        echo "gpu.sh: train: pydantic or pyyaml is not installed" \
            "(WHEELS=folder with pydantic, pydantic-core, annotated-types, typing-inspection)" >&2
        return 1
    fi
    local file="train-$device.json" small=qwen2.5-1.5b large=qwen2.5-7b
    resumable "$file"
    one() {
        timeout -k 10 "$(left)" "$python" bench/train.py "$@" --models "$models" \
            --budget-seconds $(($(left) * 9 / 10)) --out "$out/$file"
    }
    if [ -n "$tiny" ]; then
        local size=(--model tiny --tokens 256 --document 96 --tile 64 --steps 1)
        one "${size[@]}" --mode full32 --ladder &&
            one "${size[@]}" --mode full lora qlora --arms ours liger unsloth
        return
    fi
    # What matters most comes first; where the time ends, the next run goes on.
    one --model $small --mode full lora --tokens 8192 32768 --arms ours liger plain &&
        one --model $large --mode lora --tokens 8192 32768 --arms ours liger unsloth liger+packed &&
        one --model $large --mode full --tokens 32768 --arms ours+offload &&
        one --model $large --mode lora --tokens 131072 --arms ours+offload+tiled &&
        one --model $large --mode qlora --tokens 16384 --arms ours --cap 24 &&
        one --model $small --mode lora --tokens 32768 --ladder &&
        one --model $large --mode lora --tokens 131072 --arms ours+offload+tiled --longest &&
        one --model $small --mode full lora qlora --tokens 8192 --arms ours+offload+tiled --cap 12 16 24 --longest
}

bad=()
for part in "${@:-tests kernels train}"; do
    for name in $part; do
        case $name in
        tests | kernels | train) ;;
        *)
            echo "gpu.sh: no part '$name': tests, kernels, train" >&2
            exit 2
            ;;
        esac
        echo "== $name ($device)"
        begun=$SECONDS
        "$name" || bad+=("$name")
        echo "== $name: $((SECONDS - begun)) s"
    done
done
if [ ${#bad[@]} -gt 0 ]; then
    echo "gpu.sh: not well: ${bad[*]}" >&2
    exit 1
fi
