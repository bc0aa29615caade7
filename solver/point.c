#include "solver/point.h"

#include <assert.h>
#include <math.h>
#include <string.h>

/* Exact peaks differ from the table's by alignment and rounding to rows and sequences; a few rounds settle it. */
#define REALISE_ROUNDS     8
#define SHRINK_LEAST_BYTES 65536
#define REALISED_CLOSE     1e-3

struct sizes sizes_allowed(int fixed, const struct sizes *listed, int most)
{
    if (fixed == 0 && listed->n > 0)
        return *listed;
    return (struct sizes){1, {{fixed > 0 ? fixed : 1, fixed > 0 ? fixed : most}}};
}

static int least_size(int fixed, const struct sizes *listed)
{
    return fixed > 0 ? fixed : listed->n > 0 ? listed->range[0].low : 1;
}

enum status problem_new(struct problem *pr, const struct arch *a, const struct hardware *hw, const struct workload *w,
                        const struct search_options *o, struct error *err)
{
    *pr = (struct problem){.a = a, .hw = hw, .w = w, .o = o};
    const enum status status = lp_new(&pr->lp, hw->n_tiers, resource_count(hw), err);
    if (status == STATUS_OK)
        lp_limit(pr->lp, &o->fraction);
    return status;
}

void problem_free(struct problem *pr)
{
    lp_free(pr->lp);
    pr->lp = NULL;
}

/* Combination i of bits, attention, overlap, schedule and depth of the ring, the last of which varies slowest. */
static struct policy switches_at(const struct problem *pr, int i)
{
    const struct search_options *o = pr->o;
    struct policy p;

    policy_default(&p, pr->hw->n_tiers);
    p.gpu_batch_size = least_size(o->gpu_batch_size, &o->gpu_batch_sizes);
    p.num_gpu_batches = least_size(o->num_gpu_batches, &o->batch_numbers);
    p.attention_near_cache = i & 1;
    p.attention_sparsity = o->attention_sparsity;
    p.cache_bits = i & 2 ? 4 : 16;
    p.weight_bits = i & 4 ? 4 : 16;
    p.overlap = !(i & 8);
    p.schedule = (enum schedule_kind)(i / 16 % SCHEDULE_COUNT);
    p.prefetch = PREFETCH_MOST - i / (16 * SCHEDULE_COUNT);
    p.whole_tensors = o->whole_tensors;
    p.pageable_weights = o->pageable_weights;
    return p;
}

/* Where the depth makes no difference to the time, one stands for all: with one operation at a time the one that needs least memory. */
static bool depth_is_open(const struct problem *pr, const struct policy *p)
{
    if (pr->o->prefetch > 0)
        return p->prefetch == pr->o->prefetch;
    return hardware_waits(pr->hw) ? p->prefetch == PREFETCH_MOST : p->overlap || p->prefetch == 1;
}

static bool is_open(const struct problem *pr, const struct policy *p)
{
    const struct search_options *o = pr->o;

    return !(o->weight_bits && o->weight_bits != p->weight_bits) && !(o->cache_bits && o->cache_bits != p->cache_bits) &&
           !(p->attention_near_cache && pr->hw->n_computes < 2) &&
           !(o->attention_near_cache >= 0 && o->attention_near_cache != p->attention_near_cache) && depth_is_open(pr, p) &&
           !(o->overlap >= 0 && o->overlap != p->overlap) && !(o->schedule >= 0 && o->schedule != (int)p->schedule);
}

int problem_switches(const struct problem *pr, struct policy out[SWITCHES_MAX])
{
    int n = 0;

    for (int i = 0; i < SWITCHES_MAX; i++) {
        struct policy p = switches_at(pr, i);
        if (pr->o->prefetch > PREFETCH_MOST && p.prefetch == PREFETCH_MOST)
            p.prefetch = pr->o->prefetch;
        if (is_open(pr, &p))
            out[n++] = p;
    }
    return n;
}

enum status point_build(const struct problem *pr, struct point *pt, struct error *err)
{
    return cost_build(&pt->cost, pr->a, pr->hw, pr->w, &pt->policy, err);
}

static enum status solve_within(struct problem *pr, struct point *pt, const double capacity_bytes[TIERS_MAX], uint32_t forbid,
                                struct error *err)
{
    const enum status status = lp_solve(pr->lp, &pt->cost, capacity_bytes, forbid, &pt->solution, err);

    pr->lps++;
    if (status == STATUS_OK)
        memcpy(pt->policy.fraction, pt->solution.fraction, sizeof(pt->policy.fraction));
    return status;
}

static void capacities(const struct problem *pr, double out[TIERS_MAX])
{
    for (int k = 0; k < TIERS_MAX; k++)
        out[k] = k < pr->hw->n_tiers ? (double)pr->hw->tier[k].capacity_bytes : 0;
}

