#!/bin/sh
# Sequential direct reads of one file: ours against fio's, alternating, so that a disk whose speed drifts treats both alike.
# Prints a CSV header and one row: medians in GB/s, and ours over the better of fio's two.
#
#     bench/io_vs_fio.sh FILE [rounds]
#
# BENCH_IO (build/bench/bench_io), REQUEST_BYTES (1048576) and DEPTH (8) may be set in the environment. fio gets the same
# request size and depth, its io_uring engine where it works and libaio elsewhere. It runs as it comes (buffers of 4 KiB pages)
# and with buffers in huge pages, as ours are: a request over scattered small pages may be split by the block layer, and
# without the second run the ratio would measure that. For the same reason our jobs share as much buffer memory as fio's
# requests have (depth x request size): on the disk of a virtual machine, bytes that land in four times the memory came about a
# fifth slower. Single runs spread by a quarter there, so that the ratio of 9 rounds is good to about 0.1.
set -eu

file=${1:?usage: bench/io_vs_fio.sh FILE [rounds]}
rounds=${2:-7}
bench_io=${BENCH_IO:-build/bench/bench_io}
request_bytes=${REQUEST_BYTES:-1048576}
depth=${DEPTH:-8}

command -v fio >/dev/null || { echo "io_vs_fio: fio is not installed" >&2; exit 77; }
[ -x "$bench_io" ] || { echo "io_vs_fio: $bench_io: not built" >&2; exit 3; }

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 3' HUP INT TERM

bytes=$(($(stat -Lc %s "$file") / 8388608 * 8388608))
[ "$bytes" -gt 0 ] || { echo "io_vs_fio: $file: expected 8 MiB or more" >&2; exit 1; }

# bench_io keeps four jobs in flight.
job_bytes=$((depth * request_bytes / 4 > request_bytes ? depth * request_bytes / 4 : request_bytes))

ours() {
    "$bench_io" -p sequential -r "$request_bytes" -d "$depth" -e "$job_bytes" -j "$job_bytes" -b "$bytes" -n 1 "$file" |
        tail -n 1 | cut -d, -f11
}

# Terse version 3: field 5 is the error, 6 the KiB read, 9 the milliseconds. Arguments: engine, whether malloc asks for huge
# pages, and the alignment of the buffers, without which only some of their pages would be huge.
fio_with() {
    env GLIBC_TUNABLES="glibc.malloc.hugetlb=$2" fio --name=seq --filename="$file" --readonly --rw=read --direct=1 \
        --ioengine="$1" --bs="$request_bytes" --iodepth="$depth" --size="$bytes" --thread --iomem_align="$3" \
        --minimal --terse-version=3 |
        awk -F';' '$1 == 3 && $5 == 0 && $9 > 0 { printf "%.4f\n", $6 * 1024 / ($9 / 1000) / 1e9 }'
}

median() {
    sort -n "$1" | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

engine=io_uring
[ -n "$(fio_with "$engine" 0 4096 2>/dev/null)" ] || engine=libaio
ours >/dev/null # both have now read the file once

i=0
while [ "$i" -lt "$rounds" ]; do
    ours >>"$scratch/ours"
    fio_with "$engine" 0 4096 >>"$scratch/fio"
    ours >>"$scratch/ours"
    fio_with "$engine" 1 2097152 >>"$scratch/fio_huge"
    i=$((i + 1))
done
[ "$(cat "$scratch/ours" "$scratch/fio" "$scratch/fio_huge" | grep -c .)" -eq $((4 * rounds)) ] ||
    { echo "io_vs_fio: a round failed" >&2; exit 3; }

echo "bytes,request_bytes,depth,rounds,fio_engine,ours_gb_per_s,fio_gb_per_s,fio_huge_pages_gb_per_s,ratio"
awk -v o="$(median "$scratch/ours")" -v f="$(median "$scratch/fio")" -v h="$(median "$scratch/fio_huge")" \
    -v head="$bytes,$request_bytes,$depth,$rounds,$engine" \
    'BEGIN { printf "%s,%.4f,%.4f,%.4f,%.3f\n", head, o, f, h, o / (f > h ? f : h) }'
