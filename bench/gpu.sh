#!/usr/bin/env bash
# Everything that only a GPU can tell, inside LIMIT seconds (480), from the bundle or a checkout: the tests on the device, compute-sanitizer on
# the tiny models, the profile, then models against their predictions and against FlexGen. What finds no time left is named in the results.
#
#   bench/gpu.sh [--dry-run] [tests] [sanitizer] [profile] [cases]      no name: all four
#
# Into RESULTS (bench/results): gpu-checks-MACHINE.csv, gpu-profile-MACHINE.json, gpu-cases-MACHINE.csv, and what these say of the targets in
# gpu-targets-MACHINE.csv. Rows are written as they come: a run that is cut short leaves what it had. gpu-log-MACHINE.txt has the last lines of
# what failed. In the environment:
#     LIMIT=480                 seconds for all; of them at most TESTS=90, SANITIZER=40 for each of its tools, PROFILE=90; the models share the rest
#     MODELS="opt-6.7b opt-13b opt-30b" GPU=16GiB RAM=100GiB PROMPT=512 GEN=32 ROUNDS=3
#     MEMORY=128GiB             where the kernel says less than the machine can have, as where memory is given when it is used; no default
#     TEST_LIMIT=30             seconds that one test may take on a GPU; BALLAST_TEST_ALL=1 for every format in every placement, a quarter of them else
#     PLAN_LATENCY=25 PLAN_BLOCK=4096   seconds that a plan of our own may take, so that it ends in time, and its most sequences
#     FLEXGEN_LIMIT=60 FLEXGEN_STEPS=6  seconds that FlexGen may take for a case, and steps after which it projects the rest, as it does itself
#     SANITIZED="cuda_kernels cuda_executor::odd"   parts of the names of the tests that compute-sanitizer runs
#     PYTHON=python3            one that has PyTorch, and cuBLAS if nothing else has; FlexGen's package is in build/bench/flexgen
#                               (bench/peers/install_flexgen.sh)
# --dry-run does it all with a tiny model on the emulation of a GPU, to see that the script works. Its numbers mean nothing.
set -uo pipefail # and not -e: what fails is said in its row, and the next one runs
cd "$(dirname "$0")/.." || exit

dry=0
if [ "${1:-}" = --dry-run ]; then dry=1; shift; fi
if [ $dry = 1 ]; then
    export BALLAST_CUDA=${BALLAST_CUDA:-build/emu/libballast_cuda.so} MACHINE=dry-run
    MODELS=${MODELS:-tests/fixtures/opt-tiny-pre} GPU=${GPU:-512MiB} RAM=${RAM:-1GiB} PROMPT=${PROMPT:-8} GEN=${GEN:-4} ROUNDS=1 TESTS=${TESTS:-300} LIMIT=${LIMIT:-600}
    export PLAN_BLOCK=${PLAN_BLOCK:-8}
    device=${DEVICE:-build/emu/device} RESULTS=${RESULTS:-build/bench/gpu-dry-run}
    case $(realpath -m "$RESULTS")/ in
    "$PWD"/bench/*) echo "gpu.sh: $RESULTS: expected a folder outside bench/: a dry run has no results to commit" >&2; exit 1 ;;
    esac
fi
# shellcheck source=bench/lib.sh
. bench/lib.sh
limit=${LIMIT:-480} device=${device:-build/tests/device} results=${RESULTS:-bench/results} python=${PYTHON:-python3}
read -ra models_wanted <<<"${MODELS:-opt-6.7b opt-13b opt-30b}"
gpu=${GPU:-16GiB} ram=${RAM:-100GiB} prompt=${PROMPT:-512} gen=${GEN:-32}
mkdir -p "$results"

deadline=$limit # of the model at work, or of all
left() { echo $((deadline - SECONDS)); }
# within MOST COMMAND...: stopped after MOST seconds, or when the time is over
within() {
    local most=$1
    shift
    [ "$(left)" -lt "$most" ] && most=$(left)
    [ "$most" -gt 0 ] || return 124
    timeout -k 5 "$most" "$@"
}

limited() { within "$(left)" "$@"; }

sampler='' written=''
clean() { # also when it is stopped: a model takes up to 60 GB
    [ -z "$sampler" ] || kill "$sampler" 2>/dev/null
    [ -z "$written" ] || rm -rf "$written"*
    rm -rf "$out/flexgen-offload"
}
trap clean EXIT
trap 'exit 143' TERM INT

# CUDA's libraries are not in the bundle. Where the loader does not find cuBLAS, PyTorch has it, or a toolkit.
find_cublas() {
    local folder searched
    IFS=: read -ra searched <<<"${LD_LIBRARY_PATH:-}"
    for folder in ${searched[@]+"${searched[@]}"}; do
        compgen -G "$folder/libcublas.so.1[23]" >/dev/null && return
    done
    ldconfig -p 2>/dev/null | grep 'libcublas\.so\.1[23] ' >/dev/null && return # not -q: pipefail
    for folder in $("$python" -c 'import nvidia, pathlib; print(*(p for n in nvidia.__path__ for p in pathlib.Path(n).glob("*/lib")))' 2>/dev/null) /usr/local/cuda*/lib64; do
        compgen -G "$folder/libcublas.so.1[23]" >/dev/null || continue
        export LD_LIBRARY_PATH=$folder${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
        say "cuBLAS: $folder"
        return
    done
}
find_cublas

