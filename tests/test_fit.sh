#!/usr/bin/env bash
# test_fit.sh: ballast fit as a user meets it. Prints TAP. Traces come from the simulator on a machine whose rates are known, marked as
# measured here: so the fit must give these rates back. One real run follows.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

ballast=${BALLAST:-build/ballast}
. scripts/tap.sh
machine=tests/fuzz/seeds/fuzz_hardware/ram-disk.json

# bad NAME STATUS PATTERN ARGUMENT...: that exit status, an empty stdout, one line on stderr that matches, and no fitted profile.
bad()
{
    local name=$1 expected=$2 pattern=$3 status=0
    shift 3
    rm -f "$work/out.json"
    "$ballast" fit "$@" >"$work/out" 2>"$work/err" </dev/null || status=$?
    if [ $status -ne "$expected" ] || [ -s "$work/out" ] || [ "$(wc -l <"$work/err")" -ne 1 ] || ! grep -qE -e "$pattern" "$work/err"; then
        not_ok "$name" "exit $status: $(head -n 2 "$work/err" | tr '\n' '/')"
    elif [ -e "$work/out.json" ]; then
        not_ok "$name" "it left a profile"
    else
        ok "$name"
    fi
}

# measured FILE ARGUMENT...: a trace of that setting, as if it had been measured on the changed machine.
measured()
{
    local file=$1
    shift
    "$ballast" simulate -m opt-125m -H $machine --compress-cache "$@" --trace "$work/simulated.csv" >/dev/null &&
        sed 's/^# origin: simulated/# origin: measured/' "$work/simulated.csv" >"$file"
}

# rate NAME KEY: a number of that rate in the report.
rate() { tr -d '\n' <"$work/report" | sed -E "s/.*\"rate\": \"$1\",[^}]*\"$2\": \"?([^,\"}]*).*/\1/"; }

# near NAME FOUND EXPECTED TOLERANCE
near()
{
    awk -v f="$2" -v e="$3" -v t="$4" 'BEGIN { exit !(f - e <= t && e - f <= t) }' && ok "$1" || not_ok "$1" "expected $3, found $2"
}

changes=(--hardware-set "disk->ram.rate=1.25x" --hardware-set "ram->disk.rate=0.8x" --hardware-set "cpu.matmul.f16=1.5x"
    --hardware-set cpu.attention_prefill=0.6x --hardware-set cpu.launch=3x)
measured "$work/a.csv" "${changes[@]}" -p 64 -n 8 -b 2 --num-gpu-batches 2 --percent "50 0 50 0 50 0"
measured "$work/b.csv" "${changes[@]}" -p 256 -n 8 -b 4 --num-gpu-batches 2 --percent "0 0 0 0 0 0"
measured "$work/c.csv" "${changes[@]}" -p 512 -n 16 -b 1 --num-gpu-batches 1 --percent "30 0 100 0 100 0"
traces=("$work/a.csv" "$work/b.csv" "$work/c.csv")
fit=(-m opt-125m -H $machine -o "$work/out.json")

if "$ballast" fit "${traces[@]}" "${fit[@]}" --report json >"$work/report" 2>"$work/err"; then
    ok "fit of three traces"
else
    not_ok "fit of three traces" "$(head -n 1 "$work/err")"
fi
# Times are whole nanoseconds: an operation of 10 us is known to 5e-5 at worst, groups of many far better. 0.01 % is generous.
near "the rate of reads is found" "$(rate 'disk->ram.rate' change_percent)" 25 0.01
near "the rate of writes is found" "$(rate 'ram->disk.rate' change_percent)" -20 0.01
near "the rate of products is found" "$(rate 'cpu.matmul.f16' change_percent)" 50 0.01
near "the rate of prefill attention is found" "$(rate 'cpu.attention_prefill' change_percent)" -40 0.01
near "the launch time is found" "$(rate 'cpu.launch' change_percent)" 200 0.1
near "a rate that did not change stays" "$(rate 'cpu.attention_decode.q4' change_percent)" 0 0.01
[ "$(rate 'cpu.attention_decode.f32' state)" = undetermined ] && near "a rate that nothing used stays" "$(rate 'cpu.attention_decode.f32' change_percent)" 0 0 ||
    not_ok "a rate that nothing used stays" "$(rate 'cpu.attention_decode.f32' state)"

