#!/usr/bin/env bash
# The diagonal schedule against zig-zag, run: each with the plan that is predicted to be its best for the same stream of sequences in the same
# memory, weights on the disk, cache and hidden states in memory. A row a run; gain_over_zigzag is of the measured throughputs.
#
#   bench/diagonal_run.sh > bench/results/diagonal-MACHINE.csv
set -euo pipefail
cd "$(dirname "$0")/.."
. bench/lib.sh

# model | memory | prompt | generated | sequences
cases=("${@:-opt-125m|200MiB|16|128|128}")
[ $# -gt 0 ] || cases+=("opt-1.3b|800MiB|16|48|64")
profile "$out/machine.json"

echo "time,machine,model,memory,prompt,gen,sequences,schedule,policy,predicted_tok_s,measured_tok_s,relative_error,predicted_s,measured_s,gain_over_zigzag,steal_share"
for case in "${cases[@]}"; do
    IFS='|' read -r name memory prompt gen sequences <<<"$case"
    directory=$(model "$name")
    args=(-m "$directory" -H "$out/machine.json" --budget "ram=$memory" -p "$prompt" -n "$gen" --sequences "$sequences")
    for schedule in zigzag diagonal; do
        say "$name, $sequences sequences of $prompt + $gen in $memory: $schedule"
        "$ballast" plan "${args[@]}" --set "schedule=$schedule" --set w.disk=100% --set c.ram=100% --set h.ram=100% --no-compress-cache --no-compress-weight \
            --policy-out "$out/diagonal.json" >/dev/null
        "$ballast" predict "${args[@]}" --policy "$out/diagonal.json" -o csv >"$out/predicted.csv"
        steal_mark
        "$ballast" run "${args[@]}" --policy "$out/diagonal.json" --scratch-dir "$out" --no-warmup -r 1 -o csv >"$out/measured.csv"
        steal=$(steal_share)
        p() { column "$1" <"$out/predicted.csv"; }
        m() { column "$1" <"$out/measured.csv"; }
        [ $schedule = zigzag ] && zigzag=$(m throughput_tok_s)
        awk -v head="$(stamp),$machine,$name,$memory,$prompt,$gen,$sequences,$schedule,\"$(p policy)\"" -v p="$(p throughput_tok_s)" -v m="$(m throughput_tok_s)" \
            -v ps="$(p latency_s)" -v ms="$(m latency_s)" -v z="$zigzag" -v s="$steal" \
            'BEGIN { printf "%s,%.4f,%.4f,%.4f,%.4f,%.4f,%.4f,%s\n", head, p, m, p / m - 1, ps, ms, m / z - 1, s }'
    done
done