gpu_name=$("$ballast" devices -o csv | awk -F, '$1 == "compute" && $2 == "gpu" && $3 == "" { print $0 }' | sed -E 's/^compute,gpu,,,"?([^,"]*).*/\1/')
if [ -z "$gpu_name" ]; then
    say "no GPU: $("$ballast" devices -o csv | grep '^compute,gpu,')"
    exit 3
fi
case $dry$gpu_name in
0*emulation*) say "$gpu_name: expected a GPU, or --dry-run"; exit 3 ;;
1*emulation*) ;;
1*) say "$gpu_name: a dry run is for the emulation"; exit 1 ;;
esac
[ $dry = 1 ] || machine=$(tr -cs 'A-Za-z0-9\n' '-' <<<"$gpu_name" | tr '[:upper:]' '[:lower:]')
hardware=$out/gpu-$machine.json
checks=$results/gpu-checks-$machine.csv cases=$results/gpu-cases-$machine.csv targets=$results/gpu-targets-$machine.csv log=$results/gpu-log-$machine.txt
head_line="# bench/gpu.sh${*:+ $*}, $("$ballast" version), $gpu_name"
[ $dry = 0 ] || head_line="$head_line, EMULATED: no number here means anything"

# failed WHAT FILE...: counts it, and keeps the last lines of the files.
failed() {
    local what=$1
    shift
    failures=$((failures + 1))
    { echo "== $(stamp) $what"; tail -n 40 "$@" 2>/dev/null; } >>"$log"
}

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
    [ $status -eq 0 ] || ! grep -qs 'Device not supported' "$out/gpu-$name.report" || outcome="not supported here" # by the sanitizer
    local skipped passed failed
    skipped=$(grep -c '^ok .*# SKIP' "$tap" || true) failed=$(grep -c '^not ok' "$tap" || true)
    passed=$(($(grep -c '^ok ' "$tap" || true) - skipped))
    echo "$(stamp),$machine,$name,$outcome,$passed,$failed,$skipped,$((SECONDS - start))" >>"$checks"
    say "$name: $outcome: $passed passed, $failed failed, $skipped skipped (log $out/gpu-$name.log)"
    case $outcome in
    passed | "not supported here") ;;
    *) failed "$name: $outcome" "$tap" "$out/gpu-$name.log" "$out/gpu-$name.report" ;;
    esac
}

run_tests() {
    local limit=0 # the emulation takes its time
    [ $dry = 1 ] || limit=${TEST_LIMIT:-30}
    check tests "${TESTS:-90}" "$device" --limit="$limit"
}

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
        # shellcheck disable=SC2086  # words
        check "$tool" "${SANITIZER:-40}" "$sanitizer" --tool "$tool" --error-exitcode 9 --target-processes all --log-file "$out/gpu-$tool.report" "$device" ${SANITIZED:-cuda_kernels cuda_executor::odd}
    done
}

