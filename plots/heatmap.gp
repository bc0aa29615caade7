# heatmap.gp - a value by two columns. Data: column, row (from 0), value or NaN. Every different value has a cell of one size.
load plots . "/common.gp"

stats in using 3 nooutput # before the ranges, which would cut it

set title title
set xlabel xlabel
set ylabel ylabel
unset grid
set border 15
unset key
set xrange [-0.5:Xcount - 0.5]
set yrange [-0.5:Ycount - 0.5]
set xtics () out
set ytics () out
do for [i = 1:|XTICKS|] { set xtics add (XTICKS[i] (i - 1) * Xstep) }
do for [i = 1:|YTICKS|] { set ytics add (YTICKS[i] (i - 1) * Ystep) }
set palette defined (0 "#440154", 1 "#3b528b", 2 "#21918c", 3 "#5ec962", 4 "#fde725")
middle = (STATS_min + STATS_max) / 2
written = Xcount * Ycount <= 240
if (STATS_min == STATS_max) { set cbrange [STATS_min * 0.9:STATS_max * 1.1] }

plot in using 1:2:3 with image notitle, \
    in using (written && $3 <= middle ? $1 : NaN):2:(sprintf("%.3g", $3)) with labels textcolor rgb "#ffffff" notitle, \
    in using (written && $3 > middle ? $1 : NaN):2:(sprintf("%.3g", $3)) with labels textcolor rgb "#000000" notitle
