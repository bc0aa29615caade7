/* trace.c - the trace in memory: growth and summaries. The file formats are in trace_csv.c and chrome.c. */
#include "traces/trace.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_CAPACITY = 256 };

const char *trace_origin_name(enum trace_origin o)
{
    static const char *const names[TRACE_ORIGINS] = {"measured", "simulated", "emulated"};
    return names[o];
}

void trace_init(struct trace *t)
{
    memset(t, 0, sizeof *t);
    t->origin = TRACE_MEASURED;
}

void trace_free(struct trace *t)
{
    if (!t)
        return;
    free(t->event);
    free(t->sample);
    trace_init(t);
}

/* Makes room for `wanted` items of `size` bytes in *items; never shrinks. */
static enum status reserve(void **items, int64_t *capacity, int64_t wanted, size_t size, const char *what, struct error *err)
{
    if (wanted <= *capacity)
        return STATUS_OK;
    if ((uint64_t)wanted > SIZE_MAX / size)
        return error_set(err, STATUS_RUNTIME, "trace: %lld %s do not fit in memory", (long long)wanted, what);
    void *grown = realloc(*items, (size_t)wanted * size);
    if (!grown)
        return error_set(err, STATUS_RUNTIME, "trace: out of memory for %lld %s", (long long)wanted, what);
    *items = grown;
    *capacity = wanted;
    return STATUS_OK;
}

enum status trace_reserve(struct trace *t, int64_t n_events, int64_t n_samples, struct error *err)
{
    void *events = t->event, *samples = t->sample;
    enum status s = reserve(&events, &t->cap_events, n_events, sizeof *t->event, "events", err);
    t->event = events;
    if (s == STATUS_OK)
        s = reserve(&samples, &t->cap_samples, n_samples, sizeof *t->sample, "samples", err);
    t->sample = samples;
    return s;
}

static int64_t grown_capacity(int64_t n, int64_t capacity)
{
    if (n < capacity)
        return capacity;
    return capacity < FIRST_CAPACITY ? FIRST_CAPACITY : 2 * capacity;
}

enum status trace_add_event(struct trace *t, const struct trace_event *e, struct error *err)
{
    enum status s = trace_reserve(t, grown_capacity(t->n_events, t->cap_events), 0, err);
    if (s == STATUS_OK)
        t->event[t->n_events++] = *e;
    return s;
}

enum status trace_add_sample(struct trace *t, const struct trace_sample *sample, struct error *err)
{
    enum status s = trace_reserve(t, 0, grown_capacity(t->n_samples, t->cap_samples), err);
    if (s == STATUS_OK)
        t->sample[t->n_samples++] = *sample;
    return s;
}

/* -- passes ------------------------------------------------------------------------------------------------------------ */

/* A pass over the layers is a step of every batch under way, from its "embed" to its "head". Batches may be at different steps in it; a pass
 * in which one is at step 0 is prefill. A batch takes one step a pass, so its first pass is all there is to know. A trace without those
 * kinds has one pass a step. */
struct passes {
    int64_t n, n_batches;
    int64_t *entry;   /* (n_batches): pass of step 0; -1: unknown */
    bool *prefill;    /* (n) */
    int64_t *last_ns; /* (n): end of its last operation */
};

static int kind_named(const struct trace *t, const char *name)
{
    for (int k = 0; k < t->n_kinds; k++)
        if (strcmp(t->kind_name[k], name) == 0)
            return k;
    return -1;
}

static int64_t pass_of(const struct passes *p, const struct trace_event *e)
{
    if (e->batch < 0 || e->batch >= p->n_batches || p->entry[e->batch] < 0)
        return -1;
    int64_t pass = p->entry[e->batch] + e->step;
    return pass >= 0 && pass < p->n ? pass : -1;
}

static bool is_prefill(const struct passes *p, const struct trace_event *e)
{
    int64_t pass = pass_of(p, e);
    return pass < 0 ? e->step == 0 : p->prefill[pass];
}

/* The batches' first passes, from their embeddings: a new pass begins with the first one after a head. */
static void find_entries(const struct trace *t, struct passes *p, int embed, int head)
{
    bool headed = true;
    for (int64_t i = 0; i < t->n_events; i++) {
        const struct trace_event *e = &t->event[i];
        headed |= e->kind == head;
        if (e->kind != embed || e->batch < 0 || e->batch >= p->n_batches)
            continue;
        p->n += headed;
        headed = false;
        if (p->entry[e->batch] < 0 && e->step >= 0 && e->step < p->n)
            p->entry[e->batch] = p->n - 1 - e->step;
    }
}

