#!/usr/bin/env bash
# Everything that only a GPU can tell, inside LIMIT seconds (480), from the bundle or a checkout: the tests on the device, compute-sanitizer on
# the tiny models, the profile, then models against their predictions and against FlexGen. What finds no time left is named in the results.
#
#   bench/gpu.sh [--dry-run] [tests] [sanitizer] [profile] [cases]      no name: all four
#
# Into RESULTS (bench/results): gpu-checks-MACHINE.csv, gpu-profile-MACHINE.json and gpu-cases-MACHINE.csv. In the environment:
#     LIMIT=480 MODELS="opt-6.7b opt-13b opt-30b" GPU=16GiB RAM=100GiB PROMPT=512 GEN=32 ROUNDS=4
#     PLAN_LATENCY=45 PLAN_BLOCK=4096   seconds that a plan of our own may take, so that it ends in time, and its most sequences
#     FLEXGEN_LIMIT=120         seconds that FlexGen may take for a case
#     SANITIZED=cuda_executor   the part of a test's name that compute-sanitizer runs
#     PYTHON=python3            one that has PyTorch; FlexGen's package is in build/bench/flexgen (bench/peers/install_flexgen.sh)
# --dry-run does it all with a tiny model on the emulation of a GPU, to see that the script works. Its numbers mean nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

dry=0
if [ "${1:-}" = --dry-run ]; then dry=1; shift; fi
if [ $dry = 1 ]; then
    export BALLAST_CUDA=${BALLAST_CUDA:-build/emu/libballast_cuda.so} MACHINE=dry-run
    MODELS=${MODELS:-tests/fixtures/opt-tiny-pre} GPU=${GPU:-512MiB} RAM=${RAM:-1GiB} PROMPT=${PROMPT:-8} GEN=${GEN:-4} ROUNDS=1
    export PLAN_BLOCK=${PLAN_BLOCK:-8}
    device=${DEVICE:-build/emu/device} SANITIZED=norm RESULTS=${RESULTS:-build/bench/gpu-dry-run}
fi
# shellcheck source=bench/lib.sh
. bench/lib.sh
limit=${LIMIT:-480} device=${device:-build/tests/device} results=${RESULTS:-bench/results} python=${PYTHON:-python3}
read -ra models_wanted <<<"${MODELS:-opt-6.7b opt-13b opt-30b}"
gpu=${GPU:-16GiB} ram=${RAM:-100GiB} prompt=${PROMPT:-512} gen=${GEN:-32}
mkdir -p "$results"

left() { echo $((limit - SECONDS)); }
# within MOST COMMAND...: stopped after MOST seconds, or when the time is over
within() {
    local most=$1
    shift
    [ "$(left)" -lt "$most" ] && most=$(left)
    [ "$most" -gt 0 ] || return 124
    timeout -k 5 "$most" "$@"
}

limited() { within "$(left)" "$@"; }

gpu_name=$("$ballast" devices -o csv | awk -F, '$1 == "compute" && $2 == "gpu" && $3 == "" { print $0 }' | sed -E 's/^compute,gpu,,,"?([^,"]*).*/\1/')
if [ -z "$gpu_name" ]; then
    say "no GPU: $("$ballast" devices -o csv | grep '^compute,gpu,')"
    exit 3
fi
[ $dry = 1 ] || machine=$(tr -cs 'A-Za-z0-9\n' '-' <<<"$gpu_name" | tr '[:upper:]' '[:lower:]')
hardware=$out/gpu-$machine.json
checks=$results/gpu-checks-$machine.csv cases=$results/gpu-cases-$machine.csv
head_line="# bench/gpu.sh${*:+ $*}, $("$ballast" version), $gpu_name"
[ $dry = 0 ] || head_line="$head_line, EMULATED: no number here means anything"

# -- tests -------------------------------------------------------------------------------------------------------------------

checks_begin() { [ -s "$checks" ] || printf '%s\ntime,machine,check,outcome,passed,failed,skipped,seconds\n' "$head_line" >"$checks"; }

