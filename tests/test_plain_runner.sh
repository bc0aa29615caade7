#!/usr/bin/env bash
# test_plain_runner.sh [--tap]: the runner of the tests on a GPU (tests/plain) says how each test ends, whatever becomes of those before it.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

. scripts/tap.sh

cat >"$work/expected" <<'END'
ok - self::passes
not ok - self::fails
ok - self::is_skipped # SKIP without 1
not ok - self::aborts
not ok - self::crashes
not ok - self::crashes_again
not ok - self::hangs
not ok - self::hangs_again
ok - self::passes_in_the_end
END
status=0
timeout 60 build/plain/self --limit=1 >"$work/out" 2>"$work/err" || status=$?
check "every test has its outcome" "$(diff "$work/expected" "$work/out" | head -n 3 | tr '\n' ' ')" cmp -s "$work/expected" "$work/out"
check "the runner fails in the end" "exit $status" test $status = 1
check "a failure says why" "$(head -n 1 "$work/err")" grep -q '^self::fails: .*self.c:[0-9]*: expected 1 + 1 == 3: said why$' "$work/err"
check "a test that takes too long is named" "$(tail -n 1 "$work/err")" grep -q '^self::hangs: expected an end inside --limit$' "$work/err"
build/plain/self --tap="$work/tap" crashes fails >/dev/null 2>&1
check "parts of names choose tests, and the file has all of them" "$(tr '\n' ' ' <"$work/tap")" \
    cmp -s "$work/tap" <(printf 'not ok - self::%s\n' fails crashes crashes_again)
check "without a failure it exits 0" "it does not" sh -c 'build/plain/self passes >/dev/null'
exit $failed
