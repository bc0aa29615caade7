# timeline.gp - operations per resource, a lane a trace. Data: kind, from, to, top, bottom; lanes run downwards from 0.
load plots . "/common.gp"

set title title . "\n" . subtitle
set xlabel "time (" . unit . ")"
set xrange [x0:x1]
set yrange [bottom:0]
set border 1
set grid xtics noytics back
unset ytics
set ytics scale 0 ()
do for [i = 1:|ROLEY|] {
    set ytics add (ROLE[i] ROLEY[i])
}
set style textbox opaque fillcolor rgb "#ffffff" noborder margins 0.5, 0.3
do for [i = 1:|HEADY|] {
    set label i HEAD[i] at graph 0, first HEADY[i] left offset character 0.3, 0 font ",12" front boxed
}
if (x0 < 0) {
    set arrow 1 from 0, graph 0 to 0, graph 1 nohead dashtype 2 linecolor rgb "#888888" back
}
set style fill solid 0.9 noborder

plot for [k = 1:|KIND|] in using (column(1) == k ? ($2 + $3) / 2 : NaN):(($4 + $5) / 2):2:3:4:5 \
    with boxxyerror linecolor rgb colour(k) title KIND[k]