/* What the options forbid, and for sparse attention cache that is not attended to in place. The bounds below do without the latter: without it
 * they are lower still. */
static uint32_t forbidden(const struct problem *pr, const struct policy *p)
{
    uint32_t tiers = 0;

    for (int k = 0; k < pr->hw->n_tiers; k++)
        tiers |= p->attention_sparsity < 1 && !policy_attends_in_place(p, k) ? 1u << k : 0;
    return pr->o->forbid | tiers << (CLASS_CACHE * TIERS_MAX);
}

enum status point_solve(struct problem *pr, struct point *pt, struct error *err)
{
    double capacity_bytes[TIERS_MAX];
    enum status status;

    capacities(pr, capacity_bytes);
    status = solve_within(pr, pt, capacity_bytes, forbidden(pr, &pt->policy), err);
    if (status == STATUS_OK)
        pt->relaxed_throughput_tok_s = pt->solution.total_s > 0 ? pt->cost.tokens / pt->solution.total_s : 0;
    return status;
}

/* -- from the LP to an executable policy ---------------------------------------------------------------------------- */

static void predict_relaxed(const struct problem *pr, struct point *pt)
{
    cost_predict(&pt->cost, pt->policy.fraction, &pt->prediction);
    for (int k = 0; k < pr->hw->n_tiers; k++)
        pt->peak_bytes[k] =
            (int64_t)ceil(fmax(pt->prediction.peak_bytes[PHASE_PREFILL][k], pt->prediction.peak_bytes[PHASE_DECODE][k]));
}

/* Notes in pt->solution by how much the exact peaks exceed the tiers; true if they do not. */
static bool peaks_fit(const struct problem *pr, struct point *pt)
{
    struct lp_solution *s = &pt->solution;

    s->missing_bytes = 0;
    s->missing_tier = 0;
    for (int k = 0; k < pr->hw->n_tiers; k++) {
        const int64_t excess = pt->peak_bytes[k] - pr->hw->tier[k].capacity_bytes;
        s->overshoot_bytes[k] = excess > 0 ? (double)excess : 0;
        s->missing_bytes += s->overshoot_bytes[k];
        if (s->overshoot_bytes[k] > s->overshoot_bytes[s->missing_tier])
            s->missing_tier = k;
    }
    return s->missing_bytes == 0;
}

/* Takes from the LP's capacities what was too much, and a bit more each round. */
static void shrink(const struct problem *pr, const struct point *pt, int round, double capacity_bytes[TIERS_MAX])
{
    for (int k = 0; k < pr->hw->n_tiers; k++)
        if (pt->solution.overshoot_bytes[k] > 0)
            capacity_bytes[k] -= pt->solution.overshoot_bytes[k] * (1 + 0.25 * (round + 1)) + SHRINK_LEAST_BYTES;
}

/* From the solution in *pt: rounds, looks at the exact peaks, and solves again in less room until they fit. */
static enum status realise_within(struct problem *pr, struct point *pt, uint32_t forbid, struct error *err)
{
    double capacity_bytes[TIERS_MAX];
    struct lp_solution exact;
    enum status status;

    capacities(pr, capacity_bytes);
    for (int round = 0; round < REALISE_ROUNDS; round++) {
        memset(pt->peak_bytes, 0, sizeof(pt->peak_bytes));
        status = pr->o->realise(pr->a, pr->hw, pr->w, &pt->policy, pt->peak_bytes, err);
        if (status != STATUS_OK)
            return status;
        if (peaks_fit(pr, pt)) {
            cost_predict(&pt->cost, pt->policy.fraction, &pt->prediction);
            return STATUS_OK;
        }
        exact = pt->solution;
        shrink(pr, pt, round, capacity_bytes);
        status = solve_within(pr, pt, capacity_bytes, forbid, err);
        if (status == STATUS_DOES_NOT_FIT)
            pt->solution = exact; /* what is missing in truth, not in the shrunken tiers */
        if (status != STATUS_OK)
            return status;
    }
    pt->solution = exact;
    return error_set(err, STATUS_DOES_NOT_FIT, "no executable placement fits: %.0f bytes missing on tier %s", exact.missing_bytes,
                     pr->hw->tier[exact.missing_tier].name);
}

/* Forbids a class every tier but one; -1 leaves it free. */
static uint32_t pin(const struct problem *pr, int cls, int tier)
{
    const uint32_t all = (1u << pr->hw->n_tiers) - 1;

    return tier < 0 ? 0 : (all & ~(1u << tier)) << (cls * TIERS_MAX);
}

