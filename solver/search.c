/* search.c - branch and bound over boxes of batch sizes for every combination of switches (boxes.c), then the best few made executable.
 * docs/planner.md says why each skip is safe. */
#include "solver/search.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "solver/boxes.h"
#include "solver/point.h"
#include "solver/remedies.h"

#define MAX_BLOCK    65536
/* Some seconds. A proof takes a few thousand, unless very many blocks are as good. */
#define MAX_BOXES    50000
/* How many points are kept for realisation, best relaxed throughput first. */
#define KEPT_MAX     8
/* Prices of recent LPs, for the lower bound. */
#define PRICES_MAX   8
/* Objectives of the LP are exact to this part. */
#define LP_ROUND_OFF 1e-9
/* A point must be better by this part to displace another: less is round-off, and would prefer a larger block for nothing. */
#define BETTER       1e-10

struct search_state {
    struct problem pr;
    int64_t max_block;
    int n_kept, kept_most;
    struct point kept[KEPT_MAX + 1]; /* best first; the last is scratch for insertion */
    int n_prices, next_price;
    struct lp_solution prices[PRICES_MAX];
    struct point pt; /* the point being looked at */
    struct boxes open;
    double bound_tok_s;
    bool given_up;
    int64_t points, points_solved, boxes;
};

void search_options_default(struct search_options *o)
{
    *o = (struct search_options){.attention_near_cache = -1,
                                 .attention_sparsity = 1,
                                 .schedule = -1,
                                 .overlap = -1,
                                 .tolerance = 1e-4,
                                 .max_boxes = MAX_BOXES};
    for (int c = 0; c < CLASS_COUNT; c++)
        for (int k = 0; k < TIERS_MAX; k++)
            o->fraction.high[c][k] = 1;
}

/* -- the best few --------------------------------------------------------------------------------------------------- */

/* Throughput that a new point must exceed to be worth an LP. */
static double threshold(const struct search_state *s)
{
    return s->n_kept < s->kept_most ? 0 : s->kept[s->n_kept - 1].relaxed_throughput_tok_s * (1 + BETTER);
}

static bool same_setting(const struct policy *a, const struct policy *b)
{
    return a->gpu_batch_size == b->gpu_batch_size && a->num_gpu_batches == b->num_gpu_batches &&
           a->weight_bits == b->weight_bits && a->cache_bits == b->cache_bits &&
           a->attention_near_cache == b->attention_near_cache && a->schedule == b->schedule && a->overlap == b->overlap &&
           a->prefetch == b->prefetch;
}

static bool is_kept(const struct search_state *s, const struct policy *p)
{
    for (int i = 0; i < s->n_kept; i++)
        if (same_setting(&s->kept[i].policy, p))
            return true;
    return false;
}

static void keep(struct search_state *s)
{
    int at = s->n_kept;

    if (is_kept(s, &s->pt.policy))
        return;
    while (at > 0 && s->pt.relaxed_throughput_tok_s > s->kept[at - 1].relaxed_throughput_tok_s * (1 + BETTER)) {
        s->kept[at] = s->kept[at - 1];
        at--;
    }
    s->kept[at] = s->pt;
    s->n_kept = s->n_kept < s->kept_most ? s->n_kept + 1 : s->kept_most;
}

/* -- one point ------------------------------------------------------------------------------------------------------ */

static void remember_prices(struct search_state *s)
{
    s->prices[s->next_price] = s->pt.solution;
    s->next_price = (s->next_price + 1) % PRICES_MAX;
    s->n_prices = s->n_prices < PRICES_MAX ? s->n_prices + 1 : PRICES_MAX;
}

/* The largest throughput any point of the space may have: the best point's, or that of the best box left out. */
static void leave_out(struct search_state *s, double bound_tok_s)
{
    s->bound_tok_s = fmax(s->bound_tok_s, bound_tok_s);
}