# check NAME SECONDS COMMAND...: the command prints TAP on stdout; its outcome becomes a row.
check() {
    local name=$1 most=$2 status=0 start=$SECONDS outcome=passed tap=$out/gpu-$1.tap
    shift 2
    say "$name: at most $most s of the $(left) left"
    within "$most" "$@" >"$tap" 2>"$out/gpu-$name.log" || status=$?
    [ $status -eq 0 ] || outcome="failed: exit $status"
    [ $status -ne 124 ] && [ $status -ne 137 ] || outcome="out of time"
    local skipped passed failed
    skipped=$(grep -c '^ok .*# SKIP' "$tap" || true) failed=$(grep -c '^not ok' "$tap" || true)
    passed=$(($(grep -c '^ok ' "$tap" || true) - skipped))
    echo "$(stamp),$machine,$name,$outcome,$passed,$failed,$skipped,$((SECONDS - start))" >>"$checks"
    say "$name: $outcome: $passed passed, $failed failed, $skipped skipped (log $out/gpu-$name.log)"
    [ "$outcome" = passed ] || failures=$((failures + 1))
}

run_tests() { check tests 150 "$device"; }

find_sanitizer() {
    command -v compute-sanitizer && return
    local path
    for path in /usr/local/cuda*/bin/compute-sanitizer; do
        [ ! -x "$path" ] || { echo "$path"; return; }
    done
}

run_sanitizer() {
    local tool sanitizer
    sanitizer=$(find_sanitizer)
    if [ -z "$sanitizer" ] || [ $dry = 1 ]; then
        say "sanitizer: none here"
        echo "$(stamp),$machine,sanitizer,not found,0,0,0,0" >>"$checks"
        return
    fi
    for tool in memcheck racecheck; do
        check "$tool" 60 "$sanitizer" --tool "$tool" --error-exitcode 9 --log-file "$out/gpu-$tool.report" "$device" "${SANITIZED:-cuda_executor}"
    done
}

# -- the profile -------------------------------------------------------------------------------------------------------------

run_profile() {
    say "profile"
    if within 90 "$ballast" profile -o "$hardware" --scratch-dir "$out" -r "${ROUNDS:-4}" >&2; then
        cp "$hardware" "$results/gpu-profile-$machine.json"
    else
        say "profile: failed"
        failures=$((failures + 1))
    fi
}

# The rate of the largest pinned transfer up, in bytes per second.
pinned_up() {
    awk '/"read":/ { inside = 1 } inside && /"rate"/ { rate = $0 } inside && /\]/ { exit }
        END { match(rate, /"rate": "[^"]*/); split(substr(rate, RSTART + 9, RLENGTH - 9), part, " ")
              n = split("B/s kB/s MB/s GB/s TB/s", unit, " "); factor = 1
              for (i = 1; i <= n; i++) { if (part[2] == unit[i]) printf "%.0f", part[1] * factor; factor *= 1000 } }' "$hardware"
}

# -- cases -------------------------------------------------------------------------------------------------------------------

columns=time,machine,system,model,weights_from,policy_of,policy,prompt,gen,throughput_tok_s,prefill_s,decode_s,predicted_tok_s,relative_error,planned_gpu_bytes,peak_gpu_bytes,run_over_busiest,decode_bytes_per_s,share_of_pinned_up,outcome

cases_begin() { [ -s "$cases" ] || printf '%s\n%s\n' "$head_line" "$columns" >"$cases"; }

# skip SYSTEM MODEL FROM WHOSE OUTCOME: a row without numbers
skip() {
    say "$1 $2 from $3, policy of $4: $5"
    echo "$(stamp),$machine,$1,$2,$3,$4,,$prompt,$gen,,,,,,,,,,,$5" >>"$cases"
}

# From a trace: wall time over the busiest resource's, and the bytes per second that the decode's weights came up the link with.
from_trace() { # FILE DECODE_SECONDS
    grep -v '^#' "$1" | awk -F, -v s="$2" '
        NR > 1 && $2 != "resident" { busy[$3] += $10 - $9; if ($10 > end) end = $10
                                     if ($2 == "load_weights" && $4 > 0 && $3 ~ /->gpu/) bytes += $7 }
        END { for (r in busy) if (busy[r] > most) most = busy[r]
              printf "%.4f,%.0f", (most > 0 ? end / most : 0), (s > 0 ? bytes / s : 0) }'
}

