#!/usr/bin/env bash
# test_cli.sh: the built binary as a user meets it. Prints TAP.
#
# A wrong call must give its exit code, nothing on stdout and exactly one line on stderr that names the culprit.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

ballast=${BALLAST:-build/ballast}
. scripts/tap.sh

# good NAME PATTERN ARGUMENT...: exits 0, says nothing on stderr, and stdout matches the pattern.
good()
{
    local name=$1 pattern=$2 status=0
    shift 2
    "$ballast" "$@" >"$work/out" 2>"$work/err" </dev/null || status=$?
    if [ $status -ne 0 ]; then
        not_ok "$name" "exit $status: $(head -n 1 "$work/err")"
    elif [ -s "$work/err" ]; then
        not_ok "$name" "stderr: $(head -n 1 "$work/err")"
    elif [ -n "$pattern" ] && ! grep -qE -e "$pattern" "$work/out"; then
        not_ok "$name" "no /$pattern/ in the output: $(head -n 1 "$work/out")"
    else
        ok "$name"
    fi
}

# bad NAME STATUS PATTERN ARGUMENT...: that exit status, an empty stdout, one line on stderr that matches the pattern.
bad()
{
    local name=$1 expected=$2 pattern=$3 status=0
    shift 3
    "$ballast" "$@" >"$work/out" 2>"$work/err" </dev/null || status=$?
    if [ $status -ne "$expected" ]; then
        not_ok "$name" "exit $status, expected $expected: $(head -n 1 "$work/err")"
    elif [ -s "$work/out" ]; then
        not_ok "$name" "stdout is not empty: $(head -n 1 "$work/out")"
    elif [ "$(wc -l <"$work/err")" -ne 1 ]; then
        not_ok "$name" "$(wc -l <"$work/err") lines on stderr: $(head -n 2 "$work/err" | tr '\n' '/')"
    elif ! grep -qE -e "$pattern" "$work/err"; then
        not_ok "$name" "no /$pattern/ in: $(cat "$work/err")"
    else
        ok "$name"
    fi
}

has() { "$ballast" -h | grep -qE "^  $1 "; }

# -- the program itself
good "help lists the commands" '^  inspect ' -h
good "help of a command, asked before it" '^usage: ballast inspect ' help inspect
good "version" '^ballast [0-9]+\.[0-9]+' version
good "version as an option" '^ballast [0-9]+\.[0-9]+' --version
bad "no command" 1 'a command is missing'
bad "an unknown command" 1 'unknown command "frobnicate"' frobnicate
bad "help of an unknown command" 1 'unknown command "frobnicate"' help frobnicate
bad "a misspelled command gets the nearest" 1 'unknown command "inpsect": did you mean "inspect"\?' inpsect
for command in $("$ballast" -h | sed -nE 's/^  ([a-z]+) +.*/\1/p' | grep -v version); do
    good "$command -h" "^usage: ballast $command " "$command" -h
    bad "$command with an unknown option" 1 "^ballast: $command: unknown option \"--nonsense\"" "$command" --nonsense
done

# -- inspect
good "inspect as text" '\| parameters ' inspect -m opt-1.3b
good "inspect as JSON" '"parameters": 29974540288,' inspect -m opt-30b -o json
good "inspect counts the cache" '"cache_bytes_per_token": 1376256,' inspect -m opt-30b -o json
good "inspect as JSON lines" '^\{.*"active_parameters":29974540288.*\}$' inspect -m opt-30b -o jsonl
good "inspect as CSV" '^layer,count,parameters,' inspect -m opt-30b -o csv
bad "inspect without a model" 1 '^ballast: inspect: -m/--model is missing' inspect
bad "inspect of an unknown model" 1 '^ballast: inspect: .*opt-1\.4b' inspect -m opt-1.4b
bad "inspect of a missing file" 1 '^ballast: inspect: .*no/such/config\.json' inspect -m no/such/config.json
echo '{"model_type": "opt", "hidden_size": "wide"}' >"$work/config.json"
bad "inspect of a wrong config" 1 "config\.json:1: " inspect -m "$work/config.json"
head -c 20 "$work/config.json" >"$work/cut.json"
bad "inspect of a truncated config" 1 'cut\.json:1: ' inspect -m "$work/cut.json"
bad "inspect with a bad number" 1 '^ballast: inspect: -p/--prompt-tokens: .*found "many"' inspect -m opt-1.3b -p many
bad "inspect with a list where one number belongs" 1 '^ballast: inspect: -p/--prompt-tokens: .*found "1,2"' inspect -m opt-1.3b -p 1,2
bad "inspect beyond the positions" 1 '^ballast: inspect: .*2048' inspect -m opt-1.3b -p 4000
bad "inspect in an unknown format" 1 '^ballast: inspect: -o/--output: .*found "xml"' inspect -m opt-1.3b -o xml
bad "inspect with a stray word" 1 'unexpected argument "opt-30b"' inspect -m opt-1.3b opt-30b

