#!/usr/bin/env bash
# Predicted against measured: 12 policies x 2 shapes, with one profile taken before. Nothing here is used to fit anything.
# Every policy runs ROUNDS times, once in each pass over all of them, so that a slow spell of the machine does not fall on one
# policy; a row has the median run, and the slowest and fastest. predicted_low and _high are the error bar, from the profile's spreads;
# relative_error is that of the prediction itself.
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
shapes=(${MODELS:-opt-1.3b opt-2.7b})
prompt=${PROMPT:-128} gen=${GEN:-8} rounds=${ROUNDS:-3}
profile "$out/machine.json"
rm -f "$out"/predict-*.trace.csv "$out"/predict-*.runs

# arguments MODEL I: into args, and flags
arguments() {
    local percent batch batches
    IFS='|' read -r percent batch batches flags <<<"${policies[$2]}"
    args=(-m "$1" -H "$out/machine.json" -p "$prompt" -n "$gen" -b "$batch" --num-gpu-batches "$batches" --percent "$percent")
}

for round in $(seq "$rounds"); do
    for name in "${shapes[@]}"; do
        directory=$(model "$name")
        for i in "${!policies[@]}"; do
            say "round $round of $rounds: $name ${policies[$i]}"
            arguments "$directory" "$i"
            steal_mark
            # shellcheck disable=SC2086  # flags are words
            "$ballast" run "${args[@]}" $flags --scratch-dir "$out" -o csv --trace "$out/predict-$name-$i-$round.trace.csv" >"$out/measured.csv"
            m() { column "$1" <"$out/measured.csv"; }
            echo "$(m throughput_tok_s),$(m prefill_s),$(m decode_s),$(m peak_bytes.ram),$(steal_share)" >>"$out/predict-$name-$i.runs"
        done
    done
done

echo "time,machine,model,policy,prompt,gen,rounds,predicted_tok_s,predicted_low_tok_s,predicted_high_tok_s,measured_tok_s,slowest_tok_s,fastest_tok_s,relative_error,predicted_prefill_s,measured_prefill_s,predicted_decode_s,measured_decode_s,planned_peak_ram_bytes,measured_peak_ram_bytes,steal_share"
for name in "${shapes[@]}"; do
    directory=$(model "$name")
    for i in "${!policies[@]}"; do
        arguments "$directory" "$i"
        # shellcheck disable=SC2086
        "$ballast" predict "${args[@]}" $flags -o csv >"$out/predicted.csv"
        p() { column "$1" <"$out/predicted.csv"; }
        sort -t, -g "$out/predict-$name-$i.runs" | awk -F, -v head="$(stamp),$machine,$name,\"$(p policy)\",$prompt,$gen,$rounds" \
            -v tok="$(p throughput_tok_s)" -v low="$(p throughput_low_tok_s)" -v high="$(p throughput_high_tok_s)" -v prefill="$(p prefill_s)" -v decode="$(p decode_s)" -v peak="$(p peak_bytes.ram)" '
            { t[NR] = $1; a[NR] = $2; d[NR] = $3; b[NR] = $4; s[NR] = $5 }
            END { k = int((NR + 1) / 2)
                  printf "%s,%.4f,%.4f,%.4f,%.4f,%.4f,%.4f,%.4f,%.4f,%.4f,%.4f,%.4f,%.0f,%.0f,%s\n", head, tok, low, high, t[k], t[1], t[NR], (tok - t[k]) / t[k], prefill,
                         a[k], decode, d[k], peak, b[k], s[k] }'
    done
done
"$ballast" validate "$out"/predict-*.trace.csv >&2 || true