/* Whether some class cannot sum to 1, or must be where it is forbidden. */
static bool leaves_no_tier(const struct problem *pr, uint32_t forbid)
{
    for (int cls = 0; cls < CLASS_COUNT; cls++) {
        double most = 0;
        for (int k = 0; k < pr->hw->n_tiers; k++) {
            const bool absent = forbid >> (cls * TIERS_MAX + k) & 1;
            if (absent && pr->o->fraction.low[cls][k] > 0)
                return true;
            most += absent ? 0 : pr->o->fraction.high[cls][k];
        }
        if (most < 1)
            return true;
    }
    return false;
}

static enum status realise_pinned(struct problem *pr, struct point *pt, uint32_t forbid, struct error *err)
{
    double capacity_bytes[TIERS_MAX];
    enum status status;

    capacities(pr, capacity_bytes);
    status = solve_within(pr, pt, capacity_bytes, forbid, err);
    return status == STATUS_OK ? realise_within(pr, pt, forbid, err) : status;
}

static bool is_better(const struct point *pt, enum status status, const struct point *best, enum status best_status)
{
    if (status != best_status)
        return status == STATUS_OK;
    if (status == STATUS_OK)
        return pt->prediction.throughput_tok_s > best->prediction.throughput_tok_s;
    return pt->solution.missing_bytes > 0 && pt->solution.missing_bytes < best->solution.missing_bytes;
}

enum status point_realise(struct problem *pr, struct point *pt, struct error *err)
{
    if (pr->o->realise)
        return realise_within(pr, pt, forbidden(pr, &pt->policy), err);
    predict_relaxed(pr, pt);
    return STATUS_OK;
}

/* Nearly what the LP has: no other rounding is worth a look. */
static bool is_close(const struct point *pt, enum status status)
{
    return status == STATUS_OK && pt->prediction.throughput_tok_s >= pt->relaxed_throughput_tok_s * (1 - REALISED_CLOSE);
}

enum status point_realise_hard(struct problem *pr, struct point *pt, struct error *err)
{
    const int n = pr->o->realise ? pr->hw->n_tiers : 0;
    struct point best = *pt;
    struct error first = {0};
    enum status status = point_realise(pr, &best, &first);

    if (status != STATUS_OK && status != STATUS_DOES_NOT_FIT)
        return error_set(err, status, "%s", first.text);
    for (int cache = -1; cache < n && !is_close(&best, status); cache++) {
        for (int hidden = 0; hidden < n; hidden++) {
            const uint32_t forbid = forbidden(pr, &pt->policy) | pin(pr, CLASS_CACHE, cache) | pin(pr, CLASS_ACTIVATION, hidden);
            struct point other = *pt;
            struct error inner = {0};
            enum status other_status;
            if (leaves_no_tier(pr, forbid))
                continue;
            other_status = realise_pinned(pr, &other, forbid, &inner);
            if (other_status != STATUS_OK && other_status != STATUS_DOES_NOT_FIT)
                return error_set(err, other_status, "%s", inner.text);
            if (is_better(&other, other_status, &best, status)) {
                best = other;
                status = other_status;
            }
        }
    }
    *pt = best;
    return status == STATUS_OK ? status : error_set(err, status, "%s", first.text);
}

enum status point_plan(struct problem *pr, struct point *pt, struct error *err)
{
    enum status status = point_build(pr, pt, err);

    if (status == STATUS_OK)
        status = point_solve(pr, pt, err);
    return status == STATUS_OK ? point_realise_hard(pr, pt, err) : status;
}

/* -- the bound ------------------------------------------------------------------------------------------------------ */

/* The least of a form over the fractions allowed, class by class: everyone's least share first, the rest where it costs least. */
static double form_least(const struct problem *pr, const struct form *f)
{
    const struct fraction_range *range = &pr->o->fraction;
    double least = f->base;

    for (int cls = 0; cls < CLASS_COUNT; cls++) {
        bool full[TIERS_MAX] = {false};
        double rest = 1;
        for (int k = 0; k < pr->hw->n_tiers; k++) {
            full[k] = pr->o->forbid >> (cls * TIERS_MAX + k) & 1;
            rest -= range->low[cls][k];
            least += range->low[cls][k] * f->coef[cls][k];
        }
        while (rest > 0) {
            int best = -1;
            for (int k = 0; k < pr->hw->n_tiers; k++)
                if (!full[k] && (best < 0 || f->coef[cls][k] < f->coef[cls][best]))
                    best = k;
            if (best < 0)
                break;
            const double part = fmin(rest, range->high[cls][best] - range->low[cls][best]);
            least += part * f->coef[cls][best];
            rest -= part;
            full[best] = true;
        }
    }
    return least;
}

