#!/usr/bin/env bash
# test_layers.sh: scripts/layers.sh refuses every forbidden include and every file that grew without a reason. Prints TAP.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{scripts,cli,model,solver,executor/cpu,executor/cuda,executor/sim,traces,plots,tests,bench}
cp scripts/layers.sh "$work/scripts/"
failed=0

# try NAME FILE PATTERN: runs the check with that one file, read from stdin; an empty pattern means that it must pass.
try()
{
    local name=$1 file=$work/$2 pattern=$3 status=0
    cat >"$file"
    "$work/scripts/layers.sh" >"$work/out" 2>&1 || status=$?
    rm "$file"
    if [ -z "$pattern" ] && [ $status -eq 0 ]; then
        echo "ok - $name"
    elif [ -n "$pattern" ] && [ $status -eq 1 ] && grep -qE -e "$pattern" "$work/out"; then
        echo "ok - $name"
    else
        echo "not ok - $name: exit $status: $(head -n 1 "$work/out")"
        failed=1
    fi
}

include() { printf '#include %s\n' "$@"; }

include '"model/error.h"' '<stdio.h>' | try "model includes model" model/a.c ""
include '"solver/lp.h"' | try "model does not include solver" model/a.c '^model/a\.c:1: model/ may not include "solver/lp\.h"$'
include '"model/cost.h"' '"solver/lp.h"' '<glpk.h>' | try "solver/lp.c has GLPK" solver/lp.c ""
include '"model/cost.h"' '<glpk.h>' | try "no other file has GLPK" solver/search.c '^solver/search\.c:2: glpk\.h belongs to '
include '"executor/io.h"' | try "solver does not include executor" solver/a.c 'may not include "executor/io\.h"'
include '"traces/trace.h"' '"model/arch.h"' '"executor/cpu/kernels.h"' | try "executor includes the trace" executor/a.c ""
include '"traces/validate.h"' | try "executor includes nothing else of traces" executor/a.c 'may not include "traces/validate\.h"'
include '"solver/lp.h"' | try "executor does not include solver" executor/cpu/a.c 'may not include "solver/lp\.h"'
include '"executor/cuda/device.h"' | try "executor does not reach into cuda" executor/a.c 'may not include "executor/cuda/device\.h"'
include '<cuda_runtime.h>' '"executor/arena.h"' | try "cuda headers below cuda" executor/cuda/a.c ""
include '<cuda_runtime.h>' | try "cuda headers nowhere else" executor/a.c 'cuda_runtime\.h belongs to \(executor/cuda\|tests/emu\)/ only'
include '<oneapi/dnnl/dnnl.h>' | try "oneDNN in its file" executor/cpu/onednn.c ""
include '<dnnl.h>' | try "oneDNN nowhere else" executor/cpu/linear.c 'dnnl\.h belongs to \(executor/cpu/onednn\.c\|tests/emu/cublas\.cc\) only'
include '"solver/lp.h"' '"executor/io.h"' '"plots/plot.h"' | try "cli includes everything" cli/a.c ""
include '"cli/options.h"' | try "plots do not include cli" plots/a.c 'may not include "cli/options\.h"'
include '"error.h"' | try "includes have a path" model/a.c 'include "error\.h" by its path'
printf '  #  include   "solver/lp.h"\n' | try "spaces do not hide an include" model/a.c 'may not include "solver/lp\.h"'
yes '' | head -n 700 | try "a file of 700 lines" traces/a.c ""
yes '' | head -n 701 | try "a file of 701 lines" traces/a.c '^traces/a\.c: 701 lines'
{ echo '/* long: one table */'; yes '' | head -n 800; } | try "a long file with its reason" traces/a.c ""
exit $failed