# -- the profile -------------------------------------------------------------------------------------------------------------

run_profile() {
    say "profile"
    if within "${PROFILE:-90}" "$ballast" profile -o "$hardware" --scratch-dir "$out" -r "${ROUNDS:-3}" >&2 2> >(tee "$out/gpu-profile.log" >&2); then
        cp "$hardware" "$results/gpu-profile-$machine.json"
    else
        say "profile: failed"
        failed profile "$out/gpu-profile.log"
    fi
}

# rate KEY N: the largest rate of the profile's N-th curve of that name, in SI units: the first "read" is that of the GPU's link, pinned.
rate() {
    awk -v key="\"$1\":" -v n="$2" '
        index($0, key) { inside = ++seen == n }
        inside && match($0, /"rate": "[^"]*/) {
            split(substr($0, RSTART + 9, RLENGTH - 9), part, " ")
            prefix = substr(part[2], 1, 1)
            value = part[1] * (prefix == "T" ? 1e12 : prefix == "G" ? 1e9 : prefix == "M" ? 1e6 : prefix == "k" ? 1e3 : 1)
            if (value > most) most = value }
        inside && /\]/ { inside = 0 }
        END { printf "%.0f", most }' "$hardware"
}

# -- cases -------------------------------------------------------------------------------------------------------------------

columns=time,machine,system,model,weights_from,case,policy,prompt,gen,throughput_tok_s,prefill_s,decode_s,predicted_tok_s,relative_error,planned_gpu_bytes,peak_gpu_bytes,device_used_bytes,run_over_busiest,busiest,decode_up_bytes_per_s,share_of_pinned_up,prefill_flops_per_s,share_of_cublas,outcome

cases_begin() { [ -s "$cases" ] || printf '%s\n%s\n' "$head_line" "$columns" >"$cases"; }

# What the functions below work on.
name='' directory='' from='' model_bytes=0 planned_ram=0 machine_args=()