# The fitted profile is a profile, and simulates what was measured, to a nanosecond an operation.
"$ballast" simulate -m opt-125m -H $machine --compress-cache "${changes[@]}" -p 128 -n 8 -b 2 --num-gpu-batches 1 --percent "0 0 0 0 0 0" -o csv >"$work/expected"
"$ballast" simulate -m opt-125m -H "$work/out.json" --compress-cache -p 128 -n 8 -b 2 --num-gpu-batches 1 --percent "0 0 0 0 0 0" -o csv >"$work/found"
. scripts/csv.sh
near "the fitted profile simulates an unseen setting" "$(column latency_s <"$work/found" | tail -n 1)" "$(column latency_s <"$work/expected" | tail -n 1)" 0.002

"$ballast" fit "$work/a.csv" "$work/b.csv" --hold-out "$work/c.csv" "${fit[@]}" >"$work/report" 2>"$work/err" &&
    grep -qE 'c\.csv +\| held out' "$work/report" && grep -q 'of 1 that the fit did not see' "$work/report" && ok "a trace held out" ||
    not_ok "a trace held out" "$(head -n 1 "$work/err")"
# Its errors are what predict says of it, over what it measured, less one: with the profile as it was and with the fitted one.
"$ballast" fit "$work/a.csv" "$work/b.csv" --hold-out "$work/c.csv" "${fit[@]}" --report json >"$work/report" 2>"$work/err"
held() { tr -d '\n' <"$work/report" | sed -E "s/.*\"role\": \"held out\",[^}]*\"$1\": ([^,}]*).*/\1/"; }
for key in throughput_error_before_percent:$machine left_out_percent:"$work/out.json"; do
    predicted=$("$ballast" predict -m opt-125m -H "${key#*:}" --compress-cache -p 512 -n 16 -b 1 --num-gpu-batches 1 --percent "30 0 100 0 100 0" -o csv | column throughput_tok_s)
    near "the ${key%%_percent*} of a held-out trace" "$(held "${key%%:*}")" \
        "$(awk -v p="$predicted" -v m="$(held measured_tok_s)" 'BEGIN { printf "%.9g", 100 * (p / m - 1) }')" 1e-4
done
# What was held out had no part: without it the rates are the same.
"$ballast" fit "$work/a.csv" "$work/b.csv" -m opt-125m -H $machine -o "$work/without.json" >"$work/report" 2>"$work/err"
cmp -s "$work/out.json" "$work/without.json" && grep -q 'No trace was held out' "$work/report" && ok "a trace held out has no part in the fit" ||
    not_ok "a trace held out has no part in the fit" "the profiles differ"

# Two runs of one setting, the disk (its latency taken away) once 1.1 times as fast and once as slow: the rate stays, and every group of
# the link is d = log(1.1) = 9.53 % off, the others not at all. With the link's weights adding up to W, s^2 = W d^2 / (n - k) and the rate's
# variance is s^2 / W = d^2 / (n - k). With n - k of 20 or more the spread is from 9.53 % to sqrt(9.53^2 + 9.53^2 / 20) = 9.77 %.
setting=(-p 64 -n 8 -b 2 --num-gpu-batches 2 --percent "50 0 50 0 50 0")
still=(--hardware-set "disk->ram.latency=0s")
measured "$work/fast.csv" "${still[@]}" --hardware-set "disk->ram.rate=1.1x" "${setting[@]}"
measured "$work/slow.csv" "${still[@]}" --hardware-set "disk->ram.rate=0.90909091x" "${setting[@]}"
"$ballast" fit "$work/fast.csv" "$work/slow.csv" "${fit[@]}" "${still[@]}" --report json >"$work/report" 2>"$work/err"
# The slow run has up to 1.21 times the other's share of time on the link: its weight moves the mean by 0.21 / 2.21 of 9.53 % at most.
near "the mean of two speeds is near the profile's" "$(rate 'disk->ram.rate' change_percent)" 0 0.91
near "the spread says how far they were apart" "$(sed -nE 's/.*"read_spread": "([0-9.]+) %".*/\1/p' "$work/out.json")" 9.655 0.125
grep -q '"spread": ' "$work/out.json" && "$ballast" predict -m opt-125m -H "$work/out.json" --compress-cache "${setting[@]}" -o json >/dev/null &&
    ok "a profile with spreads is a profile" || not_ok "a profile with spreads is a profile" "it is not"

