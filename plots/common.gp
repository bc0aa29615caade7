# common.gp - terminal, fonts and frame of every figure. Expects: out, format ("png" or "svg"), width and height (points).
if (format eq "svg") {
    set terminal svg size width,height noenhanced font "Sans,14" background rgb "#ffffff"
} else {
    if (strstrt(GPVAL_TERMINALS, "pngcairo") > 0) {
        set terminal pngcairo size width,height noenhanced font "Sans,11" background rgb "#ffffff"
    } else {
        set terminal png size width,height noenhanced medium background rgb "#ffffff"
    }
}
set output out
set encoding utf8

# Eight colours that colour-blind readers can tell apart, darker ones for a ninth and on.
array COLOUR[12] = ["#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#8c6d1f", "#666666", \
                    "#7b3294", "#a6611a", "#1b7837", "#c51b7d"]
colour(k) = COLOUR[1 + (k - 1) % 12]

set border 3 linewidth 1 linecolor rgb "#444444"
set tics nomirror out scale 0.6 textcolor rgb "#222222"
set grid linetype 1 linecolor rgb "#e4e4e4" linewidth 1
set key outside right top Left reverse samplen 2 spacing 1.25 textcolor rgb "#222222"