quoted() { printf '"%s"' "$(tr -d '"\n' <<<"$*")"; }

# skip SYSTEM CASE OUTCOME...: a row without numbers
skip() {
    local system=$1 case=$2
    shift 2
    say "$system $name from $from, $case: $*"
    echo "$(stamp),$machine,$system,$name,$from,$case,,$prompt,$gen,,,,,,,,,,,,,,,$(quoted "$*")" >>"$cases"
}

# From a trace: wall time over the busiest resource's, which that is, bytes that came up to the GPU in decode, FLOPs of the prefill on the GPU.
from_trace() { # FILE
    grep -v '^#' "$1" | awk -F, '
        NR > 1 { busy[$3] += $10 - $9; if ($10 > end) end = $10
                 if ($4 > 0 && $3 ~ /->gpu/) up += $7
                 if ($4 == 0 && $3 ~ /gpu compute/) flops += $8 }
        END { for (r in busy) if (busy[r] > most) { most = busy[r]; which = r }
              gsub(/"/, "", which); printf "%.4f,%s,%.0f,%.0f", (most > 0 ? end / most : 0), which, up, flops }'
}

over() { awk -v a="${1:-0}" -v b="${2:-0}" -v f="${3:-%.4f}" 'BEGIN { printf f, (b > 0 ? a / b : 0) }'; }

bytes_of() { awk -v s="$1" 'BEGIN { printf "%.0f", s * (s ~ /TiB/ ? 2 ^ 40 : s ~ /GiB/ ? 2 ^ 30 : s ~ /MiB/ ? 2 ^ 20 : s ~ /KiB/ ? 2 ^ 10 : 1) }'; }
# What the kernel says is available, with what it does not know of.
available() {
    awk -v all="$(bytes_of "${MEMORY:-0}")" '/^MemTotal/ { total = $2 * 1024 } /^MemAvailable/ { left = $2 * 1024 }
        END { printf "%.0f", (all > total ? left + all - total : left) }' /proc/meminfo
}
free_disk() { df -B1 --output=avail "$out" | tail -n 1 | tr -d ' '; }
# fits HAVE NEED: both in bytes
fits() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a >= b) }'; }
gib() { awk -v b="$1" 'BEGIN { printf "%.1f GiB", b / 2 ^ 30 }'; }

# The most memory in use on the device, whoever uses it: nvidia-smi, four times a second, where there is one.
sample_device() {
    device_used=''
    : >"$out/gpu-used"
    command -v nvidia-smi >/dev/null || return 0
    nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits -lms 250 >"$out/gpu-used" 2>/dev/null &
    sampler=$!
}
end_sample() {
    [ -n "$sampler" ] || return 0
    kill "$sampler" 2>/dev/null
    wait "$sampler" 2>/dev/null
    sampler=''
    device_used=$(awk '$1 + 0 > most { most = $1 + 0 } END { printf "%.0f", most * 2 ^ 20 }' "$out/gpu-used")
}

# ours CASE OPTION...: one run of ballast, if it is predicted to end in time and there is room for it.
ours() {
    local case=$1 status=0 ratio busiest up flops decode prefill policy
    shift
    [ "$(left)" -gt 3 ] || { skip ballast "$case" "no time left"; return; }
    local args=(-m "$directory" "${machine_args[@]}" -p "$prompt" -n "$gen" "$@")
    planned_ram=0
    if ! within 60 "$ballast" predict "${args[@]}" -o csv >"$out/gpu-predict.csv" 2>"$out/gpu-case.log"; then
        skip ballast "$case" "$(head -n 1 "$out/gpu-case.log")"
        return
    fi
    p() { column "$1" <"$out/gpu-predict.csv"; }
    planned_ram=$(p peak_bytes.ram) policy=$(p policy)
    # before it starts, memory is pinned and filled from the disk
    local seconds disk
    seconds=$(awk -v t="$(p latency_s)" -v pin="$(p pinning_s)" -v b="$planned_ram" -v d="$(rate read 2)" 'BEGIN { printf "%.0f", 1.3 * (t + pin + b / (d > 0 ? d : 1e9)) + 5 }')
    # what is not in the model's own files: 4-bit weights, cache, activations
    disk=$(awk -v b="$(p peak_bytes.disk)" -v m="$model_bytes" -v c="$policy" 'BEGIN { printf "%.0f", (c ~ /--compress-weight/ ? b : b > m ? b - m : 0) }')
    if [ "$seconds" -gt "$(left)" ] && [ $dry = 0 ]; then
        skip ballast "$case" "no time left: about $seconds s, $(left) left"
        return
    fi
    if ! fits "$(available)" $((planned_ram + (1 << 30))); then
        skip ballast "$case" "no memory: $(gib "$planned_ram") and 1 GiB of $(gib "$(available)")"
        return
    fi
    if ! fits "$(free_disk)" $((disk + (1 << 30))); then
        skip ballast "$case" "no room on the disk: $(gib "$disk") and 1 GiB of $(gib "$(free_disk)")"
        return
    fi
    say "ballast $name from $from, $case, about $seconds s of $(left): $policy"
    sample_device
    within "$(left)" "$ballast" run "${args[@]}" --scratch-dir "$out" --trace "$out/gpu-case.trace.csv" -o csv >"$out/gpu-run.csv" 2>"$out/gpu-case.log" || status=$?
    end_sample
    if [ $status -ne 0 ]; then
        skip ballast "$case" "exit $status: $(tail -n 1 "$out/gpu-case.log")"
        failed "ballast $name from $from, $case: exit $status" "$out/gpu-case.log"
        return
    fi
    m() { column "$1" <"$out/gpu-run.csv"; }
    IFS=, read -r ratio busiest up flops <<<"$(from_trace "$out/gpu-case.trace.csv")"
    decode=$(m decode_s) prefill=$(m prefill_s)
    up=$(over "$up" "$decode" %.0f) flops=$(over "$flops" "$prefill" %.0f)
    echo "$(stamp),$machine,ballast,$name,$from,$case,$(quoted "$(m policy)"),$prompt,$gen,$(m throughput_tok_s),$prefill,$decode,$(m predicted_throughput_tok_s),$(m relative_error),$(p peak_bytes.gpu),$(m peak_bytes.gpu),$device_used,$ratio,$busiest,$up,$(over "$up" "$(rate read 1)"),$flops,$(over "$flops" "$(rate f16 1)"),ok" >>"$cases"
}

# FlexGen and a PyTorch that finds the GPU. Asked once: it takes PyTorch's start.
flexgen_found=''
find_flexgen() {
    if [ -z "$flexgen_found" ]; then
        flexgen_found=no
        ! PYTHONPATH=build/bench/flexgen within 60 "$python" -c 'import torch, flexgen.flex_opt; torch.cuda.init()' 2>"$out/gpu-flexgen.log" || flexgen_found=yes
        [ $flexgen_found = yes ] || { echo "== FlexGen is not found"; tail -n 3 "$out/gpu-flexgen.log"; } >>"$log"
    fi
    [ $flexgen_found = yes ]
}

# theirs CASE BATCH BATCHES PERCENT FLAG...: FlexGen itself with the policy that `ours` has just run, or not.
theirs() {
    local case=$1 batch=$2 batches=$3 percent=$4 status=0 memory disk w prefill decode peak steps
    shift 4
    [ "$(left)" -gt 3 ] || { skip flexgen "$case" "no time left"; return; }
    find_flexgen || { skip flexgen "$case" "not found"; return; }
    read -ra w <<<"$percent"
    # its pinned blocks are rounded up to powers of two, and four copy threads take 2 GiB each; it writes its weights to the disk itself
    memory=$(awk -v b="$planned_ram" 'BEGIN { printf "%.0f", 1.4 * b + 10 * 2 ^ 30 }')
    disk=$(awk -v b="$model_bytes" -v d=$((100 - w[0] - w[1])) 'BEGIN { printf "%.0f", b * d / 100 }')
    if ! fits "$(available)" "$memory"; then
        skip flexgen "$case" "no memory: about $(gib "$memory") of $(gib "$(available)")"
        return
    fi
    if ! fits "$(free_disk)" $((disk + (1 << 30))); then
        skip flexgen "$case" "no room on the disk: $(gib "$disk") and 1 GiB of $(gib "$(free_disk)")"
        return
    fi
    say "FlexGen $name from $from, $case: $percent, $batch x $batches $*"
    sample_device
    # shellcheck disable=SC2086  # six words
    PYTHONPATH=build/bench/flexgen within "${FLEXGEN_LIMIT:-60}" "$python" bench/peers/flexgen_peer.py --model "$name" --percent $percent --gpu-batch-size "$batch" \
        --num-gpu-batches "$batches" --prompt "$prompt" --gen "$gen" --steps "${FLEXGEN_STEPS:-6}" --gpu-bytes "$(bytes_of "$gpu")" --offload-dir "$out/flexgen-offload" "$@" \
        >"$out/gpu-flexgen.csv" 2>"$out/gpu-case.log" || status=$?
    end_sample
    rm -rf "$out/flexgen-offload"
    if [ $status -ne 0 ]; then
        skip flexgen "$case" "exit $status: $(tail -n 1 "$out/gpu-case.log")"
        { echo "== $(stamp) FlexGen $name from $from, $case: exit $status"; tail -n 40 "$out/gpu-case.log"; } >>"$log"
        return
    fi
    IFS=, read -r prefill decode peak steps <<<"$(tail -n 1 "$out/gpu-flexgen.csv")"
    echo "$(stamp),$machine,flexgen,$name,$from,$case,$(quoted "$percent $batch x $batches $*"),$prompt,$gen,$(awk -v n=$((batch * batches * gen)) -v s="$prefill" -v t="$decode" 'BEGIN { printf "%.4f", n / (s + t) }'),$prefill,$decode,,,,$peak,$device_used,,,,,,,$(quoted "ok$([ "$steps" = "$gen" ] || echo ", projected from $steps of $gen steps")")" >>"$cases"
}

# FlexGen's policies for a T4, prompts of 512 and 32 tokens (FlexGen, table 15, with the switches that papers/flexgen has): case|batch|batches|percent|
# flags. It has none for OPT-13B, which gets those of OPT-30B, and none from disk for these models: there the weights that are not on the GPU go to
# disk. OPT-6.7B's keep all on the GPU, so it runs OPT-30B's as well.
published() {
    local large="flexgen|48|3|20 80 0 100 0 100|--cpu-cache-compute" large_c="flexgen compressed|16|20|20 80 0 100 100 0|--compress-cache"
    case $name in
    *6.7b*)
        echo "${large/flexgen/flexgen for 30b}"
        echo "flexgen|2|1|100 0 100 0 100 0|"
        echo "flexgen compressed|72|1|100 0 100 0 100 0|--compress-weight --compress-cache --no-overlap" ;;
    *tiny*) echo "flexgen|2|2|20 80 0 100 0 100|--cpu-cache-compute"; echo "flexgen compressed|2|2|20 80 0 100 100 0|--compress-cache" ;;
    *) echo "$large"; echo "$large_c" ;;
    esac
}
# Nothing but weights over the link: all of them in memory, all else on the GPU.
streamed() { case $name in *30b*) echo 8 ;; *tiny*) echo 2 ;; *) echo 16 ;; esac; }

