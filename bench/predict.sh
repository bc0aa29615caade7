#!/usr/bin/env bash
# Predicted against measured: 12 policies x 2 shapes, with one profile taken before. Nothing here is used to fit anything.
#
#   bench/predict.sh > bench/results/predict-MACHINE.csv
set -euo pipefail
cd "$(dirname "$0")/.."
. bench/lib.sh

# percent | gpu batch size | batches | other flags
policies=(
    "0 0 100 0 100 0|4|1|"
    "0 0 100 0 100 0|16|1|"
    "50 0 100 0 100 0|8|1|"
    "100 0 100 0 100 0|4|1|"
    "100 0 100 0 100 0|16|2|"
    "0 0 0 0 100 0|8|1|"
    "60 0 50 0 100 0|4|4|"
    "100 0 0 0 100 0|8|2|"
    "30 0 100 0 0 0|8|2|"
    "0 0 100 0 100 0|8|1|--compress-weight"
    "100 0 0 0 100 0|16|1|--compress-cache"
    "50 0 100 0 100 0|4|2|--no-overlap"
)
prompt=${PROMPT:-128} gen=${GEN:-16}
profile "$out/machine.json"
echo "time,machine,model,policy,prompt,gen,predicted_tok_s,measured_tok_s,relative_error,predicted_prefill_s,measured_prefill_s,predicted_decode_s,measured_decode_s,planned_peak_ram_bytes,measured_peak_ram_bytes,steal_share,tries"
i=0
rm -f "$out"/predict-*.trace.csv
for name in ${MODELS:-opt-1.3b opt-2.7b}; do
    directory=$(model "$name")
    for row in "${policies[@]}"; do
        IFS='|' read -r percent batch batches flags <<<"$row"
        say "$name $row"
        args=(-m "$directory" -H "$out/machine.json" -p "$prompt" -n "$gen" -b "$batch" --num-gpu-batches "$batches" --percent "$percent")
        # shellcheck disable=SC2086  # flags are words
        "$ballast" predict "${args[@]}" $flags -o csv >"$out/predicted.csv"
        i=$((i + 1))
        # a run that the hypervisor disturbed is repeated, and what it took from the last one is in the row
        for try in 1 2 3; do
            steal_mark
            # shellcheck disable=SC2086
            "$ballast" run "${args[@]}" $flags --scratch-dir "$out" -o csv --trace "$out/predict-$name-$i.trace.csv" >"$out/measured.csv"
            steal=$(steal_share)
            awk -v s="$steal" 'BEGIN { exit !(s < 0.02) }' && break
        done
        p() { column "$1" <"$out/predicted.csv"; }
        m() { column "$1" <"$out/measured.csv"; }
        echo "$(stamp),$machine,$name,\"$(p policy)\",$prompt,$gen,$(p throughput_tok_s),$(m throughput_tok_s),$(m relative_error),$(p prefill_s),$(m prefill_s),$(p decode_s),$(m decode_s),$(p peak_bytes.ram),$(m peak_bytes.ram),$steal,$try"
    done
done
"$ballast" validate "$out"/predict-*.trace.csv >&2 || true
