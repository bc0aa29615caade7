#!/usr/bin/env bash
# install_deps.sh run|test: installs what is missing on Debian 12 or Ubuntu 24.04 to build and run (run), or also to test (test).
#
# Says what is missing and installs it with apt-get, through sudo when not root; with nothing missing it does and says nothing.
# On another system it says what to install and exits 1. "a|b" is one need that either package meets, first choice first.
set -euo pipefail

run=(build-essential make libglpk-dev libgsl-dev libcsv-dev libjansson-dev libdnnl-dev liburing-dev libpcre2-dev libhwloc-dev
    gnuplot-nox\|gnuplot fonts-dejavu-core)
tests=(libcriterion-dev libopenmpi-dev openmpi-bin pkg-config\|pkgconf fio clang 'libclang-rt-dev|libclang-rt-14-dev|libclang-rt-18-dev' clang-format-14\|clang-format cppcheck shellcheck)

case ${1:-} in
run) needs=("${run[@]}") ;;
test) needs=("${run[@]}" "${tests[@]}") ;;
*)
    echo "usage: install_deps.sh run|test" >&2
    exit 1
    ;;
esac

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    # Elsewhere the packages cannot be looked up by name; what the compiler finds decides.
    libraries=(-lglpk -lgsl -lgslcblas -lcsv -ljansson -ldnnl -luring -lpcre2-8 -lhwloc)
    [ "$1" = run ] || libraries+=(-lcriterion)
    if echo 'int main(void) { return 0; }' | "${CC:-cc}" -xc - -o /dev/null "${libraries[@]}" 2>/dev/null; then
        exit 0
    fi
    echo "This system has no apt-get. Install what these Debian packages hold, then try again:" >&2
    echo "  ${needs[*]%%|*}" >&2
    exit 1
fi

# All installed packages in one query; a held or half-removed one does not count.
declare -A installed=()
while read -r state name; do
    [ "$state" = ii ] && installed[$name]=1
done < <(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n')

missing=()
for need in "${needs[@]}"; do
    IFS='|' read -ra choices <<<"$need"
    for choice in "${choices[@]}"; do
        [ -n "${installed[$choice]:-}" ] && continue 2
    done
    missing+=("$need")
done
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "Missing packages, and neither root nor sudo to install them: ${missing[*]%%|*}" >&2
        exit 1
    fi
    as_root=(sudo)
fi

echo "Missing packages: ${missing[*]%%|*}" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt()
{
    if ! "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=120 "$@" >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        return 1
    fi
}
echo "apt-get update" >&2
apt update || echo "apt-get update failed; trying with the package lists that are here" >&2

chosen=()
for need in "${missing[@]}"; do
    IFS='|' read -ra choices <<<"$need"
    pick=${choices[0]}
    for choice in "${choices[@]}"; do
        if [ -n "$(apt-cache madison "$choice" 2>/dev/null)" ]; then
            pick=$choice
            break
        fi
    done
    chosen+=("$pick")
done
echo "apt-get install ${chosen[*]}" >&2
apt install -y --no-install-recommends "${chosen[@]}"
