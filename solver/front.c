#include "solver/front.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "solver/point.h"

/* A limit this part below a latency excludes it, and throughputs that differ by less are the same: the LP's round-off. */
#define JUST_BELOW 1e-9

struct builder {
    const struct arch *a;
    const struct hardware *hw;
    const struct workload *w;
    const struct search_options *o;
    struct front *f;
    int most;
    bool given_up; /* a proof of these was */
};

/* The best plan within a limit; *found: there is one. */
static enum status plan_within(struct builder *b, const struct search_options *o, double limit_s, struct corner *out, bool *found,
                               struct error *err)
{
    struct search_options limited = *o;
    struct error inner = {0};
    enum status status;

    limited.max_latency_s = isfinite(limit_s) ? limit_s : 0;
    status = search(b->a, b->hw, b->w, &limited, &out->plan, &inner);
    out->limit_s = limit_s;
    *found = status == STATUS_OK;
    b->given_up |= *found && out->plan.given_up;
    return status == STATUS_OK || status == STATUS_DOES_NOT_FIT ? STATUS_OK : error_set(err, status, "%s", inner.text);
}

static double latency_s(const struct corner *c)
{
    return c->plan.prediction.latency_s;
}

static double tok_s(const struct corner *c)
{
    return c->plan.prediction.throughput_tok_s;
}

/* Below corner at - 1; one that is as good takes its place, but not its bound, which is for its limit. */
static void insert(struct front *f, int at, const struct corner *c)
{
    if (at > 0 && tok_s(c) >= tok_s(&f->corner[at - 1]) * (1 - JUST_BELOW)) {
        const double bound_tok_s = f->corner[at - 1].plan.bound_tok_s;
        f->corner[at - 1].plan = c->plan;
        f->corner[at - 1].plan.bound_tok_s = fmax(bound_tok_s, c->plan.bound_tok_s);
        return;
    }
    memmove(&f->corner[at + 1], &f->corner[at], (size_t)(f->n - at) * sizeof(*c));
    f->corner[at] = *c;
    f->n++;
}

/* Whether a corner may lie between corner i and the next: at a latency above the next one's limit and below corner i's. */
static double gap(const struct front *f, int i)
{
    return log(latency_s(&f->corner[i]) * (1 - JUST_BELOW) / f->corner[i + 1].limit_s);
}

static int widest_gap(const struct front *f)
{
    int best = -1;

    for (int i = 0; i + 1 < f->n; i++)
        if (gap(f, i) > 0 && (best < 0 || gap(f, i) > gap(f, best)))
            best = i;
    return best;
}

/* The best within limit_s, which lies in the gap below corner i: a new corner, or as good as the next one to the tolerance of the proof, whose limit
 * that raises. */
static enum status look(struct builder *b, int i, double limit_s, bool *is_new, struct error *err)
{
    struct corner *next = &b->f->corner[i + 1], c;
    bool found;
    enum status status = plan_within(b, b->o, limit_s, &c, &found, err);

    *is_new = status == STATUS_OK && found && tok_s(&c) > tok_s(next) * (1 + b->o->tolerance) && latency_s(&c) > next->limit_s;
    if (*is_new) {
        insert(b->f, i + 1, &c);
    } else {
        next->limit_s = limit_s;
        if (found)
            next->plan.bound_tok_s = fmax(next->plan.bound_tok_s, c.plan.bound_tok_s);
    }
    return status;
}

/* Halfway down a gap; where that is the next corner again, the very next corner below. */
static enum status fill_gap(struct builder *b, int i, struct error *err)
{
    const double high_s = latency_s(&b->f->corner[i]) * (1 - JUST_BELOW), low_s = b->f->corner[i + 1].limit_s;
    bool is_new = false;
    enum status status = look(b, i, sqrt(high_s * low_s), &is_new, err);

    return status == STATUS_OK && !is_new ? look(b, i, high_s, &is_new, err) : status;
}

/* The fastest plan: of the smallest block, or what is faster still; *last says if nothing is. */
static enum status find_fastest(struct builder *b, bool *last, struct error *err)
{
    struct front *f = b->f;
    struct search_options smallest = *b->o;
    struct corner c;
    bool found;
    enum status status;

    smallest.gpu_batch_size = sizes_allowed(b->o->gpu_batch_size, &b->o->gpu_batch_sizes, 1).range[0].low;
    smallest.num_gpu_batches = sizes_allowed(b->o->num_gpu_batches, &b->o->batch_numbers, 1).range[0].low;
    status = plan_within(b, &smallest, f->corner[0].limit_s, &c, &found, err);
    if (status == STATUS_OK && found && latency_s(&c) < latency_s(&f->corner[0]) * (1 - JUST_BELOW)) {
        status = plan_within(b, b->o, latency_s(&c), &c, &found, err); /* the best that is as fast */
        if (status == STATUS_OK && found)
            insert(f, f->n, &c);
    }
    *last = false;
    while (status == STATUS_OK && !*last && f->n < b->most) {
        status = plan_within(b, b->o, latency_s(&f->corner[f->n - 1]) * (1 - JUST_BELOW), &c, &found, err);
        *last = !found;
        if (status == STATUS_OK && found)
            insert(f, f->n, &c);
    }
    return status;
}

enum status front_build(struct front *out, const struct arch *a, const struct hardware *hw, const struct workload *w,
                        const struct search_options *o, int most, struct error *err)
{
    struct builder b = {.a = a, .hw = hw, .w = w, .o = o, .f = out, .most = most};
    const double limit_s = o->max_latency_s > 0 ? o->max_latency_s : INFINITY;
    bool last = false;
    enum status status;

    *out = (struct front){.corner = malloc(((size_t)most + 1) * sizeof(*out->corner))};
    if (!out->corner)
        return error_set(err, STATUS_RUNTIME, "no memory for a front of %d plans", most);
    status = search(a, hw, w, o, &out->corner[0].plan, err);
    b.given_up = out->corner[0].plan.given_up;
    out->corner[0].limit_s = limit_s;
    out->n = status == STATUS_OK;
    if (status == STATUS_OK)
        status = find_fastest(&b, &last, err);
    for (int i = widest_gap(out); status == STATUS_OK && i >= 0 && out->n < most; i = widest_gap(out))
        status = fill_gap(&b, i, err);
    out->complete = status == STATUS_OK && last && widest_gap(out) < 0 && !b.given_up;
    return status;
}

void front_free(struct front *f)
{
    free(f->corner);
    *f = (struct front){0};
}
