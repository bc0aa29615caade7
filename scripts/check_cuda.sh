#!/usr/bin/env bash
# check_cuda.sh [--tap]: nvcc of CUDA 13 and of CUDA 12 compile every kernel for every card and link the library, which ballast loads. The system's
# compiler is taken for its own version, a fetched one for the other.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

. scripts/tap.sh
build() # SETTING...
{
    make --no-print-directory -j"$(nproc)" "$@" cuda >&2
}

system=$({ command -v nvcc || ls /usr/local/cuda/bin/nvcc; } 2>/dev/null)
system_version=$([ -z "$system" ] || "$system" --version | sed -n 's/.*release \([0-9]*\)\..*/\1/p')

loads() # LIBRARY VERSION
{
    LD_LIBRARY_PATH=build/cuda-12/lib BALLAST_CUDA=$1 build/ballast devices -o csv | grep -q "^library,CUDA runtime,,,$2\."
}

for version in 13 12; do
    settings=()
    if [ "$system_version" = "$version" ]; then
        settings=(NVCC="$system")
    elif scripts/install_cuda.sh $version; then
        settings=("NVCC=build/cuda-$version/bin/nvcc")
        [ $version = 13 ] || settings+=(CUDART=shared)
    else
        echo "ok - cuda $version # SKIP no nvcc $version here, and none could be fetched"
        continue
    fi
    folder=build/with-cuda-$version
    [ $version = 12 ] || folder=build
    check "cuda $version: nvcc compiles and links the kernels" "make cuda failed" build B=$folder "${settings[@]}"
    check "cuda $version: its library loads" "ballast devices does not name its runtime" loads $folder/libballast_cuda.so $version
done
exit $failed