# -- devices
good "devices as text" '\| tier +\| ram ' devices
good "devices as JSON" '"name": "ram",' devices -o json
bad "devices with a missing directory" 3 '^ballast: devices: no/such/dir: ' devices --scratch-dir no/such/dir
good "devices as CSV" '^compute,cpu,' devices -o csv
BALLAST_CUDA=no/such.so good "devices without a CUDA part says why" '^compute,gpu,0,,"?none: no CUDA part: no/such\.so' devices -o csv
export BALLAST_CUDA=build/emu/libballast_cuda.so
good "devices with an emulated GPU" '^compute,gpu,,,.*host emulation, no GPU' devices -o csv
good "devices lists a GPU's memory" '^tier,gpu,,1073741824,' devices -o csv
good "devices lists a GPU's link" '^link,ram->gpu,,,' devices -o csv
good "devices lists the CUDA runtime" '^library,CUDA runtime,,,13\.0' devices -o csv
unset BALLAST_CUDA

# -- validate and plot
bad "validate without a trace" 1 '^ballast: validate: a trace is missing' validate
bad "validate of a missing trace" 3 '^ballast: validate: .*no\.csv' validate no.csv
printf '# version: x\nnot,a,trace\n' >"$work/wrong.csv"
bad "validate of a wrong trace" 1 '^ballast: validate: .*wrong\.csv:' validate "$work/wrong.csv"
: >"$work/empty.csv"
bad "validate of an empty trace" 1 '^ballast: validate: .*empty\.csv' validate "$work/empty.csv"
bad "validate with a bad limit" 1 '^ballast: validate: --mean: .*found "-1"' validate --mean=-1 x.csv
bad "plot without arguments" 1 '^ballast: plot: the kind of plot is missing' plot
bad "plot without a file" 1 '^ballast: plot: the CSV file to draw is missing' plot timeline -o "$work/x.png"
bad "plot without an output" 1 '^ballast: plot: -o/--output is missing' plot timeline x.csv
bad "plot of an unknown kind" 1 '^ballast: plot: .*pie' plot pie "$work/wrong.csv" -o "$work/x.png"
bad "plot of a wrong trace" 1 '^ballast: plot: .*wrong\.csv' plot timeline "$work/wrong.csv" -o "$work/x.png"
[ -e "$work/x.png" ] && not_ok "a failed plot leaves no picture" "x.png is there" || ok "a failed plot leaves no picture"

# -- planning
if has predict; then
    predict=(predict -m opt-1.3b -H t4-gcp -p 128 -n 8)
    placed=(--percent "100 0 100 0 100 0" -b 4)
    good "predict as JSON" '"throughput_tok_s": [0-9.e+-]+' "${predict[@]}" "${placed[@]}" -o json
    good "predict without a policy plans one" '"throughput_tok_s": [0-9.e+-]+' "${predict[@]}" --max-block 8 -o json
    bad "predict with a missing policy" 3 '^ballast: predict: .*no\.json' "${predict[@]}" --policy no.json
    bad "predict with five percentages" 1 '^ballast: predict: .*percent' "${predict[@]}" --percent "1 2 3 4 5"
    bad "predict with too much in a class" 1 '^ballast: predict: .*percent' "${predict[@]}" --percent "80 30 0 100 0 100"
    bad "sparse attention over a cache that is copied" 1 '^ballast: predict: command line: attention_sparsity: .*100 % of the cache on tier cpu' \
        "${predict[@]}" --percent "100 0 0 100 100 0" --attn-sparsity 0.1
    bad "no value at all" 1 'attention_sparsity: expected more than 0' "${predict[@]}" "${placed[@]}" --attn-sparsity 0
    bad "predict without hardware" 1 '^ballast: predict: -H/--hardware is missing' predict -m opt-1.3b "${placed[@]}"
    bad "predict on unknown hardware" 1 '^ballast: predict: .*t5-gcp' predict -m opt-1.3b -H t5-gcp "${placed[@]}"
    [ "$("$ballast" "${predict[@]}" "${placed[@]}" --hardware-set "gpu.matmul.f16=2x" --hardware-set gpu.launch=0s -o json | grep -c throughput_tok_s)" -eq 1 ] &&
        ok "predict for a changed machine" || not_ok "predict for a changed machine" "no result"
    good "a capacity may grow and a budget narrow it" '"throughput_tok_s":' "${predict[@]}" "${placed[@]}" --budget gpu=20GiB --hardware-set gpu.capacity=24GiB -o json
    bad "a change of an unknown field" 1 "found 'gpu\.speed'" "${predict[@]}" "${placed[@]}" --hardware-set gpu.speed=2x
    bad "a change without a value" 1 '\-\-hardware-set: expected FIELD=VALUE' "${predict[@]}" "${placed[@]}" --hardware-set gpu.capacity
    bad "a change without a unit" 1 'expected a size such as' "${predict[@]}" "${placed[@]}" --hardware-set gpu.capacity=24
    bad "a budget of an unknown tier" 1 '^ballast: predict: .*ram' "${predict[@]}" "${placed[@]}" --budget ram=1GiB
    bad "a budget without a unit" 1 '^ballast: predict: .*gpu' "${predict[@]}" "${placed[@]}" --budget gpu=16
    bad "a budget above the machine's" 1 '^ballast: predict: .*gpu' "${predict[@]}" "${placed[@]}" --budget gpu=999GiB
    bad "a budget without a tier" 1 'found "16GiB"' "${predict[@]}" "${placed[@]}" --budget 16GiB