# ours MODEL DIRECTORY FROM WHOSE OPTION...: one run of ballast, if it is predicted to end in time.
ours() {
    local name=$1 directory=$2 from=$3 whose=$4 status=0 latency
    shift 4
    local args=(-m "$directory" -H "$hardware" --budget "gpu=$gpu" --budget "ram=$ram" -p "$prompt" -n "$gen" "$@")
    "$ballast" predict "${args[@]}" -o csv >"$out/gpu-predict.csv" 2>"$out/gpu-case.log" || status=$?
    if [ $status -ne 0 ]; then
        skip ballast "$name" "$from" "$whose" "\"$(head -n 1 "$out/gpu-case.log" | tr -d '"')\""
        return
    fi
    p() { column "$1" <"$out/gpu-predict.csv"; }
    latency=$(p latency_s)
    # before it starts, memory is pinned and filled from the disk
    if awk -v t="$latency" -v b="$(p peak_bytes.ram)" -v l="$(left)" 'BEGIN { exit !(1.5 * t + b / 2e9 > l) }'; then
        skip ballast "$name" "$from" "$whose" "no time left: predicted $latency s"
        return
    fi
    say "ballast $name from $from, policy of $whose: $(p policy)"
    within "$(left)" "$ballast" run "${args[@]}" --scratch-dir "$out" --trace "$out/gpu-case.trace.csv" -o csv >"$out/gpu-run.csv" 2>"$out/gpu-case.log" || status=$?
    if [ $status -ne 0 ]; then
        skip ballast "$name" "$from" "$whose" "\"exit $status: $(tail -n 1 "$out/gpu-case.log" | tr -d '"')\""
        failures=$((failures + 1))
        return
    fi
    m() { column "$1" <"$out/gpu-run.csv"; }
    local ratio rate
    IFS=, read -r ratio rate <<<"$(from_trace "$out/gpu-case.trace.csv" "$(m decode_s)")"
    echo "$(stamp),$machine,ballast,$name,$from,$whose,\"$(m policy)\",$prompt,$gen,$(m throughput_tok_s),$(m prefill_s),$(m decode_s),$(m predicted_throughput_tok_s),$(m relative_error),$(p peak_bytes.gpu),$(m peak_bytes.gpu),$ratio,$rate,$(awk -v a="$rate" -v b="$(pinned_up)" 'BEGIN { printf "%.4f", (b > 0 ? a / b : 0) }'),ok" >>"$cases"
}

bytes_of() { awk -v s="$1" 'BEGIN { printf "%.0f", s * (s ~ /GiB/ ? 2 ^ 30 : s ~ /MiB/ ? 2 ^ 20 : 1) }'; }

# theirs MODEL FROM BATCH BATCHES PERCENT FLAG...: FlexGen itself with the same policy.
theirs() {
    local name=$1 from=$2 batch=$3 batches=$4 percent=$5 status=0
    shift 5
    if ! PYTHONPATH=build/bench/flexgen "$python" -c 'import torch, flexgen; torch.cuda.init()' 2>/dev/null; then
        skip flexgen "$name" "$from" flexgen "not found"
        return
    fi
    say "FlexGen $name from $from: $percent, $batch x $batches $*"
    # shellcheck disable=SC2086  # six words
    PYTHONPATH=build/bench/flexgen within "${FLEXGEN_LIMIT:-120}" "$python" bench/peers/flexgen_peer.py --model "$name" --percent $percent --gpu-batch-size "$batch" \
        --num-gpu-batches "$batches" --prompt "$prompt" --gen "$gen" --gpu-bytes "$(bytes_of "$gpu")" --offload-dir "$out/flexgen-offload" "$@" \
        >"$out/gpu-flexgen.csv" 2>"$out/gpu-case.log" || status=$?
    rm -rf "$out/flexgen-offload"
    if [ $status -ne 0 ]; then
        skip flexgen "$name" "$from" flexgen "\"exit $status: $(tail -n 1 "$out/gpu-case.log" | tr -d '"')\""
        return
    fi
    local prefill decode peak
    IFS=, read -r prefill decode peak <<<"$(tail -n 1 "$out/gpu-flexgen.csv")"
    echo "$(stamp),$machine,flexgen,$name,$from,flexgen,\"$percent $batch x $batches $*\",$prompt,$gen,$(awk -v n=$((batch * batches * gen)) -v s="$prefill" -v t="$decode" 'BEGIN { printf "%.4f", n / (s + t) }'),$prefill,$decode,,,,$peak,,,,ok" >>"$cases"
}