# A latency that the profile does not have (its 80 us taken away): transfers that were ready hide it behind the one before, others show it.
measured "$work/late.csv" --hardware-set "disk->ram.latency=500us" "${setting[@]}"
"$ballast" fit "$work/late.csv" "${fit[@]}" "${still[@]}" --report json >"$work/report" 2>"$work/err"
near "a latency is found from 0" "$(rate 'disk->ram.latency' after)" 0.0005 5e-8
bad "a latency beyond its bound" 1 'disk->ram\.latency: expected 0 ns to 400 us in place of the profile.s 0 ns, the traces want more' "$work/late.csv" "${fit[@]}" "${still[@]}" --bound "disk->ram.latency=0s-400us"

# A drive that takes turns: what was beside the other direction says nothing of the rates, and the rest gives them back.
sed 's/^ "compute": \[/ "contention": [{"name": "drive", "resources": {"disk->ram": "100 %", "ram->disk": "100 %"}, "source": "test"}],\n&/' $machine >"$work/turns.json"
grep -q contention "$work/turns.json" || not_ok "a drive that takes turns" "the profile has no line to put it before"
"$ballast" simulate -m opt-125m -H "$work/turns.json" --compress-cache -p 64 -n 8 -b 2 --num-gpu-batches 2 --percent "0 0 0 0 0 0" --trace "$work/simulated.csv" >/dev/null
sed 's/^# origin: simulated/# origin: measured/' "$work/simulated.csv" >"$work/turns.csv"
"$ballast" fit "$work/turns.csv" "${fit[@]}" --report json >"$work/report" 2>"$work/err"
# Those beside it for less than half of their time stay, and are slowed down by less than half.
near "reads beside writes are left out" "$(rate 'disk->ram.rate' change_percent)" 0 10
near "writes beside reads are left out" "$(rate 'ram->disk.rate' change_percent)" 0 10

# MLPs 15 % shorter than the rest says: at 8 to 12 tokens attention over the cache is far too little of the time to be the reason, and stays.
measured "$work/whole.csv" -p 8 -n 4 -b 8 --num-gpu-batches 1 --percent "100 0 100 0 100 0"
awk -F, -v OFS=, '$2 == "mlp" { $10 = $9 + int(0.85 * ($10 - $9)) } { print }' "$work/whole.csv" >"$work/short.csv"
cmp -s "$work/whole.csv" "$work/short.csv" && not_ok "shorter MLPs" "nothing was changed"
"$ballast" fit "$work/short.csv" "${fit[@]}" --report json >"$work/report" 2>"$work/err"
[ "$(rate 'cpu.attention_decode.q4' state)" = undetermined ] && ok "a rate does not stand for the error of another" ||
    not_ok "a rate does not stand for the error of another" "$(head -n 1 "$work/err") $(rate 'cpu.attention_decode.q4' state)"

