#!/usr/bin/env bash
# What `ballast fit` makes of real runs: fitted to every other policy of bench/predict.sh's first round, tried on those in between.
#
#   bench/predict.sh > predict.csv && bench/fit.sh [MODEL]
set -euo pipefail
cd "$(dirname "$0")/.."
. bench/lib.sh

name=${1:-opt-2.7b}
fitted=() held=()
for i in $(seq 0 11); do
    trace=$out/predict-$name-$i-1.trace.csv
    [ -s "$trace" ] || { say "no $trace: run bench/predict.sh first"; exit 1; }
    if [ $((i % 2)) -eq 0 ]; then fitted+=("$trace"); else held+=(--hold-out "$trace"); fi
done
"$ballast" fit "${fitted[@]}" "${held[@]}" -m "$(model "$name")" -H "$out/machine.json" -o "$out/fitted-$name.json"
