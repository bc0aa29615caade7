#!/usr/bin/env bash
# install_cuda.sh [12|13]: a CUDA compiler into build/cuda-13 (the default) or build/cuda-12: what it and the runtime need and nothing else; no
# driver, no cuBLAS, no root. Does nothing if it is there already.
#
# CUDA 13 is in Python packages (105 MB to fetch, 270 MB unpacked). Those of CUDA 12 have the headers and the runtime, but no nvcc; that comes out of
# Debian 13's nvidia-cuda-toolkit (100 MB, 200 MB), from the mirror that this system's apt names, without installing it. Its static runtime is in a
# package of 900 MB, so programs are linked with CUDART=shared.
set -euo pipefail
cd "$(dirname "$0")/.."

version=${1:-13}
to=build/cuda-$version
case $version in
13) packages=(nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-cuda-runtime==13.0.96
    nvidia-cuda-cccl==13.0.85) ;;
12) packages=(nvidia-cuda-nvcc-cu12==12.4.131 nvidia-cuda-runtime-cu12==12.4.127 nvidia-cuda-cccl-cu12==12.4.127.post1) ;;
*)
    echo "install_cuda.sh: expected 12 or 13, found '$version'" >&2
    exit 1
    ;;
esac

fail()
{
    echo "install_cuda.sh: $1" >&2
    exit 1
}

fetch_packages() # into the folder nvidia
{
    python3 -m pip --version >/dev/null 2>&1 || fail "needs python3 with pip (Debian: python3-pip)"
    echo "CUDA $version: ${packages[*]}" >&2
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --no-compile --target "$part" \
        "${packages[@]}" >&2
}

# Debian's nvcc 12 in the folder debian, through package lists of its own: the system's are left alone.
fetch_nvcc_12()
{
    local keys=/usr/share/keyrings/debian-archive-keyring.gpg mirror apt
    command -v apt-get >/dev/null && [ -r $keys ] || fail "nvcc 12 is in a Debian package, and this is no Debian"
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m 1 '/debian/*$') ||
        fail "nvcc 12 is in a Debian package, and apt names no mirror of Debian"
    mkdir -p "$part/lists/partial" "$part/cache/archives/partial"
    echo "deb [signed-by=$keys] $mirror trixie non-free" >"$part/sources"
    apt=(apt-get -qq -o "Dir::Etc::sourcelist=$PWD/$part/sources" -o Dir::Etc::sourceparts=- -o "Dir::State::Lists=$PWD/$part/lists"
        -o "Dir::Cache=$PWD/$part/cache" -o APT::Sandbox::User=root)
    echo "CUDA 12: nvidia-cuda-toolkit of Debian 13" >&2
    "${apt[@]}" update >&2
    (cd "$part" && "${apt[@]}" download nvidia-cuda-toolkit >&2)
    dpkg-deb -x "$part"/nvidia-cuda-toolkit_12.4.*.deb "$part/debian"
}

# Laid out as NVIDIA does; Debian's own profile names folders of the system.
arrange_12()
{
    local debian=$part/debian/usr nvidia=$part/nvidia toolkit=lib/nvidia-cuda-toolkit made=$part/made
    mkdir -p "$made/bin" "$made/nvvm/bin"
    cp "$debian"/bin/{ptxas,fatbinary,cudafe++,nvlink} "$debian/$toolkit/bin/nvcc" "$made/bin"
    cp -r "$debian/$toolkit/bin/crt" "$made/bin"
    cp "$debian/$toolkit/bin/cicc" "$made/nvvm/bin"
    cp -r "$nvidia/cuda_nvcc/nvvm/libdevice" "$made/nvvm"
    cp -r "$nvidia"/{cuda_nvcc,cuda_runtime,cuda_cccl}/include "$made"
    cp -r "$nvidia/cuda_runtime/lib" "$made"
    ln -s libcudart.so.12 "$made/lib/libcudart.so"
    cat >"$made/bin/nvcc.profile" <<'END'
TOP                = $(_HERE_)/..
NVVMIR_LIBRARY_DIR = $(TOP)/nvvm/libdevice
PATH              += $(TOP)/nvvm/bin:$(_HERE_):
INCLUDES          += "-I$(TOP)/include" $(_SPACE_)
LIBRARIES         =+ $(_SPACE_) "-L$(TOP)/lib"
END
}

[ -x "$to/bin/nvcc" ] && exit 0
part=$to.part
rm -rf "$part"
trap 'rm -rf "$part"' EXIT
mkdir -p "$part"
fetch_packages
if [ "$version" = 12 ]; then
    fetch_nvcc_12
    arrange_12
else
    mv "$part/nvidia/cu13" "$part/made"
fi
"$part/made/bin/nvcc" --version | grep -q "release $version\." || fail "what was fetched is not nvcc $version"
rm -rf "$to"
mv "$part/made" "$to"