/* No placement of this point can enter the kept few, or meet the latency: the bound holds for any prices. */
static bool is_hopeless(const struct search_state *s)
{
    const double max_latency_s = s->pr.o->max_latency_s, least = threshold(s);

    for (int i = 0; i < s->n_prices; i++) {
        const double total_s = point_least_total_s(&s->pr, &s->pt.cost, &s->prices[i]);
        if (total_s > 0 && (s->pt.cost.tokens <= least * total_s || (max_latency_s > 0 && total_s > max_latency_s)))
            return true;
    }
    return false;
}

/* Looks at one setting. STATUS_DOES_NOT_FIT and STATUS_INVALID (no rate for a format) are answers, not failures. */
static enum status visit(struct search_state *s, const struct policy *p, struct error *err)
{
    enum status status;

    if (is_kept(s, p))
        return STATUS_OK;
    s->pt.policy = *p;
    status = point_build(&s->pr, &s->pt, err);
    if (status == STATUS_OK && point_cannot_fit(&s->pr, &s->pt.cost))
        status = STATUS_DOES_NOT_FIT;
    if (status != STATUS_OK || is_hopeless(s))
        return status;
    status = point_solve(&s->pr, &s->pt, err);
    if (status != STATUS_OK)
        return status;
    remember_prices(s);
    s->points_solved++;
    if (!(s->pr.o->max_latency_s > 0 && s->pt.solution.total_s > s->pr.o->max_latency_s)) {
        leave_out(s, s->pt.relaxed_throughput_tok_s);
        keep(s);
    }
    return STATUS_OK;
}

/* -- branch and bound over boxes of batch sizes --------------------------------------------------------------------- */

/* A box that cannot beat the best point by more than the tolerance is not worth looking into. */
static bool is_worthless(const struct search_state *s, double bound_tok_s)
{
    return s->n_kept > 0 && bound_tok_s <= s->kept[0].relaxed_throughput_tok_s * (1 + fmax(s->pr.o->tolerance, BETTER));
}

/* Cuts off what lies above the largest block; false if nothing is left. */
static bool clip(const struct search_state *s, struct box *b)
{
    if (policy_block(&b->low) > s->max_block)
        return false;
    b->high.gpu_batch_size = (int)fmin(b->high.gpu_batch_size, (double)(s->max_block / b->low.num_gpu_batches));
    b->high.num_gpu_batches = (int)fmin(b->high.num_gpu_batches, (double)(s->max_block / b->low.gpu_batch_size));
    return true;
}

static bool is_point(const struct box *b)
{
    return b->low.gpu_batch_size == b->high.gpu_batch_size && b->low.num_gpu_batches == b->high.num_gpu_batches;
}

/* The throughput that no point of the box exceeds, in b->bound_tok_s; 0 if none fits or meets the latency. Prices of earlier LPs may do;
 * else the box's own LP, whose prices its parts try first. A point's LP is that of the point: it is kept. */
static enum status bound_box(struct search_state *s, struct box *b, struct error *err)
{
    const double max_latency_s = s->pr.o->max_latency_s;
    struct error inner = {0}; /* that nothing fits is an answer */
    enum status status;

