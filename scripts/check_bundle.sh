#!/usr/bin/env bash
# check_bundle.sh [--tap]: the bundle is small enough, and runs from another place without anything of this environment.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

. scripts/tap.sh

if ! command -v nvcc >/dev/null && [ ! -x /usr/local/cuda/bin/nvcc ] && [ ! -x build/cuda-13/bin/nvcc ]; then
    echo "ok - bundle # SKIP no nvcc here"
    exit 0
fi
if ! make --no-print-directory -j"$(nproc)" bundle >&2; then # which looks at its size
    not_ok "the bundle is made, and small enough" "make bundle failed"
    exit 1
fi
ok "the bundle is made, and small enough"

cp -r build/bundle "$work/moved"
cd "$work/moved" || exit

# alone NAME PATTERN ARGUMENT...: exits 0 without an environment, and stdout matches.
alone()
{
    local name=$1 pattern=$2
    shift 2
    if ! env -i "$@" >"$work/out" 2>"$work/err" </dev/null; then
        not_ok "$name" "$(head -n 1 "$work/err")"
    elif ! grep -qE -e "$pattern" "$work/out"; then
        not_ok "$name" "no /$pattern/ in: $(head -n 1 "$work/out")"
    else
        ok "$name"
    fi
}
machine=(-H tests/fuzz/seeds/fuzz_hardware/ram-disk.json)
model=(-m tests/fixtures/opt-tiny-pre "${machine[@]}" -p 8 -n 4 -b 2 --num-gpu-batches 1 --percent "50 0 100 0 100 0" --compress-cache)
alone "the bundle's version" '^ballast [0-9]' build/ballast version
alone "the bundle lists devices" '^compute,gpu,' build/ballast devices -o csv
alone "the bundle loads its CUDA part" '^library,CUDA runtime,' build/ballast devices -o csv
alone "the bundle predicts" '"throughput_tok_s":' build/ballast predict -m opt-30b -H t4-gcp -p 512 -n 32 -b 8 --percent "20 80 0 100 0 100" -o json
alone "the bundle runs a fixture" '"throughput_tok_s":' build/ballast run "${model[@]}" -o json

# nothing of what this machine has installed, apart from libc
env -i LD_TRACE_LOADED_OBJECTS=1 "$PWD/build/ballast" | grep '=> /' | grep -vF "$work/moved/build" |
    grep -vE '/(libc|libm|libdl|librt|libpthread|libresolv)\.so' >"$work/foreign"
check "the bundle brings its libraries" "$(head -n 1 "$work/foreign")" test ! -s "$work/foreign"
missing=$(env -i LD_TRACE_LOADED_OBJECTS=1 "$PWD/build/tests/device" | grep 'not found')
check "the bundle's tests find their libraries" "$missing" test -z "$missing"
exit $failed