# -- refusals
measured "$work/far.csv" --hardware-set "disk->ram.rate=5x" -p 64 -n 8 -b 2 --num-gpu-batches 2 --percent "50 0 50 0 50 0"
bad "a rate beyond four times" 1 'disk->ram\.rate: expected 0\.25 to 4 times the profile.s 2 GB/s, the traces want more' "$work/far.csv" "${fit[@]}"
bad "a rate beyond its own bound" 1 'disk->ram\.rate: expected 0\.5 to 1\.1 times' "${traces[@]}" "${fit[@]}" --bound "disk->ram.rate=0.5-1.1"
bad "a rate beyond a bound in GB/s" 1 'disk->ram\.rate: expected 0\.5 to 1\.1 times' "${traces[@]}" "${fit[@]}" --bound "disk->ram.rate=1GB/s-2.2GB/s"
"$ballast" fit "$work/far.csv" "${fit[@]}" --bound "disk->ram.rate=0.5-8" --report json >"$work/report" 2>"$work/err"
near "a wider bound takes it" "$(rate 'disk->ram.rate' change_percent)" 400 0.01
bad "a bound of no rate" 1 "expected a rate of box such as disk->ram\.rate, found 'ram\.capacity'" "${traces[@]}" "${fit[@]}" --bound "ram.capacity=0.5-2"
bad "a bound without a range" 1 'expected RATE=LOW-HIGH' "${traces[@]}" "${fit[@]}" --bound "disk->ram.rate=2"
bad "a bound in another unit" 1 'expected two factors above 0, or a rate' "${traces[@]}" "${fit[@]}" --bound "disk->ram.rate=1s-2s"
bad "a bound that leaves the profile out" 1 "around the profile's value, found factors 2 to 3" "${traces[@]}" "${fit[@]}" --bound "disk->ram.rate=2-3"
bad "a simulated trace" 1 'expected a measured trace, found one that is simulated: it would' "$work/simulated.csv" "${fit[@]}"
bad "a trace of another model" 1 'expected a trace of model opt-350m, found opt-125m' "$work/a.csv" -m opt-350m -H $machine -o "$work/out.json"
sed 's/^# machine: box/# machine: bag/' "$work/a.csv" >"$work/bag.csv"
bad "a trace of another machine" 1 'expected a trace of machine box, found bag' "$work/bag.csv" "${fit[@]}"
sed -e '/^# tiers/s/ram,disk/ram,tape/' -e 's/^,resident,disk/,resident,tape/' "$work/a.csv" >"$work/tape.csv"
bad "a trace of other tiers" 1 'expected a trace of a machine with tier disk, found tape' "$work/tape.csv" "${fit[@]}"
head -c 3000 "$work/a.csv" >"$work/cut.csv"
bad "a truncated trace" 1 'cut\.csv:[0-9]+' "$work/cut.csv" "${fit[@]}"
: >"$work/empty.csv"
bad "an empty trace" 1 'empty\.csv' "$work/empty.csv" "${fit[@]}"
sed 's/^# workload: prompt=64/# workload: prompt=65/' "$work/a.csv" >"$work/other.csv"
bad "operations of another workload" 1 'other\.csv: operation [0-9]+: expected ' "$work/other.csv" "${fit[@]}"
sed 's/^# policy: .*/# policy: --speed 3/' "$work/a.csv" >"$work/speed.csv"
bad "a header without a policy" 1 "speed\\.csv: header 'policy': .*unknown option .--speed" "$work/speed.csv" "${fit[@]}"
sed 's/^# workload: .*/# workload: much/' "$work/a.csv" >"$work/much.csv"
bad "a header without a workload" 1 "much\\.csv: header 'workload': expected " "$work/much.csv" "${fit[@]}"
bad "a missing trace" 3 'no\.csv' "$work/no.csv" "${fit[@]}"
bad "no trace" 1 'a trace is missing' "${fit[@]}"
bad "no output" 1 '\-o/--output is missing' "$work/a.csv" -m opt-125m -H $machine
bad "no model" 1 '\-m/--model is missing' "$work/a.csv" -H $machine -o "$work/out.json"
bad "an output in no directory" 3 'no/such/out\.json' "$work/a.csv" -m opt-125m -H $machine -o "$work/no/such/out.json"

# -- a real run: made-up rates are far from this machine's, so every bound is wide and nothing but the way through is checked
setting=(-m tests/fixtures/opt-tiny-pre -H $machine -p 8 -n 4 -b 2 --num-gpu-batches 2 --compress-cache --percent "50 0 50 0 100 0")
bounds=()
for name in "disk->ram.rate" "ram->disk.rate" cpu.matmul.f16 cpu.attention_prefill cpu.attention_decode.q4 cpu.memory_bandwidth cpu.launch; do
    bounds+=(--bound "$name=1e-9-1e9")
done
"$ballast" run "${setting[@]}" -r 1 --scratch-dir "$work" --trace "$work/run.csv" >/dev/null 2>"$work/err"
if "$ballast" fit "$work/run.csv" -m tests/fixtures/opt-tiny-pre -H $machine -o "$work/out.json" "${bounds[@]}" --report json >"$work/report" 2>>"$work/err"; then
    tr -d '\n' <"$work/report" | sed -E 's/.*"rms_before": ([^,]*), *"rms_after": ([^,]*),.*/\1 \2/' | awk '{ exit !($2 < $1) }' &&
        ok "a real run is fitted" || not_ok "a real run is fitted" "the error did not fall: $(tail -n 6 "$work/report" | tr -d '\n')"
else
    not_ok "a real run is fitted" "$(tail -n 1 "$work/err")"
fi
exit $failed