    s->pt.policy = b->low;
    s->boxes++;
    status = cost_build_bound(&s->pt.cost, s->pr.a, s->pr.hw, s->pr.w, &b->low, &b->high, s->max_block, err);
    if (status != STATUS_OK)
        return status;
    if (point_cannot_fit(&s->pr, &s->pt.cost)) {
        b->bound_tok_s = 0;
        return STATUS_OK;
    }
    for (int i = -1; i < s->n_prices; i++) {
        const struct lp_solution *prices = i < 0 ? &b->prices : &s->prices[i];
        const double total_s = point_least_total_s(&s->pr, &s->pt.cost, prices);
        if (total_s > 0)
            b->bound_tok_s = fmin(b->bound_tok_s, s->pt.cost.tokens / total_s);
        if (max_latency_s > 0 && total_s > max_latency_s)
            b->bound_tok_s = 0;
        if (b->bound_tok_s == 0 || is_worthless(s, b->bound_tok_s))
            return STATUS_OK;
    }
    status = point_solve(&s->pr, &s->pt, &inner);
    if (status == STATUS_DOES_NOT_FIT || (max_latency_s > 0 && s->pt.solution.total_s > max_latency_s)) {
        b->bound_tok_s = 0;
        return STATUS_OK;
    }
    if (status != STATUS_OK)
        return error_set(err, status, "%s", inner.text);
    remember_prices(s);
    b->prices = s->pt.solution;
    b->bound_tok_s = fmin(b->bound_tok_s, s->pt.relaxed_throughput_tok_s);
    if (is_point(b)) {
        s->points_solved++;
        keep(s);
    }
    return STATUS_OK;
}

/* The smallest and the largest sizes of the box as points: good ones early make more boxes worthless. */
static enum status try_corners(struct search_state *s, const struct box *b, struct error *err)
{
    struct policy corner[2] = {b->low, b->low};
    enum status status = STATUS_OK;

    corner[1].num_gpu_batches = b->high.num_gpu_batches;
    for (int i = 0; i < 2 && status == STATUS_OK; i++) {
        struct error inner = {0};
        status = visit(s, &corner[i], &inner);
        status = status == STATUS_DOES_NOT_FIT ? STATUS_OK : status;
        if (status != STATUS_OK)
            error_set(err, status, "%s", inner.text);
    }
    return status;
}

/* Bounds a box and files it, unless it is settled. */
static enum status open_box(struct search_state *s, struct box *b, struct error *err)
{
    enum status status;

    if (!clip(s, b))
        return STATUS_OK;
    status = bound_box(s, b, err);
    if (status != STATUS_OK || b->bound_tok_s == 0)
        return status;
    if (is_point(b) || is_worthless(s, b->bound_tok_s)) {
        leave_out(s, b->bound_tok_s);
        return STATUS_OK;
    }
    status = try_corners(s, b, err);
    if (status == STATUS_OK && !boxes_push(&s->open, b))
        status = error_set(err, STATUS_RUNTIME, "no memory for the search");
    return status;
}

/* In two, along the side that spans the larger factor. */
static void split(const struct box *b, struct box *one, struct box *two)
{
    const double gpu = (double)b->high.gpu_batch_size / b->low.gpu_batch_size,
                 batches = (double)b->high.num_gpu_batches / b->low.num_gpu_batches;

    *one = *two = *b;
    if (gpu >= batches) {
        one->high.gpu_batch_size = (int)sqrt((double)b->low.gpu_batch_size * b->high.gpu_batch_size);
        two->low.gpu_batch_size = one->high.gpu_batch_size + 1;
    } else {
        one->high.num_gpu_batches = (int)sqrt((double)b->low.num_gpu_batches * b->high.num_gpu_batches);
        two->low.num_gpu_batches = one->high.num_gpu_batches + 1;
    }
}

/* Only with an answer: that nothing fits is always proven. */
static bool gives_up(const struct search_state *s)
{
    return s->pr.o->max_boxes > 0 && s->boxes > s->pr.o->max_boxes && s->n_kept > 0;
}

/* The best box first, until none can be better than the best point by more than the tolerance. */
static enum status prove(struct search_state *s, struct error *err)
{
    enum status status = STATUS_OK;
    struct box b, part[2];

    while (status == STATUS_OK && boxes_pop(&s->open, &b)) {
        const bool settled = is_worthless(s, b.bound_tok_s);
        s->given_up = !settled && gives_up(s);
        if (settled || s->given_up) {
            leave_out(s, b.bound_tok_s); /* the best of those that are left */
            break;
        }
        split(&b, &part[0], &part[1]);
        for (int i = 0; i < 2 && status == STATUS_OK; i++)
            status = open_box(s, &part[i], err);
    }
    return status;
}

