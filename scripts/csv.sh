# csv.sh - reading our own CSV results from a shell script. Sourced.

# awk: the cells of a line; quoted ones may hold commas.
csv_cells='
function cells(line, to,    n, i, c, quoted, field) {
    n = 0; field = ""; quoted = 0
    for (i = 1; i <= length(line); i++) {
        c = substr(line, i, 1)
        if (c == "\"") quoted = !quoted
        else if (c == "," && !quoted) { to[++n] = field; field = "" }
        else field = field c
    }
    to[++n] = field
    return n
}
'

# column NAME < CSV: that column of every row.
column() {
    awk -v want="$1" "$csv_cells"'
        { sub(/\r$/, "") }
        NR == 1 { n = cells($0, name); for (i = 1; i <= n; i++) if (name[i] == want) at = i; next }
        { cells($0, value); print value[at] }'
}