static void passes_free(struct passes *p)
{
    free(p->entry);
    free(p->prefill);
    free(p->last_ns);
}

/* Out of memory, it finds none. */
static struct passes passes_new(const struct trace *t)
{
    struct passes p = {0};
    int embed = kind_named(t, "embed"), head = kind_named(t, "head");
    for (int64_t i = 0; embed >= 0 && head >= 0 && i < t->n_events; i++)
        if (t->event[i].batch >= p.n_batches && t->event[i].batch < t->n_events)
            p.n_batches = t->event[i].batch + 1;
    p.entry = malloc((size_t)(p.n_batches + 1) * sizeof *p.entry);
    p.prefill = calloc((size_t)t->n_events + 1, sizeof *p.prefill);
    p.last_ns = calloc((size_t)t->n_events + 1, sizeof *p.last_ns);
    if (!p.entry || !p.prefill || !p.last_ns) {
        passes_free(&p);
        return (struct passes){0};
    }
    for (int64_t b = 0; b < p.n_batches; b++)
        p.entry[b] = -1;
    find_entries(t, &p, embed, head);
    for (int64_t b = 0; b < p.n_batches; b++)
        if (p.entry[b] >= 0)
            p.prefill[p.entry[b]] = true;
    for (int64_t i = 0; i < t->n_events; i++) {
        int64_t pass = pass_of(&p, &t->event[i]);
        if (pass >= 0 && t->event[i].end_ns > p.last_ns[pass])
            p.last_ns[pass] = t->event[i].end_ns;
    }
    return p;
}

/* -- summary ------------------------------------------------------------------------------------------------------------ */

/* First start, last end and time of the prefill passes, in ns: a pass lasts from the end of the one before to its own. */
struct extent {
    int64_t first_ns, prefill_ns, last_ns;
};

static struct extent extent_of(const struct trace *t, const struct passes *p)
{
    struct extent x = {0};
    for (int64_t i = 0; i < t->n_events; i++) {
        const struct trace_event *e = &t->event[i];
        if (i == 0)
            x = (struct extent){e->start_ns, 0, e->end_ns};
        if (e->start_ns < x.first_ns)
            x.first_ns = e->start_ns;
        if (e->end_ns > x.last_ns)
            x.last_ns = e->end_ns;
    }
    int64_t before_ns = x.first_ns, end_ns = x.first_ns;
    for (int64_t pass = 0; pass < p->n; pass++) {
        end_ns = p->last_ns[pass] > before_ns ? p->last_ns[pass] : before_ns;
        x.prefill_ns += p->prefill[pass] ? end_ns - before_ns : 0;
        before_ns = end_ns;
    }
    for (int64_t i = 0; p->n == 0 && i < t->n_events; i++)
        if (t->event[i].step == 0 && t->event[i].end_ns - x.first_ns > x.prefill_ns)
            x.prefill_ns = t->event[i].end_ns - x.first_ns;
    return x;
}

void trace_summarise(const struct trace *t, struct trace_summary *out)
{
    memset(out, 0, sizeof *out);
    struct passes passes = passes_new(t);
    const struct extent x = extent_of(t, &passes);
    out->total_s = (double)(x.last_ns - x.first_ns) / 1e9;
    out->prefill_s = (double)x.prefill_ns / 1e9;
    out->decode_s = (double)(x.last_ns - x.first_ns - x.prefill_ns) / 1e9;
    /* Sums of whole ns stay exact in a double for 104 days; only the result is scaled. */
    for (int64_t i = 0; i < t->n_events; i++) {
        const struct trace_event *e = &t->event[i];
        out->busy_s[!is_prefill(&passes, e)][e->resource] += (double)(e->end_ns - e->start_ns);
        out->bytes[e->resource] += (double)e->bytes;
    }
    for (int r = 0; r < t->n_resources; r++) {
        out->busy_s[0][r] /= 1e9;
        out->busy_s[1][r] /= 1e9;
        const int b = out->busiest;
        if (out->busy_s[0][r] + out->busy_s[1][r] > out->busy_s[0][b] + out->busy_s[1][b])
            out->busiest = r;
    }
    passes_free(&passes);
    if (out->total_s > 0)
        out->throughput_tok_s = (double)t->generated_tokens / out->total_s;
}
