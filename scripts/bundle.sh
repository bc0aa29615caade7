#!/usr/bin/env bash
# bundle.sh DIR: completes a bundle whose programs `make bundle` has linked below DIR/build: the shared libraries that they need, fixtures,
# scripts. DIR then is a checkout without sources: the same scripts run in it.
#
# Left to the machine it runs on: libc and its parts, the NVIDIA driver, CUDA's own libraries.
set -euo pipefail
cd "$(dirname "$0")/.."

to=${1:?usage: bundle.sh DIR}
most_bytes=60000000

# libc's parts, what belongs to the driver or to CUDA, and our own
theirs='^(linux-vdso|ld-linux-x86-64|libc|libm|libdl|librt|libpthread|libresolv|libutil|libanl|libmvec|libcuda|libcublas|libcublasLt|libnvidia-ml|libballast_cuda)\.so'

mapfile -t programs < <(find "$to/build" -type f \( -perm -u+x -o -name '*.so' \) -not -path "$to/build/lib/*" | sort)
[ ${#programs[@]} -gt 0 ] || { echo "bundle.sh: $to/build: no programs there" >&2; exit 1; }

rm -rf "$to/build/lib" # so that programs find this machine's
mkdir -p "$to/build/lib"
ldd "${programs[@]}" | awk '/=>/ { print $1, $3 } /not found/ { print "missing", $1 }' | sort -u | while read -r name path; do
    if [ "$name" = missing ] || [ "$path" = not ]; then
        echo "bundle.sh: a library is missing here: $name $path" >&2
        exit 1
    fi
    [[ $name =~ $theirs ]] || cp -L "$path" "$to/build/lib/$name"
done

copy() { # PATH...: below the same path in the bundle
    local path
    for path in "$@"; do
        mkdir -p "$to/$(dirname "$path")"
        cp -ru "$path" "$to/$(dirname "$path")/"
    done
}
copy LICENSE docs/cuda.md tests/fixtures tests/fuzz/seeds/fuzz_hardware/ram-disk.json bench/gpu.sh bench/gpu_targets.awk bench/lib.sh bench/peers scripts/csv.sh scripts/run_tests.sh
if [ -d build/bench/flexgen ]; then copy build/bench/flexgen; fi # bench/peers/install_flexgen.sh

bytes=$(du -sb "$to" | cut -f1)
if [ "$bytes" -gt $most_bytes ]; then
    echo "bundle.sh: $to has $bytes bytes, more than $most_bytes:" >&2
    du -ab "$to" | sort -rn | sed -n 2,15p >&2
    exit 1
fi
echo "$to: $bytes bytes"
