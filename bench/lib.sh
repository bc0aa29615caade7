# lib.sh - what the bench scripts share. Sourced, with the repository root as working directory.
# shellcheck source=scripts/csv.sh
. scripts/csv.sh
ballast=${BALLAST:-build/ballast}
out=build/bench
models=$out/models
machine=${MACHINE:-$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -1 | tr -cs 'A-Za-z0-9\n' '-' | tr 'A-Z' 'a-z' | sed 's/-*$//')-$(nproc)cpu}
mkdir -p "$out" "$models"

say() { echo "bench: $*" >&2; }

# profile FILE [OPTIONS]: measures this machine, once per file and build: an older program measured other kernels.
profile() {
    local file=$1; shift
    [ "$file" -nt "$ballast" ] || { say "profiling into $file"; "$ballast" profile -o "$file" --scratch-dir "$out" "$@" >&2; }
}

# A script that has a time limit says so here: limited COMMAND...
limited() { "$@"; }

# model NAME: its random weights on disk; prints the directory.
model() {
    local directory=$models/$1-random-1
    if [ ! -s "$directory/config.json" ]; then
        say "writing random weights of $1"
        # the smallest run there is makes them
        limited "$ballast" run -m "$1" -H "${machine_profile:-$out/machine.json}" -p 1 -n 1 -b 1 --num-gpu-batches 1 --percent "0 0 100 0 100 0" --weights random:1 \
            --weights-dir "$models" --scratch-dir "$out" >/dev/null
    fi
    echo "$directory"
}

# fio_read FILE SECONDS [plain|huge|ring]: direct sequential reads of 1 MiB, bytes per second. plain is fio as it comes: 8 buffers in
# 4 KiB pages, whose requests the block layer splits. huge gives them huge pages, as our arenas have; 8 MiB stay in the CPU's cache,
# where some disks deliver faster. ring has 256 of them, about what a ring of weights takes.
fio_read() {
    local pages=1 align=2m depth=8
    case ${3:-plain} in
    plain) pages=0 align=4k ;;
    ring) depth=256 ;;
    esac
    GLIBC_TUNABLES=glibc.malloc.hugetlb=$pages fio --name=read --filename="$1" --readonly --rw=read --bs=1M --iodepth=$depth --ioengine=io_uring \
        --direct=1 --thread --iomem_align=$align --time_based --runtime="$2" --output-format=json |
        awk '/"read" *:/ { r = 1 } r && !n && /"bw_bytes"/ { gsub(/[^0-9]/, ""); print; n = 1 }'
}

stamp() { date -u +%Y-%m-%dT%H:%M:%SZ; }

# What the hypervisor gave to others while we wanted the CPU. steal_mark; ...; steal_share: of the CPU time since the mark. Zero on
# bare metal. Rows with a large share measure the neighbours.
steal_mark() { read -r _ a b c d e f g steal_then _ </proc/stat; total_then=$((a + b + c + d + e + f + g + steal_then)); }
steal_share() {
    local a b c d e f g steal
    read -r _ a b c d e f g steal _ </proc/stat
    awk -v s=$((steal - steal_then)) -v t=$((a + b + c + d + e + f + g + steal - total_then)) 'BEGIN { printf "%.3f", (t > 0 ? s / t : 0) }'
}
