#!/usr/bin/env bash
# Every measurement, one after the other, into bench/results/NAME-MACHINE.csv. About 40 minutes and 45 GB of disk; run nothing else
# meanwhile. Give names to run some: bench/run.sh roofline predict
set -euo pipefail
cd "$(dirname "$0")/.."
. bench/lib.sh

results=bench/results
# measure NAME COMMAND...: keeps the old result if the command fails.
measure() {
    local name=$1; shift
    [ ${#wanted[@]} -eq 0 ] || [[ " ${wanted[*]} " == *" $name "* ]] || return 0
    say "$name: $*"
    "$@" >"$out/$name.csv.new"
    { echo "# $* (bench/run.sh $name), $("$ballast" version)"; cat "$out/$name.csv.new"; } >"$results/$name-$machine.csv"
}
wanted=("$@")
mkdir -p "$results"
measure kernels build/bench/bench_kernels
measure engine build/bench/bench_engine
measure io build/bench/bench_io
measure roofline bench/roofline.sh
measure predict bench/predict.sh
measure diagonal bench/diagonal_run.sh
measure opt13b bench/opt13b.sh
measure plan175b bench/plan.sh
measure plan taskset -c 0 build/bench/bench_plan
measure peers bench/peers/run.sh