# FlexGen's policies for a T4, prompts of 512 and 32 tokens (FlexGen, table 15): batch|batches|percent|flags. It has none for OPT-13B, which gets
# those of OPT-30B, and none from disk for these models: there the weights that are not on the GPU go to disk.
published() {
    case $1 in
    *6.7b*) echo "2|1|100 0 100 0 100 0|"; echo "72|1|100 0 100 0 100 0|--compress-weight --compress-cache" ;;
    *tiny*) echo "2|2|20 80 0 100 0 100|" ;;
    *) echo "48|3|20 80 0 100 0 100|"; echo "16|20|20 80 0 100 100 0|--compress-weight --compress-cache" ;;
    esac
}
# What OPT-30B's policy is for OPT-6.7B, which fits the GPU: its weights streamed.
streamed="48|3|20 80 0 100 0 100|"

# The most batches, at most $2, with which a policy fits: the T4's machine had 208 GB of memory.
batches_that_fit() { # DIRECTORY BATCHES OPTION...
    local directory=$1 k=$2
    shift 2
    for (( ; k > 1; k--)); do
        "$ballast" predict -m "$directory" -H "$hardware" --budget "gpu=$gpu" --budget "ram=$ram" -p "$prompt" -n "$gen" --num-gpu-batches "$k" "$@" -o csv >/dev/null 2>&1 && break
    done
    echo "$k"
}

run_policy() { # NAME DIRECTORY FROM BATCH BATCHES PERCENT FLAGS
    local name=$1 directory=$2 from=$3 batch=$4 batches=$5 percent=$6 flags=()
    read -ra flags <<<"$7"
    if [ "$from" = disk ]; then
        local w
        read -ra w <<<"$percent"
        percent="${w[0]} 0 ${w[*]:2}"
    fi
    batches=$(batches_that_fit "$directory" "$batches" -b "$batch" --percent "$percent" "${flags[@]}")
    ours "$name" "$directory" "$from" flexgen -b "$batch" --num-gpu-batches "$batches" --percent "$percent" "${flags[@]}"
    theirs "$name" "$from" "$batch" "$batches" "$percent" "${flags[@]}"
}

run_model() { # NAME
    local name=$1 directory=$1 from policies batch batches percent flags own
    if [ ! -d "$name" ]; then
        directory=$(machine_profile=$hardware model "$name") || { skip ballast "$name" - - "no weights"; return; }
    else
        name=$(basename "$name")
    fi
    policies=$(published "$name")
    case $name in *6.7b*) policies=$(printf '%s\n%s' "$streamed" "$policies") ;; esac
    for from in memory disk; do
        while IFS='|' read -r batch batches percent flags; do
            [ "$from" = disk ] && [ "${percent%% *}" = 100 ] && continue # nothing comes from there
            run_policy "$name" "$directory" "$from" "$batch" "$batches" "$percent" "$flags"
        done <<<"$policies"
        own=(--latency "${PLAN_LATENCY:-45}" --max-block "${PLAN_BLOCK:-4096}")
        [ "$from" = memory ] || own+=(--set "w.ram=0%")
        ours "$name" "$directory" "$from" ballast "${own[@]}"
        ours "$name" "$directory" "$from" "ballast in 16 bits" "${own[@]}" --no-compress-weight --no-compress-cache
    done
    case $directory in "$models"/*) rm -rf "$directory" ;; esac # the next one needs the space
}

run_cases() {
    local name
    [ -s "$hardware" ] || run_profile
    [ -s "$hardware" ] || return 0 # said already
    for name in "${models_wanted[@]}"; do
        if [ "$(left)" -gt 20 ]; then run_model "$name"; else skip ballast "$name" - - "no time left"; fi
    done
}

failures=0
[ $# -gt 0 ] || set -- tests sanitizer profile cases
for step in "$@"; do
    case $step in
    tests) checks_begin; run_tests ;;
    sanitizer) checks_begin; run_sanitizer ;;
    profile) run_profile ;;
    cases) cases_begin; run_cases ;;
    *) say "$step: expected tests, sanitizer, profile or cases"; exit 1 ;;
    esac
done
say "done in $SECONDS s: $results/gpu-*-$machine.*, $failures failed"
[ "$failures" -eq 0 ] || exit 3