/* Pairs of sizes in a box with a product up to the largest block. */
static int64_t count_sizes(const struct search_state *s, const struct box *b)
{
    int64_t n = 0;

    for (int64_t g = b->low.gpu_batch_size; g <= b->high.gpu_batch_size; g++) {
        const int64_t most = s->max_block / g < b->high.num_gpu_batches ? s->max_block / g : b->high.num_gpu_batches;
        n += most >= b->low.num_gpu_batches ? most - b->low.num_gpu_batches + 1 : 0;
    }
    return n;
}

/* A box of one combination of switches; one of the diagonal is cut where it must lie on one side of the tokens. */
static enum status open_sizes(struct search_state *s, struct box b, struct error *err)
{
    const int64_t n = s->pr.w->gen_tokens;
    enum status status = STATUS_OK;

    s->points += count_sizes(s, &b);
    if (b.low.schedule == SCHEDULE_DIAGONAL && b.low.num_gpu_batches <= n && n < b.high.num_gpu_batches) {
        struct box many = b;
        many.low.num_gpu_batches = (int)n + 1;
        b.high.num_gpu_batches = (int)n;
        status = open_box(s, &many, err);
    }
    return status == STATUS_OK ? open_box(s, &b, err) : status;
}

/* All sizes that the options leave open, for one combination of switches. Row by row differs from zig-zag from two batches on; the diagonal
 * too, unless there are more sequences than one block's. */
static enum status open_switches(struct search_state *s, const struct policy *switches, struct error *err)
{
    const struct search_options *o = s->pr.o;
    const struct sizes gpu = sizes_allowed(o->gpu_batch_size, &o->gpu_batch_sizes, (int)s->max_block),
                       batches = sizes_allowed(o->num_gpu_batches, &o->batch_numbers, (int)s->max_block);
    const bool stream = switches->schedule == SCHEDULE_DIAGONAL && s->pr.w->sequences > 0;
    const int fewest = switches->schedule == SCHEDULE_ZIGZAG || stream || o->schedule >= 0 ? 1 : 2;
    enum status status = STATUS_OK;

    for (int i = 0; i < gpu.n; i++)
        for (int j = 0; j < batches.n && status == STATUS_OK; j++) {
            struct box b = {.low = *switches, .high = *switches, .bound_tok_s = INFINITY};
            b.low.gpu_batch_size = gpu.range[i].low;
            b.high.gpu_batch_size = gpu.range[i].high;
            b.low.num_gpu_batches = batches.range[j].low > fewest ? batches.range[j].low : fewest;
            b.high.num_gpu_batches = batches.range[j].high;
            if (b.low.num_gpu_batches <= b.high.num_gpu_batches)
                status = open_sizes(s, b, err);
        }
    return status;
}

/* -- executable ----------------------------------------------------------------------------------------------------- */

static bool too_slow(const struct search_state *s, const struct prediction *p)
{
    return s->pr.o->max_latency_s > 0 && p->latency_s > s->pr.o->max_latency_s;
}

/* The kept point with the best predicted throughput once executable goes to *best; found says if there is one. */
static enum status realise_kept(struct search_state *s, struct point *best, bool *found, struct error *err)
{
    *found = false;
    for (int i = 0; i < s->n_kept; i++) {
        struct point *pt = &s->kept[i];
        struct error inner = {0};
        enum status status;
        if (*found && pt->relaxed_throughput_tok_s <= best->prediction.throughput_tok_s)
            break;
        status = point_realise_hard(&s->pr, pt, &inner);
        if (status == STATUS_RUNTIME || status == STATUS_INVALID)
            return error_set(err, status, "%s", inner.text);
        if (status == STATUS_DOES_NOT_FIT || too_slow(s, &pt->prediction))
            continue;
        if (!*found || pt->prediction.throughput_tok_s > best->prediction.throughput_tok_s)
            *best = *pt;
        *found = true;
    }
    return STATUS_OK;
}

