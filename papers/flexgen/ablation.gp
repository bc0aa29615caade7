# ablation.gp - table 4 and the baselines, published beside predicted, a panel for each model. Data, by tabs: variant, published, predicted, low, high.
set terminal pngcairo size 1500,560 font "sans,11"
set output out
set datafile separator "\t"
set style data histogram
set style histogram clustered gap 1
set style fill solid 0.85 border -1
set boxwidth 0.9
set xtics scale 0 font ",10"
set ytics nomirror
set border 3
set ylabel "throughput (tok/s)"
set grid ytics lc rgb "#dddddd"
set key top right
set yrange [0:*]
set offsets 0, 0, graph 0.1, 0
set bmargin 5
# one word a line
wrap(s) = strstrt(s, " ") ? s[1:strstrt(s, " ") - 1]."\n".wrap(s[strstrt(s, " ") + 1:*]) : s
set multiplot layout 1,2
do for [m in "opt-30b opt-175b"] {
    set title m
    f = data.m.".tsv"
    plot f using 2:xtic(wrap(strcol(1))) title "published" lc rgb "#4c72b0", \
         f using 3 title "predicted (t4-flexgen)" lc rgb "#dd8452", \
         f using ($0 + 0.225):4:(0):($5 - $4) title "90 % bar" with vectors nohead lc rgb "#333333" lw 2
}
unset multiplot