fi
if has plan; then
    good "plan as JSON" '"policy": "--gpu-batch-size ' plan -m opt-1.3b -H t4-gcp -p 128 -n 8 --max-block 16 -o json
    bad "a little is missing" 2 'missing on ram at batch 1 \(needs 15[0-9]{7} B of 155923251 B\)' plan -m opt-1.3b \
        -H tests/fuzz/seeds/fuzz_hardware/ram-disk.json -p 16 -n 4 --budget ram=148.7MiB
    bad "a plan that does not fit" 2 '^ballast: plan: .*(gpu|cpu|disk)' plan -m opt-30b -H t4-gcp -p 128 -n 8 \
        --budget gpu=1GiB --budget cpu=1GiB --budget disk=1GiB
    good "a front of plans" '"bound_tok_s":[0-9.e+-]+,"gap_percent":' plan -m opt-1.3b -H t4-gcp -p 128 -n 8 --max-block 64 --pareto 6 -o jsonl
    [ "$(wc -l <"$work/out")" -ge 3 ] && sed -E 's/.*"latency_s":([^,]*),"throughput_tok_s":([^,]*),.*/\1 \2/' "$work/out" |
        awk 'NR > 1 && !($1 < l && $2 <= t) { bad = 1 } { l = $1; t = $2 } END { exit bad }' && ok "less latency costs throughput" ||
        not_ok "less latency costs throughput" "$(head -n 2 "$work/out")"
    bad "a front of one point" 1 '^ballast: plan: --pareto' plan -m opt-1.3b -H t4-gcp --pareto 1
    opt="plan -m opt-1.3b -H t4-gcp -p 128 -n 8 --max-block 64"
    good "variables fixed" '^policy: --gpu-batch-size 8 --num-gpu-batches 3 --percent "50 50 100 0 0 100" --compress-weight --schedule row --no-overlap' \
        $opt --set gbs=8 --set batches=3 --set w.gpu=50% --set c.gpu=100% --set h.gpu=0% --set h.disk=0% --set w.disk=0% --set weight_bits=4 \
        --set cache_bits=16 --set attention=gpu --set schedule=row --set overlap=off
    good "a fraction in a range" '^proof: of ' $opt --set w.cpu=20%-40%
    good "what if" '"gain_percent": [1-9]' $opt -o json --what-if gpu.capacity=24GiB --what-if "cpu->gpu=24GB/s" --what-if gpu.rate=2
    bad "what if beside a front" 1 '^ballast: plan: --what-if and --pareto: expected one of them' $opt --what-if gpu.capacity=2x --pareto 4
    bad "a limit of the search with a policy" 1 '^ballast: predict: --latency: limits what is searched, but a policy is given$' \
        predict -m opt-1.3b -H t4-gcp --percent "100 0 100 0 100 0" --latency 3
    bad "an empty policy" 1 '^ballast: predict: --percent: expected six percentages, found ""' predict -m opt-1.3b -H t4-gcp --percent ""
    bad "a policy file where none is written" 1 'unknown option "--policy-out"' predict -m opt-1.3b -H t4-gcp --policy-out "$work/none.json"
    mkdir "$work/it's here" && cp model/data/hardware/t4-gcp.json "$work/it's here/hw 1.json"
    command=$("$ballast" plan -m opt-1.3b -H "$work/it's here/hw 1.json" -p 128 -n 8 --max-block 8 --budget gpu=4GiB --scale "cpu->gpu=2" | tail -n 1)
    eval "words=($command)"
    [ "${words[5]}" = "$work/it's here/hw 1.json" ] && [ "${words[10]} ${words[12]} ${words[13]}" = "--budget --scale cpu->gpu=2" ] &&
        ok "the command of a plan is a shell's" || not_ok "the command of a plan is a shell's" "$command"
    bad "a policy file of a front" 1 '^ballast: plan: --policy-out: expected a single plan, found --pareto$' $opt --pareto 4 --policy-out "$work/none.json"
    bad "what if nothing fits then" 2 '^ballast: plan: with gpu.capacity=1MiB: does not fit: ' $opt --what-if gpu.capacity=1MiB
    bad "what if of no factor" 1 '^ballast: plan: --what-if gpu.rate: expected a factor above 0' $opt --what-if gpu.rate=0
    bad "a flag against a fixed word" 1 'overlap: expected what is fixed already \(off\), found "on"$' $opt --no-overlap --set overlap=on
    good "a plan for a program with pageable weights" '--pageable-weights' plan -m opt-1.3b -H t4-flexgen --budget gpu=2GiB -p 128 -n 8 \
        --max-block 8 --pageable-weights -o csv
    bad "what if of an unknown part" 1 '^ballast: plan: .*gpu.price' $opt --what-if gpu.price=2
    bad "an unknown variable" 1 '^ballast: plan: --set: expected gbs, .* found "w.ram"$' $opt --set w.ram=5%
    bad "a negative size" 1 '^ballast: plan: --set gbs: expected whole numbers from 1 to 65536 such as 48, 16..64 or 1,2,4, found "-3"$' $opt --set gbs=-3
    bad "a negative percentage" 1 '^ballast: plan: --set w.gpu: expected a percentage' $opt --set w.gpu=-5%
    bad "a flag against a fix" 1 '^ballast: plan: --set gbs: expected what is fixed already \(4\), found "8"$' $opt -b 4 --set gbs=8
    bad "a fix against a fix" 1 '^ballast: plan: --set cache_bits: ' $opt --set cache_bits=4 --set cache_bits=16
    bad "more than all" 1 '^ballast: plan: --set w.cpu=50%: expected at most 100 % of the weights' $opt --set w.gpu=60% --set w.cpu=50%
    bad "less than all" 1 '^ballast: plan: --set w.disk=10%: expected ' $opt --set w.gpu=10% --set w.cpu=10% --set w.disk=10%
    good "the diagonal over open sizes" 'schedule diagonal' plan -m opt-1.3b -H t4-gcp -p 128 -n 8 --max-block 16 --sequences 64 --schedule diagonal -o json
    bad "sequences that nothing serves in time" 2 'takes at most 0\.5 s: the fastest for all sequences takes [0-9.]* s; try --latency ' \
        $opt --sequences 100 --latency 0.5
    bad "an empty space" 1 '^ballast: plan: batch size: expected at most 64' $opt --set gbs=65
    good "sizes in a range and a list" 'gpu-batch-size (1[6-9]|2[0-4]) --num-gpu-batches (1|2) ' $opt --set gbs=16..24 --set batches=1,2,60 -o csv
    good "ranges that meet in a value" 'gpu-batch-size 12 ' $opt --set gbs=4..12 --set gbs=12-40 -o csv
    bad "a range that runs backwards" 1 '^ballast: plan: --set gbs: expected whole numbers .*found "64..16"$' $opt --set gbs=64..16
    bad "ranges without a common value" 1 'set gbs: expected what is fixed already .4 to 8., found "16..32"$' $opt --set gbs=4..8 --set gbs=16..32
    bad "an empty space of ranges" 1 '^ballast: plan: batch size: expected at most 64 .*found 16 x 8$' $opt --set gbs=16..32 --set batches=8,16
    bad "a fix of a given policy" 1 '^ballast: predict: --set gbs=4: ' predict -m opt-1.3b -H t4-gcp --percent "100 0 100 0 100 0" --set gbs=4
    bad "a plan with a fixed placement" 1 '^ballast: plan: --percent' plan -m opt-1.3b -H t4-gcp --percent "100 0 100 0 100 0"
