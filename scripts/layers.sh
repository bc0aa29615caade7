#!/usr/bin/env bash
# layers.sh [--tap]: who may include whom, and that no file grows without a reason. Prints the order when all is well.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

tap=0
[ "${1:-}" = --tap ] && tap=1
lines_max=700

# Directory (longest match wins) and the regular expression of the project's headers its files may include.
allowed()
{
    case $1 in
    model/*) echo '^model/' ;;
    solver/*) echo '^(solver|model)/' ;;
    traces/*) echo '^(traces|model)/' ;;
    plots/*) echo '^(plots|traces|model)/' ;;
    executor/cuda/*) echo '^(executor|model)/|^traces/trace\.h$' ;;
    executor/*) echo '^(executor/[^/]*|executor/(cpu|sim)/.*|model/.*|traces/trace\.h)$' ;;
    cli/*) echo '^(cli|executor|solver|plots|traces|model)/' ;;
    *) echo '.' ;; # tests and benchmarks
    esac
}

# External headers with one home: pattern of the header, pattern of the files that may include it.
homes=(
    '^glpk\.h$' '^(solver/lp\.c|tests/test_lp\.c)$' # its own test may look inside
    '^gsl/' '^solver/fit\.c$'
    '(^|/)(oneapi/)?dnnl' '^(executor/cpu/onednn\.c|tests/emu/cublas\.cc)$'
    '^(cuda|cublas|nvrtc|cuda_runtime|driver_types)[a-zA-Z_0-9]*\.h$' '^(executor/cuda|tests/emu)/'
)

complaints=()
complain() { complaints+=("$1"); }

includes() # FILE: "line kind header" for every #include; kind is " or <
{
    sed -nE 's/^[[:space:]]*#[[:space:]]*include[[:space:]]*(["<])([^">]+)[">].*/\1 \2/p;t;s/.*//p' "$1" | nl -ba -w1 -s' ' |
        awk 'NF == 3'
}

check_file()
{
    local file=$1 rule line kind header i
    rule=$(allowed "$file")
    while read -r line kind header; do
        if [ "$kind" = '"' ]; then
            if [[ $header != */* ]]; then
                complain "$file:$line: include \"$header\" by its path from the top of the repository"
            elif ! [[ $header =~ $rule ]]; then
                complain "$file:$line: ${file%%/*}/ may not include \"$header\""
            fi
        fi
        for ((i = 0; i < ${#homes[@]}; i += 2)); do
            if [[ $header =~ ${homes[i]} && ! $file =~ ${homes[i + 1]} ]]; then
                complain "$file:$line: $header belongs to ${homes[i + 1]//[\^\\\$]/} only"
            fi
        done
    done < <(includes "$file")
    line=$(wc -l <"$file")
    if [ "$line" -gt $lines_max ] && ! head -n 30 "$file" | grep -qE 'long: [a-z0-9A-Z]+'; then
        complain "$file: $line lines, more than $lines_max; split it, or give the reason near the top: \"long: reason\""
    fi
}

mapfile -t files < <(find cli model solver executor traces plots tests bench -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' -o -name '*.cc' | sort)
for file in "${files[@]}"; do
    check_file "$file"
done

for complaint in ${complaints[@]+"${complaints[@]}"}; do
    [ $tap -eq 1 ] && echo "not ok - $complaint"
    echo "$complaint" >&2
done
[ ${#complaints[@]} -eq 0 ] || exit 1
if [ $tap -eq 1 ]; then
    echo "ok - layers of ${#files[@]} files"
    exit 0
fi
cat <<END
layers: ${#files[@]} files are fine
  model     <- nothing
  solver    <- model                 (glpk.h only in solver/lp.c, GSL only in solver/fit.c)
  traces    <- model
  executor  <- model, traces/trace.h (oneDNN only in executor/cpu/onednn.c, CUDA only below executor/cuda/, emulated in tests/emu/)
  plots     <- model, traces
  cli       <- everything
END
