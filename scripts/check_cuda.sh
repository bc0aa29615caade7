#!/usr/bin/env bash
# check_cuda.sh [--tap]: nvcc compiles and links every kernel for every card, with the system's compiler or one from its packages.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

if ! command -v nvcc >/dev/null && [ ! -x /usr/local/cuda/bin/nvcc ] && ! scripts/install_cuda.sh; then
    echo "ok - cuda # SKIP no nvcc here, and its packages could not be fetched"
    exit 0
fi
if make --no-print-directory -j"$(nproc)" cuda >&2; then
    echo "ok - cuda: nvcc compiles and links the kernels"
else
    echo "not ok - cuda: nvcc compiles and links the kernels"
    exit 1
fi
