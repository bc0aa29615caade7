#!/usr/bin/env bash
# order.sh [BALLAST] - simulated against predicted decode time over a grid of placements, with attention on either side: how long the order of
# operations lets resources wait; then what the profile's order loses on machines with other rates. All are predictions. Prints two Markdown tables.
set -euo pipefail
cd "$(dirname "$0")/.."
ballast=${1:-build/ballast}

# Decode seconds of one command; nothing if the placement does not fit.
decode() { { "$ballast" "$@" -o json 2>/dev/null || true; } | sed -n 's/.*"decode_s": \([0-9.e+-]*\).*/\1/p'; }

ratios() { # MACHINE MODEL
    for batches in "16 1" "16 2" "16 4" "16 20" "64 1" "64 2" "64 4"; do
        for percent in "20 80 0 100 100 0" "0 100 0 100 100 0" "20 50 25 75 0 100" "0 50 0 100 100 0" "0 100 0 50 0 100"; do
            for near in "" --cpu-cache-compute; do
                args=(-m "$2" -H "$1" -p 256 -n 12 --gpu-batch-size "${batches% *}" --num-gpu-batches "${batches#* }" --percent "$percent")
                predicted=$(decode predict "${args[@]}" $near)
                [ -z "$predicted" ] || echo "$(decode simulate "${args[@]}" $near) $predicted"
            done
        done
    done
}

echo "| machine | model | placements | mean | worst | above 1.05 |"
echo "|---|---|---:|---:|---:|---:|"
for machine in t4-gcp rtx3090; do
    for model in opt-30b opt-6.7b; do
        ratios $machine $model | awk -v name="$machine | $model" '
            { r = $1 / $2; sum += r; n++; above += r > 1.05; most = r > most ? r : most }
            END { printf "| %s | %d | %.3f | %.3f | %d |\n", name, n, sum / n, most, above }'
    done
done
echo
make -s build/bench/bench_order
build/bench/bench_order