fi

# -- sweep: the rows of predict and plan, in order, whatever the jobs; gone on with where a file ends
if has sweep; then
    lists=(-m opt-125m,opt-1.3b -H t4-gcp -p 128-512*2 -n 8 -b 1,4 --num-gpu-batches 1)
    swept=(sweep "${lists[@]}" --percent "100 0 100 0 100 0,0 100 0 100 0 100")
    good "sweep of 2 x 3 x 2 x 2 points" '^opt-1\.3b,t4-gcp,512,8,4,0 100 0 100 0 100,0,,' "${swept[@]}"
    [ "$(wc -l <"$work/out")" -eq 25 ] && ok "sweep has a row a point" || not_ok "sweep has a row a point" "$(wc -l <"$work/out") lines"
    cp "$work/out" "$work/sweep.csv"
    "$ballast" "${swept[@]}" -o - 2>/dev/null | cmp -s - "$work/sweep.csv" && ok "sweep to -o -" || not_ok "sweep to -o -" "it differs"
    for jobs in 1 3; do
        "$ballast" "${swept[@]}" -j $jobs | cmp -s - "$work/sweep.csv" && ok "sweep with -j $jobs gives the same" || not_ok "sweep with -j $jobs gives the same" "it differs"
    done
    . scripts/csv.sh
    one=$("$ballast" predict -m opt-1.3b -H t4-gcp -p 256 -n 8 -b 4 --num-gpu-batches 1 --percent "100 0 100 0 100 0" -o csv | column latency_s)
    [ "$(column latency_s <"$work/sweep.csv" | sed -n 19p)" = "$one" ] && ok "a row is what predict says" || not_ok "a row is what predict says" "not $one"
    for cut in 0 40 700 2100; do # bytes: nothing, half the names, half a row, rows
        head -c $cut "$work/sweep.csv" >"$work/part.csv"
        "$ballast" "${swept[@]}" -o "$work/part.csv" 2>/dev/null && cmp -s "$work/part.csv" "$work/sweep.csv" &&
            ok "sweep goes on after $cut bytes" || not_ok "sweep goes on after $cut bytes" "the file differs"
    done
    "$ballast" "${swept[@]}" -o "$work/part.csv" 2>/dev/null && cmp -s "$work/part.csv" "$work/sweep.csv" && ok "a finished sweep stays" ||
        not_ok "a finished sweep stays" "the file differs"
    if mpirun --version >/dev/null 2>&1; then
        # as root too, and on fewer cores than ranks
        export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
        head -c 700 "$work/sweep.csv" >"$work/ranks.csv"
        for ranks in 2 3; do
            mpirun --oversubscribe -n $ranks "$ballast" "${swept[@]}" -j 2 -o "$work/ranks.csv" >"$work/out" 2>"$work/err" &&
                cmp -s "$work/ranks.csv" "$work/sweep.csv" && ok "sweep on $ranks ranks" || not_ok "sweep on $ranks ranks" "$(head -n 3 "$work/err")"
            rm -f "$work/ranks.csv"
        done
        status=0
        mpirun --oversubscribe -n 2 "$ballast" "${swept[@]}" -o "$work/no/such/rows.csv" >"$work/out" 2>"$work/err" || status=$?
        [ $status -eq 3 ] && [ "$(grep -c '^ballast: sweep: .*no/such/rows.csv' "$work/err")" -eq 1 ] && ok "a failure on one rank ends all" ||
            not_ok "a failure on one rank ends all" "exit $status: $(head -n 3 "$work/err")"
    else
        echo "ok - sweep on ranks # SKIP no mpirun"
    fi
    bad "sweep onto another's rows" 1 'part\.csv: expected rows of this sweep' sweep "${lists[@]}" --percent "50 50 0 100 0 100" -o "$work/part.csv"
    cmp -s "$work/part.csv" "$work/sweep.csv" && ok "rows of another sweep are left alone" || not_ok "rows of another sweep are left alone" "they changed"
    good "sweep of flags, budgets and rates" '^opt-1\.3b,t4-gcp,512,32,no,1GiB,0\.5,2,.*does not fit' sweep -m opt-1.3b -H t4-gcp \
        --vary compress-weight=yes,no --budget gpu=16GB,1GiB --scale "cpu->gpu=1,0.5" --percent "100 0 100 0 100 0"
    good "sweep plans where no policy is given" '^opt-1\.3b,t4-gcp,128,8,8GiB,0,,"--gpu-batch-size ' sweep -m opt-1.3b -H t4-gcp -p 128 -n 8 \
        --max-block 8 --budget gpu=4GiB,8GiB
    good "sweep of what is fixed" '^opt-1\.3b,t4-gcp,128,8,30%,gpu,0,,"--gpu-batch-size ' sweep -m opt-1.3b -H t4-gcp -p 128 -n 8 \
        --set w.gpu=20%,30% --set attention=cpu,gpu --max-block 8
    good "sweep over machines of other tiers" '^opt-125m,h200,' sweep -m opt-125m -H t4-gcp,h200 --percent "100 0 100 0 100 0"
    good "sweep of fields of the machine" '^opt-1\.3b,t4-gcp,512,32,24GiB,18GB/s,0,,' sweep -m opt-1.3b -H t4-gcp --percent "100 0 100 0 100 0" \
        --hardware-set gpu.capacity=16GiB,24GiB --hardware-set "cpu->gpu.rate=12GB/s-24GB/s+6GB/s"
    [ "$(wc -l <"$work/out")" -eq 7 ] && ok "a field's range has its values" || not_ok "a field's range has its values" "$(wc -l <"$work/out") lines"
    if command -v gnuplot >/dev/null; then
        cp "$work/out" "$work/fields.csv"
        good "a field's rate on an axis" '' plot line "$work/fields.csv" --x "hardware-set cpu->gpu.rate" --y "hardware-set gpu.capacity" -o "$work/f.svg"
        grep -q 'cpu-.*gpu\.rate (GB/s)' "$work/f.svg" && grep -q 'gpu\.capacity (GiB)' "$work/f.svg" && ok "axes say their units" ||
            not_ok "axes say their units" "$(grep -o '>[^<]*(G[^<]*<' "$work/f.svg" | tr '\n' ' ')"
        printf 'a,b\n4GB/s,1\n8GiB,2\n' >"$work/mixed.csv"
        bad "a column of two units" 1 "mixed\.csv:3: 'a': expected values in B/s as before, found '8GiB'" plot line "$work/mixed.csv" --x a --y b -o "$work/m.svg"
    fi
    good "sweep of a budget's range" '^opt-1\.3b,t4-gcp,512,32,8GiB,0,,' sweep -m opt-1.3b -H t4-gcp --percent "100 0 100 0 100 0" \
        --budget gpu=4GiB-8GiB*2
    bad "sweep of an unknown field" 1 "expected a field of t4-gcp \(gpu\.capacity, .*found 'gpu\.size'" sweep -m opt-125m -H t4-gcp --hardware-set gpu.size=1GiB,2GiB
    bad "sweep of a field beyond its range" 1 "expected more than 0, found '0x'" sweep -m opt-125m -H t4-gcp --hardware-set "gpu.launch=1x,2x" \
        --hardware-set "cpu->gpu.rate=0x"
    bad "sweep with a wrong list" 1 '^ballast: sweep: .*"1,x": expected a whole number' sweep -m opt-125m -H t4-gcp -b 1,x
    bad "sweep with a range that runs backwards" 1 '4-1 runs backwards' sweep -m opt-125m -H t4-gcp -b 4-1
    bad "sweep with an empty value" 1 'expected values between commas' sweep -m opt-125m,,opt-1.3b -H t4-gcp
    bad "sweep with a value out of range" 1 '^ballast: sweep: -b/--gpu-batch-size: .*found "0"' sweep -m opt-125m -H t4-gcp -b 0-2
    bad "sweep of an unknown flag" 1 '^ballast: sweep: --vary: .*found "speed=yes"' sweep -m opt-125m -H t4-gcp --vary speed=yes
    bad "sweep of an option given twice" 1 '\-\-gpu-batch-size is given twice' sweep -m opt-125m -H t4-gcp -b 1 -b 2
    bad "sweep without a model" 1 '^ballast: sweep: -m/--model is missing' sweep -H t4-gcp
    bad "sweep without a machine" 1 '^ballast: sweep: -H/--hardware is missing' sweep -m opt-125m
    bad "sweep of an unknown model" 1 'opt-1.4b' sweep -m opt-125m,opt-1.4b -H t4-gcp
    bad "a plan into no directory" 3 'no/such/p\.json: cannot write: ' plan -m opt-125m -H t4-gcp --policy-out "$work/no/such/p.json"
    bad "a profile into no directory" 3 'no/such/p\.json: cannot write: ' profile -o "$work/no/such/p.json"
    bad "a trace into no directory" 3 'no/such/t\.csv: cannot write: ' run -m opt-125m -H t4-gcp --percent "100 0 100 0 100 0" \
        --chrome-trace "$work/t.json" --trace "$work/no/such/t.csv"
    bad "sweep into no directory" 3 'no/such/rows\.csv: ' sweep -m opt-125m -H t4-gcp -o "$work/no/such/rows.csv"
    bad "sweep on an unknown machine" 1 't5-gcp' sweep -m opt-125m -H t4-gcp,t5-gcp
    bad "a scale of an unknown link" 1 "scale 'gpu->moon=2'" predict -m opt-125m -H t4-gcp --scale "gpu->moon=2"
    bad "a scale of zero" 1 'factor above 0' predict -m opt-125m -H t4-gcp --scale "gpu=0"
