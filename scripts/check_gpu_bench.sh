#!/usr/bin/env bash
# check_gpu_bench.sh [--tap]: bench/gpu.sh goes its whole way with a tiny model on the emulation, and shellcheck has nothing to say of it.
# shellcheck disable=SC2317  # functions are called through check
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

# shellcheck source=scripts/csv.sh
. scripts/csv.sh
# A program that fails at one kind of case, to see that the others run.
cat >"$work/ballast" <<'END'
#!/bin/sh
case "$*" in run*--no-compress-weight*) echo "made to fail" >&2; exit 3 ;; esac
exec build/ballast "$@"
END
chmod +x "$work/ballast"
dry() { RESULTS="$work" PYTHON=${PYTHON:-no-such-python} BALLAST="$work/ballast" bench/gpu.sh --dry-run "$@"; }
cases=$work/gpu-cases-dry-run.csv
# counted ROWS PATTERN FILE
counted() { test "$(grep -c "$2" "$3")" = "$1"; }
same_columns() { grep -v '^#' "$cases" | awk "$csv_cells"'{ n = cells($0, c); if (NR == 1) all = n; else if (n != all) bad = 1 } END { exit bad || NR < 2 }'; }
as_planned() {
    awk "$csv_cells"'/,ok$|,"ok/ && /,ballast,/ { cells($0, c); if (c[15] != c[16] || c[15] == 0) bad = 1; n++ } END { exit bad || n == 0 }' "$cases"
}
refuses() { # STATUS TEXT COMMAND...
    local status=0 text=$2 want=$1
    shift 2
    "$@" >"$work/refused" 2>&1 || status=$?
    [ "$status" = "$want" ] && grep -q -e "$text" "$work/refused"
}

dry || status=$?
check "the dry run says that cases failed" test "${status:-0}" = 3
# the whole program that a GPU runs, in one process
whole=$(cat tests/emu/test_*.c | grep -c '^Test(')
whole=$((whole - $(grep -c '^Test(' tests/emu/test_emulation.c)))
check "the device's tests pass, all of them" counted 1 ",tests,passed,$whole,0,0," "$work/gpu-checks-dry-run.csv"
check "the profile has a GPU, and is no measurement" counted 1 '"estimate": "emulated"' "$work/gpu-profile-dry-run.json"
check "a case that fails is named" counted 2 ',ballast,.*,plan in 16 bits,.*"exit 3: made to fail"$' "$cases"
check "and the others run" counted 7 ',ballast,opt-tiny-pre,.*,ok$' "$cases" # streamed, plan, two of FlexGen's; from disk all but the first
check "FlexGen's rows say that it is not there" counted 4 ',flexgen,opt-tiny-pre,.*"not found"$' "$cases"
check "every row has all columns" same_columns
check "planned and taken bytes of the GPU are equal" as_planned
check "the targets are there" counted 1 '^peak device bytes against planned, worst,.*,yes$' "$work/gpu-targets-dry-run.csv"
check "every result calls itself emulated" counted 3 'EMULATED' <(cat "$work"/gpu-*-dry-run.csv)
check "the log has the last words of what failed" grep -q 'made to fail' "$work/gpu-log-dry-run.txt"
# a python whose PyTorch brings cuBLAS, and more memory asked for than there is
mkdir "$work/nvidia"
touch "$work/nvidia/libcublas.so.13"
printf '#!/bin/sh\necho %s\n' "$work/nvidia" >"$work/python"
chmod +x "$work/python"
LIMIT=1 RAM=900TiB PYTHON="$work/python" dry cases >"$work/short" 2>&1
check "without time, rows say so" grep -q ',"no time left: [^,]*, and its weights take about 0 s to write"$' "$cases"
check "no more memory is asked for than there is" grep -qE 'a budget of [0-9.]+ GiB in place of 900TiB' "$work/short"
if ldconfig -p | grep 'libcublas\.so' >/dev/null; then
    echo "ok - PyTorch's cuBLAS is found # SKIP the loader has one"
else
    check "PyTorch's cuBLAS is found" grep -q "cuBLAS: $work/nvidia$" "$work/short"
fi
check "an unknown step is refused" refuses 1 'nonsense: expected tests' bench/gpu.sh --dry-run nonsense
check "a dry run does not write among the results" refuses 1 'outside bench/' env RESULTS=bench/results bench/gpu.sh --dry-run tests
check "the emulation is no GPU" refuses 3 'expected a GPU' env BALLAST_CUDA=build/emu/libballast_cuda.so RESULTS="$work/real" bench/gpu.sh tests
check "without a GPU it says why" refuses 3 'no GPU: .*no/such.so: not there' env BALLAST_CUDA=no/such.so RESULTS="$work/real" bench/gpu.sh
[ $failed -eq 0 ] || cat "$work/log" >&2
exit $failed
