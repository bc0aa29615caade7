#!/usr/bin/env bash
# diagonal.sh - the diagonal schedule against zig-zag at equal memory: for each workload and schedule the number of batches that is
# predicted to be fastest among those that fit, then simulated. Predictions, not measurements. Prints a Markdown table.
set -euo pipefail
cd "$(dirname "$0")/.."
ballast=build/ballast
model=(-m opt-6.7b -H t4-gcp -b 32 --cpu-cache-compute)
sequences=2048

field() { python3 -c 'import json, sys; print(f"{json.load(sys.stdin)[sys.argv[1]]:.4g}")' "$1"; }

# The largest predicted throughput and its number of batches.
best() {
    local top=0 at=0 k t
    for k in 1 2 3 4 5 6 7 8 9 10 11 12 14 16 18 20 24 28 32; do
        t=$($ballast predict "${model[@]}" "${common[@]}" "$@" --num-gpu-batches $k -o json 2>/dev/null) || break # does not fit
        t=$(field throughput_tok_s <<<"$t")
        if awk "BEGIN { exit !($t > $top) }"; then top=$t at=$k; fi
    done
    echo "$top $at"
}

echo "| weights | prompt | generated | schedule | batches | predicted | simulated |"
echo "|---|---:|---:|---|---:|---:|---:|"
for weights in disk cpu; do
    if [ $weights = disk ]; then
        common=(--budget cpu=24GiB --percent "0 0 0 100 100 0")
    else
        common=(--budget cpu=32GiB --percent "0 100 0 100 100 0")
    fi
    for workload in "16 256" "64 128" "128 128" "256 32"; do
        read -r p n <<<"$workload"
        for schedule in zigzag diagonal; do
            args=(-p "$p" -n "$n" --sequences $sequences --schedule $schedule)
            read -r predicted k <<<"$(best "${args[@]}")"
            simulated=$($ballast simulate "${model[@]}" "${common[@]}" "${args[@]}" --num-gpu-batches "$k" -o json | field throughput_tok_s)
            echo "| $weights | $p | $n | $schedule | $k | $predicted | $simulated |"
        done
    done
done