fi

# -- paper
if has paper; then
    good "paper as text" '^FlexGen and FlexGen\(c\), 18 rows' paper flexgen
    good "a row of a paper" '^15,FlexGen,opt-30b,512,throughput_tok_s,7\.32,' paper flexgen 15 -o csv
    [ "$(wc -l <"$work/out")" -eq 13 ] && ok "a table has its rows" || not_ok "a table has its rows" "$(wc -l <"$work/out") lines"
    predicted=$("$ballast" predict -m opt-6.7b -H t4-flexgen -p 512 -n 32 --gpu-batch-size 2 --percent "100 0 100 0 100 0" -o csv | column throughput_tok_s)
    grep -q "^15,FlexGen,opt-6.7b,512,throughput_tok_s,25.26,$predicted," "$work/out" && ok "a paper's prediction is what predict says" ||
        not_ok "a paper's prediction is what predict says" "no $predicted"
    good "a table that repeats others" '^14,FlexGen,opt-6.7b,256,' paper flexgen 13 -o csv
    good "the rates fitted to a paper" '^All, 28 rows: off by 3\.' paper flexgen fit "$work/fitted.json"
    "$ballast" predict -m opt-30b -H "$work/fitted.json" --percent "0 100 0 100 0 100" -b 4 >"$work/out" 2>&1 && ok "a fitted profile is a profile" ||
        not_ok "a fitted profile is a profile" "$(cat "$work/out")"
    "$ballast" paper flexgen -o csv >"$work/out"
    cmp -s "$work/out" papers/flexgen/tables.csv && ok "the paper's tables are as committed" ||
        not_ok "the paper's tables are as committed (make papers)" "$(diff "$work/out" papers/flexgen/tables.csv | head -3)"
    good "the page cache's help" '"throughput_tok_s":' predict -m opt-175b -H t4-flexgen --percent "0 50 0 0 0 100" -b 32 --num-gpu-batches 8 \
        --cpu-cache-compute --page-cache 30GiB -o json
    good "a plan with turns and a page cache" '"gap_percent":' plan -m opt-1.3b -H t4-flexgen -p 128 -n 8 --max-block 8 --budget cpu=2GiB \
        --page-cache 1GiB -o json
    bad "an unknown paper" 1 'expected a paper \(flexgen\), found "flexgin"' paper flexgin
    bad "an unknown table" 1 'expected one of its tables 14, .*found "99"' paper flexgen 99
    bad "no paper" 1 'the name of a paper is missing' paper
