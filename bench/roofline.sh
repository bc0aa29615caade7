#!/usr/bin/env bash
# Against the roofline: disk-bound decode as a share of what fio reads from the same file, and run time over the busiest resource of
# its own trace, in a disk-bound, a copy-bound and a compute-bound case.
#
#   bench/roofline.sh > bench/results/roofline-MACHINE.csv
set -euo pipefail
cd "$(dirname "$0")/.."
. bench/lib.sh

name=${MODEL:-opt-2.7b} rounds=${ROUNDS:-5}
profile "$out/machine.json"
profile "$out/device.json" --emulate-device 8GiB
directory=$(model "$name")
file=$(ls "$directory"/*.safetensors | head -1)

echo "time,machine,case,model,quantity,value,reference,ratio,steal_share"
# Ours and fio's alternate, so that a slow spell of the disk falls on both.
for round in $(seq "$rounds"); do
    say "disk-bound decode, round $round"
    steal_mark
    plain=$(fio_read "$file" 4 plain)
    huge=$(fio_read "$file" 4 huge)
    ring=$(fio_read "$file" 4 ring)
    "$ballast" run -m "$directory" -H "$out/machine.json" -p 32 -n 5 -b 8 --num-gpu-batches 1 --percent "0 0 100 0 100 0" \
        --scratch-dir "$out" --trace "$out/disk.trace.csv" -o csv >"$out/disk.csv"
    # bytes of the weights that the decode steps read, over the decode's wall time
    rate=$(grep -v '^#' "$out/disk.trace.csv" | awk -F, -v s="$(column decode_s <"$out/disk.csv")" '$2 == "load_weights" && $4 > 0 { b += $7 } END { printf "%.0f", b / s }')
    for reference in "plain $plain" "huge $huge" "ring $ring"; do
        echo "$(stamp),$machine,disk-bound decode over fio (${reference% *}),$name,bytes_per_s,$rate,${reference#* },$(awk -v a="$rate" \
            -v b="${reference#* }" 'BEGIN { printf "%.4f", a / b }'),$(steal_share)"
    done
done

# busiest CASE PROFILE ARGS...: wall time of the run over the busy time of its busiest resource.
busiest() {
    local label=$1 hw=$2; shift 2
    say "$label"
    steal_mark
    "$ballast" run -m "$directory" -H "$hw" --scratch-dir "$out" --trace "$out/busy.trace.csv" -o csv "$@" >"$out/busy.csv"
    grep -v '^#' "$out/busy.trace.csv" | awk -F, -v head="$(stamp),$machine,$label,$name,run_s" -v tail="$(steal_share)" '
        NR > 1 && $2 != "resident" { b[$3] += $10 - $9; if ($10 > end) end = $10 }
        END { for (r in b) if (b[r] > most) { most = b[r]; which = r }
              gsub(/"/, "", which)
              printf "%s,%.3f,%.3f,%.4f,%s\n", head, end / 1e9, most / 1e9, end / most, tail; print "bench: busiest: " which >"/dev/stderr" }'
}
busiest "disk-bound run over its busiest resource" "$out/machine.json" -p 64 -n 8 -b 8 --num-gpu-batches 1 --percent "0 0 100 0 100 0"
busiest "copy-bound run over its busiest resource" "$out/device.json" -p 32 -n 16 -b 1 --num-gpu-batches 1 --percent "0 100 100 0 100 0"
# a tenth of the weights is streamed, less than what the decode steps compute meanwhile
busiest "compute-bound run over its busiest resource" "$out/machine.json" -p 256 -n 8 -b 8 --num-gpu-batches 2 --percent "90 0 100 0 100 0"
