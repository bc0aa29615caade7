#!/usr/bin/env bash
# Seconds that planning OPT-175B on the T4 profile takes on one core, process start included.
set -euo pipefail
cd "$(dirname "$0")/.."
. bench/lib.sh
echo "time,machine,model,hardware,seconds,lps"
for _ in 1 2 3 4 5; do
    start=$(date +%s.%N)
    lps=$(taskset -c 0 "$ballast" plan -m opt-175b -H t4-gcp -p 512 -n 32 -o csv | column lps)
    echo "$(stamp),$machine,opt-175b,t4-gcp,$(awk -v a="$start" -v b="$(date +%s.%N)" 'BEGIN { printf "%.3f", b - a }'),$lps"
done
