#!/usr/bin/env bash
# make.sh: regenerates FlexGen's tables and figures from the profile t4-flexgen. `make papers` runs it.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/csv.sh
ballast=${BALLAST:-build/ballast}
out=papers/flexgen figures=${FIGURES:-build/papers/flexgen}
mkdir -p "$figures"

"$ballast" paper flexgen -o md >"$out/tables.md"
"$ballast" paper flexgen -o csv >"$out/tables.csv"
"$ballast" paper flexgen fit >"$out/fit.md"
left_out=$(sed -n 's/^All, .*left out, \([0-9.]*\) %.*/\1/p' "$out/fit.md")

# -- what ballast would have chosen --------------------------------------------------------------------------------------

# A FlexGen run computes a GPU batch at once, which our account of workspace does not cover: so its GPU batch sizes stay, all else is searched.
choose() { # model prompt system published flags
    local batch bits=() row predicted
    batch=$(sed -n 's/.*--gpu-batch-size \([0-9]*\).*/\1/p' <<<"$5")
    [ "$3" = FlexGen ] && bits=(--no-compress-weight --no-compress-cache)
    row=$("$ballast" plan -m "$1" -H t4-flexgen -p "$2" -n 32 -b "$batch" "${bits[@]}" -o csv)
    predicted=$(column throughput_tok_s <<<"$row")
    printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$4" "$6" "$predicted" "$(column policy <<<"$row")"
}

{
    echo "# What ballast would have chosen on FlexGen's machine"
    echo
    echo "With FlexGen's GPU batch size, all else searched; FlexGen without compression, FlexGen(c) with either. Both columns are predicted by t4-flexgen;"
    echo "the gain's error bar is the mean error of both on tables that were left out of the fit, $left_out % each, independent of each other."
    echo
    echo "| model | prompt | system | published | paper's policy, predicted | ballast's, predicted | gain | ballast's policy |"
    echo "|---|---|---|---:|---:|---:|---:|---|"
    paste -d '\t' <(column table <"$out/tables.csv") <(column system <"$out/tables.csv") <(column model <"$out/tables.csv") \
        <(column prompt <"$out/tables.csv") <(column published <"$out/tables.csv") <(column predicted <"$out/tables.csv") \
        <(column flags <"$out/tables.csv") | while IFS=$'\t' read -r table system model prompt published predicted flags; do
        case $table:$system in 14:FlexGen* | 15:FlexGen* | 16:FlexGen*) choose "$model" "$prompt" "$system" "$published" "$flags" "$predicted" ;; esac
    done | awk -F '\t' -v e="$left_out" '{
        gain = $6 / $5
        printf "| %s | %s | %s | %s | %.3g | %.3g | %+.0f %% +- %.0f | `%s` |\n", $1, $2, $3, $4, $5, $6, 100 * (gain - 1), gain * e * sqrt(2), $7 }'
} >"$out/chosen.md"

# -- figures ---------------------------------------------------------------------------------------------------------------

{
    echo label,predicted,measured
    paste -d, <(column system <"$out/tables.csv") <(column model <"$out/tables.csv") <(column predicted <"$out/tables.csv") \
        <(column published <"$out/tables.csv") <(column metric <"$out/tables.csv") <(column table <"$out/tables.csv") |
        awk -F, '$5 == "throughput_tok_s" && $1 ~ /^FlexGen/ && $6 >= 14 { print $1 " " $2 "," $3 "," $4 }'
} >"$figures/rows.csv"
"$ballast" plot scatter "$figures/rows.csv" -o "$figures/rows.png"

echo model,latency_s,throughput_tok_s >"$figures/front.csv"
for model in opt-30b opt-175b; do
    front=$("$ballast" plan -m $model -H t4-flexgen -p 512 -n 32 --max-block 1024 --pareto 12 -o csv)
    paste -d, <(column latency_s <<<"$front") <(column throughput_tok_s <<<"$front") | sed "s/^/$model,/" >>"$figures/front.csv"
done
"$ballast" plot line "$figures/front.csv" --x latency_s --y throughput_tok_s --group model -o "$figures/front.png"

paste -d, <(column table <"$out/tables.csv") <(column system <"$out/tables.csv") <(column model <"$out/tables.csv") \
    <(column published <"$out/tables.csv") <(column predicted <"$out/tables.csv") |
    awk -F, '$1 == 4 { print $2 "\t" $3 "\t" $4 "\t" $5 }' >"$figures/ablation.tsv"
gnuplot -e "data='$figures/ablation.tsv'; out='$figures/ablation.png'" "$out/ablation.gp"
