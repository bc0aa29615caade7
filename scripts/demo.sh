#!/usr/bin/env bash
# The whole path once: profile this machine, plan, write a model, run it from the disk, trace, validate, plot, report.
#
#   scripts/demo.sh            OPT-1.3B with random weights in 1 GiB of RAM, 512 + 32 tokens, results in build/demo/
#   MODEL=opt-2.7b RAM=2GiB PROMPT=256 GEN=16 LATENCY=60 scripts/demo.sh
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/csv.sh

MODEL=${MODEL:-opt-1.3b} RAM=${RAM:-1GiB} PROMPT=${PROMPT:-512} GEN=${GEN:-32} LATENCY=${LATENCY:-75}
out=build/demo
ballast=build/ballast
mkdir -p "$out"

say() { echo "demo: $*" >&2; }

# cell FILE COLUMN: of a result with one row
cell() { column "$2" <"$1"; }

common=(-m "$MODEL" -p "$PROMPT" -n "$GEN" --budget "ram=$RAM")

say "profiling this machine (about a minute)"
"$ballast" profile -o "$out/machine.json" --scratch-dir "$out" >"$out/profile.txt"

say "planning $MODEL in $RAM of RAM: prompts of $PROMPT tokens, $GEN generated, at most $LATENCY s"
"$ballast" plan "${common[@]}" -H "$out/machine.json" --latency "$LATENCY" --policy-out "$out/policy.json" >"$out/plan.txt"

say "running it (the model is written once into $out/models)"
"$ballast" run "${common[@]}" -H "$out/machine.json" --policy "$out/policy.json" --weights random:1 --weights-dir "$out/models" \
    --scratch-dir "$out" --trace "$out/measured.csv" --chrome-trace "$out/measured.json" -o csv >"$out/run.csv"
"$ballast" simulate "${common[@]}" -H "$out/machine.json" --policy "$out/policy.json" --trace "$out/predicted.csv" -o csv >"$out/simulate.csv"

say "validating and plotting"
"$ballast" validate "$out/measured.csv" >"$out/validate.txt" || true
"$ballast" predict "${common[@]}" -H "$out/machine.json" --policy "$out/policy.json" -o csv >"$out/predict.csv"
{
    echo "label,predicted_s,measured_s"
    for phase in prefill decode; do
        echo "$phase,$(cell "$out/predict.csv" "${phase}_s"),$(cell "$out/run.csv" "${phase}_s")"
        for resource in "disk->ram" "ram->disk" "cpu compute"; do
            echo "$phase $resource,$(cell "$out/predict.csv" "busy_s.$phase.$resource"),$(cell "$out/run.csv" "busy_s.$phase.$resource")"
        done
    done | awk -F, '$2 > 0 && $3 > 0'
} >"$out/scatter.csv"
{
    echo "label,batch,throughput_tok_s"
    for b in 1 2 4 8 16 32 64; do
        if "$ballast" plan "${common[@]}" -H "$out/machine.json" -b "$b" --num-gpu-batches 1 -o csv >"$out/point.csv" 2>/dev/null; then
            echo "predicted best,$b,$(cell "$out/point.csv" throughput_tok_s)"
        fi
    done
} >"$out/throughput.csv"
rm -f "$out/point.csv"
"$ballast" plot timeline "$out/predicted.csv" "$out/measured.csv" -o "$out/timeline.png"
"$ballast" plot memory "$out/measured.csv" -o "$out/memory.png"
"$ballast" plot scatter "$out/scatter.csv" -o "$out/scatter.png"
"$ballast" plot throughput "$out/throughput.csv" -o "$out/throughput.png"

mib() { awk -v b="$1" 'BEGIN { printf "%.1f MiB", b / 1048576 }'; }
{
    echo "ballast demo: $MODEL, random weights, prompts of $PROMPT tokens, $GEN generated, RAM budget $RAM"
    echo
    cat "$out/profile.txt"
    echo
    echo "policy       $(cell "$out/predict.csv" policy)"
    printf '%-12s %12s %12s\n' "" predicted measured
    for q in throughput_tok_s latency_s prefill_s decode_s; do
        printf '%-12s %12.4g %12.4g\n' "${q/throughput_tok_s/tokens/s}" "$(cell "$out/predict.csv" $q)" "$(cell "$out/run.csv" $q)"
    done
    for tier in ram disk; do
        printf '%-12s %12s %12s\n' "peak $tier" "$(mib "$(cell "$out/predict.csv" "peak_bytes.$tier")")" "$(mib "$(cell "$out/run.csv" "peak_bytes.$tier")")"
    done
    for phase in prefill decode; do
        printf '%-12s %12s %12s\n' "$phase by" "$(cell "$out/predict.csv" "bound_by.$phase")" "$(cell "$out/run.csv" "bound_by.$phase")"
    done
    echo
    sed -n '/worth/,/^$/!d;p' "$out/plan.txt" | head -2
    grep -E '^\| (ram|disk|cpu)' "$out/plan.txt" | grep -v '| 0 |' || true
    echo
    grep -E "^(PASS|FAIL)" "$out/validate.txt"
    echo
    echo "files in $out:"
    echo "  machine.json policy.json plan.txt validate.txt   what went in, and what was found"
    echo "  measured.csv predicted.csv measured.json         traces (the .json opens in ui.perfetto.dev)"
    echo "  timeline.png memory.png scatter.png throughput.png"
} >"$out/report.txt"
cat "$out/report.txt"
