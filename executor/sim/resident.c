#include "executor/sim/resident.h"

#include <stdlib.h>
#include <string.h>

#include "model/in_use.h"
#include "model/integers.h"
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
    int64_t *ring;    /* (prefetch): bytes of the visit in each slot of tier 0's ring */
    int32_t *through; /* (prefetch): batches that have passed the layer in it */
    int64_t level[TIERS_MAX], most[TIERS_MAX];
    int64_t n_passes, pass, *pass_end_ns; /* (n_passes): of its last operation; the one under way */
    bool *enters;                         /* (n_passes): a batch does, so it is prefill */
    int32_t *batches;                     /* (n_passes): under way */
    int64_t phase_most[PHASE_COUNT][TIERS_MAX];
};

/* -- moments in order ----------------------------------------------------------------------------------------------------- */

static const struct trace_event *event_at(const struct history *h, const struct lane *l)
{
    return h->event[l->op[l->at]];
}

/* Most operations change something only when they end. */
static bool counts_from_start(const struct op *op)
{
    return op->kind == OP_LOAD_WEIGHTS || op->kind == OP_EMBED;
}

static void look_ahead(struct history *h, struct lane *l)
{
    while (l->at < l->n && !event_at(h, l))
        l->at++;
    if (l->at < l->n && !counts_from_start(&h->schedule->op[l->op[l->at]]))
        l->started = true;
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

static void note_level(struct history *h, int tier)
{
    int64_t *most = &h->phase_most[h->enters[h->pass] ? PHASE_PREFILL : PHASE_DECODE][tier];
    h->most[tier] = max64(h->most[tier], h->level[tier]);
    *most = max64(*most, h->level[tier]);
}

static void change(struct history *h, int tier, int64_t bytes)
{
    h->level[tier] += bytes;
    note_level(h, tier);
}

static int64_t pass_of(const struct history *h, int64_t batch, int64_t step)
{
    return stream_entry(h->s->workload, h->s->policy, batch) + step;
}

/* A pass is over when its last operation has ended; what is in use then is so at the start of the next. */
static void pass_until(struct history *h, int64_t now_ns)
{
    while (h->pass + 1 < h->n_passes && h->pass_end_ns[h->pass] < now_ns) {
        h->pass++;
        for (int u = 0; u < h->s->placement->n_tiers; u++)
            note_level(h, u);
    }
}

/* Hidden states of a batch: from its embedding to its last head part. */
static void change_hidden(struct history *h, const struct op *op, int sign)
{
    for (int u = 0; u < h->s->placement->n_tiers; u++)
        change(h, u, sign * placement_hidden_bytes(h->s->placement, op->batch, u, step_tokens(h->s->workload, op->step)));
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
    if (op->kind == OP_EMBED)
        change_hidden(h, op, 1);
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
    if (op->kind == OP_HEAD && op->layer + 1 == h->s->arch->n_layers)
        change_hidden(h, op, -1);
    bool passed = op->slot >= 0 && (op->kind == OP_ATTENTION || op->kind == OP_OUT || op->kind == OP_MLP || op->kind == OP_HEAD);
    if (passed && ++h->through[op->slot] == h->batches[pass_of(h, op->batch, op->step)]) { /* the visit is over */
        change(h, 0, -h->ring[op->slot]);
        h->ring[op->slot] = h->through[op->slot] = 0;
    }
}

/* -- samples -------------------------------------------------------------------------------------------------------------- */

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
            pass_until(h, l->moment_ns);
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

/* When each pass ends: a batch takes one step a pass. */
static enum status find_passes(struct history *h, const struct trace *t, struct error *err)
{
    const struct workload *w = h->s->workload;
    const struct policy *p = h->s->policy;
    h->n_passes = stream_passes(w, p);
    h->pass_end_ns = calloc((size_t)h->n_passes, sizeof *h->pass_end_ns);
    h->enters = calloc((size_t)h->n_passes, sizeof *h->enters);
    h->batches = calloc((size_t)h->n_passes, sizeof *h->batches);
    if (!h->pass_end_ns || !h->enters || !h->batches)
        return error_set(err, STATUS_RUNTIME, "out of memory for %lld passes", (long long)h->n_passes);
    for (int64_t i = 0; i < t->n_events; i++) {
        const struct trace_event *e = &t->event[i];
        int64_t *end = &h->pass_end_ns[pass_of(h, e->batch, e->step)];
        *end = max64(*end, e->end_ns);
    }
    for (int64_t b = 0; b < stream_batches(w, p); b++) {
        h->enters[pass_of(h, b, 0)] = true;
        for (int64_t step = 0; step < w->gen_tokens; step++)
            h->batches[pass_of(h, b, step)]++;
    }
    return STATUS_OK;
}

static enum status open_history(struct history *h, const struct trace *t, struct error *err)
{
    const struct schedule *schedule = h->schedule;
    h->event = calloc((size_t)schedule->n_ops + 1, sizeof *h->event);
    h->ring = calloc((size_t)h->s->policy->prefetch, sizeof *h->ring);
    h->through = calloc((size_t)h->s->policy->prefetch, sizeof *h->through);
    if (!h->event || !h->ring || !h->through)
        return error_set(err, STATUS_RUNTIME, "out of memory for %d operations", schedule->n_ops);
    for (int64_t i = 0; i < t->n_events; i++)
        h->event[t->event[i].op] = &t->event[i];
    for (int r = 0; r < h->n_lanes; r++) {
        h->lane[r] = (struct lane){.op = schedule->lane + schedule->first[r], .n = schedule->first[r + 1] - schedule->first[r]};
        look_ahead(h, &h->lane[r]);
    }
    enum status s = find_passes(h, t, err);
    for (int u = 0; s == STATUS_OK && u < h->s->placement->n_tiers; u++) {
        h->level[u] = in_use_always(h->s->placement, u);
        note_level(h, u);
    }
    return s;
}

enum status trace_resident(const struct schedule *schedule, const struct run_setting *s, struct trace *t, struct error *err)
{
    struct history h = {.schedule = schedule, .s = s, .n_lanes = t->n_resources};
    int64_t end_ns = 0;
    for (int64_t i = 0; i < t->n_events; i++)
        end_ns = max64(end_ns, t->event[i].end_ns);
    enum status status = open_history(&h, t, err);
    if (status == STATUS_OK)
        status = add_samples(&h, end_ns, t, err);
    memcpy(t->in_use_bytes, h.phase_most, sizeof h.phase_most);
    free(h.event);
    free(h.ring);
    free(h.through);
    free(h.pass_end_ns);
    free(h.enters);
    free(h.batches);
    return status;
}
