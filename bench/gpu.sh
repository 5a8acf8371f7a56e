#!/usr/bin/env bash
# Everything that only a GPU can show, on a machine with one: GPU tests, kernel bench, training bench.
#
#   bench/gpu.sh                 all three parts, one after the other
#   bench/gpu.sh tests           one part; each ends within 8 minutes and goes on where it stopped when run again
#
# Needs no network and no install, only torch, triton and transformers (tests also pytest); uses what else is there.
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
trap 'rm -rf "$site"' EXIT
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
    local file="train-$device.json"
    resumable "$file"
    one() {
        timeout -k 10 "$(left)" "$python" bench/train.py "$@" --budget-seconds $(($(left) * 9 / 10)) --out "$out/$file"
    }
    if [ -n "$tiny" ]; then
        one --model tiny --tokens 64 --document 48 --steps 1 --backends ours plain
    else
        one --model 1.5B --tokens 8192 32768 --backends ours plain liger &&
            one --model 7B --mode lora --tokens 8192 32768 --backends ours liger &&
            one --model 7B --mode lora --tokens 32768 --backends ours+offload+tiled --longest
    fi
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
