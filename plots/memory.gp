# memory.gp - resident bytes over time, a panel a tier. Data: curve (2 a panel), time, bytes in the panel's unit.
load plots . "/common.gp"

n = |TIER|
set lmargin screen 0.075
set rmargin screen 0.79
set xrange [0:xmax]
curve(i, k) = 2 * (i - 1) + k
label(i, k) = LABEL[3 * (i - 1) + k]

# Panels share the height between a title of 70 points and an x axis of 60 points.
high = 1 - 70.0 / height
low = 60.0 / height
gap = 26.0 / height
each = (high - low - gap * (n - 1)) / n

set multiplot
set label 1 title at screen 0.4325, screen (1 - 22.0 / height) center font ",13"
set label 2 subtitle at screen 0.4325, screen (1 - 46.0 / height) center
do for [i = 1:n] {
    set tmargin screen high - (i - 1) * (each + gap)
    set bmargin screen high - (i - 1) * (each + gap) - each
    set yrange [0:TOP[i]]
    set ylabel TIER[i] . " (" . UNIT[i] . ")"
    if (i == n) { set xlabel "time (" . unit . ")"; set format x "%g" } else { unset xlabel; set format x "" }
    plot in using (column(1) == curve(i, 1) ? $2 : NaN):3 with steps linewidth 2 linecolor rgb COLOUR[first] \
            title label(i, 1), \
        in using (column(1) == curve(i, 2) ? $2 : NaN):3 with steps linewidth 2 linecolor rgb COLOUR[2] \
            title label(i, 2), \
        (PEAK[i] > 0 ? PEAK[i] : NaN) with lines dashtype 2 linewidth 1.5 linecolor rgb "#444444" title label(i, 3)
    unset label 1
    unset label 2
}
unset multiplot