/* A stage takes at least any mean of its rows. Prices from a table where it did not occur say nothing: then the least of one row. `saved_s`
 * adds up by how much less it is when all of a class is cached. */
static void add_stage_bound(struct form *sum, double saved_s[CLASS_COUNT], const struct cost *c, enum phase ph, int stage,
                            const double weight[COST_ROWS_MAX])
{
    const double times = c->steps[ph] * cost_stage_times(c, stage);
    const int n = cost_rows(c);
    double y_sum = 0;

    for (int r = 0; r < n; r++)
        y_sum += weight[r];
    for (int r = 0; r < n; r++) {
        const double y = y_sum > 0 ? weight[r] * times / y_sum : times / n;
        struct form f;
        if (y <= 0)
            continue;
        cost_row(c, ph, stage, r, &f);
        form_add(sum, &f, y, c->n_tiers);
        if (c->page_cache_s > 0) {
            double row_s[CLASS_COUNT];
            cost_row_saved(c, ph, stage, r, row_s);
            for (int cls = 0; cls < CLASS_COUNT; cls++)
                saved_s[cls] += y * row_s[cls];
        }
    }
}

/* What is cached costs q a second of what the page cache serves, and is part of what lives on the disk: all of a class there or none, which is
 * cheaper. */
static void add_page_cache(struct form *sum, const double saved_s[CLASS_COUNT], const struct cost *c, double q)
{
    sum->base -= q * c->page_cache_s;
    for (int cls = 0; cls < CLASS_COUNT; cls++)
        sum->coef[cls][c->n_tiers - 1] += fmin(0, q * cost_cached_s(c, cls) - saved_s[cls]);
}

/* L = sum of y[p][r] * row + sum of mu[p][k] * (peak - capacity) + q * (cached - served), minimised class by class over the fractions. Because
 * sum over r of y[p][r] = steps[p], y >= 0, mu >= 0 and q >= 0, L <= T for every placement that fits. */
double point_least_total_s(const struct problem *pr, const struct cost *c, const struct lp_solution *prices)
{
    struct form sum = {0};
    double saved_s[CLASS_COUNT] = {0};

    for (int p = 0; p < PHASE_COUNT; p++) {
        if (!(c->steps[p] > 0))
            continue;
        for (int k = 0; k < cost_stages(c); k++)
            if (cost_stage_times(c, k) > 0)
                add_stage_bound(&sum, saved_s, c, (enum phase)p, k, prices->row_dual[p][k]);
        for (int k = 0; k < c->n_tiers; k++) {
            const double mu = -prices->capacity_dual[p][k];
            if (mu > 0) {
                form_add(&sum, &c->peak[p][k], mu, c->n_tiers);
                sum.base -= mu * (double)pr->hw->tier[k].capacity_bytes;
            }
        }
    }
    if (c->page_cache_s > 0 && c->steps[PHASE_DECODE] > 0)
        add_page_cache(&sum, saved_s, c, -prices->page_cache_dual);
    return form_least(pr, &sum);
}

/* A tier by itself, then all tiers together: if even the least that any placement needs of them exceeds their room, none fits. */
bool point_cannot_fit(const struct problem *pr, const struct cost *c)
{
    for (int p = 0; p < PHASE_COUNT; p++) {
        struct form all = {0};
        double room = 0;
        for (int k = 0; c->steps[p] > 0 && k < c->n_tiers; k++) {
            const double capacity = (double)pr->hw->tier[k].capacity_bytes;
            if (form_least(pr, &c->peak[p][k]) > capacity * (1 + 1e-9))
                return true;
            form_add(&all, &c->peak[p][k], 1, c->n_tiers);
            room += capacity;
        }
        if (form_least(pr, &all) > room * (1 + 1e-9))
            return true;
    }
    return false;
}

/* -- what limits a point -------------------------------------------------------------------------------------------- */

double point_capacity_gain_s(const struct point *pt, int tier)
{
    double dual = 0;

    for (int p = 0; p < PHASE_COUNT; p++)
        dual += pt->solution.capacity_dual[p][tier];
    return 0 - dual;
}

double point_busy_s(const struct point *pt, int resource)
{
    double sum = 0;

    for (int p = 0; p < PHASE_COUNT; p++)
        for (int k = 0; pt->cost.steps[p] > 0 && k < cost_stages(&pt->cost); k++)
            sum += cost_resource_weight(&pt->cost, resource, pt->solution.row_dual[p][k]) *
                       cost_stage_busy_s(&pt->cost, (enum phase)p, k, resource, pt->solution.fraction, pt->solution.cached) +
                   cost_fill_s(&pt->cost, (enum phase)p, k, resource, pt->solution.fraction, pt->solution.cached,
                               pt->solution.row_dual[p][k]);
    return sum;
}
