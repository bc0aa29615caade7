#!/usr/bin/env bash
# OPT-13B's shape (26 GB) with 4 GiB of RAM, 32 sequences: throughput, share of the disk's roofline, resident set.
#
#   bench/opt13b.sh > bench/results/opt13b-MACHINE.csv
set -euo pipefail
cd "$(dirname "$0")/.."
. bench/lib.sh

prompt=${PROMPT:-32} gen=${GEN:-32} ram=${RAM:-4GiB}
profile "$out/machine.json"
directory=$(model opt-13b)
file=$(ls "$directory"/*.safetensors | head -1)
sync && sleep "${SETTLE:-20}" # what was just written is still going to the device
references() { for kind in plain huge ring; do printf '%s ' "$(fio_read "$file" 6 $kind)"; done; }
before=$(references)
steal_mark
say "planning and running"
"$ballast" run -m "$directory" -H "$out/machine.json" --budget "ram=$ram" -p "$prompt" -n "$gen" -b 32 --num-gpu-batches 1 --no-compress-weight \
    --no-compress-cache --scratch-dir "$out" --trace "$out/13b.trace.csv" -o csv >"$out/13b.csv"
steal=$(steal_share)
after=$(references)
m() { column "$1" <"$out/13b.csv"; }
# The roofline is the time that the disk needs for every byte that the run moved over it, at what fio reads before and after.
bytes=$(grep -v '^#' "$out/13b.trace.csv" | awk -F, '$3 ~ /disk->ram/ { b += $7 } END { printf "%.0f", b }')
echo "time,machine,model,ram_budget,policy,prompt,gen,throughput_tok_s,predicted_tok_s,prefill_s,decode_s,disk_bytes,peak_ram_bytes,max_resident_set_bytes,steal_share,fio,fio_before_bytes_per_s,fio_after_bytes_per_s,roofline_s,share_of_roofline"
i=0
for kind in plain huge ring; do
    i=$((i + 1))
    awk -v head="$(stamp),$machine,opt-13b,$ram,\"$(m policy)\",$prompt,$gen,$(m throughput_tok_s),$(m predicted_throughput_tok_s),$(m prefill_s),$(m decode_s)" \
        -v bytes="$bytes" -v a="$(cut -d' ' -f$i <<<"$before")" -v b="$(cut -d' ' -f$i <<<"$after")" -v s="$(m latency_s)" \
        -v tail="$(m peak_bytes.ram),$(m max_resident_set_bytes),$steal,$kind" \
        'BEGIN { roof = bytes / ((a + b) / 2); printf "%s,%.0f,%s,%.0f,%.0f,%.2f,%.4f\n", head, bytes, tail, a, b, roof, roof / s }'
done
