#!/usr/bin/env bash
# Rounds 3 and 4 of the countdown experiment, of both phases and of plain rejection tuning; then the comparison with
# rounds 1 and 2, which `bench/evidence.sh` has run into --runs.
#
#   bench/rounds.sh [--runs DIR] [--seeds 0,1,2,3,4,5,6,7] [--jobs N] [--rounds "3 4"] [KEY=VALUE]...
#
# A round is phase 2 on the model of the one before: probe, quotas by difficulty, rules, training that goes on. It opens
# the test sets too: nothing of it was registered, so all of it is exploratory. The same command goes on after a crash.
set -euo pipefail
{ # read whole before it runs: the file may change in these hours
cd "$(dirname "$0")/.."

runs=runs/countdown-all seeds=0,1,2,3,4,5,6,7 jobs=2 rounds="3 4" overrides=()
while [ $# -gt 0 ]; do
    case "$1" in
        --runs) runs=$2; shift 2 ;;
        --seeds) seeds=$2; shift 2 ;;
        --jobs) jobs=$2; shift 2 ;;
        --rounds) rounds=$2; shift 2 ;;
        *=*) overrides+=("$1"); shift ;;
        *) echo "unknown argument $1; see the head of $0" >&2; exit 2 ;;
    esac
done
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
program=${DPR_MINI:-.venv/bin/dpr-mini}
IFS=, read -ra all <<< "$seeds"
runs=$(realpath "$runs")

further() { # arm, name of its rounds, seed, folder of runs, its own KEY=VALUE...
    local arm=$1 name=$2 seed=$3 into=$4 from round
    shift 4
    from=$(ls -d "$runs"/job-*/countdown/arms/"$arm-seed$seed")
    for round in $rounds; do
        local model="$into/models/$name-$((round - 1))-seed$seed"
        [ -e "$model" ] || "$program" export "$from" --stage train-2 --out "$model"
        "$program" run "recipes/countdown/$arm.yaml" "name=$name-$round" store=countdown-rounds "phases=[2]" "$@" \
            "${overrides[@]}" "model.name=$model" --seeds "$seed" --runs "$into" --test
        from="$into/countdown-rounds/arms/$name-$round-seed$seed"
    done
}

folders=() pids=()
trap 'kill "${pids[@]}" 2> /dev/null || true' INT TERM
for ((job = 0; job < jobs && job < ${#all[@]}; job++)); do
    into="$runs/rounds-$job"
    mkdir -p "$into/models"
    folders+=("$into/countdown-rounds")
    for ((i = job; i < ${#all[@]}; i += jobs)); do
        further countdown countdown-round "${all[i]}" "$into"
        # trained on what it keeps: `like` cannot reach another run's model
        further countdown-plain-2 countdown-plain-round "${all[i]}" "$into" \
            like=null pack.trained_tokens=null pack_2.trained_tokens=null
    done >> "$into.log" 2>&1 &
    pids+=($!)
done
failed=0
for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
[ "$failed" = 0 ] || { echo "a job failed: see $runs/rounds-*.log; the same command goes on" >&2; exit 1; }
"$program" compare "$runs"/job-*/countdown "${folders[@]}" --baseline countdown-base --out "$runs/rounds"
exit
}