/* To half its size, or the largest value allowed below that; false: there is none. */
static bool halve_size(int *size, int fixed, const struct sizes *listed)
{
    const struct sizes allowed = sizes_allowed(fixed, listed, *size);
    int best = 0;

    for (int i = 0; i < allowed.n; i++)
        if (allowed.range[i].low <= *size / 2)
            best = allowed.range[i].high < *size / 2 ? allowed.range[i].high : *size / 2;
    *size = best > 0 ? best : *size;
    return best > 0;
}

static bool halve(const struct search_options *o, struct policy *p)
{
    return halve_size(&p->num_gpu_batches, o->num_gpu_batches, &o->batch_numbers) ||
           halve_size(&p->gpu_batch_size, o->gpu_batch_size, &o->gpu_batch_sizes);
}

/* When rounding breaks all of the best few: the first smaller block of any switches that survives it. */
static enum status realise_smaller(struct search_state *s, const struct policy *from, struct point *best, bool *found,
                                   struct error *err)
{
    struct policy switches[SWITCHES_MAX];
    const int n = problem_switches(&s->pr, switches);

    *found = false;
    for (int i = -1; i < n && !*found; i++) {
        struct policy p = i < 0 ? *from : switches[i];
        do {
            struct error inner = {0};
            enum status status;
            s->pt.policy = p;
            status = point_plan(&s->pr, &s->pt, &inner);
            if (status == STATUS_RUNTIME)
                return error_set(err, status, "%s", inner.text);
            *found = status == STATUS_OK && !too_slow(s, &s->pt.prediction);
        } while (!*found && halve(s->pr.o, &p));
    }
    if (*found)
        *best = s->pt;
    return STATUS_OK;
}

/* Where operations one at a time are as fast as together, nobody asked for that. */
static enum status prefer_overlap(struct search_state *s, struct point *best, struct error *err)
{
    struct error inner = {0};
    enum status status = STATUS_OK;

    if (best->policy.overlap || s->pr.o->overlap >= 0)
        return STATUS_OK;
    for (int prefetch = PREFETCH_MOST; prefetch > 0 && !best->policy.overlap && status != STATUS_RUNTIME; prefetch--) {
        s->pt.policy = best->policy;
        s->pt.policy.overlap = true;
        s->pt.policy.prefetch = s->pr.o->prefetch > 0 ? s->pr.o->prefetch : prefetch;
        status = point_plan(&s->pr, &s->pt, &inner);
        if (status == STATUS_OK && s->pt.prediction.throughput_tok_s >= best->prediction.throughput_tok_s * (1 - LP_ROUND_OFF))
            *best = s->pt;
    }
    return status == STATUS_RUNTIME ? error_set(err, status, "%s", inner.text) : STATUS_OK;
}

/* -- what limits it ------------------------------------------------------------------------------------------------- */

static void add_price(struct plan *out, double per_unit, const char *unit, const char *format, const char *name)
{
    struct shadow_price *price = &out->price[out->n_prices++];

    snprintf(price->what, sizeof(price->what), format, name);
    snprintf(price->unit, sizeof(price->unit), "%s", unit);
    price->per_unit = per_unit;
}

/* Throughput is tokens / T, so a change dT changes it by -tokens / T^2 * dT. */
static void price_tiers(const struct hardware *hw, const struct point *pt, double per_second, struct plan *out)
{
    const double gib = 1024.0 * 1024 * 1024;

    for (int k = 0; k < hw->n_tiers; k++)
        add_price(out, point_capacity_gain_s(pt, k) * per_second * gib, "GiB", "%.30s capacity", hw->tier[k].name);
}

