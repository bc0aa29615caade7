/* exhaustive.c - nested loops and nothing clever: no LP, no bound, no order that matters. */
#include "solver/exhaustive.h"

#include <string.h>

struct oracle {
    const struct arch *a;
    const struct hardware *hw;
    const struct workload *w;
    const struct search_options *o;
    int grid;
    double best_tok_s;
    struct policy *best;
};

static bool fits(const struct oracle *x, const struct prediction *p)
{
    for (int k = 0; k < x->hw->n_tiers; k++)
        for (int ph = 0; ph < PHASE_COUNT; ph++)
            if (p->peak_bytes[ph][k] > (double)x->hw->tier[k].capacity_bytes)
                return false;
    return true;
}

static void try_fractions(struct oracle *x, const struct cost *c, const struct policy *p)
{
    struct prediction prediction;

    cost_predict(c, p->fraction, &prediction);
    if (!fits(x, &prediction) || (x->o->max_latency_s > 0 && prediction.latency_s > x->o->max_latency_s))
        return;
    if (prediction.throughput_tok_s > x->best_tok_s) {
        x->best_tok_s = prediction.throughput_tok_s;
        *x->best = *p;
    }
}

/* Gives 0..left grid parts of class `cls` to tier k, the rest to the tiers below; then the next class. */
static void place(struct oracle *x, const struct cost *c, struct policy *p, int cls, int k, int left)
{
    const bool last = k == x->hw->n_tiers - 1;

    if (cls == CLASS_COUNT) {
        try_fractions(x, c, p);
        return;
    }
    for (int parts = last ? left : 0; parts <= left; parts++) {
        const bool copied = cls == CLASS_CACHE && p->attention_sparsity < 1 && !policy_attends_in_place(p, k);
        if (parts > 0 && (copied || (x->o->forbid >> (cls * TIERS_MAX + k) & 1)))
            return;
        p->fraction[cls][k] = (double)parts / x->grid;
        if (last)
            place(x, c, p, cls + 1, 0, x->grid);
        else
            place(x, c, p, cls, k + 1, left - parts);
    }
}

static void try_sizes(struct oracle *x, struct policy p)
{
    const int64_t limit = x->o->max_block > 0 ? x->o->max_block : 65536;

    for (int gpu = 1; gpu <= limit; gpu++)
        for (int batches = 1; batches <= limit / gpu; batches++) {
            struct cost c;
            if ((x->o->gpu_batch_size > 0 && x->o->gpu_batch_size != gpu) ||
                (x->o->num_gpu_batches > 0 && x->o->num_gpu_batches != batches))
                continue;
            p.gpu_batch_size = gpu;
            p.num_gpu_batches = batches;
            if (cost_build(&c, x->a, x->hw, x->w, &p, NULL) == STATUS_OK)
                place(x, &c, &p, 0, 0, x->grid);
        }
}

static void try_depths(struct oracle *x, struct policy p)
{
    for (p.prefetch = 1; p.prefetch <= 4; p.prefetch++)
        if (x->o->prefetch == 0 || x->o->prefetch == p.prefetch)
            try_sizes(x, p);
}

static void try_schedules(struct oracle *x, struct policy p)
{
    for (int schedule = 0; schedule < SCHEDULE_COUNT; schedule++)
        for (int overlap = 0; overlap < 2; overlap++) {
            if ((x->o->schedule >= 0 && x->o->schedule != schedule) || (x->o->overlap >= 0 && x->o->overlap != overlap))
                continue;
            p.schedule = (enum schedule_kind)schedule;
            p.overlap = overlap;
            try_depths(x, p);
        }
}

double exhaustive_best(const struct arch *a, const struct hardware *hw, const struct workload *w, const struct search_options *o,
                       int grid, struct policy *best)
{
    struct oracle x = {.a = a, .hw = hw, .w = w, .o = o, .grid = grid, .best = best};

    for (int wb = 4; wb <= 16; wb += 12)
        for (int cb = 4; cb <= 16; cb += 12)
            for (int near = 0; near < hw->n_computes; near++) {
                struct policy p;
                if ((o->weight_bits && o->weight_bits != wb) || (o->cache_bits && o->cache_bits != cb) ||
                    (o->attention_near_cache >= 0 && o->attention_near_cache != near))
                    continue;
                policy_default(&p, hw->n_tiers);
                p.weight_bits = wb;
                p.cache_bits = cb;
                p.attention_near_cache = near;
                p.attention_sparsity = o->attention_sparsity;
                try_schedules(&x, p);
            }
    return x.best_tok_s;
}
