#!/bin/sh
# ballast against transformers in memory and against Accelerate's disk offload: same CPU, model, prompt length, generated tokens
# and batch, alternating in one run. Prints CSV on stdout: a row per run, then the ratios of the medians.
#
#     bench/peers/run.sh >build/bench/peers.csv
#
# Set in the environment (README.md says what each row means):
#     MODEL=opt-1.3b     a preset, made with random weights below build/bench/models, or a model directory
#     BATCH=4 PROMPT=128 GEN=16 ROUNDS=3 THREADS=(cores)
#     PLACEMENTS="memory disk"
#     DTYPES             of transformers in memory ("bf16 fp32" where the CPU multiplies bf16, else "fp32"); also fp16
#     DISK_DTYPES        of Accelerate (the first of DTYPES)
#     OFFLOADS="original folder"   Accelerate reads the model's own files, or files that it has written
#     PAGES="warm cold none"       page cache: as it is, dropped before the prompt, dropped before every step
#     DISK_PERCENT=0     of the weights that ballast keeps in memory in its disk runs
#     LIMIT=""           put in front of every disk run, such as "systemd-run --scope --quiet -p MemoryMax=3G"
#     VENV               a virtual environment that has the peers (else one is made: build/bench/venv)
#     PYTHON=python3     that makes it;  BALLAST=build/ballast  PROFILE=build/bench/machine.json
set -eu

here=$(dirname "$0")
work=build/bench
cores=$(nproc)
model=${MODEL:-opt-1.3b} batch=${BATCH:-4} prompt=${PROMPT:-128} gen=${GEN:-16} rounds=${ROUNDS:-3} threads=${THREADS:-$cores}
placements=${PLACEMENTS:-memory disk} offloads=${OFFLOADS:-original folder} pages=${PAGES:-warm cold none}
disk_percent=${DISK_PERCENT:-0} limit=${LIMIT:-}
ballast=${BALLAST:-build/ballast} profile=${PROFILE:-$work/machine.json}
dtypes=${DTYPES:-$(grep -qwE 'amx_bf16|avx512_bf16' /proc/cpuinfo && echo "bf16 fp32" || echo fp32)}
disk_dtypes=${DISK_DTYPES:-${dtypes%% *}}

say() { echo "peers: $*" >&2; }
die() {
    say "$1"
    exit "${2:-3}"
}

for number in "$batch" "$prompt" "$gen" "$rounds" "$threads"; do
    case $number in
    '' | *[!0-9]* | 0*) die "BATCH, PROMPT, GEN, ROUNDS and THREADS: expected a number of 1 or more, found \"$number\"" 1 ;;
    esac
done
[ -x "$ballast" ] || die "$ballast: not built; run make first"
[ -f "$model/config.json" ] || case $model in */*) die "$model/config.json: no such file" 1 ;; esac
mkdir -p "$work"

# -- the peers: installed once, and again when the pins change ----------------------------------------------------------------

install_peers() {
    venv=$work/venv
    cmp -s "$here/requirements.txt" "$venv/installed.txt" && return
    say "installing into $venv"
    "${PYTHON:-python3}" -m venv "$venv" >&2 || die "cannot make $venv: is the venv module of Python installed (python3-venv)?" 77
    "$venv/bin/pip" install --disable-pip-version-check -q -r "$here/requirements.txt" >&2 || die "cannot install the peers" 77
    cp "$here/requirements.txt" "$venv/installed.txt"
}

if [ -n "${VENV:-}" ]; then venv=$VENV; else install_peers; fi
python=$venv/bin/python
[ -x "$python" ] || die "$python: no such program"
"$python" "$here/peer.py" versions "$here/requirements.txt"

# -- the model and the profile ------------------------------------------------------------------------------------------------

scratch=$(mktemp -d "$work/peers.XXXXXX") # on the same disk as the model
trap 'rm -rf "$scratch"' EXIT
trap 'exit 3' HUP INT TERM

[ -f "$profile" ] || {
    say "measuring this machine into $profile"
    "$ballast" profile -o "$profile" >&2 || die "cannot measure the machine"
}

if [ -f "$model/config.json" ]; then
    model_dir=$model
    name=$(basename "$model")
else
    model_dir=$work/models/$model-random-1
    name=$model
    [ -f "$model_dir/config.json" ] || {
        say "making $model_dir"
        "$ballast" run -m "$model" -H "$profile" --weights random:1 --weights-dir "$work/models" --scratch-dir "$scratch" \
            -p 4 -n 1 -b 1 --percent "100 0 100 0 100 0" -o csv >"$scratch/made.csv" || die "cannot make $model_dir"
    }
fi

# -- runs ---------------------------------------------------------------------------------------------------------------------

rows=$scratch/rows.csv
failed=0

# A failed run costs its row and the exit code, not the other rows.
row() {
    if "$@" >"$scratch/row"; then
        tee -a "$rows" <"$scratch/row"
    else
        say "failed: $*"
        failed=1
    fi
}

# Every caller passes the same workload. $1 is the placement.
workload() {
    echo "--placement $1 --batch $batch --prompt $prompt --gen $gen --threads $threads"
}

limit_of() { [ "$1" = memory ] || echo "$limit"; }

# $1 placement, $2 type, $3 where Accelerate has the layers. $limit, $pages and the workload are lists of words: not quoted.
run_peer() {
    mkdir -p "$scratch/offload"
    # shellcheck disable=SC2046,SC2086
    row $(limit_of "$1") "$python" "$here/peer.py" measure $(workload "$1") --model "$name" --model-dir "$model_dir" \
        --dtype "$2" --offload "$3" --offload-dir "$scratch/offload" --pages $pages
    rm -rf "$scratch/offload"
}

# $1 placement, $2 percent of weights in memory: the cache and the activations are there in both.
run_ballast() {
    # shellcheck disable=SC2046
    row $(limit_of "$1") "$python" "$here/peer.py" ballast $(workload "$1") --model "$name" --model-dir "$model_dir" \
        --profile "$profile" -- "$ballast" run -m "$model_dir" -H "$profile" -p "$prompt" -n "$gen" -b "$batch" \
        --num-gpu-batches 1 -t "$threads" --percent "$2 0 100 0 100 0" --scratch-dir "$scratch"
}

run_placement() {
    case $1 in
    memory)
        for dtype in $dtypes; do run_peer memory "$dtype" original; done
        run_ballast memory 100
        ;;
    disk)
        for dtype in $disk_dtypes; do
            for offload in $offloads; do run_peer disk "$dtype" "$offload"; done
        done
        run_ballast disk "$disk_percent"
        ;;
    *) die "PLACEMENTS: expected memory or disk, found \"$1\"" 1 ;;
    esac
}

"$python" "$here/peer.py" header | tee "$rows"
round=1
while [ "$round" -le "$rounds" ]; do
    say "round $round of $rounds: $name, batch $batch, prompt $prompt, generated $gen, $threads threads;" \
        "load $(cut -d' ' -f1 /proc/loadavg)"
    for placement in $placements; do run_placement "$placement"; done
    round=$((round + 1))
done
"$python" "$here/peer.py" ratios "$rows" || failed=1
exit $((failed * 3))
