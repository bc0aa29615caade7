#!/usr/bin/env bash
# install_cuda.sh [12]: a CUDA 13 compiler from its Python packages into build/cuda-13 (about 105 MB to fetch, 270 MB unpacked); or with 12, what
# clang needs to compile for CUDA 12 into build/cuda-12 (25 MB, 75 MB): headers, libdevice and ptxas, for its packages have neither nvcc nor cicc.
#
# What these and the static runtime need and nothing else: no driver, no cuBLAS, no root. Needs python3 with pip. Does nothing if it is
# there already.
set -euo pipefail
cd "$(dirname "$0")/.."

version=${1:-13}
to=build/cuda-$version
case $version in
13) packages=(nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-cuda-runtime==13.0.96
    nvidia-cuda-cccl==13.0.85) folders=(cu13) program=nvcc ;;
12) packages=(nvidia-cuda-nvcc-cu12==12.6.85 nvidia-cuda-runtime-cu12==12.6.77 nvidia-cuda-cccl-cu12==12.6.77)
    folders=(cuda_nvcc cuda_runtime cuda_cccl) program=ptxas ;;
*)
    echo "install_cuda.sh: expected 12 or 13, found '$version'" >&2
    exit 1
    ;;
esac

[ -x "$to/bin/$program" ] && exit 0
if ! python3 -m pip --version >/dev/null 2>&1; then
    echo "install_cuda.sh: needs python3 with pip (Debian: python3-pip)" >&2
    exit 1
fi
mkdir -p build
rm -rf "$to.part"
trap 'rm -rf "$to.part"' EXIT
echo "CUDA: ${packages[*]}" >&2
python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --no-compile --target "$to.part" \
    "${packages[@]}" >&2
rm -rf "$to"
mkdir "$to"
for folder in "${folders[@]}"; do
    cp -r "$to.part/nvidia/$folder/." "$to"
done
"$to/bin/$program" --version >/dev/null
