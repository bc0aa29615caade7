#!/usr/bin/env bash
# check_gpu_bench.sh [--tap]: bench/gpu.sh goes its whole way with a tiny model on the emulation, and shellcheck has nothing to say of it.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
check() # NAME COMMAND...
{
    local name=$1
    shift
    if "$@" >>"$work/log" 2>&1; then
        echo "ok - $name"
    else
        echo "not ok - $name"
        failed=1
    fi
}

if command -v shellcheck >/dev/null; then
    check "shellcheck of bench/gpu.sh and the bundle's scripts" shellcheck -x bench/gpu.sh bench/peers/install_flexgen.sh scripts/bundle.sh scripts/check_bundle.sh scripts/check_gpu_bench.sh
else
    echo "ok - shellcheck of bench/gpu.sh # SKIP shellcheck is not installed"
fi

check "the dry run ends well" env RESULTS="$work" PYTHON=no-such-python bench/gpu.sh --dry-run
cases=$work/gpu-cases-dry-run.csv
# the whole program that a GPU runs, in one process
whole=$(grep -ohE '^Test\(' $(ls tests/emu/test_*.c | grep -v test_emulation) | wc -l)
check "its tests pass, all of them" grep -q ",tests,passed,$whole,0,0," "$work/gpu-checks-dry-run.csv"
check "its profile has a GPU" grep -q '"kind": "device"' "$work/gpu-profile-dry-run.json"
check "every case of ours was run" test "$(grep -c ',ballast,opt-tiny-pre,.*,ok$' "$cases")" = 6 # two sources, three policies each
check "FlexGen's rows say that it is not there" test "$(grep -c ',flexgen,opt-tiny-pre,.*,not found$' "$cases")" = 2
# shellcheck disable=SC2016  # awk's own dollars
check "planned and taken bytes of the GPU are equal" awk -F'",' '/,ballast,.*,ok$/ { split($2, v, ","); if (v[8] != v[9] || v[8] == 0) bad = 1 } END { exit bad }' "$cases"
check "the results call themselves emulated" grep -q '^#.*EMULATED' "$cases"
check "an unknown step is refused" test "$(bench/gpu.sh --dry-run nonsense 2>&1 | grep -c 'nonsense: expected tests')" = 1
check "without a GPU it says why" test "$(BALLAST_CUDA=no/such.so bench/gpu.sh 2>&1 | grep -c 'no GPU: .*no/such.so: not there')" = 1
[ $failed -eq 0 ] || cat "$work/log" >&2
exit $failed
