#include "executor/sim/resident.h"

#include <stdlib.h>

#include "model/stream.h"

/* A resource going through its operations: the next moment is the start or the end of the operation at `at`. */
struct lane {
    int32_t at, n;
    const int32_t *op; /* (n) */
    bool started;
    int64_t moment_ns;
};

struct history {
    const struct schedule *schedule;
    const struct run_setting *s;
    const struct trace_event **event; /* (n_ops): NULL where an operation did not run */
    struct lane lane[RESOURCES_MAX];
    int n_lanes;
    int64_t *ring; /* (prefetch): bytes of the visit in each slot of tier 0's ring */
    int64_t level[TIERS_MAX], most[TIERS_MAX];
};

/* -- moments in order ----------------------------------------------------------------------------------------------------- */

static const struct trace_event *event_at(const struct history *h, const struct lane *l)
{
    return h->event[l->op[l->at]];
}

static void look_ahead(struct history *h, struct lane *l)
{
    while (l->at < l->n && !event_at(h, l))
        l->at++;
    l->moment_ns = l->at == l->n ? INT64_MAX : l->started ? event_at(h, l)->end_ns : event_at(h, l)->start_ns;
}

/* What ends at a moment goes before what starts; of what starts, the first in the list, on which others may depend. */
static bool before(const struct lane *x, const struct lane *y)
{
    if (x->moment_ns != y->moment_ns)
        return x->moment_ns < y->moment_ns;
    return x->started != y->started ? x->started : x->op[x->at] < y->op[y->at];
}

/* The lane of the earliest moment that has not been passed; NULL at the end. */
static struct lane *earliest(struct history *h)
{
    struct lane *first = &h->lane[0];
    for (int r = 1; r < h->n_lanes; r++)
        if (h->lane[r].moment_ns < INT64_MAX && before(&h->lane[r], first))
            first = &h->lane[r];
    return first->moment_ns < INT64_MAX ? first : NULL;
}

/* -- what a moment changes ------------------------------------------------------------------------------------------------ */

static void change(struct history *h, int tier, int64_t bytes)
{
    h->level[tier] += bytes;
    if (h->level[tier] > h->most[tier])
        h->most[tier] = h->level[tier];
}

/* The new tokens of a batch in one layer have reached their home on `tier`; with its last token the batch leaves. */
static void cache_written(struct history *h, const struct op *op, int tier)
{
    int64_t stride = placement_cache_stride(h->s->placement, op->layer, op->batch, tier);
    bool last = op->step + 1 == h->s->workload->gen_tokens;
    int64_t tokens = last ? -step_first_token(h->s->workload, op->step) : step_tokens(h->s->workload, op->step);
    change(h, tier, stride * tokens);
}

/* The load that brought this part one tier below. */
static const struct op *load_below(const struct history *h, const struct op *op)
{
    for (int i = 0; i < op->n_deps; i++) {
        const struct op *dep = &h->schedule->op[op->dep[i]];
        if (dep->kind == OP_LOAD_WEIGHTS && dep->link == op->link + 1)
            return dep;
    }
    return NULL;
}

static void on_start(struct history *h, const struct op *op)
{
    if (op->kind != OP_LOAD_WEIGHTS)
        return;
    change(h, op->link, op->bytes);
    if (op->link == 0)
        h->ring[op->slot] += op->bytes;
}

static void on_end(struct history *h, const struct op *op)
{
    const struct op *below = op->kind == OP_LOAD_WEIGHTS ? load_below(h, op) : NULL;
    if (below)
        change(h, below->link, -below->bytes);
    if (op->kind == OP_ATTENTION || op->kind == OP_QKV)
        cache_written(h, op, 0);
    else if (op->kind == OP_ATTEND)
        cache_written(h, op, 1);
    else if (op->kind == OP_STORE_CACHE)
        cache_written(h, op, op->link + 1);
    bool visit_over = op->slot >= 0 &&
                      (op->kind == OP_ATTENTION || op->kind == OP_OUT || op->kind == OP_MLP || op->kind == OP_HEAD) &&
                      stream_ends_pass(h->s->workload, h->s->policy, op->batch, op->step);
    if (visit_over) {
        change(h, 0, -h->ring[op->slot]);
        h->ring[op->slot] = 0;
    }
}

/* -- samples -------------------------------------------------------------------------------------------------------------- */

static int64_t held(const struct placement *pl, int tier)
{
    return placement_peak(pl, tier) - pl->region_bytes[tier][REGION_CACHE] - pl->region_bytes[tier][REGION_WEIGHT_RING];
}

/* The highest level of each stretch of time, where it has changed, and of the last. A stretch begins with the level that it inherits. */
static enum status add_samples(struct history *h, int64_t end_ns, struct trace *t, struct error *err)
{
    int64_t stretch = end_ns / RESIDENT_SAMPLES_MAX + 1, shown[TIERS_MAX];
    int n_tiers = h->s->placement->n_tiers;
    enum status s = STATUS_OK;
    for (int u = 0; u < n_tiers; u++)
        shown[u] = -1;
    for (int64_t from = 0; from <= end_ns && s == STATUS_OK; from += stretch) {
        for (struct lane *l = earliest(h); l && l->moment_ns < from + stretch; l = earliest(h)) {
            const struct op *op = &h->schedule->op[l->op[l->at]];
            if (l->started)
                on_end(h, op);
            else
                on_start(h, op);
            l->at += l->started;
            l->started = !l->started;
            look_ahead(h, l);
        }
        for (int u = 0; u < n_tiers && s == STATUS_OK; u++) {
            struct trace_sample sample = {.at_ns = from, .tier = (int16_t)u, .bytes = h->most[u]};
            if (h->most[u] != shown[u] || from + stretch > end_ns)
                s = trace_add_sample(t, &sample, err);
            shown[u] = h->most[u];
            h->most[u] = h->level[u];
        }
    }
    return s;
}

enum status trace_resident(const struct schedule *schedule, const struct run_setting *s, struct trace *t, struct error *err)
{
    int64_t end_ns = 0;
    struct history h = {.schedule = schedule, .s = s, .n_lanes = t->n_resources};
    h.event = calloc((size_t)schedule->n_ops + 1, sizeof *h.event);
    h.ring = calloc((size_t)s->policy->prefetch, sizeof *h.ring);
    enum status status =
        h.event && h.ring ? STATUS_OK : error_set(err, STATUS_RUNTIME, "out of memory for %d operations", schedule->n_ops);
    for (int64_t i = 0; status == STATUS_OK && i < t->n_events; i++) {
        h.event[t->event[i].op] = &t->event[i];
        end_ns = t->event[i].end_ns > end_ns ? t->event[i].end_ns : end_ns;
    }
    for (int r = 0; status == STATUS_OK && r < h.n_lanes; r++) {
        h.lane[r] = (struct lane){.op = schedule->lane + schedule->first[r], .n = schedule->first[r + 1] - schedule->first[r]};
        look_ahead(&h, &h.lane[r]);
    }
    for (int u = 0; u < s->placement->n_tiers; u++)
        h.level[u] = h.most[u] = held(s->placement, u);
    if (status == STATUS_OK)
        status = add_samples(&h, end_ns, t, err);
    free(h.event);
    free(h.ring);
    return status;
}
