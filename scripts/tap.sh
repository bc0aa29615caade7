# tap.sh - what the test scripts share: a folder that is removed, and TAP. Sourced.
# shellcheck disable=SC2034  # failed is read by who sources this
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

ok() { echo "ok - $1"; }
not_ok() # NAME REASON
{
    echo "not ok - $1: $2"
    failed=1
}
check() # NAME REASON COMMAND...
{
    local name=$1 reason=$2
    shift 2
    if "$@"; then ok "$name"; else not_ok "$name" "$reason"; fi
}