# The most batches, at most $1, with which a policy fits: the T4's machine had 208 GB of memory.
batches_that_fit() { # BATCHES OPTION...
    local k=$1
    shift
    for (( ; k > 1; k--)); do
        within 20 "$ballast" predict -m "$directory" "${machine_args[@]}" -p "$prompt" -n "$gen" --num-gpu-batches "$k" "$@" -o csv >/dev/null 2>&1 && break
    done
    echo "$k"
}

run_policy() { # CASE BATCH BATCHES PERCENT FLAGS
    local case=$1 batch=$2 batches=$3 percent=$4 flags=() w
    read -ra flags <<<"$5"
    read -ra w <<<"$percent"
    if [ "$from" = disk ]; then
        [ "${w[0]}" != 100 ] || return 0 # nothing comes from there
        percent="${w[0]} 0 ${w[*]:2}"
    fi
    batches=$(batches_that_fit "$batches" -b "$batch" --percent "$percent" ${flags[@]+"${flags[@]}"})
    ours "$case" -b "$batch" --num-gpu-batches "$batches" --percent "$percent" ${flags[@]+"${flags[@]}"}
    theirs "$case" "$batch" "$batches" "$percent" ${flags[@]+"${flags[@]}"}
}

run_plans() {
    local own=(--latency "${PLAN_LATENCY:-25}" --max-block "${PLAN_BLOCK:-4096}")
    [ "$from" = memory ] || own+=(--set "w.ram=0%")
    ours plan "${own[@]}"
    ours "plan in 16 bits" "${own[@]}" --no-compress-weight --no-compress-cache
}