/* Busy time is inversely proportional to the rate: one GB/s more takes busy / bandwidth off it, one percent more a hundredth. */
static void price_resources(const struct hardware *hw, const struct point *pt, double per_second, struct plan *out)
{
    char name[40];

    for (int r = 0; r < pt->cost.n_resources; r++) {
        const double gain_s = point_busy_s(pt, r);
        const int unit = r - 2 * (hw->n_tiers - 1);
        if (unit >= 0) {
            add_price(out, gain_s * 0.01 * per_second, "1 %", "%.30s rate", hw->compute[unit].name);
            continue;
        }
        const struct link *link = &hw->link[r / 2];
        const struct curve *rate = r % 2 ? &link->write_bytes_per_s : &link->read_bytes_per_s;
        add_price(out, gain_s * 1e9 / rate->y[rate->n - 1] * per_second, "GB/s", "%.36s bandwidth", resource_name(hw, r, name));
    }
}

static void fill_plan(const struct search_state *s, const struct point *pt, struct plan *out)
{
    const double total_s = pt->solution.total_s, per_second = total_s > 0 ? pt->cost.tokens / (total_s * total_s) : 0;

    out->policy = pt->policy;
    out->prediction = pt->prediction;
    out->relaxed_throughput_tok_s = pt->relaxed_throughput_tok_s;
    /* the LP's round-off outward; rounding to rows may gain what their relaxation lacks */
    out->bound_tok_s = fmax(s->bound_tok_s, pt->prediction.throughput_tok_s) * (1 + LP_ROUND_OFF);
    out->given_up = s->given_up;
    out->points = s->points;
    out->points_solved = s->points_solved;
    out->boxes = s->boxes;
    memcpy(out->peak_bytes, pt->peak_bytes, sizeof(out->peak_bytes));
    price_tiers(s->pr.hw, pt, per_second, out);
    price_resources(s->pr.hw, pt, per_second, out);
}

/* -- the whole search ----------------------------------------------------------------------------------------------- */

static enum status check_options(const struct search_options *o, int64_t max_block, struct error *err)
{
    const int64_t gpu = sizes_allowed(o->gpu_batch_size, &o->gpu_batch_sizes, 1).range[0].low,
                  n = sizes_allowed(o->num_gpu_batches, &o->batch_numbers, 1).range[0].low;

    if (gpu * n > max_block)
        return error_set(err, STATUS_INVALID, "batch size: expected at most %lld sequences in a block, found %lld x %lld",
                         (long long)max_block, (long long)gpu, (long long)n);
    if ((o->weight_bits != 0 && o->weight_bits != 4 && o->weight_bits != 16) ||
        (o->cache_bits != 0 && o->cache_bits != 4 && o->cache_bits != 16))
        return error_set(err, STATUS_INVALID, "bits: expected 4 or 16, or 0 to search, found %d for weights and %d for the cache",
                         o->weight_bits, o->cache_bits);
    return STATUS_OK;
}

/* Every combination of switches; one whose rate the machine lacks is left out, unless no other is left. */
static enum status search_switches(struct search_state *s, struct error *err)
{
    struct policy switches[SWITCHES_MAX];
    struct error first = {0};
    const int n = problem_switches(&s->pr, switches);
    int usable = 0;

    if (n == 0)
        return error_set(err, STATUS_INVALID, "attention near the cache: expected a second compute unit in %s, found one",
                         s->pr.hw->name);
    for (int i = 0; i < n; i++) {
        struct error inner = {0};
        const int64_t before = s->points;
        const enum status status = open_switches(s, &switches[i], &inner);
        if (status == STATUS_RUNTIME)
            return error_set(err, status, "%s", inner.text);
        if (status == STATUS_INVALID)
            error_set(&first, status, "%s", inner.text);
        else
            usable += s->points > before; /* with one batch row by row is nothing of its own */
    }
    return usable > 0 ? prove(s, err) : error_set(err, STATUS_INVALID, "%s", first.text);
}

/* All sequences take least where most tokens/s are made: of the plan without a limit. */
static enum status least_latency_of_all(const struct problem *pr, double *out_s, struct error *err)
{
    struct search_options unlimited = *pr->o;
    struct error inner = {0};
    struct plan p;
    enum status status;

