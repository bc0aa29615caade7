#!/usr/bin/env bash
# check_fuzz.sh [--tap]: builds the fuzz targets with clang and runs each for FUZZ_SECONDS (3) seconds.
#
# Seeds are tests/fuzz/seeds/NAME/ and the fixtures; what is found stays in build/fuzz/corpus/NAME/, crashes in
# build/fuzz/crash-NAME-*. Without clang or its fuzzer runtime every target is skipped with the reason.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

seconds=${FUZZ_SECONDS:-3}
clang=${CLANG:-clang}
mkdir -p build/fuzz
targets=(tests/fuzz/fuzz_*.c)
if [ ! -e "${targets[0]}" ]; then
    echo "ok - fuzz # SKIP no fuzz target yet"
    exit 0
fi

reason=
if ! command -v "$clang" >/dev/null; then
    reason="$clang is not installed"
elif ! printf 'int LLVMFuzzerTestOneInput(const unsigned char *d, unsigned long n) { (void)d; (void)n; return 0; }\n' |
    "$clang" -xc - -fsanitize=fuzzer,address,undefined -o build/fuzz/probe >/dev/null 2>&1; then
    reason="$clang has no fuzzer runtime here (libclang-rt-dev)"
elif ! make --no-print-directory -j"$(nproc)" CLANG="$clang" fuzz-build >build/fuzz/build.log 2>&1; then
    echo "not ok - fuzz targets build"
    cat build/fuzz/build.log >&2
    exit 1
fi

failed=0
for source in "${targets[@]}"; do
    name=$(basename "$source" .c)
    if [ -n "$reason" ]; then
        echo "ok - $name # SKIP $reason"
        continue
    fi
    corpus=build/fuzz/corpus/$name
    mkdir -p "$corpus"
    seeds=()
    [ -d "tests/fuzz/seeds/$name" ] && seeds=("tests/fuzz/seeds/$name")
    log=build/fuzz/$name.log
    # Hostile sizes must be refused before they are allocated: a low limit on memory makes that visible.
    if "build/fuzz/$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -max_len=65536 -print_final_stats=1 \
        -artifact_prefix="build/fuzz/crash-$name-" "$corpus" ${seeds[@]+"${seeds[@]}"} >"$log" 2>&1; then
        runs=$(sed -n 's/^stat::number_of_executed_units: //p' "$log")
        echo "ok - $name: ${runs:-?} inputs in $seconds s"
    else
        failed=1
        echo "not ok - $name"
        echo "== $name" >&2
        grep -vE '^(#[0-9]+|INFO:)' "$log" | tail -n 60 >&2
    fi
done
exit $failed
