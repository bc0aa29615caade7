# throughput.gp - throughput against batch size, a line a series. Data: series, batch, throughput, measured (or NaN).
load plots . "/common.gp"

set title "Throughput against batch size"
set xlabel "batch (sequences)"
set ylabel "throughput (tok/s)"
set xrange [xlo:xhi]
set yrange [ylo:yhi]
if (logx) { set logscale x 2 }
if (logy) { set logscale y }
set format "%g"
named = |SERIES| > 1 || SERIES[1] ne ""
label(k) = named ? SERIES[k] : (measured ? "predicted" : "throughput")

plot for [k = 1:|SERIES|] in using (column(1) == k ? $2 : NaN):3 with linespoints pointtype 7 pointsize 0.9 linewidth 2 \
        linecolor rgb colour(k) title label(k), \
    for [k = 1:|SERIES|] in using (column(1) == k ? $2 : NaN):4 with points pointtype 6 pointsize 1.8 linewidth 2 \
        linecolor rgb colour(k) notitle, \
    keyentry with points pointtype 6 pointsize 1.8 linewidth 2 linecolor rgb "#444444" title (measured ? "measured" : "")
