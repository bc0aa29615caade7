#!/usr/bin/env bash
# run_tests.sh PROGRAM...: runs test programs one after another and adds them up.
#
# A *.sh program prints TAP ("ok - name", "not ok - name", "ok - name # SKIP reason") on stdout; any other one is a Criterion
# binary, which writes TAP to a file. Logs stay in build/test-logs; those of failing programs are printed. The last line is
# "N passed, N failed, N skipped", and the exit status is 1 if anything failed. A program that dies, hangs (TEST_TIMEOUT
# seconds), finds no test or leaves a sanitizer report counts as one failure more.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

logs=build/test-logs
timeout_s=${TEST_TIMEOUT:-900}
passed=0 failed=0 skipped=0 broken=()
mkdir -p "$logs"

export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1:allocator_may_return_null=1}
# Sanitized code slows spinning threads down out of all proportion; the rest does not care.
export OMP_WAIT_POLICY=passive

count() { grep -cE "$1" "$2" 2>/dev/null || true; }

run_one()
{
    local program=$1 name log tap status=0 start end ok bad skip note=""
    name=${program#build/}
    name=${name//\//-}
    log=$logs/$name.log
    tap=$logs/$name.tap
    rm -f "$log" "$tap"
    start=$(date +%s%N)
    case $program in
    *.sh) timeout -k 10 "$timeout_s" "$program" --tap >"$tap" 2>"$log" || status=$? ;;
    *) timeout -k 10 "$timeout_s" "./$program" --verbose --color=never --tap="$tap" >"$log" 2>&1 || status=$? ;;
    esac
    end=$(date +%s%N)

    skip=$(count '^ok .*# SKIP' "$tap")
    ok=$(($(count '^ok ' "$tap") - skip))
    bad=$(count '^not ok ' "$tap")
    if [ "$status" -eq 124 ] || [ "$status" -eq 137 ]; then
        note="no end after $timeout_s s"
    elif grep -qE 'ERROR: (Address|Leak|Thread)Sanitizer|: runtime error: ' "$log"; then
        note="sanitizer report"
    elif [ "$status" -ne 0 ] && [ "$bad" -eq 0 ]; then
        note="exit status $status"
    elif [ $((ok + bad + skip)) -eq 0 ]; then
        note="no test ran"
    fi
    if [ -n "$note" ] && [ "$bad" -eq 0 ]; then bad=1; fi
    passed=$((passed + ok)) failed=$((failed + bad)) skipped=$((skipped + skip))
    [ "$bad" -eq 0 ] || broken+=("$name")
    printf '%-4s %-44s %5d passed %3d failed %3d skipped %8.2f s  %s\n' \
        "$([ "$bad" -eq 0 ] && echo ok || echo FAIL)" "$program" "$ok" "$bad" "$skip" \
        "$(((end - start) / 10000000))e-2" "$note"
    grep -E '^ok .*# SKIP' "$tap" 2>/dev/null | sed -E 's/^ok (- )?/       skipped: /; s/ *# SKIP */: /'
    return 0
}

for program in "$@"; do
    run_one "$program"
done

for name in ${broken[@]+"${broken[@]}"}; do
    printf '\n-- %s (in %s)\n' "$name" "$logs"
    grep -E '^not ok ' "$logs/$name.tap" 2>/dev/null
    grep -vE '^\[(RUN |PASS|SKIP)' "$logs/$name.log" | tail -n 120
done
printf '\n%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
[ "$failed" -eq 0 ]
