#include "executor/sim/resident.h"

#include <stdlib.h>
#include <string.h>

/* Bytes that come (or go, negative) at a moment. */
struct change {
    int64_t at_ns, bytes;
    int tier;
};

struct history {
    const struct schedule *schedule;
    const struct run_setting *s;
    const struct trace_event **event; /* (n_ops): NULL where an operation did not run */
    struct change *change;            /* (n), at most 4 an operation */
    int64_t n;
};

static void add(struct history *h, int64_t at_ns, int tier, int64_t bytes)
{
    if (bytes != 0)
        h->change[h->n++] = (struct change){at_ns, bytes, tier};
}

static bool ran(const struct history *h, int32_t op)
{
    return op >= 0 && h->event[op] != NULL;
}

/* The new tokens of a batch in one layer have reached their home on `tier`; with its last token the batch leaves. */
static void cache_written(struct history *h, int32_t i, int tier)
{
    const struct op *op = &h->schedule->op[i];
    int64_t stride = placement_cache_stride(h->s->placement, op->layer, op->batch, tier);
    bool last = op->step + 1 == h->s->workload->gen_tokens;
    int64_t tokens = last ? -step_first_token(h->s->workload, op->step) : step_tokens(h->s->workload, op->step);
    add(h, h->event[i]->end_ns, tier, stride * tokens);
}

static void add_cache(struct history *h, int32_t i)
{
    const struct op *op = &h->schedule->op[i];
    if (op->kind == OP_ATTENTION || op->kind == OP_QKV)
        cache_written(h, i, 0);
    else if (op->kind == OP_ATTEND)
        cache_written(h, i, 1);
    else if (op->kind == OP_STORE_CACHE)
        cache_written(h, i, op->link + 1);
}

/* Loads into a slot of tier 0's ring since its visit began, and the last operation that computed with it. */
struct ring_slot {
    int64_t bytes;
    int32_t computed;
};

/* The visit in the slot is over. */
static void release(struct history *h, struct ring_slot *slot)
{
    if (ran(h, slot->computed))
        add(h, h->event[slot->computed]->end_ns, 0, -slot->bytes);
    *slot = (struct ring_slot){0, -1};
}

static enum status add_ring(struct history *h, struct error *err)
{
    const struct schedule *s = h->schedule;
    int slots = h->s->policy->prefetch;
    struct ring_slot *ring = malloc((size_t)slots * sizeof *ring);
    if (!ring)
        return error_set(err, STATUS_RUNTIME, "out of memory for %d ring slots", slots);
    for (int k = 0; k < slots; k++)
        ring[k] = (struct ring_slot){0, -1};
    for (int32_t i = 0; i < s->n_ops; i++) {
        const struct op *op = &s->op[i];
        if (op->kind == OP_LOAD_WEIGHTS && op->link == 0 && ring[op->slot].computed >= 0)
            release(h, &ring[op->slot]);
        if (!ran(h, i))
            continue;
        if (op->link < 0 && op->slot >= 0)
            ring[op->slot].computed = i;
        if (op->kind != OP_LOAD_WEIGHTS)
            continue;
        add(h, h->event[i]->start_ns, op->link, op->bytes);
        if (op->link == 0)
            ring[op->slot].bytes += op->bytes;
        else if (ran(h, i + 1 < s->n_ops ? i + 1 : -1)) /* its way up follows at once in the list */
            add(h, h->event[i + 1]->end_ns, op->link, -op->bytes);
    }
    for (int k = 0; k < slots; k++)
        release(h, &ring[k]);
    free(ring);
    return STATUS_OK;
}

/* By time; what goes at a moment goes before what comes. */
static int earlier(const void *a, const void *b)
{
    const struct change *x = a, *y = b;
    if (x->at_ns != y->at_ns)
        return x->at_ns < y->at_ns ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

static int64_t held(const struct placement *pl, int tier)
{
    return placement_peak(pl, tier) - pl->region_bytes[tier][REGION_CACHE] - pl->region_bytes[tier][REGION_WEIGHT_RING];
}

/* The level after each change, or the highest of each stretch. A stretch begins with the level that it inherits. */
static enum status add_samples(const struct history *h, int64_t end_ns, struct trace *t, struct error *err)
{
    const struct placement *pl = h->s->placement;
    int64_t stretch = end_ns / RESIDENT_SAMPLES_MAX + 1, level[TIERS_MAX], most[TIERS_MAX], shown[TIERS_MAX];
    enum status s = STATUS_OK;
    for (int u = 0; u < pl->n_tiers; u++) {
        level[u] = most[u] = held(pl, u);
        shown[u] = -1;
    }
    int64_t i = 0;
    for (int64_t from = 0; from <= end_ns && s == STATUS_OK; from += stretch) {
        for (; i < h->n && h->change[i].at_ns < from + stretch; i++) {
            int u = h->change[i].tier;
            level[u] += h->change[i].bytes;
            most[u] = level[u] > most[u] ? level[u] : most[u];
        }
        for (int u = 0; u < pl->n_tiers && s == STATUS_OK; u++) {
            struct trace_sample sample = {.at_ns = from, .tier = (int16_t)u, .bytes = most[u]};
            if (most[u] != shown[u] || from + stretch > end_ns)
                s = trace_add_sample(t, &sample, err);
            shown[u] = most[u];
            most[u] = level[u];
        }
    }
    return s;
}

enum status trace_resident(const struct schedule *schedule, const struct run_setting *s, struct trace *t, struct error *err)
{
    size_t n = (size_t)schedule->n_ops + 1;
    int64_t end_ns = 0;
    struct history h = {.schedule = schedule,
                        .s = s,
                        .event = calloc(n, sizeof *h.event),
                        .change = malloc(4 * n * sizeof *h.change)};
    enum status status =
        h.event && h.change ? STATUS_OK : error_set(err, STATUS_RUNTIME, "out of memory for %d operations", schedule->n_ops);
    for (int64_t i = 0; status == STATUS_OK && i < t->n_events; i++) {
        h.event[t->event[i].op] = &t->event[i];
        end_ns = t->event[i].end_ns > end_ns ? t->event[i].end_ns : end_ns;
    }
    for (int32_t i = 0; status == STATUS_OK && i < schedule->n_ops; i++)
        if (ran(&h, i))
            add_cache(&h, i);
    if (status == STATUS_OK)
        status = add_ring(&h, err);
    if (status == STATUS_OK) {
        qsort(h.change, (size_t)h.n, sizeof *h.change, earlier);
        status = add_samples(&h, end_ns, t, err);
    }
    free(h.event);
    free(h.change);
    return status;
}
