#!/bin/sh
# FlexGen's own package, pinned, into build/bench/flexgen: Python sources alone, 0.5 MB unpacked. `make bundle` takes them along; PyTorch, transformers,
# NumPy, attrs and tqdm are the GPU machine's.
set -eu
cd "$(dirname "$0")/../.."
to=build/bench/flexgen
mkdir -p build/bench
rm -rf $to.part
"${PYTHON:-python3}" -m pip install -q --disable-pip-version-check --root-user-action=ignore --no-deps --no-compile --target $to.part flexgen==0.1.8 >&2
rm -rf $to
mv $to.part $to