fi

# -- the whole way with a model of 200 kB: simulate, run, compare, draw
if has run && has simulate; then
    setting=(-m tests/fixtures/opt-tiny-pre -H tests/fuzz/seeds/fuzz_hardware/ram-disk.json -p 8 -n 4 -b 2 --num-gpu-batches 2
        --compress-cache --percent "50 0 50 0 100 0")
    good "simulate with a trace" '"throughput_tok_s": ' simulate "${setting[@]}" --trace "$work/simulated.csv" -o json
    status=0
    "$ballast" run "${setting[@]}" -r 1 --scratch-dir "$work" --trace "$work/measured.csv" --chrome-trace "$work/measured.json" \
        -o json >"$work/out" 2>"$work/err" || status=$?
    if [ $status -eq 0 ] && [ -s "$work/measured.csv" ] && [ -s "$work/measured.json" ]; then
        ok "run with traces"
    else
        not_ok "run with traces" "exit $status: $(tail -n 1 "$work/err")"
    fi
    sparse=("${setting[@]}" --percent "50 0 100 0 100 0" --attn-sparsity 0.3)
    good "run with sparse attention" '"throughput_tok_s": ' run "${sparse[@]}" -r 1 --scratch-dir "$work" --trace "$work/sparse.csv" -o json
    grep -q -- '--attn-sparsity 0.3' "$work/sparse.csv" && ok "its trace says so" || not_ok "its trace says so" "$(grep policy "$work/sparse.csv")"
    # 6 sequences in blocks of 4 are two blocks: twice the time, for 6/4 of the tokens
    number() { sed -n "s/.*\"$1\": \([0-9.e+-]*\).*/\1/p" "$work/out"; }
    for command in predict simulate run; do
        fixed=("${setting[@]}")
        [ $command = run ] && fixed+=(-r 1 --scratch-dir "$work")
        "$ballast" $command "${fixed[@]}" -o json >"$work/out" 2>/dev/null
        block=$(number latency_s)
        good "$command six sequences" '"latency_s": ' $command "${fixed[@]}" --sequences 6 -o json
        awk -v command=$command -v block="$block" -v all="$(number latency_s)" -v rate="$(number throughput_tok_s)" 'BEGIN {
            twice = all / block / 2; tokens = all * rate / 24
            exit !((command == "run" || (twice > 0.999999 && twice < 1.000001)) && tokens > 0.999999 && tokens < 1.000001) }' &&
            ok "$command serves six sequences in two blocks" ||
            not_ok "$command serves six sequences in two blocks" "a block takes $block s: $(head -c 300 "$work/out")"
    done
    stream=("${setting[@]}" --schedule diagonal --sequences 10)
    good "simulate a diagonal stream" '"throughput_tok_s": ' simulate "${stream[@]}" --trace "$work/diagonal.csv" -o json
    good "run a diagonal stream" '"throughput_tok_s": ' run "${stream[@]}" -r 1 --scratch-dir "$work" --trace "$work/ran.csv" -o json
    [ "$(grep -c ',attention,' "$work/diagonal.csv")" -eq "$(grep -c ',attention,' "$work/ran.csv")" ] &&
        ok "the stream runs as simulated" || not_ok "the stream runs as simulated" "other attention operations"
    grep -q '^# generated_tokens: 40$' "$work/ran.csv" && ok "the stream serves every sequence" ||
        not_ok "the stream serves every sequence" "$(grep '^# generated_tokens' "$work/ran.csv")"
    bad "a run with help of the page cache" 1 'reads around it' run "${setting[@]}" --page-cache 1GiB
    bad "noise of a profile without spreads" 1 'does not say how far its rates vary' simulate "${setting[@]}" --noise 1
    bad "noise of too few replays" 1 'expected 20 to 100000 replays' simulate "${setting[@]}" --noise 1:5
    sed 's/"write": \[/"read_spread": "10 %", "write": [/' tests/fuzz/seeds/fuzz_hardware/ram-disk.json >"$work/spread.json"
    good "noise gives an interval" '"throughput_low_tok_s": [0-9]' simulate "${setting[@]}" -H "$work/spread.json" --noise 7:50 -o json
    bad "a schedule that is none" 1 'expected zigzag.row.diagonal, found "spiral"' simulate "${setting[@]}" --schedule spiral
    good "a simulated trace validates" '' validate "$work/simulated.csv"
    # Made-up rates cannot predict this machine; wide limits let it pass, none must fail with 4.
    good "validate inside wide limits" '"throughput"' validate "$work/measured.csv" --mean 1e6 --worst 1e6 --peak 1e6 -o json
    status=0
    "$ballast" validate "$work/measured.csv" --mean 0 --worst 0 >/dev/null 2>"$work/err" || status=$?
    if [ $status -eq 4 ] && [ "$(wc -l <"$work/err")" -eq 1 ]; then
        ok "validate outside limits exits 4"
    else
        not_ok "validate outside limits exits 4" "exit $status: $(head -n 1 "$work/err")"
    fi
    head -c 700 "$work/measured.csv" >"$work/cut.csv"
    bad "validate of a truncated trace" 1 '^ballast: validate: .*cut\.csv:[0-9]+' validate "$work/cut.csv"
    if command -v gnuplot >/dev/null; then
        good "plot of two traces" '' plot timeline "$work/simulated.csv" "$work/measured.csv" -o "$work/t.png"
        [ "$(head -c 4 "$work/t.png" | tail -c 3)" = PNG ] && ok "the plot is a PNG" || not_ok "the plot is a PNG" "it is not"
    else
        echo "ok - plot of two traces # SKIP gnuplot is not installed"
    fi
    status=0
    gpu=(run -m tests/fixtures/opt-tiny-pre -H t4-gcp -p 8 -n 4 --percent "0 100 0 100 0 100" -b 1 --num-gpu-batches 1 --scratch-dir "$work")
    "$ballast" "${gpu[@]}" --backend cpu >/dev/null 2>"$work/err" || status=$?
    if [ $status -eq 1 ] && grep -q "^ballast: run: compute 'gpu' keeps hidden states in f16" "$work/err"; then
        ok "run on a profile with hidden states in f16"
    else
        not_ok "run on a profile with hidden states in f16" "exit $status: $(tail -n 1 "$work/err")"
    fi
    # A GPU's profile wants the CUDA part; the emulated one stands for it.
    emulated=$PWD/build/emu/libballast_cuda.so
    bad "an unknown backend" 1 "^ballast: run: --backend: expected cpu or cuda, found 'tpu'" "${gpu[@]}" --backend tpu
    bad "cuda without a device" 1 '^ballast: run: --backend cuda: expected a device' run "${setting[@]}" --backend cuda
    BALLAST_CUDA=/no/such.so bad "run on a GPU without the CUDA part" 3 \
        '^ballast: run: no CUDA part: .*/no/such\.so.*--backend cpu' "${gpu[@]}"
    echo '{"tokens": [5, 6, 7]}' >"$work/prompts.jsonl"
    status=0
    BALLAST_CUDA=$emulated "$ballast" "${gpu[@]}" --compress-cache --prompts "$work/prompts.jsonl" --budget gpu=1GiB >"$work/gpu" 2>"$work/err" || status=$?
    "$ballast" run "${setting[@]:0:4}" -p 8 -n 4 --percent "100 0 100 0 100 0" -b 1 --num-gpu-batches 1 --compress-cache \
        --prompts "$work/prompts.jsonl" >"$work/cpu" 2>/dev/null
    if [ $status -eq 0 ] && cmp -s "$work/gpu" "$work/cpu"; then
        ok "the emulated GPU gives the CPU's tokens"
    else
        not_ok "the emulated GPU gives the CPU's tokens" "exit $status: $(tail -n 1 "$work/err")"
    fi
    BALLAST_CUDA=$emulated bad "more than the device's budget" 2 '^ballast: run: .*tier gpu' "${gpu[@]}" --budget gpu=1MiB
    bad "run of a preset without weights" 1 '^ballast: run: .*opt-1\.3b has no weights' run -m opt-1.3b "${setting[@]:2:2}" -p 8 -n 4
    status=0
    echo '{"tokens": [5, 6, 7], "id": "a"}' >"$work/prompts.jsonl"
    "$ballast" run "${setting[@]}" -r 1 --prompts "$work/prompts.jsonl" >"$work/out" 2>"$work/err" || status=$?
    if [ $status -eq 0 ] && grep -qE '^\{"id": ?"a", ?"tokens": ?\[[0-9, ]+\], ?"finish": ?"(length|stop)"\}$' "$work/out"; then
        ok "run with prompts"
    else
        not_ok "run with prompts" "exit $status: $(head -n 1 "$work/out") $(tail -n 1 "$work/err")"
    fi
    # Text in and out through the model's own tokenizer; the same words give the same tokens for every placement.
    mkdir "$work/text" "$work/scratch"
    cp tests/fixtures/opt-tiny-pre/{config.json,model.safetensors} tests/fixtures/tokenizer-512/* "$work/text"
    printf '%s\n' '{"id": "a", "prompt": "The cat"}' '{"prompt": "Hello world, this is"}' >"$work/prompts.jsonl"
    text=(run -m "$work/text" "${setting[@]:2:2}" -p 16 -n 8 -b 2 --num-gpu-batches 1 --compress-cache --prompts "$work/prompts.jsonl")
    before=$(cat "$work"/text/* | cksum)
    "$ballast" "${text[@]}" --percent "100 0 100 0 100 0" --scratch-dir "$work/scratch" >"$work/all.jsonl" 2>"$work/err"
    "$ballast" "${text[@]}" --percent "0 0 0 0 0 0" --scratch-dir "$work/scratch" >"$work/none.out" 2>>"$work/err"
    if [ "$(grep -c '"text":' "$work/all.jsonl")" -eq 2 ] && cmp -s "$work/all.jsonl" "$work/none.out"; then
        ok "text prompts give the same text from memory and from disk"
    else
        not_ok "text prompts give the same text from memory and from disk" "$(tail -n 1 "$work/err")"
    fi
    "$ballast" "${text[@]}" --percent "0 0 0 0 0 0" --scratch-dir "$work/scratch" --temperature 0.9 --top-k 50 --seed 1 >"$work/s1" 2>/dev/null
    "$ballast" "${text[@]}" --percent "30 0 50 0 50 0" --scratch-dir "$work/scratch" --temperature 0.9 --top-k 50 --seed 1 >"$work/s2" \
        2>/dev/null
    if cmp -s "$work/s1" "$work/s2" && ! cmp -s "$work/s1" "$work/all.jsonl"; then
        ok "sampling depends on the seed, not on the placement"
    else
        not_ok "sampling depends on the seed, not on the placement" "$(head -n 1 "$work/s1") $(head -n 1 "$work/s2")"
    fi
    bad "text for a model without a tokenizer" 1 "prompts\.jsonl:1: key 'prompt'" run "${setting[@]}" --prompts "$work/prompts.jsonl"
    # Killed at any moment, a run leaves nothing behind and its input as it was.
    for ms in 01 02 03 05 08 13 21; do # the shell would tell of each death
        { timeout -s KILL "0.$ms" "$ballast" "${text[@]}" --percent "0 0 0 0 0 0" --scratch-dir "$work/scratch"; } >/dev/null 2>&1
    done 2>/dev/null
    if [ -z "$(ls -A "$work/scratch")" ] && [ "$(cat "$work"/text/* | cksum)" = "$before" ]; then
        ok "killed runs leave no scratch and the input untouched"
    else
        not_ok "killed runs leave no scratch and the input untouched" "$(ls -A "$work/scratch" | tr '\n' ' ')"
    fi
    status=0
    "$ballast" run "${setting[@]}" --prompts "$work/none.jsonl" >"$work/out" 2>"$work/err" || status=$?
    if [ $status -eq 3 ] && tail -n 1 "$work/err" | grep -q 'none\.jsonl: No such file'; then
        ok "run with a missing prompt file"
    else
        not_ok "run with a missing prompt file" "exit $status: $(tail -n 1 "$work/err")"
    fi
fi

# -- a full disk is seen
if [ -w /dev/full ]; then
    status=0
    "$ballast" inspect -m opt-1.3b -o json >/dev/full 2>"$work/err" || status=$?
    if [ $status -eq 3 ]; then ok "no room for the output"; else not_ok "no room for the output" "exit $status"; fi
fi
exit $failed
