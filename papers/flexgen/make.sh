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

{
    echo "# What ballast would have chosen on FlexGen's machine"
    echo
    echo "For each policy that the paper chose, ballast's plan for the same model, prompt and machine, all searched; FlexGen without compression, FlexGen(c)"
    echo "with either width. Both are predictions of t4-flexgen, in tokens/s. low and high are the error bar of the gain: 9 in 10 are expected in between, as"
    echo "far as the profile's spreads are the reason, each prediction with an error of its own. The profile knows FlexGen's program with the policies of the"
    echo "tables; a plan that is far from them is as good as the cost model, and FlexGen itself would give out its weights as whole tensors."
    echo
    "$ballast" paper flexgen chosen
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

# Table 4, and the baselines of table 15.
for model in opt-30b opt-175b; do
    paste -d '\t' <(column table <"$out/tables.csv") <(column system <"$out/tables.csv") <(column model <"$out/tables.csv") \
        <(column published <"$out/tables.csv") <(column predicted <"$out/tables.csv") <(column low <"$out/tables.csv") \
        <(column high <"$out/tables.csv") | awk -F '\t' -v m=$model -v OFS='\t' '
            $3 == m && ($1 == 4 || ($1 == 15 && $2 !~ /FlexGen/)) { line[++n] = $2 OFS $4 OFS $5 OFS $6 OFS $7; order[n] = $1 == 4 ? 0 : 1 }
            END { for (k = 0; k < 2; k++) for (i = 1; i <= n; i++) if (order[i] == k) print line[i] }' >"$figures/ablation-$model.tsv"
done
gnuplot -e "data='$figures/ablation-'; out='$figures/ablation.png'" "$out/ablation.gp"
