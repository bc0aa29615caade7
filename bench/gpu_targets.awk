# gpu_targets.awk - what the rows of gpu-cases-MACHINE.csv say of the targets. bench/gpu.sh puts cells() of scripts/csv.sh before it.
function row(target, asked, model, from, what, found, reached)
{
    printf "%s,%s,%s,%s,%s,%.4f,%s\n", target, asked, model, from, what, found, reached ? "yes" : "no"
}
function magnitude(x) { return x < 0 ? -x : x }

BEGIN { print "target,asked,model,weights_from,case,found,reached" }
/^#/ { next }
!n_columns {
    n_columns = cells($0, name)
    for (i = 1; i <= n_columns; i++) at[name[i]] = i
    next
}
{
    cells($0, c)
    if (c[at["outcome"]] !~ /^ok/) next
    model = c[at["model"]]; from = c[at["weights_from"]]; what = c[at["case"]]; rate = c[at["throughput_tok_s"]] + 0
    source = model "," from
    if (c[at["system"]] == "flexgen") {
        theirs[source "," what] = rate
        if (rate > their_best[source]) their_best[source] = rate
        next
    }
    ours[source "," what] = rate
    if (what ~ /^plan/ && rate > plan_best[source]) plan_best[source] = rate
    if (what == "streamed")
        row("decode over the pinned rate", ">=0.92", model, from, what, c[at["share_of_pinned_up"]], c[at["share_of_pinned_up"]] >= 0.92)
    else if (from == "memory")
        row("prefill over the cuBLAS rate", ">=0.60", model, from, what, c[at["share_of_cublas"]], c[at["share_of_cublas"]] >= 0.60)
    row("run time over the busiest resource", "<=1.10", model, from, what, c[at["run_over_busiest"]], c[at["run_over_busiest"]] <= 1.10)
    error += magnitude(c[at["relative_error"]]); n++
    off = magnitude(c[at["peak_gpu_bytes"]] / c[at["planned_gpu_bytes"]] - 1)
    if (off > worst) worst = off
}
END {
    for (key in theirs)
        if (key in ours) {
            split(key, part, ",")
            row("times FlexGen at its policy", ">=2", part[1], part[2], part[3], ours[key] / theirs[key], ours[key] >= 2 * theirs[key])
        }
    for (key in their_best)
        if (key in plan_best) {
            split(key, part, ",")
            row("times FlexGen with our plan", ">=3", part[1], part[2], "best of each", plan_best[key] / their_best[key], plan_best[key] >= 3 * their_best[key])
        }
    if (n > 0) {
        row("predicted against measured, mean", "<=0.10", "", "", n " runs", error / n, error / n <= 0.10)
        row("peak device bytes against planned, worst", "<=0.01", "", "", n " runs", worst, worst <= 0.01)
    }
}