# The first policy of each kind comes first: what finds no time is the least that is lost.
run_from() { # memory | disk
    local case batch batches percent flags first=1
    from=$1
    [ "$from" = disk ] || ours streamed -b "$(streamed)" --num-gpu-batches 1 --percent "0 100 100 0 100 0"
    while IFS='|' read -r case batch batches percent flags <&3; do
        run_policy "$case" "$batch" "$batches" "$percent" "$flags"
        [ $first = 0 ] || run_plans
        first=0
    done 3< <(published)
}

size_of() { "$ballast" inspect -m "$1" -o csv | column bytes | awk '{ sum += $1 } END { printf "%.0f", sum }'; } # MODEL

# Is there room on the disk for the model's weights? They are removed before the next one's are written.
has_room() { # MODEL
    local bytes
    [ ! -d "$1" ] && [ ! -d "$models/$1-random-1" ] || return 0
    bytes=$(size_of "$1")
    fits "$(free_disk)" $((bytes + (2 << 30))) && return
    skip ballast - "no room on the disk: $(gib "$bytes") and 2 GiB of $(gib "$(free_disk)")"
    return 1
}

# Seconds to write a model's weights, at the profile's rate.
writing_s() { # MODEL
    if [ -d "$1" ] || [ -d "$models/$1-random-1" ]; then echo 0; return; fi
    awk -v b="$(size_of "$1")" -v w="$(rate write 2)" 'BEGIN { printf "%.0f", b / (w > 0 ? w : 1e9) + 0.5 }'
}

