# ablation.gp - table 4, published beside predicted. Data: variant, model, published, predicted, by tabs.
set terminal pngcairo size 1100,520 font "sans,11"
set output out
set datafile separator "\t"
set style data histogram
set style histogram clustered gap 1
set style fill solid 0.85 border -1
set boxwidth 0.9
set xtics rotate by -25 scale 0
set ylabel "throughput (tok/s)"
set grid ytics lc rgb "#dddddd"
set key top right
set multiplot layout 1,2
do for [m in "opt-30b opt-175b"] {
    set title m
    set yrange [0:(m eq "opt-30b" ? 10 : 1)]
    plot data using (strcol(2) eq m ? $3 : NaN):xtic(strcol(2) eq m ? strcol(1) : "") title "published" lc rgb "#4c72b0", \
         data using (strcol(2) eq m ? $4 : NaN) title "predicted (t4-flexgen)" lc rgb "#dd8452"
}
unset multiplot
