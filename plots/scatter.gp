# scatter.gp - predicted against measured with the identity and a band of +-10 %. Data: series, measured, predicted.
load plots . "/common.gp"

set title title
set xlabel "measured (" . unit . ")"
set ylabel "predicted (" . unit . ")"
set xrange [lo:hi]
set yrange [lo:hi]
set size ratio 1
if (logarithmic) { set logscale xy }
set format "%g"
shape(k) = word("7 5 9 13 11", 1 + (k - 1) % 5) + 0
set samples 200

plot [t = lo:hi] '+' using 1:($1 * 0.9):($1 * 1.1) with filledcurves linecolor rgb "#e3ecf3" title "within 10 %", \
    [t = lo:hi] '+' using 1:1 with lines linewidth 1 linecolor rgb "#555555" title "predicted = measured", \
    for [k = 1:|SERIES|] in using (column(1) == k ? $2 : NaN):3 with points pointtype shape(k) pointsize 1.3 \
        linecolor rgb colour(k) title SERIES[k]
