# line.gp - one column against another, a line a group. Data: series, x, y.
load plots . "/common.gp"

set title title
set xlabel xlabel
set ylabel ylabel
if (logx) { set logscale x 2 }
if (logy) { set logscale y }
set xrange [xlo:xhi]
set yrange [ylo:yhi]
set format "%g"
if (group ne "") { set key title group }
named = |SERIES| > 1 || SERIES[1] ne ""

plot for [k = 1:|SERIES|] in using (column(1) == k ? $2 : NaN):3 with linespoints pointtype 7 pointsize 0.8 linewidth 2 \
    linecolor rgb colour(k) title (named ? SERIES[k] : "")
