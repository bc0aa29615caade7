#!/usr/bin/env bash
# install_cuda.sh: a CUDA 13 compiler from its Python packages into build/cuda-13 (about 105 MB to fetch, 270 MB unpacked).
#
# What nvcc, its headers and the static runtime need and nothing else: no driver, no cuBLAS, no root. Needs python3 with pip. Does
# nothing if it is there already. There is no such set for CUDA 12: its packages have ptxas but neither nvcc nor cicc.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-cuda-runtime==13.0.96
    nvidia-cuda-cccl==13.0.85)
to=build/cuda-13

[ -x $to/bin/nvcc ] && exit 0
if ! python3 -m pip --version >/dev/null 2>&1; then
    echo "install_cuda.sh: needs python3 with pip (Debian: python3-pip)" >&2
    exit 1
fi
mkdir -p build
rm -rf $to.part
trap 'rm -rf "$to.part"' EXIT
echo "CUDA: ${packages[*]}" >&2
python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --no-compile --target $to.part \
    "${packages[@]}" >&2
rm -rf $to
mv $to.part/nvidia/cu13 $to
$to/bin/nvcc --version >/dev/null
