#!/usr/bin/env bash
# The countdown experiment, all arms and seeds, in several processes that share nothing; then the comparison.
#
#   bench/evidence.sh [--device cpu|cuda] [--jobs N] [--seeds 0,1,2,3,4,5,6,7] [--runs DIR] [KEY=VALUE]...
#
# Each job has its own share of the seeds and its own folder, DIR/job-N. The same command goes on where it was stopped.
# It opens the test sets (`--test`): bench/PREREG.md and the recipes are to be committed first, as they stand. KEY=VALUE
# overrides go to every recipe. A folder keeps its number of jobs: with another, a seed would lie in two of them.
# Two jobs of one thread each is right for two CPU cores; eight jobs share one GPU.
set -euo pipefail
{ # read whole before it runs: the file may change in these hours
cd "$(dirname "$0")/.."

device=cpu jobs=2 seeds=0,1,2,3,4,5,6,7 runs=runs/countdown-all overrides=()
while [ $# -gt 0 ]; do
    case "$1" in
        --device) device=$2; shift 2 ;;
        --jobs) jobs=$2; shift 2 ;;
        --seeds) seeds=$2; shift 2 ;;
        --runs) runs=$2; shift 2 ;;
        *=*) overrides+=("$1"); shift ;;
        *) echo "unknown argument $1; see the head of $0" >&2; exit 2 ;;
    esac
done
case "$device" in
    cpu) export CUDA_VISIBLE_DEVICES="" OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" ;;
    cuda) overrides+=("engine.window=4096") ;;
    *) echo "--device is cpu or cuda, not $device" >&2; exit 2 ;;
esac
registered=(bench/PREREG.md recipes/countdown)
git ls-files --error-unmatch "${registered[@]}" > /dev/null && git diff --quiet HEAD -- "${registered[@]}" ||
    { echo "commit ${registered[*]} first: they are what is registered" >&2; exit 2; }

program=${DPR_MINI:-.venv/bin/dpr-mini}
recipes=(recipes/countdown/countdown.yaml recipes/countdown/countdown-{base,base-turns,dialogue,plain,plain-steps,confirmed,no-check,coin,plain-2,uniform}.yaml)
IFS=, read -ra all <<< "$seeds"
mkdir -p "$runs"
[ -e "$runs/jobs" ] || echo "$jobs" > "$runs/jobs"
[ "$(cat "$runs/jobs")" = "$jobs" ] || { echo "$runs was begun with --jobs $(cat "$runs/jobs")" >&2; exit 2; }
folders=() pids=()
trap 'kill "${pids[@]}" 2> /dev/null || true' INT TERM
for ((job = 0; job < jobs && job < ${#all[@]}; job++)); do
    share=()
    for ((i = job; i < ${#all[@]}; i += jobs)); do share+=("${all[i]}"); done
    folder="$runs/job-$job"
    folders+=("$folder/countdown")
    echo "job $job: seeds ${share[*]}, log $folder.log"
    "$program" run "${recipes[@]}" "${overrides[@]}" --seeds "$(IFS=,; echo "${share[*]}")" --runs "$folder" --test \
        >> "$folder.log" 2>&1 &
    pids+=($!)
done
failed=0
for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
[ "$failed" = 0 ] || { echo "a job failed: see the logs; the same command goes on" >&2; exit 1; }
"$program" compare "${folders[@]}" --baseline countdown-base --out "$runs"
exit
}