run_model() { # NAME
    local source
    name=$1 directory=$1 from=- model_bytes=0
    if [ ! -d "$name" ]; then
        model_bytes=$(size_of "$name")
        [ -d "$models/$name-random-1" ] || written=$models/$name-random-1
        directory=$(machine_profile=$hardware model "$name") || { skip ballast - "no weights: they took too long, or the disk is full"; clean; written=''; return; }
    else
        name=$(basename "$name")
    fi
    for source in memory disk; do run_from $source; done
    [ -z "$written" ] || rm -rf "$written"* # the next one needs the space
    written=''
}

# shellcheck disable=SC2154  # csv_cells: scripts/csv.sh
write_targets() { { echo "$head_line"; awk "$csv_cells$(cat bench/gpu_targets.awk)" "$cases"; } >"$targets"; }

# The capacity of the profile's tier of that name, in bytes.
capacity() { bytes_of "$(sed -n "s/.*\"name\": \"$1\".*\"capacity\": \"\([^\"]*\)\".*/\1/p" "$hardware")"; }

# The profile with the budgets, of which the host's is no more than it has.
find_machine() {
    machine_args=(-H "$hardware")
    [ -z "${MEMORY:-}" ] || machine_args+=(--hardware-set "ram.capacity=$(awk -v b="$(bytes_of "$MEMORY")" 'BEGIN { printf "%.0f", 0.9 * b }') B")
    if [ -z "${MEMORY:-}" ] && ! fits "$(capacity ram)" "$(bytes_of "$ram")"; then
        say "a budget of $(gib "$(capacity ram)") in place of $ram: this machine has no more (MEMORY, if it has)"
        ram="$(capacity ram) B"
    fi
    machine_args+=(--budget "gpu=$gpu" --budget "ram=$ram")
}

run_cases() {
    local i model n share writing feasible=()
    # of a first part of this run, whose results came along
    [ -s "$hardware" ] || [ ! -s "$results/gpu-profile-$machine.json" ] || cp "$results/gpu-profile-$machine.json" "$hardware"
    [ -s "$hardware" ] || run_profile
    [ -s "$hardware" ] || return 0 # said already
    find_machine
    for model in "${models_wanted[@]}"; do
        name=$(basename "$model") from=-
        ! has_room "$model" || feasible+=("$model")
    done
    n=${#feasible[@]}
    for ((i = 0; i < n; i++)); do
        model=${feasible[i]}
        name=$(basename "$model") from=-
        writing=$(writing_s "$model")
        deadline=$limit
        share=$(($(left) / (n - i)))
        # a share that writes the weights and reads them once, and then ends, is for nothing
        [ "$share" -gt $((2 * writing + 40)) ] || share=$((2 * writing + 40))
        [ "$share" -gt "$(left)" ] || deadline=$((SECONDS + share))
        if [ "$(left)" -gt $((2 * writing + 20)) ]; then
            run_model "$model"
        else
            skip ballast - "no time left: $(left) s, and its weights take about $writing s to write"
        fi
        write_targets
    done
    deadline=$limit
}

failures=0 device_used=''
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
[ ! -s "$targets" ] || say "$(grep -c ',yes$' "$targets") of $(grep -cE ',(yes|no)$' "$targets") targets reached"
say "done in $SECONDS s: $results/gpu-*-$machine.*, $failures failed"
[ "$failures" -eq 0 ] || exit 3