    unlimited.max_latency_s = 0;
    status = search(pr->a, pr->hw, pr->w, &unlimited, &p, &inner);
    *out_s = status == STATUS_OK ? p.prediction.latency_s : INFINITY;
    return status == STATUS_RUNTIME ? error_set(err, status, "%s", inner.text) : STATUS_OK;
}

/* The shortest latency of the smallest batch over all switches; INFINITY if it does not fit. */
static enum status least_latency(struct search_state *s, double *out_s, struct error *err)
{
    struct policy switches[SWITCHES_MAX];
    const int n = problem_switches(&s->pr, switches);

    if (s->pr.w->sequences > 0)
        return least_latency_of_all(&s->pr, out_s, err);

    *out_s = INFINITY;
    for (int i = 0; i < n; i++) {
        struct error inner = {0};
        enum status status;
        s->pt.policy = switches[i];
        status = point_plan(&s->pr, &s->pt, &inner);
        if (status == STATUS_RUNTIME)
            return error_set(err, status, "%s", inner.text);
        if (status == STATUS_OK)
            *out_s = fmin(*out_s, s->pt.prediction.latency_s);
    }
    return STATUS_OK;
}

/* Rounded up to three digits, as a person would type it. */
static double round_up_seconds(double s)
{
    const double step = pow(10, floor(log10(s)) - 2);

    return ceil(s / step) * step;
}

static enum status explain(struct search_state *s, struct error *err)
{
    const struct problem *pr = &s->pr;
    double least_s = INFINITY;

    if (pr->o->max_latency_s > 0) {
        const enum status status = least_latency(s, &least_s, err);
        if (status != STATUS_OK)
            return status;
    }
    if (isfinite(least_s) && least_s > pr->o->max_latency_s)
        return error_set(err, STATUS_DOES_NOT_FIT, "no policy takes at most %.6g s: the %s takes %.4g s; try --latency %.6g",
                         pr->o->max_latency_s, pr->w->sequences > 0 ? "fastest for all sequences" : "smallest batch", least_s,
                         round_up_seconds(least_s));
    return remedies_explain(pr->a, pr->hw, pr->w, pr->o, err);
}

static enum status search_all(struct search_state *s, struct plan *out, struct error *err)
{
    struct point *best = &s->kept[KEPT_MAX];
    struct policy from;
    bool found = false;
    enum status status = search_switches(s, err);

    if (status != STATUS_OK)
        return status;
    if (s->n_kept == 0)
        return explain(s, err);
    from = s->kept[0].policy;
    status = realise_kept(s, best, &found, err);
    if (status == STATUS_OK && !found)
        status = realise_smaller(s, &from, best, &found, err);
    if (status != STATUS_OK)
        return status;
    if (!found)
        return explain(s, err);
    status = prefer_overlap(s, best, err);
    fill_plan(s, best, out);
    return status;
}

enum status search(const struct arch *a, const struct hardware *hw, const struct workload *w, const struct search_options *o,
                   struct plan *out, struct error *err)
{
    const int64_t max_block = o->max_block > 0 && o->max_block < MAX_BLOCK ? o->max_block : MAX_BLOCK;
    struct search_state *s = NULL;
    enum status status = check_options(o, max_block, err);

    memset(out, 0, sizeof(*out));
    if (status != STATUS_OK)
        return status;
    s = calloc(1, sizeof(*s));
    if (!s)
        return error_set(err, STATUS_RUNTIME, "no memory for the search");
    s->max_block = max_block;
    s->kept_most = o->realise ? KEPT_MAX : 1;
    status = problem_new(&s->pr, a, hw, w, o, err);
    if (status == STATUS_OK)
        status = search_all(s, out, err);
    out->lps = s->pr.lps;
    problem_free(&s->pr);
    boxes_free(&s->open);
    free(s);
    return status;
}
