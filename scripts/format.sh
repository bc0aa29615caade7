#!/usr/bin/env bash
# format.sh [--check] [--tap] [FILE...]: clang-format over every C file of ours, or only say which ones differ.
#
# Versions of clang-format disagree in details, so the check holds with version 14 only (Debian 12's; Ubuntu 24.04 has it as
# clang-format-14). Without it the check is skipped with the reason.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

wanted=14
check=0 tap=0 files=()
for argument in "$@"; do
    case $argument in
    --check) check=1 ;;
    --tap) tap=1 ;;
    *) files+=("$argument") ;;
    esac
done

tool=
for candidate in "clang-format-$wanted" clang-format; do
    if "$candidate" --version 2>/dev/null | grep -q "version $wanted\."; then
        tool=$candidate
        break
    fi
done
if [ -z "$tool" ]; then
    [ "$tap" -eq 0 ] && echo "format: skipped: clang-format $wanted is not installed" >&2
    [ "$tap" -eq 1 ] && echo "ok - format # SKIP clang-format $wanted is not installed"
    [ "$check" -eq 1 ]
    exit
fi

if [ ${#files[@]} -eq 0 ]; then
    mapfile -t files < <(find cli model solver executor traces plots tests bench -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' -o -name '*.cc' | sort)
fi
if [ "$check" -eq 0 ]; then
    exec "$tool" -i "${files[@]}"
fi

bad=0
for file in "${files[@]}"; do
    "$tool" "$file" | cmp -s - "$file" && continue
    bad=$((bad + 1))
    [ "$tap" -eq 1 ] && echo "not ok - format of $file"
    echo "$file: not formatted: run make format" >&2
done
if [ "$bad" -eq 0 ]; then
    [ "$tap" -eq 1 ] && echo "ok - format of ${#files[@]} files" || echo "format: ${#files[@]} files are fine"
fi
[ "$bad" -eq 0 ]
