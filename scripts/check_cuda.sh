#!/usr/bin/env bash
# check_cuda.sh [--tap]: nvcc compiles and links every kernel for every card, with the system's compiler or one from its packages; and clang
# with CUDA 12's headers and ptxas takes the same sources.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

failed=0
say() # NAME COMMAND...
{
    if "${@:2}" >&2; then
        echo "ok - $1"
    else
        echo "not ok - $1"
        failed=1
    fi
}

if ! command -v nvcc >/dev/null && [ ! -x /usr/local/cuda/bin/nvcc ] && ! scripts/install_cuda.sh; then
    echo "ok - cuda # SKIP no nvcc here, and its packages could not be fetched"
else
    say "cuda: nvcc compiles and links the kernels" make --no-print-directory -j"$(nproc)" cuda
fi

# What clang makes is not kept: its headers, version 14's at least, have a shuffle of 64 bits that calls itself. Its textures are older than
# CUDA 12 and left out.
clang=(clang++ -x cuda --cuda-path=build/cuda-12 -D__CLANG_CUDA_TEXTURE_INTRINSICS_H__ -Wno-unknown-cuda-version -std=c++17 -O2 -I.
    -Wall -Werror)
compile() # FILE
{
    "${clang[@]}" --cuda-host-only -fsyntax-only "$1" || return
    ! grep -q __global__ "$1" || "${clang[@]}" --cuda-device-only --cuda-gpu-arch=sm_75 -c -o /dev/null "$1"
}

if ! command -v clang++ >/dev/null || ! scripts/install_cuda.sh 12; then
    echo "ok - cuda 12 # SKIP no clang here, or CUDA 12's headers could not be fetched"
else
    for file in executor/cuda/*.cu; do
        say "cuda 12: clang and ptxas take $file" compile "$file"
    done
fi
exit $failed
